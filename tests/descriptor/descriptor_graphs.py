"""Graphs for these tests."""

from __future__ import annotations

from dora_nb.graph import Graph, InputSpec, NodeKind, NodeSpec, SourceCode, parse_source

OPERATOR = """\
import pyarrow as pa
from dora import DoraStatus

class Operator:
    def on_event(self, dora_event, send_output):
        send_output("image", pa.array([1, 2, 3]))
        return DoraStatus.STOP
"""
SCRIPT = """\
from dora import Node

for event in Node():
    print(event["type"], event.get("id"), flush=True)
    if event["type"] == "INPUT":
        break
"""


def node(
    name: str,
    text: str = OPERATOR,
    *,
    kind: NodeKind = "operator",
    inputs: dict[str, str] | None = None,
    outputs: tuple[str, ...] = (),
    **more: object,
) -> NodeSpec:
    reads = tuple(InputSpec(key, parse_source(source)) for key, source in (inputs or {}).items())
    return NodeSpec(name, SourceCode(text, "Cell In[1]"), reads, outputs, kind=kind, **more)  # type: ignore[arg-type]


def graph_of(*specs: NodeSpec) -> Graph:
    graph = Graph()
    for spec in specs:
        graph = graph.with_node(spec)
    return graph


def two() -> Graph:
    return graph_of(
        node("camera", inputs={"tick": "dora/timer/hz/20"}, outputs=("image",)),
        node(
            "reader",
            SCRIPT,
            kind="script",
            inputs={"image": "camera/image"},
            args=("--name", "a b"),
            env=(("MODEL", "1e3"),),
        ),
    )
