"""An MCAP file as the source of a recording: ours, or another program's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dora_nb.errors import RecordingError

from .arrow_encoding import UndecodableError
from .decoding import UnreadableChannelError, decoder_of, describe_channel
from .message import RecordedMessage
from .reader import COMPRESSIONS, RawMessage, RecordingFile
from .source import AttachedFile, TopicInfo
from .writer import METADATA_NAME, TWIN_KEY

if TYPE_CHECKING:
    from .decoding import Decoder


class McapSource:
    """Reads an MCAP file. A topic may have several channels: one for each type of its messages."""

    def __init__(self, path: Path) -> None:
        self._file = RecordingFile(path)
        index = self._file.index
        self.start_nanos, self.end_nanos = index.start_nanos, index.end_nanos
        self.size_bytes = self._file.size
        self.attachments = tuple(
            AttachedFile(each.name, each.log_time, place)
            for place, each in enumerate(index.attachments)
        )
        self.topics: dict[str, TopicInfo] = {}
        self._channels: dict[str, list[int]] = {}
        self._decoders: dict[int, Decoder] = {}
        self._num_undecodable: dict[str, int] = {}
        for number in sorted(index.channels):
            # A twin holds the messages of another channel once more.
            if index.counts.get(number) and TWIN_KEY not in index.channels[number].metadata:
                self._add_channel(number)
        _check_compression(path, {block.compression for block in index.blocks})

    @property
    def notes(self) -> list[str]:
        notes = self._file.notes
        for each in self._file.index.metadata:
            if (
                each.name == METADATA_NAME
                and self._file.metadata_record(each).get("losses") == "unknown"
            ):
                notes.append("recorded by taps: first messages may be missing, losses are unknown")
        notes += (
            f"{count} of {self.topics[topic].count} messages of {topic} cannot be decoded"
            for topic, count in self._num_undecodable.items()
        )
        return notes

    def messages(
        self, topics: Collection[str], start_nanos: int | None, stop_nanos: int | None
    ) -> Iterator[RecordedMessage]:
        channels = [number for topic in topics for number in self._channels[topic]]
        for raw in self._file.messages(frozenset(channels), start_nanos, stop_nanos):
            message = self._decoded(raw)
            if message is not None:
                yield message

    def newest(self, topic: str, nanos: int) -> RecordedMessage | None:
        raw = self._file.newest_message(frozenset(self._channels[topic]), nanos)
        return None if raw is None else self._decoded(raw)

    def log_times(self, topic: str) -> npt.NDArray[np.int64]:
        return self._file.log_times(frozenset(self._channels[topic]))

    def read_attachment(self, file: AttachedFile) -> bytes:
        return self._file.attachment(self._file.index.attachments[file.place])

    def _add_channel(self, number: int) -> None:
        index = self._file.index
        channel = index.channels[number]
        schema = index.schemas.get(channel.schema_id)
        kind = describe_channel(channel, schema)
        unreadable = None
        try:
            self._decoders[number] = decoder_of(channel, schema)
        except UnreadableChannelError as error:
            unreadable = str(error)
        before = self.topics.get(channel.topic)
        count = index.counts[number]
        if before is not None:
            kind = before.type if kind in before.type.split(" | ") else f"{before.type} | {kind}"
            count += before.count
            unreadable = unreadable or before.unreadable
        self.topics[channel.topic] = TopicInfo(channel.topic, kind, count, unreadable)
        self._channels.setdefault(channel.topic, []).append(number)

    def _decoded(self, raw: RawMessage) -> RecordedMessage | None:
        """The message; None, and a note, if its bytes are not what its channel says."""
        topic = self._file.index.channels[raw.channel_id].topic
        try:
            value, metadata = self._decoders[raw.channel_id](raw.data, raw.publish_nanos)
        except UndecodableError:
            self._num_undecodable[topic] = self._num_undecodable.get(topic, 0) + 1
            return None
        return RecordedMessage(
            topic, value, metadata, raw.publish_nanos, raw.log_nanos, raw.sequence
        )


def _check_compression(path: Path, compressions: set[str]) -> None:
    """Raises RecordingError if no chunk can be read. A note says if only some cannot."""
    unknown = sorted(compressions.difference(COMPRESSIONS))
    if unknown and not compressions.intersection(COMPRESSIONS):
        raise RecordingError(
            f"{path.name} cannot be read: it is compressed with '{unknown[0]}';",
            hint="lz4 and zstd can be read.",
        )
