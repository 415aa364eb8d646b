"""`PlotView`: numbers of topics as lines that scroll, below a cell.

The messages beside those of `dora_nb.widgets.page.widget`, version 1. Times are seconds since 1970 by the
kernel's clock. Columns are those of `dora_nb.data.series.reduction`: a header, and a buffer that `Columns.packed`
has made.

kernel to page
    ``lines``: of the stream. `end` is where the window ends at this moment. `topics` has, for each topic with news
        in the order of the buffers, `i` (its place in the trait `topics`), `fresh` (the page MUST forget the columns
        that it has), the header, and `info` if the lines have changed: a list of `label`, `number` (decides the colour), `step`, `unit` and `ended`.
        A column that the page has already replaces the one it has.
    ``part``: the answer to a question, with its `client` and `id`, and all topics in `topics`. Other pages MUST
        ignore it. A topic whose lines have changed meanwhile has another number of series, and MUST be ignored.
    ``status``: `state`, `reason`, `end` if the window stands still, else null, and `topics`: a list of `rate` in
        messages per second, `dropped` and `unreadable`.
page to kernel
    ``part``: a question for what lies between `begin` and `end` in so many `columns`; `id` counts up. `begin` 0
        ends the zoom. `PlotView.table` returns that part while the plot is paused.
traits
    Both sides set `paused`; the kernel refuses a page's writes to others.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import traitlets

from dora_nb.data.series.reduction import Columns
from dora_nb.data.series.topic_series import SeriesInfo, as_frame, joined_table
from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.graph.topic_paths import parse_topic_path

from ..page.assets import page_code, page_style
from ..page.dataflow import Listener, ViewedDataflow, notebook_dataflow
from ..page.guarded import count_in, number_in
from ..page.stream import Outbox, StreamWidget
from .arguments import check_panes, check_seconds, check_y
from .condition import Condition, condition
from .feed import Feed, PlottedTopic, make_clock
from .still import COLOURS, StillLine, columns_for, still_svg

if TYPE_CHECKING:
    import pandas as pd

MAX_FPS = 30.0
QUEUE_SIZE = 1000
"""Messages that may wait: a second at 1 kHz, for which a busy cell may hold the interpreter."""
FIRST_MESSAGE_SECS = 5.0
"""A cell whose output no page shows waits so long for the first message."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What a page zooms into."""

    client: str
    number: int
    begin_secs: float
    end_secs: float
    columns: int


class PlotView(StreamWidget):
    """Shows numbers of topics as lines that scroll, live.

    Make it in the last line of a cell, before or after the dataflow starts: it lives through stops, starts and
    edits, and ends when its cell runs again or by `close`. Making it does not block.

    Each of `topics` is a topic, or a topic with an index or a field: ``"imu/accel[0]"``, ``"sim/pose.x"``.
    Numbers, lists, structs and booleans (as steps) can be drawn; each element or field is a line, and the
    metadata's ``unit`` is shown with it. NaN, infinity, null and silence are gaps.

    `seconds` is how much is shown. `y` as (lowest, highest) fixes the vertical axis; without it the axis
    follows what is shown. All topics are drawn in one pane; ``panes="each"`` gives each its own, and
    ``panes=[["imu/accel"], ["imu/gyro", "arm/angle"]]`` says which are drawn together. `dataflow` is the
    notebook's own unless given.

    In the view: space pauses; + and - or the wheel (once the plot has the focus) zoom in time, a drag selects
    a part; the arrow keys move in time and zoom the vertical axis; 0 shows all again. The legend hides
    lines. Python code may set and observe `paused` too.

    Raises DeclarationError for an argument of the wrong type or range; GraphError if the node of a topic
    is declared and lacks that output. What goes wrong later, the view shows below the lines.

    Example::

        >>> PlotView("imu/accel", "arm/angle[0]", seconds=10)
    """

    _esm = traitlets.Unicode(page_code(__package__, "canvas.js", "view.js")).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "view.css")).tag(sync=True)
    topics = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    panes: traitlets.List[Any] = traitlets.List(read_only=True).tag(sync=True)
    """The places of the topics in each pane."""
    seconds = traitlets.Float(30.0, read_only=True).tag(sync=True)
    y: traitlets.List[Any] = traitlets.List(None, allow_none=True, read_only=True).tag(sync=True)
    paused = traitlets.Bool(False).tag(sync=True)
    page_may_set = frozenset({"paused"})

    def __init__(
        self,
        *topics: str,
        seconds: float = 30,
        y: tuple[float, float] | None = None,
        panes: str | Sequence[Sequence[str]] | None = None,
        dataflow: ViewedDataflow | None = None,
    ) -> None:
        laid_out = check_panes(topics, panes)
        self._y = check_y(y)
        self._dataflow = dataflow if dataflow is not None else notebook_dataflow()
        self._outbox = Outbox(MAX_FPS)
        self._feed = Feed(check_seconds(seconds), self._outbox.offer, make_clock())
        named = [topic for pane in laid_out for topic in pane]
        for text in named:
            self._feed.add(text, parse_topic_path(text, self._dataflow.graph))
        self._panes = [[named.index(topic) for topic in pane] for pane in laid_out]
        self._listeners: dict[str, Listener] = {}
        self._subscribe_lock = threading.Lock()
        self._question: _Question | None = None
        self._zoom: tuple[float, float] | None = None
        self._was_running = self._dataflow.running
        self._still_wanted = False
        self._first_awaited = False
        self.set_trait("topics", named)
        self.set_trait("panes", self._panes)
        self.set_trait("seconds", self._feed.seconds)
        self.set_trait("y", None if self._y is None else list(self._y))
        self._unwatch = self._dataflow.on_change(self._outbox.mark_status_changed)
        try:
            self._subscribe()
            super().__init__(self._outbox, thread_name=f"dora-plot {named[0]}")
        except BaseException:
            self._unsubscribe()
            raise

    # ----- what a user calls

    def pause(self) -> None:
        """Keeps what is shown at this moment, and saves it in the cell's output. Any thread.

        Messages that come meanwhile are kept too, and shown after `resume`.

        Example::

            >>> plot.pause()
        """
        self.paused = True
        self.settle()

    def resume(self) -> None:
        """Scrolls again. Any thread.

        Example::

            >>> plot.resume()
        """
        self.paused = False

    def table(self) -> pd.DataFrame:
        """Returns every message that is shown as a pandas DataFrame: a row each, a column for each line.

        The index `time` (UTC) is when a message is drawn. The columns are named as in the legend, float64 with
        NaN for gaps, or boolean; ``attrs["units"]`` has their units. It is the window, or while the plot is
        paused the part into which a page has zoomed. Hidden lines are in it. Any thread.

        Raises MessageError if pandas is not installed, and DataflowStateError before the first message.

        Example::

            >>> plot.table().describe()
        """
        if not any(self._feed.received):
            state = self._condition()
            why = f"{state.state}: {state.reason}" if state.reason else state.state
            raise DataflowStateError(f"the plot has nothing to show yet; its state is {why}.")
        tables = self._feed.tables(*self._shown_secs())
        return as_frame(joined_table(tables), needed_by="PlotView.table")

    def close(self) -> None:
        """Ends the plot: it unsubscribes, and its cell keeps a still. Any thread; may be called twice.

        Blocks until the sender thread ends, for at most 2 s.

        Example::

            >>> plot.close()
        """
        super().close()

    def settle(self) -> None:
        """Saves a still into the cell's output if a pause or a stop requires one, or no page shows it.

        IPython calls it after every cell; there is no need to call it.

        Example::

            >>> plot.settle()
        """
        super().settle()

    def __repr__(self) -> str:
        topics = ", ".join(map(repr, self.topics))
        return f"PlotView({topics}, seconds={self.seconds:g})"

    # ----- messages in

    def _subscribe(self) -> None:
        """Subscribes to each topic once, however many paths lead into it."""
        with self._subscribe_lock:
            paths: dict[str, list[PlottedTopic]] = {}
            for topic in self._feed.topics:
                paths.setdefault(str(topic.path.source), []).append(topic)
            for source in [*self._listeners]:
                # Also those with other paths than before.
                self._listeners.pop(source).close()
            # The callbacks hold the feed and not the widget, or a forgotten one could not be collected.
            for source, topics in paths.items():
                self._listeners[source] = self._dataflow.subscribe(
                    source,
                    partial(self._feed.take, topics),
                    queue_size=QUEUE_SIZE,
                    replay_last=True,
                )

    def _read_paths_again(self) -> None:
        """Finds where the field begins, once the node of a topic is declared."""
        changed = False
        for topic in self._feed.topics:
            if not topic.path.is_assumed:
                continue
            try:
                path = parse_topic_path(topic.text, self._dataflow.graph)
            except GraphError:
                continue  # the condition says it
            changed |= path.source != topic.path.source
            self._feed.change_path(topic, path)
        if changed:
            self._subscribe()

    @traitlets.observe("paused")
    def _pause_changed(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            self._feed.freeze()
            self._still_wanted = True
        else:
            self._feed.thaw()
            self._zoom = None
        self._outbox.set_paused(change["new"])
        self._outbox.ask_answer()  # the pages get all up to the pause

    def _receive(self, kind: str, message: Mapping[str, Any], buffers: list[Any]) -> None:
        if kind != "part":
            return
        begin_secs, end_secs = number_in(message, "begin"), number_in(message, "end")
        with self._link.changed:
            if not begin_secs:
                self._zoom = self._question = None
            elif end_secs is not None and 0 < end_secs - begin_secs <= 2 * self.seconds:
                self._zoom = (begin_secs, end_secs)
                self._question = _Question(
                    message["client"],
                    count_in(message, "id"),
                    begin_secs,
                    end_secs,
                    count_in(message, "columns"),
                )
                self._outbox.ask_answer()

    # ----- the sender's thread

    def _next_message(self) -> tuple[dict[str, Any], list[Any]] | None:
        news = self._feed.news()
        if not news:
            return None
        packed = [each.columns.packed() for each in news]
        topics = []
        for each, (header, _) in zip(news, packed, strict=True):
            topic: dict[str, Any] = {"i": each.place, "fresh": each.is_fresh, **header}
            if each.info is not None:
                topic["info"] = [self._line_message(each.place, info) for info in each.info]
            topics.append(topic)
        end_secs = self._feed.end_secs(moving=True)
        content = {"type": "lines", "end": end_secs, "topics": topics}
        return content, [data for _, data in packed]

    def _line_message(self, place: int, info: SeriesInfo) -> dict[str, Any]:
        return {
            "label": info.label,
            "number": self._feed.number_of(place, info.label),
            "step": info.is_step,
            "unit": info.unit,
            "ended": info.has_ended,
        }

    def _greet(self) -> None:
        self._feed.forget_sent()
        self._send_next()

    def _answer(self) -> None:
        if self.paused:
            self._send_next()
        with self._link.changed:
            question, self._question = self._question, None
        if question is None:
            return
        parts = self._feed.part(question.begin_secs, question.end_secs, question.columns)
        packed = [columns.packed() for columns in parts]
        topics = [{"i": place, **header} for place, (header, _) in enumerate(packed)]
        content = {
            "type": "part",
            "client": question.client,
            "id": question.number,
            "begin": question.begin_secs,
            "end": question.end_secs,
            "topics": topics,
        }
        self.send(content, buffers=[data for _, data in packed])

    def _content(self, now_secs: float) -> dict[str, Any]:
        self._read_paths_again()
        states = self._feed.states()
        found = condition(self._dataflow, states, paused=self.paused)
        with self._subscribe_lock:
            edges = {source: each.status() for source, each in self._listeners.items()}
        topics = []
        for state in states:
            edge = edges.get(str(state.path.source))
            topics.append(
                {
                    "rate": _rounded(state.rate_hz),
                    "dropped": 0 if edge is None else edge.dropped,
                    "unreadable": state.unreadable,
                }
            )
        end_secs = self._feed.end_secs(moving=False) if found.is_over else None
        return {"state": found.state, "reason": found.reason, "end": end_secs, "topics": topics}

    # ----- the still

    def _still_due(self) -> bool:
        running, was_running = self._dataflow.running, self._was_running
        self._was_running = running
        due, self._still_wanted = self._still_wanted, False
        return due or (was_running and not running)

    def _still_key(self, *, living: bool) -> object:
        del living
        received = self._feed.received
        return (
            (tuple(received), self._shown_secs() if self.paused else None)
            if any(received)
            else None
        )

    def _await_first_still(self) -> None:
        # Once, if a cell has shown the plot and something can come.
        if not self._first_awaited and self._output.shown and self._dataflow.running:
            self._first_awaited = True
            with self._link.changed:
                self._link.changed.wait_for(self._has_news, FIRST_MESSAGE_SECS)

    def _has_news(self) -> bool:
        return self._outbox.closed or any(self._feed.received)

    def _still(self) -> dict[str, Any]:
        data: dict[str, Any] = {"text/plain": repr(self)}
        if any(self._feed.received):
            data["image/svg+xml"] = self._svg()
        return data

    def _svg(self) -> str:
        begin_secs, end_secs = self._shown_secs()
        infos = self._feed.infos()
        columns = columns_for(sum(map(len, infos)))
        parts = self._feed.part(begin_secs, end_secs, columns)
        panes: list[list[StillLine]] = []
        for places in self._panes:
            lines: list[StillLine] = []
            for place in places:
                for at, info in enumerate(infos[place][: parts[place].values.shape[1]]):
                    number = self._feed.number_of(place, info.label)
                    colour = COLOURS[number % len(COLOURS)]
                    lines.append(StillLine(info, colour, _inside(parts[place], columns), at))
            panes.append(lines)
        return still_svg(panes, end_secs - begin_secs, self._y)

    # ----- ending

    def _end(self) -> None:
        self._unsubscribe()
        super()._end()

    def _unsubscribe(self) -> None:
        self._unwatch()
        with self._subscribe_lock:
            while self._listeners:
                self._listeners.popitem()[1].close()

    # ----- helpers

    def _condition(self) -> Condition:
        return condition(self._dataflow, self._feed.states(), paused=self.paused)

    def _shown_secs(self) -> tuple[float, float]:
        zoom = self._zoom
        if self.paused and zoom is not None:
            return zoom
        end_secs = self._feed.end_secs(moving=not self._condition().is_over)
        return end_secs - self.seconds, end_secs


def _inside(columns: Columns, count: int) -> Columns:
    """Keeps one column before and one after the part."""
    numbers = columns.numbers.clip(-1, count)
    return Columns(columns.column_secs, columns.begin_secs, numbers, columns.values, columns.joined)


def _rounded(rate_hz: float) -> float:
    return round(rate_hz) if rate_hz >= 100 else round(rate_hz, 1)
