"""Pairs frames with the overlays to draw on them. Pure: no clock, no thread; the caller holds a lock.

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

from ._overlays import Overlays
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
class Pair:
    """A frame and the overlays to draw on it, if there are any yet."""

    frame: Frame
    overlays: Overlays | None


def lag_micros(frame_stamp: int | None, overlays_stamp: int | None) -> int | None:
    """Returns how much older the overlays are than the frame; None without both stamps."""
    if frame_stamp is None or overlays_stamp is None:
        return None
    lag = frame_stamp - overlays_stamp
    return 0 if abs(lag) <= SAME_STAMP_MICROS else lag


class Pairing(Protocol):
    """Holds the one pair to be sent next, made from the messages of two topics."""

    @property
    def waiting(self) -> Pair | None:
        """The pair that `take` would return."""

    def add_frame(self, frame: Frame) -> bool:
        """Adds a frame; returns whether it replaced a pair that was waiting."""

    def add_overlays(self, overlays: Overlays) -> bool:
        """Adds overlays; returns whether they replaced a pair that was waiting."""

    def take(self) -> Pair | None:
        """Removes and returns the newest pair."""

    def forget_overlays(self, before_secs: float) -> None:
        """Drops overlays that were received before: they belong to an earlier run."""

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        """Replaces what waits by copies that do not use the sender's memory."""

    def forget_frames(self) -> None:
        """Drops all frames: none will be taken any more."""


class NewestPairing:
    """Pairs the newest frame with the newest overlays, even if those were computed on another frame."""

    def __init__(self) -> None:
        self.newest_overlays: Overlays | None = None
        self._frame: Frame | None = None

    @property
    def waiting(self) -> Pair | None:
        return None if self._frame is None else Pair(self._frame, self.newest_overlays)

    def add_frame(self, frame: Frame) -> bool:
        replaces = self._frame is not None
        self._frame = frame
        return replaces

    def add_overlays(self, overlays: Overlays) -> bool:
        self.newest_overlays = overlays
        return False

    def take(self) -> Pair | None:
        pair, self._frame = self.waiting, None
        return pair

    def forget_overlays(self, before_secs: float) -> None:
        if self.newest_overlays is not None and self.newest_overlays.received_secs < before_secs:
            self.newest_overlays = None

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        if self._frame is not None:
            self._frame = replace(self._frame, event=copied(self._frame.event))

    def forget_frames(self) -> None:
        self._frame = None


class SamePairing:
    """Pairs each frame with the overlays that were computed on it; never offers a frame without overlays.

    Frames wait for their overlays, at most `max_frames` and `max_bytes` of them (one always fits). Up to
    `MAX_EARLY` overlays that overtook their frame wait for it.
    """

    MAX_EARLY = 16

    def __init__(self, *, max_frames: int = 64, max_bytes: int = 96_000_000) -> None:
        self.overlays_unmatched = 0
        """Boxes whose frame never came, or was replaced by a newer one."""
        self.frames_unmatched = 0
        """Frames that were dropped without overlays."""
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        self._num_bytes = 0
        self._early: deque[Overlays] = deque()
        self._pair: Pair | None = None

    @property
    def waiting(self) -> Pair | None:
        return self._pair

    @property
    def frames_kept(self) -> int:
        """Frames that still wait for overlays."""
        return len(self._frames)

    def add_frame(self, frame: Frame) -> bool:
        self._frames.append(frame)
        self._num_bytes += frame.num_bytes
        # Early overlays first: the bounds below must not drop a frame whose overlays are here.
        if any(_same_stamp(frame, early) for early in self._early):
            return self._offer(self._take_early(frame))
        while len(self._frames) > 1 and (
            len(self._frames) > self._max_frames or self._num_bytes > self._max_bytes
        ):
            self._drop_oldest_frame()
        return False

    def add_overlays(self, overlays: Overlays) -> bool:
        if any(_same_stamp(frame, overlays) for frame in self._frames):
            return self._offer(overlays)
        # Boxes newer than all frames here have overtaken theirs, as the edges are independent. Others
        # missed their frame: it was dropped, or paired already.
        newest = self._frames[-1].stamp_micros if self._frames else None
        may_be_early = overlays.stamp_micros is not None and (
            newest is None or overlays.stamp_micros > newest
        )
        if not may_be_early:
            self.overlays_unmatched += 1
            return False
        self._early.append(overlays)
        if len(self._early) > self.MAX_EARLY:
            self._early.popleft()
            self.overlays_unmatched += 1
        return False

    def take(self) -> Pair | None:
        pair, self._pair = self._pair, None
        return pair

    def forget_overlays(self, before_secs: float) -> None:
        while self._early and self._early[0].received_secs < before_secs:
            self._early.popleft()
            self.overlays_unmatched += 1

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        """They are copies already."""

    def forget_frames(self) -> None:
        self.frames_unmatched += len(self._frames)
        self._frames.clear()
        self._num_bytes = 0
        self._pair = None

    def take_newest_frame(self) -> Frame | None:
        """Removes and returns the newest of the frames that wait for overlays."""
        if not self._frames:
            return None
        frame = self._frames.pop()
        self._num_bytes -= frame.num_bytes
        return frame

    def _offer(self, overlays: Overlays) -> bool:
        """Pairs the overlays with their frame, which waits here, and drops older frames."""
        while not _same_stamp(self._frames[0], overlays):
            self._drop_oldest_frame()
        frame = self._frames.popleft()
        self._num_bytes -= frame.num_bytes
        replaces = self._pair is not None
        self._pair = Pair(frame, overlays)
        return replaces

    def _take_early(self, frame: Frame) -> Overlays:
        """Returns the overlays that waited for this frame; those before them have missed theirs."""
        while not _same_stamp(frame, self._early[0]):
            self._early.popleft()
            self.overlays_unmatched += 1
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
        """Whether each frame is paired with the overlays that were computed on it."""
        self.ever_matched = False
        """Whether any frame has got its own overlays since they were wanted."""
        self._unmatched_before = 0

    @property
    def _used(self) -> Pairing:
        return self._same if self.own_boxes else self._newest

    @property
    def overlays_unmatched(self) -> int:
        """Boxes whose own frame was wanted, and never came or was replaced by a newer one."""
        return self._same.overlays_unmatched

    @property
    def never_matched(self) -> int:
        """The number of unmatched overlays, as long as no frame has got its own."""
        if self.ever_matched or not self.own_boxes:
            return 0
        return self._same.overlays_unmatched - self._unmatched_before

    @property
    def frames_unmatched(self) -> int:
        """Frames that were dropped without their own overlays."""
        return self._same.frames_unmatched

    @property
    def newest_overlays(self) -> Overlays | None:
        return self._newest.newest_overlays

    @property
    def waiting(self) -> Pair | None:
        return self._used.waiting

    def switch(self, *, own_boxes: bool) -> bool:
        """Changes the way of pairing; returns whether a frame that was waiting is dropped for that.

        A frame that waits with its own overlays is still good, but only the newest one may follow it.
        """
        if own_boxes == self.own_boxes:
            return False
        self.own_boxes = own_boxes
        if own_boxes:
            self.ever_matched = False
            self._unmatched_before = self._same.overlays_unmatched
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

    def add_overlays(self, newest: Overlays | None, own: Overlays | None) -> bool:
        """Adds the newest of each kind, and those that are now complete for one stamp, if there are any."""
        if newest is not None:
            self._newest.add_overlays(newest)  # to be there after a switch
        if own is None or not self.own_boxes:
            return False
        return self._note_match(self._same.add_overlays(own))

    def _note_match(self, replaced: bool) -> bool:
        self.ever_matched |= self.own_boxes and self._same.waiting is not None
        return replaced

    def take(self) -> Pair | None:
        return self._used.take()

    def forget_overlays(self, before_secs: float) -> None:
        self._newest.forget_overlays(before_secs)
        self._same.forget_overlays(before_secs)

    def keep_copies(self, copied: Callable[[Event], Event]) -> None:
        self._used.keep_copies(copied)

    def forget_frames(self) -> None:
        self._used.forget_frames()


def _same_stamp(frame: Frame, overlays: Overlays) -> bool:
    return is_same_stamp(frame.stamp_micros, overlays.stamp_micros)
