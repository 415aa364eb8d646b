"""A graph as a folder that a daemon on this machine runs, with every cell's place in its tracebacks.

An export (`dora_nb.descriptor`) is for any machine, so its nodes run in the folder of the files. Here they
run as on the embedded engine: in the folder that they were declared in, with that folder first on `sys.path`,
under the names and line numbers of their cells. So dora gets a small file for each node, which executes the
cell's text from another file.
"""

from __future__ import annotations

import json
import shlex
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dora_nb.descriptor import DATAFLOW_FILE, render
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import SHELL, NodeSpec, SourceCode

SOURCES = "sources"
_ENV = "/usr/bin/env"
"""Changes to the folder of a program: dora starts all of them in the folder of the dataflow."""
_RUNNER = """\
import linecache, os, sys
os.chdir({working_dir!r})
sys.path.insert(0, {working_dir!r})
__file__ = {file!r}
with open({source!r}, encoding="utf-8", newline="") as _file:
    _text = _file.read()
linecache.cache[__file__] = (len(_text), None, _text.splitlines(True), __file__)
exec(compile(_text, __file__, "exec", dont_inherit=True), globals())
"""


@dataclass(frozen=True, slots=True)
class Written:
    """The written dataflow, and a line for each node that behaves differently on dora-rs."""

    dataflow: Path
    notes: tuple[str, ...]


def write_files(graph: Graph, folder: Path) -> Written:
    """Writes ``dataflow.yml`` and the files that it names. Raises DescriptorError and OSError."""
    rendered = render(_with_absolute_paths(graph))
    (folder / SOURCES).mkdir()
    for spec in graph:
        name = rendered.names.get(spec.name)
        if name is None:
            continue
        source = folder / SOURCES / name
        with source.open("w", encoding="utf-8", newline="") as file:
            file.write("\n" * (spec.code.first_line - 1) + rendered.files[name])
        (folder / name).write_text(_runner(spec.code, spec.working_dir, source), encoding="utf-8")
    dataflow = folder / DATAFLOW_FILE
    dataflow.write_text(rendered.files[DATAFLOW_FILE], encoding="utf-8")
    return Written(dataflow, rendered.notes)


def write_python(folder: Path) -> None:
    """Writes a program `python` into that folder: dora-rs runs operators with the first one on PATH."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def subscriber_entry(subscriber: str, node: str, outputs: Iterable[str]) -> str:
    """Returns the file for ``dora node add`` of a subscriber to those outputs of a node. JSON is YAML."""
    inputs = {output: {"source": f"{node}/{output}"} for output in outputs}
    return json.dumps({"id": subscriber, "path": "dynamic", "inputs": inputs})


def _runner(code: SourceCode, working_dir: str, source: Path) -> str:
    file = code.path or code.file
    return _RUNNER.format(working_dir=working_dir, file=file, source=str(source))


def _with_absolute_paths(graph: Graph) -> Graph:
    """Returns the graph with absolute paths of programs, since dora resolves paths from another folder."""
    return replace(graph, nodes={spec.name: _with_absolute_path(spec) for spec in graph})


def _with_absolute_path(spec: NodeSpec) -> NodeSpec:
    keys = dict(spec.other_keys)
    folder, path = spec.working_dir, keys.get("path")
    own = dict(keys.get("operator", {}))
    if "shared-library" in own:
        keys["operator"] = {**own, "shared-library": str(Path(folder, own["shared-library"]))}
    elif isinstance(path, str) and path != SHELL and "://" not in path and "git" not in keys:
        there = Path(folder, path)
        # What was found beside the kernel's Python is not on the PATH of dora.
        program = there if there.is_file() else _console_script(spec) or path
        words = shlex.join([f"--chdir={folder}", str(program)])
        keys |= {"path": _ENV, "args": " ".join(filter(None, [words, keys.get("args", "")]))}
    return replace(spec, other_keys=keys)


def _console_script(spec: NodeSpec) -> Path | None:
    """Returns the file of a script that is named without its folder; None for what `path` only names."""
    file = spec.code.path
    path = str(spec.other_keys["path"])
    return Path(file) if file is not None and Path(file).name == Path(path).name else None
