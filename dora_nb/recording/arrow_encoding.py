"""Arrow arrays and metadata as MCAP messages, and back: the encodings ``arrow`` and ``arrow-ipc``.

In ``arrow`` the schema record has the schema's own IPC message, and each message has the IPC messages that
follow it in a stream: dictionary batches, if the type has dictionaries, and one record batch. The batch has one
column, ``value``. Its custom metadata is the message's metadata: each key as it is, each value as JSON text.
JSON tells bool, int, float, str and lists apart; what it lacks is an object with one entry, the type:
``{"float": "nan"}``, ``{"datetime": "2026-11-30T21:00:00+00:00"}``.

``arrow-ipc`` is the whole stream in each message, without a schema record. It is read, and it is written for
a topic whose messages have more types than a file can have channels.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from .message import timestamp_of

ENCODING = "arrow"
IPC_ENCODING = "arrow-ipc"
COLUMN = "value"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_MESSAGE_SIZE = struct.Struct("<i")
"""Behind the continuation marker of an encapsulated message (Arrow's format, "IPC")."""


class UndecodableError(Exception):
    """The bytes of a message are not what its channel says; the text is a clause without a full stop."""


def encode_message(
    value: pa.Array[Any], metadata: Mapping[str, Any], publish_nanos: int
) -> tuple[bytes, pa.Buffer]:
    """Returns the bytes of the schema record and those of the message.

    ``timestamp`` is left out where it is the time of sending, which MCAP has as ``publish_time``. Raises
    TypeError for metadata that dora cannot carry.
    """
    if isinstance(value, pa.ExtensionArray):
        value = value.storage  # as it travels: a reader may not know the extension type
    batch = pa.RecordBatch.from_arrays([value], [COLUMN])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch, custom_metadata=encode_metadata(metadata, publish_nanos))
        written = (
            sink.tell()
        )  # the end-of-stream marker that closing writes is not part of the message
    whole = sink.getvalue()
    head = _message_size(whole)
    return whole.slice(0, head).to_pybytes(), whole.slice(head, written - head)


def decode_message(
    schema: bytes, data: bytes | memoryview, publish_nanos: int
) -> tuple[pa.Array[Any], dict[str, Any]]:
    """Returns the array and the metadata of a message; `schema` is empty for the encoding ``arrow-ipc``.

    A message of another program may have several columns: they become a struct array. Raises
    UndecodableError.
    """
    stream = pa.py_buffer(b"".join((schema, data)) if schema else data)
    try:
        with pa.ipc.open_stream(stream) as reader:
            batch, custom = reader.read_next_batch_with_custom_metadata()
        value = batch.column(0) if batch.num_columns == 1 else batch.to_struct_array()
        # A damaged schema may say another type: its reader would look beyond the end of the buffers.
        value.validate()
    except StopIteration:
        raise UndecodableError("it has no record batch") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UndecodableError(f"Arrow cannot read it ({str(error).splitlines()[0]})") from None
    return value, decode_metadata(custom, publish_nanos)


def decode_type(schema: bytes) -> pa.DataType:
    """Returns the type of a channel's arrays. Raises UndecodableError."""
    try:
        fields = list(pa.ipc.read_schema(pa.py_buffer(schema)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UndecodableError(f"Arrow cannot read its schema ({error})") from None
    return fields[0].type if len(fields) == 1 else pa.struct(fields)


def metadata_text(metadata: Mapping[str, Any], publish_nanos: int) -> str:
    """Returns metadata as one JSON object, values as in a message of the encoding ``arrow``."""
    sent = timestamp_of(publish_nanos)
    plain = {
        key: _plain(value) for key, value in metadata.items() if key != "timestamp" or value != sent
    }
    return json.dumps(plain, ensure_ascii=False)


def encode_metadata(metadata: Mapping[str, Any], publish_nanos: int) -> dict[bytes, bytes]:
    """Returns the custom metadata of a record batch. Raises TypeError for what dora cannot carry."""
    sent = timestamp_of(publish_nanos)
    return {
        key.encode(): json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode()
        for key, value in metadata.items()
        if key != "timestamp" or value != sent
    }


def decode_metadata(custom: Any, publish_nanos: int) -> dict[str, Any]:
    """Returns the metadata that a live reader got. Text that is not JSON stays text: another program's."""
    metadata: dict[str, Any] = {"timestamp": timestamp_of(publish_nanos)}
    for key, text in (custom or {}).items():
        metadata[key.decode(errors="replace")] = _from_text(text.decode(errors="replace"))
    return metadata


def _plain(value: Any) -> Any:
    """The value in the terms of JSON."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    raise TypeError(f"metadata cannot hold a value of type {type(value).__name__}")


def _from_text(text: str) -> Any:
    try:
        return _value(json.loads(text))
    except ValueError:
        return text


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_value(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    if set(plain) == {"float"}:
        return float(plain["float"])
    if set(plain) == {"datetime"}:
        return datetime.fromisoformat(plain["datetime"])
    raise ValueError("an object that this encoding does not have")


def _message_size(stream: pa.Buffer) -> int:
    """The size of the encapsulated message that a stream begins with: its schema, which has no body."""
    (size,) = _MESSAGE_SIZE.unpack_from(stream, 4)
    return int(size) + 8
