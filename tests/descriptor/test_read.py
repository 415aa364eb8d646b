"""Reading ``dataflow.yml``: its meaning, the notes about ignored keys, and the place of its mistakes."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from descriptor_graphs import MODULE, OPERATOR, SCRIPT, WITH_MODULE
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.descriptor import Allowed, Imported, cell_text, read_dataflow, render, write_dataflow
from dora_nb.descriptor.notebook_files import read_notebook
from dora_nb.errors import DeclarationError, DescriptorError, GraphError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import RESERVED_NAMES, parse_source

Reading = Callable[..., Imported]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file for each kind of node."""
    (tmp_path / "operator.py").write_text(OPERATOR)
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Reading:
    def read(text: str, **options: Any) -> Imported:
        Path("dataflow.yml").write_text(textwrap.dedent(text))
        return read_dataflow(Path("dataflow.yml"), environ={"HOME": "/home/me"}, **options)

    return read


def refused(read: Reading, text: str, **options: Any) -> str:
    """The place and the sentences of the mistake."""
    with pytest.raises(DeclarationError) as caught:
        read(text, **options)
    assert caught.value.location is not None
    return f"{caught.value.location}: {caught.value}"


def node(imported: Imported, name: str) -> NodeSpec:
    return imported.graph.node(name)


def test_operators_and_scripts_with_all_that_the_engine_uses(read: Reading, folder: Path) -> None:
    imported = read("""
        env: {LEVEL: low, MODEL: small}
        nodes:
          - id: camera
            operator:
              python: operator.py
              inputs: {tick: dora/timer/hz/30}
              outputs: [image]
            env: {MODEL: big, PORT: 8080, RATE: 1.5, DEBUG: true, WHERE: "$HOME/x", S: $$5}
          - id: reader
            path: script.py
            args: --name 'a b'
            inputs:
              image: {source: camera/image, queue_size: 3, queue_policy: backpressure, input_timeout: 2}
              again: camera/image
          - id: hand
            path: dynamic
            outputs: [goal]
    """)
    assert (imported.notes, imported.builds) == ((), ())
    camera, reader, hand = imported.graph
    assert (camera.kind, camera.code.text, camera.outputs) == ("operator", OPERATOR, ("image",))
    assert (camera.code.file, camera.code.path) == ("operator.py", str(folder / "operator.py"))
    assert camera.working_dir == str(folder)
    assert dict(camera.env) == {
        "LEVEL": "low",
        "MODEL": "big",
        "PORT": "8080",
        "RATE": "1.5",
        "DEBUG": "true",
        "WHERE": "/home/me/x",
        "S": "$5",
    }
    assert (reader.kind, reader.args) == ("script", ("--name", "a b"))
    image, again = reader.inputs
    assert (image.queue_size, image.queue_policy) == (3, "backpressure")
    assert image.input_timeout_secs == 2.0
    assert (again.queue_size, again.queue_policy) == (10, "drop_oldest")
    assert again.input_timeout_secs is None
    assert (hand.kind, hand.code.text, hand.outputs) == ("dynamic", "", ("goal",))


def test_words_of_yaml_1_1_are_texts(read: Reading) -> None:
    imported = read("nodes: [{id: on, path: script.py, env: {A: yes, B: 0x10}, outputs: [off]}]")
    assert node(imported, "on").outputs == ("off",)
    assert node(imported, "on").env == (("A", "yes"), ("B", "0x10"))


def test_a_python_as_path_runs_the_script_in_its_args(read: Reading) -> None:
    imported = read("nodes: [{id: a, path: /opt/env/bin/python3.12, args: script.py -v}]")
    assert node(imported, "a").python == "/opt/env/bin/python3.12"
    assert node(imported, "a").args == ("-v",)
    assert node(imported, "a").code.text == SCRIPT


def test_a_list_of_operators_becomes_a_node_each(read: Reading) -> None:
    imported = read("""
        nodes:
          - id: one
            operators: [{id: op, python: operator.py, outputs: [image]}]
          - id: two
            operators:
              - {id: a, python: operator.py, outputs: [image], inputs: {x: one/op/image}}
              - {id: b, python: {source: operator.py}, inputs: {x: two/a/image}}
    """)
    assert [spec.name for spec in imported.graph] == ["one", "two.a", "two.b"]
    assert [str(edge) for edge in imported.graph.edges()] == [
        "one/image → two.a/x",
        "two.a/image → two.b/x",
    ]
    assert imported.notes == (
        "dataflow.yml, line 5: the operators of 'two' become separate nodes here: two.a, two.b.",
    )


def test_a_key_that_the_embedded_engine_ignores_is_noted_once_and_kept_for_dora(
    read: Reading,
) -> None:
    text = """
        health_check_interval: 2.5
        debug: {enable_debug_inspection: false}
        nodes:
          - id: a
            name: The first
            description: nothing follows from it
            path: script.py
            cpu_affinity: [0, 1]
            restart_policy: on-failure
            max_restarts: 0
          - id: b
            cpu_affinity: [2]
            operator:
              python: operator.py
              send_stdout_as: out
              outputs: [out]
    """
    imported = read(text)
    assert imported.notes == (
        "dataflow.yml, line 2: the embedded engine ignores 'health_check_interval'.",
        "dataflow.yml, lines 9, 13: the embedded engine ignores 'cpu_affinity'.",
    )
    exported = render(imported.graph).files["dataflow.yml"]
    for line in (
        "health_check_interval: 2.5",
        "name: The first",
        "restart_policy: on-failure",
        "send_stdout_as: out",
    ):
        assert line in exported


def test_builds_are_told_and_not_run(read: Reading, folder: Path) -> None:
    imported = read("""
        nodes:
          - id: a
            path: script.py
            build: |
              pip install x
              touch built
            env: {A: b}
          - id: b
            operator: {python: operator.py, build: make}
    """)
    assert [(build.node, build.commands) for build in imported.builds] == [
        ("a", ("pip install x", "touch built")),
        ("b", ("make",)),
    ]
    assert imported.builds[0].env == (("A", "b"),)
    assert not (folder / "built").exists()


def test_0_x_files_are_read_with_a_note(read: Reading) -> None:
    imported = read("""
        communication: {zenoh: {prefix: /x}}
        nodes:
          - id: a
            custom:
              source: script.py
              args: -v
              envs: {A: b}
              outputs: [o]
              send_stdout_as: o
          - id: b
            _unstable_deploy: {machine: m}
            _unstable_other: 1
            operator: {python: operator.py, inputs: {i: a/o}}
    """)
    assert node(imported, "a").args == ("-v",)
    assert node(imported, "a").env == (("A", "b"),)
    assert node(imported, "a").send_stdout_as == "o"
    assert imported.notes == (
        "dataflow.yml, line 2: 'communication' is a key of dora 0.x, and is ignored.",
        "dataflow.yml, line 5: 'custom' is a key of dora 0.x, and is read as keys of the node itself.",
        "dataflow.yml, line 13: '_unstable_other' is a key of dora 0.x, and is ignored.",
        "dataflow.yml, line 12: '_unstable_deploy' is a key of dora 0.x, and is called 'deploy' in 1.x.",
    )
    exported = render(imported.graph).files["dataflow.yml"]
    assert "custom" not in exported
    assert "deploy:\n      machine: m" in exported


def test_types_that_do_not_fit_are_reported(read: Reading) -> None:
    text = """
        strict_types: false
        nodes:
          - {id: a, path: script.py, outputs: [o], output_types: {o: "std/x/v1/A[n=1]"}}
          - {id: b, path: script.py, inputs: {i: a/o}, input_types: {i: std/x/v1/A}}
          - {id: c, path: script.py, inputs: {i: a/o}, input_types: {i: std/x/v1/B}}
    """
    message = "c/i is std/x/v1/B, but a/o is std/x/v1/A[n=1]."
    assert read(text).notes == (f"dataflow.yml, line 6: {message}",)
    assert refused(read, text.replace("false", "true")).endswith(message)
    rules = 'type_rules: [{from: "std/x/v1/A[n=1]", to: std/x/v1/B}]'
    assert read(text.replace("strict_types: false", rules)).notes == ()
    assert "Did you mean 'o'?" in refused(read, text.replace("{o: ", "{oo: "))


def test_the_name_of_a_port_may_have_slashes(read: Reading) -> None:
    text = """
        nodes:
          - {id: a, path: script.py, outputs: [v1/chat, left/image]}
          - id: two
            operators:
              - {id: x, python: operator.py, outputs: [left/image]}
              - {id: y, python: operator.py, inputs: {left/i: a/v1/chat}}
          - id: b
            path: script.py
            inputs: {left/i: a/left/image, j: two/x/left/image}
    """
    imported = read(text)
    assert [str(each.source) for each in node(imported, "b").inputs] == [
        "a/left/image",
        "two.x/left/image",
    ]
    assert [each.name for each in node(imported, "b").inputs] == ["left/i", "j"]
    assert [str(each.source) for each in node(imported, "two.y").inputs] == ["a/v1/chat"]
    shown = refused(read, text.replace("left/i: a/left", "left i: a/left"))
    assert shown.startswith(
        "dataflow.yml, line 10: 'left i' cannot be the name of an input: it has a blank"
    )
    shown = refused(read, text.replace("two/x/left", "two/z/left"))
    assert "line 10: 'two' has no operator 'z'." in shown


# --- mistakes ---------------------------------------------------------------------------------

A = "nodes:\n  - id: a\n    path: script.py\n    outputs: [image]\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "dataflow.yml: the file is empty."),
        ("a: [", "dataflow.yml, line 1: this is not YAML: "),
        ("{}", "line 1: a dataflow needs a list of 'nodes'."),
        ("nodes: {a: b}", "line 1: 'nodes' must be a list: begin each entry with '- '."),
        ("nodes: [a]", "line 1: a node must be a mapping, KEY: VALUE."),
        ("nodes: [{path: script.py}]", "line 1: this node has no 'id'."),
        (f"node: 1\n{A}", "line 1: a dataflow has no key 'node'. Did you mean 'nodes'?"),
        (f"{A}    evn: 1\n", "line 5: a node has no key 'evn'. Did you mean 'env'?"),
        (f"{A}    path: script.py\n", "line 5: 'path' is given twice; the first is on line 3."),
        (f"{A}  - id: a\n    path: script.py\n", "there are two nodes 'a'; the first is on line 2."),
        (f"{A}  - id: b/c\n    path: script.py\n", "line 5: 'b/c' cannot be the name of a node"),
        (f"{A}  - id: b\n", "line 5: 'b' does not say what it runs: give one of path, operator"),
        (f"{A}    operator: {{python: operator.py}}\n", "line 2: 'a' has 'path' and 'operator': "),
        (A.replace("script", "scrip"), "there is no file 'scrip.py'. Did you mean 'script.py'?"),
        (f"{A}    inputs: {{i: a/imge}}\n", "a reads 'a/imge', but a has outputs: image. Did you mean"),
        (f"{A}    inputs: {{i: b/image}}\n", "line 5: there is no node 'b'."),
        (f"{A}    inputs: {{i: dora/timer/hertz/3}}\n", "line 5: in 'dora/timer/hertz/3': unknown timer unit 'hertz'"),
        (f"{A}    inputs:\n      i: {{source: a/image, size: 3}}\n", "line 6: an input has no key 'size'"),
        (f"{A}    inputs: {{i: {{source: a/image, queue_size: -1}}}}\n", "'queue_size' must be a whole number >= 0."),
        (f"{A}    inputs: {{i: {{source: a/image, queue_policy: x}}}}\n", "unknown queue policy 'x'."),
        (f"{A}    inputs: {{i: {{source: a/image, input_timeout: 0}}}}\n", "'input_timeout' must be > 0 seconds."),
        (f"{A}    env: {{X: $NOPE}}\n", "line 5: the variable NOPE is not set."),
        (f"{A}    args: \"'\"\n", "line 5: these arguments cannot be split: No closing quotation."),
        ("nodes: [{id: a, operator: {python: operator.py, input: {}}}]", "Did you mean 'inputs'?"),
        ("nodes: [{id: a, operator: {}}]", "an operator needs a 'python' with the name of its file."),
        ("nodes: [{id: a, operator: {python: operator.py}, inputs: {x: y/z}}]", "belongs under its operator."),
        ("nodes: [{id: a, operator: {python: script.py}}]", "script.py, line 3: this is a node's script"),
        ("nodes: [{id: a, path: operator.py}]", "operator.py, line 4: this is an operator"),
        ("nodes: [{id: a, path: [x]}]", "line 1: 'path' must be text, not a list."),
        ("nodes: &x [*x]", "line 1: this anchor contains itself."),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line_and_the_way_out(
    read: Reading, text: str, error: str
) -> None:
    shown = refused(read, text)
    assert error in shown


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("path: prog", "no program 'prog' is on PATH or beside this Python; is its package installed?"),
        ("path: target/release/prog", "'target/release/prog' is not a Python file"),
        ("path: ./run.sh", "'./run.sh' is not a Python file"),
        ("path: /dev/zero", "'/dev/zero' is not a Python file"),
        ("path: /bin/sh, args: -c true", "'/bin/sh' is not a Python file"),
        ("path: python, args: -c pass", "'python -c pass' names no Python file and no module"),
        ("path: far.py, git: 'https://example.org/far.git'", "its code is in a git repository, which dora-rs clones"),
        ("hub: x@1", "it comes from dora's hub"),
        ("ros2: {topic: /x, direction: subscribe}", "it is a bridge to ROS 2"),
        ("operator: {shared-library: build/x, inputs: {i: b/o}, outputs: [o]}", "its operator is a shared-library, not Python"),
        ("operators: [{id: x, wasm: x.wasm, inputs: {i: b/o}, outputs: [o]}]", "its operator is a wasm, not Python"),
    ],
)  # fmt: skip
def test_a_node_that_only_dora_can_run_is_declared_and_the_others_run(
    read: Reading, folder: Path, source: str, reason: str
) -> None:
    (folder / "run.sh").write_text("#!/bin/sh\nexec true\n")
    wires = "" if "operator" in source else ", inputs: {i: b/o}, outputs: [o], env: {X: '1'}"
    text = f"nodes: [{{id: a, {source}{wires}}}, {{id: b, path: script.py, inputs: {{i: a/o}}, outputs: [o]}}]"
    imported = read(text)
    a, b = node(imported, "a"), node(imported, "b")
    assert str(a.obstacle) == f"dora-rs only: {reason}"
    assert b.obstacle is None
    assert (a.outputs, [str(each.source) for each in a.inputs]) == (("o",), ["b/o"])
    # An export is the file as it was.
    written = yaml.safe_load(render(imported.graph).files["dataflow.yml"])["nodes"][0]
    was = yaml.safe_load(text)["nodes"][0]
    if "operators" in was:
        [was["operator"]] = was.pop("operators")
        del was["operator"]["id"]
    assert written == was


def test_a_program_of_a_module_has_its_path_from_the_folder_of_the_dataflow(
    read: Reading, folder: Path
) -> None:
    """As `dora expand` writes it, but for a name that is on PATH."""
    (folder / "modules").mkdir()
    (folder / "modules" / "m.yml").write_text(
        textwrap.dedent("""\
        module: {name: m, inputs: [], outputs: [out]}
        nodes:
        - {id: a, path: bin/prog, args: --rate $PARAM_RATE --far $PARAM_RATE_MAX, outputs: [out]}
        - {id: b, path: prog}
        - {id: c, operator: {shared-library: build/x}}
        """)
    )
    flow = "nodes: [{id: m, module: modules/m.yml, params: {rate: 3, rate_max: 4}}]"
    graph = read(flow).graph
    assert [str(each.obstacle).partition(":")[0] for each in graph] == ["dora-rs only"] * 3
    nodes = yaml.safe_load(render(graph).files["dataflow.yml"])["nodes"]
    assert (nodes[0]["path"], nodes[0]["args"]) == ("modules/bin/prog", "--rate 3 --far 4")
    assert nodes[1]["path"] == "prog"
    assert nodes[2]["operator"] == {"shared-library": "modules/build/x"}


def test_code_that_this_python_cannot_compile_is_declared_and_the_others_run(
    read: Reading, folder: Path
) -> None:
    (folder / "newer.py").write_text("from dora import Node\nx = t'{1}' match\n")
    (folder / "deep.py").write_text("x = " + "(" * 5000 + "1" + ")" * 5000 + "\n")
    imported = read("""
        nodes:
          - {id: a, path: newer.py}
          - {id: deep, operator: {python: deep.py}}
          - {id: b, path: script.py}
          - {id: c, path: python3.99, args: newer.py}
    """)
    version = "{}.{}".format(*sys.version_info)
    obstacle = node(imported, "a").obstacle
    assert obstacle is not None
    assert obstacle.mark == node(imported, "deep").obstacle.mark == f"not valid in Python {version}"  # type: ignore[union-attr]
    assert obstacle.reason.startswith("SyntaxError: ")
    assert obstacle.reason.endswith(" (newer.py, line 2)")
    assert obstacle.place[:2] == ('File "newer.py", line 2', "    x = t'{1}' match")
    # Another Python may know its syntax.
    assert (node(imported, "b").obstacle, node(imported, "c").obstacle) == (None, None)
    rendered = render(imported.graph)
    assert rendered.files["a_node.py"] == (folder / "newer.py").read_text()


def test_a_missing_file_is_reported(folder: Path) -> None:
    (folder / "dataflow.yml").write_text(A)
    with pytest.raises(
        DescriptorError, match=r"no file 'dataflo.yml'. Did you mean 'dataflow.yml'"
    ):
        read_dataflow(Path("dataflo.yml"))


# --- what is refused unless it is allowed ------------------------------------------------------


def test_a_shell_node_is_refused_unless_allowed(read: Reading) -> None:
    text = "nodes: [{id: a, path: shell, args: echo $X}]"
    assert "allow it with --allow-shell-nodes" in refused(read, text)
    imported = read(text, allowed=Allowed(shell=True))
    assert "'echo $X'" in node(imported, "a").code.text
    rendered = render(imported.graph)
    assert "    path: shell\n    args: echo $X\n" in rendered.files["dataflow.yml"]
    assert [name for name in rendered.files if name.endswith(".py")] == []


def test_a_shell_command_runs_until_it_ends_or_is_stopped(read: Reading) -> None:
    imported = read(
        """
        nodes:
          - {id: a, path: shell, args: echo from a shell; exit 3}
          - {id: b, path: shell, args: "trap 'echo parked' TERM; echo begun; sleep 600 & wait", inputs: {t: dora/timer/secs/1}}
        """,
        allowed=Allowed(shell=True),
    )
    with Dataflow() as dataflow:
        FrontEnd(dataflow).declare_all(imported.graph)
        dataflow.start()
        changed = threading.Event()
        dataflow.on_change(changed.set)
        while not (dataflow.status("a").error and dataflow.logs("b")):
            assert changed.wait(30)
            changed.clear()
        assert dataflow.logs("a")[0].text == "from a shell"
        assert "sys.exit(3)" in str(dataflow.status("a").error)
        dataflow.stop()
        assert dataflow.status("b").error is None
        assert [line.text for line in dataflow.logs("b")] == ["begun", "parked"]


def test_a_source_at_a_url_is_refused_unless_allowed(read: Reading) -> None:
    text = "nodes: [{id: a, path: https://example.org/a.py}]"
    assert "allow it with --allow-url-sources" in refused(read, text)
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return SCRIPT.encode()

    allowed = Allowed(urls=True)
    imported = read(text, allowed=allowed, fetch=fetch)
    assert (node(imported, "a").code.text, asked) == (SCRIPT, ["https://example.org/a.py"])
    digest = hashlib.sha256(SCRIPT.encode()).hexdigest()
    read(text.replace("}]", f", path_sha256: {digest}}}]"), allowed=allowed, fetch=fetch)
    wrong = text.replace("}]", ", path_sha256: abc}]")
    assert "has another checksum" in refused(read, wrong, allowed=allowed, fetch=fetch)


# --- modules ----------------------------------------------------------------------------------


@pytest.fixture
def with_module(folder: Path) -> str:
    (folder / "modules").mkdir()
    (folder / "modules" / "a.py").write_text(SCRIPT)
    (folder / "modules" / "t.yml").write_text(MODULE)
    return WITH_MODULE


def test_a_modules_nodes_get_its_name_and_its_wires_go_through(
    read: Reading, with_module: str
) -> None:
    imported = read(with_module)
    assert [spec.name for spec in imported.graph] == ["reader", "source", "pipe.a", "pipe.b"]
    assert sorted(map(str, imported.graph.edges())) == [
        "pipe.a/inner → pipe.b/j",
        "pipe.a/result → reader/x",
        "pipe.b/two → reader/y",
        "source/v → pipe.a/i",
        "source/v → pipe.b/i",
    ]
    inner = node(imported, "pipe.a")
    assert inner.args == ("--speed", "2.5")
    assert [read.name for read in inner.inputs] == ["i", "t"]
    assert inner.inputs[0].queue_size == 3
    assert node(imported, "pipe.b").inputs[0].queue_size == 7
    assert dict(inner.env) == {
        "ALL": "root",
        "HOW": "inner",
        "MORE": "module",
        "PARAM_SPEED": "2.5",
        "PARAM_DEEP": "false",
    }
    assert [(build.node, build.commands) for build in imported.builds] == [
        ("pipe.a", ("echo outer", "echo module", "echo inner")),
        ("pipe.b", ("echo outer", "echo module")),
    ]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("_mod/raw, c", "_mod/rw, c", "modules/t.yml, line 7: the module has no input 'rw'. Did you"),
        ("[result, two]}", "[result, twoo]}", "modules/t.yml, line 1: no node in the module has this output."),
        ("outputs: [two]", "outputs: [two, result]", "line 1: 2 nodes in the module have this output."),
        ("name: t,", "nme: t,", "'module' has no key 'nme'. Did you mean 'name'?"),
        ("inputs: {raw:", "inputs: {rw:", "dataflow.yml, line 11: the module has no input 'rw'."),
        ("pipe/two", "pipe/inner", "dataflow.yml, line 5: the module 'pipe' has no output 'inner'."),
        ("modules/t.yml", "../t.yml", "line 10: a module's file must be in the dataflow's folder"),
        ("modules/t.yml", "modules/u.yml", "line 10: there is no file 'modules/u.yml'. Did you mean"),
        ("    deploy:", "    outputs: [x]\n    deploy:", "a module's node has no key 'outputs'"),
        ("source: source/v", "source: _mod/v", "'_mod/v' is an input of a module, but this file does not"),
    ],
)  # fmt: skip
def test_mistakes_in_modules_are_reported_where_they_are(
    read: Reading, with_module: str, folder: Path, old: str, new: str, error: str
) -> None:
    path = folder / "modules" / "t.yml"
    path.write_text(path.read_text().replace(old, new))
    assert error in refused(read, with_module.replace(old, new))


def test_a_module_that_contains_itself_is_an_error(
    read: Reading, with_module: str, folder: Path
) -> None:
    (folder / "modules" / "t.yml").write_text(
        "module: {name: t, outputs: [result, two], inputs: [raw]}\n"
        "nodes: [{id: x, module: t.yml, inputs: {raw: _mod/raw}}]\n"
    )
    assert "modules are nested more than 8 levels deep" in refused(read, with_module)


# --- for who writes Python --------------------------------------------------------------------


def test_a_dataflow_is_made_of_a_file_and_gives_one(folder: Path, with_module: str) -> None:
    (folder / "dataflow.yml").write_text("health_check_interval: 1\n" + with_module)
    with pytest.warns(UserWarning, match="line 1: the embedded engine ignores 'health_check"):
        dataflow = Dataflow.from_yaml("dataflow.yml")
    names = ["reader", "source", "pipe.a", "pipe.b"]
    assert list(dataflow.graph.nodes) == names
    described = yaml.safe_load(dataflow.to_yaml())
    assert [each["id"] for each in described["nodes"]] == names
    assert described["health_check_interval"] == 1


def test_what_does_not_fit_together_declares_nothing(read: Reading) -> None:
    dataflow = Dataflow()
    FrontEnd(dataflow).declare_all(read(A).graph)
    to_nothing = InputSpec("i", parse_source("a/nothing"))
    with pytest.raises(GraphError, match="c reads 'a/nothing', but a has outputs: image"):
        FrontEnd(dataflow).declare_all(
            Graph()
            .with_node(replace(node(read(A), "a"), name="b"))
            .with_node(replace(node(read(A), "a"), name="c", inputs=(to_nothing,)))
        )
    assert list(dataflow.graph.nodes) == ["a"]


# --- as cells ---------------------------------------------------------------------------------


def test_a_cell_declares_what_the_file_did(read: Reading, folder: Path) -> None:
    imported = read("""
        nodes:
          - id: a-long-name-for-a-node
            path: script.py
            args: --name 'a b' -v
            env: {SOME: "it's # not", MORE: "two words"}
            inputs:
              image: {source: b/image, queue_size: 3, queue_policy: backpressure, input_timeout: 0.5}
              another-input: dora/timer/hz/30
            outputs: [one, two, three, four-is-a-longer-one]
          - {id: b, operator: {python: operator.py, outputs: [image]}}
          - {id: c, path: dynamic}
    """)
    assert cell_text(node(imported, "c")) is None
    cells = [cell_text(spec) for spec in imported.graph if spec.kind != "dynamic"]
    notebook = folder / "robot.ipynb"
    made = [{"cell_type": "code", "source": cell} for cell in cells]
    notebook.write_text(json.dumps({"cells": made}))
    again = read_notebook(notebook).graph
    for spec in again:
        first = node(imported, spec.name)
        assert spec == first
        assert spec.code.text == first.code.text.rstrip("\n")
    assert max(len(line) for cell in cells for line in str(cell).splitlines()) <= 100


# --- there and back ---------------------------------------------------------------------------


_NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda name: name not in RESERVED_NAMES
)
_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=20)  # each writes files
@example(names=["n"], env={"E": "a\x85b"}, args=["a\x85b"], about="a\u2029\nb")
@given(
    names=st.lists(_NAMES, min_size=1, max_size=4, unique=True),
    env=st.dictionaries(st.from_regex(r"[A-Z_]{1,3}", fullmatch=True), _WORDS, max_size=3),
    args=st.lists(_WORDS, max_size=3),
    about=_WORDS,
)
def test_a_written_graph_is_read_back_unchanged(
    names: list[str], env: dict[str, str], args: list[str], about: str
) -> None:
    other_keys = {"description": about} if about else {}
    graph = Graph()
    for name in names:
        read_topic = InputSpec("in", parse_source(f"{names[0]}/{names[-1]}"))
        made = NodeSpec(name, SourceCode(SCRIPT, ""), (read_topic,), (names[-1],), kind="script")
        env_items = tuple((key, value) for key, value in env.items() if "$" not in value)
        graph = graph.with_node(
            replace(made, env=env_items, args=tuple(args), other_keys=other_keys)
        )
    with tempfile.TemporaryDirectory() as folder:
        again = read_dataflow(write_dataflow(graph, Path(folder)).path).graph
        assert [replace(spec, working_dir=".") for spec in again] == list(graph)


def test_export_import_export_gives_the_same_bytes(read: Reading, with_module: str) -> None:
    Path("helpers.py").write_text("x = 1\n")
    Path("lenient.py").write_text(
        "import helpers\nclass Operator:\n    def on_event(self, e, send_output): pass"
    )
    text = with_module + textwrap.indent(
        textwrap.dedent("""\
        - id: le-nient
          operator: {python: lenient.py, inputs: {i: source/v}, send_stdout_as: x, outputs: [x]}
          env: {NUMBER: "007"}
        - {id: other, path: /opt/python3, args: script.py 'a b'}
        - {id: hand, path: dynamic, outputs: [o]}
        - {id: arm, path: script.py, inputs: {goal: notebook/goal}}
        """),
        "  ",
    )
    first = write_dataflow(read(text).graph, Path("first"))
    again = read_dataflow(first.path)
    assert node(again, "le-nient").code.text == Path("lenient.py").read_text() + "\n"
    second = write_dataflow(again.graph, Path("second"))

    def contents(folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(folder).rglob("*")}

    assert contents("first") == contents("second")
    assert "helpers.py" in contents("first")
    assert write_dataflow(again.graph, Path("first")).notes == second.notes
    assert contents("first") == contents("second")
