"""The picture of a plot that a notebook saves: an SVG, small, with its own light background."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dora_nb.data.series.reduction import FIRST, LAST, MAXIMUM, MINIMUM, Columns
from dora_nb.data.series.topic_series import SeriesInfo
from dora_nb.data.series.y_range import y_range

WIDTH = 640
PANE_HEIGHT = 180
COLUMNS = 400
"""The still's resolution in time, divided among many lines."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 8, 22
_LEGEND_HEIGHT = 18
_MAX_LEGEND = 12
_MAX_LABEL = 60
COLOURS = (
    *("#1f6fb4", "#c2570c", "#2a7d3f", "#b3261e"),
    *("#7a4fb5", "#8a5a2b", "#c0398b", "#0f7f8c"),
)
"""The same as in view.js on a light page."""


@dataclass(frozen=True, slots=True)
class StillLine:
    """One line of a pane."""

    info: SeriesInfo
    colour: str
    columns: Columns
    place: int
    """Its series in `columns`."""


def still_svg(
    panes: Sequence[Sequence[StillLine]], seconds: float, y: tuple[float, float] | None
) -> str:
    """Returns the panes as an SVG document; each shows the part that its columns have, 0 to `seconds`."""
    parts: list[str] = []
    top = 0
    for lines in panes:
        pane, height = _pane(lines, seconds, y)
        parts.append(f'<g transform="translate(0 {top})">{pane}</g>')
        top += height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}" font-family="system-ui, sans-serif" font-size="11">'
        f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _pane(
    lines: Sequence[StillLine], seconds: float, y: tuple[float, float] | None
) -> tuple[str, int]:
    low, high = y or y_range(line.columns for line in lines) or (0.0, 1.0)
    width, height = WIDTH - _LEFT - _RIGHT, PANE_HEIGHT - _TOP - _BOTTOM
    half = high / 2 - low / 2  # divided first: the difference of two large values is infinite

    def place_y(value: float) -> float:
        return _TOP + height * (1 - (value / 2 - low / 2) / half)

    def place_x(secs: float) -> float:
        return _LEFT + width * secs / seconds

    parts = []
    for value in nice_ticks(low, high, 5):
        at = place_y(value)
        parts.append(
            f'<path d="M{_LEFT} {at:.1f}h{width}" stroke="#e3e6ea"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{_minus(f"{value:.6g}")}</text>'
        )
    for secs in nice_ticks(-seconds, 0.0, 6):
        at = place_x(secs + seconds)
        parts.append(
            f'<text x="{min(at, WIDTH - _RIGHT - 4):.1f}" y="{PANE_HEIGHT - 6}" '
            f'text-anchor="middle" fill="#555">{_minus(f"{secs:.6g}")} s</text>'
        )
    # Lines beyond a fixed range must not be drawn over the labels.
    parts.append(
        f'<svg x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" '
        f'viewBox="{_LEFT} {_TOP} {width} {height}">'
    )
    for line in lines:
        path = "".join(_path(line, place_x, place_y))
        parts.append(
            f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="1.4" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
    parts.append("</svg>")
    parts.append(
        f'<rect x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" fill="none" stroke="#b8bec6"/>'
    )
    bottom = PANE_HEIGHT
    for text, colour in _legend(lines):
        parts.append(
            f'<rect x="{_LEFT}" y="{bottom + 3}" width="12" height="4" fill="{colour}"/>'
            f'<text x="{_LEFT + 18}" y="{bottom + 9}" fill="#222">{html.escape(text)}</text>'
        )
        bottom += _LEGEND_HEIGHT
    return "".join(parts), bottom + 6


def _legend(lines: Sequence[StillLine]) -> Iterator[tuple[str, str]]:
    for line in lines[:_MAX_LEGEND]:
        unit = f" ({line.info.unit})" if line.info.unit else ""
        yield _clean(f"{line.info.label}{unit}"), line.colour
    if lines[_MAX_LEGEND:]:
        yield f"… and {len(lines) - _MAX_LEGEND} more", "none"


def _clean(text: str) -> str:
    # Control characters are not allowed in XML, and would make the whole picture unreadable.
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _path(
    line: StillLine, place_x: Callable[[float], float], place_y: Callable[[float], float]
) -> Iterator[str]:
    columns = line.columns
    values = columns.values[:, line.place]
    secs = (columns.numbers + 0.5) * columns.column_secs
    last_at: float | None = None
    for column in range(len(secs)):
        first, minimum, maximum, last = (
            float(values[kind, column]) for kind in (FIRST, MINIMUM, MAXIMUM, LAST)
        )
        if math.isnan(first):
            last_at = None
            continue
        x = f"{place_x(float(secs[column])):.1f}"
        begin = "L" if columns.joined[line.place, column] and last_at is not None else "M"
        if begin == "L" and line.info.is_step:
            yield f"H{x}"
        at = place_y(first)
        # A single point would have no length, and is drawn by its round ends.
        yield f"{begin}{x} {at:.1f}" + ("h0" if begin == "M" else "")
        if minimum != maximum:
            yield f"V{place_y(minimum):.1f}V{place_y(maximum):.1f}V{place_y(last):.1f}"
        last_at = place_y(last)
    if line.info.is_step and not line.info.has_ended and last_at is not None:
        yield f"H{WIDTH - _RIGHT}"  # a boolean holds its value until the next one


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Returns about so many round values between two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high / count) - (low / count)
    if not 0 < rough < math.inf:
        return []
    size = 10.0 ** math.floor(math.log10(rough))
    if size == 0:
        return []
    step = next((size * each for each in (1, 2, 5) if size * each >= rough), 10 * size)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first > 20:
        return []
    # Rounded by division: 3 * 0.1 is not 0.3.
    return [number / (1 / step) if step < 1 else number * step for number in range(first, last + 1)]


def columns_for(num_lines: int) -> int:
    """Returns the resolution of a still with so many lines, so that its size stays bounded."""
    return int(np.clip(8 * COLUMNS // max(1, num_lines), 40, COLUMNS))
