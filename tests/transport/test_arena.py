"""The memory of an output: which ranges are taken, what a slot costs, what a column remembers."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from transport_rig import LARGE, Rig

from dora_nb.transport import Arena, new_arena_memory
from dora_nb.transport._arena import (
    _PARALLEL_COPY,
    LEASE_BOUND,
    LEASE_LIMIT,
    MAX_SLOTS,
    Places,
    ReaderArena,
    Slot,
    capacity_for,
    copy_bytes,
)

ROOM = 1000


class PlacesMachine(RuleBasedStateMachine):
    """Ranges are taken and given back in any order."""

    ranges: Bundle[tuple[int, int]] = Bundle("ranges")

    def __init__(self) -> None:
        super().__init__()
        self.places = Places(ROOM)
        self.taken: list[tuple[int, int]] = []

    @rule(target=ranges, size=st.integers(1, 300))
    def take(self, size: int) -> tuple[int, int]:
        offset = self.places.take(size)
        if offset is None:
            assert not any(length >= size for _, length in self._gaps())
            return (0, 0)
        assert offset >= 0
        assert offset + size <= ROOM
        assert not any(offset < o + s and o < offset + size for o, s in self.taken), "overlap"
        self.taken.append((offset, size))
        return (offset, size)

    @rule(given_back=consumes(ranges))
    def give(self, given_back: tuple[int, int]) -> None:
        if given_back[1]:
            self.taken.remove(given_back)
            self.places.give(*given_back)

    @invariant()
    def free_ranges_are_the_gaps_and_merged(self) -> None:
        """So a range that fits between two taken ones is always found."""
        assert self.places._free == self._gaps()

    def _gaps(self) -> list[tuple[int, int]]:
        gaps, end = [], 0
        for offset, size in [*sorted(self.taken), (ROOM, 0)]:
            if offset > end:
                gaps.append((end, offset - end))
            end = offset + size
        return gaps


TestPlaces = PlacesMachine.TestCase


@given(st.integers(1, 1 << 33))
def test_a_slot_has_room_and_wastes_less_than_half(size: int) -> None:
    capacity = capacity_for(size)
    assert capacity >= size
    assert capacity % 4096 == 0
    assert capacity <= max(1 << 16, 2 * size)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = new_arena_memory()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def arena(memory: int) -> Iterator[Arena]:
    arena = Arena(1, memory)
    yield arena
    arena.close()


def _resident_bytes(memory: int) -> int:
    return os.stat(memory).st_blocks * 512


def test_an_arena_costs_nothing_before_its_first_slot(memory: int, arena: Arena) -> None:
    assert _resident_bytes(memory) == 0


def test_a_slots_memory_is_there_before_it_is_written(memory: int, arena: Arena) -> None:
    """To touch a page for the first time costs many times what it costs to write to it."""
    arena.make_slot(1 << 20, free=[], in_line=[])
    assert _resident_bytes(memory) == 1 << 20


def test_a_slot_that_moves_gives_its_memory_back(memory: int, arena: Arena) -> None:
    slots = [arena.make_slot(1 << 16, free=[], in_line=[]) for _ in range(MAX_SLOTS)]
    assert None not in slots
    before = _resident_bytes(memory)
    moved = arena.make_slot(1 << 20, free=[slots[7]], in_line=[])
    assert moved is slots[7]
    assert _resident_bytes(memory) == before - (1 << 16) + (1 << 20)
    assert arena.make_slot(1 << 16, free=[], in_line=[]) is None


def test_slots_never_overlap(arena: Arena) -> None:
    slots: list[Slot] = []
    for size in (100, 1 << 20, 5 << 20, 70_000, 1 << 16) * 5:
        slot = arena.make_slot(size, free=slots[::3], in_line=[])
        assert slot is not None
        slots = [*(each for each in slots if each is not slot), slot]
        ranges = sorted((each.offset, each.offset + each.capacity) for each in slots)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ranges))


def test_a_size_that_no_longer_has_a_place_is_not_served(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena, "_places", Places(3 << 16))
    first, *_ = [arena.make_slot(1 << 16, free=[], in_line=[]) for _ in range(3)]
    assert first is not None
    assert arena.make_slot(1 << 16, free=[], in_line=[]) is None
    assert arena.make_slot(1 << 16, free=[first], in_line=[]) is not None


@pytest.mark.parametrize("cpus", [1, 2, 64])
@pytest.mark.parametrize("size", [_PARALLEL_COPY - 1, _PARALLEL_COPY, 2 * _PARALLEL_COPY + 4097])
def test_a_copy_is_whole_and_no_more_with_several_readers(
    cpus: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    source = np.random.default_rng(size).integers(1, 256, size, np.uint8)
    memory = np.zeros(size + 130, np.uint8)
    kinds = (bytes(source), memoryview(source), source, pa.py_buffer(source))
    for begin, kind in enumerate(kinds, 61):  # Aligned to nothing.
        memory[:] = 0
        copy_bytes(memory[begin : begin + size], kind)
        assert np.array_equal(memory[begin : begin + size], source)
        assert not memory[:begin].any()
        assert not memory[begin + size :].any()


def test_a_large_copy_is_shared_by_threads_where_there_are_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_by: list[int] = []

    class Writer(pa.FixedSizeBufferWriter):
        def set_memcopy_threads(self, number: int) -> None:
            shared_by.append(number)
            super().set_memcopy_threads(number)

    monkeypatch.setattr(pa, "FixedSizeBufferWriter", Writer)
    target, source = np.zeros(_PARALLEL_COPY, np.uint8), np.ones(_PARALLEL_COPY, np.uint8)
    for cpus in (1, 2, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cpus=cpus: set(range(cpus)))
        copy_bytes(target, source)
    copy_bytes(target[1:], source[1:])
    assert shared_by == [2, 4]


def test_a_column_is_cleared_when_it_is_given_to_an_edge(rig: Rig) -> None:
    """Or what the edge before gave back would free the first messages of this one."""
    first = rig.connect(column=1)
    rig.send(1, LARGE)
    first.take()
    rig.output.detach(first.out)
    assert rig.output.released() == [first.out]
    second = rig.connect(column=1)
    assert set(rig.arena.lease_words[MAX_SLOTS : 2 * MAX_SLOTS]) == {0}
    rig.send(2, LARGE)
    rig.send(3, LARGE)
    assert rig.leased() == 2
    assert second.take_all() == [2, 3]


def test_a_column_is_released_only_when_its_reader_holds_nothing(rig: Rig) -> None:
    link = rig.connect()
    rig.send(1, LARGE)
    held = link.take()
    rig.output.detach(link.out)
    assert rig.output.released() == []
    del held
    assert rig.output.released() == [link.out]
    assert rig.output.released() == []


def test_the_newest_message_does_not_keep_the_columns_of_its_readers(rig: Rig) -> None:
    """It is kept for those that come later; a reader that had it and left is free all the same."""
    rig.send(1, LARGE)
    for _ in range(5):
        link = rig.connect(replay_last=True)
        assert link.take_number() == 1
        rig.output.detach(link.out)
        assert rig.output.released() == [link.out]


def test_one_mapping_of_an_arena_serves_all_inputs_of_a_process(memory: int) -> None:
    first = ReaderArena.of(memory)
    copy = os.dup(memory)
    assert ReaderArena.of(copy) is first
    os.close(copy)
    gone = weakref.ref(first)
    del first
    assert gone() is None


@pytest.mark.parametrize(
    ("held", "size", "may"),
    [
        ([], 10 * LEASE_BOUND, True),
        ([10], LEASE_BOUND - 10, True),
        ([10], LEASE_BOUND - 9, False),
        ([10] * (LEASE_LIMIT - 1), 10, True),
        ([10] * LEASE_LIMIT, 10, False),
        ([10 * LEASE_BOUND], 1, False),
    ],
)
def test_what_a_process_may_hold(memory: int, held: list[int], size: int, may: bool) -> None:
    arena = ReaderArena.of(memory)
    arena.held.update(enumerate(held))
    assert arena.may_hold(size) is may
