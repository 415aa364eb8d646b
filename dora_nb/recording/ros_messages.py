"""Messages of ROS 2 in the forms that dora's nodes send: pictures, boxes, points, numbers, structs.

==================================  =====================================================================
message                             array and metadata
==================================  =====================================================================
``sensor_msgs/Image``               the pixels, of the encoding's type; `width`, `height`, `encoding`
``sensor_msgs/CompressedImage``     the file as uint8; `encoding` (``jpeg``, ``png``)
``vision_msgs/Detection2DArray``    one struct: `bbox` (corners of all boxes), `conf`, `labels`; `format` xyxy
``sensor_msgs/PointCloud2``         a struct for each point with its fields: `x`, `y`, `z`, ...
``std_msgs/Float64`` and the like   the value, one element; a ``MultiArray``: its numbers
any other                           one struct, without the header
==================================  =====================================================================

A message that has one field beside its header is that field: a ``TwistStamped`` is a ``Twist``. The header is in the
metadata: its stamp as `timestamp`, and `frame_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dora_nb.data.images import encoding_named
from dora_nb.data.picture_files import FORMATS
from dora_nb.data.pixel_layouts import RAW_LAYOUTS
from dora_nb.errors import RecordingError

from .arrow_encoding import UndecodableError
from .message import timestamp_of

MISSING_HINT = "%pip install 'dora-nb[ros]'"
_BASE_TYPES = {
    "bool": pa.bool_(),
    "byte": pa.uint8(),
    "char": pa.uint8(),
    "octet": pa.uint8(),
    "int8": pa.int8(),
    "uint8": pa.uint8(),
    "int16": pa.int16(),
    "uint16": pa.uint16(),
    "int32": pa.int32(),
    "uint32": pa.uint32(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "wstring": pa.string(),
}
_POINT_TYPES = ("", "i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
"""By the number that a PointField has for its type."""
_PADDING = "structure_needs_at_least_one_member"
"""The field that ROS 2 gives to an empty message."""
_COMPRESSED_DEPTH_HEAD = 12
"""Bytes in front of the file, in the format ``compressedDepth``."""


class RosMessage(NamedTuple):
    """A message as an array, with its metadata without the time of sending."""

    value: Any
    metadata: dict[str, Any]


class RosTypes:
    """The message types of a bag. Raises RecordingError if `rosbags` is not installed."""

    def __init__(self, definitions: Mapping[str, tuple[str, str]]) -> None:
        """`definitions` has for each type its definition's format, ``msg`` or ``idl``, and text."""
        typesys = import_rosbags("typesys")
        self._store = typesys.get_typestore(typesys.Stores.EMPTY)
        self._standard: Any = None
        self._typesys = typesys
        self._arrow_types: dict[str, Any] = {}
        for name, (form, text) in definitions.items():
            self._register(name, form, text)

    def decode(self, data: bytes | memoryview, name: str, publish_nanos: int) -> RosMessage:
        """Returns the message in CDR of the type `name`. Raises UndecodableError."""
        try:
            message = self._store_of(name).deserialize_cdr(bytes(data), name)
            return self._converted(message, name, publish_nanos)
        except UndecodableError:
            raise
        except Exception as error:  # rosbags raises whatever numpy and struct do
            raise UndecodableError(f"it is not a {name} ({error})") from None

    def knows(self, name: str) -> bool:
        """Whether messages of this type can be decoded."""
        return name in self._store.fielddefs or name in self._standard_store().fielddefs

    def _register(self, name: str, form: str, text: str) -> None:
        typesys = self._typesys
        try:
            if form == "idl":
                found: dict[str, Any] = {}
                for part in _idl_parts(text):
                    found |= typesys.get_types_from_idl(part)
            else:
                found = typesys.get_types_from_msg(text, name)
            self._store.register(
                {each: found[each] for each in found if each not in self._store.fielddefs}
            )
        except Exception:  # a definition that cannot be parsed leaves the standard one of that name
            return

    def _standard_store(self) -> Any:
        """The types that ROS 2 comes with, for bags which have no definitions: those of ROS before Iron."""
        if self._standard is None:
            self._standard = self._typesys.get_typestore(self._typesys.Stores.LATEST)
        return self._standard

    def _store_of(self, name: str) -> Any:
        return self._store if name in self._store.fielddefs else self._standard_store()

    def _converted(self, message: Any, name: str, publish_nanos: int) -> RosMessage:
        metadata: dict[str, Any] = {"timestamp": timestamp_of(publish_nanos)}
        header = getattr(message, "header", None)
        if header is not None and hasattr(header, "stamp"):
            nanos = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
            if nanos:
                metadata["timestamp"] = datetime.fromtimestamp(nanos / 1e9, UTC)
            metadata["frame_id"] = str(header.frame_id)
        convert = _CONVERTED.get(_short(name))
        if convert is not None:
            value, more = convert(message)
            return RosMessage(value, metadata | more)
        return RosMessage(self._generic(message, name), metadata)

    def _generic(self, message: Any, name: str) -> Any:
        fields = [
            (field, description)
            for field, description in self._fields(name)
            if field not in ("header", _PADDING)
        ]
        if [field for field, _ in fields] == ["layout", "data"]:  # a MultiArray
            fields = fields[1:]
        if len(fields) != 1:
            row = {field: _plain(getattr(message, field)) for field, _ in fields}
            members = [(field, self._arrow_type(each)) for field, each in fields]
            return pa.array([row], pa.struct(members))
        ((field, (node, content)),) = fields
        value = getattr(message, field)
        if node.name in ("ARRAY", "SEQUENCE"):
            return pa.array(_plain(value), self._arrow_type(content[0]))
        if node.name == "NAME":
            return self._generic(value, content)
        return pa.array([value], self._arrow_type((node, content)))

    def _fields(self, name: str) -> list[tuple[str, Any]]:
        fields: list[tuple[str, Any]] = self._store_of(name).fielddefs[name][1]
        return fields

    def _arrow_type(self, description: Any) -> Any:
        node, content = description
        if node.name == "BASE":
            return _BASE_TYPES[content[0]]
        if node.name in ("ARRAY", "SEQUENCE"):
            return pa.list_(self._arrow_type(content[0]))
        if content not in self._arrow_types:
            fields = [
                (field, self._arrow_type(each))
                for field, each in self._fields(content)
                if field != _PADDING
            ]
            self._arrow_types[content] = pa.struct(fields)
        return self._arrow_types[content]


def import_rosbags(module: str) -> Any:
    """Returns a module of `rosbags`. Raises RecordingError, one line with the command, if it is missing."""
    import importlib

    try:
        return importlib.import_module(f"rosbags.{module}")
    except ImportError as error:
        raise RecordingError(
            f"messages of ROS 2 need the package rosbags, which cannot be imported ({error}).",
            hint=MISSING_HINT,
        ) from None


def _short(name: str) -> str:
    """``sensor_msgs/Image`` of ``sensor_msgs/msg/Image``."""
    return name.replace("/msg/", "/")


def _idl_parts(text: str) -> list[str]:
    """The definitions that rosbag2 joins, each behind a line of its name."""
    separator = "=" * 80 + "\n"
    if not text.startswith(f"{separator}IDL: "):
        return [text]
    return [part.split("\n", 1)[1] for part in text.split(separator)[1:]]


def _plain(value: Any) -> Any:
    """What Arrow takes: messages as dicts, arrays of numbers as they are."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is None:
        return value
    return {
        name: _plain(getattr(value, name))
        for name in fields
        if not name.startswith("__") and name != _PADDING
    }


# ----- messages with a form of their own


def _image(message: Any) -> tuple[Any, dict[str, Any]]:
    width, height, step = int(message.width), int(message.height), int(message.step)
    word = str(message.encoding)
    encoding = encoding_named(word) or word
    data = np.asarray(message.data, np.uint8)
    layout = RAW_LAYOUTS.get(encoding)
    if layout is not None and not layout.has_planes:
        row = width * layout.channels * layout.dtype.itemsize
        if step > row and len(data) >= step * height:  # padding behind each row
            data = data[: step * height].reshape(height, step)[:, :row].reshape(-1)
        if layout.dtype.itemsize > 1:
            dtype = layout.dtype.newbyteorder(">" if message.is_bigendian else "<")
            data = np.ascontiguousarray(data).view(dtype).astype(layout.dtype)
    return pa.array(data), {"width": width, "height": height, "encoding": encoding}


def _compressed_image(message: Any) -> tuple[Any, dict[str, Any]]:
    """The format is ``jpeg``, ``png``, or ``rgb8; jpeg compressed bgr8``."""
    words = str(message.format).lower()
    data = np.asarray(message.data, np.uint8)
    if "compresseddepth" in words:
        return pa.array(data[_COMPRESSED_DEPTH_HEAD:]), {"encoding": "png"}
    start = data[:16].tobytes()
    sniffed = next((name for name, each in FORMATS.items() if each.start.match(start)), None)
    told = next((name for name in ("jpeg", "jpg", "png", "webp") if name in words), words)
    encoding = sniffed or encoding_named(told) or told
    return pa.array(data), {"encoding": encoding}


def _detections(message: Any) -> tuple[Any, dict[str, Any]]:
    corners: list[float] = []
    confidences: list[float] = []
    labels: list[str] = []
    for detection in message.detections:
        box = detection.bbox
        centre = getattr(
            box.center, "position", box.center
        )  # before ROS 2 Iron x and y of the centre itself
        half_width, half_height = box.size_x / 2, box.size_y / 2
        corners += (
            centre.x - half_width,
            centre.y - half_height,
            centre.x + half_width,
            centre.y + half_height,
        )
        best = max(detection.results, key=_score, default=None)
        confidences.append(float("nan") if best is None else _score(best))
        hypothesis = getattr(best, "hypothesis", best)
        labels.append(str(getattr(hypothesis, "class_id", getattr(hypothesis, "id", ""))))
    kind = pa.struct(
        [
            ("bbox", pa.list_(pa.float32())),
            ("conf", pa.list_(pa.float32())),
            ("labels", pa.list_(pa.string())),
        ]
    )
    row = {"bbox": corners, "conf": confidences, "labels": labels}
    return pa.array([row], kind), {"format": "xyxy"}


def _score(result: Any) -> float:
    return float(getattr(result, "hypothesis", result).score)


def _points(message: Any) -> tuple[Any, dict[str, Any]]:
    order = ">" if message.is_bigendian else "<"
    fields = {
        str(field.name): np.dtype(
            (f"{order}{_POINT_TYPES[field.datatype]}", (field.count,))
            if field.count > 1
            else f"{order}{_POINT_TYPES[field.datatype]}"
        )
        for field in message.fields
    }
    offsets = [int(field.offset) for field in message.fields]
    layout = np.dtype(
        {
            "names": list(fields),
            "formats": list(fields.values()),
            "offsets": offsets,
            "itemsize": int(message.point_step),
        }
    )
    data = np.asarray(message.data, np.uint8)
    width, height = int(message.width), int(message.height)
    if height and message.row_step > width * message.point_step:
        rows = data[: message.row_step * height].reshape(height, -1)
        data = rows[:, : width * message.point_step].reshape(-1)
    points = np.frombuffer(data.tobytes(), layout, count=width * height)
    columns = []
    for name in fields:
        column = np.ascontiguousarray(points[name])
        native = column.astype(column.dtype.newbyteorder("="))
        flat = pa.array(native.reshape(-1))
        columns.append(
            flat if native.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, native.shape[1])
        )
    more = {"width": width, "height": height} if height > 1 else {}
    return pa.StructArray.from_arrays(columns, list(fields)), more


_CONVERTED: dict[str, Callable[[Any], tuple[Any, dict[str, Any]]]] = {
    "sensor_msgs/Image": _image,
    "sensor_msgs/CompressedImage": _compressed_image,
    "vision_msgs/Detection2DArray": _detections,
    "sensor_msgs/PointCloud2": _points,
}
