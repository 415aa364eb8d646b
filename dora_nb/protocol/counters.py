"""Counters of one operator process, and a histogram of how long its `on_event` takes.

The operator's process writes them into a page of shared memory as it goes; the kernel reads them
whenever somebody looks. No message is sent, and the last values survive a kill. Each word has one
writer: the process, but for `CONTROL_SENT`, which is the kernel's.
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
"""What the event that is running came by: 0 for neither, `OF_A_TIMER` and the length of the timer's name
in `OperatorCounters.hand`, or an edge's number and one, whose datagram lies there."""
OF_A_TIMER = 1 << 63
CONTROL_SENT = 5
"""How many control messages the kernel has sent after `Begin`. A process that has served fewer looks at its
control socket before it handles a message: so it learns of a new reader before it answers what was sent to
it afterwards. The kernel writes it after the send, or what a process sees of it might not be there yet; one
that still waits in the kernel counts too, see `ControlSocket`."""
_FIRST_BUCKET = 8
_SHORTEST_BITS = 11
"""Of 1,024 ns, where the first octave begins."""
_BITS_PER_OCTAVE = 4
BUCKETS = 448
"""Each octave from 1 µs in 16 equal parts: a quantile is within 3 %, up to 274 s. By its bits alone, since
this is done for each event, and a logarithm would be one more piece of cold code."""
_PAGE_SIZE = 4096
HAND_SIZE = 8192
"""Bytes for the datagram in hand, which no message exceeds (`transport._wire.DATAGRAM_LIMIT`)."""


class OperatorCounters:
    """The memory of one process. The process writes, the kernel reads; `close` ends either's mapping."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _PAGE_SIZE + HAND_SIZE)
        self._whole = memoryview(self._map)
        self.words = self._whole[:_PAGE_SIZE].cast("Q")
        self.hand = self._whole[_PAGE_SIZE:]
        """Where the datagram of the event in hand lies, so that it outlives a process that is killed."""

    def record_duration(self, nanos: int) -> None:
        """Counts one call of `on_event` that took that long."""
        self.words[_FIRST_BUCKET + bucket_of(nanos)] += 1

    def durations(self) -> list[int]:
        """The counts of the histogram, to be added up over generations."""
        return list(self.words[_FIRST_BUCKET : _FIRST_BUCKET + BUCKETS])

    def close(self) -> None:
        """Unmaps the page."""
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
