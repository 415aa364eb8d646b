"""Reads long parts of a recording in steps of a fraction of a second, so that a cursor need not wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dora_nb.data.series.reduction import Columns
from dora_nb.data.series.topic_series import SeriesInfo, TopicSeries
from dora_nb.errors import MessageError, RecordingError
from dora_nb.recording import Recording

from ._cursor import TopicCursor
from ._log_lines import LogLine, LogReader

STEP_SECS = 0.06
MAX_VALUES = 4_000_000
"""Of one plotted topic in memory, 32 MB. What is more is shown when a person zooms in."""
MAX_LOG_LINES = 50_000
LANE_COLUMNS = 400
_MAX_LANE_GAPS = 200


@dataclass(frozen=True, slots=True)
class PlotPart:
    """What a plot shows of a window."""

    info: list[SeriesInfo]
    columns: Columns
    read_until_secs: float
    """What lies behind is still being read."""
    note: str | None


class PlotReading:
    """Reads the numbers of a topic within a window, and keeps them for parts of that window."""

    def __init__(self, recording: Recording, topic: str) -> None:
        self._recording = recording
        self._topic = topic
        self._series: TopicSeries | None = None
        self._begin_secs = self._end_secs = 0.0
        self._read_until_secs = 0.0
        self._messages: Iterator[Any] | None = None
        self._problem: str | None = None

    def start(self, begin_secs: float, end_secs: float) -> None:
        """Prepares a window. What is read already is used, if the window lies in it."""
        inside = self._begin_secs <= begin_secs and end_secs <= self._end_secs
        usable = self._series is not None and not self._series.is_cut
        if inside and usable and begin_secs < max(self._read_until_secs, self._begin_secs + 1e-9):
            return
        duration = self._recording.duration_secs
        # The messages right outside, so that lines come from there.
        margin = 0.02 * (end_secs - begin_secs)
        self._begin_secs = max(0.0, begin_secs - margin)
        self._end_secs = min(duration, end_secs + margin)
        self._read_until_secs = self._begin_secs
        self._problem = None
        seconds = max(self._end_secs - self._begin_secs, 1e-3) * 1.1
        self._series = TopicSeries(self._topic, seconds=seconds, max_values=MAX_VALUES)
        self._messages = None
        if begin_secs <= duration and end_secs >= 0:
            try:
                self._messages = self._recording.messages(
                    self._topic, start=self._begin_secs, stop=self._end_secs + 1e-6
                )
            except RecordingError as error:
                self._problem = str(error)

    @property
    def is_complete(self) -> bool:
        return self._messages is None

    def step(self) -> None:
        """Reads for a moment."""
        if self._messages is None or self._series is None:
            return
        until = time.monotonic() + STEP_SECS
        start_nanos = self._recording.start_nanos
        try:
            for message in self._messages:
                secs = (message.log_nanos - start_nanos) / 1e9
                # Without its time stamp: all panes are at the times of receipt.
                unit = {key: message.metadata[key] for key in ("unit",) if key in message.metadata}
                try:
                    self._series.add(
                        {"type": "INPUT", "value": message.value, "metadata": unit},
                        received_secs=secs,
                    )
                except MessageError as error:
                    self._problem = str(error)
                self._read_until_secs = secs
                if time.monotonic() > until:
                    return
        except RecordingError as error:
            self._problem = str(error)
        self._messages = None
        self._read_until_secs = self._end_secs

    def part(self, begin_secs: float, end_secs: float, columns: int) -> PlotPart:
        """Returns what has been read of a window, in that many columns."""
        assert self._series is not None
        note = self._problem
        if self._series.is_cut:
            note = "too many values for one window: its beginning is missing; zoom in"
        reduced = self._series.reduced(begin_secs, end_secs, columns)
        return PlotPart(self._series.series, reduced, self._read_until_secs, note)


class LogReading:
    """Reads all lines of the logs."""

    def __init__(self, recording: Recording, topics: tuple[str, ...]) -> None:
        self.lines: list[LogLine] = []
        self.problem: str | None = None
        self._start_nanos = recording.start_nanos
        self._reader = LogReader()
        self._messages = recording.messages(*topics) if topics else None

    @property
    def is_complete(self) -> bool:
        return self._messages is None

    def step(self) -> None:
        """Reads for a moment."""
        if self._messages is None:
            return
        until = time.monotonic() + STEP_SECS
        try:
            for message in self._messages:
                secs = (message.log_nanos - self._start_nanos) / 1e9
                self.lines += self._reader.lines(message.as_event(), secs)
                if len(self.lines) >= MAX_LOG_LINES:
                    self.problem = f"only the first {MAX_LOG_LINES:,} lines of the log are shown"
                    break
                if time.monotonic() > until:
                    return
        except RecordingError as error:
            self.problem = str(error)
        self._messages = None

    def until(self, secs: float, most: int) -> tuple[int, list[LogLine]]:
        """Returns how many lines there are at a time, and the newest of them."""
        low, high = 0, len(self.lines)
        while low < high:
            middle = (low + high) // 2
            if self.lines[middle].secs <= secs + 5e-7:
                low = middle + 1
            else:
                high = middle
        return low, self.lines[max(0, low - most) : low]


def lane_of(cursor: TopicCursor, begin_secs: float, end_secs: float) -> dict[str, Any]:
    """Returns how the messages of a topic lie in a window: a count for each column, and its gaps."""
    times = cursor.load_times()
    counts, _ = np.histogram(times, LANE_COLUMNS, (begin_secs, end_secs))
    gaps = [gap for gap in cursor.gaps if gap[1] > begin_secs and gap[0] < end_secs]
    gaps.sort(key=lambda gap: gap[0] - gap[1])
    return {
        "counts": counts.tolist(),
        "gaps": sorted([round(each, 6) for each in gap] for gap in gaps[:_MAX_LANE_GAPS]),
    }
