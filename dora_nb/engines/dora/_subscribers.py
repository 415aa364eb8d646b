"""The kernel as a reader of a dataflow on dora-rs.

A second `Node()` in one process breaks the first, and a fault in dora-rs must not end the kernel. So for
each node that the notebook reads from, a separate process joins the dataflow as a dynamic node: a
subscriber. Each subscriber is also a node of an embedded session, with the name and the outputs of the node
that it reads. So a subscription works as on the embedded engine, with the same memory and the same counts.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from dora_nb.errors import EngineError, OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.graph.sources import SERVICES, TopicSource
from dora_nb.status import EdgeStatus

from ..embedded import Listener, ServiceSpec, Session
from ..orphan_reaper import OrphanReaper
from ..recorder_words import decode_task, encode_task
from ._files import subscriber_entry
from ._program import Dora
from ._remote import SUBSCRIBER_PREFIX

_SCRIPT = Path(__file__).with_name("subscriber_script.py")
_NO_MODULES = "/proc"
"""A folder that cannot contain a dora.py."""
_GRACE_SECS = 1.0
_JOIN_SECS = 20.0
_MAX_FAILURES = 5


class Subscribers:
    """All subscribers of one dataflow. One thread at a time may call it, and its calls block for a while.

    `note(node, text)` and `on_failure()` are called, on any thread, when the subscriber of that node fails; the
    next `set_listeners` lets it join again, a few times. If the kernel is killed, the `reaper` removes all
    subscribers from the dataflow; without a reaper, the dataflow ends with the kernel anyway. `declared` has
    the subscribers that the dataflow itself declares, by node, with the outputs that they read: those are
    joined as they are.
    """

    def __init__(
        self,
        dora: Dora,
        dataflow: str,
        *,
        daemon_port: int,
        prefix: str,
        note: Callable[[str, str], None],
        on_failure: Callable[[], None],
        reaper: OrphanReaper | None = None,
        declared: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._dora = dora
        self._dataflow = dataflow
        self._daemon_port = daemon_port
        self._prefix = prefix
        self._note = note
        self._on_failure = on_failure
        self._reaper = reaper
        self._declared = declared or {}
        self._joined = Graph()
        self._noted: dict[str, OperatorError] = {}
        self._failures: collections.Counter[str] = collections.Counter()
        self._session: Session | None = None

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """Replaces the kernel's subscriptions. Raises EngineError if a subscriber cannot join."""
        wanted = list(listeners)
        self._join_all([each.source for each in wanted if each.source.node not in SERVICES])
        if self._session is not None:
            self._session.set_listeners(wanted)

    def _join_all(self, topics: Iterable[TopicSource]) -> None:
        """Has subscribers read these topics, in addition to those that they read already."""
        failed = self._failed()
        for node, outputs in _outputs_by_node(topics).items():
            known = self._joined.nodes.get(node)
            # A subscriber stays when its last subscription ends, and keeps every output that it ever had:
            # joining again takes half a second, and `latest` finds its last message.
            together = outputs | set(() if known is None else known.outputs)
            if known is None or together != set(known.outputs) or node in failed:
                self._join(node, sorted(together))

    @property
    def session(self) -> Session | None:
        """The embedded session that the subscribers are nodes of; None before the first has joined."""
        return self._session

    def set_service(self, spec: ServiceSpec, name: str, declared: Graph) -> None:
        """Runs a service that reads topics of this dataflow, through subscribers. EngineError if one cannot join.

        What was sent before a subscriber has joined is missed, and dora-rs does not say what it drops.
        """
        made = spec if isinstance(spec, NodeSpec) else spec(declared, ())
        topics = [read.source for read in made.inputs if isinstance(read.source, TopicSource)]
        self._join_all([each for each in topics if each.node in declared])
        self._embedded().set_service(_knowing_no_losses(spec), name)

    def remove_service(self, name: str) -> None:
        """Ends that service; does not wait for it."""
        if self._session is not None:
            self._session.set_service(None, name)

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        """Returns the counts from the subscriber on; messages that dora-rs dropped before are not counted."""
        session = self._session
        return listener.last_status if session is None else session.listener_status(listener)

    def close(self) -> None:
        """Removes all subscribers."""
        for node in list(self._joined.nodes):
            self._leave(node)
        if self._session is not None:
            session, self._session = self._session, None
            session.close()

    # -- inside --------------------------------------------------------------------------------------

    def _join(self, node: str, outputs: list[str]) -> None:
        if node in self._joined:
            self._leave(node)
        if node in self._declared:
            lacking = set(outputs) - self._declared[node]
            if lacking:
                raise EngineError(
                    f"the notebook cannot read {', '.join(f'{node}/{each}' for each in sorted(lacking))}: "
                    f"the dataflow's node '{self._id(node)}' does not have it as an input.",
                    hint="Add it to that node's inputs in the dataflow.yml.",
                )
        else:
            self._add_to_dora(node, outputs)
        self._joined = self._joined.with_node(
            NodeSpec(
                name=node,
                code=SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name),
                outputs=tuple(outputs),
                kind="script",
                args=(self._id(node), str(self._daemon_port)),
                env=(("RUST_BACKTRACE", "0"),),
                working_dir=_NO_MODULES,
            )
        )
        session = self._embedded()
        before = session.generations()
        session.apply(self._joined, node, edit=None, grace_secs=_GRACE_SECS)
        session.wait_settled([node], after=before, timeout_secs=_JOIN_SECS)
        error = session.start_error(node)
        if error is not None:
            self._leave(node)
            raise EngineError(f"the notebook cannot read from {node}: {error.message}")

    def _add_to_dora(self, node: str, outputs: list[str]) -> None:
        # Before the node is added: if the kernel is killed in between, the dataflow must not keep it.
        if self._reaper is not None:
            self._reaper.run_at_exit(self._removal(node))
        self._dora.call(
            "node",
            "add",
            f"--dataflow={self._dataflow}",
            "--from-yaml=/dev/stdin",
            stdin=subscriber_entry(self._id(node), node, outputs),
            what=f"the notebook cannot read from {node}",
        )

    def _leave(self, node: str) -> None:
        """Ends a subscriber and removes it from the dataflow."""
        # The process first: if dora stopped it, it would look as if it had failed.
        self._joined = self._joined.without(node)
        if self._session is not None:
            self._session.remove(self._joined, node, grace_secs=_GRACE_SECS)
        if node in self._declared:
            return
        # The dataflow may have ended, and the node with it.
        with contextlib.suppress(EngineError):
            self._dora.call(
                *self._removal_words(node), what=f"cannot remove the subscriber of {node}"
            )
        if self._reaper is not None:
            self._reaper.cancel_at_exit(self._removal(node))

    def _removal(self, node: str) -> list[str]:
        return self._dora.command(*self._removal_words(node))

    def _removal_words(self, node: str) -> list[str]:
        return ["node", "remove", f"--dataflow={self._dataflow}", self._id(node)]

    def _id(self, node: str) -> str:
        prefix = SUBSCRIBER_PREFIX if node in self._declared else self._prefix
        return f"{prefix}-{node}"

    def _embedded(self) -> Session:
        if self._session is None:
            session = Session(Graph(), [], on_change=self._note_failures)
            self._session = session
            session.open()
        return self._session

    def _failed(self) -> set[str]:
        """Returns the nodes whose subscribers have failed, but not too often for another try."""
        errors = {} if self._session is None else self._session.errors()
        return {node for node in errors if self._failures[node] <= _MAX_FAILURES}

    def _note_failures(self) -> None:
        session = self._session
        if session is None:
            return
        for node, error in session.errors().items():
            if self._noted.get(node) is not error:
                self._noted[node] = error
                self._failures[node] += 1
                self._note(node, f"the notebook's subscriber failed: {error.message}")
                self._on_failure()


def _knowing_no_losses(spec: ServiceSpec) -> ServiceSpec:
    """Returns the service as one that cannot know what it has missed."""

    def follow(declared: Graph, said: tuple[str, ...]) -> NodeSpec:
        made = spec if isinstance(spec, NodeSpec) else spec(declared, said)
        task = msgspec.structs.replace(decode_task(made.args[0]), losses_known=False)
        return replace(made, args=(encode_task(task),))

    return follow


def _outputs_by_node(sources: Iterable[TopicSource]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source in sources:
        found.setdefault(source.node, set()).add(source.output)
    return found
