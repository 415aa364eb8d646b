"""What an operator prints, as lines that are bounded in length and number.

Pure: bytes in, lines out. A carriage return ends a line too, so a progress bar becomes many short
lines and never one line that grows.
"""

from __future__ import annotations

import codecs
import collections
import itertools
import threading

from dora_nb.status import LogLine

MAX_LINE_CHARS = 2000
MAX_LINES = 5000


class LineSplitter:
    """Turns the bytes of one stream into lines of text (UTF-8; other bytes become U+FFFD)."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._cut = 0

    def feed(self, data: bytes) -> list[str]:
        """Returns the lines that these bytes complete; leaves out empty ones."""
        text = self._rest + self._decoder.decode(data)
        if "\r" in text:
            text = text.replace("\r", "\n")
        *whole, rest = text.split("\n")
        lines: list[str] = []
        if whole:
            # A flood consists mostly of ordinary lines: no function call for each of those.
            lines = [
                line if len(line) <= MAX_LINE_CHARS else shortened(line)
                for line in whole[1:]
                if line
            ]
            first = shortened(whole[0], already_cut=self._cut)
            lines[:0] = [first] if first else []
            self._cut = 0
        self._cut += max(0, len(rest) - MAX_LINE_CHARS)
        self._rest = rest[:MAX_LINE_CHARS]
        return lines

    def finish(self) -> list[str]:
        """Returns the last line, if the stream ended without an end of line."""
        rest = self._rest + self._decoder.decode(b"", final=True)
        self._rest = ""
        return [shortened(rest, already_cut=self._cut)] if rest else []


def shortened(line: str, already_cut: int = 0) -> str:
    """Returns the line; a line that is too long is cut, and ends with the number of characters cut."""
    cut = already_cut + max(0, len(line) - MAX_LINE_CHARS)
    return f"{line[:MAX_LINE_CHARS]}… ({cut} more characters)" if cut else line


def last_line(lines: list[str]) -> str:
    """Returns the last line that is not blank; an empty text if there is none."""
    return next((line for line in reversed(lines) if not line.isspace()), "")


class Log:
    """The newest lines of one operator, and a count of the older ones that it dropped. Thread-safe."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._entries: collections.deque[tuple[str, str, float]] = collections.deque(
            maxlen=MAX_LINES
        )
        # Made when they are asked for: most logs are never read, but a live view reads twice a second.
        self._made: collections.deque[LogLine] = collections.deque(maxlen=MAX_LINES)
        self._num_made = 0
        self._lock = threading.Lock()
        self.forgotten = 0

    def add(self, stream: str, texts: list[str], *, time_secs: float) -> None:
        """Adds lines; drops the oldest if there are too many."""
        with self._lock:
            self.forgotten += max(0, len(self._entries) + len(texts) - MAX_LINES)
            self._entries.extend((stream, text, time_secs) for text in texts)

    @property
    def count(self) -> int:
        """How many lines were added in all."""
        with self._lock:
            return self.forgotten + len(self._entries)

    def lines(self) -> list[LogLine]:
        """Returns all lines that are kept, oldest first."""
        with self._lock:
            first = max(self._num_made, self.forgotten)
            new = itertools.islice(self._entries, first - self.forgotten, None)
            self._made.extend(
                LogLine(self._node, *entry, number) for number, entry in enumerate(new, first)
            )
            self._num_made = self.forgotten + len(self._entries)
            return list(self._made)  # as bounded as the entries, so it holds the same ones
