"""Image files in messages: reading their headers, and decoding.

This module reads the headers itself, for three reasons: a view passes most pictures on without
decoding them, a file of a few bytes may claim any size, and OpenCV shows a picture that was cut off
half grey instead of refusing it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.system import import_cv2

MAX_PIXELS = 100_000_000
"""The largest picture that is decoded (arbitrary; 300 MB of colour)."""
_MAX_PIXELS_PER_BYTE = {"jpeg": 1024, "png": 8300}
"""A progressive JPEG has a bit for each 8 x 8 pixels; deflate packs 1032 to 1, a PNG 8 pixels in a byte.

The other formats have no such limit: a few bytes of WebP or AVIF may be a large picture of one colour.
"""


class DamagedPictureError(ValueError):
    """The bytes are not a whole picture of that format. Its text ends a sentence: "...: it is cut off"."""


def sniff(data: bytes) -> str | None:
    """Returns the format whose signature these bytes start with."""
    return next((name for name, each in FORMATS.items() if each.start.match(data)), None)


def browser_shows(picture_format: str) -> bool:
    """Returns whether browsers decode this format, so that a view need not."""
    return FORMATS[picture_format].in_browsers


def picture_size(data: bytes, picture_format: str) -> tuple[int, int]:
    """Returns the width and height in the file's header, after a check that the file is complete.

    Raises DamagedPictureError. Only decoding finds damage in the middle.
    """
    known = FORMATS[picture_format]
    if not known.start.match(data):
        raise DamagedPictureError(f"it does not start like a {picture_format.upper()} file")
    try:
        size = known.size(data)
    except struct.error:  # the header itself is cut off
        size = None
    if size is None:
        raise DamagedPictureError(f"the {picture_format.upper()} is cut off or damaged")
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise DamagedPictureError(f"its header claims {width} x {height} pixels")
    pixels_per_byte = _MAX_PIXELS_PER_BYTE.get(picture_format)
    if pixels_per_byte is not None and width * height > len(data) * pixels_per_byte:
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


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Returns the size in the first chunk (RFC 9649); None unless the file is as long as it says."""
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < int.from_bytes(data[2:6], "little"):
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # below 0: the first row is the top one


def _gif_size(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    """Returns the tags ImageWidth and ImageLength of the first directory (TIFF 6.0, section 2)."""
    order = "<" if data[:1] == b"I" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    sides: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag in (256, 257):
            (sides[tag],) = struct.unpack_from(
                f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8
            )
    return (sides[256], sides[257]) if len(sides) == 2 else None


def _avif_size(data: bytes) -> tuple[int, int] | None:
    """Returns the largest size of its images: a thumbnail or an alpha channel has one of its own."""
    sizes = [struct.unpack_from(">II", data, box.end() + 4) for box in re.finditer(b"ispe", data)]
    return max(sizes, default=None)


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    at = data.find(b"ihdr")
    if at < 0:
        return None
    height, width = struct.unpack_from(">II", data, at + 4)
    return width, height


def _netpbm_size(data: bytes) -> tuple[int, int] | None:
    found = re.match(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(\d{1,9})\s", data)
    return None if found is None else (int(found[1]), int(found[2]))


def _radiance_size(data: bytes) -> tuple[int, int] | None:
    found = re.search(rb"\n[-+]Y (\d{1,9}) [-+]X (\d{1,9})\n", data[:4096])
    return None if found is None else (int(found[2]), int(found[1]))


def _sun_size(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from(">II", data, 4)
    return width, height


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How to recognize an image file and where its size is."""

    start: re.Pattern[bytes]
    size: Callable[[bytes], tuple[int, int] | None]
    """Width and height, with None for a file that is cut off; may raise struct.error for that too."""
    aliases: tuple[str, ...] = ()
    in_browsers: bool = False


FORMATS = {
    "jpeg": FileFormat(
        re.compile(rb"\xff\xd8\xff"), _jpeg_size, ("jpg", "jpe", "mjpeg", "mjpg"), in_browsers=True
    ),
    "png": FileFormat(re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size, in_browsers=True),
    "webp": FileFormat(re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp_size, in_browsers=True),
    "avif": FileFormat(re.compile(rb".{4}ftypavi[fs]", re.DOTALL), _avif_size, in_browsers=True),
    "bmp": FileFormat(re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL), _bmp_size, ("dib",)),
    "tiff": FileFormat(re.compile(rb"II\*\0|MM\0\*"), _tiff_size, ("tif",)),
    "gif": FileFormat(re.compile(rb"GIF8[79]a"), _gif_size),
    "jp2": FileFormat(re.compile(rb"\0\0\0\x0cjP  "), _jpeg2000_size, ("jpeg2000",)),
    "pnm": FileFormat(re.compile(rb"P[1-6]\s+[#\d]"), _netpbm_size, ("pbm", "pgm", "ppm")),
    "hdr": FileFormat(re.compile(rb"#\?R(ADIANC|GB)E"), _radiance_size),
    "ras": FileFormat(re.compile(rb"\x59\xa6\x6a\x95"), _sun_size, ("sr",)),
}
"""By canonical name."""


def is_deep_grey(data: bytes) -> bool:
    """Returns whether this is a grey PNG of 16 bits: depth, which a browser would show almost black."""
    return sniff(data) == "png" and data[24:26] == b"\x10\x00"


def decode(data: bytes) -> npt.NDArray[Any]:
    """Returns the pixels: (H, W, 3) uint8 blue first, (H, W) uint8 grey, or (H, W) grey of more bits.

    Grey of more bits is uint16 from a PNG, and the file's own type from a format other than JPEG.

    A picture with an EXIF orientation is turned accordingly, as browsers do. Raises
    DamagedPictureError; EngineError if OpenCV is missing.
    """
    cv2 = import_cv2()
    flags = cv2.IMREAD_UNCHANGED if is_deep_grey(data) else cv2.IMREAD_ANYCOLOR
    may_be_deep = sniff(data) not in ("jpeg", "png", "webp", "bmp", "gif")
    encoded = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(encoded, flags | cv2.IMREAD_ANYDEPTH if may_be_deep else flags)
        if image is not None and image.ndim == 3 and image.dtype != np.uint8:
            image = cv2.imdecode(encoded, flags)  # colours: OpenCV reduces them to 8 bits
    except cv2.error as error:
        raise DamagedPictureError(f"OpenCV cannot decode it ({error.err})") from error
    if image is None:
        raise DamagedPictureError("OpenCV cannot decode it")
    decoded: npt.NDArray[Any] = image
    return decoded
