"""Encodes the pictures that go to the browser, and the boxes that are drawn on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.data import picture_files
from dora_nb.data.arrow import Event
from dora_nb.data.boxes import Boxes
from dora_nb.data.images import COMPRESSED, as_image, image_form
from dora_nb.data.pixel_layouts import RAW_LAYOUTS
from dora_nb.errors import MessageError
from dora_nb.system import import_cv2

from ..page.colours import colour_of

LIVE_MAX_WIDTH = 1280
LIVE_QUALITY = 80
MAX_DRAWN_BOXES = 1000
"""The boxes with the highest scores are drawn. A message with 10,000 would be half a megabyte."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it goes to the browser."""

    data: bytes
    mime: str
    width: int
    """Of the frame that boxes refer to; 0 if only decoding can tell (a JPEG may have an orientation)."""
    height: int
    notes: tuple[str, ...] = ()
    """What the view's line says of it: ``"depth 0.5 (dark) to 4 (bright)"``, ``"guessed: mono8"``."""


def picture_of(
    event: Event, size: tuple[int, int] | None = None, encoding: str | None = None
) -> Picture:
    """Returns the message's picture for a browser: files that browsers show unchanged, others as JPEG.

    Raises MessageError if the message is not a picture, EngineError if OpenCV is missing.
    """
    form = image_form(event, size, encoding)
    if form.encoding in COMPRESSED:
        data: bytes = event["value"].to_numpy(zero_copy_only=True).tobytes()
        if picture_files.browser_shows(form.encoding) and not picture_files.is_deep_grey(data):
            return Picture(data, f"image/{form.encoding}", 0, 0)
    image = as_image(event, size, encoding)
    notes = [f"guessed: {', '.join(form.guessed)}"] if form.guessed else []
    if image.ndim == 2 and (form.is_depth or image.dtype != np.uint8):
        shown, span = _scaled(image)
        word = "values" if form.encoding == "mono16" else "depth"
        if span is None:
            notes.insert(0, f"no {word}")
        else:
            notes.insert(0, f"{word} {_short(span[0])} (dark) to {_short(span[1])} (bright)")
    else:
        layout = RAW_LAYOUTS.get(form.encoding)
        shown = shown_pixels(image, rgb=layout is not None and layout.red_first)
    height, width = shown.shape[:2]
    encoded = encode_jpeg(at_most(shown, LIVE_MAX_WIDTH))
    return Picture(encoded, "image/jpeg", width, height, tuple(notes))


def shown_pixels(image: npt.NDArray[Any], *, rgb: bool = False) -> npt.NDArray[np.uint8]:
    """Returns the picture with 8 bits per channel, blue first, without alpha.

    Depth is scaled from the nearest value (dark) to the farthest; zero and values that are not finite
    mean "unknown" and are black. The scale ignores the outer 2 %, as one wrong value would turn the
    rest grey.
    """
    if image.dtype != np.uint8:
        return _scaled(image)[0]
    if not rgb:
        return image if image.ndim == 2 else image[:, :, :3]
    cv2 = import_cv2()
    converted: npt.NDArray[np.uint8] = cv2.cvtColor(image[:, :, :3], cv2.COLOR_RGB2BGR)
    return converted


def _short(number: float) -> str:
    return f"{number:.0f}" if 100 <= abs(number) < 1e7 else f"{number:.3g}"


def _scaled(
    image: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.uint8], tuple[float, float] | None]:
    """Returns depth as grey, and the values that are the darkest and the brightest (None without any)."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf: unknown
        depth = image.astype(np.float32)
    valid = np.isfinite(depth) & (depth != 0)
    if not valid.any():
        return np.zeros(image.shape, np.uint8), None
    nearest, farthest = np.percentile(
        depth[valid][::7] if valid.sum() > 1000 else depth[valid], (1, 99)
    )
    scaled = (depth - nearest) * (225 / max(float(farthest - nearest), 1e-6)) + 30
    grey = np.where(valid, np.clip(np.nan_to_num(scaled), 30, 255), 0).astype(np.uint8)
    return grey, (float(nearest), float(farthest))


def encode_jpeg(image: npt.NDArray[np.uint8], quality: int = LIVE_QUALITY) -> bytes:
    """Returns the image, blue first or grey, as a JPEG file."""
    cv2 = import_cv2()
    done, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise MessageError(f"cannot encode a picture of shape {image.shape} as JPEG.")
    data: bytes = encoded.tobytes()
    return data


def at_most(image: npt.NDArray[np.uint8], max_width: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    if width <= max_width:
        return image
    cv2 = import_cv2()
    size = (max_width, max(1, round(height * max_width / width)))
    smaller: npt.NDArray[np.uint8] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return smaller


DrawnBox = tuple[float, float, float, float, float | None, str, str, int]
"""x1, y1, x2, y2 in pixels of the frame, score (None if unknown), label, colour, row in `as_boxes`."""


def drawn_boxes(boxes: Boxes) -> list[DrawnBox]:
    """Returns the boxes as the browser and the still draw them, the highest scores last (on top)."""
    order = np.argsort(boxes.values[:, 4], kind="stable")[-MAX_DRAWN_BOXES:]
    values = boxes.values.astype(float)
    return [
        (
            *(round(side, 1) for side in values[place, :4].tolist()),
            _score(values[place, 4]),
            boxes.labels[place],
            colour_of(boxes.labels[place]),
            place,
        )
        for place in order.tolist()
    ]


def _score(confidence: float) -> float | None:
    # JSON has no NaN: a page could not parse it.
    return None if math.isnan(confidence) else round(float(confidence), 3)
