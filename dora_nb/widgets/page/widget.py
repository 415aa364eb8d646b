"""A widget and its pages: the protocol that all widgets share, and what they have in common.

A *page* is a browser's page with a model of the widget. It may have several *views*, one for each
output that shows the model. The other side is page.js::

    any change ─► wake ──────────────┐
    page: hello, visible, ack ───────┼─► one thread that sends ─► comm ─► page
    page: the widget's own messages ─┴─► receive, at once, on the thread that the page chose

Widgets whose pages show a state derive from `LiveWidget` in `dora_nb.widgets.page.live`, those that show a
stream from `StreamWidget` in `dora_nb.widgets.page.stream`. A page gets messages only while it shows the widget, as far as the kernel knows.
What a cell saves is a still. The threads end with the widget. Nothing here prints.

Messages, version 1. All are custom comm messages, with buffers for binary data; each side MUST ignore
kinds and keys that it does not know.

kernel to page
    ``status``: `v`, and what the widget shows; at most two a second, only when it has changed. A
        stream sends one at least every 2 s while it is visible and pages answer, so that a page can
        tell silence from a lost kernel. With `greeting`, every page MUST answer ``visible``.
    Others are the widget's own. Those of a stream have `v` and `seq`, which counts up from 1; a page
        MUST ignore one whose `seq` is not above the last that it took.
page to kernel
    Each message has `client`, a name of at most 64 letters that the page chose when it created its
    model, and `n`, the number of the message, from 1. Messages may overtake each other on different
    threads; the kernel MUST ignore one with a lower `n` than an earlier one. It refuses and counts
    those that lack these keys or are too large.
    ``hello``: `v`; the model exists; MUST be the first. The kernel answers with what a new page needs, and
        then a ``status`` that is a greeting. Until then the page repeats it at growing intervals:
        without a subshell, the first one waits until the running cell is done.
    ``visible``: `count` of views on the screen. At 0 everywhere the kernel MUST NOT send, except for
        one message of a stream a second if the page's next message would have to wait for the end of
        a running cell.
    ``ack``: of a stream: the last `seq` taken, and `drawn`, `dropped`, `broken` since the page was
        loaded. Cumulative; a page MUST NOT send more than one in 250 ms. The kernel MUST go on without
        them, slower.
    Others are the widget's own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from .cells import CellOutput, CellRun, Registry, current_cell_run, runs_unattended
from .guarded import GuardedWidget
from .pages import Link
from .problems import PROBLEMS, Problems
from .subshell import let_page_choose_thread

PROTOCOL_VERSION = 1

REGISTRY = Registry()
"""All living widgets with pages."""


class PageWidget(GuardedWidget):
    """What all widgets with pages have in common. A subclass calls ``super().__init__`` LAST.

    From then on the pages and the thread that sends call it. Traits that a page reads (`set_trait`)
    and its own attributes must be there before. What a subclass implements has a leading underscore,
    since it is not for users, to whom these objects are shown.
    """

    _problems: ClassVar[Problems] = PROBLEMS
    _opened = False

    def __init__(self, link: Link | None = None) -> None:
        self._link = link if link is not None else Link()
        self._cell_run: CellRun | None = current_cell_run()
        self._unattended = runs_unattended()
        """Whether a program runs the notebook, and no page will show the widget."""
        self._last_content: dict[str, Any] = {}
        self._output = CellOutput()
        self._still_lock = threading.RLock()
        self._saved_still: object = None
        super().__init__()
        self._opened = True
        let_page_choose_thread(self.comm)
        REGISTRY.add(self, self._cell_run)

    # ----- for a subclass to implement. The first runs on the thread that sends.

    def _content(self, now_secs: float) -> dict[str, Any]:
        """Returns the status that a page shows now, as JSON."""
        raise NotImplementedError

    def _greet(self) -> None:
        """Sends what a new page needs before its first status. The thread that sends."""

    def _receive(self, kind: str, message: Mapping[str, Any], buffers: list[Any]) -> None:
        """Handles a page's own message: newer than the earlier ones of its client, and not too large.

        It runs at once, on a subshell's thread while a cell runs, or else on the kernel's main thread:
        take a lock, note, return; never call the user's code. Check what it holds by `count_in`,
        `number_in` and `text_in`.
        """

    def _end(self) -> None:
        """Ends what the widget has begun: subscriptions, threads. Called once; any thread."""

    def _forget(self) -> None:
        """Frees memory that the last still has needed. Called once, after `end`."""

    def _still(self) -> dict[str, Any]:
        """Returns what stands for the widget without a kernel, by MIME type; always with text/plain."""
        return {"text/plain": repr(self)}

    def _still_key(self, *, living: bool) -> object:
        """Returns what the still depends on; None to leave the output as it is.

        At the end, when the widget is no longer `living`, its output gets the still alone.
        """
        del living
        return None

    def _still_due(self) -> bool:
        """Returns whether the saved output must be replaced now; after every cell, and at each status."""
        return False

    def _await_first_still(self) -> None:
        """Waits a moment for something to show, after a cell that no page shows."""

    # ----- for a subclass and its users

    @property
    def _on_screen(self) -> bool:
        """Whether a page shows the widget, as far as the kernel knows."""
        return self._link.on_screen

    @property
    def _closed(self) -> bool:
        return self._link.closed

    def _wake(self) -> None:
        """Notes that the status may have changed. Any thread; returns at once."""
        raise NotImplementedError

    def _send_status(self, now_secs: float, *, greeting: bool, again: bool = False) -> None:
        """Sends the status if it changed, or if a page waits for it. The thread that sends."""
        content = self._content(now_secs)
        if greeting or again or content != self._last_content:
            self._last_content = content
            self._note_status_sent(now_secs)
            message = {"type": "status", "v": PROTOCOL_VERSION, **content}
            self.send({**message, "greeting": True} if greeting else message)

    def _note_status_sent(self, now_secs: float) -> None:
        """Called before a status is sent."""

    def settle(self) -> None:
        """Saves a still into the cell's output if one is due, or if no page shows the widget.

        IPython calls it after every cell.

        Example::

            >>> view.settle()
        """
        if self._closed:
            return
        # Nothing else would put it into a notebook that no page shows.
        in_any_case = self._unattended and threading.current_thread() is threading.main_thread()
        if in_any_case:
            self._await_first_still()
        with self._still_lock:  # the cell's thread and the sender may both come: the second waits
            if self._still_due() or in_any_case:
                self._publish_still()

    def _publish_still(self, *, living: bool = True) -> None:
        """Replaces the cell's output, unless it would look the same."""
        with self._still_lock:
            key = self._still_key(living=living)
            if not self._output.shown or key is None or (key, living) == self._saved_still:
                return
            self._saved_still = (key, living)
            self._output.replace(*self._bundle(living=living))

    def close(self) -> None:
        """Ends the widget and removes it from its pages. Any thread; may be called twice.

        Example::

            >>> view.close()
        """
        # `__del__` calls this too: after an error in `__init__`, or while the interpreter shuts down,
        # when threads and comms can no longer be used.
        if not self._opened or sys.is_finalizing() or not self._link.close():
            return
        self._end()
        REGISTRY.remove(self)
        self._publish_still(living=False)
        self._forget()
        super().close()

    # ----- outputs of cells

    def _ipython_display_(self, **_options: object) -> None:
        """IPython's hook: displays with a display id of our own, so that the output can be replaced later."""
        self._output.show(*self._bundle(living=not self._closed))

    def _repr_mimebundle_(self, **_options: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the bundle for callers that display it themselves: another widget, a test."""
        return self._bundle(living=not self._closed)

    def _bundle(self, *, living: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        of_widget = super()._repr_mimebundle_() if living else None
        data, metadata = ({}, {}) if of_widget is None else of_widget
        return {**data, **self._still()}, metadata  # anywidget cuts text/plain

    # ----- pages

    def _handle_page_message(self, content: Any, buffers: list[Any]) -> None:
        """Handles a message: on the kernel's main thread, or on a subshell's while a cell runs."""
        handled = self._link.receive(content)
        if handled:
            if content["type"] != "ack":
                self._wake()
        elif handled is False:
            try:
                self._receive(content["type"], content, buffers)
            except Exception as error:  # ipywidgets would print a traceback into the cell
                self._problems.note(f"{self!r} could not handle a message of its page: {error!r}")
