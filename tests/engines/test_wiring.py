"""Who holds which ends: what each process is told when another one starts, ends, or is changed.

The processes are lists of messages here, and the edges are real.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dora_nb.engines.embedded import Listener, _wiring
from dora_nb.engines.embedded._kernel_subscriber import KernelSubscriber
from dora_nb.engines.embedded._wiring import Wiring
from dora_nb.errors import EngineError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, QueuePolicy, SourceCode
from dora_nb.graph.sources import TopicSource, parse_source
from dora_nb.protocol import control
from dora_nb.transport.edge import Edge


def operator(
    name: str, reads: dict[str, str] | None = None, outputs: tuple[str, ...] = ("out",),
    policy: QueuePolicy = "drop_oldest",
) -> NodeSpec:  # fmt: skip
    inputs = tuple(
        InputSpec(read, parse_source(source), 10, policy) for read, source in (reads or {}).items()
    )
    return NodeSpec(name, SourceCode("", "Cell In[5]"), inputs, outputs)


A, B = operator("a"), operator("b", {"in": "a/out"})


class Told:
    """A wiring whose processes note what they are told."""

    def __init__(self, *specs: NodeSpec) -> None:
        self.messages: list[tuple[str, control.ToProcess]] = []
        self.graph = Graph({spec.name: spec for spec in specs})
        self.reports: list[str] = []
        self.subscriber = KernelSubscriber(lambda _node, text: self.reports.append(text))
        self.wiring = Wiring(self._tell, self.subscriber, given_up=lambda topic: 0)
        self.listeners: list[Listener] = []

    def _tell(self, name: str, message: control.ToProcess, descriptors: list[int]) -> None:
        self.messages.append((name, message))

    def start(self, *names: str) -> None:
        for name in names:
            self.wiring.reconcile(self.graph, self.listeners)
            self.wiring.attach_process(self.graph.nodes[name])

    def change(self, *specs: NodeSpec, remove: str | None = None) -> None:
        operators = {**self.graph.nodes, **{spec.name: spec for spec in specs}}
        operators.pop(remove or "", None)
        self.graph = Graph(operators)

    def to(self, name: str) -> list[str]:
        """The kinds of what that process was told since the last look."""
        kinds = [type(message).__name__ for reader, message in self.messages if reader == name]
        self.messages = [each for each in self.messages if each[0] != name]
        return kinds

    def edge(self) -> Edge:
        """The only edge."""
        (connection,) = self.wiring._connections.values()
        return connection.edge

    def close(self) -> None:
        self.wiring.close()
        self.subscriber.close()


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told(A, B)
    yield made
    made.close()


def test_a_start_in_either_order(told: Told) -> None:
    told.start("a", "b")
    assert told.to("a") == ["AddOutput", "AddReader"]
    assert told.to("b") == ["AddOutput", "AddInput", "AddArena"]
    told.start("b")
    assert told.to("a") == []


def test_a_reader_that_is_there_first_learns_of_the_memory_before_its_publisher_has_it(
    told: Told,
) -> None:
    told.start("b", "a")
    order = [(name, type(message).__name__) for name, message in told.messages]
    assert order.index(("b", "AddArena")) < order.index(("a", "AddReader"))


def test_the_leases_of_a_reader_that_ended_are_void(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to what it may have had; the next generation is given the same ends."""
    told.start("a", "b")
    told.to("a"), told.to("b")
    edge = told.edge()
    monkeypatch.setattr(edge, "settle_reader", lambda: 42)
    told.wiring.process_gone("b", for_good=False, outputs_closed=False)
    assert told.messages == [("a", control.VoidLeases(edge.edge_id, 42))]
    told.start("b")
    assert told.edge() is edge
    assert "AddReader" not in told.to("a")
    assert told.to("b") == ["AddOutput", "AddInput", "AddArena"]


def test_a_reader_that_ended_for_good_is_waited_for_no_more(told: Told) -> None:
    """Should it come back, it gets an edge that nothing of the old one can disturb."""
    told.start("a", "b")
    old = told.edge()
    told.to("a")
    told.wiring.process_gone("b", for_good=True, outputs_closed=False)
    assert told.to("a") == ["VoidLeases", "RemoveReader"]
    told.start("b")
    assert told.edge() is not old
    assert told.to("a") == ["AddReader"]


@pytest.mark.parametrize("closed", [True, False])
def test_only_an_end_of_its_own_closes_the_inputs_of_its_readers(told: Told, closed: bool) -> None:
    told.start("a", "b")
    told.to("b")
    told.wiring.process_gone("a", for_good=True, outputs_closed=closed)
    assert told.to("b") == (["CloseInput"] if closed else [])
    assert told.wiring.has_live_publisher("b") is False
    told.start("a")
    assert told.to("b") == ["RetireArena", "AddArena", *(["OpenInput"] if closed else [])]
    assert told.wiring.has_live_publisher("b")


def test_a_reader_that_starts_when_its_publisher_has_ended_is_told(told: Told) -> None:
    told.start("a", "b")
    told.wiring.process_gone("b", for_good=True, outputs_closed=False)
    told.wiring.process_gone("a", for_good=True, outputs_closed=True)
    told.to("b")
    told.start("b")
    assert told.to("b")[-2:] == ["AddInput", "CloseInput"]


def test_an_input_that_is_connected_otherwise(told: Told) -> None:
    told.change(operator("c"))
    told.start("a", "b", "c")
    told.to("a"), told.to("b"), told.to("c")
    told.change(operator("b", {"in": "c/out"}))
    told.wiring.reconcile(told.graph, [])
    assert told.to("b") == ["RemoveInput", "AddInput", "AddArena"]
    assert told.to("a") == ["RemoveReader"]
    assert told.to("c") == ["AddReader"]


def test_another_queue_is_a_word_to_the_publisher(told: Told) -> None:
    """The edge stays: with another one, a message that is sent in between would be on neither."""
    told.start("a", "b")
    edge = told.edge()
    told.messages.clear()
    told.change(operator("b", {"in": "a/out"}, policy="backpressure"))
    told.wiring.reconcile(told.graph, [])
    assert told.messages == [("a", control.ChangeQueue(edge.edge_id, 10, False))]
    assert told.edge() is edge
    ((_, status),) = told.wiring.statuses()
    assert status.policy == "backpressure"
    told.messages.clear()
    told.wiring.reconcile(told.graph, [])
    assert told.messages == []


def test_a_publisher_that_comes_later_has_the_new_queue(told: Told) -> None:
    told.start("b")
    told.change(operator("b", {"in": "a/out"}, policy="backpressure"))
    told.messages.clear()
    told.start("a")
    (added,) = [each for _, each in told.messages if isinstance(each, control.AddReader)]
    assert not added.drop_oldest


def test_nobody_else_notices_an_edit(told: Told) -> None:
    told.change(operator("x"), operator("y", {"in": "x/out"}))
    told.start("a", "b", "x", "y")
    told.messages.clear()
    told.change(operator("b", {"in": "a/out"}, ("out", "more")))
    told.wiring.process_gone("b", for_good=False, outputs_closed=False)
    told.start("b")
    assert {name for name, _ in told.messages} == {"a", "b"}


def test_a_removal_gives_everything_back(told: Told) -> None:
    told.start("a", "b")
    told.wiring.process_gone("a", for_good=True, outputs_closed=False)
    told.change(remove="a")
    told.wiring.forget("a")
    told.wiring.reconcile(told.graph, [])
    assert told.to("b")[-1] == "RemoveInput"
    assert told.wiring._arenas.keys() == {"b/out"}
    assert told.wiring.statuses() == []


def test_a_subscription_to_what_is_not_there_has_no_edge(told: Told) -> None:
    for topic in ("a/typo", "nobody/out"):
        source = parse_source(topic)
        assert isinstance(source, TopicSource)
        told.listeners.append(Listener(source, print, queue_size=1, replay_last=False))
    told.start("a", "b")
    assert len(told.wiring.statuses()) == 1


def test_an_edge_that_cannot_be_made_leaves_all_as_it_was(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is made the next time."""
    told.start("a")
    source = TopicSource("a", "out")
    listener = Listener(source, print, queue_size=1, replay_last=False)

    def refuse(*_args: object) -> None:
        raise OSError("no descriptor left")

    for owner, name in (
        (_wiring, "Edge"),
        (KernelSubscriber, "attach"),
        (KernelSubscriber, "add_arena"),
    ):
        before = dict(told.wiring._connections)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refuse)
            with pytest.raises(OSError, match="no descriptor left"):
                told.wiring.reconcile(told.graph, [listener])
        assert told.wiring._connections.keys() <= {*before, ("b", "in")}
        assert told.subscriber._inputs.by_edge == {}
    told.wiring.reconcile(told.graph, [listener])
    assert len(told.subscriber._inputs.by_edge) == 1


def test_more_readers_than_one_output_can_have(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wiring, "MAX_COLUMNS", 2)
    told.start("a", "b")
    source = TopicSource("a", "out")
    listeners = [Listener(source, print, queue_size=1, replay_last=False) for _ in range(3)]
    told.wiring.reconcile(told.graph, listeners[:1])
    with pytest.raises(
        EngineError, match="too many readers of one output: 2 already hold messages"
    ):
        told.wiring.reconcile(told.graph, listeners[:2])
    # One goes, and its column is free once its publisher says so.
    first = next(key for key in told.wiring._connections if key[0] == "notebook")
    edge_id = told.wiring._connections[first].edge.edge_id
    told.wiring.reconcile(told.graph, [])
    told.wiring.edge_released("a", edge_id)
    told.wiring.reconcile(told.graph, listeners[2:])
    assert len(told.subscriber._inputs.by_edge) == 1
