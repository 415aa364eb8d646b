"""Files that are hostile or mistyped: one line, with the place, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from descriptor_graphs import SCRIPT, graph_of, node

from dora_nb.descriptor import write_dataflow

MAX_CPU_SECS = 20
"""Ten times what is promised on an idle machine: only a bound that is missing takes that long."""
MAX_KILOBYTES = 200_000
NODE = "nodes:\n  - id: a\n    path: script.py\n"
Run = Callable[[str], str]

# Runs the command line in a process for each file, and measures that process. Made by fork, they need not
# import everything anew, which would take far longer than the refusals.
_REFUSES = """
import os, sys, traceback
import dora_nb.dataflow.batch, dora_nb.descriptor  # what `run` needs
from dora_nb import cli
for line in sys.stdin:
    folder, file = line[:-1].split("\\t")
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.chdir(folder)
            os.dup2(os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            status = cli.main(["run", file, "--stop-after", "0"])
        except SystemExit as exit:
            status = exit.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status or 0)
    _, status, used = os.wait4(child, 0)
    secs = used.ru_utime + used.ru_stime
    print(os.waitstatus_to_exitcode(status), secs, used.ru_maxrss, flush=True)
"""


@pytest.fixture(scope="module")
def refusing() -> Iterator[subprocess.Popen[str]]:
    """A process that takes a folder and a file a line, and answers with status, CPU seconds and kilobytes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _REFUSES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def refused(refusing: subprocess.Popen[str], tmp_path: Path) -> Run:
    """Returns what `dora-nb run FILE` prints about a file that it refuses."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(file: str) -> str:
        assert refusing.stdin is not None
        assert refusing.stdout is not None
        print(tmp_path, file, sep="\t", file=refusing.stdin, flush=True)
        status, cpu_secs, kilobytes = refusing.stdout.readline().split()
        printed = (tmp_path / "printed").read_text()
        assert status == "1"
        assert float(cpu_secs) < MAX_CPU_SECS
        assert int(kilobytes) < MAX_KILOBYTES
        assert "Traceback" not in printed
        return printed

    return run


def _anchors() -> str:
    levels = [f"  a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)]
    return f"debug:\n  a0: &a0 [lol]\n{''.join(levels)}{NODE}"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (_anchors(), "line 7", "the anchors in here expand to more than 100,000 values."),
        (f'debug: &a "{"x" * 90_000}"\n_unstable: [{"*a," * 200}]\n', "line 2", "expand to more"),
        (f"{NODE}    inputs: {{t: dora/timer/millis/{'9' * 400}}}\n", "line 4", "interval from 1 ns"),
        (f"{NODE}    inputs: {{t: dora/timer/secs/{'9' * 5000}}}\n", "line 4", "5000 characters"),
        (f"{NODE}    inputs: {{t: dora/timer/hz/1e300}}\n", "line 4", "interval from 1 ns"),
        (f"{NODE}    restart_delay: 1.0e+300\n", "line 2", "restart_delay must be at most 1e+09"),
        (f"{NODE}    max_restart_delay: {'9' * 400}\n", "line 2", "got a greater number"),
        (f"{NODE}    inputs: {{t: {{source: b/o, input_timeout: 1.0e+300}}}}\n", "line 4", "must be at most 999999999"),
        (f"{NODE}    inputs: {{t: {{source: b/o, queue_size: {'9' * 400}}}}}\n", "line 4", "must be at most 999999999"),
        ("nodes:\n" + "[a," * 30_000, "line 2", "nested too deeply"),
        ("nodes:\n" + "- " * 40_000 + "a", "line 2", "nested too deeply"),
        (f"{NODE}    args: !!bool maybe\n", "line 4", "this value cannot be read."),
        (f"{NODE}    args: !!int ''\n", "line 4", "this value cannot be read."),
        (f"{NODE}    args: !!binary aGk=\n", "line 4", "a value of type bytes cannot be read."),
        (f'{NODE}    args: "\\UFFFFFFFF"\n', "line 4", "there is no such character."),
        (f'{NODE}    args: "\\0"\n', "line 4", "this text has a NUL"),
        (f'{NODE}    args: "\\ud800"\n', "line 4", "half of a surrogate pair"),
        (f"{NODE}    args: \x07\n", "line 4", "special characters are not allowed"),
        ("nodes:\n" + "  - {id: a, path: script.py}\n" * 100_000, "", "more than 100,000 bytes"),
    ],
)  # fmt: skip
def test_a_hostile_dataflow_is_refused_with_its_place(
    refused: Run, tmp_path: Path, text: str, place: str, message: str
) -> None:
    (tmp_path / "dataflow.yml").write_text(text)
    printed = refused("dataflow.yml")
    assert f"dataflow.yml, {place}\n" in printed if place else "'dataflow.yml'" in printed
    assert message in printed
    assert max(map(len, printed.splitlines())) < 6_000


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "large"])
def test_a_source_that_is_not_a_file_of_a_usual_size_is_refused(
    refused: Run, tmp_path: Path, kind: str
) -> None:
    for name in ("source.py", "source.yml", "source.ipynb"):
        if kind == "pipe":
            os.mkfifo(tmp_path / name)
        elif kind == "/dev/zero":
            (tmp_path / name).symlink_to(kind)
        else:
            with (tmp_path / name).open("wb") as file:
                file.truncate(10**12)
    (tmp_path / "dataflow.yml").write_text(NODE.replace("script", "source"))
    (tmp_path / "cell.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": "%dora_node a source.py"}]})
    )
    (tmp_path / "module.yml").write_text("nodes:\n  - {id: a, module: source.yml}\n")
    reason = "bytes" if kind == "large" else "it is not a regular file"
    for file in ("dataflow.yml", "cell.ipynb", "module.yml", "source.yml", "source.ipynb"):
        printed = refused(file)
        if kind == "/dev/zero" and file == "module.yml":
            assert "a module's file must be in the dataflow's folder" in printed
            continue
        assert reason in printed
        assert "source." in printed


def test_modules_that_are_used_again_and_again_are_refused(refused: Run, tmp_path: Path) -> None:
    for level in range(8):
        uses = "".join(f"  - id: n{at}\n    module: m{level + 1}.yml\n" for at in range(10))
        head = "module: {name: m}\n" if level else ""
        (tmp_path / f"m{level}.yml").write_text(f"{head}nodes:\n{uses}")
    (tmp_path / "m8.yml").write_text(f"module: {{name: m}}\n{NODE}")
    assert "more than 500 nodes, or use modules too often" in refused("m0.yml")


def test_a_dataflow_of_very_many_nodes_is_refused(refused: Run, tmp_path: Path) -> None:
    nodes = [f"  - {{id: a{at}, path: script.py, inputs: {{i: b/o}}}}\n" for at in range(600)]
    last = "  - {id: b, path: script.py, outputs: [o], inputs: {i: a0/nope}}\n"
    (tmp_path / "many.yml").write_text("nodes:\n" + "".join(nodes[:490]) + last)
    assert "b reads 'a0/nope', but a0 has no outputs." in refused("many.yml")
    (tmp_path / "many.yml").write_text("nodes:\n" + "".join(nodes))
    printed = refused("many.yml")
    assert "more than 500 nodes" in printed
    assert "many.yml, line 502\n" in printed


@pytest.mark.parametrize("name", ["a", "a{at}"])
def test_a_notebook_of_very_many_nodes_is_refused(refused: Run, tmp_path: Path, name: str) -> None:
    lines = [f"%dora_node {name.format(at=at)} script.py\n" for at in range(5_000)]
    notebook = {"cells": [{"cell_type": "code", "source": lines}]}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
    printed = refused("a.ipynb")
    assert "a.ipynb, cell 1, line 501\n" in printed
    assert "a notebook may declare 500 nodes at most." in printed


def test_code_that_is_nested_too_deeply_is_none(tmp_path: Path, refused: Run) -> None:
    """In a plain cell, and in a module that an export would look into."""
    (tmp_path / "deep.py").write_text("-" * 100_000 + "1")
    cells = ["-" * 100_000 + "1", "import deep\n%dora_node a nowhere.py"]
    notebook = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
    assert "there is no file 'nowhere.py'." in refused("a.ipynb")
    reader = node("reader", f"import deep\n{SCRIPT}", kind="script")
    graph = graph_of(replace(reader, working_dir=str(tmp_path)))
    assert "deep.py" in write_dataflow(graph, tmp_path / "out").files


CODE = '"cell_type": "code", "source"'


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('{"cells":\n' + "[" * 100_000, "line 2", "it is nested too deeply"),
        ('{"cells": [\n' + '{"a":' * 100_000, "line 2", "it is nested too deeply"),
        (f'{{"cells": [{{}},\n{{{CODE}: "", "metadata": 7}}]}}', "line 2", "its cell 2, "),
        (f'{{"cells": [\n{{{CODE}: "", "metadata": {{"tags": 7}}}}]}}', "line 2", "list 'tags'"),
        (
            f'{{"metadata": {{"cells": [{{}}]}}, "cells": [\n{{{CODE}: 7}}]}}',
            "line 2",
            "no 'source'",
        ),
        (f'{{"cells": [\n{{{CODE}: ["a", 7]}}]}}', "line 2", "no 'source'"),
        (f'{{"cells": [\n{{{CODE}: "\\ud800"}}]}}', "line 2", "half of a surrogate pair"),
        ('{"cells": 7}', "", "it has no list of 'cells'"),
        ("7", "", "it has no list of 'cells'"),
        ('{"cells": [7]}', "", "its cell 1, counted with the text cells, is not a mapping"),
        ('{\n"cells": [}', "line 2", "Expecting value"),
        ("9" * 5000, "", "Exceeds the limit"),
    ],
)
def test_a_hostile_notebook_is_refused_with_its_place(
    refused: Run, tmp_path: Path, text: str, place: str, message: str
) -> None:
    (tmp_path / "a.ipynb").write_text(text)
    printed = refused("a.ipynb")
    assert (f"a.ipynb, {place}\n" if place else "a.ipynb\n") in printed
    assert message in printed
