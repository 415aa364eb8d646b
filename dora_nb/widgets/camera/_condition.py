"""`condition` and `drops`: the state of a camera view in words, and where messages were lost. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

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
from ._overlays import Kind


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
    others_came: frozenset[str] = frozenset()
    """The kinds of overlays other than boxes that have come."""
    other_problems: Mapping[str, MessageError] = field(default_factory=dict)
    """What was wrong with the newest message of the others, by kind."""

    def came(self, kind: Kind) -> bool:
        return self.boxes_came if kind == "boxes" else kind in self.others_came

    def problem(self, kind: Kind) -> MessageError | None:
        return self.boxes_problem if kind == "boxes" else self.other_problems.get(kind)


def condition(
    dataflow: ViewedDataflow,
    topic: TopicSource,
    overlays: Mapping[Kind, TopicSource],
    feed: FeedState,
) -> ViewCondition:
    """Returns the first of these that holds: an error, no frame can come, paused, stale, running."""
    error = _error(dataflow, topic, overlays, feed)
    if error is not None:
        return ViewCondition("error", error)
    missing = why_nothing_can_come(dataflow, topic, came_before=feed.frame_came)
    if missing is not None:
        return missing
    if feed.paused:
        return ViewCondition("paused")
    sources = [topic, *overlays.values()]
    if not feed.frame_came or math.isinf(feed.silent_secs):
        reason = _why_no_picture(topic, overlays, feed)
        return ViewCondition("waiting", reason + warnings_of(dataflow, sources))
    longest_secs = max(STALE_SECS, 4 * feed.usual_interval_secs)
    if feed.silent_secs > longest_secs:
        reason = f"no frame of {topic} for {feed.silent_secs:.0f} s"
        return ViewCondition("stale", reason + warnings_of(dataflow, [topic]))
    if overlays and feed.own_boxes_late_secs > longest_secs:
        reason = _why_no_own_overlays(dataflow, overlays, feed)
        return ViewCondition("stale", reason + warnings_of(dataflow, sources))
    return ViewCondition("running", _note_on_overlays(dataflow, overlays, feed))


def _error(
    dataflow: ViewedDataflow,
    topic: TopicSource,
    overlays: Mapping[Kind, TopicSource],
    feed: FeedState,
) -> str | None:
    if feed.own_problem is not None:
        return feed.own_problem
    for source in (topic, *overlays.values()):
        problem = problem_of_node(dataflow, source)
        if problem is not None:
            return problem
    if feed.frame_problem is not None:
        return _naming(topic, feed.frame_problem)
    for kind, source in overlays.items():
        unread = feed.problem(kind)
        if unread is not None:
            return _naming(source, unread)
    return None


def _naming(topic: TopicSource, problem: MessageError) -> str:
    """Returns the problem as text, after the topic if the text does not name it."""
    text = str(problem)
    return text if str(topic) in text else f"{topic}: {text}"


def _why_no_picture(
    topic: TopicSource, overlays: Mapping[Kind, TopicSource], feed: FeedState
) -> str:
    if overlays and feed.boxes_never_matched:
        return _why_none_matched(overlays, feed)
    if overlays and feed.silent_secs < STALE_SECS:
        kind = next((kind for kind in overlays if not feed.came(kind)), next(iter(overlays)))
        return f"no {kind} of {overlays[kind]} yet"
    return f"no frame of {topic} yet"


def _why_none_matched(overlays: Mapping[Kind, TopicSource], feed: FeedState) -> str:
    what = ", ".join(f"{kind} of {source}" for kind, source in overlays.items())
    return (
        f"no {what} have the timestamp of a frame "
        f"(messages received: {feed.boxes_never_matched}); "
        "the detector must forward event['metadata']"
    )


def _why_no_own_overlays(
    dataflow: ViewedDataflow, overlays: Mapping[Kind, TopicSource], feed: FeedState
) -> str:
    """Returns why frames come and none of them is shown, if each waits for its own overlays."""
    if feed.boxes_never_matched:
        return _why_none_matched(overlays, feed)
    note = _note_on_overlays(dataflow, overlays, feed)
    what = ", ".join(f"{kind} of {source}" for kind, source in overlays.items())
    return note or f"no {what} for {feed.own_boxes_late_secs:.0f} s"


def _note_on_overlays(
    dataflow: ViewedDataflow, overlays: Mapping[Kind, TopicSource], feed: FeedState
) -> str:
    notes = (
        _note_on_overlay(dataflow, kind, source, came=feed.came(kind))
        for kind, source in overlays.items()
    )
    return next((note for note in notes if note), "")


def _note_on_overlay(
    dataflow: ViewedDataflow, kind: Kind, source: TopicSource, *, came: bool
) -> str:
    if source.node == NOTEBOOK:
        return ""
    status = status_of(dataflow, source.node)
    if status is None:
        return f"no {kind}: {dataflow.graph.missing_text(source.node)}"
    if status.state is not State.RUNNING:
        return f"no new {kind}: {source.node} is {status.state_text()}"
    return "" if came else f"no {kind} of {source} yet{warnings_of(dataflow, [source])}"


def drops(
    dataflow: ViewedDataflow,
    topic: TopicSource,
    overlays: Mapping[Kind, TopicSource],
    edges: list[EdgeStatus | None],
    in_view: int,
) -> list[tuple[str, int]]:
    """Returns all places where messages were lost on the way to the picture and its overlays, with counts.

    The edge from the picture to the detector counts too: its drops are why overlays lag behind.
    """
    places = [(f"{edge.topic} → {edge.reader}", edge.dropped) for edge in edges if edge is not None]
    for node in dict.fromkeys(source.node for source in overlays.values()):
        status = status_of(dataflow, node)
        if status is not None:
            places += [
                (f"{edge.topic} → {edge.reader}", edge.dropped)
                for edge in status.inputs
                if edge.topic == str(topic)
            ]
    return [*places, ("this view", in_view)]
