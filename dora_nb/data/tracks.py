"""`read_tracks`: where the objects of a message are, with the numbers that stay with them.

Boxes with a track (dora-hub's struct with a field ``track_id`` or ``id``, or N x 7 numbers, as
`dora_nb.data.box_arrays` lists them) stand for their centres. Others are N x 3 numbers [id, x, y]: a struct
with the fields ``id``, ``x`` and ``y``, lists, or a flat array.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    metadata_of,
)
from .boxes import Labels, labelled_boxes
from .points import as_float32, check_count, rows_of_fields, rows_of_lists, shape_of

_IDS = ("track_id", "id", "track_ids", "ids")
_MAX_ID = 2**24
"""Above it float32 does not tell whole numbers apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Where the objects of one message are."""

    ids: npt.NDArray[np.int64]
    """N numbers."""
    places: npt.NDArray[np.float32]
    """(N, 2): x, y in pixels."""
    labels: tuple[str, ...]
    """N texts, empty for objects without one. A page must never treat them as markup."""
    num_bad: int = 0
    """Objects that were left out, because they have no id or no place."""

    def __len__(self) -> int:
        return len(self.ids)


def read_tracks(event: Event, labels: Labels | None = None) -> Tracks:
    """Returns the objects of a message. Raises MessageError if they have no ids or no places."""
    try:
        value = checked_array(event, nulls_allowed=True)
        metadata = metadata_of(event)
        rows = _rows(value, metadata)
        return _of_boxes(value, metadata, labels) if rows is None else _of_rows(rows)
    except UnreadableError as error:
        raise MessageError(
            f"cannot read {event_name(event)} as tracks: {error.problem}; got {describe_value(event)}.",
            hint=error.hint
            or "Tracks are boxes with a field track_id, or N x 3 numbers (id, x, y).",
        ) from None


def _rows(value: pa.Array[Any], metadata: Mapping[str, Any]) -> npt.NDArray[np.float32] | None:
    """Returns the rows [id, x, y]; None for what can only be boxes."""
    if len(value) == 0:
        return np.empty((0, 3), np.float32)
    if pa.types.is_struct(value.type):
        if not {"x", "y"} <= {field.name for field in value.type}:
            return None
        return rows_of_fields(value, _IDS, ("x",), ("y",), optional_last=False)
    if is_list(value.type):
        lengths: pa.Array[Any] = value.value_lengths()  # type: ignore[attr-defined]  # lists have it
        return rows_of_lists(value, (3,)) if 3 in lengths.to_pylist() else None
    flat = as_float32(value)
    shape = shape_of(metadata, len(flat))
    is_3 = shape[-1] == 3 if shape else len(flat) % 3 == 0 and _has_ids(flat) and len(flat) % 7 != 0
    if not is_3:
        return None
    check_count(len(flat) // 3)
    return flat.reshape(-1, 3)


def _has_ids(flat: npt.NDArray[np.float32]) -> bool:
    ids = flat[::3]
    return bool((ids == np.floor(ids)).all())


def _of_rows(rows: npt.NDArray[np.float32]) -> Tracks:
    ids = rows[:, 0]
    with np.errstate(invalid="ignore"):
        good = np.isfinite(rows).all(axis=1) & (ids >= 0) & (ids < _MAX_ID) & (ids == np.floor(ids))
    if len(rows) and not good.any():
        raise UnreadableError("its ids are not whole numbers from 0, or its values are not finite")
    kept = rows[good]
    return Tracks(
        kept[:, 0].astype(np.int64), kept[:, 1:].copy(), ("",) * len(kept), int((~good).sum())
    )


def _of_boxes(value: pa.Array[Any], metadata: Mapping[str, Any], labels: Labels | None) -> Tracks:
    boxes = labelled_boxes(value, metadata, labels)
    if boxes.tracks is None:
        raise UnreadableError("its boxes have no track ids", "Send a field track_id with each box.")
    good = boxes.tracks >= 0
    if len(boxes) and not good.any():
        raise UnreadableError("its boxes have no track ids", "Send a field track_id with each box.")
    corners = boxes.values[good]
    return Tracks(
        boxes.tracks[good],
        ((corners[:, :2] + corners[:, 2:4]) / 2).astype(np.float32),
        tuple(boxes.labels[at] for at in np.flatnonzero(good)),
        boxes.num_bad + int((~good).sum()),
    )
