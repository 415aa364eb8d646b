"""`ComparisonView`: what a comparison found, to step through from difference to difference.

The result is finished, so the status has the whole summary and never changes. The rest is sent when a page
asks for it, beside the messages of `dora_nb.widgets.page`:

page to kernel
    ``show``: `step`, the number of a difference.
    ``lines``: `place`, the number of an output.
kernel to page, numbered as a stream
    ``detail``: `step`, and what `_details.detail_of` says; the buffers are its pictures.
    ``lines``: `place`, `labels`, `columns`; one buffer, see `_lines.Lines.packed`.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import traitlets

from dora_nb.compare import Comparison, Version
from dora_nb.compare.text import error_text, millis_text, outcome_text, summary_text

from ..page.assets import asset, page_code, page_style
from ..page.guarded import count_in
from ..page.stream import Outbox, StreamWidget
from ._details import detail_of, steps_of
from ._lines import lines_of
from ._still import still_html

MAX_STEPS = 2000
_MAX_FPS = 30.0
_PLOT = "dora_nb.widgets.plot"


class ComparisonView(StreamWidget):
    """Shows a `Comparison` below a cell: the summary, and each difference with its pictures, boxes or lines.

    The keys ``←`` and ``→`` go from difference to difference, ``Home`` and ``End`` to the first and the last.
    A comparison as the last line of a cell shows itself in this view, once ``%load_ext dora_nb`` was run.

    Example::

        >>> ComparisonView(dataflow.compare("detector", "run.mcap"))
    """

    _esm = traitlets.Unicode(
        page_code(_PLOT, "canvas.js") + asset(__package__, "comparison.js")
    ).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "comparison.css")).tag(sync=True)

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self._steps = steps_of(comparison, MAX_STEPS)
        # The newest question of each kind: a page that steps quickly is answered where it arrives.
        self._asked: collections.OrderedDict[str, int] = collections.OrderedDict()
        outbox = Outbox(_MAX_FPS)
        super().__init__(outbox, thread_name="dora-comparison-view")

    def __repr__(self) -> str:
        return repr(self.comparison)

    def _content(self, now_secs: float) -> dict[str, Any]:
        del now_secs
        comparison = self.comparison
        failed = comparison.before.error is not None or comparison.after.error is not None
        return {
            "title": comparison.node,
            "verdict": _verdict(comparison),
            "state": "failed" if failed else "equal" if comparison.equal else "different",
            "versions": [_version(comparison.before), _version(comparison.after)],
            "outputs": [
                {
                    "name": output.output,
                    "kind": output.kind or "",
                    "counts": [
                        len(output), output.count("equal"), output.count("different"),
                        output.count("gained"), output.count("lost"),
                    ],
                    "error": error_text(output.max_error),
                    "text": outcome_text(output),
                }
                for output in comparison.outputs.values()
            ],
            "steps": self._steps,
            "num_steps": len(comparison.differences),
            "duration": comparison.recording.duration_secs,
            "notes": list(comparison.notes),
        }  # fmt: skip

    def _receive(self, kind: str, message: Mapping[str, Any], buffers: list[Any]) -> None:
        del buffers
        key = {"show": "step", "lines": "place"}.get(kind)
        if key is None:
            return
        number = count_in(message, key)
        most = len(self._steps) if kind == "show" else len(self.comparison.outputs)
        if number >= most:
            return
        with self._link.changed:
            self._asked[kind] = number
        self._outbox.offer()

    def _next_message(self) -> tuple[dict[str, Any], list[Any]] | None:
        with self._link.changed:
            if not self._asked:
                return None
            kind, number = self._asked.popitem(last=False)
            more = bool(self._asked)
        if more:
            self._outbox.offer()
        if kind == "show":
            content, buffers = detail_of(self.comparison, self.comparison.differences[number])
            return {"type": "detail", "step": number, **content}, list(buffers)
        output = list(self.comparison.outputs.values())[number]
        lines = lines_of(output)
        if lines is None:
            return None
        told = {"type": "lines", "place": number, "labels": list(lines.labels)}
        return {**told, "columns": len(lines.times_secs)}, [lines.packed()]

    def _still(self) -> dict[str, Any]:
        return {"text/plain": repr(self.comparison), "text/html": still_html(self.comparison)}

    def _still_key(self, *, living: bool) -> object:
        return living


def _verdict(comparison: Comparison) -> str:
    """One sentence above the table of the outputs."""
    failed = comparison.before.error is not None or comparison.after.error is not None
    number = len(comparison.differences)
    if failed or not number:
        return summary_text(comparison)
    return f"{number} of {len(comparison.messages)} messages differ"


def _version(version: Version) -> dict[str, Any]:
    error = version.error
    at = version.failed_at_secs
    return {
        "name": version.name,
        "events": version.events,
        "p50": millis_text(version.p50_secs),
        "p95": millis_text(version.p95_secs),
        "error": None if error is None else str(error),
        "failed": None if at is None else f"at {at:.2f} s, on {version.failed_on}",
        "traceback": [] if error is None else list(error.traceback_lines[-200:]),
        "printed": list(version.printed),
    }
