"""Decides when the next message of a stream may go to the browser. Pure: the caller passes in the monotonic time.

The browser answers with cumulative acknowledgements, a few a second: each message from it costs the
front end a round of busy and idle, which takes longer than drawing a picture. Three rules keep the
picture fresh without depending on those answers:

* At most `WINDOW` pictures are under way without an answer. A frame is encoded only when it is sent:
  until there is room, the newest one waits.
* When the browser reports that it dropped pictures, the rate falls; then it grows a little each time.
* When answers stop (they may be stuck behind a running cell), pictures are sent blindly, at a lower
  rate that falls with the length of the silence. A Jupyter server keeps every message for a laptop
  that was closed, so the number of pictures grows with the logarithm of the silence only.

A view that is on no screen gets no pictures. The exception is a front end without subshells: its
messages wait for the running cell, so a view that is scrolled back to would stay still until the end
of the cell. It gets `PEEK_FPS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .pages import Pages

WINDOW = 16
"""Pictures under way: half a second at 30 fps, twice what an answer every 250 ms needs."""
ANSWER_SILENCE_SECS = 0.5
"""Answers may be this late before pictures go on without them."""
BLIND_FPS = 10.0
BLIND_AT_FULL_PACE_SECS = 60.0
PEEK_FPS = 1.0
"""For a page that does not show the view, and whose report that it does would come late."""
SLOWEST_FPS = 5.0
"""A slow browser gets at least this rate; it draws the newest picture only, so it cannot fall behind."""
_TOO_MANY_DROPPED = 0.15
_PROBE_UPWARDS = 1.15


@dataclass(slots=True)
class _Acks:
    """The counts of one page, cumulative, as the page reported them."""

    acked_secs: float | None = None
    drawn: int = 0
    dropped: int = 0
    broken: int = 0


class Pacer:
    """The pace of one view, from what all pages that show it have reported."""

    def __init__(self, max_fps: float, pages: Pages | None = None) -> None:
        self.pages = pages if pages is not None else Pages()
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
        self._acks: dict[str, _Acks] = {}

    @property
    def greeted(self) -> bool:
        """Whether any page has sent a message."""
        return self.pages.greeted

    @property
    def visible(self) -> bool:
        """Whether the view is on a screen; assumed until a page reports it (the report may be stuck)."""
        return self.pages.on_screen or not self.pages.greeted

    @property
    def wanted(self) -> bool:
        """Whether to send pictures at all: the view is on a screen, or may be, as reports come late."""
        return self.visible or self.pages.delayed

    def silence_secs(self, now_secs: float) -> float:
        """Returns for how long pictures have had no answer."""
        since_secs = self._unanswered_since_secs
        return 0.0 if since_secs is None else now_secs - since_secs

    def is_blind(self) -> bool:
        """Returns whether the next picture would go out although too many have no answer yet."""
        return self.seq - self._acked_seq >= WINDOW

    def delay_secs(self, now_secs: float) -> float:
        """Returns how long the next picture must wait; 0 if it may go now."""
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
        """Notes that a picture is sent now; returns its number."""
        self.seq += 1
        interval_secs = 1 / self.rate_fps
        # Keeps a steady pace: a picture that was a little late does not delay those after it.
        self._due_secs = max(self._due_secs + interval_secs, now_secs + interval_secs / 2)
        self._sent_secs = now_secs
        if self._unanswered_since_secs is None:
            self._unanswered_since_secs = now_secs
        return self.seq

    def on_hello(self, client_name: str, now_secs: float) -> None:
        """Handles a page's ``hello``: the page has a new model, which will not answer older pictures."""
        self.pages.on_hello(client_name, now_secs)
        self._acks = {name: acks for name, acks in self._acks.items() if name in self.pages}
        # Else the window would stay full of pictures that the old model took along.
        self._acked_seq = self.seq
        self._unanswered_since_secs = None

    def on_ack(
        self,
        client_name: str,
        *,
        seq: int,
        drawn: int,
        dropped: int,
        broken: int,
        now_secs: float,
    ) -> None:
        """Handles a page's acknowledgement: its last picture, and its counts since it was loaded."""
        self.pages.note_shown(client_name, now_secs)
        client = self._acks_of(client_name)
        elapsed_secs = None if client.acked_secs is None else now_secs - client.acked_secs
        client.acked_secs = now_secs
        # A page may send anything: a lower count than before must not lower the sums.
        new_drawn, new_dropped = drawn - client.drawn, dropped - client.dropped
        self.drawn += max(0, new_drawn)
        self.dropped += max(0, new_dropped)
        self.broken += max(0, broken - client.broken)
        client.drawn, client.dropped, client.broken = drawn, dropped, broken
        # `max`, since several pages answer; `min`, since a page must not open the window for ever.
        self._acked_seq = max(self._acked_seq, min(seq, self.seq))
        self._unanswered_since_secs = now_secs if self._acked_seq < self.seq else None
        self._adapt_rate(new_drawn, new_dropped, elapsed_secs)

    def _acks_of(self, name: str) -> _Acks:
        if name not in self._acks:
            # Those of pages that were forgotten, as a page may use a new name each time.
            self._acks = {each: acks for each, acks in self._acks.items() if each in self.pages}
        return self._acks.setdefault(name, _Acks())

    def _adapt_rate(self, drawn: int, dropped: int, elapsed_secs: float | None) -> None:
        # Answers that were held back and come all at once tell nothing about the browser's speed.
        if elapsed_secs is None or not 0.05 < elapsed_secs < 2 or drawn < 0 or dropped < 0:
            return
        # Down at once to what the browser drew, up again in small steps to find its limit.
        if dropped > _TOO_MANY_DROPPED * (drawn + dropped):
            slowest_fps = min(SLOWEST_FPS, self.max_fps)
            self.rate_fps = max(slowest_fps, min(self.rate_fps, 1.05 * drawn / elapsed_secs))
        else:
            self.rate_fps = min(self.max_fps, self.rate_fps * _PROBE_UPWARDS)


def blind_interval_secs(silence_secs: float) -> float:
    """Returns the time between two pictures after `silence_secs` without an answer."""
    return max(1.0, silence_secs / BLIND_AT_FULL_PACE_SECS) / BLIND_FPS
