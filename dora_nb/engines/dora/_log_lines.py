"""Parses dora's log while a dataflow runs. Pure.

Two formats carry the same texts: the lines of ``dora start --attach``, and those of ``dora logs --follow
--log-format json``. The daemon's texts about nodes are not a documented interface of dora; these are the
texts of 1.1.0, and the parity tests check them.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass

_ATTACHED = re.compile(r"^\d\d:\d\d:\d\d (\S+) +(\[dora\]|[A-Za-z0-9_.-]+): (.*)$")
_DIAGNOSIS = "(dora-rs/dora#2742 diagnostic)"
"""Ends two lines that dora-rs 1.1.0 itself prints for each operator that is stopped."""
_RESULT = re.compile(r"^Node `([^`]+)` failed: (exited .*)$", re.MULTILINE)
_UNDECLARED = re.compile(
    r"(?P<source>\S+ +WARN dora_node_api::node: )?"
    r"Ignoring output `(?P<output>[^`]+)` not in node's output list\.$"
)
_THREAD = re.compile(r"Exception in thread .*:$")
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r' +File "([^"]*)", line (\d+)')
_TARGETS = ("daemon", "coordinator", "spawner", "daemon::spawner", "daemon::pending")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of dora's log."""

    node: str | None
    """The node that it is about, or that printed it; None for the whole dataflow."""
    level: str
    """``stdout`` for what a node printed, else ``error``, ``warn``, ``info``, ``debug``, ``trace``."""
    target: str | None
    """The origin: ``daemon`` and the like for dora itself, anything for a node."""
    text: str
    time_secs: float | None = None

    @property
    def by_dora(self) -> bool:
        return self.level != "stdout" and self.target in _TARGETS


def read_attached(line: str) -> Entry | None:
    """Parses a line of ``dora start --attach``; None for another line, such as the rest of a long message."""
    found = _ATTACHED.match(line)
    if found is None:
        return None
    level, node, text = found.groups()
    target = None
    if level != "stdout":
        target, _, text = text.partition(" ")
    return Entry(None if node == "[dora]" else node, level.lower(), target, text)


def read_result(text: str) -> list[Entry]:
    """Parses the failures that ``dora start --attach`` sums up at its end, as entries of the daemon.

    For a node that ended before the program was attached, there is no other report (dora-rs 1.1.0).
    """
    return [Entry(node, "error", "daemon", words) for node, words in _RESULT.findall(text)]


def read_json(line: str) -> Entry | None:
    """Parses a line of ``dora logs --log-format json``; None if it is not one."""
    try:
        fields = json.loads(line)
        level, text = str(fields["level"]).lower(), str(fields["message"])
        time_secs = read_time_secs(fields["timestamp"])
    except (ValueError, KeyError, TypeError):
        return None
    return Entry(fields.get("node_id"), level, fields.get("target"), text, time_secs)


def read_file_line(line: str) -> tuple[str, str, float] | None:
    """Parses a line of ``out/UUID/log_NODE.jsonl``: stream or level, text, time; None if it is dora's own."""
    try:
        fields = json.loads(line)
        stream, text = str(fields["stream"]), str(fields["msg"])
        level, time_secs = str(fields["level"]).lower(), read_time_secs(fields["ts"])
    except (ValueError, KeyError, TypeError):
        return None
    if text.endswith(_DIAGNOSIS):
        return None
    return *_as_logged(stream if level == "stdout" else level, text), time_secs


def as_printed(entry: Entry) -> tuple[str, str]:
    """Returns the stream or level, and the text, of a line that a node printed or logged."""
    return _as_logged(entry.level, entry.text)


def _as_logged(stream: str, text: str) -> tuple[str, str]:
    """Unpacks a record of Python's `logging`, which arrives as a line of JSON on stdout (dora-rs 1.1.0)."""
    if text.startswith('{"timestamp"'):
        try:
            fields = json.loads(text)
            return str(fields["level"]).lower(), str(fields["fields"]["message"])
        except (ValueError, KeyError, TypeError):
            pass  # It only looks like one.
    return stream, text


def undeclared_output(stream: str, text: str) -> str | None:
    """Returns the output that a node has sent on without declaring it, if that is what this line says.

    An operator's line comes on its stdout, and names the output after the operator's id (dora-rs 1.1.0).
    """
    if stream not in ("warn", "stdout"):
        return None
    found = _UNDECLARED.match(text)
    if found is None or (found["source"] is None) != (stream == "warn"):
        return None
    return found["output"]


class ThreadEnds:
    """Finds in the lines of one node that an exception has ended a thread, as Python prints it. Pure."""

    def __init__(self) -> None:
        self._frames: list[tuple[str, str]] | None = None

    def read(self, line: str, own_file: str) -> str | None:
        """Returns the exception, and its place in the node's own file, with the line that ends the report."""
        if _THREAD.match(line):
            self._frames = []
        elif self._frames is None or line.startswith(_TRACEBACK):
            return None
        elif line.startswith(" "):
            if frame := _FRAME.match(line):
                self._frames.append((frame[1], frame[2]))
        else:
            frames, self._frames = self._frames, None
            found = [frame for frame in frames if frame[0] == own_file] or frames
            return f"{line} ({found[-1][0]}, line {found[-1][1]})" if found else line
        return None


def read_time_secs(text: str) -> float:
    """Returns seconds since the epoch. Raises ValueError if the text is not a time."""
    return datetime.datetime.fromisoformat(text).timestamp()
