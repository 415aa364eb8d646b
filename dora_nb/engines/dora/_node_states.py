"""The state of each node of a dataflow on dora-rs, from dora's log. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dora_nb.status import State

from ._log_lines import Entry

OVER = frozenset({State.FAILED, State.FINISHED, State.STOPPED})
_FAILED = re.compile(r"exited (?:with code|because of|with) .*", re.DOTALL)
_ENDED_BY_A_STOP = re.compile(r"because of signal SIG(TERM|KILL)|This error occurred because node")
_OTHERS_FAULT = re.compile(r"This error occurred because node `([^`]+)`")


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node."""

    state: State = State.STARTING
    generation: int = 1
    was_ready: bool = False
    exit_text: str | None = None
    """dora's report of the failure."""

    @property
    def caused_by(self) -> str | None:
        """The node whose failure made dora end this one; None if it failed by itself."""
        found = _OTHERS_FAULT.search(self.exit_text or "")
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class NodeStates:
    """All nodes of one run."""

    nodes: Mapping[str, NodeState]
    messages_flow: bool = False
    """Whether every node has been ready once, so that messages flow."""
    over: bool = False
    """Whether the dataflow has ended."""


def step(node_states: NodeStates, entry: Entry, *, stopping: bool) -> NodeStates:
    """Returns the states after one entry of dora's log; entries without a meaning change nothing."""
    if not entry.by_dora:
        return node_states
    if entry.node is None:
        return _whole(node_states, entry, stopping=stopping)
    node = node_states.nodes.get(entry.node)
    # A node that is not in the notebook's graph, such as the kernel's own subscribers.
    if node is None:
        return node_states
    changed = _node(node, entry, messages_flow=node_states.messages_flow, stopping=stopping)
    return replace(node_states, nodes={**node_states.nodes, entry.node: changed})


def end_all(node_states: NodeStates, *, stopping: bool) -> NodeStates:
    """Returns the states after the end of the log: remaining nodes have ended with the dataflow."""
    return _over(node_states, State.STOPPED if stopping else State.FINISHED)


def fail_all(node_states: NodeStates) -> NodeStates:
    """Returns the states after the end of the coordinator or daemon: remaining nodes have failed."""
    return _over(node_states, State.FAILED)


def _over(node_states: NodeStates, last: State) -> NodeStates:
    nodes = {
        name: node if node.state in OVER else replace(node, state=last)
        for name, node in node_states.nodes.items()
    }
    return NodeStates(nodes, messages_flow=node_states.messages_flow, over=True)


def _whole(node_states: NodeStates, entry: Entry, *, stopping: bool) -> NodeStates:
    if entry.text.startswith("all nodes are ready") and _all_were_ready(node_states):
        nodes = {
            name: replace(node, state=State.RUNNING) if node.state is State.STARTING else node
            for name, node in node_states.nodes.items()
        }
        return replace(node_states, nodes=nodes, messages_flow=True)
    if entry.target == "coordinator" and entry.text == "dataflow finished":
        return end_all(node_states, stopping=stopping)
    return node_states


def _all_were_ready(node_states: NodeStates) -> bool:
    """Whether really all were ready: dora counts only nodes that have not failed."""
    return all(node.was_ready for node in node_states.nodes.values())


def _node(node: NodeState, entry: Entry, *, messages_flow: bool, stopping: bool) -> NodeState:
    if entry.text == "node is ready":
        state = State.RUNNING if messages_flow else State.STARTING
        return replace(node, state=state, was_ready=True)
    if entry.text.endswith(" finished successfully"):
        return replace(node, state=State.STOPPED if stopping else State.FINISHED)
    if entry.text.startswith("node will be restarted"):
        return NodeState(State.STARTING, node.generation + 1)
    if entry.level == "error" and _FAILED.match(entry.text):
        if node.state in OVER:  # dora reports each failure twice.
            return node
        if stopping and _ENDED_BY_A_STOP.search(entry.text):
            return replace(node, state=State.STOPPED)
        return replace(node, state=State.FAILED, exit_text=entry.text)
    return node
