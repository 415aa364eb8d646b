"""When the next picture may go to the browser. Pure: the caller hands in every time, monotonic.

The browser answers with cumulative acknowledgements, a few a second: each message from it costs the
front end a round of busy and idle, which is dearer than drawing a picture. Three rules keep the
picture fresh without depending on those answers:

* At most `WINDOW` pictures are on their way unanswered. What is not sent is not encoded: the newest
  frame waits in its one place until there is room.
* When the browser says that it threw pictures away, fewer are sent; then a little more each time.
* When answers stop (they may be stuck behind a running cell), pictures go on blindly, slower. The
  longer the silence, the fewer: somebody who closed the laptop leaves a server that keeps every
  message, so what is sent in all grows with the logarithm of the silence and not with its length.

A view that is on nobody's screen gets no pictures. The exception are front ends without subshells,
whose words wait for the running cell: scrolled back to, the view would stay dead until its end.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 16
"""Pictures under way: half a second at 30 fps, twice what answers every 250 ms need."""
ANSWER_SILENCE_SECS = 0.5
"""Answers may be this late before pictures go on without them."""
BLIND_FPS = 10.0
BLIND_AT_FULL_PACE_SECS = 60.0
PEEK_FPS = 1.0
"""For a page that does not see the view but could not say so in time if it did."""
SLOWEST_FPS = 5.0
"""A slow browser gets at least this many; its own latest-wins rule keeps it from falling behind."""
FORGET_CLIENT_SECS = 30.0
_TOO_MANY_DROPPED = 0.15
_PROBE_UPWARDS = 1.15


@dataclass(slots=True)
class _Client:
    """One page that shows the view. Its counts are cumulative, as it reported them."""

    heard_secs: float
    newest_message: int = 0
    acked_secs: float | None = None
    visible: int = 1
    speaks_late: bool = False
    """What it says waits while a cell runs."""
    drawn: int = 0
    dropped: int = 0
    broken: int = 0


class Pacer:
    """The state of one view's conversation with all pages that show it."""

    def __init__(self, max_fps: float) -> None:
        self.max_fps = max_fps
        self.rate_fps = max_fps
        self.seq = 0
        """The number of the last picture sent."""
        self.drawn = 0
        self.dropped = 0
        self.broken = 0
        self._acked_seq = 0
        self._sent_secs = 0.0
        self._due_secs = 0.0
        self._unanswered_since_secs: float | None = None
        self._clients: dict[str, _Client] = {}

    @property
    def greeted(self) -> bool:
        """Whether any page has ever spoken."""
        return bool(self._clients)

    @property
    def visible(self) -> bool:
        """Whether the view is on somebody's screen; assumed until told (the word may be stuck)."""
        return not self._clients or any(client.visible for client in self._clients.values())

    @property
    def wanted(self) -> bool:
        """Whether pictures may go at all: somebody sees the view, or might without having said so."""
        return self.visible or any(client.speaks_late for client in self._clients.values())

    def silence_secs(self, now_secs: float) -> float:
        """How long pages have left pictures without an answer."""
        since_secs = self._unanswered_since_secs
        return 0.0 if since_secs is None else now_secs - since_secs

    def is_blind(self) -> bool:
        """Whether the next picture goes without an answer to the ones before."""
        return self.seq - self._acked_seq >= WINDOW

    def delay_secs(self, now_secs: float) -> float:
        """How long the next picture has to wait; 0 when it may go now."""
        due_secs = self._due_secs
        if not self.visible:
            due_secs = max(due_secs, self._sent_secs + 1 / PEEK_FPS)
        if self.is_blind() and self._unanswered_since_secs is not None:
            silent_since = self._unanswered_since_secs
            due_secs = max(
                due_secs,
                silent_since + ANSWER_SILENCE_SECS,
                self._sent_secs + blind_interval_secs(now_secs - silent_since),
            )
        return max(0.0, due_secs - now_secs)

    def sent(self, now_secs: float) -> int:
        """Notes that a picture goes now; returns its number."""
        self.seq += 1
        interval_secs = 1 / self.rate_fps
        # A steady pace: a picture that was a little late does not delay those after it.
        self._due_secs = max(self._due_secs + interval_secs, now_secs + interval_secs / 2)
        self._sent_secs = now_secs
        if self._unanswered_since_secs is None:
            self._unanswered_since_secs = now_secs
        return self.seq

    def is_news(self, client_name: str, number: int, now_secs: float) -> bool:
        """Whether a page's message is not older than one that was heard from it already."""
        client = self._client(client_name, now_secs)
        late = number < client.newest_message
        client.newest_message = max(client.newest_message, number)
        return not late

    def hear_hello(self, client_name: str, now_secs: float) -> None:
        """A page has made its model: whatever was under way will not be answered by it."""
        self._client(client_name, now_secs)
        self._clients = {
            name: client
            for name, client in self._clients.items()
            if now_secs - client.heard_secs < FORGET_CLIENT_SECS
        }
        self._acked_seq = self.seq
        self._unanswered_since_secs = None

    def hear_visible(
        self, client_name: str, count: int, now_secs: float, *, speaks_late: bool = False
    ) -> None:
        """A page says how many of its views are on screen."""
        client = self._client(client_name, now_secs)
        client.visible = count
        client.speaks_late = speaks_late

    def hear_ack(
        self,
        client_name: str,
        *,
        seq: int,
        drawn: int,
        dropped: int,
        broken: int,
        now_secs: float,
    ) -> None:
        """A page says which picture it has come to, and its counts since it was loaded."""
        client = self._client(client_name, now_secs)
        elapsed_secs = None if client.acked_secs is None else now_secs - client.acked_secs
        client.acked_secs = now_secs
        new_drawn, new_dropped = drawn - client.drawn, dropped - client.dropped
        self.drawn += max(0, new_drawn)
        self.dropped += max(0, new_dropped)
        self.broken += max(0, broken - client.broken)
        client.drawn, client.dropped, client.broken = drawn, dropped, broken
        self._acked_seq = max(self._acked_seq, min(seq, self.seq))
        self._unanswered_since_secs = now_secs if self._acked_seq < self.seq else None
        self._adapt_rate(new_drawn, new_dropped, elapsed_secs)

    def _client(self, name: str, now_secs: float) -> _Client:
        client = self._clients.setdefault(name, _Client(now_secs))
        client.heard_secs = now_secs
        return client

    def _adapt_rate(self, drawn: int, dropped: int, elapsed_secs: float | None) -> None:
        """Answers that were held back and come all at once say nothing about speed."""
        if elapsed_secs is None or not 0.05 < elapsed_secs < 2 or drawn < 0 or dropped < 0:
            return
        if dropped > _TOO_MANY_DROPPED * (drawn + dropped):
            slowest_fps = min(SLOWEST_FPS, self.max_fps)
            self.rate_fps = max(slowest_fps, min(self.rate_fps, 1.05 * drawn / elapsed_secs))
        else:
            self.rate_fps = min(self.max_fps, self.rate_fps * _PROBE_UPWARDS)


def blind_interval_secs(silence_secs: float) -> float:
    """The time between two pictures after that long without an answer."""
    return max(1.0, silence_secs / BLIND_AT_FULL_PACE_SECS) / BLIND_FPS
