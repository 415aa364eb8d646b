"""Reduces rows of numbers to the columns of pixels that a plot draws, so that no spike is lost.

A column keeps four values of each series: first, minimum, maximum and last. A page draws the line through
them as it would through all points: from the last value of the column before to the first one here, then
over minimum and maximum. `joined` says whether that line may be drawn, or whether there is a gap:

* a value that is NaN, infinite or null, or a message without this series, lies between the two, or
* the topic was silent for long (`topic_series`), or the clock of its sender jumped.

A gap within one column cannot be seen, and is not kept. Columns lie at fixed times (`number` x
`column_secs`, not relative to the end of the window), so a column that is complete never changes, and a
page that keeps up is sent the newest columns only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .sliding import SlidingArrays

SILENCE = 1
"""A break before a row, of lines. Steps hold their value until the next one."""
JUMP = 2
"""A break before a row, of lines and steps."""
FIRST, MINIMUM, MAXIMUM, LAST = range(4)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What a plot draws of one topic: K columns of N series. Columns without a row are left out."""

    column_secs: float
    begin_secs: float
    """Where column 0 begins, in seconds since 1970."""
    numbers: npt.NDArray[np.int64]
    """(K,) ascending. Column i has the rows from ``begin_secs + i * column_secs`` on."""
    values: Floats
    """(4, N, K): `FIRST`, `MINIMUM`, `MAXIMUM`, `LAST`; NaN if the series has no finite value there."""
    joined: Bools
    """(N, K): whether a line leads from the last value before to the first one here."""

    def packed(self) -> tuple[dict[str, Any], bytes]:
        """Returns a header for JSON, and the columns as bytes for a page.

        The bytes are, one after another and little-endian: `values` as float64, `numbers` less
        ``header["first"]`` as uint32, `joined` as uint8. Values are not float32: of a counter or a time,
        float32 would keep steps of minutes.
        """
        first = int(self.numbers[0]) if len(self.numbers) else 0
        header = {
            "first": first,
            "columns": len(self.numbers),
            "series": self.values.shape[1],
            "column_secs": self.column_secs,
            "begin_secs": self.begin_secs,
        }
        blocks = (
            np.ascontiguousarray(self.values, "<f8"),
            (self.numbers - first).astype("<u4"),
            np.ascontiguousarray(self.joined, np.uint8),
        )
        return header, b"".join(block.tobytes() for block in blocks)


def column_numbers(
    secs: Floats, column_secs: float, begin_secs: float = 0.0
) -> npt.NDArray[np.int64]:
    """Returns the number of the column in which each time lies."""
    return np.floor((secs - begin_secs) / column_secs).astype(np.int64)


def reduce_rows(
    numbers: npt.NDArray[np.int64],
    values: Floats,
    breaks: npt.NDArray[np.uint8],
    is_step: Bools,
    finite_before: Bools,
) -> tuple[npt.NDArray[np.int64], Floats, Bools]:
    """Returns the numbers (K,), the values (4, N, K) and the joins (N, K) of the columns that M rows fill.

    `numbers` (M,) are the rows' columns, ascending; `values` are (N, M); `breaks` (M,) are 0, `SILENCE` or
    `JUMP` before each row; `finite_before` (N,) says whether the row before these had a finite value.
    """
    num_series, num_rows = values.shape
    if num_rows == 0:
        nothing = np.empty((num_series, 0))
        return numbers, np.empty((4, num_series, 0)), nothing.astype(bool)
    starts = np.concatenate(([0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1))
    finite = np.isfinite(values)
    if finite.all():
        reduced = np.stack(
            (
                values[:, starts],
                np.minimum.reduceat(values, starts, axis=1),
                np.maximum.reduceat(values, starts, axis=1),
                values[:, np.append(starts[1:], num_rows) - 1],
            )
        )
        firsts = np.broadcast_to(starts, (num_series, len(starts)))
    else:
        reduced, firsts = _reduce_with_gaps(values, finite, starts)
    # Two values are joined if they stand in rows next to each other without a break: any row between
    # them would have a value that is not finite.
    before = np.concatenate((finite_before[:, None], finite[:, :-1]), axis=1)
    joined = np.take_along_axis(before, firsts, axis=1)
    joined &= breaks[firsts] <= np.where(is_step, SILENCE, 0)[:, None]
    joined &= ~np.isnan(reduced[FIRST])
    return numbers[starts], reduced, joined


def _reduce_with_gaps(
    values: Floats, finite: Bools, starts: npt.NDArray[np.int64]
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Returns the values of each column, and the row of its first finite value (0 without one)."""
    num_rows = values.shape[1]
    rows = np.arange(num_rows)
    firsts = np.minimum.reduceat(np.where(finite, rows, num_rows), starts, axis=1)
    lasts = np.maximum.reduceat(np.where(finite, rows, -1), starts, axis=1)
    empty = lasts < 0
    firsts[empty] = lasts[empty] = 0
    reduced = np.stack(
        (
            np.take_along_axis(values, firsts, axis=1),
            np.minimum.reduceat(np.where(finite, values, np.inf), starts, axis=1),
            np.maximum.reduceat(np.where(finite, values, -np.inf), starts, axis=1),
            np.take_along_axis(values, lasts, axis=1),
        )
    )
    reduced[:, empty] = np.nan
    return reduced, firsts


class LiveColumns:
    """The newest columns of a topic, kept up to date with its rows. An update costs what is new.

    Only the last column can still change: it is reduced again with the rows that were added.
    """

    def __init__(self, *, column_secs: float, max_columns: int) -> None:
        self.column_secs = column_secs
        self._max_columns = max_columns
        self._next_row = 0
        """The number of the first row that is not reduced yet."""
        self._last_begin = 0
        """The number of the row with which the last column begins."""
        self._kept = SlidingArrays(
            numbers=np.empty(0, np.int64),
            values=np.empty((4, 0, 0)),
            joined=np.empty((0, 0), np.bool_),
        )

    def select(self, places: list[int | None]) -> None:
        """Has other series from now on: old ones by their place, None for one that is new."""
        self._kept.select("values", places)
        self._kept.select("joined", places)

    def update(self, rows: SlidingArrays, is_step: Bools) -> None:
        """Reduces the rows that were added since the last update.

        `rows` has the arrays `secs` (M,), `values` (N, M) and `breaks` (M,).
        """
        dropped = rows.num_dropped
        if self._next_row >= dropped + len(rows):
            return
        begin = max(self._last_begin - dropped, 0)
        secs, values = rows["secs"], rows["values"]
        numbers = column_numbers(secs[begin:], self.column_secs)
        # What has left the window since the last update need not be reduced.
        skipped = int(np.searchsorted(numbers, numbers[-1] - self._max_columns, side="right"))
        begin, numbers = begin + skipped, numbers[skipped:]
        before = np.isfinite(values[:, begin - 1]) if begin else np.zeros(len(values), np.bool_)
        new, reduced, joined = reduce_rows(
            numbers, values[:, begin:], rows["breaks"][begin:], is_step, before
        )
        kept = self._kept["numbers"]
        again = len(kept) - int(np.searchsorted(kept, new[0]))
        if again:
            self._kept.drop_last(again)
        first = self._kept.extend(len(new))
        self._kept["numbers"][first:] = new
        self._kept["values"][..., first:] = reduced
        self._kept["joined"][..., first:] = joined
        self._kept.drop(
            int(np.searchsorted(self._kept["numbers"], new[-1] - self._max_columns, side="right"))
        )
        self._next_row = dropped + len(secs)
        self._last_begin = dropped + begin + int(np.searchsorted(numbers, new[-1]))

    def since(self, number: int | None) -> Columns:
        """Returns a copy of the columns from that number on; with None, of all."""
        numbers = self._kept["numbers"]
        first = 0 if number is None else int(np.searchsorted(numbers, number))
        return Columns(
            self.column_secs,
            0.0,
            numbers[first:].copy(),
            self._kept["values"][..., first:].copy(),
            self._kept["joined"][..., first:].copy(),
        )
