"""`lay_out`: the positions of the boxes and lines in the picture of a dataflow. Pure.

::

    graph ─► boxes and links ─► connected components ─► columns ─► order ─► heights ─► lines
                                (each laid out alone)

Messages run from left to right: a box is right of all boxes that it reads from, except along a few
links that close a cycle, which go back below the boxes. Links cross only the gaps between columns or
places kept free for them, so no line runs through a box and no two boxes touch. The order in which
operators were declared does not matter. Lengths are in pixels, y grows downwards.

The method is the usual one for layered drawings (Sugiyama, Tagawa and Toda, 1981): reverse the links
that close a cycle, longest-path layers, barycentre ordering, then heights by isotonic regression.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from .graph import Graph
from .sources import NOTEBOOK, TimerSource, TopicSource

BoxKind = Literal["operator", "timer", "undeclared", "notebook"]
Point = tuple[float, float]

LABEL_LENGTH = 28
"""Longer names are cut in the picture; `Box.title` and `Port.name` have the whole name."""
TITLE_ADVANCE, SMALL_ADVANCE, PORT_ADVANCE = 8.0, 6.4, 6.8
"""Upper bounds for the mean width of a character: 13 px bold, 11 px, 11 px monospaced."""
TITLE_HEIGHT, DETAIL_HEIGHT, ROW_HEIGHT, PADDING = 26.0, 16.0, 18.0, 10.0
FACT_HEIGHT = 14.0
"""Height of a line that says how an operator or an edge is doing, where a layout has facts."""
MIN_WIDTH, MIN_FACTS_WIDTH = 92.0, 200.0
COLUMN_GAP, BOX_GAP, COMPONENT_GAP, MARGIN = 72.0, 20.0, 28.0, 14.0
LANE_HEIGHT = 10.0
"""Height kept free for each line that passes a column or goes back."""
SHELF_WIDTH = 720.0
"""Small components share a row up to this width, or up to the width of the widest component."""


@dataclass(frozen=True, slots=True)
class Port:
    """Where a line enters or leaves a box."""

    name: str
    label: str
    x: float
    y: float

    def moved(self, dx: float, dy: float) -> Port:
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True, slots=True)
class Box:
    """A node: an operator, a timer, a node that is not declared, or the notebook itself."""

    key: str
    kind: BoxKind
    title: str
    label: str
    detail: str
    x: float
    y: float
    width: float
    height: float
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()

    def moved(self, dx: float, dy: float) -> Box:
        return replace(
            self,
            x=self.x + dx,
            y=self.y + dy,
            inputs=tuple(port.moved(dx, dy) for port in self.inputs),
            outputs=tuple(port.moved(dx, dy) for port in self.outputs),
        )


@dataclass(frozen=True, slots=True)
class Wire:
    """A line from an output to an input.

    Between `points` it runs level, or turns in an S through a gap between columns; where
    `goes_back`, it runs level and upright in turn, below the boxes.
    """

    source: str
    output: str
    target: str
    input: str
    points: tuple[Point, ...]
    goes_back: bool = False

    def moved(self, dx: float, dy: float) -> Wire:
        return replace(self, points=tuple((x + dx, y + dy) for x, y in self.points))


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture with its margins."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]


def lay_out(
    graph: Graph,
    *,
    subscriptions: Iterable[str] = (),
    details: Mapping[str, str] | None = None,
    with_facts: bool = False,
) -> Layout:
    """Returns the layout of a graph.

    `subscriptions` are topics that the notebook reads; `details` are second lines for operators, by
    name (such as their states). `with_facts` keeps room for facts that change: a second and a third
    line of each operator, and a line below each input. Pure and deterministic.
    """
    nodes, links = _nodes_and_links(graph, sorted(set(subscriptions)), details or {})
    for node in nodes.values():
        node.with_facts = with_facts and node.kind != "timer"
    for link in links if with_facts else ():
        if nodes[link.source].kind != "timer":  # a tick is not sent, so there is nothing to say
            nodes[link.target].with_input_facts = True
    return _on_shelves([_Component(*each).draw() for each in _components(nodes, links)])


# --- boxes and links -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Link:
    source: str
    output: str
    target: str
    input: str


@dataclass
class _Node:
    key: str
    kind: BoxKind
    title: str
    detail: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    with_facts: bool = False
    with_input_facts: bool = False

    @property
    def header_height(self) -> float:
        if self.with_facts and self.kind == "operator":
            return TITLE_HEIGHT + DETAIL_HEIGHT + FACT_HEIGHT
        return TITLE_HEIGHT + (DETAIL_HEIGHT if self.detail else 0)

    @property
    def row_height(self) -> float:
        return ROW_HEIGHT + (FACT_HEIGHT if self.with_input_facts else 0)

    @property
    def height(self) -> float:
        rows = max(len(self.inputs), len(self.outputs))
        if self.kind == "timer":
            return TITLE_HEIGHT
        return self.header_height + rows * self.row_height + (PADDING / 2 if rows else 0)

    @property
    def width(self) -> float:
        ports = _longest(self.inputs) + _longest(self.outputs)
        if self.inputs and self.outputs:
            ports += 2
        text = max(
            TITLE_ADVANCE * len(shorten(self.title)),
            SMALL_ADVANCE * len(self.detail),
            PORT_ADVANCE * (0 if self.kind == "timer" else ports),
        )
        has_facts = self.with_input_facts or (self.with_facts and self.kind == "operator")
        least = MIN_FACTS_WIDTH if has_facts else MIN_WIDTH
        return max(least, float(round(text + 2 * PADDING)))

    def port_offset(self, index: int) -> float:
        """Returns how far the port of that index is below the top of the box."""
        if self.kind == "timer":
            return TITLE_HEIGHT / 2
        return self.header_height + index * self.row_height + ROW_HEIGHT / 2


def shorten(text: str) -> str:
    """Returns a name as the picture shows it."""
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"


def _longest(names: Iterable[str]) -> int:
    return max((len(shorten(name)) for name in names), default=0)


def _nodes_and_links(
    graph: Graph, subscriptions: Sequence[str], details: Mapping[str, str]
) -> tuple[dict[str, _Node], list[_Link]]:
    nodes = {
        spec.name: _Node(
            spec.name,
            "operator",
            spec.name,
            details.get(spec.name, ""),
            [read.name for read in spec.inputs],
            list(spec.outputs),
        )
        for spec in sorted(graph, key=lambda spec: spec.name)
    }
    links = [
        _link_to(nodes, spec.name, read.name, read.source)
        for spec in sorted(graph, key=lambda spec: spec.name)
        for read in spec.inputs
    ]
    if subscriptions:
        reader = _Node(f"{NOTEBOOK}/", "notebook", NOTEBOOK, inputs=list(subscriptions))
        nodes[reader.key] = reader
        for topic in subscriptions:
            node, _, output = topic.partition("/")
            links.append(_link_to(nodes, reader.key, topic, TopicSource(node, output)))
    return nodes, links


def _link_to(
    nodes: dict[str, _Node], reader: str, read: str, source: TopicSource | TimerSource
) -> _Link:
    """Returns the link into one input; adds a box for a source that is not an operator."""
    if isinstance(source, TimerSource):
        # A box for each reader, even of the same timer: a timer ticks in its reader's own loop.
        timer = _Node(f"{reader}/{read}/timer", "timer", _timer_title(source.text), outputs=[""])
        nodes[timer.key] = timer
        return _Link(timer.key, "", reader, read)
    kind: BoxKind = "notebook" if source.node == NOTEBOOK else "undeclared"
    detail = "not declared" if kind == "undeclared" else ""
    node = nodes.setdefault(source.node, _Node(source.node, kind, source.node, detail))
    if source.output not in node.outputs:
        node.outputs.append(source.output)
        if kind != "operator" and node.kind == kind:
            node.outputs.sort()
    return _Link(source.node, source.output, reader, read)


def _timer_title(text: str) -> str:
    return text.removeprefix("dora/").replace("timer/", "timer ", 1)


def _components(
    nodes: Mapping[str, _Node], links: Sequence[_Link]
) -> list[tuple[dict[str, _Node], list[_Link]]]:
    """Returns the connected components of the graph, ordered by their first name."""
    # Union-find: each key points towards the representative of its component.
    group = {key: key for key in nodes}

    def root(key: str) -> str:
        while group[key] != key:
            group[key] = group[group[key]]
            key = group[key]
        return key

    for link in links:
        first, second = sorted((root(link.source), root(link.target)))
        group[second] = first
    members: dict[str, dict[str, _Node]] = defaultdict(dict)
    for key in sorted(nodes):
        members[root(key)][key] = nodes[key]
    return [
        (component, [link for link in links if link.source in component])
        for _, component in sorted(members.items())
    ]


# --- one connected component -----------------------------------------------------------------


@dataclass
class _Slot:
    """A place in a column: a box, or a free lane through which a long link passes."""

    key: str
    height: float
    before: list[tuple[_Slot, float, float]] = field(default_factory=list)
    """Links from the column to the left: the slot there, the height of the link's end in it, and
    the height of its end in this one (both from the slots' tops)."""
    after: list[tuple[_Slot, float, float]] = field(default_factory=list)
    top: float = 0.0


class _Component:
    """Lays out one connected component with its top left corner at (0, 0)."""

    def __init__(self, nodes: Mapping[str, _Node], links: Sequence[_Link]) -> None:
        self.nodes = nodes
        self.loops = [link for link in links if link.source == link.target]
        others = [link for link in links if link.source != link.target]
        returning = _links_closing_a_cycle(nodes, others)
        self.back = [link for link in others if link in returning]
        self.forward = [link for link in others if link not in returning]
        self.loops_at = Counter(link.source for link in self.loops)
        self.column = _columns(nodes, self.forward)
        self.slots: dict[str, _Slot] = {}
        self.chains: dict[_Link, list[_Slot]] = {}
        self.columns: list[list[_Slot]] = [[] for _ in range(max(self.column.values()) + 1)]

    def draw(self) -> Layout:
        self._make_slots()
        _order(self.columns)
        _settle_heights(self.columns)
        lefts, widths = self._column_places()
        boxes = {key: self._box(node, lefts, widths) for key, node in self.nodes.items()}
        wires = [self._forward_wire(link, boxes, lefts, widths) for link in self.forward]
        wires += self._loop_wires(boxes)
        bottom = max(slot.top + slot.height for column in self.columns for slot in column)
        wires += self._back_wires(boxes, bottom)
        return Layout(
            lefts[-1] + widths[-1] + self._side_room(last=True),
            bottom + LANE_HEIGHT * len(self.back),
            tuple(boxes.values()),
            tuple(wires),
        )

    def _make_slots(self) -> None:
        for key, node in self.nodes.items():
            room = LANE_HEIGHT * self.loops_at[key] + (PADDING if self.loops_at[key] else 0)
            slot = self.slots[key] = _Slot(key, node.height + room)
            self.columns[self.column[key]].append(slot)
        for link in self.forward:
            chain = [self.slots[link.source]]
            for column in range(self.column[link.source] + 1, self.column[link.target]):
                passing = _Slot(f"{link.source}/{link.output}>{link.target}", LANE_HEIGHT)
                self.columns[column].append(passing)
                chain.append(passing)
            chain.append(self.slots[link.target])
            self.chains[link] = chain
            leaves, enters = self._port_offsets(link)
            for left, right in pairwise(chain):
                out_height = leaves if left is chain[0] else left.height / 2
                in_height = enters if right is chain[-1] else right.height / 2
                left.after.append((right, in_height, out_height))
                right.before.append((left, out_height, in_height))

    def _port_offsets(self, link: _Link) -> tuple[float, float]:
        source, target = self.nodes[link.source], self.nodes[link.target]
        return (
            source.port_offset(source.outputs.index(link.output)),
            target.port_offset(target.inputs.index(link.input)),
        )

    def _side_room(self, *, last: bool) -> float:
        """Room left of the first column, or right of the last one, for lines that turn there."""
        column = len(self.columns) - 1 if last else 0
        ends = [link.source if last else link.target for link in (*self.back, *self.loops)]
        return COLUMN_GAP / 2 if any(self.column[key] == column for key in ends) else 0.0

    def _column_places(self) -> tuple[list[float], list[float]]:
        widths = [
            max((self.nodes[s.key].width for s in column if s.key in self.nodes), default=MIN_WIDTH)
            for column in self.columns
        ]
        lefts = [self._side_room(last=False)]
        for width in widths[:-1]:
            lefts.append(lefts[-1] + width + COLUMN_GAP)
        return lefts, widths

    def _box(self, node: _Node, lefts: Sequence[float], widths: Sequence[float]) -> Box:
        """An operator fills its column's width; a box with lines on one side only is on that side."""
        column = self.column[node.key]
        width = widths[column] if node.kind == "operator" else node.width
        left = lefts[column] + (0 if node.inputs else widths[column] - width)
        top = self.slots[node.key].top

        def ports(names: Sequence[str], x: float) -> tuple[Port, ...]:
            return tuple(
                Port(name, shorten(name), x, top + node.port_offset(index))
                for index, name in enumerate(names)
            )

        return Box(
            key=node.key,
            kind=node.kind,
            title=node.title,
            label=shorten(node.title),
            detail=node.detail,
            x=left,
            y=top,
            width=width,
            height=node.height,
            inputs=ports(node.inputs, left),
            outputs=ports(node.outputs, left + width),
        )

    def _ends(self, link: _Link, boxes: Mapping[str, Box]) -> tuple[Point, Point]:
        source = next(port for port in boxes[link.source].outputs if port.name == link.output)
        target = next(port for port in boxes[link.target].inputs if port.name == link.input)
        return (source.x, source.y), (target.x, target.y)

    def _forward_wire(
        self,
        link: _Link,
        boxes: Mapping[str, Box],
        lefts: Sequence[float],
        widths: Sequence[float],
    ) -> Wire:
        start, end = self._ends(link, boxes)
        points = [start]
        for step, slot in enumerate(self.chains[link][1:-1], start=self.column[link.source] + 1):
            y = slot.top + slot.height / 2
            points += [(lefts[step], y), (lefts[step] + widths[step], y)]
        return Wire(link.source, link.output, link.target, link.input, (*points, end))

    def _loop_wires(self, boxes: Mapping[str, Box]) -> Iterator[Wire]:
        drawn: Counter[str] = Counter()
        for link in self.loops:
            box = boxes[link.source]
            lane = box.y + box.height + PADDING / 2 + LANE_HEIGHT * drawn[link.source]
            yield self._turning_wire(link, boxes, lane, 8.0 + 4.0 * (drawn[link.source] % 4))
            drawn[link.source] += 1

    def _back_wires(self, boxes: Mapping[str, Box], bottom: float) -> Iterator[Wire]:
        for index, link in enumerate(self.back):
            lane = bottom + LANE_HEIGHT * (index + 1)
            yield self._turning_wire(link, boxes, lane, 10.0 + 4.0 * (index % 6))

    def _turning_wire(
        self, link: _Link, boxes: Mapping[str, Box], lane: float, reach: float
    ) -> Wire:
        (x0, y0), (x1, y1) = self._ends(link, boxes)
        right, left = x0 + reach, x1 - reach
        points = ((x0, y0), (right, y0), (right, lane), (left, lane), (left, y1), (x1, y1))
        return Wire(link.source, link.output, link.target, link.input, points, goes_back=True)


def _links_closing_a_cycle(nodes: Mapping[str, _Node], links: Sequence[_Link]) -> set[_Link]:
    """Returns links without which the rest is free of cycles.

    They are the back edges of a depth-first walk. It begins at boxes that read nothing, so a loop is
    cut where it comes back to its beginning.
    """
    after: dict[str, list[_Link]] = defaultdict(list)
    for link in sorted(links, key=lambda link: (link.target, link.output, link.input)):
        after[link.source].append(link)
    read_into = {link.target for link in links}
    closing: set[_Link] = set()
    done: set[str] = set()
    for start in sorted(nodes, key=lambda key: (key in read_into, key)):
        if start in done:
            continue
        path = {start: iter(after[start])}
        while path:
            here = next(reversed(path))
            ahead = next(path[here], None)
            if ahead is None:
                done.add(here)
                del path[here]
            elif ahead.target in path:
                closing.add(ahead)
            elif ahead.target not in done:
                path[ahead.target] = iter(after[ahead.target])
    return closing


def _columns(nodes: Mapping[str, _Node], links: Sequence[_Link]) -> dict[str, int]:
    """Returns the column of each box: the next one right of all boxes that it reads from.

    A box that reads nothing moves as far to the right as its readers allow.
    """
    before: dict[str, set[str]] = {key: set() for key in nodes}
    after: dict[str, set[str]] = {key: set() for key in nodes}
    for link in links:
        before[link.target].add(link.source)
        after[link.source].add(link.target)
    column: dict[str, int] = {}
    ready = [key for key in nodes if not before[key]]
    waiting = {key: len(sources) for key, sources in before.items()}
    while ready:
        key = ready.pop()
        column[key] = max((column[source] + 1 for source in before[key]), default=0)
        for target in after[key]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for key in nodes:
        if not before[key] and after[key]:
            column[key] = min(column[target] for target in after[key]) - 1
    return column


def _order(columns: Sequence[list[_Slot]], *, sweeps: int = 8) -> None:
    """Orders each column so that few links cross; keeps the best order of all sweeps."""
    best = [list(column) for column in columns]
    fewest = _crossings(columns)
    for sweep in range(sweeps):
        leftwards = bool(sweep % 2)
        for column in reversed(columns) if leftwards else columns:
            _sort_by_neighbours(column, columns, leftwards=leftwards)
        crossings = _crossings(columns)
        if crossings < fewest:
            fewest, best = crossings, [list(column) for column in columns]
    for column, order in zip(columns, best, strict=True):
        column[:] = order


def _sort_by_neighbours(
    column: list[_Slot], columns: Sequence[list[_Slot]], *, leftwards: bool
) -> None:
    rank = {id(slot): index for other in columns for index, slot in enumerate(other)}

    def wish(slot: _Slot) -> float:
        neighbours = slot.after if leftwards else slot.before
        if not neighbours:
            return float(rank[id(slot)])
        # The port's height below a box's top, as a fraction, orders links to one box.
        places = [rank[id(other)] + at / (other.height + 1) for other, at, _ in neighbours]
        return sum(places) / len(places)

    column.sort(key=wish)


def _crossings(columns: Sequence[Sequence[_Slot]]) -> int:
    total = 0
    for left, right in pairwise(columns):
        rank = {id(slot): index for index, slot in enumerate(right)}
        ends = [
            ((index, leaves), (rank[id(other)], enters))
            for index, slot in enumerate(left)
            for other, enters, leaves in slot.after
        ]
        total += sum(
            (a[0] < b[0]) != (a[1] < b[1])
            for i, a in enumerate(ends)
            for b in ends[i + 1 :]
            if a[0] != b[0] and a[1] != b[1]
        )
    return total


def _settle_heights(columns: Sequence[Sequence[_Slot]], *, sweeps: int = 6) -> None:
    """Moves the slots of each column, in their order, to where their links are most level."""
    for column in columns:
        _stack(column, [0.0] * len(column))
    for sweep in range(sweeps):
        leftwards = bool(sweep % 2)
        for column in reversed(columns) if leftwards else columns:
            _stack(column, [_level_top(slot, leftwards=leftwards) for slot in column])
    highest = min(slot.top for column in columns for slot in column)
    for column in columns:
        for slot in column:
            slot.top = float(round(slot.top - highest))


def _level_top(slot: _Slot, *, leftwards: bool) -> float:
    neighbours = slot.after if leftwards else slot.before
    if not neighbours:
        return slot.top
    return sum(other.top + there - here for other, there, here in neighbours) / len(neighbours)


def _stack(column: Sequence[_Slot], wishes: Sequence[float]) -> None:
    """Sets the tops nearest to the wishes (least squares) that keep the slots apart.

    Minus the heights above each slot, the tops must only be monotonic: isotonic regression by pooling
    adjacent violators.
    """
    above: list[float] = []
    total = 0.0
    for slot in column:
        above.append(total)
        total += slot.height + BOX_GAP
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wishes, above, strict=True):
        mean, count = wish - offset, 1
        while pools and pools[-1][0] > mean:
            earlier, size = pools.pop()
            mean = (earlier * size + mean * count) / (size + count)
            count += size
        pools.append((mean, count))
    tops = [mean for mean, count in pools for _ in range(count)]
    for slot, top, offset in zip(column, tops, above, strict=True):
        slot.top = top + offset


# --- all components --------------------------------------------------------------------------


def _on_shelves(components: Sequence[Layout]) -> Layout:
    """Arranges the components in rows as wide as `SHELF_WIDTH`, or as the widest component."""
    limit = max([SHELF_WIDTH, *(component.width for component in components)])
    boxes: list[Box] = []
    wires: list[Wire] = []
    x = y = row_height = widest = 0.0
    for component in components:
        if x and x + component.width > limit:
            x, y, row_height = 0.0, y + row_height + COMPONENT_GAP, 0.0
        boxes += [box.moved(x + MARGIN, y + MARGIN) for box in component.boxes]
        wires += [wire.moved(x + MARGIN, y + MARGIN) for wire in component.wires]
        widest = max(widest, x + component.width)
        row_height = max(row_height, component.height)
        x += component.width + COMPONENT_GAP
    return Layout(widest + 2 * MARGIN, y + row_height + 2 * MARGIN, tuple(boxes), tuple(wires))
