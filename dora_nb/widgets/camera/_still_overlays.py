"""Draws points, masks and paths on the still of a view, as the page draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.system import import_cv2

from ._drawn import DrawnMask, DrawnPaths, DrawnPoints

MASK_OPACITY = 0.45
_DARK = (21, 16, 12)
_FAR = 1e4
"""OpenCV overflows where lines begin much farther outside of the picture."""


def bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return blue, green, red


def draw_mask(image: npt.NDArray[np.uint8], mask: DrawnMask) -> None:
    """Draws a label image that covers the whole picture."""
    cv2 = import_cv2()
    height, width = image.shape[:2]
    places = np.repeat(mask.places, mask.lengths).reshape(mask.height, mask.width)
    places = cv2.resize(places, (width, height), interpolation=cv2.INTER_NEAREST)
    colours = np.array([(0, 0, 0), *(bgr(colour) for _, colour, _ in mask.legend)], np.float32)
    shown = places > 0
    mixed = image[shown] * (1 - MASK_OPACITY) + colours[places[shown]] * MASK_OPACITY
    image[shown] = mixed.astype(np.uint8)


def draw_points(image: npt.NDArray[np.uint8], points: DrawnPoints, scale: float) -> None:
    cv2 = import_cv2()
    shown = ~np.isnan(points.values[:, 0])
    places = _places(points.values[:, :2], scale)
    for begin, end in zip(points.lines[::2], points.lines[1::2], strict=True):
        if shown[begin] and shown[end]:
            colour = bgr(points.colours[begin // points.per_object])
            cv2.line(image, places[begin], places[end], _DARK, 4, cv2.LINE_AA)
            cv2.line(image, places[begin], places[end], colour, 2, cv2.LINE_AA)
    for place in np.flatnonzero(shown).tolist():
        colour = bgr(points.colours[place // points.per_object])
        cv2.circle(image, places[place], 4, _DARK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(image, places[place], 3, colour, cv2.FILLED, cv2.LINE_AA)


def draw_paths(image: npt.NDArray[np.uint8], paths: DrawnPaths, scale: float) -> None:
    cv2 = import_cv2()
    places = _places(paths.places, scale)
    first = 0
    for _, _, colour, count in paths.paths:
        line: npt.NDArray[Any] = np.array(places[first : first + count], np.int32)
        first += count
        cv2.polylines(image, [line], False, _DARK, 4, cv2.LINE_AA)
        cv2.polylines(image, [line], False, bgr(colour), 2, cv2.LINE_AA)
        cv2.circle(image, tuple(line[-1].tolist()), 4, bgr(colour), cv2.FILLED, cv2.LINE_AA)


def _places(values: npt.NDArray[np.float32], scale: float) -> list[tuple[int, int]]:
    near = np.clip(np.nan_to_num(values) * scale, -_FAR, _FAR).round().astype(int)
    return [(x, y) for x, y in near.tolist()]
