"""Nodes whose `path` is a program: console scripts of packages, ``uv run``, ``conda run``, other Pythons."""

from __future__ import annotations

import os
import shlex
import stat
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from dora_nb import cli
from dora_nb.descriptor import read_dataflow, render
from dora_nb.graph.nodes import NodeSpec

SCRIPT = """\
# -*- coding: utf-8 -*-
import re
import sys
from echo_package import main
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit(main())
"""
PACKAGE = """\
import os, sys
from dora import Node
def main():
    node = Node("terminal-echo")
    print("runs", os.path.basename(sys.argv[0]), *sys.argv[1:], os.getcwd(), flush=True)
    print("python", sys.executable, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the dataflow. The package is beside it, as `pip install` would have put it."""
    packages, bin_folder, folder = tmp_path / "packages", tmp_path / "bin", tmp_path / "flow"
    for each in (packages, bin_folder, folder):
        each.mkdir()
    (packages / "echo_package.py").write_text(PACKAGE)
    paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def program(folder: Path) -> Callable[..., Path]:
    def program(name: str, text: str, *, where: Path = folder.parent / "bin") -> Path:
        where.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)
        (where / name).chmod(stat.S_IRWXU)
        return where / name

    return program


def read(folder: Path, *nodes: str) -> list[NodeSpec]:
    text = "\n".join(f"- {{id: n{number}, {node}}}" for number, node in enumerate(nodes))
    (folder / "flow.yml").write_text(f"nodes:\n{text}\n")
    return list(read_dataflow(folder / "flow.yml").graph)


def why_not(spec: NodeSpec) -> str:
    assert spec.obstacle is not None
    assert spec.obstacle.mark == "dora-rs only"
    return spec.obstacle.reason


def other_python(folder: Path, *, packages: bool) -> Path:
    """Another environment of this Python, with or without the packages that a node needs."""
    venv.create(folder, symlinks=True)
    if packages:
        [site] = folder.glob("lib/python*/site-packages")
        (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    "head",
    [
        f"#!{sys.executable}\n",
        "#!/usr/bin/env python3\n",
        "#!/usr/bin/env -S python3 -E\n",
        f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_a_console_script_on_path_is_a_script_of_this_python(
    folder: Path,
    program: Callable[..., Path],
    head: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    beside = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{folder.parent / 'bin'}{os.pathsep}{beside}{os.pathsep}/usr/bin")
    file = program("dora-echo", head + SCRIPT)
    [spec] = read(folder, "path: dora-echo, args: --name 'a b'")
    assert (spec.kind, spec.python, spec.args, spec.obstacle) == ("script", None, ("--name", "a b"), None)  # fmt: skip
    assert (spec.code.text, spec.code.path) == (head + SCRIPT, str(file))
    # dora-rs gets the node as it was written.
    rendered = render(read_dataflow(folder / "flow.yml").graph)
    assert "    path: dora-echo\n" in rendered.files["dataflow.yml"]
    assert [name for name in rendered.files if name.endswith(".py")] == []
    assert cli.main(["run", str(folder / "flow.yml")]) == 0
    printed = capfd.readouterr()
    assert printed.out == (f"n0: runs dora-echo --name a b {folder}\nn0: python {sys.executable}\n")
    assert printed.err == ""


def test_dora_runs_the_same_script(
    folder: Path, program: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    program("dora-echo", f"#!{sys.executable}\n{SCRIPT}")
    read(folder, "path: dora-echo, args: --name 'a b'")
    assert cli.main(["run", str(folder / "flow.yml"), "--engine", "dora"]) == 0
    assert f"n0: runs dora-echo --name a b {folder}\n" in capfd.readouterr().out


def test_a_script_beside_this_python_needs_no_path(
    folder: Path, program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel is often started without its environment being active."""
    other = folder.parent / "other" / "bin"
    monkeypatch.setattr(sys, "executable", str(other / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    program("dora-echo", f"#!{other}/python3.11\n{SCRIPT}", where=other)
    [spec] = read(folder, "path: dora-echo")
    assert (spec.python, spec.code.path) == (None, str(other / "dora-echo"))


def test_a_script_in_the_folder_of_the_dataflow(folder: Path, program: Callable[..., Path]) -> None:
    program("dora-echo", f"#!{sys.executable}\n{SCRIPT}", where=folder / "node/bin")
    [spec] = read(folder, "path: node/bin/dora-echo")
    assert spec.code.path == str(folder / "node/bin/dora-echo")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/bash\nexec true\n", "'prog' is not a Python file"),
        ("#!/usr/bin/env node\n", "'prog' is not a Python file"),
        ("print('no first line')\n", "'prog' is not a Python file"),
        ("#!/nowhere/bin/python3\n", "'/nowhere/bin/python3' does not name a Python that runs here"),
        ("#!", "'prog' is not a Python file"),
    ],
)  # fmt: skip
def test_what_is_not_a_script_of_python_is_for_dora(
    folder: Path, program: Callable[..., Path], text: str, reason: str
) -> None:
    program("prog", text)
    assert why_not(read(folder, "path: prog")[0]) == reason


def test_a_script_of_another_python_runs_there_if_it_has_what_a_node_needs(
    folder: Path, program: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    able = other_python(folder.parent / "able", packages=True)
    bare = other_python(folder.parent / "bare", packages=False)
    old_python = program("python3.8", "#!/bin/sh\necho '[[3, 8], []]'\n")
    program("of-able", f"#!{able}\n{SCRIPT}")
    program("of-bare", f"#!{bare}\n{SCRIPT}")
    program("of-old", f"#!/usr/bin/env python3.8\n{SCRIPT}")
    bad, old, good = read(folder, "path: of-bare", "path: of-old", "path: of-able")
    assert why_not(bad) == f"{bare} lacks msgspec, numpy, pyarrow, which nodes need here"
    assert why_not(old) == f"{old_python} is Python 3.8, and nodes need 3.11 here"
    assert (good.python, good.obstacle) == (str(able), None)
    assert cli.main(["run", str(folder / "flow.yml")]) == 0
    assert f"n2: python {able}\n" in capfd.readouterr().out


def test_reading_runs_nothing_that_may_have_come_with_the_file(
    folder: Path, program: Callable[..., Path]
) -> None:
    touched = folder / "touched"
    evil = program("python3", f"#!/bin/sh\ntouch {touched}\n", where=folder / "bin")
    in_venv = program("python", f"#!/bin/sh\ntouch {touched}\n", where=folder / ".venv/bin")
    (folder / "script.py").write_text(PACKAGE)
    program("conda", f"#!/bin/sh\ntouch {touched}\n")
    program("node", f"#!{evil}\n{SCRIPT}", where=folder)
    program("uses", f"#!{evil}\n{SCRIPT}", where=folder / "bin")
    specs = read(
        folder,
        "path: node",
        "path: bin/uses",
        "path: bin/python3, args: -m echo_package",
        "path: uv, args: run script.py",
        "path: conda, args: run -p .venv python script.py",
        "path: conda, args: run --prefix=.venv python script.py",
    )
    assert [each.python for each in specs] == [str(evil)] * 3 + [str(in_venv)] * 3
    assert not touched.exists()


def test_an_environment_in_the_folder_is_looked_at(folder: Path) -> None:
    (folder / "script.py").write_text(PACKAGE)
    python = other_python(folder / ".venv", packages=False)
    [spec] = read(folder, "path: uv, args: run script.py")
    assert why_not(spec) == f"{python} lacks msgspec, numpy, pyarrow, which nodes need here"
    [site] = (folder / ".venv").glob("lib/python*/site-packages")
    site.parent.rename(site.parent.with_name("python3.9"))
    [spec] = read(folder, "path: uv, args: run script.py")
    assert why_not(spec) == f"{python} is Python 3.9, and nodes need 3.11 here"
    python.unlink()
    [spec] = read(folder, "path: uv, args: run script.py")
    assert why_not(spec) == f"there is no Python in {folder / '.venv'}"


def test_uv_run_is_asked_for_its_python(
    folder: Path, program: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    (folder / "script.py").write_text("import echo_package\necho_package.main()\n")
    (folder / "own.py").write_text("# /// script\n# dependencies = []\n# ///\n")
    node = "path: uv, args: run --frozen script.py --fast"
    [early] = read(folder, node)
    assert why_not(early) == f"its environment does not exist yet; run uv sync in {folder}"
    assert not (folder / ".venv").exists()
    python = other_python(folder / ".venv", packages=True)
    program("of-uv", f"#!{python}\n{SCRIPT}", where=folder / ".venv/bin")
    specs = read(
        folder,
        node,
        "path: uv, args: run of-uv",
        "path: uv, args: run python -u script.py -v",
        "path: uv, args: run python -m echo_package -v",
        "path: uv, args: run --with numpy script.py",
        "path: uv, args: run --python ./evil script.py",
        "path: uv, args: run missing",
        "path: uv, args: run own.py",
        "path: uv, args: sync",
    )
    assert [each.python for each in specs[:4]] == [str(python)] * 4
    assert [each.args for each in specs[:4]] == [("--fast",), (), ("-v",), ("-v",)]
    assert specs[1].code.path == str(folder / ".venv/bin/of-uv")
    assert "run_module('echo_package'" in specs[3].code.text
    assert [why_not(each) for each in specs[4:]] == [
        "'uv run --with numpy script.py' has an option that only uv understands",
        "'uv run --python ./evil script.py' has an option that only uv understands",
        "there is no program 'missing' beside its Python",
        "'own.py' lists its own requirements, for which uv makes a Python",
        "'uv' is not a Python file",
    ]
    rendered = render(read_dataflow(folder / "flow.yml").graph)
    assert "    args: run --frozen script.py --fast\n" in rendered.files["dataflow.yml"]
    (folder / "pyproject.toml").unlink()
    read(folder, node)
    assert cli.main(["run", str(folder / "flow.yml")]) == 0
    assert f"n0: python {python}\n" in capfd.readouterr().out


def test_uv_run_without_an_environment_in_the_folder_is_asked(
    folder: Path, program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    python = other_python(folder.parent / "active", packages=True)
    (folder / "script.py").write_text(PACKAGE)
    monkeypatch.setenv("VIRTUAL_ENV", str(folder.parent / "active"))
    [spec] = read(folder, "path: uv, args: run script.py --fast")
    assert (spec.python, spec.args, spec.obstacle) == (str(python), ("--fast",), None)


def test_conda_run_is_asked_for_its_python(folder: Path, program: Callable[..., Path]) -> None:
    python = other_python(folder.parent / "env", packages=True)
    (folder / "script.py").write_text("import echo_package\n")
    node = "path: conda, args: run -n robots --no-capture-output python script.py --fast"
    [without] = read(folder, node)
    assert why_not(without) == "conda is not on PATH"
    program(
        "conda",
        textwrap.dedent(f"""\
            #!/bin/sh
            [ "$1 $2 $3" = "run -n robots" ] || exit 1
            while [ "$1" != python ]; do shift; done
            shift
            echo activating
            exec {shlex.quote(str(python))} "$@"
        """),
    )
    spec, other = read(folder, node, "path: conda, args: run -n other script.py")
    assert (spec.python, spec.args) == (str(python), ("--fast",))
    assert why_not(other) == "'conda run -n other script.py' does not name a Python that runs here"
