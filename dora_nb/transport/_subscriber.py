"""The reader's end of one edge: messages out of the socket, arrays on the publisher's memory.

An array that was received stays valid and unchanged for as long as anything refers to it. Each holds
a lease; when the last array on a slot is gone, the lease writes one word, and the publisher may use
the slot again. A process that holds more of one output than `_arena` allows gets copies from then on,
so that it never starves a publisher.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from dora_nb.errors import EngineError

from ._arena import DATA_SIZE, MAX_SLOTS, ReaderArena, copy_bytes, given_back, read_data
from ._forks import forks, generation, refuse_forked_copy
from ._metadata import UTC, Metadata, decode_metadata, decode_plain, encode_metadata, timestamp_of
from ._values import FLAT_TYPES, FLAT_WIDTHS, decode_value, encode_value, metadata_with_shape
from ._wire import (
    DATAGRAM_LIMIT,
    HEADER_SIZE,
    INLINE,
    MARK,
    METADATA_LIMIT,
    SLOT,
    SLOT_WITH_METADATA,
    Header,
    malformed,
    unpack_fields,
    unpack_header,
)
from ._words import (
    EVICTED,
    LAST_EVICTED,
    LAST_PUSHED,
    LAST_TAKEN,
    LOST,
    LOST_UNSENT,
    MISSED,
    RECEIVED,
    REFUSED,
    SENT,
    TAKING,
    WAITING,
    Words,
)

py_buffer = pa.py_buffer
foreign_buffer = pa.foreign_buffer
array_from_buffers = pa.Array.from_buffers
_IN_A_SLOT = (SLOT, SLOT_WITH_METADATA)
_UNREADABLE = (
    struct.error,
    EOFError,
    IndexError,
    ValueError,
    OverflowError,
    OSError,
    StopIteration,
    pa.ArrowException,
    msgspec.MsgspecError,
)
"""What the decoders of Arrow, msgpack and datetime raise over bytes that they cannot read."""


class Message(NamedTuple):
    """One message as it was received."""

    value: pa.Array[Any]
    metadata: Metadata


def as_received(data: object, metadata: Metadata | None, *, warn: Callable[[str], None]) -> Message:
    """The message that a reader would get if this were sent now; encoded the same way, without an edge.

    Raises `InvalidDataError` or `MetadataError`.
    """
    code, size, payload = encode_value(data)
    blob = encode_metadata(metadata_with_shape(data, metadata), warn)
    value = decode_value(code, pa.py_buffer(bytes(payload)), size)
    return Message(value, decode_metadata(blob, time.time_ns()))


def as_bytes(data: object, metadata: Metadata | None) -> tuple[int, int, Any, bytes]:
    """A message as it travels, to be kept: type code, size, value, metadata.

    Raises `InvalidDataError` or `MetadataError`.
    """
    code, size, value = encode_value(data)
    return code, size, value, encode_metadata(metadata_with_shape(data, metadata), _ignore)


def from_bytes(code: int, value: bytes | memoryview, metadata: bytes, stamp_nanos: int) -> Message:
    """The message that `as_bytes` was given."""
    decoded = decode_value(code, pa.py_buffer(value), len(value))
    return Message(decoded, decode_metadata(metadata, stamp_nanos))


def message_at_death(
    hand: memoryview, arena_of: Callable[[int], tuple[int, int]], *, most_bytes: int
) -> Message:
    """A copy of the message that a process had taken last when it died, by the datagram in its `hand`.

    `arena_of(number)` returns the descriptor of an arena and the edge's column in it. A slot that the
    reader still leased is unchanged until the engine voids the lease. LookupError where the reader had
    given it back, so that it may hold another message by now; EngineError where the datagram is not a
    message, or the message is too large.
    """
    try:
        header = unpack_header(bytes(hand[:HEADER_SIZE]))
        size, beside = header.payload_size, header.metadata_size
        if size + beside > most_bytes:
            raise EngineError(f"it has {size + beside:,} bytes; at most {most_bytes:,} are kept")
        if header.kind == INLINE:
            body = bytes(hand[HEADER_SIZE : HEADER_SIZE + size + beside])
        else:
            descriptor, column = arena_of(header.arena)
            if given_back(descriptor, column, header.slot) == header.sequence:
                raise LookupError("its memory had been given back")
            behind = beside if header.kind == SLOT_WITH_METADATA else 0
            body = read_data(descriptor, header.payload_offset, size + behind)
            body += bytes(hand[HEADER_SIZE : HEADER_SIZE + beside - behind])
        return from_bytes(header.type_code, body[:size], body[size:], header.stamp_nanos)
    except MemoryError:
        raise
    except _UNREADABLE as error:
        raise malformed(f"{type(error).__name__}: {error}") from error


def _ignore(_sentence: str) -> None:
    """Nothing: metadata that was received once is sent unchanged."""


class _Column(NamedTuple):
    """One edge's part of an arena that it reads."""

    arena: ReaderArena
    first_word: int

    def give_back(self, slot: int, sequence: int) -> None:
        self.arena.lease_words[self.first_word + slot] = sequence


class Lease:
    """The right to read one message in a slot; given back when the last array on it is gone."""

    __slots__ = ("_arena", "_sequence", "_word")

    def __init__(self, column: _Column, slot: int, sequence: int, size: int) -> None:
        self._arena = column.arena
        self._word = column.first_word + slot
        self._sequence = sequence
        self._arena.held[self._word] = size

    def __del__(self) -> None:
        # Not in a forked copy, which has the array too: the word has one writer, and the original's array
        # may live on.
        if self._arena.made_in == len(forks):
            # In this order: once the word is written, the publisher may fill the slot, and this process may
            # take the new message under the same key.
            self._arena.held.pop(self._word, None)
            self._arena.lease_words[self._word] = self._sequence


class Input:
    """The reader's end of one edge. `take` is called by one thread at a time; arrays may go to any.

    `find_arena(edge_id, number)` is called when a message lies in an arena that this reader does not know
    yet; it must make sure that `add_arena` was called, or raise. `hand`, of `DATAGRAM_LIMIT` bytes, keeps
    the datagram that was taken last; see `message_at_death`.
    """

    def __init__(
        self,
        edge_id: int,
        rx: socket.socket,
        words_descriptor: int,
        *,
        find_arena: Callable[[int, int], None],
        hand: memoryview | None = None,
    ) -> None:
        self.edge_id = edge_id
        self.copied = 0
        """How many messages were copied because too much was held."""
        self.stamp_nanos = 0
        """When the message that `take` returned last was sent, for readers to whom microseconds matter."""
        self._made_in = generation()
        self._rx = rx
        self._words = Words(words_descriptor)
        self._find_arena = find_arena
        self._hand = hand
        self._columns: dict[int, _Column] = {}
        rx.setblocking(False)

    def fileno(self) -> int:
        """The receiving socket, readable when a message is there."""
        return self._rx.fileno()

    def add_arena(self, number: int, descriptor: int, column: int) -> None:
        """Maps an arena that messages of this edge may lie in. The descriptor stays the caller's."""
        self._columns[number] = _Column(ReaderArena.of(descriptor), column * MAX_SLOTS)

    def has_arena(self, number: int) -> bool:
        """Whether that arena was added."""
        return number in self._columns

    def retire_arena(self, number: int) -> None:
        """No further message lies in that arena; it is unmapped with the last array on it."""
        self._columns.pop(number, None)

    def take(self) -> Message | None:
        """The next message, or None when there is none now. Never blocks.

        Raises EngineError for a message that is malformed, which is then gone, and in a forked copy
        of the process that made this input.
        """
        # One function for a small flat array, the commonest message: after a pause the cost is not the
        # number of statements, but that of the functions whose code has left the caches.
        if self._made_in != len(forks):
            refuse_forked_copy(self._made_in, "take")
        words = self._words.view
        # Before the receive: a kill between that and the count leaves TAKING ahead of RECEIVED, by which the
        # engine knows that a message may have left the socket uncounted.
        words[TAKING] = words[RECEIVED] + 1
        try:
            if self._hand is None:
                datagram = self._rx.recv(DATAGRAM_LIMIT)
            else:
                datagram = bytes(self._hand[: self._rx.recv_into(self._hand)])
            if not datagram:
                return None
            fields = unpack_fields(datagram)
            sequence = fields[4]
            # One more than the publisher's word says is right: it writes the word after the send.
            if sequence > words[LAST_PUSHED] + 1:
                raise malformed(f"it has the number {sequence}, which was not sent yet")
            if fields[0] == MARK:
                self._pass_mark(sequence)
                return None
            # The number before the count, as in `OutEdge._count_evicted`.
            words[LAST_TAKEN] = sequence
            words[RECEIVED] += 1
        except BlockingIOError:
            return None
        except struct.error:
            unpack_header(datagram)  # which says what is wrong with it
            raise
        finally:
            words[TAKING] = words[RECEIVED]
        # After LAST_TAKEN is written: a publisher that is woken looks at that word, and would wait again.
        if words[WAITING]:
            self._wake_publisher()
        kind, code, slot, metadata_size, _, stamp_nanos, size, offset, arena = fields
        self.stamp_nanos = stamp_nanos
        column = self._column(arena) if kind in _IN_A_SLOT else None
        try:
            if code < len(FLAT_TYPES):
                buffer = None
                if kind == INLINE:
                    begin = HEADER_SIZE + size
                    if len(datagram) == begin + metadata_size:
                        buffer = py_buffer(datagram).slice(HEADER_SIZE, size)
                else:
                    begin = HEADER_SIZE
                    if (
                        kind == SLOT
                        and column is not None
                        and not column.arena.held
                        and len(datagram) == begin + metadata_size
                        and slot < MAX_SLOTS
                        and offset + size <= DATA_SIZE
                    ):
                        # Before the array: from here on an error gives the slot back, in `Lease.__del__`.
                        lease = Lease(column, slot, sequence, size)
                        buffer = foreign_buffer(column.arena.address + offset, size, lease)
                count, rest = divmod(size, FLAT_WIDTHS[code])
                if buffer is not None and not rest:
                    value = array_from_buffers(FLAT_TYPES[code], count, [None, buffer])
                    metadata = {"timestamp": timestamp_of(stamp_nanos / 1e9, UTC)}
                    if metadata_size:
                        metadata.update(decode_plain(datagram[begin:]))
                    return tuple.__new__(Message, (value, metadata))
            return _decode(Header._make(fields), datagram, column, self._count_copy)
        except MemoryError:
            raise
        except _UNREADABLE as error:
            self._count_as_missed()
            raise malformed(f"{type(error).__name__}: {error}") from error

    def next_stamp_nanos(self) -> int | None:
        """When the oldest unread message was sent, without taking it; None when there is none."""
        try:
            datagram = self._rx.recv(HEADER_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        if not datagram:
            return None
        # A datagram that is too short counts as the oldest: `take` removes it and raises.
        return unpack_header(datagram).stamp_nanos if len(datagram) == HEADER_SIZE else 0

    def has_more(self) -> bool:
        """Whether a message is certainly there. Makes no system call; may be False a moment too long."""
        words = self._words.view
        return words[LAST_PUSHED] > words[LAST_TAKEN] and words[LAST_PUSHED] > words[LAST_EVICTED]

    def sent(self) -> int:
        """How many messages were given to this edge so far."""
        return self._words.view[SENT]

    def received(self) -> int:
        """How many messages its reader has taken."""
        return self._words.view[RECEIVED]

    def lost(self) -> int:
        """How many messages were given to this edge and never reach its reader."""
        words = self._words.view
        return sum(words[word] for word in (EVICTED, REFUSED, MISSED, LOST, LOST_UNSENT))

    def close(self) -> None:
        """Closes this process's copies. Arrays that were received stay valid."""
        self._rx.close()
        self._words.close()
        self._columns.clear()

    def _column(self, arena: int) -> _Column:
        if arena not in self._columns:
            self._find_arena(self.edge_id, arena)
        return self._columns[arena]

    def _count_copy(self) -> None:
        self.copied += 1

    def _count_as_missed(self) -> None:
        """Counts the message that was just received as missed instead."""
        words = self._words.view
        # The sum goes down before it goes up: after a kill in between, TAKING is ahead of RECEIVED, and `edge`
        # finds a number that was not counted. The other way round it would be counted twice.
        words[RECEIVED] -= 1
        words[MISSED] += 1
        words[TAKING] = words[RECEIVED]

    def _pass_mark(self, sequence: int) -> None:
        """Counts a mark, if the message that it stands for did not come before it."""
        words = self._words.view
        # Both sides' words: the message may have come here, or have been evicted by the next publisher.
        if sequence > max(words[LAST_TAKEN], words[LAST_EVICTED]):
            words[LAST_TAKEN] = sequence
            words[MISSED] += 1

    def _wake_publisher(self) -> None:
        # A full socket means that there are enough wakes already; a closed one, that the publisher is gone.
        with contextlib.suppress(OSError):
            self._rx.send(b"\0")


def _decode(
    header: Header, datagram: bytes, column: _Column | None, count_copy: Callable[[], None]
) -> Message:
    """The message of a datagram. Raises one of `_UNREADABLE` where it is malformed."""
    if column is None:
        if header.kind != INLINE:
            raise ValueError(f"it is of kind {header.kind}")
        _check_size(datagram, header.payload_size + header.metadata_size)
        buffer = pa.py_buffer(datagram).slice(HEADER_SIZE, header.payload_size)
        blob = datagram[HEADER_SIZE + header.payload_size :]
    else:
        buffer, blob = _from_slot(header, datagram, column, count_copy)
    value = decode_value(header.type_code, buffer, header.payload_size)
    return Message(value, decode_metadata(blob, header.stamp_nanos))


def _from_slot(
    header: Header, datagram: bytes, column: _Column, count_copy: Callable[[], None]
) -> tuple[pa.Buffer, bytes]:
    """The payload where it lies, under a lease, or a copy of it; and the metadata."""
    arena = column.arena
    begin, end = header.payload_offset, header.payload_offset + header.payload_size
    behind = header.metadata_size if header.kind == SLOT_WITH_METADATA else 0
    if header.slot >= MAX_SLOTS or end + behind > DATA_SIZE or behind > METADATA_LIMIT:
        raise ValueError(f"it lies in slot {header.slot} and ends at {end + behind}")
    _check_size(datagram, header.metadata_size - behind)
    blob = bytes(arena.data[end : end + behind]) if behind else datagram[HEADER_SIZE:]
    if arena.may_hold(header.payload_size):
        lease = Lease(column, header.slot, header.sequence, header.payload_size)
        return pa.foreign_buffer(arena.address + begin, header.payload_size, base=lease), blob
    try:
        copy = pa.allocate_buffer(header.payload_size)
        copy_bytes(np.frombuffer(memoryview(copy), np.uint8), arena.data[begin:end])
    finally:
        # After the copy, and also where that fails: a slot that is not given back is lost to the publisher.
        column.give_back(header.slot, header.sequence)
    count_copy()
    return copy, blob


def _check_size(datagram: bytes, body_size: int) -> None:
    if len(datagram) != HEADER_SIZE + body_size:
        raise ValueError(f"it has {len(datagram)} bytes and says {HEADER_SIZE + body_size}")
