"""Which message of a recording is published when: `engines.playback`, on a clock of the test's own."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.engines.playback import Due, Playback, in_recorded_order
from dora_nb.engines.player_words import Command, PlayerJob, PlayerState
from dora_nb.recording.message import RecordedMessage

SECOND = 10**9
START = 1_700_000_000 * SECOND
"""When the recording begins, in nanoseconds since 1970."""


def message(
    secs: float, topic: str = "camera/image", *, log_secs: float | None = None, **metadata: Any
) -> RecordedMessage:
    nanos = START + round(secs * SECOND)
    stamp = datetime.datetime.fromtimestamp(nanos / 1e9, datetime.UTC)
    log_nanos = nanos if log_secs is None else START + round(log_secs * SECOND)
    about = {"timestamp": stamp, **metadata}
    return RecordedMessage(topic, pa.array([secs]), about, nanos, log_nanos, 0)


class Play:
    """A playback with its clocks: `now` in seconds, the wall clock 1000 s after the recording."""

    def __init__(self, messages: list[RecordedMessage], **job: Any) -> None:
        self.messages = messages
        self.now = 50.0
        self.wall = 1000.0
        outputs = {each.topic: each.topic for each in messages}
        self.playback = Playback(
            PlayerJob("run.mcap", outputs, **job),
            self._open,
            start_nanos=START,
            wall_nanos=lambda: START + round(self.wall * SECOND),
        )
        self.playback.begin(self.nanos)

    def _open(self, from_secs: float, to_secs: float | None) -> Iterator[RecordedMessage]:
        first = START + round(from_secs * SECOND)
        last = None if to_secs is None else START + round(to_secs * SECOND)
        return iter(
            each
            for each in self.messages
            if each.log_nanos >= first and (last is None or each.log_nanos < last)
        )

    @property
    def nanos(self) -> int:
        return round(self.now * SECOND)

    def pass_time(self, secs: float) -> None:
        self.now += secs
        self.wall += secs

    def due_in(self) -> float | None:
        due = self.playback.due_nanos(self.nanos)
        return None if due is None else round((due - self.nanos) / SECOND, 6)

    def take(self) -> Due:
        return self.playback.take(self.nanos)

    def play_all(self) -> list[tuple[float, float]]:
        """Sends everything at its time; returns seconds since the beginning, and the message's value."""
        began, sent = self.now, []
        while (due := self.due_in()) is not None:
            self.pass_time(max(0.0, due))
            sent.append((round(self.now - began, 6), self.take().value[0].as_py()))
        return sent

    def do(self, act: Any, value: float = 0.0, number: int = 1) -> None:
        self.playback.carry_out(Command(number, act, value), self.nanos)

    def state(self) -> PlayerState:
        return self.playback.state(self.nanos)


@pytest.mark.parametrize(
    ("speed", "at"), [(1.0, [0, 1, 3]), (2.0, [0, 0.5, 1.5]), (0.5, [0, 2, 6])]
)
def test_messages_come_in_their_rhythm_divided_by_the_speed(speed: float, at: list[float]) -> None:
    play = Play([message(0), message(1), message(3)], speed=speed)

    assert play.play_all() == list(zip(at, [0, 1, 3], strict=True))
    assert play.playback.ended


def test_a_late_message_delays_no_later_one() -> None:
    play = Play([message(0), message(1), message(2)])
    play.take()
    play.pass_time(1.4)  # The machine was busy.

    assert play.due_in() == -0.4
    play.take()
    assert play.due_in() == 0.6


def test_as_fast_as_possible_everything_is_due_at_once() -> None:
    play = Play([message(0), message(100)], speed=None)

    assert play.play_all() == [(0, 0), (0, 100)]


def test_the_range_begins_in_silence_as_it_was_recorded() -> None:
    play = Play([message(0), message(2), message(3)], from_secs=1.5, to_secs=3)

    assert play.play_all() == [(0.5, 2)]
    assert play.state().phase == "ended"


def test_all_stamps_move_by_one_offset() -> None:
    taken = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    play = Play([message(0, taken_at=taken, width=3), message(1)], speed=2.0)
    first = play.take().metadata
    play.pass_time(0.5)
    second = play.take().metadata

    assert first["timestamp"].timestamp() == pytest.approx(START / SECOND + 1000)
    assert first["taken_at"] - taken == datetime.timedelta(seconds=1000)
    assert first["width"] == 3
    # At double speed too: what an operator computes from stamps is what it computed live.
    assert second["timestamp"] - first["timestamp"] == datetime.timedelta(seconds=1)


def test_a_stamp_that_cannot_move_stays() -> None:
    end = datetime.datetime.max.replace(tzinfo=datetime.UTC)
    local = datetime.datetime(2026, 1, 1)  # noqa: DTZ001  # without a zone: not a point in time
    metadata = Play([message(0, end=end, local=local)]).take().metadata

    assert (metadata["end"], metadata["local"]) == (end, local)


def test_a_pause_holds_the_position_and_its_length_is_not_made_up_for() -> None:
    play = Play([message(0), message(1), message(2)])
    play.take()
    play.pass_time(0.25)
    play.do("pause")
    play.pass_time(30)

    assert play.due_in() is None
    assert play.state() == PlayerState(
        "paused", 0.25, sent=1, carried_out=1, last_topic="camera/image"
    )
    play.do("resume", number=2)
    assert play.due_in() == 0.75
    play.pass_time(0.75)
    # A live source that pauses does the same: its stamps are of the present.
    assert play.take().metadata["timestamp"].timestamp() == pytest.approx(
        START / SECOND + play.wall
    )


def test_steps_go_forward_while_it_pauses() -> None:
    play = Play([message(each) for each in range(5)])
    play.take()
    play.do("step", 2)

    assert play.state().carried_out == 0, "the kernel waits until the messages are out"
    assert play.play_all() == [(0, 1), (0, 2)]
    assert play.state().phase == "paused"
    assert play.state().carried_out == 1
    assert play.state().position_secs == 2
    play.do("resume", number=2)
    assert play.due_in() == 1


def test_a_step_beyond_the_last_message_ends_it() -> None:
    play = Play([message(0), message(1)])
    play.do("step", 10)

    assert len(play.play_all()) == 2
    assert (play.state().phase, play.state().carried_out) == ("ended", 1)


@pytest.mark.parametrize("secs", [0.5, 3.5])
def test_seek_goes_on_from_there(secs: float) -> None:
    play = Play([message(each) for each in range(6)])
    play.take()
    play.pass_time(1)
    play.take()
    play.do("seek", secs)

    assert play.state().position_secs == secs
    assert play.due_in() == 0.5
    assert play.take().value[0].as_py() == secs + 0.5


def test_seek_keeps_a_pause() -> None:
    play = Play([message(each) for each in range(5)])
    play.do("pause")
    play.do("seek", 3, number=2)

    assert play.due_in() is None
    assert play.state() == PlayerState("paused", 3, carried_out=2)


def test_a_loop_begins_again_and_its_stamps_do_not_go_back() -> None:
    play = Play([message(0), message(1)], speed=None, loop=True)
    stamps = [play.take().metadata["timestamp"] for _ in range(6)]

    assert stamps == sorted(set(stamps))
    assert play.state().loops == 3
    assert not play.playback.ended


def test_a_loop_of_nothing_ends() -> None:
    assert Play([message(0)], loop=True, from_secs=1).state().phase == "ended"


def test_a_publishers_clock_that_is_set_back_makes_no_burst() -> None:
    play = Play(
        [message(0), message(1)] + [message(-50 + each, log_secs=2 + each) for each in range(3)],
    )
    # The publisher's clock is 52 s behind from the third message on: the recorder's tells the rhythm.
    assert [at for at, _ in play.play_all()] == [0, 1, 2, 3, 4]


def test_a_clock_that_is_set_back_makes_no_burst() -> None:
    play = Play([message(each) for each in (100, 101, 50, 51, 52)], from_secs=0)

    assert [at for at, _ in play.play_all()] == [100, 101, 101, 102, 103]


def test_messages_of_two_topics_are_sorted_by_sending() -> None:
    late = [
        message(0.00, "a/x", log_secs=0.050),
        message(0.02, "a/x", log_secs=0.050),
        message(0.01, "b/x", log_secs=0.051),
        message(0.03, "b/x", log_secs=0.051),
    ]
    assert [each.value[0].as_py() for each in in_recorded_order(late)] == [0, 0.01, 0.02, 0.03]


def test_messages_of_one_topic_keep_their_order() -> None:
    one = [replace(message(secs), sequence=at) for at, secs in enumerate([0.2, 0.1, 0.3])]
    assert [each.sequence for each in in_recorded_order(one)] == [0, 1, 2]


def test_words_survive_their_encoding() -> None:
    job = PlayerJob("/a b/run.mcap", {"a/x": "b/y"}, speed=None, loop=True, from_secs=1, to_secs=2)
    command = Command(3, "seek", 1.5)
    state = PlayerState("paused", 1.5, 2, 3, 4, "a/x")

    assert PlayerJob.decode(job.encode()) == job
    assert Command.decode(command.encode()) == command
    assert PlayerState.decode(state.encode()) == state
    assert PlayerState.decode('{"phase": "ended", "position_secs": 0, "new": 1}').phase == "ended"
