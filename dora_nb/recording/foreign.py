"""Messages of other programs in protobuf, as Arrow structs; Foxglove's pictures as pictures."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.errors import RecordingError

from .arrow_encoding import UndecodableError
from .message import timestamp_of

FOXGLOVE_HINT = "%pip install 'dora-nb[foxglove]'"
_IMAGE = "foxglove.CompressedImage"
_RAW_IMAGE = "foxglove.RawImage"


def import_protobuf(module: str, *, needed_by: str) -> Any:
    """Returns a module of protobuf, or of Foxglove's schemas. Raises RecordingError if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RecordingError(
            f"{needed_by} need the package {module.partition('.')[0]}, which cannot be imported ({error}).",
            hint=FOXGLOVE_HINT,
        ) from None


def protobuf_decoder(
    name: str, definition: bytes
) -> Callable[[memoryview, int], tuple[Any, dict[str, Any]]]:
    """Returns what decodes messages of the type `name`; `definition` is a FileDescriptorSet.

    Raises RecordingError if protobuf is not installed, or if the definition does not have the type.
    """
    needed_by = "messages in protobuf"
    descriptors = import_protobuf("google.protobuf.descriptor_pb2", needed_by=needed_by)
    pools = import_protobuf("google.protobuf.descriptor_pool", needed_by=needed_by)
    factory = import_protobuf("google.protobuf.message_factory", needed_by=needed_by)
    try:
        pool = pools.DescriptorPool()
        files = {
            each.name: each for each in descriptors.FileDescriptorSet.FromString(definition).file
        }
        while files:
            _add_with_dependencies(pool, files, next(iter(files)))
        kind = factory.GetMessageClass(pool.FindMessageTypeByName(name))
    except Exception as error:  # protobuf's errors have no common base but Exception
        raise RecordingError(
            f"the definition of its type {name} cannot be read ({error})."
        ) from None

    def decoded(data: memoryview, publish_nanos: int) -> tuple[Any, dict[str, Any]]:
        metadata: dict[str, Any] = {"timestamp": timestamp_of(publish_nanos)}
        try:
            message = kind.FromString(bytes(data))
            if name in (_IMAGE, _RAW_IMAGE):
                return _picture(message, metadata, is_raw=name == _RAW_IMAGE)
            return pa.array([_row(message)]), metadata
        except Exception as error:
            raise UndecodableError(f"it is not a {name} ({error})") from None

    return decoded


def _add_with_dependencies(pool: Any, files: dict[str, Any], name: str) -> None:
    file = files.pop(name)
    for dependency in file.dependency:
        if dependency in files:
            _add_with_dependencies(pool, files, dependency)
    pool.Add(file)


def _row(message: Any) -> dict[str, Any]:
    """The fields of a message; None for a message in it that was not sent."""
    row = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            row[field.name] = list(value) if field.is_repeated else value
        elif field.message_type.GetOptions().map_entry:
            of_messages = field.message_type.fields_by_name["value"].message_type is not None
            row[field.name] = {
                str(key): _row(each) if of_messages else each for key, each in value.items()
            }
        elif field.is_repeated:
            row[field.name] = [_row(each) for each in value]
        else:
            row[field.name] = _row(value) if message.HasField(field.name) else None
    return row


def _picture(message: Any, metadata: dict[str, Any], *, is_raw: bool) -> tuple[Any, dict[str, Any]]:
    nanos = message.timestamp.seconds * 1_000_000_000 + message.timestamp.nanos
    if nanos:
        metadata["timestamp"] = datetime.fromtimestamp(nanos / 1e9, UTC)
    metadata["frame_id"] = message.frame_id
    if is_raw:
        metadata |= {
            "width": message.width,
            "height": message.height,
            "encoding": message.encoding,
        }
    else:
        metadata["encoding"] = message.format
    return pa.array(np.frombuffer(message.data, np.uint8)), metadata
