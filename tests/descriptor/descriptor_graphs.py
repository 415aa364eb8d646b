"""Graphs for these tests."""

from __future__ import annotations

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeKind, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source

OPERATOR = """\
import pyarrow as pa
from dora import DoraStatus

class Operator:
    sent = 0

    def on_event(self, dora_event, send_output):
        send_output("image", pa.array([1, 2, 3]))
        self.sent += 1
        return DoraStatus.STOP if self.sent == 10 else DoraStatus.CONTINUE
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


MODULE = """\
module: {name: t, inputs: [raw], inputs_optional: [config], outputs: [result, two]}
build: echo module
nodes:
  - id: a
    path: a.py
    args: --speed $PARAM_SPEED
    inputs: {i: _mod/raw, c: _mod/config, t: dora/timer/hz/2}
    outputs: [result, inner]
    env: {HOW: inner}
    build: echo inner
  - id: b
    operator:
      python: ../operator.py
      inputs: {i: {source: _mod/raw, queue_size: 7}, j: a/inner}
      outputs: [two]
"""
WITH_MODULE = """\
env: {ALL: root, HOW: root}
nodes:
  - id: reader
    path: script.py
    inputs: {x: pipe/result, y: pipe/two}
  - id: source
    path: script.py
    outputs: [v]
  - id: pipe
    module: modules/t.yml
    inputs: {raw: {source: source/v, queue_size: 3}}
    params: {speed: "2.5", deep: false}
    env: {HOW: module, MORE: module}
    build: echo outer
    deploy: {machine: m}
"""
