"""The live camera view: the newest frame of a topic with the boxes of another, under a cell.

::

    tap ─► Feed (one place) ─► sender thread ─► comm ─► camera.js: newest pending frame ─► canvas
                                    ▲                        │
                                    └── hello, visible, ack ◄┘   (cumulative, every 250 ms at most)

Messages between this file and camera.js, version 1. All are custom comm messages of anywidget; what
either side does not know it MUST ignore.

kernel to page
    ``frame``: `v`, `seq`, `t`, `mime`, `w`, `h`, `boxes`, `lag`, `age`, and the picture as the one buffer.
        `seq` counts up from 1; a page MUST NOT draw one that is not above the last it drew, and MAY
        skip any that a newer one follows. `t` is the frame's stamp in ms since the epoch, or null. `w`
        and `h` are the size in pixels that boxes refer to; 0 means the picture's own. `boxes` is null
        or a list of [x1, y1, x2, y2, score, label, colour]; a label is text and MUST NOT become markup.
        `lag` is how many ms the boxes' frame is older than this one, or null where stamps do not say;
        `age` is how many ms ago the boxes came.
    ``boxes``: `seq`, `boxes`, `lag`, `age`: newer boxes for the frame `seq`; a page that shows another
        frame MUST ignore it.
    ``status``: `state`, `reason`, `drops` as a list of [place, count], `unmatched`; `greeting`, if it
        answers a ``hello``. The kernel MUST send one at least every 2 s while the view is visible and
        the page answers, so that silence means something, and at most two a second.
page to kernel
    each has `client`, a name that the page made up when it created its model, and `n`, which counts
    its messages: they may overtake each other on different threads, and late ones MUST NOT count.
    ``hello``: the model exists; MUST be the first. The kernel MUST answer with the last frame, if
        there is one, under its old `seq`, and a status that is a greeting. Until then the page says
        it again, ever more rarely: the first may wait behind a cell, for want of a subshell.
    ``visible``: `count` of views on the screen. At 0 everywhere the kernel MUST NOT send frames, but
        for one a second where the page's next word would have to wait for the end of a running cell.
    ``pause``: `seq` that the page shows. It MUST come before the trait `paused`, if a person paused
        the page, which then MUST stay at that picture; the still shows it too.
    ``ack``: `seq` last come to, `drawn`, `dropped`, `broken` since the page was loaded. Cumulative; a
        page MUST NOT send more than one in 250 ms. The kernel MUST go on without them, slower.
traits
    `paused`, `show_boxes`, `min_score` are set by both sides. Frames that the kernel sent before it
    paused the page MUST still be drawn: the last of them is the one that the still shows.
"""

from __future__ import annotations

import atexit
import base64
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import anywidget
import traitlets

from dora_nb.data.boxes import Labels
from dora_nb.data.images import ENCODINGS
from dora_nb.data.picture_files import DamagedPictureError
from dora_nb.errors import (
    DataflowStateError,
    DeclarationError,
    DoraNbError,
    EngineError,
    MessageError,
    TopicTimeoutError,
    did_you_mean,
)

from ._cells import CellOutput, Registry, current_cell_run
from ._feed import Feed, SendStep, Shown, Task
from ._matching import Pair, StampedBoxes, lag_micros
from ._pictures import Colours, DrawnBox, drawn_boxes, picture_of, still_jpeg
from ._subshell import let_page_choose_thread
from ._viewed import Listening, Viewed, condition, drops

PROTOCOL_VERSION = 1
HEARTBEAT_SECS = 2.0
MAX_SHOWN_AGE_SECS = 3600.0
"""An older frame, or one from the future, was stamped by another clock: its age is not known."""
MAX_FPS = 240
IN_LINE = 10
"""Messages that may wait for the kernel's tap, which is held up for moments by a busy cell."""
_JOIN_SECS = 2.0

_VIEWS = Registry()


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class ViewStats:
    """What became of every frame and every message with boxes, since the view was made.

    At a quiet moment ``frames_received == frames_sent + frames_dropped + frames_skipped +
    frames_broken + frames_unmatched``, but for the few that still wait.
    """

    frames_received: int
    frames_sent: int
    frames_drawn: int
    """As the pages reported it, all together; 0 where no page shows the view."""
    frames_dropped: int
    """A newer one came before they could be sent."""
    frames_dropped_by_browser: int
    """Sent, but a newer one came before the page could draw them."""
    frames_skipped: int
    """They came while the view was paused or not on the screen."""
    frames_broken: int
    """They were no pictures."""
    frames_undecodable: int
    """The page could not decode them."""
    frames_blind: int
    """Of those sent: without an answer to the ones before."""
    frames_unmatched: int
    """With ``sync=True``: they gave way without boxes of theirs."""
    boxes_received: int
    boxes_broken: int
    boxes_unmatched: int
    """With ``sync=True``: their frame was not there."""
    last_age_secs: float | None
    """From the stamp of the last frame sent to now; None where that is negative or above an hour."""


class CameraView(anywidget.AnyWidget):
    """Shows a topic's pictures live, with another topic's boxes drawn on them.

    Show it as a cell's last line. It may be made before the dataflow starts, lives over stop, start
    and edits, and ends when its cell runs again or by `close`. Making it blocks on nothing.

    `topic` carries pictures and `boxes` carries boxes, both in any form that `as_image` and `as_boxes`
    read. `labels` names classes by number. `size` (width, height) and `encoding` stand in where the
    messages' metadata is silent. By default the newest frame is shown with the newest boxes, faded as
    they get old; with ``sync=True`` each frame is shown with the boxes that were computed on it, as
    late as the detector is. `dataflow` is the notebook's own unless given.

    In the view: space pauses, b shows or hides boxes, [ and ] (also - and +) set the lowest score.
    `paused`, `show_boxes` and `min_score` may be set from Python too, and observed.

    Raises DeclarationError for arguments that mean nothing; GraphError where a topic's node is
    declared and has no such output.

    Example::

        >>> CameraView("camera/image", boxes="detector/bbox", labels=["cup", "plate"])
    """

    _esm = traitlets.Unicode(_asset("camera.js")).tag(sync=True)
    _css = traitlets.Unicode(_asset("camera.css")).tag(sync=True)
    topic = traitlets.Unicode(read_only=True).tag(sync=True)
    boxes = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)
    paused = traitlets.Bool(False).tag(sync=True)
    show_boxes = traitlets.Bool(True).tag(sync=True)
    min_score = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)

    _feed: Feed | None = None
    """None while the arguments are not accepted yet."""

    def __init__(
        self,
        topic: str,
        boxes: str | None = None,
        *,
        labels: Labels | None = None,
        dataflow: Viewed | None = None,
        size: tuple[int, int] | None = None,
        encoding: str | None = None,
        sync: bool = False,
        max_fps: float = 30,
    ) -> None:
        _check_arguments(topic, boxes, labels, size, encoding, sync, max_fps)
        self._dataflow = dataflow if dataflow is not None else _notebook_dataflow()
        self._source = self._dataflow.graph.check_topic(topic)
        self._boxes_source = None if boxes is None else self._dataflow.graph.check_topic(boxes)
        self._sync = sync
        self._size = size
        self._encoding = encoding
        self._colours = Colours()
        self._output = CellOutput()
        self._still_lock = threading.RLock()
        self._still_key: tuple[Any, ...] | None = None
        self._told: dict[str, Any] = {}
        self._told_secs = -math.inf
        self._listeners: list[Listening] = []
        self._unwatch: Callable[[], None] | None = None
        self._sender: threading.Thread | None = None
        self.set_trait("topic", topic)  # before the page hears of the view
        self.set_trait("boxes", boxes)
        super().__init__()
        let_page_choose_thread(self.comm)
        self._feed = Feed(with_boxes=boxes is not None, sync=sync, max_fps=max_fps, labels=labels)
        try:
            self._start(self._feed)
        except BaseException:
            self.close()
            raise
        _VIEWS.add(self, current_cell_run())

    def _start(self, feed: Feed) -> None:
        """From here on messages come in. Those who bring them know the feed, and not the view."""
        self.on_msg(lambda _view, content, _buffers: feed.hear(content))
        self.observe(lambda change: feed.set_paused(change["new"]), "paused")
        handlers = {self.topic: feed.take_frame}
        if self.boxes is not None:
            handlers[self.boxes] = feed.take_boxes
        for topic, handler in handlers.items():
            # Of frames the newest is enough, and each in line holds memory of the camera.
            only_newest = topic == self.topic and not self._sync
            listener = self._dataflow.subscribe(
                topic, handler, queue_size=1 if only_newest else IN_LINE, replay_last=True
            )
            self._listeners.append(listener)
        feed.note_running(self._dataflow.running)
        self._unwatch = self._dataflow.on_change(feed.note_change)
        self._sender = threading.Thread(
            target=_send_until_closed,
            args=(weakref.ref(self), feed),
            name=f"dora-view {self.topic}",
            daemon=True,
        )
        self._sender.start()

    # ----- what a user does with it

    def pause(self) -> None:
        """Keeps the picture as it is; the cell's saved output holds it as a still. Any thread.

        Example::

            >>> view.pause()
        """
        self.paused = True
        self.settle()

    def resume(self) -> None:
        """Shows the newest frame again.

        Example::

            >>> view.resume()
        """
        self.paused = False

    def snapshot(self) -> bytes | None:
        """The picture with its boxes as a JPEG file of 640 pixels' width at most; None before the first.

        It is the newest frame, or while paused the one that is shown; what `min_score` and
        `show_boxes` hide is not drawn. Decoding and encoding take some 10 ms. Any thread.

        Example::

            >>> Path("picture.jpg").write_bytes(view.snapshot())
        """
        shown = self._newest()
        if shown is None:
            return None
        try:
            return still_jpeg(shown.picture, self._visible_boxes(shown.drawn))
        except DamagedPictureError:
            return None

    def wait_for_frame(self, timeout_secs: float = 10.0) -> None:
        """Blocks until the view has a picture to show, with boxes if it was given a topic of boxes.

        Returns at once if it ever had one. Where no page shows the view (a notebook run headless),
        the cell's output holds it as a still afterwards. Raises TopicTimeoutError, which names the
        topic, what came, and the state of its node; DataflowStateError if the view is closed or paused.

        Example::

            >>> view.wait_for_frame(timeout_secs=30)
        """
        feed = self._open_feed()
        if feed.last is None and self.paused:
            raise DataflowStateError("the view is paused and takes no frame;", hint="resume it.")
        if not feed.wait_for_picture(timeout_secs):
            raise self._timeout(self._open_feed(), timeout_secs)
        if not feed.greeted:
            self._publish_still()

    @property
    def stats(self) -> ViewStats:
        """What became of all frames and boxes so far. Any thread; also after `close`.

        Example::

            >>> view.stats().frames_drawn
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
            boxes_unmatched=tally.boxes_unmatched,
            last_age_secs=_age_secs(self._feed.last),
        )

    def close(self) -> None:
        """Ends the view: it reads nothing any more and its cell keeps a still. May be called twice.

        Example::

            >>> view.close()
        """
        feed = self._feed
        if feed is None or sys.is_finalizing():  # refused by its arguments; or all ends, by __del__
            return
        feed.close()
        while self._listeners:
            self._listeners.pop().close()
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
        if self._sender is not None and self._sender is not threading.current_thread():
            self._sender.join(_JOIN_SECS)
        _VIEWS.remove(self)
        self._publish_still(living=False)
        feed.forget_frames()
        super().close()

    def settle(self) -> None:
        """Saves a still into the cell's output if one is asked for by a pause or a stop.

        It is called after every cell, and need not be called.

        Example::

            >>> view.settle()
        """
        feed = self._feed
        if feed is None or feed.closed:
            return
        with self._still_lock:  # so that whoever comes second finds it done
            paused = feed.take_still_due()
            stopped = feed.note_running(self._dataflow.running)
            if paused or stopped:
                self._publish_still()

    def __repr__(self) -> str:
        boxes = "" if self.boxes is None else f", boxes={self.boxes!r}"
        return f"CameraView({self.topic!r}{boxes}{', sync=True' if self._sync else ''})"

    # ----- outputs of cells

    def _ipython_display_(self, **_options: object) -> None:
        """IPython's hook: displays by an id of our own, so that the output can be replaced later."""
        self._output.show(*self._bundle(living=self._feed is not None and not self._feed.closed))

    def _repr_mimebundle_(self, **_options: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """For those who ask for it themselves: a view inside of another widget, a test."""
        return self._bundle(living=self._feed is not None and not self._feed.closed)

    def _bundle(self, *, living: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        data: dict[str, Any] = {"text/plain": repr(self)}
        metadata: dict[str, Any] = {}
        of_widget = super()._repr_mimebundle_() if living else None
        if of_widget is not None:
            data, metadata = of_widget
        try:
            still = self.snapshot()
        except EngineError:  # the view itself says that OpenCV is missing
            still = None
        if still is not None:
            data["image/jpeg"] = base64.b64encode(still).decode()
        return data, metadata

    def _publish_still(self, *, living: bool = True) -> None:
        """Replaces the cell's output, unless it would look the same."""
        with self._still_lock:
            shown = self._newest()
            if not self._output.shown or (shown is None and living):
                return
            frame = None if shown is None else shown.received_secs
            key = (frame, living, self.show_boxes, self.min_score)
            if key != self._still_key:
                self._still_key = key
                self._output.replace(*self._bundle(living=living))

    def _newest(self) -> Shown | None:
        """The picture that a still shows: the one that waits to be sent, else the last that was."""
        assert self._feed is not None
        pair = self._feed.newest()
        if pair is not None:
            try:
                picture = picture_of(pair.frame.event, self._size, self._encoding)
            except MessageError:
                pass  # the sender will come to it, and say so
            else:
                frame = pair.frame
                return Shown(
                    0,
                    picture,
                    frame.stamp_micros,
                    frame.received_secs,
                    pair.boxes,
                    self._drawn(pair),
                )
        return self._feed.last

    def _visible_boxes(self, boxes: list[DrawnBox] | None) -> list[DrawnBox]:
        if boxes is None or not self.show_boxes:
            return []
        return [box for box in boxes if box[4] >= self.min_score]

    def _drawn(self, pair: Pair) -> list[DrawnBox] | None:
        return None if pair.boxes is None else drawn_boxes(pair.boxes.boxes, self._colours)

    # ----- the sender's thread

    def _perform(self, feed: Feed, task: Task) -> None:
        try:
            if task.send_step is SendStep.PICTURE and task.pair is not None:
                self._send_picture(feed, task, task.pair)
            elif task.send_step is SendStep.BOXES and task.boxes is not None:
                self._send_boxes(feed, task.boxes)
            elif task.send_step is SendStep.GREETING:
                self._greet(feed)
            else:
                self.settle()
                self._tell(feed)
        except DoraNbError as error:
            feed.failed(task, str(error))
        except Exception as error:  # it must be seen, and a thread of ours may not print
            feed.failed(task, f"the view failed: {type(error).__name__}: {error}")

    def _send_picture(self, feed: Feed, task: Task, pair: Pair) -> None:
        try:
            picture = picture_of(pair.frame.event, self._size, self._encoding)
        except MessageError as error:
            feed.refused(error)
            return
        self._send_frame(feed.sent(pair, picture, self._drawn(pair), blind=task.blind))

    def _send_frame(self, shown: Shown) -> None:
        message = {
            "type": "frame",
            "v": PROTOCOL_VERSION,
            "seq": shown.seq,
            "t": None if shown.stamp_micros is None else shown.stamp_micros / 1000,
            "mime": shown.picture.mime,
            "w": shown.picture.width,
            "h": shown.picture.height,
            **_boxes_message(shown),
        }
        self.send(message, buffers=[shown.picture.data])

    def _send_boxes(self, feed: Feed, boxes: StampedBoxes) -> None:
        shown = feed.sent_boxes(boxes, drawn_boxes(boxes.boxes, self._colours))
        if shown is not None:
            self.send({"type": "boxes", "seq": shown.seq, **_boxes_message(shown)})

    def _greet(self, feed: Feed) -> None:
        if feed.last is not None:
            self._send_frame(feed.last)
        self._tell(feed, greeting=True)

    def _tell(self, feed: Feed, *, greeting: bool = False) -> None:
        """Sends the status if it changed, or if the page has not heard of the kernel for a while."""
        status = self._status(feed)
        now_secs = time.monotonic()
        heartbeat_secs = max(HEARTBEAT_SECS, feed.silent_secs / 30)
        if greeting or status != self._told or now_secs - self._told_secs >= heartbeat_secs:
            self._told, self._told_secs = status, now_secs
            feed.told()
            message = {"type": "status", **status}
            self.send({**message, "greeting": True} if greeting else message)

    def _status(self, feed: Feed) -> dict[str, Any]:
        found = condition(self._dataflow, self._source, self._boxes_source, feed.seen())
        tally = feed.tally()
        places = drops(
            self._dataflow,
            self._source,
            self._boxes_source,
            [listener.status() for listener in self._listeners],
            tally.counts.frames_dropped,
        )
        return {
            "state": found.state,
            "reason": found.reason,
            "drops": [[place, count] for place, count in places],
            "unmatched": tally.boxes_unmatched,
        }

    # ----- small things

    def _open_feed(self) -> Feed:
        if self._feed is None or self._feed.closed:
            raise DataflowStateError(
                "the view is closed;", hint="make a new one by running its cell."
            )
        return self._feed

    def _timeout(self, feed: Feed, timeout_secs: float) -> TopicTimeoutError:
        counts = feed.tally().counts
        if feed.last is None:
            topic, what, received = self.topic, "frame", counts.frames_received
        else:
            topic, what, received = str(self.boxes), "boxes", counts.boxes_received
        found = condition(self._dataflow, self._source, self._boxes_source, feed.seen())
        return TopicTimeoutError(
            f"no {what} to show came on '{topic}' within {timeout_secs:g} s "
            f"({received} messages received): {found.state}, {found.reason or 'nothing is wrong'}."
        )


def _send_until_closed(view_ref: weakref.ref[CameraView], feed: Feed) -> None:
    """The sender thread. Between two tasks it does not keep the view alive."""
    while (task := feed.next_task()) is not None:
        view = view_ref()
        if view is None:
            return
        view._perform(feed, task)
        del view, task


def _boxes_message(shown: Shown) -> dict[str, Any]:
    boxes = shown.boxes
    lag = lag_micros(shown.stamp_micros, None if boxes is None else boxes.stamp_micros)
    return {
        "boxes": shown.drawn,
        "lag": None if lag is None else lag / 1000,
        "age": None if boxes is None else (time.monotonic() - boxes.received_secs) * 1000,
    }


def _age_secs(shown: Shown | None) -> float | None:
    if shown is None or shown.stamp_micros is None:
        return None
    age_secs = time.time() - shown.stamp_micros / 1e6
    return age_secs if 0 <= age_secs <= MAX_SHOWN_AGE_SECS else None


def _notebook_dataflow() -> Viewed:
    from dora_nb.dataflow.dataflow import get_dataflow

    dataflow: Viewed = get_dataflow()
    return dataflow


def _check_arguments(
    topic: object,
    boxes: object,
    labels: object,
    size: object,
    encoding: object,
    sync: bool,
    max_fps: object,
) -> None:
    """DeclarationError for what could only fail later, in a thread, where nobody sees it."""
    for name, text in (("topic", topic), ("boxes", boxes)):
        if not isinstance(text, str) and not (name == "boxes" and text is None):
            raise DeclarationError(f"{name} is {text!r};", hint="name a topic, as 'camera/image'.")
    if boxes is not None and boxes == topic:
        raise DeclarationError(f"'{topic}' cannot carry both;", hint="name the detector's output.")
    if sync and boxes is None:
        raise DeclarationError(
            "sync=True waits for boxes;", hint="say which: boxes='detector/bbox'."
        )
    if labels is not None and (
        isinstance(labels, str) or not isinstance(labels, Sequence | Mapping)
    ):
        raise DeclarationError(f"labels is {labels!r};", hint="give a list of names, or a dict.")
    if size is not None and not _is_size(size):
        raise DeclarationError(f"size is {size!r};", hint="give (width, height) in pixels.")
    if encoding is not None and encoding not in ENCODINGS:
        near = did_you_mean(str(encoding), ENCODINGS) or f"Known are {', '.join(ENCODINGS)}."
        raise DeclarationError(f"encoding is {encoding!r}.", hint=near)
    if not isinstance(max_fps, int | float) or not 0 < max_fps <= MAX_FPS:
        raise DeclarationError(f"max_fps is {max_fps!r};", hint=f"give a number up to {MAX_FPS}.")


def _is_size(size: object) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    )


@atexit.register
def _end_senders() -> None:
    """Before the interpreter takes the comms away."""
    for view in _VIEWS.living():
        if isinstance(view, CameraView) and view._feed is not None:
            view._feed.close()
