"""Topic paths: where the output ends and the field begins, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.errors import GraphError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import TopicSource
from dora_nb.graph.topic_paths import Field, TopicPath, field_text, parse_topic_path


def _node(name: str, *outputs: str, reads: tuple[str, ...] = ()) -> NodeSpec:
    inputs = tuple(
        InputSpec(f"in{place}", TopicSource("notebook", output))
        for place, output in enumerate(reads)
    )
    return NodeSpec(name, SourceCode("class Operator: ...", "Cell In[1]", 2), inputs, outputs)


GRAPH = Graph().with_nodes(
    [
        _node("imu", "accel"),
        _node("sim", "pose", "pose.x.raw", "image"),
        _node("a", "b/c", "b", "v1.2/speed"),
        _node("sink", reads=("cmd.left", "cmd")),
    ]
)


@pytest.mark.parametrize(
    ("text", "node", "output", "field"),
    [
        ("imu/accel", "imu", "accel", ()),
        ("imu/accel[0]", "imu", "accel", (0,)),
        ("imu/accel[-1]", "imu", "accel", (-1,)),
        ("sim/pose", "sim", "pose", ()),
        ("sim/pose.x", "sim", "pose", ("x",)),
        ("sim/pose.x.raw", "sim", "pose.x.raw", ()),
        ("sim/pose.x.raw[3].y", "sim", "pose.x.raw", (3, "y")),
        ("sim/pose.x.rawer", "sim", "pose", ("x", "rawer")),
        ("sim/pose.größe", "sim", "pose", ("größe",)),
        ("a/b/c.d[2].e", "a", "b/c", ("d", 2, "e")),
        ("a/b.c/d", "a", "b", ("c/d",)),
        ("a/v1.2/speed[0][1]", "a", "v1.2/speed", (0, 1)),
        ("notebook/cmd.left", "notebook", "cmd.left", ()),
        ("notebook/cmd.right", "notebook", "cmd", ("right",)),
    ],
)
def test_the_longest_declared_output_wins(text: str, node: str, output: str, field: Field) -> None:
    path = parse_topic_path(text, GRAPH)
    assert path == TopicPath(TopicSource(node, output), field)
    assert str(path) == text


@pytest.mark.parametrize(
    ("text", "output", "field"),
    [
        ("arm/angle", "angle", ()),
        ("arm/pose.x", "pose", ("x",)),
        ("arm/left/pose.x[0]", "left/pose", ("x", 0)),
        ("arm/v1.2/pose.x", "v1.2/pose", ("x",)),
        ("arm/angles[2]", "angles", (2,)),
        ("arm/.hidden.x", ".hidden", ("x",)),
    ],
)
def test_the_output_of_an_undeclared_node_is_assumed_to_have_no_dot(
    text: str, output: str, field: Field
) -> None:
    assert parse_topic_path(text, GRAPH) == TopicPath(
        TopicSource("arm", output), field, is_assumed=True
    )
    declared = GRAPH.with_node(_node("arm", f"{output}{field_text(field)}".partition("[")[0]))
    assert not parse_topic_path(text, declared).is_assumed


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("imu/acel[0]", "imu has outputs: accel. Did you mean 'imu/accel[0]'?"),
        ("sim/pos.x", "reads 'sim/pos.x', but sim has outputs: pose, pose.x.raw, image. Did you mean 'sim/pose.x'?"),
        ("sim/temperature", "sim has outputs: pose, pose.x.raw, image."),
        ("sink/out.x", "reads 'sink/out.x', but sink has no outputs."),
        ("imu/accel[x]", "in 'imu/accel[x]': cannot read '[x]' as a field; write .name for a field"),
        ("imu/accel[0", "cannot read '[0' as a field"),
        ("imu/accel.", "cannot read '.' as a field"),
        ("imu/accel[0]x", "cannot read 'x' as a field"),
        ("imu/accel[99999999999999999999]", "cannot read '[9999"),
        ("arm/pose.x]", "cannot read ']' as a field"),
        ("imu", "the source 'imu' lacks an output; write it as imu/OUTPUT"),
        ("imu/", "invalid source 'imu/': expected NODE/OUTPUT"),
        ("", "the source '' lacks an output"),
        ("arm/[0]", "invalid source 'arm/': expected NODE/OUTPUT"),
        ("arm/a b.x", "'a b' cannot be the name of an output: it has a blank"),
        ("dora/timer/hz/2.5", "'dora/timer/hz/2.5' is a timer, not a topic; name NODE/OUTPUT."),
        ("dora/logs", "only nodes can read 'dora/logs'; here, use dataflow.logs()."),
    ],
)  # fmt: skip
def test_what_is_not_a_path_raises_with_the_way_out(text: str, error: str) -> None:
    with pytest.raises(GraphError) as raised:
        parse_topic_path(text, GRAPH)
    assert error in str(raised.value)


@given(st.text(st.sampled_from("imusapoe/.[]0-x é"), max_size=20))
def test_any_text_is_a_path_or_a_graph_error(text: str) -> None:
    try:
        path = parse_topic_path(text, GRAPH)
    except GraphError:
        return
    assert str(path) == text or path.field
