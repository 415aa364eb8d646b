"""Which message of a recording is published when. Pure: times and messages come in, decisions go out.

A message is due at ``anchor + (its recorded time - the anchor's recorded time) / speed``. All deadlines come
from one anchor, so a late message delays no later one. Start, resume, seek and a new loop set a new anchor.

The time stamps in the metadata move by one offset: the present time minus the recorded time of the anchor. So
intervals between stamps are as they were recorded, and at speed 1 the stamps are those of a live source.
"""

from __future__ import annotations

import datetime
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dora_nb.recording.message import RecordedMessage

from .player_words import Command, PlayerJob, PlayerState

Open = Callable[[float, float | None], Iterator[RecordedMessage]]
"""Opens the recording: messages from a second on, up to another one, or to the end."""

_MOST_DIFFERENCE_NANOS = 10 * 10**9
"""If a message was received much later or earlier than it was sent, the clocks were not the same one."""
_JUMP_BACK_NANOS = 10**9
REORDER_NANOS = 100 * 10**6
_ONE_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """A message to publish now."""

    output: str
    value: Any
    metadata: dict[str, Any]


class Playback:
    """The state of one replay. Not thread-safe: one owner.

    All `now_nanos` are of the same monotonic clock, and `wall_nanos` returns the present time since 1970.
    """

    def __init__(
        self,
        job: PlayerJob,
        open_messages: Open,
        *,
        start_nanos: int,
        wall_nanos: Callable[[], int],
    ) -> None:
        self._job = job
        self._open = open_messages
        self._start_nanos = start_nanos
        self._wall_nanos = wall_nanos
        self._messages: Iterator[RecordedMessage] = iter(())
        self._next: RecordedMessage | None = None
        self._paused = False
        self._ended = False
        self._anchor_nanos = 0
        self._anchor_recorded_nanos = 0
        self._last_recorded_nanos = 0
        self._offset_nanos = 0
        self._last_stamp_nanos = 0
        """The latest time that a stamp was moved to: a new offset must not let time go back."""
        self._sent = 0
        self._sent_in_this_loop = 0
        self._loops = 0
        self._carried_out = 0
        self._last_topic = ""
        self._steps = 0
        """Messages that are still to be sent while it pauses."""

    # -- what is due -----------------------------------------------------------------------------------

    def begin(self, now_nanos: int) -> None:
        """Begins at the job's first second."""
        self._go_to(self._job.from_secs, now_nanos)

    @property
    def ended(self) -> bool:
        """Whether the last message was sent, and no loop follows."""
        return self._ended

    def due_nanos(self, now_nanos: int) -> int | None:
        """Returns when the next message is due; None while none will be, without a command."""
        if self._next is None or (self._paused and not self._steps):
            return None
        if self._paused or self._job.speed is None:
            return now_nanos
        recorded_nanos = _recorded_nanos(self._next)
        if recorded_nanos < self._last_recorded_nanos - _JUMP_BACK_NANOS:
            # The recorded clock was set back. All later messages would be overdue, and come in one burst.
            self._set_anchor(now_nanos, recorded_nanos)
        elapsed_nanos = recorded_nanos - self._anchor_recorded_nanos
        return self._anchor_nanos + round(elapsed_nanos / self._job.speed)

    def take(self, now_nanos: int) -> Due:
        """Returns the next message, to be published now, and goes on to the one after it."""
        message = self._next
        assert message is not None  # the caller has asked `due_nanos`
        due = Due(
            self._job.outputs[message.topic],
            message.value,
            _shifted(message.metadata, self._offset_nanos // 1000),
        )
        self._last_recorded_nanos = _recorded_nanos(message)
        stamp_nanos = self._last_recorded_nanos + self._offset_nanos
        self._last_stamp_nanos = max(self._last_stamp_nanos, stamp_nanos)
        self._sent += 1
        self._sent_in_this_loop += 1
        self._last_topic = due.output
        self._steps = max(0, self._steps - 1)
        self._advance(now_nanos)
        return due

    # -- commands --------------------------------------------------------------------------------------

    def carry_out(self, command: Command, now_nanos: int) -> None:
        """Pauses, resumes, steps or seeks."""
        if command.act == "pause":
            self._pause(now_nanos)
        elif command.act == "resume" and self._paused:
            self._paused, self._steps = False, 0
            self._set_anchor(now_nanos, self._last_recorded_nanos)
        elif command.act == "step":
            self._pause(now_nanos)
            self._steps = int(command.value)
            if self._next is not None:
                # Stamps of a step are of the present time, also if the pause was long.
                self._set_anchor(now_nanos, _recorded_nanos(self._next))
        elif command.act == "seek":
            self._steps = 0
            self._go_to(command.value, now_nanos)
        self._carried_out = command.number

    def state(self, now_nanos: int) -> PlayerState:
        """Returns what it does at this moment."""
        return PlayerState(
            phase="ended" if self._ended else "paused" if self._paused else "playing",
            position_secs=max(0, self._clock_nanos(now_nanos) - self._start_nanos) / 1e9,
            sent=self._sent,
            loops=self._loops,
            # The kernel waits for a step until its messages are out.
            carried_out=self._carried_out - (1 if self._steps and not self._ended else 0),
            last_topic=self._last_topic,
        )

    # -- inside ----------------------------------------------------------------------------------------

    def _pause(self, now_nanos: int) -> None:
        if not self._paused:
            self._last_recorded_nanos = self._clock_nanos(now_nanos)
            self._paused = True

    def _clock_nanos(self, now_nanos: int) -> int:
        """Where in the recording it is: between the last message and the next."""
        speed = self._job.speed
        if self._paused or self._ended or speed is None:
            return self._last_recorded_nanos
        elapsed_nanos = round((now_nanos - self._anchor_nanos) * speed)
        clock_nanos = self._anchor_recorded_nanos + elapsed_nanos
        if self._next is not None:
            clock_nanos = min(clock_nanos, _recorded_nanos(self._next))
        return max(clock_nanos, self._last_recorded_nanos)

    def _go_to(self, secs: float, now_nanos: int) -> None:
        self._ended = False
        self._sent_in_this_loop = 0
        self._messages = in_recorded_order(self._open(secs, self._job.to_secs))
        self._last_recorded_nanos = self._start_nanos + round(secs * 1e9)
        self._set_anchor(now_nanos, self._last_recorded_nanos)
        self._advance(now_nanos)

    def _advance(self, now_nanos: int) -> None:
        self._next = next(self._messages, None)
        if self._next is not None:
            return
        # Without a message in it, a loop would turn for ever.
        if self._job.loop and self._sent_in_this_loop:
            self._loops += 1
            self._go_to(self._job.from_secs, now_nanos)
        else:
            self._ended = True
            self._steps = 0

    def _set_anchor(self, now_nanos: int, recorded_nanos: int) -> None:
        self._anchor_nanos, self._anchor_recorded_nanos = now_nanos, recorded_nanos
        present_nanos = max(self._wall_nanos(), self._last_stamp_nanos + 1000)
        self._offset_nanos = present_nanos - recorded_nanos


def in_recorded_order(
    messages: Iterable[RecordedMessage], window_nanos: int = REORDER_NANOS
) -> Iterator[RecordedMessage]:
    """Sorts messages by the time at which they were sent; those of one topic keep their order.

    A recorder receives messages of several topics in bursts. `window_nanos` is how much later than another
    one a message may have been received and still be sorted before it.
    """
    heap: list[tuple[int, int, RecordedMessage]] = []
    numbers = itertools.count()
    newest_of: dict[str, int] = {}
    for message in messages:
        key = _recorded_nanos(message)
        if key < newest_of.get(message.topic, key) - _JUMP_BACK_NANOS:
            # The clock was set back: what was recorded before comes first.
            while heap:
                yield heapq.heappop(heap)[2]
            newest_of.clear()
        key = max(key, newest_of.get(message.topic, key))
        newest_of[message.topic] = key
        heapq.heappush(heap, (key, next(numbers), message))
        while heap[0][0] < key - window_nanos:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]


def _recorded_nanos(message: RecordedMessage) -> int:
    """Returns when the message was sent; when it was received, if the sender's clock was another one."""
    sent_nanos, received_nanos = message.publish_nanos, message.log_nanos
    same_clock = abs(sent_nanos - received_nanos) <= _MOST_DIFFERENCE_NANOS
    return sent_nanos if same_clock else received_nanos


def _shifted(metadata: dict[str, Any], offset_micros: int) -> dict[str, Any]:
    """Returns the metadata with every time stamp moved."""
    return {
        key: _moved(value, offset_micros) if isinstance(value, datetime.datetime) else value
        for key, value in metadata.items()
    }


def _moved(stamp: datetime.datetime, offset_micros: int) -> datetime.datetime:
    if stamp.tzinfo is None:
        return stamp  # no point in time
    try:
        return stamp + offset_micros * _ONE_MICROSECOND
    except OverflowError:
        return stamp  # the year 1 or 9999: a mark, and no time at which something happened
