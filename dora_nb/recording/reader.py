"""The index of an MCAP file, and its messages in the order in which they were received.

A whole file has its index at the end. A file that was cut, or that is being written, is scanned: every record
is looked at from the first to the last whole one, and hardly a chunk is decompressed. What is damaged is left out,
counted, and said in the notes. Messages are read block by block.
"""

from __future__ import annotations

import heapq
import io
import os
import stat
import struct
import weakref
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import lz4.frame
import numpy as np
import numpy.typing as npt
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
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
from dora_nb.files import hint_at_missing

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEAD = struct.Struct("<BQ")
"""Opcode and length, in front of every record."""
COMPRESSIONS = ("", "lz4", "zstd")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_ATTACHMENT_HEAD = struct.Struct("<QQ")
_FOOTER_BYTES = RECORD_HEAD.size + 20 + len(MAGIC)
_OTHER_FILES = {
    b"SQLite format 3": "A ROS 2 bag is opened by its folder, which has a metadata.yaml.",
    b"#ROSBAG": "It is a ROS 1 bag: convert it with rosbags-convert.",
}
"""How they begin, and the way out."""
_MOST_CHUNK_BYTES = 1 << 32
"""What a damaged head may claim beyond this is not tried."""
_MOST_NAME_BYTES = 1 << 16
_UNREADABLE = (struct.error, McapError, UnicodeDecodeError, ValueError, EOFError, RuntimeError)
"""What mcap, lz4, zstandard and struct raise on bytes that are not what they should be."""


class RawMessage(NamedTuple):
    """A message as it is in the file. The first three fields are the order of messages."""

    log_nanos: int
    block_offset: int
    place: int
    """Bytes from the beginning of its block."""
    channel_id: int
    publish_nanos: int
    sequence: int
    data: memoryview


@dataclass(slots=True)
class Block:
    """A chunk; or, of a file without chunks, messages that lie side by side."""

    offset: int
    length: int
    start_nanos: int
    end_nanos: int
    channel_ids: frozenset[int] | None
    """None if only reading the block can tell."""
    index_offset: int = 0
    index_length: int = 0
    """Where the indexes of its messages are; 0 if there are none."""
    is_chunk: bool = True
    compression: str = ""

    def has_one_of(self, channel_ids: Collection[int]) -> bool:
        return self.channel_ids is None or not self.channel_ids.isdisjoint(channel_ids)


@dataclass(slots=True)
class FileIndex:
    """What a file contains, without its messages."""

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    attachments: list[AttachmentIndex] = field(default_factory=list)
    metadata: list[MetadataIndex] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    """Messages of each channel."""
    start_nanos: int = 0
    end_nanos: int = 0
    is_whole: bool = True
    """Whether the file has its index at the end."""
    cut_bytes: int = 0
    """Behind the last whole record, where the end is missing."""
    num_damaged_records: int = 0

    def take_record(self, opcode: int, body: bytes) -> None:
        """Adds a schema, a channel or the place of an attachment. A damaged one is counted."""
        try:
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(_stream(body))
                self.schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                channel = Channel.read(_stream(body))
                self.channels[channel.id] = channel
            elif opcode == Opcode.ATTACHMENT_INDEX:
                self.attachments.append(AttachmentIndex.read(_stream(body)))
            elif opcode == Opcode.METADATA_INDEX:
                self.metadata.append(MetadataIndex.read(_stream(body)))
        except _UNREADABLE:
            self.num_damaged_records += 1


class RecordingFile:
    """An open file, which several threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_file(path)
        close = weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size
        """At the time of opening: what is appended later is not seen."""
        self._damaged: dict[int, str] = {}
        """By the offset of the block: what is wrong with it."""
        try:
            _check_beginning(path, self.read(0, 64))
            self.index = self._index_at_the_end() or self._scanned_index()
        except BaseException:
            close()  # The traceback, which a notebook keeps, would hold the file open.
            raise

    @property
    def notes(self) -> list[str]:
        """What is wrong with the file, as far as it has been read."""
        index = self.index
        notes = []
        if not index.is_whole:
            seconds = (index.end_nanos - index.start_nanos) / 1e9
            rest = f", {index.cut_bytes:,} bytes behind cannot be read" if index.cut_bytes else ""
            notes.append(
                f"cut after {seconds:.1f} s{rest}: it was killed, or is still being written"
            )
        if index.num_damaged_records:
            notes.append(f"{_counted(index.num_damaged_records, 'record')} damaged and left out")
        reasons = list(self._damaged.values())
        notes += (
            f"{_counted(reasons.count(reason), 'chunk')} left out: {reason}"
            for reason in dict.fromkeys(reasons)
        )
        return notes

    def read(self, offset: int, length: int) -> bytes:
        """Returns the bytes at a place; fewer where the file ends."""
        pieces: list[bytes] = []
        while length > 0:  # a single read returns at most 2 GiB
            try:
                data = os.pread(self._file, length, offset)
            except OSError as error:
                raise RecordingError(f"cannot read {self.path}: {error.strerror}.") from None
            if not data:
                break
            pieces.append(data)
            offset, length = offset + len(data), length - len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def attachment(self, index: AttachmentIndex) -> bytes:
        """Returns the content of an attachment. Raises RecordingError if it is damaged."""
        try:
            data: bytes = Attachment.read(_stream(self._body(index.offset, index.length))).data
        except _UNREADABLE:
            data = b""
        if len(data) != index.data_size:
            raise RecordingError(f"{self.path.name}: the attachment '{index.name}' is damaged.")
        return data

    def metadata_record(self, index: MetadataIndex) -> dict[str, str]:
        """Returns the content of a metadata record; nothing if it is damaged."""
        try:
            return dict(Metadata.read(_stream(self._body(index.offset, index.length))).metadata)
        except _UNREADABLE:
            return {}

    def messages(
        self,
        channel_ids: Collection[int],
        start_nanos: int | None = None,
        stop_nanos: int | None = None,
    ) -> Iterator[RawMessage]:
        """Yields messages in the order of their log times, from `start_nanos` until before `stop_nanos`.

        A block is read when its time comes. Blocks that overlap, as after the clock was set back, are in
        memory together. A damaged block is left out and gets a note.
        """
        waiting: list[RawMessage] = []
        for block in self._blocks_with(channel_ids, start_nanos, stop_nanos):
            while waiting and waiting[0].log_nanos < block.start_nanos:
                yield heapq.heappop(waiting)
            for message in self.block_messages(block, channel_ids):
                if (start_nanos is None or message.log_nanos >= start_nanos) and (
                    stop_nanos is None or message.log_nanos < stop_nanos
                ):
                    heapq.heappush(waiting, message)
        while waiting:
            yield heapq.heappop(waiting)

    def newest_message(self, channel_ids: Collection[int], nanos: int) -> RawMessage | None:
        """Returns the newest message whose log time is not after `nanos`."""
        newest: RawMessage | None = None
        blocks = self._blocks_with(channel_ids, None, nanos + 1)
        for block in sorted(blocks, key=lambda block: -block.end_nanos):
            if newest is not None and block.end_nanos < newest.log_nanos:
                break
            for message in self.block_messages(block, channel_ids):
                if message.log_nanos <= nanos and (newest is None or message[:3] > newest[:3]):
                    newest = message
        return newest

    def log_times(self, channel_ids: Collection[int]) -> npt.NDArray[np.int64]:
        """Returns the log times of all messages of these channels, in order. Decompresses nothing."""
        found: list[npt.NDArray[np.int64]] = []
        for block in self._blocks_with(channel_ids, None, None):
            if block.index_length:
                indexes = self.read(block.index_offset, block.index_length)
                found += (
                    np.frombuffer(entries, "<i8")[::2]
                    for channel_id, entries in _index_entries(indexes)
                    if channel_id in channel_ids
                )
            else:
                messages = self.block_messages(block, channel_ids)
                found.append(np.array([each.log_nanos for each in messages], np.int64))
        return np.sort(np.concatenate(found, dtype=np.int64)) if found else np.empty(0, np.int64)

    def block_messages(
        self, block: Block, channel_ids: Collection[int] | None = None
    ) -> list[RawMessage]:
        """Returns the messages of a block, in their order in the file; none if it is damaged."""
        if block.offset in self._damaged:
            return []
        try:
            return list(_messages_in(self.block_data(block), block.offset, channel_ids))
        except UnreadableBlockError as error:
            self._damaged[block.offset] = str(error)
            return []

    def block_data(self, block: Block) -> memoryview:
        """Returns the records of a block, decompressed and checked. Raises UnreadableBlockError."""
        data = memoryview(self.read(block.offset, block.length))
        if not block.is_chunk:
            return data
        try:
            return _decompressed(data)
        except _UNREADABLE:
            raise UnreadableBlockError("damaged") from None

    def _body(self, offset: int, length: int) -> bytes:
        return self.read(offset + RECORD_HEAD.size, length - RECORD_HEAD.size)

    def _blocks_with(
        self, channel_ids: Collection[int], start_nanos: int | None, stop_nanos: int | None
    ) -> list[Block]:
        return sorted(
            (
                block
                for block in self.index.blocks
                if (start_nanos is None or block.end_nanos >= start_nanos)
                and (stop_nanos is None or block.start_nanos < stop_nanos)
                and block.has_one_of(channel_ids)
            ),
            key=lambda block: (block.start_nanos, block.offset),
        )

    # ----- the index at the end

    def _index_at_the_end(self) -> FileIndex | None:
        """The summary of a file that was closed; None if it is missing, damaged or incomplete."""
        end = self.read(max(0, self.size - _FOOTER_BYTES), _FOOTER_BYTES)
        if len(end) < _FOOTER_BYTES or not end.endswith(MAGIC) or end[0] != Opcode.FOOTER:
            return None
        summary_start, _, crc = struct.unpack_from("<QQI", end, RECORD_HEAD.size)
        summary_size = self.size - _FOOTER_BYTES - summary_start
        if summary_start == 0 or summary_size <= 0:
            return None
        summary = self.read(summary_start, summary_size)
        if crc and zlib.crc32(end[: RECORD_HEAD.size + 16], zlib.crc32(summary)) != crc:
            return None
        index = FileIndex()
        try:
            has_statistics = self._take_summary(index, summary)
        except _UNREADABLE:
            return None
        channels = {number for block in index.blocks for number in block.channel_ids or ()}
        if not has_statistics or index.num_damaged_records or not channels <= index.channels.keys():
            return None
        if not index.blocks and any(index.counts.values()):
            return None  # its messages are outside of chunks: only a scan finds them
        return index

    def _take_summary(self, index: FileIndex, summary: bytes) -> bool:
        """Fills the index; returns whether the summary counts the messages of each channel."""
        has_statistics = False
        for opcode, body in _records_in(summary):
            if opcode == Opcode.CHUNK_INDEX:
                chunk = ChunkIndex.read(_stream(body))
                index.blocks.append(_block_of_chunk(chunk))
            elif opcode == Opcode.STATISTICS:
                statistics = Statistics.read(_stream(body))
                index.counts = dict(statistics.channel_message_counts)
                index.start_nanos = statistics.message_start_time
                index.end_nanos = statistics.message_end_time
                has_statistics = sum(index.counts.values()) == statistics.message_count
            else:
                index.take_record(opcode, body)
        return has_statistics

    # ----- a scan

    def _scanned_index(self) -> FileIndex:
        """What the whole records say of a file that was cut, or that has no usable summary."""
        index = FileIndex(is_whole=False)
        at = len(MAGIC)
        loose: Block | None = None
        while at + RECORD_HEAD.size <= self.size:
            opcode, length = RECORD_HEAD.unpack(self.read(at, RECORD_HEAD.size))
            end = at + RECORD_HEAD.size + length
            if end > self.size or opcode == 0:
                break
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                index.is_whole = self.read(self.size - len(MAGIC), len(MAGIC)) == MAGIC
                at = self.size
                break
            if opcode != Opcode.MESSAGE:
                loose = None
            try:
                if opcode == Opcode.MESSAGE:
                    loose = self._take_loose_message(index, loose, at, end)
                else:
                    self._take_scanned(index, opcode, at, end)
            except _UNREADABLE:
                index.num_damaged_records += 1
            at = end
        index.cut_bytes = self.size - at
        self._complete(index)
        return index

    def _take_scanned(self, index: FileIndex, opcode: int, at: int, end: int) -> None:
        body_length = end - at - RECORD_HEAD.size
        if opcode == Opcode.CHUNK:
            index.blocks.append(self._scanned_chunk(at, end))
        elif opcode == Opcode.MESSAGE_INDEX and index.blocks and index.blocks[-1].is_chunk:
            chunk = index.blocks[-1]
            (channel_id,) = struct.unpack("<H", self.read(at + RECORD_HEAD.size, 2))
            chunk.channel_ids = (chunk.channel_ids or frozenset()) | {channel_id}
            chunk.index_offset = chunk.index_offset or at
            chunk.index_length = end - chunk.index_offset
            index.counts[channel_id] = index.counts.get(channel_id, 0) + (body_length - 6) // 16
        elif opcode == Opcode.ATTACHMENT:
            index.attachments.append(self._scanned_attachment(at, end))
        elif opcode == Opcode.METADATA:
            name = Metadata.read(_stream(self._body(at, end - at))).name
            index.metadata.append(MetadataIndex(offset=at, length=end - at, name=name))
        elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            index.take_record(opcode, self._body(at, end - at))

    def _scanned_chunk(self, at: int, end: int) -> Block:
        head = self.read(at + RECORD_HEAD.size, _CHUNK_HEAD.size)
        start_nanos, end_nanos, _, _, name_length = _CHUNK_HEAD.unpack(head)
        name = self.read(at + RECORD_HEAD.size + _CHUNK_HEAD.size, min(name_length, 64))
        return Block(
            at, end - at, start_nanos, end_nanos, None, compression=name.decode(errors="replace")
        )

    def _scanned_attachment(self, at: int, end: int) -> AttachmentIndex:
        """Reads the names only, as the data may be large."""
        head = self.read(at + RECORD_HEAD.size, min(end - at - RECORD_HEAD.size, _MOST_NAME_BYTES))
        log_time, create_time = _ATTACHMENT_HEAD.unpack_from(head)
        stream = _stream(head[_ATTACHMENT_HEAD.size :])
        name, media_type = stream.read_prefixed_string(), stream.read_prefixed_string()
        return AttachmentIndex(
            offset=at,
            length=end - at,
            create_time=create_time,
            log_time=log_time,
            data_size=stream.read8(),
            name=name,
            media_type=media_type,
        )

    def _take_loose_message(
        self, index: FileIndex, block: Block | None, at: int, end: int
    ) -> Block:
        """A message outside of any chunk; it extends the block of those right in front of it."""
        head = self.read(at + RECORD_HEAD.size, _MESSAGE_HEAD.size)
        channel_id, _, log_nanos, _ = _MESSAGE_HEAD.unpack(head)
        if block is None or end - block.offset > _LOOSE_BLOCK_BYTES:
            block = Block(at, 0, log_nanos, log_nanos, frozenset(), is_chunk=False)
            index.blocks.append(block)
        block.length = end - block.offset
        block.start_nanos = min(block.start_nanos, log_nanos)
        block.end_nanos = max(block.end_nanos, log_nanos)
        block.channel_ids = (block.channel_ids or frozenset()) | {channel_id}
        index.counts[channel_id] = index.counts.get(channel_id, 0) + 1
        return block

    def _complete(self, index: FileIndex) -> None:
        """Reads the chunks whose indexes may be incomplete, and what other writers put into chunks."""
        chunks = [block for block in index.blocks if block.is_chunk]
        if chunks and chunks[-1].index_length:
            self._forget_indexes(index, chunks[-1])  # a cut file may end within them
        known = index.channels.keys()
        for chunk in chunks:
            if chunk.channel_ids is not None and chunk.channel_ids <= known:
                continue
            try:
                data = self.block_data(chunk)
                for opcode, body in _records_in(data):
                    if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                        index.take_record(opcode, bytes(body))
                messages = list(_messages_in(data, chunk.offset, None))
            except UnreadableBlockError as error:
                self._damaged[chunk.offset] = str(error)
                continue
            if chunk.channel_ids is None:
                chunk.channel_ids = frozenset(each.channel_id for each in messages)
                for each in messages:
                    index.counts[each.channel_id] = index.counts.get(each.channel_id, 0) + 1
        filled = [block for block in index.blocks if block.channel_ids]
        if filled:
            index.start_nanos = min(block.start_nanos for block in filled)
            index.end_nanos = max(block.end_nanos for block in filled)

    def _forget_indexes(self, index: FileIndex, chunk: Block) -> None:
        for channel_id, entries in _index_entries(
            self.read(chunk.index_offset, chunk.index_length)
        ):
            index.counts[channel_id] -= len(entries) // 16
        chunk.channel_ids, chunk.index_offset, chunk.index_length = None, 0, 0


_LOOSE_BLOCK_BYTES = 1 << 20
"""Messages outside of chunks are read in blocks of about this size."""


class UnreadableBlockError(Exception):
    """The records of a block cannot be read; the text says why: ``damaged``."""


def _decompressed(chunk: memoryview) -> memoryview:
    """The records of a chunk. Raises UnreadableBlockError, and what lz4 and zstandard raise."""
    _, _, size, crc, name_length = _CHUNK_HEAD.unpack_from(chunk, RECORD_HEAD.size)
    at = RECORD_HEAD.size + _CHUNK_HEAD.size
    compression = bytes(chunk[at : at + name_length]).decode()
    (body_length,) = struct.unpack_from("<Q", chunk, at + name_length)
    body = chunk[at + name_length + 8 :]
    if len(body) != body_length or size > _MOST_CHUNK_BYTES:
        raise UnreadableBlockError("damaged")
    if compression == "lz4":
        body = memoryview(lz4.frame.LZ4FrameDecompressor().decompress(body, max_length=size))
    elif compression == "zstd":
        try:
            body = memoryview(zstandard.ZstdDecompressor().decompress(body, max_output_size=size))
        except zstandard.ZstdError:
            raise UnreadableBlockError("damaged") from None
    elif compression:
        raise UnreadableBlockError(f"the compression '{compression}' is not known")
    if len(body) != size or (crc and zlib.crc32(body) != crc):
        raise UnreadableBlockError("damaged")
    return body


def _messages_in(
    data: memoryview, block_offset: int, channel_ids: Collection[int] | None
) -> Iterator[RawMessage]:
    at = 0
    while at + RECORD_HEAD.size <= len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, at)
        body = at + RECORD_HEAD.size
        end = body + length
        if end > len(data):
            raise UnreadableBlockError("damaged")
        if opcode == Opcode.MESSAGE and length >= _MESSAGE_HEAD.size:
            channel_id, sequence, log_nanos, publish_nanos = _MESSAGE_HEAD.unpack_from(data, body)
            if channel_ids is None or channel_id in channel_ids:
                content = data[body + _MESSAGE_HEAD.size : end]
                yield RawMessage(
                    log_nanos, block_offset, at, channel_id, publish_nanos, sequence, content
                )
        at = end


def _records_in(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Opcode and body of each whole record."""
    at = 0
    while at + RECORD_HEAD.size <= len(data):
        opcode, length = RECORD_HEAD.unpack_from(data, at)
        at += RECORD_HEAD.size + length
        if at > len(data):
            return
        yield opcode, bytes(data[at - length : at])


def _index_entries(indexes: bytes) -> Iterator[tuple[int, bytes]]:
    """The channel of each message index, and its entries: 16 bytes each, log time and place."""
    for opcode, body in _records_in(indexes):
        if opcode == Opcode.MESSAGE_INDEX and len(body) >= 6:
            (channel_id,) = struct.unpack_from("<H", body)
            yield channel_id, body[6 : 6 + (len(body) - 6) // 16 * 16]


def _block_of_chunk(chunk: ChunkIndex) -> Block:
    offsets = chunk.message_index_offsets
    return Block(
        offset=chunk.chunk_start_offset,
        length=chunk.chunk_length,
        start_nanos=chunk.message_start_time,
        end_nanos=chunk.message_end_time,
        channel_ids=frozenset(offsets) if offsets else None,
        index_offset=chunk.chunk_start_offset + chunk.chunk_length if offsets else 0,
        index_length=chunk.message_index_length if offsets else 0,
        compression=chunk.compression,
    )


def _stream(body: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(body))


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"


def _open_file(path: Path) -> int:
    """Opens a file without ever waiting for a pipe. Raises RecordingError, which says what is wrong."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise RecordingError(f"there is no file {path}.", hint=hint_at_missing(path)) from None
    except OSError as error:
        raise RecordingError(f"cannot open {path}: {error.strerror}.") from None
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        inside = min(path.glob("*.mcap"), default=None)
        if (path / "metadata.yaml").is_file():
            problem = "it is the folder of a ROS 2 bag."
        else:
            problem = "it is a folder, and not a ROS 2 bag (it has no metadata.yaml)."
        hint = None if inside is None else f"Try the file in it: {inside}."
        raise RecordingError(f"cannot open {path}: {problem}", hint=hint)
    raise RecordingError(f"cannot open {path}: it is not a regular file.")


def _check_beginning(path: Path, begin: bytes) -> None:
    if begin.startswith(MAGIC):
        return
    if not begin:
        raise RecordingError(f"{path} is not a recording: it is empty.")
    known = next((hint for start, hint in _OTHER_FILES.items() if begin.startswith(start)), None)
    if MAGIC.startswith(begin):
        known = "It is cut off within its first bytes."
    raise RecordingError(
        f"{path} is not a recording: it does not begin like an MCAP file.", hint=known
    )
