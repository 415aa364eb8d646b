"""Widgets that show the state of a dataflow, kept up to date by one thread.

::

    any change ─► Dataflow.on_change ┐
    page: hello, visible, seen ──────┼─► Refresher (one thread) ─► LiveWidget.refresh ─► comm ─► page
    every 0.5 s, while it runs ──────┘

A page gets a message at most twice a second, only while it shows the widget, and only if the message
differs from the one before. What a cell saves of the widget never changes. The thread ends with the
last widget. Nothing here prints.

Messages, version 1. All are custom comm messages; each side MUST ignore what it does not know.

kernel to page
    ``status``: `v` and what the widget shows. With `greeting`, every page MUST answer ``visible``.
page to kernel
    Each message has `client`, a name that the page chose when it created its model, and `n`, the number
    of the message. Messages may overtake each other on different threads; the kernel MUST ignore one
    with a lower `n` than an earlier one.
    ``hello``: the model exists; MUST be the first. The kernel answers with a ``status`` that is a
        greeting. Until then the page repeats it at growing intervals: without a subshell, the first one
        waits until the running cell is done.
    ``visible``: `count` of views on the screen.
    ``seen``: `failure`, the number of the failure that a view on the screen has shown.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Protocol, overload

from dora_nb.graph.graph import Graph
from dora_nb.status import NodeStatus

from ._guarded import MAX_CLIENTS, GuardedWidget, count_in
from ._subshell import let_page_choose_thread

PROTOCOL_VERSION = 1
REFRESH_SECS = 0.5
RATE_WINDOW_SECS = 2.5
_JOIN_SECS = 2.0


class LiveDataflow(Protocol):
    """The part of a `Dataflow` that these widgets use."""

    @property
    def graph(self) -> Graph: ...

    @property
    def running(self) -> bool: ...

    @overload
    def status(self) -> list[NodeStatus]: ...

    @overload
    def status(self, name: str) -> NodeStatus: ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


def asset(name: str) -> str:
    """Returns the text of a front-end file beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


class RateMeter:
    """Events per second over the last `RATE_WINDOW_SECS`, from a count that only grows."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def rate(self, count: int | None, now_secs: float) -> float | None:
        """Adds a sample and returns the rate; None until two samples are far enough apart."""
        if count is None:
            return None
        if self._samples and count < self._samples[-1][1]:  # a new run counts from 0
            self._samples.clear()
        self._samples.append((now_secs, count))
        while self._samples[0][0] < now_secs - RATE_WINDOW_SECS:
            self._samples.popleft()
        first_secs, first = self._samples[0]
        if now_secs - first_secs < REFRESH_SECS * 0.9:
            return None
        rate = (count - first) / (now_secs - first_secs)
        return round(rate) if rate >= 100 else round(rate, 1)


class LiveWidget(GuardedWidget):
    """A widget whose page shows `content`, and is updated whenever it has changed."""

    def __init__(self, dataflow: LiveDataflow, *, refresher: Refresher | None = None) -> None:
        self.dataflow = dataflow
        self._state_lock = threading.Lock()
        self._pages: dict[str, int] = {}
        self._newest_numbers: dict[str, int] = {}
        """By page, the number of its newest message."""
        self._greeting_due = False
        self._seen_failures: set[int] = set()
        self._last_content: dict[str, Any] | None = None
        self._refresher = refresher or REFRESHER
        super().__init__()
        let_page_choose_thread(self.comm)
        self.on_msg(LiveWidget._on_message)
        self._unwatch = dataflow.on_change(self._refresher.wake)
        self._refresher.add(self)

    def content(self, now_secs: float) -> dict[str, Any]:
        """Returns what a page shows now, as JSON. Called on the refresher's thread."""
        raise NotImplementedError

    def confirm_seen(self, failures: set[int]) -> None:
        """Called on the refresher's thread when pages have shown these failures."""

    @property
    def on_screen(self) -> bool:
        """Whether a page shows the widget, as far as the kernel knows."""
        with self._state_lock:
            return any(self._pages.values())

    def refresh(self, now_secs: float) -> None:
        """Sends the content if it has changed and a page shows it. The refresher's thread only."""
        with self._state_lock:
            greeting, self._greeting_due = self._greeting_due, False
            seen, self._seen_failures = self._seen_failures, set()
            on_screen = any(self._pages.values())
        if seen:
            self.confirm_seen(seen)
        if not (on_screen or greeting):
            return
        content = self.content(now_secs)
        if greeting or content != self._last_content:
            self._last_content = content
            message = {"type": "status", "v": PROTOCOL_VERSION, **content}
            self.send({**message, "greeting": True} if greeting else message)

    def close(self) -> None:
        """Ends the widget and removes it from its pages. May be called twice."""
        self._unwatch()
        self._refresher.discard(self)
        super().close()

    def settle(self) -> None:
        """Called after every cell. Does nothing: what a cell saves of the widget never changes."""

    def _on_message(self, content: Mapping[str, Any], _buffers: object) -> None:
        """Handles a page's message: on the kernel's main thread, or on a subshell while a cell runs."""
        client, kind, number = content["client"], content.get("type"), count_in(content, "n")
        with self._state_lock:
            if number <= self._newest_numbers.get(client, 0):
                return
            self._newest_numbers.pop(client, None)
            self._newest_numbers[client] = number  # the last: the oldest is forgotten first
            if len(self._newest_numbers) > MAX_CLIENTS:
                oldest = next(iter(self._newest_numbers))
                del self._newest_numbers[oldest]
                self._pages.pop(oldest, None)
            if kind == "hello":
                # A closed page sends no goodbye, so all others are forgotten. Those that are still
                # open answer the greeting, and count again.
                self._pages = {client: 1}
                self._greeting_due = True
            elif kind == "visible":
                self._pages[client] = count_in(content, "count")
            elif kind == "seen":
                self._seen_failures.add(count_in(content, "failure"))
            else:
                return
        self._refresher.wake()


class Refresher:
    """Refreshes all living widgets from one thread, which runs as long as there are any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
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
        self._problems: list[str] = []

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

    def take_problems(self) -> list[str]:
        """Returns what went wrong with widgets since the last call, for the next cell to print."""
        with self._condition:
            problems, self._problems = self._problems, []
        return problems

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
            widget.refresh(self._clock())
        except Exception as error:  # kept for `take_problems`, as this thread must not print
            self.discard(widget)
            with self._condition:
                self._problems.append(f"{widget!r} is no longer updated: {error!r}")

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
    return any(widget.on_screen and widget.dataflow.running for widget in widgets)


REFRESHER = Refresher()
atexit.register(REFRESHER.stop)
