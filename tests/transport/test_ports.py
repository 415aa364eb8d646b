"""The ends that a process holds: each is there from when it is added to when it is removed, and no longer."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from transport_rig import LARGE, Impatient, number_of, numbered

from dora_nb.transport import Input, InputPorts, OutputPorts, new_arena_memory
from dora_nb.transport.edge import Edge

OPTIONS: dict[str, Any] = {"queue_size": 10, "drop_oldest": True, "replay_last": False}


class Ends:
    """The ends of one process that sends and of one that reads, and the engine's copies between them."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.sought: list[tuple[int, int]] = []
        self.outputs = OutputPorts(waiter=Impatient(), warn=self.warnings.append)
        self.inputs = InputPorts(find_arena=self._find_arena)
        self.memory = new_arena_memory()
        self.edges: list[Edge] = []
        self.outputs.add("out", 1, os.dup(self.memory))

    def connect(self, edge_id: int, output: str = "out") -> Edge:
        """One more edge, the arena of its publisher announced to the reader."""
        edge = Edge(edge_id)
        self.edges.append(edge)
        self.publish_to(edge, output)
        self.inputs.add(edge_id, f"in-{edge_id}", edge.rx.dup(), edge.words_descriptor)
        self.inputs.add_arena(edge_id, 1, self.memory, edge_id)
        return edge

    def publish_to(self, edge: Edge, output: str = "out") -> None:
        descriptors = [os.dup(each) for each in edge.publisher_descriptors()]
        self.outputs.attach(edge.edge_id, output, descriptors, column=edge.edge_id, **OPTIONS)

    def send(self, number: int, size: int = 8) -> None:
        assert self.outputs.by_name["out"].publish(numbered(number, size), None)

    def take(self, edge_id: int) -> Any:
        message = self.reader(edge_id).take()
        assert message is not None
        return message

    def reader(self, edge_id: int) -> Input:
        return self.inputs.by_edge[edge_id][1]

    def close(self) -> None:
        self.inputs.close()
        self.outputs.close()
        for edge in self.edges:
            edge.close()
        os.close(self.memory)

    def _find_arena(self, edge_id: int, number: int) -> None:
        self.sought.append((edge_id, number))
        self.inputs.add_arena(edge_id, number, self.memory, edge_id)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    with contextlib.closing(made):
        yield made


# -- inputs ----------------------------------------------------------------------------------------


def test_an_input_is_found_by_its_edge_and_by_its_descriptor(ends: Ends) -> None:
    ends.connect(1)
    ends.connect(2)
    assert [name for name, _ in ends.inputs.by_edge.values()] == ["in-1", "in-2"]
    for edge_id in (1, 2):
        assert ends.inputs.edge_of_descriptor[ends.reader(edge_id).fileno()] == edge_id


def test_an_input_that_is_removed_is_closed_and_what_came_by_it_stays(ends: Ends) -> None:
    ends.connect(1)
    ends.send(5, LARGE)
    message, descriptor = ends.take(1), ends.reader(1).fileno()
    ends.inputs.remove(1)
    assert (ends.inputs.by_edge, ends.inputs.edge_of_descriptor) == ({}, {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert number_of(message) == 5
    with pytest.raises(KeyError):
        ends.inputs.remove(1)


def test_what_is_said_of_the_memory_of_a_removed_input_means_nothing(ends: Ends) -> None:
    """The engine may have told it before it heard that the edge is gone."""
    ends.connect(1)
    ends.inputs.remove(1)
    ends.inputs.add_arena(1, 2, ends.memory, 1)
    ends.inputs.retire_arena(1, 2)
    with pytest.raises(KeyError):
        ends.inputs.has_arena(1, 2)


def test_memory_that_was_not_announced_is_asked_for(ends: Ends) -> None:
    ends.connect(1)
    assert ends.inputs.has_arena(1, 1)
    ends.inputs.retire_arena(1, 1)
    assert not ends.inputs.has_arena(1, 1)
    ends.send(7, LARGE)
    assert number_of(ends.take(1)) == 7
    assert ends.sought == [(1, 1)]
    assert ends.inputs.has_arena(1, 1)


def test_an_input_that_cannot_be_made_leaves_nothing_open(ends: Ends) -> None:
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    no_page = os.open(os.devnull, os.O_RDONLY)
    with writing, pytest.raises(OSError, match="Permission denied"):
        ends.inputs.add(1, "in", reading, no_page)
    assert reading.fileno() == -1
    os.fstat(no_page)  # It is the caller's.
    os.close(no_page)
    assert (ends.inputs.by_edge, ends.inputs.edge_of_descriptor) == ({}, {})


def test_the_datagram_taken_last_lies_where_the_holder_says(ends: Ends) -> None:
    ends.inputs.hand = memoryview(bytearray(8192))
    ends.connect(1)
    ends.send(9)
    ends.take(1)
    assert number_of_bytes(ends.inputs.hand) == 9


def number_of_bytes(hand: memoryview) -> int:
    """The number in the datagram of a message of 8 bytes."""
    return int.from_bytes(hand[48:56], "little")


# -- outputs ---------------------------------------------------------------------------------------


def test_an_output_sends_to_each_of_its_edges(ends: Ends) -> None:
    ends.outputs.add("other", 2, new_arena_memory())
    ends.connect(1)
    ends.connect(2)
    ends.connect(3, "other")
    ends.send(4)
    assert [number_of(ends.take(edge_id)) for edge_id in (1, 2)] == [4, 4]
    assert ends.reader(3).take() is None
    assert {edge.edge_id for edge in ends.outputs.attached_edges()} == {1, 2, 3}


def test_a_late_reader_may_ask_for_the_newest_message(ends: Ends) -> None:
    ends.send(3)
    edge = Edge(1)
    ends.edges.append(edge)
    descriptors = [os.dup(each) for each in edge.publisher_descriptors()]
    ends.outputs.attach(1, "out", descriptors, column=1, **OPTIONS | {"replay_last": True})
    assert edge.counts().queued == 1


def test_an_edge_is_released_when_its_reader_holds_nothing_more(ends: Ends) -> None:
    edge = ends.connect(1)
    ends.send(1, LARGE)
    held = ends.take(1)
    ends.outputs.detach(1)
    assert ends.outputs.released() == []
    assert list(ends.outputs.attached_edges()) == []
    assert ends.outputs.edge(1) is not None  # It may still be told that the reader has died.
    del held
    assert ends.outputs.released() == [1]
    assert ends.outputs.released() == []
    assert ends.outputs.edge(1) is None
    assert edge.counts().sent == edge.counts().received == 1


def test_an_edge_is_released_when_its_reader_has_died(ends: Ends) -> None:
    edge = ends.connect(1)
    ends.send(1, LARGE)
    held = ends.take(1)
    ends.outputs.detach(1)
    assert ends.outputs.released() == []
    ends.outputs.void_leases(1, edge.settle_reader())
    assert ends.outputs.released() == [1]
    assert number_of(held) == 1


def test_an_edge_that_is_not_waited_for_any_more_gets_nothing(ends: Ends) -> None:
    """Before it is detached, which may have to wait for a thread that waits for that very edge."""
    edge = ends.connect(1)
    ends.outputs.stop_waiting_for(1)
    ends.outputs.stop_waiting_for(2)  # Unknown: the engine's message may have crossed its end.
    ends.send(1)
    assert edge.counts().sent == 0
    assert list(ends.outputs.attached_edges()) == []
    ends.outputs.detach(1)
    assert ends.outputs.released() == [1]


def test_a_removed_output_keeps_its_memory_while_a_reader_holds_a_message_of_it(ends: Ends) -> None:
    ends.connect(1)
    ends.send(1, LARGE)
    held, output = ends.take(1), ends.outputs.by_name["out"]
    ends.outputs.detach(1)
    ends.outputs.remove("out")
    assert not output.publish(numbered(2), None)
    assert ends.outputs.by_name == {}
    assert ends.outputs.released() == []
    assert output.is_held
    del held
    assert ends.outputs.released() == [1]
    assert not output.is_held


def test_overflow_of_every_output_is_moved_on(ends: Ends) -> None:
    edge = ends.connect(1)
    edge.tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sent = 10
    for number in range(sent):
        ends.send(number)
    out_edge = ends.outputs.edge(1)
    assert out_edge is not None
    assert out_edge.overflow
    taken = []
    while ends.outputs.flush():
        taken.append(number_of(ends.take(1)))
    taken += [number_of(message) for message in iter(ends.reader(1).take, None)]
    assert taken == list(range(sent))


def test_everything_can_be_closed_while_an_edge_is_detached_and_not_released(ends: Ends) -> None:
    ends.connect(1)
    ends.connect(2)
    ends.send(1, LARGE)
    held = ends.take(1)
    ends.outputs.detach(1)
    assert ends.outputs.released() == []
    ends.outputs.close()
    assert ends.outputs.edge(1) is ends.outputs.edge(2) is None
    assert number_of(held) == 1


def test_an_edge_that_is_taken_away_while_it_is_attached_is_known_by_then(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To attach may wait for another thread's send, and the engine is served meanwhile."""
    output = ends.outputs.by_name["out"]
    attach = output.attach

    def wait_and_attach(edge: Any, *, replay_last: bool) -> None:
        ends.outputs.stop_waiting_for(edge.edge_id)
        attach(edge, replay_last=replay_last)

    monkeypatch.setattr(output, "attach", wait_and_attach)
    edge = ends.connect(1)
    ends.send(1)
    assert edge.counts().sent == 0
