"""`as_image`: the picture of a message, or an error that says what the message holds instead.

The encodings are those that dora's nodes send. OpenCV is loaded when the first compressed picture is
decoded, and not before.

==========  ======================  ======================================================
encoding    the message's array     what `as_image` returns
==========  ======================  ======================================================
``bgr8``    UInt8, H*W*3            (H, W, 3) uint8, blue first
``rgb8``    UInt8, H*W*3            (H, W, 3) uint8, red first
``mono8``   UInt8, H*W              (H, W) uint8
``mono16``  UInt8 2*H*W, or UInt16  (H, W) uint16
``32FC1``   UInt8 4*H*W, or Float   (H, W) float32
``jpeg``    UInt8, the file         (H, W, 3) uint8, blue first; (H, W) where it is grey
``png``     UInt8, the file         the same; (H, W) uint16 where it is grey of 16 bits
==========  ======================  ======================================================
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import MessageError, did_you_mean

from . import picture_files
from .arrow import (
    Event,
    UnreadableError,
    as_numpy,
    checked_array,
    describe_value,
    event_name,
    is_number,
    metadata_of,
)
from .box_arrays import could_be_boxes
from .picture_files import DamagedPictureError

DEFAULT_SIZE = (640, 480)
DEFAULT_ENCODING = "bgr8"


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
    """The size in pixels and the encoding of a message's picture; a file's own header wins."""

    width: int
    height: int
    encoding: str


def as_image(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> npt.NDArray[Any]:
    """Returns the picture of a message as an array: (H, W) or (H, W, 3), channels in the order sent.

    ==========================  ===================================================
    encoding                    returned array
    ==========================  ===================================================
    ``bgr8``, ``rgb8``          (H, W, 3) uint8, blue first or red first
    ``mono8``                   (H, W) uint8
    ``mono16``                  (H, W) uint16
    ``32FC1``                   (H, W) float32
    ``jpeg``, ``png``           (H, W, 3) uint8, blue first; a grey file (H, W) uint8,
                                a grey PNG of 16 bits (H, W) uint16
    ==========================  ===================================================

    The metadata's `width`, `height` and `encoding` win. Where they are missing, `size` as (width,
    height) in pixels and `encoding` are used, else (640, 480) and ``bgr8``. A compressed picture has
    the size of its file, and is decoded on each call. An uncompressed one is a read-only view of the
    message's memory, which its sender cannot reuse meanwhile: copy it before you draw on it or keep it.

    Raises MessageError if the message does not hold such a picture, with what it holds and the likely
    fix; EngineError if OpenCV is needed and missing.

    Example::

        >>> image = as_image(event).copy()
        >>> image[:10] = 255  # a white bar, 10 pixels high, at the top
    """
    form = image_form(event, size, encoding)
    values = as_numpy(event["value"])
    if form.encoding in COMPRESSED:
        try:
            return picture_files.decode(values.tobytes())
        except DamagedPictureError as error:
            raise _image_error(event, UnreadableError(str(error))) from error
    layout = RAW_LAYOUTS[form.encoding]
    return values.view(layout.dtype).reshape(layout.shape(form.width, form.height))


def image_form(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> ImageForm:
    """Returns the size and encoding of a message's picture, checked against its array; decodes nothing.

    Raises MessageError as `as_image` does, except for damage inside a compressed picture.
    """
    try:
        return _image_form(checked_array(event), metadata_of(event), size, encoding)
    except UnreadableError as error:
        raise _image_error(event, error) from None


def _image_error(event: Event, error: UnreadableError) -> MessageError:
    name = event_name(event)
    return MessageError(
        f"cannot show {name} as a picture: {error.problem}; got {describe_value(event)}.",
        hint=error.hint,
    )


def could_be_image(event: Event) -> bool:
    """Returns whether the metadata, the first bytes, or the length is that of a picture."""
    try:
        value = checked_array(event)
    except UnreadableError:
        return False
    return _is_image(value, metadata_of(event)) or (
        pa.types.is_uint8(value.type)
        and (
            picture_files.sniff(as_numpy(value)[:16].tobytes()) is not None
            or _has_common_size(value)
        )
    )


def _is_image(value: pa.Array[Any], metadata: Mapping[str, Any]) -> bool:
    try:
        _image_form(value, metadata, None, None)
    except UnreadableError:
        return False
    return True


def _has_common_size(value: pa.Array[Any]) -> bool:
    return any(
        len(value) == layout.num_bytes(*size)
        for layout in RAW_LAYOUTS.values()
        for size in _COMMON_SIZES
    )


def _image_form(
    value: pa.Array[Any],
    metadata: Mapping[str, Any],
    size: tuple[int, int] | None,
    encoding: str | None,
) -> ImageForm:
    if not is_number(value.type):
        looks_like_boxes = pa.types.is_struct(value.type) and could_be_boxes(value)
        hint = "It looks like boxes: pass this topic as boxes=." if looks_like_boxes else None
        raise UnreadableError(
            "its values are not numbers", hint or "Send bytes: pa.array(frame.ravel())."
        )
    if len(value) == 0:
        raise UnreadableError("it is empty", "Send no message when there is no picture.")
    name = _encoding_of(metadata, encoding)
    if name in COMPRESSED:
        return ImageForm(*_size_of_file(value, name), name)
    form = ImageForm(*_size_of(metadata, size), name)
    _check_length(value, form)
    return form


def _encoding_of(metadata: Mapping[str, Any], default: str | None) -> str:
    word = metadata.get("encoding", default)
    if word is None:
        return DEFAULT_ENCODING
    known = _ENCODING_OF_WORD.get(word.casefold()) if isinstance(word, str) else None
    if known is None:
        hint = did_you_mean(str(word), ENCODINGS) or f"Known encodings: {', '.join(ENCODINGS)}."
        raise UnreadableError(f"unknown encoding {word!r}", hint)
    return known


def _size_of_file(value: pa.Array[Any], encoding: str) -> tuple[int, int]:
    if not pa.types.is_uint8(value.type):
        raise UnreadableError(
            f"{encoding} cannot be sent as {value.type}", "Send the bytes of the file, as uint8."
        )
    data = as_numpy(value).tobytes()
    try:
        return picture_files.picture_size(data, encoding)
    except DamagedPictureError as error:
        started = picture_files.sniff(data)
        hint = "Send each picture whole, as cv2.imencode returns it."
        if started is not None and started != encoding:
            hint = f"It starts like a {started.upper()} file: set encoding='{started}'."
        raise UnreadableError(str(error), hint) from error


def _size_of(metadata: Mapping[str, Any], default: tuple[int, int] | None) -> tuple[int, int]:
    sides = [metadata[key] for key in ("width", "height") if key in metadata]
    if len(sides) == 1 and default is None:
        missing = "height" if "width" in metadata else "width"
        raise UnreadableError(f"its metadata has no {missing}", "Send both width and height.")
    width, height = sides if len(sides) == 2 else (default or DEFAULT_SIZE)
    return _num_pixels("width", width), _num_pixels("height", height)


def _num_pixels(key: str, side: object) -> int:
    pixels = _whole_number(side)
    if pixels is None:
        raise UnreadableError(f"its {key} is {side!r}", f"Send {key} as a whole number of pixels.")
    if pixels <= 0:
        raise UnreadableError(f"its {key} is {pixels}", f"Send {key} in pixels, above 0.")
    return pixels


def _whole_number(value: object) -> int | None:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    return None


def _check_length(value: pa.Array[Any], form: ImageForm) -> None:
    """Raises UnreadableError unless the array has the layout's type or is bytes, and fits the size."""
    layout = RAW_LAYOUTS[form.encoding]
    dtype = as_numpy(value).dtype
    if dtype not in (layout.dtype, np.uint8):
        hint = f"Send pa.array(frame.astype('{layout.dtype.name}').ravel())."
        raise UnreadableError(f"{form.encoding} cannot be sent as {value.type}", hint)
    if dtype == np.uint8:
        needed, unit = layout.num_bytes(form.width, form.height), "bytes"
    else:
        needed, unit = layout.num_values(form.width, form.height), "values"
    if len(value) != needed:
        problem = f"{form.width} x {form.height} in {form.encoding} takes {needed} {unit}"
        raise UnreadableError(problem, _length_hint(value, form))


def _length_hint(value: pa.Array[Any], form: ImageForm) -> str:
    """Returns the likely reason why an array is not as long as its picture."""
    length = len(value)
    started = picture_files.sniff(as_numpy(value)[:16].tobytes())
    if started is not None:
        return f"It starts like a {started.upper()} file: set encoding='{started}' in the metadata."
    if length == form.width * form.height * 4:
        return "It fits four channels: send frame[:, :, :3]."
    for name, layout in RAW_LAYOUTS.items():
        if length == layout.num_bytes(form.width, form.height):
            return f"It fits encoding='{name}': set that in the metadata."
    for width, height in _COMMON_SIZES:
        if length == RAW_LAYOUTS[form.encoding].num_bytes(width, height):
            fits = f"It fits {width} x {height} in {form.encoding}"
            return (
                f"{fits}: send width and height in the metadata, or pass size=({width}, {height})."
            )
    if could_be_boxes(value):
        return "It looks like boxes: pass this topic as boxes=."
    return "Send the frame's width, height and encoding in the metadata."
