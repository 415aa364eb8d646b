"""What a failed operator leaves behind for a post-mortem: the event that it failed on, and its state.

Both are written into an anonymous file that the kernel keeps. The event is encoded as it travels between
processes. The state is what `get_state` returns, where the operator has one; else its attributes, one by
one, as far as each can be pickled: an open camera cannot, and the counter beside it can.

A process that is killed writes nothing. The kernel writes the event in its place
(`embedded._event_at_death`); the state is lost with the process.
"""

from __future__ import annotations

import datetime
import os
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from dora_nb.protocol import control
from dora_nb.transport import as_bytes, from_bytes

from .user_code import problem_text

MOST_EVENT_BYTES = 64 << 20
MOST_STATE_BYTES = 64 << 20
_LENGTH_BYTES = 8
_MOST_REASON_CHARS = 200


class _Header(msgspec.Struct, frozen=True):
    """Stands first; behind it metadata, value and state, in this order."""

    event: dict[str, str] | None
    has_message: bool
    type_code: int
    stamp_nanos: int
    metadata_size: int
    value_size: int
    whole_state: int | None
    """The size of what `get_state` has returned."""
    attributes: dict[str, int]
    """The size of each attribute that could be pickled."""
    missing: dict[str, str]
    """The attributes that could not, and why; under the empty name, why there is no event."""
    why_no_state: str | None
    """Why there is no state at all."""


class CrashReport(NamedTuple):
    """The event, decoded, and the state, still pickled: its classes may stand in the operator's own code."""

    event: dict[str, Any] | None
    whole_state: bytes | None
    attributes: Mapping[str, bytes]
    missing: Mapping[str, str]
    why_no_state: str | None = None
    """Why there is no state at all."""

    @property
    def why_no_event(self) -> str | None:
        """Why there is no event; None where there is one."""
        return self.missing.get("") if self.event is None else None


def write_crash_report(
    descriptor: int,
    instance: object,
    event: dict[str, Any] | None,
    *,
    why_no_event: str | None = None,
    why_no_state: str | None = None,
) -> None:
    """Writes both in place of what was there. Parts that cannot be saved are named, with the reason."""
    missing: dict[str, str] = {} if why_no_event is None else {"": why_no_event}
    code, size, value, blob, stamp_nanos = 0, 0, b"", b"", 0
    has_message = event is not None and "value" in event and isinstance(event["value"], pa.Array)
    if event is not None and has_message:
        # The user's code may have put anything into the event.
        try:
            code, size, value, blob, stamp_nanos = _message_bytes(event)
        except Exception as error:
            missing[""] = f"it cannot be encoded any more ({problem_text(error)})"[
                :_MOST_REASON_CHARS
            ]
            event = None
        if size + len(blob) > MOST_EVENT_BYTES:
            missing[""] = f"it has {size:,} bytes; at most {MOST_EVENT_BYTES:,} are kept"
            event, code, size, value, blob = None, 0, 0, b"", b""
    whole, parts = (None, {}) if why_no_state is not None else _state_bytes(instance, missing)
    header = control.encode(
        _Header(
            event=None if event is None else {k: v for k, v in event.items() if isinstance(v, str)},
            has_message=has_message,
            type_code=code,
            stamp_nanos=stamp_nanos,
            metadata_size=len(blob),
            value_size=size,
            whole_state=None if whole is None else len(whole),
            attributes={name: len(part) for name, part in parts.items()},
            missing=missing,
            why_no_state=why_no_state,
        )
    )
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little"))
        for part in (header, blob, value, whole or b"", *parts.values()):
            file.write(part)


def read_crash_report(descriptor: int) -> CrashReport | None:
    """What was written; None where nothing was. ValueError where it is cut, its writer having been killed."""
    size = os.fstat(descriptor).st_size
    if size < _LENGTH_BYTES:
        return None
    data = os.pread(descriptor, size, 0)
    view = memoryview(data)
    begin = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "little")
    header = msgspec.msgpack.decode(view[_LENGTH_BYTES:begin], type=_Header)

    def take(size: int) -> memoryview:
        nonlocal begin
        begin += size
        if begin > len(view):
            raise ValueError("the crash report is incomplete")
        return view[begin - size : begin]

    blob, value = take(header.metadata_size), take(header.value_size)
    whole = None if header.whole_state is None else bytes(take(header.whole_state))
    attributes = {name: bytes(take(size)) for name, size in header.attributes.items()}
    event: dict[str, Any] | None = None
    if header.event is not None:
        event = dict(header.event)
        if header.has_message:
            message = from_bytes(header.type_code, bytes(value), bytes(blob), header.stamp_nanos)
            event |= {"value": message.value, "metadata": message.metadata}
    return CrashReport(event, whole, attributes, header.missing, header.why_no_state)


def _message_bytes(event: dict[str, Any]) -> tuple[int, int, Any, bytes, int]:
    metadata = dict(event.get("metadata") or {})
    stamp = metadata.pop("timestamp", None)
    nanos = int(stamp.timestamp() * 1e9) if isinstance(stamp, datetime.datetime) else 0
    return (*as_bytes(event["value"], metadata), nanos)


def _state_bytes(
    instance: object, missing: dict[str, str]
) -> tuple[bytes | None, dict[str, bytes]]:
    get_state = getattr(instance, "get_state", None)
    if callable(get_state):
        try:
            return _pickled(get_state(), MOST_STATE_BYTES), {}
        except Exception as error:
            missing["get_state"] = problem_text(error)[:_MOST_REASON_CHARS]
    parts: dict[str, bytes] = {}
    left = MOST_STATE_BYTES
    for name, value in list(getattr(instance, "__dict__", {}).items()):
        try:
            parts[name] = _pickled(value, left)
        except Exception as error:
            missing[name] = problem_text(error)[:_MOST_REASON_CHARS]
        else:
            left -= len(parts[name])
    return None, parts


def _pickled(value: object, most: int) -> bytes:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    if len(data) > most:
        raise ValueError(f"it has {len(data):,} bytes; at most {most:,} are kept")
    return data
