"""The state of a plot in words: of each topic, and of all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..page.condition import (
    STALE_SECS,
    ViewState,
    problem_of_node,
    warnings_of,
    why_nothing_can_come,
)
from ..page.dataflow import ViewedDataflow
from .feed import TopicState

_MOST_URGENT_FIRST: tuple[ViewState, ...] = ("error", "running", "stale", "waiting", "stopped")


@dataclass(frozen=True, slots=True)
class Condition:
    """One word for the state, and a reason if the word needs one."""

    state: ViewState
    reason: str = ""
    is_over: bool = False
    """Whether nothing can come for now, so that the window stands still."""


def condition(dataflow: ViewedDataflow, topics: Sequence[TopicState], *, paused: bool) -> Condition:
    """Returns the state of the plot: an error comes first; it runs as long as one of its topics does."""
    each = [topic_condition(dataflow, topic) for topic in topics]
    is_over = all(one.is_over for one in each)
    urgent = min(each, key=lambda one: _MOST_URGENT_FIRST.index(one.state))
    if urgent.state == "error":
        return Condition("error", urgent.reason, is_over or paused)
    if paused and any(topic.received for topic in topics):
        return Condition("paused", is_over=True)
    reasons = dict.fromkeys(one.reason for one in each if one.reason)
    return Condition(urgent.state, "; ".join(reasons), is_over or paused)


def topic_condition(dataflow: ViewedDataflow, topic: TopicState) -> Condition:
    """Returns the state of one topic: the first that holds of an error, nothing can come, stale, running."""
    source = topic.path.source
    problem = problem_of_node(dataflow, source)
    if problem is not None:
        return Condition("error", problem, is_over=True)
    missing = why_nothing_can_come(dataflow, source, came_before=topic.received > 0)
    if missing is not None:
        return Condition(missing.state, missing.reason, is_over=True)
    if topic.problem is not None:
        text = topic.problem
        return Condition("error", text if str(source) in text else f"{source}: {text}")
    warnings = warnings_of(dataflow, [source])
    if topic.silent_secs is None:
        return Condition("waiting", f"no message of {source} yet{warnings}")
    # A topic whose messages come rarely has a rate until it is late by its own measure.
    if topic.silent_secs > STALE_SECS and not topic.rate_hz:
        return Condition("stale", f"no message of {source} for {topic.silent_secs:.0f} s{warnings}")
    return Condition("running", f"{topic.path}: {topic.missing}" if topic.missing else "")
