"""`RecordingWriter`: writes messages as a recording. `chunked_file` says how they get into the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
from mcap.records import Channel, Schema

from .arrow_encoding import ENCODING, END_OF_STREAM, IPC_ENCODING, encode_message
from .chunked_file import ChunkedFile
from .foxglove import TwinEncoder, twin_topic
from .pictures import DEFAULT_QUALITY, ENCODING_KEY, PICTURE_KEY, EncodedPicture, encode_picture

METADATA_NAME = "dora_nb"
"""The MCAP metadata record that says how a file was recorded."""
TWIN_KEY = "dora_nb.twin_of"
"""Of a channel: the topic whose messages it holds once more, in the schemas of Foxglove."""
COUNTS_NAME = "counts.json"
MOST_TYPES = 100
"""A topic of more types than this is written as Arrow streams, which need no channel for each type."""


class RecordingWriter:
    """Writes one recording. Not thread-safe: it has one owner.

    An existing file is refused, unless `overwrite` is true. With `images="jpeg"` raw pictures are written as
    JPEG files of this `quality` (1 to 100); reading gives arrays of the original size. `losses_known` is
    written into the file: whether the writer's owner can count the messages that it could not take.

    With `foxglove` most messages are written once more in the schemas of Foxglove, on topics that begin with a
    slash; this needs the extra ``dora-nb[foxglove]``.

    Each method that writes raises RecordingError if the disk is full or the file cannot be written. What
    was written before is a readable file.

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
        self._jpeg_quality = quality if images == "jpeg" else None
        # Before the file is made: without Foxglove's package there is to be no file.
        self._twins = TwinEncoder(quality) if foxglove else None
        self._schema_ids: dict[tuple[str, bytes], int] = {}
        self._twin_topics: dict[str, _Topic] = {}
        self._topics: dict[str, _Topic] = {}
        self._file = ChunkedFile(path, overwrite=overwrite)
        self._file.add_metadata(
            METADATA_NAME,
            {"losses": "known" if losses_known else "unknown", "images": images},
        )

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def size_bytes(self) -> int:
        """Bytes that are in the file."""
        return self._file.size_bytes

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
        picture = value if isinstance(value, EncodedPicture) else None
        if picture is None and self._jpeg_quality is not None:
            picture = encode_picture(cast("pa.Array[Any]", value), metadata, self._jpeg_quality)
        if picture is not None:
            value = pa.array(np.frombuffer(picture.data, np.uint8))
        array = cast("pa.Array[Any]", value)
        schema_data, data = encode_message(array, metadata, publish_nanos)
        known = self._topics.setdefault(topic, _Topic())
        key = (schema_data, "" if picture is None else picture.encoding)
        if len(known.channels) >= MOST_TYPES and key not in known.channels:
            data = pa.py_buffer(schema_data + data.to_pybytes() + END_OF_STREAM)
            key = (b"", key[1])
        channel_id = known.channels.get(key)
        if channel_id is None:
            channel_id = self._registered(topic, *key)
            known.channels[key] = channel_id
        self._file.add_message(
            channel_id, known.num_messages, memoryview(data), publish_nanos, log_nanos
        )
        known.num_messages += 1
        if self._twins is not None:
            self._write_twin(topic, picture or array, metadata, publish_nanos, log_nanos)

    def attach(self, name: str, data: bytes, *, media_type: str, time_nanos: int) -> None:
        """Writes a file into the recording: `name` is a path with slashes."""
        self._file.add_attachment(name, data, media_type, time_nanos)

    def flush_if_due(self, now_nanos: int) -> None:
        """Writes the chunk in progress if it is half a second old. `now_nanos` is on the clock of `log_nanos`."""
        self._file.flush_if_due(now_nanos)

    def close(self, *, counts: Mapping[str, Mapping[str, int | None]] | None = None) -> None:
        """Writes the last chunk, the counts (for each topic ``received`` and ``lost``) and the summary."""
        if self._file.has_ended:
            return
        self._file.end_chunk()
        if counts is not None:
            data = json.dumps(counts, indent=1).encode()
            self.attach(
                COUNTS_NAME,
                data,
                media_type="application/json",
                time_nanos=self._file.end_nanos,
            )
        self._file.finish()

    def _write_twin(
        self,
        topic: str,
        value: pa.Array[Any] | EncodedPicture,
        metadata: Mapping[str, Any],
        publish_nanos: int,
        log_nanos: int,
    ) -> None:
        twin = self._twins.twin(topic, value, metadata, publish_nanos) if self._twins else None
        if twin is None:
            return
        schema, data = twin
        known = self._twin_topics.setdefault(topic, _Topic())
        key = (schema.data, schema.name)
        channel_id = known.channels.get(key)
        if channel_id is None:
            if len(known.channels) >= MOST_TYPES:
                return
            name = schema.name or f"{topic} {len(known.channels)}"
            channel_id = self._add_channel(
                twin_topic(topic),
                schema.message_encoding,
                self._schema_id(name, schema.schema_encoding, schema.data),
                {TWIN_KEY: topic},
            )
            known.channels[key] = channel_id
        self._file.add_message(
            channel_id, known.num_messages, memoryview(data), publish_nanos, log_nanos
        )
        known.num_messages += 1

    def _registered(self, topic: str, schema_data: bytes, encoding: str) -> int:
        """The id of a new channel.

        `encoding` is that of raw pictures which are written as JPEG files, else empty. Without a schema each
        message is a whole stream.
        """
        schema_id = 0
        if schema_data:
            schema_id = self._schema_id(
                f"arrow_{len(self._file.schemas) + 1}", ENCODING, schema_data
            )
        return self._add_channel(
            topic,
            ENCODING if schema_id else IPC_ENCODING,
            schema_id,
            {PICTURE_KEY: "jpeg", ENCODING_KEY: encoding} if encoding else {},
        )

    def _schema_id(self, name: str, encoding: str, data: bytes) -> int:
        """The id of a schema, which is added to the file if it is new."""
        schema_id = self._schema_ids.get((encoding, data))
        if schema_id is None:
            schema_id = len(self._file.schemas) + 1
            self._file.add_schema(Schema(id=schema_id, name=name, encoding=encoding, data=data))
            self._schema_ids[encoding, data] = schema_id
        return schema_id

    def _add_channel(
        self, topic: str, message_encoding: str, schema_id: int, metadata: dict[str, str]
    ) -> int:
        channel = Channel(
            id=len(self._file.channels) + 1,
            topic=topic,
            message_encoding=message_encoding,
            metadata=metadata,
            schema_id=schema_id,
        )
        self._file.add_channel(channel)
        return channel.id


class _Topic:
    """What has been written of one topic."""

    def __init__(self) -> None:
        self.channels: dict[tuple[bytes, str], int] = {}
        """The channel of each type: by its schema, and the encoding of pictures that became JPEG files."""
        self.num_messages = 0
