"""`condition` and `drops`: the state of a camera view in words, and where messages were lost. Pure."""

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
"""A topic is shown as stale after this long without a frame, or after four times its usual interval."""


class Listener(Protocol):
    """The return value of `ViewedDataflow.subscribe`."""

    def close(self) -> None: ...

    def status(self) -> EdgeStatus | None: ...


class ViewedDataflow(Protocol):
    """The part of a `Dataflow` that camera views use."""

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
class FeedState:
    """What has come so far of a view's two topics, and what was wrong with it."""

    paused: bool
    frame_came: bool
    """In this run of the dataflow, or in an earlier one."""
    silent_secs: float
    """Since the newest frame; infinite before the first one of this run."""
    usual_interval_secs: float
    boxes_came: bool
    frame_problem: MessageError | None
    """What was wrong with the newest frame."""
    boxes_problem: MessageError | None
    """What was wrong with the newest boxes."""
    own_problem: str | None
    """What went wrong in the view itself."""
    boxes_never_matched: int = 0
    """Messages with boxes that did not match a frame, as long as none ever did."""
    own_boxes_late_secs: float = 0.0
    """For how long no frame has got its own boxes, if only such frames are shown."""


@dataclass(frozen=True, slots=True)
class ViewCondition:
    """One word for the state, and a reason if the word needs one."""

    state: ViewState
    reason: str = ""


def condition(
    dataflow: ViewedDataflow, topic: TopicSource, boxes: TopicSource | None, feed: FeedState
) -> ViewCondition:
    """Returns the first of these that holds: an error, no frame can come, paused, stale, running."""
    error = _error(dataflow, topic, boxes, feed)
    if error is not None:
        return ViewCondition("error", error)
    missing = _why_no_frame_can_come(dataflow, topic, feed)
    if missing is not None:
        return missing
    if feed.paused:
        return ViewCondition("paused")
    if not feed.frame_came or math.isinf(feed.silent_secs):
        reason = _why_no_picture(topic, boxes, feed)
        return ViewCondition("waiting", reason + _warnings(dataflow, topic, boxes))
    if feed.silent_secs > max(STALE_SECS, 4 * feed.usual_interval_secs):
        reason = f"no frame of {topic} for {feed.silent_secs:.0f} s"
        return ViewCondition("stale", reason + _warnings(dataflow, topic, None))
    if boxes is not None and feed.own_boxes_late_secs > max(
        STALE_SECS, 4 * feed.usual_interval_secs
    ):
        reason = _why_no_own_boxes(dataflow, boxes, feed)
        return ViewCondition("stale", reason + _warnings(dataflow, topic, boxes))
    return ViewCondition("running", _note_on_boxes(dataflow, boxes, feed))


def _error(
    dataflow: ViewedDataflow, topic: TopicSource, boxes: TopicSource | None, feed: FeedState
) -> str | None:
    if feed.own_problem is not None:
        return feed.own_problem
    for source in (topic, boxes):
        problem = None if source is None else _problem_of_node(dataflow, source)
        if problem is not None:
            return problem
    if feed.frame_problem is not None:
        return _naming(topic, feed.frame_problem)
    if feed.boxes_problem is not None and boxes is not None:
        return _naming(boxes, feed.boxes_problem)
    return None


def _warnings(dataflow: ViewedDataflow, topic: TopicSource, boxes: TopicSource | None) -> str:
    """Returns the warnings of the nodes that the view waits for, as the end of a sentence."""
    names = dict.fromkeys(source.node for source in (topic, boxes) if source is not None)
    statuses = [_status(dataflow, name) for name in names]
    return "".join(
        f"; {warning}" for status in statuses if status is not None for warning in status.warnings
    )


def _naming(topic: TopicSource, problem: MessageError) -> str:
    """Returns the problem as text, after the topic if the text does not name it."""
    text = str(problem)
    return text if str(topic) in text else f"{topic}: {text}"


def _problem_of_node(dataflow: ViewedDataflow, source: TopicSource) -> str | None:
    try:
        dataflow.graph.check_topic(str(source))
    except GraphError as error:
        return str(error)
    status = _status(dataflow, source.node)
    if status is None or status.state is not State.FAILED:
        return None
    return f"{source.node} failed: {status.error or 'it ended without an error message'}"


def _status(dataflow: ViewedDataflow, node: str) -> NodeStatus | None:
    """Returns None for a node that is not declared, or no longer."""
    if node not in dataflow.graph:
        return None
    try:
        return dataflow.status(node)
    except GraphError:  # removed since the line above, on another thread
        return None


def _why_no_frame_can_come(
    dataflow: ViewedDataflow, topic: TopicSource, feed: FeedState
) -> ViewCondition | None:
    if not dataflow.running:
        if feed.frame_came:
            return ViewCondition("stopped", "the dataflow is stopped")
        return ViewCondition("waiting", "the dataflow is not running; start it with %dora start")
    if topic.node == NOTEBOOK:
        return None
    status = _status(dataflow, topic.node)
    if status is None:
        return ViewCondition("waiting", dataflow.graph.missing_text(topic.node))
    if status.state is State.RUNNING:
        return None
    if status.state in (State.FINISHED, State.STOPPED):
        return ViewCondition("stopped", f"{topic.node} has {status.state.value}")
    return ViewCondition("waiting", f"{topic.node} is {status.state_text()}")


def _why_no_picture(topic: TopicSource, boxes: TopicSource | None, feed: FeedState) -> str:
    if boxes is not None and feed.boxes_never_matched:
        return _why_none_matched(boxes, feed)
    if boxes is not None and feed.silent_secs < STALE_SECS:
        return f"no boxes of {boxes} yet"
    return f"no frame of {topic} yet"


def _why_none_matched(boxes: TopicSource, feed: FeedState) -> str:
    return (
        f"no boxes of {boxes} have the timestamp of a frame "
        f"(messages received: {feed.boxes_never_matched}); "
        "the detector must forward event['metadata']"
    )


def _why_no_own_boxes(dataflow: ViewedDataflow, boxes: TopicSource, feed: FeedState) -> str:
    """Returns why frames come and none of them is shown, if each waits for its own boxes."""
    if feed.boxes_never_matched:
        return _why_none_matched(boxes, feed)
    note = _note_on_boxes(dataflow, boxes, feed)
    return note or f"no boxes of {boxes} for {feed.own_boxes_late_secs:.0f} s"


def _note_on_boxes(dataflow: ViewedDataflow, boxes: TopicSource | None, feed: FeedState) -> str:
    if boxes is None or boxes.node == NOTEBOOK:
        return ""
    status = _status(dataflow, boxes.node)
    if status is None:
        return f"no boxes: {dataflow.graph.missing_text(boxes.node)}"
    if status.state is not State.RUNNING:
        return f"no new boxes: {boxes.node} is {status.state_text()}"
    return "" if feed.boxes_came else f"no boxes of {boxes} yet{_warnings(dataflow, boxes, None)}"


def drops(
    dataflow: ViewedDataflow,
    topic: TopicSource,
    boxes: TopicSource | None,
    edges: list[EdgeStatus | None],
    in_view: int,
) -> list[tuple[str, int]]:
    """Returns all places where messages were lost on the way to the picture and its boxes, with counts.

    The edge from the picture to the detector counts too: its drops are why boxes lag behind.
    """
    places = [(f"{edge.topic} → {edge.reader}", edge.dropped) for edge in edges if edge is not None]
    status = None if boxes is None else _status(dataflow, boxes.node)
    if status is not None:
        places += [
            (f"{edge.topic} → {edge.reader}", edge.dropped)
            for edge in status.inputs
            if edge.topic == str(topic)
        ]
    return [*places, ("this view", in_view)]
