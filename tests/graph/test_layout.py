"""The picture's geometry: for any graph at all, nothing overlaps and lines end where they should."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from dora_nb.graph.graph import Graph
from dora_nb.graph.layout import (
    BOX_GAP,
    DETAIL_HEIGHT,
    FACT_HEIGHT,
    Box,
    Layout,
    Point,
    Wire,
    lay_out,
)
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source

CODE = SourceCode("", "Cell In[1]")


def operator(name: str, inputs: dict[str, str] | None = None, outputs: str = "") -> NodeSpec:
    reads = tuple(InputSpec(key, parse_source(text)) for key, text in (inputs or {}).items())
    return NodeSpec(name, CODE, reads, tuple(outputs.split()))


def graph_of(*operators: NodeSpec) -> Graph:
    return Graph({spec.name: spec for spec in operators})


def box(layout: Layout, key: str) -> Box:
    return next(each for each in layout.boxes if each.key == key)


def wire(layout: Layout, target: str, read: str) -> Wire:
    return next(each for each in layout.wires if (each.target, each.input) == (target, read))


NAMES = ("a", "camera", "detector", "planner", "a_name_that_is_longer_than_any_box_would_be", "z.9")


@st.composite
def graphs(draw: st.DrawFn, names: tuple[str, ...] = NAMES, most: int = 6) -> Graph:
    """Any wiring: cycles, self loops, several links between two nodes, undeclared nodes, timers."""
    declared = draw(st.lists(st.sampled_from(names), unique=True, max_size=most))
    outputs = {name: draw(st.integers(0, 3)) for name in declared}
    topics = [f"{name}/out{i}" for name in declared for i in range(outputs[name])]
    topics += [f"{name}/any" for name in names if name not in declared]
    topics += ["dora/timer/hz/30", "dora/timer/millis/100", "notebook/command"]
    specs = []
    for name in declared:
        sources = draw(st.lists(st.sampled_from(topics), max_size=4))
        reads = {f"in{i}": source for i, source in enumerate(sources)}
        specs.append(operator(name, reads, " ".join(f"out{i}" for i in range(outputs[name]))))
    return graph_of(*specs)


def topics_of(graph: Graph) -> list[str]:
    return [f"{spec.name}/{output}" for spec in graph for output in spec.outputs]


def overlap(first: Box, second: Box, room: float = 0.0) -> bool:
    return (
        first.x < second.x + second.width + room
        and second.x < first.x + first.width + room
        and first.y < second.y + second.height + room
        and second.y < first.y + first.height + room
    )


def points_along(wire: Wire) -> Iterator[Point]:
    """Points on the line as it is drawn: straight, or a Bézier curve with level ends."""
    for (x0, y0), (x1, y1) in itertools.pairwise(wire.points):
        half = (x0 + x1) / 2
        for step in range(21):
            t = step / 20
            if wire.goes_back or y0 == y1:
                yield x0 + (x1 - x0) * t, y0 + (y1 - y0) * t
            else:
                u = 1 - t
                weights = (u**3, 3 * u * u * t, 3 * u * t * t, t**3)
                xs, ys = (x0, half, half, x1), (y0, y0, y1, y1)
                yield (
                    sum(w * x for w, x in zip(weights, xs, strict=True)),
                    sum(w * y for w, y in zip(weights, ys, strict=True)),
                )


def inside(point: Point, around: Box) -> bool:
    x, y = point
    return (
        around.x + 0.5 < x < around.x + around.width - 0.5
        and around.y + 0.5 < y < around.y + around.height - 0.5
    )


def check(graph: Graph, layout: Layout, subscriptions: list[str]) -> None:
    for first, second in itertools.combinations(layout.boxes, 2):
        assert not overlap(first, second, room=BOX_GAP - 2), (first, second)
    for each in layout.wires:
        outputs = {port.name: (port.x, port.y) for port in box(layout, each.source).outputs}
        inputs = {port.name: (port.x, port.y) for port in box(layout, each.target).inputs}
        assert each.points[0] == outputs[each.output]
        assert each.points[-1] == inputs[each.input]
        for point in points_along(each):
            assert 0 <= point[0] <= layout.width
            assert 0 <= point[1] <= layout.height
            assert not any(inside(point, around) for around in layout.boxes), each
    wired = {(each.target, each.input) for each in layout.wires}
    assert wired == {(spec.name, read.name) for spec in graph for read in spec.inputs} | {
        ("notebook/", topic) for topic in subscriptions
    }
    assert len(layout.wires) == len(wired)
    for around in layout.boxes:
        assert around.x >= 0
        assert around.y >= 0
        assert around.x + around.width <= layout.width
        assert around.y + around.height <= layout.height
        for port in (*around.inputs, *around.outputs):
            assert around.y < port.y < around.y + around.height
            assert port.x in (around.x, around.x + around.width)


@given(graph=graphs(), subscribed=st.booleans(), with_facts=st.booleans())
def test_nothing_overlaps_and_every_line_ends_at_its_ports(
    graph: Graph, subscribed: bool, with_facts: bool
) -> None:
    subscriptions = topics_of(graph) if subscribed else []
    layout = lay_out(graph, subscriptions=subscriptions, with_facts=with_facts)
    check(graph, layout, subscriptions)


@given(graph=graphs(), data=st.data())
def test_the_order_of_declaration_does_not_matter(graph: Graph, data: st.DataObject) -> None:
    order = data.draw(st.permutations(list(graph.nodes)))
    shuffled = Graph({name: graph.nodes[name] for name in order})
    assert lay_out(shuffled) == lay_out(graph)


@given(graph=graphs())
def test_time_runs_from_left_to_right(graph: Graph) -> None:
    layout = lay_out(graph)
    for each in layout.wires:
        if not each.goes_back:
            source, target = box(layout, each.source), box(layout, each.target)
            assert source.x + source.width < target.x


@given(graph=graphs())
def test_only_cycles_make_lines_go_back(graph: Graph) -> None:
    """From the end of each line that goes back, its beginning can be reached."""
    layout = lay_out(graph)
    after: dict[str, set[str]] = {each.key: set() for each in layout.boxes}
    for each in layout.wires:
        after[each.source].add(each.target)

    def reachable(start: str) -> set[str]:
        found, todo = {start}, [start]
        while todo:
            for target in after[todo.pop()] - found:
                found.add(target)
                todo.append(target)
        return found

    for each in layout.wires:
        if each.goes_back:
            assert each.source in reachable(each.target)


def test_fifty_operators() -> None:
    names = [f"node{i:02}" for i in range(50)]
    specs = [
        operator(
            name,
            {f"in{k}": f"{names[(i * 7 + k * 13) % 50]}/out" for k in range(i % 4)},
            "out",
        )
        for i, name in enumerate(names)
    ]
    graph = graph_of(*specs)
    check(graph, lay_out(graph), [])


def test_an_empty_graph_has_an_empty_picture() -> None:
    layout = lay_out(Graph())
    assert (layout.boxes, layout.wires) == ((), ())
    assert layout.width > 0


def test_a_chain_runs_level_and_a_timer_stands_beside_its_reader() -> None:
    layout = lay_out(
        graph_of(
            operator("camera", {"tick": "dora/timer/hz/30"}, "image"),
            operator("detector", {"image": "camera/image"}, "bbox"),
            operator("plot", {"boxes": "detector/bbox", "again": "dora/timer/secs/1"}),
        )
    )
    assert len({y for _, y in wire(layout, "detector", "image").points}) == 1
    timers = [each for each in layout.boxes if each.kind == "timer"]
    assert [each.title for each in timers] == ["timer hz/30", "timer secs/1"]
    assert timers[1].x > box(layout, "camera").x + box(layout, "camera").width


def test_an_undeclared_node_and_both_sides_of_the_notebook_are_boxes() -> None:
    graph = graph_of(operator("arm", {"goal": "planner/path", "stop": "notebook/halt"}, "state"))
    layout = lay_out(graph, subscriptions=["arm/state", "planner/path"])
    kinds = {each.key: each.kind for each in layout.boxes}
    assert kinds == {
        "arm": "operator",
        "planner": "undeclared",
        "notebook": "notebook",
        "notebook/": "notebook",
    }
    assert box(layout, "planner").detail == "not declared"
    assert [port.name for port in box(layout, "notebook/").inputs] == ["arm/state", "planner/path"]


def test_parts_without_a_link_stand_side_by_side_while_there_is_room() -> None:
    names = [f"lonely{i}" for i in range(20)]
    layout = lay_out(graph_of(*map(operator, names)))
    assert len({each.y for each in layout.boxes}) > 1
    assert len([each for each in layout.boxes if each.y == layout.boxes[0].y]) > 3


def test_a_line_that_closes_a_cycle_goes_back_below_the_boxes() -> None:
    layout = lay_out(
        graph_of(
            operator("a", {"tick": "dora/timer/hz/1", "back": "c/o"}, "o"),
            operator("b", {"i": "a/o"}, "o"),
            operator("c", {"i": "b/o"}, "o"),
        )
    )
    back = wire(layout, "a", "back")
    assert back.goes_back
    assert max(y for _, y in back.points) > max(each.y + each.height for each in layout.boxes)
    assert [each.goes_back for each in layout.wires].count(True) == 1


def test_links_that_need_not_cross_do_not() -> None:
    """Two chains whose names would cross them if boxes were only sorted by name."""
    layout = lay_out(
        graph_of(
            operator("a", {}, "o"),
            operator("b", {}, "o"),
            operator("y", {"i": "b/o", "j": "hub/b"}),
            operator("z", {"i": "a/o", "j": "hub/a"}),
            operator("hub", {}, "a b"),
        )
    )
    order = [box(layout, key).y for key in ("y", "z")]
    assert (box(layout, "a").y < box(layout, "b").y) == (order[1] < order[0])


def test_second_lines_make_room_for_themselves() -> None:
    graph = graph_of(operator("a", {}, "o"))
    plain = box(lay_out(graph), "a")
    detailed = box(lay_out(graph, details={"a": "waiting (for a_node_with_a_long_name)"}), "a")
    assert detailed.height > plain.height
    assert detailed.width > plain.width


def test_facts_have_room_below_each_input_that_reads_a_topic() -> None:
    graph = graph_of(
        operator("a", {"tick": "dora/timer/hz/30"}, "o"),
        operator("b", {"x": "a/o", "y": "a/o"}, ""),
    )
    plain, live = lay_out(graph), lay_out(graph, with_facts=True)

    def between(layout: Layout) -> float:
        first, second = box(layout, "b").inputs
        return second.y - first.y

    assert between(live) == between(plain) + FACT_HEIGHT
    # A timer's ticks are not counted: its reader gets two lines for its own facts alone.
    ticked = box(live, "a").height - box(plain, "a").height
    assert ticked == DETAIL_HEIGHT + FACT_HEIGHT
