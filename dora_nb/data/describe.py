"""A message in one line of text: a picture, boxes, or its values, abridged. Never raises, decodes nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.errors import MessageError

from .arrow import Event, is_list, is_number, metadata_of
from .boxes import Boxes, read_boxes
from .images import ImageForm, image_form

MOST_CHARS = 160
"""Of the values, and of the metadata: a line stays readable in a cell."""
_MOST_VALUES = 8
_MOST_BOXES = 4
_MOST_TEXT_CHARS = 40
_MOST_DEPTH = 4
_LEAST_GUESSED_SIDE = 16
"""In pixels. A small matrix of bytes that does not say that it is a picture is shown as numbers."""
_NUMPY_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}
_OF_PICTURES = ("width", "height", "encoding", "shape", "primitive")
_OF_BOXES = (*_OF_PICTURES, "format", "names")
_NAMED_BOXES = re.compile(r"(^|[/_.-])(b?box(es)?|detections?)$", re.IGNORECASE)
_CUT = "..."


@dataclass(frozen=True, slots=True)
class Described:
    """What a message holds, as short texts without line breaks or control characters."""

    kind: str
    """Its type: ``image 640x480 bgr8``, ``boxes``, ``float64[3]``, ``struct{x, y}[1]``."""
    text: str
    """Its content: ``image 640x480 bgr8, 900 KB``, ``float64 [0.5, 1, 2]``."""
    metadata: str
    """What the text does not say already: ``number=3, unit='rad'``; empty if there is nothing else."""

    def __str__(self) -> str:
        return f"{self.text}  {self.metadata}".rstrip()


def describe(event: Event) -> Described:
    """Returns one line about a message.

    Flat numbers count as boxes only if their metadata or the name of their topic says so, since any six
    numbers could be a box.

    Example::

        >>> import pyarrow as pa
        >>> str(describe({"value": pa.array([0.5, 1.0]), "metadata": {"unit": "rad"}}))
        "float64 [0.5, 1]  unit='rad'"
    """
    value = event.get("value")
    if not isinstance(value, pa.Array):
        kind = type(value).__name__
        return Described(kind, kind, _metadata_text(event, hidden=()))
    form = _picture(event)
    if form is not None:
        kind = f"image {form.width}x{form.height} {form.encoding}"
        text = f"{kind}, {bytes_text(value.nbytes)}"
        return Described(kind, text, _metadata_text(event, hidden=_OF_PICTURES))
    boxes = _boxes(event, value)
    if boxes is not None:
        return Described("boxes", _boxes_text(boxes), _metadata_text(event, hidden=_OF_BOXES))
    kind = f"{_type_name(value.type)}[{len(value)}]"
    return Described(kind, _values_text(value), _metadata_text(event, hidden=()))


def bytes_text(count: float) -> str:
    """``12 bytes``, ``900 KB``, ``1.4 MB``."""
    if count < 1024:
        return f"{count:.0f} {'byte' if count == 1 else 'bytes'}"
    for unit in ("KB", "MB"):
        count /= 1024
        if count < 1000:
            return f"{_three_digits(count)} {unit}"
    return f"{_three_digits(count / 1024)} GB"


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


# ----- pictures and boxes


def _picture(event: Event) -> ImageForm | None:
    try:
        form = image_form(event)
    except MessageError:
        return None
    is_small = min(form.width, form.height) < _LEAST_GUESSED_SIDE
    return None if form.guessed and is_small else form


def _boxes(event: Event, value: pa.Array[Any]) -> Boxes | None:
    if not (_is_box_struct(value.type) or _says_boxes(event)):
        return None
    try:
        return read_boxes(event)
    except MessageError:
        return None


def _is_box_struct(arrow_type: Any) -> bool:
    item = arrow_type.value_type if is_list(arrow_type) else arrow_type
    return pa.types.is_struct(item) and any(field.name == "bbox" for field in item)


def _says_boxes(event: Event) -> bool:
    metadata = metadata_of(event)
    primitive = metadata.get("primitive")
    if isinstance(primitive, str) and primitive.casefold() == "boxes2d":
        return True
    return _NAMED_BOXES.search(str(event.get("id", ""))) is not None


def _boxes_text(boxes: Boxes) -> str:
    count = len(boxes)
    title = "no boxes" if not count else f"{count} {'box' if count == 1 else 'boxes'}: "
    shown = [_box_text(boxes, at) for at in range(min(count, _MOST_BOXES))]
    if count > _MOST_BOXES:
        shown.append(f"{count - _MOST_BOXES} more")
    if boxes.num_bad:
        shown.append(f"{boxes.num_bad} that cannot be drawn")
        title = title if count else f"{title}, "
    return title + "; ".join(shown)


def _box_text(boxes: Boxes, at: int) -> str:
    x1, y1, x2, y2, score, _ = boxes.values[at].tolist()
    words = [_one_line(boxes.labels[at], most=24)]
    if boxes.tracks is not None:
        words.append(f"#{boxes.tracks[at]}")
    if not math.isnan(score):
        words.append(f"{score:.2f}")
    return " ".join([*words, f"at {x1:.0f},{y1:.0f}-{x2:.0f},{y2:.0f}"])


# ----- values


def _values_text(value: pa.Array[Any]) -> str:
    """``float64 [0.5, 1]``; of a long array both ends, and how many values there are."""
    text = f"{_type_name(value.type)} {_array_text(value, 0)}"
    notes = []
    if len(value) > _MOST_VALUES:
        notes = [f"{len(value)} values", *_range_notes(value)]
    return ", ".join([_shortened(text, MOST_CHARS), *notes])


def _range_notes(value: pa.Array[Any]) -> list[str]:
    """``min 0.1``, ``max 5``, ``2 not finite``, of numbers."""
    if not is_number(value.type) or value.null_count:
        return [f"{value.null_count} null"] if value.null_count else []
    numbers = value.to_numpy(zero_copy_only=False)
    finite = np.isfinite(numbers)
    num_bad = int(len(numbers) - np.count_nonzero(finite))
    notes = [f"{num_bad} not finite"] if num_bad else []
    if num_bad < len(numbers):
        good = numbers[finite] if num_bad else numbers
        notes = [f"min {_plain(good.min().item())}", f"max {_plain(good.max().item())}", *notes]
    return notes


def _type_name(arrow_type: Any) -> str:
    """Arrow's name of a type, with numpy's names of floats, and of a struct only the names of its fields."""
    if pa.types.is_struct(arrow_type):
        names = [_one_line(field.name, most=24) for field in arrow_type]
        return _shortened(f"struct{{{', '.join(names)}}}", 60)
    if is_list(arrow_type):
        return f"list of {_type_name(arrow_type.value_type)}"
    name = str(arrow_type)
    return _shortened(_NUMPY_NAMES.get(name, name), 60)


def _array_text(value: pa.Array[Any], depth: int) -> str:
    if depth > _MOST_DEPTH:
        return _CUT
    return f"[{', '.join(_ends(value, lambda scalar: _scalar_text(scalar, depth + 1)))}]"


def _ends(items: Sequence[Any] | pa.Array[Any], text_of: Callable[[Any], str]) -> list[str]:
    """The texts of all items, or of the first and last three with a mark between them."""
    if len(items) <= _MOST_VALUES:
        return [text_of(items[at]) for at in range(len(items))]
    ends = [text_of(items[at]) for at in (0, 1, 2, -3, -2, -1)]
    return [*ends[:3], _CUT, *ends[3:]]


def _scalar_text(scalar: Any, depth: int) -> str:
    """One value; only what is shown of it is made a Python object."""
    if not scalar.is_valid:
        return "null"
    if is_list(scalar.type):
        return _array_text(scalar.values, depth)
    if pa.types.is_struct(scalar.type):
        return _struct_text(scalar, depth)
    try:
        return _plain(scalar.as_py())
    except (ValueError, OverflowError, pa.ArrowException):  # texts that are not UTF-8, far dates
        return "?"


def _struct_text(scalar: Any, depth: int) -> str:
    if depth > _MOST_DEPTH:
        return _CUT
    names = [field.name for field in scalar.type]
    # By number, since fields may have equal names.
    fields = [
        f"{_one_line(name, most=24)}: {_scalar_text(scalar[at], depth + 1)}"
        for at, name in enumerate(names[:_MOST_VALUES])
    ]
    if len(names) > _MOST_VALUES:
        fields.append(_CUT)
    return f"{{{', '.join(fields)}}}"


def _plain(value: object) -> str:
    """A number, a text or anything else in a few characters of one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return f"'{_one_line(value, most=_MOST_TEXT_CHARS)}'"
    if isinstance(value, bytes):
        return bytes_text(len(value))
    return _one_line(str(value), most=_MOST_TEXT_CHARS)


# ----- metadata


def _metadata_text(event: Event, *, hidden: Iterable[str]) -> str:
    pairs = [
        f"{_one_line(str(key), most=24)}={_metadata_value(value)}"
        for key, value in metadata_of(event).items()
        if key != "timestamp" and key not in hidden
    ]
    return _shortened(", ".join(pairs), MOST_CHARS)


def _metadata_value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{_CUT}}}" if value else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_ends(value, _plain))}]"
    return _plain(value)


# ----- texts


def _one_line(text: str, *, most: int) -> str:
    """The text without line breaks and control characters, which would move the cursor or colour the cell."""
    if text.isprintable():
        return _shortened(text, most)
    escaped = json.dumps(text[: most + 1])[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    printable = "".join(char if char.isprintable() else "?" for char in escaped)
    return _shortened(printable, most)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - len(_CUT)] + _CUT
