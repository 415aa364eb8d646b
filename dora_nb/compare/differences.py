"""How two messages differ: as boxes, pictures, numbers, structs or texts; anything else is equal or not. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.data.boxes import Boxes, read_boxes
from dora_nb.data.describe import describe
from dora_nb.data.images import as_image, image_form
from dora_nb.errors import MessageError
from dora_nb.events import Event

from .box_differences import BoxDifference, box_difference

Kind = Literal["boxes", "picture", "numbers", "struct", "texts", "other"]
_MOST_TEXT_CHARS = 40
_KEYS_OF_SIZE = ("shape", "width", "height", "encoding")


@dataclass(frozen=True, slots=True)
class Difference:
    """How a message of the version after differs from that of the version before."""

    kind: Kind
    equal: bool
    """Whether value and metadata are the same. NaN equals NaN."""
    text: str
    """The difference in a few words; ``equal``."""
    max_error: float
    """The largest difference between two numbers: of pixels, of corners of boxes in pixels, of values.

    Infinite where there is no such number: another length, a lost box, a different text, NaN and a number."""
    mean_error: float | None = None
    """Of pictures: the mean difference of all pixels."""
    boxes: BoxDifference | None = None
    metadata: tuple[str, ...] = ()
    """The keys of the metadata that differ."""


def difference(before: Event, after: Event) -> Difference:
    """Compares two messages of one output. The time of sending is not compared."""
    found = _of_values(before, after)
    keys = _different_keys(before["metadata"], after["metadata"])
    if not found.equal:  # The values' difference says it already.
        keys = tuple(key for key in keys if key not in _KEYS_OF_SIZE)
    if not keys:
        return found
    named = f"metadata {', '.join(repr(key) for key in keys[:3])} differs"
    text = named if found.equal else f"{found.text}; {named}"
    return Difference(found.kind, False, text, found.max_error, found.mean_error, found.boxes, keys)


def kind_of(event: Event) -> Kind:
    """As what a message is compared."""
    described = describe(event).kind
    value_type = event["value"].type
    if described.startswith("image "):
        return "picture"
    if described == "boxes":
        return "boxes"
    if _is_number(value_type) or _is_list_of_numbers(value_type):
        return "numbers"
    if pa.types.is_struct(value_type):
        return "struct"
    if _is_text(value_type):
        return "texts"
    return "other"


def picture_difference(before: Event, after: Event) -> npt.NDArray[Any] | None:
    """The absolute difference of each pixel, (H, W) or (H, W, C); None if the pictures differ in size.

    It has the type of the pixels if they are whole numbers of 16 bits at most, else it is float64. Raises MessageError where one of them is not a picture. NaN and a number differ infinitely.
    """
    old, new = as_image(before), as_image(after)
    if old.shape != new.shape:
        return None
    if old.dtype == new.dtype and old.dtype in (np.uint8, np.uint16):
        # Ten times as fast as in floating-point numbers, and most pictures are this.
        smaller: npt.NDArray[Any] = np.minimum(old, new)
        errors: npt.NDArray[Any] = np.maximum(old, new) - smaller
        return errors
    return _errors(old, new)


def _of_values(before: Event, after: Event) -> Difference:
    kind = kind_of(before)
    if kind_of(after) != kind:
        return _unlike(kind_of(after), f"{_shown(before)} became {_shown(after)}")
    if kind == "boxes":
        return _of_boxes(read_boxes(before), read_boxes(after))
    if kind == "picture":
        try:
            return _of_pictures(before, after)
        except MessageError:
            kind = "other"  # A damaged file: its bytes are compared.
    old, new = before["value"], after["value"]
    if old.type != new.type:
        return _unlike(kind, f"{old.type} became {new.type}")
    return _of_arrays(kind, old, new)


def _of_boxes(before: Boxes, after: Boxes) -> Difference:
    found = box_difference(before, after)
    error = math.inf if found.gained or found.lost else found.max_shift
    return Difference(
        "boxes", found.equal, "equal" if found.equal else str(found), error, None, found
    )


def _of_pictures(before: Event, after: Event) -> Difference:
    old, new = image_form(before), image_form(after)
    errors = picture_difference(before, after)
    if errors is None or old.encoding != new.encoding:
        text = f"{old.width}x{old.height} {old.encoding} became {new.width}x{new.height} {new.encoding}"
        return _unlike("picture", text)
    largest, mean = float(errors.max(initial=0.0)), float(errors.mean()) if errors.size else 0.0
    if not largest:
        return Difference("picture", True, "equal", 0.0, 0.0)
    share = _changed_share(errors)
    text = f"pixels differ by up to {largest:.3g}, {mean:.3g} on average, in {share:.1%} of the picture"
    return Difference("picture", False, text, largest, mean)


def _changed_share(errors: npt.NDArray[Any]) -> float:
    """Which part of the pixels differs in any channel."""
    flat = errors.reshape(*errors.shape[:2], -1)
    changed = flat[..., 0] != 0
    for channel in range(
        1, flat.shape[2]
    ):  # By `any` along the last axis it takes ten times as long.
        changed |= flat[..., channel] != 0
    return float(changed.mean())


def _of_arrays(kind: Kind, old: pa.Array[Any], new: pa.Array[Any]) -> Difference:
    if len(old) != len(new):
        return _unlike(kind, f"{_items(len(old))} became {len(new)}")
    if kind == "numbers":
        return _of_numbers(old, new)
    if kind == "struct":
        return _of_structs(old, new)
    if old.equals(new) or _plain_equal(old.to_pylist(), new.to_pylist()):
        return Difference(kind, True, "equal", 0.0)
    for at, (one, other) in enumerate(zip(old.to_pylist(), new.to_pylist(), strict=True)):
        if not _plain_equal(one, other):
            where = "" if len(old) == 1 else f"item {at}: "
            return _unlike(kind, f"{where}{_short(one)} became {_short(other)}")
    return _unlike(kind, "not equal")


def _of_numbers(old: Any, new: Any) -> Difference:
    if _is_list_of_numbers(old.type):
        # The lengths of the lists first: joined, lists of other lengths could hold the same numbers.
        if old.is_null().to_pylist() != new.is_null().to_pylist() or [
            None if each is None else len(each) for each in old.to_pylist()
        ] != [None if each is None else len(each) for each in new.to_pylist()]:
            return _unlike("numbers", "the lengths of its lists differ")
        old, new = old.flatten(), new.flatten()
    if old.is_null().to_pylist() != new.is_null().to_pylist():
        return _unlike("numbers", "other values are null")
    errors = _errors(_as_floats(old), _as_floats(new))
    largest = float(errors.max(initial=0.0))
    # Whole numbers beyond 2^53 may differ and still be one float.
    if not largest and (old.equals(new) or not pa.types.is_integer(old.type)):
        return Difference("numbers", True, "equal", 0.0)
    if not largest:
        whole: list[tuple[Any, Any]] = list(zip(old.to_pylist(), new.to_pylist(), strict=True))
        largest = float(max(abs(one - other) for one, other in whole if one is not None))
    at = int(errors.argmax()) if errors.size else 0
    changed = f"{_short(old[at].as_py())} became {_short(new[at].as_py())}"
    if len(old) == 1:
        return Difference("numbers", False, changed, largest)
    return Difference(
        "numbers", False, f"differ by up to {largest:.3g} (item {at}: {changed})", largest
    )


def _of_structs(old: Any, new: Any) -> Difference:
    if old.is_null().to_pylist() != new.is_null().to_pylist():
        return _unlike("struct", "other rows are null")
    fields = []
    for field, one, other in zip(old.type, old.flatten(), new.flatten(), strict=True):
        kind = _kind_of_type(field.type)
        found = _of_arrays(kind, one, other)
        if not found.equal:
            fields.append((field.name, found))
    if not fields:
        return Difference("struct", True, "equal", 0.0)
    text = ", ".join(f"{name}: {found.text}" for name, found in fields[:3])
    return Difference("struct", False, text, max(found.max_error for _, found in fields))


def _kind_of_type(value_type: pa.DataType) -> Kind:
    if _is_number(value_type) or _is_list_of_numbers(value_type):
        return "numbers"
    return "struct" if pa.types.is_struct(value_type) else "other"


def _errors(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Absolute differences; NaN equals NaN, an infinity itself, and NaN differs infinitely from a number."""
    olds, news = old.astype(np.float64), new.astype(np.float64)
    with np.errstate(invalid="ignore"):
        errors: npt.NDArray[np.float64] = np.abs(olds - news)
    errors[olds == news] = 0.0
    errors[np.isnan(olds) & np.isnan(news)] = 0.0
    errors[np.isnan(errors)] = math.inf
    return errors


def _as_floats(value: pa.Array[Any]) -> npt.NDArray[np.float64]:
    """Nulls become NaN."""
    return np.asarray(value.to_numpy(zero_copy_only=False), np.float64)


def _different_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    missing = object()
    return tuple(
        key
        for key in {**before, **after}
        if key != "timestamp"
        and not _plain_equal(before.get(key, missing), after.get(key, missing))
    )


def _plain_equal(one: Any, other: Any) -> bool:
    """Equality of plain Python values, where NaN equals NaN, at any depth."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            itertools.starmap(_plain_equal, zip(one, other, strict=True))
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_plain_equal(one[key], other[key]) for key in one)
    return bool(type(one) is type(other) and one == other)


def _unlike(kind: Kind, text: str) -> Difference:
    return Difference(kind, False, text, math.inf)


def _is_number(value_type: pa.DataType) -> bool:
    return pa.types.is_integer(value_type) or pa.types.is_floating(value_type)


def _is_list_of_numbers(value_type: Any) -> bool:
    is_list = pa.types.is_list(value_type) or pa.types.is_large_list(value_type)
    if not is_list and not pa.types.is_fixed_size_list(value_type):
        return False
    return _is_number(value_type.value_type)


def _is_text(value_type: pa.DataType) -> bool:
    return pa.types.is_string(value_type) or pa.types.is_large_string(value_type)


def _items(count: int) -> str:
    return f"{count} value" if count == 1 else f"{count} values"


def _shown(event: Event) -> str:
    return describe(event).kind


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= _MOST_TEXT_CHARS else f"{text[:_MOST_TEXT_CHARS]}..."
