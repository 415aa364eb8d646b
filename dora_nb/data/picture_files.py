"""JPEG and PNG files in messages: reading their headers, and decoding.

This module reads the headers itself, for three reasons: a view passes most pictures on without
decoding them, a file of a few bytes may claim any size, and OpenCV shows a picture that was cut off
half grey instead of refusing it.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.system import import_cv2

FORMATS = ("jpeg", "png")
MAX_PIXELS = 100_000_000
"""The largest picture that is decoded (arbitrary; 300 MB of colour)."""
_MAX_PIXELS_PER_BYTE = {"jpeg": 1024, "png": 8300}
"""A progressive JPEG has a bit for each 8 x 8 pixels; deflate packs 1032 to 1, a PNG 8 pixels in a byte."""

_STARTS = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}


class DamagedPictureError(ValueError):
    """The bytes are not a whole picture of that format. Its text ends a sentence: "...: it is cut off"."""


def sniff(data: bytes) -> str | None:
    """Returns the format whose signature these bytes start with."""
    return next((name for name, start in _STARTS.items() if data.startswith(start)), None)


def picture_size(data: bytes, picture_format: str) -> tuple[int, int]:
    """Returns the width and height in the file's header, after a check that the file is complete.

    Raises DamagedPictureError. Only decoding finds damage in the middle.
    """
    if not data.startswith(_STARTS[picture_format]):
        raise DamagedPictureError(f"it does not start like a {picture_format.upper()} file")
    size = _jpeg_size(data) if picture_format == "jpeg" else _png_size(data)
    if size is None:
        raise DamagedPictureError(f"the {picture_format.upper()} is cut off or damaged")
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise DamagedPictureError(f"its header claims {width} x {height} pixels")
    if width * height > len(data) * _MAX_PIXELS_PER_BYTE[picture_format]:
        raise DamagedPictureError(
            f"its header claims {width} x {height} pixels, too many for {len(data)} bytes"
        )
    return size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Returns the size in the frame header; None unless the scan and its end are there.

    ITU-T T.81, B.1.1: a segment is ff, its code and, before the scan, its length. In the scan itself
    ff is always followed by 00 or a restart marker, so an ffd9 there is the end of the image. An
    embedded preview has an ffd9 of its own, but in a segment before the scan.
    """
    size: tuple[int, int] | None = None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if code == 0xFF:  # fill
            at += 1
            continue
        if code == 0xDA:
            return size if data.find(b"\xff\xd9", at) > 0 else None
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Returns the size in the first chunk; None unless the last chunk is there too (PNG, 5.6)."""
    if len(data) < 33 or data[12:16] != b"IHDR" or b"IEND" not in data[-64:]:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def is_deep_grey(data: bytes) -> bool:
    """Returns whether this is a grey PNG of 16 bits: depth, which a browser would show almost black."""
    return data.startswith(_STARTS["png"]) and data[24:26] == b"\x10\x00"


def decode(data: bytes) -> npt.NDArray[Any]:
    """Returns the pixels: (H, W, 3) uint8 blue first, (H, W) uint8 grey, or (H, W) uint16 grey.

    A picture with an EXIF orientation is turned accordingly, as browsers do. Raises
    DamagedPictureError; EngineError if OpenCV is missing.
    """
    cv2 = import_cv2()
    flags = cv2.IMREAD_UNCHANGED if is_deep_grey(data) else cv2.IMREAD_ANYCOLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DamagedPictureError(f"OpenCV cannot decode it ({error.err})") from error
    if image is None:
        raise DamagedPictureError("OpenCV cannot decode it")
    decoded: npt.NDArray[Any] = image
    return decoded
