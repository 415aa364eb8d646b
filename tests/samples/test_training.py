"""What the detector is measured by, and that it learns; training it for good takes twelve minutes."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scene
import torch
from tiny_detector import evaluate, train
from tiny_detector.net import TinyNet

from .conftest import SAMPLES

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def found(*rows: tuple[float, ...]) -> evaluate.Rows:
    return np.array(rows, np.float32).reshape(-1, 6)


def there(*rows: tuple[float, ...]) -> scene.Boxes:
    return np.array(rows, np.float32).reshape(-1, 5)


LEFT, RIGHT = (0, 0, 10, 10), (50, 0, 60, 10)
SHIFTED = (2, 0, 12, 10)
"""Shares two thirds with `LEFT`: 80 of 120."""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(*LEFT, 0.9, 1), (*RIGHT, 0.8, 1)], 1.0),
        ([(*LEFT, 0.9, 1)], 0.5),
        ([], 0.0),
        ([(*LEFT, 0.9, 2), (*RIGHT, 0.8, 2)], 0.0),
        # The same object twice: the second time is an invention, before the right one or after.
        ([(*LEFT, 0.9, 1), (*LEFT, 0.8, 1), (*RIGHT, 0.7, 1)], 0.5 + 0.5 * 2 / 3),
        ([(*LEFT, 0.9, 1), (*LEFT, 0.7, 1), (*RIGHT, 0.8, 1)], 1.0),
        # An invention that is more confident than all the rest.
        ([(200, 0, 210, 10, 0.95, 1), (*LEFT, 0.9, 1), (*RIGHT, 0.8, 1)], 2 / 3),
        ([(*SHIFTED, 0.9, 1), (*RIGHT, 0.8, 1)], 1.0),
    ],
)
def test_average_precision_of_one_picture(rows: list[tuple[float, ...]], expected: float) -> None:
    example = (found(*rows), there((*LEFT, 1), (*RIGHT, 1)))
    assert evaluate.average_precision([example], 1, 0.5) == pytest.approx(expected)


def test_a_stricter_overlap_finds_less() -> None:
    example = (found((*SHIFTED, 0.9, 1)), there((*LEFT, 1)))
    assert evaluate.average_precision([example], 1, 0.66) == 1.0
    assert evaluate.average_precision([example], 1, 0.67) == 0.0


def test_confidences_are_compared_across_pictures() -> None:
    invented = (found((*LEFT, 0.9, 1)), there())
    right = (found((*LEFT, 0.5, 1)), there((*LEFT, 1)))
    assert evaluate.average_precision([right, invented], 1, 0.5) == 0.5
    assert math.isnan(evaluate.average_precision([invented], 1, 0.5))


def test_evaluation_and_training_never_share_a_scene() -> None:
    for seed in range(3):
        trained = scene.random_scene(np.random.default_rng([seed, train.TRAINING_STREAM]))[0]
        for held_out, _ in evaluate.held_out_scenes(seed, 5, scene.DEFAULT_SIZE):
            assert not np.array_equal(trained, held_out)
    (first, _), (second, _) = evaluate.held_out_scenes(0, 2, (64, 64))
    assert not np.array_equal(first, second)


def test_targets_mark_the_middle_and_the_cells_around_it() -> None:
    box = np.array([[8.0, 16.0, 40.0, 48.0, 2.0]], np.float32)  # the middle: row 4, column 3
    targets = train.Targets([box, box[:0]], rows=8, columns=10)
    assert targets.heat.shape == (2, len(scene.CLASS_NAMES), 8, 10)
    assert (targets.heat == 1).sum() == 1
    assert targets.heat[0, 2, 4, 3] == 1
    assert 0 < targets.heat[0, 2, 4, 5] < targets.heat[0, 2, 4, 4] < 1
    assert np.argwhere(targets.holds_box).tolist() == [
        [0, row, column] for row in (3, 4, 5) for column in (2, 3, 4)
    ]
    assert (targets.boxes[0, 4, 3] == box[0, :4]).all()


def test_an_object_at_the_very_edge_has_its_cell() -> None:
    box = np.array([[70.0, 0.0, 80.0, 64.0, 0.0]], np.float32)
    targets = train.Targets([box], rows=8, columns=10)
    assert targets.heat[0, 0, 4, 9] == 1
    assert targets.holds_box[0, 4, 9]


def test_boxes_that_agree_cost_nothing_and_others_more_the_further_they_are() -> None:
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    costs = [
        train.box_loss(truth + torch.tensor([shift, 0.0, shift, 0.0]), truth).item()
        for shift in (0.0, 2.0, 20.0, 200.0)
    ]
    assert costs[0] == pytest.approx(0.0, abs=1e-6)
    assert costs[1] == pytest.approx(1 / 3)  # the hull is the union: 1 - IoU
    assert costs[1] < costs[2] < costs[3] < 2
    nothing = torch.zeros((0, 4), requires_grad=True)
    assert train.box_loss(nothing, nothing.detach()).item() == 0.0


def test_a_network_that_says_what_is_there_costs_less_than_one_that_says_nothing() -> None:
    targets = train.Targets([np.array([[8, 16, 40, 48, 2]], np.float32)], rows=8, columns=10)
    heat = torch.from_numpy(targets.heat)
    right = torch.where(heat == 1, 8.0, -8.0)
    silent, everything = torch.full_like(heat, -8.0), torch.full_like(heat, 8.0)
    assert train.heat_loss(right, heat) < 0.01
    assert train.heat_loss(silent, heat) > 5
    assert train.heat_loss(everything, heat) > 100


def test_the_learning_rate_rises_shortly_and_falls_to_the_end() -> None:
    rates = [train.learning_rate(step, step / 1000) for step in range(1001)]
    peak = rates.index(max(rates))
    assert peak == train.WARM_UP_STEPS - 1
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * train.PEAK_LEARNING_RATE)


def test_it_learns_two_pictures_by_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest proof that loss, targets and gradients belong together."""
    torch.manual_seed(0)
    monkeypatch.setattr(train, "SIZES", ((96, 64),))
    monkeypatch.setattr(train, "PICTURES_PER_STEP", 2)
    pictures, targets = train.batch(np.random.default_rng(4))
    assert pictures.shape == (2, 3, 64, 96)
    net = TinyNet(train.CLASSES)
    optimizer = torch.optim.AdamW(net.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = train.loss_of(net(pictures), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_same_seed_trains_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SIZES", ((64, 64),))
    said: list[str] = []
    runs = [train.train(seed=seed, steps=2, minutes=1, say=said.append)[0] for seed in (1, 1, 2)]
    first, same, other = (torch.cat([p.flatten() for p in run.parameters()]) for run in runs)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not said


def test_training_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SIZES", ((64, 64),))
    said: list[str] = []
    train.train(seed=1, steps=10**9, minutes=1e-4, say=said.append)
    assert said[-1].startswith("the time is over after ")


def test_a_check_that_learns_too_little_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step is too little, unless nothing is asked for."""
    monkeypatch.setattr(train, "CHECK_STEPS", 1)
    monkeypatch.setattr(train, "CHECK_SCENES", 3)
    assert train.main(["--check"]) == 1
    assert "too little: it should be" in capsys.readouterr().out
    monkeypatch.setattr(train, "CHECK_MAP50", 0.0)
    assert train.main(["--check"]) == 0
    assert "good: it should be" in capsys.readouterr().out


@pytest.mark.soak
def test_a_minute_of_training_reaches_what_the_readme_says() -> None:
    done = subprocess.run(
        [sys.executable, SAMPLES / "tiny_detector" / "train.py", "--check", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
