"""How two messages differ, by what they hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.compare.box_differences import box_difference
from dora_nb.compare.differences import Difference, difference, picture_difference
from dora_nb.data.boxes import read_boxes
from dora_nb.events import Event


def message(value: Any, topic: str = "arm/angle", **metadata: Any) -> Event:
    array = value if isinstance(value, pa.Array) else pa.array(value)
    return Event(type="INPUT", kind="dora", id=topic, value=array, metadata=metadata)


def compared(before: Any, after: Any) -> Difference:
    return difference(message(before), message(after))


def boxes(*rows: list[float]) -> Event:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return message(pa.array(values.ravel()), "detector/bbox", shape=list(values.shape))


def picture(values: np.ndarray[Any, Any], encoding: str = "bgr8") -> Event:
    height, width = values.shape[:2]
    return message(
        pa.array(values.ravel()), "camera/image", width=width, height=height, encoding=encoding
    )


def test_the_largest_error_of_numbers_is_named() -> None:
    found = compared([1.0, 2.0, 3.0], [1.0, 2.5, 2.9])
    assert (found.kind, found.equal, found.max_error) == ("numbers", False, 0.5)
    assert found.text == "differ by up to 0.5 (item 1: 2 became 2.5)"
    assert compared([1.0], [1.25]).text == "1 became 1.25"


def test_nan_equals_nan_and_nothing_else() -> None:
    assert compared([1.0, math.nan, math.inf], [1.0, math.nan, math.inf]).equal
    assert compared([1.0, math.nan], [1.0, 2.0]).max_error == math.inf
    assert compared([math.inf], [-math.inf]).max_error == math.inf
    assert compared([None, 1.0], [None, 1.0]).equal
    assert compared([None, 1.0], [0.0, 1.0]).max_error == math.inf


def test_whole_numbers_that_are_one_float_still_differ() -> None:
    found = compared([2**53], [2**53 + 1])
    assert (found.equal, found.max_error) == (False, 1.0)
    assert compared([2**63 - 1], [2**63 - 1]).equal


def test_another_length_or_type_is_an_infinite_error() -> None:
    assert compared([1.0], [1.0, 2.0]).text == "1 value became 2"
    assert compared([1.0], [1.0, 2.0]).max_error == math.inf
    assert compared(pa.array([1.0]), pa.array([1.0], pa.float32())).text == "double became float"
    assert compared([1.0], ["one"]).max_error == math.inf
    assert compared([[1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0]]).max_error == math.inf
    assert compared([[1.0], [2.0]], [[1.0], [2.5]]).max_error == 0.5


def test_structs_are_compared_field_by_field() -> None:
    found = compared([{"x": 1.0, "name": "a"}], [{"x": 1.5, "name": "a"}])
    assert (found.kind, found.max_error, found.text) == ("struct", 0.5, "x: 1 became 1.5")
    assert compared([{"x": 1.0, "name": "a"}], [{"x": 1.0, "name": "b"}]).max_error == math.inf
    assert compared([{"x": math.nan}], [{"x": math.nan}]).equal
    assert compared([{"x": 1.0}], [{"y": 1.0}]).max_error == math.inf


def test_texts_say_what_became_of_them() -> None:
    found = compared(["go", "left"], ["go", "right"])
    assert (found.kind, found.text) == ("texts", "item 1: 'left' became 'right'")
    assert compared(["go"], ["go"]).equal
    assert len(compared(["a" * 1000], ["b" * 1000]).text) < 120


@pytest.mark.parametrize(
    ("before", "after"),
    [([True], [False]), ([b"a"], [b"b"]), ([[{"x": 1}]], [[{"x": 2}]])],
)
def test_anything_else_is_equal_or_not(before: list[Any], after: list[Any]) -> None:
    assert compared(before, before).equal
    assert not compared(before, after).equal
    assert compared(before, after).max_error == math.inf


def test_metadata_that_differs_is_named_and_the_time_of_sending_is_not() -> None:
    old = message([1.0], unit="rad", timestamp="then", nan=math.nan)
    assert difference(old, message([1.0], unit="rad", timestamp="now", nan=math.nan)).equal
    found = difference(old, message([1.0], unit="deg", nan=math.nan, more=1))
    assert (found.equal, found.max_error) == (False, 0.0)
    assert found.metadata == ("unit", "more")
    assert found.text == "metadata 'unit', 'more' differs"
    assert not difference(message([1.0], n=1), message([1.0], n=True)).equal


def test_boxes_are_matched_moved_gained_and_lost() -> None:
    old = boxes([0, 0, 10, 10, 0.9, 0], [50, 50, 60, 60, 0.9, 0], [80, 80, 90, 90, 0.9, 1])
    new = boxes([0, 0, 10, 10, 0.9, 0], [51, 50, 62, 60, 0.9, 0], [80, 80, 90, 90, 0.9, 2])
    found = difference(old, new)
    assert found.boxes is not None
    assert found.boxes.same == ((0, 0),)
    assert found.boxes.moved == ((1, 1),)
    assert (found.boxes.gained, found.boxes.lost) == ((2,), (2,))
    assert (found.boxes.matched, found.boxes.max_shift) == (2, 2.0)
    assert found.text == "1 box moved by up to 2 px, 1 box gained, 1 box lost"
    assert found.max_error == math.inf


def test_the_largest_overlap_is_matched_first() -> None:
    old = boxes([0, 0, 10, 10, 0.9, 0], [1, 0, 11, 10, 0.9, 0])
    new = boxes([1, 0, 11, 10, 0.9, 0], [0, 0, 10, 10, 0.9, 0])
    found = box_difference(read_boxes(old), read_boxes(new))
    assert found.same == ((0, 1), (1, 0))
    assert found.equal


def test_confidences_count_and_are_not_a_shift() -> None:
    found = difference(boxes([0, 0, 10, 10, 0.9, 0]), boxes([0, 0, 10, 10, 0.5, 0]))
    assert (found.equal, found.max_error) == (False, 0.0)
    assert found.text == "confidence differs by up to 0.4"
    unknown = boxes([0, 0, 10, 10, math.nan, 0])
    assert difference(unknown, unknown).equal


def test_a_box_without_area_is_the_same_box() -> None:
    point = boxes([5, 5, 5, 5, 0.9, 0])
    assert difference(point, point).equal
    assert difference(boxes(), boxes()).equal
    assert difference(boxes(), point).text == "1 box gained"


def test_pictures_say_how_much_and_where_they_differ() -> None:
    old = np.zeros((4, 5, 3), np.uint8)
    new = old.copy()
    new[1, 2] = 30, 0, 0
    found = difference(picture(old), picture(new))
    assert (found.kind, found.max_error, found.mean_error) == ("picture", 30.0, 0.5)
    assert found.text == "pixels differ by up to 30, 0.5 on average, in 5.0% of the picture"
    errors = picture_difference(picture(old), picture(new))
    assert errors is not None
    assert errors.shape == (4, 5, 3)
    assert errors.sum() == 30
    assert difference(picture(old), picture(old)).equal


def test_pictures_of_other_sizes_or_encodings_are_different() -> None:
    old = picture(np.zeros((4, 5, 3), np.uint8))
    found = difference(old, picture(np.zeros((4, 6, 3), np.uint8)))
    assert found.text.startswith("5x4 bgr8 became 6x4 bgr8")
    assert found.max_error == math.inf
    found = difference(old, picture(np.zeros((4, 5, 3), np.uint8), "rgb8"))
    assert (found.equal, found.max_error) == (False, math.inf)
    assert picture_difference(old, picture(np.zeros((4, 6, 3), np.uint8))) is None


def test_a_depth_picture_with_holes_equals_itself() -> None:
    depth = np.array([[1.0, np.nan], [np.inf, 2.0]], np.float32)
    other = np.array([[1.0, np.nan], [np.inf, 2.5]], np.float32)
    assert difference(picture(depth, "32FC1"), picture(depth, "32FC1")).equal
    assert difference(picture(depth, "32FC1"), picture(other, "32FC1")).max_error == 0.5
