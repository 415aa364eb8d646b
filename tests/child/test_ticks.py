"""Ticks of a timer: on time, skipped and counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.child.ticks import Ticks


def test_the_first_tick_comes_at_once_and_the_next_after_the_interval() -> None:
    ticks = Ticks(0.5, start_secs=10.0)
    assert ticks.take(10.0)
    assert not ticks.take(10.4)
    assert ticks.take(10.5)
    assert ticks.missed == 0


def test_missed_ticks_are_skipped_and_counted() -> None:
    ticks = Ticks(1.0, start_secs=0.0)
    assert ticks.take(3.25)
    assert ticks.missed == 3
    assert ticks.due_secs == 4.0


@given(
    st.lists(st.floats(min_value=0, max_value=5), max_size=50),
    st.floats(min_value=1e-3, max_value=2),
)
def test_every_due_tick_was_taken_or_counted_as_missed(
    waits_secs: list[float], interval_secs: float
) -> None:
    ticks, now_secs, taken = Ticks(interval_secs, start_secs=0.0), 0.0, 0
    for wait_secs in waits_secs:
        now_secs += wait_secs
        taken += ticks.take(now_secs)
        assert ticks.due_secs == pytest.approx((taken + ticks.missed) * interval_secs)
    assert ticks.due_secs > now_secs - 1e-6 or not waits_secs
