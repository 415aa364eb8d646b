"""`ChunkedFile`: an MCAP file that grows chunk by chunk, and that can be read at any time, also after a kill.

A chunk is written, with the indexes of its messages, by one call when it is full or half a second old. Schemas and
channels are written in front of the chunk that first needs them, outside of it: a reader of a cut file knows
them without decompressing anything, and a damaged chunk costs its own messages only. The end has the summary,
which readers jump to.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import lz4.frame
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from dora_nb import __version__
from dora_nb.errors import RecordingError

MAGIC = b"\x89MCAP0\r\n"
CHUNK_BYTES = 512 * 1024
"""A chunk that has reached this size is written. Small, since a reader decompresses the whole of one."""
MOST_CHUNK_NANOS = 500_000_000
"""A chunk of this age is written: half of the second that a kill may cost."""
ENDED = "the recording ended, since "
_MOST_CHANNELS = 65_535
_SAMPLE_BYTES = 64 * 1024
_WORTHWHILE_RATIO = 0.9
_MOST_PIECES = 512
"""In one call; Linux takes 1024."""
_MESSAGE = struct.Struct("<BQHIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")

Piece = bytes | memoryview


class ChunkedFile:
    """Writes the records of an MCAP file. Not thread-safe: it has one owner.

    Each method that writes raises RecordingError if the disk is full or the file cannot be written. The file
    has ended then, with what was written before.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.size_bytes = 0
        """Bytes that are in the file."""
        self.has_ended = False
        self.schemas: list[Schema] = []
        self.channels: list[Channel] = []
        self.end_nanos = 0
        """The latest log time of all messages, also of those that are not in the file yet."""
        self._start_nanos: int | None = None
        self._counts: dict[int, int] = {}
        self._chunk_indexes: list[ChunkIndex] = []
        self._attachment_indexes: list[AttachmentIndex] = []
        self._metadata_indexes: list[MetadataIndex] = []
        self._chunk = _Chunk()
        self._file = _open_new(path, overwrite=overwrite)
        head = RecordBuilder()
        head.write(MAGIC)
        Header(profile="", library=f"dora_nb {__version__}").write(head)
        self._append([_built(head)])

    def add_schema(self, schema: Schema) -> None:
        """Writes a schema, outside of any chunk."""
        self._append_record(schema)
        self.schemas.append(schema)

    def add_channel(self, channel: Channel) -> None:
        """Writes a channel, outside of any chunk."""
        if channel.id > _MOST_CHANNELS:
            raise RecordingError(f"{self.path} cannot hold more than {_MOST_CHANNELS:,} topics.")
        self._append_record(channel)
        self.channels.append(channel)

    def add_message(
        self, channel_id: int, sequence: int, data: memoryview, publish_nanos: int, log_nanos: int
    ) -> None:
        """Adds a message to the chunk in progress, and writes that if it is full or half a second old."""
        if len(data) >= CHUNK_BYTES:
            self.end_chunk()  # a large message has a chunk of its own
        self._chunk.add(channel_id, sequence, log_nanos, publish_nanos, data)
        self.end_nanos = max(self.end_nanos, log_nanos)
        if self._chunk.num_bytes >= CHUNK_BYTES:
            self.end_chunk()
        else:
            self.flush_if_due(log_nanos)

    def add_attachment(self, name: str, data: bytes, media_type: str, time_nanos: int) -> None:
        """Writes a file into the file."""
        record = Attachment(
            create_time=time_nanos, log_time=time_nanos, name=name, media_type=media_type, data=data
        )
        offset = self.size_bytes
        self._append_record(record)
        self._attachment_indexes.append(
            AttachmentIndex(
                offset=offset,
                length=self.size_bytes - offset,
                create_time=time_nanos,
                log_time=time_nanos,
                data_size=len(data),
                name=name,
                media_type=media_type,
            )
        )

    def add_metadata(self, name: str, metadata: dict[str, str]) -> None:
        """Writes a record of names and texts about the whole file."""
        offset = self.size_bytes
        self._append_record(Metadata(name=name, metadata=metadata))
        self._metadata_indexes.append(
            MetadataIndex(offset=offset, length=self.size_bytes - offset, name=name)
        )

    def flush_if_due(self, now_nanos: int) -> None:
        """Writes the chunk in progress if it is half a second old. `now_nanos` is on the clock of log times."""
        # abs: a clock that was set back must not keep a chunk in memory.
        if self._chunk.pieces and abs(now_nanos - self._chunk.opened_nanos) >= MOST_CHUNK_NANOS:
            self.end_chunk()

    def end_chunk(self) -> None:
        """Writes the chunk in progress and the indexes of its messages, by one call."""
        chunk = self._chunk
        if not chunk.pieces:
            return
        self._chunk = _Chunk()
        head, body, compression = chunk.compressed()
        compressed_size = sum(map(len, body))
        offset, length = self.size_bytes, len(head) + compressed_size
        index_offsets: dict[int, int] = {}
        indexes: list[Piece] = []
        index_length = 0
        for channel_id, entries in chunk.entries.items():
            index_offsets[channel_id] = offset + length + index_length
            indexes.append(_message_index(channel_id, entries))
            index_length += len(indexes[-1])
        self._append([head, *body, *indexes])
        # What the summary tells is what is in the file: nothing of a chunk that did not fit.
        for channel_id, entries in chunk.entries.items():
            self._counts[channel_id] = self._counts.get(channel_id, 0) + len(entries) // 2
        start = chunk.start_nanos if self._start_nanos is None else self._start_nanos
        self._start_nanos = min(start, chunk.start_nanos)
        self._chunk_indexes.append(
            ChunkIndex(
                chunk_length=length,
                chunk_start_offset=offset,
                compression=compression,
                compressed_size=compressed_size,
                message_end_time=chunk.end_nanos,
                message_index_length=index_length,
                message_index_offsets=index_offsets,
                message_start_time=chunk.start_nanos,
                uncompressed_size=chunk.num_bytes,
            )
        )

    def finish(self) -> None:
        """Writes the last chunk and the summary, and closes the file."""
        if not self.has_ended:
            self.end_chunk()
            self._append([self._summary()])
            self._close()

    def abandon(self) -> None:
        """Closes the file as it is, without the chunk in progress."""
        if not self.has_ended:
            self._close()

    def _close(self) -> None:
        self.has_ended = True
        os.close(self._file)

    def _append_record(self, record: McapRecord) -> None:
        builder = RecordBuilder()
        record.write(builder)
        self._append([_built(builder)])

    def _append(self, pieces: Sequence[Piece]) -> None:
        """Writes all pieces, or none: after an error the file ends with its last whole record."""
        if self.has_ended:
            raise RecordingError(f"the recording {self.path} has ended.")
        try:
            self.size_bytes += _write_all(self._file, pieces)
        except OSError as error:
            self._end_after_error()
            raise RecordingError(
                f"{ENDED}{self.path} cannot be written: {error.strerror}.",
                hint="What was recorded before can be read.",
            ) from None

    def _end_after_error(self) -> None:
        with contextlib.suppress(OSError):  # a device cannot be cut
            os.ftruncate(self._file, self.size_bytes)
            try:
                # A summary is smaller than most chunks, so it may fit where the chunk did not.
                _write_all(self._file, [self._summary()], at=self.size_bytes)
            except OSError:
                os.ftruncate(self._file, self.size_bytes)
        self._close()

    def _summary(self) -> bytes:
        """The end of the file: what a reader jumps to."""
        data_end = RecordBuilder()
        DataEnd(data_section_crc=0).write(data_end)
        start = self.size_bytes + data_end.count
        body = RecordBuilder()
        offsets = []
        for opcode, records in self._summary_groups():
            group_start = body.count
            for record in records:
                record.write(body)
            if body.count > group_start:
                offsets.append(
                    SummaryOffset(
                        group_opcode=opcode,
                        group_start=start + group_start,
                        group_length=body.count - group_start,
                    )
                )
        offset_start = start + body.count
        for offset in offsets:
            offset.write(body)
        summary = _built(body)
        footer_head = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offset_start)
        footer = RecordBuilder()
        Footer(
            summary_start=start,
            summary_offset_start=offset_start,
            summary_crc=zlib.crc32(footer_head, zlib.crc32(summary)),
        ).write(footer)
        return b"".join((_built(data_end), summary, _built(footer), MAGIC))

    def _summary_groups(self) -> list[tuple[Opcode, Sequence[McapRecord]]]:
        ends = [chunk.message_end_time for chunk in self._chunk_indexes]
        statistics = Statistics(
            attachment_count=len(self._attachment_indexes),
            channel_count=len(self.channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunk_indexes),
            message_count=sum(self._counts.values()),
            message_end_time=max(ends, default=0),
            message_start_time=self._start_nanos or 0,
            metadata_count=len(self._metadata_indexes),
            schema_count=len(self.schemas),
        )
        return [
            (Opcode.SCHEMA, self.schemas),
            (Opcode.CHANNEL, self.channels),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, self._chunk_indexes),
            (Opcode.ATTACHMENT_INDEX, self._attachment_indexes),
            (Opcode.METADATA_INDEX, self._metadata_indexes),
        ]


class _Chunk:
    """Messages that are not in the file yet, as the pieces that will be written."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.num_bytes = 0
        self.opened_nanos = 0
        self.start_nanos = 0
        self.end_nanos = 0
        self.entries: dict[int, list[int]] = {}
        """For each channel: log time and place of each message, one after the other."""

    def add(
        self, channel_id: int, sequence: int, log_nanos: int, publish_nanos: int, data: memoryview
    ) -> None:
        if not self.pieces:
            self.opened_nanos = self.start_nanos = self.end_nanos = log_nanos
        self.start_nanos = min(self.start_nanos, log_nanos)
        self.end_nanos = max(self.end_nanos, log_nanos)
        self.entries.setdefault(channel_id, []).extend((log_nanos, self.num_bytes))
        head = _MESSAGE.pack(
            Opcode.MESSAGE,
            len(data) + 22,
            channel_id,
            sequence & 0xFFFFFFFF,
            log_nanos,
            publish_nanos,
        )
        self.pieces += (head, data)
        self.num_bytes += len(head) + len(data)

    def compressed(self) -> tuple[bytes, Sequence[Piece], str]:
        """The record's head, its body, and the name of the compression."""
        crc = 0
        for piece in self.pieces:
            crc = zlib.crc32(piece, crc)
        body, compression = self.pieces, ""
        if _is_worthwhile(self.pieces):
            body, compression = [lz4.frame.compress(b"".join(self.pieces))], "lz4"
        size = sum(map(len, body))
        name = compression.encode()
        fields = b"".join(
            (
                _CHUNK_HEAD.pack(self.start_nanos, self.end_nanos, self.num_bytes, crc),
                struct.pack("<I", len(name)),
                name,
                struct.pack("<Q", size),
            )
        )
        return struct.pack("<BQ", Opcode.CHUNK, len(fields) + size) + fields, body, compression


def _is_worthwhile(pieces: Sequence[Piece]) -> bool:
    """Whether compression makes the chunk smaller, judged by the middle of its largest message.

    JPEG files and the noise of a camera cost as much time as any bytes, and stay as large as they are.
    """
    largest = max(pieces, key=len)
    if len(largest) < _SAMPLE_BYTES:
        return True
    middle = (len(largest) - _SAMPLE_BYTES) // 2
    sample = largest[middle : middle + _SAMPLE_BYTES]
    return len(lz4.frame.compress(sample)) < _WORTHWHILE_RATIO * _SAMPLE_BYTES


def _message_index(channel_id: int, entries: list[int]) -> bytes:
    return struct.pack(
        f"<BQHI{len(entries)}Q",
        Opcode.MESSAGE_INDEX,
        6 + 8 * len(entries),
        channel_id,
        8 * len(entries),
        *entries,
    )


def _built(builder: RecordBuilder) -> bytes:
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data


def _open_new(path: Path, *, overwrite: bool) -> int:
    # Non-blocking, or opening a named pipe would wait for a reader.
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        if overwrite and path.exists() and stat.S_ISREG(path.stat().st_mode):
            # Another file of that name: who reads the old one keeps it as it was.
            path.resolve().unlink()
        return os.open(path, flags | (0 if overwrite else os.O_EXCL), 0o666)
    except FileExistsError:
        raise RecordingError(
            f"{path} already exists.", hint="Choose another name, or overwrite it with --overwrite."
        ) from None
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}.") from None


def _write_all(file: int, pieces: Sequence[Piece], at: int | None = None) -> int:
    """Writes the pieces without joining them, at the end or at a place; returns the number of bytes."""
    if at is not None:
        os.lseek(file, at, os.SEEK_SET)
    views = [memoryview(piece) for piece in pieces if len(piece)]
    total = sum(map(len, views))
    first = 0
    while first < len(views):
        written = os.writev(file, views[first : first + _MOST_PIECES])
        while first < len(views) and written >= len(views[first]):
            written -= len(views[first])
            first += 1
        if written:
            views[first] = views[first][written:]
    return total
