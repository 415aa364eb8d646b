"""`SlidingArrays`: numpy arrays that grow at the end and lose at the front, in memory that is allocated once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_FIRST_CAPACITY = 256


class SlidingArrays:
    """Several arrays with a common last axis. What is kept lies in one piece, so every view is a slice.

    When the end of the memory is reached, what is kept moves to its front, or into a larger piece. Either
    happens after at least as many entries were added as are moved, so an entry costs constant time.
    """

    def __init__(self, **empty: npt.NDArray[Any]) -> None:
        """Takes an array without entries, (..., 0), for each name."""
        self.num_dropped = 0
        """Entries that were dropped at the front. The first one that is kept has this number."""
        self._arrays = {name: _enlarged(array, _FIRST_CAPACITY) for name, array in empty.items()}
        self._begin = self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Returns a view of what is kept, (..., N). It is valid until the next change."""
        return self._arrays[name][..., self._begin : self._end]

    def extend(self, count: int, *, max_capacity: int | None = None) -> int:
        """Makes room for entries at the end and returns the position of the first; they are blank.

        Blank is NaN, zero or false. With `max_capacity`, the oldest entries are dropped, a quarter of it at
        once, before the memory grows beyond that.
        """
        capacity = self._capacity
        if self._end + count > capacity:
            # Half of the memory is free after a move. With less, moves would come too often.
            wanted = max(capacity, 2 * (len(self) + count))
            if max_capacity is not None and wanted > max_capacity:
                wanted = max(capacity, max_capacity, count)
                if len(self) + count > wanted * 3 // 4:
                    self.drop(len(self) + count - wanted * 3 // 4)
            self._move(wanted)
        first = len(self)
        self._end += count
        return first

    def drop(self, count: int) -> None:
        """Drops entries at the front."""
        count = min(count, len(self))
        self._begin += count
        self.num_dropped += count

    def drop_last(self, count: int) -> None:
        """Drops entries at the end, which become blank."""
        for array in self._arrays.values():
            array[..., self._end - count : self._end] = _blank(array)
        self._end -= count

    def shrink(self, max_capacity: int) -> bool:
        """Gives memory beyond that capacity back; returns whether entries at the front were dropped."""
        if self._capacity <= max_capacity:
            return False
        too_many = len(self) - max_capacity * 3 // 4
        if too_many > 0:
            self.drop(too_many)
        self._move(max_capacity)
        return too_many > 0

    def select(self, name: str, places: list[int | None]) -> None:
        """Gives an array other rows, along its last axis but one: old ones by their place, None for a blank."""
        old = self._arrays[name]
        shape = (*old.shape[:-2], len(places), old.shape[-1])
        new = np.full(shape, _blank(old), old.dtype)
        for place, source in enumerate(places):
            if source is not None:
                new[..., place, :] = old[..., source, :]
        self._arrays[name] = new

    @property
    def _capacity(self) -> int:
        capacity: int = next(iter(self._arrays.values())).shape[-1]
        return capacity

    def _move(self, capacity: int) -> None:
        kept = slice(self._begin, self._end)
        for name, array in self._arrays.items():
            self._arrays[name] = _enlarged(array[..., kept], capacity)
        self._begin, self._end = 0, len(self)


def _blank(array: npt.NDArray[Any]) -> float | int:
    return math.nan if array.dtype.kind == "f" else 0


def _enlarged(array: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    new = np.full((*array.shape[:-1], capacity), _blank(array), array.dtype)
    new[..., : array.shape[-1]] = array
    return new
