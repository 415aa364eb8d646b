"""The publisher's end: an output with its slots, and its end of each edge.

One message is encoded once, whatever the number of readers. A large payload is copied once, into a
slot that all readers share. Each edge numbers its own messages and keeps its own line:

* *drop_oldest*: when `queue_size` messages are in line, the publisher receives the oldest from the
  reader's own socket. The kernel's queue is the lock: if the reader was quicker, there is room.
* *backpressure*: the publisher waits for room until the reader has taken one, or its engine says
  that it is to stop or that the reader is gone.

What the socket cannot hold of `queue_size` stands in a bounded line here and moves on when there is
room. Nothing here waits for a reader that the engine has detached.
"""

from __future__ import annotations

import collections
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from . import _words
from ._arena import MAX_SLOTS, Arena, Slot
from ._metadata import Metadata, encode_metadata
from ._values import encode_value
from ._wire import (
    DATAGRAM_LIMIT,
    HEADER_SIZE,
    INLINE,
    INLINE_LIMIT,
    SLOT,
    SLOT_WITH_METADATA,
    pack_header,
    unpack_header,
)

_IN_OVERFLOW = -1
"""In place of a sequence number: the message is not in the socket yet."""
ROOM_CHECK_SECS = 0.02
"""A reader wakes a waiting publisher. The publisher looks again after this time all the same: its
word WAITING and the reader's word TAKEN may pass each other in the store buffers of two cores."""


class Waiter(Protocol):
    """What a publisher asks while it waits for room; the child program implements it."""

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        """Returns when the descriptor is readable, or the time is over. Must serve the engine meanwhile."""

    def giving_up(self) -> bool:
        """Whether the operator was told to stop, so that waiting is pointless."""


@dataclass(slots=True)
class Outgoing:
    """One message, encoded, not yet numbered by an edge."""

    kind: int
    type_code: int
    stamp_nanos: int
    payload_size: int
    metadata_size: int
    body: bytes
    slot: Slot | None = None
    arena: int = 0


class OutEdge:
    """The publisher's end of one edge. Used by one thread at a time (the output's lock)."""

    def __init__(
        self,
        edge_id: int,
        tx: socket.socket,
        rx: socket.socket,
        words_descriptor: int,
        *,
        queue_size: int,
        drop_oldest: bool,
        column: int,
    ) -> None:
        self.edge_id = edge_id
        self.queue_size = queue_size
        self.drop_oldest = drop_oldest
        self.column = column
        self.attached = True
        self.overflow: collections.deque[Outgoing] = collections.deque()
        self._tx = tx
        self._rx = rx
        self._words = _words.Words(words_descriptor)
        self._void_up_to = 0
        tx.setblocking(False)

    def fileno(self) -> int:
        """The sending socket: writable when the overflow can move on, readable when there is room."""
        return self._tx.fileno()

    def offer(self, message: Outgoing, waiter: Waiter, slots: list[Slot], arena: int) -> None:
        """Puts a message in line, making room as the policy says."""
        words = self._words.view
        words[_words.SENT] += 1
        if self.overflow:
            self.flush()
        while self.attached and self.in_line() >= self.queue_size:
            if self.drop_oldest:
                if not self.take_back_oldest(slots, arena):
                    break
            elif waiter.giving_up():
                words[_words.DROPPED] += 1
                return
            else:
                self._wait_for_room(waiter)
        if not self.attached:
            return
        if message.slot is not None:
            message.slot.leases[self] = _IN_OVERFLOW
        if self.overflow or not self._push(message):
            self.overflow.append(message)
            words[_words.OVERFLOW] = len(self.overflow)

    def flush(self) -> None:
        """Moves on what stood in the overflow, as far as the socket has room."""
        if not self.attached:
            return
        while self.overflow and self._push(self.overflow[0]):
            self.overflow.popleft()
        self._words.view[_words.OVERFLOW] = len(self.overflow)

    def take_back_oldest(self, slots: list[Slot], arena: int) -> bool:
        """Drops the oldest message in line; False when the reader took all of them first."""
        words = self._words.view
        try:
            stolen = unpack_header(self._rx.recv(DATAGRAM_LIMIT, socket.MSG_DONTWAIT))
        except BlockingIOError:
            if not self.overflow:
                return False
            dropped = self.overflow.popleft()
            words[_words.OVERFLOW] = len(self.overflow)
            if dropped.slot is not None:
                dropped.slot.leases.pop(self, None)
        else:
            words[_words.STOLEN] = stolen.sequence
            if stolen.kind != INLINE and stolen.arena == arena:
                slots[stolen.slot].leases.pop(self, None)
        words[_words.DROPPED] += 1
        return True

    def has_returned(self, slot: Slot, sequence: int, arena: Arena) -> bool:
        """Whether the reader needs message `sequence` in `slot` no more."""
        if sequence == _IN_OVERFLOW:
            return not self.attached
        returned = arena.lease_words[self.column * MAX_SLOTS + slot.index]
        return returned == sequence or sequence <= self._void_up_to

    def refuse(self) -> None:
        """Counts a message for which no slot could be had."""
        words = self._words.view
        words[_words.SENT] += 1
        words[_words.DROPPED] += 1

    def in_line(self) -> int:
        """How many messages the reader has not taken yet."""
        words = self._words.view
        gone = max(words[_words.TAKEN], words[_words.STOLEN])
        return words[_words.PUSHED] - gone + len(self.overflow)

    def void(self, up_to: int) -> None:
        """Leases up to this sequence number belonged to a process that is gone."""
        self._void_up_to = max(self._void_up_to, up_to)

    def close(self) -> None:
        """Closes this process's copies of the descriptors. What stands in the overflow is lost."""
        self.attached = False
        words = self._words.view
        words[_words.DROPPED] += len(self.overflow)
        words[_words.OVERFLOW] = 0
        self.overflow.clear()
        self._tx.close()
        self._rx.close()
        self._words.close()

    def _push(self, message: Outgoing) -> bool:
        words = self._words.view
        sequence = words[_words.PUSHED] + 1
        slot = message.slot
        header = pack_header(
            message.kind,
            message.type_code,
            slot.index if slot else 0,
            message.metadata_size,
            sequence,
            message.stamp_nanos,
            message.payload_size,
            slot.offset if slot else 0,
            message.arena,
        )
        if slot is not None:
            slot.leases[self] = sequence
        try:
            self._tx.send(header + message.body)
        except BlockingIOError:
            if slot is not None:
                slot.leases[self] = _IN_OVERFLOW
            return False
        words[_words.PUSHED] = sequence
        return True

    def _wait_for_room(self, waiter: Waiter) -> None:
        words = self._words.view
        words[_words.WAITING] = 1
        try:
            self._forget_wakes()
            if self.attached and self.in_line() >= self.queue_size:
                waiter.wait_readable(self._tx.fileno(), ROOM_CHECK_SECS)
        finally:
            if self.attached:
                words[_words.WAITING] = 0
        if self.attached:
            self._forget_wakes()
            self.flush()

    def _forget_wakes(self) -> None:
        try:
            while self._tx.recv(16):
                pass
        except BlockingIOError:
            pass


class Output:
    """One output of a running operator: encodes, finds a slot, offers the message to every edge.

    `publish` may be called from any thread of the process. `warn` is given a sentence, once per
    cause, where something could be sent only by changing it.
    """

    def __init__(
        self, name: str, arena: Arena, *, waiter: Waiter, warn: Callable[[str], None]
    ) -> None:
        self.name = name
        self.arena = arena
        self.edges: list[OutEdge] = []
        self._waiter = waiter
        self._warn = warn
        self._parted: list[OutEdge] = []
        self._last: Outgoing | None = None
        self._lock = threading.RLock()

    def publish(self, data: object, metadata: Metadata | None) -> None:
        """Sends one message to every edge; blocks only on edges with the policy backpressure.

        Raises `InvalidDataError` or `MetadataError`; then nothing was sent.
        """
        code, size, payload = encode_value(data)
        blob = encode_metadata(metadata, self._warn)
        with self.locked():
            message = self._message(code, size, payload, blob)
            if message is None:
                for edge in self.edges:
                    edge.refuse()
                return
            self._last = message
            for edge in list(self.edges):
                edge.offer(message, self._waiter, self.arena.slots, self.arena.number)

    def attach(self, edge: OutEdge, *, replay_last: bool) -> None:
        """Adds an edge; with `replay_last` its reader gets the newest message at once, if there is one."""
        with self.locked():
            self.arena.clear_column(edge.column)
            self.edges.append(edge)
            if replay_last and self._last is not None:
                edge.offer(self._last, self._waiter, self.arena.slots, self.arena.number)

    def detach(self, edge: OutEdge) -> None:
        """Takes an edge away and closes it. What its reader has not taken is free; what it still holds
        is not, until it is given back or voided: see `released`."""
        edge.attached = False  # Before the lock: its holder may be waiting for this very reader.
        with self.locked():
            while edge.take_back_oldest(self.arena.slots, self.arena.number):
                pass
            self.edges.remove(edge)
            edge.close()
            self._parted.append(edge)

    def released(self) -> list[OutEdge]:
        """The edges that were taken away and whose readers hold nothing any more; each is named once."""
        with self.locked():
            for slot in self.arena.slots:
                self._is_free(slot)
            holding = {edge for slot in self.arena.slots for edge in slot.leases}
            free = [edge for edge in self._parted if edge not in holding]
            self._parted = [edge for edge in self._parted if edge in holding]
        return free

    def locked(self) -> _PublishLock:
        """Holds off other threads' sends. While waiting for them, the engine is still served."""
        return _PublishLock(self._lock, self._waiter)

    def _message(self, code: int, size: int, payload: Any, blob: bytes) -> Outgoing | None:
        stamp = time.time_ns()
        if size + len(blob) <= INLINE_LIMIT:
            body = b"".join((payload, blob))
            return Outgoing(INLINE, code, stamp, size, len(blob), body)
        beside = len(blob) <= DATAGRAM_LIMIT - HEADER_SIZE
        slot = self._free_slot(size if beside else size + len(blob))
        if slot is None:
            return None
        self.arena.write(slot, payload, size, b"" if beside else blob)
        kind = SLOT if beside else SLOT_WITH_METADATA
        body = blob if beside else b""
        return Outgoing(kind, code, stamp, size, len(blob), body, slot, self.arena.number)

    def _free_slot(self, size: int) -> Slot | None:
        """A slot that nobody needs: the best fit, a new one, another one resized, one taken back.

        None where every slot is held by readers with the policy drop_oldest, which a publisher never
        waits for.
        """
        while True:
            free = [slot for slot in self.arena.slots if self._is_free(slot)]
            fitting = [slot for slot in free if size <= slot.capacity <= 4 * max(size, 1 << 16)]
            if fitting:
                return min(fitting, key=lambda slot: slot.capacity)
            if self.arena.may_grow(size):
                return self.arena.add_slot(size)
            if free:
                self.arena.resize(free[0], size)
                return free[0]
            if not self._make_a_slot_free():
                return None

    def _make_a_slot_free(self) -> bool:
        """Drops the oldest message of the longest droppable line, or waits for a blocking reader."""
        droppable = [edge for edge in self.edges if edge.drop_oldest]
        for edge in sorted(droppable, key=lambda edge: edge.in_line(), reverse=True):
            if edge.take_back_oldest(self.arena.slots, self.arena.number):
                return True
        if self._waiter.giving_up() or not any(not edge.drop_oldest for edge in self.edges):
            return False
        self._waiter.wait_readable(-1, ROOM_CHECK_SECS)
        for edge in self.edges:
            edge.flush()
        return True

    def _is_free(self, slot: Slot) -> bool:
        if self._last is not None and self._last.slot is slot:
            return False
        for edge, sequence in list(slot.leases.items()):
            assert isinstance(edge, OutEdge)
            if edge.has_returned(slot, sequence, self.arena):
                del slot.leases[edge]
        return not slot.leases

    def flush(self) -> bool:
        """Moves overflow on; True while some is left."""
        for edge in self.edges:
            if edge.overflow:
                edge.flush()
        return any(edge.overflow for edge in self.edges)

    def close(self) -> None:
        """Closes every edge's descriptors and unmaps the arena."""
        for edge in self.edges:
            edge.close()
        self.edges.clear()
        self.arena.close()


class _PublishLock:
    """An output's lock that serves the engine while another thread of the operator holds it."""

    def __init__(self, lock: Any, waiter: Waiter) -> None:
        self._lock = lock
        self._waiter = waiter

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=ROOM_CHECK_SECS):
            self._waiter.wait_readable(-1, 0)

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
