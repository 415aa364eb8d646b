"""Timers: dora's grammar, and ticks that are on time, skipped and counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.child.ticks import Ticks
from dora_nb.graph.sources import parse_interval_secs


@pytest.mark.parametrize(
    ("unit", "number", "secs"),
    [
        ("secs", "2", 2.0),
        ("millis", "100", 0.1),
        ("micros", "250", 0.00025),
        ("nanos", "1000000", 0.001),
        ("hz", "30", 1 / 30),
        ("hz", "0.5", 2.0),
    ],
)
def test_each_unit_of_dora_is_understood(unit: str, number: str, secs: float) -> None:
    assert parse_interval_secs(unit, number) == pytest.approx(secs)


@pytest.mark.parametrize(
    ("unit", "number", "said"),
    [
        ("herz", "30", "'herz' is no unit of a timer; there are secs"),
        ("millis", "0", "above zero, not '0'"),
        ("millis", "-5", "above zero, not '-5'"),
        ("millis", "1.5", "a whole number, not '1.5': that is micros/1500"),
        ("secs", "0.5", "a whole number, not '0.5': that is millis/500"),
        ("millis", "ten", "a whole number, not 'ten'"),
        ("hz", "nan", "above zero, not 'nan'"),
        ("hz", "inf", "above zero, not 'inf'"),
        ("hz", "", "a number, not ''"),
    ],
)
def test_what_is_no_timer_is_named(unit: str, number: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_interval_secs(unit, number)
    assert said in str(raised.value)


@pytest.mark.parametrize("number", ["0.5", "-0.5", "1/0", "1e-999999999"])
def test_no_other_unit_is_proposed_where_none_has_it_whole(number: str) -> None:
    unit = "nanos" if number == "0.5" else "secs"
    with pytest.raises(ValueError, match=f"a whole number, not '{number}'$"):
        parse_interval_secs(unit, number)


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
