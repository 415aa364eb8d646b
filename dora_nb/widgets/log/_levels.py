"""The level of a line, and its text without control codes. Pure."""

from __future__ import annotations

import re

LEVELS = ("trace", "debug", "info", "warn", "error")
"""From the least to the most serious."""
OTHER_NAMES = {"warning": "warn", "critical": "error", "fatal": "error", "notset": "trace"}
"""Python's and the robot world's words for the same."""

# Only at the beginning, behind at most a date, a time and a logger's name: "ERROR" in the middle of a
# sentence says nothing about the line.
_NAMED = re.compile(
    r"(?:[\d\-/:.,TZ+]+\s+){0,2}(?:[\w.]+\s+(?:-\s+)?|-\s+){0,2}[\[(]?"
    r"(TRACE|DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?:[\])]|\b)"
)
_CONTROL_CODES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # CSI: colours, moves of the cursor
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"  # and what reverses text
)
_TRACEBACK = "Traceback (most recent call last):"


def plain(text: str) -> str:
    """Returns the text without colours, other control codes, and marks that reverse its direction."""
    return text if text.isprintable() else _CONTROL_CODES.sub("", text)


class LevelReader:
    """Tells the level of each line of one node, in order: the lines of a traceback belong together."""

    def __init__(self) -> None:
        self._in_traceback = False

    def level(self, stream: str, text: str) -> str:
        """Returns the level: of a logged line its own; of stderr what the text says, or else info."""
        if stream in LEVELS:
            return stream
        if stream != "stderr":
            return "info"
        if self._in_traceback or text.startswith(_TRACEBACK):
            # The error itself is the first line that is not indented.
            self._in_traceback = text.startswith((_TRACEBACK, " "))
            return "error"
        named = _NAMED.match(text)
        if named is None:
            return "info"
        word = named[1].lower()
        return OTHER_NAMES.get(word, word)
