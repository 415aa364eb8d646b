"""`condition` and `drops`: the state of a camera view in words, and where messages were lost. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dora_nb.errors import MessageError
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.status import EdgeStatus, State

from ..page.condition import (
    STALE_SECS,
    ViewCondition,
    problem_of_node,
    status_of,
    warnings_of,
    why_nothing_can_come,
)
from ..page.dataflow import ViewedDataflow


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


def condition(
    dataflow: ViewedDataflow, topic: TopicSource, boxes: TopicSource | None, feed: FeedState
) -> ViewCondition:
    """Returns the first of these that holds: an error, no frame can come, paused, stale, running."""
    error = _error(dataflow, topic, boxes, feed)
    if error is not None:
        return ViewCondition("error", error)
    missing = why_nothing_can_come(dataflow, topic, came_before=feed.frame_came)
    if missing is not None:
        return missing
    if feed.paused:
        return ViewCondition("paused")
    if not feed.frame_came or math.isinf(feed.silent_secs):
        reason = _why_no_picture(topic, boxes, feed)
        return ViewCondition("waiting", reason + warnings_of(dataflow, [topic, boxes]))
    if feed.silent_secs > max(STALE_SECS, 4 * feed.usual_interval_secs):
        reason = f"no frame of {topic} for {feed.silent_secs:.0f} s"
        return ViewCondition("stale", reason + warnings_of(dataflow, [topic]))
    if boxes is not None and feed.own_boxes_late_secs > max(
        STALE_SECS, 4 * feed.usual_interval_secs
    ):
        reason = _why_no_own_boxes(dataflow, boxes, feed)
        return ViewCondition("stale", reason + warnings_of(dataflow, [topic, boxes]))
    return ViewCondition("running", _note_on_boxes(dataflow, boxes, feed))


def _error(
    dataflow: ViewedDataflow, topic: TopicSource, boxes: TopicSource | None, feed: FeedState
) -> str | None:
    if feed.own_problem is not None:
        return feed.own_problem
    for source in (topic, boxes):
        problem = None if source is None else problem_of_node(dataflow, source)
        if problem is not None:
            return problem
    if feed.frame_problem is not None:
        return _naming(topic, feed.frame_problem)
    if feed.boxes_problem is not None and boxes is not None:
        return _naming(boxes, feed.boxes_problem)
    return None


def _naming(topic: TopicSource, problem: MessageError) -> str:
    """Returns the problem as text, after the topic if the text does not name it."""
    text = str(problem)
    return text if str(topic) in text else f"{topic}: {text}"


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
    status = status_of(dataflow, boxes.node)
    if status is None:
        return f"no boxes: {dataflow.graph.missing_text(boxes.node)}"
    if status.state is not State.RUNNING:
        return f"no new boxes: {boxes.node} is {status.state_text()}"
    return "" if feed.boxes_came else f"no boxes of {boxes} yet{warnings_of(dataflow, [boxes])}"


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
    status = None if boxes is None else status_of(dataflow, boxes.node)
    if status is not None:
        places += [
            (f"{edge.topic} → {edge.reader}", edge.dropped)
            for edge in status.inputs
            if edge.topic == str(topic)
        ]
    return [*places, ("this view", in_view)]
