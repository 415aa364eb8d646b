"""`read_mask`: the label image of a message: a class number for each pixel, 0 for none."""

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
    joined_lists,
    metadata_of,
)
from .boxes import Labels, label_of
from .points import shape_of

MAX_KEPT_WIDTH = 640
"""A wider mask is kept at every second, third, … pixel: it is drawn half transparent."""


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A label image."""

    numbers: npt.NDArray[Any]
    """(H, W) whole numbers, a copy; 0 and below mean none. Reduced if the message's is wide."""
    width: int
    """In the message."""
    height: int
    names: object = None
    """Of the numbers: a list or a mapping."""

    def label(self, number: int) -> str:
        """Returns the name of a number, or the number."""
        return label_of(number, self.names)


def read_mask(event: Event, labels: Labels | None = None) -> Mask:
    """Returns the label image of a message: whole numbers or truth values, H x W.

    The size is in the metadata, as ``width`` and ``height`` or as ``shape`` [H, W]; an array of lists has a
    list for each row. A name is the entry of a number in `labels`, or else in the metadata's ``names``.
    Raises MessageError if the message is not a label image.
    """
    metadata = metadata_of(event)
    try:
        value = checked_array(event)
        numbers = _rows(value, metadata)
    except UnreadableError as error:
        raise MessageError(
            f"cannot read {event_name(event)} as a mask: {error.problem}; got {describe_value(event)}.",
            hint=error.hint
            or "A mask is H x W whole numbers, sent flat with metadata width=W and height=H.",
        ) from None
    height, width = numbers.shape
    step = -(-width // MAX_KEPT_WIDTH)
    # The middle of each group of pixels, so that a reduced mask does not move.
    kept = numbers[step // 2 :: step, step // 2 :: step] if step > 1 else numbers
    return Mask(kept.copy(), width, height, labels if labels is not None else metadata.get("names"))


def _rows(value: pa.Array[Any], metadata: Mapping[str, Any]) -> npt.NDArray[Any]:
    size = None
    if is_list(value.type):
        widths: pa.Array[Any] = value.value_lengths()  # type: ignore[attr-defined]  # lists have it
        if len(set(widths.to_pylist())) > 1:
            raise UnreadableError("its rows do not have the same length")
        size = (len(value), widths[0].as_py()) if len(value) else None
        value = joined_lists(value)
    if not (pa.types.is_integer(value.type) or pa.types.is_boolean(value.type)):
        raise UnreadableError(
            f"its values are {value.type}, not whole numbers", "Send mask.astype('uint8').ravel()."
        )
    size = size or _told_size(value, metadata)
    if size is None:
        raise UnreadableError("its size is not known")
    if len(value) == 0 or size[0] * size[1] != len(value):
        raise UnreadableError(
            f"{size[1]} x {size[0]} takes {size[0] * size[1]} values and it has {len(value)}"
        )
    if value.null_count:
        raise UnreadableError(f"{value.null_count} of its values are null")
    is_flags = pa.types.is_boolean(value.type)
    flat = value.to_numpy(zero_copy_only=not is_flags)
    return flat.astype(np.uint8).reshape(size) if is_flags else flat.reshape(size)


def _told_size(value: pa.Array[Any], metadata: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns height and width as the metadata says them."""
    sides = (metadata.get("height"), metadata.get("width"))
    if all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        return sides  # type: ignore[return-value]  # checked
    shape = shape_of(metadata, len(value))
    if shape is not None and len(shape) == 3 and 1 in (shape[0], shape[2]):
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    return (shape[0], shape[1]) if shape is not None and len(shape) == 2 else None
