"""The result of a detector as boxes that views, dora-rs nodes and other operators read.

    from boxes import boxes_from

    boxes, about = boxes_from(model(picture))
    send_output("boxes", boxes, {**dora_event["metadata"], **about})

Plain Python with pyarrow: it imports no detector. `%dora export` copies this file along with the cells
that import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

Names = Mapping[int, str] | Sequence[str]

ACCEPTED_FORMS = (
    "supervision's Detections (RF-DETR returns them)",
    "ultralytics' Results",
    "YOLOv5's Detections",
    "a dict of torchvision or transformers with 'boxes', 'scores' and 'labels' ('track_ids' too)",
    "the list of a transformers pipeline",
    "ROS 2's Detection2DArray",
)


def boxes_from(result: Any, names: Names | None = None) -> tuple[pa.StructArray, dict[str, str]]:
    """Returns the boxes of one picture as a struct array of length 1, and the metadata to send with it.

    The struct is the one that dora-hub's nodes send: ``bbox``, N x (x1, y1, x2, y2) in pixels as one flat
    list; ``conf``, N confidences, NaN where the detector gives none; ``labels``, N names, or N class numbers
    where neither the result nor `names` knows names; and ``track_id`` if the result has tracks. All of it is
    copied, so it stays valid when the detector goes on.

    `result` is what a detector returned for one picture (see `ACCEPTED_FORMS`), or a list with one such
    result. `names` maps class numbers to names, for detectors that return only numbers. Any other object
    raises a TypeError that lists the accepted forms; a list of several results, and a result whose parts do
    not fit each other, a ValueError.

    Example::

        >>> result = {"boxes": [[10, 20, 30, 40]], "scores": [0.9], "labels": [1]}
        >>> boxes, about = boxes_from(result, names=["background", "person"])
        >>> boxes[0]["labels"].as_py(), about
        (['person'], {'primitive': 'boxes2d', 'format': 'xyxy'})
    """
    result = _only_one(result)
    for read in (
        _of_ultralytics,
        _of_supervision,
        _of_yolov5,
        _of_ros,
        _of_dict,
        _of_pipeline,
    ):
        found = read(result)
        if found is not None:
            return _struct_array(*found, names=names), {"primitive": "boxes2d", "format": "xyxy"}
    raise TypeError(
        f"boxes_from cannot read a {_type_of(result)}; it reads "
        f"{', '.join(ACCEPTED_FORMS[:-1])}, and {ACCEPTED_FORMS[-1]}"
    )


Found = tuple[Any, Any, Any, Any]
"""Corners, confidences, labels (names or class numbers), tracks: each None where the result has none."""


def _only_one(result: Any) -> Any:
    """The only result of a list; detectors that take several pictures return one."""
    if not isinstance(result, (list, tuple)) or _is_of_pipeline(result):
        return result
    if len(result) == 1:
        return result[0]
    raise ValueError(
        f"boxes_from takes the result of one picture, got a list of {len(result)}: "
        "call it once for each, such as boxes_from(results[0])"
    )


# ----- one function for each form: None if the object has another one


def _of_ultralytics(result: Any) -> Found | None:
    if not _has(result, "boxes", "names", "orig_shape"):
        return None
    boxes = result.boxes if result.boxes is not None else getattr(result, "obb", None)
    if boxes is None:
        raise ValueError(
            "the result of this ultralytics model has no boxes: "
            "load a model for detection, not one for classification"
        )
    return boxes.xyxy, boxes.conf, _named(boxes.cls, result.names), boxes.id


def _of_supervision(result: Any) -> Found | None:
    if not _has(result, "xyxy", "confidence", "class_id", "tracker_id"):
        return None
    names = getattr(result, "data", {}).get("class_name")
    labels = result.class_id if names is None else [str(name) for name in names]
    return result.xyxy, result.confidence, labels, result.tracker_id


def _of_yolov5(result: Any) -> Found | None:
    if not _has(result, "xyxy", "names", "pandas"):
        return None
    if len(result.xyxy) != 1:
        _only_one(list(result.xyxy))
    rows = _numbers(result.xyxy[0], "boxes").reshape(-1, 6)
    return rows[:, :4], rows[:, 4], _named(rows[:, 5], result.names), None


def _of_dict(result: Any) -> Found | None:
    if not isinstance(result, Mapping) or "boxes" not in result:
        return None
    # transformers' zero-shot detectors have their texts in `text_labels`, beside numbers in `labels`.
    texts = result.get("text_labels")
    labels = texts or result.get("labels")
    return result["boxes"], result.get("scores"), labels, result.get("track_ids")


def _is_of_pipeline(result: Any) -> bool:
    """A list with a dict for each object; empty if there is none."""
    return isinstance(result, list) and all(
        isinstance(each, Mapping) and "box" in each for each in result
    )


def _of_pipeline(result: Any) -> Found | None:
    if not _is_of_pipeline(result):
        return None
    sides = ("xmin", "ymin", "xmax", "ymax")
    corners = [[each["box"][side] for side in sides] for each in result]
    return corners, [each["score"] for each in result], [each["label"] for each in result], None


def _of_ros(result: Any) -> Found | None:
    """A message of rclpy, or the dict of one that came through dora's bridge: `value[0].as_py()`."""
    detections = _field(result, "detections")
    if detections is None or isinstance(detections, (str, bytes)):
        return None
    corners, scores, labels, tracks = [], [], [], []
    for detection in detections:
        box = _field(detection, "bbox")
        if any(_field(box, name) is None for name in ("center", "size_x", "size_y")):
            return None
        corners.append(_ros_corners(box))
        score, label = _ros_best(_field(detection, "results") or ())
        scores.append(score)
        labels.append(label)
        tracks.append(_field(detection, "id"))
    # The id of a detection is a text in ROS. Only if all are numbers are they tracks here.
    are_tracks = bool(tracks) and all(str(track).isdecimal() for track in tracks)
    return corners, scores, labels, [int(track) for track in tracks] if are_tracks else None


def _ros_corners(box: Any) -> list[float]:
    """The upright box around a box that may be turned by `theta` radians."""
    centre = _field(box, "center")
    middle = _field(centre, "position") or centre  # Pose2D has x and y itself before ROS 2 Humble
    x, y = _field(middle, "x"), _field(middle, "y")
    theta = _field(centre, "theta") or 0.0
    width, height = _field(box, "size_x"), _field(box, "size_y")
    cosine, sine = abs(np.cos(theta)), abs(np.sin(theta))
    half_width = (width * cosine + height * sine) / 2
    half_height = (width * sine + height * cosine) / 2
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _ros_best(hypotheses: Iterable[Any]) -> tuple[float, str]:
    """Score and class of the likeliest hypothesis."""
    # Before ROS 2 Humble `id` and `score` are in the result itself.
    known = [_field(each, "hypothesis") or each for each in hypotheses]
    if not known:
        return float("nan"), "?"
    best = max(known, key=lambda each: _field(each, "score"))
    name = _field(best, "class_id")
    return _field(best, "score"), str(_field(best, "id") if name is None else name)


def _field(thing: Any, name: str) -> Any:
    """A field of a message or of a dict; None without it."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


# ----- all forms


def _has(result: Any, *attributes: str) -> bool:
    return all(hasattr(result, attribute) for attribute in attributes)


def _named(classes: Any, names: Names) -> list[str]:
    return [_name(int(number), names) for number in _numbers(classes, "classes")]


def _name(number: int, names: Names) -> str:
    if isinstance(names, Mapping):
        return str(names.get(number, number))
    return str(names[number]) if 0 <= number < len(names) else str(number)


def _struct_array(
    corners: Any, scores: Any, labels: Any, tracks: Any, *, names: Names | None
) -> pa.StructArray:
    corners = _numbers(corners, "boxes")
    if corners.size and (corners.ndim != 2 or corners.shape[1] != 4):
        raise ValueError(f"boxes must have the shape (N, 4), got {corners.shape}")
    count = len(corners)
    columns: dict[str, pa.Array] = {
        "bbox": pa.array(corners.ravel(), pa.float32()),
        "conf": pa.array(
            np.full(count, np.nan) if scores is None else _numbers(scores, "scores"), pa.float32()
        ),
        "labels": _labels([0] * count if labels is None else labels, names),
    }
    if tracks is not None:
        columns["track_id"] = pa.array([int(track) for track in _plain(tracks)], pa.int64())
    for name, column in columns.items():
        if name != "bbox" and len(column) != count:
            raise ValueError(f"the result has {count} boxes, but {len(column)} values in {name!r}")
    lists = [
        pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column)
        for column in columns.values()
    ]
    return pa.StructArray.from_arrays(lists, list(columns))


def _labels(labels: Any, names: Names | None) -> pa.Array:
    """Names as texts, class numbers as int64."""
    values = _plain(labels)
    if any(isinstance(value, str) for value in values):
        return pa.array([str(value) for value in values], pa.string())
    if names is not None:
        return pa.array(_named(values, names), pa.string())
    return pa.array([int(value) for value in values], pa.int64())


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(_plain(values), np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {what} of the result are not numbers: {error}") from None


def _plain(values: Any) -> Any:
    """Lists of Python numbers: of tensors too, on any device and of any type, with a gradient or not."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _type_of(result: Any) -> str:
    kind = type(result)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    if isinstance(result, Mapping):
        return f"{name} with the keys {', '.join(map(repr, list(result)[:5])) or 'none'}"
    return name
