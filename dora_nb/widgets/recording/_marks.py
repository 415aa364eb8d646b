"""What happened during a recording, for its timeline: edits of cells, failures, changes of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dora_nb.errors import RecordingError
from dora_nb.graph.sources import PARAMS_TOPIC
from dora_nb.recording import Recording

from ._log_lines import LogLine

MAX_MARKS = 1000
_MAX_CHARS = 200
_SAME_FAILURE_SECS = 1.0


class Mark(NamedTuple):
    """One event of the timeline."""

    secs: float
    kind: str
    """``edit``, ``failure`` or ``param``."""
    text: str


def edits_of(recording: Recording) -> list[Mark]:
    """Returns the edits of cells. Raises RecordingError if one is damaged."""
    marks = []
    for edit in recording.edits():
        nanos, node = edit.get("time_nanos"), edit.get("node")
        if not isinstance(nanos, int):
            continue
        way = f", {edit['way']}" if edit.get("way") else ""
        secs = min(max((nanos - recording.start_nanos) / 1e9, 0.0), recording.duration_secs)
        marks.append(Mark(secs, "edit", f"{node} edited: generation {edit.get('generation')}{way}"))
    return marks


def failures_in(lines: list[LogLine]) -> list[Mark]:
    """Returns the errors of a log. The lines of one traceback are one failure, named by its last line."""
    marks: list[Mark] = []
    last: dict[str, tuple[int, float]] = {}
    for line in lines:
        if line.level != "error" or not line.text.strip():
            continue
        place, secs = last.get(line.node, (-1, float("-inf")))
        text = f"{line.node}: {line.text.strip()}"[:_MAX_CHARS]
        if line.secs - secs <= _SAME_FAILURE_SECS:
            # A traceback's last line, which is not indented, says what went wrong.
            if not line.text.startswith((" ", "^")):
                marks[place] = marks[place]._replace(text=text)
            last[line.node] = (place, line.secs)
            continue
        last[line.node] = (len(marks), line.secs)
        marks.append(Mark(line.secs, "failure", text))
    return marks


def params_of(recording: Recording) -> Iterator[Mark]:
    """Yields the changes of parameters. Raises RecordingError."""
    if PARAMS_TOPIC not in recording:
        return
    for message in recording.messages(PARAMS_TOPIC):
        about = message.metadata
        value = message.value[0].as_py() if len(message.value) else None
        named = f"{about.get('node')}.{about.get('key')}"
        text = f"{named} deleted" if about.get("deleted") else f"{named} = {value}"
        secs = (message.log_nanos - recording.start_nanos) / 1e9
        yield Mark(secs, "param", text[:_MAX_CHARS])


def sorted_marks(marks: list[Mark]) -> list[Mark]:
    """Returns the marks in the order of time; of too many, the failures and edits first."""
    if len(marks) > MAX_MARKS:
        marks = sorted(marks, key=lambda mark: mark.kind == "param")[:MAX_MARKS]
    return sorted(marks)


def marks_of(recording: Recording, lines: list[LogLine]) -> tuple[list[Mark], str | None]:
    """Returns all events, and what is wrong if some cannot be read."""
    marks, problem = failures_in(lines), None
    try:
        marks += edits_of(recording)
        for mark in params_of(recording):
            marks.append(mark)  # those before a damaged one are kept
    except RecordingError as error:
        problem = str(error)
    return sorted_marks(marks), problem
