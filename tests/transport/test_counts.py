"""``sent == received + dropped + queued``, under any schedule, and by three counts of their own.

The source numbers what it sends, the sink writes down what it gets, and the edge keeps its page.
"""

from __future__ import annotations

import collections
import itertools
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from transport_rig import LARGE, Link, Patient, Rig, number_of, rig_with

from dora_nb.transport.edge import EdgeCounts

SIZES = (8, 4000, LARGE)


class Model:
    """What one edge must do: numbers in line, oldest first."""

    def __init__(self, link: Link, queue_size: int, drop_oldest: bool) -> None:
        self.link = link
        self.queue_size = queue_size
        self.drop_oldest = drop_oldest
        self.line: collections.deque[int] = collections.deque()
        self.sent = self.received = self.dropped = 0
        self.held: list[tuple[int, Any]] = []

    def offered(self, number: int) -> None:
        self.sent += 1
        self.line.append(number)
        if len(self.line) > self.queue_size:
            self.line.popleft()
            self.dropped += 1

    def take(self, keep: int) -> None:
        message = self.link.reader.take()
        if message is None:  # The rest is in the publisher's line, if there is a rest.
            assert len(self.line) == len(self.link.out.overflow)
            return
        self.received += 1
        number = number_of(message)
        assert number == self.line.popleft()
        self.held = [*self.held, (number, message)][-keep:] if keep else []

    def expected(self) -> EdgeCounts:
        return EdgeCounts(
            sent=self.sent, received=self.received, dropped=self.dropped, queued=len(self.line)
        )


class OutputMachine(RuleBasedStateMachine):
    """One output, up to three edges of any policy, in any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(waiter=self)
        self.numbers = itertools.count(1)
        self.models: list[Model] = []
        self.newest: int | None = None

    # A waiter: a blocking reader takes when, and only when, its publisher waits for it.
    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        (waited_for,) = [m for m in self.models if m.link.out.fileno() == descriptor]
        assert not waited_for.drop_oldest
        waited_for.take(keep=1)

    def giving_up(self) -> bool:
        return False

    def note_overflow(self) -> None:
        pass

    @initialize(queue_size=st.integers(1, 6), drop_oldest=st.booleans(), tiny=st.booleans())
    def begin(self, queue_size: int, drop_oldest: bool, tiny: bool) -> None:
        self.connect(queue_size, drop_oldest, tiny, replay_last=False)

    @precondition(lambda self: len(self.models) < 3)
    @rule(
        queue_size=st.integers(1, 6),
        drop_oldest=st.booleans(),
        tiny=st.booleans(),
        replay_last=st.booleans(),
    )
    def connect(self, queue_size: int, drop_oldest: bool, tiny: bool, replay_last: bool) -> None:
        link = self.rig.connect(queue_size=queue_size, drop_oldest=drop_oldest)
        if tiny:
            link.tiny_socket()
        model = Model(link, queue_size, drop_oldest)
        self.models.append(model)
        if replay_last and self.newest is not None:
            assert self.rig.output._last is not None
            link.out.offer(self.rig.output._last, self, self.rig.arena)
            model.offered(self.newest)

    @rule(size=st.sampled_from(SIZES))
    def publish(self, size: int) -> None:
        number = next(self.numbers)
        self.rig.send(number, size)
        self.newest = number
        for model in self.models:
            model.offered(number)

    @precondition(lambda self: self.models)
    @rule(which=st.integers(0, 2), keep=st.integers(0, 12))
    def take(self, which: int, keep: int) -> None:
        self.models[which % len(self.models)].take(keep)

    @rule()
    def flush(self) -> None:
        self.rig.output.flush()

    @precondition(lambda self: self.models)
    @rule(which=st.integers(0, 2))
    def detach(self, which: int) -> None:
        model = self.models.pop(which % len(self.models))
        self.rig.output.detach(model.link.out)
        model.dropped += len(model.line)
        model.line.clear()
        assert model.link.edge.counts() == model.expected()
        model.link.reader.close()
        self._check_held(model)

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        for model in self.models:
            assert model.link.edge.counts() == model.expected()
            assert model.link.counts_add_up()

    @invariant()
    def what_is_held_is_unchanged(self) -> None:
        for model in self.models:
            self._check_held(model)

    def _check_held(self, model: Model) -> None:
        for number, message in model.held:
            assert number_of(message) == number

    def teardown(self) -> None:
        for model in self.models:
            model.held.clear()
        assert self.rig.leased() == sum(
            bool(slot.leases) for slot in self.rig.slots() if self._in_some_line(slot)
        )
        self.models.clear()
        self.rig.close()

    def _in_some_line(self, slot: Any) -> bool:
        return any(model.link.out in slot.leases and model.line for model in self.models)


OutputMachine.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOutput = OutputMachine.TestCase


@pytest.mark.soak
class TestOutputForLong(OutputMachine.TestCase):  # type: ignore[misc, name-defined]
    """The same, for minutes."""

    settings = settings(
        max_examples=3000,
        stateful_step_count=100,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("tiny", [False, True], ids=["", "tiny socket"])
@pytest.mark.parametrize(
    ("queue_size", "drop_oldest"), [(1, True), (10, True), (300, True), (1, False), (10, False)]
)
def test_three_counts_agree_between_threads(queue_size: int, drop_oldest: bool, tiny: bool) -> None:
    """Source and sink run as they like; the sink takes its last message after the source's."""
    total = 3000
    received: list[int] = []
    over = threading.Event()
    with rig_with(Patient()) as rig:
        link = rig.connect(queue_size=queue_size, drop_oldest=drop_oldest)
        if tiny:
            link.tiny_socket()

        def sink() -> None:
            patience = Patient()
            while not over.is_set() or link.edge.counts().queued:
                patience.wait_readable(link.reader.fileno(), 0.005)
                received.extend(link.take_all())

        thread = threading.Thread(target=sink)
        thread.start()
        for number in range(total):
            rig.send(number, SIZES[number % 3] if number % 50 == 0 else 8)
        while rig.output.flush():
            pass
        over.set()
        thread.join(20)
        counts = link.edge.counts()

    assert received == sorted(set(received))
    assert counts.sent == total
    assert counts.received == len(received)
    assert counts.dropped == total - len(received)
    assert counts.queued == 0
    assert received[-1] == total - 1
    if not drop_oldest:
        assert counts.dropped == 0


def test_counts_of_one_edge_are_not_those_of_another(rig: Rig) -> None:
    """Each edge counts for itself, also where one slot serves both."""
    quick, slow = rig.connect(queue_size=5), rig.connect(queue_size=2)
    for number in range(10):
        rig.send(number, LARGE)
        quick.take()
    slow.take()
    assert quick.edge.counts() == EdgeCounts(sent=10, received=10, dropped=0, queued=0)
    assert slow.edge.counts() == EdgeCounts(sent=10, received=1, dropped=8, queued=1)


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_an_edge_counts_the_bytes_of_all_that_it_was_given(rig: Rig, drop_oldest: bool) -> None:
    """Those that it drops too: they say how large messages are."""
    link = rig.connect(queue_size=2, drop_oldest=drop_oldest)
    for number, size in enumerate((8, LARGE, 4000)):
        rig.send(number, size)
        if not drop_oldest:
            link.take_all()
    counts = link.edge.counts()
    assert (counts.sent, counts.dropped) == (3, int(drop_oldest))
    assert counts.sent_bytes == 8 + LARGE + 4000
