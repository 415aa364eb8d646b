"""Decides whether a view shows each frame with its own boxes. Pure: the caller passes in the time.

A frame with its own boxes is as late as the detector. That is worth it as long as a person hardly
notices it, so it goes by the time from the arrival of a frame to the arrival of its boxes:

* The view starts with the newest frame and the newest boxes, which shows a picture at once.
* If nine of ten frames got their boxes within `ENTER_SECS`, it shows frames with their own boxes.
* It goes back when fewer than nine of ten got them within `LEAVE_SECS`. The two bounds differ so that
  a detector near one of them does not make the view jump back and forth.

A frame that never gets boxes (dropped before the detector, or boxes without its stamp) is late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

ENTER_SECS = 0.25
LEAVE_SECS = 0.35
PUNCTUAL_SHARE = 0.9
WINDOW_SECS = 5.0
"""Only frames of this time count, so that one hiccup of the detector does not decide."""
MIN_FRAMES = 10
"""Fewer decide nothing. Slow cameras: the newest so many frames count even if they are older."""
MAX_FRAMES = 300
MAX_EARLY = 16
SAME_STAMP_MICROS = 50
"""Stamps this close count as equal: a detector that forwards a frame's stamp may round it."""

Sync = bool | Literal["auto"]
"""What a user asks for: frames with their own boxes (True), the newest of both (False), or a choice."""


def is_same_stamp(one_micros: int | None, other_micros: int | None) -> bool:
    """Returns whether both stamps are known and those of one frame."""
    if one_micros is None or other_micros is None:
        return False
    return abs(one_micros - other_micros) <= SAME_STAMP_MICROS


@dataclass(slots=True)
class _Frame:
    stamp_micros: int | None
    received_secs: float
    delay_secs: float | None = None
    """Until its boxes came; None until then."""


class SyncChoice:
    """The choice of one view, from the arrivals of its frames and boxes."""

    def __init__(self) -> None:
        self.own_boxes = False
        """Whether to show each frame with its own boxes."""
        self._frames: deque[_Frame] = deque(maxlen=MAX_FRAMES)
        self._early: deque[int | None] = deque(maxlen=MAX_EARLY)
        """Stamps of boxes whose frame is not here: the two edges are independent."""

    def reset(self) -> None:
        """Starts anew: nothing is known of another run of the dataflow."""
        self.own_boxes = False
        self._frames.clear()
        self._early.clear()

    def add_frame(self, stamp_micros: int | None, now_secs: float) -> None:
        """Notes that a frame has come."""
        overtaken = any(is_same_stamp(stamp_micros, early) for early in self._early)
        self._frames.append(_Frame(stamp_micros, now_secs, 0.0 if overtaken else None))
        while (
            len(self._frames) > 2 * MIN_FRAMES
            and self._frames[0].received_secs < now_secs - WINDOW_SECS
        ):
            self._frames.popleft()
        self._decide(now_secs)

    def add_overlays(self, stamp_micros: int | None, now_secs: float) -> None:
        """Notes that the boxes, and all other overlays, of one stamp have come."""
        for frame in reversed(self._frames):
            if is_same_stamp(frame.stamp_micros, stamp_micros):
                if frame.delay_secs is None:
                    frame.delay_secs = now_secs - frame.received_secs
                break
        else:
            self._early.append(stamp_micros)
        self._decide(now_secs)

    def _decide(self, now_secs: float) -> None:
        bound_secs = LEAVE_SECS if self.own_boxes else ENTER_SECS
        # Of younger frames only the punctual ones are known, which would flatter the detector.
        settled = [frame for frame in self._frames if now_secs - frame.received_secs > bound_secs]
        if len(settled) >= MIN_FRAMES:
            punctual = sum(
                frame.delay_secs is not None and frame.delay_secs <= bound_secs for frame in settled
            )
            self.own_boxes = punctual >= PUNCTUAL_SHARE * len(settled)
