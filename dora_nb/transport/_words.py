"""The page of words of one edge: 64-bit counters in shared memory, each with exactly one writer.

An aligned 64-bit store is atomic on every platform this runs on, and Python's memoryview makes it in
one instruction. The publisher's words and the reader's lie on cache lines of their own.
"""

from __future__ import annotations

import mmap
import os

PAGE_SIZE = 4096

# Written by the reader (by the engine, while there is none).
TAKEN = 0
"""Sequence number of the last message that the reader took."""
RECEIVED = 1
"""How many messages the reader took."""

# Written by the publisher.
SENT = 8
"""How many messages were given to this edge."""
PUSHED = 9
"""Sequence number of the last message put into the socket; written after the send."""
STOLEN = 10
"""Sequence number of the last message that was taken back out of the socket."""
DROPPED = 11
"""How many messages the publisher dropped."""
OVERFLOW = 12
"""How many messages stand in the publisher's own line, since the socket is full."""
WAITING = 13
"""1 while a publisher with the policy backpressure waits for room."""

# Written by the engine.
LOST = 16
"""How many messages went with a process that died, or were unread when their reader ended."""


class Words:
    """A mapping of the page of one edge. `close` it; the descriptor is not kept."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, PAGE_SIZE)
        self.view = memoryview(self._map).cast("Q")

    def close(self) -> None:
        self.view.release()
        self._map.close()


def new_page() -> int:
    """A new page of words, all zero; the caller owns the descriptor."""
    descriptor = os.memfd_create("dora-words", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_SIZE)
    return descriptor
