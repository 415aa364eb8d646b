"""Which pages have a widget, and which of them show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .guarded import count_in

MAX_CLIENTS = 64
"""Pages that a widget keeps apart. A page that is loaded again is another client."""
FORGET_CLIENT_SECS = 30.0


@dataclass(slots=True)
class Client:
    """One page that has the widget."""

    heard_secs: float
    newest_number: int = 0
    num_visible: int | None = None
    """Its views on the screen; None until it has reported them."""
    delayed: bool = False
    """Whether its messages wait while a cell runs."""


class Pages:
    """All pages that have one widget, by the names that they chose.

    Pure: the caller passes in the monotonic time.
    """

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._clients

    @property
    def greeted(self) -> bool:
        """Whether any page has sent a message."""
        return bool(self._clients)

    @property
    def on_screen(self) -> bool:
        """Whether a page has reported that it shows the widget."""
        return any(client.num_visible for client in self._clients.values())

    @property
    def delayed(self) -> bool:
        """Whether a page's report would come late, since it waits for the end of the running cell."""
        return any(client.delayed for client in self._clients.values())

    def is_newer(self, name: str, number: int, now_secs: float) -> bool:
        """Returns whether a page's message is newer than all that were received from it, and notes it."""
        client = self._client(name, now_secs)
        if number <= client.newest_number:
            return False
        client.newest_number = number
        return True

    def on_hello(self, name: str, now_secs: float) -> None:
        """Handles a page's ``hello``: the page has a new model."""
        self._client(name, now_secs)
        self._clients = {
            each: client
            for each, client in self._clients.items()
            if now_secs - client.heard_secs < FORGET_CLIENT_SECS
        }
        # A closed page sends no goodbye, so the others count as hidden. Those that are still open
        # answer the greeting, and count again.
        for client in self._clients.values():
            client.num_visible = 0
        self._clients[name].num_visible = 1

    def on_visible(self, name: str, count: int, now_secs: float, *, delayed: bool = False) -> None:
        """Handles a page's report of how many of its views are on the screen."""
        client = self._client(name, now_secs)
        client.num_visible = count
        client.delayed = delayed

    def note_shown(self, name: str, now_secs: float) -> None:
        """Notes that a page shows the widget, if nothing else is known of it."""
        client = self._client(name, now_secs)
        if client.num_visible is None:
            client.num_visible = 1

    def _client(self, name: str, now_secs: float) -> Client:
        if name not in self._clients and len(self._clients) >= MAX_CLIENTS:
            silent = min(self._clients, key=lambda each: self._clients[each].heard_secs)
            del self._clients[silent]  # pages come and go, and one may use a new name each time
        client = self._clients.setdefault(name, Client(now_secs))
        client.heard_secs = now_secs
        return client


class Link:
    """What a widget's threads share about its pages. It does not know the widget.

    So a thread that waits on it keeps no forgotten widget alive. No lock is held during a call to
    anything else.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Re-entrant: a subclass's state is guarded by the same lock, and its methods call these.
        self.changed = threading.Condition(threading.RLock())
        self.clock = clock
        self.pages = Pages()
        self.greeting_due = False
        self.closed = False
        self._cells_thread = threading.current_thread()  # a cell makes the widget

    @property
    def on_screen(self) -> bool:
        """Whether a page shows the widget, as far as the kernel knows."""
        with self.changed:
            return self.pages.on_screen

    def receive(self, message: Mapping[str, Any]) -> bool | None:
        """Handles a page's message, which was checked for its form.

        Returns whether it was handled here: False if it is the widget's own, None if a newer one came
        before it.
        """
        client, kind, now_secs = message["client"], message["type"], self.clock()
        with self.changed:
            if not self.pages.is_newer(client, count_in(message, "n"), now_secs):
                return None
            if kind == "hello":
                self.on_hello(client, now_secs)
                self.greeting_due = True
            elif kind == "visible":
                count = count_in(message, "count")
                late = self.waits_for_cells()
                self.pages.on_visible(client, count, now_secs, delayed=late)
            elif kind == "ack":
                self.on_ack(client, message, now_secs)
            else:
                return False
            self.changed.notify_all()
        return True

    def waits_for_cells(self) -> bool:
        """Returns whether the message that this thread handles had to wait for the end of a cell.

        A subshell's thread gets messages at any time; the thread that runs cells does so between two of
        them. That is the main thread in ipykernel, and another one in an app of marimo.
        """
        return threading.current_thread() in (threading.main_thread(), self._cells_thread)

    def on_hello(self, client: str, now_secs: float) -> None:
        self.pages.on_hello(client, now_secs)

    def on_ack(self, client: str, message: Mapping[str, Any], now_secs: float) -> None:
        """Handles an answer to messages of a stream."""

    def take_greeting(self) -> bool:
        """Returns whether a page waits for a greeting, and clears the request."""
        with self.changed:
            due, self.greeting_due = self.greeting_due, False
            return due

    def close(self) -> bool:
        """Ends the calls that wait. Any thread; returns False from the second call on."""
        with self.changed:
            was_open, self.closed = not self.closed, True
            self.changed.notify_all()
            return was_open
