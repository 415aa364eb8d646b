"""Messages between the notebook's own code and a running dataflow: taken, sent, replayed."""

from __future__ import annotations

import datetime
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dora_nb.errors import DataflowStateError, GraphError, TopicTimeoutError, did_you_mean
from dora_nb.events import Event
from dora_nb.graph.nodes import DEFAULT_QUEUE_SIZE
from dora_nb.graph.sources import NOTEBOOK
from dora_nb.how_to import how_to
from dora_nb.status import State

from .arguments import as_sendable
from .current_run import CurrentRun

_LOOK_EVERY_SECS = 0.2
_sleep = time.sleep


def take(
    run: CurrentRun, topic: str, count: int, timeout_secs: float, *, replay_last: bool
) -> list[Event]:
    """The next messages of a topic; with `replay_last`, the newest that was sent is the first of them."""
    source = run.graph.check_topic(topic)
    if source.node != NOTEBOOK:
        run.graph.node(source.node)
    run.running_session(f"nothing comes on '{topic}'")
    arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
    queue_size = max(count, DEFAULT_QUEUE_SIZE)
    reader = run.add_reader(topic, arrived.put, queue_size=queue_size, replay_last=replay_last)
    try:
        return _receive(run, arrived, topic, count, timeout_secs)
    finally:
        run.remove_reader(reader)


def _receive(
    run: CurrentRun,
    arrived: queue.SimpleQueue[Event],
    topic: str,
    count: int,
    timeout_secs: float,
) -> list[Event]:
    events: list[Event] = []
    deadline_secs = time.monotonic() + timeout_secs
    while len(events) < count:
        left_secs = deadline_secs - time.monotonic()
        try:
            events.append(arrived.get(timeout=max(0.0, min(left_secs, _LOOK_EVERY_SECS))))
        except queue.Empty:
            if left_secs <= 0 or is_over(run, topic):
                raise too_few(run, topic, len(events), count, timeout_secs) from None
    return events


def is_over(run: CurrentRun, topic: str) -> bool:
    """Whether no further message can come on this topic."""
    name = topic.partition("/")[0]
    if name == NOTEBOOK:
        return not run.alive
    over = (State.FAILED, State.FINISHED, State.STOPPED, State.DECLARED)
    return name not in run.graph or run.status(name).state in over


def too_few(
    run: CurrentRun, topic: str, came: int, wanted: int, timeout_secs: float | None
) -> TopicTimeoutError:
    """The error of a wait that is over, with the state of the topic's node."""
    state = publisher_text(run, topic)
    text = f"{came} of {wanted} messages came on '{topic}' within {timeout_secs:g} s; {state}"
    return TopicTimeoutError(text if text.endswith("?") else f"{text}.")


def publisher_text(run: CurrentRun, topic: str) -> str:
    """Why nothing comes on a topic, as the end of a sentence: the state of its node."""
    name = topic.partition("/")[0]
    if name == NOTEBOOK:
        return "none was sent"
    if name not in run.graph:
        return run.graph.missing_text(name)
    status = run.status(name)
    state = f"{name} is {status.state_text()}"
    if status.error is not None:
        return f"{state} ({status.error.message})"
    if status.state is State.STARTING and (failed := _held_up_by(run)):
        return f"{state}, and begins once {failed} is corrected or removed: it failed"
    return f"{state}, but {'; '.join(status.warnings)}" if status.warnings else state


def _held_up_by(run: CurrentRun) -> str | None:
    """The node that failed where no message moves yet: the others are ready, and wait for it."""
    states = {name: run.status(name).state for name in run.graph.nodes}
    if set(states.values()) != {State.STARTING, State.FAILED}:
        return None
    return next(name for name, state in states.items() if state is State.FAILED)


def send(
    run: CurrentRun,
    topic: str,
    data: Any,
    metadata: Mapping[str, Any] | None,
    *,
    reader_needed: bool = True,
) -> None:
    """Sends as the notebook on ``notebook/NAME``, and any other topic by its node's own process.

    Without `reader_needed`, a message on ``notebook/NAME`` that no input reads is no error.
    """
    source = run.graph.check_topic(topic)
    about = None if metadata is None else dict(metadata)
    replay = run.replay
    if replay is not None and topic in replay.topics:
        raise DataflowStateError(
            f"'{topic}' is replayed from {replay.file}:",
            hint="stop the replay first, or leave the topic out of it.",
        )
    if source.node == NOTEBOOK:
        if run.controls.word(source.output) is not None:
            raise GraphError(
                f"'{topic}' is sent by a control:",
                hint=f"use dataflow.controls['{topic}'].set(VALUE), or remove the control first.",
            )
        if reader_needed:
            _check_is_read(run, topic)
        session = run.running_session(f"'{topic}' cannot be sent")
        if session.edit_refusal is None or topic in run.graph.topics_of_the_notebook():
            session.send(source, as_sendable(data), about)
        # Else nothing can read it: on dora-rs the topics of the notebook are fixed at the start.
        return
    run.graph.node(source.node)
    session = run.running_session(f"'{topic}' cannot be sent")
    if not session.inject(source, as_sendable(data), about):
        instead = f"send on {NOTEBOOK}/NAME, and let an input read that."
        if session.edit_refusal is not None:
            only = f"'{topic}' is sent by {source.node} alone on dora-rs:"
            raise DataflowStateError(only, hint=instead)
        raise DataflowStateError(
            f"'{topic}' is sent by {source.node}, which is {run.status(source.node).state_text()}:",
            hint=f"start it again, or {instead}",
        )


def _check_is_read(run: CurrentRun, topic: str) -> None:
    name = topic.partition("/")[2]
    known = [each.partition("/")[2] for each in run.graph.topics_of_the_notebook()]
    if name not in known:
        near = did_you_mean(name, known)
        hint = near and near.replace("'", f"'{NOTEBOOK}/", 1)
        hint = hint or f"Declare one with {how_to('read a topic', topic=topic)}."
        raise GraphError(f"no input reads '{topic}'.", hint=hint)


def replay(
    send_event: Callable[[str, Any, dict[str, Any]], None],
    events: Iterable[Any],
    *,
    topic: str | None,
    speed: float | None,
) -> int:
    """Sends events that were taken, each when it is due; returns how many."""
    if speed is not None and not speed > 0:
        raise GraphError(f"speed must be a number above 0, or None, got {speed!r}.")
    events = list(events)
    for at, event in enumerate(events):
        if not isinstance(event, Mapping) or "value" not in event or not (topic or "id" in event):
            raise GraphError(
                f"cannot replay item {at}: expected an event, got {type(event).__name__}.",
                hint="replay takes what take, latest and subscribe return.",
            )
    if speed is not None and None not in map(_stamp_of, events):
        events.sort(key=lambda event: event["metadata"]["timestamp"])
    begin_secs, first = time.monotonic(), None
    for event in events:
        stamp = _stamp_of(event)
        metadata = {**(event.get("metadata") or {})}
        metadata.pop("timestamp", None)
        if stamp is not None and speed is not None:
            first = first or stamp
            due_secs = begin_secs + (stamp - first).total_seconds() / speed
            _sleep(max(0.0, due_secs - time.monotonic()))
        send_event(topic or event["id"], event["value"], metadata)
    return len(events)


def _stamp_of(event: Mapping[str, Any]) -> datetime.datetime | None:
    stamp = (event.get("metadata") or {}).get("timestamp")
    return stamp if isinstance(stamp, datetime.datetime) else None
