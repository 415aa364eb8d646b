"""The metadata of a message: dora's rules for what may be in it, and its bytes.

The rules are those of dora's operator API (``apis/python/operator/src/lib.rs``): bool, int (64 bits),
float, str, flat lists of int, float or str, and datetime travel as they are; anything else is turned
into its `str`, with a warning. The bytes are msgpack: quick, and malformed bytes raise instead of
running anything, as marshal and pickle would.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec

from dora_nb.errors import DoraNbError

from ._wire import METADATA_LIMIT

Metadata = dict[str, Any]
_SCALARS = (int, float, str)
_AS_THEY_ARE = {str, float, bool}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
UTC = datetime.UTC
timestamp_of = datetime.datetime.fromtimestamp
_encode = msgspec.msgpack.Encoder().encode
decode_plain = msgspec.msgpack.Decoder(Metadata).decode
"""What was sent, without the time of sending."""
_FLUSH = _encode("flush") + _encode(True)


class MetadataError(DoraNbError, RuntimeError, TypeError):
    """The metadata given to `send_output` cannot travel."""

    __module__ = "dora_nb"


def encode_metadata(metadata: Metadata | None, warn: Callable[[str], None]) -> bytes:
    """The bytes of `metadata`; empty for None or an empty dict.

    `warn(sentence)` is called for each value that has to be turned into a string. Raises `MetadataError`
    where dora does: not a dict, a key that is not a string, an int beyond 64 bits, a list of mixed types.
    """
    if metadata is None:
        return b""
    if not isinstance(metadata, dict):
        raise MetadataError(
            f"metadata must be a dict, not {type(metadata).__name__}; "
            "it is the third argument: send_output(output, data, metadata)"
        )
    if not metadata:
        return b""
    plain = metadata
    for key, value in metadata.items():  # The commonest values travel as they are, at once.
        kind = type(value)
        if type(key) is not str or not (
            (kind is int and _INT64_MIN <= value <= _INT64_MAX)
            or kind in _AS_THEY_ARE
            or (kind is datetime.datetime and value.tzinfo is UTC)
        ):
            plain = {_key(key): _plain(key, value, warn) for key, value in metadata.items()}
            break
    try:
        blob = _encode(plain)
    except UnicodeEncodeError as error:
        raise MetadataError(
            f"a string in the metadata is not valid text: {error.reason} ({error.object[:40]!r})"
        ) from None
    if len(blob) > METADATA_LIMIT:
        raise MetadataError(
            f"the metadata has {len(blob):,} bytes; the limit is {METADATA_LIMIT:,}. "
            "Send large data as the value"
        )
    return blob


def decode_metadata(blob: bytes | memoryview, stamp_nanos: int) -> Metadata:
    """A receiver's metadata: the time of sending, unless a forwarded one overrides it, then the rest."""
    timestamp = timestamp_of(stamp_nanos / 1e9, UTC)
    if not len(blob):
        return {"timestamp": timestamp}
    return {"timestamp": timestamp, **decode_plain(blob)}


def asks_to_flush(blob: bytes) -> bool:
    """Whether metadata has ``flush: True``: the messages in line before that one are stale.

    dora drops it (``apis/rust/node/src/event_stream/scheduler.rs``), so that speech can be interrupted.
    """
    # The bytes alone may be part of some text.
    return _FLUSH in blob and decode_plain(blob).get("flush") is True


def _key(key: object) -> str:
    if type(key) is str:
        return key
    raise MetadataError(
        f"failed to parse metadata: keys must be strings, and {key!r} is of type {type(key).__name__}"
    )


def _plain(key: str, value: object, warn: Callable[[str], None]) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, _SCALARS):
        return _scalar(key, value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        utc = value.astimezone(datetime.UTC)
        date, time = utc.date(), utc.time()  # Rid of what a subclass, such as pandas', adds.
        return datetime.datetime.combine(date, time, datetime.UTC)
    if isinstance(value, list | tuple) and (items := _flat_list(key, value)) is not None:
        return items
    warn(
        f"metadata '{key}' is of type {type(value).__name__}, which dora's metadata cannot carry, and "
        "is sent as its str(); convert it yourself, for instance with int() or float()"
    )
    return str(value)


def _flat_list(key: str, values: list[Any] | tuple[Any, ...]) -> list[Any] | None:
    """dora decides by the first element; None where a list of such elements cannot travel."""
    if not values:
        return []
    first = values[0]
    if isinstance(first, bool):
        return None
    for kind in (int, float, str):
        if isinstance(first, kind):
            wanted = (int, float) if kind is float else kind
            if any(isinstance(value, bool) or not isinstance(value, wanted) for value in values):
                raise MetadataError(
                    f"metadata '{key}' mixes types in one list; "
                    f"its first element is of type {kind.__name__}, so all must be"
                )
            return [_scalar(key, _widened(key, value, kind)) for value in values]
    return None


def _widened(key: str, value: Any, kind: type) -> Any:
    """An int in a list of floats is a float too."""
    try:
        return float(value) if kind is float else value
    except OverflowError:
        raise MetadataError(f"metadata '{key}' is too large for a float") from None


def _scalar(key: str, value: int | float | str) -> int | float | str:
    """The plain value of a number or a string of any subclass, an enumeration's for instance."""
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return int(value)
        raise MetadataError(f"metadata '{key}' is too large: an int has 64 bits in dora")
    return float(value) if isinstance(value, float) else str.__str__(value)
