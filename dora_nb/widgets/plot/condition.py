"""The state of a plot in words: of each topic, and of all of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dora_nb.errors import GraphError
from dora_nb.graph.graph import Graph
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.status import EdgeStatus, NodeStatus, State

from .feed import TopicState

PlotState = Literal["running", "paused", "waiting", "stale", "stopped", "error"]

STALE_SECS = 2.0
"""A topic whose messages come more rarely is stale only when it is late by its own measure."""
_MOST_URGENT_FIRST: tuple[PlotState, ...] = ("error", "running", "stale", "waiting", "stopped")


class Listener(Protocol):
    """The return value of `PlottedDataflow.subscribe`."""

    def close(self) -> None: ...

    def status(self) -> EdgeStatus | None: ...


class PlottedDataflow(Protocol):
    """The part of a `Dataflow` that plots use."""

    @property
    def graph(self) -> Graph: ...

    @property
    def running(self) -> bool: ...

    def status(self, name: str) -> NodeStatus: ...

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Any], None],
        *,
        queue_size: int = 1,
        replay_last: bool = False,
    ) -> Listener: ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class Condition:
    """One word for the state, and a reason if the word needs one."""

    state: PlotState
    reason: str = ""
    is_over: bool = False
    """Whether nothing more can come for now, so that the window stands still."""


def condition(
    dataflow: PlottedDataflow, topics: Sequence[TopicState], *, paused: bool
) -> Condition:
    """Returns the state of the plot: an error comes first; it runs as long as one of its topics does."""
    each = [topic_condition(dataflow, topic) for topic in topics]
    is_over = all(one.is_over for one in each)
    urgent = min(each, key=lambda one: _MOST_URGENT_FIRST.index(one.state))
    if urgent.state == "error":
        return Condition("error", urgent.reason, is_over)
    if paused and any(topic.received for topic in topics):
        return Condition("paused", is_over=True)
    reasons = dict.fromkeys(one.reason for one in each if one.reason)
    return Condition(urgent.state, "; ".join(reasons), is_over)


def topic_condition(dataflow: PlottedDataflow, topic: TopicState) -> Condition:
    """Returns the state of one topic: the first that holds of an error, nothing can come, stale, running."""
    source = topic.path.source
    problem = _problem_of_node(dataflow, source)
    if problem is not None:
        return Condition("error", problem, is_over=True)
    missing = _why_nothing_can_come(dataflow, topic)
    if missing is not None:
        return missing
    if topic.problem is not None:
        text = topic.problem
        return Condition("error", text if str(source) in text else f"{source}: {text}")
    if topic.silent_secs is None:
        return Condition("waiting", f"no message of {source} yet" + _warnings(dataflow, source))
    if topic.silent_secs > STALE_SECS and not topic.rate_hz:
        reason = f"no message of {source} for {topic.silent_secs:.0f} s"
        return Condition("stale", reason + _warnings(dataflow, source))
    return Condition("running", f"{topic.path}: {topic.missing}" if topic.missing else "")


def _problem_of_node(dataflow: PlottedDataflow, source: TopicSource) -> str | None:
    try:
        dataflow.graph.check_topic(str(source))
    except GraphError as error:
        return str(error)
    status = _status(dataflow, source.node)
    if status is None or status.state is not State.FAILED:
        return None
    return f"{source.node} failed: {status.error or 'it ended without an error message'}"


def _why_nothing_can_come(dataflow: PlottedDataflow, topic: TopicState) -> Condition | None:
    node = topic.path.source.node
    if not dataflow.running:
        if topic.received:
            return Condition("stopped", "the dataflow is stopped", is_over=True)
        reason = "the dataflow is not running; start it with %dora start"
        return Condition("waiting", reason, is_over=True)
    if node == NOTEBOOK:
        return None
    status = _status(dataflow, node)
    if status is None:
        return Condition("waiting", dataflow.graph.missing_text(node), is_over=True)
    if status.state is State.RUNNING:
        return None
    if status.state in (State.FINISHED, State.STOPPED):
        return Condition("stopped", f"{node} has {status.state.value}", is_over=True)
    return Condition("waiting", f"{node} is {status.state_text()}")


def _warnings(dataflow: PlottedDataflow, source: TopicSource) -> str:
    status = _status(dataflow, source.node)
    return "".join(f"; {warning}" for warning in (() if status is None else status.warnings))


def _status(dataflow: PlottedDataflow, node: str) -> NodeStatus | None:
    """Returns None for a node that is not declared, or no longer."""
    if node not in dataflow.graph:
        return None
    try:
        return dataflow.status(node)
    except GraphError:  # removed since the line above, on another thread
        return None
