"""A small picture of a message, for views that show many."""

from __future__ import annotations

import numpy as np

from dora_nb.data.arrow import Event
from dora_nb.data.images import as_image, image_form
from dora_nb.data.pixel_layouts import RAW_LAYOUTS
from dora_nb.system import import_cv2

from ._pictures import encode_jpeg, shown_pixels

QUALITY = 70


def thumbnail(event: Event, max_width: int, max_height: int) -> bytes:
    """Returns the message's picture as a JPEG file of at most that size in pixels; never enlarged.

    Raises MessageError if the message is not a picture, EngineError if OpenCV is missing.
    """
    layout = RAW_LAYOUTS.get(image_form(event).encoding)
    image = as_image(event)
    height, width = image.shape[:2]
    scale = min(1.0, max_width / width, max_height / height)
    # Every n-th pixel first: converting and averaging all of a 4K picture would take 20 ms.
    step = max(1, int(1 / scale) // 4)
    shown = shown_pixels(image[::step, ::step], rgb=layout is not None and layout.red_first)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cv2 = import_cv2()
    small = cv2.resize(np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA)
    return encode_jpeg(small, QUALITY)
