"""The last seconds of a dataflow in memory, bounded by seconds and by bytes. Pure: no clock, no file."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
ENTRY_BYTES = 300
"""What one entry takes beside its data: small messages are many."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Item]):
    item: Item
    nanos: int
    num_bytes: int


class Ring(Generic[Item]):
    """Items with their times, of which the oldest are dropped.

    It holds at most `secs` seconds, counted back from the newest item or the newest `forget_before`, and at
    most `limit_bytes`. An item that alone is larger is not taken.

    Example::

        >>> ring = Ring(secs=2, limit_bytes=10_000)
        >>> for second in range(5):
        ...     ring.add(f"message {second}", nanos=second * 10**9, num_bytes=100)
        >>> list(ring)
        ['message 2', 'message 3', 'message 4']
    """

    def __init__(self, *, secs: float, limit_bytes: int) -> None:
        if not secs > 0 or limit_bytes <= 0:
            raise ValueError(f"secs and limit_bytes must be > 0, got {secs!r} and {limit_bytes!r}")
        self._nanos = round(secs * 1e9)
        self._limit_bytes = limit_bytes
        self._entries: collections.deque[_Entry[Item]] = collections.deque()
        self.num_bytes = 0
        """What it holds, with `ENTRY_BYTES` for each item."""
        self.refused = 0
        """How many items were too large."""
        self.dropped_early = 0
        """How many items were dropped before their seconds were over, for want of room."""

    def add(self, item: Item, *, nanos: int, num_bytes: int) -> None:
        """Takes an item of that time and size; older ones give way."""
        size = num_bytes + ENTRY_BYTES
        self.forget_before(nanos)
        if size > self._limit_bytes:
            self.refused += 1
            return
        while self.num_bytes + size > self._limit_bytes:
            self._drop_oldest()
            self.dropped_early += 1
        # Again, as behind what has given way may lie what came while the clock was set back.
        self.forget_before(nanos)
        self._entries.append(_Entry(item, nanos, size))
        self.num_bytes += size

    def forget_before(self, now_nanos: int) -> None:
        """Drops what is older than the seconds, at that time."""
        # A clock that was set back leaves items of the future: they are the oldest in the queue, and would
        # keep all behind them.
        newest_nanos = now_nanos + self._nanos
        while self._entries and not (
            now_nanos - self._nanos <= self._entries[0].nanos <= newest_nanos
        ):
            self._drop_oldest()

    def span_secs(self) -> float:
        """How many seconds lie between its oldest and its newest item."""
        if not self._entries:
            return 0.0
        return max(0.0, (self._entries[-1].nanos - self._entries[0].nanos) / 1e9)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Item]:
        return (entry.item for entry in self._entries)

    def _drop_oldest(self) -> None:
        self.num_bytes -= self._entries.popleft().num_bytes
