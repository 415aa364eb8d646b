"""Every operator of docs/your_own_detector.md runs, and sends boxes that a view reads.

The detectors that are not installed here have stand-ins with the interface of the real ones, which check what
they are given: the order of colours, shapes and types.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scene
import torch
from boxes import boxes_from

import dora_nb
from dora_nb.cells.declare import split_cell
from dora_nb.data.boxes import read_boxes
from dora_nb.descriptor import write_dataflow
from dora_nb.events import Event
from dora_nb.testing import run_operator

from .conftest import SAMPLES

PAGE = SAMPLES.parent / "docs" / "your_own_detector.md"
FENCED = re.MULTILINE | re.DOTALL
BOXES = [[100.0, 120.0, 180.0, 200.0], [20.0, 30.0, 60.0, 90.0]]
SCORES = [0.75, 0.625]
WIDTH, HEIGHT = 320, 240

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def cells() -> dict[str, str]:
    """The cells of the page that declare an operator, by the heading above them."""
    found: dict[str, str] = {}
    parts = re.split(r"^#+ (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        for cell in re.findall(r"^```python\n(%+dora_operator.*?)^```$", text, FENCED):
            assert heading not in found
            found[heading] = cell
    return found


CELLS = cells()
FILES = {"Your own detector": "camera", "Tags instead of a network": "apriltags"}
MATCHING = "Boxes and the picture that they belong to"
SAMPLE = "The sample detector: no download"


@pytest.fixture(autouse=True)
def beside_the_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The working directory is a folder of notebooks; variables and paths are as before afterwards."""
    (tmp_path / "samples").symlink_to(SAMPLES)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def add_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def add(name: str, **members: Any) -> None:
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    return add


def picture() -> np.ndarray:
    """Blue everywhere, blue first."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, :, 0] = 200
    return image


def sent_by(heading: str, image: np.ndarray) -> list[Event]:
    about = {"width": image.shape[1], "height": image.shape[0], "encoding": "bgr8", "frame": 4}
    sent = run_operator(CELLS[heading], [("image", pa.array(image.ravel()), about)])
    assert sent.keys() == {"boxes"}
    return sent["boxes"]


def check_boxes(events: list[Event], labels: tuple[str, ...]) -> None:
    (event,) = events
    assert event["metadata"]["frame"] == 4
    read = read_boxes(event)
    assert read.values[:, :5].tolist() == [
        [*box, score] for box, score in zip(BOXES, SCORES, strict=True)
    ]
    assert read.labels == labels


def test_the_page_has_the_cells_that_are_tested_here() -> None:
    tested = {"torchvision", "RF-DETR", "ONNX Runtime", "ultralytics", SAMPLE, MATCHING}
    assert CELLS.keys() == tested | FILES.keys()
    assert PAGE.read_text(encoding="utf-8").count("dora_operator ") == len(CELLS)


def test_the_sample_detector_finds_what_is_on_the_table() -> None:
    moving = scene.MovingScene(5)
    (event,) = sent_by(SAMPLE, moving.frame(40))
    assert len(read_boxes(event)) == len(moving.boxes(40))
    assert set(read_boxes(event).labels) <= set(scene.CLASS_NAMES)


def test_torchvision(add_module: Callable[..., None]) -> None:
    weights = SimpleNamespace(meta={"categories": ["__background__", "person", "bicycle"]})

    class Model:
        training = True

        def eval(self) -> Model:
            self.training = False
            return self

        def __call__(self, pictures: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            (rgb,) = pictures
            assert not self.training
            assert rgb.dtype == torch.float32
            assert rgb.shape == (3, HEIGHT, WIDTH)
            assert rgb.amax(dim=(1, 2)).tolist() == pytest.approx([0, 0, 200 / 255])
            assert torch.is_inference_mode_enabled()
            return [
                {
                    "boxes": torch.tensor(BOXES),
                    "labels": torch.tensor([2, 1]),
                    "scores": torch.tensor(SCORES),
                }
            ]

    def make(*, weights: Any, score_thresh: float) -> Model:
        assert weights is names["SSDLite320_MobileNet_V3_Large_Weights"].DEFAULT
        assert 0 < score_thresh < 1
        return Model()

    names = {
        "SSDLite320_MobileNet_V3_Large_Weights": SimpleNamespace(DEFAULT=weights),
        "ssdlite320_mobilenet_v3_large": make,
    }
    for name in ("torchvision", "torchvision.models"):
        add_module(name)
    add_module("torchvision.models.detection", **names)
    check_boxes(sent_by("torchvision", picture()), ("bicycle", "person"))


def test_rf_detr(add_module: Callable[..., None]) -> None:
    class Model:
        def predict(self, rgb: np.ndarray, threshold: float) -> SimpleNamespace:
            assert rgb.shape == (HEIGHT, WIDTH, 3)
            assert rgb.flags.c_contiguous
            assert rgb[0, 0].tolist() == [0, 0, 200]
            assert 0 < threshold < 1
            return SimpleNamespace(
                xyxy=np.array(BOXES, np.float32),
                confidence=np.array(SCORES, np.float32),
                class_id=np.array([2, 1]),
                tracker_id=None,
                data={
                    "class_name": np.array(["bicycle", "person"], dtype=object),
                    "source_shape": np.array([[HEIGHT, WIDTH]] * 2),
                },
            )

    add_module("rfdetr", RFDETRNano=Model)
    check_boxes(sent_by("RF-DETR", picture()), ("bicycle", "person"))


def test_onnx_runtime(add_module: Callable[..., None]) -> None:
    class Session:
        def __init__(self, file: str, providers: list[str]) -> None:
            assert file.endswith(".onnx")
            assert providers == ["CPUExecutionProvider"]

        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            images, sizes = inputs["images"], inputs["orig_target_sizes"]
            assert (images.shape, images.dtype) == ((1, 3, 640, 640), np.float32)
            assert images[0].max(axis=(1, 2)).tolist() == pytest.approx([0, 0, 200 / 255])
            assert sizes.dtype == np.int64
            assert sizes.tolist() == [[WIDTH, HEIGHT]]
            return [
                np.array([[2, 1, 7]], np.int64),
                np.array([[*BOXES, [1, 2, 3, 4]]], np.float32),
                np.array([[*SCORES, 0.125]], np.float32),
            ]

    add_module("onnxruntime", InferenceSession=Session)
    check_boxes(sent_by("ONNX Runtime", picture()), ("2", "1"))


def test_ultralytics(add_module: Callable[..., None]) -> None:
    class Model:
        def __init__(self, weights: str) -> None:
            assert weights.endswith(".pt")

        def __call__(self, bgr: np.ndarray, verbose: bool) -> list[SimpleNamespace]:
            assert bgr.shape == (HEIGHT, WIDTH, 3)
            assert bgr[0, 0].tolist() == [200, 0, 0]
            assert verbose is False
            boxes = SimpleNamespace(
                xyxy=torch.tensor(BOXES),
                conf=torch.tensor(SCORES),
                cls=torch.tensor([1.0, 0.0]),
                id=None,
            )
            names = {0: "person", 1: "bicycle"}
            return [SimpleNamespace(boxes=boxes, obb=None, names=names, orig_shape=(HEIGHT, WIDTH))]

    add_module("ultralytics", YOLO=Model)
    check_boxes(sent_by("ultralytics", picture()), ("bicycle", "person"))


def test_the_licence_of_ultralytics_is_named_before_its_cell() -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("\n## ultralytics") : text.index("from ultralytics")]
    assert "AGPL-3.0" in section


def test_the_cell_that_matches_cuts_the_most_confident_box_out_of_its_picture() -> None:
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    image = picture()
    image[120:200, 100:180] = 255
    array, form = boxes_from({"boxes": BOXES, "scores": SCORES, "labels": [0, 1]})
    events: list[Any] = []
    for number in range(3):
        stamp = {"timestamp": begin + timedelta(seconds=number / 30)}
        about = {"width": WIDTH, "height": HEIGHT, "encoding": "bgr8", **stamp}
        shown = image if number == 1 else picture()
        events.append(("image", pa.array(shown.ravel()), about))
    events.append(("boxes", array, {**form, "timestamp": begin + timedelta(seconds=1 / 30)}))
    (cut,) = run_operator(CELLS[MATCHING], events)["cut"]
    assert (dora_nb.as_image(cut) == 255).all()
    assert dora_nb.as_image(cut).shape == (80, 80, 3)


@pytest.mark.parametrize("heading", FILES)
def test_a_line_names_a_file_with_its_outputs(
    heading: str, monkeypatch: pytest.MonkeyPatch, load_sample: Callable[[str], ModuleType]
) -> None:
    (line,) = CELLS[heading].splitlines()
    _, name, file, *options = line.split()
    assert file == f"../samples/{FILES[heading]}.py"
    for variable, value in re.findall(r"--env (\w+)=(\S+)", line):
        assert variable in Path(file).read_text(encoding="utf-8")
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("CAMERA_SOURCE", "scene")
    outputs = re.search(r"--outputs ((?:\w+ ?)+)", line)
    assert outputs
    about = {"width": WIDTH, "height": HEIGHT, "encoding": "bgr8"}
    event = ("image", pa.array(picture().ravel()), about)
    sent = run_operator(load_sample(FILES[heading]).Operator, [event])
    assert sent.keys() == set(outputs[1].split())
    assert name in ("camera", "tags")
    assert options


def test_the_cells_of_the_detectors_are_exported_with_the_conversion(
    tmp_path: Path, add_module: Callable[..., None]
) -> None:
    cell = split_cell(CELLS["ultralytics"], "<cell>")
    assert cell is not None
    flow = dora_nb.Dataflow()
    flow.add_operator(
        "detector", cell.body.text, inputs={"image": "camera/image"}, outputs=["boxes"]
    )
    flow.add_operator(
        "camera", "class Operator:\n    def on_event(self, event, send): pass", outputs=["image"]
    )
    written = write_dataflow(flow.graph, tmp_path / "robot")
    assert "boxes.py" in written.files
    assert (tmp_path / "robot" / "boxes.py").read_bytes() == (SAMPLES / "boxes.py").read_bytes()
