"""`as_image`: the picture of a message, or an error that says what the message holds instead.

`pixel_layouts` and `picture_files` list the encodings. OpenCV is loaded when the first picture is
decoded or converted, and not before.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    check_event,
    checked_array,
    describe_value,
    event_name,
    is_number,
    metadata_of,
)
from .box_arrays import could_be_boxes
from .picture_files import DamagedPictureError
from .pixel_layouts import RAW_LAYOUTS, PixelLayout, depth_encoding, encoding_of_shape

DEFAULT_SIZE = (640, 480)
DEFAULT_ENCODING = "bgr8"


COMPRESSED = tuple(picture_files.FORMATS)
ENCODINGS = (*RAW_LAYOUTS, *COMPRESSED)
"""The canonical names."""
_ENCODING_OF_WORD = {
    word.casefold(): name
    for table in (RAW_LAYOUTS, picture_files.FORMATS)
    for name, known in table.items()
    for word in (name, *known.aliases)
}
_DEPTH_OF_BYTES = {1: "mono8", 2: "16UC1", 4: "32FC1", 8: "64FC1"}
"""By the number of bytes per pixel."""
_PIXELS_OF_FLOATS = "If it is pixels from 0 to 1, send cv2.convertScaleAbs(frame, alpha=255)."
_BOX_COLUMNS = (4, 6, 7)
_COMMON_SIZES = ((640, 480), (1280, 720), (1920, 1080), (320, 240), (800, 600), (848, 480))


@dataclass(frozen=True, slots=True)
class ImageForm:
    """The size in pixels and the encoding of a message's picture; a file's own header wins."""

    width: int
    height: int
    encoding: str
    """A canonical name of `ENCODINGS`."""
    guessed: tuple[str, ...] = ()
    """What the message does not say: ``"mono8"``, ``"640 x 480"``."""
    is_depth: bool = False
    """Whether the values are shown scaled from the least to the largest."""


def encoding_named(word: object) -> str | None:
    """Returns the canonical name of an encoding, for itself or an alias in any case; None if unknown."""
    return _ENCODING_OF_WORD.get(word.casefold()) if isinstance(word, str) else None


def as_image(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> npt.NDArray[Any]:
    """Returns the picture of a message as an array: (H, W), (H, W, 3) or (H, W, 4).

    ==================================  =====================================================
    encoding (aliases)                  returned array
    ==================================  =====================================================
    ``bgr8`` (8UC3), ``rgb8``           (H, W, 3) uint8, channels in the order sent
    ``bgra8`` (8UC4), ``rgba8``         (H, W, 4) uint8, channels in the order sent
    ``mono8`` (8UC1)                    (H, W) uint8
    ``mono16``, ``16UC1`` (Z16)         (H, W) uint16
    ``32FC1``, ``64FC1``                (H, W) float32, float64
    ``yuyv`` (yuv422_yuy2), ``uyvy``    (H, W, 3) uint8, converted, blue first
    (yuv422), ``nv12``, ``i420``
    (yuv420)
    ``bayer_{rggb,bggr,gbrg,grbg}8``    (H, W, 3) uint8, converted, blue first
    ``jpeg`` (jpg, jpe), ``png``,       (H, W, 3) uint8, blue first, alpha dropped; a grey
    ``webp``, ``avif``, ``bmp``,        file (H, W) uint8, or of its own type if it has more
    ``tiff``, ``gif``, ...              bits (uint16, float32)
    ==================================  =====================================================

    The metadata's `width`, `height` and `encoding` win, if they fit the array. Else its `shape`, which
    numpy arrays are sent with, gives the size and the likely encoding (``mono8``, ``bgr8``, ``bgra8``,
    or that of the type). Else `size` as (width, height) in pixels and `encoding` are used, and last
    (640, 480) and ``bgr8``. With ``primitive: depth`` the type says the encoding. A float array is a
    picture only with an `encoding` or `primitive`. `image_form` tells what was guessed.

    A compressed picture has the size of its file. It is decoded on each call, as YUV and Bayer are
    converted. Others are a read-only view of the message's memory, which its sender cannot reuse
    meanwhile: copy it before you draw on it or keep it.

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
    pixels = values.view(layout.dtype).reshape(layout.shape(form.width, form.height))
    return layout.as_bgr(pixels)


def image_form(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> ImageForm:
    """Returns the size and encoding of a message's picture, checked against its array; decodes nothing.

    Raises MessageError as `as_image` does, except for damage inside a compressed picture.
    """
    check_event(event, "as_image")
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
    if len(value) == 1 and size is None and encoding is None and _is_scalar(value, metadata):
        raise UnreadableError(
            "it is a single value",
            "Name the topic of a picture; a cell shows a value by latest(TOPIC)['value'][0].",
        )
    if not is_number(value.type):
        looks_like_boxes = pa.types.is_struct(value.type) and could_be_boxes(value)
        hint = "It looks like boxes: pass this topic as boxes=." if looks_like_boxes else None
        raise UnreadableError(
            "its values are not numbers", hint or "Send bytes: pa.array(frame.ravel())."
        )
    if len(value) == 0:
        raise UnreadableError("it is empty", "Send no message when there is no picture.")
    told = _encoding_of(metadata, encoding)
    dtype = as_numpy(value).dtype
    shape = _shape_of(metadata, len(value))
    if told in COMPRESSED and (shape is None or len(shape) == 1 or _starts_as(value, told)):
        return ImageForm(*_size_of_file(value, told), told)
    primitive = metadata.get("primitive")
    primitive = primitive.casefold() if isinstance(primitive, str) else None
    if dtype.kind == "f" and told is None and primitive not in ("depth", "image"):
        raise UnreadableError(
            "its values are floats without an encoding",
            f"If it is depth, send encoding='{depth_encoding(dtype)}' or primitive='depth' "
            f"in the metadata. {_PIXELS_OF_FLOATS}",
        )
    form = _form_of_metadata(value, metadata, size, told, primitive)
    if shape is not None and not (_fits(value, form) and _agrees(form, shape, dtype)):
        could_be_rows = told is None and primitive is None and dtype != np.uint8
        if not (could_be_rows and len(shape) == 2 and shape[1] in _BOX_COLUMNS):
            form = _form_of_shape(shape, dtype, told) or form
    _check_length(value, form)
    if primitive == "depth" and RAW_LAYOUTS[form.encoding].channels == 1:
        return replace(form, is_depth=True)
    return form


def _is_scalar(value: pa.Array[Any], metadata: Mapping[str, Any]) -> bool:
    """Whether a value that is alone is a number, whatever the metadata that its sender has forwarded.

    A picture of one pixel says so, and a compressed one may be cut off after its first byte.
    """
    shape = metadata.get("shape")
    one_pixel = metadata.get("width") == 1 or (isinstance(shape, Sequence) and len(shape) > 1)
    compressed = encoding_named(metadata.get("encoding")) in COMPRESSED
    is_flat = is_number(value.type) or pa.types.is_boolean(value.type)
    return is_flat and not one_pixel and not compressed


def _form_of_metadata(
    value: pa.Array[Any],
    metadata: Mapping[str, Any],
    size: tuple[int, int] | None,
    told: str | None,
    primitive: str | None,
) -> ImageForm:
    """Returns what the message or the reader says, and the usual picture for the rest."""
    try:
        width, height = _size_of(metadata, size)
    except UnreadableError:
        if _shape_of(metadata, len(value)) is None:
            raise
        width, height = DEFAULT_SIZE  # does not matter: the shape is used
    guessed: tuple[str, ...] = ()
    if size is None and not ("width" in metadata and "height" in metadata):
        guessed = (f"{width} x {height}",)
    dtype = as_numpy(value).dtype
    layout = RAW_LAYOUTS.get(told or "")
    is_forwarded = (
        primitive == "depth" and layout is not None and dtype not in (layout.dtype, np.uint8)
    )
    if told is not None and layout is not None and not is_forwarded:
        return _form(width, height, told, guessed)
    name = DEFAULT_ENCODING
    if primitive == "depth" and dtype == np.uint8:
        name = _DEPTH_OF_BYTES.get(len(value) // (width * height), "mono8")
    elif primitive == "depth" or (primitive == "image" and dtype.kind == "f"):
        # The type is the encoding, which is therefore not a guess.
        return _form(width, height, depth_encoding(dtype), guessed)
    return _form(width, height, name, (name, *guessed))


def _form(width: int, height: int, encoding: str, guessed: tuple[str, ...]) -> ImageForm:
    return ImageForm(width, height, encoding, guessed, RAW_LAYOUTS[encoding].is_depth)


def _shape_of(metadata: Mapping[str, Any], length: int) -> tuple[int, ...] | None:
    """Returns the metadata's shape of two or three sides; None if it is not that of this array."""
    shape = metadata.get("shape")
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        return None
    sides = tuple(pixels for side in shape if (pixels := _whole_number(side)) is not None)
    if len(sides) != len(shape) or any(side <= 0 for side in sides) or math.prod(sides) != length:
        return None
    while len(sides) > 3 and sides[0] == 1:  # a batch of one
        sides = sides[1:]
    return sides if len(sides) in (2, 3) else None


def _form_of_shape(
    shape: tuple[int, ...], dtype: np.dtype[Any], told: str | None
) -> ImageForm | None:
    """Returns the picture of this shape, in the encoding that was told if that fits."""
    layout = RAW_LAYOUTS.get(told or "")
    if told is not None and layout is not None and dtype == layout.dtype:
        size = layout.size_of_shape(shape)
        if size is not None:
            return _form(*size, told, ())
    encoding = encoding_of_shape(shape, dtype)
    if encoding is None:
        return None
    return _form(shape[1], shape[0], encoding, (encoding,))


def _agrees(form: ImageForm, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Returns whether the shape is that of the form, or of another layout in memory.

    A turned picture fits a forwarded width and height in length only.
    """
    layout = RAW_LAYOUTS[form.encoding]
    if form.encoding in form.guessed:
        return False
    size = layout.size_of_shape(shape)
    return dtype != layout.dtype or size is None or size == (form.width, form.height)


def _fits(value: pa.Array[Any], form: ImageForm) -> bool:
    try:
        _check_length(value, form)
    except UnreadableError:
        return False
    return True


def _starts_as(value: pa.Array[Any], encoding: str) -> bool:
    return picture_files.sniff(as_numpy(value)[:16].tobytes()) == encoding


def _encoding_of(metadata: Mapping[str, Any], default: str | None) -> str | None:
    word = metadata.get("encoding", default)
    if word is None:
        return None
    known = encoding_named(word)
    if known is None:
        words = list(_ENCODING_OF_WORD)
        hint = did_you_mean(str(word), ENCODINGS) or did_you_mean(str(word).casefold(), words)
        raise UnreadableError(
            f"unknown encoding {word!r}", hint or f"Known encodings: {', '.join(ENCODINGS)}."
        )
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
        raise UnreadableError(
            f"{form.encoding} cannot be sent as {value.type}", _type_hint(dtype, layout, form)
        )
    for side, pixels, even in zip(
        ("width", "height"), (form.width, form.height), layout.must_be_even(), strict=True
    ):
        if even and pixels % 2:
            raise UnreadableError(
                f"{form.encoding} needs an even {side}, and its {side} is {pixels}"
            )
    if dtype == np.uint8:
        needed, unit = layout.num_bytes(form.width, form.height), "bytes"
    else:
        needed, unit = layout.num_values(form.width, form.height), "values"
    if len(value) != needed:
        problem = f"{form.width} x {form.height} in {form.encoding} takes {needed} {unit}"
        raise UnreadableError(problem, _length_hint(value, form))


def _type_hint(dtype: np.dtype[Any], layout: PixelLayout, form: ImageForm) -> str:
    if layout.dtype.kind == "f":
        return f"Send pa.array(frame.astype('{layout.dtype.name}').ravel())."
    if dtype.kind == "f":  # a cast would cut 0..1 to 0
        return f"If it is depth, set encoding='{depth_encoding(dtype)}'. {_PIXELS_OF_FLOATS}"
    if form.encoding in form.guessed and dtype == np.uint16:
        return "It fits encoding='mono16': set that in the metadata."
    return f"Send pa.array(frame.astype('{layout.dtype.name}').ravel())."


def _length_hint(value: pa.Array[Any], form: ImageForm) -> str:
    """Returns the likely reason why an array is not as long as its picture."""
    length = len(value)
    started = picture_files.sniff(as_numpy(value)[:16].tobytes())
    if started is not None:
        return f"It starts like a {started.upper()} file: set encoding='{started}' in the metadata."
    if length == form.width * form.height * 4:
        return (
            "It fits four channels: set encoding='bgra8' in the metadata, or send frame[:, :, :3]."
        )
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
