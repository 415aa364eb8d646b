"""`read_points`: the points of a message, and the lines between them, for a view that draws them on a picture.

=========  =======================================================================================
array      read as
=========  =======================================================================================
struct     the fields ``x`` and ``y``, and ``score`` (or ``conf``, ``confidence``) if there is one
lists      [x, y] or [x, y, score] in each row
flat       ``shape`` in the metadata says N x 2 or N x 3, or M x K x 2 or M x K x 3: K points of each
           of M objects. Without it, N x 3 if each third number can be a score from 0 to 1, else N x 2
=========  =======================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import MessageError

from .arrow import (
    Event,
    UnreadableError,
    checked_array,
    describe_value,
    event_name,
    is_list,
    is_number,
    joined_lists,
    metadata_of,
)

MAX_POINTS = 10_000
MAX_BONES = 1000
"""Pairs of one object's skeleton."""
_SCORES = ("score", "conf", "confidence")

Skeleton = Sequence[tuple[int, int]]
"""Pairs of places: the points that a line joins."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The points of one message."""

    values: npt.NDArray[np.float32]
    """(N, 3): x, y in pixels (NaN: left out), score (NaN if unknown)."""
    per_object: int
    """Points of each object; N if they are all of one."""
    skeleton: Skeleton = ()
    """For each object."""
    num_bad: int = 0
    """Points that were left out, because they cannot be drawn."""

    def __len__(self) -> int:
        return len(self.values)


def read_points(event: Event, skeleton: Skeleton | None = None) -> Points:
    """Returns the points of a message.

    `skeleton` is used for messages without that metadata, which is a flat list of pairs. Raises
    MessageError if the message has none of the forms above; the text says what it holds.
    """
    metadata = metadata_of(event)
    try:
        value = checked_array(event, nulls_allowed=True)  # a null is one bad point
        values, per_object = _values(value, metadata)
        bones = _skeleton(metadata, skeleton)
        bad = ~np.isfinite(values[:, :2]).all(axis=1)
        if len(values) and bad.all():
            raise UnreadableError("its values are null or not finite")
    except UnreadableError as error:
        raise MessageError(
            f"cannot read {event_name(event)} as points: {error.problem}; got {describe_value(event)}.",
            hint=error.hint or "Points are N x 2 or N x 3 numbers (x, y, score).",
        ) from None
    values[bad] = np.nan
    with np.errstate(invalid="ignore"):
        values[~((values[:, 2] >= 0) & (values[:, 2] <= 1)), 2] = np.nan
    return Points(values, per_object, bones, int(bad.sum()))


def _values(
    value: pa.Array[Any], metadata: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float32], int]:
    """Returns the rows, and how many of them belong to one object."""
    if len(value) == 0:
        return np.empty((0, 3), np.float32), 0
    if pa.types.is_struct(value.type):
        rows = rows_of_fields(value, ("x",), ("y",), _SCORES)
        return rows, len(rows)
    if is_list(value.type):
        rows = rows_of_lists(value, (2, 3))
        return _with_score(rows), len(rows)
    flat = as_float32(value)
    shape = shape_of(metadata, len(flat))
    if shape is not None:
        if len(shape) not in (2, 3) or shape[-1] not in (2, 3):
            raise UnreadableError(f"its shape {list(shape)} is not N x 2 or N x 3")
        rows = flat.reshape(-1, shape[-1])
        check_count(len(rows))
        return _with_score(rows), shape[1] if len(shape) == 3 else len(rows)
    thirds = flat[2::3]
    if len(flat) % 3 == 0 and bool(((thirds >= 0) & (thirds <= 1)).all()):
        rows = flat.reshape(-1, 3)
    elif len(flat) % 2 == 0:
        rows = flat.reshape(-1, 2)
    else:
        raise UnreadableError(
            f"{len(flat)} values are not N x 2, nor N x 3 with scores from 0 to 1",
            "Send metadata shape=[N, 2] or shape=[N, 3].",
        )
    check_count(len(rows))
    return _with_score(rows), len(rows)


def _with_score(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if rows.shape[1] == 3:
        return rows.copy()
    return np.hstack([rows, np.full((len(rows), 1), np.nan, np.float32)])


def _skeleton(metadata: Mapping[str, Any], given: Skeleton | None) -> Skeleton:
    told = metadata.get("skeleton")
    if told is None:
        return given or ()
    is_sound = (
        isinstance(told, Sequence)
        and not isinstance(told, str | bytes)
        and len(told) % 2 == 0
        and len(told) <= 2 * MAX_BONES
        and all(isinstance(each, int) and each >= 0 for each in told)
    )
    if not is_sound:
        raise UnreadableError(
            "its skeleton is not a flat list of pairs",
            "Send metadata skeleton=[0, 1, 1, 2] for lines from point 0 to 1 and from 1 to 2.",
        )
    return list(zip(told[::2], told[1::2], strict=True))


# ----- shared with tracks


def rows_of_fields(
    value: pa.Array[Any], *columns: Sequence[str], optional_last: bool = True
) -> npt.NDArray[np.float32]:
    """Returns the first known field of each column; NaN for the last one if the struct lacks it."""
    known = [field.name for field in value.type]
    check_count(len(value))
    found = []
    for place, names in enumerate(columns):
        name = next((each for each in names if each in known), None)
        if name is None and optional_last and place == len(columns) - 1:
            found.append(np.full(len(value), np.nan, np.float32))
        elif name is None:
            fields = ", ".join(known) or "nothing"
            raise UnreadableError(f"its struct has no field '{names[0]}' (fields: {fields})")
        else:
            column: pa.Array[Any] = value.field(name)  # type: ignore[attr-defined]  # a struct array has it
            found.append(as_float32(column, f"its '{name}' values"))
    return np.stack(found, axis=1)


def rows_of_lists(value: pa.Array[Any], lengths: Sequence[int]) -> npt.NDArray[np.float32]:
    """Returns the lists as rows; a list of another length, or null, is a row of NaN."""
    check_count(len(value))
    flat = as_float32(joined_lists(value))
    counts: pa.Array[Any] = value.value_lengths()  # type: ignore[attr-defined]  # lists have it
    sizes = np.nan_to_num(counts.to_numpy(zero_copy_only=False)).astype(np.int64)
    columns = max((size for size in sizes.tolist() if size in lengths), default=0)
    if not columns:
        wanted = " or ".join(map(str, lengths))
        raise UnreadableError(f"its lists do not have {wanted} values each")
    starts = np.cumsum(sizes) - sizes
    rows = np.full((len(value), columns), np.nan, np.float32)
    for size in lengths:
        places = np.flatnonzero(sizes == size)
        if len(places):
            rows[places[:, None], np.arange(size)] = flat[starts[places][:, None] + np.arange(size)]
    return rows


def as_float32(value: pa.Array[Any], what: str = "its values") -> npt.NDArray[np.float32]:
    """Returns the numbers, NaN for null."""
    if not is_number(value.type):
        raise UnreadableError(f"{what} are {value.type}, not numbers")
    numbers = value.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is left out
        converted: npt.NDArray[np.float32] = numbers.astype(np.float32)
    return converted


def shape_of(metadata: Mapping[str, Any], length: int) -> tuple[int, ...] | None:
    """Returns the metadata's ``shape``; None without one, or if it does not belong to this array."""
    shape = metadata.get("shape")
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        return None
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in shape):
        return None
    return tuple(shape) if math.prod(shape) == length else None


def check_count(count: int) -> None:
    if count > MAX_POINTS:
        raise UnreadableError(f"{count} points are more than the limit of {MAX_POINTS}")
