"""Which series the messages of a topic have, and what cannot be plotted."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.arrow import UnreadableError
from dora_nb.data.series.numbers import (
    MAX_SERIES,
    MissingElementError,
    NumberReader,
    SeriesKey,
    unit_of,
)
from dora_nb.errors import MessageError
from dora_nb.graph.topic_paths import Field

NAN = math.nan
NOON = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)
POSE = {"pose": {"x": 1.0, "y": 2.0}, "name": "base", "valid": True}


def event(value: object, **metadata: Any) -> dict[str, Any]:
    return {"type": "INPUT", "id": "sim/pose", "value": value, "metadata": metadata}


def read(value: pa.Array[Any], field: Field = ()) -> dict[str, float]:
    keys, values = NumberReader("sim/pose", field).read(event(value))
    assert len(keys) == len(values)
    return dict(zip((key.suffix for key in keys), values.tolist(), strict=True))


def _extension(values: pa.Array[Any]) -> pa.Array[Any]:
    return pa.ExtensionArray.from_storage(pa.opaque(values.type, "metres", "tests"), values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pa.array([1.5]), {"": 1.5}),
        (pa.array([7], pa.uint8()), {"": 7}),
        (pa.array([np.float16(0.5)], pa.float16()), {"": 0.5}),
        (pa.array([1, 2, 3]), {"[0]": 1, "[1]": 2, "[2]": 3}),
        (pa.array([0, 1, 2, 3])[2:], {"[0]": 2, "[1]": 3}),
        (pa.array([[1, 2]]), {"[0]": 1, "[1]": 2}),
        (pa.array([[5.0]]), {"[0]": 5}),
        (pa.array([[9, 9], [1, 2]])[1:], {"[0]": 1, "[1]": 2}),
        (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), {"[0]": 1, "[1]": 2}),
        (pa.array([[1, 2]], pa.large_list(pa.int8())), {"[0]": 1, "[1]": 2}),
        (pa.array([[1, 2], [3]]), {"[0][0]": 1, "[0][1]": 2, "[1][0]": 3}),
        (pa.array([POSE]), {".pose.x": 1, ".pose.y": 2, ".valid": 1}),
        (pa.array([{"x": 1, "y": 2.5}]), {".x": 1, ".y": 2.5}),
        (pa.array([{"x": 9}, {"x": 2}])[1:], {".x": 2}),
        (pa.array([{"x": 1}, {"x": 2}]), {"[0].x": 1, "[1].x": 2}),
        (pa.array([[{"x": 1}, {"x": 2}]]), {"[0].x": 1, "[1].x": 2}),
        (pa.array([{"v": [1, 2]}]), {".v[0]": 1, ".v[1]": 2}),
        (pa.array([{"v": [1]}]), {".v[0]": 1}),
        (pa.array([True, False]), {"[0]": 1, "[1]": 0}),
        (pa.array([decimal.Decimal("1.25")]), {"": 1.25}),
        (pa.array([NOON]), {"": NOON.timestamp()}),
        (pa.array([NOON], pa.timestamp("s")), {"": NOON.timestamp()}),
        (pa.array([datetime.timedelta(milliseconds=1500)]), {"": 1.5}),
        (pa.array([datetime.date(1970, 1, 3)]), {"": 172_800}),
        (pa.array([datetime.date(1970, 1, 3)], pa.date64()), {"": 172_800}),
        (pa.array([datetime.time(0, 1)], pa.time32("ms")), {"": 60}),
        (pa.array([2, 2, 5]).dictionary_encode(), {"[0]": 2, "[1]": 2, "[2]": 5}),
        (pc.run_end_encode(pa.array([2, 2])), {"[0]": 2, "[1]": 2}),
        (_extension(pa.array([4])), {"": 4}),
        (pa.array([2**63], pa.uint64()), {"": 2.0**63}),
        (pa.array([], pa.float64()), {}),
        (pa.array([[]], pa.list_(pa.float64())), {}),
        (pa.array([], pa.struct([("x", pa.int8())])), {}),
    ],
)
def test_the_series_of_a_message(value: pa.Array[Any], expected: dict[str, float]) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pa.array([None, 2.0]), [NAN, 2]),
        (pa.array([None, 2]), [NAN, 2]),
        (pa.array([None, True]), [NAN, 1]),
        (pa.array([None, decimal.Decimal(1)]), [NAN, 1]),
        (pa.array([None, datetime.timedelta(seconds=1)]), [NAN, 1]),
        (pa.array([None, 3]).dictionary_encode(), [NAN, 3]),
        (pa.nulls(2), []),
        (pa.array([{"x": None, "y": None, "z": 1}]), [1]),
        (pa.array([math.inf, -math.inf]), [math.inf, -math.inf]),
        (pa.array([{"x": None, "y": 1.0}, {"x": 2, "y": 1.0}]), [NAN, 1, 2, 1]),
        (
            pa.array([{"x": None, "y": 1.0}], pa.struct({"x": pa.int8(), "y": pa.float32()})),
            [NAN, 1],
        ),
        (pa.array([None], pa.struct({"x": pa.int8(), "y": pa.float32()})), [NAN, NAN]),
        (pa.array([None, {"x": 1}]), [NAN, 1]),
        (pa.array([None], pa.struct([("x", pa.struct([("y", pa.int8())]))])), [NAN]),
        (pa.array([None], pa.list_(pa.int8())), []),
    ],
)
def test_null_is_nan(value: pa.Array[Any], expected: list[float]) -> None:
    np.testing.assert_array_equal(list(read(value).values()), expected)


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        (pa.array([1, 2, 3]), (1,), {"": 2}),
        (pa.array([1, 2, 3]), (-1,), {"": 3}),
        (pa.array([4]), (0,), {"": 4}),
        (pa.array([[1, 2, 3]]), (1,), {"": 2}),
        (pa.array([[1, 2], [3, 4]]), (1,), {"[0]": 3, "[1]": 4}),
        (pa.array([[1, 2], [3, 4]]), (1, 0), {"": 3}),
        (pa.array([POSE]), ("pose", "x"), {"": 1}),
        (pa.array([POSE]), ("pose",), {".x": 1, ".y": 2}),
        (pa.array([{"x": 1}, {"x": 2}]), ("x",), {"[0]": 1, "[1]": 2}),
        (pa.array([{"x": 1}, {"x": 2}]), (1, "x"), {"": 2}),
        (pa.array([[{"x": 1}, {"x": 2}]]), (1, "x"), {"": 2}),
        (pa.array([{"d": [{"e": 1}, {"e": 2}]}]), ("d", 1, "e"), {"": 2}),
    ],
)
def test_a_field_selects_a_part(
    value: pa.Array[Any], field: Field, expected: dict[str, float]
) -> None:
    assert read(value, field) == expected


MIXED = pa.struct([("x", pa.float64()), ("label", pa.string())])


@pytest.mark.parametrize(
    ("value", "field", "error"),
    [
        (pa.array(["go"]), (), "cannot plot sim/pose: it holds text (string), and a plot needs numbers."),
        (pa.array([], pa.string()), (), "it holds text (string)"),
        (pa.array([["go"]]), (), "it holds text (string)"),
        (pa.array(["a", "a"]).dictionary_encode(), (), "it holds text (string)"),
        (pa.array([b"raw"]), (), "it holds bytes (binary)"),
        (pa.array([{"label": "a"}]), (), "it holds text (string)"),
        (pa.array([{}], pa.struct([])), (), "it holds a struct without fields"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), (), "it holds map<string, int8>"),
        (pa.array([{"x": 1.0, "label": "a"}], MIXED), ("label",), "it holds text (string)"),
        (pa.array([{"x": 1.0, "label": "a"}], MIXED), ("lable",), "no field '.lable': the message has .x, .label. Did you mean '.label'?"),
        (pa.array([POSE]), ("pose", "z"), "no field '.z': .pose has .x, .y."),
        (pa.array([1.0]), ("x",), "no field '.x': the message holds double."),
        (pa.array(["a"]), ("x",), "no field '.x': the message holds text (string)."),
        (pa.array(range(10_000)), (), "a message has 10,000 numbers, and a plot shows at most 64 of a topic. Name one of them, as in 'NODE/OUTPUT[0]'."),
        (pa.array([list(range(65))]), (), "a message has 65 numbers"),
        (pa.array([{"x": 1}] * 65), (), "a message has 65 numbers"),
        (pa.array([{f"f{i}": 1 for i in range(10_000)}]), (), "a message has 10,000 numbers"),
        (pa.array([{"a": True, **{f"f{i}": 1 for i in range(10_000)}}]), (), "a message has 65 numbers"),
        ([1.0], (), "its value is list, not an Arrow array. Send pa.array(...)."),
        (None, (), "its value is NoneType, not an Arrow array"),
    ],
)  # fmt: skip
def test_what_cannot_be_plotted_is_one_clear_line(value: object, field: Field, error: str) -> None:
    with pytest.raises(MessageError) as raised:
        NumberReader("sim/pose", field).read(event(value))
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 250


def test_a_picture_is_refused_with_the_view_that_shows_it() -> None:
    pixels = pa.array(np.zeros(640 * 480 * 3, np.uint8))
    with pytest.raises(MessageError, match=r"921,600 numbers.*show it with CameraView"):
        NumberReader("camera/image").read(event(pixels, width=640, height=480, encoding="bgr8"))
    pixel = NumberReader("camera/image", (7,)).read(event(pixels, width=640, height=480))
    assert pixel.values.tolist() == [0]


def test_a_message_that_is_too_short_is_told_apart() -> None:
    for value in (pa.array([1, 2]), pa.array([[1, 2]]), pa.array([], pa.int8())):
        with pytest.raises(MissingElementError, match=r"no element \[2\]: the message has"):
            NumberReader("imu/accel", (2,)).read(event(value))
    with pytest.raises(MissingElementError):
        NumberReader("imu/accel", (0, "x")).read(event(pa.nulls(1)))


def test_a_list_that_shrinks_to_one_row_keeps_its_names() -> None:
    reader = NumberReader("radar/ranges")
    for value, suffixes in (
        (pa.array([1.0]), [""]),
        (pa.array([1.0, 2.0]), ["[0]", "[1]"]),
        (pa.array([1.0]), ["[0]"]),
        (pa.array([], pa.float64()), []),
        (pa.array([True]), [""]),
    ):
        assert [key.suffix for key in reader.read(event(value)).keys] == suffixes
    reader = NumberReader("radar/ranges")
    reader.read(event(pa.array([1.0])))
    with pytest.raises(MessageError):
        reader.read(event(pa.array(range(10_000))))
    reader.read(event(pa.nulls(2)))
    assert [key.suffix for key in reader.read(event(pa.array([1.0]))).keys] == [""]
    reader = NumberReader("radar/objects")
    reader.read(event(pa.array([{"x": 1}, {"x": 2}])))
    assert [key.suffix for key in reader.read(event(pa.array([{"x": 1}]))).keys] == ["[0].x"]
    longer = pa.array([{"x": 1, "y": 2}])
    assert [key.suffix for key in reader.read(event(longer)).keys] == ["[0].x", "[0].y"]


def test_booleans_are_steps_and_times_have_a_unit() -> None:
    reader = NumberReader("sim/state")
    keys, _ = reader.read(event(pa.array([{"on": True, "x": 1.0, "at": NOON}])))
    assert keys == (SeriesKey(".on", True), SeriesKey(".x"), SeriesKey(".at", False, "s"))


def test_messages_of_one_form_share_their_keys() -> None:
    for value in (pa.array([1, 2]), pa.array([POSE]), pa.array([{"x": 1}]), pa.array([True])):
        reader = NumberReader("sim/pose")
        assert reader.read(event(value)).keys is reader.read(event(value)).keys


@pytest.mark.parametrize(
    ("metadata", "unit"),
    [
        ({"unit": "m/s²"}, "m/s²"),
        ({"unit": " rad "}, "rad"),
        ({"unit": "x" * 50}, "x" * 23 + "…"),
        ({"unit": ""}, None),
        ({"unit": 3}, None),
        ({}, None),
    ],
)
def test_the_unit_is_a_short_text(metadata: dict[str, Any], unit: str | None) -> None:
    assert unit_of(event(pa.array([1]), **metadata)) == unit
    assert unit_of({"type": "INPUT", "metadata": None}) is None


PLAIN = st.one_of(
    st.none(),
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.datetimes(),
)
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text("xy.[", max_size=2), inner, max_size=3),
    ),
    max_leaves=8,
)
FIELDS = st.lists(st.sampled_from(["x", "y", "", 0, 1, -1]), max_size=3).map(tuple)


@given(st.lists(NESTED, max_size=3), FIELDS)
def test_any_array_is_read_or_refused(values: list[Any], field: Field) -> None:
    try:
        array = pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError):
        return  # Arrow cannot mix these
    try:
        keys, numbers = NumberReader("sim/pose", field).read(event(array))
    except (MessageError, UnreadableError):
        return
    assert len(keys) == len(numbers) <= MAX_SERIES
