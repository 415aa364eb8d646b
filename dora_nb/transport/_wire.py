"""The form of one message on the socket of an edge.

A datagram is a header and a body. The body of a small message is its payload followed by its
metadata; the payload of a large one lies in a slot of the publisher's arena, and only the metadata
travels in the datagram, unless it is large itself: then it lies behind the payload in the slot.

A mark has no body. It is sent in place of a message whose publisher died while it sent it, so that it is
unknown whether the message went. The side that takes the mark out, and has not seen its number before,
knows that it did not.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dora_nb.errors import EngineError

INLINE = 0
SLOT = 1
SLOT_WITH_METADATA = 2
MARK = 3

INLINE_LIMIT = 4096
"""Payload and metadata up to this size travel in the datagram: to copy them twice costs less than a slot."""
DATAGRAM_LIMIT = 8192
"""How many bytes a reader receives at most; header and body always fit."""
METADATA_LIMIT = 1 << 24
"""16 MiB of metadata; anything larger belongs into the value."""

_HEADER = struct.Struct("<BBHIQQQQQ")
HEADER_SIZE = _HEADER.size
"""48: with the 32 bytes in front of the data of a bytes object, an inline payload is 16-aligned."""
pack_header = _HEADER.pack
unpack_fields = _HEADER.unpack_from
"""The fields of a `Header`, as a plain tuple; struct.error if the datagram is too short."""


class Header(NamedTuple):
    """The header of a message."""

    kind: int
    type_code: int
    """Which Arrow type the payload is; see `_values`."""
    slot: int
    metadata_size: int
    sequence: int
    """Counted by the edge, from 1, without holes: a number that a reader misses was evicted."""
    stamp_nanos: int
    """Wall clock at the send, nanoseconds since the epoch."""
    payload_size: int
    payload_offset: int
    """In the arena's data."""
    arena: int


def unpack_header(datagram: bytes) -> Header:
    """The header of a datagram, or of its first `HEADER_SIZE` bytes. EngineError if it is too short."""
    try:
        return Header._make(unpack_fields(datagram))
    except struct.error:
        raise malformed(
            f"it has {len(datagram)} bytes, less than the {HEADER_SIZE} of a header"
        ) from None


def pack_mark(sequence: int, stamp_nanos: int) -> bytes:
    """A mark for the message of that number."""
    return pack_header(MARK, 0, 0, 0, sequence, stamp_nanos, 0, 0, 0)


def malformed(what: str) -> EngineError:
    """The error for a message that no publisher of this version sends."""
    return EngineError(
        f"a message on an edge is malformed: {what}.",
        hint="Other code wrote to an operator's descriptors or memory; stop and start the dataflow.",
    )
