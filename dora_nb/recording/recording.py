"""`Recording`: looks into a recorded file."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import RecordingError, did_you_mean
from dora_nb.events import Event

from .arrow_encoding import metadata_text
from .mcap_source import McapSource
from .message import RecordedMessage
from .ros_bags import BagSource, is_bag
from .source import AttachedFile, Source, TopicInfo
from .writer import COUNTS_NAME

_CELL = re.compile(r"cells/(.+)/(\d+)\.py")
_EDIT = re.compile(r"edits/(.+)/(\d+)\.json")
_LEAST_GAP_SECS = 0.05
_GAP_INTERVALS = 5
"""A silence of so many usual intervals is a gap."""
_MOST_IRREGULAR = 3
"""A topic whose 90th percentile is so many times its median has no rhythm, and so no gaps."""
_MOST_TYPE_CHARS = 40


@dataclass(frozen=True, slots=True)
class RecordedCell:
    """The source of a node in one of its generations, with its ``%%dora_operator`` line."""

    node: str
    generation: int
    text: str
    time_nanos: int


class Gap(NamedTuple):
    """A silence in a topic that has a rhythm otherwise."""

    start: float
    """Seconds from the beginning of the recording."""
    duration_secs: float


class Recording:
    """A recorded file: an MCAP file of this package or of another program, or a ROS 2 bag.

    Opening reads the file's index only, and messages are read when they are asked for; also while the file is
    being written, up to what it had when it was opened. Times are seconds from the first message.

    `notes` says what is wrong or missing: that the file was cut, how many chunks are damaged. Damage is found
    when it is read. What is not damaged is read.

    Raises RecordingError if the file is not a recording, and later for a topic that it does not have or cannot
    read.

    Example::

        >>> rec = dora_nb.Recording("run.mcap")
        >>> rec  # topics, types, counts, rates and gaps
        >>> image = dora_nb.as_image(rec.take("camera/image", 1)[0])
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._source: Source = _source_of(self.path)
        self.topics: tuple[str, ...] = tuple(sorted(self._source.topics))
        """All topics that have messages, also those that cannot be read."""
        self.start_nanos = self._source.start_nanos
        """The log time of the first message, in nanoseconds since 1970."""
        self.duration_secs = (self._source.end_nanos - self.start_nanos) / 1e9

    @property
    def size_bytes(self) -> int:
        """The size of the file, or of all files of a bag.

        Example::

            >>> rec.size_bytes
            104857600
        """
        return self._source.size_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What is wrong with the file, as far as it has been read; one line each.

        Example::

            >>> rec.notes
            ('cut after 12.3 s: it was killed, or is still being written',)
        """
        unreadable = [
            f"{topic}: {info.unreadable}"
            for topic, info in sorted(self._source.topics.items())
            if info.unreadable
        ]
        lost = [
            f"{topic}: {count['lost']:,} messages were lost while recording"
            for topic, count in sorted(self._counts.items())
            if count.get("lost")
        ]
        return (*self._source.notes, *lost, *unreadable)

    def messages(
        self, *topics: str, start: float | None = None, stop: float | None = None
    ) -> Iterator[RecordedMessage]:
        """Yields the messages of these topics, or of all that can be read, in the order of their receipt.

        `start` and `stop` are seconds from the beginning; a message at `stop` is left out. Few messages
        are in memory at a time. Raises RecordingError, at once, for an unknown topic and for a `start`
        beyond the end.

        Example::

            >>> for message in rec.messages("camera/image", start=0.5, stop=1.0):
            ...     print(message.publish_nanos, message.metadata)
        """
        for topic in topics:
            self._readable(topic)
        names = topics or [each for each in self.topics if not self._info(each).unreadable]
        return self._source.messages(names, self._start(start), self._nanos(stop, "stop"))

    def events(
        self, *topics: str, start: float | None = None, stop: float | None = None
    ) -> Iterator[Event]:
        """Yields messages as `messages` does, as the events that a live reader gets; the ``id`` is the topic.

        Example::

            >>> for event in rec.events("camera/image", "detector/bbox"):
            ...     print(event["id"], event["metadata"]["timestamp"])
        """
        return (message.as_event() for message in self.messages(*topics, start=start, stop=stop))

    def take(self, topic: str, count: int, start: float = 0.0) -> list[Event]:
        """Returns the first `count` events of a topic from a time on; fewer where the recording ends.

        Example::

            >>> image = dora_nb.as_image(rec.take("camera/image", 1, start=0.5)[0])
        """
        return list(itertools.islice(self.events(topic, start=start), count))

    def table(self, topic: str) -> pa.Table:
        """Returns the messages of a topic as an Arrow table, a row for each.

        The columns are `publish_time` and `log_time` (UTC, nanoseconds), `value` and `metadata` (JSON). If each
        message has one element, `value` is that element, and the fields of structs are columns in its
        place; else it is a list. The whole topic is in memory.

        Raises RecordingError if the messages have different types.

        Example::

            >>> rec.table("imu/accel").to_pandas()
        """
        messages = list(self.messages(topic))
        kinds = list(dict.fromkeys(str(each.value.type) for each in messages))
        if len(kinds) > 1:
            raise RecordingError(
                f"{topic} has messages of several types ({', '.join(kinds)}), which have no common table.",
                hint=f'rec.messages("{topic}") yields them one by one.',
            )
        times = pa.timestamp("ns", tz="UTC")
        columns = {
            "publish_time": pa.array([each.publish_nanos for each in messages], times),
            "log_time": pa.array([each.log_nanos for each in messages], times),
            **_value_columns([each.value for each in messages]),
            "metadata": pa.array(
                [metadata_text(each.metadata, each.publish_nanos) for each in messages], pa.string()
            ),
        }
        return pa.table(columns)

    def __getitem__(self, topic: str) -> RecordedTopic:
        """Returns one topic: its type, count, rate and gaps, and its events."""
        return RecordedTopic(self, self._info(topic))

    def __contains__(self, topic: object) -> bool:
        return topic in self._source.topics

    def cells(self) -> tuple[RecordedCell, ...]:
        """Returns the source of every cell in every generation that was recorded.

        Example::

            >>> [(cell.node, cell.generation) for cell in rec.cells()]
            [('detector', 1), ('detector', 2)]
        """
        found = []
        for file in self._source.attachments:
            if match := _CELL.fullmatch(file.name):
                text = self._source.read_attachment(file).decode(errors="replace")
                found.append(RecordedCell(match[1], int(match[2]), text, file.time_nanos))
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
        files = [file for file in self._source.attachments if _EDIT.fullmatch(file.name)]
        return tuple(self._json(file) for file in files)

    def other_attachments(self) -> tuple[str, ...]:
        """Returns the names of the attached files that are not cells or edits.

        Example::

            >>> rec.other_attachments()
            ('dataflow.yml', 'counts.json')
        """
        names = [file.name for file in self._source.attachments]
        return tuple(
            name for name in names if not _CELL.fullmatch(name) and not _EDIT.fullmatch(name)
        )

    @property
    def counts(self) -> Mapping[str, Mapping[str, int | None]]:
        """For each topic, how many messages were received and lost; empty if the end is missing.

        Example::

            >>> rec.counts["camera/image"]
            {'received': 1800, 'lost': 0}
        """
        return self._counts

    @cached_property
    def _counts(self) -> dict[str, dict[str, int | None]]:
        file = self._attached(COUNTS_NAME)
        return {} if file is None else self._json(file)

    @property
    def dataflow_yml(self) -> str | None:
        """The dataflow when the recording began; None if the file does not have it.

        Example::

            >>> print(rec.dataflow_yml)
        """
        file = self._attached("dataflow.yml")
        return None if file is None else self._source.read_attachment(file).decode(errors="replace")

    def __repr__(self) -> str:
        begin = datetime.fromtimestamp(self.start_nanos / 1e9, UTC)
        topics = "1 topic" if len(self.topics) == 1 else f"{len(self.topics)} topics"
        head = (
            f"{self.path.name}: {self.duration_secs:.1f} s from {begin:%Y-%m-%d %H:%M:%S} UTC, "
            f"{topics}, {_size_text(self._source.size_bytes)}"
        )
        rows = [("topic", "type", "count", "rate", "gaps")]
        rows += [self[topic].as_row() for topic in self.topics]
        return "\n".join([head, *(_aligned(rows) if self.topics else ()), *self.notes])

    def _attached(self, name: str) -> AttachedFile | None:
        """The last attachment of this name."""
        found = [file for file in self._source.attachments if file.name == name]
        return found[-1] if found else None

    def _json(self, file: AttachedFile) -> Any:
        try:
            return json.loads(self._source.read_attachment(file))
        except ValueError:
            raise RecordingError(
                f"{self.path.name}: the attachment '{file.name}' is damaged."
            ) from None

    def _info(self, topic: str) -> TopicInfo:
        info = self._source.topics.get(topic)
        if info is not None:
            return info
        known = ", ".join(self.topics)
        hint = did_you_mean(topic, self.topics) or f"It has {known or 'no messages at all'}."
        raise RecordingError(f"{self.path.name} has no topic '{topic}'.", hint=hint)

    def _readable(self, topic: str) -> None:
        reason = self._info(topic).unreadable
        if reason is not None:
            raise RecordingError(f"cannot read {topic} of {self.path.name}: {reason}")

    def _start(self, seconds: float | None) -> int | None:
        if seconds is not None and seconds > self.duration_secs:
            raise RecordingError(
                f"{self.path.name} ends after {self.duration_secs:.1f} s; got start={seconds:g}."
            )
        return self._nanos(seconds, "start")

    def _nanos(self, seconds: float | None, name: str) -> int | None:
        if seconds is None:
            return None
        if not math.isfinite(seconds):
            raise RecordingError(f"{name} must be a number of seconds, got {seconds}.")
        return self.start_nanos + round(seconds * 1e9)


@dataclass(frozen=True)
class RecordedTopic:
    """One topic of a recording. Iterating yields its events, ``len`` is their number.

    Example::

        >>> topic = rec["camera/image"]
        >>> topic.count, topic.rate_hz, topic.gaps
        (1800, 30.0, (Gap(start=12.3, duration_secs=0.8),))
    """

    recording: Recording = field(repr=False)
    info: TopicInfo = field(repr=False)

    @property
    def topic(self) -> str:
        """Its name.

        Example::

            >>> rec["camera/image"].topic
            'camera/image'
        """
        return self.info.topic

    @property
    def type(self) -> str:
        """What its messages are, for people.

        Example::

            >>> rec["arm/angle"].type
            'double'
        """
        return self.info.type

    @property
    def count(self) -> int:
        """How many messages it has.

        Example::

            >>> rec["camera/image"].count
            1800
        """
        return self.info.count

    @cached_property
    def times(self) -> npt.NDArray[np.float64]:
        """(N,) float64: when each message was received, in seconds from the beginning."""
        nanos = self.recording._source.log_times(self.topic) - self.recording.start_nanos
        seconds: npt.NDArray[np.float64] = nanos / 1e9
        return seconds

    @property
    def rate_hz(self) -> float | None:
        """Messages per second between its first and its last; None for fewer than two.

        Example::

            >>> rec["camera/image"].rate_hz
            30.0
        """
        times = self.times
        if len(times) < 2 or times[-1] == times[0]:
            return None
        return float((len(times) - 1) / (times[-1] - times[0]))

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """Silences of more than five usual intervals; none for a topic without a rhythm."""
        intervals = np.diff(self.times)
        if len(intervals) < 4:
            return ()
        usual = float(np.median(intervals))
        if float(np.percentile(intervals, 90)) > _MOST_IRREGULAR * max(usual, 1e-3):
            return ()
        places = np.flatnonzero(intervals > max(_LEAST_GAP_SECS, _GAP_INTERVALS * usual))
        return tuple(Gap(float(self.times[at]), float(intervals[at])) for at in places)

    def at(self, seconds: float) -> Event | None:
        """Returns the newest event at this time, in seconds from the beginning; None before the first.

        Example::

            >>> image = dora_nb.as_image(rec["camera/image"].at(12.5))
        """
        message = self.message_at(seconds)
        return None if message is None else message.as_event()

    def message_at(self, seconds: float) -> RecordedMessage | None:
        """Returns the newest message at this time, as `at` does, with the times of its sending and receipt.

        Example::

            >>> rec["camera/image"].message_at(12.5).publish_nanos
            1796076000000000000
        """
        self.recording._readable(self.topic)
        nanos = self.recording.start_nanos + round(seconds * 1e9)
        return self.recording._source.newest(self.topic, nanos)

    def as_row(self) -> tuple[str, str, str, str, str]:
        """Returns its line in the table of a recording: topic, type, count, rate, gaps.

        Example::

            >>> rec["camera/image"].as_row()
            ('camera/image', 'bgr8 640×480', '1,800', '30 Hz', '')
        """
        rate = "" if self.rate_hz is None else f"{self.rate_hz:.3g} Hz"
        longest = max((gap.duration_secs for gap in self.gaps), default=0.0)
        gaps = f"{len(self.gaps)} (longest {longest:.2g} s)" if self.gaps else ""
        kind = self.type
        if len(kind) > _MOST_TYPE_CHARS:
            kind = f"{kind[: _MOST_TYPE_CHARS - 1]}…"
        return self.topic, kind, f"{self.count:,}", rate, gaps

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Event]:
        return self.recording.events(self.topic)


def _source_of(path: Path) -> Source:
    return BagSource(path) if is_bag(path) else McapSource(path)


def _value_columns(values: list[pa.Array[Any]]) -> dict[str, pa.Array[Any]]:
    """One row for each array."""
    if not values:
        return {"value": pa.nulls(0)}
    joined = pa.concat_arrays(values)
    if all(len(value) == 1 for value in values):
        if not pa.types.is_struct(joined.type):
            return {"value": joined}
        fields: list[pa.Array[Any]] = joined.flatten()  # type: ignore[attr-defined]  # a struct has it
        return {each.name: column for each, column in zip(joined.type, fields, strict=True)}
    lengths = [0, *itertools.accumulate(map(len, values))]
    return {"value": pa.LargeListArray.from_arrays(pa.array(lengths, pa.int64()), joined)}


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns side by side; numbers, the third and fourth, end at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in (2, 3) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _size_text(num_bytes: int) -> str:
    """``512 B``, ``12.3 MB``: powers of 1000."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
