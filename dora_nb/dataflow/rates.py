"""How often messages of a topic come, and how evenly: from their time stamps. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reading:
    """What a `TopicMeter` has seen. Times are in seconds; the intervals are None before the second message."""

    count: int = 0
    """Messages that were read."""
    missed: int = 0
    """Messages between them that were dropped, as the reader was too slow."""
    rate_hz: float | None = None
    """Messages per second between the first and the last, with those that were missed."""
    mean_secs: float | None = None
    min_secs: float | None = None
    """The shortest interval between two messages that were read one after the other."""
    max_secs: float | None = None
    """The longest one; missed messages make it longer than what was sent."""
    jitter_secs: float | None = None
    """The standard deviation of the intervals."""
    total_bytes: int = 0
    """The sum of the sizes of the values."""

    @property
    def mean_bytes(self) -> float | None:
        """The size of a message; None before the first one."""
        return self.total_bytes / self.count if self.count else None

    @property
    def bytes_per_sec(self) -> float | None:
        """None where the rate is not known."""
        size = self.mean_bytes
        return None if size is None or self.rate_hz is None else size * self.rate_hz


class TopicMeter:
    """Takes each message of a topic, and keeps sums only: it may run for hours at any rate.

    One thread calls `add`; any other may read meanwhile.
    """

    def __init__(self) -> None:
        self.count = 0
        self._total_bytes = 0
        self._first_secs = math.nan
        self._last_secs = math.nan
        self._min_secs = math.inf
        self._max_secs = -math.inf
        self._mean_secs = 0.0
        self._sum_of_squares = 0.0

    def add(self, event: Mapping[str, Any], now_secs: float) -> None:
        """Counts a message by the time at which it was sent; by `now_secs`, the wall clock, if it does not say."""
        stamp_secs = sent_secs(event)
        stamp_secs = now_secs if stamp_secs is None else stamp_secs
        if self.count:
            self._add_interval(stamp_secs - self._last_secs)
        else:
            self._first_secs = stamp_secs
        self._last_secs = stamp_secs
        self._total_bytes += getattr(event.get("value"), "nbytes", 0)
        self.count += 1

    def _add_interval(self, secs: float) -> None:
        """Welford's method: mean and variance from one pass, without a difference of large sums."""
        self._min_secs = min(self._min_secs, secs)
        self._max_secs = max(self._max_secs, secs)
        before = secs - self._mean_secs
        self._mean_secs += (
            before / self.count
        )  # `count` is the number of intervals, this one included
        self._sum_of_squares += before * (secs - self._mean_secs)

    def reading(self, missed: int = 0) -> Reading:
        """Returns what was seen so far; `missed` messages were dropped on their way here."""
        count = self.count
        if count < 2:
            return Reading(count, missed, total_bytes=self._total_bytes)
        num_intervals = count - 1
        span_secs = self._last_secs - self._first_secs
        return Reading(
            count,
            missed,
            rate_hz=(num_intervals + missed) / span_secs if span_secs > 0 else None,
            mean_secs=self._mean_secs,
            min_secs=self._min_secs,
            max_secs=self._max_secs,
            jitter_secs=math.sqrt(max(0.0, self._sum_of_squares / num_intervals)),
            total_bytes=self._total_bytes,
        )


def sent_secs(event: Mapping[str, Any]) -> float | None:
    """Returns when a message was sent, in seconds since the epoch; None if it does not say."""
    metadata = event.get("metadata")
    stamp = metadata.get("timestamp") if isinstance(metadata, Mapping) else None
    return stamp.timestamp() if isinstance(stamp, datetime.datetime) else None
