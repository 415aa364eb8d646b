"""The ends of edges that one process holds: `InputPorts` for what it reads, `OutputPorts` for what it sends.

Used by every process that takes part in a dataflow: an operator's loop, a script, a node that has joined,
and the kernel. Each method does what one message of the engine says (`dora_nb.protocol.control`); when
it is done, and what follows for timers, polls and events, is the holder's business.

Neither class takes a lock. A holder whose inputs are read in one thread and changed in another guards
both with a lock of its own: it has to hold that lock over more than one call here anyway, such as to add
an input *and* to watch it. Outputs guard themselves (`Output`), so any thread may publish at any time.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence

from ._arena import Arena
from ._publisher import OutEdge, Output, Waiter
from ._subscriber import Input


class InputPorts:
    """The inputs of a process, by the id of their edge.

    `find_arena(edge_id, number)` is called when a message lies in an arena that is not known yet; see `Input`.
    """

    def __init__(self, *, find_arena: Callable[[int, int], None]) -> None:
        self.by_edge: dict[int, tuple[str, Input]] = {}
        """Each input and its name. Several edges may have the same name, one after the other."""
        self.edge_of_descriptor: dict[int, int] = {}
        """Which edge a descriptor that poll(2) names belongs to."""
        self.hand: memoryview | None = None
        """Where inputs added from now on leave the datagram that they took last; see `Input`."""
        self._find_arena = find_arena

    def add(self, edge_id: int, name: str, rx: socket.socket, words_descriptor: int) -> Input:
        """Begins to hold the reading end of an edge.

        The socket is this object's from now on, also if this fails; the descriptor stays the caller's.
        """
        try:
            reader = Input(
                edge_id, rx, words_descriptor, find_arena=self._find_arena, hand=self.hand
            )
        except BaseException:
            rx.close()
            raise
        self.by_edge[edge_id] = (name, reader)
        self.edge_of_descriptor[reader.fileno()] = edge_id
        return reader

    def remove(self, edge_id: int) -> None:
        """Closes an input. Arrays that came by it stay valid. Stop watching its descriptor before."""
        _, reader = self.by_edge.pop(edge_id)
        # Before the close: the system may give the number to another thread's file at once.
        del self.edge_of_descriptor[reader.fileno()]
        reader.close()

    def add_arena(self, edge_id: int, number: int, memory: int, column: int) -> None:
        """Lets messages of an edge lie in that memory. Nothing where the edge is gone."""
        if edge_id in self.by_edge:
            self.by_edge[edge_id][1].add_arena(number, memory, column)

    def retire_arena(self, edge_id: int, number: int) -> None:
        """No further message of that edge lies in that arena. Nothing where the edge is gone."""
        if edge_id in self.by_edge:
            self.by_edge[edge_id][1].retire_arena(number)

    def has_arena(self, edge_id: int, number: int) -> bool:
        """Whether that arena of that edge is known. KeyError where the edge is gone."""
        return self.by_edge[edge_id][1].has_arena(number)

    def close(self) -> None:
        """Closes every input."""
        for edge_id in list(self.by_edge):
            self.remove(edge_id)


class OutputPorts:
    """The outputs of a process, by their names, and the publishing ends of their edges.

    `waiter` and `warn` are given to each `Output`.
    """

    def __init__(self, *, waiter: Waiter, warn: Callable[[str], None]) -> None:
        self.by_name: dict[str, Output] = {}
        self._edges: dict[int, tuple[Output, OutEdge]] = {}
        """By edge, also those that were detached while their reader may still hold messages."""
        self._ended: list[Output] = []
        """Outputs that were removed while readers may still hold messages of them."""
        self._waiter = waiter
        self._warn = warn

    def add(self, name: str, arena_number: int, memory: int) -> None:
        """Makes an output whose messages lie in that memory. The descriptor is closed: a mapping is kept."""
        arena = Arena(arena_number, memory)
        os.close(memory)
        self.by_name[name] = Output(name, arena, waiter=self._waiter, warn=self._warn)

    def remove(self, name: str) -> None:
        """Ends an output. Its memory stays until no reader holds a message of it; see `released`."""
        output = self.by_name.pop(name)
        output.end()
        self._ended.append(output)

    def attach(
        self,
        edge_id: int,
        output_name: str,
        descriptors: Sequence[int],
        *,
        queue_size: int,
        drop_oldest: bool,
        column: int,
        replay_last: bool,
    ) -> None:
        """Publishes an output to one more edge. Takes over the descriptors (`Edge.publisher_descriptors`)."""
        edge = OutEdge.from_descriptors(
            edge_id,
            descriptors,
            queue_size=queue_size,
            drop_oldest=drop_oldest,
            column=column,
        )
        output = self.by_name[output_name]
        # Known before it is attached: to attach may wait for another thread's send, and the message that
        # ends this wait, since it takes the edge away again, must find it here.
        self._edges[edge_id] = (output, edge)
        output.attach(edge, replay_last=replay_last)

    def change_queue(self, edge_id: int, *, queue_size: int, drop_oldest: bool) -> None:
        """Gives an edge another queue, and keeps the messages in line as far as that allows.

        Nothing where the edge is gone.
        """
        if edge_id in self._edges:
            output, edge = self._edges[edge_id]
            output.change_queue(edge, queue_size=queue_size, drop_oldest=drop_oldest)

    def wait_as_in(self, edge_id: int, *, queue_size: int, drop_oldest: bool) -> None:
        """Lets every wait for room in that edge look at its new queue, before `change_queue`, which may wait.

        Takes no lock, as `stop_waiting_for`.
        """
        if edge_id in self._edges:
            self._edges[edge_id][1].set_queue(queue_size=queue_size, drop_oldest=drop_oldest)

    def stop_waiting_for(self, edge_id: int) -> None:
        """Ends every wait for room in that edge, before `detach`, which may have to wait itself.

        Takes no lock: the thread that holds the output's may be the one that waits.
        """
        # One store, which the thread that waits for room looks at after each of its waits.
        if edge_id in self._edges:
            self._edges[edge_id][1].attached = False

    def detach(self, edge_id: int) -> None:
        """Stops publishing to an edge. What its reader holds stays untouched; see `released`."""
        output, edge = self._edges[edge_id]
        output.detach(edge)

    def void_leases(self, edge_id: int, up_to: int) -> None:
        """The edge's reader has died: what it held up to that sequence number is free."""
        self._edges[edge_id][1].void(up_to)

    def released(self) -> list[int]:
        """The edges that were detached and whose readers hold nothing any more; each is named once."""
        free = [
            edge.edge_id
            for output in [*self.by_name.values(), *self._ended]
            for edge in output.released()
        ]
        # Not before: until then the engine may say that the edge's reader has died (`void_leases`).
        for edge_id in free:
            self._edges.pop(edge_id, None)
        # The memory of an output goes with the last that refers to it.
        self._ended = [output for output in self._ended if output.is_held]
        return free

    def flush(self) -> bool:
        """Moves on what the sockets could not hold; whether some is left."""
        left = [output.flush() for output in self.by_name.values()]
        return any(left)

    def edge(self, edge_id: int) -> OutEdge | None:
        """The publishing end of that edge, if this process has one."""
        return self._edges[edge_id][1] if edge_id in self._edges else None

    def attached_edges(self) -> Iterator[OutEdge]:
        """The edges that are published to."""
        return (edge for _, edge in self._edges.values() if edge.attached)

    def close(self) -> None:
        """Closes every edge and unmaps the memory. Messages in an overflow are lost."""
        # The edges before the memory: an edge that is closed counts what it loses, an arena only unmaps.
        for _, edge in self._edges.values():
            edge.close()
        self._edges.clear()
        for output in self.by_name.values():
            output.arena.close()
        self.by_name.clear()
        self._ended.clear()
