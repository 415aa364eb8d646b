"""The state that the threads around one camera view share, and the order in which its sender works.

::

    subscriber thread     take_frame, take_boxes ──┐
    any thread            note_change ─────────────┤   one lock, never held
    front end's messages  receive, set_paused ─────┼─► during a blocking call ─► sender thread: next_task
    the user's cell       wait_for_picture, close ─┘

It knows neither the widget nor the browser, so the garbage collector can take a forgotten view, and
the sender then ends. At most one pair of frame and boxes waits to be sent (`Pairing`), so memory and
age are bounded however slow the browser is.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from dora_nb.data.arrow import Event
from dora_nb.data.boxes import Labels, read_boxes
from dora_nb.errors import MessageError

from ._condition import FeedState
from ._matching import Frame, Pair, StampedBoxes, SwitchablePairing, stamp_micros
from ._pictures import DrawnBox, Picture
from ._sync_choice import Sync, SyncChoice
from .page.guarded import count_in
from .page.pacing import WINDOW, Pacer

STATUS_INTERVAL_SECS = 0.5
BOXES_ALONE_SECS = 0.1
"""Boxes are sent with the next frame, or alone if no frame has come for this long."""
_INTERVAL_SMOOTHING = 0.1
ORIGINALS_MAX_BYTES = 32_000_000
"""Of the pictures just sent, so many bytes are kept as they came; the newest in any case."""


class SendStep(enum.Enum):
    """What the sender does next."""

    PICTURE = enum.auto()
    BOXES = enum.auto()
    PIXEL = enum.auto()
    """The answer to a page's question for the value of a pixel."""
    GREETING = enum.auto()
    """The answer to a page's ``hello``: the last picture and the status."""
    STATUS = enum.auto()
    """The status; also checks whether the dataflow stopped, and saves a still if one is due."""


@dataclass(frozen=True, slots=True)
class PixelQuestion:
    """A page asks for the value of a pixel of the frame that it shows."""

    client: str
    seq: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Task:
    """One step of the sender, with what it sends."""

    send_step: SendStep
    pair: Pair | None = None
    boxes: StampedBoxes | None = None
    question: PixelQuestion | None = None
    blind: bool = False


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture as it was sent. All of it are copies: nothing uses the camera's memory."""

    seq: int
    picture: Picture
    stamp_micros: int | None
    """Of its frame."""
    received_secs: float
    """When its frame came, monotonic."""
    boxes: StampedBoxes | None
    drawn: list[DrawnBox] | None
    """The boxes as they are drawn."""
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


class Feed:
    """One view's shared state.

    Methods take the lock themselves. Only `next_task` and `wait_for_picture` block.
    """

    def __init__(
        self,
        *,
        with_boxes: bool,
        sync: Sync,
        max_fps: float,
        labels: Labels | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = threading.Condition()
        self._clock = clock
        self._labels = labels
        self._with_boxes = with_boxes
        self._sync = sync
        self._choice = SyncChoice()
        self._pairing = SwitchablePairing(own_boxes=sync is True)
        self._pacer = Pacer(max_fps)
        self._counts = Counts()
        self._paused = False
        self._held_by_page = False
        """A person paused a page, which stays at the picture `_last`; it ignores what is still sent."""
        self._closed = False
        self._was_running: bool | None = None
        self._stopped_secs = 0.0
        self._waiters = 0
        self._last: SentPicture | None = None
        self._recent: deque[SentPicture] = deque(maxlen=WINDOW)
        """Pictures that may still be under way: a page that a person pauses may show any of them."""
        self._question: PixelQuestion | None = None
        self._newest_boxes: StampedBoxes | None = None
        self._picture_sent_secs = 0.0
        self._matched_secs: float | None = None
        """When a frame last got its own boxes, or frames began to wait for theirs."""
        self._frame_secs: float | None = None
        self._interval_secs = 0.0
        self._frame_problem: MessageError | None = None
        self._boxes_problem: MessageError | None = None
        self._own_problem: str | None = None
        self._greeting_due = False
        self._still_due = False
        self._status_checked_secs = self._status_sent_secs = -STATUS_INTERVAL_SECS
        self._status_changed = True

    # ----- the subscriber's thread

    def take_frame(self, event: Event) -> None:
        """Keeps a message of the picture's topic until it is sent or a newer one comes."""
        # Before the lock: a copy of a picture takes milliseconds.
        frame = self._frame(event, copy=self._pairing.own_boxes)
        with self._changed:
            if self._closed:
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

    def take_boxes(self, event: Event) -> None:
        """Reads a message of the boxes' topic."""
        received_secs = self._clock()
        # Before the lock: reading 10,000 boxes takes milliseconds.
        try:
            boxes = read_boxes(event, self._labels)
        except MessageError as error:
            with self._changed:
                self._counts.boxes_received += 1
                self._counts.boxes_broken += 1
                self._boxes_problem = error
                self._mark_status_changed()
            return
        stamped = StampedBoxes(boxes, stamp_micros(event.get("metadata")), received_secs)
        with self._changed:
            if self._closed:
                return
            self._counts.boxes_received += 1
            self._counts.bad_boxes += boxes.num_bad
            self._counts.bad_labels += boxes.num_bad_texts
            self._boxes_problem = None
            self._newest_boxes = stamped
            self._choice.add_boxes(stamped.stamp_micros, received_secs)
            self._follow_choice()
            replaced = self._pairing.add_boxes(stamped)
            if self._pairing.own_boxes or self._boxes_may_go_alone(received_secs):
                self._note_added(replaced=replaced)

    def _frame(self, event: Event, *, copy: bool) -> Frame:
        received_secs = self._clock()
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
            self._mark_status_changed()

    def _note_interval(self, received_secs: float) -> None:
        if self._frame_secs is not None:
            interval_secs = received_secs - self._frame_secs
            usual_secs = self._interval_secs or interval_secs
            self._interval_secs = usual_secs + _INTERVAL_SMOOTHING * (interval_secs - usual_secs)
        self._frame_secs = received_secs

    def _note_added(self, *, replaced: bool) -> None:
        """Counts a frame that was replaced; wakes the sender only if nothing was waiting before."""
        if self._pairing.own_boxes and self._pairing.waiting is not None:
            self._matched_secs = self._clock()
        # If a pair was waiting already, the sender is busy or knows when its turn is. Each wake-up
        # costs a turn at the interpreter's lock, 5 ms while a cell computes.
        if not replaced:
            self._changed.notify_all()
        elif self._pacer.visible and not self._paused:
            self._counts.frames_dropped += 1
        else:
            self._counts.frames_skipped += 1

    def _boxes_may_go_alone(self, now_secs: float) -> bool:
        """Returns whether the next frame is too far away for these boxes to wait for it."""
        since_picture_secs = now_secs - self._picture_sent_secs
        return max(since_picture_secs, self._interval_secs) > BOXES_ALONE_SECS

    # ----- what changes around the view

    def note_change(self) -> None:
        """Notes that something about the dataflow changed; the sender will check the status."""
        with self._changed:
            self._mark_status_changed()

    def note_running(self, running: bool) -> bool:
        """Notes whether the dataflow runs; returns whether it has just stopped.

        A start forgets what came in the run before: its boxes would be drawn on the first frames of
        the new run, and the time between the runs would count as silence.
        """
        with self._changed:
            was_running, self._was_running = self._was_running, running
            if was_running is False and running:
                self._forget_run_before()
            stopped = was_running is True and not running
            if stopped:
                self._stopped_secs = self._clock()
                # The pair that waits must not keep the memory of a publisher that has ended.
                self._pairing.keep_copies(_copied)
            return stopped

    def _forget_run_before(self) -> None:
        # This may run late, after messages of the new run came: what came since the stop is kept.
        before_secs = self._stopped_secs
        self._choice.reset()
        self._matched_secs = None
        self._follow_choice()
        self._pairing.forget_boxes(before_secs)
        if self._newest_boxes is not None and self._newest_boxes.received_secs < before_secs:
            self._newest_boxes = None
        if self._frame_secs is not None and self._frame_secs < before_secs:
            self._frame_secs = None

    def set_paused(self, paused: bool) -> None:
        with self._changed:
            self._still_due |= paused and not self._paused
            self._paused = paused
            self._held_by_page &= paused
            self._mark_status_changed()

    def set_sync(self, sync: Sync) -> None:
        """Changes the way of pairing at once. Any thread."""
        with self._changed:
            self._sync = sync
            self._follow_choice()
            self._mark_status_changed()

    def receive(self, content: Mapping[str, Any]) -> None:
        """Handles a message from a page, which has a `client`. Ignores what breaks the protocol."""
        client: str = content["client"]
        now_secs = self._clock()
        with self._changed:
            if not self._pacer.pages.is_newer(client, count_in(content, "n"), now_secs):
                return
            if content.get("type") == "hello":
                self._pacer.on_hello(client, now_secs)
                self._greeting_due = True
            elif content.get("type") == "visible":
                # A subshell's thread gets messages at any time, the main thread between two cells.
                late = threading.current_thread() is threading.main_thread()
                count = count_in(content, "count")
                self._pacer.pages.on_visible(client, count, now_secs, delayed=late)
                self._mark_status_changed()
            elif content.get("type") == "pixel":
                place = (count_in(content, key) for key in ("seq", "x", "y"))
                self._question = PixelQuestion(client, *place)  # the newest wins
            elif content.get("type") == "pause":
                self._pause_at(count_in(content, "seq"))
            elif content.get("type") == "ack":
                self._pacer.on_ack(
                    client,
                    seq=count_in(content, "seq"),
                    drawn=count_in(content, "drawn"),
                    dropped=count_in(content, "dropped"),
                    broken=count_in(content, "broken"),
                    now_secs=now_secs,
                )
            self._changed.notify_all()

    def _pause_at(self, seq: int) -> None:
        """Handles a person's pause of a page at that picture, while newer ones may be under way."""
        paused_at = next((shown for shown in self._recent if shown.seq == seq), None)
        if paused_at is None:
            return
        self._last = paused_at
        self._held_by_page = True
        self._still_due |= not self._paused
        self._paused = True  # the trait follows in a message of its own; no frame may go until then
        self._mark_status_changed()

    def close(self) -> None:
        """Ends the sender and the calls that wait. Any thread; may be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def forget_frames(self) -> None:
        """Drops what waits, once the view is closed and its last still made."""
        with self._changed:
            self._pairing.forget_frames()

    # ----- the sender

    def next_task(self) -> Task | None:
        """Blocks until there is something to do; returns None when the view is closed."""
        with self._changed:
            while not self._closed:
                task, wait_secs = self._choose(self._clock())
                if task is not None:
                    return task
                self._changed.wait(wait_secs)
        return None

    def sent(
        self, pair: Pair, picture: Picture, drawn: list[DrawnBox] | None, *, blind: bool
    ) -> SentPicture:
        """Notes that a pair's picture is sent now, and numbers it."""
        frame = pair.frame
        original = frame.event if frame.num_bytes else _copied(frame.event)  # before the lock
        with self._changed:
            now_secs = self._clock()
            self._counts.frames_sent += 1
            self._counts.frames_blind += blind
            self._frame_problem = self._own_problem = None
            self._picture_sent_secs = now_secs
            seq = self._pacer.sent(now_secs)
            shown = SentPicture(
                seq,
                picture,
                frame.stamp_micros,
                frame.received_secs,
                pair.boxes,
                drawn,
                original,
            )
            self._recent.append(shown)
            self._drop_old_originals()
            if not self._held_by_page:
                self._last = shown
            self._changed.notify_all()
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
        with self._changed:
            kept = [self._last, *self._recent]
            return next((shown.original for shown in kept if shown and shown.seq == seq), None)

    def boxes_sent(self, boxes: StampedBoxes, drawn: list[DrawnBox]) -> SentPicture | None:
        """Notes that boxes are sent for the picture that was sent last."""
        with self._changed:
            if self._last is not None and not self._held_by_page:
                self._last = replace(self._last, boxes=boxes, drawn=drawn)
                self._recent[-1] = self._last  # a page may be paused at it, with these boxes
            self._changed.notify_all()
            return self._last

    def frame_broken(self, error: MessageError) -> None:
        """Notes that the frame that was taken cannot be read as a picture."""
        with self._changed:
            self._counts.frames_broken += 1
            self._frame_problem = error
            self._mark_status_changed()

    def status_sent(self) -> None:
        """Notes that a status was sent."""
        with self._changed:
            self._status_sent_secs = self._clock()

    def failed(self, task: Task, problem: str) -> None:
        """Notes that the view itself failed at this task."""
        with self._changed:
            self._counts.frames_broken += task.send_step is SendStep.PICTURE
            self._own_problem = problem
            self._mark_status_changed()

    def take_still_due(self) -> bool:
        """Returns whether a still is due, and clears the request."""
        with self._changed:
            due, self._still_due = self._still_due, False
            return due

    def _choose(self, now_secs: float) -> tuple[Task | None, float | None]:
        """Returns the task that is due, or the seconds until one is (None: until something changes)."""
        # First, since a new page is empty until it is answered.
        if self._greeting_due:
            self._greeting_due = False
            return Task(SendStep.GREETING), None
        if self._question is not None:
            question, self._question = self._question, None
            return Task(SendStep.PIXEL, question=question), None
        picture_secs: float | None = None
        if self._wanted():
            task, picture_secs = self._choose_picture(now_secs)
            if task is not None:
                return task, None
        # A picture that is due goes before a status, which can wait for the next round.
        status_secs = self._status_delay_secs(now_secs)
        if status_secs is not None and status_secs <= 0:
            self._status_checked_secs = now_secs
            self._status_changed = False
            return Task(SendStep.STATUS), None
        delays_secs = [each for each in (picture_secs, status_secs) if each is not None]
        return None, min(delays_secs, default=None)

    def _status_delay_secs(self, now_secs: float) -> float | None:
        """Returns the seconds until the status must be checked; None: until something changes.

        A change is sent at once, at most twice a second. While the view is on a screen, a check is due
        even without a noted change: nothing else finds silence and drops.
        """
        if self._still_due:
            return 0.0
        if self._status_changed:
            return self._status_sent_secs + STATUS_INTERVAL_SECS - now_secs
        if self._pacer.visible:
            return self._status_checked_secs + STATUS_INTERVAL_SECS - now_secs
        return None

    def _choose_picture(self, now_secs: float) -> tuple[Task | None, float | None]:
        """Returns the picture or boxes that may be sent now, or the seconds that they must wait."""
        delay_secs = self._pacer.delay_secs(now_secs)
        blind = self._pacer.is_blind()
        if self._pairing.waiting is not None:
            if delay_secs > 0:
                return None, delay_secs
            return Task(SendStep.PICTURE, self._pairing.take(), blind=blind), None
        boxes = self._boxes_not_shown()
        if boxes is None:
            return None, None
        delay_secs = max(delay_secs, self._picture_sent_secs + BOXES_ALONE_SECS - now_secs)
        if delay_secs > 0:
            return None, delay_secs
        return Task(SendStep.BOXES, boxes=boxes, blind=blind), None

    def _boxes_not_shown(self) -> StampedBoxes | None:
        if self._pairing.own_boxes or self._last is None or self._newest_boxes is self._last.boxes:
            return None
        return self._newest_boxes

    def _wanted(self) -> bool:
        """Returns whether a page shows the view, or may, or a cell waits for a picture."""
        return not self._paused and (self._pacer.wanted or self._waiters > 0)

    def _mark_status_changed(self) -> None:
        self._status_changed = True
        self._changed.notify_all()

    # ----- reading. The properties take no lock: each reads one attribute, which is replaced as a whole.

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def last(self) -> SentPicture | None:
        return self._last

    @property
    def greeted(self) -> bool:
        """Whether any page has ever said ``hello``."""
        return self._pacer.greeted

    @property
    def silent_secs(self) -> float:
        """For how long pictures have had no answer."""
        return self._pacer.silence_secs(self._clock())

    def newest(self) -> Pair | None:
        """Returns the pair that waits to be sent; None while paused."""
        with self._changed:
            return None if self._paused else self._pairing.waiting

    def wait_for_picture(self, timeout_secs: float) -> bool:
        """Blocks until a picture was sent, with boxes if the view has a topic of boxes.

        Returns whether it was: False after `timeout_secs`, or if the view is closed. Meanwhile pictures
        are sent even if no page shows the view.
        """
        with self._changed:
            self._waiters += 1
            self._changed.notify_all()  # the sender may have to send now, though no page shows the view
            try:
                self._changed.wait_for(lambda: self._closed or self._complete(), timeout_secs)
                return self._complete()
            finally:
                self._waiters -= 1

    def _complete(self) -> bool:
        if self._last is None:
            return False
        return self._last.drawn is not None or not self._with_boxes

    def state(self) -> FeedState:
        """Returns what has come so far of the two topics."""
        with self._changed:
            now_secs = self._clock()
            return FeedState(
                paused=self._paused,
                frame_came=self._last is not None,
                silent_secs=float("inf")
                if self._frame_secs is None
                else now_secs - self._frame_secs,
                usual_interval_secs=self._interval_secs,
                boxes_came=self._newest_boxes is not None,
                frame_problem=self._frame_problem,
                boxes_problem=self._boxes_problem,
                own_problem=self._own_problem,
                boxes_never_matched=self._pairing.boxes_never_matched,
                own_boxes_late_secs=self._own_boxes_late_secs(now_secs),
            )

    def _own_boxes_late_secs(self, now_secs: float) -> float:
        """Returns for how long frames have come and none of them got its own boxes."""
        if not self._pairing.own_boxes or self._matched_secs is None:
            return 0.0
        return now_secs - self._matched_secs

    @property
    def own_boxes(self) -> bool:
        """Whether each frame is shown with its own boxes now."""
        return self._pairing.own_boxes

    def tally(self) -> Tally:
        """Returns all counts, taken at one moment."""
        with self._changed:
            return Tally(
                replace(self._counts),
                drawn=self._pacer.drawn,
                dropped_by_browser=self._pacer.dropped,
                broken_in_browser=self._pacer.broken,
                frames_unmatched=self._pairing.frames_unmatched,
                boxes_unmatched=self._pairing.boxes_unmatched,
            )


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of the feed, of the pages and of the pairing."""

    counts: Counts
    drawn: int
    dropped_by_browser: int
    broken_in_browser: int
    frames_unmatched: int
    boxes_unmatched: int


def _copied(event: Event) -> Event:
    value = event.get("value")
    if not isinstance(value, pa.Array) or value.null_count:
        return event  # not a picture: reading it will raise the error
    if not (pa.types.is_integer(value.type) or pa.types.is_floating(value.type)):
        return event
    return {**event, "value": pa.array(value.to_numpy(zero_copy_only=True).copy())}
