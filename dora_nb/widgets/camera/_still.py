"""Encodes the still that a saved notebook keeps: a picture with all that is drawn on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dora_nb.data import picture_files
from dora_nb.system import import_cv2

from ..page.colours import TAG_TEXT
from ._drawn import Drawn
from ._pictures import DrawnBox, Picture, at_most, encode_jpeg, shown_pixels
from ._still_overlays import bgr, draw_mask, draw_paths, draw_points

STILL_MAX_WIDTH = 640
STILL_MAX_BYTES = 75_000
"""100 KB once it is base64 in a notebook."""


def still_jpeg(picture: Picture, drawn: Drawn) -> bytes:
    """Returns the picture with its overlays as a JPEG file, small enough to be saved with a notebook.

    It is at most `STILL_MAX_WIDTH` pixels wide and `STILL_MAX_BYTES` long. Raises DamagedPictureError
    if the picture cannot be decoded.
    """
    image = picture_files.decode(picture.data)
    image = shown_pixels(image)
    scale = min(1.0, STILL_MAX_WIDTH / (picture.width or image.shape[1]))
    image = _in_colour(at_most(image, STILL_MAX_WIDTH))
    if drawn.mask is not None:
        draw_mask(image, drawn.mask)
    if drawn.tracks is not None:
        draw_paths(image, drawn.tracks, scale)
    if drawn.points is not None:
        draw_points(image, drawn.points, scale)
    for box in drawn.boxes or []:
        _draw_box(image, box, scale)
    for quality in (85, 75, 60, 45, 30, 15):
        data = encode_jpeg(image, quality)
        if len(data) <= STILL_MAX_BYTES:
            return data
    while len(data) > STILL_MAX_BYTES and image.shape[1] > 32:
        image = at_most(image, image.shape[1] * 3 // 4)
        data = encode_jpeg(image, 30)
    return data


def _in_colour(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if image.ndim == 3:
        return np.ascontiguousarray(image)
    return np.ascontiguousarray(np.repeat(image[:, :, None], 3, axis=2))


def _draw_box(image: npt.NDArray[np.uint8], box: DrawnBox, scale: float) -> None:
    x1, y1, x2, y2, score, label, colour, _ = box
    cv2 = import_cv2()
    height, width = image.shape[:2]
    left, top = (round(min(max(side * scale, -1e4), 1e4)) for side in (x1, y1))
    right, bottom = (round(min(max(side * scale, -1e4), 1e4)) for side in (x2, y2))
    cv2.rectangle(image, (left, top), (right, bottom), bgr(colour), 2, cv2.LINE_AA)
    text = tag_text(label, score)
    if not text:
        return
    text_width = _text_width(text)
    tag_top = top - 17 if top >= 17 else max(0, top)
    tag_left = max(0, min(left - 1, width - text_width - 8))
    if tag_top > height or left > width:
        return
    corner = (tag_left + text_width + 8, tag_top + 17)
    cv2.rectangle(image, (tag_left, tag_top), corner, bgr(colour), cv2.FILLED)
    _put_text(image, text, (tag_left + 4, tag_top + 13))


def tag_text(label: str, score: float | None) -> str:
    """Returns ``robot 0.87``, or ``robot`` without a score; long labels are cut."""
    shown = label if len(label) <= 40 else f"{label[:39]}…"
    return " ".join(([shown] if shown else []) + ([] if score is None else [f"{score:.2f}"]))


_TEXT_PIXELS = 13
_TEXT_WEIGHT = 500


def _text_width(text: str) -> int:
    cv2 = import_cv2()
    if not hasattr(cv2, "FontFace"):
        return int(cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0])
    font = cv2.FontFace("sans")
    box = cv2.getTextSize((4096, 64), text, (0, 0), font, _TEXT_PIXELS, _TEXT_WEIGHT)
    return int(box[2])


def _put_text(image: npt.NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    """Draws text. OpenCV 5 has a font for all scripts; older versions draw ASCII only."""
    cv2 = import_cv2()
    if not hasattr(cv2, "FontFace"):
        style = (cv2.FONT_HERSHEY_SIMPLEX, 0.42, bgr(TAG_TEXT), 1, cv2.LINE_AA)
        cv2.putText(image, _ascii(text), at, *style)
        return
    font = cv2.FontFace("sans")
    cv2.putText(image, text, at, bgr(TAG_TEXT), font, _TEXT_PIXELS, _TEXT_WEIGHT)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
