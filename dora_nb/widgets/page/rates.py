"""Events per second, from counts that only grow."""

from __future__ import annotations

from collections import deque

RATE_WINDOW_SECS = 2.5
MIN_SPAN_SECS = 0.45
"""A little less than the time between two looks at a status."""


class RateMeter:
    """Events per second over the last `RATE_WINDOW_SECS`, from a count that only grows."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def rate(self, count: int | None, now_secs: float) -> float | None:
        """Adds a sample and returns the rate; None until two samples are far enough apart."""
        if count is None:
            return None
        if self._samples and count < self._samples[-1][1]:  # a new run counts from 0
            self._samples.clear()
        self._samples.append((now_secs, count))
        while self._samples[0][0] < now_secs - RATE_WINDOW_SECS:
            self._samples.popleft()
        first_secs, first = self._samples[0]
        if now_secs - first_secs < MIN_SPAN_SECS:
            return None
        rate = (count - first) / (now_secs - first_secs)
        return round(rate) if rate >= 100 else round(rate, 1)
