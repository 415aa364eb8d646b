"""What `%dora graph` shows and saves."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.status import State
from dora_nb.widgets.graph import GraphPicture

SVG = "{http://www.w3.org/2000/svg}"


def operator(name: str, inputs: dict[str, str] | None = None, outputs: str = "") -> NodeSpec:
    reads = tuple(InputSpec(key, parse_source(text)) for key, text in (inputs or {}).items())
    return NodeSpec(name, SourceCode("", "Cell In[1]"), reads, tuple(outputs.split()))


@pytest.fixture
def graph() -> Graph:
    specs = [
        operator("camera", {"tick": "dora/timer/hz/30"}, "image"),
        operator("detector", {"image": "camera/image"}, "bbox"),
        operator("arm", {"boxes": "detector/bbox", "plan": "planner/path"}, "state"),
    ]
    return Graph({spec.name: spec for spec in specs})


STATES = {"camera": State.RUNNING, "detector": State.FAILED, "arm": State.WAITING}


def dots(svg: str) -> list[str]:
    return [element.attrib["fill"] for element in ET.fromstring(svg).iter(f"{SVG}circle")]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_picture_names_every_node_port_and_state(graph: Graph) -> None:
    shown = texts(GraphPicture(graph, STATES, subscriptions=["camera/image"]).svg)
    for text in ("camera", "running", "timer hz/30", "tick", "detector", "failed", "bbox"):
        assert text in shown
    assert {"waiting (for planner)", "planner", "not declared", "notebook"} <= set(shown)


def test_text_says_the_same(graph: Graph) -> None:
    assert str(GraphPicture(graph, STATES, subscriptions=["camera/image"])) == (
        "camera [running]\n"
        "  tick ← dora/timer/hz/30\n"
        "  image → detector/image, notebook\n"
        "detector [failed]\n"
        "  image ← camera/image\n"
        "  bbox → arm/boxes\n"
        "arm [waiting (for planner)]\n"
        "  boxes ← detector/bbox\n"
        "  plan ← planner/path\n"
        "  state → (no reader)"
    )


def test_the_same_graph_gives_the_same_bytes_without_ids(graph: Graph) -> None:
    first = GraphPicture(graph, STATES)._repr_mimebundle_()
    assert first == GraphPicture(graph, dict(reversed(STATES.items())))._repr_mimebundle_()
    assert set(first) == {"image/svg+xml", "text/plain"}
    assert all(
        "id" not in element.attrib for element in ET.fromstring(first["image/svg+xml"]).iter()
    )


def test_every_style_is_bound_to_the_picture(graph: Graph) -> None:
    """nbconvert puts the SVG into the page, where a loose rule would restyle the notebook."""
    style = ET.fromstring(GraphPicture(graph, {}).svg).find(f"{SVG}style")
    assert style is not None
    assert style.text
    rules = [line for line in style.text.splitlines() if line.strip() not in ("", "}")]
    assert len(rules) > 10
    assert all(line.startswith((".dora-graph ", "@media ")) for line in rules)


def test_what_is_not_declared_is_dashed(graph: Graph) -> None:
    root = ET.fromstring(GraphPicture(graph, {}).svg)
    classes = [element.get("class") for element in root.iter()]
    assert classes.count("undeclared") == 1
    assert classes.count("wire waits") == 1


def test_an_operator_without_a_known_state_is_declared(graph: Graph) -> None:
    assert texts(GraphPicture(graph, {}).svg).count("declared") == 3


def test_a_node_that_runs_with_warnings_has_an_amber_dot(graph: Graph) -> None:
    running = {"camera": State.RUNNING}
    waiting = set(dots(GraphPicture(graph, {"camera": State.WAITING}).svg))
    green = Counter(dots(GraphPicture(graph, running).svg))
    amber = Counter(dots(GraphPicture(graph, running, amber=["camera"]).svg))
    (lost,), (gained,) = (green - amber).items(), (amber - green).items()
    assert lost[1] == gained[1] == 1
    assert gained[0] in waiting


def test_nothing_declared_is_said_in_words() -> None:
    picture = GraphPicture(Graph(), {})
    assert picture._repr_mimebundle_() == {"text/plain": "no operator is declared"}


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_any_text_is_escaped(text: str) -> None:
    """Names are checked before they come here; a picture does not rely on it."""
    spec = NodeSpec(text, SourceCode("", "Cell In[1]"), (), (text,))
    picture = GraphPicture(Graph({text: spec}), {})
    ET.fromstring(picture.svg)


def test_markup_in_a_name_stays_text() -> None:
    name = "<script>alert('&')</script>"
    spec = NodeSpec(name, SourceCode("", "Cell In[1]"))
    root = ET.fromstring(GraphPicture(Graph({name: spec}), {}).svg)
    assert not list(root.iter(f"{SVG}script"))
    assert name in [element.text for element in root.iter(f"{SVG}text")]
