"""What a message shows: a picture or boxes read from its Arrow array, or a sentence that says why not.

The forms are those that dora's nodes send. Nothing here keeps, starts or draws anything; OpenCV is
loaded when the first compressed picture is decoded, and not before.

==========  ======================  ======================================================
encoding    array of a message      what `as_image` returns
==========  ======================  ======================================================
``bgr8``    UInt8, H*W*3            (H, W, 3) uint8, blue first
``rgb8``    UInt8, H*W*3            (H, W, 3) uint8, red first
``mono8``   UInt8, H*W              (H, W) uint8
``mono16``  UInt8 2*H*W, or UInt16  (H, W) uint16
``32FC1``   UInt8 4*H*W, or Float   (H, W) float32
``jpeg``    UInt8, the file         (H, W, 3) uint8, blue first; (H, W) where it is grey
``png``     UInt8, the file         the same; (H, W) uint16 where it is grey of 16 bits
==========  ======================  ======================================================

Boxes are N x 6 float32: x1, y1, x2, y2 in pixels of the picture, confidence, class number.
"""

from __future__ import annotations

import numbers
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import picture_files
from .errors import MessageError, did_you_mean
from .picture_files import DamagedPictureError

Event = Mapping[str, Any]
Labels = Sequence[str] | Mapping[int, str]

DEFAULT_SIZE = (640, 480)
DEFAULT_ENCODING = "bgr8"
MAX_BOXES = 10_000
BYTES_PER_BOX = 6 * 4


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How the pixels of a raw picture lie in memory."""

    dtype: np.dtype[Any]
    channels: int

    def num_values(self, width: int, height: int) -> int:
        return width * height * self.channels

    def num_bytes(self, width: int, height: int) -> int:
        return self.num_values(width, height) * self.dtype.itemsize

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        return (height, width) if self.channels == 1 else (height, width, self.channels)


RAW_LAYOUTS = {
    "bgr8": PixelLayout(np.dtype(np.uint8), 3),
    "rgb8": PixelLayout(np.dtype(np.uint8), 3),
    "mono8": PixelLayout(np.dtype(np.uint8), 1),
    "mono16": PixelLayout(np.dtype("<u2"), 1),
    "32FC1": PixelLayout(np.dtype("<f4"), 1),
}
COMPRESSED = picture_files.FORMATS
ENCODINGS = (*RAW_LAYOUTS, *COMPRESSED)
_ENCODING_OF_WORD = {name.casefold(): name for name in ENCODINGS} | {"jpg": "jpeg", "mjpeg": "jpeg"}
_COMMON_SIZES = ((640, 480), (1280, 720), (1920, 1080), (320, 240), (800, 600), (848, 480))


@dataclass(frozen=True, slots=True)
class ImageForm:
    """What a message's picture is, by its metadata or what stood in for it; a file's own header wins."""

    width: int
    height: int
    encoding: str


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The boxes of one message, and what each is called."""

    values: npt.NDArray[np.float32]
    """(N, 6): x1, y1, x2, y2, confidence, class."""
    labels: tuple[str, ...]
    """N texts: whatever the sender wrote, so never markup."""

    def __len__(self) -> int:
        return len(self.values)


def as_image(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> npt.NDArray[Any]:
    """The picture of a message as (H, W) or (H, W, 3), its channels in the order they came in.

    What the metadata says (`width`, `height`, `encoding`) goes first; `size`, which is (width,
    height), and `encoding` stand in where it is silent, and else 640 x 480 and ``bgr8``. The table
    above says what comes back for which encoding. A picture that is not compressed is a read-only
    view of the message: copy it before you draw on it, and before you keep it, since it holds the
    sender's memory.

    Raises MessageError where the message is no such picture: it says what came and the likely fix.
    """
    form = image_form(event, size, encoding)
    values = _numpy(event["value"])
    if form.encoding in COMPRESSED:
        try:
            return picture_files.decode(values.tobytes())
        except DamagedPictureError as error:
            raise _no_image(event, _NotThisError(str(error))) from error
    layout = RAW_LAYOUTS[form.encoding]
    return values.view(layout.dtype).reshape(layout.shape(form.width, form.height))


def image_form(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> ImageForm:
    """The size and encoding of a message's picture, checked against its array. Nothing is decoded.

    Raises MessageError as `as_image` does, except for damage inside a compressed picture.
    """
    try:
        return _image_form(_checked_array(event), _metadata(event), size, encoding)
    except _NotThisError as error:
        raise _no_image(event, error) from None


def as_boxes(event: Event) -> npt.NDArray[np.float32]:
    """The boxes of a message as (N, 6) float32: x1, y1, x2, y2 in pixels, confidence, class number.

    Three forms are read. dora-hub's struct array: `bbox` flattened, `conf`, `labels`, with `format`
    ``xyxy`` or ``xywh`` in the metadata, where x and y are the box's *centre* (dora-yolo sends
    ultralytics' ``boxes.xywh``, dora-rerun reads centres and sizes). Its labels are names, so the
    class is a name's place among the sorted names of that message. Then an array of floats, N x 6;
    and N x 6 float32 seen as bytes. No boxes at all is (0, 6). The array is the caller's own.

    Raises MessageError where these are no boxes; it says what the message looks like.
    """
    return read_boxes(event).values


def read_boxes(event: Event, labels: Labels | None = None) -> Boxes:
    """The boxes of a message with a text for each.

    A text is the name that the message itself has for the box; else its class number looked up in
    `labels`, then in the metadata's `names`; else the number. Raises MessageError as `as_boxes` does.
    """
    metadata = _metadata(event)
    try:
        value = _checked_array(event)
        values, texts = _boxes_of(value, metadata)
    except _NotThisError as error:
        raise _no_boxes(event, error) from None
    if texts is None:
        names = labels if labels is not None else metadata.get("names")
        texts = tuple(_label(number, names) for number in values[:, 5].tolist())
    return Boxes(values, texts)


# ----- saying what came


class _NotThisError(Exception):
    """Why a message is not a picture, or not boxes, and the way out if it is known."""

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def _no_image(event: Event, error: _NotThisError) -> MessageError:
    return MessageError(
        f"{_name(event)} is no image: {error.problem}; it is {_what_came(event)}.", hint=error.hint
    )


def _no_boxes(event: Event, error: _NotThisError) -> MessageError:
    return MessageError(
        f"{_name(event)} has no boxes: {error.problem}; it is {_what_came(event)}.",
        hint=error.hint or _hint_instead_of_boxes(event),
    )


def _name(event: Event) -> str:
    identifier = event.get("id")
    return f"'{identifier}'" if identifier else "the message"


def _metadata(event: Event) -> Mapping[str, Any]:
    metadata = event.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _what_came(event: Event) -> str:
    """``900 values of uint8, metadata width=640, encoding='bgr8'``."""
    value = event.get("value")
    if not isinstance(value, pa.Array):
        return f"of type {type(value).__name__}"
    metadata = _metadata(event)
    told = ", ".join(
        f"{key}={metadata[key]!r}"
        for key in ("width", "height", "encoding", "format")
        if key in metadata
    )
    arrow_type = textwrap.shorten(str(value.type), 60, placeholder=" ...")
    return f"{len(value)} values of {arrow_type}, metadata {told or 'without width and height'}"


def _hint_instead_of_boxes(event: Event) -> str:
    if _could_be_image(event):
        return "It looks like an image: name a topic that carries boxes."
    return (
        "Boxes are N x 6 float32 (x1, y1, x2, y2, confidence, class): "
        "pa.array(boxes.astype('float32').ravel())."
    )


def _could_be_image(event: Event) -> bool:
    """By its metadata, its first bytes, or a length that cameras have."""
    try:
        value = _checked_array(event)
    except _NotThisError:
        return False
    return _is_image(value, _metadata(event)) or (
        pa.types.is_uint8(value.type)
        and (
            picture_files.sniff(_numpy(value)[:16].tobytes()) is not None or _has_common_size(value)
        )
    )


def _is_image(value: pa.Array[Any], metadata: Mapping[str, Any]) -> bool:
    try:
        _image_form(value, metadata, None, None)
    except _NotThisError:
        return False
    return True


def _has_common_size(value: pa.Array[Any]) -> bool:
    return any(
        len(value) == layout.num_bytes(*size)
        for layout in RAW_LAYOUTS.values()
        for size in _COMMON_SIZES
    )


def _could_be_boxes(value: pa.Array[Any]) -> bool:
    try:
        _boxes_of(value, {})
    except _NotThisError:
        return False
    return True


# ----- arrays


def _checked_array(event: Event) -> pa.Array[Any]:
    value = event.get("value")
    if not isinstance(value, pa.Array):
        raise _NotThisError("its value is no Arrow array", "Send pa.array(...).")
    if value.null_count and not pa.types.is_null(value.type):
        raise _NotThisError(f"{value.null_count} of its values are null", "Send a value for each.")
    return value


def _is_number(arrow_type: pa.DataType) -> bool:
    return pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type)


def _is_list(arrow_type: pa.DataType) -> bool:
    return (
        pa.types.is_list(arrow_type)
        or pa.types.is_large_list(arrow_type)
        or pa.types.is_fixed_size_list(arrow_type)
    )


def _joined_lists(value: pa.Array[Any]) -> pa.Array[Any]:
    flat: pa.Array[Any] = value.flatten()  # type: ignore[attr-defined]  # every list array has it
    return flat


def _numpy(value: pa.Array[Any]) -> npt.NDArray[Any]:
    """A read-only view; for numbers without nulls alone."""
    values: npt.NDArray[Any] = value.to_numpy(zero_copy_only=True)
    return values


# ----- images


def _image_form(
    value: pa.Array[Any],
    metadata: Mapping[str, Any],
    size: tuple[int, int] | None,
    encoding: str | None,
) -> ImageForm:
    if not _is_number(value.type):
        looks_like_boxes = pa.types.is_struct(value.type) and _could_be_boxes(value)
        hint = "It looks like boxes: give this topic as boxes=." if looks_like_boxes else None
        raise _NotThisError(
            "its values are no numbers", hint or "Send bytes: pa.array(frame.ravel())."
        )
    if len(value) == 0:
        raise _NotThisError("it is empty", "Send nothing where there is no picture.")
    name = _encoding_of(metadata, encoding)
    if name in COMPRESSED:
        return ImageForm(*_size_of_file(value, name), name)
    form = ImageForm(*_size_of(metadata, size), name)
    _check_length(value, form)
    return form


def _encoding_of(metadata: Mapping[str, Any], told: str | None) -> str:
    word = metadata.get("encoding", told)
    if word is None:
        return DEFAULT_ENCODING
    known = _ENCODING_OF_WORD.get(word.casefold()) if isinstance(word, str) else None
    if known is None:
        hint = did_you_mean(str(word), ENCODINGS) or f"Known are {', '.join(ENCODINGS)}."
        raise _NotThisError(f"the encoding {word!r} is not known", hint)
    return known


def _size_of_file(value: pa.Array[Any], encoding: str) -> tuple[int, int]:
    if not pa.types.is_uint8(value.type):
        raise _NotThisError(
            f"{encoding} does not travel as {value.type}", "Send its bytes as they are, as uint8."
        )
    data = _numpy(value).tobytes()
    try:
        return picture_files.picture_size(data, encoding)
    except DamagedPictureError as error:
        started = picture_files.sniff(data)
        hint = "Send each picture whole, as cv2.imencode returns it."
        if started not in (None, encoding):
            hint = f"It starts as encoding='{started}' does."
        raise _NotThisError(str(error), hint) from error


def _size_of(metadata: Mapping[str, Any], told: tuple[int, int] | None) -> tuple[int, int]:
    sides = [metadata[key] for key in ("width", "height") if key in metadata]
    if len(sides) == 1 and told is None:
        lacks = "height" if "width" in metadata else "width"
        raise _NotThisError(f"its metadata has no {lacks}", "Send both width and height.")
    width, height = sides if len(sides) == 2 else (told or DEFAULT_SIZE)
    return _num_pixels("width", width), _num_pixels("height", height)


def _num_pixels(key: str, side: object) -> int:
    pixels = _whole_number(side)
    if pixels is None:
        raise _NotThisError(f"its {key} is {side!r}", f"Send {key} as a whole number of pixels.")
    if pixels <= 0:
        raise _NotThisError(f"its {key} is {pixels}", f"Send {key} in pixels, above zero.")
    return pixels


def _whole_number(value: object) -> int | None:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    return None


def _check_length(value: pa.Array[Any], form: ImageForm) -> None:
    """The array has the layout's own type or is bytes, and is as long as the picture."""
    layout = RAW_LAYOUTS[form.encoding]
    dtype = _numpy(value).dtype
    if dtype not in (layout.dtype, np.uint8):
        hint = f"Send pa.array(frame.astype('{layout.dtype.name}').ravel())."
        raise _NotThisError(f"{form.encoding} does not travel as {value.type}", hint)
    if dtype == np.uint8:
        needed, unit = layout.num_bytes(form.width, form.height), "bytes"
    else:
        needed, unit = layout.num_values(form.width, form.height), "values"
    if len(value) != needed:
        problem = f"{form.width} x {form.height} in {form.encoding} takes {needed} {unit}"
        raise _NotThisError(problem, _length_hint(value, form))


def _length_hint(value: pa.Array[Any], form: ImageForm) -> str:
    """The likely reason why an array is not as long as its picture."""
    length = len(value)
    started = picture_files.sniff(_numpy(value)[:16].tobytes())
    if started is not None:
        return f"It starts as a {started.upper()} does: say encoding='{started}' in the metadata."
    if length == form.width * form.height * 4:
        return "It fits four channels: send frame[:, :, :3]."
    for name, layout in RAW_LAYOUTS.items():
        if length == layout.num_bytes(form.width, form.height):
            return f"It fits encoding='{name}': say so in the metadata."
    for width, height in _COMMON_SIZES:
        if length == RAW_LAYOUTS[form.encoding].num_bytes(width, height):
            fits = f"It fits {width} x {height} in {form.encoding}"
            return (
                f"{fits}: send width and height in the metadata, or say size=({width}, {height})."
            )
    if _could_be_boxes(value):
        return "It looks like boxes: give this topic as boxes=."
    return "Send width, height and encoding in the metadata, as the frame has them."


# ----- boxes


def _boxes_of(
    value: pa.Array[Any], metadata: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float32], tuple[str, ...] | None]:
    """N x 6, and the texts where the message itself has them."""
    if pa.types.is_struct(value.type):
        values, texts = _struct_boxes(value, metadata)
    else:
        values, texts = _plain_boxes(value), None
    if not np.isfinite(values).all():
        raise _NotThisError("some of its values are not finite")
    if (values[:, 2:4] < values[:, 0:2]).any():
        raise _NotThisError("some boxes would end before they start")
    return values, texts


def _check_count(count: int) -> None:
    if count > MAX_BOXES:
        raise _NotThisError(f"that would be {count} of them, and {MAX_BOXES} is the most")


def _plain_boxes(value: pa.Array[Any]) -> npt.NDArray[np.float32]:
    """N x 6 from floats, lists of six floats, or bytes."""
    if len(value) == 0:
        return np.empty((0, 6), np.float32)
    if _is_list(value.type):
        joined = _joined_lists(value)
        if len(joined) != 6 * len(value):
            raise _NotThisError("its lists are not of 6 values each")
        value = joined
    if value.null_count:
        raise _NotThisError("some of its values are null")
    if pa.types.is_uint8(value.type):
        if len(value) % BYTES_PER_BOX:
            raise _NotThisError(f"{len(value)} bytes are no multiple of {BYTES_PER_BOX}")
        _check_count(len(value) // BYTES_PER_BOX)
        return np.frombuffer(_numpy(value).tobytes(), np.float32).reshape(-1, 6).copy()
    if not pa.types.is_floating(value.type):
        raise _NotThisError("its values are neither floats nor bytes")
    if len(value) % 6:
        raise _NotThisError(f"{len(value)} values are no multiple of 6")
    _check_count(len(value) // 6)
    return _as_float32(value).reshape(-1, 6)


def _struct_boxes(
    value: pa.Array[Any], metadata: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float32], tuple[str, ...] | None]:
    """dora-hub's form. Where its labels are numbers, they are classes and there are no texts."""
    corners, scores = _column(value, "bbox"), _column(value, "conf")
    if len(corners) != 4 * len(scores):
        raise _NotThisError(f"{len(corners)} values of 'bbox' do not fit {len(scores)} of 'conf'")
    _check_count(len(scores))
    values = np.zeros((len(scores), 6), np.float32)
    values[:, :4] = _corners(_as_numbers(corners, "bbox").reshape(-1, 4), metadata)
    values[:, 4] = _as_numbers(scores, "conf")
    if "labels" not in _field_names(value):
        return values, None
    labels = _column(value, "labels")
    if len(labels) != len(scores):
        raise _NotThisError(f"{len(labels)} labels do not fit {len(scores)} boxes")
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
    """One field of a struct array, its lists joined."""
    if name not in _field_names(value):
        known = ", ".join(_field_names(value)) or "nothing"
        raise _NotThisError(f"its struct has {known} and no '{name}'")
    column: pa.Array[Any] = value.field(name)  # type: ignore[attr-defined]  # a struct array has it
    if not _is_list(column.type):
        return column
    if column.null_count:
        raise _NotThisError(f"its '{name}' is null")
    return _joined_lists(column)


def _as_numbers(column: pa.Array[Any], name: str) -> npt.NDArray[np.float32]:
    if len(column) == 0:
        return np.empty(0, np.float32)
    if not _is_number(column.type):
        raise _NotThisError(f"its '{name}' are {column.type}")
    if column.null_count:
        raise _NotThisError(f"its '{name}' has nulls")
    return _as_float32(column)


def _as_float32(value: pa.Array[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, and is refused
        return _numpy(value).astype(np.float32)


def _corners(
    given: npt.NDArray[np.float32], metadata: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """x1, y1, x2, y2 from the layout that the metadata names."""
    layout = metadata.get("format", "xyxy")
    if layout == "xyxy":
        return given
    if layout == "xywh":
        centre, half = given[:, :2], given[:, 2:] / 2
        return np.hstack([centre - half, centre + half])
    raise _NotThisError(f"the format {layout!r} is not known", "Formats are xyxy and xywh.")


def _label(number: float, names: object) -> str:
    """The name of a class; its number where it has none."""
    if number != int(number):
        return str(number)
    place = int(number)
    name = None
    if isinstance(names, Mapping):
        name = names.get(place, names.get(str(place)))
    elif isinstance(names, Sequence) and not isinstance(names, str) and 0 <= place < len(names):
        name = names[place]
    return str(place) if name is None else str(name)
