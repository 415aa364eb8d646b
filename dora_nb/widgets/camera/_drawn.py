"""Overlays as they go to the browser and into the still: reduced, with a colour for each class or object."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.data.masks import Mask
from dora_nb.data.points import Points

from ..page.colours import PALETTE, colour_of
from ._overlays import Overlay, Overlays
from ._paths import Paths
from ._pictures import DrawnBox, drawn_boxes

MAX_DRAWN_POINTS = 5000
MAX_LINES = 2000
MAX_RUNS = 30_000
"""Of a mask: 150 KB. One that would take more is reduced until it does not."""
MAX_MASK_LABELS = 60
"""Those with the largest areas; the others share an entry."""
OTHER_COLOUR = "#b7b7c9"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, eq=False)
class DrawnPoints:
    values: npt.NDArray[np.float32]
    """(N, 3): x, y, score; NaN for a point that is not drawn, and for an unknown score."""
    lines: list[int]
    """Pairs of places in `values`, one after another."""
    colours: list[str]
    """One for each object."""
    per_object: int


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMask:
    """A label image as runs of equal pixels, row by row."""

    number: int
    """Another one for each mask, so that a page need not read the same one twice."""
    width: int
    height: int
    lengths: npt.NDArray[np.uint32]
    places: npt.NDArray[np.uint8]
    """For each run, its place in `legend`, from 1; 0 is not drawn."""
    legend: list[tuple[str, str, float]]
    """Label, colour, share of the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawnPaths:
    paths: list[tuple[int, str, str, int]]
    """Number of the object, label, colour, number of places."""
    places: npt.NDArray[np.float32]
    """(N, 2): x, y of all paths, one after another, the newest of each last."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """All that is drawn on one picture; None for what there is none of."""

    boxes: list[DrawnBox] | None = None
    points: DrawnPoints | None = None
    mask: DrawnMask | None = None
    tracks: DrawnPaths | None = None


def visible(drawn: Drawn, hidden: Collection[str], min_score: float) -> Drawn:
    """Returns what is left without the hidden kinds, and without boxes and points of lower scores."""
    boxes, points = drawn.boxes, drawn.points
    if boxes is not None:
        boxes = [box for box in boxes if box[4] is None or box[4] >= min_score]
    if points is not None:
        values = points.values.copy()
        with np.errstate(invalid="ignore"):
            values[values[:, 2] < min_score, :2] = np.nan
        points = replace(points, values=values)
    left = replace(drawn, boxes=boxes, points=points)
    return replace(left, **dict.fromkeys(hidden))


class Drawer:
    """Makes overlays drawable, and keeps the last of each kind: a slow detector's is drawn many times."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Overlay, Any]] = {}

    def drawn(self, overlays: Overlays | None) -> Drawn:
        """Returns what is drawn. Any thread."""
        if overlays is None:
            return Drawn()
        return Drawn(**{kind: self._one(overlays.of(kind)) for kind in overlays.by_kind})

    def _one(self, overlay: Overlay | None) -> Any:
        if overlay is None:
            return None
        kept = self._kept.get(overlay.kind)
        if kept is not None and kept[0] is overlay:
            return kept[1]
        content = overlay.content
        made: Any
        if isinstance(content, Points):
            made = drawn_points(content)
        elif isinstance(content, Mask):
            made = drawn_mask(content)
        elif isinstance(content, Paths):
            made = drawn_paths(content)
        else:
            assert content is not None
            made = drawn_boxes(content)
        self._kept[overlay.kind] = (overlay, made)
        return made

    def forget(self) -> None:
        """Frees what is kept."""
        self._kept.clear()


def drawn_points(points: Points) -> DrawnPoints:
    """Returns the points and the lines of each object's skeleton. A score of 0 means: not found."""
    values = points.values[:MAX_DRAWN_POINTS].copy()
    values[values[:, 2] <= 0, :2] = np.nan
    per_object = points.per_object or 1
    num_objects = -(-len(values) // per_object)
    lines = [
        first + place
        for first in range(0, len(values), per_object)
        for bone in points.skeleton
        if max(bone) < per_object and first + max(bone) < len(values)
        for place in bone
    ]
    colours = [PALETTE[(3 + place) % len(PALETTE)] for place in range(num_objects)]
    return DrawnPoints(values, lines[: 2 * MAX_LINES], colours, per_object)


def drawn_mask(mask: Mask) -> DrawnMask:
    """Returns the mask as runs of equal pixels."""
    numbers = mask.numbers
    while True:
        flat = numbers.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        if len(starts) <= MAX_RUNS:
            break
        numbers = numbers[::2, ::2]
    lengths = np.diff(np.concatenate([starts, [len(flat)]])).astype(np.uint32)
    # The numbers of the runs and not of the pixels: there are far fewer.
    known, place_of_run = np.unique(flat[starts], return_inverse=True)
    areas = np.bincount(place_of_run, weights=lengths, minlength=len(known))
    shown = [at for at in np.argsort(-areas, kind="stable").tolist() if known[at] > 0]
    named, others = shown[:MAX_MASK_LABELS], shown[MAX_MASK_LABELS:]
    places = np.zeros(len(known), np.uint8)
    legend = []
    for place, at in enumerate(named, 1):
        places[at] = place
        label = mask.label(int(known[at]))
        legend.append((label, colour_of(label), float(areas[at] / len(flat))))
    if others:
        places[others] = len(named) + 1
        share = float(areas[others].sum() / len(flat))
        legend.append((f"{len(others)} more", OTHER_COLOUR, share))
    height, width = numbers.shape
    return DrawnMask(next(_numbers), width, height, lengths, places[place_of_run.ravel()], legend)


def drawn_paths(paths: Paths) -> DrawnPaths:
    """Returns the paths, each in the colour of its object."""
    rows = [
        (path.number, path.label, PALETTE[path.number % len(PALETTE)], len(path.places))
        for path in paths.paths
    ]
    places = np.array([place for path in paths.paths for place in path.places], np.float32)
    return DrawnPaths(rows, places.reshape(-1, 2))
