"""What a plot knows: a `TopicSeries` for each topic path, and what was sent of it. One lock, any thread.

::

    subscriber's thread ─► Feed.take ─► TopicSeries ─► Feed.news ─► sender's thread
    pause ────────────────► Feed.freeze: a copy, from which everything is shown until `thaw`
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dora_nb.data.arrow import Event
from dora_nb.data.series.reduction import Columns
from dora_nb.data.series.topic_series import SeriesInfo, TopicSeries
from dora_nb.errors import MessageError
from dora_nb.graph.topic_paths import TopicPath

_MAX_NUMBERS = 4096


def make_clock() -> Callable[[], float]:
    """Returns a clock in seconds since 1970 that is never set back, and goes on while a laptop sleeps."""
    clock_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    offset_secs = time.time() - time.clock_gettime(clock_id)
    return lambda: time.clock_gettime(clock_id) + offset_secs


@dataclass(eq=False)
class PlottedTopic:
    """One topic path of a plot. The feed's lock guards it."""

    text: str
    path: TopicPath
    series: TopicSeries
    problem: str | None = None
    """What was wrong with the newest message."""
    received_secs: float | None = None
    """When the newest message came."""
    sent_generation: int | None = None
    """Of the series that the pages have; None if they must be sent everything."""
    sent_column: int | None = None
    """The newest column that the pages have. It is sent again, as it may have got more."""
    sent_received: int = -1
    """How many messages the pages have seen."""
    sent_info: list[SeriesInfo] | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What a message to the pages says of one topic."""

    place: int
    columns: Columns
    is_fresh: bool
    """Whether the pages forget what they have."""
    info: list[SeriesInfo] | None
    """The lines, if they have changed."""


@dataclass(frozen=True, slots=True)
class _Frozen:
    end_secs: float
    series: list[TopicSeries]


@dataclass(frozen=True, slots=True)
class TopicState:
    """What has come of a topic path."""

    path: TopicPath
    received: int
    unreadable: int
    silent_secs: float | None
    """Since the newest message; None before the first."""
    rate_hz: float
    problem: str | None
    missing: str | None


@dataclass(eq=False)
class Feed:
    """All topic paths of one plot. `changed` is called after each message, without the lock."""

    seconds: float
    changed: Callable[[], None]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.topics: list[PlottedTopic] = []
        self._lock = threading.Lock()
        self._frozen: _Frozen | None = None
        self._numbers: dict[tuple[int, str], int] = {}

    def add(self, text: str, path: TopicPath) -> None:
        """Adds a topic path, in the order in which pages count them."""
        series = TopicSeries(text, path.field, seconds=self.seconds)
        self.topics.append(PlottedTopic(text, path, series))

    def change_path(self, topic: PlottedTopic, path: TopicPath) -> None:
        """Reads a topic by another path from now on, as its node is declared only now."""
        with self._lock:
            if path.field != topic.path.field or path.source != topic.path.source:
                topic.series = TopicSeries(topic.text, path.field, seconds=self.seconds)
                topic.sent_generation = None
                topic.problem = topic.received_secs = None
            topic.path = path

    # ----- messages in

    def take(self, topics: Iterable[PlottedTopic], event: Event) -> None:
        """Takes a message for all paths that lead into its topic. The subscriber's thread."""
        with self._lock:
            now_secs = self.clock()
            for topic in topics:
                topic.received_secs = now_secs
                try:
                    topic.series.add(event, received_secs=now_secs)
                    topic.problem = None
                except MessageError as error:
                    topic.problem = str(error)
        self.changed()

    # ----- pause

    def freeze(self) -> None:
        """Shows this moment from now on, while messages go on to be kept."""
        with self._lock:
            if self._frozen is None:
                copies = [topic.series.frozen() for topic in self.topics]
                self._frozen = _Frozen(self.clock(), copies)

    def thaw(self) -> None:
        with self._lock:
            self._frozen = None

    def end_secs(self, *, moving: bool) -> float:
        """Returns where the window ends: now, at the pause, or at the newest message if nothing moves."""
        with self._lock:
            if self._frozen is not None:
                return self._frozen.end_secs
            newest = [topic.series.newest_secs for topic in self.topics]
            known = [secs for secs in newest if secs is not None]
            return self.clock() if moving or not known else max(known)

    def _shown(self) -> list[TopicSeries]:
        if self._frozen is not None:
            return self._frozen.series
        return [topic.series for topic in self.topics]

    # ----- messages out

    def forget_sent(self) -> None:
        """A new page has nothing: everything is sent again."""
        with self._lock:
            for topic in self.topics:
                topic.sent_generation = None

    def news(self) -> list[News]:
        """Returns what the pages do not have yet, and notes that they have it."""
        news = []
        with self._lock:
            for place, (topic, series) in enumerate(zip(self.topics, self._shown(), strict=True)):
                is_fresh = topic.sent_generation != series.generation
                if not is_fresh and series.received == topic.sent_received:
                    continue
                columns = series.live(None if is_fresh else topic.sent_column)
                info = series.series
                changed = is_fresh or info != topic.sent_info
                news.append(News(place, columns, is_fresh, info if changed else None))
                topic.sent_info = info
                topic.sent_received = series.received
                topic.sent_generation = series.generation
                if len(columns.numbers):
                    topic.sent_column = int(columns.numbers[-1])
                elif is_fresh:
                    topic.sent_column = None
        return news

    def part(self, begin_secs: float, end_secs: float, columns: int) -> list[Columns]:
        """Returns a part of what is shown, in columns of its own."""
        with self._lock:
            return [series.reduced(begin_secs, end_secs, columns) for series in self._shown()]

    # ----- for the status, the still and the table

    def states(self) -> list[TopicState]:
        with self._lock:
            now_secs = self.clock()
            return [
                TopicState(
                    topic.path,
                    topic.series.received,
                    topic.series.unreadable,
                    None if topic.received_secs is None else now_secs - topic.received_secs,
                    topic.series.rate_hz(now_secs),
                    topic.problem,
                    topic.series.missing,
                )
                for topic in self.topics
            ]

    @property
    def received(self) -> list[int]:
        """Messages that came of each topic, or had come at the pause."""
        with self._lock:
            return [series.received for series in self._shown()]

    def infos(self) -> list[list[SeriesInfo]]:
        with self._lock:
            return [series.series for series in self._shown()]

    def number_of(self, place: int, label: str) -> int:
        """Returns the number of a line, from 0, which decides its colour: the same on all pages and in the still."""
        with self._lock:
            if len(self._numbers) > _MAX_NUMBERS:
                self._numbers.clear()  # a sender may use new names all the time
            return self._numbers.setdefault((place, label), len(self._numbers))

    def tables(self, begin_secs: float, end_secs: float) -> Sequence[Any]:
        """Returns an Arrow table for each topic."""
        with self._lock:
            return [series.table(begin_secs, end_secs) for series in self._shown()]
