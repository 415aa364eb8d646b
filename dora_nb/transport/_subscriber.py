"""The reader's end of one edge: messages out of the socket, arrays on the publisher's memory.

An array that was received stays valid and unchanged for as long as anybody refers to it. Each holds
a lease; when the last array on a slot is gone, the lease writes one word, and the publisher may use
the slot again. A reader that holds more than `LEASE_LIMIT` slots of one input gets copies from then
on, so that it never starves a publisher.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa

from . import _words
from ._arena import ReaderArena
from ._metadata import Metadata, decode_metadata
from ._values import decode_value
from ._wire import (
    DATAGRAM_LIMIT,
    HEADER_SIZE,
    INLINE,
    SLOT_WITH_METADATA,
    Header,
    unpack_header,
)

LEASE_LIMIT = 8

_forks: list[bool] = []
"""Not empty in a forked copy of a reader: it has every array and its lease too, and only the original
may give the slot back."""
os.register_at_fork(after_in_child=lambda: _forks.append(True))


class Message(NamedTuple):
    """One message as it was received."""

    value: pa.Array[Any]
    metadata: Metadata


class Lease:
    """The right to read one message in a slot; given back when the last array on it is gone."""

    __slots__ = ("_arena", "_index", "_input", "_sequence")

    def __init__(self, reader: Input, arena: ReaderArena, index: int, sequence: int) -> None:
        self._input = reader
        self._arena = arena
        self._index = index
        self._sequence = sequence
        reader.leases_held += 1

    def __del__(self) -> None:
        if not _forks:
            self._input.leases_held -= 1
            self._arena.lease_words[self._index] = self._sequence


class Input:
    """The reader's end of one edge. `take` is called by one thread; arrays may go to any.

    `find_arena(edge_id, number)` is called when a message lies in an arena that this reader has not
    been given yet; it must make sure that `add_arena` was called, or raise.
    """

    def __init__(
        self,
        edge_id: int,
        rx: socket.socket,
        words_descriptor: int,
        *,
        find_arena: Callable[[int, int], None],
    ) -> None:
        self.edge_id = edge_id
        self.leases_held = 0
        self.copied = 0
        """How many messages were copied because too many arrays were held."""
        self._rx = rx
        self._words = _words.Words(words_descriptor)
        self._find_arena = find_arena
        self._arenas: dict[int, ReaderArena] = {}
        rx.setblocking(False)

    def fileno(self) -> int:
        """The receiving socket, readable when a message is there."""
        return self._rx.fileno()

    def add_arena(self, number: int, descriptor: int, column: int) -> None:
        """Maps an arena that messages of this edge may lie in. The descriptor stays the caller's."""
        self._arenas[number] = ReaderArena(descriptor, column)

    def has_arena(self, number: int) -> bool:
        """Whether that arena was added."""
        return number in self._arenas

    def retire_arena(self, number: int) -> None:
        """No further message lies in that arena; it is unmapped with the last array on it."""
        self._arenas.pop(number, None)

    def take(self) -> Message | None:
        """The next message, or None when there is none now. Never blocks."""
        try:
            datagram = self._rx.recv(DATAGRAM_LIMIT)
        except BlockingIOError:
            return None
        if not datagram:
            return None
        header = unpack_header(datagram)
        words = self._words.view
        words[_words.TAKEN] = header.sequence
        words[_words.RECEIVED] += 1
        if words[_words.WAITING]:
            self._wake_publisher()
        if header.kind == INLINE:
            buffer = pa.py_buffer(datagram).slice(HEADER_SIZE, header.payload_size)
            blob: bytes | memoryview = datagram[HEADER_SIZE + header.payload_size :]
        else:
            buffer, blob = self._from_slot(header, datagram)
        value = decode_value(header.type_code, buffer, header.payload_size)
        return Message(value, decode_metadata(blob, header.stamp_nanos))

    def next_stamp_nanos(self) -> int | None:
        """When the oldest unread message was sent, without taking it; None when there is none."""
        try:
            datagram = self._rx.recv(HEADER_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        return unpack_header(datagram).stamp_nanos if datagram else None

    def close(self) -> None:
        """Closes this process's copies. Arrays that were received stay valid."""
        self._rx.close()
        self._words.close()
        self._arenas.clear()

    def _from_slot(self, header: Header, datagram: bytes) -> tuple[pa.Buffer, bytes | memoryview]:
        if header.arena not in self._arenas:
            self._find_arena(self.edge_id, header.arena)
        arena = self._arenas[header.arena]
        begin, size = header.payload_offset, header.payload_size
        blob: bytes | memoryview = datagram[HEADER_SIZE:]
        if header.kind == SLOT_WITH_METADATA:
            blob = bytes(arena.data[begin + size : begin + size + header.metadata_size])
        if self.leases_held >= LEASE_LIMIT:
            copy = pa.py_buffer(bytes(arena.data[begin : begin + size]))
            arena.lease_words[header.slot] = header.sequence
            self.copied += 1
            return copy, blob
        lease = Lease(self, arena, header.slot, header.sequence)
        return pa.foreign_buffer(arena.address + begin, size, base=lease), blob

    def _wake_publisher(self) -> None:
        # A full socket means that it was woken often enough already; a closed one, that it is gone.
        with contextlib.suppress(OSError):
            self._rx.send(b"\0")
