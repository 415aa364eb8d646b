"""When a message is drawn: clocks that are right, wrong, set back, or missing."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.series.stamps import AHEAD_SECS, Placed, StampAxis, stamp_secs

NOW = 1_790_000_000.0


def _placed(*messages: tuple[float | None, float]) -> list[Placed]:
    """Where each message stands; stamps and receipts are seconds after `NOW`."""
    axis = StampAxis(window_secs=30)
    places = [
        axis.place(None if stamp is None else NOW + stamp, received_secs=NOW + received)
        for stamp, received in messages
    ]
    assert axis.jumps == sum(place.jumped for place in places)
    return [Placed(round(place.secs - NOW, 6), place.jumped) for place in places]


def test_a_stamp_is_in_seconds_since_1970() -> None:
    noon = datetime.datetime(2026, 11, 27, 12, 0, 0, 123_456, tzinfo=datetime.UTC)
    assert stamp_secs({"timestamp": noon}) == noon.timestamp()


@pytest.mark.parametrize("stamp", [None, 5.0, "noon", datetime.datetime(2026, 1, 1)])  # noqa: DTZ001
def test_what_is_not_a_time_in_utc_is_not_a_stamp(stamp: object) -> None:
    assert stamp_secs({"timestamp": stamp}) is None
    assert stamp_secs({}) is None


def test_stamps_of_a_right_clock_are_kept() -> None:
    assert _placed((0, 0.01), (1, 3), (29, 58)) == [(0, False), (1, False), (29, False)]


def test_without_a_stamp_the_receipt_counts() -> None:
    assert _placed((None, 1), (None, 2), (1.5, 3)) == [(1, False), (2, False), (3, True)]


def test_a_hair_back_is_drawn_at_the_point_before() -> None:
    assert _placed((1, 1), (0.98, 1), (1.01, 1)) == [(1, False), (1, False), (1.01, False)]


def test_a_recording_that_starts_again_goes_on_at_the_receipt() -> None:
    assert _placed((-10, 0), (-9, 1), (-10, 2), (-9, 3), (-10, 4)) == [
        (-10, False),
        (-9, False),
        (2, True),
        (3, False),
        (4, True),
    ]


def test_a_wrong_clock_keeps_its_distances() -> None:
    assert _placed((9000, 0), (9000.5, 1), (9001, 2)) == [(0, False), (0.5, False), (1, False)]
    assert _placed((-9000, 0), (-8999, 2)) == [(0, False), (1, False)]


def test_a_clock_that_is_right_again_is_used_at_once() -> None:
    assert _placed((-100, 0), (5, 5.1), (6, 6.1)) == [(0, False), (5, False), (6, False)]


def test_time_stands_still_while_the_receivers_clock_is_behind() -> None:
    assert _placed((0, 0), (-100, -100), (-99, -99), (1, 1)) == [
        (0, False),
        (0, True),
        (0, True),
        (1, False),
    ]


ANY_SECS = st.floats(-1e4, 1e4)


@given(st.lists(st.tuples(st.none() | ANY_SECS, st.floats(0, 5)), max_size=30))
def test_the_axis_never_goes_back_and_stays_near_the_receipts(
    messages: list[tuple[float | None, float]],
) -> None:
    axis = StampAxis(window_secs=30)
    received = NOW
    before = NOW - 30
    for stamp, wait in messages:
        received += wait
        sent = None if stamp is None else NOW + stamp
        secs = axis.place(sent, received_secs=received).secs
        assert before <= secs <= received + AHEAD_SECS + 1e-3
        assert secs >= received - 30 - 1e-3
        before = secs
