"""Pairs frames with the boxes to draw on them. Pure: no clock, no thread; the caller holds a lock.

All pairings hold one pair to be taken: the newest. The caller counts the pairs that it replaces.
"Newest" goes by the order of arrival, which an edge keeps; stamps may jump back (a video that starts
again, a clock that was set).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from dora_nb.data.arrow import Event
from dora_nb.data.boxes import Boxes

from ._sync_choice import SAME_STAMP_MICROS, is_same_stamp


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of the picture's topic as it arrived, not decoded or checked."""

    event: Event
    stamp_micros: int | None
    received_secs: float
    """Monotonic."""
    num_bytes: int = 0
    """Of a copy; 0 if the event uses the sender's memory."""


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
    """Returns how much older the boxes are than the frame; None without both stamps."""
    if frame_stamp is None or boxes_stamp is None:
        return None
    lag = frame_stamp - boxes_stamp
    return 0 if abs(lag) <= SAME_STAMP_MICROS else lag


class Pairing(Protocol):
    """Holds the one pair to be sent next, made from the messages of two topics."""

    @property
    def waiting(self) -> Pair | None:
        """The pair that `take` would return."""

    def add_frame(self, frame: Frame) -> bool:
        """Adds a frame; returns whether it replaced a pair that was waiting."""

    def add_boxes(self, boxes: StampedBoxes) -> bool:
        """Adds boxes; returns whether they replaced a pair that was waiting."""

    def take(self) -> Pair | None:
        """Removes and returns the newest pair."""

    def forget_boxes(self, before_secs: float) -> None:
        """Drops boxes that were received before: they belong to an earlier run."""

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        """Replaces what waits by copies that do not use the sender's memory."""

    def forget_frames(self) -> None:
        """Drops all frames: none will be taken any more."""


class NewestPairing:
    """Pairs the newest frame with the newest boxes, even if those were computed on another frame."""

    def __init__(self) -> None:
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
    """Pairs each frame with the boxes that were computed on it; never offers a frame without boxes.

    Frames wait for their boxes, at most `max_frames` and `max_bytes` of them (one always fits). Up to
    `MAX_EARLY_BOXES` boxes that overtook their frame wait for it.
    """

    MAX_EARLY_BOXES = 16

    def __init__(self, *, max_frames: int = 64, max_bytes: int = 96_000_000) -> None:
        self.boxes_unmatched = 0
        """Boxes whose frame never came, or was replaced by a newer one."""
        self.frames_unmatched = 0
        """Frames that were dropped without boxes."""
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
        # Early boxes first: the bounds below must not drop a frame whose boxes are here.
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
        # Boxes newer than all frames here have overtaken theirs, as the edges are independent. Others
        # missed their frame: it was dropped, or paired already.
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

    def take_newest_frame(self) -> Frame | None:
        """Removes and returns the newest of the frames that wait for boxes."""
        if not self._frames:
            return None
        frame = self._frames.pop()
        self._num_bytes -= frame.num_bytes
        return frame

    def _offer(self, boxes: StampedBoxes) -> bool:
        """Pairs the boxes with their frame, which waits here, and drops older frames."""
        while not _same_stamp(self._frames[0], boxes):
            self._drop_oldest_frame()
        frame = self._frames.popleft()
        self._num_bytes -= frame.num_bytes
        replaces = self._pair is not None
        self._pair = Pair(frame, boxes)
        return replaces

    def _take_early(self, frame: Frame) -> StampedBoxes:
        """Returns the boxes that waited for this frame; those before them have missed theirs."""
        while not _same_stamp(frame, self._early[0]):
            self._early.popleft()
            self.boxes_unmatched += 1
        return self._early.popleft()

    def _drop_oldest_frame(self) -> None:
        self._num_bytes -= self._frames.popleft().num_bytes
        self.frames_unmatched += 1


class SwitchablePairing:
    """Pairs in one of the two ways, and changes over without losing count of a frame."""

    def __init__(self, *, own_boxes: bool) -> None:
        self._newest = NewestPairing()
        self._same = SamePairing()
        self.own_boxes = own_boxes
        """Whether each frame is paired with the boxes that were computed on it."""
        self.ever_matched = False
        """Whether any frame has got its own boxes since they were wanted."""
        self._unmatched_before = 0

    @property
    def _used(self) -> Pairing:
        return self._same if self.own_boxes else self._newest

    @property
    def boxes_unmatched(self) -> int:
        """Boxes whose own frame was wanted, and never came or was replaced by a newer one."""
        return self._same.boxes_unmatched

    @property
    def boxes_never_matched(self) -> int:
        """The number of unmatched boxes, as long as no frame has got its own."""
        if self.ever_matched or not self.own_boxes:
            return 0
        return self._same.boxes_unmatched - self._unmatched_before

    @property
    def frames_unmatched(self) -> int:
        """Frames that were dropped without their own boxes."""
        return self._same.frames_unmatched

    @property
    def newest_boxes(self) -> StampedBoxes | None:
        return self._newest.newest_boxes

    @property
    def waiting(self) -> Pair | None:
        return self._used.waiting

    def switch(self, *, own_boxes: bool) -> bool:
        """Changes the way of pairing; returns whether a frame that was waiting is dropped for that.

        A frame that waits with its own boxes is still good, but only the newest one may follow it.
        """
        if own_boxes == self.own_boxes:
            return False
        self.own_boxes = own_boxes
        if own_boxes:
            self.ever_matched = False
            self._unmatched_before = self._same.boxes_unmatched
            # Frames wait as copies; this one is not, and is shown soon enough.
            return self._newest.take() is not None
        pair, frame = self._same.take(), self._same.take_newest_frame()
        self._same.forget_frames()
        if frame is None and pair is not None:
            frame = pair.frame
            pair = None
        if frame is not None:
            self._newest.add_frame(frame)
        return pair is not None

    def add_frame(self, frame: Frame) -> bool:
        return self._note_match(self._used.add_frame(frame))

    def add_boxes(self, boxes: StampedBoxes) -> bool:
        self._newest.add_boxes(boxes)  # to be there after a switch
        return self.own_boxes and self._note_match(self._same.add_boxes(boxes))

    def _note_match(self, replaced: bool) -> bool:
        self.ever_matched |= self.own_boxes and self._same.waiting is not None
        return replaced

    def take(self) -> Pair | None:
        return self._used.take()

    def forget_boxes(self, before_secs: float) -> None:
        self._newest.forget_boxes(before_secs)
        self._same.forget_boxes(before_secs)

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        self._used.keep_copies(copied)

    def forget_frames(self) -> None:
        self._used.forget_frames()


def _same_stamp(frame: Frame, boxes: StampedBoxes) -> bool:
    return is_same_stamp(frame.stamp_micros, boxes.stamp_micros)
