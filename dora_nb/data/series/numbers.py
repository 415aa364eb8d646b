"""Reads the numbers of a message, each with the name of the series that it belongs to.

========================  ==========================================================================
the message holds         series
========================  ==========================================================================
one number                one, named after the topic
several, or a list        one for each element: ``[0]``, ``[1]``
a struct                  one for each field: ``.x``, ``.pose.y``; fields with text are left out
rows of structs or lists  ``[0].x``, ``[1].x``; a message of one row is that row, without an index
booleans                  0 and 1, drawn as steps
decimals                  as floats
times, dates, durations   seconds (since 1970, or since midnight), unit s
null, NaN, ±inf           a gap; what has Arrow's type null has no series
text, bytes, maps         refused, with what the message holds
========================  ==========================================================================

Dictionary-encoded and run-end-encoded arrays are read as the values that they stand for.
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dora_nb.data.arrow import Event, UnreadableError, metadata_of
from dora_nb.data.images import could_be_image
from dora_nb.errors import MessageError, nearest
from dora_nb.graph.topic_paths import Field, field_text

MAX_SERIES = 64
"""Of one topic. More lines than that can neither be told apart nor drawn in time."""
_MAX_UNIT_CHARS = 24
_MAX_TYPE_CHARS = 60
_SECS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SECS_PER_DAY = 86_400.0


class SeriesKey(NamedTuple):
    """What tells the series of one topic path apart. A topic whose type changes gets other series."""

    suffix: str
    """What follows the path: ``[0]``, ``.pose.x``; empty for a single number."""
    is_step: bool = False
    """Whether its values are booleans, which hold until the next one."""
    unit: str | None = None
    """``s`` for times. The unit in the metadata comes before it."""


class Reading(NamedTuple):
    """The numbers of one message."""

    keys: tuple[SeriesKey, ...]
    """The same object as long as the form of the messages is the same."""
    values: npt.NDArray[Any]
    """(N,) numbers, one for each key; they may lie in the sender's memory, so copy them at once."""


class _Kind(enum.Enum):
    NUMBER = enum.auto()
    BOOLEAN = enum.auto()
    DECIMAL = enum.auto()
    TIME = enum.auto()
    NULL = enum.auto()
    STRUCT = enum.auto()
    LIST = enum.auto()
    ENCODED = enum.auto()
    TEXT = enum.auto()
    BYTES = enum.auto()


_TYPE_NAMES = {
    _Kind.NUMBER: "INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 HALF_FLOAT FLOAT DOUBLE",
    _Kind.BOOLEAN: "BOOL",
    _Kind.DECIMAL: "DECIMAL32 DECIMAL64 DECIMAL128 DECIMAL256",
    _Kind.TIME: "TIMESTAMP DURATION DATE32 DATE64 TIME32 TIME64",
    _Kind.NULL: "NA",
    _Kind.STRUCT: "STRUCT",
    _Kind.LIST: "LIST LARGE_LIST FIXED_SIZE_LIST LIST_VIEW LARGE_LIST_VIEW",
    _Kind.ENCODED: "DICTIONARY RUN_END_ENCODED",
    _Kind.TEXT: "STRING LARGE_STRING STRING_VIEW",
    _Kind.BYTES: "BINARY LARGE_BINARY BINARY_VIEW FIXED_SIZE_BINARY",
}
# By `DataType.id`, which costs a tenth of a `pa.types.is_…` call. Older releases lack some types.
_KINDS = {
    getattr(pa.lib, f"Type_{name}"): kind
    for kind, names in _TYPE_NAMES.items()
    for name in names.split()
    if hasattr(pa.lib, f"Type_{name}")
}


class MissingElementError(UnreadableError):
    """This message is too short for the path. Others may be long enough."""


class NumberReader:
    """Reads the messages of one topic path. It remembers the form of the last message, which is usually the next.

    Example::

        >>> reader = NumberReader("imu/accel")
        >>> keys, values = reader.read({"type": "INPUT", "value": pa.array([0.1, 9.8])})
        >>> [key.suffix for key in keys], values.tolist()
        (['[0]', '[1]'], [0.1, 9.8])
    """

    def __init__(self, path: str, field: Field = ()) -> None:
        self.path = path
        """The topic with the field, for texts."""
        self.has_rows = False
        """Whether a message had several rows. From then on a message of one row also has the suffix ``[0]``,
        so that a list of detections keeps its series when it has one element for a while."""
        self.gained_rows = False
        """Whether the newest message was the first with several rows, after others of its type."""
        self._field = field
        self._kind: _Kind | None = None
        self._flat_keys: dict[tuple[int, bool], tuple[SeriesKey, ...]] = {}
        self._newest_keys: tuple[SeriesKey, ...] = ()
        self._struct: tuple[pa.DataType, bool, tuple[SeriesKey, ...]] | None = None
        """The newest struct type, whether its keys have ``[0]``, and the keys; none if it must be walked."""

    def read(self, event: Event) -> Reading:
        """Returns the numbers of a message; none for an empty one.

        Raises MessageError if it holds something else, if it has no such field, or if it has more than
        `MAX_SERIES` numbers. A message that is only too short raises MissingElementError.
        """
        self.gained_rows = False
        value = event.get("value")
        try:
            if not isinstance(value, pa.Array):
                raise UnreadableError(
                    f"its value is {type(value).__name__}, not an Arrow array",
                    "Send pa.array(...).",
                )
            return self._read(value)
        except MissingElementError:
            raise
        except UnreadableError as error:
            hint = error.hint
            if not self._field and could_be_image(event):
                hint = "It looks like a picture: show it with CameraView."
            raise MessageError(f"cannot plot {self.path}: {error.problem}.", hint=hint) from None

    def _read(self, value: pa.Array[Any]) -> Reading:
        array = _select(value, self._field) if self._field else _decoded(value)
        kind = _KINDS.get(array.type.id)
        count = len(array)
        if kind is _Kind.NULL:
            return Reading((), np.empty(0))
        is_same_kind = kind is self._kind
        has_rows = count > 1 or (self.has_rows and is_same_kind)
        if kind is _Kind.NUMBER:
            # The commonest message by far: no walk, and keys that were made before.
            _check_count(count)
            keys = self._keys_of_flat(count, has_rows=has_rows)
            numbers: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
        elif count == 1 and (plain := self._keys_of_plain_struct(array, has_rows=has_rows)):
            # The next commonest, a pose: half of the cost of a walk.
            keys = plain
            cells = [array.field(place)[0].as_py() for place in range(len(keys))]  # type: ignore[attr-defined]
            numbers = np.array(cells, np.float64)
        else:
            walk = _Walk()
            if count == 1 and has_rows:
                walk.add_row(array, "[0]")
            else:
                walk.add(array, "")
            numbers = walk.numbers()
            keys = tuple(walk.keys)
            if keys == self._newest_keys:
                keys = self._newest_keys
            self._newest_keys = keys
        # Only now: a message that was refused changes nothing.
        self.gained_rows = has_rows and is_same_kind and not self.has_rows
        self._kind, self.has_rows = kind, has_rows
        return Reading(keys, numbers)

    def _keys_of_flat(self, count: int, *, has_rows: bool) -> tuple[SeriesKey, ...]:
        keys = self._flat_keys.get((count, has_rows))
        if keys is None:
            suffixes = [f"[{place}]" for place in range(count)] if has_rows else [""] * count
            keys = tuple(SeriesKey(suffix) for suffix in suffixes)
            self._flat_keys[count, has_rows] = keys
        return keys

    def _keys_of_plain_struct(
        self, array: pa.Array[Any], *, has_rows: bool
    ) -> tuple[SeriesKey, ...]:
        """Returns the keys of a struct of which every field is a number; none for any other array."""
        if not isinstance(array, pa.StructArray) or array.null_count:
            return ()
        if self._struct is None or self._struct[:2] != (array.type, has_rows):
            fields = [array.type.field(place) for place in range(array.type.num_fields)]
            keys: tuple[SeriesKey, ...] = ()
            if all(_KINDS.get(field.type.id) is _Kind.NUMBER for field in fields):
                _check_count(len(fields))
                begin = "[0]." if has_rows else "."
                keys = tuple(SeriesKey(f"{begin}{field.name}") for field in fields)
            self._struct = (array.type, has_rows, keys)
        return self._struct[2]


class _Walk:
    """Collects the numbers of one array, whatever it is nested in."""

    def __init__(self) -> None:
        self.keys: list[SeriesKey] = []
        self._values: list[npt.NDArray[np.float64]] = []
        self._found_numbers = False
        self._other: str | None = None

    def numbers(self) -> npt.NDArray[np.float64]:
        """Returns the values of all keys. Raises UnreadableError if the type has no numbers at all."""
        if not self._found_numbers:
            raise UnreadableError(
                f"it holds {self._other or 'a struct without fields'}, and a plot needs numbers"
            )
        return np.concatenate(self._values) if self._values else np.empty(0)

    def add(self, array: pa.Array[Any], suffix: str) -> None:
        """Adds an array of any length. Several rows get an index each; one row does not."""
        array = _decoded(array)
        kind = _KINDS.get(array.type.id)
        if kind in (_Kind.STRUCT, _Kind.LIST) and len(array) > 1:
            _check_count(len(array))
            for place in range(len(array)):
                self.add_row(array.slice(place, 1), f"{suffix}[{place}]")
        elif len(array) > 1:
            self._add_leaf(array, kind, suffix, indexed=True)
        else:
            self.add_row(array, suffix)

    def add_row(self, array: pa.Array[Any], suffix: str) -> None:
        """Adds an array of one row or none, under exactly this suffix."""
        array = _decoded(array)
        kind = _KINDS.get(array.type.id)
        if kind is _Kind.STRUCT:
            fields = _fields_of(array)
            for place, child in enumerate(fields):
                self.add_row(child, f"{suffix}.{array.type.field(place).name}")
        elif kind is _Kind.LIST:
            self._add_elements(_decoded(_elements(array)), suffix)
        else:
            self._add_leaf(array, kind, suffix, indexed=False)

    def _add_elements(self, elements: pa.Array[Any], suffix: str) -> None:
        """Adds the elements of one list. They have an index even if there is only one."""
        kind = _KINDS.get(elements.type.id)
        _check_count(len(elements))
        if kind not in (_Kind.STRUCT, _Kind.LIST):
            self._add_leaf(elements, kind, suffix, indexed=True)
            return
        for place in range(max(1, len(elements))):  # of an empty list the type is still looked at
            self.add_row(elements.slice(place, 1), f"{suffix}[{place}]")

    def _add_leaf(
        self, array: pa.Array[Any], kind: _Kind | None, suffix: str, *, indexed: bool
    ) -> None:
        if kind in (_Kind.TEXT, _Kind.BYTES, None):
            self._other = self._other or _type_in_words(array.type, kind)
            return
        self._found_numbers = True
        if kind is _Kind.NULL:
            return  # its type is unknown, so it must not begin a series
        _check_count(len(self.keys) + len(array))
        self._values.append(_as_floats(array, kind))
        is_step = kind is _Kind.BOOLEAN
        unit = "s" if kind is _Kind.TIME else None
        for place in range(len(array)):
            name = f"{suffix}[{place}]" if indexed else suffix
            self.keys.append(SeriesKey(name, is_step, unit))


def unit_of(event: Event) -> str | None:
    """Returns the metadata's ``unit`` if it is a text, shortened to `_MAX_UNIT_CHARS`; else None."""
    unit = metadata_of(event).get("unit")
    if not isinstance(unit, str) or not unit.strip():
        return None
    unit = unit.strip()
    return unit if len(unit) <= _MAX_UNIT_CHARS else f"{unit[: _MAX_UNIT_CHARS - 1]}…"


def _check_count(count: int) -> None:
    if count > MAX_SERIES:
        raise UnreadableError(
            f"a message has {count:,} numbers, and a plot shows at most {MAX_SERIES} of a topic",
            "Name one of them, as in 'NODE/OUTPUT[0]'.",
        )


def _type_in_words(arrow_type: pa.DataType, kind: _Kind | None) -> str:
    name = str(arrow_type)
    if len(name) > _MAX_TYPE_CHARS:
        name = f"{name[:_MAX_TYPE_CHARS]}…"
    words = {_Kind.TEXT: f"text ({name})", _Kind.BYTES: f"bytes ({name})"}
    return name if kind is None else words[kind]


def _decoded(array: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the values that an encoded or an extension array stands for; others unchanged."""
    while _KINDS.get(array.type.id, _Kind.ENCODED) is _Kind.ENCODED:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        elif isinstance(array, pa.RunEndEncodedArray):
            array = pc.run_end_decode(array)  # type: ignore[attr-defined]  # not in the stubs
        else:
            break  # a type that cannot be plotted
    return array


def _fields_of(array: pa.Array[Any]) -> list[pa.Array[Any]]:
    """Returns the children of a struct array. What is null in the struct is null in each of them."""
    assert isinstance(array, pa.StructArray)
    if array.null_count:
        return array.flatten()
    return [array.field(place) for place in range(array.type.num_fields)]


def _elements(array: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the elements of a list array of one row or none; none of a list that is null."""
    found: pa.Array[Any] = array.flatten()  # type: ignore[attr-defined]  # every list array has it
    return found


def _as_floats(array: pa.Array[Any], kind: _Kind | None) -> npt.NDArray[np.float64]:
    """Returns the values as float64, NaN for null."""
    scale = 1.0
    if kind is _Kind.BOOLEAN:
        array = array.cast(pa.uint8())
    elif kind is _Kind.DECIMAL:
        array = array.cast(pa.float64())
    elif kind is _Kind.TIME:
        scale = _secs_per_count(array.type)
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values.astype(np.float64) * scale if scale != 1.0 else values.astype(np.float64)


def _secs_per_count(arrow_type: pa.DataType) -> float:
    if pa.types.is_date32(arrow_type):
        return _SECS_PER_DAY
    if pa.types.is_date64(arrow_type):
        return 1e-3
    return _SECS_PER_UNIT[arrow_type.unit]  # type: ignore[attr-defined]  # timestamps, times, durations


# ----- the field of a path


def _select(array: pa.Array[Any], field: Field) -> pa.Array[Any]:
    """Returns the part of a message that the field names."""
    array = _decoded(array)
    for place, step in enumerate(field):
        if _KINDS.get(array.type.id) is _Kind.LIST and len(array) == 1:
            array = _decoded(_elements(array))
        if _KINDS.get(array.type.id) is _Kind.NULL:
            raise MissingElementError("the message holds null")
        if isinstance(step, int):
            array = _element(array, step, field[:place])
        else:
            array = _decoded(_field(array, step, field[:place]))
    return array


def _element(array: pa.Array[Any], step: int, before: Field) -> pa.Array[Any]:
    count = len(array)
    if not -count <= step < count:
        where = field_text(before) or "the message"
        values = "1 value" if count == 1 else f"{count:,} values"
        raise MissingElementError(f"there is no element [{step}]: {where} has {values}")
    return array.slice(step % count, 1)


def _field(array: pa.Array[Any], name: str, before: Field) -> pa.Array[Any]:
    if not isinstance(array, pa.StructArray):
        kind = _KINDS.get(array.type.id)
        is_text = kind in (_Kind.TEXT, _Kind.BYTES)
        holds = _type_in_words(array.type, kind if is_text else None)
        where = field_text(before) or "the message"
        raise UnreadableError(f"there is no field '.{name}': {where} holds {holds}")
    names = [array.type.field(place).name for place in range(array.type.num_fields)]
    if name not in names:
        near = nearest(name, names)
        shown = ", ".join(f".{each}" for each in names[:10]) + (", …" if names[10:] else "")
        where = field_text(before) or "the message"
        hint = None if near is None else f"Did you mean '{field_text((*before, near))}'?"
        raise UnreadableError(f"there is no field '.{name}': {where} has {shown or 'none'}", hint)
    child: pa.Array[Any] = _fields_of(array)[names.index(name)]
    return child
