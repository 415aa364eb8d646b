"""The report of `make demo`, and the check of its picture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""One row for each box; the first four columns are x1, y1, x2, y2 in pixels."""

MIN_IOU = 0.5
"""How much a detection must overlap an object to lie on it, as in mAP50."""


@dataclass(frozen=True)
class EdgeCounts:
    """One edge, counted by the edge itself."""

    topic: str
    reader: str
    sent: int
    received: int
    dropped: int
    queued: int


@dataclass(frozen=True)
class Measurement:
    """What was measured of the running dataflow."""

    edges: tuple[EdgeCounts, ...]
    detector: str
    detector_p50_secs: float | None
    detector_p95_secs: float | None
    ages_secs: tuple[float, ...]
    """For each picture: from its stamp until the kernel had it."""
    detections: tuple[int, ...]
    """The number of boxes on each picture that the detector processed."""
    frame: int
    picture_png: bytes
    boxes: Boxes
    """The boxes of `frame`: N x 6, with confidence and class."""

    @classmethod
    def from_json(cls, answer: dict[str, Any], picture_png: bytes) -> Measurement:
        return cls(
            edges=tuple(EdgeCounts(**edge) for edge in answer["edges"]),
            detector=answer["detector"],
            detector_p50_secs=answer["detector_p50_secs"],
            detector_p95_secs=answer["detector_p95_secs"],
            ages_secs=tuple(answer["ages_secs"]),
            detections=tuple(answer["detections"]),
            frame=answer["frame"],
            picture_png=picture_png,
            boxes=np.array(answer["boxes"], np.float32).reshape(-1, 6),
        )


def intersection_over_union(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Return, for each pair, the shared area over the area of the union: (N, M), 0 to 1.

    A box without area has an overlap of 0.
    """
    one, other = boxes[:, None, :4], others[None, :, :4]
    width = np.minimum(one[..., 2], other[..., 2]) - np.maximum(one[..., 0], other[..., 0])
    height = np.minimum(one[..., 3], other[..., 3]) - np.maximum(one[..., 1], other[..., 1])
    both = np.clip(width, 0, None) * np.clip(height, 0, None)
    either = _areas(one) + _areas(other) - both
    overlap: NDArray[np.float32] = np.zeros_like(both)
    np.divide(both, either, out=overlap, where=either > 0)
    return overlap


def _areas(boxes: Boxes) -> Boxes:
    sides = np.clip(boxes[..., 2:4] - boxes[..., :2], 0, None)
    areas: Boxes = sides[..., 0] * sides[..., 1]
    return areas


def detections_on_objects(detected: Boxes, truth: Boxes, *, min_iou: float = MIN_IOU) -> int:
    """Return how many of the detections lie on an object of the scene."""
    if not len(detected) or not len(truth):
        return 0
    return int((intersection_over_union(detected, truth).max(axis=1) >= min_iou).sum())


def check_detections(frame: int, detected: Boxes, truth: Boxes) -> tuple[bool, str]:
    """Return whether a detection lies on an object of the scene, and a sentence about it."""
    hits = detections_on_objects(detected, truth)
    sentence = (
        f"frame {frame}: {hits} of {len(detected)} detections lie on one of the "
        f"{len(truth)} objects of the scene (IoU {MIN_IOU:g} or more)"
    )
    return hits > 0, sentence


def report(measured: Measurement) -> str:
    """Return the table of edges and the figures below it, as text for a terminal."""
    return "\n".join([*edge_table(measured.edges), "", *_figures(measured)])


def edge_table(edges: Sequence[EdgeCounts]) -> list[str]:
    """Return one line for each edge. When no message is under way, sent == received + dropped + waiting."""
    heads = ("edge", "sent", "received", "dropped", "waiting")
    rows = [
        (f"{edge.topic} → {edge.reader}", edge.sent, edge.received, edge.dropped, edge.queued)
        for edge in edges
    ]
    name_width = max(len(str(row[0])) for row in (heads, *rows))
    return [
        f"{row[0]:{name_width}}" + "".join(f"{cell:>10}" for cell in row[1:])
        for row in (heads, *rows)
    ]


def _figures(measured: Measurement) -> list[str]:
    found, ages_secs = measured.detections, measured.ages_secs
    mean = f"{sum(found) / len(found):.1f}" if found else "?"
    times = f"p50 {_ms(measured.detector_p50_secs)}, p95 {_ms(measured.detector_p95_secs)}"
    ages = f"p50 {_ms(percentile(ages_secs, 50))}, p95 {_ms(percentile(ages_secs, 95))}"
    return [
        f"{'detections':20}{mean} a picture, over {len(found)} pictures",
        f"{'time of ' + measured.detector:20}{times}",
        f"{'age in the kernel':20}{ages}, over {len(ages_secs)} pictures",
    ]


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the percentile, linear between the two nearest values; None for no values."""
    return float(np.percentile(np.array(values), percent)) if len(values) else None


def _ms(secs: float | None) -> str:
    return "?" if secs is None else f"{secs * 1e3:.1f} ms"
