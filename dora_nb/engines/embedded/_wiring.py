"""Edges and arenas of one session: which process holds which ends, and what the end of a process gives back.

The engine creates every descriptor here and keeps it. So each generation of an operator gets the same ends,
whether the previous one is alive, was stopped or was killed. All methods are called under the session's lock
and send messages to the processes; none of them waits.
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
from dora_nb.graph.services import Publisher, shown_name, stand_ins, wired_edges
from dora_nb.graph.sources import (
    CONTROLS,
    LOGS,
    NOTEBOOK,
    PLAYER,
    RESERVED_NAMES,
    LogSource,
    TopicSource,
)
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
    """The memory of one output of one generation, kept as long as it may hold an unread message."""

    number: int
    descriptor: int
    columns: dict[int, int] = field(default_factory=dict)
    """The column of the lease table, by edge."""
    free_columns: list[int] = field(default_factory=list)
    last_pushed: dict[int, int] | None = None
    """By edge, once the generation has ended: the number of the last message that can be in this arena."""

    def column_of(self, edge_id: int) -> int:
        """Returns the edge's column; takes a free one on the first call."""
        # A column is reused only after `release_column`: a reader that still holds messages writes its leases
        # there, and would free those of another reader.
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
        """Frees the edge's column: no lease of that edge is left."""
        if edge_id in self.columns:
            self.free_columns.append(self.columns.pop(edge_id))


@dataclass(eq=False)
class Connection:
    """An edge of the graph, and the edge of the transport that carries it now."""

    spec: graph.Edge
    edge: Edge
    publisher: str
    """The node whose process sends: the source's, or the service that stands in for it."""
    output: str
    """The name of the publisher's output. Each reader of logs has one of its own, without its own lines."""
    listener: Listener | None = None
    holds_publisher_up: bool = False
    """Whether a full queue holds the publisher up whatever was declared."""
    publisher_on: bool = False
    reader_on: bool = False
    publisher_ended: bool = False
    """Whether the publisher has ended for good."""
    reader_ended: bool = False
    """Whether the reader has ended for good; if it comes back, it gets a new edge."""
    announced: set[int] = field(default_factory=set)
    """The arenas that the reader knows."""
    earlier: EdgeCounts = _NO_COUNTS
    """Counts of the edges that this connection had before."""

    @property
    def topic(self) -> str:
        """The output with its publisher: ``PUBLISHER/OUTPUT``."""
        return f"{self.publisher}/{self.output}"

    @property
    def drops_oldest(self) -> bool:
        """Whether its queue drops the oldest message when it is full."""
        # Logs and controls whatever was declared: a slow reader must not block a node that prints, nor the
        # dead-man of the controls.
        always = self.publisher in (LOGS, CONTROLS)
        oldest_first = always or self.spec.input.queue_policy == "drop_oldest"
        return oldest_first and not self.holds_publisher_up

    def counts(self) -> EdgeCounts:
        """Returns the counts over all edges of this connection; messages without a reader count as dropped."""
        now = self.edge.counts()
        unread = now.queued if self.reader_ended else 0
        return EdgeCounts(
            sent=self.earlier.sent + now.sent,
            received=self.earlier.received + now.received,
            dropped=self.earlier.dropped + now.dropped + unread,
            queued=now.queued - unread,
            sent_bytes=self.earlier.sent_bytes + now.sent_bytes,
        )

    def last_counts(self) -> EdgeCounts:
        """Returns the final counts of a connection that is about to be removed: queued messages are dropped."""
        counts = self.counts()
        return dataclasses.replace(counts, dropped=counts.dropped + counts.queued, queued=0)

    def status(self) -> EdgeStatus:
        """Returns the connection as a user sees it."""
        counts = self.counts()
        read = self.spec.input
        return EdgeStatus(
            topic=str(self.spec.source),
            reader=shown_name(self.spec.reader),
            input=read.name,
            queue_size=read.queue_size,
            policy="drop_oldest" if self.drops_oldest else "backpressure",
            sent=counts.sent,
            received=counts.received,
            dropped=counts.dropped,
            queued=counts.queued,
            sent_bytes=counts.sent_bytes,
        )


class Wiring:
    """All connections of a session.

    `tell` sends to a node's process, and does nothing if there is none. `given_up` returns how many messages
    of a topic were lost before they reached its edges.
    """

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
        """By reader: publishers and removed edges of which it may still hold messages."""
        self.player_states: Listener | None = None
        """What hears the states of the player."""
        self.player_waits = False
        """Whether full queues hold the player up: it plays as fast as the readers take the messages."""
        self._edge_ids = itertools.count(1)
        self._arena_numbers = itertools.count(1)

    # -- changes of the graph -----------------------------------------------------------------------

    def reconcile(self, declared: graph.Graph, listeners: Iterable[Listener]) -> None:
        """Makes the connections those of the graph and of the kernel's subscriptions; keeps unchanged ones."""
        standing_in = stand_ins(declared)
        by_key: dict[tuple[str, str], tuple[graph.Edge, Listener | None]] = {
            (edge.reader, edge.input.name): (edge, None)
            for edge in wired_edges(declared, standing_in)
        }
        own = [] if self.player_states is None else [self.player_states]
        for listener in [*listeners, *own]:
            source = listener.source
            owner = declared.nodes.get(source.node)
            owned = owner is not None and source.output in owner.outputs
            if owned or source.node == NOTEBOOK or source in standing_in:
                edge = listener.as_edge()
                by_key[edge.reader, edge.input.name] = (edge, listener)
        # Disconnect before connecting: an input that changes its topic would read both for a moment.
        earlier: dict[tuple[str, str], EdgeCounts] = {}
        for key, connection in list(self._connections.items()):
            if key in by_key and by_key[key][0].source == connection.spec.source:
                edge = by_key[key][0]
                publisher = _publisher_of(edge, standing_in)
                if publisher == (connection.publisher, connection.output):
                    self._change_queue(connection, edge)
                    continue
                earlier[key] = connection.last_counts()
            self._disconnect(self._connections.pop(key))
        for key, (edge, wanted_by) in by_key.items():
            if key not in self._connections:
                reader = declared.nodes.get(edge.reader)
                absent = reader is not None and reader.kind == "dynamic"
                publisher = _publisher_of(edge, standing_in)
                self._connect(key, edge, publisher, wanted_by, may_be_absent=absent)
                # The same topic from another process: the user sees one edge, so its counts go on.
                if key in earlier:
                    self._connections[key].earlier = earlier[key]

    def statuses(self) -> list[tuple[graph.Edge, EdgeStatus]]:
        """Returns the status of every connection, with its edge of the graph."""
        return [(each.spec, self._status(each)) for each in self._connections.values()]

    def _status(self, connection: Connection) -> EdgeStatus:
        """Adds the messages that were lost before they reached the edge."""
        status = connection.status()
        lost = self._given_up(connection.topic)
        return dataclasses.replace(status, sent=status.sent + lost, dropped=status.dropped + lost)

    # -- processes that come and go -----------------------------------------------------------------

    def attach_process(self, spec: NodeSpec) -> None:
        """Gives a new process of an operator all its ends. Readers learn of its memory first."""
        # The outputs before their edges: `AddReader` names a column in the arena of its output.
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
        """Settles what a process held when it ended; tells its neighbours if no generation follows."""
        self._attached.discard(name)
        for publisher, edge_id in self._detached.pop(name, []):
            self._tell(publisher, control.VoidLeases(edge_id, _ALL_MESSAGES), [])
        for connection in self._read_by(name):
            up_to = connection.edge.settle_reader()
            connection.reader_on = False
            self._tell_publisher(connection, control.VoidLeases(connection.edge.edge_id, up_to))
            # No generation will read the queue: a publisher with backpressure would wait for ever.
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
        """Returns the input of an edge that the node reads, and a function that finds an arena and the column.

        Both raise LookupError if there is none any more.
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
        """Settles the ends of a living process, which neither reads nor sends any more, for the next one.

        Returns what it may still hold: publisher, edge, and the number of the last message. Those leases stay
        valid until `void_leases`.
        """
        # Unlike `process_gone`, it voids nothing: the old process is alive and may still read its arrays, for
        # example in a thread. And it closes nothing, since the next process continues on the same edges.
        self._attached.discard(name)
        leases = []
        for connection in self._read_by(name):
            edge = connection.edge
            leases.append((connection.publisher, edge.edge_id, edge.settle_reader()))
            connection.reader_on = False
        for publisher, edge_id in self._detached.pop(name, []):
            leases.append((publisher, edge_id, _ALL_MESSAGES))
        for connection in self._reading_from(name):
            connection.edge.settle_publisher()
            connection.publisher_on = False
        self._end_arenas_of(name)
        return leases

    def void_leases(self, leases: Iterable[tuple[str, int, int]]) -> None:
        """Frees leases whose process is gone."""
        for publisher, edge_id, up_to in leases:
            self._tell(publisher, control.VoidLeases(edge_id, up_to), [])

    def change_outputs(
        self, spec: NodeSpec, declared: graph.Graph, listeners: Iterable[Listener]
    ) -> None:
        """Changes the outputs and inputs of a running process; touches only what changed."""
        # New outputs, then the edges, then the removal of outputs: an edge needs the arena of its output, so
        # an output must come before its first edge and go after its last.
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
        """Frees the columns of a removed edge whose reader holds no message any more."""
        for topic, arenas in self._arenas.items():
            if topic.partition("/")[0] == publisher:
                for arena in arenas:
                    arena.release_column(edge_id)
        for detached in self._detached.values():
            if (publisher, edge_id) in detached:
                detached.remove((publisher, edge_id))

    def readers_of(self, name: str) -> list[str]:
        """Returns the nodes with an input that the process of this node sends on."""
        return list(dict.fromkeys(each.spec.reader for each in self._reading_from(name)))

    def queued_of(self, name: str) -> int:
        """Returns how many messages of this node wait for their readers."""
        return sum(each.counts().queued for each in self._reading_from(name))

    def close_outputs(self, name: str) -> None:
        """Tells the readers of a node that it has ended for good."""
        for connection in self._reading_from(name):
            self._close(connection)

    def forget_outputs(self, name: str, *, but: Iterable[str]) -> None:
        """Releases the memory of outputs that no input reads any more."""
        self._forget_arenas(name, but=but)

    def has_live_publisher(self, name: str) -> bool:
        """Whether a process is attached that may still send to this operator."""
        return any(
            not each.publisher_ended and each.publisher in self._attached
            for each in self._read_by(name)
        )

    def has_open_input(self, name: str) -> bool:
        """Whether this node has an input whose publisher has not ended for good."""
        return any(not each.publisher_ended for each in self._read_by(name))

    def forget(self, name: str) -> None:
        """Releases all memory of an operator that has ended and is no longer declared."""
        self._forget_arenas(name, but=())
        for detached in self._detached.values():
            detached[:] = [(publisher, edge) for publisher, edge in detached if publisher != name]

    def forget_unread_outputs(self, publisher: str) -> None:
        """Releases the memory of a pseudo-node's outputs that no input reads any more."""
        read = {each.topic for each in self._connections.values()}
        for topic in [each for each in self._arenas if each.partition("/")[0] == publisher]:
            if topic not in read:
                self._tell(publisher, control.RemoveOutput(topic.partition("/")[2]), [])
                for arena in self._arenas.pop(topic):
                    os.close(arena.descriptor)

    def close_in_fork(self) -> None:
        """Closes the copies of sockets and memory that a process forked from the kernel has inherited."""
        for connection in self._connections.values():
            connection.edge.tx.close()
            connection.edge.rx.close()
        for arenas in self._arenas.values():
            for arena in arenas:
                os.close(arena.descriptor)

    def close(self) -> None:
        """Closes every descriptor. All processes must have ended."""
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
        publisher: Publisher,
        listener: Listener | None,
        *,
        may_be_absent: bool,
    ) -> None:
        """Makes the connection. On an OSError or EngineError, which it raises, there is none.

        A dynamic node, which may stay absent, gets no messages before it has joined.
        """
        holds_up = self._holds_up(publisher.node, listener)
        connection = Connection(
            edge, Edge(next(self._edge_ids)), *publisher, listener, holds_publisher_up=holds_up
        )
        connection.reader_ended = may_be_absent and edge.reader not in self._attached
        if listener is not None and listener.last_status is not None:
            connection.earlier = _counts_of(listener.last_status)
        try:
            if publisher.node in RESERVED_NAMES and connection.topic not in self._arenas:
                self._new_arena(publisher.node, publisher.output)
            # The reader before the publisher: it must know the edge and its arenas before a message comes.
            if listener is not None or edge.reader in self._attached:
                self._switch_reader_on(connection)
            if self._is_published(connection.topic) and not connection.reader_ended:
                self._switch_publisher_on(connection)
        except BaseException:
            self._disconnect(connection)
            raise
        self._connections[key] = connection

    def _holds_up(self, publisher: str, listener: Listener | None) -> bool:
        # Never the kernel: a busy cell must not slow a dataflow.
        return publisher == PLAYER and self.player_waits and listener is None

    def _disconnect(self, connection: Connection) -> None:
        if connection.reader_on:
            if connection.listener is not None:
                self._subscriber.detach(connection.listener)
            else:
                message = control.RemoveInput(connection.edge.edge_id)
                self._tell(connection.spec.reader, message, [])
                detached = (connection.publisher, connection.edge.edge_id)
                self._detached.setdefault(connection.spec.reader, []).append(detached)
        self._switch_publisher_off(connection)
        self._detach(connection)

    def _change_queue(self, connection: Connection, edge: graph.Edge) -> None:
        """Takes over the queue of the new declaration. The edge stays, so no message is lost in between."""
        before = (connection.spec.input.queue_size, connection.drops_oldest)
        connection.spec = edge
        connection.holds_publisher_up = self._holds_up(connection.publisher, connection.listener)
        queue = (edge.input.queue_size, connection.drops_oldest)
        if queue != before and connection.publisher_on:
            message = control.ChangeQueue(connection.edge.edge_id, *queue)
            self._tell_publisher(connection, message)

    def _detach(self, connection: Connection) -> None:
        """Closes the edge, which no process uses any more. A subscription, which goes on, keeps its counts."""
        if connection.listener is not None:
            connection.reader_ended = True
            connection.listener.last_status = connection.status()
        connection.edge.close()

    def _renew(self, connection: Connection) -> None:
        """Makes a new edge for a reader that comes back."""
        # Not the old one: its leases were voided, so the slots of its unread messages may be overwritten.
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
        # The reader must know the arena before the publisher can send a message that lies in it. Its control
        # socket and the edge are different sockets; `counters.CONTROL_SENT` makes the reader keep the order.
        if connection.reader_on:
            self._announce(connection, arena)
        self._reopen(connection)
        message = control.AddReader(
            edge.edge_id,
            connection.output,
            read.queue_size,
            connection.drops_oldest,
            column,
            connection.listener is not None and connection.listener.replay_last,
        )
        self._tell(connection.publisher, message, edge.publisher_descriptors())
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
            # The arena of an ended generation holds messages only of the edges that existed then.
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
        self._tell(connection.publisher, message, [])

    # -- arenas -------------------------------------------------------------------------------------

    def _is_published(self, topic: str) -> bool:
        """Whether an attached process has this output; the process of an older declaration may lack it."""
        return any(arena.last_pushed is None for arena in self._arenas.get(topic, []))

    def _new_arena(self, node: str, output: str) -> None:
        topic = f"{node}/{output}"
        # A new arena for each generation: a lease that an old process writes late then goes to the table of an
        # arena that no publisher uses any more.
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
        # An ended arena stays until every reader has taken the last message that can be in it
        # (`_retire_drained`).
        for arena in arenas:
            if arena.last_pushed is None:
                arena.last_pushed = last_pushed

    def _retire_drained(self, topic: str) -> None:
        """Releases the memory of ended generations whose last message every reader has taken."""
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
        """Releases the memory of outputs that the node no longer has. Readers have mappings of their own."""
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
        return [each for each in self._connections.values() if each.publisher == node]

    def _read_by(self, node: str) -> list[Connection]:
        return [each for each in self._connections.values() if each.spec.reader == node]


def log_output(edge: graph.Edge) -> str:
    """Returns the output of the pseudo-node ``dora/logs`` that this edge reads."""
    return f"{edge.source.output} for {edge.reader}/{edge.input.name}"


def _publisher_of(edge: graph.Edge, standing_in: dict[TopicSource, Publisher]) -> Publisher:
    """Returns the node whose process sends on this edge, and its output."""
    source = edge.source
    if isinstance(source, LogSource):
        return Publisher(source.node, log_output(edge))
    return standing_in.get(source) or Publisher(source.node, source.output)


def _counts_of(status: EdgeStatus) -> EdgeCounts:
    return EdgeCounts(
        sent=status.sent,
        received=status.received,
        dropped=status.dropped,
        queued=status.queued,
        sent_bytes=status.sent_bytes,
    )
