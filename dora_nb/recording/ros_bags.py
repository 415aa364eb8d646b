"""A folder that ROS 2 has recorded as the source of a recording: its files may be sqlite3 or MCAP."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.errors import RecordingError

from .arrow_encoding import UndecodableError
from .message import RecordedMessage
from .ros_messages import RosTypes, import_rosbags
from .source import AttachedFile, TopicInfo

METADATA_FILE = "metadata.yaml"
_FIRST_WINDOW_NANOS = 1_000_000_000


class BagSource:
    """Reads the folder of a bag by the package `rosbags`; ROS itself is not needed."""

    attachments: tuple[AttachedFile, ...] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rosbag2 = import_rosbags("rosbag2")
        self._num_undecodable: dict[str, int] = {}
        self.topics: dict[str, TopicInfo] = {}
        definitions: dict[str, tuple[str, str]] = {}
        counts: dict[tuple[str, str], int] = {}
        with self._opened() as reader:
            self.start_nanos, self.end_nanos = reader.start_time, reader.end_time
            for each in reader.connections:
                if each.msgdef.format.name != "NONE":
                    definitions[each.msgtype] = (each.msgdef.format.name.lower(), each.msgdef.data)
                key = (each.topic, each.msgtype)
                counts[key] = counts.get(key, 0) + each.msgcount
        self._types = RosTypes(definitions)
        for (topic, kind), count in counts.items():
            if count:
                known = self._types.knows(kind)
                reason = None if known else f"the bag has no definition of its type {kind}."
                self.topics[topic] = TopicInfo(topic, kind, count, reason)
        if not self.topics:
            self.start_nanos = self.end_nanos = 0
        self.end_nanos = max(
            self.start_nanos, self.end_nanos - 1
        )  # rosbags gives the time behind the last
        self.size_bytes = sum(each.stat().st_size for each in path.iterdir() if each.is_file())

    @property
    def notes(self) -> list[str]:
        return [
            f"{count} of {self.topics[topic].count} messages of {topic} cannot be decoded"
            for topic, count in self._num_undecodable.items()
        ]

    def messages(
        self, topics: Collection[str], start_nanos: int | None, stop_nanos: int | None
    ) -> Iterator[RecordedMessage]:
        """The sequence numbers count from the first message that is read, since bags have none."""
        sequences: dict[str, int] = {}
        for connection, nanos, data in self._raw(topics, start_nanos, stop_nanos):
            topic = connection.topic
            try:
                message = self._types.decode(data, connection.msgtype, nanos)
            except UndecodableError:
                self._num_undecodable[topic] = self._num_undecodable.get(topic, 0) + 1
                continue
            sequence = sequences.get(topic, 0)
            sequences[topic] = sequence + 1
            yield RecordedMessage(topic, message.value, message.metadata, nanos, nanos, sequence)

    def newest(self, topic: str, nanos: int) -> RecordedMessage | None:
        # A bag is read forward only: look at a second, then at twice as much, and so on.
        window = _FIRST_WINDOW_NANOS
        while True:
            newest = None
            for newest in self.messages([topic], nanos - window, nanos + 1):  # noqa: B007
                pass
            if newest is not None or nanos - window < self.start_nanos:
                return newest
            window *= 2

    def log_times(self, topic: str) -> npt.NDArray[np.int64]:
        times = [nanos for _, nanos, _ in self._raw([topic], None, None)]
        return np.sort(np.array(times, np.int64))

    def read_attachment(self, file: AttachedFile) -> bytes:
        raise RecordingError(f"{self._path} has no attachments.")

    def _raw(
        self, topics: Collection[str], start_nanos: int | None, stop_nanos: int | None
    ) -> Iterator[tuple[Any, int, bytes]]:
        wanted = set(topics)
        with self._opened() as reader:
            connections = [each for each in reader.connections if each.topic in wanted]
            if connections:
                yield from reader.messages(connections, start=start_nanos, stop=stop_nanos)

    def _opened(self) -> Any:
        """A reader of its own for each use, as several may be under way."""
        try:
            reader = self._rosbag2.Reader(self._path)
            reader.open()
        except (
            Exception
        ) as error:  # besides its own errors, those of YAML, apsw and the file system
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RecordingError(f"cannot open the bag {self._path}: {reason}") from None
        return contextlib.closing(reader)


def is_bag(path: Path) -> bool:
    """Whether this is the folder of a ROS 2 bag."""
    return path.is_dir() and (path / METADATA_FILE).is_file()
