"""What each topic holds at a time of the recording, read when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.data.arrow import Event
from dora_nb.data.boxes import read_boxes
from dora_nb.data.describe import describe
from dora_nb.errors import DoraNbError, MessageError, RecordingError
from dora_nb.events import stamp_micros
from dora_nb.recording import RecordedMessage, Recording

from ..camera import (
    DrawnBox,
    Picture,
    drawn_boxes,
    is_same_stamp,
    lag_micros,
    picture_of,
)

LOOK_AHEAD_SECS = 1.0
"""The boxes of a picture were received later than the picture itself, at most so much."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and its time in seconds from the beginning."""

    event: Event
    secs: float
    number: int
    """Microseconds from the beginning: tells it from the other messages of its topic."""


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture with the boxes to draw on it."""

    picture: Picture
    boxes: list[DrawnBox]
    lag_millis: float | None
    """How much older the boxes are than the picture."""
    secs: float


class TopicCursor:
    """One topic at a cursor that moves. Remembers the message that it was at."""

    def __init__(self, recording: Recording, topic: str) -> None:
        self._recorded = recording[topic]
        self._start_nanos = recording.start_nanos
        self.topic = topic
        self.times: npt.NDArray[np.float64] | None = None
        """The times of all messages; None until `load_times`."""
        self.problem: str | None = None
        self._newest: Message | None = None

    def load_times(self) -> npt.NDArray[np.float64]:
        """Reads the times of all messages: of an MCAP file from its index, of a bag all its messages."""
        if self.times is None:
            self.times = self._recorded.times
        return self.times

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Begin and end of each silence, of a topic that has a rhythm."""
        return [(gap.start, gap.start + gap.duration_secs) for gap in self._recorded.gaps]

    def at(self, secs: float) -> Message | None:
        """Returns the newest message at a time; None before the first. Raises RecordingError."""
        if self.times is not None:
            place = int(np.searchsorted(self.times, secs, "right")) - 1
            if place < 0:
                return None
            secs = float(self.times[place])
            if self._newest is not None and self._newest.secs == secs:
                return self._newest
        found = self._recorded.message_at(secs)
        self._newest = None if found is None else self._timed(found)
        return self._newest

    def _timed(self, message: RecordedMessage) -> Message:
        nanos = message.log_nanos - self._start_nanos
        return Message(message.as_event(), nanos / 1e9, nanos // 1000)

    def neighbour(self, secs: float, steps: int) -> float | None:
        """Returns the time of the message that is so many further; the first or last where it ends."""
        times = self.load_times()
        if not len(times):
            return None
        # A page's time was rounded, and must count as being at its message.
        place = int(np.searchsorted(times, secs + 5e-7, "right")) - 1
        if steps < 0 and place >= 0 and times[place] < secs - 5e-7:
            place += 1  # between two messages, one step back leads to the earlier of them
        return float(times[min(max(place + steps, 0), len(times) - 1)])


def whole_micros(secs: float) -> float:
    """Returns a message's time for a page to ask for, rounded up: a moment before, the message has not come yet."""
    return math.ceil(secs * 1e6) / 1e6


def shown_picture(
    recording: Recording, picture: Message, boxes: Sequence[TopicCursor], secs: float
) -> ShownPicture:
    """Returns a picture with its boxes: those of its own time stamp, or else the newest at the cursor.

    Raises MessageError if the message is not a picture, EngineError without OpenCV.
    """
    shown = picture_of(picture.event)
    stamp = stamp_micros(picture.event.get("metadata"))
    drawn: list[DrawnBox] = []
    lag: float | None = None
    for topic in boxes:
        found = own_boxes(recording, topic, stamp, secs)
        if found is None:
            continue
        try:
            drawn += drawn_boxes(read_boxes(found.event))
        except MessageError:
            continue  # the picture is shown without them
        behind = lag_micros(stamp, stamp_micros(found.event.get("metadata")))
        if behind is not None:
            lag = max(lag or 0.0, behind / 1000)
    return ShownPicture(shown, drawn, lag, picture.secs)


def own_boxes(
    recording: Recording, topic: TopicCursor, stamp: int | None, secs: float
) -> Message | None:
    """Returns the boxes with the stamp of a picture, or else the newest at the cursor."""
    newest = topic.at(secs)
    if newest is not None and is_same_stamp(stamp, stamp_micros(newest.event.get("metadata"))):
        return newest
    if stamp is not None and secs <= recording.duration_secs:
        # A detector answers later: in a recording its answer is there already.
        for event in recording.events(topic.topic, start=secs, stop=secs + LOOK_AHEAD_SECS):
            other = stamp_micros(event.get("metadata"))
            if is_same_stamp(stamp, other):
                return Message(event, secs, -1)
            if other is not None and other > stamp:
                break
    return newest


def value_line(topic: TopicCursor, secs: float) -> list[Any]:
    """Returns what the list of values has of a topic: its name, the time of the message, and its content."""
    try:
        found = topic.at(secs)
    except RecordingError as error:
        return [topic.topic, None, str(error)]
    if found is None:
        return [topic.topic, None, ""]
    return [topic.topic, round(found.secs, 6), str(describe(found.event))]


def problem_text(error: DoraNbError) -> str:
    """Returns an error as one line."""
    return " ".join(str(error).split())
