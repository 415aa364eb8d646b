"""`RecordingWriter`: writes messages into an MCAP file that can be read at any time, also after a kill.

A file is cut in chunks, each of which is written by one call when it is full or half a second old. Schemas and
channels are written in front of the chunk that first needs them, outside of it: whoever reads a cut file
knows them without decompressing anything, and a damaged chunk costs its own messages only. Behind each chunk
are the indexes of its messages; at the end is the summary, which readers jump to.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import lz4.frame
import numpy as np
import pyarrow as pa
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

from .arrow_encoding import ENCODING, END_OF_STREAM, IPC_ENCODING, encode_message
from .pictures import DEFAULT_QUALITY, ENCODING_KEY, PICTURE_KEY, EncodedPicture, encode_picture

MAGIC = b"\x89MCAP0\r\n"
METADATA_NAME = "dora_nb"
"""The MCAP metadata record that says how a file was recorded."""
TWIN_KEY = "dora_nb.twin_of"
"""Of a channel: the topic whose messages it holds once more, in the schemas of Foxglove."""
COUNTS_NAME = "counts.json"
CHUNK_BYTES = 512 * 1024
"""A chunk that has reached this size is written. Small, since a reader decompresses the whole of one."""
MOST_CHUNK_NANOS = 500_000_000
"""A chunk of this age is written: half of the second that a kill may cost."""
MOST_TYPES = 100
"""A topic of more types than this is written as Arrow streams, which need no channel for each type."""
_MOST_CHANNELS = 65_535
_SAMPLE_BYTES = 64 * 1024
_WORTHWHILE_RATIO = 0.9
_MESSAGE = struct.Struct("<BQHIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")

Piece = bytes | memoryview


class RecordingWriter:
    """Writes one recording. Not thread-safe: it has one owner.

    An existing file is refused, unless `overwrite` is true. With `images="jpeg"` raw pictures are written as
    JPEG files of this `quality` (1 to 100); reading gives arrays of the original size. `losses_known` is written into the file: whether
    the writer's owner can count the messages that it could not take.

    Each method that writes raises RecordingError if the disk is full or the file cannot be written. What
    was written before stays a readable file.

    Example::

        >>> with RecordingWriter(Path("run.mcap")) as writer:
        ...     writer.write("camera/image", pixels, {}, publish_nanos=sent, log_nanos=received)
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        images: Literal["raw", "jpeg"] = "raw",
        quality: int = DEFAULT_QUALITY,
        foxglove: bool = False,
        losses_known: bool = True,
    ) -> None:
        self.path = path
        self.size_bytes = 0
        """Bytes that are in the file."""
        self._jpeg_quality = quality if images == "jpeg" else None
        self._schemas: dict[bytes, Schema] = {}
        self._channels: list[Channel] = []
        self._topics: dict[str, _Topic] = {}
        self._chunk_indexes: list[ChunkIndex] = []
        self._attachment_indexes: list[AttachmentIndex] = []
        self._metadata_indexes: list[MetadataIndex] = []
        self._counts: dict[int, int] = {}
        self._chunk = _Chunk()
        self._start_nanos = 0
        self._end_nanos = 0
        self._is_closed = False
        self._file = _open_new(path, overwrite=overwrite)
        head = RecordBuilder()
        head.write(MAGIC)
        Header(profile="", library=f"dora_nb {__version__}").write(head)
        self._append([_built(head)])
        self._write_metadata({"losses": "known" if losses_known else "unknown", "images": images})

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def write(
        self,
        topic: str,
        value: pa.Array[Any] | EncodedPicture,
        metadata: Mapping[str, Any],
        *,
        publish_nanos: int,
        log_nanos: int,
    ) -> None:
        """Adds a message. It is in the file when its chunk is full or half a second old.

        Raises TypeError for metadata that dora cannot carry.
        """
        if self._is_closed:
            raise RecordingError(f"the recording {self.path} has ended.")
        picture = value if isinstance(value, EncodedPicture) else None
        if picture is None and self._jpeg_quality is not None:
            picture = encode_picture(cast("pa.Array[Any]", value), metadata, self._jpeg_quality)
        if picture is not None:
            value = pa.array(np.frombuffer(picture.data, np.uint8))
        array = cast("pa.Array[Any]", value)
        schema_data, data = encode_message(array, metadata, publish_nanos)
        known = self._topics.setdefault(topic, _Topic())
        encoding = "" if picture is None else picture.encoding
        key = (schema_data, encoding)
        if len(known.channels) >= MOST_TYPES and key not in known.channels:
            key = (b"", encoding)
            data = pa.py_buffer(schema_data + data.to_pybytes() + END_OF_STREAM)
        channel_id = known.channels.get(key)
        if channel_id is None:
            channel_id = self._registered(topic, *key)
            known.channels[key] = channel_id
        self._add(channel_id, known.num_messages, memoryview(data), publish_nanos, log_nanos)
        known.num_messages += 1

    def attach(self, name: str, data: bytes, *, media_type: str, time_nanos: int) -> None:
        """Writes a file into the recording: `name` is a path with slashes."""
        record = Attachment(
            create_time=time_nanos, log_time=time_nanos, name=name, media_type=media_type, data=data
        )
        offset = self.size_bytes
        length = self._append_records([record])
        self._attachment_indexes.append(
            AttachmentIndex(
                offset=offset,
                length=length,
                create_time=time_nanos,
                log_time=time_nanos,
                data_size=len(data),
                name=name,
                media_type=media_type,
            )
        )

    def flush_if_due(self, now_nanos: int) -> None:
        """Writes the chunk in progress if it is half a second old. `now_nanos` is on the clock of `log_nanos`."""
        # abs: a clock that was set back must not keep a chunk in memory.
        if self._chunk.pieces and abs(now_nanos - self._chunk.opened_nanos) >= MOST_CHUNK_NANOS:
            self._end_chunk()

    def close(self, *, counts: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Writes the last chunk, the counts (for each topic ``received`` and ``lost``) and the summary."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._end_chunk()
            if counts is not None:
                data = json.dumps(counts, indent=1).encode()
                self.attach(
                    COUNTS_NAME, data, media_type="application/json", time_nanos=self._end_nanos
                )
            self._append([self._summary()])
        finally:
            os.close(self._file)

    def _registered(self, topic: str, schema_data: bytes, encoding: str) -> int:
        """The id of a new channel, which is in the file from now on, outside of any chunk.

        `encoding` is that of raw pictures which are written as JPEG files, else empty. Without a schema each
        message is a whole stream.
        """
        if len(self._channels) >= _MOST_CHANNELS:
            raise RecordingError(f"{self.path} cannot hold more than {_MOST_CHANNELS:,} topics.")
        schema = self._schemas.get(schema_data)
        new: list[McapRecord] = []
        if schema is None and schema_data:
            number = len(self._schemas) + 1
            schema = Schema(id=number, name=f"arrow_{number}", encoding=ENCODING, data=schema_data)
            new.append(schema)
        channel = Channel(
            id=len(self._channels) + 1,
            topic=topic,
            message_encoding=ENCODING if schema else IPC_ENCODING,
            metadata={PICTURE_KEY: "jpeg", ENCODING_KEY: encoding} if encoding else {},
            schema_id=schema.id if schema else 0,
        )
        self._append_records([*new, channel])
        if schema is not None:
            self._schemas[schema_data] = schema
        self._channels.append(channel)
        return channel.id

    def _add(
        self, channel_id: int, sequence: int, data: memoryview, publish_nanos: int, log_nanos: int
    ) -> None:
        if len(data) >= CHUNK_BYTES:
            self._end_chunk()  # a large message has a chunk of its own
        self._chunk.add(channel_id, sequence, log_nanos, publish_nanos, data)
        if not self._counts:
            self._start_nanos = self._end_nanos = log_nanos
        self._start_nanos = min(self._start_nanos, log_nanos)
        self._end_nanos = max(self._end_nanos, log_nanos)
        self._counts[channel_id] = self._counts.get(channel_id, 0) + 1
        if self._chunk.num_bytes >= CHUNK_BYTES:
            self._end_chunk()
        else:
            self.flush_if_due(log_nanos)

    def _end_chunk(self) -> None:
        """Writes the chunk in progress and the indexes of its messages, by one call."""
        chunk = self._chunk
        if not chunk.pieces:
            return
        self._chunk = _Chunk()
        head, body, compression = chunk.compressed()
        offset = self.size_bytes
        length = len(head) + sum(map(len, body))
        index_offsets = {}
        indexes = []
        at = offset + length
        for channel_id, entries in chunk.entries.items():
            packed = _message_index(channel_id, entries)
            index_offsets[channel_id] = at
            indexes.append(packed)
            at += len(packed)
        self._append([head, *body, *indexes])
        self._chunk_indexes.append(
            ChunkIndex(
                chunk_length=length,
                chunk_start_offset=offset,
                compression=compression,
                compressed_size=sum(map(len, body)),
                message_end_time=chunk.end_nanos,
                message_index_length=at - offset - length,
                message_index_offsets=index_offsets,
                message_start_time=chunk.start_nanos,
                uncompressed_size=chunk.num_bytes,
            )
        )

    def _write_metadata(self, metadata: dict[str, str]) -> None:
        offset = self.size_bytes
        length = self._append_records([Metadata(name=METADATA_NAME, metadata=metadata)])
        self._metadata_indexes.append(
            MetadataIndex(offset=offset, length=length, name=METADATA_NAME)
        )

    def _append_records(self, records: Iterable[McapRecord]) -> int:
        builder = RecordBuilder()
        for record in records:
            record.write(builder)
        data = _built(builder)
        self._append([data])
        return len(data)

    def _append(self, pieces: list[Piece]) -> None:
        """Writes all pieces, or none: after an error the file ends with the last whole record."""
        size = self.size_bytes
        try:
            self.size_bytes += _write_all(self._file, pieces)
        except OSError as error:
            self._is_closed = True
            os.ftruncate(self._file, size)
            os.close(self._file)
            raise RecordingError(
                f"the recording ended: {self.path} cannot be written ({error.strerror}).",
                hint="What was recorded before can be read.",
            ) from None

    def _summary(self) -> bytes:
        """The end of the file: what a reader jumps to."""
        builder = RecordBuilder()
        DataEnd(data_section_crc=0).write(builder)
        start = self.size_bytes + builder.count
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
        data = _built(body)
        head = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offset_start)
        Footer(
            summary_start=start,
            summary_offset_start=offset_start,
            summary_crc=zlib.crc32(head, zlib.crc32(data)),
        ).write(end := RecordBuilder())
        return b"".join((_built(builder), data, _built(end), MAGIC))

    def _summary_groups(self) -> list[tuple[Opcode, list[McapRecord]]]:
        statistics = Statistics(
            attachment_count=len(self._attachment_indexes),
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=len(self._chunk_indexes),
            message_count=sum(self._counts.values()),
            message_end_time=self._end_nanos,
            message_start_time=self._start_nanos,
            metadata_count=len(self._metadata_indexes),
            schema_count=len(self._schemas),
        )
        return [
            (Opcode.SCHEMA, list(self._schemas.values())),
            (Opcode.CHANNEL, list(self._channels)),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, list(self._chunk_indexes)),
            (Opcode.ATTACHMENT_INDEX, list(self._attachment_indexes)),
            (Opcode.METADATA_INDEX, list(self._metadata_indexes)),
        ]


class _Topic:
    """What has been written of one topic."""

    def __init__(self) -> None:
        self.channels: dict[tuple[bytes, str], int] = {}
        """The channel of each type: by its schema, and the encoding of pictures that became JPEG files."""
        self.num_messages = 0


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

    def compressed(self) -> tuple[bytes, list[Piece], str]:
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


def _is_worthwhile(pieces: list[Piece]) -> bool:
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
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError:
        raise RecordingError(
            f"{path} already exists.", hint="Choose another name, or overwrite it with --overwrite."
        ) from None
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}.") from None


def _write_all(file: int, pieces: list[Piece]) -> int:
    """Writes the pieces without joining them; returns the number of bytes."""
    views = [memoryview(piece) for piece in pieces if len(piece)]
    total = sum(map(len, views))
    at = 0
    while at < len(views):
        written = os.writev(file, views[at : at + 512])  # the kernel takes at most 1024
        while at < len(views) and written >= len(views[at]):
            written -= len(views[at])
            at += 1
        if written:
            views[at] = views[at][written:]
    return total
