"""Widgets that show a stream: each has a thread that sends at the pace of its pages.

::

    subscriber, user ─► Outbox (one lock, never held during a call) ─► sender thread ─► comm ─► page
                           ▲                                                              │
                           └──────────── hello, visible, ack (cumulative) ◄───────────────┘

The outbox decides when something is sent, the widget what. The sender holds the outbox and not the
widget, so a forgotten widget can be collected, and the sender then ends.
"""

from __future__ import annotations

import atexit
import enum
import math
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from .guarded import count_in
from .pacing import Pacer
from .pages import Link
from .widget import PROTOCOL_VERSION, REGISTRY, PageWidget

STATUS_INTERVAL_SECS = 0.5
HEARTBEAT_SECS = 2.0
_JOIN_SECS = 2.0


class SendStep(enum.Enum):
    """What the sender does next."""

    GREETING = enum.auto()
    """The answer to a page's ``hello``: what it needs first, and the status."""
    ANSWER = enum.auto()
    """The widget's own answer to a page, sent at once."""
    STREAM = enum.auto()
    """The next message of the stream."""
    STATUS = enum.auto()
    """The status; also saves a still if one is due."""


class Outbox(Link):
    """When a stream's sender sends. It sends after `offer`, or when a subclass says that something waits."""

    def __init__(self, max_fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self.pacer = Pacer(max_fps, self.pages)
        self.paused = False
        self.offered = False
        self.answer_due = False
        self.status_changed = True
        self.num_waiters = 0
        """Calls that wait for the next message: it is sent even if no page shows the widget."""
        self._status_checked_secs = self._status_sent_secs = -STATUS_INTERVAL_SECS

    # ----- any thread

    def offer(self) -> None:
        """Notes that the stream has something to send. Wakes the sender if nothing was waiting before."""
        with self.changed:
            # Each wake-up costs a turn at the interpreter's lock, 5 ms while a cell computes.
            if not self.offered:
                self.offered = True
                self.changed.notify_all()

    def ask_answer(self) -> None:
        """Notes that a page waits for an answer of the widget's own."""
        with self.changed:
            self.answer_due = True
            self.changed.notify_all()

    def set_paused(self, paused: bool) -> None:
        with self.changed:
            self.paused = paused
            self.mark_status_changed()

    def mark_status_changed(self) -> None:
        """Notes that the status may have changed; the sender will check it."""
        with self.changed:
            self.status_changed = True
            self.changed.notify_all()

    def on_hello(self, client: str, now_secs: float) -> None:
        self.pacer.on_hello(client, now_secs)

    def on_ack(self, client: str, message: Mapping[str, Any], now_secs: float) -> None:
        self.pacer.on_ack(
            client,
            seq=count_in(message, "seq"),
            drawn=count_in(message, "drawn"),
            dropped=count_in(message, "dropped"),
            broken=count_in(message, "broken"),
            now_secs=now_secs,
        )

    @property
    def greeted(self) -> bool:
        """Whether any page has ever said ``hello``."""
        return self.pages.greeted

    @property
    def silent_secs(self) -> float:
        """For how long messages have had no answer."""
        return self.pacer.silence_secs(self.clock())

    # ----- for a subclass. Called with the lock held.

    def stream_delay_secs(self, now_secs: float) -> float | None:
        """Returns the seconds until the stream has something to send; None: nothing waits."""
        del now_secs
        return 0.0 if self.offered else None

    def status_due(self) -> bool:
        """Returns whether the status must be checked at once, as for a still."""
        return False

    # ----- the sender

    def next_step(self) -> SendStep | None:
        """Blocks until there is something to do; returns None when the widget is closed."""
        with self.changed:
            while not self.closed:
                step, wait_secs = self._choose(self.clock())
                if step is not None:
                    return step
                self.changed.wait(wait_secs)
        return None

    def number(self) -> int:
        """Notes that a message of the stream is sent now, and returns its number."""
        with self.changed:
            return self.pacer.sent(self.clock())

    def status_sent(self) -> None:
        """Notes that a status was sent."""
        with self.changed:
            self._status_sent_secs = self.clock()

    def _choose(self, now_secs: float) -> tuple[SendStep | None, float | None]:
        """Returns the step that is due, or the seconds until one is (None: until something changes)."""
        # First, since a new page is empty until it is answered.
        if self.greeting_due:
            return SendStep.GREETING, None
        if self.answer_due:
            self.answer_due = False
            return SendStep.ANSWER, None
        stream_secs = self._stream_delay_secs(now_secs)
        if stream_secs is not None and stream_secs <= 0:
            self.offered = False
            return SendStep.STREAM, None
        # A message that is due goes before a status, which can wait for the next round.
        status_secs = self._status_delay_secs(now_secs)
        if status_secs is not None and status_secs <= 0:
            self._status_checked_secs = now_secs
            self.status_changed = False
            return SendStep.STATUS, None
        delays_secs = [each for each in (stream_secs, status_secs) if each is not None]
        return None, min(delays_secs, default=None)

    def _stream_delay_secs(self, now_secs: float) -> float | None:
        """Returns the seconds until a message may be sent; None: nothing waits, or no page shows it."""
        if self.paused or not (self.pacer.wanted or self.num_waiters):
            return None
        delay_secs = self.stream_delay_secs(now_secs)
        return None if delay_secs is None else max(delay_secs, self.pacer.delay_secs(now_secs))

    def _status_delay_secs(self, now_secs: float) -> float | None:
        """Returns the seconds until the status must be checked; None: until something changes.

        A change is sent at once, at most twice a second. While the view is on a screen, a check is due
        even without a noted change: nothing else finds silence and drops.
        """
        if self.status_due():
            return 0.0
        if self.status_changed:
            return self._status_sent_secs + STATUS_INTERVAL_SECS - now_secs
        if self.pacer.visible:
            return self._status_checked_secs + STATUS_INTERVAL_SECS - now_secs
        return None


class StreamWidget(PageWidget):
    """A widget with a sender thread of its own, which sends `_next_message` when its pages keep up."""

    def __init__(self, outbox: Outbox, *, thread_name: str) -> None:
        self._outbox = outbox
        self._status_secs = -math.inf
        self._sender = threading.Thread(
            target=_send_until_closed,
            args=(weakref.ref(self), outbox),
            name=thread_name,
            daemon=True,
        )
        super().__init__(outbox)
        self._sender.start()

    # ----- for a subclass to implement, beside the hooks of `PageWidget`. All on the sender's thread.

    def _next_message(self) -> tuple[dict[str, Any], list[Any]] | None:
        """Returns the next message of the stream and its buffers; None if there is none after all.

        It gets `v` and the next `seq`. Encode here, not when the data comes: until a message may be
        sent, newer data can replace it.
        """
        raise NotImplementedError

    def _answer(self) -> None:
        """Sends what a page has asked for by `Outbox.ask_answer`."""

    def _failed(self, step: SendStep, error: Exception) -> None:
        """Handles an error of the methods above. By default, the next cell prints it."""
        self._problems.note(f"{self!r} failed: {type(error).__name__}: {error}")

    # -----

    def _wake(self) -> None:
        self._outbox.mark_status_changed()

    def _end(self) -> None:
        # It never ran where the system could not start another thread.
        if self._sender.is_alive() and self._sender is not threading.current_thread():
            self._sender.join(_JOIN_SECS)

    def _send_next(self) -> None:
        """Sends the next message of the stream, with its number."""
        following = self._next_message()
        if following is not None:
            content, buffers = following
            numbered = {"v": PROTOCOL_VERSION, "seq": self._outbox.number(), **content}
            self.send(numbered, buffers=buffers)

    def _perform(self, step: SendStep) -> None:
        try:
            if step is SendStep.GREETING:
                self._outbox.take_greeting()
                self._greet()
                self._send_status(self._outbox.clock(), greeting=True)
            elif step is SendStep.ANSWER:
                self._answer()
            elif step is SendStep.STREAM:
                self._send_next()
            else:
                self.settle()
                self._send_status(self._outbox.clock(), greeting=False)
        except Exception as error:  # this thread must not print
            self._failed(step, error)

    def _send_status(self, now_secs: float, *, greeting: bool, again: bool = False) -> None:
        """Sends the status if it changed, or if a page might take the kernel for lost."""
        # Rarer the longer no page has answered: a server keeps all messages for a page that is gone.
        heartbeat_secs = max(HEARTBEAT_SECS, self._outbox.silent_secs / 30)
        again = again or now_secs - self._status_secs >= heartbeat_secs
        super()._send_status(now_secs, greeting=greeting, again=again)

    def _note_status_sent(self, now_secs: float) -> None:
        self._status_secs = now_secs
        self._outbox.status_sent()


def _send_until_closed(widget_ref: weakref.ref[StreamWidget], outbox: Outbox) -> None:
    """Runs the sender thread. Between two steps it holds no reference to the widget, which may be collected."""
    while (step := outbox.next_step()) is not None:
        widget = widget_ref()
        if widget is None:
            return
        widget._perform(step)
        del widget, step


@atexit.register
def _end_senders() -> None:
    """Ends the sender threads before the interpreter shuts down the comms that they use."""
    for widget in REGISTRY.living():
        if isinstance(widget, StreamWidget):
            widget._outbox.close()
