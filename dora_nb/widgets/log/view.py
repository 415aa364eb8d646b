"""The live view of the log: what nodes print and log, by node and level, below a cell.

The protocol is that of a `LiveWidget` in `dora_nb.widgets.page.widget`, with these messages of its own.

kernel to page
    ``lines``: `v`, `reset`, and `entries`, a list of [number, node, level, stream, time in ms since the
        epoch, text], at most `lines` of them. Numbers count up; a page MUST ignore those that it has. With
        `reset` it MUST forget all lines before. A text is plain: it has no control codes, and MUST NOT
        become markup.
    ``status``: `nodes` (names to choose from), `node` (the chosen one, empty for all) and `level` (the
        lowest that is shown), `older` (how many lines are not shown since they are too old), `running`,
        and `declared` (whether the chosen node is).
page to kernel
    ``filter``: `node`, `level`: a person chose them. The kernel reads the dataflow's log again, since
        lines that the new filter lets through were not sent, and answers with ``lines`` and `reset`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import traitlets

from dora_nb.errors import DeclarationError, did_you_mean
from dora_nb.status import LogLine

from ..page.assets import page_code, page_style
from ..page.dataflow import LiveDataflow, notebook_dataflow
from ..page.guarded import text_in
from ..page.live import LiveWidget
from ..page.widget import PROTOCOL_VERSION
from ._levels import LEVELS, OTHER_NAMES
from ._lines import Entry, Filter, Lines

MAX_LINES = 5000
"""As many as a dataflow keeps of each node."""
MAX_NAME_CHARS = 200
STILL_LINES = 40
"""A saved notebook shows so many: the last ones."""


class LoggedDataflow(LiveDataflow, Protocol):
    """A dataflow whose log can be read."""

    def logs(self) -> list[LogLine]: ...


class LogView(LiveWidget):
    """Shows what nodes print and log, live: stdout, stderr, `logging`, `node.log`, and the engine's notes.

    Make it in the last line of a cell, before or after the dataflow starts: it lives through stops,
    starts and edits, and ends when its cell runs again or by `close`. Making it does not block.

    `name` is the node whose lines it shows at first; without it, it shows those of all nodes. `level` is the
    lowest level that it shows at first: trace, debug, info, warn or error; Python's names in capitals do as
    well. What is printed to stdout counts as info; a line of stderr has the level that it names at its
    beginning, a traceback is an error, other lines are info. Node and level can be changed in the view. It
    keeps the newest `lines` (at most 5,000), and shows how many older ones it left out. `dataflow` is
    the notebook's own unless given.

    A person may search (key ``/``), and click on a place such as ``Cell In[3], line 5`` to go to that line
    of the notebook. The saved notebook has the last lines as text.

    Raises GraphError, with the nearest name, where that node is not declared, and DeclarationError for
    other arguments.

    Example::

        >>> LogView("camera", level="WARN")
    """

    _esm = traitlets.Unicode(page_code(__package__, "view.js")).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "view.css")).tag(sync=True)
    node = traitlets.Unicode(read_only=True).tag(sync=True)
    level = traitlets.Unicode(read_only=True).tag(sync=True)
    lines = traitlets.Int(read_only=True).tag(sync=True)

    def __init__(
        self,
        name: str | None = None,
        level: str = "INFO",
        lines: int = 500,
        *,
        dataflow: LoggedDataflow | None = None,
    ) -> None:
        self._dataflow: LoggedDataflow = notebook_dataflow() if dataflow is None else dataflow
        lowest = _checked_level(level)
        _check_lines(lines)
        if name is not None:
            if not isinstance(name, str):
                raise DeclarationError(
                    f"LogView: the name of a node must be a text, got {type(name).__name__}"
                )
            self._dataflow.graph.node(name)
        self.set_trait("node", name or "")  # before the page hears of the widget
        self.set_trait("level", lowest)
        self.set_trait("lines", lines)
        self._chosen = Filter(name or "", lowest)
        self._read_filter = self._chosen
        self._lines = Lines(lines)
        self._lines_lock = threading.Lock()
        self._sent_number = 0
        self._send_all = True
        super().__init__(self._dataflow)

    def _content(self, _now_secs: float) -> dict[str, Any]:
        chosen = self._read_filter
        nodes = [spec.name for spec in self._dataflow.graph]
        return {
            "nodes": nodes,
            "node": chosen.node,
            "level": chosen.level,
            "older": self._lines.num_older,
            "running": self._dataflow.running,
            "declared": not chosen.node or chosen.node in nodes,
        }

    def _greet(self) -> None:
        self._send_all = True

    def _send_status(self, now_secs: float, *, greeting: bool, again: bool = False) -> None:
        # The lines come first: the status says how many older ones there are.
        self._send_lines()
        super()._send_status(now_secs, greeting=greeting, again=again)

    def _send_lines(self) -> None:
        self._read()
        with self._lines_lock:
            reset, self._send_all = self._send_all, False
            entries = self._lines.after(0 if reset else self._sent_number)
            self._sent_number = self._lines.last_number
        if entries or reset:
            told = [entry.as_json() for entry in entries]
            self.send({"type": "lines", "v": PROTOCOL_VERSION, "reset": reset, "entries": told})

    def _read(self) -> None:
        """Reads what the nodes have written since the last time."""
        with self._lines_lock:
            with self._link.changed:
                chosen = self._chosen
            if chosen != self._read_filter:
                self._read_filter = chosen
                self._lines.restart()
                self._send_all = True
            self._lines.read(self._dataflow.logs(), chosen)

    def _receive(self, kind: str, message: Mapping[str, Any], _buffers: list[Any]) -> None:
        node, level = text_in(message, "node", MAX_NAME_CHARS), text_in(message, "level", 10)
        if kind != "filter" or node is None or level not in LEVELS:
            return
        with self._link.changed:
            self._chosen = Filter(node, level)
        self._wake()

    def _kept(self) -> list[Entry]:
        # At the end only what is there: it may end anywhere, even where the dataflow is locked.
        if not self._closed:
            self._read()
        with self._lines_lock:
            return self._lines.after(0)

    def _still(self) -> dict[str, Any]:
        entries = self._kept()
        cut = len(entries) - STILL_LINES + self._lines.num_older
        texts = [_still_line(entry, self._read_filter) for entry in entries[-STILL_LINES:]]
        if not texts:
            texts = [repr(self)]
        elif cut > 0:
            texts.insert(0, f"({cut} older {'line' if cut == 1 else 'lines'})")
        return {"text/plain": "\n".join(texts)}

    def _still_key(self, *, living: bool) -> object:
        if not self._kept() and living:
            return None  # the output says so already, and a page would draw the view again
        return (self._lines.last_number, self._read_filter)

    def _still_due(self) -> bool:
        return not self._dataflow.running

    def settle(self) -> None:
        """Saves the last lines into the cell's output if the dataflow has stopped, or if no page shows them.

        IPython calls it after every cell; there is no need to call it.

        Example::

            >>> view.settle()
        """
        super().settle()

    def __repr__(self) -> str:
        chosen = self._chosen
        return f"LogView: {chosen.node or 'all nodes'}, {chosen.level} and above"


def _still_line(entry: Entry, chosen: Filter) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(entry.time_secs))
    text = f"[dora_nb] {entry.text}" if entry.stream == "engine" else entry.text
    named = text if chosen.node else f"{entry.node}: {text}"
    return f"{at} {entry.level.upper():5} {named}"


def _checked_level(level: object) -> str:
    known = [*LEVELS, "warning", "critical"]
    word = level.lower() if isinstance(level, str) else ""
    found = OTHER_NAMES.get(word, word)
    if found not in LEVELS:
        raise DeclarationError(
            f"LogView: unknown level {level!r}: expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}",
            hint=did_you_mean(word, known),
        )
    return found


def _check_lines(lines: object) -> None:
    if not isinstance(lines, int) or isinstance(lines, bool) or not 1 <= lines <= MAX_LINES:
        raise DeclarationError(
            f"LogView: lines must be a whole number from 1 to {MAX_LINES}, got {lines!r}"
        )
