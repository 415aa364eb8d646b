"""The state of a view in one word, with a reason: what views of topics have in common. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dora_nb.errors import GraphError
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.how_to import how_to
from dora_nb.status import NodeStatus, State

from .dataflow import ViewedDataflow

ViewState = Literal["running", "paused", "waiting", "stale", "stopped", "error"]

STALE_SECS = 2.0
"""A topic is shown as stale after this long without a message, or after four times its usual interval."""


@dataclass(frozen=True, slots=True)
class ViewCondition:
    """One word for the state, and a reason if the word needs one."""

    state: ViewState
    reason: str = ""


def status_of(dataflow: ViewedDataflow, node: str) -> NodeStatus | None:
    """Returns None for a node that is not declared, or no longer."""
    if node not in dataflow.graph:
        return None
    try:
        return dataflow.status(node)
    except GraphError:  # removed since the line above, on another thread
        return None


def problem_of_node(dataflow: ViewedDataflow, source: TopicSource) -> str | None:
    """Returns why the topic has no working node, if it has none for good: a wrong name, a failure."""
    try:
        dataflow.graph.check_topic(str(source))
    except GraphError as error:
        return str(error)
    status = status_of(dataflow, source.node)
    if status is None or status.state is not State.FAILED:
        return None
    return f"{source.node} failed: {status.error or 'it ended without an error message'}"


def why_nothing_can_come(
    dataflow: ViewedDataflow, topic: TopicSource, *, came_before: bool
) -> ViewCondition | None:
    """Returns why no message of the topic can come now: stopped or waiting; None if one can."""
    if not dataflow.running:
        if came_before:
            return ViewCondition("stopped", "the dataflow is stopped")
        reason = f"the dataflow is not running; start it with {how_to('start')}"
        return ViewCondition("waiting", reason)
    if topic.node == NOTEBOOK:
        return None
    status = status_of(dataflow, topic.node)
    if status is None:
        return ViewCondition("waiting", dataflow.graph.missing_text(topic.node))
    if status.state in (State.RUNNING, State.REPLAYED):
        return None
    if status.state in (State.FINISHED, State.STOPPED):
        return ViewCondition("stopped", f"{topic.node} has {status.state.value}")
    return ViewCondition("waiting", f"{topic.node} is {status.state_text()}")


def warnings_of(dataflow: ViewedDataflow, topics: Iterable[TopicSource | None]) -> str:
    """Returns the warnings of the topics' nodes, as the end of a sentence."""
    names = dict.fromkeys(source.node for source in topics if source is not None)
    statuses = [status_of(dataflow, name) for name in names]
    return "".join(
        f"; {warning}" for status in statuses if status is not None for warning in status.warnings
    )
