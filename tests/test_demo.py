"""The parts of `make demo` that judge and report; the whole of it is `make demo` itself."""

from __future__ import annotations

import base64
import importlib
from pathlib import Path
from types import ModuleType

import cv2
import nbformat
import numpy as np
import pytest

import dora_nb

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent


def _script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    return importlib.import_module(name)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _script("demo", monkeypatch)


@pytest.fixture
def demo_report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _script("demo_report", monkeypatch)


@pytest.fixture
def offline_page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _script("offline_page", monkeypatch)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(len(rows), -1)


TRUTH = boxes((100, 100, 200, 200, 0), (300, 300, 340, 380, 1))


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150),
        ((0, 0, 10, 10), (0, 0, 10, 5), 0.5),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
        ((0, 0, 10, 10), (5, 5, 5, 5), 0.0),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),
        ((10, 10, 0, 0), (10, 10, 0, 0), 0.0),
    ],
)
def test_intersection_over_union(
    demo_report: ModuleType,
    one: tuple[float, ...],
    other: tuple[float, ...],
    overlap: float,
) -> None:
    found = demo_report.intersection_over_union(boxes(one), boxes(other))
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(overlap)


def test_detections_elsewhere_fail_the_demo(demo_report: ModuleType) -> None:
    elsewhere = boxes((0, 0, 50, 50, 0.99, 0), (400, 20, 500, 120, 0.98, 1))
    good, sentence = demo_report.check_detections(7, elsewhere, TRUTH)
    assert not good
    assert sentence.startswith("frame 7: 0 of 2 detections lie on one of the 2 objects")


def test_detections_that_only_touch_an_object_fail_the_demo(demo_report: ModuleType) -> None:
    touching = boxes((160, 160, 260, 260, 0.9, 0), (0, 0, 640, 480, 0.9, 0))
    assert not demo_report.check_detections(7, touching, TRUTH)[0]


def test_no_detection_and_no_object_fail_the_demo(demo_report: ModuleType) -> None:
    assert not demo_report.check_detections(7, np.empty((0, 6), np.float32), TRUTH)[0]
    found = boxes((100, 100, 200, 200, 0.9, 0))
    assert not demo_report.check_detections(7, found, np.empty((0, 5), np.float32))[0]


def test_one_detection_on_an_object_is_enough(demo_report: ModuleType) -> None:
    found = boxes((0, 0, 50, 50, 0.9, 0), (105, 95, 205, 195, 0.9, 3))
    good, sentence = demo_report.check_detections(7, found, TRUTH)
    assert good
    assert sentence.startswith("frame 7: 1 of 2 detections")


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def _measurement(demo_report: ModuleType, **changes: object) -> object:
    said = {
        "edges": [
            {
                "topic": "camera/image",
                "reader": "detector/image",
                "sent": 1234,
                "received": 1200,
                "dropped": 33,
                "queued": 1,
            },
            {
                "topic": "detector/bbox",
                "reader": "notebook/bbox",
                "sent": 9,
                "received": 9,
                "dropped": 0,
                "queued": 0,
            },
        ],
        "detector": "detector",
        "detector_p50_secs": 0.0351,
        "detector_p95_secs": 0.05,
        "ages_secs": [0.001, 0.002, 0.003],
        "detections": [8, 9],
        "frame": 40,
        "boxes": [[100, 100, 200, 200, 0.9, 0]],
        **changes,
    }
    picture = _png(np.zeros((480, 640, 3), np.uint8))
    return demo_report.Measurement.from_json(said, picture)


def test_the_report_says_every_figure(demo_report: ModuleType) -> None:
    assert demo_report.report(_measurement(demo_report)).splitlines() == [
        "edge                               sent  received   dropped   waiting",
        "camera/image → detector/image      1234      1200        33         1",
        "detector/bbox → notebook/bbox         9         9         0         0",
        "",
        "detections          8.5 a picture, over 2 pictures",
        "time of detector    p50 35.1 ms, p95 50.0 ms",
        "age in the kernel   p50 2.0 ms, p95 2.9 ms, over 3 pictures",
    ]


def test_what_was_not_measured_is_a_question_mark(demo_report: ModuleType) -> None:
    measured = _measurement(
        demo_report, detector_p50_secs=None, detector_p95_secs=None, ages_secs=[], detections=[]
    )
    assert demo_report.report(measured).splitlines()[-3:] == [
        "detections          ? a picture, over 0 pictures",
        "time of detector    p50 ?, p95 ?",
        "age in the kernel   p50 ?, p95 ?, over 0 pictures",
    ]


def test_the_picture_shows_its_boxes(demo: ModuleType, demo_report: ModuleType) -> None:
    png = demo.picture_with_boxes(_measurement(demo_report))
    drawn = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (480, 640, 3)
    assert drawn[150, 100].any()
    assert drawn[100, 150].any()
    assert not drawn[150, 150].any()
    assert not drawn[300, 300].any()


def test_the_truth_is_that_of_the_very_frame(demo: ModuleType, demo_report: ModuleType) -> None:
    """What the scene says about frame 40 passes as detections of frame 40, and of no other."""
    measured = _measurement(demo_report)
    truth = demo.truth_of(measured)
    assert len(truth) > 3
    good, sentence = demo_report.check_detections(40, truth, truth)
    assert good
    assert f"{len(truth)} of {len(truth)} detections" in sentence
    later = demo.truth_of(_measurement(demo_report, frame=140))
    assert demo_report.detections_on_objects(later, truth) < len(truth)


def _notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


@pytest.mark.parametrize("count", [0, 2])
def test_a_notebook_without_its_one_measured_cell_fails_the_demo(
    demo: ModuleType, count: int
) -> None:
    tagged = [
        nbformat.v4.new_code_cell("pass", metadata={"tags": ["demo-measure"]}) for _ in range(count)
    ]
    with pytest.raises(demo.DemoError, match=f"tagged demo-measure, and has {count}"):
        demo.measured_cell(_notebook(nbformat.v4.new_markdown_cell("words"), *tagged))


def test_the_measured_cell_is_found_by_its_tag(demo: ModuleType) -> None:
    tagged = nbformat.v4.new_code_cell("pass", metadata={"tags": ["other", "demo-measure"]})
    assert demo.measured_cell(_notebook(nbformat.v4.new_markdown_cell("words"), tagged)) == 1


def _shown(data: dict[str, object]) -> nbformat.NotebookNode:
    output = nbformat.v4.new_output("display_data", data=data)
    return nbformat.v4.new_code_cell("view", execution_count=1, outputs=[output])


def test_the_page_shows_the_still_and_fetches_nothing(
    demo: ModuleType, offline_page: ModuleType
) -> None:
    """A saved view has a widget's model beside its still picture; the widget's code is elsewhere."""
    still = base64.b64encode(b"\xff\xd8\xff picture").decode()
    view = _shown(
        {
            "application/vnd.jupyter.widget-view+json": {"model_id": "1", "version_major": 2},
            "image/jpeg": still,
            "text/plain": "CameraView",
        }
    )
    words = nbformat.v4.new_markdown_cell("See [dora](https://dora-rs.ai): a link is no fetch.")
    page = offline_page.offline_page(_notebook(words, view), title="first")
    assert offline_page.remote_references(page) == []
    assert offline_page.pictures(page) == ["image/jpeg"]
    assert still in page
    assert "<title>first</title>" in page
    assert demo.checked_page(page) == page


def test_a_progress_line_that_is_done_leaves_nothing_on_the_page(offline_page: ModuleType) -> None:
    """nbconvert warns of an output without data, and warnings are errors here."""
    notebook = _notebook(_shown({}))
    assert 'class="jp-OutputArea-child' not in offline_page.offline_page(notebook, title="first")
    assert len(notebook.cells[0].outputs) == 1


def test_a_page_without_a_picture_fails_the_demo(
    demo: ModuleType, offline_page: ModuleType
) -> None:
    page = offline_page.offline_page(_notebook(_shown({"text/plain": "CameraView"})), title="first")
    with pytest.raises(demo.DemoError, match="shows no picture"):
        demo.checked_page(page)


@pytest.mark.parametrize(
    "fragment",
    [
        '<script src="https://cdn.example/require.js"></script>',
        '<script type="module">import x from "https://cdn.example/mermaid.mjs"</script>',
        '<link rel="stylesheet" href="//cdn.example/a.css">',
        '<img src="http://cdn.example/a.png">',
        '<img srcset=" https://cdn.example/a.png 2x">',
        "<style>@import url(https://cdn.example/a.css);</style>",
        '<style>p { background: url("https://cdn.example/a.png") }</style>',
        '<p style="background: url(https://cdn.example/a.png)">',
        '<object data="https://cdn.example/a.svg"></object>',
    ],
)
def test_whatever_a_browser_would_fetch_is_found(offline_page: ModuleType, fragment: str) -> None:
    assert offline_page.remote_references(f"<html><body>{fragment}</body></html>")


def test_nbconverts_own_page_would_not_pass(offline_page: ModuleType) -> None:
    from nbconvert.exporters import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(_notebook())
    assert offline_page.remote_references(page)


RUNNING_DATAFLOW = """
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
import numpy as np, pyarrow as pa
import dora_nb
from dora_nb.status import EdgeStatus, NodeStatus, State
sys.path.insert(0, SAMPLES)
from scene import MovingScene

SCENE = MovingScene()

class Subscription:
    def __init__(self, events): self.events = iter(events)
    def next(self, timeout_secs): return next(self.events)

def event(name, array, frame, **more):
    metadata = {"timestamp": datetime.now(UTC), "frame": frame, **more}
    return {"type": "INPUT", "id": name, "value": pa.array(array.ravel()), "metadata": metadata}

def images():
    for frame in range(100, 1000):
        yield event("image", SCENE.frame(frame), frame, width=640, height=480, encoding="bgr8")

def boxes():
    for frame in range(90, 1000, 3):
        truth = SCENE.boxes(frame)
        sure = np.full(len(truth), 0.9, np.float32)
        found = np.column_stack([truth[:, :4] + SHIFT, sure, truth[:, 4]])
        yield event("bbox", found.astype(np.float32), frame)

class Dataflow:
    @contextmanager
    def subscribe(self, topic, queue_size):
        yield Subscription({"camera/image": images, "detector/bbox": boxes}[topic]())
    def status(self, name=None):
        if name is not None:
            return NodeStatus(name, State.RUNNING, "Cell In[1]", on_event_p50_secs=0.035)
        edge = EdgeStatus("camera/image", "detector", "image", 1, "drop_oldest", 9, 7, 1, 1)
        return [NodeStatus("camera", State.RUNNING, "Cell In[1]", outputs=(edge,))]

dora_nb.get_dataflow = Dataflow
"""


@pytest.mark.parametrize(("shift", "status"), [(0, 0), (5000, 1)])
def test_the_demo_measures_beside_the_notebook_and_judges_what_it_saw(
    demo: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shift: int,
    status: int,
) -> None:
    """A real kernel and a whole run; only the dataflow in the kernel is a stand-in."""
    prepare = f"SAMPLES, SHIFT = {str(REPOSITORY / 'samples')!r}, {shift}\n{RUNNING_DATAFLOW}"
    show = (
        "from IPython.display import Image, display\nimport cv2\n"
        "display(Image(cv2.imencode('.jpg', SCENE.frame(0))[1].tobytes()))"
    )
    tagged = nbformat.v4.new_code_cell(show, metadata={"tags": ["demo-measure"]})
    after = nbformat.v4.new_code_cell("assert 'measure' not in dir()\nassert len(In) == 4")
    path = tmp_path / "first.ipynb"
    nbformat.write(_notebook(nbformat.v4.new_code_cell(prepare), tagged, after), path)
    for name, value in {"REPOSITORY": tmp_path, "NOTEBOOK": path, "BUILD": tmp_path / "b"}.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(demo, "SAMPLES", REPOSITORY / "samples")
    monkeypatch.setenv("CAMERA_SOURCE", "auto")

    assert demo.main() == status
    said, complaint = capsys.readouterr()
    assert "camera/image → detector/image         9         7         1         1" in said
    assert "time of detector    p50 35.0 ms, p95 ?" in said
    assert "detections          9.0 a picture, over 10 pictures" in said
    assert f"frame 129: {9 if status == 0 else 0} of 9 detections lie on" in said
    assert ("no detection on an object" in complaint) == (status == 1)
    assert "data:image/jpeg;base64," in (tmp_path / "b" / "first.html").read_text()
    assert (tmp_path / "b" / "camera.png").stat().st_size > 10_000
