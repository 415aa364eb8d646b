"""The events of a `Node` that were prepared: each is given when its time has come, on whatever clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

Event = dict[str, Any]


class PreparedEvents:
    """The part of a `node.Host` that gives events. `events` are read one ahead; each has its time in seconds."""

    def __init__(self, events: Iterable[tuple[float, Event]]) -> None:
        self._coming: Iterator[tuple[float, Event]] = iter(events)
        self._next: tuple[float, Event] | None = None
        self._begin_secs = time.monotonic()

    @property
    def at_end(self) -> bool:
        """Whether all events have been given."""
        return self._peek() is None

    def join(self) -> None:
        """Returns at once: there is no other node to wait for."""

    def next_event(self, timeout_secs: float | None) -> Event | None:
        """Waits for the time of the next event; None after the last, TimeoutError before it."""
        wait_secs = self.secs_to_next_tick()
        if wait_secs is None:
            return None
        if timeout_secs is not None and timeout_secs < wait_secs:
            self._wait(timeout_secs)
            raise TimeoutError
        self._wait(wait_secs)
        return self._take()

    def event_now(self) -> Event | None:
        """The next event if its time has come."""
        return self._take() if self.has_event() else None

    def has_event(self) -> bool:
        """Whether the next event's time has come."""
        return self.secs_to_next_tick() == 0.0

    def secs_to_next_tick(self) -> float | None:
        """How long until the next event; None where there is none."""
        coming = self._peek()
        return None if coming is None else max(0.0, coming[0] - self._elapsed_secs())

    # -- the clock, and what is done with each event ---------------------------------------------------

    def _elapsed_secs(self) -> float:
        return time.monotonic() - self._begin_secs

    def _wait(self, secs: float) -> None:
        time.sleep(secs)

    def _take(self) -> Event | None:
        coming, self._next = self._peek(), None
        return None if coming is None else coming[1]

    def _peek(self) -> tuple[float, Event] | None:
        if self._next is None:
            self._next = next(self._coming, None)
        return self._next
