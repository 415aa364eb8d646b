"""What a view's threads share, with a clock in the test's hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.widgets._feed import STATUS_INTERVAL_SECS, Feed, SendStep, Task


@dataclass
class Clock:
    now_secs: float = 100.0

    def __call__(self) -> float:
        return self.now_secs


def feed_with(clock: Clock, **options: Any) -> Feed:
    return Feed(with_boxes=False, sync=False, max_fps=30, labels=None, clock=clock, **options)


def message() -> dict[str, Any]:
    return {"id": "image", "value": pa.array([1]), "metadata": {}}


def take_frames(feed: Feed, clock: Clock, count: int, interval_secs: float) -> None:
    for _ in range(count):
        feed.take_frame(message())
        clock.now_secs += interval_secs


def next_send_step(feed: Feed) -> SendStep:
    task = feed.next_task()
    assert isinstance(task, Task)
    return task.send_step


def test_the_usual_interval_is_known_from_the_second_frame_on():
    """A slow camera is not stale between two of its frames."""
    clock = Clock()
    feed = feed_with(clock)
    take_frames(feed, clock, 2, interval_secs=3.0)

    assert feed.state().usual_interval_secs == pytest.approx(3.0)


def test_the_time_between_two_runs_is_no_silence_and_no_interval():
    clock = Clock()
    feed = feed_with(clock)
    feed.note_running(True)
    take_frames(feed, clock, 10, interval_secs=0.1)
    feed.note_running(False)
    clock.now_secs += 3600
    feed.note_running(True)

    assert feed.state().silent_secs == float("inf")
    take_frames(feed, clock, 2, interval_secs=0.1)
    assert feed.state().usual_interval_secs == pytest.approx(0.1)


def test_what_came_before_the_start_was_noticed_is_of_the_new_run():
    clock = Clock()
    feed = feed_with(clock)
    feed.note_running(True)
    feed.note_running(False)
    clock.now_secs += 1
    feed.take_frame(message())
    feed.note_running(True)

    assert feed.state().silent_secs == 0


def test_a_picture_goes_before_a_status():
    clock = Clock()
    feed = feed_with(clock)
    feed.take_frame(message())

    assert [next_send_step(feed), next_send_step(feed)] == [SendStep.PICTURE, SendStep.STATUS]


def test_a_greeting_goes_first():
    clock = Clock()
    feed = feed_with(clock)
    feed.take_frame(message())
    feed.receive({"type": "hello", "client": "page", "n": 1})

    assert next_send_step(feed) is SendStep.GREETING


def test_changes_are_told_at_once_but_twice_a_second_at_most():
    clock = Clock()
    feed = feed_with(clock)
    assert next_send_step(feed) is SendStep.STATUS
    feed.status_sent()
    feed.note_change()
    feed.note_change()

    assert feed._choose(clock())[1] == pytest.approx(STATUS_INTERVAL_SECS)
    clock.now_secs += STATUS_INTERVAL_SECS
    assert next_send_step(feed) is SendStep.STATUS

    clock.now_secs += 10
    feed.note_change()
    assert feed._choose(clock())[0] == Task(SendStep.STATUS)


def test_out_of_sight_nothing_is_done_until_something_changes():
    clock = Clock()
    feed = feed_with(clock)
    feed._pacer.on_visible("page", 0, clock())
    assert next_send_step(feed) is SendStep.STATUS
    feed.status_sent()
    clock.now_secs += 10

    assert feed._choose(clock()) == (None, None)


def test_a_still_that_is_due_does_not_wait_for_the_status():
    clock = Clock()
    feed = feed_with(clock)
    assert next_send_step(feed) is SendStep.STATUS
    feed.status_sent()
    feed.set_paused(True)

    assert next_send_step(feed) is SendStep.STATUS
    assert feed.take_still_due()
    assert not feed.take_still_due()
