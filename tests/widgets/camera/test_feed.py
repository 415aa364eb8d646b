"""What a view's threads share, with a clock in the test's hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.widgets.camera._drawn import Drawn
from dora_nb.widgets.camera._feed import ORIGINALS_MAX_BYTES, Feed, PixelQuestion
from dora_nb.widgets.camera._matching import Pair
from dora_nb.widgets.camera._pictures import Picture
from dora_nb.widgets.page.stream import STATUS_INTERVAL_SECS, SendStep


@dataclass
class Clock:
    now_secs: float = 100.0

    def __call__(self) -> float:
        return self.now_secs


def feed_with(clock: Clock, **options: Any) -> Feed:
    return Feed(kinds=(), sync=False, max_fps=30, labels=None, clock=clock, **options)


def message() -> dict[str, Any]:
    return {"id": "image", "value": pa.array([1]), "metadata": {}}


def take_frames(feed: Feed, clock: Clock, count: int, interval_secs: float) -> None:
    for _ in range(count):
        feed.take_frame(message())
        clock.now_secs += interval_secs


def next_pair(feed: Feed) -> Pair:
    assert feed.next_step() is SendStep.STREAM
    pair = feed.take()
    assert isinstance(pair, Pair)
    return pair


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


class Scene:
    """A camera at 30 fps and a detector, on a view with `sync="auto"` and in staged time."""

    def __init__(self, sync: Any = "auto") -> None:
        self.clock = Clock()
        self.feed = Feed(kinds=("boxes",), sync=sync, max_fps=240, labels=None, clock=self.clock)
        self.shown: list[tuple[int, int]] = []
        """The stamps of the frames and boxes that were sent."""
        self._stamp = datetime(2026, 11, 30, tzinfo=UTC)
        self._due: list[tuple[float, datetime]] = []

    def run(self, frames: int, delay_secs: float | None) -> None:
        for _ in range(frames):
            self._stamp += timedelta(milliseconds=33)
            self.feed.take_frame(
                {"id": "image", "value": pa.array([1]), "metadata": {"timestamp": self._stamp}}
            )
            if delay_secs is not None:
                self._due.append((self.clock.now_secs + delay_secs, self._stamp))
            self._send()
            end_secs = self.clock.now_secs + 0.033
            while self._due and self._due[0][0] <= end_secs:
                self.clock.now_secs, stamp = self._due.pop(0)
                self.feed.take_overlay(
                    "boxes", {"id": "bbox", "value": pa.array([]), "metadata": {"timestamp": stamp}}
                )
                self._send()
            self.clock.now_secs = end_secs

    def _send(self) -> None:
        while (step := self.feed._choose(self.clock())[0]) is not None:
            if step is not SendStep.STREAM:
                self.feed.status_sent()
                continue
            taken = self.feed.take()
            assert taken is not None
            if isinstance(taken, Pair):
                sent = self.feed.sent(taken, Picture(b"", "", 1, 1), Drawn())
                self._ack(sent.seq)
                own_stamp = None if taken.overlays is None else taken.overlays.stamp_micros
                self.shown.append((taken.frame.stamp_micros or 0, own_stamp or 0))
            else:
                self.feed.overlays_sent(taken, Drawn())

    def _ack(self, seq: int) -> None:
        counts = {"seq": seq, "drawn": seq, "dropped": 0, "broken": 0}
        self.feed.receive({"type": "ack", "client": "page", "n": seq, **counts})

    def shows_own_boxes(self, last: int = 5) -> bool:
        return all(frame == boxes for frame, boxes in self.shown[-last:])

    def accounted(self) -> bool:
        tally = self.feed.tally()
        counts = tally.counts
        waiting = self.feed._pairing._same.frames_kept + (self.feed.newest() is not None)
        return counts.frames_received == (
            counts.frames_sent + counts.frames_dropped + tally.frames_unmatched + waiting
        )


def test_boxes_of_a_fast_detector_come_on_their_own_frames():
    scene = Scene()
    scene.run(5, delay_secs=0.1)
    assert not scene.feed.own_boxes  # a picture is there at once
    assert len(scene.shown) == 5

    scene.run(55, delay_secs=0.1)

    assert scene.feed.own_boxes
    assert scene.shows_own_boxes()
    assert scene.accounted()


def test_a_slow_detector_does_not_hold_the_pictures_up():
    scene = Scene()
    scene.run(120, delay_secs=1.5)

    assert not scene.feed.own_boxes
    assert len(scene.shown) == 120
    frame, boxes = scene.shown[-1]
    assert 1.4e6 < frame - boxes < 1.6e6


def test_a_detector_that_gets_slow_or_dies_does_not_stop_the_pictures():
    for delay_secs in (0.6, None):
        scene = Scene()
        scene.run(90, delay_secs=0.1)
        assert scene.feed.own_boxes

        scene.run(60, delay_secs=delay_secs)

        assert not scene.feed.own_boxes
        sent = len(scene.shown)
        scene.run(10, delay_secs=delay_secs)
        assert len(scene.shown) == sent + 10
        assert scene.accounted()


def test_a_person_or_python_decides_against_the_choice():
    scene = Scene()
    scene.run(90, delay_secs=1.0)
    scene.feed.set_sync(True)
    scene.run(90, delay_secs=1.0)
    assert scene.shows_own_boxes()

    scene.feed.set_sync(False)
    scene.run(90, delay_secs=0.1)
    assert not scene.shows_own_boxes()

    scene.feed.set_sync("auto")
    scene.run(90, delay_secs=0.1)
    assert scene.shows_own_boxes()
    assert scene.accounted()


def test_frames_that_wait_for_boxes_that_never_come_are_noticed():
    scene = Scene(sync=True)
    scene.run(60, delay_secs=0.1)
    assert scene.feed.state().own_boxes_late_secs < 0.2

    scene.run(60, delay_secs=None)

    assert scene.feed.state().own_boxes_late_secs > 1.5
    scene.feed.set_sync(False)
    assert scene.feed.state().own_boxes_late_secs == 0


def test_another_run_shows_a_picture_at_once():
    scene = Scene()
    scene.feed.note_running(True)
    scene.run(90, delay_secs=0.1)
    assert scene.feed.own_boxes
    scene.feed.note_running(False)
    scene.feed.note_running(True)

    assert not scene.feed.own_boxes


def test_originals_are_kept_for_the_newest_pictures_within_a_bound():
    clock = Clock()
    feed = feed_with(clock)
    for _ in range(4):
        clock.now_secs += 1
        value = pa.array(np.zeros(ORIGINALS_MAX_BYTES // 2 - 1000, np.uint8))
        feed.take_frame({"id": "image", "value": value, "metadata": {}})
        feed.sent(next_pair(feed), Picture(b"", "", 1, 1), Drawn())

    kept = [feed.original(seq) is not None for seq in range(1, 6)]

    assert kept == [False, False, True, True, False]


def test_an_original_of_any_size_is_kept_of_the_newest_picture():
    feed = feed_with(Clock())
    value = pa.array(np.zeros(ORIGINALS_MAX_BYTES + 1, np.uint8))
    feed.take_frame({"id": "image", "value": value, "metadata": {}})
    feed.sent(next_pair(feed), Picture(b"", "", 1, 1), Drawn())

    assert feed.original(1) is not None


def test_of_many_questions_for_a_pixel_the_newest_is_answered():
    feed = feed_with(Clock())
    for number in range(1, 1000):
        feed.ask_pixel(PixelQuestion("page", 1, number, 2))

    assert feed.next_step() is SendStep.ANSWER
    assert feed.take_question() == PixelQuestion("page", 1, 999, 2)
    assert feed.next_step() is SendStep.STATUS


def test_a_picture_goes_before_a_status():
    clock = Clock()
    feed = feed_with(clock)
    feed.take_frame(message())
    steps = [feed.next_step(), feed.take() and feed.next_step()]

    assert steps == [SendStep.STREAM, SendStep.STATUS]


def test_a_greeting_goes_first():
    clock = Clock()
    feed = feed_with(clock)
    feed.take_frame(message())
    feed.receive({"type": "hello", "client": "page", "n": 1})

    assert feed.next_step() is SendStep.GREETING


def test_changes_are_told_at_once_but_twice_a_second_at_most():
    clock = Clock()
    feed = feed_with(clock)
    assert feed.next_step() is SendStep.STATUS
    feed.status_sent()
    feed.mark_status_changed()
    feed.mark_status_changed()

    assert feed._choose(clock())[1] == pytest.approx(STATUS_INTERVAL_SECS)
    clock.now_secs += STATUS_INTERVAL_SECS
    assert feed.next_step() is SendStep.STATUS

    clock.now_secs += 10
    feed.mark_status_changed()
    assert feed._choose(clock())[0] is SendStep.STATUS


def test_out_of_sight_nothing_is_done_until_something_changes():
    clock = Clock()
    feed = feed_with(clock)
    feed.pacer.pages.on_visible("page", 0, clock())
    assert feed.next_step() is SendStep.STATUS
    feed.status_sent()
    clock.now_secs += 10

    assert feed._choose(clock()) == (None, None)


def test_a_still_that_is_due_does_not_wait_for_the_status():
    clock = Clock()
    feed = feed_with(clock)
    assert feed.next_step() is SendStep.STATUS
    feed.status_sent()
    feed.set_paused(True)

    assert feed.next_step() is SendStep.STATUS
    assert feed.take_still_due()
    assert not feed.take_still_due()
