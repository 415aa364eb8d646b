"""The page of words of one edge: 64-bit counters in shared memory, each with exactly one writer.

An aligned 64-bit store is atomic on every platform this runs on, and Python's memoryview makes it in
one instruction. The publisher's words and the reader's lie on cache lines of their own.

A message that enters the socket has a number, and each number is counted once, by the side that
decides what becomes of it: `RECEIVED` or `MISSED` by the reader, `EVICTED` by the publisher, `LOST` by
the engine. A message that never enters the socket is `REFUSED` by the publisher or `LOST_UNSENT` by the
engine. So ``SENT - LAST_PUSHED`` is how many were given to the edge and have no number. A side announces
that it takes a message out of the socket before it does (`TAKING`, `EVICTING`). So a crash between two
writes cannot hide a message: the sum is one short, and `edge` finds out.

No barrier orders what the two sides do. A look that comes too early makes a line look longer than it
is; where one side waits for the other's word, it looks again after a short time (`ROOM_CHECK_SECS`).
"""

from __future__ import annotations

import mmap
import os

PAGE_SIZE = 4096

# Written by the reader (by the engine, while there is none).
LAST_TAKEN = 0
"""Number of the last message that the reader took."""
RECEIVED = 1
"""How many messages the reader took."""
TAKING = 2
"""One more than RECEIVED while the reader takes a message; else as much."""
MISSED = 3
"""How many messages the reader could not read, or got a mark in place of."""

# Written by the publisher (by the engine, while there is none).
SENT = 8
"""How many messages were given to this edge; written before anything is done with one."""
LAST_PUSHED = 9
"""Number of the last message put into the socket; written after the send."""
LAST_EVICTED = 10
"""Number of the last message that the publisher took back out of the socket."""
EVICTED = 11
"""How many messages the publisher took back out of the socket, and dropped."""
EVICTING = 12
"""One more than EVICTED while the publisher takes one back; else as much."""
REFUSED = 13
"""How many messages the publisher dropped before they entered the socket."""
OVERFLOW = 14
"""How many messages wait in the publisher's overflow, since the socket is full."""
WAITING = 15
"""1 while a publisher with the policy backpressure waits for room."""

# Written by the engine.
LOST = 16
"""How many messages a process took out of the socket, and died before it counted them."""
LOST_UNSENT = 17
"""How many messages were in the overflow of a publisher that died."""

# Written by the publisher; its own line is full.
SENT_BYTES = 24
"""Payload of all messages that were given to this edge; 0 from a publisher that does not count it."""


class Words:
    """A mapping of the page of one edge. `close` it; the descriptor is not kept."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, PAGE_SIZE)
        self.view = memoryview(self._map).cast("Q")

    def close(self) -> None:
        """Unmaps the page."""
        # The view before the map: it cannot be closed while one exists (BufferError).
        self.view.release()
        self._map.close()


def new_page() -> int:
    """A new page of words, all zero; the caller owns the descriptor."""
    descriptor = os.memfd_create("dora-words", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_SIZE)
    return descriptor
