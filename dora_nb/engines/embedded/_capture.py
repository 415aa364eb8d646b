"""What an operator prints, as lines: bounded in length and number, whatever it writes.

Pure: bytes in, lines out. A carriage return ends a line too, so a progress bar is many short lines
and never one that grows.
"""

from __future__ import annotations

import codecs
import collections
import re
import threading

from ...status import LogLine

MOST_LINE_CHARS = 2000
MOST_LINES = 5000
_ENDS = re.compile(r"\r\n|\n|\r")


class LineSplitter:
    """Turns the bytes of one stream into lines of text (UTF-8, what is not becomes a replacement)."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._cut = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete."""
        *whole, self._rest = _ENDS.split(self._rest + self._decoder.decode(data))
        lines = [self._shorten(line) for line in whole]
        if len(self._rest) > MOST_LINE_CHARS:
            self._cut += len(self._rest) - MOST_LINE_CHARS
            self._rest = self._rest[:MOST_LINE_CHARS]
        return [line for line in lines if line]

    def finish(self) -> list[str]:
        """The last line, if the stream ended without an end of line."""
        return self.feed(b"\n")

    def _shorten(self, line: str) -> str:
        cut = self._cut + max(0, len(line) - MOST_LINE_CHARS)
        self._cut = 0
        return f"{line[:MOST_LINE_CHARS]}… ({cut} more characters)" if cut else line


class Log:
    """The newest lines of one operator; older ones are counted as they go. Any thread may use it."""

    def __init__(self) -> None:
        self._lines: collections.deque[LogLine] = collections.deque(maxlen=MOST_LINES)
        self._lock = threading.Lock()
        self.forgotten = 0

    def append(self, line: LogLine) -> None:
        """Adds a line, in place of the oldest where there are too many."""
        with self._lock:
            if len(self._lines) == MOST_LINES:
                self.forgotten += 1
            self._lines.append(line)

    def lines(self) -> list[LogLine]:
        """All lines that are kept, oldest first."""
        with self._lock:
            return list(self._lines)
