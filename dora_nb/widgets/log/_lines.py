"""The lines that a log view keeps: the newest that pass its filter, bounded in number and length."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dora_nb.status import LogLine

from ._levels import LEVELS, LevelReader, plain

MAX_LINE_CHARS = 2000
MAX_KEPT_CHARS = 1_000_000
"""Of all lines together: no message to a page is larger."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines a view shows."""

    node: str
    """Empty for all nodes."""
    level: str
    """The lowest one."""

    def passes(self, node: str, level: str) -> bool:
        return self.node in ("", node) and LEVELS.index(level) >= LEVELS.index(self.level)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line as the page shows it."""

    number: int
    """Counts the view's lines from 1."""
    node: str
    level: str
    stream: str
    time_secs: float
    text: str

    def as_json(self) -> list[str | int]:
        millis = int(self.time_secs * 1000)
        return [self.number, self.node, self.level, self.stream, millis, self.text]


class Lines:
    """Reads snapshots of a dataflow's logs, and keeps the newest lines. Not thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: collections.deque[Entry] = collections.deque()
        self._num_chars = 0
        self._last_read: dict[str, LogLine] = {}
        self._levels: dict[str, LevelReader] = {}
        self._last_number = 0
        self.num_older = 0
        """Lines that passed the filter and are not kept, and those that the log had dropped before."""

    def restart(self) -> None:
        """Forgets all lines: the next snapshot is read from its beginning. Numbers go on."""
        self._kept.clear()
        self._num_chars = 0
        self._last_read.clear()
        self._levels.clear()
        self.num_older = 0

    def read(self, snapshot: Iterable[LogLine], chosen: Filter) -> None:
        """Adds what is new in a snapshot of all kept lines, in order of time."""
        by_node: dict[str, list[LogLine]] = {}
        for line in snapshot:
            by_node.setdefault(line.node, []).append(line)
        # Times need not go up with numbers: dora-rs stamps the lines of each stream by itself.
        for lines in by_node.values():
            lines.sort(key=lambda line: line.number)
        new = [line for node, lines in by_node.items() for line in self._news(node, lines, chosen)]
        if len(by_node) > 1:
            new.sort(key=lambda line: line.time_secs)
        passed: list[tuple[LogLine, str]] = []
        for line in new:
            text = line.text if line.stream != "stderr" else plain(line.text)
            level = self._levels.setdefault(line.node, LevelReader()).level(line.stream, text)
            if chosen.passes(line.node, level):
                passed.append((line, level))
        # In a flood most lines are too old before any page could have shown them: no work for those.
        surplus = max(0, len(passed) - self._most)
        self.num_older += surplus
        for line, level in passed[surplus:]:
            self._add(line, level)

    def _news(self, node: str, lines: Sequence[LogLine], chosen: Filter) -> Sequence[LogLine]:
        last, self._last_read[node] = self._last_read.get(node), lines[-1]
        first = lines[0].number
        missed, start = first, 0
        if last is not None:
            place = last.number - first
            missed = max(0, -place - 1)
            # A dataflow that starts again counts from 0: then another line has the number.
            if 0 <= place < len(lines) and lines[place] == last:
                start = place + 1
            elif place >= 0:
                missed = first
        if chosen.node in ("", node):
            self.num_older += missed
        return lines[start:]

    def _add(self, line: LogLine, level: str) -> None:
        self._last_number += 1
        text = shortened(plain(line.text))
        entry = Entry(self._last_number, line.node, level, line.stream, line.time_secs, text)
        self._kept.append(entry)
        self._num_chars += len(entry.text)
        while len(self._kept) > self._most or self._num_chars > MAX_KEPT_CHARS:
            self._num_chars -= len(self._kept.popleft().text)
            self.num_older += 1

    @property
    def last_number(self) -> int:
        """The number of the newest line; 0 before the first."""
        return self._last_number

    def after(self, number: int) -> list[Entry]:
        """Returns the kept lines with higher numbers, oldest first."""
        num_new = min(len(self._kept), self._last_number - number)
        return list(self._kept)[len(self._kept) - num_new :] if num_new > 0 else []


def shortened(text: str) -> str:
    """Returns the text; a longer one is cut, and ends with the number of characters cut."""
    cut = len(text) - MAX_LINE_CHARS
    # The engine has cut it already, with some words behind: not cut twice.
    if cut <= 40:
        return text
    return f"{text[:MAX_LINE_CHARS]}… ({cut} more characters)"
