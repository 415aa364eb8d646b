"""The line below an operator's cell: what the operator does now, and why it failed.

A cell saves one stable sentence (``detector: declared``). Only the page's line changes later, by the
``status`` messages of `dora_nb.widgets.page`. Here they hold `state` (a word for the dot's colour), `text`,
`generation`, `rate` in events per second or null, `dropped`, `undeclared`, `missed`, `busy` (the
seconds that one event has taken so far, if that is long, or null), `amber` (it runs, with warnings),
`warnings` (a list of texts), `changed` (which imported files have changed, or empty), `printed` (the line that
the operator printed last, or empty) and `failure`, null or its `number`, `message` and `traceback` (a list of
lines). The page answers with ``seen``: `failure`, the number of the failure that a view on the screen has
shown.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dora_nb.errors import GraphError, OperatorError
from dora_nb.files import changed_text
from dora_nb.status import NodeStatus, State

from .line import Line, bare_content
from .page.dataflow import LiveDataflow
from .page.guarded import count_in
from .page.live import Refresher
from .page.rates import RateMeter

TRACEBACK_LINES = 200
"""A longer traceback is cut in its middle."""
PRINTED_CHARS = 200
"""More of a line that an operator prints is not shown; `%dora logs` has it."""

_LINE_OF: weakref.WeakKeyDictionary[LiveDataflow, dict[str, LiveLine]] = weakref.WeakKeyDictionary()


class LiveLine(Line):
    """One operator's line.

    `show_live_line` makes it, and ends the line that an earlier run of the cell has made.
    """

    def __init__(
        self,
        name: str,
        sentence: str,
        *,
        dataflow: LiveDataflow,
        on_failure_seen: Callable[[str], None] | None = None,
        refresher: Refresher | None = None,
    ) -> None:
        self._on_failure_seen = on_failure_seen
        self._meter = RateMeter()
        self._failure: OperatorError | None = None
        self._failure_number = 0
        self._seen_failures: set[int] = set()
        self._taken_over = False
        super().__init__(name, sentence, dataflow=dataflow, refresher=refresher)

    def _content(self, now_secs: float) -> dict[str, Any]:
        if self._taken_over:
            return bare_content("removed", "now declared in another cell")
        try:
            status = self.dataflow.status(self.name)
            reads = bool(self.dataflow.graph.node(self.name).inputs)
        except GraphError:
            return bare_content("removed", "removed")
        rate = self._meter.rate(status.events, now_secs)
        return {
            "state": status.state.value,
            "text": status.state_text(),
            "generation": status.generation,
            "rate": rate if reads and status.state is State.RUNNING else None,
            "dropped": status.dropped,
            "undeclared": status.undeclared_outputs,
            "missed": status.missed_ticks,
            "busy": None if status.long_busy_secs is None else int(status.long_busy_secs),
            "amber": status.is_amber,
            "warnings": list(status.warnings),
            "changed": changed_text(status.changed_files, str(Path.cwd())),
            "printed": _cut(status.last_line) if status.state is not State.FAILED else "",
            "failure": self._failure_content(status),
        }

    def _receive(self, kind: str, message: Mapping[str, Any], _buffers: list[Any]) -> None:
        if kind == "seen":
            with self._link.changed:
                self._seen_failures.add(count_in(message, "failure"))
            self._wake()

    def _before_content(self, _now_secs: float) -> None:
        with self._link.changed:
            seen, self._seen_failures = self._seen_failures, set()
        # The magics' list of failures: it must not be called on the thread that received the message.
        if self._failure is not None and self._failure_number in seen and self._on_failure_seen:
            self._on_failure_seen(self.name)

    def give_up_name(self) -> None:
        """Called when another cell declares the operator: from now on the line says only that."""
        self._taken_over = True
        self._wake()

    def _end(self) -> None:
        lines = _LINE_OF.get(self.dataflow, {})
        if lines.get(self.name) is self:
            del lines[self.name]
        super()._end()

    def _failure_content(self, status: NodeStatus) -> dict[str, Any] | None:
        error = status.error
        if error is None:
            self._failure = None
            return None
        if error is not self._failure:
            self._failure = error
            self._failure_number += 1
        return {
            "number": self._failure_number,
            "message": str(error),
            "traceback": _shortened(error.traceback_lines),
        }


def show_live_line(
    name: str,
    sentence: str,
    *,
    dataflow: LiveDataflow,
    on_failure_seen: Callable[[str], None] | None = None,
    refresher: Refresher | None = None,
) -> LiveLine:
    """Returns a line for the running cell; the caller displays it.

    Lines that an earlier run of the cell has made are closed. If another cell had declared the
    operator, its line says from now on that the operator is declared elsewhere.
    """
    line = LiveLine(
        name, sentence, dataflow=dataflow, on_failure_seen=on_failure_seen, refresher=refresher
    )
    lines = _LINE_OF.setdefault(dataflow, {})
    earlier = lines.get(name)
    lines[name] = line
    if earlier is None:
        return line
    if line._cell_run is None or earlier._cell_run is None:
        earlier.close()  # without cell ids, it is most likely the same cell
    else:
        earlier.give_up_name()
    return line


def _cut(line: str) -> str:
    return line if len(line) <= PRINTED_CHARS else f"{line[:PRINTED_CHARS]}…"


def _shortened(lines: tuple[str, ...]) -> list[str]:
    if len(lines) <= TRACEBACK_LINES:
        return list(lines)
    half = TRACEBACK_LINES // 2
    cut = len(lines) - 2 * half
    return [*lines[:half], f"… {cut} more lines …", *lines[-half:]]
