"""Chooses how the messages of a channel are decoded, from what the file says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from mcap.records import Channel, Schema

from dora_nb.errors import RecordingError

from .arrow_encoding import ENCODING, IPC_ENCODING, UndecodableError, decode_message, decode_type
from .foreign import protobuf_decoder
from .message import timestamp_of
from .pictures import ENCODING_KEY, PICTURE_KEY, EncodedPicture, decode_picture
from .ros_messages import RosTypes

if TYPE_CHECKING:
    Decoded = tuple[pa.Array[Any], dict[str, Any]]
    Decoder = Callable[[memoryview, int], Decoded]
    """Takes the bytes of a message and its publish time. Raises UndecodableError."""


class UnreadableChannelError(Exception):
    """The messages of a channel cannot be read; the text is a sentence that says why, and the way out."""


def describe_channel(channel: Channel, schema: Schema | None) -> str:
    """Returns what the messages of a channel are, for people."""
    if channel.metadata.get(PICTURE_KEY):
        return f"{channel.metadata.get(ENCODING_KEY)} as JPEG"
    if channel.message_encoding == ENCODING and schema is not None:
        try:
            return str(decode_type(schema.data))
        except UndecodableError:
            return "damaged"
    if schema is not None and schema.name:
        return f"{schema.name} ({channel.message_encoding})"
    return channel.message_encoding or "unknown"


def decoder_of(channel: Channel, schema: Schema | None) -> Decoder:
    """Returns what decodes the messages of a channel. Raises UnreadableChannelError."""
    encoding = channel.message_encoding
    if encoding in (ENCODING, IPC_ENCODING):
        return _arrow_decoder(channel, schema)
    if encoding == "json":
        return _decoded_json
    if encoding == "cdr":
        return _ros_decoder(schema)
    if encoding == "protobuf":
        return _protobuf_decoder(schema)
    raise UnreadableChannelError(f"its messages are encoded as '{encoding}', which is not known.")


def _arrow_decoder(channel: Channel, schema: Schema | None) -> Decoder:
    head = b""
    if channel.message_encoding == ENCODING:
        if schema is None or schema.encoding != ENCODING:
            raise UnreadableChannelError("the file does not have its Arrow schema.")
        head = schema.data
    if not channel.metadata.get(PICTURE_KEY):
        return lambda data, publish_nanos: decode_message(head, data, publish_nanos)
    encoding = channel.metadata.get(ENCODING_KEY, "bgr8")

    def decoded_picture(data: memoryview, publish_nanos: int) -> Decoded:
        value, metadata = decode_message(head, data, publish_nanos)
        try:
            picture = EncodedPicture(value.to_numpy(zero_copy_only=True).tobytes(), encoding)
            return decode_picture(picture), metadata
        except (ValueError, pa.ArrowException) as error:
            raise UndecodableError(str(error)) from None

    return decoded_picture


def _ros_decoder(schema: Schema | None) -> Decoder:
    forms = {"ros2msg": "msg", "ros2idl": "idl"}
    if schema is None or schema.encoding not in forms:
        raise UnreadableChannelError("the file does not have the definition of its messages.")
    name = schema.name
    text = schema.data.decode(errors="replace")
    try:
        types = RosTypes({name: (forms[schema.encoding], text)})
    except RecordingError as error:
        raise UnreadableChannelError(str(error)) from None
    if not types.knows(name):
        raise UnreadableChannelError(f"the definition of its type {name} cannot be read.")
    return lambda data, publish_nanos: types.decode(data, name, publish_nanos)


def _protobuf_decoder(schema: Schema | None) -> Decoder:
    if schema is None or schema.encoding != "protobuf":
        raise UnreadableChannelError("the file does not have the definition of its messages.")
    try:
        return protobuf_decoder(schema.name, schema.data)
    except RecordingError as error:
        raise UnreadableChannelError(str(error)) from None


def _decoded_json(data: memoryview, publish_nanos: int) -> Decoded:
    """An object is one struct; a list is an array; anything else an array of one value."""
    try:
        content = json.loads(bytes(data))
        value = pa.array(content if isinstance(content, list) else [content])
    except (ValueError, pa.ArrowException, TypeError, OverflowError) as error:
        raise UndecodableError(f"it is not JSON that Arrow can hold ({error})") from None
    return value, {"timestamp": timestamp_of(publish_nanos)}
