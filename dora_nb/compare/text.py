"""A comparison as text, for a terminal, a failed assertion and the line below a cell. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .pairing import START, STOP, Cause

if TYPE_CHECKING:
    from .comparison import Comparison, MessagePair, OutputComparison, Version

_COLUMNS = ("output", "kind", "messages", "equal", "different", "gained", "lost", "max error")


def comparison_text(comparison: Comparison) -> str:
    """The result as a few lines: the versions, a table of the outputs, times, failures and notes."""
    before, after = comparison.before, comparison.after
    events = max(before.events, after.events)
    inputs = f"{events} recorded {'input' if events == 1 else 'inputs'}"
    lines = [
        f"{comparison.node}: {before.name} → {after.name}, on {inputs}",
        *_table([_COLUMNS, *map(_row, comparison.outputs.values())]),
    ]
    first = comparison.first_difference
    if first is not None:
        lines.append(f"first difference: {pair_text(first)}")
    lines += [_version_text("before", before), _version_text("after", after)]
    return "\n".join([*lines, *comparison.notes])


def pair_text(pair: MessagePair) -> str:
    """``bbox at 3.43 s (camera/image, message 103): 1 box moved by up to 4 px``."""
    return f"{pair.output} at {pair.time_secs:.2f} s ({cause_text(pair.cause)}): {pair.text}"


def summary_text(comparison: Comparison) -> str:
    """One clause for the line below a cell: ``bbox: 18 of 300 different, first at 3.43 s``."""
    for version in (comparison.after, comparison.before):
        if version.error is not None:
            which = "the new code" if version is comparison.after else "the code before"
            return f"{which} fails{_when(version)}: {version.error.message}"
    unlike = [each for each in comparison.outputs.values() if not each.equal]
    if not unlike:
        number = len(comparison.messages)
        return f"sends the same {number} messages" if number else "sends nothing, as before"
    first = comparison.first_difference
    assert first is not None
    parts = [f"{each.output}: {outcome_text(each)}" for each in unlike]
    return f"{'; '.join(parts)}; the first at {first.time_secs:.2f} s: {first.text}"


def cause_text(cause: Cause) -> str:
    """Which event that was: ``camera/image, message 17``."""
    if cause == START:
        return "before the first event"
    return "at STOP" if cause == STOP else f"{cause.source}, message {cause.number}"


def outcome_text(output: OutputComparison) -> str:
    """``18 of 300 different, 2 lost``; ``all 300 equal``."""
    different, gained = output.count("different"), output.count("gained")
    lost = output.count("lost")
    if not len(output):
        return "nothing sent"
    if not different + gained + lost:
        return f"all {len(output)} equal" if len(output) > 1 else "equal"
    parts = [f"{different} of {len(output)} different"] if different else []
    parts += [f"{gained} gained"] if gained else []
    parts += [f"{lost} lost"] if lost else []
    return ", ".join(parts)


def millis_text(secs: float | None) -> str:
    """``1.2 ms``; a dash if nothing was measured."""
    if secs is None:
        return "-"
    millis = secs * 1e3
    return f"{millis:.0f} ms" if millis >= 100 else f"{millis:.3g} ms"


def error_text(max_error: float) -> str:
    """A largest error for a table; a dash where it is not a number."""
    return "-" if math.isinf(max_error) else f"{max_error:.3g}"


def _version_text(which: str, version: Version) -> str:
    times = f"p50 {millis_text(version.p50_secs)}, p95 {millis_text(version.p95_secs)}"
    text = f"{which + ':':8}{times} for each input"
    if version.error is not None:
        place = version.error.place
        named = "" if place is None else f" ({place})"
        text += f"; failed{_when(version)}: {version.error.message}{named}"
    return text


def _when(version: Version) -> str:
    if version.failed_at_secs is None:
        return " before its first input"
    return f" at {version.failed_at_secs:.2f} s, on {version.failed_on}"


def _row(output: OutputComparison) -> tuple[str, ...]:
    counts = (
        output.count("equal"),
        output.count("different"),
        output.count("gained"),
        output.count("lost"),
    )
    numbers = map(str, (len(output), *counts))
    return (output.output, output.kind or "-", *numbers, error_text(output.max_error))


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
