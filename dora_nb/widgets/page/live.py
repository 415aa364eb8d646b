"""Widgets that show a state: one thread keeps all of them up to date, at most twice a second.

::

    any change ─► Dataflow.on_change ┐
    page: hello, visible ────────────┼─► Refresher (one thread) ─► LiveWidget.refresh ─► comm ─► page
    every 0.5 s, while it runs ──────┘

The thread ends with the last widget. Nothing here prints.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable

from .dataflow import LiveDataflow
from .problems import PROBLEMS, Problems
from .widget import PageWidget

REFRESH_SECS = 0.5
_JOIN_SECS = 2.0


class LiveWidget(PageWidget):
    """A widget whose page shows `content`, and is updated whenever it has changed."""

    def __init__(self, dataflow: LiveDataflow, *, refresher: Refresher | None = None) -> None:
        self.dataflow = dataflow
        self._refresher = refresher or REFRESHER
        self._unwatch = dataflow.on_change(self._refresher.wake)
        super().__init__()
        self._refresher.add(self)

    # ----- for a subclass to implement, beside the hooks of `PageWidget`

    def _before_content(self, now_secs: float) -> None:
        """Called in every pass, whether or not a page shows the widget. The refresher's thread."""

    def _moves(self) -> bool:
        """Returns whether the content changes as time goes by, without any noted change."""
        return self.dataflow.running

    # -----

    def _wake(self) -> None:
        self._refresher.wake()

    def _refresh(self, now_secs: float) -> None:
        """Sends the content if it has changed and a page shows it. The refresher's thread only."""
        greeting = self._link.take_greeting()
        on_screen = self._on_screen
        self._before_content(now_secs)
        if greeting:
            self._greet()
        if on_screen or greeting:
            self._send_status(now_secs, greeting=greeting)

    def _end(self) -> None:
        self._unwatch()
        self._refresher.discard(self)


class Refresher:
    """Refreshes all living widgets from one thread, which runs as long as there are any."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        problems: Problems = PROBLEMS,
    ) -> None:
        self._clock = clock
        # Re-entrant, since the garbage collector may call `_collected` or `wake` on a thread that
        # holds it.
        # Never held during a call into the dataflow: that call may wait for a lock whose owner is
        # calling `wake`, which would be a deadlock.
        self._condition = threading.Condition(threading.RLock())
        self._widgets: list[weakref.ref[LiveWidget]] = []
        self._changed = False
        self._last_pass_secs = float("-inf")
        self._thread: threading.Thread | None = None
        self._problems = problems

    def add(self, widget: LiveWidget) -> None:
        with self._condition:
            self._widgets.append(weakref.ref(widget, self._collected))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="dora-live-widgets", daemon=True
                )
                self._thread.start()

    def discard(self, widget: LiveWidget) -> None:
        """Stops refreshing the widget; a refresh that has begun still ends."""
        with self._condition:
            self._widgets = [each for each in self._widgets if each() is not widget]
            self._condition.notify_all()

    def wake(self) -> None:
        """Notes that something may have changed. Any thread; returns at once."""
        with self._condition:
            self._changed = True
            self._condition.notify_all()

    def stop(self) -> None:
        """Forgets all widgets and waits up to `_JOIN_SECS` for the thread's end."""
        with self._condition:
            self._widgets.clear()
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECS)

    def _collected(self, reference: weakref.ref[LiveWidget]) -> None:
        with self._condition:
            if reference in self._widgets:
                self._widgets.remove(reference)
            self._condition.notify_all()

    def _run(self) -> None:
        while self._await_turn(ticking=_any_moves(self._living())):
            for widget in self._living():
                self._refresh(widget)

    def _living(self) -> list[LiveWidget]:
        with self._condition:
            return [widget for each in self._widgets if (widget := each()) is not None]

    def _refresh(self, widget: LiveWidget) -> None:
        try:
            widget._refresh(self._clock())
        except Exception as error:  # for the next cell, as this thread must not print
            self.discard(widget)
            self._problems.note(f"{widget!r} is no longer updated: {error!r}")

    def _await_turn(self, *, ticking: bool) -> bool:
        """Waits for the next pass, at least `REFRESH_SECS` after the last; returns False at the end."""
        with self._condition:
            early_secs = self._last_pass_secs + REFRESH_SECS - self._clock()
            # This wait ignores `_changed`, so that a burst of changes costs one pass.
            if early_secs > 0:
                self._condition.wait_for(lambda: not self._widgets, early_secs)
            timeout_secs = 0.0 if ticking else None
            self._condition.wait_for(lambda: self._changed or not self._widgets, timeout_secs)
            if not self._widgets:
                self._thread = None  # under the lock, so that `add` starts another one
                return False
            self._changed = False  # before the pass: a change during it is for the next one
            self._last_pass_secs = self._clock()
            return True


def _any_moves(widgets: list[LiveWidget]) -> bool:
    return any(widget._on_screen and widget._moves() for widget in widgets)


REFRESHER = Refresher()
atexit.register(REFRESHER.stop)
