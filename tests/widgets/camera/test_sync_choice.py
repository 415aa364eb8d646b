"""When a view shows each frame with its own boxes: a simulated detector, and no real time."""

from __future__ import annotations

import random

import pytest

from dora_nb.widgets.camera._sync_choice import ENTER_SECS, LEAVE_SECS, MIN_FRAMES, SyncChoice


class Simulation:
    """A camera at 30 fps, and a detector whose delay a test sets (None: it drops the frame)."""

    def __init__(self, fps: float = 30) -> None:
        self.choice = SyncChoice()
        self.now_secs = 1000.0
        self._interval_secs = 1 / fps
        self._due: list[tuple[float, int]] = []
        self._frames = 0
        self.switches = 0

    def run(self, *delays_secs: float | None, frames: int) -> bool:
        """Sends frames whose boxes take these delays, in turn; returns the choice after the last."""
        for number in range(frames):
            delay_secs = delays_secs[number % len(delays_secs)]
            stamp = self._frames * 100_000
            self._frames += 1
            before = self.choice.own_boxes
            self.choice.add_frame(stamp, self.now_secs)
            if delay_secs is not None:
                self._due.append((self.now_secs + delay_secs, stamp))
            self.now_secs += self._interval_secs
            for due_secs, due_stamp in sorted(self._due):
                if due_secs <= self.now_secs:
                    self._due.remove((due_secs, due_stamp))
                    self.choice.add_overlays(due_stamp + 1, due_secs)
            self.switches += before != self.choice.own_boxes
        return self.choice.own_boxes


def test_a_fast_detector_gets_its_own_frames_within_a_second():
    simulation = Simulation()

    assert not simulation.run(0.04, frames=MIN_FRAMES - 1)
    assert simulation.run(0.04, frames=21)


@pytest.mark.parametrize(
    ("delays", "own"),
    [
        ((0.2,), True),
        ((0.24,), True),
        ((0.27,), False),
        ((1.5,), False),
        ((None,), False),
        ((0.05, None), False),
        ((*[0.05] * 9, None), True),  # nine of ten
        ((*[0.05] * 8, None), False),
        ((*[0.05] * 9, 2.0), True),
        ((*[0.05] * 4, 0.3), False),
    ],
)
def test_nine_of_ten_frames_must_get_their_boxes_in_time(
    delays: tuple[float | None, ...], own: bool
):
    assert Simulation().run(*delays, frames=360) is own


@pytest.mark.parametrize(("delay", "own"), [(0.3, True), (0.34, True), (0.36, False), (1.0, False)])
def test_it_is_left_above_the_higher_bound_only(delay: float, own: bool):
    simulation = Simulation()
    assert simulation.run(0.1, frames=300)

    assert simulation.run(delay, frames=300) is own


def test_a_detector_between_the_bounds_does_not_make_the_view_jump():
    simulation = Simulation()
    random.seed(1)
    delays = [random.uniform(ENTER_SECS - 0.02, LEAVE_SECS - 0.02) for _ in range(500)]
    simulation.run(*delays, frames=3000)

    assert simulation.switches <= 1


def test_a_detector_that_dies_is_left_within_a_second():
    simulation = Simulation()
    assert simulation.run(0.05, frames=300)

    assert not simulation.run(None, frames=30)


def test_one_hiccup_of_the_detector_changes_nothing():
    simulation = Simulation()
    assert simulation.run(0.05, frames=300)
    simulation.switches = 0

    assert simulation.run(0.45, 0.4, 0.38, 0.36, frames=4)
    assert simulation.run(0.05, frames=300)
    assert simulation.switches == 0


def test_a_slow_camera_counts_too():
    assert Simulation(fps=1).run(0.2, frames=12)


def test_boxes_that_overtake_their_frame_are_punctual():
    choice = SyncChoice()
    for number in range(20):
        choice.add_overlays(number * 1000, 100 + number / 30)
        choice.add_frame(number * 1000, 100.001 + number / 30)

    assert choice.own_boxes


def test_frames_or_boxes_without_a_stamp_never_match():
    choice = SyncChoice()
    for number in range(60):
        choice.add_frame(None, 100 + number / 30)
        choice.add_overlays(None, 100.001 + number / 30)

    assert not choice.own_boxes


def test_another_run_of_the_dataflow_starts_anew():
    simulation = Simulation()
    assert simulation.run(0.05, frames=60)
    simulation.choice.reset()

    assert not simulation.run(0.05, frames=MIN_FRAMES - 1)
    assert simulation.run(0.05, frames=20)
