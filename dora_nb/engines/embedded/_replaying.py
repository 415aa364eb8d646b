"""The replay of a session: which nodes the player stands in for, and which of them run again afterwards.

Pure state, kept by the session under its lock::

    begin ──► the nodes are held: they have no process, and none starts
          ──► end: those that ran before, or were declared meanwhile, start again
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.status import NodeStatus, State

from ._player_node import ReplaySpec


class Replaying:
    """At most one replay of a session."""

    def __init__(self) -> None:
        self.spec: ReplaySpec | None = None
        self._returns: set[str] = set()

    def begin(self, spec: ReplaySpec, ran: Iterable[str]) -> None:
        """Holds the nodes of the replay; `ran` are those that start again at its end."""
        self.spec = spec
        self._returns = set(ran)

    @property
    def returns(self) -> frozenset[str]:
        """The nodes that start again at its end."""
        return frozenset(self._returns)

    def end(self) -> tuple[set[str], tuple[str, ...]]:
        """Ends the replay. Returns the nodes to start, and the topics that come from no node from now on."""
        spec, returns = self.spec, self._returns
        assert spec is not None
        self.spec, self._returns = None, set()
        back = {*returns, NOTEBOOK}
        return returns, tuple(each for each in spec.topics if each.partition("/")[0] not in back)

    def holds(self, name: str) -> bool:
        """Whether that node does not run, since the player stands in for it."""
        return self.spec is not None and name in self.spec.nodes

    def start_at_end(self, name: str) -> None:
        """Has a held node start at the end: its cell was run."""
        self._returns.add(name)

    def forget(self, name: str) -> None:
        """The node is not declared any more."""
        self._returns.discard(name)

    def missing(self, declared: Graph, spec: NodeSpec) -> tuple[str, ...]:
        """Returns the undeclared nodes that a node waits for, without those that are replayed for it."""
        waiting_for = declared.waiting_for(spec.name)
        if self.spec is None or not waiting_for:
            return waiting_for
        topics = self.spec.topics
        missing = {
            read.source.node
            for read in spec.inputs
            if isinstance(read.source, TopicSource) and str(read.source) not in topics
        }
        return tuple(name for name in waiting_for if name in missing)

    def shown(self, status: NodeStatus) -> NodeStatus:
        """Returns the status of a node as the user sees it during the replay."""
        if self.spec is None or not self.holds(status.name):
            return status
        return dataclasses.replace(
            status, state=State.REPLAYED, replayed_from=self.spec.file, waiting_for=(), error=None
        )
