"""The declared dataflow: names, sources, what waits, and what is refused without a change."""

from __future__ import annotations

import pytest

from dora_nb.errors import GraphError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, QueuePolicy, SourceCode
from dora_nb.graph.sources import (
    LogSource,
    TimerSource,
    TopicSource,
    check_name,
    check_port_name,
    parse_source,
)


def _spec(name: str, *, outputs: str = "", cell: int = 1, **inputs: str) -> NodeSpec:
    return NodeSpec(
        name,
        SourceCode("class Operator: ...", f"Cell In[{cell}]", 2),
        tuple(InputSpec(key, parse_source(text)) for key, text in inputs.items()),
        tuple(outputs.split()),
    )


def test_sources_are_topics_or_timers() -> None:
    assert parse_source("camera/image") == TopicSource("camera", "image")
    assert parse_source("dora/timer/hz/4") == TimerSource(0.25, "dora/timer/hz/4")
    assert parse_source("notebook/command") == TopicSource("notebook", "command")
    assert parse_source("robot/left/arm") == TopicSource("robot", "left/arm")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("camera", "write it as camera/OUTPUT"),
        ("", "write it as node/OUTPUT"),
        ("camera/", "invalid source 'camera/': expected NODE/OUTPUT"),
        ("/image", "invalid source '/image': expected NODE/OUTPUT"),
        ("camera/a//b", "'a//b' cannot be the name of an output: a name may have parts"),
        ("camera/a/", "'a/' cannot be the name of an output: a name may have parts"),
        (".camera/image", "cannot be the name of a node"),
        ("camera/im age", "'im age' cannot be the name of an output: it has a blank"),
        ("dora/timer/milis/5", "Did you mean 'millis'?"),
        ("dora/timer/millis/0", "above 0"),
        ("dora/clock", "invalid source 'dora/clock': expected dora/timer/UNIT/N"),
        ("dora/logs/wran", "Did you mean 'warn'?"),
        ("dora/logs/warn/a b", "cannot be the name of a node"),
        ("dora/logs/warn/a/b", "invalid source 'dora/logs/warn/a/b': expected dora/timer/UNIT/N"),
    ],
)
def test_an_invalid_source_raises_with_the_way_out(text: str, error: str) -> None:
    with pytest.raises(GraphError) as raised:
        parse_source(text)
    assert error in str(raised.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("dora/logs", {"error a", "info a", "stdout a", "stdout b"}),
        ("dora/logs/stdout", {"error a", "info a", "stdout a", "stdout b"}),
        ("dora/logs/info", {"error a", "info a"}),
        ("dora/logs/error", {"error a"}),
        ("dora/logs/stdout/b", {"stdout b"}),
    ],
)
def test_a_source_of_logs_wants_what_is_grave_enough(text: str, wanted: set[str]) -> None:
    source = parse_source(text)
    assert isinstance(source, LogSource)
    assert str(source) == text
    lines = [("error", "a"), ("info", "a"), ("stdout", "a"), ("stdout", "b")]
    assert {f"{level} {name}" for level, name in lines if source.wants(level, name)} == wanted


@pytest.mark.parametrize("name", ["dora", "notebook", ".hidden", "with space", "", "a/b", "ä"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(GraphError):
        check_name(name, what="an operator")


@pytest.mark.parametrize(
    "name", ["v1/chat/completions", "camera_torso/image", ".x", "a.b-c", "dora"]
)
def test_a_port_may_have_each_name_that_dora_allows(name: str) -> None:
    assert check_port_name(name, what="an output") == name


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "a/", "a//b", "a b", " a", "a\n", "ä", "a;b", "a:b"]
)
def test_impossible_names_of_ports_are_refused(name: str) -> None:
    with pytest.raises(GraphError, match="cannot be the name of an output"):
        check_port_name(name, what="an output")


def test_an_input_of_an_undeclared_node_waits() -> None:
    graph = Graph().with_node(_spec("detector", image="camera/image", map="slam/map"))
    assert graph.waiting_for("detector") == ("camera", "slam")
    assert graph.edges() == []
    graph = graph.with_node(_spec("camera", outputs="image"))
    assert graph.waiting_for("detector") == ("slam",)
    assert [str(edge) for edge in graph.edges()] == ["camera/image → detector/image"]


def test_an_output_that_its_node_lacks_is_refused_and_changes_nothing() -> None:
    graph = Graph().with_node(_spec("camera", outputs="image depth"))
    with pytest.raises(GraphError, match=r"reads 'camera/imgae'.*Did you mean 'image'"):
        graph.with_node(_spec("detector", image="camera/imgae"))
    assert list(graph.nodes) == ["camera"]


def test_a_declaration_that_takes_an_output_away_names_who_reads_it() -> None:
    graph = Graph().with_node(_spec("camera", outputs="image"))
    graph = graph.with_node(_spec("detector", cell=4, image="camera/image"))
    with pytest.raises(GraphError, match=r"detector \(Cell In\[4\]\) reads 'camera/image'"):
        graph.with_node(_spec("camera", outputs="picture"))


def test_an_operator_may_read_itself() -> None:
    graph = Graph().with_node(_spec("echo", outputs="out", again="echo/out"))
    assert [str(edge) for edge in graph.edges()] == ["echo/out → echo/again"]


def test_the_number_of_the_cell_is_no_change_but_its_text_and_options_are() -> None:
    first = _spec("camera", outputs="image", cell=3)
    assert first.same_as(_spec("camera", outputs="image", cell=9))
    assert not first.same_as(_spec("camera", outputs="image depth", cell=3))
    other_text = NodeSpec("camera", SourceCode("x = 1", "Cell In[3]", 2), (), ("image",))
    assert not first.same_as(other_text)


def test_removing_leaves_the_readers_waiting() -> None:
    graph = Graph().with_node(_spec("camera", outputs="image"))
    graph = graph.with_node(_spec("detector", image="camera/image")).without("camera")
    assert graph.waiting_for("detector") == ("camera",)
    with pytest.raises(GraphError, match="no operator 'camra'"):
        graph.without("camra")


def test_the_same_output_twice_is_refused() -> None:
    with pytest.raises(GraphError, match="the output 'image' twice"):
        Graph().with_node(_spec("camera", outputs="image image"))


def test_what_a_node_prints_goes_to_one_of_its_outputs() -> None:
    spec = NodeSpec("a", SourceCode("", "a"), kind="script", other_keys={"send_stdout_as": "lines"})
    with pytest.raises(
        GraphError, match="a should send what it prints as 'lines', which is not one of its outputs"
    ):
        Graph().with_node(spec)
    own = {"operator": {"send_stdout_as": "lines"}}
    operator = NodeSpec("b", SourceCode("", "b"), outputs=("lines",), other_keys=own)
    assert Graph().with_node(operator).node("b").send_stdout_as == "lines"


def _wired(wires: str) -> Graph:
    """From ``b<a c<-b``: b reads a, and so on; where it is ``<-`` the reader's queue blocks a."""
    reads: dict[str, list[InputSpec]] = {}
    for wire in wires.split():
        reader, _, writer = wire.partition("<")
        source = writer.lstrip("-")
        policy: QueuePolicy = "backpressure" if writer.startswith("-") else "drop_oldest"
        reads.setdefault(source, [])
        reads.setdefault(reader, []).append(
            InputSpec(f"from_{source}", parse_source(f"{source}/out"), 10, policy)
        )
    return Graph().with_nodes(
        NodeSpec(name, SourceCode("", name), tuple(inputs), ("out",))
        for name, inputs in reads.items()
    )


@pytest.mark.parametrize(
    ("wires", "cycle"),
    [
        ("b<-a a<-b", "ab"),
        ("a<-a", "a"),
        ("b<-a c<-b a<-c d<-c", "abc"),
        ("b<-a c<-b a<-c a<-b", "ab"),  # the shorter one
        ("b<-a a<b", ""),  # one input drops, so nobody waits for ever
        ("b<-a c<-b", ""),
        ("b<-a c<-b b<-c", ""),  # a cycle, but not through a
    ],
)
def test_a_cycle_in_which_every_input_blocks_is_found(wires: str, cycle: str) -> None:
    assert "".join(_wired(wires).blocking_cycle("a")) == cycle
