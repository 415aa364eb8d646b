"""The array forms of boxes: dora-hub's struct array, or N x 6 as floats, lists of six, or bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .arrow import UnreadableError, as_numpy, is_list, is_number, joined_lists

MAX_BOXES = 10_000
"""A longer array is more likely a picture whose bytes happen to divide by 24."""
BYTES_PER_BOX = 6 * 4


def could_be_boxes(value: pa.Array[Any]) -> bool:
    """Returns whether the array can be read as boxes."""
    try:
        boxes_of(value, {})
    except UnreadableError:
        return False
    return True


def boxes_of(
    value: pa.Array[Any], metadata: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float32], tuple[str, ...] | None]:
    """Returns (N, 6) float32, and a label for each box if the array itself has labels.

    Raises UnreadableError.
    """
    if pa.types.is_struct(value.type):
        values, texts = _struct_boxes(value, metadata)
    else:
        values, texts = _plain_boxes(value), None
    if not np.isfinite(values).all():
        raise UnreadableError("some of its values are not finite")
    if (values[:, 2:4] < values[:, 0:2]).any():
        raise UnreadableError("some boxes have x2 < x1 or y2 < y1")
    return values, texts


def _check_count(count: int) -> None:
    if count > MAX_BOXES:
        raise UnreadableError(f"{count} boxes are more than the limit of {MAX_BOXES}")


def _plain_boxes(value: pa.Array[Any]) -> npt.NDArray[np.float32]:
    """Returns (N, 6) from floats, lists of six floats, or bytes."""
    if len(value) == 0:
        return np.empty((0, 6), np.float32)
    if is_list(value.type):
        joined = joined_lists(value)
        if len(joined) != 6 * len(value):
            raise UnreadableError("its lists do not have 6 values each")
        value = joined
    if value.null_count:
        raise UnreadableError("some of its values are null")
    if pa.types.is_uint8(value.type):
        if len(value) % BYTES_PER_BOX:
            raise UnreadableError(f"{len(value)} bytes are not a multiple of {BYTES_PER_BOX}")
        _check_count(len(value) // BYTES_PER_BOX)
        return np.frombuffer(as_numpy(value).tobytes(), np.float32).reshape(-1, 6).copy()
    if not pa.types.is_floating(value.type):
        raise UnreadableError("its values are neither floats nor bytes")
    if len(value) % 6:
        raise UnreadableError(f"{len(value)} values are not a multiple of 6")
    _check_count(len(value) // 6)
    return _as_float32(value).reshape(-1, 6)


def _struct_boxes(
    value: pa.Array[Any], metadata: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float32], tuple[str, ...] | None]:
    """Reads dora-hub's form. Labels that are numbers become the classes, and no texts are returned."""
    corners, scores = _column(value, "bbox"), _column(value, "conf")
    if len(corners) != 4 * len(scores):
        raise UnreadableError(
            f"its 'bbox' has {len(corners)} values and its 'conf' {len(scores)}, which do not fit"
        )
    _check_count(len(scores))
    values = np.zeros((len(scores), 6), np.float32)
    values[:, :4] = _corners(_as_numbers(corners, "bbox").reshape(-1, 4), metadata)
    values[:, 4] = _as_numbers(scores, "conf")
    if "labels" not in _field_names(value):
        return values, None
    labels = _column(value, "labels")
    if len(labels) != len(scores):
        raise UnreadableError(f"{len(labels)} labels do not fit {len(scores)} boxes")
    if not (pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type)):
        values[:, 5] = _as_numbers(labels, "labels")
        return values, None
    texts = tuple("?" if name is None else str(name) for name in labels.to_pylist())
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    values[:, 5] = [places[text] for text in texts]
    return values, texts


def _field_names(value: pa.Array[Any]) -> list[str]:
    return [field.name for field in value.type]


def _column(value: pa.Array[Any], name: str) -> pa.Array[Any]:
    """Returns one field of a struct array, its lists joined."""
    if name not in _field_names(value):
        known = ", ".join(_field_names(value)) or "none"
        raise UnreadableError(f"its struct has no field '{name}' (fields: {known})")
    column: pa.Array[Any] = value.field(name)  # type: ignore[attr-defined]  # a struct array has it
    if not is_list(column.type):
        return column
    if column.null_count:
        raise UnreadableError(f"its '{name}' is null")
    return joined_lists(column)


def _as_numbers(column: pa.Array[Any], name: str) -> npt.NDArray[np.float32]:
    if len(column) == 0:
        return np.empty(0, np.float32)
    if not is_number(column.type):
        raise UnreadableError(f"its '{name}' values are {column.type}, not numbers")
    if column.null_count:
        raise UnreadableError(f"its '{name}' contains nulls")
    return _as_float32(column)


def _as_float32(value: pa.Array[Any]) -> npt.NDArray[np.float32]:
    # A value too large for float32 becomes inf, which `boxes_of` refuses: no warning is needed.
    with np.errstate(over="ignore"):
        return as_numpy(value).astype(np.float32)


def _corners(
    given: npt.NDArray[np.float32], metadata: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """Returns x1, y1, x2, y2 from the layout that the metadata names."""
    layout = metadata.get("format", "xyxy")
    if layout == "xyxy":
        return given
    if layout == "xywh":
        centre, half = given[:, :2], given[:, 2:] / 2
        return np.hstack([centre - half, centre + half])
    raise UnreadableError(f"unknown format {layout!r}", "Known formats: xyxy, xywh.")
