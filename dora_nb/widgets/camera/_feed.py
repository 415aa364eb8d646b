"""What the threads around one camera view share: frames and overlays, and when the sender sends which.

::

    subscriber thread     take_frame, take_overlay ┐
    any thread            mark_status_changed ─────┤   one lock, never held
    front end's messages  pause_at, set_paused ────┼─► during a blocking call ─► sender: next_step, take
    the user's cell       wait_for_picture, close ─┘

At most one pair of frame and overlays waits to be sent (`Pairing`), so memory and age are bounded however
slow the browser is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from dora_nb.data.arrow import Event
from dora_nb.data.boxes import Labels, read_boxes
from dora_nb.data.masks import read_mask
from dora_nb.data.points import Skeleton, read_points
from dora_nb.data.tracks import read_tracks
from dora_nb.errors import MessageError
from dora_nb.events import stamp_micros

from ..page.pacing import WINDOW
from ..page.stream import Outbox
from ._condition import FeedState
from ._drawn import Drawn
from ._matching import Frame, Pair, SwitchablePairing
from ._overlays import Assembly, Content, Kind, Overlay, Overlays
from ._paths import PathHistory
from ._pictures import Picture
from ._sync_choice import Sync, SyncChoice

OVERLAYS_ALONE_SECS = 0.1
"""Overlays are sent with the next frame, or alone if no frame has come for this long."""
_INTERVAL_SMOOTHING = 0.1
ORIGINALS_MAX_BYTES = 32_000_000
"""Of the pictures just sent, so many bytes are kept as they came; the newest in any case."""


@dataclass(frozen=True, slots=True)
class PixelQuestion:
    """A page asks for the value of a pixel of the frame that it shows."""

    client: str
    seq: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture as it was sent. All of it are copies: nothing uses the camera's memory."""

    seq: int
    picture: Picture
    stamp_micros: int | None
    """Of its frame."""
    received_secs: float
    """When its frame came, monotonic."""
    overlays: Overlays | None
    drawn: Drawn
    """The overlays as they are drawn."""
    original: Event | None = None
    """The message, for the values of its pixels; None if it would take too much memory."""


@dataclass(slots=True)
class Counts:
    """What became of the frames. Each is counted once, or still waits (`Pairing`)."""

    frames_received: int = 0
    frames_sent: int = 0
    frames_dropped: int = 0
    """A newer one came before it could be sent."""
    frames_skipped: int = 0
    """A newer one came while the view was paused or not on the screen."""
    frames_broken: int = 0
    """They could not be read as pictures."""
    frames_blind: int = 0
    """Part of `frames_sent`: sent without an answer to the ones before."""
    boxes_received: int = 0
    boxes_broken: int = 0
    bad_boxes: int = 0
    """Single boxes that could not be drawn, of messages whose other boxes are shown."""
    bad_labels: int = 0
    """Labels that are not UTF-8."""
    overlays_received: int = 0
    """Messages of points, masks and tracks."""
    overlays_broken: int = 0
    bad_marks: int = 0
    """Single points and objects of tracks that could not be drawn."""


class Feed(Outbox):
    """One view's shared state. Methods take the lock themselves."""

    def __init__(
        self,
        *,
        kinds: Sequence[Kind],
        sync: Sync,
        max_fps: float,
        labels: Labels | None,
        skeleton: Skeleton | None = None,
        track_secs: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(max_fps, clock)
        self._labels = labels
        self._skeleton = skeleton
        self._assembly = Assembly(kinds)
        self._paths = PathHistory(track_secs)
        self._sync = sync
        self._choice = SyncChoice()
        self._pairing = SwitchablePairing(own_boxes=sync is True)
        self._counts = Counts()
        self._held_by_page = False
        """A person paused a page, which stays at the picture `_last`; it ignores what is still sent."""
        self._was_running: bool | None = None
        self._stopped_secs = 0.0
        self._last: SentPicture | None = None
        self._recent: deque[SentPicture] = deque(maxlen=WINDOW)
        """Pictures that may still be under way: a page that a person pauses may show any of them."""
        self._question: PixelQuestion | None = None
        self._newest_overlays: Overlays | None = None
        self._picture_sent_secs = 0.0
        self._matched_secs: float | None = None
        """When a frame last got its own boxes, or frames began to wait for theirs."""
        self._frame_secs: float | None = None
        self._interval_secs = 0.0
        self._frame_problem: MessageError | None = None
        self._problems: dict[Kind, MessageError] = {}
        """What was wrong with the newest message of an overlay."""
        self._own_problem: str | None = None
        self._still_due = False

    # ----- the subscriber's thread

    def take_frame(self, event: Event) -> None:
        """Keeps a message of the picture's topic until it is sent or a newer one comes."""
        # Before the lock: a copy of a picture takes milliseconds.
        frame = self._frame(event, copy=self._pairing.own_boxes)
        with self.changed:
            if self.closed:
                return
            self._counts.frames_received += 1
            self._note_interval(frame.received_secs)
            self._choice.add_frame(frame.stamp_micros, frame.received_secs)
            self._follow_choice()
            if self._pairing.own_boxes and not frame.num_bytes:  # switched since the line above
                frame = self._frame(event, copy=True)
            if self._matched_secs is None:
                self._matched_secs = frame.received_secs
            self._note_added(replaced=self._pairing.add_frame(frame))

    def take_overlay(self, kind: Kind, event: Event) -> None:
        """Reads a message of an overlay's topic."""
        received_secs = self.clock()
        stamp = stamp_micros(event.get("metadata"))
        problem, content = None, None
        # Before the lock: reading 10,000 boxes takes milliseconds.
        try:
            content = self._read(kind, event, received_secs if stamp is None else stamp / 1e6)
        except MessageError as error:
            problem = error
        with self.changed:
            if self.closed:
                return
            self._count_overlay(kind, content)
            if problem is None:
                self._problems.pop(kind, None)
            else:
                self._problems[kind] = problem
                self.mark_status_changed()
            # Also one that cannot be read: its frame must not wait for it, nor the other overlays.
            own = self._assembly.add(Overlay(kind, content, stamp, received_secs))
            newest = self._newest_overlays = self._assembly.newest
            if own is not None:
                self._choice.add_overlays(own.stamp_micros, received_secs)
            self._follow_choice()
            replaced = self._pairing.add_overlays(newest, own)
            if self._pairing.own_boxes or self._overlays_may_go_alone(received_secs):
                self._note_added(replaced=replaced)

    def _read(self, kind: Kind, event: Event, at_secs: float) -> Content:
        if kind == "boxes":
            return read_boxes(event, self._labels)
        if kind == "points":
            return read_points(event, self._skeleton)
        if kind == "mask":
            return read_mask(event, self._labels)
        return self._paths.add(read_tracks(event, self._labels), at_secs)

    def _count_overlay(self, kind: Kind, content: Content | None) -> None:
        counts = self._counts
        if kind != "boxes":
            counts.overlays_received += 1
            counts.overlays_broken += content is None
            counts.bad_marks += getattr(content, "num_bad", 0)
            return
        counts.boxes_received += 1
        counts.boxes_broken += content is None
        counts.bad_boxes += getattr(content, "num_bad", 0)
        counts.bad_labels += getattr(content, "num_bad_texts", 0)

    def _frame(self, event: Event, *, copy: bool) -> Frame:
        received_secs = self.clock()
        stamp = stamp_micros(event.get("metadata"))
        if not copy:
            return Frame(event, stamp, received_secs)
        # Many frames wait here for their boxes. Each is a copy, so that the sender can reuse its memory.
        num_bytes = getattr(event.get("value"), "nbytes", 0)
        return Frame(_copied(event), stamp, received_secs, max(1, num_bytes))

    def _follow_choice(self) -> None:
        """Pairs as the user wants it, or as the choice says."""
        own_boxes = self._choice.own_boxes if self._sync == "auto" else self._sync
        if own_boxes != self._pairing.own_boxes:
            self._counts.frames_dropped += self._pairing.switch(own_boxes=own_boxes)
            self._matched_secs = None
            self.mark_status_changed()

    def _note_interval(self, received_secs: float) -> None:
        if self._frame_secs is not None:
            interval_secs = received_secs - self._frame_secs
            usual_secs = self._interval_secs or interval_secs
            self._interval_secs = usual_secs + _INTERVAL_SMOOTHING * (interval_secs - usual_secs)
        self._frame_secs = received_secs

    def _note_added(self, *, replaced: bool) -> None:
        """Counts a frame that was replaced; wakes the sender only if nothing was waiting before."""
        if self._pairing.own_boxes and self._pairing.waiting is not None:
            self._matched_secs = self.clock()
        # If a pair was waiting already, the sender is busy or knows when its turn is. Each wake-up
        # costs a turn at the interpreter's lock, 5 ms while a cell computes.
        if not replaced:
            self.changed.notify_all()
        elif self.pacer.visible and not self.paused:
            self._counts.frames_dropped += 1
        else:
            self._counts.frames_skipped += 1

    def _overlays_may_go_alone(self, now_secs: float) -> bool:
        """Returns whether the next frame is too far away for these overlays to wait for it."""
        since_picture_secs = now_secs - self._picture_sent_secs
        return max(since_picture_secs, self._interval_secs) > OVERLAYS_ALONE_SECS

    # ----- what changes around the view

    def note_running(self, running: bool) -> bool:
        """Notes whether the dataflow runs; returns whether it has just stopped.

        A start forgets what came in the run before: its boxes would be drawn on the first frames of
        the new run, and the time between the runs would count as silence.
        """
        with self.changed:
            was_running, self._was_running = self._was_running, running
            if was_running is False and running:
                self._forget_run_before()
            stopped = was_running is True and not running
            if stopped:
                self._stopped_secs = self.clock()
                # The pair that waits must not keep the memory of a publisher that has ended.
                self._pairing.keep_copies(_copied)
            return stopped

    def _forget_run_before(self) -> None:
        # This may run late, after messages of the new run came: what came since the stop is kept.
        before_secs = self._stopped_secs
        self._choice.reset()
        self._matched_secs = None
        self._follow_choice()
        self._pairing.forget_overlays(before_secs)
        self._assembly.forget(before_secs)
        self._newest_overlays = self._assembly.newest
        if self._frame_secs is not None and self._frame_secs < before_secs:
            self._frame_secs = None

    def set_paused(self, paused: bool) -> None:
        with self.changed:
            self._still_due |= paused and not self.paused
            self._held_by_page &= paused
            super().set_paused(paused)

    def set_sync(self, sync: Sync) -> None:
        """Changes the way of pairing at once. Any thread."""
        with self.changed:
            self._sync = sync
            self._follow_choice()
            self.mark_status_changed()

    def ask_pixel(self, question: PixelQuestion) -> None:
        """Notes a page's question; the newest of all is answered."""
        with self.changed:
            self._question = question
            self.ask_answer()

    def pause_at(self, seq: int) -> None:
        """Handles a person's pause of a page at that picture, while newer ones may be under way."""
        with self.changed:
            paused_at = next((shown for shown in self._recent if shown.seq == seq), None)
            if paused_at is None:
                return
            self._last = paused_at
            self._held_by_page = True
            self._still_due |= not self.paused
            self.paused = (
                True  # the trait follows in a message of its own; no frame may go until then
            )
            self.mark_status_changed()

    def forget_frames(self) -> None:
        """Drops what waits, once the view is closed and its last still made."""
        with self.changed:
            self._pairing.forget_frames()

    # ----- the sender

    def stream_delay_secs(self, now_secs: float) -> float | None:
        if self._pairing.waiting is not None:
            return 0.0
        if self._overlays_not_shown() is None:
            return None
        return self._picture_sent_secs + OVERLAYS_ALONE_SECS - now_secs

    def status_due(self) -> bool:
        return self._still_due

    def take(self) -> Pair | Overlays | None:
        """Returns what is sent next: a frame with its overlays, overlays alone, or nothing after all."""
        with self.changed:
            if self.paused:  # since the step was chosen: the frame waits for the end of the pause
                return None
            if self._pairing.waiting is not None:
                return self._pairing.take()
            return self._overlays_not_shown()

    def take_question(self) -> PixelQuestion | None:
        """Returns the newest question for the value of a pixel, and forgets it."""
        with self.changed:
            question, self._question = self._question, None
            return question

    def sent(self, pair: Pair, picture: Picture, drawn: Drawn) -> SentPicture:
        """Notes that a pair's picture is sent now, and numbers it."""
        frame = pair.frame
        original = frame.event if frame.num_bytes else _copied(frame.event)  # before the lock
        with self.changed:
            now_secs = self.clock()
            self._counts.frames_sent += 1
            self._counts.frames_blind += self.pacer.is_blind()
            self._frame_problem = self._own_problem = None
            self._picture_sent_secs = now_secs
            seq = self.number()
            shown = SentPicture(
                seq,
                picture,
                frame.stamp_micros,
                frame.received_secs,
                pair.overlays,
                drawn,
                original,
            )
            self._recent.append(shown)
            self._drop_old_originals()
            if not self._held_by_page:
                self._last = shown
            self.changed.notify_all()
            return shown

    def _drop_old_originals(self) -> None:
        num_bytes = 0
        for place, shown in reversed(list(enumerate(self._recent))):
            if shown.original is None:
                break
            num_bytes += getattr(shown.original.get("value"), "nbytes", 0)
            if num_bytes > ORIGINALS_MAX_BYTES and shown is not self._recent[-1]:
                self._recent[place] = replace(shown, original=None)

    def original(self, seq: int) -> Event | None:
        """Returns the message whose picture was sent with that number; None if it is no longer kept."""
        with self.changed:
            kept = [self._last, *self._recent]
            return next((shown.original for shown in kept if shown and shown.seq == seq), None)

    def overlays_sent(self, overlays: Overlays, drawn: Drawn) -> SentPicture | None:
        """Notes that overlays are sent for the picture that was sent last."""
        with self.changed:
            if self._last is not None and not self._held_by_page:
                self._last = replace(self._last, overlays=overlays, drawn=drawn)
                self._recent[-1] = self._last  # a page may be paused at it, with these overlays
            self.changed.notify_all()
            return self._last

    def frame_broken(self, error: MessageError) -> None:
        """Notes that the frame that was taken cannot be read as a picture."""
        with self.changed:
            self._counts.frames_broken += 1
            self._frame_problem = error
            self.mark_status_changed()

    def count_broken(self) -> None:
        """Notes that the frame that was taken could not be sent."""
        with self.changed:
            self._counts.frames_broken += 1

    def failed(self, problem: str) -> None:
        """Notes that the view itself failed."""
        with self.changed:
            self._own_problem = problem
            self.mark_status_changed()

    def take_still_due(self) -> bool:
        """Returns whether a still is due, and clears the request."""
        with self.changed:
            due, self._still_due = self._still_due, False
            return due

    def _overlays_not_shown(self) -> Overlays | None:
        newest, last = self._newest_overlays, self._last
        if self._pairing.own_boxes or last is None or newest == last.overlays:
            return None
        return newest

    # ----- reading. The properties take no lock: each reads one attribute, which is replaced as a whole.

    @property
    def last(self) -> SentPicture | None:
        return self._last

    def newest(self) -> Pair | None:
        """Returns the pair that waits to be sent; None while paused."""
        with self.changed:
            return None if self.paused else self._pairing.waiting

    def wait_for_picture(self, timeout_secs: float) -> bool:
        """Blocks until a picture was sent, with all overlays that the view has a topic for.

        Returns whether it was: False after `timeout_secs`, or if the view is closed. Meanwhile pictures
        are sent even if no page shows the view.
        """
        with self.changed:
            self.num_waiters += 1
            self.changed.notify_all()  # the sender may have to send now, though no page shows the view
            try:
                self.changed.wait_for(lambda: self.closed or self._complete(), timeout_secs)
                return self._complete()
            finally:
                self.num_waiters -= 1

    def _complete(self) -> bool:
        if self._last is None:
            return False
        overlays = self._last.overlays
        return all(overlays is not None and overlays.of(kind) for kind in self._assembly.kinds)

    def state(self) -> FeedState:
        """Returns what has come so far of the two topics."""
        with self.changed:
            now_secs = self.clock()
            return FeedState(
                paused=self.paused,
                frame_came=self._last is not None,
                silent_secs=float("inf")
                if self._frame_secs is None
                else now_secs - self._frame_secs,
                usual_interval_secs=self._interval_secs,
                boxes_came="boxes" in self._assembly.came,
                frame_problem=self._frame_problem,
                boxes_problem=self._problems.get("boxes"),
                own_problem=self._own_problem,
                boxes_never_matched=self._never_matched(),
                own_boxes_late_secs=self._own_boxes_late_secs(now_secs),
                others_came=self._assembly.came - {"boxes"},
                other_problems={k: v for k, v in self._problems.items() if k != "boxes"},
            )

    def _own_boxes_late_secs(self, now_secs: float) -> float:
        """Returns for how long frames have come and none of them got its own boxes."""
        if not self._pairing.own_boxes or self._matched_secs is None:
            return 0.0
        return now_secs - self._matched_secs

    def _never_matched(self) -> int:
        """Returns how many messages matched no frame, as long as none ever did."""
        if self._pairing.ever_matched or not self._pairing.own_boxes:
            return 0
        return self._pairing.never_matched + self._assembly.unmatched

    @property
    def own_boxes(self) -> bool:
        """Whether each frame is shown with its own boxes now."""
        return self._pairing.own_boxes

    def tally(self) -> Tally:
        """Returns all counts, taken at one moment."""
        with self.changed:
            return Tally(
                replace(self._counts),
                drawn=self.pacer.drawn,
                dropped_by_browser=self.pacer.dropped,
                broken_in_browser=self.pacer.broken,
                frames_unmatched=self._pairing.frames_unmatched,
                overlays_unmatched=self._pairing.overlays_unmatched + self._assembly.unmatched,
            )


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the feed, of the pages and of the pairing."""

    counts: Counts
    drawn: int
    dropped_by_browser: int
    broken_in_browser: int
    frames_unmatched: int
    overlays_unmatched: int


def _copied(event: Event) -> Event:
    value = event.get("value")
    if not isinstance(value, pa.Array) or value.null_count:
        return event  # not a picture: reading it will raise the error
    if not (pa.types.is_integer(value.type) or pa.types.is_floating(value.type)):
        return event
    return {**event, "value": pa.array(value.to_numpy(zero_copy_only=True).copy())}
