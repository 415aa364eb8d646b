"""Counters of one operator process, and a histogram of how long its `on_event` takes.

The operator's process writes them into a page of shared memory; the kernel reads them when a status is
asked for. No message is sent, and the last values survive a kill. Each word has one writer, so no lock is
needed: the kernel writes `CONTROL_SENT`, the process all others.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Sequence

EVENTS = 0
MISSED_TICKS = 1
UNDECLARED_OUTPUTS = 2
BUSY_SINCE_NANOS = 3
"""Monotonic clock at the beginning of the `on_event` that is running; 0 while none is."""
HANDLING = 4
"""Where the event that is running came from: an edge's number plus one, whose datagram is in
`OperatorCounters.hand`; or `OF_A_TIMER` plus the length of the timer's name, which is there; or 0."""
OF_A_TIMER = 1 << 63
CONTROL_SENT = 5
"""How many control messages the kernel has sent after `Begin`, those in its own outbox included. A process
that has done fewer serves its control socket before it handles a message. So it knows a new reader before
it answers a message that was sent afterwards."""
# The kernel writes it after the send. If it did so before, a process that sees the new value could find its
# socket still empty, and would handle a message first that was sent behind the control message.
_FIRST_BUCKET = 8
_SHORTEST_BITS = 11
"""The bits of 1,024 ns, where the first octave begins."""
_BITS_PER_OCTAVE = 4
BUCKETS = 448
"""Each octave from 1 µs in 16 equal parts: a quantile is within 3 %, up to 274 s."""
_PAGE_SIZE = 4096
HAND_SIZE = 8192
"""Room for the datagram of one event (`transport._wire.DATAGRAM_LIMIT`)."""


class OperatorCounters:
    """The counters of one process, which writes them, as a mapping that each side has of its own."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _PAGE_SIZE + HAND_SIZE)
        self._whole = memoryview(self._map)
        self.words = self._whole[:_PAGE_SIZE].cast("Q")
        self.hand = self._whole[_PAGE_SIZE:]
        """The datagram of the event that is running: the kernel reads it after the process was killed."""

    def record_duration(self, nanos: int) -> None:
        """Counts one call of `on_event` that took that long."""
        self.words[_FIRST_BUCKET + bucket_of(nanos)] += 1

    def durations(self) -> list[int]:
        """The counts of the histogram, to be added up over generations."""
        return list(self.words[_FIRST_BUCKET : _FIRST_BUCKET + BUCKETS])

    def close(self) -> None:
        """Unmaps the page."""
        # Every view before the map: it cannot be closed while one exists (BufferError).
        self.words.release()
        self.hand.release()
        self._whole.release()
        self._map.close()


def new_counters_page() -> int:
    """A page of counters, all zero; the caller owns the descriptor."""
    descriptor = os.memfd_create("dora-counters", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _PAGE_SIZE + HAND_SIZE)
    return descriptor


def bucket_of(nanos: int) -> int:
    """The histogram's bucket for a duration."""
    # By the number's bits alone: this is done for each event, and a logarithm would be one more piece of code
    # that has left the caches by then.
    bits = nanos.bit_length()
    if bits < _SHORTEST_BITS:
        return 0
    octave, part = bits - _SHORTEST_BITS, nanos >> (bits - 1 - _BITS_PER_OCTAVE)
    bucket = (octave << _BITS_PER_OCTAVE) + part - (1 << _BITS_PER_OCTAVE)
    return bucket if bucket < BUCKETS else BUCKETS - 1


def quantile_secs(counts: Sequence[int], fraction: float) -> float | None:
    """The duration below which that fraction of the calls stayed; None before the first call.

    It is the middle of its bucket.
    """
    total = sum(counts)
    if total == 0:
        return None
    reached = itertools.accumulate(counts)
    bucket = next(at for at, seen in enumerate(reached) if seen >= fraction * total)
    octave, part = divmod(bucket, 1 << _BITS_PER_OCTAVE)
    octave_secs = 1e-9 * (1 << (octave + _SHORTEST_BITS - 1))
    return octave_secs * (1 + (part + 0.5) / (1 << _BITS_PER_OCTAVE))
