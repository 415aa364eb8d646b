"""Trains the detector on scenes as they are rendered: each scene is seen once, none is stored.

    python samples/tiny_detector/train.py                     writes weights.pt beside this file
    python samples/tiny_detector/train.py --check             about a minute; exits 1 if it learns badly

The same seed and number of steps give the same weights on the same machine and version of torch,
as long as the time did not run out first. One thread; time is processor time.
"""

from __future__ import annotations

import argparse
import copy
import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import scene

from tiny_detector.detector import WEIGHTS, as_detector, load_detector
from tiny_detector.evaluate import describe, evaluate
from tiny_detector.net import STRIDE, TinyNet, boxes_of

STEPS = 2400
MINUTES = 20.0
PICTURES_PER_STEP = 4
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-3
WARM_UP_STEPS = 60
BOX_LOSS_WEIGHT = 2.0
SIZES = ((640, 480), (640, 480), (640, 480), (512, 512), (480, 640), (480, 368), (640, 368))
"""What a step's pictures may measure: mostly what the camera of the notebooks sends."""

CHECK_STEPS = 150
CHECK_SCENES = 60
CHECK_MAP50 = 0.4
"""What `--check` must reach; README.md has what it did reach, for several seeds."""

CLASSES = len(scene.CLASS_NAMES)
TRAINING_STREAM = 0
"""Keeps these scenes apart from those of evaluate.py, whatever the seeds of both."""


# ---------------------------------------------------------------- targets and losses


class Targets:
    """For a batch: the heat maps, and for the cells that must know a box, which."""

    def __init__(self, all_boxes: Sequence[NDArray[np.float32]], rows: int, columns: int) -> None:
        self.heat = np.zeros((len(all_boxes), CLASSES, rows, columns), np.float32)
        self.boxes = np.zeros((len(all_boxes), rows, columns, 4), np.float32)
        self.holds_box = np.zeros((len(all_boxes), rows, columns), bool)
        for number, boxes in enumerate(all_boxes):
            for box in boxes:
                self._add(number, box[:4], int(box[4]))

    def _add(self, number: int, edges: NDArray[np.float32], kind: int) -> None:
        rows, columns = self.heat.shape[2:]
        cells = edges / STRIDE
        column = min(int((cells[0] + cells[2]) / 2), columns - 1)
        row = min(int((cells[1] + cells[3]) / 2), rows - 1)
        self.heat[number, kind] = np.maximum(
            self.heat[number, kind], _bump(cells, row, column, rows, columns)
        )
        for y in range(max(0, row - 1), min(rows, row + 2)):
            for x in range(max(0, column - 1), min(columns, column + 2)):
                inside = cells[0] < x + 0.5 < cells[2] and cells[1] < y + 0.5 < cells[3]
                if inside and (not self.holds_box[number, y, x] or (y, x) == (row, column)):
                    self.boxes[number, y, x] = edges
                    self.holds_box[number, y, x] = True


def _bump(
    cells: NDArray[np.float32], row: int, column: int, rows: int, columns: int
) -> NDArray[np.float32]:
    """1 in the cell of the middle, falling off over a sixth of the object to each side."""
    width, height = max(0.6, (cells[2] - cells[0]) / 6), max(0.6, (cells[3] - cells[1]) / 6)
    across = np.exp(-((np.arange(columns) - column) ** 2) / (2 * width**2))
    down = np.exp(-((np.arange(rows) - row) ** 2) / (2 * height**2))
    return np.outer(down, across).astype(np.float32)


def heat_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """CornerNet's focal loss, per object: near a middle a wrong "yes" costs less."""
    predicted = logits.sigmoid()
    is_middle = heat == 1
    missed = (1 - predicted) ** 2 * functional.logsigmoid(logits) * is_middle
    invented = (1 - heat) ** 4 * predicted**2 * functional.logsigmoid(-logits) * ~is_middle
    return -(missed + invented).sum() / is_middle.sum().clamp(min=1)


def box_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - generalised IoU, mean over pairs of boxes ``(N, 4)``; 0 where there are none."""
    if not len(truth):
        return boxes.sum() * 0.0
    common = _sides(
        torch.maximum(boxes[:, :2], truth[:, :2]), torch.minimum(boxes[:, 2:], truth[:, 2:])
    )
    hull = _sides(
        torch.minimum(boxes[:, :2], truth[:, :2]), torch.maximum(boxes[:, 2:], truth[:, 2:])
    )
    union = _sides(boxes[:, :2], boxes[:, 2:]) + _sides(truth[:, :2], truth[:, 2:]) - common
    return (1 - common / union + (hull - union) / hull).mean()


def _sides(upper_left: Tensor, lower_right: Tensor) -> Tensor:
    return (lower_right - upper_left).clamp(min=0).prod(dim=1)


# ---------------------------------------------------------------- learning


def batch(rng: np.random.Generator) -> tuple[Tensor, Targets]:
    """New scenes of one size: RGB pictures ``(B, 3, H, W)`` in 0..1, and what is on them."""
    size = SIZES[rng.integers(len(SIZES))]
    scenes = [scene.random_scene(rng, size) for _ in range(PICTURES_PER_STEP)]
    # Made in the order that convolutions are fastest in (channels last): a view, not a copy.
    pixels = np.stack([image[:, :, ::-1] for image, _ in scenes])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    targets = Targets([boxes for _, boxes in scenes], size[1] // STRIDE, size[0] // STRIDE)
    return pictures.contiguous(memory_format=torch.channels_last), targets


def loss_of(output: Tensor, targets: Targets) -> Tensor:
    holds_box = torch.from_numpy(targets.holds_box)
    boxes = boxes_of(output[:, CLASSES:])[holds_box]
    truth = torch.from_numpy(targets.boxes)[holds_box]
    heat = heat_loss(output[:, :CLASSES], torch.from_numpy(targets.heat))
    return heat + BOX_LOSS_WEIGHT * box_loss(boxes, truth)


def learning_rate(step: int, progress: float) -> float:
    """A short warm-up, then half a cosine down to a hundredth."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return PEAK_LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.01, cosine)


class Average:
    """The moving average of a network's weights: steadier than the weights of any one step."""

    def __init__(self, net: TinyNet) -> None:
        self.net = copy.deepcopy(net).eval()
        self._steps = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self._steps += 1
        keep = min(0.995, (1 + self._steps) / (10 + self._steps))
        for mean, new in zip(
            self.net.state_dict().values(), net.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - keep)
            else:
                mean.copy_(new)


def train(
    *, seed: int, steps: int, minutes: float, say: Callable[[str], None] = print
) -> tuple[TinyNet, float]:
    """The trained network, ready for inference, and the processor seconds it took.

    Ends after `steps` or `minutes`, whichever comes first; the learning rate falls in time for both.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, TRAINING_STREAM])
    net = TinyNet(CLASSES).to(memory_format=torch.channels_last)
    average = Average(net)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=WEIGHT_DECAY)
    started, printed_secs = time.process_time(), 0.0
    recent_losses: list[float] = []
    for step in range(steps):
        spent_secs = time.process_time() - started
        progress = max(step / steps, spent_secs / (60 * minutes))
        if progress >= 1:
            say(f"the time is over after {step} of {steps} steps")
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress)
        pictures, targets = batch(rng)
        loss = loss_of(net(pictures), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        average.update(net)
        recent_losses.append(loss.item())
        if spent_secs - printed_secs >= 20:
            printed_secs = spent_secs
            mean = sum(recent_losses) / len(recent_losses)
            left_secs = spent_secs * (1 - progress) / max(progress, 1e-9)
            say(f"step {step}/{steps}  loss {mean:.3f}  {spent_secs:.0f} s, {left_secs:.0f} s left")
            recent_losses.clear()
    return average.net, time.process_time() - started


def save(net: nn.Module, path: Path) -> None:
    """The weights as 16-bit floats: half the file, and no measurable difference in what is found."""
    state = net.state_dict()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)


# ---------------------------------------------------------------- the command


def check(*, seed: int, say: Callable[[str], None]) -> bool:
    """Trains a little and from scratch; whether that finds as much as it should."""
    net, spent_secs = train(seed=seed, steps=CHECK_STEPS, minutes=MINUTES, say=say)
    report = evaluate(as_detector(net), seed=seed, scenes=CHECK_SCENES, size=scene.DEFAULT_SIZE)
    reached = report.mean_average_precision(0.5)
    good = reached >= CHECK_MAP50
    say(
        f"mAP50 {reached:.3f} after {CHECK_STEPS} steps and {spent_secs:.0f} s; "
        f"{'good' if good else 'too little'}: it should be {CHECK_MAP50} or more"
    )
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Trains the detector on rendered scenes.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of processor time, at most")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument(
        "--check", action="store_true", help="train for a minute, compare, write nothing"
    )
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    say = functools.partial(print, flush=True)
    if options.check:
        return 0 if check(seed=options.seed, say=say) else 1
    net, spent_secs = train(
        seed=options.seed, steps=options.steps, minutes=options.minutes, say=say
    )
    save(net, options.out)
    say(f"{options.out}: {options.out.stat().st_size:,} bytes, after {spent_secs:.0f} s")
    report = evaluate(
        load_detector(options.out), seed=options.seed, scenes=100, size=scene.DEFAULT_SIZE
    )
    say(describe(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
