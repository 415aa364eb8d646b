"""The flight recorder's memory: what it holds, and what gives way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.recording.ring import ENTRY_BYTES, Ring

SECOND = 10**9


def filled(*seconds: float, secs: float = 2.0, limit_bytes: int = 10**6) -> Ring[float]:
    ring: Ring[float] = Ring(secs=secs, limit_bytes=limit_bytes)
    for second in seconds:
        ring.add(second, nanos=round(second * SECOND), num_bytes=700)
    return ring


def test_the_last_seconds_are_kept() -> None:
    ring = filled(0, 1, 2, 3.5)
    assert list(ring) == [2, 3.5]
    assert ring.span_secs() == 1.5
    assert (ring.dropped_early, ring.refused) == (0, 0)
    # Silence too: what is too old is not saved as if it had just happened.
    ring.forget_before(round(5.4 * SECOND))
    assert list(ring) == [3.5]
    ring.forget_before(60 * SECOND)
    assert (list(ring), ring.num_bytes, ring.span_secs()) == ([], 0, 0.0)


def test_bytes_bound_it_too() -> None:
    ring = filled(0, 0.1, 0.2, 0.3, limit_bytes=2 * (700 + ENTRY_BYTES))
    assert list(ring) == [0.2, 0.3]
    assert ring.dropped_early == 2
    ring.add(0.4, nanos=SECOND, num_bytes=10**6)
    assert list(ring) == [0.2, 0.3]
    assert ring.refused == 1


def test_a_clock_that_is_set_back() -> None:
    ring = filled(1000, 1001, 3, 4)
    assert list(ring) == [3, 4]
    assert list(filled(3, 4, 1000, 1001)) == [1000, 1001]


@pytest.mark.parametrize(("secs", "limit_bytes"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0)])
def test_bounds_that_make_no_sense(secs: float, limit_bytes: int) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        Ring(secs=secs, limit_bytes=limit_bytes)


def test_what_lies_behind_the_oldest_may_be_older() -> None:
    """A clock that is set back by a moment, and no room."""
    ring: Ring[int] = Ring(secs=11, limit_bytes=3 * ENTRY_BYTES)
    for nanos in (1, 0, 0, 11 * SECOND + 1):
        ring.add(nanos, nanos=nanos, num_bytes=0)
    assert list(ring) == [11 * SECOND + 1]


@given(
    st.lists(st.tuples(st.integers(0, 20 * SECOND), st.integers(0, 5000))),
    st.floats(0.001, 30),
    st.integers(1, 20_000),
)
def test_the_bounds_hold_whatever_comes(
    added: list[tuple[int, int]], secs: float, limit_bytes: int
) -> None:
    ring: Ring[tuple[int, int]] = Ring(secs=secs, limit_bytes=limit_bytes)
    for nanos, num_bytes in added:
        ring.add((nanos, num_bytes), nanos=nanos, num_bytes=num_bytes)
        assert ring.num_bytes <= limit_bytes
        assert ring.num_bytes == sum(size + ENTRY_BYTES for _, size in ring)
        oldest = next(iter(ring), (nanos, 0))
        assert abs(oldest[0] - nanos) <= round(secs * 1e9)
    kept = list(ring)
    fitting = [each for each in added if each[1] + ENTRY_BYTES <= limit_bytes]
    assert kept == fitting[len(fitting) - len(kept) :]
