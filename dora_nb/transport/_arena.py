"""The memory of one output: slots in a sparse anonymous file, and the table of what readers gave back.

An arena belongs to one output of one generation of an operator. Its file begins with the lease
table, a column of `MAX_SLOTS` words for each edge; word *s* of a column is the sequence number of the
last message in slot *s* that this reader gave back. A column is given to another edge only when the
publisher has seen every lease of the first one returned, so a late word cannot free the slot of
another edge. Behind it lie the slots, in pages that exist only once they are touched.

How much memory an output may take has two bounds: `MEMORY_BOUND` for the messages in line, and for
what each reading process holds on to, `LEASE_LIMIT` messages or `LEASE_BOUND` bytes (one message, if
that is larger). What a reader holds never counts against the line, so it can never stop a publisher.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import EngineError

from ._forks import generation

MAX_SLOTS = 256
MAX_COLUMNS = 4096
_TABLE_SIZE = MAX_COLUMNS * MAX_SLOTS * 8
DATA_SIZE = 1 << 34
"""16 GiB of addresses, not of memory: the file is sparse."""
MEMORY_BOUND = 512 << 20
"""Bytes of slots in line. `MIN_SLOTS` messages may be in line however large they are."""
MIN_SLOTS = 4
LEASE_LIMIT = 8
LEASE_BOUND = 128 << 20
_SMALLEST_SLOT = 1 << 16
_LARGE_STEP = 1 << 20
_SMALL_COPY = 1 << 18
"""Up to this size the copy keeps the GIL, in one call: it is over before another thread could use it."""
_PARALLEL_COPY = 4 << 20
_COPYING_THREADS = 4
"""A copy of `_PARALLEL_COPY` bytes and more is shared by so many of Arrow's threads, where the process may
run on as many CPUs. One CPU does not reach the speed of the memory, and a few do; waking the threads
takes as long as a smaller copy."""
_MADV_POPULATE_WRITE = 23
"""Linux 5.14; not named by Python's mmap. First touch of new memory costs up to 25 copies."""


def copy_bytes(target: npt.NDArray[np.uint8], source: Any) -> None:
    """Copies what a buffer holds into memory of its size. Other Python threads run meanwhile."""
    if target.size >= _PARALLEL_COPY:
        threads = min(_COPYING_THREADS, len(os.sched_getaffinity(0)))
        if threads > 1:
            writer = pa.FixedSizeBufferWriter(pa.py_buffer(target.data))
            writer.set_memcopy_threads(threads)
            writer.write(source)
            return
    np.copyto(target, np.frombuffer(source, np.uint8))


def new_arena_memory() -> int:
    """A new arena's file; the caller owns the descriptor. It has no name in any file system."""
    # Anonymous, so that no crash can leave it behind; close-on-exec, so that no program that the user's code
    # starts keeps the memory.
    descriptor = os.memfd_create("dora-arena", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _TABLE_SIZE + DATA_SIZE)
    return descriptor


def given_back(descriptor: int, column: int, slot: int) -> int:
    """The number of the last message in that slot that the column's reader gave back."""
    # Not by a mapping: this is asked once, of a process that has died, and a mapping would have to be undone.
    at = 8 * (column * MAX_SLOTS + slot)
    return int.from_bytes(os.pread(descriptor, 8, at), sys.byteorder)


def read_data(descriptor: int, offset: int, size: int) -> bytes:
    """A copy of so many bytes behind the lease table."""
    return os.pread(descriptor, size, _TABLE_SIZE + offset)


class Slot:
    """A place for one message. `leases` says which edges still need it, by sequence number.

    With a capacity of 0 it has no room in the file.
    """

    __slots__ = ("capacity", "index", "leases", "offset", "used_at")

    def __init__(self, index: int) -> None:
        self.index = index
        self.offset = 0
        self.capacity = 0
        self.leases: dict[object, int] = {}
        self.used_at = 0
        """When it was filled last, as its output counts."""


class Arena:
    """The publisher's mapping of an arena: where slots are made and written."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self._map = mmap.mmap(descriptor, _TABLE_SIZE + DATA_SIZE)
        _keep_out_of_core_dumps(self._map)
        self.lease_words = memoryview(self._map)[:_TABLE_SIZE].cast("Q")
        self._data: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, offset=_TABLE_SIZE)
        self.slots: list[Slot] = []
        self._places = Places(DATA_SIZE)

    def write(self, slot: Slot, payload: Any, size: int, metadata: bytes = b"") -> None:
        """Copies the payload, and behind it the metadata, into the slot."""
        begin = slot.offset
        # A slice of the mapping, without an array of numpy's: two calls less for the commonest sizes.
        if size <= _SMALL_COPY and not metadata:
            begin += _TABLE_SIZE
            self._map[begin : begin + size] = payload
            return
        copy_bytes(self.memory_of(slot, size), payload)
        if metadata:
            tail = begin + size
            self._data[tail : tail + len(metadata)] = np.frombuffer(metadata, np.uint8)

    def memory_of(self, slot: Slot, size: int) -> npt.NDArray[np.uint8]:
        """The first bytes of the slot, to be written in place."""
        return self._data[slot.offset : slot.offset + size]

    def make_slot(self, size: int, *, free: Sequence[Slot], in_line: Sequence[Slot]) -> Slot | None:
        """A slot for `size` bytes whose memory is there already: a new one, or a free one that is moved.

        `free` are the slots that no edge needs, `in_line` those whose message some reader has not taken
        yet. None where the output is at its bound. EngineError where the system has no memory left.
        """
        capacity = capacity_for(size)
        standing = sum(slot.capacity for slot in in_line)
        if len(in_line) >= MIN_SLOTS and standing + capacity > MEMORY_BOUND:
            return None
        self._vacate_beyond(MEMORY_BOUND - standing - capacity, free)
        slot = self._without_place(free)
        if slot is None:
            return None
        if not self._settle(slot, capacity):
            self._vacate_beyond(0, free)  # Their ranges may split up the free room.
            if not self._settle(slot, capacity):
                return None
        if slot.index == len(self.slots):
            self.slots.append(slot)
        return slot

    def vacate(self, slot: Slot) -> None:
        """Gives the memory of a free slot back."""
        if slot.capacity:
            self._vacate(slot)

    def clear_column(self, column: int) -> None:
        """Makes a column ready for an edge; the edge that had it before holds nothing any more."""
        begin = column * MAX_SLOTS
        for at in range(begin, begin + MAX_SLOTS):
            if self.lease_words[at]:
                self.lease_words[at] = 0

    def close(self) -> None:
        """Unmaps the arena. Readers keep their own mappings."""
        # Every view before the map: it cannot be closed while one exists (BufferError).
        self.lease_words.release()
        del self._data
        self._map.close()

    def _vacate_beyond(self, kept: int, free: Sequence[Slot]) -> None:
        """Gives memory of free slots back, the largest first, until they hold at most `kept` bytes."""
        left = sum(slot.capacity for slot in free)
        for slot in sorted(free, key=lambda slot: slot.capacity, reverse=True):
            if left <= kept or not slot.capacity:
                return
            left -= slot.capacity
            self._vacate(slot)

    def _without_place(self, free: Sequence[Slot]) -> Slot | None:
        """A free slot without room in the file, or a new one; None where `MAX_SLOTS` are in use."""
        for slot in free:
            if not slot.capacity:
                return slot
        if len(self.slots) < MAX_SLOTS:
            return Slot(len(self.slots))
        for slot in free:
            self._vacate(slot)
            return slot
        return None

    def _vacate(self, slot: Slot) -> None:
        # A hole in the file, not MADV_DONTNEED, which would leave the pages there for the other mappings.
        self._map.madvise(mmap.MADV_REMOVE, _TABLE_SIZE + slot.offset, slot.capacity)
        self._places.give(slot.offset, slot.capacity)
        slot.capacity = 0

    def _settle(self, slot: Slot, capacity: int) -> bool:
        """Gives the slot room in the file and memory; False where the file has not enough room."""
        offset = self._places.take(capacity)
        if offset is None:
            return False
        try:
            self._populate(offset, capacity)
        except EngineError:
            self._places.give(offset, capacity)
            raise
        slot.offset, slot.capacity = offset, capacity
        return True

    def _populate(self, offset: int, capacity: int) -> None:
        # Here a lack of memory is an error with a message. At the first write to a page it would be a SIGBUS.
        try:
            self._map.madvise(_MADV_POPULATE_WRITE, _TABLE_SIZE + offset, capacity)
        except OSError as error:
            # An older kernel does not know the advice; the first write then touches the pages.
            if error.errno != errno.EINVAL:
                raise EngineError(
                    f"the system has no memory for a message of {capacity >> 10} KiB ({error.strerror}).",
                    hint="Send smaller messages, hold fewer, or give the machine more memory.",
                ) from error


class ReaderArena:
    """A process's mapping of an arena it reads: the data read-only, the lease table writable.

    All inputs of a process that read the same output share one (`of`), and so share the bound of
    what the process may hold. Arrays hold on to it through their leases, so it is unmapped when the
    last of them is gone.
    """

    def __init__(self, descriptor: int) -> None:
        # Two mappings, so that the data can be read-only: an operator that writes into a received array fails
        # (SIGSEGV at worst) and cannot change what other readers see.
        self.lease_words = memoryview(mmap.mmap(descriptor, _TABLE_SIZE)).cast("Q")
        data = mmap.mmap(descriptor, DATA_SIZE, access=mmap.ACCESS_READ, offset=_TABLE_SIZE)
        _keep_out_of_core_dumps(data)
        self.data = memoryview(data)
        self.address = int(np.frombuffer(data, np.uint8).ctypes.data)
        self.made_in = generation()
        self.held: dict[int, int] = {}
        """Bytes of each message that is held, by its lease word. Any thread may drop an array at any moment,
        even in a garbage collection, so each use of the dict is a single operation, and no lock is taken."""

    @classmethod
    def of(cls, descriptor: int) -> ReaderArena:
        """This process's mapping of that file, made if there is none yet. The descriptor is not kept."""
        # By the file, since each edge comes with a copy of the descriptor; and by the generation of the fork,
        # since a forked process must not use what its original holds.
        status = os.fstat(descriptor)
        key = (generation(), status.st_dev, status.st_ino)
        arena = _mapped.get(key)
        if arena is None:
            arena = _mapped[key] = cls(descriptor)
        return arena

    def may_hold(self, size: int) -> bool:
        """Whether one more message of that size keeps this process within its bounds."""
        # A copy in one operation: another thread may drop an array while this one adds up.
        held = list(self.held.values())
        return not held or (len(held) < LEASE_LIMIT and sum(held) + size <= LEASE_BOUND)


_mapped: weakref.WeakValueDictionary[tuple[int, int, int], ReaderArena] = (
    weakref.WeakValueDictionary()
)


def capacity_for(size: int) -> int:
    """The room that a slot for `size` bytes gets: a power of two, above 4 MiB a whole number of MiB."""
    if size <= _SMALLEST_SLOT:
        return _SMALLEST_SLOT
    if size <= 4 * _LARGE_STEP:
        return 1 << (size - 1).bit_length()
    return -(-size // _LARGE_STEP) * _LARGE_STEP


class Places:
    """Which ranges of the data are free: first fit, neighbours merged when they are given back."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size)]

    def take(self, size: int) -> int | None:
        """Takes a range and returns its offset; None where no free range is large enough."""
        for at, (offset, length) in enumerate(self._free):
            if length >= size:
                rest = [(offset + size, length - size)] if length > size else []
                self._free[at : at + 1] = rest
                return offset
        return None

    def give(self, offset: int, size: int) -> None:
        """Makes a range free again."""
        merged: list[tuple[int, int]] = []
        for begin, length in sorted([*self._free, (offset, size)]):
            if merged and sum(merged[-1]) == begin:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((begin, length))
        self._free = merged


def _keep_out_of_core_dumps(mapping: mmap.mmap) -> None:
    with contextlib.suppress(OSError):
        mapping.madvise(mmap.MADV_DONTDUMP)
