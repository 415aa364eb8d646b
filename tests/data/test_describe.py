"""A message in one line of text."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.describe import bytes_text, describe

from .data_messages import ARRAYS, BOXES, encoded, file_message, message, photo, sized

STAMP = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def on(topic: str, value: pa.Array[Any], **metadata: Any) -> dict[str, Any]:
    return {"type": "INPUT", "id": topic, "value": value, "metadata": metadata}


@pytest.mark.parametrize(
    ("event", "kind", "line"),
    [
        (
            {**sized(np.zeros((480, 640, 3), np.uint8), "bgr8")},
            "image 640x480 bgr8",
            "image 640x480 bgr8, 900 KB",
        ),
        (
            message(pa.array(np.zeros(64 * 48, np.uint8)), width=64, height=48, encoding="mono8", n=3),
            "image 64x48 mono8",
            "image 64x48 mono8, 3 KB  n=3",
        ),
        # Numbers alone are a picture if their shape is that of one, but a small matrix is numbers.
        (
            message(pa.array(np.zeros(4800, np.uint8)), shape=[60, 80]),
            "image 80x60 mono8",
            "image 80x60 mono8, 4.69 KB",
        ),
        (
            message(pa.array([1, 2, 3, 4], pa.uint8()), shape=[2, 2]),
            "uint8[4]",
            "uint8 [1, 2, 3, 4]  shape=[2, 2]",
        ),
        # The metadata promises a picture that the array is not.
        (
            message(pa.array([1, 2], pa.uint8()), width=640, height=480),
            "uint8[2]",
            "uint8 [1, 2]  width=640, height=480",
        ),
    ],
)  # fmt: skip
def test_pictures(event: dict[str, Any], kind: str, line: str) -> None:
    described = describe(event)
    assert (described.kind, str(described)) == (kind, line)


def test_a_compressed_picture_has_the_size_of_its_file() -> None:
    data = encoded(photo(), ".jpg")
    assert str(describe(file_message(data, "jpeg"))) == (
        f"image 64x48 jpeg, {bytes_text(len(data))}"
    )


STRUCT = pa.array(
    [{"bbox": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "conf": [0.9, 0.5], "labels": ["a", "b"]}]
)
FLAT = pa.array(BOXES.ravel())


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            on("detector/out", STRUCT, width=640, height=480, encoding="bgr8", n=1),
            "2 boxes: a 0.90 at 1,2-3,4; b 0.50 at 5,6-7,8  n=1",
        ),
        (on("detector/bbox", FLAT), "2 boxes: 2 0.90 at 10,20-30,40; 0 0.25 at 1,2-3,4"),
        (on("detector/bbox", FLAT, names=["x", "y", "z"]), "2 boxes: z 0.90 at 10,20-30,40; x 0.25 at 1,2-3,4"),
        (on("arm/out", FLAT[:4], primitive="boxes2d"), "1 box: 0 at 10,20-30,40"),
        (on("detector/bbox", pa.array([], pa.float32())), "no boxes"),
        (
            on("detector/boxes", pa.array(np.tile(BOXES[:1], (6, 1)).ravel())),
            f"6 boxes: {'; '.join(['2 0.90 at 10,20-30,40'] * 4)}; 2 more",
        ),
        (
            on("detector/bbox", pa.array([*BOXES[0].tolist(), 9.0, 9.0, 1.0, 1.0, 0.5, 0.0], pa.float32())),
            "1 box: 2 0.90 at 10,20-30,40; 1 that cannot be drawn",
        ),
        # A label with markup or a line break is text of one line.
        (
            on("detector/bbox", pa.array([{"bbox": [1.0, 2.0, 3.0, 4.0], "labels": ["<b>a</b>\n\x1b[31m"]}])),
            "1 box: <b>a</b>\\n\\u001b[31m at 1,2-3,4",
        ),
    ],
)  # fmt: skip
def test_boxes(event: dict[str, Any], line: str) -> None:
    described = describe(event)
    assert (described.kind, str(described)) == ("boxes", line)


def test_six_numbers_are_boxes_only_if_something_says_so() -> None:
    assert str(describe(on("arm/joints", FLAT[:6]))) == "float32 [10, 20, 30, 40, 0.9, 2]"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (pa.array([0.5, 1.0]), "float64[2]", "float64 [0.5, 1]"),
        (pa.array([7], pa.int32()), "int32[1]", "int32 [7]"),
        (pa.array([True, None]), "bool[2]", "bool [true, null]"),
        (pa.array(["go", "a\nb"]), "string[2]", "string ['go', 'a\\nb']"),
        (pa.array(["x" * 99]), "string[1]", f"string ['{'x' * 37}...']"),
        (pa.array([b"abc"]), "binary[1]", "binary [3 bytes]"),
        (pa.array([{"x": 1.5, "mode": "idle"}]), "struct{x, mode}[1]", "struct{x, mode} [{x: 1.5, mode: 'idle'}]"),
        (pa.array([[1.0, 2.0], None]), "list of float64[2]", "list of float64 [[1, 2], null]"),
        (pa.array([], pa.float32()), "float32[0]", "float32 []"),
        (pa.nulls(1), "null[1]", "null [null]"),
        (pa.array([np.nan, np.inf]), "float64[2]", "float64 [nan, inf]"),
        (
            pa.array(range(100)),
            "int64[100]",
            "int64 [0, 1, 2, ..., 97, 98, 99], 100 values, min 0, max 99",
        ),
        (
            pa.array([0.1, np.nan, np.inf] * 3),
            "float64[9]",
            "float64 [0.1, nan, inf, ..., 0.1, nan, inf], 9 values, min 0.1, max 0.1, 6 not finite",
        ),
        (pa.array([np.nan] * 9), "float64[9]", "float64 [nan, nan, nan, ..., nan, nan, nan], 9 values, 9 not finite"),
        (pa.array([None, 1.0] * 5), "float64[10]", "float64 [null, 1, null, ..., 1, null, 1], 10 values, 5 null"),
        (pa.array([datetime.date(2026, 1, 2)]), "date32[day][1]", "date32[day] [2026-01-02]"),
    ],
)  # fmt: skip
def test_values(value: pa.Array[Any], kind: str, text: str) -> None:
    described = describe(message(value))
    assert (described.kind, described.text) == (kind, text)


def test_metadata_is_abridged_and_without_the_stamp() -> None:
    event = message(
        pa.array([1]), timestamp=STAMP, unit="rad", gains=list(range(20)), nested={"a": 1}, x=0.1
    )
    assert describe(event).metadata == (
        "unit='rad', gains=[0, 1, 2, ..., 17, 18, 19], nested={...}, x=0.1"
    )
    assert (
        len(describe(message(pa.array([1]), **{f"key{n}": n for n in range(99)})).metadata) == 160
    )


def test_a_message_without_an_array_is_named_by_its_type() -> None:
    assert str(describe({"value": "text"})) == "str"
    assert str(describe({"type": "STOP"})) == "NoneType"


def test_fields_with_one_name_and_texts_that_are_not_utf8() -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    assert describe(message(twice)).text == "struct{x, x} [{x: 1, x: 2}]"
    damaged = pa.StringArray.from_buffers(
        1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")
    )
    assert describe(message(damaged)).text == "string [?]"


def test_a_long_list_within_an_array_is_abridged_too() -> None:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1_000_000)), 1_000_000)
    assert describe(message(lists)).text == "list of float64 [[0, 0, 0, ..., 0, 0, 0]]"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (921_600, "900 KB"),
        (1_500_000, "1.43 MB"),
        (5e9, "4.66 GB"),
        (2e12, "1863 GB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@given(value=ARRAYS, topic=st.sampled_from(["a/bbox", "a/b"]), metadata=st.dictionaries(
    st.sampled_from(["width", "height", "encoding", "shape", "primitive", "x"]),
    st.one_of(st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3), st.floats()),
))  # fmt: skip
def test_any_message_is_one_printable_line(
    value: pa.Array[Any], topic: str, metadata: dict[str, Any]
) -> None:
    line = str(describe(on(topic, value, **metadata)))
    assert line.isprintable()
    assert len(line) < 700
