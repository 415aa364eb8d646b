"""The encodings of uncompressed pictures: how each lies in memory, its aliases, and its conversion.

The names are those of dora's nodes and of ROS (``sensor_msgs/image_encodings``). This table is the only
place that knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.system import import_cv2


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How the pixels of a raw picture lie in memory."""

    dtype: np.dtype[Any]
    channels: int
    """Values per pixel, side by side; 1 if the colours lie in planes."""
    aliases: tuple[str, ...] = ()
    red_first: bool = False
    conversion: str | None = None
    """The constant of `cv2.cvtColor` that makes it BGR; None if the values are shown as they are."""
    has_planes: bool = False
    """Brightness for each pixel, then two colours for each 2 x 2 pixels (4:2:0)."""

    def num_values(self, width: int, height: int) -> int:
        if self.has_planes:
            return width * height * 3 // 2
        return width * height * self.channels

    def num_bytes(self, width: int, height: int) -> int:
        return self.num_values(width, height) * self.dtype.itemsize

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        if self.has_planes:
            return (height * 3 // 2, width)
        return (height, width) if self.channels == 1 else (height, width, self.channels)

    def size_of_shape(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """Returns the width and height of an array of that shape; None if it cannot be this layout."""
        channels = shape[2] if len(shape) == 3 else 1
        if channels == self.channels:
            height = shape[0] * 2 // 3 if self.has_planes else shape[0]
            return shape[1], height
        if len(shape) == 2 and shape[1] % self.channels == 0 and self.conversion is not None:
            return shape[1] // self.channels, shape[0]
        return None

    def must_be_even(self) -> tuple[bool, bool]:
        """Returns whether the width, and the height, must be even, since pixels share a colour."""
        return self.has_planes or self.channels == 2, self.has_planes

    @property
    def is_depth(self) -> bool:
        """Whether the values are distances, or brightness of more than 8 bits: shown scaled."""
        return self.channels == 1 and self.dtype != np.uint8

    def as_bgr(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns YUV and Bayer pixels as (H, W, 3) uint8, blue first; others unchanged."""
        if self.conversion is None:
            return pixels
        cv2 = import_cv2()
        converted: npt.NDArray[Any] = cv2.cvtColor(pixels, getattr(cv2, self.conversion))
        return converted


_U8 = np.dtype(np.uint8)


def _bayer(conversion: str) -> PixelLayout:
    return PixelLayout(_U8, 1, conversion=conversion)


RAW_LAYOUTS = {
    "bgr8": PixelLayout(_U8, 3, ("8UC3", "bgr")),
    "rgb8": PixelLayout(_U8, 3, ("rgb",), red_first=True),
    "mono8": PixelLayout(_U8, 1, ("8UC1", "gray8", "grey8")),
    "mono16": PixelLayout(np.dtype("<u2"), 1),
    "32FC1": PixelLayout(np.dtype("<f4"), 1),
    "64FC1": PixelLayout(np.dtype("<f8"), 1),
    "16FC1": PixelLayout(np.dtype("<f2"), 1),
    "16UC1": PixelLayout(np.dtype("<u2"), 1, ("Z16",)),
    "16SC1": PixelLayout(np.dtype("<i2"), 1),
    "32SC1": PixelLayout(np.dtype("<i4"), 1),
    "32UC1": PixelLayout(np.dtype("<u4"), 1),
    "64SC1": PixelLayout(np.dtype("<i8"), 1),
    "64UC1": PixelLayout(np.dtype("<u8"), 1),
    "8SC1": PixelLayout(np.dtype("i1"), 1),
    "bgra8": PixelLayout(_U8, 4, ("8UC4", "bgra")),
    "rgba8": PixelLayout(_U8, 4, ("rgba",), red_first=True),
    "yuyv": PixelLayout(_U8, 2, ("yuv422_yuy2", "yuy2"), conversion="COLOR_YUV2BGR_YUY2"),
    "uyvy": PixelLayout(_U8, 2, ("yuv422",), conversion="COLOR_YUV2BGR_UYVY"),
    "nv12": PixelLayout(_U8, 1, conversion="COLOR_YUV2BGR_NV12", has_planes=True),
    "i420": PixelLayout(_U8, 1, ("yuv420",), conversion="COLOR_YUV2BGR_I420", has_planes=True),
    # OpenCV names a Bayer pattern by its second row, the encodings name it by its first pixels.
    "bayer_rggb8": _bayer("COLOR_BayerBG2BGR"),
    "bayer_bggr8": _bayer("COLOR_BayerRG2BGR"),
    "bayer_gbrg8": _bayer("COLOR_BayerGR2BGR"),
    "bayer_grbg8": _bayer("COLOR_BayerGB2BGR"),
}
"""By canonical name."""
_OF_TYPE = {
    layout.dtype: name
    for name, layout in reversed(RAW_LAYOUTS.items())
    if layout.channels == 1 and layout.conversion is None and name != "mono16"
}


def depth_encoding(dtype: np.dtype[Any]) -> str:
    """Returns the encoding of one value of this type per pixel."""
    return _OF_TYPE[dtype]


def encoding_of_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """Returns the likely encoding of a numpy array; None if it is not a usual picture."""
    channels = shape[2] if len(shape) == 3 else 1
    if channels == 1:
        return "mono16" if dtype == np.uint16 else _OF_TYPE.get(dtype)
    return {3: "bgr8", 4: "bgra8"}.get(channels) if dtype == np.uint8 else None
