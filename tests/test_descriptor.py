"""``dataflow.yml`` in and out: what is read, what is named, what is written, and that dora-rs runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dora_nb.dataflow import Dataflow
from dora_nb.descriptor import Allowed, Imported, read_dataflow, write_dataflow
from dora_nb.descriptor._footer import needs_footer, with_footer, without_footer
from dora_nb.errors import DeclarationError, DescriptorError, GraphError
from dora_nb.graph import Graph, InputSpec, NodeSpec, SourceCode, parse_source

OPERATOR = "class Operator:\n    def on_event(self, dora_event, send_output):\n        pass\n"
SCRIPT = "from dora import Node\nfor event in Node():\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the code that the files below name."""
    (tmp_path / "op.py").write_text(OPERATOR)
    (tmp_path / "node.py").write_text(SCRIPT)
    return tmp_path


def imported(folder: Path, text: str, allowed: Allowed | None = None) -> Imported:
    path = folder / "dataflow.yml"
    path.write_text(text)
    return read_dataflow(path, environment={"HOME": "/home/me", "SPEED": "3"}, allowed=allowed)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(DeclarationError) as raised:
        imported(folder, text)
    return "\n".join(raised.value.render()).replace(f"{folder}/", "")


# -- reading ---------------------------------------------------------------------------------------

EVERYTHING = """
env: {SHARED: all, WHO: root}
nodes:
  - id: camera
    name: Camera
    path: node.py
    args: --fast "a b"
    env: {WHO: $HOME/cam, N: 5, ON: true, S: {__dora_env: SPEED}}
    inputs:
      tick: dora/timer/hz/30
      cmd: {source: pilot.two/cmd, queue_size: 3, queue_policy: backpressure, input_timeout: 0.5}
    outputs: [image]
  - id: detector
    operator:
      python: op.py
      inputs: {image: camera/image, both: pilot/one/cmd}
      outputs: [bbox]
  - id: pilot
    operators:
      - {id: one, python: {source: op.py}, outputs: [cmd]}
      - {id: two, python: op.py, outputs: [cmd]}
"""


def test_the_keys_of_a_dataflow_become_declarations(folder: Path) -> None:
    """An operator among several is named after its node; another node may be read before it is there."""
    graph = imported(folder, EVERYTHING).graph
    assert list(graph.nodes) == ["camera", "detector", "pilot.one", "pilot.two"]
    camera = graph.node("camera")
    assert (camera.kind, camera.args, camera.outputs) == ("script", ("--fast", "a b"), ("image",))
    assert (camera.code.text, camera.code.path) == (SCRIPT, str(folder / "node.py"))
    assert camera.working_dir == str(folder)
    assert dict(camera.env) == {
        "SHARED": "all",
        "WHO": "/home/me/cam",
        "N": "5",
        "ON": "true",
        "S": "3",
    }
    assert camera.inputs == (
        InputSpec("tick", parse_source("dora/timer/hz/30")),
        InputSpec("cmd", parse_source("pilot.two/cmd"), 3, "backpressure", 0.5),
    )
    detector = graph.node("detector")
    assert (detector.kind, dict(detector.env)) == ("operator", {"SHARED": "all", "WHO": "root"})
    assert [str(read.source) for read in detector.inputs] == ["camera/image", "pilot.one/cmd"]


def test_known_keys_without_effect_are_named_and_builds_are_not_run(folder: Path) -> None:
    text = """
health_check_interval: 5
communication: {zenoh: {}}
nodes:
  - {id: a, path: node.py, build: pip install x, restart_policy: always, _unstable_deploy: {}}
  - id: b
    custom: {source: node.py, outputs: [out], build: make}
  - id: c
    operator: {python: {source: op.py, conda_env: e}, outputs: [s], send_stdout_as: s}
"""
    found = imported(folder, text)
    assert found.notes == (
        "the dataflow: `communication` is of dora 0.x, and has no effect",
        "the dataflow: `health_check_interval` has no effect in the embedded engine",
        "a: `_unstable_deploy` is of dora 0.x, and has no effect",
        "a: `restart_policy` has no effect in the embedded engine",
        "b: `custom` is of dora 0.x; its keys stand in the node now",
        "c: `conda_env` has no effect in the embedded engine",
    )
    assert found.builds == (("a", "pip install x"), ("b", "make"))
    assert found.graph.node("b").outputs == ("out",)
    assert found.graph.node("c").send_stdout_as == "s"


MISTAKES = {
    "nodes:\n  - id: a\n    pth: node.py": ("dataflow.yml, line 3", "^pth", "no key 'pth'. Did you mean 'path'?"),
    "nodes:\n  - {id: a, path: nod.py}": ("dataflow.yml, line 2", "^nod.py", "a: 'nod.py' cannot be read"),
    "node: []": ("line 1", "^node", "a dataflow has no key 'node'. Did you mean 'nodes'?"),
    "nodes:\n  - path: node.py": ("line 2", "^path", "this node has no `id`."),
    "nodes:\n  - {id: dora, path: node.py}": ("line 2", "^dora", "'dora' is reserved"),
    "nodes:\n  - {id: a}": ("line 2", "^{", "a has no `path` and no `operator`"),
    "nodes:\n  - {id: a, path: node.py, operator: {python: op.py}}": ("line 2", "^{", "both `path` and `operator`"),
    "nodes:\n  - {id: a, path: node.py}\n  - {id: a, path: node.py}": ("line 3", "^{", "'a' is there twice"),
    "nodes:\n  - {id: a, id: b}": ("line 2", "^id: b", "'id' is there twice"),
    "nodes:\n  - {id: a, path: dynamic}": ("line 2", "^dynamic", "cannot join here yet"),
    "nodes:\n  - {id: a, path: 'https://x/y.py'}": ("line 2", "^'https", "not fetched from the net"),
    "nodes:\n  - {id: a, path: target/release/node}": ("line 2", "^target", "is no Python file"),
    "nodes:\n  - {id: a, path: shell, args: ls}": ("line 2", "^shell", "--allow-shell-nodes"),
    "nodes:\n  - {id: a, module: m.yml}": ("line 2", "^module", "modules are not put together here yet"),
    "nodes:\n  - {id: a, operator: {shared-library: x}}": ("line 2", "^shared", "no key 'shared-library'"),
    "nodes:\n  - {id: a, operator: {outputs: [x]}}": ("line 2", "^{outputs", "a has no `python`"),
    "nodes:\n  - {id: a, path: node.py, inputs: {i: b}}": ("line 2", "^b}", "the source 'b' names no output"),
    "nodes:\n  - {id: a, path: node.py, inputs: {i: {source: b/c, queue_size: 0}}}": ("line 2", "^0", "1 or more"),
    "nodes:\n  - {id: a, path: node.py, inputs: {i: {source: b/c, queue_policy: x}}}": ("line 2", "^x", "no policy"),
    "nodes:\n  - {id: a, path: node.py, inputs: {i: {source: b/c, input_timeout: 0}}}": ("line 2", "^0", "more than 0"),
    "nodes:\n  - {id: a, path: node.py, inputs: {i: {queue_size: 1}}}": ("line 2", "^{queue", "no `source`"),
    "nodes:\n  - {id: a, path: node.py, inputs: [x]}": ("line 2", "^[", "`inputs` is to be a mapping"),
    "nodes:\n  - {id: a, path: node.py, env: {A: [1]}}": ("line 2", "^[1]", "a text, a number"),
    "nodes:\n  - {id: a, path: node.py, args: \"'\"}": ("line 2", "^\"'\"", "cannot be split into words"),
    "nodes:\n  - {id: a, operators: [{python: op.py}]}": ("line 2", "^{python", "has no `id`"),
    "nodes:\n  - {id: a, path: node.py, send_stdout_as: x}": ("line 2", "^{id", "none of its outputs"),
    "nodes: {}": ("line 1", "^{}", "`nodes` is to be a list"),
    "nodes: [": ("line 1", "", "this is not valid YAML"),
    "": ("", "", "dataflow.yml is empty"),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_the_way_out(folder: Path, text: str) -> None:
    place, caret, said = MISTAKES[text]
    shown = refused(folder, text)
    assert place in shown
    assert said in shown
    if caret:
        _, line, marker, *_ = shown.splitlines()
        assert line[marker.index("^") :].startswith(caret[1:]), shown


def test_code_that_cannot_be_an_operator_is_refused_where_it_stands(folder: Path) -> None:
    (folder / "op.py").write_text("x = 1\n")
    shown = refused(folder, "nodes:\n  - {id: a, operator: {python: op.py}}")
    assert shown.startswith("op.py, line 1\n    x = 1")


def test_outputs_that_are_not_there_are_refused(folder: Path) -> None:
    text = "nodes:\n  - {id: a, path: node.py}\n  - {id: b, path: node.py, inputs: {i: a/x}}"
    assert "b reads 'a/x', but a has no outputs" in refused(folder, text)


def test_a_line_for_a_shell_runs_where_it_is_allowed(folder: Path) -> None:
    text = "nodes:\n  - {id: a, path: shell, args: echo from a shell && exit 3}"
    (spec,) = imported(folder, text, allowed=Allowed(shell=True)).graph
    with Dataflow() as dataflow:
        dataflow.declare(spec)
        dataflow.start()
        assert dataflow.wait(30)
        assert dataflow.logs("a")[0].text == "from a shell"
        (status,) = dataflow.status()
        assert "sys.exit(3)" in str(status.error)


# -- writing ---------------------------------------------------------------------------------------


def spec(
    name: str, text: str = OPERATOR, *, inputs: dict[str, str] | None = None, **options: Any
) -> NodeSpec:
    reads = tuple(InputSpec(key, parse_source(source)) for key, source in (inputs or {}).items())
    return NodeSpec(name, SourceCode(text, "Cell In[1]"), reads, **options)


def graph_of(*specs: NodeSpec) -> Graph:
    graph = Graph()
    for each in specs:
        graph = graph.with_node(each)
    return graph


def test_each_node_becomes_a_file_and_the_modules_beside_it_come_along(tmp_path: Path) -> None:
    here = tmp_path / "notebooks"
    here.mkdir()
    (here / "helpers.py").write_text("import deeper\nimport yaml\n")
    (here / "deeper.py").write_text("WORD = 1\n")
    text = "import os, helpers, psutil\n" + SCRIPT
    graph = graph_of(
        spec(
            "cam-era.1",
            text,
            kind="script",
            outputs=("image",),
            working_dir=str(here),
            args=("a b",),
        ),
        spec(
            "json",
            inputs={"image": "cam-era.1/image", "cmd": "notebook/cmd"},
            python="/bin/python9",
        ),
    )
    exported = write_dataflow(graph, tmp_path / "out")
    assert exported.files == (
        "dataflow.yml", "cam_era_1_node.py", "helpers.py", "deeper.py", "json_operator.py", "requirements.txt",
    )  # fmt: skip
    assert exported.notes == (
        "json: its input 'cmd' reads 'notebook/cmd', which the notebook sends; left out",
        "json: its interpreter is the `python` on PATH",
    )
    assert (tmp_path / "out" / "cam_era_1_node.py").read_text() == text
    assert yaml.safe_load((tmp_path / "out" / "dataflow.yml").read_text()) == {
        "nodes": [
            {
                "id": "cam-era.1",
                "path": "cam_era_1_node.py",
                "inputs": {},
                "outputs": ["image"],
                "args": "'a b'",
            },
            {
                "id": "json",
                "operator": {
                    "python": "json_operator.py",
                    "inputs": {"image": "cam-era.1/image"},
                    "outputs": [],
                },
            },
        ]
    }
    required = (tmp_path / "out" / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in required] == ["PyYAML", "dora-rs", "psutil"]


def test_export_import_export_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = graph_of(
        spec("source", inputs={"tick": "dora/timer/hz/20"}, outputs=("out",), env=(("A", "b c"),)),
        spec(
            "reader", SCRIPT.rstrip("\n"), kind="script", inputs={"in": "source/out"}, args=("x",)
        ),
    )
    first = write_dataflow(graph, tmp_path / "first")
    again = read_dataflow(first.path)
    assert again.notes == ()
    assert again.graph.node("source").code.text == OPERATOR
    write_dataflow(again.graph, tmp_path / "second")
    for name in first.files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    with pytest.raises(DescriptorError, match="nothing to export"):
        write_dataflow(Graph(), tmp_path / "third")


ALWAYS = "    def on_event(self, e, s):\n        {0}\n        return DoraStatus.CONTINUE\n"
FOOTERS = {
    "class Operator:\n    def on_event(self, e, s): pass\n": True,
    "class Operator:\n" + ALWAYS.format("pass"): False,
    "class Operator:\n" + ALWAYS.format("if e: return"): True,
    "class Operator:\n" + ALWAYS.format("if e: return None"): True,
    "import numpy\nclass Operator:\n" + ALWAYS.format("pass"): True,
    "class Operator:\n" + ALWAYS.format("s('out', e['value'].to_numpy())"): True,
    "class Operator:\n    def on_event(self, e, s):\n        if e: return A.B\n        else: raise E\n": False,
    "class Base:\n    def on_event(self, e, s): return 1\nclass Operator(Base): pass\n": True,
}


@pytest.mark.parametrize("source", FOOTERS)
def test_an_operator_gets_a_footer_if_dora_would_not_take_what_it_does(source: str) -> None:
    assert needs_footer(source) is FOOTERS[source]
    written = with_footer(source)
    assert (written != source) is FOOTERS[source]
    assert without_footer(written) == source
    assert len(written.removeprefix(source).strip().splitlines()) <= 20
    compile(written, "file", "exec")


def test_what_no_footer_can_give_is_said_in_one_line(tmp_path: Path) -> None:
    text = OPERATOR.replace("pass", "return DoraStatus.STOP_ALL")
    read = InputSpec("in", parse_source("a/out"), 5, "backpressure")
    node = NodeSpec("b", SourceCode(text, "Cell In[1]"), (read,))
    exported = write_dataflow(graph_of(spec("a", outputs=("out",)), node), tmp_path)
    (note,) = exported.notes
    assert note == (
        "b: STOP_ALL, which dora-rs has not implemented, makes it fail; "
        "backpressure buffers ten times the queue in dora-rs, and then drops"
    )


# -- for who writes Python -------------------------------------------------------------------------


def test_a_dataflow_is_made_of_a_file_and_gives_one(folder: Path) -> None:
    imported(folder, EVERYTHING)
    dataflow = Dataflow.from_yaml(folder / "dataflow.yml")
    assert list(dataflow.declared.nodes) == ["camera", "detector", "pilot.one", "pilot.two"]
    described = yaml.safe_load(dataflow.to_yaml())
    assert [node["id"] for node in described["nodes"]] == list(dataflow.declared.nodes)


def test_what_does_not_fit_together_declares_nothing() -> None:
    dataflow = Dataflow()
    dataflow.declare(spec("a"))
    with pytest.raises(GraphError):
        dataflow.declare_all(graph_of(spec("b"), spec("c", inputs={"in": "a/nothing"})))
    assert list(dataflow.declared.nodes) == ["a"]
