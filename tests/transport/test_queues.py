"""Both policies: what is kept, what is dropped, who waits, and what ends the wait."""

from __future__ import annotations

import errno
import itertools
import mmap
import select
import threading
from collections.abc import Callable

import pytest
from transport_rig import (
    LARGE,
    Impatient,
    Link,
    Patient,
    Rig,
    Scripted,
    number_of,
    numbered,
    rig_with,
)

from dora_nb.errors import EngineError
from dora_nb.transport import _arena, as_bytes, edge
from dora_nb.transport._arena import MIN_SLOTS, Slot

SIZES = pytest.mark.parametrize("size", [8, LARGE], ids=["inline", "in slots"])


# -- drop_oldest -------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("queue_size", [1, 2, 10, 60])
def test_drop_oldest_keeps_the_newest_in_order(rig: Rig, queue_size: int, size: int) -> None:
    link = rig.connect(queue_size=queue_size)
    rig.send_all(range(100), size)
    counts = link.edge.counts()
    assert (counts.sent, counts.queued, counts.dropped) == (100, queue_size, 100 - queue_size)
    assert link.take_all() == list(range(100 - queue_size, 100))
    assert link.counts_add_up()


def test_a_reader_that_keeps_up_loses_nothing(rig: Rig) -> None:
    link = rig.connect(queue_size=1)
    for number in range(100):
        rig.send(number)
        assert link.take_number() == number
    assert link.edge.counts().dropped == 0


@SIZES
def test_each_reader_has_a_line_of_its_own(rig: Rig, size: int) -> None:
    short, long = rig.connect(queue_size=2), rig.connect(queue_size=20)
    rig.send_all(range(10), size)
    assert short.take_all() == [8, 9]
    assert long.take_all() == list(range(10))


def test_without_readers_nothing_is_kept_but_the_newest(rig: Rig) -> None:
    rig.send_all(range(50), LARGE)
    assert len(rig.slots()) == 1
    assert rig.connect(replay_last=True).take_all() == [49]


# -- another queue ------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("drop_oldest", [True, False])
def test_what_is_in_line_stays_in_a_longer_queue(rig: Rig, size: int, drop_oldest: bool) -> None:
    link = rig.connect(queue_size=3)
    link.tiny_socket()  # Some stand in the publisher's own line.
    rig.send_all(range(3), size)
    rig.output.change_queue(link.out, queue_size=5, drop_oldest=drop_oldest)
    rig.send_all(range(3, 5), size)
    rig.output.flush()
    assert link.take_all() == list(range(5))
    assert link.edge.counts().dropped == 0


@SIZES
def test_a_shorter_queue_keeps_the_newest_at_once(rig: Rig, size: int) -> None:
    link = rig.connect(queue_size=10)
    rig.send_all(range(5), size)
    rig.output.change_queue(link.out, queue_size=2, drop_oldest=True)
    counts = link.edge.counts()
    assert (counts.sent, counts.queued, counts.dropped) == (5, 2, 3)
    assert link.take_all() == [3, 4]
    assert link.counts_add_up()


def test_a_shorter_queue_that_makes_its_source_wait_drops_nothing() -> None:
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=10)
        rig.send_all(range(3))
        rig.output.change_queue(link.out, queue_size=2, drop_oldest=False)
        taken: list[int] = []
        waiter.steps = [lambda: taken.append(link.take_number())] * 2
        rig.send(3)
        assert waiter.steps == []
        assert taken + link.take_all() == list(range(4))


def test_a_source_that_waits_for_room_goes_on_in_the_new_queue() -> None:
    """The engine says so to another thread than the one that waits, which holds the output's turn."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)
        waiter.steps = [lambda: link.out.set_queue(queue_size=1, drop_oldest=True)]
        rig.send_all(range(3))
        assert waiter.steps == []
        assert link.take_all() == [2]


def test_a_queue_that_makes_its_source_wait_comes_after_the_others(rig: Rig) -> None:
    first, second = rig.connect(), rig.connect()
    rig.output.change_queue(first.out, queue_size=10, drop_oldest=False)
    assert rig.output.edges == [second.out, first.out]


# -- flush -------------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("drop_oldest", [True, False])
def test_flush_drops_what_stands_in_line(rig: Rig, size: int, drop_oldest: bool) -> None:
    link = rig.connect(queue_size=10, drop_oldest=drop_oldest)
    link.tiny_socket()  # Some stand in the publisher's own line.
    rig.send_all(range(5), size)
    assert link.take_number() == 0
    rig.output.publish(numbered(5, size), {"flush": True})
    rig.send(6, size)
    rig.output.flush()
    assert link.take_number() == 5
    rig.output.flush()
    assert link.take_all() == [6]
    assert link.edge.counts().dropped == 4
    assert link.counts_add_up()
    assert rig.leased() == 0


def test_flush_of_a_message_from_elsewhere(rig: Rig) -> None:
    """The kernel gives a node what it is to send, encoded."""
    link = rig.connect()
    rig.send_all(range(5))
    code, _, value, metadata = as_bytes(numbered(5), {"flush": True})
    rig.output.publish_bytes(code, bytes(value), metadata)
    assert link.take_all() == [5]


@pytest.mark.parametrize(
    "metadata",
    [{"flush": False}, {"flush": 1}, {"flush": "true"}, {"é": "åflushé"}, {"a": "flush"}],
)
def test_nothing_else_flushes(rig: Rig, metadata: dict[str, object]) -> None:
    link = rig.connect()
    rig.send_all(range(2))
    rig.output.publish(numbered(2), metadata)
    assert link.take_all() == [0, 1, 2]


# -- backpressure ------------------------------------------------------------------------------------


def test_backpressure_waits_for_room_and_wakes_when_the_reader_takes() -> None:
    """The wait is for the edge's own socket, and what makes it readable is the reader's take."""
    taken: list[int] = []
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=3, drop_oldest=False)

        def reader_takes() -> None:
            descriptor = waiter.waited_on[-1]
            assert descriptor == link.out.fileno()
            assert not _readable(descriptor), "the publisher was woken before there is room"
            taken.append(link.take_number())
            assert _readable(descriptor), "the publisher sleeps on although there is room"

        waiter.steps = [reader_takes] * 7
        rig.send_all(range(10))
        assert waiter.steps == []
        assert taken + link.take_all() == list(range(10))
        counts = link.edge.counts()
        assert (counts.sent, counts.received, counts.dropped) == (10, 10, 0)


def test_what_was_taken_before_the_wait_wakes_nobody() -> None:
    """An old wake-up left in the socket would turn the wait into a spin."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=2, drop_oldest=False)
        link.edge.rx.send(b"\0")

        def reader_takes() -> None:
            assert not _readable(waiter.waited_on[-1])
            link.take()

        waiter.steps = [reader_takes]
        rig.send_all(range(3))


def test_room_that_appears_just_before_the_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader takes between the publisher's look and its word WAITING: nobody would wake it."""
    with rig_with(Impatient()) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)
        rig.send(0)
        forget = link.out._forget_wakes

        def take_then_forget() -> None:
            link.reader.take()
            forget()

        monkeypatch.setattr(link.out, "_forget_wakes", take_then_forget)
        rig.send(1)
        assert link.edge.counts().sent == 2


def test_backpressure_never_exceeds_its_queue() -> None:
    """The reader is another thread, and takes as quickly as it can."""
    with rig_with(Patient()) as rig:
        link = rig.connect(queue_size=5, drop_oldest=False)
        deepest = 0
        offer = link.out.offer

        def observed(*args: object) -> None:
            nonlocal deepest
            offer(*args)  # type: ignore[arg-type]
            deepest = max(deepest, link.out.in_line())

        link.out.offer = observed  # type: ignore[method-assign]
        received = _take_in_a_thread(link, until=2999)
        for number in range(3000):
            rig.send(number, LARGE if number % 7 == 0 else 8)
        assert received() == list(range(3000))
        assert deepest <= 5
        assert link.edge.counts().dropped == 0


def test_a_publisher_gives_up_when_it_is_told_to_stop() -> None:
    waiter = Scripted()
    waiter.steps = [waiter.stop]
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)
        rig.send_all(range(3))
        assert waiter.steps == []
        assert link.take_all() == [0]
        counts = link.edge.counts()
        assert (counts.sent, counts.received, counts.dropped) == (3, 1, 2)


def test_a_message_that_waits_is_not_counted_as_sent() -> None:
    """Or the counts would not add up for as long as a publisher is held back."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)

        def look() -> None:
            assert link.counts_add_up()
            assert link.edge.counts().sent == 1
            link.take()

        waiter.steps = [look]
        rig.send_all(range(2))


def test_a_wait_ends_when_the_engine_takes_the_edge_away() -> None:
    """The engine is served on the same thread, in the middle of the wait."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)
        other = rig.connect(queue_size=10, drop_oldest=False)
        waiter.steps = [lambda: rig.output.detach(link.out)]
        rig.send_all(range(3))
        assert waiter.steps == []
        assert other.take_all() == [0, 1, 2]
        assert link.counts_add_up()


@pytest.mark.parametrize("gone_at_once", [True, False], ids=["alone", "with the one waited for"])
def test_an_edge_may_go_while_the_publisher_waits_for_another(gone_at_once: bool) -> None:
    """The message in hand was about to be offered to it next."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        waited_for = rig.connect(queue_size=1, drop_oldest=False)
        next_in_turn = rig.connect(queue_size=1, drop_oldest=False)

        def take_away() -> None:
            rig.output.detach(next_in_turn.out)
            if gone_at_once:
                waited_for.take()
            else:
                rig.output.detach(waited_for.out)

        waiter.steps = [take_away]
        rig.send_all(range(2))
        assert waiter.steps == []
        assert waited_for.counts_add_up()
        assert next_in_turn.counts_add_up()


def test_a_waiting_thread_is_released_when_its_edge_is_detached() -> None:
    """Detached by the main thread of the operator while a thread of the user's sends."""
    entered = threading.Event()

    class Waiter(Patient):
        def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
            entered.set()
            super().wait_readable(descriptor, timeout_secs)

    with rig_with(Waiter()) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)
        rig.send(0)
        sender = threading.Thread(target=rig.send, args=[1])
        sender.start()
        assert entered.wait(20)
        rig.output.detach(link.out)
        sender.join(20)
        assert not sender.is_alive()
        assert link.counts_add_up()


def test_a_slow_blocking_reader_does_not_hold_the_others_message_back() -> None:
    waiter = Scripted()
    with rig_with(waiter) as rig:
        slow = rig.connect(queue_size=1, drop_oldest=False)
        live = rig.connect(queue_size=5)
        seen: list[list[int]] = []

        def look() -> None:
            seen.append(live.take_all())
            slow.take()

        waiter.steps = [look, look]
        rig.send_all(range(3))
        assert seen == [[0, 1], [2]]


# -- what the socket cannot hold ---------------------------------------------------------------------


@pytest.mark.parametrize("drop_oldest", [True, False], ids=["drop_oldest", "backpressure"])
def test_a_queue_larger_than_the_socket_is_kept_whole_and_in_order(
    rig: Rig, drop_oldest: bool
) -> None:
    link = rig.connect(queue_size=1000, drop_oldest=drop_oldest)
    link.tiny_socket()
    rig.send_all(range(1000), 4000)
    assert len(link.out.overflow) > 900
    assert link.edge.counts().queued == 1000
    received = []
    while len(received) < 1000:
        received += link.take_all()
        rig.output.flush()
    assert received == list(range(1000))
    assert link.edge.counts().dropped == 0


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_a_thousand_messages_of_4_kb_stand_in_line_on_a_stock_kernel(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, drop_oldest: bool
) -> None:
    """Where net.core.wmem_max is 212,992 the socket holds 50 of them, whatever this machine grants."""
    monkeypatch.setattr(edge, "_SEND_BUFFER", 212_992)
    link = rig.connect(queue_size=1000, drop_oldest=drop_oldest)
    rig.send_all(range(1000), 4000)
    assert len(link.out.overflow) > 900
    taken = []
    while (message := link.reader.take()) is not None:
        taken.append(number_of(message))
        rig.output.flush()
    assert taken == list(range(1000))
    assert link.counts_add_up()


def test_drop_oldest_drops_what_is_in_the_socket_first(rig: Rig) -> None:
    link = rig.connect(queue_size=50)
    link.tiny_socket()
    rig.send_all(range(80), 4000)
    in_socket = link.take_all()
    assert in_socket == list(range(30, 30 + len(in_socket)))
    received = list(in_socket)
    while rig.output.flush():
        received += link.take_all()
    assert received + link.take_all() == list(range(30, 80))
    assert link.edge.counts().dropped == 30


def test_room_made_by_dropping_is_filled_at_once(rig: Rig) -> None:
    """A reader that comes back to an emptied socket would wait for a publisher that is busy."""
    link = rig.connect(queue_size=20)
    link.tiny_socket()
    rig.send_all(range(40), 4000)
    assert link.take_all() != []


def test_overflow_of_slots_is_kept_until_it_is_taken(rig: Rig) -> None:
    link = rig.connect(queue_size=40)
    link.tiny_socket()
    rig.send_all(range(100), LARGE)
    assert link.out.overflow
    received: list[int] = []
    while len(received) < 40:
        received += link.take_all()
        rig.output.flush()
    assert received == list(range(60, 100))
    assert rig.leased() == 0


def test_overflow_is_counted_when_its_edge_is_closed(rig: Rig) -> None:
    link = rig.connect(queue_size=50)
    link.tiny_socket()
    rig.send_all(range(50), 4000)
    assert link.out.overflow
    link.out.close()
    rig.output.edges.remove(link.out)
    counts = link.edge.counts()
    assert (counts.sent, counts.queued + counts.dropped) == (50, 50)
    assert len(link.take_all()) == counts.queued


def test_flush_says_whether_something_is_left(rig: Rig) -> None:
    link = rig.connect(queue_size=10)
    link.tiny_socket()
    assert not rig.output.flush()
    rig.send_all(range(10), 4000)
    assert rig.output.flush()
    while rig.output.flush():
        link.take_all()
    assert link.edge.counts().queued + link.edge.counts().received == 10


# -- slots -------------------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bounds the memory in line to 16 slots of the smallest size; returns that size."""
    monkeypatch.setattr(_arena, "MEMORY_BOUND", 16 << 16)
    return 1 << 16


def test_slots_bound_a_line_that_drops(rig: Rig, small_memory: int) -> None:
    link = rig.connect(queue_size=100)
    rig.send_all(range(60), small_memory)
    assert len(rig.slots()) == 16
    assert link.take_all() == list(range(60 - 16, 60))
    assert link.counts_add_up()


def test_a_blocking_reader_is_waited_for_when_slots_run_out(small_memory: int) -> None:
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=100, drop_oldest=False)
        taken: list[int] = []

        def reader_takes() -> None:
            descriptor = waiter.waited_on[-1]
            assert not _readable(descriptor)
            taken.append(link.take_number())
            assert _readable(descriptor)

        waiter.steps = [reader_takes] * 14
        rig.send_all(range(30), small_memory)
        assert waiter.steps == []
        assert taken + link.take_all() == list(range(30))
        assert link.edge.counts().dropped == 0


def test_a_wait_for_a_slot_is_given_up_at_a_stop(small_memory: int) -> None:
    waiter = Scripted()
    waiter.steps = [waiter.stop]
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=100, drop_oldest=False)
        rig.send_all(range(18), small_memory)
        assert link.take_all() == list(range(16))
        assert link.edge.counts().dropped == 2


def test_a_line_that_drops_is_not_emptied_in_vain(small_memory: int) -> None:
    """All slots stand in a blocking reader's line: to drop another's messages frees none of them."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        blocking = rig.connect(queue_size=100, drop_oldest=False)
        dropping = rig.connect(queue_size=100)
        waiter.steps = [blocking.take]
        rig.send_all(range(17), small_memory)
        assert waiter.steps == []
        assert blocking.edge.counts().dropped == 0
        assert dropping.edge.counts().dropped == 1
        assert dropping.take_all() == list(range(1, 17))
        assert blocking.take_all() == list(range(1, 17))


def test_small_messages_are_not_dropped_for_a_slot(rig: Rig, small_memory: int) -> None:
    """The line of the other edge is longer, and holds no slot at all."""
    large_line = rig.connect(queue_size=100)
    rig.send_all(range(16), small_memory)
    small_line = rig.connect(queue_size=100)
    rig.send_all(range(16, 66))
    rig.send_all(range(66, 68), small_memory)
    assert small_line.take_all() == list(range(16, 68))
    assert large_line.edge.counts().dropped == 2
    assert large_line.take_all() == list(range(2, 68))


def test_messages_beyond_the_memory_bound_still_pass(rig: Rig, small_memory: int) -> None:
    link = rig.connect(queue_size=100)
    huge = 20 * small_memory
    rig.send_all(range(20), huge)
    assert len(rig.slots()) == MIN_SLOTS
    assert link.take_all() == list(range(20 - MIN_SLOTS, 20))


def test_memory_stays_bounded_when_sizes_change(rig: Rig, small_memory: int) -> None:
    """Slots of small messages must not turn into as many large ones."""
    link = rig.connect(queue_size=300)
    for size in (small_memory, 4 * small_memory, small_memory, 2 * small_memory):
        rig.send_all(range(40), size)
        assert sum(slot.capacity for slot in rig.slots()) <= 16 * small_memory
        numbers = link.take_all()
        assert len(numbers) >= MIN_SLOTS
        assert numbers == list(range(40 - len(numbers), 40)), "a slot was used twice at once"
    rig.send_all(range(40), 10 * small_memory)
    assert sum(slot.capacity for slot in rig.slots()) <= MIN_SLOTS * 16 * small_memory


def test_slots_are_used_again_while_warm(rig: Rig) -> None:
    link = rig.connect()
    for number, size in zip(range(100), itertools.cycle([LARGE, 2 * LARGE]), strict=False):
        rig.send(number, size)
        assert link.take_number() == number
    assert len(rig.slots()) <= 4


def test_the_slot_that_was_used_last_is_used_next(rig: Rig) -> None:
    """Its memory is in the processor's caches; the newest message is kept until another takes its place."""
    link = rig.connect(queue_size=20)
    rig.send_all(range(20), LARGE)
    link.take_all()
    used = set()
    for number in range(20):
        rig.send(number, LARGE)
        used.add(link.take().value.buffers()[1].address)
    assert len(used) == 1
    assert rig.connect(replay_last=True).take_number() == 19


def test_the_newest_message_stays_while_another_is_written_in_place(rig: Rig) -> None:
    rig.send(1, LARGE)
    reservation = rig.output.reserve(LARGE)
    assert rig.connect(replay_last=True).take_number() == 1
    reservation.cancel()


def test_a_message_does_not_take_the_place_of_the_newest_while_that_is_held(rig: Rig) -> None:
    link = rig.connect()
    rig.send(1, LARGE)
    held = link.take()
    rig.send(2, LARGE)
    assert number_of(held) == 1
    assert link.take_number() == 2


def test_slots_behind_those_that_are_held_are_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arena, "LEASE_LIMIT", 30)
    link = rig.connect()
    held = []
    for number in range(20):
        rig.send(number, LARGE)
        held.append(link.take())
    for _ in range(20):
        rig.send_all(range(8), LARGE)
        assert link.take_all() == list(range(8))
    assert len(rig.slots()) <= 20 + 8 + 1


def test_a_long_line_that_was_once_does_not_slow_every_send(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many slots, few are looked at: those that were given back, and the oldest in line."""
    link = rig.connect(queue_size=200)
    rig.send_all(range(200), LARGE)
    looked_at = 0
    is_free = rig.output._is_free

    def counting(slot: Slot) -> bool:
        nonlocal looked_at
        looked_at += 1
        return is_free(slot)

    monkeypatch.setattr(rig.output, "_is_free", counting)
    for number in range(200, 300):  # A full line, from which one is taken for each that is sent.
        link.take()
        rig.send(number, LARGE)
    link.take_all()
    for number in range(300, 400):  # An empty one.
        rig.send(number, LARGE)
        link.take()
    assert looked_at < 6 * 200


def test_no_more_slots_than_the_table_has_words(rig: Rig) -> None:
    link = rig.connect(queue_size=1000)
    rig.send_all(range(300), 5000)
    assert len(rig.slots()) == _arena.MAX_SLOTS
    assert link.take_all() == list(range(300 - _arena.MAX_SLOTS, 300))


class _FullMachine:
    """A mapping whose system has no page left to give."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self.mapping = mapping

    def madvise(self, advice: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_a_machine_without_memory_is_an_error_in_words(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = rig.connect()
    rig.send(1, LARGE)
    monkeypatch.setattr(rig.arena, "_map", _FullMachine(rig.arena._map))
    with pytest.raises(EngineError, match="no memory for a message of 128 KiB"):
        rig.send(2, LARGE)
    monkeypatch.undo()
    rig.send(3, LARGE)
    assert link.take_all() == [1, 3]
    assert len(rig.slots()) == 2


# -- readers that come later --------------------------------------------------------------------------


@SIZES
def test_replay_last_gives_the_newest_message_at_once(rig: Rig, size: int) -> None:
    assert rig.connect(replay_last=True).take_all() == []
    rig.send_all(range(5), size)
    late = rig.connect(replay_last=True)
    later = rig.connect(replay_last=False)
    assert late.take_all() == [4]
    assert later.take_all() == []
    rig.send(5, size)
    assert late.take_all() == later.take_all() == [5]
    assert late.counts_add_up()


def test_the_newest_message_is_kept_for_as_long_as_it_is_the_newest(rig: Rig) -> None:
    link = rig.connect()
    rig.send(1, LARGE)
    link.take_all()
    for _ in range(3):
        assert rig.connect(replay_last=True).take_all() == [1]


def test_a_message_in_hand_reaches_an_edge_that_comes_meanwhile() -> None:
    waiter = Scripted()
    late: list[Link] = []
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)

        def attach() -> None:
            late.append(rig.connect(replay_last=True))
            link.take()

        waiter.steps = [attach]
        rig.send_all(range(2), LARGE)
        assert late[0].take_all() == [1]
        assert link.take_all() == [1]


# -- parts -------------------------------------------------------------------------------------------


def _readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _take_in_a_thread(link: Link, *, until: int) -> Callable[[], list[int]]:
    """Reads until the last number is there; the returned call waits for that and gives them all."""
    received: list[int] = []
    waiter = Patient()

    def run() -> None:
        while not received or received[-1] != until:
            waiter.wait_readable(link.reader.fileno(), 20)
            received.extend(link.take_all())

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> list[int]:
        thread.join(20)
        assert not thread.is_alive(), f"only {len(received)} messages came"
        return received

    return wait
