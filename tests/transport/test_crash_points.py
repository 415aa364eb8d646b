"""A process may be killed between any two things that it does to an edge: each such point is tried.

The parts run in this process. What they do to the sockets and the page goes through `Mortal` wrappers
that count it, and raise `KilledError` in place of the chosen one: so everything before it was done,
and nothing after. Then the engine settles, as it does after a death, and a successor goes on.

What must hold: nothing twice, nothing out of order, and ``sent == received + dropped + queued``. Lost
may be the message in hand, and what stood in the dead publisher's own line, all of it counted.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from transport_rig import LARGE, Link, Patient, Rig, Scripted, number_of, rig_with

from dora_nb.errors import EngineError
from dora_nb.transport import Input, OutEdge, _words
from dora_nb.transport import edge as edge_module
from dora_nb.transport._wire import DATAGRAM_LIMIT, HEADER_SIZE

NEVER = 10**9


@pytest.fixture(autouse=True)
def _look_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is at work here who would need the time to finish."""
    monkeypatch.setattr(edge_module, "_ROUND_EVERY_SECS", 0.0)
    monkeypatch.setattr(edge_module, "_ROUNDS", 2)


class KilledError(BaseException):
    """The process ends here. Beyond `Exception`: nothing may handle it."""


class Mortal:
    """Counts what a process does to the outside, and ends it before a chosen step."""

    def __init__(self, dies_at: int) -> None:
        self.steps = 0
        self.dies_at = dies_at

    def step(self) -> None:
        if self.steps == self.dies_at:
            raise KilledError
        self.steps += 1

    def die(self) -> None:
        """Ends it here and now; what is to be tidied up is no more."""
        self.dies_at = self.steps
        raise KilledError

    def spare(self) -> None:
        """The test is over."""
        self.dies_at = NEVER


class MortalView:
    """The words of a page. To read one changes nothing, so only writing is a step."""

    def __init__(self, view: memoryview, mortal: Any) -> None:
        self._view = view
        self._mortal = mortal

    def __getitem__(self, at: int) -> int:
        return int(self._view[at])

    def __setitem__(self, at: int, value: int) -> None:
        self._mortal.step()
        self._view[at] = value

    def release(self) -> None:
        self._view.release()


class MortalSocket:
    """A socket whose sends and receives are steps; a look (MSG_PEEK) is none."""

    def __init__(self, real: Any, mortal: Any) -> None:
        self._real = real
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, data: bytes) -> int:
        self._mortal.step()
        return int(self._real.send(data))

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not flags:
            self._mortal.step()
        return bytes(self._real.recv(size, flags))


def make_mortal(end: OutEdge | Input, mortal: Any) -> None:
    end._words.view = MortalView(end._words.view, mortal)  # type: ignore[assignment]
    end._rx = MortalSocket(end._rx, mortal)  # type: ignore[assignment]
    if isinstance(end, OutEdge):
        end._tx = MortalSocket(end._tx, mortal)  # type: ignore[assignment]


class Story:
    """Numbered messages over one edge whose ends may be killed, and replaced by the engine."""

    def __init__(
        self,
        rig: Rig,
        *,
        tiny: bool,
        publisher: Mortal | Paused,
        reader: Mortal | Paused,
        **queue: Any,
    ) -> None:
        self.rig = rig
        self.queue = queue
        self.edge = rig.edge()
        self.link = Link(
            self.edge, rig.publisher_end(self.edge, **queue), rig.reader_end(self.edge)
        )
        rig.output.attach(self.link.out, replay_last=False)
        rig.links.append(self.link)
        if tiny:
            self.link.tiny_socket()
        make_mortal(self.link.out, publisher)
        make_mortal(self.link.reader, reader)
        self._mortals = (publisher, reader)
        for mortal in self._mortals:
            rig.at_close(mortal.spare)
        self.offered = 0
        self.received: list[int] = []
        self.held: list[object] = []
        self.dead: list[str] = []
        self.dead_readers = 0
        self._arena_numbers = itertools.count(2)

    def publish(self) -> None:
        self.offered += 1
        try:
            self.rig.send(self.offered, LARGE if self.offered % 2 else 8)
        except KilledError:
            self.dead.append("publisher")

    def take(self, most: int) -> None:
        """Takes up to that many messages, and holds the newest two."""
        for _ in range(most):
            try:
                message = self.link.reader.take()
            except KilledError:
                self.dead.append("reader")
                self.dead_readers += 1
                return
            if message is not None:
                self.received.append(number_of(message))
                self.held = [*self.held[-1:], message]

    def flush(self) -> bool:
        """Whether the publisher lives, and has kept something back."""
        try:
            return "publisher" not in self.dead and self.rig.output.flush()
        except KilledError:
            self.dead.append("publisher")
            return False

    def drain(self) -> None:
        while True:
            before = len(self.received)
            more = self.flush()
            self.take(1000)
            if not more and len(self.received) == before:
                return

    def replace_dead(self) -> None:
        """What the engine does after a death, in the order of the deaths. Nobody else dies then."""
        for mortal in self._mortals:
            mortal.spare()
        for who in self.dead:
            self.settle(who)
        words = self.edge._words.view
        if "publisher" in self.dead:
            assert words[_words.EVICTING] == words[_words.EVICTED]
            assert words[_words.OVERFLOW] == words[_words.WAITING] == 0
        if "reader" in self.dead:
            assert words[_words.TAKING] == words[_words.RECEIVED]
        for who in self.dead:
            self.replace(who)
        self.dead.clear()

    def settle(self, who: str) -> None:
        if who == "publisher":
            self.edge.settle_publisher()
        else:
            self.held.clear()
            up_to = self.edge.settle_reader()
            self.link.out.void(up_to)

    def replace(self, who: str) -> None:
        if who == "publisher":
            self._bury(self.link.out)
            self.rig.arena.close()
            number = next(self._arena_numbers)
            self.rig.start_publisher(number)
            self.link.out = self.rig.publisher_end(self.edge, **self.queue)
            self.link.reader.add_arena(number, self.rig.memories[number], self.edge.edge_id)
            self.rig.output.attach(self.link.out, replay_last=False)
        else:
            self.link.reader.close()
            self.link.reader = self.rig.reader_end(self.edge)

    def _bury(self, out: OutEdge) -> None:
        """Closes what the system closes for a dead process; nothing more is counted."""
        out._tx.close()
        out._rx.close()
        out._words.close()

    def check(self, *, most_lost: int) -> None:
        counts = self.edge.counts()
        assert self.received == sorted(set(self.received)), "doubled or out of order"
        assert counts.queued == 0
        # A reader that dies between counting a message and handling it has it in hand.
        assert 0 <= counts.received - len(self.received) <= self.dead_readers
        assert counts.sent == counts.received + counts.dropped
        # A message whose publisher died before it was given to the edge is nobody's but the source's.
        assert 0 <= self.offered - counts.sent <= 1
        if most_lost != NEVER:
            assert self.offered - len(self.received) <= most_lost
        self.held.clear()
        assert self.rig.leased() == 0, "a slot is lost for ever"


QUEUES: dict[str, dict[str, Any]] = {
    "drop_oldest": {"tiny": False, "queue_size": 3, "drop_oldest": True},
    "overflow that drops": {"tiny": True, "queue_size": 4, "drop_oldest": True},
    "overflow": {"tiny": True, "queue_size": 50, "drop_oldest": True},
    "backpressure": {"tiny": False, "queue_size": 50, "drop_oldest": False},
}
SETTLED = pytest.mark.parametrize("settled", ["first", "last"])
IN_QUEUES = pytest.mark.parametrize("queue", QUEUES.values(), ids=QUEUES)


def every_step(tell: Callable[[Mortal], bool]) -> int:
    """Tells a story with a death before each step that there is; returns how many there were."""
    for dies_at in itertools.count():
        if not tell(Mortal(dies_at)):
            return dies_at
    raise AssertionError


@IN_QUEUES
@SETTLED
def test_a_publisher_may_die_anywhere(queue: dict[str, Any], settled: str) -> None:
    """`settled` is first when the engine sees the death before the reader takes the rest."""

    def tell(mortal: Mortal) -> bool:
        with rig_with() as rig:
            story = Story(rig, publisher=mortal, reader=Mortal(NEVER), **queue)
            for number in range(9):
                story.publish()
                if story.dead:
                    break
                story.take(number % 3 == 2)
            if settled == "last":
                story.drain()
            died = bool(story.dead)
            story.replace_dead()
            assert story.link.counts_add_up()
            for _ in range(3):
                story.publish()
                story.take(1)
            story.drain()
            lossless = queue["queue_size"] == 50 and not queue["tiny"]
            story.check(most_lost=1 if lossless else NEVER)
            return died

    assert every_step(tell) > 25


@IN_QUEUES
def test_a_reader_may_die_anywhere(queue: dict[str, Any]) -> None:
    def tell(mortal: Mortal) -> bool:
        with rig_with() as rig:
            story = Story(rig, publisher=Mortal(NEVER), reader=mortal, **queue)
            for number in range(9):
                story.publish()
                story.take(2 * (number % 2))
                if story.dead:
                    story.publish()
                    break
            died = bool(story.dead)
            story.replace_dead()
            assert story.link.counts_add_up()
            for _ in range(3):
                story.publish()
                story.take(1)
            story.drain()
            story.check(most_lost=1 if queue["queue_size"] == 50 else NEVER)
            return died

    assert every_step(tell) > 15


@pytest.mark.parametrize("queue", ["drop_oldest", "overflow that drops"])
@pytest.mark.parametrize("order", ["publisher first", "reader first"])
def test_both_may_die_anywhere(queue: str, order: str) -> None:
    """The one that dies second goes on alone for a while; the engine sees the deaths in either order."""

    def tell(publisher: Mortal, reader: Mortal) -> set[str]:
        with rig_with() as rig:
            story = Story(rig, publisher=publisher, reader=reader, **QUEUES[queue])
            for _ in range(5):
                if "publisher" not in story.dead:
                    story.publish()
            for _ in range(3):
                if "reader" not in story.dead:
                    story.take(1)
            died = set(story.dead)
            story.dead.sort(reverse=order == "reader first")
            story.replace_dead()
            assert story.link.counts_add_up()
            for _ in range(2):
                story.publish()
            story.drain()
            story.check(most_lost=NEVER)
            return died

    deaths = set()
    for reader_dies_at in range(6):
        every_step(
            lambda mortal, at=reader_dies_at: (  # type: ignore[misc]
                deaths.add(frozenset(died := tell(mortal, Mortal(at)))) or "publisher" in died
            )
        )
    assert frozenset({"publisher", "reader"}) in deaths


def test_a_mark_finds_room_in_a_full_socket() -> None:
    """The message that filled the socket may be the very one that its publisher died over."""
    with rig_with() as rig:
        dies_after_the_send = Mortal(3)
        story = Story(
            rig, publisher=dies_after_the_send, reader=Mortal(NEVER), **QUEUES["overflow"]
        )
        story.offered = 1
        with pytest.raises(KilledError):
            rig.send(1, 4000)
        with pytest.raises(BlockingIOError):
            story.edge.tx.send(bytes(4048))
        story.dead.append("publisher")
        story.replace_dead()
        assert story.link.counts_add_up()
        story.drain()
        assert story.received == [1]
        story.check(most_lost=0)


def test_a_publisher_may_die_while_it_waits() -> None:
    """Nobody waits any more, so the reader wakes nobody; the message in hand was given to no edge."""
    mortal = Mortal(NEVER)
    with rig_with(Scripted(mortal.die)) as rig:
        queue = {"tiny": False, "queue_size": 1, "drop_oldest": False}
        story = Story(rig, publisher=mortal, reader=Mortal(NEVER), **queue)
        story.publish()
        story.publish()
        assert story.dead == ["publisher"]
        story.replace_dead()
        story.drain()
        assert story.received == [1]
        with pytest.raises(BlockingIOError):
            story.edge.tx.recv(1)
        story.check(most_lost=1)


# -- one end dies while the other is in the middle of something ---------------------------------------


class Paused:
    """Stops a living process before a chosen step, in a thread, until it is told to go on."""

    def __init__(self, before_step: int) -> None:
        self._before_step = before_step
        self._steps = 0
        self._paused = threading.Event()
        self._go_on = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_paused = False

    def step(self) -> None:
        if self._thread is threading.current_thread():
            if self._steps == self._before_step:
                self.is_paused = True
                self._paused.set()
                assert self._go_on.wait(20)
            self._steps += 1

    def start(self, act: Callable[[], object]) -> bool:
        """Runs it in a thread; whether it came to that step, and stands there."""

        def run() -> None:
            try:
                act()
            finally:
                self._paused.set()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self._paused.wait(20)
        return self.is_paused

    def spare(self) -> None:
        """The test is over."""
        self.go_on()

    def go_on(self, *_secs: float) -> None:
        """Lets it go on to its end."""
        self._go_on.set()
        assert self._thread is not None
        self._thread.join(20)


@pytest.fixture
def when_the_engine_waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Has something happen each time the engine waits before it looks again."""

    def patch(act: Callable[..., None]) -> None:
        monkeypatch.setattr(edge_module, "time", SimpleNamespace(sleep=act, time_ns=time.time_ns))

    return patch


@pytest.mark.parametrize("reader_dies_at", range(4))
@pytest.mark.parametrize("queue", ["drop_oldest", "overflow that drops", "backpressure"])
def test_a_reader_dies_while_its_publisher_is_in_the_middle_of_a_send(
    queue: str,
    reader_dies_at: int,
    when_the_engine_waits: Callable[[Callable[..., None]], None],
) -> None:
    """Its step may be to steal, or to send the very message that the dead reader had in hand."""
    for before_step in itertools.count():
        paused, mortal = Paused(before_step), Mortal(reader_dies_at)
        with rig_with(Patient()) as rig:
            story = Story(rig, publisher=paused, reader=mortal, **QUEUES[queue])
            stands = paused.start(lambda story=story: [story.publish() for _ in range(5)])
            story.take(2)
            when_the_engine_waits(paused.go_on)
            if story.dead:
                story.settle("reader")
            for process in (paused, mortal):
                process.spare()
            if story.dead:
                story.replace("reader")
            story.dead.clear()
            assert story.link.counts_add_up()
            story.drain()
            story.check(most_lost=NEVER)
        if not stands:
            break
    assert before_step > 10


@pytest.mark.parametrize("before_step", range(4))
def test_a_publisher_dies_while_its_reader_is_in_the_middle_of_a_take(
    before_step: int, when_the_engine_waits: Callable[[Callable[..., None]], None]
) -> None:
    for publisher_dies_at in range(26):
        paused, mortal = Paused(before_step), Mortal(publisher_dies_at)
        with rig_with() as rig:
            story = Story(rig, publisher=mortal, reader=paused, **QUEUES["drop_oldest"])
            while not story.dead:
                story.publish()
            paused.start(lambda story=story: story.take(1))
            when_the_engine_waits(paused.go_on)
            story.settle("publisher")
            paused.go_on()
            story.replace("publisher")
            story.dead.clear()
            assert story.link.counts_add_up()
            story.publish()
            story.drain()
            story.check(most_lost=NEVER)


def test_a_reader_may_die_over_a_message_that_it_cannot_read() -> None:
    def tell(mortal: Mortal) -> bool:
        with rig_with() as rig:
            story = Story(rig, publisher=Mortal(NEVER), reader=mortal, **QUEUES["backpressure"])
            rig.send(1)
            header = story.edge.rx.recv(DATAGRAM_LIMIT)[:HEADER_SIZE]
            story.edge.tx.send(header + b"cut")
            try:
                story.link.reader.take()
            except EngineError:
                return False
            except KilledError:
                mortal.spare()
                story.settle("reader")
            assert story.link.counts_add_up()
            assert story.edge.counts().queued == (mortal.steps < 2)
            return True

    assert every_step(tell) == 8


def test_a_publisher_that_never_ran_leaves_nothing_to_settle(rig: Rig) -> None:
    edge = rig.edge()
    edge.settle_publisher()
    assert edge.settle_reader() == 0
    assert edge.counts() == edge_module.EdgeCounts(sent=0, received=0, dropped=0, queued=0)


def _all_orders() -> Iterator[tuple[str, ...]]:
    yield from itertools.permutations(["publisher", "reader", "publisher", "reader"])


@pytest.mark.parametrize("deaths", sorted(set(_all_orders())))
def test_orderly_deaths_lose_nothing(deaths: tuple[str, ...]) -> None:
    """Nobody has a message in hand: a process that ended is settled as one that was killed."""
    with rig_with() as rig:
        story = Story(rig, publisher=Mortal(NEVER), reader=Mortal(NEVER), **QUEUES["backpressure"])
        for who in deaths:
            for _ in range(4):
                story.publish()
            story.take(2)
            story.dead.append(who)
            story.replace_dead()
        story.drain()
        story.check(most_lost=0)
