"""The range of the vertical axis."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.series.reduction import Columns
from dora_nb.data.series.y_range import padded, y_range


def _columns(*values: float) -> Columns:
    table = np.broadcast_to(np.array(values), (4, 1, len(values)))
    numbers = np.arange(len(values))
    return Columns(1.0, 0.0, numbers, table, np.ones((1, len(values)), np.bool_))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 10.0), (-0.5, 10.5)),
        ((-1.0, math.nan, 1.0), (-1.1, 1.1)),
        ((5.0,), (4.5, 5.5)),
        ((-5.0, -5.0), (-5.5, -4.5)),
        ((0.0,), (-1.0, 1.0)),
        ((5.0, 5.0 + 1e-14), (4.5, 5.5)),
        ((1e9, 1e9 + 1), (1e9 - 0.05, 1e9 + 1.05)),
        ((-1e308, 1e308), (-1.1e308, 1.1e308)),
        ((math.nan,), None),
        ((), None),
    ],
)
def test_what_is_shown_has_room_around_it(
    values: tuple[float, ...], expected: tuple[float, float] | None
) -> None:
    assert y_range([_columns(*values)]) == (
        None if expected is None else pytest.approx(expected, abs=1e-6)
    )


def test_all_topics_of_a_pane_count() -> None:
    assert y_range([_columns(0.0), _columns(math.nan), _columns(), _columns(10.0)]) == (-0.5, 10.5)
    assert y_range([]) is None


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE)
def test_any_two_values_have_a_finite_range_that_is_not_empty(one: float, other: float) -> None:
    low, high = padded(min(one, other), max(one, other))
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low < high
    assert low <= min(one, other) <= max(one, other) <= high
