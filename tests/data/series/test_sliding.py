"""Arrays that grow at the end and lose at the front, against a list."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.series.sliding import SlidingArrays


def _arrays() -> SlidingArrays:
    return SlidingArrays(number=np.empty(0, np.int64), pair=np.empty((2, 0)))


STEPS = st.lists(
    st.tuples(st.sampled_from(["extend", "drop", "drop_last"]), st.integers(0, 200)), max_size=30
)


@given(STEPS)
def test_what_is_kept_is_what_a_list_would_keep(steps: list[tuple[str, int]]) -> None:
    arrays, kept, added, dropped = _arrays(), [], 0, 0
    for step, count in steps:
        if step == "extend":
            first = arrays.extend(count)
            assert first == len(kept)
            assert not arrays["number"][first:].any()
            assert np.isnan(arrays["pair"][:, first:]).all()
            new = list(range(added + 1, added + 1 + count))
            arrays["number"][first:] = new
            arrays["pair"][1, first:] = new
            kept += new
            added += count
        elif step == "drop":
            arrays.drop(count)
            dropped += min(count, len(kept))
            kept = kept[count:]
        else:
            count_kept = min(count, len(kept))
            arrays.drop_last(count_kept)
            kept = kept[: len(kept) - count_kept]
        assert arrays["number"].tolist() == kept
        assert arrays["pair"][1].tolist() == kept
        assert len(arrays) == len(kept)
        assert arrays.num_dropped == dropped


def test_memory_has_a_bound_and_the_newest_stay() -> None:
    arrays = _arrays()
    for number in range(10_000):
        place = arrays.extend(1, max_capacity=1000)
        arrays["number"][place] = number
    kept = arrays["number"].tolist()
    assert kept == list(range(10_000 - len(kept), 10_000))
    assert 740 <= len(kept) <= 1000
    assert arrays.num_dropped == 10_000 - len(kept)
    # A view's memory is the whole piece.
    assert arrays["number"].base.nbytes <= 8 * 1024


def test_memory_does_not_grow_while_as_many_go_as_come() -> None:
    arrays = _arrays()
    for _ in range(10_000):
        arrays.extend(1)
        arrays.drop(max(0, len(arrays) - 100))
    assert arrays["number"].base.nbytes == 8 * 256


def test_series_come_and_go() -> None:
    arrays = _arrays()
    first = arrays.extend(2)
    arrays["pair"][:, first:] = [[1, 2], [3, 4]]
    arrays.select("pair", [1, None])
    np.testing.assert_array_equal(arrays["pair"], [[3, 4], [np.nan, np.nan]])
    arrays.extend(1)
    arrays["pair"][:, 2] = [5, 6]
    np.testing.assert_array_equal(arrays["pair"], [[3, 4, 5], [np.nan, np.nan, 6]])
