"""From declarations to a folder that ``dora run dataflow.yml`` runs, without this package.

::

    dataflow.yml  NAME_operator.py  NAME_node.py  helper.py  requirements.txt

Each cell becomes a file with its lines and, where dora-rs needs it, a footer. Modules that lie beside
a node and that it imports come along. The same declarations give the same bytes.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from ..errors import DescriptorError
from ..graph import NOTEBOOK, Graph, NodeSpec, TopicSource, as_descriptor
from ._footer import uses_stop_all, with_footer

DORA_REQUIREMENT = "dora-rs==1.1.0"
"""The version whose behaviour was measured."""
_COMES_WITH_DORA = {"dora", "numpy", "pyarrow"}
_SUFFIXES = {"operator": "operator", "script": "node"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `notes` are sentences about what dora-rs will do otherwise."""

    path: Path
    """The ``dataflow.yml``."""
    files: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Plan:
    """The files to be, by name, and what is to be said."""

    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_dataflow(declared: Graph, folder: Path) -> Exported:
    """Writes the dataflow into `folder`, which is made if it is not there.

    Files that stand there under other names are left alone. Raises DescriptorError where there is
    nothing to write, and OSError.
    """
    plan = _plan(declared)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return Exported(folder / "dataflow.yml", tuple(plan.files), tuple(plan.notes))


def dataflow_text(declared: Graph) -> str:
    """The text of the ``dataflow.yml`` alone."""
    return _plan(declared).files["dataflow.yml"]


def _plan(declared: Graph) -> _Plan:
    if not declared.nodes:
        raise DescriptorError("there is nothing to export:", hint="declare an operator first.")
    plan = _Plan()
    connected = Graph({spec.name: _connected(spec, declared, plan.notes) for spec in declared})
    files = {spec.name: _file_name(spec) for spec in connected}
    described = as_descriptor(connected, files=files)
    plan.files["dataflow.yml"] = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    for spec in connected:
        plan.files[files[spec.name]] = _node_text(spec)
        plan.notes += _notes_on(spec)
        for name, text in _modules_beside(spec):
            plan.files.setdefault(name, text)
    plan.files["requirements.txt"] = _requirements(plan.files)
    return plan


def _connected(spec: NodeSpec, declared: Graph, notes: list[str]) -> NodeSpec:
    """The node without inputs that nobody in the dataflow feeds: dora-rs refuses those."""
    kept = []
    for read in spec.inputs:
        source = read.source
        if isinstance(source, TopicSource) and source.node not in declared:
            who = "the notebook sends" if source.node == NOTEBOOK else "no declared node has"
            notes.append(
                f"{spec.name}: its input '{read.name}' reads '{source}', which {who}; left out"
            )
        else:
            kept.append(read)
    return replace(spec, inputs=tuple(kept))


def _file_name(spec: NodeSpec) -> str:
    """A name that Python can import and that is no module of anybody else's."""
    stem = re.sub(r"\W", "_", spec.name)
    return f"{stem}_{_SUFFIXES[spec.kind]}.py"


def _node_text(spec: NodeSpec) -> str:
    text = spec.code.text
    if spec.kind == "operator":
        return with_footer(text)
    return text if text.endswith("\n") else text + "\n"


def _notes_on(spec: NodeSpec) -> list[str]:
    """One sentence about what no footer can give, if there is any."""
    lacks = []
    if spec.kind == "operator" and uses_stop_all(spec.code.text):
        lacks.append("STOP_ALL, which dora-rs has not implemented, makes it fail")
    if any(read.queue_policy == "backpressure" for read in spec.inputs):
        lacks.append("backpressure buffers ten times the queue in dora-rs, and then drops")
    if spec.python is not None:
        lacks.append("its interpreter is the `python` on PATH")
    return [f"{spec.name}: {'; '.join(lacks)}"] if lacks else []


# -- what comes along ------------------------------------------------------------------------------


def _modules_beside(spec: NodeSpec) -> list[tuple[str, str]]:
    """The modules that it imports, and these import, from its own folder; each with its text."""
    folder = Path(spec.code.path).parent if spec.code.path else Path(spec.working_dir)
    found: dict[str, str] = {}
    todo = [spec.code.text]
    while todo:
        for name in _imported(todo.pop()):
            path = folder / f"{name}.py"
            if f"{name}.py" in found or not path.is_file():
                continue
            found[f"{name}.py"] = path.read_text(encoding="utf-8")
            todo.append(found[f"{name}.py"])
    return list(found.items())


def _imported(source: str) -> Iterator[str]:
    """The top-level names of the modules that a text imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _requirements(files: dict[str, str]) -> str:
    """What pip has to install, at the versions that are installed here."""
    sources = [text for name, text in files.items() if name.endswith(".py")]
    modules = {module for text in sources for module in _imported(text)}
    own = {name.removesuffix(".py") for name in files}
    foreign = modules - own - _COMES_WITH_DORA - sys.stdlib_module_names
    return "".join(f"{line}\n" for line in sorted({DORA_REQUIREMENT, *_pinned(foreign)}))


def _pinned(modules: Iterable[str]) -> Iterator[str]:
    by_module = importlib.metadata.packages_distributions()
    for module in modules:
        for distribution in by_module.get(module, [module]):
            try:
                version = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                yield distribution
            else:  # A local part, as in 2.13.0+cpu, is known to no other index.
                yield f"{distribution}=={version.partition('+')[0]}"
