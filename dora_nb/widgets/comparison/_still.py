"""What a notebook saves of a comparison: a table."""

from __future__ import annotations

import html
from collections.abc import Iterator

from dora_nb.compare import Comparison
from dora_nb.compare.text import error_text, millis_text, pair_text

_STYLE = "border-collapse:collapse;font:13px system-ui,sans-serif"


def still_html(comparison: Comparison) -> str:
    """Returns the result as HTML without scripts. All texts are escaped: a sender chose some of them."""
    return "".join(_parts(comparison))


def _parts(comparison: Comparison) -> Iterator[str]:
    before, after = comparison.before, comparison.after
    yield f"<div style='font:13px system-ui,sans-serif'><b>{_text(comparison.node)}</b>: "
    yield f"{_text(before.name)} → {_text(after.name)}</div><table style='{_STYLE}'>"
    yield _row(
        "output", "kind", "messages", "equal", "different", "gained", "lost", "max error", tag="th"
    )
    for output in comparison.outputs.values():
        counts = [output.count("equal"), output.count("different")]
        counts += [output.count("gained"), output.count("lost")]
        numbers = [str(each) for each in (len(output), *counts)]
        yield _row(output.output, output.kind or "-", *numbers, error_text(output.max_error))
    yield "</table>"
    for name, version in (("before", before), ("after", after)):
        times = f"p50 {millis_text(version.p50_secs)}, p95 {millis_text(version.p95_secs)}"
        failed = "" if version.error is None else f"; failed: {version.error.message}"
        yield f"<div style='font:13px system-ui,sans-serif'>{name}: {_text(times + failed)}</div>"
    first = comparison.first_difference
    notes = [
        *([] if first is None else [f"first difference: {pair_text(first)}"]),
        *comparison.notes,
    ]
    for note in notes:
        yield f"<div style='font:13px system-ui,sans-serif'>{_text(note)}</div>"


def _row(*cells: str, tag: str = "td") -> str:
    made = "".join(
        f"<{tag} style='padding:1px 8px;text-align:left'>{_text(each)}</{tag}>" for each in cells
    )
    return f"<tr>{made}</tr>"


def _text(text: str) -> str:
    return html.escape(text)
