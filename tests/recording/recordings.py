"""Recordings for tests, and strategies for what may be in them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from dora_nb.recording import RecordingWriter

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND


def record(
    path: Path, messages: Iterable[tuple[str, pa.Array[Any], dict[str, Any]]], **options: Any
) -> Path:
    """Writes messages, one each millisecond, and closes the file."""
    with RecordingWriter(path, **options) as writer:
        for at, (topic, value, metadata) in enumerate(messages):
            nanos = BEGIN + at * SECOND // 1000
            writer.write(topic, value, metadata, publish_nanos=nanos, log_nanos=nanos)
    return path


def same(first: pa.Array[Any], second: pa.Array[Any]) -> bool:
    """Whether two arrays have equal types and values, where NaN equals NaN."""
    if not first.type.equals(second.type, check_metadata=True) or len(first) != len(second):
        return False
    return first.equals(second) or repr(first.to_pylist()) == repr(second.to_pylist())


# ----- any Arrow array

_NAMES = st.text(max_size=5)
_FLAT: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.null(), st.none()),
    (pa.bool_(), st.booleans()),
    *(
        (kind, st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1))
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    ),
    *(
        (kind, st.integers(0, 2**kind.bit_width - 1))
        for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    ),
    (pa.float16(), st.floats(width=16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    *((kind, st.text(max_size=20)) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *(
        (kind, st.binary(max_size=20))
        for kind in (pa.binary(), pa.large_binary(), pa.binary_view())
    ),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.time32("s"), st.times().map(lambda time: time.replace(microsecond=0))),
    (pa.time64("us"), st.times()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(datetime.UTC))),
    (pa.duration("us"), st.timedeltas(datetime.timedelta(-1000), datetime.timedelta(1000))),
    (pa.month_day_nano_interval(), st.tuples(*[st.integers(-1000, 1000)] * 3)),
    (pa.decimal128(10, 2), st.decimals(-100, 100, places=2)),
    (pa.decimal256(40, 2), st.decimals(-100, 100, places=2)),
]


@st.composite
def _flat_arrays(draw: st.DrawFn, size: int) -> pa.Array[Any]:
    kind, values = draw(st.sampled_from(_FLAT))
    return pa.array(draw(st.lists(values | st.none(), min_size=size, max_size=size)), kind)


@st.composite
def _lists(draw: st.DrawFn, size: int) -> pa.Array[Any]:
    lengths = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    items = draw(arrays(sum(lengths)))
    ends = [sum(lengths[:at]) for at in range(size + 1)]
    way = draw(st.sampled_from(["list", "large_list", "map", "fixed", "view"]))
    if way == "large_list":
        return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), items)
    if way == "map":
        keys = pa.array([str(at) for at in range(len(items))])
        return pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, items)
    if way == "fixed":
        return pa.FixedSizeListArray.from_arrays(draw(arrays(2 * size)), 2)
    if way == "view":
        return pa.ListViewArray.from_arrays(
            pa.array(ends[:-1], pa.int32()), pa.array(lengths, pa.int32()), items
        )
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items)


@st.composite
def _structs(draw: st.DrawFn, size: int) -> pa.Array[Any]:
    names = draw(st.lists(_NAMES, min_size=1, max_size=3, unique=True))
    columns = [draw(arrays(size)) for _ in names]
    fields = [
        pa.field(name, column.type, metadata={"unit": "m"})
        for name, column in zip(names, columns, strict=True)
    ]
    mask = pa.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), pa.bool_())
    return pa.StructArray.from_arrays(columns, fields=fields, mask=mask)


@st.composite
def _dictionaries(draw: st.DrawFn, size: int) -> pa.Array[Any]:
    words = pa.array(draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True)))
    places = st.integers(0, len(words) - 1) | st.none()
    indexes = draw(st.lists(places, min_size=size, max_size=size))
    kind = draw(st.sampled_from([pa.int8(), pa.int32(), pa.uint16()]))
    return pa.DictionaryArray.from_arrays(pa.array(indexes, kind), words)


@st.composite
def _unions(draw: st.DrawFn, size: int) -> pa.Array[Any]:
    codes = pa.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)), pa.int8())
    members = [draw(arrays(size)), draw(arrays(size))]
    if draw(st.booleans()):
        return pa.UnionArray.from_sparse(codes, members, ["a", "b"])
    return pa.UnionArray.from_dense(codes, pa.array(range(size), pa.int32()), members, ["a", "b"])


@st.composite
def _runs(draw: st.DrawFn, size: int) -> pa.Array[Any]:
    values = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    return pc.run_end_encode(pa.array(values, pa.int32()))


def arrays(size: int) -> st.SearchStrategy[Any]:
    """Arrays of so many values, of any type that Arrow has."""
    nested = st.deferred(lambda: _lists(size) | _structs(size) | _unions(size))
    return _flat_arrays(size) | _dictionaries(size) | _runs(size) | nested


@st.composite
def messages(draw: st.DrawFn) -> pa.Array[Any]:
    """Arrays, also empty ones and slices of others."""
    size = draw(st.integers(0, 6))
    array = draw(arrays(size))
    start = draw(st.integers(0, size))
    return array.slice(start, draw(st.integers(0, size - start)))


# ----- any metadata

_INTS = st.integers(-(2**63), 2**63 - 1)
_TEXTS = st.text(max_size=20)
METADATA = st.dictionaries(
    _TEXTS,
    st.booleans()
    | _INTS
    | st.floats()
    | _TEXTS
    | st.datetimes(timezones=st.just(datetime.UTC))
    | st.lists(_INTS, max_size=4)
    | st.lists(st.floats(), max_size=4)
    | st.lists(_TEXTS, max_size=4),
    max_size=5,
)


def same_metadata(first: Any, second: Any) -> bool:
    """Whether two values of metadata are equal, with equal types, where NaN equals NaN."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            same_metadata(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same_metadata, first, second))
    if isinstance(first, float) and math.isnan(first):
        return math.isnan(second)
    if isinstance(first, float):
        return first == second and math.copysign(1, first) == math.copysign(1, second)
    return bool(first == second)
