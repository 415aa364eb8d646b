"""`as_boxes` and `read_boxes`: every form of boxes that is read, and the errors for the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt
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


FOUR = np.array([[10, 10, 50, 40], [100, 100, 150, 140], [200, 200, 250, 240]], np.float32)
BOXES2D = {"primitive": "boxes2d", "format": "xyxy"}


def without_scores(boxes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As `as_boxes` returns boxes that have neither confidence nor class."""
    rows = np.zeros((len(boxes), 6), np.float32)
    rows[:, :4] = boxes
    rows[:, 4] = np.nan
    return rows


@pytest.mark.parametrize(
    "event",
    [
        message(pa.array(FOUR.ravel()), **BOXES2D),
        message(pa.array(FOUR.ravel().astype(np.int64)), **BOXES2D),
        message(pa.array(FOUR.ravel().astype(np.int32)), primitive="BOXES2D", format="XYXY"),
        message(pa.array(FOUR.ravel().astype(np.float16)), **BOXES2D),
        message(pa.array(FOUR.ravel().view(np.uint8)), **BOXES2D),
        message(pa.array(FOUR.ravel()), shape=[3, 4]),
        message(pa.array(FOUR.astype(np.int16).ravel())),
        message(pa.array(FOUR.tolist())),
        message(pa.FixedSizeListArray.from_arrays(pa.array(FOUR.ravel()), 4)),
        message(pa.array([{"bbox": FOUR.ravel()}])),
        message(pa.array([{"bbox": row} for row in FOUR.tolist()])),
        message(pa.array([[{"bbox": row} for row in FOUR.tolist()]])),
    ],
    ids=[
        *("primitive", "integers", "upper case", "float16", "bytes", "shape", "integers alone"),
        *("lists", "fixed lists", "struct", "structs", "list of structs"),
    ],
)
def test_boxes_without_a_confidence_are_read_and_it_is_unknown(event: dict[str, Any]):
    """Twelve values are a multiple of 6 as well: what the message says goes before its length."""
    np.testing.assert_array_equal(as_boxes(event), without_scores(FOUR))


def test_four_columns_may_be_centre_and_size():
    event = message(pa.array([30.0, 25, 40, 30]), primitive="boxes2d", format="xywh")

    np.testing.assert_array_equal(as_boxes(event), without_scores(np.array([[10, 10, 50, 40]])))


def test_an_array_that_can_be_read_in_two_ways_is_refused_with_both():
    with pytest.raises(MessageError) as raised:
        as_boxes(message(pa.array(FOUR.ravel())))

    assert "3 x 4 without scores or 2 x 6 with scores 100 and 250" in str(raised.value)
    assert "primitive='boxes2d'" in str(raised.value)


def test_a_shape_that_belongs_to_another_array_is_ignored():
    """Metadata is often forwarded, from the picture for one."""
    event = message(pa.array(BOXES.ravel()), shape=[480, 640])

    np.testing.assert_array_equal(as_boxes(event), BOXES)


@pytest.mark.parametrize(
    ("columns", "track"),
    [((0, 1, 2, 3, 6, 4, 5), [7, 12]), ((0, 1, 2, 3, 4, 5, 6), [7, 12])],
    ids=["ultralytics", "track last"],
)
def test_seven_columns_have_a_track(columns: tuple[int, ...], track: list[int]):
    rows = np.hstack([BOXES, np.array([[7], [12]], np.float32)])[:, columns]
    boxes = read_boxes(message(pa.array(rows.tolist())))

    np.testing.assert_array_equal(boxes.values, BOXES)
    assert boxes.tracks is not None
    assert boxes.tracks.tolist() == track
    np.testing.assert_array_equal(as_boxes(message(pa.array(rows.ravel()))), BOXES)


def test_a_bad_box_is_left_out_and_counted():
    rows = np.vstack([BOXES, [50, 10, 20, 40, 0.9, 0], [np.nan, 0, 9, 9, 0.5, 1]])
    boxes = read_boxes(message(pa.array(rows.astype(np.float32).ravel())))

    np.testing.assert_array_equal(boxes.values, BOXES)
    assert (boxes.num_bad, len(boxes.labels)) == (2, 2)


@pytest.mark.parametrize(
    "bad",
    [
        [1.0, 2, 3],
        [1.0, 2, 3, 4, 5],
        [],
        [1.0] * 12,
        None,
        [1.0, 2, 3, None, 0.5, 0],
        [1.0] * 3 * 6,
    ],
    ids=["short", "long", "empty", "two in one", "null", "a null in it", "three in one"],
)
def test_a_list_that_is_no_box_is_left_out_and_counted(bad: list[float] | None):
    first, second = BOXES.tolist()
    boxes = read_boxes(message(pa.array([first, bad, second])))

    np.testing.assert_array_equal(boxes.values, BOXES)
    assert (boxes.num_bad, len(boxes.labels)) == (1, 2)


def test_lists_whose_lengths_only_add_up_are_refused_and_others_are_not_shifted():
    """3 and 5 numbers are no two boxes of 4."""
    boxes = read_boxes(message(pa.array([[0.0, 0, 0], [0.0] * 5, [1.0, 2, 3, 4]])))

    np.testing.assert_array_equal(boxes.values, without_scores(np.array([[1, 2, 3, 4]])))
    assert boxes.num_bad == 2


def test_each_list_is_read_by_its_own_length():
    """A tracker gives a track to some of its boxes only."""
    with_track = [*BOXES[1, :4].tolist(), 7, *BOXES[1, 4:].tolist()]
    boxes = read_boxes(message(pa.array([BOXES[0].tolist(), with_track])))

    np.testing.assert_array_equal(boxes.values, BOXES)
    assert boxes.tracks is not None
    assert boxes.tracks.tolist() == [-1, 7]
    assert boxes.num_bad == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"bbox": [1.0, 1, 9], "conf": [0.9], "labels": ["bad"]},
        {"bbox": [1.0, 1, 9, 9, 1], "conf": [0.9], "labels": ["bad"]},
        {"bbox": [1.0, 1, 9, 9], "conf": [], "labels": ["bad"]},
        {"bbox": [1.0, 1, 9, 9], "conf": [0.9], "labels": ["bad", "worse"]},
        {"bbox": None, "conf": [0.9], "labels": ["bad"]},
        {"bbox": [1.0, 1, 9, None], "conf": [0.9], "labels": ["bad"]},
        None,
    ],
    ids=["short", "long", "no score", "two labels", "no box", "a null in it", "null"],
)
def test_a_row_that_is_no_box_does_not_shift_the_others(bad: dict[str, Any] | None):
    good = [{"bbox": [1.0, 2, 3, 4], "conf": [score], "labels": [f"{score}"]} for score in (0, 0.5)]
    for value in (pa.array([good[0], bad, good[1]]), pa.array([[good[0], bad, good[1]]])):
        boxes = read_boxes(message(value))

        assert boxes.values[:, 4].tolist() == [0, 0.5]
        assert boxes.labels == ("0", "0.5")
        assert boxes.num_bad == 1


def test_rows_with_one_number_each_do_not_shift_either():
    rows = [
        {"bbox": [1.0, 2, 3, 4], "conf": 0.25},
        {"bbox": [1.0, 2, 3], "conf": 0.75},
        {"bbox": [1.0, 2, 3, 4, 5], "conf": 0.8},
        {"bbox": [5.0, 6, 7, 8], "conf": 0.5},
    ]
    boxes = read_boxes(message(pa.array(rows)))

    assert boxes.values[:, 4].tolist() == [0.25, 0.5]
    assert boxes.num_bad == 2


def test_a_confidence_that_is_null_is_unknown():
    numbers = [[1.0, 2, 3, 4, None, 0]]
    columns = [pa.array([numbers[0][:4]]), pa.array([[None]], pa.list_(pa.float32()))]
    struct = pa.StructArray.from_arrays(columns, ["bbox", "conf"])
    for value in (pa.array(numbers), pa.array(numbers[0]), struct):
        np.testing.assert_array_equal(
            as_boxes(message(value)), without_scores(np.array([[1, 2, 3, 4]]))
        )


def test_the_labels_of_a_bad_box_go_with_it():
    columns = {"bbox": [50, 10, 20, 40, 1, 1, 9, 9], "conf": [0.9, 0.5], "labels": ["a", "b"]}
    boxes = read_boxes(message(pa.array([columns])))

    assert (boxes.labels, boxes.num_bad) == (("b",), 1)


@pytest.mark.parametrize("score", [100.0, -1.0, float("nan"), float("inf")])
def test_a_number_outside_0_to_1_is_not_a_confidence(score: float):
    boxes = as_boxes(message(pa.array([[1.0, 1, 9, 9, score, 3]])))

    np.testing.assert_array_equal(boxes, [[1, 1, 9, 9, np.nan, 3]])


def test_other_names_of_fields_are_known():
    row = {"bbox": [1.0, 1, 9, 9], "score": 0.5, "class_name": "cup", "track_id": 4}
    boxes = read_boxes(message(pa.array([row])))

    np.testing.assert_array_equal(boxes.values, [[1, 1, 9, 9, 0.5, 0]])
    assert boxes.labels == ("cup",)
    assert boxes.tracks is not None
    assert boxes.tracks.tolist() == [4]


def test_labels_that_are_not_utf_8_are_shown_with_replacements_and_counted():
    row = {"bbox": [[1.0, 1, 9, 9, 2, 2, 8, 8]], "conf": [[0.5, 0.5]]}
    arrays = [pa.array(row["bbox"]), pa.array(row["conf"]), pa.array([[b"caf\xe9", b"cup"]])]
    boxes = read_boxes(message(pa.StructArray.from_arrays(arrays, ["bbox", "conf", "labels"])))

    assert boxes.labels == ("caf\N{REPLACEMENT CHARACTER}", "cup")
    assert boxes.num_bad_texts == 1


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
            "every box has x2 < x1 or y2 < y1",
        ),
        (
            message(pa.array(np.zeros(6 * (MAX_BOXES + 1), np.float32))),
            "10001 boxes are more than the limit of 10000",
        ),
        (message(pa.array([1, 2, 3, 4, 5, 6])), "6 values are not a multiple of 4"),
        (message(pa.array([[1.0, 2.0]])), "do not have 4, 6 or 7 values"),
        (message(pa.array([[1.0, 2, None, 4, 0.5, 6]])), "its values are null or not finite"),
        (message(pa.array([[1.0, 2, 3], [1.0, 2, 3, 4, 5]])), "do not have 4, 6 or 7 values"),
        (message(pa.array(["a box"])), "neither numbers nor bytes"),
        (message(pa.nulls(6)), "null|neither"),
        (message("boxes"), "not an Arrow array"),
        (message(pa.array([{"box": [1.0]}])), r"its struct has no field 'bbox' \(fields: box\)"),
        (message(pa.array([{"bbox": [1.0], "conf": [0.5]}])), "not a multiple of 4"),
        (
            message(pa.array([{"bbox": [1.0] * 4, "conf": [0.5] * 2}])),
            "2 values of 'conf' do not fit 1 boxes",
        ),
        (message(pa.array([{"bbox": [1.0, 2, 3, None], "conf": [0.5]}])), "are null or not"),
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
@settings(max_examples=300)
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
    values[:, 4] /= 1e4
    columns = {"bbox": values[:, :4].ravel(), "conf": values[:, 4], "labels": values[:, 5]}
    forms = [pa.array(values.ravel()), pa.array(values.ravel().view(np.uint8)), pa.array([columns])]

    for form in forms:
        np.testing.assert_array_equal(as_boxes(message(form)), values)
