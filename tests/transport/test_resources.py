"""Nothing grows: no descriptor, mapping, slot, column or Python object, however long it goes on."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transport_peer import PeerHandle
from transport_rig import LARGE, VGA, Rig

from dora_nb.errors import EngineError
from dora_nb.transport import new_arena_memory
from dora_nb.transport._publisher import UNUSED_MESSAGES
from dora_nb.transport.edge import Edge

MIXED = (8, 3000, LARGE, VGA)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:")


def _resident_bytes(memory: int) -> int:
    return os.stat(memory).st_blocks * 512


@pytest.mark.parametrize("queue_size", [1, 20])
def test_a_thousand_messages_leave_nothing_behind(rig: Rig, queue_size: int) -> None:
    link = rig.connect(queue_size=queue_size)

    def send_and_take(count: int) -> None:
        for number in range(count):
            rig.output.publish(b"x" * MIXED[number % 4], {"n": number, "text": "x" * 50})
            if number % 3 == 0:
                link.reader.take()

    send_and_take(200)
    gc.collect()
    before = (_descriptors(), _mappings(), _resident_bytes(rig.memories[1]), len(rig.slots()))
    blocks = sys.getallocatedblocks()
    send_and_take(1000)
    gc.collect()
    after = (_descriptors(), _mappings(), _resident_bytes(rig.memories[1]), len(rig.slots()))
    assert after == before
    assert sys.getallocatedblocks() - blocks < 200


def test_edges_that_come_and_go_leave_nothing_behind(rig: Rig) -> None:
    """As each call of `latest` in a notebook makes one."""

    def come_and_go(count: int) -> None:
        for _ in range(count):
            edge = Edge(3)
            out, reader = rig.publisher_end(edge), rig.reader_end(edge)
            rig.output.attach(out, replay_last=True)
            assert reader.take() is not None
            rig.output.detach(out)
            reader.close()
            edge.close()
            assert rig.output.released() == [out], "its column can never be used again"

    rig.send(1, LARGE)
    come_and_go(10)
    gc.collect()
    before = (_descriptors(), _mappings(), len(rig.slots()))
    blocks = sys.getallocatedblocks()
    come_and_go(500)
    gc.collect()
    assert (_descriptors(), _mappings(), len(rig.slots())) == before
    assert sys.getallocatedblocks() - blocks < 200


def test_generations_of_a_publisher_leave_nothing_in_its_reader(
    rig: Rig, peers: Callable[[], PeerHandle]
) -> None:
    """Each has an arena of its own; Python's mmap keeps a descriptor of each, too."""
    reader = peers()
    edge = rig.edge()
    edge_id = edge.edge_id
    reader.ask("read", *edge.reader_descriptors(), edge_id=edge_id)

    def replace(first: int, count: int) -> None:
        for number in range(first, first + count):
            memory = new_arena_memory()
            reader.ask("arena", memory, edge_id=edge_id, number=number, column=0)
            os.close(memory)
            reader.ask("retire", edge_id=edge_id, number=number)

    replace(1, 5)
    before = reader.ask("descriptors_and_mappings")
    replace(6, 1000)
    assert reader.ask("descriptors_and_mappings") == before


def test_an_edge_closes_all_that_it_opened() -> None:
    before = (_descriptors(), _mappings())
    edges = [Edge(number) for number in range(10)]
    assert _descriptors() > before[0]
    for edge in edges:
        edge.close()
    assert (_descriptors(), _mappings()) == before


@pytest.fixture
def descriptors_left() -> Iterator[Callable[[int], None]]:
    """Lowers the limit of open files so that this many more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare: list[int] = []

    def leave(count: int) -> None:
        # The limit is on the highest number, so the gaps below it are filled first.
        spare.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(200))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
        for _ in range(count):
            os.close(spare.pop())

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for descriptor in spare:
        os.close(descriptor)


@pytest.mark.parametrize("left", range(4))
def test_an_edge_without_descriptors_is_an_error_in_words(
    descriptors_left: Callable[[int], None], left: int
) -> None:
    """An edge takes four: its page, the page's mapping, and both ends."""
    descriptors_left(left)
    with pytest.raises(EngineError) as caught:  # Which keeps alive what its frames refer to.
        Edge(1)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(left)]
    for descriptor in taken:
        os.close(descriptor)
    assert "Too many open files" in str(caught.value)
    assert "ulimit -n" in str(caught.value)


@pytest.mark.parametrize("size", [40_000_000, 200_000_000])
def test_large_messages_travel(rig: Rig, size: int) -> None:
    link = rig.connect()
    for number in range(2):
        rig.send(number, size)
        assert link.take_number() == number


def test_no_message_lies_where_shared_memory_has_a_limit(rig: Rig) -> None:
    """A container gives /dev/shm 64 MB; what is mapped from there ends the process when it is full."""
    assert os.fstat(rig.memories[1]).st_dev != Path("/dev/shm").stat().st_dev


def test_memory_comes_back_after_a_burst(rig: Rig) -> None:
    link = rig.connect(queue_size=40)
    rig.send_all(range(40), VGA)
    assert len(link.take_all()) == 40
    at_the_height = _resident_bytes(rig.memories[1])
    for number in range(3 * UNUSED_MESSAGES):
        rig.send(number, VGA)
        link.take()
    assert _resident_bytes(rig.memories[1]) < at_the_height / 8


def test_bursts_that_come_again_find_their_memory_warm(rig: Rig) -> None:
    link = rig.connect(queue_size=40)
    offsets = set()
    for _ in range(3 * UNUSED_MESSAGES // 50):
        rig.send_all(range(40), VGA)
        link.take_all()
        offsets.add(tuple(sorted(slot.offset for slot in rig.slots())))
    assert len(offsets) == 1
    assert all(slot.capacity for slot in rig.slots())


def test_a_long_line_does_not_lose_the_memory_of_its_slots(rig: Rig) -> None:
    """It uses them in turn, and each comes again only after all the others."""
    link = rig.connect(queue_size=200)
    rig.send_all(range(200), LARGE)
    capacities = [slot.capacity for slot in rig.slots()]
    places = [slot.offset for slot in rig.slots()]
    for number in range(6 * UNUSED_MESSAGES):
        link.take()
        rig.send(number, LARGE)
    assert [slot.capacity for slot in rig.slots()][:200] == capacities
    assert [slot.offset for slot in rig.slots()][:200] == places
