"""The counts of one operator over all its processes, of all generations in a session."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dora_nb.protocol import counters

from ._process import NodeProcess

Processes = Callable[[], list[NodeProcess]]
"""Returns the operator's processes now."""


class OperatorCounts:
    """Adds up the counters of processes that have ended and of those that exist. Any thread may read it.

    Hold `lock` to change the operator's processes, and to `keep` the counts of one that has ended.
    """

    def __init__(self) -> None:
        # The lock holds off the end of a process, which closes its page and adds its last values here:
        # without it, a reader could count them twice, or read a closed page.
        self.lock = threading.Lock()
        self._earlier = [0, 0, 0]
        self._earlier_durations: list[int] = []

    def totals(self, processes: Processes) -> tuple[int, int, int]:
        """Returns events handled, ticks missed and undeclared outputs."""
        with self.lock:
            words = [self._earlier, *(_counts_of(each) for each in processes())]
        events, ticks, undeclared = (sum(column) for column in zip(*words, strict=True))
        return events, ticks, undeclared

    def durations(self, processes: Processes) -> list[int]:
        """Returns the histogram of `on_event` durations."""
        with self.lock:
            durations = self._earlier_durations
            for process in processes():
                durations = _added(durations, process.counters.durations())
            return durations

    def keep(self, process: NodeProcess) -> None:
        """Adds the last counts of a process that has ended. Call it with `lock` held."""
        now = _counts_of(process)
        self._earlier = [a + b for a, b in zip(self._earlier, now, strict=True)]
        self._earlier_durations = _added(self._earlier_durations, process.counters.durations())


def _counts_of(process: NodeProcess) -> list[int]:
    words = process.counters.words
    return [
        words[counters.EVENTS],
        words[counters.MISSED_TICKS],
        words[counters.UNDECLARED_OUTPUTS],
    ]


def _added(some: list[int], more: list[int]) -> list[int]:
    if not some or not more:
        return some or more
    return [a + b for a, b in zip(some, more, strict=True)]
