"""Arrow arrays as bytes, and back.

A flat array of numbers without nulls travels as its bare buffer. Everything else travels as an Arrow
IPC stream of one batch with one column, which covers every type that Arrow has. Of a small one, the
schema in front is encoded once for its type, and decoded once by a reader, which recognizes it by its
bytes; so a message does not depend on those before it. What arrives is always a `pyarrow.Array`, as in
dora: a record batch becomes a struct array, an extension array its storage.
"""

from __future__ import annotations

import datetime
import struct
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.errors import DoraNbError

IPC = 255
IPC_BATCH = 254
FLAT_TYPES: tuple[Any, ...] = (
    pa.uint8(), pa.int8(), pa.uint16(), pa.int16(), pa.uint32(), pa.int32(), pa.uint64(), pa.int64(),
    pa.float16(), pa.float32(), pa.float64(),
)  # fmt: skip
FLAT_WIDTHS = tuple(kind.bit_width // 8 for kind in FLAT_TYPES)
_ARRAYS = (
    pa.UInt8Array, pa.Int8Array, pa.UInt16Array, pa.Int16Array, pa.UInt32Array, pa.Int32Array, pa.UInt64Array,
    pa.Int64Array, pa.HalfFloatArray, pa.FloatArray, pa.DoubleArray,
)  # fmt: skip
_CODES: dict[type, int] = {kind: code for code, kind in enumerate(_ARRAYS)}
UINT8 = 0
_SINGLE_VALUES = (
    int, float, str, bytes, type(None), np.generic, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip
_MOST_BATCH_BYTES = 1 << 16
"""Above, one more copy would cost more than the schema."""
_MOST_SCHEMAS = 16
_MESSAGE_SIZE = struct.Struct("<i")
"""Behind the continuation marker of an encapsulated message (Arrow's format, "IPC")."""
_heads: list[tuple[pa.Schema, bytes]] = []
_schemas: dict[bytes, pa.Schema] = {}


class InvalidDataError(DoraNbError, RuntimeError, TypeError):
    """The data given to `send_output` is of a type that dora does not send; says how to convert it."""

    __module__ = "dora_nb"

    def __init__(self, hint: str) -> None:
        super().__init__("invalid `data` type, must be `bytes` or an arrow array:", hint=hint)


def encode_value(data: object) -> tuple[int, int, Any]:
    """The type code, the size in bytes, and an object with the buffer protocol that holds them.

    A flat array is not copied here. Raises `InvalidDataError`.
    """
    code = _CODES.get(type(data))
    if code is not None and data.null_count == 0:  # type: ignore[attr-defined]
        size = len(data) * FLAT_WIDTHS[code]  # type: ignore[arg-type]
        buffer = data.buffers()[1]  # type: ignore[attr-defined]
        if buffer is None:
            return code, 0, b""
        if buffer.size != size or data.offset:  # type: ignore[attr-defined]
            buffer = buffer.slice(data.offset * FLAT_WIDTHS[code], size)  # type: ignore[attr-defined]
        return code, size, buffer
    if type(data) is bytes:
        return UINT8, len(data), data
    if isinstance(data, np.ndarray):
        return encode_value(_array_from_numpy(data))
    if isinstance(data, dict) and _is_row(data):
        return encode_value(_array_from_row(data))
    if isinstance(data, pa.RecordBatch):
        data = data.to_struct_array()
    if isinstance(data, pa.ExtensionArray):
        return encode_value(data.storage)
    if isinstance(data, pa.Array):
        return _encode_ipc(data)
    raise InvalidDataError(_conversion_of(data))


def metadata_with_shape(data: object, metadata: Any) -> Any:
    """The metadata, with ``shape`` if `data` is a numpy array of two or more dimensions.

    Its values travel flat, so a reader knows the shape by the metadata only. A ``shape`` that is there
    already was forwarded from another message.
    """
    if not isinstance(data, np.ndarray) or data.ndim < 2:
        return metadata
    if metadata is not None and not isinstance(metadata, dict):
        return metadata  # `encode_metadata` refuses it
    return {**(metadata or {}), "shape": list(data.shape)}


def decode_value(code: int, buffer: pa.Buffer, size: int) -> pa.Array[Any]:
    """The array in `buffer`, which it holds on to; nothing is copied.

    Raises ValueError, or what Arrow raises, where the bytes are not an array of that type.
    """
    if code == IPC_BATCH:
        return _decode_batch(buffer)
    if code == IPC:
        return pa.ipc.open_stream(buffer).read_next_batch().column(0)
    if code >= len(FLAT_WIDTHS) or size % FLAT_WIDTHS[code]:
        raise ValueError(f"{size} bytes cannot be an array of type {code}")
    return pa.Array.from_buffers(FLAT_TYPES[code], size // FLAT_WIDTHS[code], [None, buffer])


def _encode_ipc(data: pa.Array[Any]) -> tuple[int, int, Any]:
    batch = pa.RecordBatch.from_arrays([data], ["value"])
    if data.nbytes <= _MOST_BATCH_BYTES and (head := _head_of(batch.schema)):
        payload = b"".join((head, batch.serialize()))
        return IPC_BATCH, len(payload), payload
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    buffer = sink.getvalue()
    return IPC, buffer.size, buffer


def _head_of(schema: pa.Schema) -> bytes:
    """The schema's own message; nothing where dictionaries have to follow it."""
    for known, head in _heads:
        if known.equals(schema):
            return head
    head = b"" if _has_dictionaries(schema.field(0).type) else schema.serialize().to_pybytes()
    # A new list, since another thread may be looking for its own.
    _heads[:] = [(schema, head), *_heads[: _MOST_SCHEMAS - 1]]
    return head


def _has_dictionaries(kind: Any) -> bool:
    if pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return True
    return any(_has_dictionaries(kind.field(at).type) for at in range(kind.num_fields))


def _decode_batch(buffer: pa.Buffer) -> pa.Array[Any]:
    (size,) = _MESSAGE_SIZE.unpack_from(buffer, 4)
    head = buffer.slice(0, size + 8)
    key = head.to_pybytes()
    schema = _schemas.get(key)
    if schema is None:
        schema = pa.ipc.read_schema(head)
        if len(_schemas) >= _MOST_SCHEMAS:
            _schemas.clear()
        _schemas[key] = schema
    return pa.ipc.read_record_batch(buffer.slice(size + 8), schema).column(0)


def _array_from_numpy(data: np.ndarray[Any, Any]) -> pa.Array[Any]:
    """What dora_nb takes beyond dora: a numpy array, flattened in C order."""
    if data.dtype == object:
        raise InvalidDataError(
            "a numpy array of dtype object cannot be sent; "
            "convert it to a number type, such as np.asarray(x, dtype=np.float32)"
        )
    flat = data.ravel() if isinstance(data, np.ma.MaskedArray) else np.asarray(data).ravel()
    try:
        array: pa.Array[Any] = pa.array(flat)  # What is masked becomes null.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InvalidDataError(
            f"Arrow has no type for numpy's {data.dtype}: {error}; convert the array to another dtype"
        ) from None
    return array


def _is_row(data: dict[Any, Any]) -> bool:
    """Whether a dict is one row of a table: a single value for each name."""
    return bool(data) and all(
        isinstance(name, str) and isinstance(value, _SINGLE_VALUES) for name, value in data.items()
    )


def _array_from_row(data: dict[str, Any]) -> pa.Array[Any]:
    """What dora_nb takes beyond dora: a dict of single values, as a struct array of length 1."""
    try:
        # Not `pa.array(data)`, which sends the keys.
        row: pa.Array[Any] = pa.array([data])
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise InvalidDataError(f"Arrow cannot hold a value of this dict: {error}") from None
    return row


def _has_base(data: object, package: str, name: str) -> bool:
    """Whether a class of that name is among its bases; does not import the package."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == package
        for base in type(data).__mro__
    )


def _conversion_of(data: object) -> str:
    """The call that turns `data` into something that can be sent."""
    kind = type(data).__name__
    if isinstance(data, pa.ChunkedArray):
        return "a ChunkedArray is several arrays; send x.combine_chunks()"
    if isinstance(data, pa.Table):
        return "a Table is several arrays; send table.combine_chunks().to_batches()[0]"
    if isinstance(data, pa.Scalar):
        return "a Scalar is not an array; send pa.array([x.as_py()])"
    if _has_base(data, "torch", "Tensor"):
        device = str(getattr(data, "device", "cpu"))
        where = "" if device == "cpu" else f" on {device}"
        # numpy has no bfloat16.
        cast = ".float()" if str(getattr(data, "dtype", "")) == "torch.bfloat16" else ""
        return f"a torch tensor{where} is sent as x.detach().cpu(){cast}.numpy()"
    if _has_base(data, "pandas", "DataFrame"):
        return "a DataFrame is sent as pa.RecordBatch.from_pandas(x)"
    if _has_base(data, "pandas", "Series") or _has_base(data, "pandas", "Index"):
        return f"a {kind} is sent as pa.Array.from_pandas(x)"
    if _has_base(data, "PIL", "Image"):
        return 'a PIL image is sent as np.asarray(x.convert("RGB")), with metadata {"encoding": "rgb8"}'
    if isinstance(data, dict):
        if all(isinstance(name, str) for name in data):
            return "a dict is sent as pa.array([x]), a struct array of length 1"
        return (
            "a dict whose keys are not all str is sent as "
            "pa.array([{str(name): value for name, value in x.items()}])"
        )
    if isinstance(data, bytearray | memoryview):
        return f"send bytes(x) instead of a {kind}"
    if isinstance(data, str):
        return "send pa.array([text]) instead of a str"
    if data is None:
        return "None cannot be sent; for a message without data send pa.array([])"
    article = "an" if kind[:1] in "aeiou" else "a"
    return f"{article} {kind} is sent as pa.array(x), or pa.array([x]) for a single value"
