"""`Recording`: looks into a recorded file."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from mcap.records import Channel

from dora_nb.errors import RecordingError, did_you_mean
from dora_nb.events import Event

from .arrow_encoding import decode_message
from .message import RecordedMessage
from .reader import RawMessage, RecordingFile
from .writer import COUNTS_NAME

_CELL = re.compile(r"cells/(.+)/(\d+)\.py")
_EDIT = re.compile(r"edits/(.+)/(\d+)\.json")


@dataclass(frozen=True, slots=True)
class RecordedCell:
    """The source of a node in one of its generations, with its ``%%dora_operator`` line."""

    node: str
    generation: int
    text: str
    time_nanos: int


class Recording:
    """A recorded file, read lazily: opening it reads its index only.

    ``notes`` says what is wrong with the file or missing in it. Times are seconds from the first message.

    Raises RecordingError if the file is not a recording. Topics that the file does not have raise it too.

    Example::

        >>> rec = dora_nb.Recording("run.mcap")
        >>> rec.take("camera/image", 3)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = RecordingFile(self.path)
        index = self._file.index
        self._channels: dict[str, dict[int, Channel]] = {}
        for number, channel in sorted(index.channels.items()):
            if index.counts.get(number):
                self._channels.setdefault(channel.topic, {})[number] = channel
        self.topics: tuple[str, ...] = tuple(sorted(self._channels))
        self.start_nanos = index.start_nanos
        self.duration_secs = (index.end_nanos - index.start_nanos) / 1e9
        self.notes: tuple[str, ...] = tuple(index.notes)

    def messages(
        self, *topics: str, start: float | None = None, stop: float | None = None
    ) -> Iterator[RecordedMessage]:
        """Yields the messages of these topics, or of all, in the order in which they were received.

        `start` and `stop` are seconds from the beginning; the message at `stop` is left out. Few messages
        are in memory at a time.

        Example::

            >>> for message in rec.messages("camera/image", start=10.0, stop=12.0):
            ...     print(message.publish_nanos, message.metadata)
        """
        channels: dict[int, Channel] = {}
        for topic in topics or self.topics:
            channels |= self._channels_of(topic)
        raw = self._file.messages(channels, self._nanos(start), self._nanos(stop))
        return map(self._decoded, raw)

    def events(
        self, *topics: str, start: float | None = None, stop: float | None = None
    ) -> Iterator[Event]:
        """Yields messages as `messages` does, as the events that a live reader gets; the ``id`` is the topic.

        Example::

            >>> for event in rec.events("camera/image", "detector/boxes"):
            ...     print(event["id"], event["metadata"]["timestamp"])
        """
        return (message.as_event() for message in self.messages(*topics, start=start, stop=stop))

    def take(self, topic: str, count: int, start: float = 0.0) -> list[Event]:
        """Returns the first `count` events of a topic from a time on; fewer where the recording ends.

        Example::

            >>> image = dora_nb.as_image(rec.take("camera/image", 1, start=12.5)[0])
        """
        return list(itertools.islice(self.events(topic, start=start), count))

    def table(self, topic: str) -> pa.Table:
        """Returns the messages of a topic as an Arrow table: the two times and the value.

        Example::

            >>> rec.table("imu/accel").to_pandas()
        """
        messages = list(self.messages(topic))
        times = pa.timestamp("ns", tz="UTC")
        return pa.table(
            {
                "publish_time": pa.array([each.publish_nanos for each in messages], times),
                "log_time": pa.array([each.log_nanos for each in messages], times),
                "value": _lists([each.value for each in messages]),
            }
        )

    def __getitem__(self, topic: str) -> RecordedTopic:
        """Returns one topic: its number of messages, and its messages."""
        return RecordedTopic(self, topic, self._count(topic))

    def cells(self) -> tuple[RecordedCell, ...]:
        """Returns the source of every cell in every generation that was recorded.

        Example::

            >>> [(cell.node, cell.generation) for cell in rec.cells()]
            [('detector', 1), ('detector', 2)]
        """
        found = []
        for index in self._file.index.attachments:
            if match := _CELL.fullmatch(index.name):
                text = self._file.attachment(index).decode(errors="replace")
                found.append(RecordedCell(match[1], int(match[2]), text, index.log_time))
        return tuple(found)

    def cell(self, node: str, generation: int | None = None) -> RecordedCell | None:
        """Returns the source of a node, of its newest generation by default; None if it is not there.

        Example::

            >>> print(rec.cell("detector").text)
        """
        cells = [
            cell
            for cell in self.cells()
            if cell.node == node and generation in (None, cell.generation)
        ]
        return max(cells, key=lambda cell: cell.generation, default=None)

    def edits(self) -> tuple[dict[str, Any], ...]:
        """Returns each edit that happened meanwhile: node, generation, time_nanos, way.

        Example::

            >>> rec.edits()[0]["way"]
            'in place'
        """
        found = [
            json.loads(self._file.attachment(index))
            for index in self._file.index.attachments
            if _EDIT.fullmatch(index.name)
        ]
        return tuple(found)

    @property
    def counts(self) -> Mapping[str, Mapping[str, int | None]]:
        """For each topic, how many messages were received and lost; empty if the end is missing.

        Example::

            >>> rec.counts["camera/image"]
            {'received': 1800, 'lost': 0}
        """
        text = self._attachment(COUNTS_NAME)
        counts: dict[str, dict[str, int | None]] = {} if text is None else json.loads(text)
        return counts

    @property
    def dataflow_yml(self) -> str | None:
        """The dataflow when the recording began; None if the file does not have it.

        Example::

            >>> print(rec.dataflow_yml)
        """
        text = self._attachment("dataflow.yml")
        return None if text is None else text.decode(errors="replace")

    def _attachment(self, name: str) -> bytes | None:
        """The last attachment of this name."""
        found = [index for index in self._file.index.attachments if index.name == name]
        return self._file.attachment(found[-1]) if found else None

    def _channels_of(self, topic: str) -> dict[int, Channel]:
        channels = self._channels.get(topic)
        if channels is None:
            hint = (
                did_you_mean(topic, self.topics) or f"It has: {', '.join(self.topics) or 'none'}."
            )
            raise RecordingError(f"{self.path.name} has no topic '{topic}'.", hint=hint)
        return channels

    def _count(self, topic: str) -> int:
        return sum(self._file.index.counts[number] for number in self._channels_of(topic))

    def _nanos(self, seconds: float | None) -> int | None:
        return None if seconds is None else self.start_nanos + round(seconds * 1e9)

    def _decoded(self, raw: RawMessage) -> RecordedMessage:
        channel = self._file.index.channels[raw.channel_id]
        schema = self._file.index.schemas[channel.schema_id]
        value, metadata = decode_message(schema.data, raw.data, raw.publish_nanos)
        return RecordedMessage(
            channel.topic, value, metadata, raw.publish_nanos, raw.log_nanos, raw.sequence
        )


@dataclass(frozen=True, slots=True)
class RecordedTopic:
    """One topic of a recording. Iterating yields its events."""

    recording: Recording
    topic: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Event]:
        return self.recording.events(self.topic)


def _lists(values: list[pa.Array[Any]]) -> pa.Array[Any]:
    """One list for each message."""
    if not values:
        return pa.array([], pa.list_(pa.null()))
    lengths = [0, *itertools.accumulate(map(len, values))]
    return pa.ListArray.from_arrays(pa.array(lengths, pa.int32()), pa.concat_arrays(values))
