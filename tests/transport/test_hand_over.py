"""Processes are replaced under numbered traffic, by handing the edge's ends over.

This is what live editing and restarts rest on. Nothing but descriptors passes from the engine to the
next process, and nothing at all from the old process to the new one. The source writes each number
down before it sends it, the sinks one after another write down what they got, all in one ledger.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
from transport_peer import Ledger, PeerGoneError, PeerHandle
from transport_rig import LARGE, Rig

from dora_nb.transport.edge import EdgeCounts

Peers = Callable[[], PeerHandle]
MIXED = (8, 8, 2000, LARGE, 8, 8, 8)
"""Sizes of the messages, in turn: most of them small, some in slots."""


class Engine:
    """The engine's part: it has the edge and the arenas, and tells processes what they hold."""

    def __init__(self, rig: Rig, peers: Peers, sizes: Sequence[int], **queue: object) -> None:
        self.rig = rig
        self.peers = peers
        self.sizes = sizes
        self.queue = queue
        self.edge = rig.edge()
        self.source_ledger = Ledger()
        self.sink_ledger = Ledger()
        self._numbers = itertools.count(100)
        self._sending: int | None = None

    # -- the publisher

    def start_publisher(self) -> None:
        """A process with an arena of its own. Its reader learns of the arena first."""
        number = next(self._numbers)
        memory = self.rig.new_memory(number)
        self.publisher = self.peers()
        if hasattr(self, "reader"):
            self._announce(self.reader, number)
        self.publisher.ask("ledger", self.source_ledger.descriptor)
        self.publisher.ask("output", memory, number=number)
        self.publisher.ask(
            "attach",
            *self.edge.publisher_descriptors(),
            edge_id=self.edge.edge_id,
            column=self.edge.edge_id,
            **self.queue,
        )

    def send(self, first: int, count: int) -> None:
        """Begins to send that many, as fast as the reader allows."""
        self._sending = self.publisher.tell(
            "publish", first=first, count=count, sizes=list(self.sizes)
        )

    def all_sent(self) -> None:
        assert self._sending is not None
        self.publisher.answer(self._sending)

    # -- the reader

    def prepare_reader(self, *, keep: int = 3) -> PeerHandle:
        """A process that has the ends of the edge, and does not read yet."""
        reader = self.peers()
        edge_id = self.edge.edge_id
        reader.ask("ledger", self.sink_ledger.descriptor)
        reader.ask("read", *self.edge.reader_descriptors(), edge_id=edge_id, keep=keep)
        for number in self.rig.memories:
            self._announce(reader, number)
        return reader

    def _announce(self, reader: PeerHandle, number: int) -> None:
        edge_id = self.edge.edge_id
        reader.ask(
            "arena", self.rig.memories[number], edge_id=edge_id, number=number, column=edge_id
        )

    def hand_over(self, new: PeerHandle) -> None:
        """The old process reads no more, ends, and the new one goes on."""
        self.reader.ask("pause")
        self.reader.end()
        self.go_on_with(new)

    def go_on_with(self, new: PeerHandle) -> None:
        up_to = self.edge.settle_reader()
        self.publisher.ask("void", edge_id=self.edge.edge_id, up_to=up_to)
        self.reader = new
        self.reader.ask("go")

    def drain(self) -> EdgeCounts:
        """The counts once nothing is in line any more."""
        while self.edge.counts().queued:
            self.reader.ask("held")
        self.reader.ask("drop")
        return self.edge.counts()

    def close(self) -> None:
        self.source_ledger.close()
        self.sink_ledger.close()


@pytest.fixture
def engine(
    rig: Rig, peers: Peers, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(sizes: Sequence[int] = MIXED, **queue: object) -> Engine:
        engine = Engine(rig, peers, sizes, **queue)
        engines.append(engine)
        engine.start_publisher()
        engine.reader = engine.prepare_reader()
        engine.reader.ask("go")
        return engine

    yield make
    for engine in engines:
        engine.close()


Make = Callable[..., Engine]


def _replace_readers(engine: Engine, *, replacements: int, messages: int) -> None:
    """Hands over as often as asked, at moments spread over the traffic, and checks everything."""
    engine.send(0, messages)
    for at in range(1, replacements + 1):
        new = engine.prepare_reader()
        _wait_until_received(engine, at * messages // (replacements + 1))
        engine.hand_over(new)
    engine.all_sent()
    counts = engine.drain()
    assert engine.sink_ledger.numbers() == list(range(messages)), "lost, doubled or reordered"
    assert counts == EdgeCounts(sent=messages, received=messages, dropped=0, queued=0)
    assert engine.publisher.ask("leased") == 0


def _wait_until_received(engine: Engine, number: int) -> None:
    """The reader's answers are the clock: it answers between two messages."""
    while engine.edge.counts().received < number:
        engine.reader.ask("held")


@pytest.mark.parametrize("queue_size", [1, 10, 200])
def test_a_reader_is_handed_over_and_nothing_is_lost(engine: Make, queue_size: int) -> None:
    _replace_readers(
        engine(queue_size=queue_size, drop_oldest=False), replacements=15, messages=4000
    )


def test_a_reader_of_slots_is_handed_over_and_nothing_is_lost(engine: Make) -> None:
    _replace_readers(
        engine(sizes=[LARGE], queue_size=10, drop_oldest=False), replacements=15, messages=2000
    )


@pytest.mark.soak
@pytest.mark.parametrize("queue_size", [1, 10, 200])
def test_a_reader_is_handed_over_hundreds_of_times(engine: Make, queue_size: int) -> None:
    _replace_readers(
        engine(queue_size=queue_size, drop_oldest=False), replacements=300, messages=60_000
    )


def _drop_by_policy(engine: Engine, *, replacements: int, messages: int) -> None:
    """The publisher never waits, so it is in the middle of a send whenever the engine looks."""
    engine.send(0, messages)
    for at in range(1, replacements + 1):
        new = engine.prepare_reader()
        while engine.edge.counts().sent < at * messages // (replacements + 1):
            engine.reader.ask("held")
        engine.hand_over(new)
    engine.all_sent()
    counts = engine.drain()
    received = engine.sink_ledger.numbers()
    assert received == sorted(set(received))
    assert counts.sent == len(engine.source_ledger.numbers()) == messages
    assert counts.received == len(received)
    assert counts.dropped == messages - len(received)
    assert received[-1] == messages - 1


def test_what_a_hand_over_drops_by_policy_is_counted(engine: Make) -> None:
    """Numbered from its source to its sink, every message is received, or counted as dropped."""
    _drop_by_policy(engine(queue_size=10, drop_oldest=True), replacements=10, messages=20_000)


@pytest.mark.soak
def test_what_hundreds_of_hand_overs_drop_is_counted(engine: Make) -> None:
    _drop_by_policy(engine(queue_size=10, drop_oldest=True), replacements=300, messages=500_000)


def _kill_readers(engine: Engine, *, kills: int, messages: int) -> None:
    engine.send(0, messages)
    for at in range(1, kills + 1):
        new = engine.prepare_reader()
        _wait_until_received(engine, at * messages // (kills + 1))
        engine.reader.kill()
        engine.go_on_with(new)
    engine.all_sent()
    counts = engine.drain()
    received = engine.sink_ledger.numbers()
    assert received == sorted(set(received)), "doubled or reordered"
    lost = messages - len(received)
    assert lost <= kills, "more than the message in hand was lost"
    assert (counts.sent, counts.queued) == (messages, 0)
    assert counts.received + counts.dropped == messages
    # A reader that is killed after it took a message and before it wrote it down had it in hand.
    assert counts.dropped <= lost <= counts.dropped + kills
    assert engine.publisher.ask("leased") == 0, "a killed reader's slot is lost for ever"


def test_a_killed_reader_loses_at_most_the_message_in_hand(engine: Make) -> None:
    _kill_readers(engine(queue_size=10, drop_oldest=False), kills=15, messages=4000)


@pytest.mark.soak
@pytest.mark.parametrize("sizes", [MIXED, [LARGE]], ids=["mixed", "in slots"])
def test_readers_are_killed_hundreds_of_times(engine: Make, sizes: Sequence[int]) -> None:
    _kill_readers(engine(sizes=sizes, queue_size=10, drop_oldest=False), kills=300, messages=60_000)


def _replace_publishers(engine: Engine, *, replacements: int, how: str) -> None:
    """Each sends until it is replaced; its successor goes on with the next number."""
    for _ in range(replacements):
        first = len(engine.source_ledger.numbers())
        engine.send(first, 1 << 30)
        _wait_until_received(engine, engine.edge.counts().received + 100)
        if how == "kill":
            engine.publisher.kill()
        else:
            engine.publisher.ask(how)
            engine.all_sent()
            engine.publisher.end()
        engine.edge.settle_publisher()
        engine.start_publisher()
    first = len(engine.source_ledger.numbers())
    engine.send(first, 100)
    engine.all_sent()
    total = first + 100
    counts = engine.drain()
    received = engine.sink_ledger.numbers()
    lost = total - len(received)
    assert received == sorted(set(received)), "doubled or reordered"
    assert counts.received == len(received)
    assert counts.sent == counts.received + counts.dropped
    assert lost <= (0 if how == "finish" else replacements)
    # One that was killed may have died before it gave the message to the edge.
    assert total - counts.sent <= (replacements if how == "kill" else 0)


@pytest.mark.parametrize("how", ["finish", "stop", "kill"])
def test_a_publisher_is_replaced_and_numbers_go_on(engine: Make, how: str) -> None:
    """Only one that is told to give up, or is killed, loses the message that it has in hand."""
    _replace_publishers(engine(queue_size=10, drop_oldest=False), replacements=10, how=how)


@pytest.mark.soak
@pytest.mark.parametrize("how", ["finish", "kill"])
def test_publishers_are_replaced_hundreds_of_times(engine: Make, how: str) -> None:
    _replace_publishers(engine(queue_size=10, drop_oldest=False), replacements=300, how=how)


def test_a_publisher_and_its_reader_are_killed_together(engine: Make) -> None:
    made = engine(queue_size=10, drop_oldest=True)
    for generation in range(8):
        made.send(1000 * generation, 1 << 30)
        _wait_until_received(made, made.edge.counts().received + 50)
        first, second = (made.reader, made.publisher)[:: 1 if generation % 2 else -1]
        first.kill()
        second.kill()
        made.edge.settle_publisher()
        made.edge.settle_reader()
        assert _adds_up(made.edge.counts())
        del made.reader
        made.start_publisher()
        made.reader = made.prepare_reader()
        made.reader.ask("go")
    counts = made.drain()
    assert _adds_up(counts)
    assert len(made.sink_ledger.numbers()) <= counts.received


def _adds_up(counts: EdgeCounts) -> bool:
    return counts.sent == counts.received + counts.dropped + counts.queued


def test_a_dead_peer_is_noticed(peers: Peers) -> None:
    """The checks of this file rest on it."""
    peer = peers()
    peer.kill()
    with pytest.raises((PeerGoneError, OSError)):
        peer.ask("held")
