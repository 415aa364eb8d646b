"""The live camera view: the newest frame of a topic with what others found on it, below a cell.

::

    subscriber ─► Feed (one pair) ─► sender thread ─► comm ─► camera.js: newest pending frame ─► canvas
                                        ▲                         │
                                        └── hello, visible, ack ◄─┘   (cumulative, every 250 ms at most)

The protocol is that of a stream in `dora_nb.widgets.page.widget`, with these messages of its own.

kernel to page
    ``frame``: `v`, `seq`, `t`, `mime`, `w`, `h`, `notes`, the overlays below, and the picture as the first
        buffer.
        A page MAY skip a frame that a newer one follows. `t` is the frame's stamp in ms since the epoch, or
        null. `w` and `h` are the size in pixels that overlays refer to; 0 means the picture's own. `notes`
        is a list of texts about the picture (the range of depth, what was guessed). A ``hello`` is answered
        with the last frame, under its old `seq`.
    ``overlays``: `seq`, and newer overlays for the frame `seq` in place of all of its own; a page that shows
        another frame MUST ignore them. The first buffer is empty.
    The overlays of both: each has a `lag`, how many ms its frame is older than this one, or null without
        stamps, and an `age`, how many ms ago it came; a `buffer` is the place of its buffer. Texts MUST NOT
        become markup.
        `boxes`: null or a list of [x1, y1, x2, y2, score, label, colour, row]; `score` is null if it is
        unknown, and then `min_score` MUST NOT hide the box; `row` is its row in `as_boxes`. `lag` and `age` of
        boxes are keys of the message.
        `points`: `lines`, pairs of places of points, one after another; `colours` of the objects, which have
        `per_object` points each. The buffer holds x, y and score of each point as float32; x is NaN for a
        point that is not drawn, and the score if it is unknown.
        `mask`: `number`, the same for the same mask, `width`, `height`, and `legend` as a list of [label,
        colour, share]. It covers the whole picture. The buffer holds the lengths of all runs of equal pixels
        as uint32, row by row, and then the place of each in the legend as uint8, from 1; 0 is not drawn.
        `tracks`: `paths` as a list of [number, label, colour, count]. The buffer holds x and y of all places
        of all paths as float32, the newest of each path last.
    ``status``: `state`, `reason`, `drops` as a list of [place, count], `unmatched`, `bad_boxes`,
        `bad_labels` and `bad_marks` as counts, `own_boxes` (whether each frame is shown with its own),
        `events` (null, or `topic`, `sent`, `read`: whether an operator reads it, and a `text` that says so).
    ``pixel``: the answer to a question, with its `client`, `seq`, `x`, `y`, and `text`: the value of the
        original picture, or null if the kernel no longer has it. Other pages MUST ignore it.
page to kernel
    ``pause``: a person paused the page, which shows the frame `seq` and MUST stay at it; the still
        shows it too. MUST come before the change of the trait `paused`.
    ``pixel``: a question for the value at `x`, `y` of the frame `seq`, in the pixels that boxes refer to.
        Only for a pointer that has moved; a page MUST NOT ask again before the answer (or 2 s), nor more
        than ten times a second. The kernel answers the newest question of all.
    ``pick``: a person picked something in the frame `seq`: `kind` (click, box or line), `ends` [x1, y1, x2,
        y2] within `size` [width, height], and `box` below its begin: null or `row` and `corners`.
traits
    Both sides set `paused`, `min_score`, `sync`, and `show_boxes`, `show_points`, `show_mask`, `show_tracks`. Frames that the kernel sent before it paused
    the page MUST still be drawn: the still shows the last of them.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import traitlets

from dora_nb.data.boxes import Labels
from dora_nb.data.images import ENCODINGS, encoding_named
from dora_nb.data.picture_files import DamagedPictureError
from dora_nb.data.points import MAX_BONES, Skeleton
from dora_nb.errors import (
    DataflowStateError,
    DeclarationError,
    DoraNbError,
    EngineError,
    MessageError,
    TopicTimeoutError,
    did_you_mean,
)
from dora_nb.graph.sources import TopicSource

from ..page.assets import page_code, page_style
from ..page.dataflow import Listener, ViewedDataflow, notebook_dataflow
from ..page.guarded import count_in
from ..page.stream import SendStep, StreamWidget
from ..page.widget import PROTOCOL_VERSION
from ._condition import condition, drops
from ._drawn import Drawer, visible
from ._feed import Feed, PixelQuestion, SentPicture
from ._matching import Pair
from ._messages import overlays_message
from ._overlays import KINDS, Kind, Overlays
from ._pictures import picture_of
from ._pixels import PixelReader
from ._still import still_jpeg
from ._sync_choice import Sync

if TYPE_CHECKING:
    from dora_nb.dataflow.controls import Control

    from ._picks import Picks

MAX_SHOWN_AGE_SECS = 3600.0
"""A frame that is older, or from the future, was stamped by another clock: its age is unknown."""
MAX_FPS = 240
MAX_TRACK_SECS = 60
QUEUE_SIZE = 10
"""Messages that may wait for the subscriber's thread, which a busy cell holds up for moments."""
FIRST_PICTURE_SECS = 5.0
"""A cell whose output no page shows waits so long for the picture that is saved with it."""


@dataclass(frozen=True, slots=True)
class ViewStats:
    """Counts of frames and of messages with boxes, since the view was made; see `CameraView.stats`.

    When no message is under way, ``frames_received == frames_sent + frames_dropped + frames_skipped +
    frames_broken + frames_unmatched``, except for the few frames that still wait.
    """

    frames_received: int
    frames_sent: int
    frames_drawn: int
    """The sum over all pages, as they reported it; 0 if no page shows the view."""
    frames_dropped: int
    """A newer one came before they could be sent."""
    frames_dropped_by_browser: int
    """Sent, but a newer one came before the page could draw them."""
    frames_skipped: int
    """They came while the view was paused or not on the screen."""
    frames_broken: int
    """They could not be read as pictures."""
    frames_undecodable: int
    """The page could not decode them."""
    frames_blind: int
    """Part of `frames_sent`: sent before the page had answered the ones before."""
    frames_unmatched: int
    """They were dropped without boxes of their own, while the view showed only frames with them."""
    boxes_received: int
    boxes_broken: int
    """They could not be read as boxes."""
    boxes_unmatched: int
    """Messages of overlays whose own frame was not there, while the view showed only frames with their own."""
    bad_boxes: int
    """Single boxes that could not be drawn; the others of their message are shown."""
    bad_labels: int
    """Labels that are not UTF-8, shown with replacement characters."""
    overlays_received: int
    """Messages of points, masks and tracks."""
    overlays_broken: int
    """They could not be read as that."""
    bad_marks: int
    """Single points and tracked objects that could not be drawn; the others of their message are shown."""
    page_messages_refused: int
    """Messages of pages with a name of over 64 letters, and writes to what a page must not set."""
    last_age_secs: float | None
    """From the stamp of the last frame sent until now; None if that is negative or above an hour."""


class CameraView(StreamWidget):
    """Shows a topic's pictures live, with the boxes, points, masks and tracks of other topics drawn on them.

    Make it in the last line of a cell, before or after the dataflow starts: it lives through stops,
    starts and edits, and ends when its cell runs again or by `close`. Making it does not block.

    `topic` carries pictures and `boxes` carries boxes, in any form that `as_image` and `as_boxes` read.
    `points` carries N x 2 or N x 3 numbers (x, y, score; a score of 0 means: not found), as lists, as a struct,
    or flat with metadata ``shape``, which may be [objects, points, 3]. `skeleton` are pairs of places of points
    that a line joins, unless the metadata ``skeleton`` has them as a flat list. `mask` carries a label image:
    H x W whole numbers with metadata ``width`` and ``height``; 0 and below are not drawn, and a mask of another
    size than the picture is stretched. `tracks` carries boxes with a ``track_id``, or N x 3 numbers (id, x, y):
    the paths of the last `track_secs` seconds are drawn, of at most 100 objects. `labels` are the names of the
    classes of boxes and masks, as a list or a dict by number. `size` as (width, height) in
    pixels and `encoding` are used for pictures without that metadata; what is still missing is guessed,
    and the view's line says so. At most `max_fps` pictures a
    second are sent to the browser. `dataflow` is the notebook's own unless given.

    With ``sync=True`` the view shows each frame with the boxes (and all other overlays) that were computed on
    it, as late as the detector is; the detector must forward the frame's metadata. With ``sync=False`` it shows the newest
    frame with the newest boxes, which fade as they get old. By default ("auto") it shows frames with
    their own boxes if nine of ten get theirs within 250 ms, and goes on with the newest of both above
    350 ms.

    With `events`, a topic ``notebook/NAME``, a click, a dragged box and a drawn line in the picture are sent as
    messages, also while a cell is busy: an array of one struct with `kind` ("click", "box", "line"), `x1`, `y1`,
    `x2`, `y2` (pixels of the picture; a click has both ends at one place), `width`, `height`, the smallest box
    that was shown where it began (`box_index`, its row in `as_boxes`; `box_label`, `box_score`, `box_x1` to
    `box_y2`; null without one) and `frame_time` (of the picture; null without a stamp).

    In the view: space pauses; b, p, m and t show or hide boxes, points, mask and tracks; s changes `sync`;
    [ and ] set the lowest score, from 0 to 1, which never hides what has no score; +, - and 0 zoom, as the
    wheel does once the view has the focus, and the arrow keys or a drag move the picture; h, c, r and l choose
    the hand, clicks, boxes and lines, then arrow keys and Enter pick. Python code may set
    and observe `paused`, `sync`, `min_score` and `show_boxes` (`show_points`, ...) too.

    Raises DeclarationError for an argument of the wrong type or range; GraphError if the node of a
    topic is declared and lacks that output, or if the topic of events is taken or is not ``notebook/NAME``. What goes wrong later, the view shows below the picture.

    Example::

        >>> CameraView("camera/image", boxes="detector/bbox", labels=["cup", "plate"])
        >>> CameraView("camera/image", mask="segmenter/mask", tracks="tracker/boxes")
        >>> CameraView("camera/image", boxes="detector/bbox", events="notebook/picked")
    """

    _esm = traitlets.Unicode(
        page_code(
            __package__,
            *("drawing.js", "zoom.js", "picking.js", "caption.js", "frames.js", "camera.js"),
        )
    ).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "camera.css")).tag(sync=True)
    topic = traitlets.Unicode(read_only=True).tag(sync=True)
    boxes = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)
    points = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)
    mask = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)
    tracks = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)
    events = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)
    paused = traitlets.Bool(False).tag(sync=True)
    show_boxes = traitlets.Bool(True).tag(sync=True)
    show_points = traitlets.Bool(True).tag(sync=True)
    show_mask = traitlets.Bool(True).tag(sync=True)
    show_tracks = traitlets.Bool(True).tag(sync=True)
    min_score = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    sync = traitlets.Enum(["auto", True, False], "auto").tag(sync=True)
    page_may_set = frozenset({"paused", "min_score", "sync", *(f"show_{kind}" for kind in KINDS)})

    _feed: Feed | None = None
    """None until the arguments are checked."""
    _picks: Picks | None = None
    """The topic of events; None without one."""

    def __init__(
        self,
        topic: str,
        boxes: str | None = None,
        *,
        points: str | None = None,
        skeleton: Skeleton | None = None,
        mask: str | None = None,
        tracks: str | None = None,
        track_secs: float = 3.0,
        events: str | None = None,
        labels: Labels | None = None,
        dataflow: ViewedDataflow | None = None,
        size: tuple[int, int] | None = None,
        encoding: str | None = None,
        sync: Sync = "auto",
        max_fps: float = 30,
    ) -> None:
        overlays: dict[Kind, str | None] = {
            "boxes": boxes,
            "points": points,
            "mask": mask,
            "tracks": tracks,
        }
        _check_topics(topic, overlays)
        _check_arguments(overlays, labels, size, encoding, sync, max_fps)
        _check_marks(skeleton, track_secs)
        self._dataflow = dataflow if dataflow is not None else notebook_dataflow()
        self._source = self._dataflow.graph.check_topic(topic)
        self._overlay_sources: dict[Kind, TopicSource] = {
            kind: self._dataflow.graph.check_topic(given)
            for kind, given in overlays.items()
            if given is not None
        }
        self._drawer = Drawer()
        self._size = size
        self._encoding = encoding
        self._pixels = PixelReader(size, encoding)
        self._first_awaited = False
        self._listeners: list[Listener] = []
        self._unwatch: Callable[[], None] | None = None
        self.set_trait("topic", topic)  # before the page hears of the view
        for kind, given in overlays.items():
            self.set_trait(kind, given)
        self.sync = sync
        feed = Feed(
            kinds=tuple(self._overlay_sources),
            sync=sync,
            max_fps=max_fps,
            labels=labels,
            skeleton=skeleton,
            track_secs=track_secs,
        )
        self._feed = feed
        try:
            if events is not None:
                self._picks = _picks_on(self._dataflow, events)
                self.set_trait("events", events)
            self._subscribe(feed)
            super().__init__(feed, thread_name=f"dora-view {topic}")
        except BaseException:
            self._unsubscribe()
            if self._picks is not None:
                self._picks.close()
            self.close()
            raise

    def _subscribe(self, feed: Feed) -> None:
        """Starts to receive messages."""
        # The callbacks hold the feed and not the view, or a forgotten view could not be collected.
        self.observe(lambda change: feed.set_paused(change["new"]), "paused")
        self.observe(lambda change: feed.set_sync(change["new"]), "sync")
        handlers: list[tuple[str, Callable[[Any], None]]] = [(self.topic, feed.take_frame)]
        for kind, source in self._overlay_sources.items():
            handlers.append((str(source), partial(feed.take_overlay, kind)))
        for topic, handler in handlers:
            # The newest frame is enough, and each one that waits holds memory of the camera.
            only_newest = topic == self.topic and (self.sync is False or len(handlers) == 1)
            listener = self._dataflow.subscribe(
                topic, handler, queue_size=1 if only_newest else QUEUE_SIZE, replay_last=True
            )
            self._listeners.append(listener)
        feed.note_running(self._dataflow.running)
        self._unwatch = self._dataflow.on_change(feed.mark_status_changed)

    def _unsubscribe(self) -> None:
        while self._listeners:
            self._listeners.pop().close()
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()

    # ----- what a user calls

    def pause(self) -> None:
        """Pauses at the newest picture, and saves it as a still in the cell's output. Any thread.

        Example::

            >>> view.pause()
        """
        self.paused = True
        self.settle()

    def resume(self) -> None:
        """Shows the newest frames again. Any thread.

        Example::

            >>> view.resume()
        """
        self.paused = False

    def snapshot(self) -> bytes | None:
        """Returns the picture with its boxes as a JPEG file, at most 640 pixels wide; None before the first.

        It is the newest frame, or while paused the one that is shown, without the boxes that `min_score`
        and `show_boxes` hide. Decoding and encoding take about 10 ms. Any thread. Raises EngineError if
        OpenCV is missing.

        Example::

            >>> view.wait_for_frame()
            >>> Path("picture.jpg").write_bytes(view.snapshot())
        """
        shown = self._newest()
        if shown is None:
            return None
        try:
            return still_jpeg(shown.picture, visible(shown.drawn, self._hidden(), self.min_score))
        except DamagedPictureError:
            return None

    def wait_for_frame(self, timeout_secs: float = 10.0) -> None:
        """Blocks until the view has a picture to show, with boxes if it was given a topic of boxes.

        Returns at once if it ever had one. If no page shows the view (in a headless run), the cell's
        output then holds the picture as a still. Raises TopicTimeoutError after `timeout_secs`, with the
        topic, the number of messages received, and the state of the view; DataflowStateError if the view
        is closed or paused.

        Example::

            >>> view.wait_for_frame(timeout_secs=30)
        """
        feed = self._open_feed()
        if feed.last is None and self.paused:
            raise DataflowStateError(
                "the view is paused and has no picture yet;", hint="call resume() first."
            )
        if not feed.wait_for_picture(timeout_secs):
            raise self._timeout(self._open_feed(), timeout_secs)
        if not feed.greeted:
            self._publish_still()

    @property
    def stats(self) -> ViewStats:
        """The counts of frames and boxes so far. Any thread; also after `close`.

        Example::

            >>> view.stats.frames_drawn
            250
        """
        assert self._feed is not None
        tally = self._feed.tally()
        counts = tally.counts
        return ViewStats(
            frames_received=counts.frames_received,
            frames_sent=counts.frames_sent,
            frames_drawn=tally.drawn,
            frames_dropped=counts.frames_dropped,
            frames_dropped_by_browser=tally.dropped_by_browser,
            frames_skipped=counts.frames_skipped,
            frames_broken=counts.frames_broken,
            frames_undecodable=tally.broken_in_browser,
            frames_blind=counts.frames_blind,
            frames_unmatched=tally.frames_unmatched,
            boxes_received=counts.boxes_received,
            boxes_broken=counts.boxes_broken,
            boxes_unmatched=tally.overlays_unmatched,
            bad_boxes=counts.bad_boxes,
            bad_labels=counts.bad_labels,
            overlays_received=counts.overlays_received,
            overlays_broken=counts.overlays_broken,
            bad_marks=counts.bad_marks,
            page_messages_refused=self.page_messages_refused,
            last_age_secs=_age_secs(self._feed.last),
        )

    def close(self) -> None:
        """Ends the view: it unsubscribes, and its cell keeps a still. Any thread; may be called twice.

        Blocks until the sender thread ends, for at most 2 s.

        Example::

            >>> view.close()
        """
        super().close()

    def settle(self) -> None:
        """Saves a still into the cell's output if a pause or a stop requires one, or no page shows it.

        IPython calls it after every cell; there is no need to call it.

        Example::

            >>> view.settle()
        """
        super().settle()

    def __repr__(self) -> str:
        given = {"boxes": self.boxes, "points": self.points, "mask": self.mask}
        given |= {"tracks": self.tracks, "events": self.events}
        topics = "".join(
            f", {name}={topic!r}" for name, topic in given.items() if topic is not None
        )
        sync = "" if self.sync == "auto" else f", sync={self.sync}"
        return f"CameraView({self.topic!r}{topics}{sync})"

    # ----- the end, and outputs of cells

    def _end(self) -> None:
        self._unsubscribe()
        if self._picks is not None:
            self._picks.close()
        super()._end()

    def _forget(self) -> None:
        # After the last still, which may be made from a frame that waits.
        self._pixels.forget()
        self._drawer.forget()
        if self._feed is not None:
            self._feed.forget_frames()

    def _still(self) -> dict[str, Any]:
        data: dict[str, Any] = {"text/plain": repr(self)}
        try:
            still = self.snapshot()
        except EngineError:  # the view itself says that OpenCV is missing
            still = None
        if still is not None:
            data["image/jpeg"] = base64.b64encode(still).decode()
        return data

    def _still_key(self, *, living: bool) -> object:
        shown = self._newest()
        if shown is None and living:
            return None
        received_secs = None if shown is None else shown.received_secs
        return (received_secs, self._hidden(), self.min_score)

    def _still_due(self) -> bool:
        assert self._feed is not None
        paused = self._feed.take_still_due()
        stopped = self._feed.note_running(self._dataflow.running)
        return paused or stopped

    def _await_first_still(self) -> None:
        """Gives the camera some time, once, if a cell has shown the view and the dataflow runs."""
        assert self._feed is not None
        if not self._first_awaited and self._output.shown and self._dataflow.running:
            self._first_awaited = True
            if not self.paused:
                self._feed.wait_for_picture(FIRST_PICTURE_SECS)

    def _newest(self) -> SentPicture | None:
        """Returns the picture for a still: the one that waits to be sent, else the last one sent."""
        assert self._feed is not None
        pair = self._feed.newest()
        if pair is not None:
            try:
                picture = picture_of(pair.frame.event, self._size, self._encoding)
            except MessageError:
                pass  # the sender will read this frame too, and report the error
            else:
                frame = pair.frame
                return SentPicture(
                    0,
                    picture,
                    frame.stamp_micros,
                    frame.received_secs,
                    pair.overlays,
                    self._drawer.drawn(pair.overlays),
                )
        return self._feed.last

    def _hidden(self) -> tuple[Kind, ...]:
        """Returns the kinds of overlays that are not to be drawn."""
        return tuple(kind for kind in KINDS if not getattr(self, f"show_{kind}"))

    # ----- pages

    def _receive(self, kind: str, message: Mapping[str, Any], _buffers: list[Any]) -> None:
        assert self._feed is not None
        if kind == "pixel":
            place = (count_in(message, key) for key in ("seq", "x", "y"))
            self._feed.ask_pixel(PixelQuestion(message["client"], *place))
        elif kind == "pause":
            self._feed.pause_at(count_in(message, "seq"))
        elif kind == "pick":
            if self._picks is None or not self._picks.take(message):
                self.page_messages_refused += 1
            self._wake()

    @property
    def _control(self) -> Control | None:
        """The control of this view, as those of widgets that are controls."""
        return None if self._picks is None else self._picks.control

    # ----- the sender's thread

    def _greet(self) -> None:
        assert self._feed is not None
        if self._feed.last is not None:
            self._send_frame(self._feed.last)

    def _send_next(self) -> None:
        """Sends a picture, or newer overlays for the one that pages show."""
        assert self._feed is not None
        taken = self._feed.take()
        if isinstance(taken, Pair):
            self._send_picture(self._feed, taken)
        elif taken is not None:
            self._send_overlays(self._feed, taken)

    def _failed(self, _step: SendStep, error: Exception) -> None:
        """Shows an error in the view."""
        assert self._feed is not None
        named = isinstance(error, DoraNbError)
        text = str(error) if named else f"the view failed: {type(error).__name__}: {error}"
        self._feed.failed(text)

    def _send_picture(self, feed: Feed, pair: Pair) -> None:
        try:
            picture = picture_of(pair.frame.event, self._size, self._encoding)
            drawn = self._drawer.drawn(pair.overlays)
        except MessageError as error:
            feed.frame_broken(error)
        except Exception:
            feed.count_broken()
            raise
        else:
            self._send_frame(feed.sent(pair, picture, drawn))

    def _send_frame(self, shown: SentPicture) -> None:
        if self._picks is not None:
            self._picks.note(shown)  # before it goes, as a page may answer at once
        message = {
            "type": "frame",
            "v": PROTOCOL_VERSION,
            "seq": shown.seq,
            "t": None if shown.stamp_micros is None else shown.stamp_micros / 1000,
            "mime": shown.picture.mime,
            "w": shown.picture.width,
            "h": shown.picture.height,
            "notes": list(shown.picture.notes),
        }
        overlays, buffers = overlays_message(shown)
        self.send({**message, **overlays}, buffers=[shown.picture.data, *buffers])

    def _send_overlays(self, feed: Feed, overlays: Overlays) -> None:
        shown = feed.overlays_sent(overlays, self._drawer.drawn(overlays))
        if shown is not None:
            if self._picks is not None:
                self._picks.note(shown)
            content, buffers = overlays_message(shown)
            self.send({"type": "overlays", "seq": shown.seq, **content}, buffers=[b"", *buffers])

    def _answer(self) -> None:
        assert self._feed is not None
        question = self._feed.take_question()
        if question is None:
            return
        event = self._feed.original(question.seq)
        text = None
        if event is not None:
            with contextlib.suppress(DoraNbError):  # the view itself says what is wrong with it
                text = self._pixels.text(event, question.x, question.y)
        place = {"client": question.client, "seq": question.seq, "x": question.x, "y": question.y}
        self.send({"type": "pixel", **place, "text": text})

    def _content(self, _now_secs: float) -> dict[str, Any]:
        feed = self._feed
        assert feed is not None
        tally = feed.tally()  # before the state, which then explains all that was counted
        found = condition(self._dataflow, self._source, self._overlay_sources, feed.state())
        places = drops(
            self._dataflow,
            self._source,
            self._overlay_sources,
            [listener.status() for listener in self._listeners],
            tally.counts.frames_dropped,
        )
        return {
            "state": found.state,
            "reason": found.reason,
            "drops": [[place, count] for place, count in places],
            "unmatched": tally.overlays_unmatched,
            "bad_boxes": tally.counts.bad_boxes,
            "bad_labels": tally.counts.bad_labels,
            "bad_marks": tally.counts.bad_marks,
            "own_boxes": feed.own_boxes,
            "events": None if self._picks is None else self._picks.status(),
        }

    # ----- helpers

    def _open_feed(self) -> Feed:
        if self._feed is None or self._feed.closed:
            raise DataflowStateError(
                "the view is closed;", hint="run its cell again to make a new one."
            )
        return self._feed

    def _timeout(self, feed: Feed, timeout_secs: float) -> TopicTimeoutError:
        counts = feed.tally().counts
        if feed.last is None:
            topic, what, received = self.topic, "frame", counts.frames_received
        else:
            overlays = feed.last.overlays
            kind = next(
                each
                for each in self._overlay_sources
                if overlays is None or overlays.of(each) is None
            )
            topic, what = str(self._overlay_sources[kind]), kind
            received = counts.boxes_received if kind == "boxes" else counts.overlays_received
        found = condition(self._dataflow, self._source, self._overlay_sources, feed.state())
        state = f"{found.state}: {found.reason}" if found.reason else found.state
        return TopicTimeoutError(
            f"the view got no {what} to show from '{topic}' within {timeout_secs:g} s "
            f"({received} messages received). Its state is {state}."
        )


def _age_secs(shown: SentPicture | None) -> float | None:
    if shown is None or shown.stamp_micros is None:
        return None
    age_secs = time.time() - shown.stamp_micros / 1e6
    return age_secs if 0 <= age_secs <= MAX_SHOWN_AGE_SECS else None


def _picks_on(dataflow: object, topic: object) -> Picks:
    # Here, since a view without events is loaded without the engines.
    from ._picks import Picks

    return Picks(dataflow, topic)


def _check_topics(topic: object, overlays: Mapping[Kind, object]) -> None:
    for name, text in (("topic", topic), *overlays.items()):
        if not isinstance(text, str) and not (name != "topic" and text is None):
            raise DeclarationError(f"{name} must be a topic such as 'camera/image', got {text!r}.")
    for kind, given in overlays.items():
        if given == topic:
            raise DeclarationError(
                f"topic and {kind} are both '{topic}';",
                hint=f"pass the detector's output as {kind}.",
            )


def _check_arguments(
    overlays: Mapping[Kind, object],
    labels: object,
    size: object,
    encoding: object,
    sync: object,
    max_fps: object,
) -> None:
    """Raises DeclarationError for what would else fail later, in a thread."""
    if not isinstance(sync, bool) and sync != "auto":
        raise DeclarationError(f"sync must be True, False or 'auto', got {sync!r}.")
    if sync is True and not any(overlays.values()):
        raise DeclarationError(
            "sync=True needs a topic of boxes;", hint="pass one, such as boxes='detector/bbox'."
        )
    if labels is not None and (
        isinstance(labels, str) or not isinstance(labels, Sequence | Mapping)
    ):
        raise DeclarationError(f"labels must be a list of names or a dict, got {labels!r}.")
    if size is not None and not _is_size(size):
        raise DeclarationError(f"size must be (width, height) in pixels, got {size!r}.")
    if encoding is not None and encoding_named(encoding) is None:
        near = did_you_mean(str(encoding), ENCODINGS)
        raise DeclarationError(
            f"unknown encoding {encoding!r}.",
            hint=near or f"Known encodings: {', '.join(ENCODINGS)}.",
        )
    if not isinstance(max_fps, int | float) or not 0 < max_fps <= MAX_FPS:
        raise DeclarationError(f"max_fps must be > 0 and <= {MAX_FPS}, got {max_fps!r}.")


def _check_marks(skeleton: object, track_secs: Any) -> None:
    if skeleton is not None and not _is_skeleton(skeleton):
        raise DeclarationError(
            f"skeleton must be pairs of places of points such as [(0, 1), (1, 2)], got {skeleton!r}."
        )
    is_number = isinstance(track_secs, int | float) and not isinstance(track_secs, bool)
    if not (is_number and 0 < track_secs <= MAX_TRACK_SECS):
        raise DeclarationError(
            f"track_secs must be > 0 and <= {MAX_TRACK_SECS}, got {track_secs!r}."
        )


def _is_skeleton(skeleton: object) -> bool:
    return (
        isinstance(skeleton, Sequence)
        and len(skeleton) <= MAX_BONES
        and all(
            isinstance(bone, Sequence)
            and len(bone) == 2
            and all(isinstance(place, int) and place >= 0 for place in bone)
            for bone in skeleton
        )
    )


def _is_size(size: object) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    )
