"""Which boxes are drawn on which frame. Pure: no clock, no thread; the caller holds a lock.

Both pairings offer one place: the newest picture that nobody took. What it replaces is counted. A
frame never comes after a newer one of its topic, judged by the order of arrival: an edge keeps its
order, while stamps may jump (a video that starts again, a clock that was set).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from dora_nb.data.arrow import Event
from dora_nb.data.boxes import Boxes

SAME_STAMP_MICROS = 50
"""Boxes belong to the frame whose stamp they forwarded, which may be rounded on the way."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamp_micros(metadata: Mapping[str, Any] | None) -> int | None:
    """Microseconds since the epoch of a message's ``timestamp``; None where it has none to go by."""
    stamp = metadata.get("timestamp") if isinstance(metadata, Mapping) else None
    if not isinstance(stamp, datetime) or stamp.tzinfo is None:
        return None
    return (stamp - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of the picture's topic as it arrived; nobody has looked into it."""

    event: Event
    stamp_micros: int | None
    received_secs: float
    """Monotonic."""
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StampedBoxes:
    """The boxes of one message."""

    boxes: Boxes
    stamp_micros: int | None
    received_secs: float
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame and the boxes to draw on it, if there are any yet."""

    frame: Frame
    boxes: StampedBoxes | None


def lag_micros(frame_stamp: int | None, boxes_stamp: int | None) -> int | None:
    """How much older than the frame its boxes are; None where the stamps do not say."""
    if frame_stamp is None or boxes_stamp is None:
        return None
    lag = frame_stamp - boxes_stamp
    return 0 if abs(lag) <= SAME_STAMP_MICROS else lag


class Pairing(Protocol):
    """The one place, filled by two topics."""

    boxes_unmatched: int
    """Boxes whose frame was never there, or had to give way to a newer one."""
    frames_unmatched: int
    """Frames that were let go without boxes."""

    @property
    def waiting(self) -> Pair | None:
        """What `take` would give."""

    def add_frame(self, frame: Frame) -> bool:
        """Takes a frame in; whether one that was waiting to be taken gave way."""

    def add_boxes(self, boxes: StampedBoxes) -> bool:
        """Takes boxes in; whether a frame that was waiting to be taken gave way."""

    def take(self) -> Pair | None:
        """The newest picture, once."""

    def forget_boxes(self, before_secs: float) -> None:
        """The boxes that were received before belong to a run that is over."""

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        """What waits goes on waiting without the sender's memory."""

    def forget_frames(self) -> None:
        """Nothing will be taken any more."""


class NewestPairing:
    """The newest frame with the newest boxes, whatever frame those were computed on."""

    def __init__(self) -> None:
        self.boxes_unmatched = 0
        self.frames_unmatched = 0
        self.newest_boxes: StampedBoxes | None = None
        self._frame: Frame | None = None

    @property
    def waiting(self) -> Pair | None:
        return None if self._frame is None else Pair(self._frame, self.newest_boxes)

    def add_frame(self, frame: Frame) -> bool:
        replaces = self._frame is not None
        self._frame = frame
        return replaces

    def add_boxes(self, boxes: StampedBoxes) -> bool:
        self.newest_boxes = boxes
        return False

    def take(self) -> Pair | None:
        pair, self._frame = self.waiting, None
        return pair

    def forget_boxes(self, before_secs: float) -> None:
        if self.newest_boxes is not None and self.newest_boxes.received_secs < before_secs:
            self.newest_boxes = None

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        if self._frame is not None:
            self._frame = replace(self._frame, event=copied(self._frame.event))

    def forget_frames(self) -> None:
        self._frame = None


class SamePairing:
    """Each frame with the boxes that were computed on it; frames without boxes are never offered.

    Frames wait for their boxes, at most `max_frames` and `max_bytes` of them (one always fits). Boxes
    that overtook their frame wait for it too, a few.
    """

    MAX_EARLY_BOXES = 16

    def __init__(self, *, max_frames: int = 64, max_bytes: int = 96_000_000) -> None:
        self.boxes_unmatched = 0
        self.frames_unmatched = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        self._num_bytes = 0
        self._early: deque[StampedBoxes] = deque()
        self._pair: Pair | None = None

    @property
    def waiting(self) -> Pair | None:
        return self._pair

    @property
    def frames_kept(self) -> int:
        """Frames that still wait for boxes."""
        return len(self._frames)

    def add_frame(self, frame: Frame) -> bool:
        self._frames.append(frame)
        self._num_bytes += frame.num_bytes
        if any(_same_stamp(frame, early) for early in self._early):
            return self._offer(self._take_early(frame))
        while len(self._frames) > 1 and (
            len(self._frames) > self._max_frames or self._num_bytes > self._max_bytes
        ):
            self._drop_oldest_frame()
        return False

    def add_boxes(self, boxes: StampedBoxes) -> bool:
        if any(_same_stamp(frame, boxes) for frame in self._frames):
            return self._offer(boxes)
        newest = self._frames[-1].stamp_micros if self._frames else None
        may_be_early = boxes.stamp_micros is not None and (
            newest is None or boxes.stamp_micros > newest
        )
        if not may_be_early:
            self.boxes_unmatched += 1
            return False
        self._early.append(boxes)
        if len(self._early) > self.MAX_EARLY_BOXES:
            self._early.popleft()
            self.boxes_unmatched += 1
        return False

    def take(self) -> Pair | None:
        pair, self._pair = self._pair, None
        return pair

    def forget_boxes(self, before_secs: float) -> None:
        while self._early and self._early[0].received_secs < before_secs:
            self._early.popleft()
            self.boxes_unmatched += 1

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        """They are copies already."""

    def forget_frames(self) -> None:
        self.frames_unmatched += len(self._frames)
        self._frames.clear()
        self._num_bytes = 0
        self._pair = None

    def _offer(self, boxes: StampedBoxes) -> bool:
        """Its frame is kept: it takes the one place, and what is older can no longer be drawn."""
        while not _same_stamp(self._frames[0], boxes):
            self._drop_oldest_frame()
        frame = self._frames.popleft()
        self._num_bytes -= frame.num_bytes
        replaces = self._pair is not None
        self._pair = Pair(frame, boxes)
        return replaces

    def _take_early(self, frame: Frame) -> StampedBoxes:
        """The boxes that waited for this frame; those before them have missed theirs."""
        while not _same_stamp(frame, self._early[0]):
            self._early.popleft()
            self.boxes_unmatched += 1
        return self._early.popleft()

    def _drop_oldest_frame(self) -> None:
        self._num_bytes -= self._frames.popleft().num_bytes
        self.frames_unmatched += 1


def _same_stamp(frame: Frame, boxes: StampedBoxes) -> bool:
    if frame.stamp_micros is None or boxes.stamp_micros is None:
        return False
    return abs(frame.stamp_micros - boxes.stamp_micros) <= SAME_STAMP_MICROS
