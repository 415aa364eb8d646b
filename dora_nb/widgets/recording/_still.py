"""What a notebook saves of the view: the pictures at the cursor, and the timeline."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._marks import Mark

WIDTH = 640
_FONT = "font:13px system-ui,sans-serif"
_LEFT = 150
_LANE_HEIGHT = 16
_MAX_LANES = 16
_MAX_TOPIC_CHARS = 22
_MARK_COLOURS = {"failure": "#b3261e", "edit": "#1f6fb4", "param": "#7a4fb5"}


@dataclass(frozen=True, slots=True)
class StillLane:
    """The messages of one topic on the timeline."""

    topic: str
    counts: Sequence[int]
    gaps: Sequence[Sequence[float]]


def still_html(
    title: str,
    pictures: Sequence[tuple[str, bytes]],
    lanes: Sequence[StillLane],
    marks: Sequence[Mark],
    *,
    cursor_secs: float,
    duration_secs: float,
    notes: Sequence[str],
) -> str:
    """Returns HTML without scripts. All texts are escaped: a file or its sender chose them."""
    when = f"at {cursor_secs:.3f} s of {duration_secs:.1f} s"
    parts = [f"<div style='{_FONT}'><b>{_text(title)}</b> {when}</div>"]
    for topic, jpeg in pictures:
        encoded = base64.b64encode(jpeg).decode()
        parts.append(
            f"<img alt='{_text(topic)} at {cursor_secs:.3f} s' style='max-width:100%;display:block;margin:4px 0' "
            f"src='data:image/jpeg;base64,{encoded}'/>"
        )
    if lanes:
        parts.append(_timeline(lanes, marks, cursor_secs, max(duration_secs, 1e-9)))
    parts += [
        f"<div style='font:12px system-ui,sans-serif;opacity:.8'>{_text(each)}</div>"
        for each in notes
    ]
    return "".join(parts)


def _timeline(
    lanes: Sequence[StillLane], marks: Sequence[Mark], cursor_secs: float, duration_secs: float
) -> str:
    shown = lanes[:_MAX_LANES]
    height = 18 + _LANE_HEIGHT * len(shown) + 4
    parts = list(_lanes(shown, duration_secs))
    for mark in marks:
        x = _place(mark.secs, duration_secs)
        colour = _MARK_COLOURS.get(mark.kind, "#555")
        parts.append(
            f"<path d='M{x:.1f} 16l-4-8h8z' fill='{colour}'><title>{_text(f'{mark.secs:.2f} s: {mark.text}')}"
            "</title></path>"
        )
    x = _place(cursor_secs, duration_secs)
    parts.append(f"<path d='M{x:.1f} 4V{height}' stroke='#d32f2f' stroke-width='1.5'/>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' "
        f"aria-label='timeline' style='width:100%;max-width:{WIDTH}px;background:#fff' "
        f"font-family='system-ui,sans-serif' font-size='11'>{''.join(parts)}</svg>"
    )


def _lanes(lanes: Sequence[StillLane], duration_secs: float) -> Iterator[str]:
    for row, lane in enumerate(lanes):
        top = 18 + row * _LANE_HEIGHT
        topic = lane.topic
        if len(topic) > _MAX_TOPIC_CHARS:
            topic = f"…{topic[1 - _MAX_TOPIC_CHARS :]}"
        yield f"<text x='{_LEFT - 6}' y='{top + 11}' text-anchor='end' fill='#444'>{_text(topic)}</text>"
        width = (WIDTH - _LEFT - 6) / max(len(lane.counts), 1)
        path = []
        begin: int | None = None
        for at, count in enumerate([*lane.counts, 0]):
            if count and begin is None:
                begin = at
            elif not count and begin is not None:
                path.append(
                    f"M{_LEFT + begin * width:.1f} {top + 3}h{max((at - begin) * width, 1):.1f}v9"
                    f"H{_LEFT + begin * width:.1f}z"
                )
                begin = None
        yield f"<path d='{''.join(path)}' fill='#9fb4c9'/>"
        for start, stop in lane.gaps:
            left, right = _place(start, duration_secs), _place(stop, duration_secs)
            yield (
                f"<rect x='{left:.1f}' y='{top + 3}' width='{max(right - left, 1):.1f}' height='9' "
                "fill='#fbe3c5' stroke='#c2570c' stroke-width='.5'/>"
            )


def _place(secs: float, duration_secs: float) -> float:
    return _LEFT + (WIDTH - _LEFT - 6) * min(max(secs / duration_secs, 0.0), 1.0)


def _text(text: str) -> str:
    return html.escape(text)
