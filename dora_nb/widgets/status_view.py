"""The view of `%dora status`: a stable table, and live numbers beside it while a page shows it.

The table holds what is the same each time a notebook runs: states, generations, connections, queue
sizes, errors. The rest (rates, drops, times) comes by the ``status`` messages of `dora_nb.widgets.page`, as
`rows` of the same form with their numbers filled in.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import traitlets

from dora_nb.errors import OperatorError
from dora_nb.files import changed_text
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec
from dora_nb.graph.sources import TimerSource
from dora_nb.status import EdgeStatus, NodeStatus, State

from .page.assets import page_code, page_style
from .page.dataflow import LiveDataflow
from .page.live import LiveWidget, Refresher
from .page.rates import RateMeter

COLUMNS = ("operator", "state", "generation", "inputs", "outputs")
NOTHING = "no operator is declared"


class StatusView(LiveWidget):
    """A table of all operators. It saves their state at its creation; a page shows it live."""

    _esm = traitlets.Unicode(page_code(__package__, "status_view.js")).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "live_line.css", "status_view.css")).tag(
        sync=True
    )
    rows: traitlets.List[dict[str, Any]] = traitlets.List(read_only=True).tag(sync=True)

    def __init__(self, dataflow: LiveDataflow, *, refresher: Refresher | None = None) -> None:
        self._meters: dict[str, RateMeter] = {}
        self._stable = table_rows(_statuses(dataflow), dataflow.graph)
        self.set_trait("rows", self._stable)  # before the page hears of the widget
        super().__init__(dataflow, refresher=refresher)

    def _content(self, now_secs: float) -> dict[str, Any]:
        statuses = {status.shown_name: status for status in _statuses(self.dataflow)}
        rows = table_rows(statuses.values(), self.dataflow.graph)
        for row in rows:
            row["numbers"] = self._numbers(statuses[row["name"]], now_secs)
        return {"rows": rows}

    def _numbers(self, status: NodeStatus, now_secs: float) -> list[str]:
        """Returns the live numbers of one operator as short texts."""
        meter = self._meters.setdefault(status.shown_name, RateMeter())
        rate = meter.rate(status.events, now_secs)
        numbers = []
        if (busy_secs := status.long_busy_secs) is not None:
            numbers.append(f"busy with one event for {busy_secs:.0f} s")
        spec = _spec(status, self.dataflow.graph)
        reads = status.is_service or (spec is not None and bool(spec.inputs))
        if reads and rate is not None and status.state is State.RUNNING:
            numbers.append(f"{rate:g} events/s")
        if status.on_event_p50_secs is not None and status.on_event_p95_secs is not None:
            p50, p95 = _millis(status.on_event_p50_secs), _millis(status.on_event_p95_secs)
            numbers.append(f"on_event p50 {p50}, p95 {p95} ms")
        numbers += [
            f"{edge.input}: {edge.dropped} of {edge.sent} dropped"
            for edge in status.inputs
            if edge.dropped
        ]
        numbers += [
            f"{edge.input}: last word {_age(edge.word_age_secs)} ago"
            for edge in status.inputs
            if edge.word_age_secs is not None
        ]
        if status.missed_ticks:
            numbers.append(f"missed ticks: {status.missed_ticks}")
        if status.undeclared_outputs:
            numbers.append(f"sent to undeclared outputs: {status.undeclared_outputs}")
        return numbers

    def __repr__(self) -> str:
        return table_text(self._stable)

    def _still(self) -> dict[str, Any]:
        return {"text/plain": table_text(self._stable), "text/html": table_html(self._stable)}


def show_status(dataflow: LiveDataflow, *, refresher: Refresher | None = None) -> StatusView:
    """Returns a view for the running cell; the caller displays it. Earlier views of the cell are closed."""
    return StatusView(dataflow, refresher=refresher)


def table_rows(statuses: Iterable[NodeStatus], graph: Graph) -> list[dict[str, Any]]:
    """Returns one row for each operator, as JSON: texts and lists of texts that are the same in every run."""
    return [_row(status, _spec(status, graph)) for status in statuses]


def _statuses(dataflow: LiveDataflow) -> list[NodeStatus]:
    """The user's nodes, then the kit's own."""
    return [*dataflow.status(), *dataflow.service_status()]


def _spec(status: NodeStatus, graph: Graph) -> NodeSpec | None:
    return None if status.is_service else graph.nodes.get(status.name)


def _row(status: NodeStatus, spec: NodeSpec | None) -> dict[str, Any]:
    edges = {edge.input: edge for edge in status.inputs}
    inputs = spec.inputs if spec is not None else ()
    return {
        "name": status.shown_name,
        "state": "amber" if status.is_amber else status.state.value,
        "text": status.state_text(),
        "generation": str(status.generation) if status.generation else "",
        "inputs": []
        if status.stands_in_for
        else [status.reads_text()]
        if status.is_service
        else [_input_text(read, edges.get(read.name)) for read in inputs],
        "outputs": list(status.stands_in_for if spec is None else spec.outputs),
        "warnings": list(status.warnings),
        "failure": _remark(status),
        "numbers": [],
    }


def _input_text(read: InputSpec, edge: EdgeStatus | None) -> str:
    """Returns ``image ← camera/image (10, drop_oldest)``, with the size and policy of the running edge."""
    text = f"{read.name} ← {read.source}"
    if isinstance(read.source, TimerSource):
        return text
    size = read.queue_size if edge is None else edge.queue_size
    policy = read.queue_policy if edge is None else edge.policy
    return f"{text} ({size}, {policy})"


def _remark(status: NodeStatus) -> str:
    """Returns the failure, and whether the cell of the operator was deleted."""
    remarks = [] if status.error is None else [_failure_text(status, status.error)]
    if status.changed_files:
        changed = changed_text(status.changed_files, str(Path.cwd()))
        remarks.append(
            f"{status.name}: {changed} since it was imported; run its cell again to use what it says now"
        )
    if status.obstacle is not None and status.error is None:
        remarks.append(f"{status.declared_in}: {status.name}: {status.obstacle}")
    if status.cell_deleted:
        remarks.append(
            f"{status.name}: the cell that declared it was deleted; end it with %dora remove {status.name}"
        )
    return "\n".join(remarks)


def _failure_text(status: NodeStatus, error: OperatorError) -> str:
    message = str(error)
    if status.is_service:
        return message
    named = message if message.startswith(status.name) else f"{status.name}: {message}"
    return f"{error.place or status.declared_in}: {named}"


def _millis(secs: float) -> str:
    return f"{secs * 1000:.1f}" if secs < 0.1 else f"{secs * 1000:.0f}"


def _age(secs: float) -> str:
    return f"{secs:.1f} s" if secs < 60 else f"{secs / 60:.0f} min"


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table as text in columns, with a line for each warning and failure below."""
    if not rows:
        return NOTHING
    lines = [COLUMNS]
    for row in rows:
        height = max(1, len(row["inputs"]), len(row["outputs"]))
        blanks = [""] * (height - 1)
        cells = (
            [row["name"], *blanks],
            [row["text"], *blanks],
            [row["generation"], *blanks],
            [*row["inputs"], *[""] * (height - len(row["inputs"]))],
            [*row["outputs"], *[""] * (height - len(row["outputs"]))],
        )
        lines += list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([*texts, *_remarks(rows)])


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table as HTML, for pages without a kernel; all text is escaped."""
    if not rows:
        return f"<p>{NOTHING}</p>"
    head = "".join(_html_cell("th", column) for column in COLUMNS)
    body = "".join(
        f"<tr>{''.join(_html_cell('td', cell) for cell in _row_cells(row))}</tr>" for row in rows
    )
    remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in _remarks(rows))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"


def _row_cells(row: Mapping[str, Any]) -> list[str | list[str]]:
    return [row["name"], row["text"], row["generation"], row["inputs"], row["outputs"]]


def _html_cell(tag: str, cell: str | list[str]) -> str:
    text = "<br>".join(map(html.escape, [cell] if isinstance(cell, str) else cell))
    return f'<{tag} style="text-align:left;vertical-align:top">{text}</{tag}>'


def _remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines below the table: of each operator its warnings, then its failure."""
    return [text for row in rows for text in [*row["warnings"], row["failure"]] if text]
