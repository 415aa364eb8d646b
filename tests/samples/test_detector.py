"""The detector finds what is there, and answers as a model from torch.hub does."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scene
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_detector import detector as detector_module
from tiny_detector import evaluate
from tiny_detector.net import TinyNet, candidates, fold_batch_norm, iou, suppress

from .conftest import SAMPLES

FOLDER = SAMPLES / "tiny_detector"
HELD_OUT_SEED = 20_000
"""Not from training, and not from the figures in the README."""

pytestmark = pytest.mark.usefixtures("one_torch_thread")

Image = NDArray[np.uint8]


@pytest.fixture
def model() -> Any:
    return detector_module.load_detector()


@pytest.fixture(scope="module")
def film() -> tuple[Image, scene.Boxes]:
    """One frame of the moving scene, in RGB, and its truth."""
    moving = scene.MovingScene(5)
    return np.ascontiguousarray(moving.frame(40)[:, :, ::-1]), moving.boxes(40)


# ---------------------------------------------------------------- how good it is


def test_it_finds_what_is_on_scenes_that_it_never_saw(model: Any) -> None:
    report = evaluate.evaluate(model, seed=HELD_OUT_SEED, scenes=40, size=(640, 480))
    assert report.objects > 100
    assert report.mean_average_precision(0.5) >= 0.95
    assert report.mean_average_precision(0.75) >= 0.85
    assert min(report.average_precision[0.5].values()) >= 0.85


@pytest.mark.parametrize("seed", [scene.DEFAULT_SEED, HELD_OUT_SEED])
def test_it_finds_what_is_on_the_moving_scene(seed: int, model: Any) -> None:
    found, objects, inventions = evaluate.found_in_film(
        model, seed=seed, indices=range(0, 1200, 50), size=(640, 480)
    )
    assert objects == 24 * 9
    assert found >= 0.98 * objects
    assert inventions <= 0.05 * objects


def test_untrained_it_finds_nothing_of_that() -> None:
    torch.manual_seed(0)
    untrained = detector_module.load_detector(None)
    report = evaluate.evaluate(untrained, seed=HELD_OUT_SEED, scenes=6, size=(640, 480))
    assert report.mean_average_precision(0.5) < 0.05


def test_the_weights_are_small_and_nothing_but_numbers() -> None:
    assert detector_module.WEIGHTS.stat().st_size < 1_000_000
    state = torch.load(detector_module.WEIGHTS, weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}


def test_it_knows_the_classes_of_the_scene() -> None:
    assert detector_module.CLASS_NAMES == scene.CLASS_NAMES


# ---------------------------------------------------------------- torch.hub


@pytest.fixture
def from_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder as a notebook beside samples/ names it; what is loaded is forgotten afterwards."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (tmp_path / "samples").symlink_to(SAMPLES)
    monkeypatch.chdir(notebooks)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    modules, path = dict(sys.modules), list(sys.path)
    yield "../samples/tiny_detector"
    for name in sys.modules.keys() - modules.keys():
        if name.startswith("_tiny_detector_from_hub"):
            del sys.modules[name]
    assert sys.path == path


def test_torch_hub_loads_it_from_a_relative_path(
    from_notebooks: str, film: tuple[Image, scene.Boxes]
) -> None:
    loaded = torch.hub.load(from_notebooks, "tiny_detector", source="local")
    assert len(loaded(film[0]).xyxy[0]) == len(film[1])
    again = torch.hub.load(from_notebooks, "tiny_detector", source="local", conf=0.9, iou=0.1)
    assert (again.conf, again.iou) == (0.9, 0.1)
    assert type(again) is type(loaded)


def test_torch_hub_offers_the_detector_and_nothing_else() -> None:
    """As `torch.hub.list` and `torch.hub.help` look, which read repositories on GitHub only."""
    hubconf = runpy.run_path(str(FOLDER / "hubconf.py"))
    offered = [n for n, value in hubconf.items() if callable(value) and not n.startswith("_")]
    assert offered == ["tiny_detector"]
    assert "RGB" in hubconf["tiny_detector"].__doc__


def test_what_a_notebook_calls_net_and_what_the_detector_does_are_strangers(
    from_notebooks: str, monkeypatch: pytest.MonkeyPatch, film: tuple[Image, scene.Boxes]
) -> None:
    theirs = {name: ModuleType(name) for name in ("net", "detector", "detections")}
    for name, module in theirs.items():
        monkeypatch.setitem(sys.modules, name, module)
    loaded = torch.hub.load(from_notebooks, "tiny_detector", source="local")
    assert len(loaded(film[0]).xyxy[0]) == len(film[1])
    assert {name: sys.modules[name] for name in theirs} == theirs


def test_without_pretraining_the_weights_are_random(
    from_notebooks: str, monkeypatch: pytest.MonkeyPatch, film: tuple[Image, scene.Boxes]
) -> None:
    monkeypatch.setattr(torch, "load", None)
    loaded = torch.hub.load(from_notebooks, "tiny_detector", False, source="local")
    assert len(loaded(film[0]).xyxy[0]) == 0


def test_it_needs_torch_and_numpy_alone_and_works_from_a_folder_of_its_own(tmp_path: Path) -> None:
    """In a new interpreter in which nothing else can be imported, far from scene.py."""
    code = f"""
import sys
for name in ("cv2", "pandas", "pyarrow", "scene", "torchvision", "matplotlib"):
    sys.modules[name] = None
import numpy as np, torch
model = torch.hub.load({str(FOLDER)!r}, "tiny_detector", source="local")
results = model(np.zeros((48, 64, 3), np.uint8)[:, :, ::-1])
print(results.xyxy[0].shape[1], results.names[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "6 robot\n"), done.stderr


# ---------------------------------------------------------------- the results


def test_boxes_lie_on_the_objects_in_all_four_forms(
    model: Any, film: tuple[Image, scene.Boxes]
) -> None:
    picture, truth = film
    results = model(picture)
    (xyxy,), (xywh,), (xyxyn,), (xywhn,) = (
        results.xyxy,
        results.xywh,
        results.xyxyn,
        results.xywhn,
    )
    for boxes in (xyxy, xywh, xyxyn, xywhn):
        assert boxes.dtype == torch.float32
        assert boxes.shape == (len(truth), 6)
        assert torch.equal(boxes[:, 4:], xyxy[:, 4:])
    confidence = xyxy[:, 4]
    assert (confidence >= model.conf).all()
    assert (confidence <= 1).all()
    assert torch.equal(confidence, confidence.sort(descending=True).values)
    shared = iou(xyxy, torch.from_numpy(truth))
    assert (shared.max(dim=1).values > 0.7).all()
    assert torch.equal(xyxy[:, 5], torch.from_numpy(truth)[shared.argmax(dim=1), 4])
    sides = torch.tensor([640.0, 480.0])
    torch.testing.assert_close(xyxyn[:, 2:4] * sides, xyxy[:, 2:4])
    torch.testing.assert_close(xywh[:, :2] - xywh[:, 2:4] / 2, xyxy[:, :2])
    torch.testing.assert_close(xywhn[:, :2] * sides, xywh[:, :2])
    assert results.names == dict(enumerate(scene.CLASS_NAMES))
    assert results.n == len(results) == 1
    assert results.s == (1, 3, 480, 640)
    assert len(results.t) == 3
    assert min(results.t) > 0


# The documented line meets a torch that does not know numpy's keyword yet; Python hides the warning.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_the_first_example_of_doras_documentation_can_send_what_it_gets(
    model: Any, film: tuple[Image, scene.Boxes]
) -> None:
    frame = np.ascontiguousarray(film[0][:, :, ::-1])
    frame.flags.writeable = False
    results = model(frame[:, :, ::-1])
    sent = np.array(results.xyxy[0].cpu()).ravel().view(np.uint8)
    received = sent.view(np.float32).reshape(-1, 6)
    assert np.array_equal(received, results.xyxy[0].numpy())
    assert len(received) == len(film[1])


def test_a_view_backwards_is_as_good_as_a_copy(model: Any, film: tuple[Image, scene.Boxes]) -> None:
    bgr = np.ascontiguousarray(film[0][:, :, ::-1])
    assert torch.equal(model(bgr[:, :, ::-1]).xyxy[0], model(film[0]).xyxy[0])
    mirrored = np.ascontiguousarray(film[0][:, ::-1])
    assert torch.equal(model(mirrored[:, ::-1]).xyxy[0], model(film[0]).xyxy[0])


def test_a_list_of_pictures_of_any_sizes_gives_what_each_alone_gives(model: Any) -> None:
    pictures = [
        np.ascontiguousarray(scene.MovingScene(1, size).frame(9)[:, :, ::-1])
        for size in ((640, 480), (641, 479), (500, 700))
    ]
    results = model(pictures)
    assert results.n == len(results) == 3
    for picture, boxes, alone in zip(pictures, results.xyxy, results, strict=True):
        assert torch.equal(boxes, model(picture).xyxy[0])
        assert torch.equal(boxes, alone.xyxy[0])
        height, width = picture.shape[:2]
        assert (boxes[:, 0:4] >= 0).all()
        assert (boxes[:, 0:4:2] <= width).all()
        assert (boxes[:, 1:4:2] <= height).all()
        assert len(boxes) == 9


@pytest.mark.parametrize("shape", [(1, 1), (17, 33), (16, 16)])
def test_pictures_too_small_for_anything_are_looked_at_too(
    shape: tuple[int, int], model: Any
) -> None:
    """What it says of them is of no use, but it is boxes inside the picture."""
    boxes = model(np.full((*shape, 3), 90, np.uint8)).xyxy[0]
    assert boxes.shape[1] == 6
    assert ((boxes[:, :4] >= 0) & (boxes[:, :4] <= max(shape))).all()


@pytest.mark.parametrize("level", [0, 60, 140, 255])
def test_where_nothing_is_it_finds_nothing(level: int, model: Any) -> None:
    """A lens that is covered, a room in the dark, a lamp that blinds."""
    assert len(model(np.full((480, 640, 3), level, np.uint8)).xyxy[0]) == 0


def test_a_picture_is_scaled_on_request_and_its_boxes_are_scaled_back(
    model: Any, film: tuple[Image, scene.Boxes]
) -> None:
    large = np.repeat(np.repeat(film[0], 2, axis=0), 2, axis=1)
    results = model(large, size=640)
    assert results.s == (1, 3, 480, 640)
    shared = iou(results.xyxy[0], torch.from_numpy(film[1][:, :4] * 2))
    assert (shared.max(dim=0).values > 0.7).all()


def test_the_settings_decide_what_is_kept(model: Any, film: tuple[Image, scene.Boxes]) -> None:
    everything = model(film[0]).xyxy[0]
    model.classes = [0, 3]
    chosen = model(film[0]).xyxy[0]
    expected = everything[(everything[:, 5] == 0) | (everything[:, 5] == 3)]
    assert len(chosen) > 0
    assert torch.equal(chosen, expected)
    model.classes = None
    model.max_det = 2
    assert torch.equal(model(film[0]).xyxy[0], everything[:2])
    model.conf = 1.0
    assert len(model(film[0]).xyxy[0]) == 0


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (np.zeros((48, 64), np.uint8), ValueError, r"shape \(48, 64\) and dtype uint8"),
        (np.zeros((48, 64, 4), np.uint8), ValueError, "an .H, W, 3. uint8 array in RGB"),
        (np.zeros((48, 64, 3), np.float32), ValueError, "dtype float32"),
        (np.zeros((0, 64, 3), np.uint8), ValueError, r"shape \(0, 64, 3\)"),
        (np.zeros(48 * 64 * 3, np.uint8), ValueError, r"shape \(9216,\)"),
        ([], ValueError, "needs at least one picture; got an empty list"),
        ("frame.png", TypeError, "needs pictures, got the path 'frame.png'"),
    ],
)
def test_an_argument_that_is_not_a_picture_is_refused_with_its_form(
    given: object, error: type[Exception], said: str, model: Any
) -> None:
    with pytest.raises(error, match=said):
        model(given)


def test_pandas_has_a_row_for_each_detection(model: Any, film: tuple[Image, scene.Boxes]) -> None:
    results = model(film[0])
    frames = results.pandas()
    frame = frames.xyxy[0]
    assert list(frame.columns) == ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert list(frames.xywhn[0].columns)[:4] == ["xcenter", "ycenter", "width", "height"]
    assert np.array_equal(frame[["xmin", "ymin"]].to_numpy(), results.xyxy[0][:, :2].numpy())
    assert [scene.CLASS_NAMES.index(name) for name in frame["name"]] == list(frame["class"])
    nothing = model(np.zeros((48, 64, 3), np.uint8)).pandas().xyxy[0]
    assert list(nothing.columns) == list(frame.columns)
    assert len(nothing) == 0


@pytest.mark.parametrize(("name", "method"), [("pandas", "pandas"), ("cv2", "render")])
def test_a_missing_library_is_named_with_the_way_to_get_it(
    name: str,
    method: str,
    model: Any,
    film: tuple[Image, scene.Boxes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = model(film[0])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install"):
        getattr(results, method)()


def test_print_says_what_is_there(
    model: Any, film: tuple[Image, scene.Boxes], capsys: pytest.CaptureFixture[str]
) -> None:
    results = model([film[0], np.zeros((48, 64, 3), np.uint8)])
    results.print()
    first, second, speed = capsys.readouterr().out.splitlines()
    robots = int((film[1][:, 4] == 0).sum())
    assert first.startswith("image 1/2: 480x640 ")
    assert f"{robots} robot{'s' * (robots > 1)}" in first
    assert second == "image 2/2: 48x64 (no detections)"
    assert speed.startswith("Speed: ")
    assert repr(results).startswith("<Detections: ")


def test_render_draws_on_copies(model: Any, film: tuple[Image, scene.Boxes]) -> None:
    picture = film[0].copy()
    picture.flags.writeable = False
    results = model(picture)
    (drawn,) = results.render()
    assert np.array_equal(picture, film[0])
    x1, y1, x2, y2 = results.xyxy[0][0, :4].round().int().tolist()
    changed = (drawn != picture).any(axis=2)
    assert changed[y1, x1 : x2 + 1].all()
    assert changed[y1 : y2 + 1, x1].all()
    assert not changed[y1 + 12 : y2 - 12, x1 + 12 : x2 - 12].all()
    assert (results.render(labels=False)[0] != drawn).any()


# ---------------------------------------------------------------- the parts


def test_folding_changes_the_speed_and_not_the_result() -> None:
    torch.manual_seed(1)
    net = TinyNet(6)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    net.eval()
    pictures = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        before = net(pictures)
        fold_batch_norm(net)
        after = net(pictures)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_a_peak_becomes_the_box_that_its_cell_speaks_of() -> None:
    output = torch.full((1, 2 + 4, 4, 6), -9.0)
    output[0, 1, 2, 3] = 3.0  # class 1 in row 2, column 3: the middle is (28, 20)
    output[0, 1, 2, 4] = 2.0  # its neighbour is no peak
    output[0, 2:, 2, 3] = torch.log(torch.tensor([8.0, 16.0, 24.0, 4.0]) / 8)
    (found,) = candidates(output, classes=2, min_confidence=0.25)
    expected = [[20.0, 4.0, 52.0, 24.0, torch.tensor(3.0).sigmoid().item(), 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_boxes_end_where_the_picture_does(model: Any) -> None:
    """The network sees a little more than the picture: sides are filled up to multiples of 16."""
    output = torch.full((1, 6 + 4, 2, 3), -9.0)
    output[0, 1, 1, 2] = 3.0  # the middle is (20, 12)
    output[0, 6:, 1, 2] = 2.0  # 59 pixels to each side
    (row,) = model._choose(output, np.zeros((13, 21, 3), np.uint8), scale=1.0)
    assert row[:4].tolist() == [0, 0, 21, 13]
    (row,) = model._choose(output, np.zeros((26, 42, 3), np.uint8), scale=0.5)
    assert row[:4].tolist() == [0, 0, 42, 26]


def _rows(draw: Callable[[Any], Any]) -> torch.Tensor:
    count = draw(st.integers(0, 12))
    numbers = st.integers(0, 40)
    rows = []
    for rank in range(count):
        x, y = draw(numbers), draw(numbers)
        width, height = draw(st.integers(1, 30)), draw(st.integers(1, 30))
        confidence = draw(st.permutations(range(12)))[rank] / 12
        rows.append([x, y, x + width, y + height, confidence, draw(st.integers(0, 1))])
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


@given(found=st.composite(_rows)(), max_iou=st.floats(0.1, 0.9), across=st.booleans())
@settings(max_examples=150)
def test_suppression_keeps_the_best_of_what_overlaps(
    found: torch.Tensor, max_iou: float, across: bool
) -> None:
    kept = suppress(found, max_iou=max_iou, max_detections=100, across_classes=across)
    assert torch.equal(kept[:, 4], kept[:, 4].sort(descending=True).values)

    def rivals(a: torch.Tensor, b: torch.Tensor) -> bool:
        overlap = float(iou(a[None], b[None]))
        return overlap > max_iou and (across or bool(a[5] == b[5]))

    for number, row in enumerate(kept):
        assert not any(rivals(row, other) for other in kept[:number])
    for row in found:
        is_kept = any(torch.equal(row, other) for other in kept)
        assert is_kept or any(rivals(row, other) and other[4] >= row[4] for other in kept)


def test_a_picture_that_seems_full_of_objects_takes_no_longer_than_a_thousand() -> None:
    corners = torch.rand(20_000, 2) * 1000
    rows = torch.cat([corners, corners + 1, torch.rand(20_000, 1), torch.zeros(20_000, 1)], dim=1)
    kept = suppress(rows, max_iou=0.45, max_detections=300)
    assert len(kept) == 300
    assert kept[0, 4] == rows[:, 4].max()


def test_overlap_is_intersection_over_union() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    others = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 5.0, 5.0]])
    expected = torch.tensor([[1 / 3, 1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(iou(boxes, others), expected)
