"""Boxes of two versions on one picture: which are the same, moved, gained or lost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dora_nb.data.boxes import Boxes

SAME_OBJECT_IOU = 0.5
"""Two boxes with one label that overlap at least so much show one object."""


@dataclass(frozen=True, slots=True)
class BoxDifference:
    """How the boxes of a message differ. Numbers are the boxes' places in their message."""

    same: tuple[tuple[int, int], ...]
    """Matched boxes with equal corners: (before, after)."""
    moved: tuple[tuple[int, int], ...]
    """Matched boxes whose corners differ."""
    gained: tuple[int, ...]
    lost: tuple[int, ...]
    max_shift: float
    """How far a corner of a matched box has moved at most, in pixels along one axis."""
    max_confidence_error: float

    @property
    def matched(self) -> int:
        """How many boxes show the same object in both versions."""
        return len(self.same) + len(self.moved)

    @property
    def equal(self) -> bool:
        """Whether all boxes are the same, their confidence included."""
        return not (self.moved or self.gained or self.lost or self.max_confidence_error)

    def __str__(self) -> str:
        parts = []
        if self.moved:
            parts.append(f"{_boxes(len(self.moved))} moved by up to {self.max_shift:.3g} px")
        parts += [f"{_boxes(len(self.gained))} gained"] if self.gained else []
        parts += [f"{_boxes(len(self.lost))} lost"] if self.lost else []
        if self.max_confidence_error:
            parts.append(f"confidence differs by up to {self.max_confidence_error:.3g}")
        return ", ".join(parts) or f"{_boxes(self.matched)} equal"


def box_difference(before: Boxes, after: Boxes) -> BoxDifference:
    """Matches boxes with one label, the largest overlap (IoU) first, and compares the corners of each match."""
    overlaps = _overlaps(before.values, after.values)
    olds, news = np.array(before.labels, object), np.array(after.labels, object)
    overlaps[olds[:, None] != news[None, :]] = 0.0
    matches = []
    # By falling overlap; `stable` makes the result the same in each run where overlaps are equal.
    for place in np.argsort(-overlaps, axis=None, kind="stable"):
        old, new = divmod(int(place), overlaps.shape[1])
        if overlaps[old, new] < SAME_OBJECT_IOU:
            break
        matches.append((old, new))
        overlaps[old, :] = overlaps[:, new] = 0.0
    shifts = [_largest(before.values[old, :4], after.values[new, :4]) for old, new in matches]
    surer = [_largest(before.values[old, 4:5], after.values[new, 4:5]) for old, new in matches]
    order = sorted(range(len(matches)), key=lambda at: matches[at])
    old_ones, new_ones = {old for old, _ in matches}, {new for _, new in matches}
    return BoxDifference(
        same=tuple(matches[at] for at in order if not shifts[at]),
        moved=tuple(matches[at] for at in order if shifts[at]),
        gained=tuple(at for at in range(len(after)) if at not in new_ones),
        lost=tuple(at for at in range(len(before)) if at not in old_ones),
        max_shift=max(shifts, default=0.0),
        max_confidence_error=max(surer, default=0.0),
    )


def _overlaps(
    before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Intersection over union of each box with each, (N, M) float64."""
    olds, news = before[:, None, :4].astype(float), after[None, :, :4].astype(float)
    sides = np.minimum(olds[..., 2:], news[..., 2:]) - np.maximum(olds[..., :2], news[..., :2])
    common = np.prod(np.clip(sides, 0.0, None), axis=-1)
    areas = [np.prod(each[..., 2:] - each[..., :2], axis=-1) for each in (olds, news)]
    union = areas[0] + areas[1] - common
    overlaps: npt.NDArray[np.float64] = np.divide(
        common, union, out=np.zeros_like(common), where=union > 0
    )
    # A box without area overlaps nothing, and is still the same box.
    overlaps[(olds == news).all(axis=-1)] = 1.0
    return overlaps


def _largest(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    """The largest difference; an unknown value (NaN) equals an unknown one alone."""
    unknown = np.isnan(before) | np.isnan(after)
    if (np.isnan(before) != np.isnan(after)).any():
        return float("inf")
    return float(np.abs(before - after)[~unknown].max(initial=0.0))


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"
