"""The events that a node would have got during a recording: its inputs, and ticks on the recorded clock."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from dora_nb.engines.embedded import TrialEvent
from dora_nb.errors import RecordingError
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import LogSource, TimerSource
from dora_nb.recording.message import RecordedMessage, timestamp_of

from .pairing import Cause

_TICK_VALUE: pa.Array[Any] = pa.nulls(0)
_LOGS = "dora/logs"
_PARAMS = "dora/params"


class Source(Protocol):
    """What is needed of a `dora_nb.Recording`."""

    start_nanos: int
    duration_secs: float
    topics: tuple[str, ...]

    def messages(
        self, *topics: str, start: float | None = None, stop: float | None = None
    ) -> Iterator[RecordedMessage]: ...


class RecordedInput(NamedTuple):
    """One event, and what it is: both versions may read one topic under other names."""

    cause: Cause
    event: TrialEvent


def stop_nanos(recording: Source) -> int:
    """The time of the end of a recording."""
    return recording.start_nanos + round(recording.duration_secs * 1e9)


def recorded_inputs(recording: Source, spec: NodeSpec) -> Iterator[RecordedInput]:
    """Yields the events of a node in the order in which the recorder received them, with ticks between.

    Timers tick first at the beginning. Few messages are in memory at a time.
    """
    streams = [_messages(recording, spec)]
    timers: dict[TimerSource, int] = {}
    for each in spec.inputs:
        if isinstance(each.source, TimerSource):
            timers[each.source] = timers.get(each.source, 0) + 1
            streams.insert(0, _ticks(recording, each.name, each.source, timers[each.source]))
    # Equal times: ticks first, as in a dataflow.
    yield from heapq.merge(*streams, key=lambda each: each.event.time_nanos)


def check_inputs(recording: Source, spec: NodeSpec, *, file: str) -> list[str]:
    """Returns a note for each input that the recording has no messages of.

    Raises RecordingError where it has none for this node.
    """
    missing = sorted(
        {str(each.source) for each in spec.inputs if _topic_of(each.source, recording) is None}
    )
    if not spec.inputs:
        raise RecordingError(
            f"{spec.name} has no inputs, so {file} cannot be given to it:",
            hint="compare a node that reads something.",
        )
    if len(missing) == len({str(each.source) for each in spec.inputs}):
        has = (
            f"It has: {', '.join(recording.topics)}." if recording.topics else "It has no messages."
        )
        raise RecordingError(
            f"{file} has no messages for {spec.name}, which reads {', '.join(missing)}.", hint=has
        )
    notes = [f"{file} has no messages of {topic}" for topic in missing]
    if spec.kind == "script" and _PARAMS in recording.topics:  # Operators get none.
        notes.append("the recorded changes of parameters are left out")
    return notes


def _topic_of(source: object, recording: Source) -> str | None:
    """The recorded topic of a source; the source of a timer; None where the recording lacks it."""
    if isinstance(source, TimerSource):
        return str(source)
    topic = _LOGS if isinstance(source, LogSource) else str(source)
    return topic if topic in recording.topics else None


def _ticks(recording: Source, name: str, source: TimerSource, nth: int) -> Iterator[RecordedInput]:
    end_nanos, number = stop_nanos(recording), 0
    interval_nanos = source.interval_secs * 1e9
    while (nanos := recording.start_nanos + round(number * interval_nanos)) <= end_nanos:
        metadata = {"timestamp": timestamp_of(nanos)}
        event = TrialEvent(name, _TICK_VALUE, metadata, nanos)
        yield RecordedInput(Cause(_nth(str(source), nth), number), event)
        number += 1


def _messages(recording: Source, spec: NodeSpec) -> Iterator[RecordedInput]:
    readers: dict[str, list[tuple[str, object]]] = {}
    for each in spec.inputs:
        topic = _topic_of(each.source, recording)
        if topic is not None and not isinstance(each.source, TimerSource):
            readers.setdefault(topic, []).append((each.name, each.source))
    if not readers:
        return
    latest_nanos = recording.start_nanos
    for message in recording.messages(*readers):
        # The recorded clock never goes backwards, whatever the file says.
        latest_nanos = max(latest_nanos, message.log_nanos)
        for nth, (name, source) in enumerate(readers[message.topic], 1):
            if isinstance(source, LogSource) and not _wants(source, message.value):
                continue
            event = TrialEvent(name, message.value, message.metadata, latest_nanos)
            yield RecordedInput(Cause(_nth(message.topic, nth), message.sequence), event)


def _nth(source: str, nth: int) -> str:
    """The source as a cause: a node may read it on several inputs, whose names another version may change."""
    return source if nth == 1 else f"{source} ({nth})"


def _wants(source: LogSource, value: pa.Array[Any]) -> bool:
    """Whether an entry of the log is one that this source reads."""
    try:
        entry = json.loads(value[0].as_py())
        return source.wants(entry["level"].lower(), entry["node_id"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return True
