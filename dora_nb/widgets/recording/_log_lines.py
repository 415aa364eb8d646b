"""The lines of a recorded log: of dora's nodes, or of ROS 2's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dora_nb.events import Event
from dora_nb.graph.sources import LOGS_TOPIC

from ..log import LEVELS, OTHER_NAMES, LevelReader, plain

MAX_LINE_CHARS = 500
_ROS_LEVELS = {10: "debug", 20: "info", 30: "warn", 40: "error", 50: "error"}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, without control codes."""

    secs: float
    """From the beginning of the recording."""
    node: str
    level: str
    """One of `LEVELS`."""
    text: str

    def as_json(self) -> list[str | float]:
        return [round(self.secs, 6), self.node, self.level, self.text]


def is_log(topic: str, event: Event) -> bool:
    """Returns whether a topic has the lines of a log: ``dora/logs``, or ROS 2's `rcl_interfaces/msg/Log`."""
    if topic == LOGS_TOPIC or topic.startswith(f"{LOGS_TOPIC}/"):
        return True
    value_type = event["value"].type if isinstance(event.get("value"), pa.Array) else None
    return value_type is not None and _is_ros_log(value_type)


def _is_ros_log(value_type: Any) -> bool:
    if not pa.types.is_struct(value_type):
        return False
    names = {each.name for each in value_type}
    return {"msg", "level", "name"} <= names


class LogReader:
    """Reads the messages of a log, in order."""

    def __init__(self) -> None:
        self._levels: dict[str, LevelReader] = {}

    def lines(self, event: Event, secs: float) -> list[LogLine]:
        """Returns the lines of a message; those that are not what a log has are shown as they are."""
        value = event.get("value")
        if not isinstance(value, pa.Array):
            return []
        return [self._line(item, secs) for item in value.to_pylist()]

    def _line(self, item: object, secs: float) -> LogLine:
        entry = _entry_of(item)
        if entry is None:
            return LogLine(secs, "", "info", _short(str(item)))
        node = str(entry.get("node_id") or entry.get("name") or "")
        text = str(entry.get("message", entry.get("msg", "")))
        given = entry.get("level")
        if isinstance(given, int):
            level = _ROS_LEVELS.get(given, "info")
        else:
            word = str(given or "info").lower()
            word = OTHER_NAMES.get(word, word)
            # What a node prints is "stdout" or "stderr": its level is in the text.
            level = (
                word
                if word in LEVELS
                else self._levels.setdefault(node, LevelReader()).level(word, text)
            )
        return LogLine(secs, _short(node), level, _short(text))


def _entry_of(item: object) -> dict[str, Any] | None:
    if isinstance(item, dict):
        return item
    if not isinstance(item, str):
        return None
    try:
        entry = json.loads(item)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "message" in entry else None


def _short(text: str) -> str:
    text = plain(text).replace("\n", " ")
    return text if len(text) <= MAX_LINE_CHARS else f"{text[: MAX_LINE_CHARS - 1]}…"
