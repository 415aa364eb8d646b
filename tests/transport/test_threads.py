"""An output belongs to every thread of its process, and to what interrupts them."""

from __future__ import annotations

import itertools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from transport_rig import LARGE, Impatient, Link, Patient, Rig, Scripted, rig_with

from dora_nb.transport import OutEdge, _words
from dora_nb.transport.edge import EdgeCounts


def _in_threads(*acts: Callable[[], object]) -> None:
    """Runs them side by side to their ends; the first failure is raised."""
    failures: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[act], daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    for failure in failures:
        raise failure


@pytest.mark.parametrize("size", [8, LARGE])
def test_threads_may_send_at_once(size: int) -> None:
    """Each thread's messages stay in their order, and none is lost, doubled or torn."""
    each = 300
    with rig_with(Patient()) as rig:
        link = rig.connect(queue_size=7, drop_oldest=False)
        received: list[int] = []

        def read() -> None:
            waiter = Patient()
            while len(received) < 4 * each:
                waiter.wait_readable(link.reader.fileno(), 20)
                received.extend(link.take_all())

        starts = [10_000 * thread for thread in range(4)]
        sends = [lambda s=start: rig.send_all(range(s, s + each), size) for start in starts]
        _in_threads(read, *sends)
        for start in starts:
            of_this_thread = [number for number in received if start <= number < start + 10_000]
            assert of_this_thread == list(range(start, start + each))
        assert link.edge.counts() == EdgeCounts(
            sent=4 * each, received=4 * each, dropped=0, queued=0
        )


def test_the_overflow_is_moved_on_by_one_thread_at_a_time() -> None:
    """The operator's loop flushes while a thread of the user's sends."""
    total = 2000
    with rig_with(Patient()) as rig:
        link = rig.connect(queue_size=40, drop_oldest=False)
        link.tiny_socket()
        received: list[int] = []

        def read() -> None:
            waiter = Patient()
            while len(received) < total:
                waiter.wait_readable(link.reader.fileno(), 20)
                received.extend(link.take_all())

        def flush() -> None:
            while len(received) < total:
                rig.output.flush()

        _in_threads(read, flush, flush, lambda: rig.send_all(range(total), 2000))
        assert received == list(range(total))
        assert link.counts_add_up()


def test_flushing_does_not_wait_for_a_thread_that_waits() -> None:
    """The operator's loop has inputs to read; it must not stand still with the other thread."""
    entered, leave = threading.Event(), threading.Event()

    class Waiter(Patient):
        def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
            entered.set()
            assert leave.wait(20)

    with rig_with(Waiter()) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)

        def flush() -> None:
            assert entered.wait(20)
            assert not rig.output.flush()
            link.take()
            leave.set()

        _in_threads(lambda: rig.send_all(range(2)), flush)
        assert link.take_all() == [1]


def test_a_thread_that_waits_for_its_turn_serves_the_engine() -> None:
    """The turn may never come before the engine has said that the reader is gone."""
    entered = threading.Event()
    first_sender = threading.current_thread()

    class Waiter(Patient):
        def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
            if threading.current_thread() is first_sender:
                entered.set()
                super().wait_readable(descriptor, timeout_secs)
            elif link.out.attached:
                rig.output.detach(link.out)

    with rig_with(Waiter()) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)

        def second_sender() -> None:
            assert entered.wait(20)
            rig.send(2)

        thread = threading.Thread(target=second_sender, daemon=True)
        thread.start()
        rig.send_all(range(2))
        thread.join(20)
        assert not thread.is_alive()
        assert link.counts_add_up()


def test_an_edge_that_is_gone_before_its_turn_is_not_attached() -> None:
    """`attach` waits for a thread's send, and the engine's next message takes the edge away again."""
    entered, attached = threading.Event(), threading.Event()

    class Waiter(Patient):
        def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
            if threading.current_thread() is threading.main_thread():
                new.attached = False
                waited_for.reader.take()
            else:
                entered.set()
                super().wait_readable(descriptor, timeout_secs)

    with rig_with(Waiter()) as rig:
        waited_for = rig.connect(queue_size=1, drop_oldest=False)
        edge = rig.edge()
        new: OutEdge = rig.publisher_end(edge)

        def send() -> None:
            rig.send_all(range(2))
            assert attached.wait(20)
            rig.send(2)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        assert entered.wait(20)
        rig.output.attach(new, replay_last=True)
        attached.set()
        waited_for.reader.take()
        sender.join(20)
        assert not sender.is_alive()
        assert new not in rig.output.edges
        rig.output.detach(new)
        assert edge.counts().sent == 0


# -- in the middle of itself -------------------------------------------------------------------------


def test_a_send_in_the_middle_of_a_send_comes_after_it() -> None:
    """A signal's handler, or the finaliser of something that was just dropped."""
    waiter = Scripted()
    with rig_with(waiter) as rig:
        link = rig.connect(queue_size=1, drop_oldest=False)
        taken: list[int] = []

        def interrupted() -> None:
            rig.send(100, LARGE)
            rig.send(101, LARGE)

        take = [lambda: taken.append(link.take_number())] * 3
        waiter.steps = [interrupted, *take]
        rig.send_all(range(2), LARGE)
        assert taken + link.take_all() == [0, 1, 100, 101]
        assert link.edge.counts() == EdgeCounts(sent=4, received=4, dropped=0, queued=0)


def test_a_send_in_the_middle_of_a_search_for_a_slot_takes_no_slot_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with rig_with(Impatient()) as rig:
        link = rig.connect()
        make_slot = rig.arena.make_slot

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.undo()
            rig.send(100, LARGE)
            return make_slot(*args, **kwargs)

        monkeypatch.setattr(rig.arena, "make_slot", interrupted)
        rig.send(1, LARGE)
        assert link.take_all() == [1, 100]


def test_a_failed_send_leaves_the_output_usable(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    link = rig.connect()
    monkeypatch.setattr(rig.arena, "write", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        rig.send(1, LARGE)
    monkeypatch.undo()
    rig.send(2, LARGE)
    assert link.take_all() == [2]


@pytest.fixture
def timer_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Has something called every so often in the middle of whatever the main thread does."""
    before = signal.getsignal(signal.SIGALRM)

    def start(act: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: act())
        signal.setitimer(signal.ITIMER_REAL, 1e-3, 5e-4)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("tiny", [False, True])
def test_signals_may_send_at_any_moment(
    timer_signal: Callable[[Callable[[], object]], None], tiny: bool
) -> None:
    """Counted words, slots and lines are right although any two statements may be torn apart."""
    with rig_with(Impatient()) as rig:
        link = rig.connect(queue_size=3)
        if tiny:
            link.tiny_socket()
        from_handler = itertools.count(1_000_000)
        interruptions = 0
        handling = False

        def handler() -> None:
            nonlocal handling, interruptions
            if handling:
                return
            handling = True
            interruptions += 1
            rig.send(next(from_handler), LARGE if interruptions % 3 else 8)
            handling = False

        timer_signal(handler)
        received: list[int] = []
        sent = 0
        while interruptions < 40:
            rig.send(sent, LARGE if sent % 5 == 0 else 8)
            rig.output.flush()
            rig.output.released()
            sent += 1
            received.extend(link.take_all() if sent % 4 == 0 else [])
        signal.setitimer(signal.ITIMER_REAL, 0)
        while rig.output.flush():
            received.extend(link.take_all())
        received.extend(link.take_all())
        counts = link.edge.counts()
        assert counts.sent == sent + interruptions
        assert counts.received == len(received)
        assert link.counts_add_up()
        assert counts.queued == 0
        of_main = [number for number in received if number < 1_000_000]
        of_handler = [number for number in received if number >= 1_000_000]
        assert of_main == sorted(set(of_main))
        assert of_handler == sorted(set(of_handler))
        assert rig.leased() == 0


# -- the process around it ---------------------------------------------------------------------------


def test_a_default_timeout_of_sockets_makes_nothing_wait() -> None:
    """A notebook, or a library in an operator, may have called socket.setdefaulttimeout()."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.05)
    try:
        with rig_with() as rig:
            link = rig.connect(queue_size=1)
            assert not link.out.take_back_oldest(rig.arena)
            link.edge._words.view[_words.TAKING] += 1  # So that the engine has to look.
            assert link.edge.settle_reader() == 0
            assert link.reader.next_stamp_nanos() is None
            rig.send_all(range(3))
            assert link.take_all() == [2]
    finally:
        socket.setdefaulttimeout(before)


def test_a_reader_may_take_while_its_publisher_takes_back(rig: Rig) -> None:
    """The reader takes the message behind the one that was just stolen, and counts it first."""
    link: Link = rig.connect(queue_size=2)
    rig.send_all(range(2))
    taken: list[int] = []

    class Rx:
        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def recv(self, *args: int) -> bytes:
            evicted = self.real.recv(*args)
            link.out._rx = self.real
            taken.extend(link.take_all())
            return evicted

    link.out._rx = Rx(link.out._rx)  # type: ignore[assignment]
    rig.send(2)
    assert taken + link.take_all() == [1, 2]
    assert link.edge.counts() == EdgeCounts(sent=3, received=2, dropped=1, queued=0)
