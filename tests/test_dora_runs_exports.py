"""The real engine, dora-rs, takes what was exported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dora_nb.descriptor import write_dataflow
from dora_nb.graph import Graph, InputSpec, NodeSpec, SourceCode, parse_source

BIN = Path(sys.executable).parent


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """dora's own segments in /dev/shm go some time after its processes."""
    return ("threads", "processes", "descriptors", "mappings")


SENDING = """
import numpy as np
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.n += 1
            send_output("out", np.array([self.n]))
"""
RECEIVING = """
from dora import Node
for event in Node():
    if event["type"] == "INPUT" and event["value"][0].as_py() == 3:
        print("seen", event["value"].to_pylist())
        break
"""


def test_dora_validates_and_runs_what_was_exported(tmp_path: Path) -> None:
    """Although the operator returns None and sends numpy arrays."""
    tick = InputSpec("tick", parse_source("dora/timer/hz/20"))
    source = NodeSpec("source", SourceCode(SENDING, "Cell In[1]"), (tick,), ("out",))
    read = InputSpec("in", parse_source("source/out"))
    reader = NodeSpec("reader", SourceCode(RECEIVING, "Cell In[2]"), (read,), kind="script")
    graph = Graph().with_node(source).with_node(reader)
    path = str(write_dataflow(graph, tmp_path).path)
    # Its nodes run with the first `python` on PATH, if there is no uv.
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}
    said = []
    for words in (["validate", path], ["run", path, "--stop-after", "3s"]):
        ran = subprocess.run(
            [BIN / "dora", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said.append(ran.stdout + ran.stderr)
        assert ran.returncode == 0, said[-1]
    assert re.search(r"reader: seen \[3\]", said[1]), said[1]
