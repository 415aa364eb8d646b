"""`as_boxes` and `read_boxes`: every form of boxes that is read, and the errors for the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dora_nb.data.box_arrays import MAX_BOXES
from dora_nb.data.boxes import as_boxes, read_boxes
from dora_nb.errors import MessageError

from .data_messages import (
    ARRAYS,
    BOXES,
    METADATA,
    encoded,
    file_message,
    message,
    photo,
)


def hub(labels: object = ("robot", "cup"), **metadata: Any) -> dict[str, Any]:
    """Boxes as dora-hub's detectors send them."""
    columns = {"bbox": BOXES[:, :4].ravel(), "conf": BOXES[:, 4]}
    if labels is not None:
        columns["labels"] = list(labels)  # type: ignore[call-overload]
    return message(pa.array([columns]), **metadata)


@pytest.mark.parametrize(
    "value",
    [
        pa.array(BOXES.ravel()),
        pa.array(BOXES.ravel().astype(np.float64)),
        pa.array(BOXES.ravel().view(np.uint8)),
        pa.array(BOXES.tolist()),
        pa.array(np.concatenate([np.zeros(6, np.float32), BOXES.ravel()])).slice(6),
    ],
    ids=["floats", "doubles", "bytes", "lists", "slice"],
)
def test_n_times_six_numbers_are_boxes(value: pa.Array[Any]):
    boxes = as_boxes(message(value))

    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, BOXES)
    assert boxes.flags.writeable  # the caller's own


def test_boxes_of_dora_hub_are_read_with_their_names():
    boxes = read_boxes(hub(format="xyxy"))

    np.testing.assert_array_equal(boxes.values[:, :5], BOXES[:, :5])
    assert boxes.labels == ("robot", "cup")
    assert boxes.values[:, 5].tolist() == [1, 0]  # places among the sorted names


def test_xywh_is_the_centre_and_the_size():
    assert as_boxes(hub(format="xywh"))[0, :4].tolist() == [-5, 0, 25, 40]


def test_numbers_as_labels_are_classes():
    boxes = read_boxes(hub(labels=[3, 0]), labels=["person", "dog"])

    assert boxes.values[:, 5].tolist() == [3, 0]
    assert boxes.labels == ("3", "person")


@pytest.mark.parametrize(
    "value",
    [
        pa.array([]),
        pa.array([], pa.uint8()),
        pa.array([], pa.float32()),
        pa.array([{"bbox": [], "conf": [], "labels": []}]),
        pa.array([], hub()["value"].type),
    ],
    ids=["null", "bytes", "floats", "hub", "no hub"],
)
def test_no_detection_is_no_error(value: pa.Array[Any]):
    assert as_boxes(message(value)).shape == (0, 6)


def test_classes_are_named_by_the_reader_then_the_message_then_their_number():
    event = message(pa.array(BOXES.ravel()), names=["cup", "cone", "robot"])

    assert read_boxes(event).labels == ("robot", "cup")
    assert read_boxes(event, {2: "charger"}).labels == ("charger", "0")
    assert read_boxes(message(pa.array(BOXES.ravel()))).labels == ("2", "0")


def test_a_name_that_is_missing_shows_as_a_question():
    assert read_boxes(hub(labels=["robot", None])).labels == ("robot", "?")


CAMERA_IMAGE = pa.array(np.zeros(640 * 480 * 3, np.uint8))
SMALL_IMAGE = np.random.default_rng(0).integers(0, 255, 320 * 240 * 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (
            message(CAMERA_IMAGE),
            "38400 boxes are more than the limit of 10000.*looks like a picture",
        ),
        (message(pa.array(SMALL_IMAGE), width=320, height=240), "looks like a picture"),
        (message(pa.array(SMALL_IMAGE)), "looks like a picture"),
        (file_message(encoded(photo(), ".jpg") + bytes(24), "jpeg"), "looks like a picture"),
        (message(pa.array(BOXES.ravel()[:-1])), "11 values are not a multiple of 6"),
        (message(pa.array(BOXES.ravel().view(np.uint8)[:-1])), "47 bytes are not a multiple of 24"),
        (message(pa.array(np.full(6, np.nan, np.float32))), "not finite"),
        (message(pa.array(np.full(6, 1e300))), "not finite"),
        (
            message(pa.array(BOXES[:, [2, 3, 0, 1, 4, 5]].ravel())),
            "some boxes have x2 < x1 or y2 < y1",
        ),
        (
            message(pa.array(np.zeros(6 * (MAX_BOXES + 1), np.float32))),
            "10001 boxes are more than the limit of 10000",
        ),
        (message(pa.array([1, 2, 3, 4, 5, 6])), "neither floats nor bytes"),
        (message(pa.array([[1.0, 2.0]])), "do not have 6 values"),
        (message(pa.array([[1.0, 2, 3, 4, None, 6]])), "null"),
        (message(pa.array(["a box"])), "neither floats nor bytes"),
        (message(pa.nulls(6)), "null|neither"),
        (message("boxes"), "not an Arrow array"),
        (message(pa.array([{"box": [1.0]}])), r"its struct has no field 'bbox' \(fields: box\)"),
        (message(pa.array([{"bbox": [1.0], "conf": [0.5]}])), "which do not fit"),
        (message(pa.array([{"bbox": [1.0, 2, 3, None], "conf": [0.5]}])), "nulls"),
        (
            message(pa.array([{"bbox": ["a"] * 4, "conf": [0.5]}])),
            "'bbox' values are string, not numbers",
        ),
        (message(pa.array([{"bbox": None, "conf": [0.5]}], hub(None)["value"].type)), "is null"),
        (hub(labels=["robot"]), "1 labels do not fit 2 boxes"),
        (hub(format="cxcywh"), "unknown format 'cxcywh'"),
    ],
)
def test_an_error_says_what_is_wrong_with_boxes_and_what_they_look_like(
    event: dict[str, Any], error: str
):
    with pytest.raises(MessageError, match=error) as raised:
        as_boxes(event)

    assert str(raised.value).startswith("cannot read image as boxes: ")


@given(value=ARRAYS, metadata=METADATA)
@settings(max_examples=300, deadline=None)
def test_any_message_is_boxes_or_raises_message_error(
    value: pa.Array[Any], metadata: dict[str, Any]
):
    """The kernel's subscriber reads boxes in a thread that must not fail."""
    with contextlib.suppress(MessageError):
        as_boxes(message(value, **metadata))


@given(boxes=st.lists(st.tuples(*[st.floats(0, 1e4, width=32)] * 6), max_size=20))
def test_the_three_forms_say_the_same(boxes: list[tuple[float, ...]]):
    values = np.array(boxes, np.float32).reshape(-1, 6)
    values[:, 2:4] += values[:, :2]
    columns = {"bbox": values[:, :4].ravel(), "conf": values[:, 4], "labels": values[:, 5]}
    forms = [pa.array(values.ravel()), pa.array(values.ravel().view(np.uint8)), pa.array([columns])]

    for form in forms:
        np.testing.assert_array_equal(as_boxes(message(form)), values)
