"""The memory of one output: slots in a sparse anonymous file, and the table of what readers gave back.

An arena belongs to one output of one generation of an operator. Its file begins with the lease
table, a column of `MAX_SLOTS` words for each edge; word *s* of a column is the sequence number of the
last message in slot *s* that this reader gave back. A column is given to another edge only when the
publisher has seen every lease of the first one returned, so a late word frees nothing of another's.
Behind it lie the slots, in pages that exist only once they are touched.
"""

from __future__ import annotations

import contextlib
import mmap
import os

import numpy as np
import numpy.typing as npt

MAX_SLOTS = 256
MAX_COLUMNS = 4096
_TABLE_SIZE = MAX_COLUMNS * MAX_SLOTS * 8
DATA_SIZE = 1 << 34
"""16 GiB of addresses, not of memory: the file is sparse."""
MEMORY_BOUND = 512 << 20
"""Bytes of slots per output. At least `MIN_SLOTS` exist whatever they hold, so huge messages pass."""
MIN_SLOTS = 4
_SMALLEST_SLOT = 1 << 16
_LARGE_STEP = 1 << 20
_MADV_POPULATE_WRITE = 23
"""Linux 5.14; not named by Python's mmap. First touch of new memory costs up to 25 copies."""


def new_arena_memory() -> int:
    """A new arena's file; the caller owns the descriptor. Nothing has a name in any file system."""
    descriptor = os.memfd_create("dora-arena", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _TABLE_SIZE + DATA_SIZE)
    return descriptor


class Slot:
    """A place for one message. `leases` says which edges still need it, by sequence number."""

    __slots__ = ("capacity", "index", "leases", "offset")

    def __init__(self, index: int, offset: int, capacity: int) -> None:
        self.index = index
        self.offset = offset
        self.capacity = capacity
        self.leases: dict[object, int] = {}


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

    def write(self, slot: Slot, payload: object, size: int, metadata: bytes = b"") -> None:
        """Copies the payload, and behind it the metadata, into the slot."""
        begin = slot.offset
        source = np.frombuffer(payload, np.uint8, count=size)  # type: ignore[call-overload]
        np.copyto(self._data[begin : begin + size], source)
        if metadata:
            tail = begin + size
            self._data[tail : tail + len(metadata)] = np.frombuffer(metadata, np.uint8)

    def may_grow(self, size: int) -> bool:
        """Whether one more slot of that size keeps the output within its bound."""
        count = len(self.slots)
        if count >= MAX_SLOTS:
            return False
        used = sum(slot.capacity for slot in self.slots)
        return count < MIN_SLOTS or used + capacity_for(size) <= MEMORY_BOUND

    def add_slot(self, size: int) -> Slot:
        """A new slot for at least `size` bytes, its memory already there."""
        capacity = capacity_for(size)
        slot = Slot(len(self.slots), self._places.take(capacity), capacity)
        self.slots.append(slot)
        self._populate(slot)
        return slot

    def resize(self, slot: Slot, size: int) -> None:
        """Moves a free slot to a place for `size` bytes and gives the memory of the old one back."""
        self._map.madvise(mmap.MADV_REMOVE, _TABLE_SIZE + slot.offset, slot.capacity)
        self._places.give(slot.offset, slot.capacity)
        slot.capacity = capacity_for(size)
        slot.offset = self._places.take(slot.capacity)
        self._populate(slot)

    def clear_column(self, column: int) -> None:
        """Makes a column ready for an edge; whoever had it before holds nothing any more."""
        begin = column * MAX_SLOTS
        for at in range(begin, begin + MAX_SLOTS):
            if self.lease_words[at]:
                self.lease_words[at] = 0

    def close(self) -> None:
        """Unmaps the arena. Readers keep their own mappings."""
        self.lease_words.release()
        del self._data
        self._map.close()

    def _populate(self, slot: Slot) -> None:
        # An older kernel refuses the advice; the first write then touches the pages.
        with contextlib.suppress(OSError):
            self._map.madvise(_MADV_POPULATE_WRITE, _TABLE_SIZE + slot.offset, slot.capacity)


class ReaderArena:
    """A reader's mapping of an arena: the data read-only, its own column of the lease table writable.

    Arrays hold on to it through their leases, so it is unmapped when the last of them is gone.
    """

    def __init__(self, descriptor: int, column: int) -> None:
        table = mmap.mmap(descriptor, _TABLE_SIZE)
        begin = column * MAX_SLOTS
        self.lease_words = memoryview(table).cast("Q")[begin : begin + MAX_SLOTS]
        data = mmap.mmap(descriptor, DATA_SIZE, access=mmap.ACCESS_READ, offset=_TABLE_SIZE)
        _keep_out_of_core_dumps(data)
        self.data = memoryview(data)
        self.address = int(np.frombuffer(data, np.uint8).ctypes.data)


def capacity_for(size: int) -> int:
    """The room that a slot for `size` bytes gets: a power of two, above 4 MiB a whole number of MiB."""
    if size <= _SMALLEST_SLOT:
        return _SMALLEST_SLOT
    if size <= 4 * _LARGE_STEP:
        return 1 << (size - 1).bit_length()
    return -(-size // _LARGE_STEP) * _LARGE_STEP


class Places:
    """Which ranges of the data are taken: first fit, neighbours merged when they are given back."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size)]

    def take(self, size: int) -> int:
        """The offset of a free range, which is then taken. MemoryError where none is large enough."""
        for at, (offset, length) in enumerate(self._free):
            if length >= size:
                rest = [(offset + size, length - size)] if length > size else []
                self._free[at : at + 1] = rest
                return offset
        raise MemoryError(f"no room for a message of {size} bytes in an arena of {DATA_SIZE}")

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
