"""How well the detector finds what is on scenes that it never saw.

    python samples/tiny_detector/evaluate.py --seed 1 --scenes 200 --size 640x480

Prints mAP50 and mAP75 over scenes of that seed, per class too, and the part of the objects found on
the moving scene of that seed. Any seed will do: these scenes come from another stream of random
numbers than those of train.py, so no seed of one is a seed of the other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import scene

from tiny_detector.detector import WEIGHTS, TinyDetector, load_detector
from tiny_detector.net import iou

EVALUATION_STREAM = 1
"""Keeps these scenes apart from those of train.py, whatever the seeds of both."""
LEAST_CONFIDENCE = 0.01
"""Precision is averaged over all recalls: for that, doubtful detections count too."""
IOU_FOR_MAP = (0.5, 0.75)

Rows = NDArray[np.float32]
"""``(N, 6)`` as detected: x1, y1, x2, y2, confidence, class."""
Example = tuple[Rows, scene.Boxes]
"""What was detected in a picture, and what is there."""


@dataclass(frozen=True)
class Report:
    average_precision: dict[float, dict[str, float]]
    """By the least IoU that counts as found, then by class; NaN for a class that never occurs."""
    objects: int
    network_ms: float
    """Median time of one picture, choosing boxes included."""

    def mean_average_precision(self, least_iou: float) -> float:
        return float(np.nanmean(list(self.average_precision[least_iou].values())))


def held_out_scenes(
    seed: int, count: int, size: tuple[int, int]
) -> Iterator[tuple[scene.Image, scene.Boxes]]:
    """`count` scenes that no training sees; the same seed gives the same ones."""
    for number in range(count):
        yield scene.random_scene(np.random.default_rng([seed, EVALUATION_STREAM, number]), size)


def evaluate(detector: TinyDetector, *, seed: int, scenes: int, size: tuple[int, int]) -> Report:
    """Average precision of the detector as it is used, on RGB views of BGR pictures."""
    usual, detector.conf = detector.conf, LEAST_CONFIDENCE
    examples, times_ms = [], []
    for image, boxes in held_out_scenes(seed, scenes, size):
        results = detector(image[:, :, ::-1])
        examples.append((results.xyxy[0].numpy(), boxes))
        times_ms.append(sum(results.t))
    detector.conf = usual
    by_iou = {
        least_iou: {
            name: average_precision(examples, kind, least_iou)
            for kind, name in enumerate(scene.CLASS_NAMES)
        }
        for least_iou in IOU_FOR_MAP
    }
    objects = sum(len(boxes) for _, boxes in examples)
    return Report(by_iou, objects, statistics.median(times_ms))


def average_precision(examples: Sequence[Example], kind: int, least_iou: float) -> float:
    """The area under the curve of precision over recall, for one class.

    Precision at a recall is the best one reached at that recall or beyond (as in PASCAL VOC since
    2010, all points). NaN if nothing of the class is there.
    """
    there = sum(int((boxes[:, 4] == kind).sum()) for _, boxes in examples)
    if not there:
        return float("nan")
    verdicts = [verdict for example in examples for verdict in _judge(example, kind, least_iou)]
    verdicts.sort(key=lambda verdict: -verdict[0])
    found = np.cumsum([right for _, right in verdicts])
    precision = found / np.arange(1, len(found) + 1)
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    steps_of_recall = np.diff(found, prepend=0) / there
    return float((steps_of_recall * best_beyond).sum())


def _judge(example: Example, kind: int, least_iou: float) -> Iterator[tuple[float, bool]]:
    """For each detection of a class its confidence, and whether it found something not yet found."""
    rows, boxes = (array[array[:, -1] == kind] for array in example)
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    shared = iou(torch.from_numpy(rows[:, :4]), torch.from_numpy(boxes[:, :4])).numpy()
    for row, overlap in zip(rows, shared, strict=True):
        best = int(overlap.argmax()) if overlap.size else -1
        right = best >= 0 and bool(overlap[best] >= least_iou)
        if right:
            shared[:, best] = -1.0
        yield float(row[4]), right


def found_in_film(
    detector: TinyDetector, *, seed: int, indices: Iterable[int], size: tuple[int, int]
) -> tuple[int, int, int]:
    """On frames of the moving scene, at the usual confidence: objects found, objects, inventions.

    An object is found if a detection of its class covers it with an IoU of 0.5 or more; a detection
    that finds none is an invention.
    """
    film = scene.MovingScene(seed, size)
    found = objects = inventions = 0
    for index in indices:
        rows = detector(film.frame(index)[:, :, ::-1]).xyxy[0].numpy()
        boxes = film.boxes(index)
        for kind in range(len(scene.CLASS_NAMES)):
            verdicts = [right for _, right in _judge((rows, boxes), kind, 0.5)]
            found += sum(verdicts)
            inventions += len(verdicts) - sum(verdicts)
        objects += len(boxes)
    return found, objects, inventions


def describe(report: Report) -> str:
    at_50, at_75 = (report.mean_average_precision(least) for least in IOU_FOR_MAP)
    where = f"{report.objects} objects, {report.network_ms:.1f} ms a picture"
    lines = [f"mAP50 {at_50:.4f}   mAP75 {at_75:.4f}   ({where})"]
    for name in scene.CLASS_NAMES:
        at_50, at_75 = (report.average_precision[least][name] for least in IOU_FOR_MAP)
        lines.append(f"  {name:8} AP50 {at_50:.3f}  AP75 {at_75:.3f}")
    return "\n".join(lines)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    try:
        return int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid size {text!r}: expected WIDTHxHEIGHT") from None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure how well the detector finds objects.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--film-frames", type=int, default=200)
    parser.add_argument("--size", type=_size, default=scene.DEFAULT_SIZE, metavar="WIDTHxHEIGHT")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    detector = load_detector(options.weights)
    report = evaluate(detector, seed=options.seed, scenes=options.scenes, size=options.size)
    print(describe(report))
    # Every seventh frame: 200 of them are more than two laps.
    indices = range(0, 7 * options.film_frames, 7)
    found, objects, inventions = found_in_film(
        detector, seed=options.seed, indices=indices, size=options.size
    )
    print(f"moving scene: {found} of {objects} objects found, {inventions} inventions")


if __name__ == "__main__":
    main()
