"""Twin channels: messages once more in the schemas of Foxglove, so that Foxglove and Rerun show the file.

==========================  ====================================================================
message                     twin
==========================  ====================================================================
a picture                   ``foxglove.CompressedImage``, raw pictures as JPEG
boxes                       ``foxglove.ImageAnnotations``: a closed line for each box, and its label
``dora/logs``               ``foxglove.Log``
numbers, texts, structs     JSON with a schema: ``{"value": 1.5}``, ``{"values": [1, 2]}``, the fields of a struct
==========================  ====================================================================

The twin of `camera/image` has the topic `/camera/image`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dora_nb.data.arrow import is_list, is_number
from dora_nb.data.boxes import Boxes, read_boxes
from dora_nb.data.images import COMPRESSED, image_form
from dora_nb.errors import DoraNbError

from .foreign import import_protobuf
from .pictures import EncodedPicture, encode_picture

_SHOWN_FORMATS = ("jpeg", "png", "webp", "avif")
_MOST_NUMBERS = 1000
"""Longer arrays have no twin; plots of Foxglove take one field at a time."""
_LOGS_TOPIC = "dora/logs"
_LEVELS = {"trace": 1, "debug": 1, "info": 2, "stdout": 2, "warn": 3, "warning": 3, "error": 4}
_BOX_COLOUR = (0.1, 0.9, 0.3, 1.0)
_FONT_SIZE = 14
_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TwinSchema:
    """What the channel of a twin needs."""

    name: str
    schema_encoding: str
    message_encoding: str
    data: bytes


class TwinEncoder:
    """Makes the twins. Raises RecordingError, with the command, if Foxglove's package is not installed."""

    def __init__(self, quality: int) -> None:
        self._quality = quality
        needed_by = "channels for Foxglove"
        self._types: dict[str, Any] = {}
        self._schemas: dict[str, TwinSchema] = {}
        self._descriptors = import_protobuf("google.protobuf.descriptor_pb2", needed_by=needed_by)
        for name in ("CompressedImage", "ImageAnnotations", "Log", "PointsAnnotation"):
            module = import_protobuf(f"foxglove_schemas_protobuf.{name}_pb2", needed_by=needed_by)
            self._types[name] = getattr(module, name)

    def twin(
        self,
        topic: str,
        value: pa.Array[Any] | EncodedPicture,
        metadata: Mapping[str, Any],
        publish_nanos: int,
    ) -> tuple[TwinSchema, bytes] | None:
        """Returns the schema and the bytes of a message's twin; None if Foxglove has nothing like it."""
        if isinstance(value, EncodedPicture):
            return self._image(value.data, "jpeg", metadata, publish_nanos)
        if topic == _LOGS_TOPIC:
            return self._log(value, publish_nanos)
        if pa.types.is_uint8(value.type) and len(value) > 1:
            return self._picture(value, metadata, publish_nanos)
        if _says_boxes(value, metadata):
            try:
                boxes = read_boxes({"id": topic, "value": value, "metadata": metadata})
            except DoraNbError:
                return None
            return self._annotations(boxes, publish_nanos)
        return _plain_twin(value)

    def _picture(
        self, value: pa.Array[Any], metadata: Mapping[str, Any], publish_nanos: int
    ) -> tuple[TwinSchema, bytes] | None:
        picture = encode_picture(value, metadata, self._quality)
        if picture is not None:
            return self._image(picture.data, "jpeg", metadata, publish_nanos)
        try:
            form = image_form({"value": value, "metadata": metadata})
        except DoraNbError:
            return None
        if form.encoding not in COMPRESSED or form.encoding not in _SHOWN_FORMATS:
            return None
        data = value.to_numpy(zero_copy_only=True).tobytes()
        return self._image(data, form.encoding, metadata, publish_nanos)

    def _image(
        self, data: bytes, picture_format: str, metadata: Mapping[str, Any], publish_nanos: int
    ) -> tuple[TwinSchema, bytes]:
        frame_id = metadata.get("frame_id")
        message = self._types["CompressedImage"](
            data=data, format=picture_format, frame_id=frame_id if isinstance(frame_id, str) else ""
        )
        return self._finished("CompressedImage", message, publish_nanos)

    def _annotations(self, boxes: Boxes, publish_nanos: int) -> tuple[TwinSchema, bytes]:
        message = self._types["ImageAnnotations"]()
        closed_line = self._types["PointsAnnotation"].LINE_LOOP
        red, green, blue, alpha = _BOX_COLOUR
        for (left, top, right, bottom, confidence, _), label in zip(
            boxes.values.tolist(), boxes.labels, strict=True
        ):
            line = message.points.add(type=closed_line, thickness=2)
            line.timestamp.FromNanoseconds(publish_nanos)
            line.outline_color.r, line.outline_color.g = red, green
            line.outline_color.b, line.outline_color.a = blue, alpha
            for x, y in ((left, top), (right, top), (right, bottom), (left, bottom)):
                line.points.add(x=x, y=y)
            sure = "" if math.isnan(confidence) else f" {confidence:.2f}"
            text = message.texts.add(text=f"{label}{sure}", font_size=_FONT_SIZE)
            text.timestamp.FromNanoseconds(publish_nanos)
            text.position.x, text.position.y = left, top
            text.text_color.r = text.text_color.g = text.text_color.b = text.text_color.a = 1
            text.background_color.a = 0.6
        if "timestamp" in message.DESCRIPTOR.fields_by_name:  # since schemas 0.4
            return self._finished("ImageAnnotations", message, publish_nanos)
        return self._schema("ImageAnnotations"), message.SerializeToString()

    def _log(self, value: pa.Array[Any], publish_nanos: int) -> tuple[TwinSchema, bytes] | None:
        try:
            entry = json.loads(value[0].as_py())
            level, text = str(entry["level"]).lower(), str(entry["message"])
        except (ValueError, KeyError, IndexError, TypeError):
            return None
        line = entry.get("line")
        message = self._types["Log"](
            level=_LEVELS.get(level, 0),
            message=text,
            name=str(entry.get("node_id") or ""),
            file=str(entry.get("file") or ""),
            line=line if isinstance(line, int) and line >= 0 else 0,
        )
        return self._finished("Log", message, publish_nanos)

    def _finished(self, name: str, message: Any, publish_nanos: int) -> tuple[TwinSchema, bytes]:
        message.timestamp.seconds, message.timestamp.nanos = divmod(publish_nanos, _NANOS)
        return self._schema(name), message.SerializeToString()

    def _schema(self, name: str) -> TwinSchema:
        if name not in self._schemas:
            descriptor = self._types[name].DESCRIPTOR
            files = self._descriptors.FileDescriptorSet()
            _add_with_dependencies(files, descriptor.file, set())
            self._schemas[name] = TwinSchema(
                descriptor.full_name, "protobuf", "protobuf", files.SerializeToString()
            )
        return self._schemas[name]


def check_foxglove_installed() -> None:
    """Raises RecordingError, with the command, if the packages of the extra ``dora-nb[foxglove]`` are missing."""
    TwinEncoder(quality=90)


def twin_topic(topic: str) -> str:
    """Returns the topic of a twin: Foxglove and ROS begin topics with a slash."""
    return f"/{topic.lstrip('/')}"


def _add_with_dependencies(files: Any, file: Any, added: set[str]) -> None:
    """Each file behind those that it imports, as protobuf wants it."""
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_with_dependencies(files, dependency, added)
    file.CopyToProto(files.file.add())


def _says_boxes(value: pa.Array[Any], metadata: Mapping[str, Any]) -> bool:
    """Whether the message says that it holds boxes: by its fields, its rows, or its metadata.

    Numbers alone might be boxes by their count, and are numbers here.
    """
    kind = value.type
    if is_list(kind) and pa.types.is_struct(kind.value_type):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return "bbox" in [each.name for each in kind]
    if metadata.get("primitive") == "boxes2d":
        return True
    shape = metadata.get("shape")
    return (
        isinstance(shape, list)
        and len(shape) == 2
        and shape[1] in (4, 6, 7)
        and pa.types.is_floating(kind)
    )


def _plain_twin(value: pa.Array[Any]) -> tuple[TwinSchema, bytes] | None:
    """Numbers, texts and structs as a JSON object, which Foxglove plots by the path of a field."""
    kind = value.type
    plain = is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)
    if not (plain or pa.types.is_struct(kind)) or not 0 < len(value) <= _MOST_NUMBERS:
        return None
    rows = [_finite(each) for each in value.to_pylist()]
    if len(rows) > 1:
        content: Any = {"values": rows}
    else:
        content = rows[0] if pa.types.is_struct(kind) else {"value": rows[0]}
    try:
        data = json.dumps(content, default=str).encode()
    except (TypeError, ValueError):
        return None
    schema = {
        "type": "object",
        "properties": {name: _json_type(content[name]) for name in content or {}},
    }
    return TwinSchema("", "jsonschema", "json", json.dumps(schema).encode()), data


def _finite(value: Any) -> Any:
    """The value without NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value


def _json_type(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            "type": "object",
            "properties": {name: _json_type(each) for name, each in value.items()},
        }
    if isinstance(value, list):
        first = next((each for each in value if each is not None), None)
        return {"type": "array", "items": _json_type(first)}
    if isinstance(value, bool):
        return {"type": "boolean"}
    # A number that is missing this time (NaN) is a number, and the schema stays the same.
    return {"type": "number" if value is None or isinstance(value, int | float) else "string"}
