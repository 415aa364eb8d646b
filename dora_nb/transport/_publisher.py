"""The publisher's end: an output with its slots, and its end of each edge.

One message is encoded once, whatever the number of readers. A large payload is copied once, into a
slot that all readers share. Each edge numbers its own messages and keeps its own line:

* *drop_oldest*: when `queue_size` messages are in line, the publisher receives the oldest from the
  reader's own socket. The kernel's queue is the lock: if the reader was quicker, there is room.
* *backpressure*: the publisher waits for room until the reader has taken one, or its engine says
  that it is to stop or that the reader is gone.

A message whose metadata says ``flush: True`` drops everything that is in line before it, whatever the
policy.

What the socket cannot hold of `queue_size` waits in a bounded queue here, the overflow, and moves on
when there is room. Nothing here waits for a reader that the engine has detached.

While a publisher waits, its engine is served on the same thread: edges may come and go in the middle
of a send. So code after a wait looks again at whether its edge is still attached.
"""

from __future__ import annotations

import collections
import errno
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dora_nb.errors import EngineError

from ._arena import DATA_SIZE, MAX_SLOTS, Arena, Slot
from ._forks import forks, generation, refuse_forked_copy
from ._metadata import Metadata, asks_to_flush, encode_metadata
from ._values import UINT8, InvalidDataError, encode_value, metadata_with_shape
from ._wire import (
    DATAGRAM_LIMIT,
    HEADER_SIZE,
    INLINE,
    INLINE_LIMIT,
    MARK,
    SLOT,
    SLOT_WITH_METADATA,
    Header,
    pack_header,
    unpack_header,
)
from ._words import (
    EVICTED,
    EVICTING,
    LAST_EVICTED,
    LAST_PUSHED,
    LAST_TAKEN,
    OVERFLOW,
    REFUSED,
    SENT,
    SENT_BYTES,
    WAITING,
    Words,
)

time_nanos = time.time_ns
_IN_OVERFLOW = -1
"""In place of a sequence number: the message is not in the socket yet."""
_RESERVED = -2
"""In place of a sequence number: the user's code writes into the slot."""
UNUSED_MESSAGES = 128
"""A slot gives its memory back when this many messages, or four times as many as there are slots, have
not needed it."""
_WORTH_WAITING_FOR = 1 << 19
_SLOTS_IN_TURN = 3
"""One that is written, one that is read, one in line: with fewer, sender and reader take turns."""
_GLANCE = 16
"""Readers give slots back in about the order they got them, but for a few that they hold on to."""
_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)
_NEW_MEMORY_BYTES_PER_SEC = 1 << 30
"""How fast new memory comes to a slot, measured in a virtual machine, where a copy is seven times as fast."""
ROOM_CHECK_SECS = 0.02
"""A reader wakes a waiting publisher. The publisher looks again after this time all the same: its
word WAITING and the reader's word LAST_TAKEN may pass each other in the store buffers of two cores."""


class Waiter(Protocol):
    """What a publisher asks while it waits for room; the child program implements it."""

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        """Returns when the descriptor is readable, or the time is over. Must serve the engine meanwhile."""

    def giving_up(self) -> bool:
        """Whether the operator has to stop, so that waiting is pointless."""

    def note_overflow(self) -> None:
        """A message is in the overflow: call `Output.flush` when the edge's socket has room."""


class Outgoing(NamedTuple):
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
    """The publisher's end of one edge. Used by one thread at a time (the output's lock).

    Each word that it writes has no other writer, so a plain store is enough. The reader writes its own
    words at the same time: what is computed from both may be out of date by what it has just taken, which
    makes the line look longer than it is, never shorter.
    """

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
        self._words = Words(words_descriptor)
        self._void_up_to = 0
        # Explicitly: after socket.setdefaulttimeout() in the user's code, even to evict a message would wait.
        tx.setblocking(False)
        rx.setblocking(False)

    @classmethod
    def from_descriptors(
        cls,
        edge_id: int,
        descriptors: Sequence[int],
        *,
        queue_size: int,
        drop_oldest: bool,
        column: int,
    ) -> OutEdge:
        """Made of this process's copies of `Edge.publisher_descriptors`, which it takes over."""
        tx, rx, words = descriptors
        edge = cls(
            edge_id,
            socket.socket(fileno=tx),
            socket.socket(fileno=rx),
            words,
            queue_size=queue_size,
            drop_oldest=drop_oldest,
            column=column,
        )
        os.close(words)
        return edge

    def fileno(self) -> int:
        """The sending socket: writable when the overflow can move on, readable when there is room."""
        return self._tx.fileno()

    def set_queue(self, *, queue_size: int, drop_oldest: bool) -> None:
        """Says how many messages may be in line, and what happens to more. Needs no lock: `offer` looks anew."""
        self.queue_size, self.drop_oldest = queue_size, drop_oldest

    def offer(self, message: Outgoing, waiter: Waiter, arena: Arena) -> None:
        """Puts a message in line, making room as the policy says. Does nothing once it is detached."""
        if not self.attached:
            return
        words = self._words.view
        # `_is_full` without its calls, since the commonest line has room. The larger of the two words says how
        # far the line has been emptied, so it is full only where both say so.
        most, pushed = self.queue_size, words[LAST_PUSHED]
        if self.overflow or (
            pushed - words[LAST_TAKEN] >= most and pushed - words[LAST_EVICTED] >= most
        ):
            self.flush()
            if not self._make_room(waiter, arena):
                self.refuse()
                words[SENT_BYTES] += message.payload_size
                return
            # `_make_room` may have served the engine, which may have detached this very edge.
            if not self.attached:
                return
        # Before anything is done with the message: after a kill in between, the engine finds one that was
        # given to the edge and has no number, and counts it as lost. Later, it would have vanished uncounted.
        words[SENT] += 1
        words[SENT_BYTES] += message.payload_size
        # Never past the overflow: that would overtake the messages there.
        if self.overflow or not self._push(message):
            if message.slot is not None:
                message.slot.leases[self] = _IN_OVERFLOW
            self.overflow.append(message)
            words[OVERFLOW] = len(self.overflow)
            waiter.note_overflow()

    def flush(self) -> None:
        """Moves messages from the overflow into the socket, as far as that has room."""
        words = self._words.view
        while self.attached and self.overflow:
            # The word goes down before the send. Meanwhile the message was given to the edge, has no number
            # and is not in the overflow: so `edge` sees that it is being sent, and that a reader that dies
            # now may have taken it.
            words[OVERFLOW] = len(self.overflow) - 1
            if not self._push(self.overflow[0]):
                words[OVERFLOW] = len(self.overflow)
                return
            self.overflow.popleft()

    def take_back_oldest(self, arena: Arena) -> bool:
        """Drops the oldest message in line; False when the reader took all of them first."""
        words = self._words.view
        # Before the receive: a kill between that and the count leaves EVICTING ahead of EVICTED, by which the
        # engine knows that a message may have left the socket uncounted.
        words[EVICTING] = words[EVICTED] + 1
        try:
            datagram = self._rx.recv(HEADER_SIZE)  # What is behind the header goes with it.
            self._count_evicted(datagram, arena)
        except BlockingIOError:
            return self._drop_from_overflow()
        finally:
            words[EVICTING] = words[EVICTED]
        return True

    def drop_through(self, slot: Slot, arena: Arena) -> None:
        """Drops the oldest messages up to the one in that slot, as far as the reader leaves them."""
        while self in slot.leases and self.messages_up_to(slot) and self.take_back_oldest(arena):
            pass

    def messages_up_to(self, slot: Slot) -> int:
        """How many messages are in line up to the one in that slot; 0 if the reader has it already."""
        sequence = slot.leases[self]
        if not self.attached:
            return 0
        if sequence != _IN_OVERFLOW:
            return max(0, sequence - self._gone())
        before = next(at for at, each in enumerate(self.overflow, 1) if each.slot is slot)
        return self.in_line() - len(self.overflow) + before

    def has_returned(self, slot: Slot, sequence: int, arena: Arena) -> bool:
        """Whether the reader has given message `sequence` in `slot` back."""
        if sequence == _IN_OVERFLOW:
            return not self.attached
        returned = arena.lease_words[self.column * MAX_SLOTS + slot.index]
        return returned == sequence or sequence <= self._void_up_to

    def refuse(self) -> None:
        """Counts a message that is dropped before it got into line."""
        words = self._words.view
        words[SENT] += 1
        words[REFUSED] += 1

    def in_line(self) -> int:
        """How many messages the reader has not taken yet."""
        words = self._words.view
        gone = max(words[LAST_TAKEN], words[LAST_EVICTED])
        return words[LAST_PUSHED] - gone + len(self.overflow)

    def void(self, up_to: int) -> None:
        """Leases up to this sequence number belonged to a process that is gone."""
        self._void_up_to = max(self._void_up_to, up_to)

    def wait_for_take(
        self,
        waiter: Waiter,
        pointless: Callable[[], bool],
        *,
        timeout_secs: float = ROOM_CHECK_SECS,
    ) -> None:
        """Waits until the reader takes a message, the edge is detached, or a short time has passed.

        Does not wait where `pointless()` is true; it is called once the reader knows that a publisher waits.
        """
        words = self._words.view
        words[WAITING] = 1
        try:
            # In this order. A reader that takes a message after `pointless` has looked must find WAITING set,
            # or it wakes no publisher. And wakes are dropped before that look, not after it, or the one that
            # this waits for could be among them.
            self._forget_wakes()
            if not pointless():
                waiter.wait_readable(self._tx.fileno(), min(timeout_secs, ROOM_CHECK_SECS))
        finally:
            # The engine is served in the wait and may have detached the edge: its page is then unmapped.
            if self.attached:
                words[WAITING] = 0
        if self.attached:
            self._forget_wakes()
            self.flush()

    def close(self) -> None:
        """Closes this process's copies of the descriptors. What is in the overflow counts as refused.

        Does nothing the second time: an edge that was detached is closed already, but its holder still
        knows it while its reader has messages.
        """
        self.attached = False
        if self._tx.fileno() < 0:
            return
        words = self._words.view
        words[REFUSED] += len(self.overflow)
        words[OVERFLOW] = 0
        self.overflow.clear()
        self._tx.close()
        self._rx.close()
        self._words.close()

    def _make_room(self, waiter: Waiter, arena: Arena) -> bool:
        """Waits or drops until fewer than `queue_size` are in line, or the edge is gone.

        False when the message has to be given up.
        """
        while self.attached and self._is_full():
            if self.drop_oldest:
                if not self.take_back_oldest(arena):
                    break
                self.flush()
            elif waiter.giving_up():
                return False
            else:
                self.wait_for_take(waiter, lambda: not self._is_full())
        return True

    def _is_full(self) -> bool:
        return self.in_line() >= self.queue_size

    def _gone(self) -> int:
        words = self._words.view
        return max(words[LAST_TAKEN], words[LAST_EVICTED])

    def _count_evicted(self, datagram: bytes, arena: Arena) -> None:
        words = self._words.view
        try:
            evicted = unpack_header(datagram)
        except EngineError:  # A malformed datagram, which no publisher sent; it has no number.
            return
        if evicted.sequence > words[LAST_PUSHED]:
            return
        # A mark counts if the message that it stands for did not leave before it. For other messages the
        # reader's word says nothing: it may have taken a later one since.
        if evicted.kind == MARK and evicted.sequence <= self._gone():
            return
        # The number before the count: `edge` reads the counts first, so what it finds in between is a message
        # that was not counted, which makes it look again, never one that was counted twice.
        words[LAST_EVICTED] = evicted.sequence
        words[EVICTED] += 1
        self._free_evicted_lease(evicted, arena)

    def _drop_from_overflow(self) -> bool:
        if not self.overflow:
            return False
        words = self._words.view
        dropped = self.overflow.popleft()
        words[OVERFLOW] = len(self.overflow)
        words[REFUSED] += 1
        if dropped.slot is not None:
            dropped.slot.leases.pop(self, None)
        return True

    def _free_evicted_lease(self, evicted: Header, arena: Arena) -> None:
        """Frees the slot of an evicted message; a message of an earlier generation is in another arena."""
        if evicted.kind not in (SLOT, SLOT_WITH_METADATA) or evicted.arena != arena.number:
            return
        if evicted.slot < len(arena.slots):
            leases = arena.slots[evicted.slot].leases
            if leases.get(self) == evicted.sequence:
                del leases[self]

    def _push(self, message: Outgoing) -> bool:
        words = self._words.view
        sequence = words[LAST_PUSHED] + 1
        slot = message.slot
        index = offset = 0
        if slot is not None:
            index, offset = slot.index, slot.offset
            slot.leases[self] = sequence
        header = pack_header(
            message.kind,
            message.type_code,
            index,
            message.metadata_size,
            sequence,
            message.stamp_nanos,
            message.payload_size,
            offset,
            message.arena,
        )
        try:
            self._tx.send(header + message.body)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            if slot is not None:
                slot.leases[self] = _IN_OVERFLOW
            return False
        # After the send: a number that was written before, and a kill, would count a message as queued that
        # never was. A reader that takes it before this store allows for one number more than it finds here.
        words[LAST_PUSHED] = sequence
        return True

    def _forget_wakes(self) -> None:
        try:
            while self._tx.recv(16):
                pass
        except BlockingIOError:
            pass


class Reservation:
    """Room in an output's memory for one message. Any thread may use it.

    Each `view` must be gone when it is published.
    """

    def __init__(self, output: Output, size: int, slot: Slot | None) -> None:
        self.size = size
        self.slot = slot
        """None where the message is small or no slot is free: then it is copied after all."""
        self.memory: npt.NDArray[np.uint8] = (
            np.zeros(size, np.uint8) if slot is None else output.arena.memory_of(slot, size)
        )
        self._output = output
        self._views: list[weakref.ref[npt.NDArray[np.uint8]]] = []
        """An array for each view, which lives as long as anything that was made of the view."""
        # Not `self`, which the slot's leases would keep alive, so that `__del__` never gave the slot back.
        self._hold = object()
        if slot is not None:
            slot.leases[self._hold] = _RESERVED

    def __del__(self) -> None:
        self.cancel()

    def view(self) -> memoryview:
        """The bytes, to be written; they may hold what an earlier message left."""
        array = self.memory[:]
        self._views.append(weakref.ref(array))
        if self.slot is not None:
            # A lease of its own: while the view is open, the slot is not used for another message, even if this
            # reservation is cancelled.
            hold = object()
            self.slot.leases[hold] = _RESERVED
            weakref.finalize(array, self.slot.leases.pop, hold, None)
        return memoryview(array)  # type: ignore[arg-type]

    def open_views(self) -> int:
        """How many views can still be written through."""
        return sum(array() is not None for array in self._views)

    def publish(self, metadata: Metadata | None) -> None:
        """Sends it. RuntimeError while a view is open."""
        if number := self.open_views():
            raise RuntimeError(
                f"Cannot send: {number} buffer view(s) are still open; release them (del, or a with "
                "statement), since readers would see what is written through them"
            )
        self._output.publish_reserved(self, metadata)

    def cancel(self) -> None:
        """Gives the room back, if it was not given back before."""
        # Without a lock: `__del__` calls it, at any moment, in a thread that may hold the output's lock.
        if self.slot is not None:
            self.slot.leases.pop(self._hold, None)


_Encoded = tuple[int, int, Any, bytes]
"""Type code, size, payload and metadata of a message; the payload may be a `Reservation`."""


class Output:
    """One output of a running operator: encodes, finds a slot, offers the message to every edge.

    `publish` may be called from any thread of the process. `warn(sentence)` is called where a value
    could be sent only by changing it.
    """

    def __init__(
        self, name: str, arena: Arena, *, waiter: Waiter, warn: Callable[[str], None]
    ) -> None:
        self.name = name
        self.arena = arena
        self.edges: list[OutEdge] = []
        self._waiter = waiter
        self._warn = warn
        self._made_in = generation()
        self._detached: list[OutEdge] = []
        self._last: Outgoing | None = None
        self._busy: collections.deque[Slot] = collections.deque()
        """The slots that some reader may still need, in the order in which they were filled."""
        self._free: list[Slot] = []
        self._ended = False
        self._filled = 0
        """How many messages have lain in slots."""
        self._to_send: collections.deque[_Encoded] = collections.deque()
        self._turn = _Turn(waiter, self._to_send, self._send)

    def publish(self, data: object, metadata: Metadata | None) -> bool:
        """Sends one message to every edge; blocks only on edges with the policy backpressure.

        The metadata of a numpy array of two or more dimensions gets its ``shape``.

        Returns False where the output has ended, so that nothing was sent. Called in the middle of itself, by
        a signal handler or a `__del__`, it sends after the message that is being sent.

        Raises `InvalidDataError` or `MetadataError`, and nothing was sent; EngineError in a forked copy of
        the process, and where the system has no memory left.
        """
        if self._made_in != len(forks):
            refuse_forked_copy(self._made_in, "send")
        type_code, size, payload = encode_value(data)
        metadata = metadata_with_shape(data, metadata)
        blob = b"" if metadata is None else encode_metadata(metadata, self._warn)
        if size + len(blob) > DATA_SIZE:
            raise InvalidDataError(
                f"it has {size + len(blob):,} bytes; one message carries at most {DATA_SIZE:,}"
            )
        turn = self._turn
        if not turn.begin():
            with turn:
                if not self._ended:
                    self._to_send.append((type_code, size, payload, blob))
            return not self._ended
        try:
            if self._ended:
                return False
            if size + len(blob) > INLINE_LIMIT:
                self._send((type_code, size, payload, blob))
                return True
            # As `_send` does it, in one function: see `Input.take`.
            if blob and asks_to_flush(blob):
                self._take_back_lines()
            body = b"".join((payload, blob))
            message = Outgoing(INLINE, type_code, time_nanos(), size, len(blob), body)
            self._last = message
            # A copy: an edge that waits for room serves the engine, which may add or take away others.
            for edge in self.edges[:]:
                edge.offer(message, self._waiter, self.arena)
            return True
        finally:
            turn.end()

    def publish_bytes(self, type_code: int, value: bytes, metadata: bytes) -> bool:
        """As `publish`, with what `as_bytes` has made, maybe in another process."""
        with self._turn:
            if not self._ended:
                self._to_send.append((type_code, len(value), value, metadata))
            return not self._ended

    def end(self) -> None:
        """Ends the output: another process is about to send in its place."""
        with self._turn:
            self._ended = True

    @property
    def is_held(self) -> bool:
        """Whether it has readers, or some that were taken away may still hold messages of it."""
        return bool(self.edges or self._detached)

    def reserve(self, size: int) -> Reservation:
        """Room for a message of so many bytes, to be written in place; it arrives as UInt8.

        Its owner publishes or cancels it. Blocks and raises as `publish`.
        """
        refuse_forked_copy(self._made_in, "send")
        if not 0 <= size <= DATA_SIZE:
            raise InvalidDataError(f"expected 0 to {DATA_SIZE:,} bytes, got {size:,}")
        slot = None
        with self._turn:
            if size > INLINE_LIMIT:
                slot = self._free_slot(size, over_newest=False)
            return Reservation(self, size, slot)

    def publish_reserved(self, reservation: Reservation, metadata: Metadata | None) -> None:
        """Sends what was written into a reservation, which is spent then."""
        blob = encode_metadata(metadata, self._warn)
        with self._turn:
            if self._ended:
                reservation.cancel()
            else:
                self._to_send.append((UINT8, reservation.size, reservation, blob))

    def attach(self, edge: OutEdge, *, replay_last: bool) -> None:
        """Adds an edge; with `replay_last` its reader gets the newest message at once, if there is one."""
        with self._turn:
            if not edge.attached:  # Detached while this waited for another thread's send.
                return
            # Before the first message: what the column's last reader gave back has numbers that this edge
            # will use too.
            self.arena.clear_column(edge.column)
            self.edges.append(edge)
            self._put_waiting_edges_last()
            if replay_last and self._last is not None:
                edge.offer(self._last, self._waiter, self.arena)

    def change_queue(self, edge: OutEdge, *, queue_size: int, drop_oldest: bool) -> None:
        """Gives an edge another queue. What is in line stays, unless the new queue drops it."""
        # Before the lock: its holder may be waiting for room that the new queue has.
        edge.set_queue(queue_size=queue_size, drop_oldest=drop_oldest)
        with self._turn:
            self._put_waiting_edges_last()
            while edge.attached and drop_oldest and edge.in_line() > queue_size:
                if not edge.take_back_oldest(self.arena):
                    break

    def detach(self, edge: OutEdge) -> None:
        """Takes an edge away and closes it.

        The slots of messages that its reader has not taken are free at once; those that it holds are free
        when it gives them back, or the engine voids its leases: see `released`.
        """
        edge.attached = False  # Before the lock: its holder may be waiting for this very reader.
        with self._turn:
            while edge.take_back_oldest(self.arena):
                pass
            if edge in self.edges:
                self.edges.remove(edge)
            edge.close()
            self._detached.append(edge)

    def _put_waiting_edges_last(self) -> None:
        # So that edges that may block do not hold back the messages of others.
        self.edges.sort(key=lambda each: not each.drop_oldest)

    def released(self) -> list[OutEdge]:
        """The detached edges whose readers hold nothing any more; each is named once."""
        with self._turn:
            for slot in self.arena.slots:
                self._forget_returned(slot)
            holding = {edge for slot in self.arena.slots for edge in list(slot.leases)}
            free = [edge for edge in self._detached if edge not in holding]
            self._detached = [edge for edge in self._detached if edge in holding]
        return free

    def flush(self) -> bool:
        """Moves overflow on; True while some is left."""
        # Where it is another thread's turn, that thread moves its overflow on by itself.
        if self._turn.take(ROOM_CHECK_SECS):
            try:
                for edge in self.edges:
                    if edge.overflow:
                        edge.flush()
            finally:
                self._turn.end()
        return any(edge.overflow for edge in list(self.edges))

    def close(self) -> None:
        """Closes every edge's descriptors and unmaps the arena."""
        for edge in self.edges:
            edge.close()
        self.edges.clear()
        self.arena.close()

    # -- one message -----------------------------------------------------------------------------------

    def _send(self, encoded: _Encoded) -> None:
        if encoded[-1] and asks_to_flush(encoded[-1]):
            self._take_back_lines()
        message = self._message(encoded)
        for edge in self.edges[:]:  # They may come and go while one of them waits for room.
            if message is not None:
                edge.offer(message, self._waiter, self.arena)
            elif edge.attached:
                edge.refuse()

    def _take_back_lines(self) -> None:
        """Drops everything that the readers have not taken yet."""
        for edge in self.edges:
            while edge.take_back_oldest(self.arena):
                pass

    def _message(self, encoded: _Encoded) -> Outgoing | None:
        """The message, its payload in a slot where it is large; None where no slot is free."""
        type_code, size, payload, blob = encoded
        stamp = time_nanos()
        if isinstance(payload, Reservation):
            if payload.slot is not None and len(blob) <= DATAGRAM_LIMIT - HEADER_SIZE:
                return self._message_in_place(payload, payload.slot, stamp, blob)
            message = self._message((type_code, size, payload.memory, blob))
            payload.cancel()
            return message
        if size + len(blob) <= INLINE_LIMIT:
            body = b"".join((payload, blob))
            message = Outgoing(INLINE, type_code, stamp, size, len(blob), body)
        else:
            beside = len(blob) <= DATAGRAM_LIMIT - HEADER_SIZE
            slot = self._free_slot(size if beside else size + len(blob), over_newest=True)
            if slot is None:
                return None
            self.arena.write(slot, payload, size, b"" if beside else blob)
            kind, body = (SLOT, blob) if beside else (SLOT_WITH_METADATA, b"")
            message = Outgoing(
                kind, type_code, stamp, size, len(blob), body, slot, self.arena.number
            )
        self._last = message
        return message

    def _message_in_place(
        self, reservation: Reservation, slot: Slot, stamp: int, blob: bytes
    ) -> Outgoing:
        size, number = reservation.size, self.arena.number
        self._last = Outgoing(SLOT, UINT8, stamp, size, len(blob), blob, slot, number)
        reservation.cancel()  # From here on the slot is the newest message's.
        return self._last

    # -- slots -----------------------------------------------------------------------------------------

    def _free_slot(self, size: int, *, over_newest: bool) -> Slot | None:
        """A free slot: one that was used last, else one made or moved, else one taken back.

        `over_newest` says that it is filled at once, so it may be that of the newest message, which is kept
        for readers that come later: a line whose readers keep up then needs one slot, which stays in the
        caches.

        None where every slot is held by readers with the policy drop_oldest, which a publisher never
        waits for.
        """
        self._filled += 1
        if not self._filled % UNUSED_MESSAGES:
            self._vacate_unused()
        while True:
            slot = (
                self._just_returned(size, over_newest=over_newest)
                or self._known_free(size)
                or self._swept(size, thorough=False)
                or self._swept(size, thorough=True)
                or self._soon_free(size)
                or self._made(size)
            )
            if slot is not None:
                self._busy.append(slot)
                slot.used_at = self._filled
                return slot
            if not self._drop_for_a_slot() and not self._wait_for_a_slot():
                return None

    def _vacate_unused(self) -> None:
        """Gives back the memory of slots that only a burst needed."""
        self._swept(DATA_SIZE, thorough=True)
        # A long line uses its slots in turn: each comes again after as many messages as there are slots.
        unused_from = self._filled - max(UNUSED_MESSAGES, 4 * len(self.arena.slots))
        for slot in self._free:
            if slot.used_at <= unused_from:
                self.arena.vacate(slot)

    def _just_returned(self, size: int, *, over_newest: bool) -> Slot | None:
        """The slot of one of the messages just sent: still in the caches."""
        busy = self._busy
        for at in (-1, -2, -3):
            if len(busy) < -at:
                break
            slot = busy[at]
            is_last = self._is_last(slot)
            if _fits(slot, size) and (over_newest or not is_last) and self._is_returned(slot):
                if is_last:
                    self._last = None
                del busy[at]
                return slot
        return None

    def _known_free(self, size: int) -> Slot | None:
        """The free slot that became free last."""
        for at in range(len(self._free) - 1, -1, -1):
            if _fits(self._free[at], size):
                return self._free.pop(at)
        return None

    def _swept(self, size: int, *, thorough: bool) -> Slot | None:
        """A free slot, after a look at the oldest ones; at all of them, if it is to be thorough."""
        kept: list[Slot] = []
        found = False
        while self._busy and (thorough or (len(kept) < _GLANCE and not (found and kept))):
            slot = self._busy.popleft()
            if self._is_free(slot):
                found = True
                self._free.append(slot)
            else:
                kept.append(slot)
        self._busy.extendleft(reversed(kept))
        return self._known_free(size)

    def _soon_free(self, size: int) -> Slot | None:
        """A slot that readers give back within the time that new memory would take, where all may be waited for.

        So a burst of large messages stays in memory that is in use already, as long as the readers keep up. A
        reader that does not read costs that time once for each slot that it makes necessary.
        """
        if (
            size < _WORTH_WAITING_FOR
            or len(self._busy) < _SLOTS_IN_TURN
            or self._waiter.giving_up()
        ):
            return None
        left_secs = size / _NEW_MEMORY_BYTES_PER_SEC
        deadline_secs = time.monotonic() + left_secs
        while left_secs > 0 and self.edges and not any(edge.drop_oldest for edge in self.edges):
            if not any(edge.in_line() for edge in self.edges):
                return None
            self._wait_for_longest(self.edges, timeout_secs=left_secs)
            slot = self._swept(size, thorough=True)
            if slot is not None:
                return slot
            left_secs = deadline_secs - time.monotonic()
        return None

    def _made(self, size: int) -> Slot | None:
        slot = self.arena.make_slot(size, free=self._free, in_line=self._slots_in_line())
        if slot in self._free:
            self._free.remove(slot)
        return slot

    def _is_free(self, slot: Slot) -> bool:
        return not self._is_last(slot) and self._is_returned(slot)

    def _is_returned(self, slot: Slot) -> bool:
        if slot.leases:
            self._forget_returned(slot)
        return not slot.leases

    def _is_last(self, slot: Slot) -> bool:
        """Whether it holds the newest message, which is kept for readers that come later."""
        return self._last is not None and self._last.slot is slot

    def _forget_returned(self, slot: Slot) -> None:
        for edge, sequence in list(slot.leases.items()):
            if isinstance(edge, OutEdge) and edge.has_returned(slot, sequence, self.arena):
                del slot.leases[edge]

    def _slots_in_line(self) -> list[Slot]:
        """The slots whose message some reader has yet to take, or may come to ask for."""
        return [
            slot
            for slot in self.arena.slots
            if self._is_last(slot) or any(edge.messages_up_to(slot) for edge in _leased_by(slot))
        ]

    def _drop_for_a_slot(self) -> bool:
        """Frees the slot that costs the fewest messages, by dropping what is in line up to it.

        Only a slot that no reader holds and no edge with backpressure needs is freed this way, so no
        message is dropped in vain.
        """
        costs = [
            (sum(edge.messages_up_to(slot) for edge in _leased_by(slot)), slot.index)
            for slot in self.arena.slots
            if slot.leases
            and not self._is_last(slot)
            and _RESERVED not in slot.leases.values()
            and all(e.drop_oldest and e.messages_up_to(slot) for e in _leased_by(slot))
        ]
        if not costs:
            return False
        _, index = min(costs)
        slot = self.arena.slots[index]
        for edge in _leased_by(slot):
            edge.drop_through(slot, self.arena)
        return True

    def _wait_for_a_slot(self) -> bool:
        """Waits for a reader with backpressure for a short time; False where there is none."""
        blocking = [edge for edge in self.edges if not edge.drop_oldest]
        if not blocking or self._waiter.giving_up():
            return False
        self._wait_for_longest(blocking, timeout_secs=ROOM_CHECK_SECS)
        return True

    def _wait_for_longest(self, edges: Iterable[OutEdge], *, timeout_secs: float) -> None:
        """Waits for a short time until the longest of these lines is shorter."""
        longest = max(edges, key=lambda edge: edge.in_line())
        taken_before = longest.in_line()
        longest.wait_for_take(
            self._waiter, lambda: longest.in_line() < taken_before, timeout_secs=timeout_secs
        )


def _fits(slot: Slot, size: int) -> bool:
    """Whether the slot has room for that, and not far more."""
    return max(size, 1) <= slot.capacity <= 4 * max(size, 1 << 16)


def _leased_by(slot: Slot) -> list[OutEdge]:
    # A copy: a garbage collection in between may end a reservation, which changes the dict.
    return [edge for edge in list(slot.leases) if isinstance(edge, OutEdge)]


class _Turn:
    """One thread's turn at an output. A thread that waits for its turn serves the engine meanwhile.

    The lock is reentrant: the engine's messages may come in the middle of a turn of the same thread, while
    that waits for room. What the thread itself sends then (in a signal handler, a `__del__`) goes at the
    end of its turn: a send must not begin between two statements of another one.
    """

    def __init__(
        self, waiter: Waiter, to_send: collections.deque[_Encoded], send: Callable[[_Encoded], None]
    ) -> None:
        self._waiter = waiter
        self._to_send = to_send
        self._send = send
        self._lock = threading.RLock()
        self._depth = 0

    def take(self, timeout_secs: float) -> bool:
        """Begins a turn, unless another thread's lasts longer."""
        if not self._lock.acquire(blocking=False) and not self._lock.acquire(timeout=timeout_secs):
            return False
        self._depth += 1
        return True

    def begin(self) -> bool:
        """Begins a turn in which nothing else is to be sent first; else False, and no turn has begun."""
        if not self._lock.acquire(blocking=False):
            return False
        # In the middle of this thread's own turn, or behind what waits to be sent: the caller has to queue up.
        if self._depth or self._to_send:
            self._lock.release()
            return False
        self._depth = 1
        return True

    def end(self) -> None:
        """Sends what is to be sent, and ends the turn."""
        self._depth -= 1
        try:
            while self._to_send and not self._depth:
                self._depth += 1
                try:
                    self._send(self._to_send.popleft())
                finally:
                    self._depth -= 1
        finally:
            self._lock.release()

    def __enter__(self) -> None:
        # The thread that has the turn may wait for room in an edge that only the engine's next message takes
        # away. If this is the thread that serves the engine, a wait for the lock alone would never end.
        while not self.take(ROOM_CHECK_SECS):
            self._waiter.wait_readable(-1, 0)

    def __exit__(self, *exc: object) -> None:
        self.end()
