"""Sources that no node of the file has: timers, logs, and the notebook; in, out, and in again."""

from __future__ import annotations

from pathlib import Path

from descriptor_graphs import SCRIPT

from dora_nb.descriptor import read_dataflow, write_dataflow
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source

SOURCES = {
    "tick": "dora/timer/hz/5",
    "all": "dora/logs",
    "grave": "dora/logs/warn",
    "own": "dora/logs/info/other",
    "goal": "notebook/goal",
}


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    reads = tuple(InputSpec(name, parse_source(text)) for name, text in SOURCES.items())
    code = SourceCode(SCRIPT, "Cell In[1]")
    graph = Graph().with_node(NodeSpec("reader", code, reads, kind="script"))
    exported = write_dataflow(graph, tmp_path)
    assert exported.notes == ()
    again = read_dataflow(exported.path)
    assert [str(read.source) for read in again.graph.node("reader").inputs] == [*SOURCES.values()]
    assert again.notes == ()
    assert (
        "id: notebook\n    path: dynamic\n    outputs:\n      - goal\n" in exported.path.read_text()
    )
