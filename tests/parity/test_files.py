"""A ``dataflow.yml`` for each key, run by `dora-nb run` and by `dora run`: the same happens, or both refuse.

Here is what both take and both refuse; what only one of them takes is in `test_differences`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .parity_rig import FileRow, FilesTogether, compare, observed_of_file

SHOWS = """\
import os, sys
from dora import Node
node = Node()
print("OBS", sys.argv[1:], [os.environ.get(name) for name in "ABCDE"], flush=True)
"""
SENDS = """\
import time
import pyarrow as pa
from dora import Node
node = Node()
for number in range(3):
    node.send_output("out", pa.array([number]))
    time.sleep(0.05)
"""
ECHOES = """\
from dora import DoraStatus
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            print("OBS", dora_event["id"], dora_event["value"].to_pylist(), flush=True)
            send_output("out", dora_event["value"])
        return DoraStatus.CONTINUE
"""
DESCRIBES = """\
import json
from dora import Node
node = Node()
described = node.dataflow_descriptor()
for entry in [node.node_config(), *described.pop("nodes"), described]:
    print("OBS", json.dumps(entry, sort_keys=True), flush=True)
"""
DESCRIBED = """\
health_check_interval: 5.0
nodes:
- id: a
  name: A
  description: describes
  path: describes.py
  args: --fast 'a b'
  inputs:
    z: {source: op/out, queue_size: 3, queue_policy: backpressure, input_timeout: 2.5}
    y: op/out
    t1: dora/timer/millis/2000
    t2: dora/timer/micros/15001
    t3: dora/timer/hz/100
    t4: dora/timer/hz/7
    t5: dora/timer/nanos/20001000
    t6: dora/timer/hz/0.3
    t7: dora/timer/secs/3600
    l: dora/logs/info
  outputs: [z, b, a/c]
  output_types: {b: std/core/v1/Float32}
  input_types: {y: std/core/v1/Float32}
  restart_policy: on-failure
  max_restarts: 3
  restart_delay: 0.5
  finish_grace_secs: 3.5
  min_log_level: stdout
- id: op
  operator: {python: nodes/echoes.py, name: echo, inputs: {in: a/b}, outputs: [out, more]}
- {id: c, path: nodes/sends.py, outputs: [out]}
"""
MODULE = """\
module: {name: m, inputs: [inp], outputs: [out]}
nodes:
- {id: inner, operator: {python: echoes.py, inputs: {in: _mod/inp}, outputs: [out]}}
"""
FILES = {"shows.py": SHOWS, "sends.py": SENDS, "echoes.py": ECHOES, "m.yml": MODULE}
SOURCE = "- {id: source, path: sends.py, outputs: [out]}"


def echo(name: str, source: str, inputs: str = "", more: str = "", id_: str = "") -> str:
    """An entry of a node that prints and sends on what it reads."""
    wires = f"inputs: {{in: {source}{inputs}}}, outputs: [out]"
    return f"- {{id: {name}, operator: {{{id_}python: echoes.py, {wires}{more}}}}}"


def flow(*nodes: str, root: str = "") -> FileRow:
    head = f"{root}\n" if root else ""
    return FileRow("\n".join([f"{head}nodes:", *nodes, ""]), FILES)


def shows(more: str = "", name: str = "a", root: str = "") -> FileRow:
    return flow(f"- {{id: {name}, path: shows.py{more}}}", root=root)


TYPED = "- {id: source, path: sends.py, outputs: [out], output_types: {out: std/media/v1/Image}}"
WRONGLY_TYPED = ", input_types: {in: std/core/v1/String}"
TAKEN = {
    "id: every character": shows(name="a.b-c_D"),
    "name, description, output_types, output_metadata": shows(
        ", name: A, description: shows, outputs: [o], output_types: {o: std/core/v1/Bytes}, output_metadata: {}"
    ),
    "args: words as a shell reads them": shows(""", args: "--x 'a b' c\\\\ d $WORD" """),
    "env: texts, numbers and truths": shows(", env: {A: 'yes', B: true, C: 1.50, D: 7, E: ''}"),
    "env: the node's own before the root's": shows(", env: {A: own}", root="env: {A: root, B: root}"),
    "build: not in the way of a run": shows(", build: echo built"),
    "path: a script beside the file": flow(SOURCE, echo("b", "source/out")),
    "operator: its outputs are the node's": flow(
        SOURCE, echo("a", "source/out"), echo("b", "a/out")
    ),
    "operator: python with a source": flow(
        SOURCE, "- {id: a, operator: {python: {source: echoes.py}, inputs: {in: source/out}, outputs: [out]}}"
    ),
    "operators: one, its outputs are its own": flow(
        SOURCE,
        "- id: two\n  operators:\n  - {id: a, python: echoes.py, inputs: {in: source/out}, outputs: [out]}",
        echo("b", "two/a/out"),
    ),
    "what only dora-rs acts upon": shows(
        ", cpu_affinity: [0], finish_grace_secs: 5, health_check_timeout: 60.0, max_log_size: 1MB, "
        "max_rotated_files: 3, shared_memory_pool_size: 8388608, restart_window: 10.0, startup_timeout: 20.0, outputs: [o], output_framing: {o: raw}",
        root="health_check_interval: 5.0\ndebug: {enable_debug_inspection: false}",
    ),
    "module, params": flow(
        SOURCE, "- {id: m, module: m.yml, inputs: {inp: source/out}, params: {A: x}}", echo("b", "m/out")
    ),
    "inputs: a queue of nothing holds one": flow(SOURCE, echo("a", "{source: source/out, queue_size: 0}")),
    "inputs: hertz may be broken": shows(", inputs: {t: dora/timer/hz/0.5}"),
    "node_config, dataflow_descriptor: every key": FileRow(
        DESCRIBED,
        {"describes.py": DESCRIBES, "nodes/echoes.py": ECHOES, "nodes/sends.py": SENDS},
    ),
    "input_types: a word of warning": flow(TYPED, echo("a", "source/out", more=WRONGLY_TYPED)),
}  # fmt: skip
REFUSED = {
    "id: dora": shows(name="dora"),
    "id: with a slash": shows(name="a/b"),
    "id: with a dot first": shows(name=".a"),
    "id: with a space": shows(name="a b"),
    "id: twice": flow("- {id: a, path: shows.py}", "- {id: a, path: shows.py}"),
    "a key of a node that is none": shows(", foo: 1"),
    "a key of the root that is none": shows(root="foo: 1"),
    "path: no file": flow("- {id: a, path: nothing.py}"),
    "path: a shell that was not allowed": flow("- {id: a, path: shell, args: echo OBS}"),
    "operator: no file": flow(
        SOURCE, "- {id: a, operator: {python: nothing.py, inputs: {in: source/out}}}"
    ),
    "inputs: a node that is none": shows(", inputs: {in: nobody/out}"),
    "inputs: an output that is none": flow(
        SOURCE, "- {id: a, path: shows.py, inputs: {in: source/nothing}}"
    ),
    "inputs: an operator's output by the operator's id": flow(
        SOURCE, echo("a", "source/out"), echo("b", "a/op/out")
    ),
    "inputs: hours": shows(", inputs: {t: dora/timer/hours/1}"),
    "inputs: a timer of nothing": shows(", inputs: {t: dora/timer/millis/0}"),
    "inputs: another policy": flow(
        SOURCE, "- {id: a, path: shows.py, inputs: {in: {source: source/out, queue_policy: newest}}}"
    ),
    "restart_policy: another": shows(", restart_policy: sometimes"),
    "strict_types: what does not fit": flow(
        TYPED, echo("a", "source/out", more=WRONGLY_TYPED), root="strict_types: true"
    ),
}  # fmt: skip


TOGETHER = FilesTogether(TAKEN)


@pytest.mark.parametrize("name", TAKEN | REFUSED)
def test_both_programs_do_the_same(name: str, tmp_path: Path) -> None:
    row = (TAKEN | REFUSED)[name]
    seen: dict[str, list[str]] = {}

    def observe(engine: str) -> list[str]:
        folder = tmp_path / engine
        # Asked again, it runs by itself.
        lines = None if engine in seen else TOGETHER.lines(name, engine, folder)
        seen[engine] = lines or observed_of_file(row, engine, folder)
        return seen[engine]

    compare(observe, row.differs)
    assert seen["embedded"][-1] == ("status: 1" if name in REFUSED else "status: 0")
