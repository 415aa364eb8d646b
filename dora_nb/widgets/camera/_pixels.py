"""The value of one pixel of a message's picture, as text for the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.data.arrow import Event
from dora_nb.data.images import as_image, image_form
from dora_nb.data.pixel_layouts import RAW_LAYOUTS


class PixelReader:
    """Reads pixels of the pictures that a view shows. Keeps the last one decoded, for the next question."""

    def __init__(self, size: tuple[int, int] | None, encoding: str | None) -> None:
        self._size = size
        self._encoding = encoding
        self._event: Event | None = None
        self._image: npt.NDArray[Any] | None = None

    def text(self, event: Event, x: int, y: int) -> str | None:
        """Returns ``R 120 G 14 B 3``, ``1.234`` or ``4095``: the value as it was sent; None outside.

        Raises MessageError if the message is not a picture, EngineError if OpenCV is needed and missing.
        """
        if event is not self._event:
            self._image = as_image(event, self._size, self._encoding)
            self._event = event
        assert self._image is not None
        height, width = self._image.shape[:2]
        if not (0 <= x < width and 0 <= y < height):
            return None
        value = self._image[y, x]
        if self._image.ndim == 2:
            return number_text(value)
        layout = RAW_LAYOUTS.get(image_form(event, self._size, self._encoding).encoding)
        red_first = layout is not None and layout.red_first
        red, green, blue = value[:3] if red_first else value[2::-1]
        alpha = f" A {value[3]}" if len(value) == 4 else ""
        return f"R {red} G {green} B {blue}{alpha}"

    def forget(self) -> None:
        """Frees the picture."""
        self._event = self._image = None


def number_text(value: Any) -> str:
    """Returns whole numbers in full, and floats with as many digits as their type tells apart."""
    if isinstance(value, np.integer):
        return str(value)
    digits = {2: 4, 4: 6}.get(value.dtype.itemsize, 10)
    return f"{float(value):.{digits}g}"
