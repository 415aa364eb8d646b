"""Both ends of some edges in one process, for tests that need no second one.

Imported by the tests and by `transport_peer.py`, which runs the same parts in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.transport import Arena, Input, Message, OutEdge, Output, new_arena_memory
from dora_nb.transport._arena import Slot
from dora_nb.transport.edge import Edge

LARGE = 100_000
"""Bytes of a payload that travels in a slot."""
VGA = 640 * 480 * 3


class Impatient:
    """A waiter for publishers that have no reason to wait."""

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        raise AssertionError("the publisher waits")

    def giving_up(self) -> bool:
        return False

    def note_overflow(self) -> None:
        pass


class Scripted:
    """A waiter that runs the next step of a script each time the publisher waits."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.stopping = False
        self.waited_on: list[int] = []

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        self.waited_on.append(descriptor)
        assert self.steps, "the publisher waits once more than the script says"
        self.steps.pop(0)()

    def giving_up(self) -> bool:
        return self.stopping

    def note_overflow(self) -> None:
        pass

    def stop(self) -> None:
        self.stopping = True


class Patient:
    """A waiter that waits for as long as the publisher asks, as the child program does."""

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        poller = select.poll()
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        poller.poll(timeout_secs * 1e3)

    def giving_up(self) -> bool:
        return False

    def note_overflow(self) -> None:
        pass


class Link:
    """One edge with both of its ends."""

    def __init__(self, edge: Edge, out: OutEdge, reader: Input) -> None:
        self.edge = edge
        self.out = out
        self.reader = reader

    def take(self) -> Message:
        """The next message; there must be one."""
        message = self.reader.take()
        assert message is not None, "no message is in line"
        return message

    def take_number(self) -> int:
        """The number that the next message carries."""
        return number_of(self.take())

    def take_all(self) -> list[int]:
        """The numbers of all messages that are in line now."""
        return [number_of(message) for message in iter(self.reader.take, None)]

    def tiny_socket(self) -> None:
        """From now on the socket holds as little as the kernel allows, whatever wmem_max says."""
        self.edge.tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def counts_add_up(self) -> bool:
        counts = self.edge.counts()
        return counts.sent == counts.received + counts.dropped + counts.queued


class Rig:
    """One output, its arena, and its edges. The descriptors are copied, as between processes."""

    def __init__(self, waiter: Any = None) -> None:
        self.warnings: list[str] = []
        self._open = contextlib.ExitStack()
        self._first: list[Callable[[], object]] = []
        self._next_edge = 1
        self.waiter = waiter or Impatient()
        self.memories: dict[int, int] = {}
        self.start_publisher(arena_number=1)
        self.links: list[Link] = []

    def start_publisher(self, arena_number: int) -> None:
        """A new generation of the publisher, with memory of its own; it has no edges yet."""
        self.arena = Arena(arena_number, self.new_memory(arena_number))
        self.output = Output("out", self.arena, waiter=self.waiter, warn=self.warnings.append)

    def new_memory(self, arena_number: int) -> int:
        """The descriptor of a new arena; readers made from now on are given it too."""
        self.memories[arena_number] = memory = new_arena_memory()
        self._open.callback(os.close, memory)
        return memory

    def edge(self) -> Edge:
        edge = Edge(self._next_edge)
        self._next_edge += 1
        self._open.callback(edge.close)
        return edge

    def publisher_end(self, edge: Edge, **options: Any) -> OutEdge:
        options = {"queue_size": 10, "drop_oldest": True, "column": edge.edge_id} | options
        tx, rx, words = edge.publisher_descriptors()
        return OutEdge(edge.edge_id, _copy_of(tx), _copy_of(rx), words, **options)

    def reader_end(self, edge: Edge) -> Input:
        rx, words = edge.reader_descriptors()
        reader = Input(edge.edge_id, _copy_of(rx), words, find_arena=_no_arena)
        for number, memory in self.memories.items():
            reader.add_arena(number, memory, edge.edge_id)
        return reader

    def connect(self, *, replay_last: bool = False, **options: Any) -> Link:
        edge = self.edge()
        link = Link(edge, self.publisher_end(edge, **options), self.reader_end(edge))
        self.output.attach(link.out, replay_last=replay_last)
        self.links.append(link)
        return link

    def send(self, number: int, size: int = 8) -> None:
        """Publishes a message that carries its number, in `size` bytes."""
        self.output.publish(numbered(number, size), None)

    def send_all(self, numbers: range, size: int = 8) -> None:
        for number in numbers:
            self.send(number, size)

    def leased(self) -> int:
        """How many slots some reader still needs, as far as the publisher has looked."""
        self.output.released()
        return sum(bool(slot.leases) for slot in self.arena.slots)

    def slots(self) -> list[Slot]:
        return self.arena.slots

    def at_close(self, act: Callable[[], object]) -> None:
        """Has something done before anything is closed."""
        self._first.append(act)

    def close(self) -> None:
        for act in self._first:
            act()
        with self._open:
            for link in self.links:
                self._open.callback(link.reader.close)
            self._open.callback(self.output.close)


@contextlib.contextmanager
def rig_with(waiter: Any = None) -> Iterator[Rig]:
    rig = Rig(waiter)
    try:
        yield rig
    finally:
        rig.close()


def numbered(number: int, size: int = 8) -> pa.Array[Any]:
    """An array of `size` bytes, every 8 of which hold the number."""
    data = np.full(size // 8, number, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(data), [None, pa.py_buffer(data)])


def number_of(message: Message) -> int:
    """The number that a message carries; the whole payload must agree on it."""
    values = np.frombuffer(message.value.buffers()[1], np.int64)
    assert (values == values[0]).all(), "a message was overwritten while it was held"
    return int(values[0])


def _copy_of(descriptor: int) -> socket.socket:
    return socket.socket(fileno=os.dup(descriptor))


def _no_arena(_edge_id: int, number: int) -> None:
    raise AssertionError(f"the reader meets arena {number}, which it was not given")
