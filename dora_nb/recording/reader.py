"""The index of an MCAP file, and its messages in the order in which they were received.

A whole file has its index at the end. A file that was cut, or that is being written, is scanned: every record is
looked at from the first to the last whole one, and chunks are not decompressed. Messages are read chunk by chunk.
"""

from __future__ import annotations

import heapq
import io
import os
import stat
import struct
import weakref
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
)

from dora_nb.errors import RecordingError

MAGIC = b"\x89MCAP0\r\n"
_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_FOOTER_BYTES = _RECORD.size + 20 + len(MAGIC)
_MOST_SUMMARY_BYTES = 1 << 30


class RawMessage(NamedTuple):
    """A message as it is in the file. Messages are ordered by the first three fields."""

    log_nanos: int
    chunk_offset: int
    place: int
    """Bytes from the beginning of its chunk."""
    channel_id: int
    publish_nanos: int
    sequence: int
    data: memoryview


@dataclass(slots=True)
class FileIndex:
    """What a file contains, without its messages."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkIndex] = field(default_factory=list)
    attachments: list[AttachmentIndex] = field(default_factory=list)
    metadata: list[MetadataIndex] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    """Messages of each channel."""
    start_nanos: int = 0
    end_nanos: int = 0
    notes: list[str] = field(default_factory=list)


class RecordingFile:
    """An open file, which several threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_file(path)
        weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size
        if self.read(0, len(MAGIC)) != MAGIC:
            raise RecordingError(f"{path} is not a recording: it does not begin as an MCAP file.")
        self.index = self._index_at_the_end() or self._scanned_index()

    def read(self, offset: int, length: int) -> bytes:
        """Returns the bytes at a place; fewer where the file ends."""
        data = os.pread(self._file, length, offset)
        while 0 < len(data) < length and (
            more := os.pread(self._file, length - len(data), offset + len(data))
        ):
            data += more
        return data

    def attachment(self, index: AttachmentIndex) -> bytes:
        """Returns the content of an attachment."""
        body = self.read(index.offset + _RECORD.size, index.length - _RECORD.size)
        return bytes(Attachment.read(_stream(body)).data)

    def metadata_record(self, index: MetadataIndex) -> dict[str, str]:
        """Returns the content of a metadata record."""
        body = self.read(index.offset + _RECORD.size, index.length - _RECORD.size)
        return dict(Metadata.read(_stream(body)).metadata)

    def messages(
        self,
        channel_ids: Collection[int],
        start_nanos: int | None = None,
        stop_nanos: int | None = None,
    ) -> Iterator[RawMessage]:
        """Yields messages in the order of their log times, from `start_nanos` until before `stop_nanos`.

        Chunks are read when their time comes. Chunks that overlap, as after the clock was set back, are
        held together.
        """
        waiting: list[RawMessage] = []
        for chunk in self._chunks_with(channel_ids, start_nanos, stop_nanos):
            while waiting and waiting[0].log_nanos < chunk.message_start_time:
                yield heapq.heappop(waiting)
            for message in self._messages_of(chunk, channel_ids):
                if (start_nanos is None or message.log_nanos >= start_nanos) and (
                    stop_nanos is None or message.log_nanos < stop_nanos
                ):
                    heapq.heappush(waiting, message)
        while waiting:
            yield heapq.heappop(waiting)

    def _chunks_with(
        self, channel_ids: Collection[int], start_nanos: int | None, stop_nanos: int | None
    ) -> Sequence[ChunkIndex]:
        wanted = set(channel_ids)
        found = [
            chunk
            for chunk in self.index.chunks
            if (start_nanos is None or chunk.message_end_time >= start_nanos)
            and (stop_nanos is None or chunk.message_start_time < stop_nanos)
            and not wanted.isdisjoint(chunk.message_index_offsets)
        ]
        return sorted(found, key=lambda chunk: (chunk.message_start_time, chunk.chunk_start_offset))

    def _messages_of(self, chunk: ChunkIndex, channel_ids: Collection[int]) -> Iterator[RawMessage]:
        data = self._chunk_data(chunk)
        at = 0
        while at + _RECORD.size <= len(data):
            opcode, length = _RECORD.unpack_from(data, at)
            body = at + _RECORD.size
            if opcode == Opcode.MESSAGE:
                channel_id, sequence, log_nanos, publish_nanos = _MESSAGE.unpack_from(data, body)
                if channel_id in channel_ids:
                    yield RawMessage(
                        log_nanos,
                        chunk.chunk_start_offset,
                        at,
                        channel_id,
                        publish_nanos,
                        sequence,
                        data[body + _MESSAGE.size : body + length],
                    )
            at = body + length

    def _chunk_data(self, chunk: ChunkIndex) -> memoryview:
        record = memoryview(self.read(chunk.chunk_start_offset, chunk.chunk_length))
        _, _, size, crc, name_length = _CHUNK_HEAD.unpack_from(record, _RECORD.size)
        at = _RECORD.size + _CHUNK_HEAD.size
        compression = bytes(record[at : at + name_length]).decode()
        body = record[at + name_length + 8 :]
        if compression == "lz4":
            body = memoryview(lz4.frame.decompress(body))
        elif compression == "zstd":
            body = memoryview(zstandard.decompress(body, size))
        if crc and zlib.crc32(body) != crc:
            raise ValueError("damaged chunk")
        return body

    def _index_at_the_end(self) -> FileIndex | None:
        """The summary of a file that was closed; None if it has none."""
        end = self.read(max(0, self.size - _FOOTER_BYTES), _FOOTER_BYTES)
        if len(end) < _FOOTER_BYTES or not end.endswith(MAGIC) or end[0] != Opcode.FOOTER:
            return None
        summary_start, _, crc = struct.unpack_from("<QQI", end, _RECORD.size)
        summary_size = self.size - _FOOTER_BYTES - summary_start
        if summary_start == 0 or not 0 <= summary_size <= _MOST_SUMMARY_BYTES:
            return None
        summary = self.read(summary_start, summary_size)
        if crc and zlib.crc32(end[: _RECORD.size + 16], zlib.crc32(summary)) != crc:
            return None
        index = FileIndex()
        at = 0
        while at + _RECORD.size <= len(summary):
            opcode, length = _RECORD.unpack_from(summary, at)
            body = summary[at + _RECORD.size : at + _RECORD.size + length]
            at += _RECORD.size + length
            if opcode == Opcode.CHUNK_INDEX:
                index.chunks.append(ChunkIndex.read(_stream(body)))
            elif opcode == Opcode.STATISTICS:
                statistics = Statistics.read(_stream(body))
                index.counts = dict(statistics.channel_message_counts)
                index.start_nanos = statistics.message_start_time
                index.end_nanos = statistics.message_end_time
            else:
                _take_record(index, opcode, body)
        return index

    def _scanned_index(self) -> FileIndex:
        """What the whole records of a file without a summary say."""
        index = FileIndex()
        at = len(MAGIC)
        while at + _RECORD.size <= self.size:
            opcode, length = _RECORD.unpack(self.read(at, _RECORD.size))
            end = at + _RECORD.size + length
            if end > self.size or opcode in (Opcode.DATA_END, Opcode.FOOTER):
                break
            if opcode == Opcode.CHUNK:
                self._take_chunk(index, at, end)
            elif opcode == Opcode.ATTACHMENT:
                body = self.read(at + _RECORD.size, length)
                attachment = Attachment.read(_stream(body))
                index.attachments.append(
                    AttachmentIndex(
                        offset=at,
                        length=end - at,
                        create_time=attachment.create_time,
                        log_time=attachment.log_time,
                        data_size=len(attachment.data),
                        name=attachment.name,
                        media_type=attachment.media_type,
                    )
                )
            elif opcode == Opcode.METADATA:
                name = Metadata.read(_stream(self.read(at + _RECORD.size, length))).name
                index.metadata.append(MetadataIndex(offset=at, length=end - at, name=name))
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                _take_record(index, opcode, self.read(at + _RECORD.size, length))
            at = end
        if index.chunks:
            index.start_nanos = min(chunk.message_start_time for chunk in index.chunks)
            index.end_nanos = max(chunk.message_end_time for chunk in index.chunks)
        seconds = (index.end_nanos - index.start_nanos) / 1e9
        index.notes.append(f"cut after {seconds:.1f} s: its end is missing")
        return index

    def _take_chunk(self, index: FileIndex, at: int, end: int) -> None:
        head = self.read(at + _RECORD.size, _CHUNK_HEAD.size)
        start_nanos, end_nanos, size, _, name_length = _CHUNK_HEAD.unpack(head)
        name = self.read(at + _RECORD.size + _CHUNK_HEAD.size, name_length).decode()
        chunk = ChunkIndex(
            chunk_length=end - at,
            chunk_start_offset=at,
            compression=name,
            compressed_size=end - at - _RECORD.size - _CHUNK_HEAD.size - name_length - 8,
            message_end_time=end_nanos,
            message_index_length=0,
            message_index_offsets={},
            message_start_time=start_nanos,
            uncompressed_size=size,
        )
        for message in self._messages_of(chunk, _Everything()):
            chunk.message_index_offsets[message.channel_id] = 0
            index.counts[message.channel_id] = index.counts.get(message.channel_id, 0) + 1
        index.chunks.append(chunk)


class _Everything(frozenset[int]):
    def __contains__(self, each: object) -> bool:
        return True


def _take_record(index: FileIndex, opcode: int, body: bytes) -> None:
    if opcode == Opcode.SCHEMA:
        schema = Schema.read(_stream(body))
        index.schemas[schema.id] = schema
    elif opcode == Opcode.CHANNEL:
        channel = Channel.read(_stream(body))
        index.channels[channel.id] = channel
    elif opcode == Opcode.ATTACHMENT_INDEX:
        index.attachments.append(AttachmentIndex.read(_stream(body)))
    elif opcode == Opcode.METADATA_INDEX:
        index.metadata.append(MetadataIndex.read(_stream(body)))


def _stream(body: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(body))


def _open_file(path: Path) -> int:
    """Opens a file without ever waiting for a pipe. Raises RecordingError, which says what is wrong."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RecordingError(f"cannot open {path}: {error.strerror}.") from None
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
    raise RecordingError(f"cannot open {path}: it is {kind}.")
