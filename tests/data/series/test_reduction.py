"""The columns of pixels, against a reduction that looks at one point after another."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.series.reduction import (
    FIRST,
    JUMP,
    LAST,
    MAXIMUM,
    MINIMUM,
    SILENCE,
    Columns,
    LiveColumns,
    column_numbers,
    reduce_rows,
)
from dora_nb.data.series.sliding import SlidingArrays

VALUES = st.one_of(
    st.floats(-1e300, 1e300), st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf])
)


class Row(NamedTuple):
    column: int
    values: tuple[float, ...]
    breaks: int


@st.composite
def rows_of_two(draw: st.DrawFn, *, min_size: int = 0) -> list[Row]:
    """Rows of two series, the second one of steps."""
    steps = st.integers(0, 3)
    drawn = draw(
        st.lists(
            st.tuples(steps, VALUES, VALUES, st.sampled_from([0, 0, 0, SILENCE, JUMP])),
            min_size=min_size,
            max_size=40,
        )
    )
    column, rows = -5, []
    for step, line, flag, breaks in drawn:
        column += step
        rows.append(Row(column, (line, flag), breaks))
    return rows


IS_STEP = np.array([False, True])


def _reduced(rows: list[Row]) -> tuple[Any, Any, Any]:
    return reduce_rows(
        np.array([row.column for row in rows], np.int64),
        np.array([row.values for row in rows]).reshape(-1, 2).T,
        np.array([row.breaks for row in rows], np.uint8),
        IS_STEP,
        np.zeros(2, np.bool_),
    )


class Expected(NamedTuple):
    values: tuple[float, float, float, float]
    joined: bool


def _one_by_one(rows: list[Row], series: int) -> dict[int, Expected]:
    """Each column that has a finite value, made from one point after another."""
    expected: dict[int, Expected] = {}
    before = False
    for row in rows:
        value = row.values[series]
        if math.isfinite(value):
            broken = row.breaks > (SILENCE if IS_STEP[series] else 0)
            old = expected.get(row.column, Expected((value,) * 4, before and not broken))
            first, low, high, _ = old.values
            values = (first, min(low, value), max(high, value), value)
            expected[row.column] = Expected(values, old.joined)
        before = math.isfinite(value)
    return expected


def _shown(columns: tuple[Any, Any, Any] | Columns, series: int) -> dict[int, Expected]:
    if isinstance(columns, Columns):
        columns = (columns.numbers, columns.values, columns.joined)
    numbers, values, joined = columns
    return {
        number: Expected(tuple(values[:, series, place].tolist()), bool(joined[series, place]))
        for place, number in enumerate(numbers.tolist())
        if not np.isnan(values[FIRST, series, place])
    }


@given(rows_of_two())
def test_columns_are_those_of_a_point_by_point_reduction(rows: list[Row]) -> None:
    numbers, values, joined = _reduced(rows)
    assert numbers.tolist() == sorted({row.column for row in rows})
    assert values.shape == (4, 2, len(numbers))
    assert joined.shape == (2, len(numbers))
    for series in range(2):
        assert _shown((numbers, values, joined), series) == _one_by_one(rows, series)
    empty = np.isnan(values[FIRST])
    assert np.isnan(values[:, empty]).all()
    assert not joined[empty].any()


@given(rows_of_two(min_size=1))
def test_no_spike_is_lost(rows: list[Row]) -> None:
    _, values, _ = _reduced(rows)
    for series in range(2):
        finite = [row.values[series] for row in rows if math.isfinite(row.values[series])]
        if finite:
            assert np.nanmax(values[MAXIMUM, series]) == max(finite)
            assert np.nanmin(values[MINIMUM, series]) == min(finite)
            present = ~np.isnan(values[FIRST, series])
            assert values[FIRST, series][present][0] == finite[0]
            assert values[LAST, series][present][-1] == finite[-1]


def _rows_for_live() -> SlidingArrays:
    return SlidingArrays(secs=np.empty(0), values=np.empty((2, 0)), breaks=np.empty(0, np.uint8))


def _append(rows: SlidingArrays, new: list[Row]) -> None:
    for row in new:
        place = rows.extend(1)
        rows["secs"][place] = row.column + 0.5
        rows["values"][:, place] = row.values
        rows["breaks"][place] = row.breaks


@given(rows_of_two(), st.lists(st.integers(0, 12), max_size=8), st.integers(1, 60))
def test_columns_that_are_updated_are_those_that_are_made_at_once(
    rows: list[Row], batches: list[int], max_columns: int
) -> None:
    kept = _rows_for_live()
    live = LiveColumns(column_secs=1.0, max_columns=max_columns)
    live.select([None, None])
    page: dict[int, dict[int, Expected]] = {0: {}, 1: {}}
    newest: int | None = None
    place = 0
    for count in (*batches, len(rows)):
        _append(kept, rows[place : place + count])
        place += count
        live.update(kept, IS_STEP)
        new = live.since(newest)
        assert not new.joined[np.isnan(new.values[FIRST])].any()
        for series in range(2):
            page[series].update(_shown(new, series))
        newest = int(new.numbers[-1]) if len(new.numbers) else newest
    if not rows:
        assert len(live.since(None).numbers) == 0
        return
    shown_from = rows[-1].column - max_columns
    for series in range(2):
        expected = {
            column: each
            for column, each in _one_by_one(rows, series).items()
            if column > shown_from
        }
        assert _shown(live.since(None), series) == expected
        assert {c: each for c, each in page[series].items() if c > shown_from} == expected


def test_an_update_reduces_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    reduced_rows: list[int] = []

    def counting(numbers: npt.NDArray[np.int64], *rest: Any) -> Any:
        reduced_rows.append(len(numbers))
        return reduce_rows(numbers, *rest)

    monkeypatch.setattr("dora_nb.data.series.reduction.reduce_rows", counting)
    kept = _rows_for_live()
    live = LiveColumns(column_secs=1.0, max_columns=100)
    live.select([None, None])
    for column in range(100):
        _append(kept, [Row(column, (1.0, 0.0), 0)] * 10)
        live.update(kept, IS_STEP)
    live.update(kept, IS_STEP)
    assert len(reduced_rows) == 100
    assert max(reduced_rows) <= 20


def test_rows_that_were_dropped_before_an_update_do_not_matter() -> None:
    kept = _rows_for_live()
    live = LiveColumns(column_secs=1.0, max_columns=100)
    live.select([None, None])
    _append(kept, [Row(column, (1.0, 0.0), 0) for column in range(10)])
    live.update(kept, IS_STEP)
    _append(kept, [Row(column, (2.0, 0.0), 0) for column in range(10, 30)])
    kept.drop(25)
    live.update(kept, IS_STEP)
    shown = _shown(live.since(None), 0)
    assert list(shown) == [*range(10), *range(25, 30)]
    assert not shown[25].joined
    assert shown[26].joined


def test_a_column_begins_at_its_time() -> None:
    secs = np.array([0.0, 0.99, 1.0, -0.01, 1_790_000_000.5])
    assert column_numbers(secs, 0.5).tolist() == [0, 1, 2, -1, 3_580_000_001]
    assert column_numbers(secs[:3], 0.5, 0.99).tolist() == [-2, 0, 0]


def test_packed_columns_can_be_read_as_typed_arrays() -> None:
    values = np.arange(24.0).reshape(4, 2, 3)
    joined = np.array([[False, True, True], [False, False, True]])
    numbers = np.array([2**40, 2**40 + 1, 2**40 + 7])
    header, data = Columns(0.0375, 0.0, numbers, values, joined).packed()
    assert header == {
        "first": 2**40,
        "columns": 3,
        "series": 2,
        "column_secs": 0.0375,
        "begin_secs": 0.0,
    }
    assert np.frombuffer(data, "<f8", 24).tolist() == list(range(24))
    assert np.frombuffer(data, "<u4", 3, offset=192).tolist() == [0, 1, 7]
    assert np.frombuffer(data, np.uint8, offset=204).tolist() == [0, 1, 1, 0, 0, 1]
    empty = Columns(1.0, 0.0, numbers[:0], values[..., :0], joined[..., :0]).packed()
    assert (empty[0]["columns"], empty[1]) == (0, b"")
