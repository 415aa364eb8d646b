"""The kernel as a reader: subscriptions of the notebook, served by one thread.

A thread, not a reader on the kernel's event loop, since that loop stands still while a cell runs.
Nothing here slows a dataflow: a subscription's queue drops its oldest message.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
import traceback
from collections.abc import Callable
from typing import Any

from dora_nb.errors import EngineError
from dora_nb.graph import graph
from dora_nb.graph.nodes import InputSpec
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.status import EdgeStatus
from dora_nb.transport import InputPorts
from dora_nb.transport.edge import Edge

from ..switch_interval import SWITCH_INTERVAL

Event = dict[str, Any]
_listener_numbers = itertools.count(1)


class Listener:
    """One subscription of the kernel. It outlives sessions: a stop and a start go on with it.

    `on_event` is called on the subscriber's thread and must return quickly; what it raises ends nothing, and
    its first failure goes to the log of the topic's node.
    """

    def __init__(
        self,
        source: TopicSource,
        on_event: Callable[[Event], None],
        *,
        queue_size: int,
        replay_last: bool,
    ) -> None:
        self.source = source
        self.on_event = on_event
        self.replay_last = replay_last
        self.key = f"subscription-{next(_listener_numbers)}"
        self.failed = False
        self.last_status: EdgeStatus | None = None
        """The counts up to the last session; None while there was no edge."""
        self._queue_size = queue_size

    def as_edge(self) -> graph.Edge:
        """The edge from the topic to this subscription."""
        read = InputSpec(self.key, self.source, self._queue_size)
        return graph.Edge(self.source, NOTEBOOK, read)


class KernelSubscriber:
    """The thread that reads for every listener of a session.

    `report(node, text)` is called on it when a subscription to that node's output fails.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._inputs = InputPorts(find_arena=_no_such_arena)
        self._edge_ids: dict[str, int] = {}
        """By the key of the listener."""
        self._listeners: dict[int, Listener] = {}
        """By the id of the edge; without those that failed, whose edge is not read any more."""
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="dora-subscriber", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._close_descriptors()
            raise

    def attach(self, listener: Listener, edge: Edge) -> None:
        """Reads that edge for the listener from now on. On OSError nothing is attached."""
        with self._lock, contextlib.ExitStack() as undo:
            reader = self._inputs.add(
                edge.edge_id, listener.key, edge.rx.dup(), edge.words_descriptor
            )
            undo.callback(self._inputs.remove, edge.edge_id)
            self._epoll.register(reader.fileno(), select.EPOLLIN)
            self._edge_ids[listener.key] = edge.edge_id
            self._listeners[edge.edge_id] = listener
            SWITCH_INTERVAL.shorten()
            undo.pop_all()

    def detach(self, listener: Listener) -> None:
        """Stops reading for the listener."""
        with self._lock:
            edge_id = self._edge_ids.pop(listener.key, None)
            if edge_id is not None:
                self._stop_watching(edge_id)
                self._inputs.remove(edge_id)
                SWITCH_INTERVAL.restore()

    def add_arena(self, listener: Listener, number: int, descriptor: int, column: int) -> None:
        """Messages of that listener's edge may lie in this arena."""
        with self._lock:
            if listener.key in self._edge_ids:
                edge_id = self._edge_ids[listener.key]
                self._inputs.add_arena(edge_id, number, descriptor, column)

    def retire_arena(self, listener: Listener, number: int) -> None:
        """No further message of that listener's edge lies in that arena."""
        with self._lock:
            if listener.key in self._edge_ids:
                self._inputs.retire_arena(self._edge_ids[listener.key], number)

    def close(self) -> None:
        """Ends the thread, which may be in a callback: it is not waited for. All are detached."""
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            while True:
                for descriptor, _ in self._epoll.poll():
                    if descriptor == self._wake:
                        return
                    self._read(descriptor)
        finally:
            self._close_descriptors()

    def _read(self, descriptor: int) -> None:
        with self._lock:
            # Both looked up under the lock: an edge may be detached between the poll and here.
            edge_id = self._inputs.edge_of_descriptor.get(descriptor)
            listener = None if edge_id is None else self._listeners.get(edge_id)
            if edge_id is None or listener is None:
                return
            # The take is under the lock, so that the input is not closed in the middle of it; the callback is
            # not, since it may run the user's code, which may unsubscribe.
            try:
                message = self._inputs.by_edge[edge_id][1].take()
            except Exception as error:
                # Not to be tried again: the next message of this edge would be no better.
                self._stop_watching(edge_id)
                self._fail(listener, error)
                return
        if message is None:
            return
        try:
            listener.on_event(
                {
                    "type": "INPUT",
                    "kind": "dora",
                    "id": str(listener.source),
                    "value": message.value,
                    "metadata": message.metadata,
                }
            )
        except Exception as error:
            self._fail(listener, error)

    def _stop_watching(self, edge_id: int) -> None:
        if self._listeners.pop(edge_id, None) is not None:
            self._epoll.unregister(self._inputs.by_edge[edge_id][1].fileno())

    def _fail(self, listener: Listener, error: Exception) -> None:
        if not listener.failed:
            listener.failed = True
            text = "".join(traceback.format_exception(error)).rstrip()
            self._report(
                listener.source.node,
                f"the notebook's subscription to {listener.source} failed (reported once):\n{text}",
            )

    def _close_descriptors(self) -> None:
        self._epoll.close()
        os.close(self._wake)


def _no_such_arena(_edge_id: int, number: int) -> None:
    # Arenas are added before their publisher is told to go, and by direct calls.
    raise EngineError(f"arena {number} was never announced to the kernel")
