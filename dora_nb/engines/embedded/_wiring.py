"""Edges and arenas of one session: who holds which ends, and what a death gives back.

The engine makes every descriptor here and keeps it, so any generation of an operator can be given the
same ends, whether the one before is alive, was stopped or was killed. Everything is done under the
session's lock, by telling processes what they hold; nothing here waits for anybody.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dora_nb.errors import EngineError
from dora_nb.graph import graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import LOGS, NOTEBOOK, RESERVED_NAMES, LogSource
from dora_nb.protocol import control
from dora_nb.status import EdgeStatus
from dora_nb.transport import MAX_COLUMNS, new_arena_memory
from dora_nb.transport.edge import Edge, EdgeCounts

from ._kernel_subscriber import KernelSubscriber, Listener

Tell = Callable[[str, control.ToProcess, list[int]], None]
_ALL_MESSAGES = 2**62
_NO_COUNTS = EdgeCounts(sent=0, received=0, dropped=0, queued=0)


@dataclass(eq=False)
class ArenaRecord:
    """The memory of one output of one generation, as long as a message in it may be unread."""

    number: int
    descriptor: int
    columns: dict[int, int] = field(default_factory=dict)
    """Which column of the lease table belongs to which edge."""
    free_columns: list[int] = field(default_factory=list)
    last_pushed: dict[int, int] | None = None
    """By edge, once the generation has ended: the last message that can lie in this arena."""

    def column_of(self, edge_id: int) -> int:
        """The edge's column; one that is free on its first call."""
        if edge_id not in self.columns:
            used = len(self.columns) + len(self.free_columns)
            if not self.free_columns and used >= MAX_COLUMNS:
                raise EngineError(
                    f"too many readers of one output: {used} already hold messages of it.",
                    hint="Remove readers, or release the arrays that they hold.",
                )
            self.columns[edge_id] = self.free_columns.pop() if self.free_columns else used
        return self.columns[edge_id]

    def release_column(self, edge_id: int) -> None:
        """No lease of that edge is left."""
        if edge_id in self.columns:
            self.free_columns.append(self.columns.pop(edge_id))


@dataclass(eq=False)
class Connection:
    """An edge of the graph and the edge of the transport that carries it now."""

    spec: graph.Edge
    edge: Edge
    listener: Listener | None = None
    publisher_on: bool = False
    reader_on: bool = False
    publisher_ended: bool = False
    """The publisher has ended for good."""
    reader_ended: bool = False
    """The reader has ended for good; should it come back, it gets a new edge."""
    announced: set[int] = field(default_factory=set)
    """The arenas that the reader was told of."""
    earlier: EdgeCounts = _NO_COUNTS
    """Counts of the edges that this connection had before."""

    @property
    def output(self) -> str:
        """The publisher's name for what it carries. Everybody has a log of his own, without his own lines."""
        spec = self.spec
        if isinstance(spec.source, LogSource):
            return log_output(spec)
        return spec.source.output

    @property
    def topic(self) -> str:
        """The same, with the publisher."""
        return f"{self.spec.source.node}/{self.output}"

    def counts(self) -> EdgeCounts:
        """Over all edges that this connection had; what nobody will read counts as dropped."""
        now = self.edge.counts()
        unread = now.queued if self.reader_ended else 0
        return EdgeCounts(
            sent=self.earlier.sent + now.sent,
            received=self.earlier.received + now.received,
            dropped=self.earlier.dropped + now.dropped + unread,
            queued=now.queued - unread,
        )

    def last_counts(self) -> EdgeCounts:
        """The same where it is about to be taken away: what stands in line is dropped."""
        counts = self.counts()
        return dataclasses.replace(counts, dropped=counts.dropped + counts.queued, queued=0)

    def status(self) -> EdgeStatus:
        """The connection as a user sees it."""
        counts = self.counts()
        read = self.spec.input
        return EdgeStatus(
            topic=str(self.spec.source),
            reader=self.spec.reader,
            input=read.name,
            queue_size=read.queue_size,
            policy=read.queue_policy,
            sent=counts.sent,
            received=counts.received,
            dropped=counts.dropped,
            queued=counts.queued,
        )


class Wiring:
    """All connections of a session. `tell` reaches a node's process, or nobody if there is none;
    `given_up` says how many messages of a topic were lost before they came to its edges."""

    def __init__(
        self, tell: Tell, subscriber: KernelSubscriber, *, given_up: Callable[[str], int]
    ) -> None:
        self._tell = tell
        self._subscriber = subscriber
        self._given_up = given_up
        self._connections: dict[tuple[str, str], Connection] = {}
        self._arenas: dict[str, list[ArenaRecord]] = {}
        self._attached: set[str] = set(RESERVED_NAMES)
        self._detached: dict[str, list[tuple[str, int]]] = {}
        """By reader: publishers and edges that were taken away while it may hold messages of them."""
        self._edge_ids = itertools.count(1)
        self._arena_numbers = itertools.count(1)

    # -- what the graph says ------------------------------------------------------------------------

    def reconcile(self, declared: graph.Graph, listeners: Iterable[Listener]) -> None:
        """Makes the connections what the graph and the kernel's subscriptions say; touches no other."""
        by_key: dict[tuple[str, str], tuple[graph.Edge, Listener | None]] = {
            (edge.reader, edge.input.name): (edge, None) for edge in declared.edges()
        }
        for listener in listeners:
            source = listener.source
            owner = declared.nodes.get(source.node)
            owned = owner is not None and source.output in owner.outputs
            if owned or source.node == NOTEBOOK:
                edge = listener.as_edge()
                by_key[edge.reader, edge.input.name] = (edge, listener)
        earlier: dict[tuple[str, str], EdgeCounts] = {}
        for key, connection in list(self._connections.items()):
            if key not in by_key or by_key[key][0] != connection.spec:
                if key in by_key and by_key[key][0].source == connection.spec.source:
                    earlier[key] = connection.last_counts()
                self._disconnect(self._connections.pop(key))
        for key, (edge, wanted_by) in by_key.items():
            if key not in self._connections:
                reader = declared.nodes.get(edge.reader)
                absent = reader is not None and reader.kind == "dynamic"
                self._connect(key, edge, wanted_by, may_be_absent=absent)
                if key in earlier:  # The same topic with another queue counts on.
                    self._connections[key].earlier = earlier[key]

    def statuses(self) -> list[tuple[graph.Edge, EdgeStatus]]:
        """Every connection's status, with its edge of the graph."""
        return [(each.spec, self._status(each)) for each in self._connections.values()]

    def _status(self, connection: Connection) -> EdgeStatus:
        """With what never came as far as the edge."""
        status = connection.status()
        lost = self._given_up(connection.topic)
        return dataclasses.replace(status, sent=status.sent + lost, dropped=status.dropped + lost)

    # -- what processes do --------------------------------------------------------------------------

    def attach_process(self, spec: NodeSpec) -> None:
        """Gives a new process of an operator everything that it holds. Readers learn of its memory first."""
        self._attached.add(spec.name)
        self._forget_arenas(spec.name, but=spec.outputs)
        for output in spec.outputs:
            self._new_arena(spec.name, output)
        for connection in self._reading_from(spec.name):
            if not connection.reader_ended:
                self._switch_publisher_on(connection)
        for connection in self._read_by(spec.name):
            if connection.reader_ended:
                self._renew(connection)
            self._switch_reader_on(connection)

    def process_gone(self, name: str, *, for_good: bool, outputs_closed: bool) -> None:
        """Settles what a process held when it ended; tells its neighbours if nobody follows it."""
        self._attached.discard(name)
        for publisher, edge_id in self._detached.pop(name, []):
            self._tell(publisher, control.VoidLeases(edge_id, _ALL_MESSAGES), [])
        for connection in self._read_by(name):
            up_to = connection.edge.settle_reader()
            connection.reader_on = False
            self._tell_publisher(connection, control.VoidLeases(connection.edge.edge_id, up_to))
            if for_good:
                self._switch_publisher_off(connection)
                connection.reader_ended = True
        for connection in self._reading_from(name):
            connection.edge.settle_publisher()
            connection.publisher_on = False
            if outputs_closed:
                self._close(connection)
        self._end_arenas_of(name)

    def find_input(self, name: str, edge_id: int) -> tuple[str, Callable[[int], tuple[int, int]]]:
        """The input of an edge that the node reads, and what finds an arena and the edge's column in it.

        Both raise LookupError where there is none any more.
        """
        connection = next(
            (each for each in self._read_by(name) if each.edge.edge_id == edge_id), None
        )
        if connection is None:
            raise LookupError("its input has been removed")
        arenas = {
            arena.number: (arena.descriptor, arena.columns[edge_id])
            for arena in self._arenas.get(connection.topic, [])
            if edge_id in arena.columns
        }

        def arena_of(number: int) -> tuple[int, int]:
            if number not in arenas:
                raise LookupError("its memory has been released")
            return arenas[number]

        return connection.spec.input.name, arena_of

    def hand_over(self, name: str) -> list[tuple[str, int, int]]:
        """A living process of that operator reads and sends no more: settles its ends for the next.

        What it still holds is returned, by publisher and edge with the number up to which it may hold
        messages, and stays untouched until `void_leases`.
        """
        self._attached.discard(name)
        leases = []
        for connection in self._read_by(name):
            edge = connection.edge
            leases.append((connection.spec.source.node, edge.edge_id, edge.settle_reader()))
            connection.reader_on = False
        for publisher, edge_id in self._detached.pop(name, []):
            leases.append((publisher, edge_id, _ALL_MESSAGES))
        for connection in self._reading_from(name):
            connection.edge.settle_publisher()
            connection.publisher_on = False
        self._end_arenas_of(name)
        return leases

    def void_leases(self, leases: Iterable[tuple[str, int, int]]) -> None:
        """The process that held them is gone."""
        for publisher, edge_id, up_to in leases:
            self._tell(publisher, control.VoidLeases(edge_id, up_to), [])

    def change_outputs(
        self, spec: NodeSpec, declared: graph.Graph, listeners: Iterable[Listener]
    ) -> None:
        """A living process of an operator has other outputs and inputs now; touches only what changed."""
        had = {
            topic.partition("/")[2]
            for topic, arenas in self._arenas.items()
            if topic.partition("/")[0] == spec.name
            and any(arena.last_pushed is None for arena in arenas)
        }
        for output in spec.outputs:
            if output not in had:
                self._new_arena(spec.name, output)
        self.reconcile(declared, listeners)
        for output in had.difference(spec.outputs):
            self._tell(spec.name, control.RemoveOutput(output), [])
        self._forget_arenas(spec.name, but=spec.outputs)

    def edge_released(self, publisher: str, edge_id: int) -> None:
        """The reader of an edge that was taken away holds nothing of that publisher any more."""
        for topic, arenas in self._arenas.items():
            if topic.partition("/")[0] == publisher:
                for arena in arenas:
                    arena.release_column(edge_id)
        for detached in self._detached.values():
            if (publisher, edge_id) in detached:
                detached.remove((publisher, edge_id))

    def has_live_publisher(self, name: str) -> bool:
        """Whether a process is there that may still send something to this operator."""
        return any(
            not each.publisher_ended and each.spec.source.node in self._attached
            for each in self._read_by(name)
        )

    def has_open_input(self, name: str) -> bool:
        """Whether an input of this node has not been closed by its publisher's end."""
        return any(not each.publisher_ended for each in self._read_by(name))

    def forget(self, name: str) -> None:
        """An operator that has ended is no longer declared: nothing of it is kept."""
        self._forget_arenas(name, but=())
        for detached in self._detached.values():
            detached[:] = [(publisher, edge) for publisher, edge in detached if publisher != name]

    def close_in_fork(self) -> None:
        """In a process forked from the kernel: gives back what it inherited of memory and sockets."""
        for connection in self._connections.values():
            connection.edge.tx.close()
            connection.edge.rx.close()
        for arenas in self._arenas.values():
            for arena in arenas:
                os.close(arena.descriptor)

    def close(self) -> None:
        """Closes every descriptor; all processes are gone."""
        for connection in self._connections.values():
            if connection.listener is not None and connection.reader_on:
                self._subscriber.detach(connection.listener)
            self._detach(connection)
        self._connections.clear()
        for arenas in self._arenas.values():
            for arena in arenas:
                os.close(arena.descriptor)
        self._arenas.clear()

    # -- one connection -----------------------------------------------------------------------------

    def _connect(
        self,
        key: tuple[str, str],
        edge: graph.Edge,
        listener: Listener | None,
        *,
        may_be_absent: bool,
    ) -> None:
        """Makes the connection, or raises (OSError, EngineError) and there is none.

        A reader that may stay away for as long as it likes gets no messages before it is there.
        """
        connection = Connection(edge, Edge(next(self._edge_ids)), listener)
        connection.reader_ended = may_be_absent and edge.reader not in self._attached
        if listener is not None and listener.last_status is not None:
            connection.earlier = _counts_of(listener.last_status)
        try:
            if edge.source.node in RESERVED_NAMES and connection.topic not in self._arenas:
                self._new_arena(edge.source.node, connection.output)
            if listener is not None or edge.reader in self._attached:
                self._switch_reader_on(connection)
            if self._is_published(connection.topic) and not connection.reader_ended:
                self._switch_publisher_on(connection)
        except BaseException:
            self._disconnect(connection)
            raise
        self._connections[key] = connection

    def _disconnect(self, connection: Connection) -> None:
        if connection.reader_on:
            if connection.listener is not None:
                self._subscriber.detach(connection.listener)
            else:
                message = control.RemoveInput(connection.edge.edge_id)
                self._tell(connection.spec.reader, message, [])
                detached = (connection.spec.source.node, connection.edge.edge_id)
                self._detached.setdefault(connection.spec.reader, []).append(detached)
        self._switch_publisher_off(connection)
        self._detach(connection)

    def _detach(self, connection: Connection) -> None:
        """Nobody reads or writes it any more. A subscription, which goes on, keeps its counts."""
        if connection.listener is not None:
            connection.reader_ended = True
            connection.listener.last_status = connection.status()
        connection.edge.close()

    def _renew(self, connection: Connection) -> None:
        """A new edge for a reader that comes back: what its old one held is no longer protected."""
        new_edge = Edge(next(self._edge_ids))
        connection.earlier = connection.counts()
        connection.edge.close()
        connection.edge = new_edge
        connection.announced.clear()
        connection.reader_ended = False
        if self._is_published(connection.topic):
            self._switch_publisher_on(connection)

    def _switch_publisher_on(self, connection: Connection) -> None:
        read, edge = connection.spec.input, connection.edge
        arena = self._arenas[connection.topic][-1]
        column = arena.column_of(edge.edge_id)
        if connection.reader_on:
            self._announce(connection, arena)
        self._reopen(connection)
        message = control.AddReader(
            edge.edge_id,
            connection.output,
            read.queue_size,
            # A log never holds up who prints.
            read.queue_policy == "drop_oldest" or connection.spec.source.node == LOGS,
            column,
            connection.listener is not None and connection.listener.replay_last,
        )
        self._tell(connection.spec.source.node, message, edge.publisher_descriptors())
        connection.publisher_on = True

    def _switch_publisher_off(self, connection: Connection) -> None:
        if connection.publisher_on:
            self._tell_publisher(connection, control.RemoveReader(connection.edge.edge_id))
            connection.publisher_on = False

    def _switch_reader_on(self, connection: Connection) -> None:
        connection.announced.clear()
        if connection.listener is not None:
            self._subscriber.attach(connection.listener, connection.edge)
        else:
            message = control.AddInput(connection.edge.edge_id, connection.spec.input.name)
            self._tell(connection.spec.reader, message, connection.edge.reader_descriptors())
        connection.reader_on = True
        for arena in self._arenas.get(connection.topic, []):
            # One whose publisher has ended holds messages of the edges of its time only.
            if arena.last_pushed is None or connection.edge.edge_id in arena.columns:
                self._announce(connection, arena)
        if connection.publisher_ended:
            self._close(connection)

    def _announce(self, connection: Connection, arena: ArenaRecord) -> None:
        if arena.number in connection.announced:
            return
        edge_id = connection.edge.edge_id
        column = arena.column_of(edge_id)
        if connection.listener is not None:
            self._subscriber.add_arena(connection.listener, arena.number, arena.descriptor, column)
        else:
            message = control.AddArena(edge_id, arena.number, column)
            self._tell(connection.spec.reader, message, [arena.descriptor])
        connection.announced.add(arena.number)

    def _close(self, connection: Connection) -> None:
        connection.publisher_ended = True
        if connection.reader_on and connection.listener is None:
            message = control.CloseInput(connection.edge.edge_id)
            self._tell(connection.spec.reader, message, [])

    def _reopen(self, connection: Connection) -> None:
        if connection.publisher_ended and connection.reader_on and connection.listener is None:
            message = control.OpenInput(connection.edge.edge_id)
            self._tell(connection.spec.reader, message, [])
        connection.publisher_ended = False

    def _tell_publisher(self, connection: Connection, message: control.ToProcess) -> None:
        self._tell(connection.spec.source.node, message, [])

    # -- arenas -------------------------------------------------------------------------------------

    def _is_published(self, topic: str) -> bool:
        """Whether a process is there that has this output; one that is about to be replaced may not."""
        return any(arena.last_pushed is None for arena in self._arenas.get(topic, []))

    def _new_arena(self, node: str, output: str) -> None:
        topic = f"{node}/{output}"
        arena = ArenaRecord(next(self._arena_numbers), new_arena_memory())
        self._arenas.setdefault(topic, []).append(arena)
        self._retire_drained(topic)
        self._tell(node, control.AddOutput(output, arena.number), [arena.descriptor])

    def _end_arenas_of(self, name: str) -> None:
        for topic, arenas in self._arenas.items():
            if topic.partition("/")[0] == name:
                self._end_arenas(topic, arenas)

    def _end_arenas(self, topic: str, arenas: list[ArenaRecord]) -> None:
        last_pushed = {
            each.edge.edge_id: each.edge.last_pushed()
            for each in self._connections.values()
            if each.topic == topic
        }
        for arena in arenas:
            if arena.last_pushed is None:
                arena.last_pushed = last_pushed

    def _retire_drained(self, topic: str) -> None:
        """Lets go of the memory of generations whose last message was taken by every reader."""
        readers = [each for each in self._connections.values() if each.topic == topic]
        for arena in list(self._arenas[topic]):
            if arena.last_pushed is None:
                continue
            last_pushed = arena.last_pushed
            if any(
                each.edge.last_taken() < last_pushed.get(each.edge.edge_id, 0)
                for each in readers
                if not each.reader_ended
            ):
                continue
            for each in readers:
                self._retire_arena(each, arena.number)
            os.close(arena.descriptor)
            self._arenas[topic].remove(arena)

    def _forget_arenas(self, node: str, *, but: Iterable[str]) -> None:
        """Lets go of the memory of outputs that the node has no more. Readers have their own hold."""
        kept = {f"{node}/{output}" for output in but}
        for topic in [each for each in self._arenas if each.partition("/")[0] == node]:
            if topic not in kept:
                for arena in self._arenas.pop(topic):
                    os.close(arena.descriptor)

    def _retire_arena(self, connection: Connection, arena_number: int) -> None:
        if not connection.reader_on:
            return
        if connection.listener is not None:
            self._subscriber.retire_arena(connection.listener, arena_number)
        else:
            message = control.RetireArena(connection.edge.edge_id, arena_number)
            self._tell(connection.spec.reader, message, [])

    def _reading_from(self, node: str) -> list[Connection]:
        return [each for each in self._connections.values() if each.spec.source.node == node]

    def _read_by(self, node: str) -> list[Connection]:
        return [each for each in self._connections.values() if each.spec.reader == node]


def log_output(edge: graph.Edge) -> str:
    """The output of the pseudo-node of logs that this edge reads."""
    return f"{edge.source.output} for {edge.reader}/{edge.input.name}"


def _counts_of(status: EdgeStatus) -> EdgeCounts:
    return EdgeCounts(
        sent=status.sent,
        received=status.received,
        dropped=status.dropped,
        queued=status.queued,
    )
