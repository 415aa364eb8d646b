"""Bursts: how much memory is touched, and what a reader knows of its backlog without asking the system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from transport_rig import Rig, rig_with

LARGE_FRAME = np.zeros(2 << 20, np.uint8)


class Reading:
    """A waiter in whose time the reader handles what is in line, and forgets it."""

    def __init__(self) -> None:
        self.read: Callable[[], object] = list
        self.waits = 0
        self.stopping = False

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        self.waits += 1
        self.read()

    def giving_up(self) -> bool:
        return self.stopping

    def note_overflow(self) -> None:
        pass


@pytest.fixture
def reading() -> Reading:
    return Reading()


def publish(rig: Rig, times: int) -> None:
    for _ in range(times):
        assert rig.output.publish(LARGE_FRAME, None)


def test_a_burst_stays_in_memory_that_was_touched(reading: Reading) -> None:
    with rig_with(reading) as rig:
        link = rig.connect(queue_size=100, drop_oldest=False)
        reading.read = lambda: [None for _ in iter(link.reader.take, None)]
        publish(rig, 40)
        assert len(rig.arena.slots) == 3
        assert reading.waits


def test_a_reader_that_does_not_read_costs_memory_up_to_its_queue(reading: Reading) -> None:
    with rig_with(reading) as rig:
        rig.connect(queue_size=100, drop_oldest=False)
        publish(rig, 8)
        assert len(rig.arena.slots) == 8


@pytest.mark.parametrize("also", [[], [False]])
def test_nobody_waits_beside_a_reader_whose_policy_is_to_drop(
    reading: Reading, also: list[bool]
) -> None:
    with rig_with(reading) as rig:
        for drop_oldest in [True, *also]:
            rig.connect(queue_size=100, drop_oldest=drop_oldest)
        publish(rig, 8)
        assert reading.waits == 0
        assert len(rig.arena.slots) == 8


def test_who_was_told_to_stop_does_not_wait(reading: Reading) -> None:
    with rig_with(reading) as rig:
        rig.connect(queue_size=100, drop_oldest=False)
        reading.stopping = True
        publish(rig, 8)
        assert reading.waits == 0


def test_a_reader_knows_of_its_backlog(rig: Rig) -> None:
    link = rig.connect(queue_size=3)
    assert not link.reader.has_more()
    for number in range(2):
        rig.send(number)
    assert link.reader.has_more()
    link.take()
    assert link.reader.has_more()
    link.take()
    assert not link.reader.has_more()


def test_what_was_taken_back_is_no_backlog(rig: Rig) -> None:
    link: Any = rig.connect(queue_size=3)
    rig.send(0)
    assert link.out.take_back_oldest(rig.arena)
    assert not link.reader.has_more()
