"""Renders a graph as the text of files. Pure: `Surroundings` answers all questions about the machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dora_nb.cells.check import compile_error
from dora_nb.errors import DescriptorError
from dora_nb.graph.as_descriptor import as_descriptor
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec
from dora_nb.graph.sources import NOTEBOOK, RESERVED_NAMES, TopicSource

from ._footer import FOOTER, may_send_numpy, needs_footer, stops_all, takes_footer
from ._names import file_names
from ._needs import Needs

DATAFLOW_FILE = "dataflow.yml"
REQUIREMENTS_FILE = "requirements.txt"
_DORA_RS = ("dora-rs>=1.1,<2", "dora-rs-cli>=1.1,<2")
MARK = "# Made by dora_nb."
"""A ``dataflow.yml`` that begins with this may be overwritten."""
_HEAD = f"{MARK} Anywhere: pip install -r requirements.txt && dora run {DATAFLOW_FILE}\n"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files of a dataflow by name, and notes about what differs on dora-rs.

    `copies` are files to copy unchanged; `names` maps a node to the file with its code.
    """

    files: Mapping[str, str]
    copies: Mapping[str, Path]
    notes: tuple[str, ...]
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Questions about the machine and the folder that a dataflow is written to."""

    is_taken: Callable[[NodeSpec, str], bool] = lambda spec, stem: False
    """Whether another module of that name can be imported."""
    needs_of: Callable[[NodeSpec], Needs] = lambda spec: Needs()
    has: Callable[[str], bool] = lambda path: True
    """Whether that path, relative to the folder of the ``dataflow.yml``, exists."""


def render(graph: Graph, surroundings: Surroundings | None = None) -> Rendered:
    """Returns the files from which dora-rs runs this graph.

    Inputs whose node is not declared are left out, with a note, since dora-rs cannot wait for a node.
    So are variables whose value dora-rs would change. Raises DescriptorError if no node is declared,
    or if two nodes need different files of one name.
    """
    graph = graph.declared()
    if not graph.nodes:
        raise DescriptorError("there is nothing to export:", hint="declare an operator first.")
    around = surroundings or Surroundings()
    needs = {spec.name: around.needs_of(spec) for spec in graph if spec.kind != "dynamic"}
    copies = _copies(needs)
    modules = {name.partition("/")[0].removesuffix(".py").lower() for name in copies}
    names = file_names(
        graph,
        is_taken=lambda spec, stem: stem.lower() in modules or around.is_taken(spec, stem),
    )
    portable = replace(
        graph, nodes={spec.name: _portable(graph, spec, names.get(spec.name)) for spec in graph}
    )
    document = as_descriptor(portable, files=names)
    entries = [_tidied(entry) for entry in document["nodes"]]
    document["nodes"] = [*entries, *_notebook_entry(graph)]
    files = {DATAFLOW_FILE: _HEAD + _dumped(document)}
    files |= {names[spec.name]: _file_text(spec) for spec in graph if spec.name in names}
    files[REQUIREMENTS_FILE] = _requirements(needs.values())
    notes = [_note(graph, spec, needs.get(spec.name, Needs()), around) for spec in graph]
    return Rendered(files, copies, tuple(note for note in notes if note is not None), names)


def _copies(needs: Mapping[str, Needs]) -> dict[str, Path]:
    copies: dict[str, Path] = {}
    for name, each in needs.items():
        for place, path in each.copies.items():
            there = copies.setdefault(place, path)
            if there != path and there.read_bytes() != path.read_bytes():
                raise DescriptorError(
                    f"{name} needs {path}, and another node needs {there}: one folder cannot hold both.",
                    hint="Rename one of the modules.",
                )
    return copies


def _requirements(needs: Iterable[Needs]) -> str:
    packages = sorted({package for each in needs for package in each.packages}, key=str.lower)
    return "\n".join([*_DORA_RS, *packages]) + "\n"


# --- one node ---------------------------------------------------------------------------------


def _file_text(spec: NodeSpec) -> str:
    text = spec.code.text.replace("\r\n", "\n")
    text = text if text.endswith("\n") else f"{text}\n"
    if spec.kind != "operator" or spec.obstacle is not None:
        return text
    return text + FOOTER if needs_footer(spec.code) and takes_footer(spec.code) else text


def _portable(graph: Graph, spec: NodeSpec, file: str | None) -> NodeSpec:
    """Returns the node without what dora-rs would refuse."""
    args, other_keys = spec.args, dict(spec.other_keys)
    if spec.kind == "script" and spec.python is not None and file is not None:
        other_keys["path"] = spec.python
        args = (file, *args)
    return replace(
        spec,
        inputs=tuple(read for read in spec.inputs if not _waits(graph, read)),
        env=tuple((key, value) for key, value in spec.env if "$" not in value),
        args=args,
        other_keys=other_keys,
    )


def _waits(graph: Graph, read: InputSpec) -> bool:
    return isinstance(read.source, TopicSource) and (
        read.source.node not in graph and read.source.node not in RESERVED_NAMES
    )


def _note(graph: Graph, spec: NodeSpec, needs: Needs, around: Surroundings) -> str | None:
    """Returns one line with all that is different on dora-rs; None if nothing is."""
    clauses = [
        *_wire_clauses(graph, spec),
        *_variable_clauses(spec),
        *_code_clauses(spec),
        *_surrounding_clauses(needs, around),
    ]
    return f"{spec.name}: {'; '.join(clauses)}." if clauses else None


def _wire_clauses(graph: Graph, spec: NodeSpec) -> Iterator[str]:
    waiting = [read.name for read in spec.inputs if _waits(graph, read)]
    if waiting:
        sources = "its source is" if len(waiting) == 1 else "their sources are"
        yield f"{_listed('input', waiting)} left out, as {sources} not declared"
    blocking = [read.name for read in spec.inputs if read.queue_policy == "backpressure"]
    if blocking:
        yield (
            f"backpressure at {', '.join(blocking)} does not block publishers on dora-rs, "
            "which drops the oldest message of a longer queue instead"
        )


def _variable_clauses(spec: NodeSpec) -> Iterator[str]:
    for key, value in spec.env:
        if "$" in value:
            yield (
                f"{key} is left out, as dora-rs would expand its '$': set it in the environment "
                "that dora-rs is started in"
            )
        elif _coerced(value) != value:
            yield f"{key}={value} arrives as {_coerced(value)} on dora-rs"


def _code_clauses(spec: NodeSpec) -> Iterator[str]:
    # Its code is not Python, or is for another Python, and cannot be parsed.
    if spec.obstacle is not None or compile_error(spec.code) is not None:
        return
    if spec.kind == "operator":
        if spec.python is not None:
            yield f"dora-rs runs operators with the python on its PATH, not with {spec.python}"
        if stops_all(spec.code):
            yield "STOP_ALL is an error on dora-rs; return STOP, or end it from outside"
        if needs_footer(spec.code) and not takes_footer(spec.code):
            yield (
                "`Operator` is not a class, so nothing is added to it: let on_event return a "
                "DoraStatus and send Arrow arrays"
            )
    elif spec.kind == "script" and may_send_numpy(spec.code):
        yield "nodes cannot send numpy arrays on dora-rs; send pyarrow.array(x.ravel())"


def _surrounding_clauses(needs: Needs, around: Surroundings) -> Iterator[str]:
    if needs.unknown:
        unknown = ", ".join(needs.unknown)
        yield f"no installed package provides {unknown}: add it to {REQUIREMENTS_FILE}"
    missing = [path for path in needs.paths if not around.has(path)]
    if missing:
        them = "it" if len(missing) == 1 else "them"
        yield f"{_listed('file', missing)} missing where dora-rs runs the node: copy {them} there"


def _listed(what: str, names: list[str]) -> str:
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"{what} {quoted} is" if len(names) == 1 else f"{what}s {quoted} are"


def _coerced(value: str) -> str:
    """Returns a variable's value as dora-rs 1.1 passes it on: it reformats what looks like a number."""
    if re.fullmatch(r"[+-]?[0-9]+", value) and -(2**63) <= int(value) < 2**63:
        return str(int(value))
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        return (
            f"{float(value):.17g}" if float(value) != int(float(value)) else f"{float(value):.0f}"
        )
    return value


def _tidied(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry without empty lists and maps."""
    return {
        key: _tidied(value) if isinstance(value, dict) else value
        for key, value in entry.items()
        if value not in ([], {})
    }


def _notebook_entry(graph: Graph) -> Iterator[dict[str, Any]]:
    """Yields a dynamic node whose outputs are what the notebook sends, if a node reads it."""
    topics = [
        read.source.output
        for spec in graph
        for read in spec.inputs
        if isinstance(read.source, TopicSource) and read.source.node == NOTEBOOK
    ]
    if topics:
        yield {"id": NOTEBOOK, "path": "dynamic", "outputs": list(dict.fromkeys(topics))}


class _Dumper(yaml.SafeDumper):
    """Writes lists indented below their key, and never an anchor."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


class _Quoted(str):
    """A string that is written in quotes, so that no reader takes it for a number."""

    __slots__ = ()


_FOLDED_BY_READERS = re.compile("[\x85\u2028\u2029]")
"""Line breaks of YAML 1.1. Every reader keeps them only if they are escaped in double quotes."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = isinstance(text, _Quoted) or _FOLDED_BY_READERS.search(text)
    style = '"' if quoted else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


for _text_type in (str, _Quoted):
    _Dumper.add_representer(_text_type, _represent_text)


def _dumped(document: dict[str, Any]) -> str:
    for entry in document["nodes"]:
        if "env" in entry:
            entry["env"] = {key: _Quoted(value) for key, value in entry["env"].items()}
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30
    )
    return text
