"""What a view needs to know of the dataflow it looks at, and how it says what it finds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dora_nb.errors import GraphError, MessageError
from dora_nb.graph.graph import Graph
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.status import EdgeStatus, NodeStatus, State

ViewState = Literal["running", "paused", "waiting", "stale", "stopped", "error"]

STALE_SECS = 2.0
"""Silence of a topic that is shown as such; for slow topics it is four times their usual interval."""


class Listening(Protocol):
    """What `Viewed.subscribe` returns."""

    def close(self) -> None: ...

    def status(self) -> EdgeStatus | None: ...


class Viewed(Protocol):
    """The part of a `Dataflow` that views use."""

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
    ) -> Listening: ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What a view has seen so far of its two topics."""

    paused: bool
    frame_came: bool
    """In this run of the dataflow, or one before."""
    silent_secs: float
    """Since the newest frame; infinite before the first of this run."""
    usual_interval_secs: float
    boxes_came: bool
    frame_problem: MessageError | None
    """What was wrong with the newest frame."""
    boxes_problem: MessageError | None
    """What was wrong with the newest boxes."""
    own_problem: str | None
    """What went wrong in the view itself."""
    boxes_never_matched: int = 0
    """Boxes that found no frame of theirs, where none ever did."""


@dataclass(frozen=True, slots=True)
class ViewCondition:
    """One word for the state, and a sentence where the word needs one."""

    state: ViewState
    reason: str = ""


def condition(
    viewed: Viewed, topic: TopicSource, boxes: TopicSource | None, seen: Seen
) -> ViewCondition:
    """The first of these that holds: something is wrong, no frame can come, paused, stale, running."""
    error = _error(viewed, topic, boxes, seen)
    if error is not None:
        return ViewCondition("error", error)
    missing = _why_no_frame_can_come(viewed, topic, seen)
    if missing is not None:
        return missing
    if seen.paused:
        return ViewCondition("paused")
    if not seen.frame_came or math.isinf(seen.silent_secs):
        return ViewCondition("waiting", _why_no_picture(topic, boxes, seen))
    if seen.silent_secs > max(STALE_SECS, 4 * seen.usual_interval_secs):
        return ViewCondition("stale", f"no frame of {topic} for {seen.silent_secs:.0f} s")
    return ViewCondition("running", _note_on_boxes(viewed, boxes, seen))


def _error(viewed: Viewed, topic: TopicSource, boxes: TopicSource | None, seen: Seen) -> str | None:
    if seen.own_problem is not None:
        return seen.own_problem
    for source in (topic, boxes):
        problem = None if source is None else _problem_of_node(viewed, source)
        if problem is not None:
            return problem
    if seen.frame_problem is not None:
        return f"{topic}: {seen.frame_problem}"
    if seen.boxes_problem is not None:
        return f"{boxes}: {seen.boxes_problem}"
    return None


def _problem_of_node(viewed: Viewed, source: TopicSource) -> str | None:
    try:
        viewed.graph.check_topic(str(source))
    except GraphError as error:
        return str(error)
    status = _status(viewed, source.node)
    if status is None or status.state is not State.FAILED:
        return None
    return f"{source.node} failed: {status.error or 'it ended without saying why'}"


def _status(viewed: Viewed, node: str) -> NodeStatus | None:
    """None for a node that is not declared, or not any more."""
    if node not in viewed.graph:
        return None
    try:
        return viewed.status(node)
    except GraphError:  # removed since we looked
        return None


def _why_no_frame_can_come(viewed: Viewed, topic: TopicSource, seen: Seen) -> ViewCondition | None:
    if not viewed.running:
        if seen.frame_came:
            return ViewCondition("stopped", "the dataflow is stopped")
        return ViewCondition("waiting", "the dataflow is not started: %dora start")
    if topic.node == NOTEBOOK:
        return None
    status = _status(viewed, topic.node)
    if status is None:
        return ViewCondition("waiting", f"{topic.node} is not declared")
    if status.state is State.RUNNING:
        return None
    if status.state in (State.FINISHED, State.STOPPED):
        return ViewCondition("stopped", f"{topic.node} has {status.state.value}")
    return ViewCondition("waiting", f"{topic.node} is {status.state_text()}")


def _why_no_picture(topic: TopicSource, boxes: TopicSource | None, seen: Seen) -> str:
    if boxes is not None and seen.boxes_never_matched:
        return (
            f"none of {seen.boxes_never_matched} messages of {boxes} has the timestamp of a frame; "
            "the detector has to forward event['metadata']"
        )
    if boxes is not None and seen.silent_secs < STALE_SECS:
        return f"for the first boxes of {boxes}"
    return f"for the first frame of {topic}"


def _note_on_boxes(viewed: Viewed, boxes: TopicSource | None, seen: Seen) -> str:
    if boxes is None or boxes.node == NOTEBOOK:
        return ""
    status = _status(viewed, boxes.node)
    if status is None:
        return f"no boxes: {boxes.node} is not declared"
    if status.state is not State.RUNNING:
        return f"no new boxes: {boxes.node} is {status.state_text()}"
    return "" if seen.boxes_came else f"waiting for the first boxes of {boxes}"


def drops(
    viewed: Viewed,
    topic: TopicSource,
    boxes: TopicSource | None,
    edges: list[EdgeStatus | None],
    in_view: int,
) -> list[tuple[str, int]]:
    """Where messages were lost on the way to the picture and its boxes, and how many: none is left out.

    The edge from the picture to the detector counts too: it is why boxes lag behind.
    """
    places = [(f"{edge.topic} → {edge.reader}", edge.dropped) for edge in edges if edge is not None]
    status = None if boxes is None else _status(viewed, boxes.node)
    if status is not None:
        places += [
            (f"{edge.topic} → {edge.reader}", edge.dropped)
            for edge in status.inputs
            if edge.topic == str(topic)
        ]
    return [*places, ("this view", in_view)]
