"""What detectors return becomes the struct array that views and dora-hub's nodes read.

The stand-ins have the attributes of the real classes, which these tests do not need; torchvision's and
YOLOv5's results are real ones.
"""

from __future__ import annotations

import doctest
import math
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boxes
import numpy as np
import pyarrow as pa
import pytest
import scene
import torch
from boxes import ACCEPTED_FORMS, boxes_from
from tiny_detector import detector

from dora_nb import as_boxes
from dora_nb.data.boxes import read_boxes
from dora_nb.testing import run_operator

from .conftest import SAMPLES

CORNERS = [[10.0, 20.0, 110.0, 220.0], [5.0, 6.0, 7.0, 8.0]]
SCORES = [0.75, 0.5]
NAMES = {0: "person", 2: "car"}
ABOUT = {"primitive": "boxes2d", "format": "xyxy"}

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def ultralytics_results(tracks: Any = None) -> SimpleNamespace:
    data = SimpleNamespace(
        xyxy=torch.tensor(CORNERS),
        conf=torch.tensor(SCORES),
        cls=torch.tensor([2.0, 0.0]),
        id=tracks,
    )
    return SimpleNamespace(boxes=data, obb=None, names=NAMES, orig_shape=(480, 640))


def supervision_detections(**changes: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "xyxy": np.array(CORNERS),
        "confidence": np.array(SCORES, np.float32),
        "class_id": np.array([2, 0]),
        "tracker_id": None,
        "data": {"class_name": np.array(["car", "person"], dtype=object)},
    }
    return SimpleNamespace(**{**fields, **changes})


def yolov5_detections(pictures: int = 1) -> SimpleNamespace:
    rows = torch.tensor(
        [
            [*corners, score, number]
            for corners, score, number in zip(CORNERS, SCORES, [2, 0], strict=True)
        ]
    )
    return SimpleNamespace(xyxy=[rows] * pictures, names=NAMES, pandas=lambda: None)


def torchvision_dict() -> dict[str, Any]:
    return {
        "boxes": torch.tensor(CORNERS, requires_grad=True),
        "labels": torch.tensor([2, 0]),
        "scores": torch.tensor(SCORES, dtype=torch.float16),
    }


def pipeline_list() -> list[dict[str, Any]]:
    sides = ("xmin", "ymin", "xmax", "ymax")
    return [
        {"score": score, "label": label, "box": dict(zip(sides, corners, strict=True))}
        for corners, score, label in zip(CORNERS, SCORES, ["car", "person"], strict=True)
    ]


def ros_detection(
    corners: list[float], score: float, name: str, *, track: str = "", theta: float = 0.0
) -> SimpleNamespace:
    x1, y1, x2, y2 = corners
    position = SimpleNamespace(x=(x1 + x2) / 2, y=(y1 + y2) / 2)
    results = [
        SimpleNamespace(hypothesis=SimpleNamespace(class_id="unlikely", score=score / 2)),
        SimpleNamespace(hypothesis=SimpleNamespace(class_id=name, score=score)),
    ]
    box = SimpleNamespace(
        center=SimpleNamespace(position=position, theta=theta), size_x=x2 - x1, size_y=y2 - y1
    )
    return SimpleNamespace(bbox=box, results=results, id=track)


def ros_array(**options: Any) -> SimpleNamespace:
    return SimpleNamespace(
        detections=[
            ros_detection(corners, score, name, **options)
            for corners, score, name in zip(CORNERS, SCORES, ["car", "person"], strict=True)
        ]
    )


def as_dicts(message: Any) -> Any:
    """A message as `as_py()` gives it."""
    if isinstance(message, SimpleNamespace):
        return {name: as_dicts(value) for name, value in vars(message).items()}
    return [as_dicts(each) for each in message] if isinstance(message, list) else message


def old_ros_array() -> SimpleNamespace:
    """As before ROS 2 Humble."""
    message = ros_array()
    for detection in message.detections:
        position = detection.bbox.center.position
        detection.bbox.center = SimpleNamespace(x=position.x, y=position.y, theta=0.0)
        detection.results = [
            SimpleNamespace(id=each.hypothesis.class_id, score=each.hypothesis.score)
            for each in detection.results
        ]
        del detection.id
    return message


FORMS: dict[str, Callable[[], Any]] = {
    "supervision": supervision_detections,
    "ultralytics": ultralytics_results,
    "ultralytics, a list of one": lambda: [ultralytics_results()],
    "ultralytics, turned boxes": lambda: SimpleNamespace(
        boxes=None, obb=ultralytics_results().boxes, names=NAMES, orig_shape=(1, 1)
    ),
    "YOLOv5": yolov5_detections,
    "transformers, with texts": lambda: {**torchvision_dict(), "text_labels": ["car", "person"]},
    "transformers' pipeline": pipeline_list,
    "ROS 2": ros_array,
    "ROS 2, through dora's bridge": lambda: as_dicts(ros_array()),
    "ROS 2, before Humble": old_ros_array,
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_becomes_the_struct_of_dora_hub(form: str) -> None:
    array, about = boxes_from(FORMS[form]())
    assert array.to_pylist() == [
        {"bbox": [*CORNERS[0], *CORNERS[1]], "conf": SCORES, "labels": ["car", "person"]}
    ]
    assert about == ABOUT


def test_detectors_without_names_give_numbers_or_the_names_that_are_passed() -> None:
    for result in (
        torchvision_dict(),
        [torchvision_dict()],
        {key: value.tolist() for key, value in torchvision_dict().items()},
        supervision_detections(data={}),
    ):
        array, _ = boxes_from(result)
        assert array[0]["labels"].as_py() == [2, 0]
        for names in (NAMES, ["person", "bus", "car"]):
            array, _ = boxes_from(result, names=names)
            assert array[0]["labels"].as_py() == ["car", "person"]
    array, _ = boxes_from(torchvision_dict(), names=["person"])
    assert array[0]["labels"].as_py() == ["2", "person"]


@pytest.mark.parametrize(
    "result",
    [
        ultralytics_results(tracks=torch.tensor([7.0, 4.0])),
        supervision_detections(tracker_id=np.array([7, 4])),
        SimpleNamespace(
            detections=[
                ros_detection(CORNERS[0], 0.75, "car", track="7"),
                ros_detection(CORNERS[1], 0.5, "person", track="4"),
            ]
        ),
    ],
)
def test_tracks_are_kept(result: Any) -> None:
    array, _ = boxes_from(result)
    assert array.to_pylist() == [
        {
            "bbox": [*CORNERS[0], *CORNERS[1]],
            "conf": SCORES,
            "labels": ["car", "person"],
            "track_id": [7, 4],
        }
    ]


def test_ids_of_ros_that_are_not_numbers_are_left_out() -> None:
    array, _ = boxes_from(ros_array(track="a7"))
    assert array.type.get_field_index("track_id") == -1


def test_a_turned_box_of_ros_becomes_the_upright_box_around_it() -> None:
    detection = ros_detection([0.0, 0.0, 40.0, 20.0], 1.0, "car", theta=math.pi / 2)
    array, _ = boxes_from(SimpleNamespace(detections=[detection]))
    assert array[0]["bbox"].as_py() == pytest.approx([10.0, -10.0, 30.0, 30.0])


def test_without_confidences_or_classes_there_are_nan_and_0() -> None:
    array, _ = boxes_from(
        supervision_detections(confidence=None, class_id=None, data={}, tracker_id=None)
    )
    assert np.isnan(array[0]["conf"].as_py()).all()
    assert array[0]["labels"].as_py() == [0, 0]
    detection = ros_detection(CORNERS[0], 0.5, "car")
    detection.results = []
    array, _ = boxes_from(SimpleNamespace(detections=[detection]))
    assert np.isnan(array[0]["conf"].as_py()).all()
    assert array[0]["labels"].as_py() == ["?"]


@pytest.mark.parametrize(
    "result",
    [
        {"boxes": torch.empty(0, 4), "scores": torch.empty(0), "labels": torch.empty(0).long()},
        SimpleNamespace(xyxy=[torch.empty(0, 6)], names=NAMES, pandas=None),
        SimpleNamespace(
            xyxy=np.empty((0, 4)), confidence=np.empty(0), class_id=np.empty(0), tracker_id=None
        ),
        SimpleNamespace(detections=[]),
        [],
    ],
)
def test_a_picture_without_boxes_is_a_message_without_boxes(result: Any) -> None:
    array, about = boxes_from(result)
    assert len(array) == 1
    event = {"type": "INPUT", "id": "boxes", "value": array, "metadata": about}
    assert as_boxes(event).shape == (0, 6)


def test_views_read_corners_scores_names_and_tracks() -> None:
    array, about = boxes_from(ultralytics_results(tracks=torch.tensor([7.0, 4.0])))
    read = read_boxes({"type": "INPUT", "id": "boxes", "value": array, "metadata": about})
    assert read.values[:, :5].tolist() == [
        [*corners, score] for corners, score in zip(CORNERS, SCORES, strict=True)
    ]
    assert read.labels == ("car", "person")
    assert read.tracks is not None
    assert read.tracks.tolist() == [7, 4]


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (None, "NoneType"),
        (np.zeros((2, 6)), "numpy.ndarray"),
        ("boxes", "str"),
        ({"masks": 1, "scores": 2}, "dict with the keys 'masks', 'scores'"),
        ({}, "dict with the keys none"),
        (SimpleNamespace(xyxy=[]), "types.SimpleNamespace"),
        (SimpleNamespace(detections=[SimpleNamespace(bbox=1)]), "types.SimpleNamespace"),
        (SimpleNamespace(detections="many"), "types.SimpleNamespace"),
    ],
)
def test_any_other_object_is_refused_with_the_forms_that_are_accepted(
    result: Any, kind: str
) -> None:
    forms = f"{', '.join(ACCEPTED_FORMS[:-1])}, and {ACCEPTED_FORMS[-1]}"
    expected = f"boxes_from cannot read a {kind}; it reads {forms}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        boxes_from(result)


@pytest.mark.parametrize("result", [[torchvision_dict()] * 3, yolov5_detections(pictures=3)])
def test_results_of_several_pictures_are_refused(result: Any) -> None:
    expected = "takes the result of one picture, got a list of 3: call it once for each"
    with pytest.raises(ValueError, match=expected):
        boxes_from(result)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scores": [0.5]}, "the result has 2 boxes, but 1 values in 'conf'"),
        ({"labels": [1, 2, 3]}, "the result has 2 boxes, but 3 values in 'labels'"),
        ({"boxes": np.zeros((2, 6))}, r"boxes must have the shape \(N, 4\), got \(2, 6\)"),
        ({"boxes": [[1, 2, 3, 4], [1]]}, "the boxes of the result are not numbers"),
        ({"scores": [None, object()]}, "the scores of the result are not numbers"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        boxes_from({**torchvision_dict(), **changes})


def test_a_result_that_is_no_detection_is_refused_with_the_reason() -> None:
    result = SimpleNamespace(boxes=None, names=NAMES, orig_shape=(1, 1), probs=[0.5])
    with pytest.raises(ValueError, match="has no boxes: load a model for detection"):
        boxes_from(result)


# ---------------------------------------------------------------- real detectors


def test_a_real_result_with_yolov5s_interface() -> None:
    moving = scene.MovingScene(5)
    model = detector.load_detector()
    results = model(np.ascontiguousarray(moving.frame(40)[:, :, ::-1]))
    array, about = boxes_from(results)
    read = read_boxes({"type": "INPUT", "id": "boxes", "value": array, "metadata": about})
    assert np.array_equal(read.values[:, :5], results.xyxy[0].numpy()[:, :5])
    assert read.labels == tuple(results.names[int(number)] for number in results.xyxy[0][:, 5])
    assert len(read) == len(moving.boxes(40))


# ---------------------------------------------------------------- in a cell


CELL = """
import sys

sys.path.insert(0, {folder!r})
from boxes import boxes_from


class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            result = {{"boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": ["cup"]}}
            boxes, about = boxes_from(result)
            send_output("boxes", boxes, {{**dora_event["metadata"], **about}})
"""


def test_a_cell_sends_them_with_what_is_known_of_the_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    picture = (
        pa.array([0], pa.uint8()),
        {"width": 1, "height": 1, "encoding": "mono8", "frame": 3},
    )
    (sent,) = run_operator(CELL.format(folder=str(SAMPLES)), [("image", *picture)])["boxes"]
    assert {key: sent["metadata"][key] for key in ("frame", *ABOUT)} == {"frame": 3, **ABOUT}
    assert as_boxes(sent).tolist() == [[1, 2, 3, 4, 0.5, 0]]


def test_the_example_in_the_file_is_true() -> None:
    results = doctest.testmod(boxes, raise_on_error=False)
    assert results.attempted > 0
    assert results.failed == 0
