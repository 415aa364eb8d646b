"""The picture of a dataflow: an SVG, drawn from `dora_nb.graph.layout`, and the same as text.

The same graph always gives the same SVG: no ids, no times, no counts. All text is on boxes with a
background of their own, and lines have a colour that shows on white and on black. So the picture is
readable on both, even if a page shows it as an image, which the page's styles do not reach
(JupyterLab). With a dark colour scheme the boxes are dark too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

from dora_nb.graph.graph import Graph
from dora_nb.graph.layout import Box, Layout, Point, Port, Wire, lay_out
from dora_nb.graph.sources import TimerSource
from dora_nb.status import PROCESS_TO_JOIN, State

_AMBER = "#bf8700"
_STATE_COLORS = {
    State.DECLARED: "#8b949e",
    State.STARTING: _AMBER,
    State.RUNNING: "#2da44e",
    State.WAITING: _AMBER,
    State.FAILED: "#cf222e",
    State.FINISHED: "#0969da",
    State.STOPPED: "#8b949e",
    State.REPLAYED: "#0969da",
}

# Every rule begins with .dora-graph: nbconvert inlines the SVG, and its styles apply to the whole page.
_STYLE = """
.dora-graph text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;\
font-size:11px;fill:#57606a}
.dora-graph .title{font-size:13px;font-weight:600;fill:#1f2328}
.dora-graph .port{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.dora-graph .box{fill:#f6f8fa;stroke:#8b949e}
.dora-graph .timer .box{fill:#ddf4ff;stroke:#54aeff}
.dora-graph .notebook .box{fill:#fff8c5;stroke:#d4a72c}
.dora-graph .undeclared .box{fill:#fff;stroke-dasharray:5 4}
.dora-graph .wire{fill:none;stroke:#7d8590;stroke-width:1.5}
.dora-graph .waits{stroke-dasharray:5 4}
.dora-graph .tip{fill:#7d8590}
@media (prefers-color-scheme:dark){
.dora-graph text{fill:#b1bac4}
.dora-graph .title{fill:#f0f6fc}
.dora-graph .box{fill:#21262d;stroke:#8b949e}
.dora-graph .timer .box{fill:#0c2d6b;stroke:#388bfd}
.dora-graph .notebook .box{fill:#4b3900;stroke:#bb8009}
.dora-graph .undeclared .box{fill:#161b22}
}
"""


class GraphPicture:
    """A picture of the operators of a dataflow, their connections, and the state that each was in.

    `states` are by operator's name; an operator without one is shown as declared. `details` say more of a
    state, such as what the operator waits for. `subscriptions` are topics that the notebook itself reads;
    the nodes in `amber` run with warnings. The picture never changes. A cell shows it as an SVG, ``print``
    as text.
    """

    def __init__(
        self,
        graph: Graph,
        states: Mapping[str, State],
        *,
        subscriptions: Iterable[str] = (),
        amber: Iterable[str] = (),
        details: Mapping[str, str] | None = None,
    ) -> None:
        self._graph = graph
        self._details = dict(details or {})
        self._states = {spec.name: states.get(spec.name, State.DECLARED) for spec in graph}
        self._subscriptions = tuple(sorted(set(subscriptions)))
        self._colors = {name: _STATE_COLORS[state] for name, state in self._states.items()}
        self._colors |= dict.fromkeys(set(amber) & set(self._colors), _AMBER)

    @property
    def svg(self) -> str:
        """The picture as a complete SVG document."""
        details = {name: self._state_text(name) for name in self._states}
        layout = lay_out(self._graph, subscriptions=self._subscriptions, details=details)
        return _svg(layout, self._colors)

    def __str__(self) -> str:
        """Returns the graph as text: each operator with its inputs, its outputs and their readers."""
        if not self._graph.nodes:
            return "no operator is declared"
        readers = self._readers()
        lines: list[str] = []
        for spec in self._graph:
            lines.append(f"{spec.name} [{self._state_text(spec.name)}]")
            lines += [f"  {read.name} ← {read.source}" for read in spec.inputs]
            for output in spec.outputs:
                reads = ", ".join(readers.get(f"{spec.name}/{output}", ["(no reader)"]))
                lines.append(f"  {output} → {reads}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_mimebundle_(
        self,
        include: object = None,
        exclude: object = None,
    ) -> dict[str, str]:
        if not self._graph.nodes:
            return {"text/plain": str(self)}
        return {"image/svg+xml": self.svg, "text/plain": str(self)}

    def _state_text(self, name: str) -> str:
        if name in self._details:
            return self._details[name]
        if self._states[name] is State.WAITING:
            waiting_for = self._graph.waiting_for(name) or (PROCESS_TO_JOIN,)
            return f"waiting (for {', '.join(waiting_for)})"
        return self._states[name].value

    def _readers(self) -> dict[str, list[str]]:
        """Returns, for each topic, the inputs that read it."""
        readers: dict[str, list[str]] = {}
        for spec in self._graph:
            for read in spec.inputs:
                if not isinstance(read.source, TimerSource):
                    readers.setdefault(str(read.source), []).append(f"{spec.name}/{read.name}")
        for topic in self._subscriptions:
            readers.setdefault(topic, []).append("notebook")
        return readers


def _svg(layout: Layout, colors: Mapping[str, str]) -> str:
    undeclared = {box.key for box in layout.boxes if box.kind == "undeclared"}
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="dora-graph" role="img" '
            f'style="max-width:100%;height:auto" '
            f'width="{_number(layout.width)}" height="{_number(layout.height)}" '
            f'viewBox="0 0 {_number(layout.width)} {_number(layout.height)}">'
        ),
        f"<style>{_STYLE}</style>",
        "<title>Dataflow</title>",
        *(_wire_svg(wire, waits=wire.source in undeclared) for wire in layout.wires),
        *(_box_svg(box, colors.get(box.key)) for box in layout.boxes),
        "</svg>",
    ]
    return "\n".join(parts)


def _wire_svg(wire: Wire, *, waits: bool) -> str:
    path = wire_path(wire)
    x, y = wire.points[-1]
    names = f"{wire.source}/{wire.output} → {wire.target}/{wire.input}"
    if not wire.output:
        names = f"{wire.target}/{wire.input}"
    tip = f"M{_place(x - 7, y - 4)} {_place(x, y)} {_place(x - 7, y + 4)}z"
    return (
        f"<g><title>{escape(names)}</title>"
        f'<path class="wire{" waits" if waits else ""}" d="{path}"/>'
        f'<path class="tip" d="{tip}"/></g>'
    )


def wire_path(wire: Wire) -> str:
    """Returns the line as the `d` of an SVG's path."""
    return _turning_path(wire.points) if wire.goes_back else _flowing_path(wire.points)


def _flowing_path(points: tuple[Point, ...]) -> str:
    """Draws level lines, and between different heights an S whose ends are level."""
    steps = [f"M{_place(*points[0])}"]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y0 == y1:
            steps.append(f"H{_number(x1)}")
        else:
            half = (x0 + x1) / 2
            steps.append(f"C{_place(half, y0)} {_place(half, y1)} {_place(x1, y1)}")
    return "".join(steps)


def _turning_path(points: tuple[Point, ...], *, radius: float = 5.0) -> str:
    """Draws straight lines with rounded corners."""
    steps = [f"M{_place(*points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        into, out = _towards(corner, before, radius), _towards(corner, after, radius)
        steps.append(f"L{_place(*into)}Q{_place(*corner)} {_place(*out)}")
    return "".join(steps) + f"L{_place(*points[-1])}"


def _towards(start: Point, end: Point, distance: float) -> Point:
    """Returns the point `distance` from `start` on a level or upright line to `end`, at most half-way."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = abs(dx) + abs(dy)
    part = min(0.5, distance / length) if length else 0.0
    return start[0] + dx * part, start[1] + dy * part


def _box_svg(box: Box, color: str | None) -> str:
    radius = box.height / 2 if box.kind == "timer" else 6
    what = box.title if color is None else f"{box.title}: {box.detail}"
    dot_room = 0 if color is None else 14
    parts = [
        f'<g class="{box.kind}"><title>{escape(what)}</title>',
        (
            f'<rect class="box" x="{_number(box.x)}" y="{_number(box.y)}" '
            f'width="{_number(box.width)}" height="{_number(box.height)}" rx="{_number(radius)}"/>'
        ),
    ]
    if box.kind == "timer":
        parts.append(_text(box.label, box.x + box.width / 2, box.y + 17, anchor="middle"))
    else:
        parts.append(_text(box.label, box.x + 10, box.y + 18, kind="title"))
    if color is not None:
        parts.append(
            f'<circle cx="{_number(box.x + 14)}" cy="{_number(box.y + 31)}" r="4" fill="{color}"/>'
        )
    if box.detail:
        parts.append(_text(box.detail, box.x + 10 + dot_room, box.y + 35))
    parts += [_port_text(port, port.x + 8, "start") for port in box.inputs]
    if box.kind != "timer":
        parts += [_port_text(port, port.x - 8, "end") for port in box.outputs]
    return "".join(parts) + "</g>"


def _port_text(port: Port, x: float, anchor: str) -> str:
    return _text(port.label, x, port.y + 4, kind="port", anchor=anchor)


def _text(text: str, x: float, y: float, *, kind: str = "", anchor: str = "start") -> str:
    kind_attribute = f' class="{kind}"' if kind else ""
    anchor_attribute = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return (
        f'<text{kind_attribute} x="{_number(x)}" y="{_number(y)}"{anchor_attribute}>'
        f"{escape(text)}</text>"
    )


def _place(x: float, y: float) -> str:
    return f"{_number(x)},{_number(y)}"


def _number(value: float) -> str:
    """Formats with at most one decimal: smaller parts of a pixel cannot be seen."""
    return f"{value:.1f}".removesuffix(".0")
