"""A graph as the text of files. Pure: what the machine has to offer is asked of `Surroundings`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from ..graph import NOTEBOOK, Graph, NodeSpec, TopicSource, as_descriptor
from ._names import file_names

DATAFLOW_FILE = "dataflow.yml"
MARK = "# Made by dora_nb."
"""How the first line of a file begins that may be written over."""
_HEAD = f"{MARK} Anywhere: pip install -r requirements.txt && dora run {DATAFLOW_FILE}\n"


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files of a dataflow, by their names, and what a person should know of each node."""

    files: Mapping[str, str]
    notes: tuple[str, ...]


def render(graph: Graph, *, is_taken: Callable[[str], bool] = lambda stem: False) -> Rendered:
    """The files that dora-rs runs this graph from; `is_taken` says which modules there are already.

    Inputs whose node is not declared wait, so they are left out, with a note: dora-rs knows no
    waiting. Variables whose value dora-rs cannot carry are left out too.
    """
    notes: list[str] = []
    names = file_names(graph, is_taken=is_taken)
    files = {names[spec.name]: _ended(spec.code.text) for spec in graph if spec.name in names}
    nodes = [_portable(graph, spec, names, notes) for spec in graph]
    described = as_descriptor(Graph({spec.name: spec for spec in nodes}))
    entries = [_tidied(entry) for entry in described["nodes"]]
    entries += _notebook_entry(graph)
    files[DATAFLOW_FILE] = _HEAD + _dumped({"nodes": entries})
    return Rendered(files, tuple(notes))


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _portable(graph: Graph, spec: NodeSpec, names: Mapping[str, str], notes: list[str]) -> NodeSpec:
    """The node with its file's name as its path, without what dora-rs would refuse."""
    waiting = graph.waiting_for(spec.name)
    kept = [
        read
        for read in spec.inputs
        if not (isinstance(read.source, TopicSource) and read.source.node in waiting)
        or str(read.source).startswith(f"{NOTEBOOK}/")
    ]
    left_out = [read.name for read in spec.inputs if read not in kept]
    if left_out:
        notes.append(
            f"{spec.name}: {_listed('input', left_out)} left out, as what it reads is not declared."
        )
    carried = [(key, value) for key, value in spec.env if "$" not in value]
    for key, value in spec.env:
        if "$" in value:
            notes.append(
                f"{spec.name}: {key} is left out, as dora-rs would expand its '$'; "
                "set it in the environment that dora-rs is started in."
            )
        elif _coerced(value) != value:
            notes.append(f"{spec.name}: {key}={value} arrives as {_coerced(value)} on dora-rs.")
    code = replace(spec.code, path=names.get(spec.name))
    return replace(spec, code=code, inputs=tuple(kept), env=tuple(carried))


def _listed(what: str, names: list[str]) -> str:
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"{what} {quoted} is" if len(names) == 1 else f"{what}s {quoted} are"


def _coerced(value: str) -> str:
    """What dora-rs 1.1 makes of a variable's value: what looks like a number becomes one."""
    if re.fullmatch(r"[+-]?[0-9]+", value) and -(2**63) <= int(value) < 2**63:
        return str(int(value))
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
        return (
            f"{float(value):.17g}" if float(value) != int(float(value)) else f"{float(value):.0f}"
        )
    return value


def _tidied(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry without empty lists and maps."""
    return {
        key: _tidied(value) if isinstance(value, dict) else value
        for key, value in entry.items()
        if value not in ([], {})
    }


def _notebook_entry(graph: Graph) -> Iterator[dict[str, Any]]:
    """What comes from the notebook is the output of a node that somebody attaches."""
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
    """A string that stays one under every reader's idea of what a number is."""

    __slots__ = ()


_Dumper.add_representer(
    _Quoted,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"'),
)


def _dumped(document: dict[str, Any]) -> str:
    for entry in document["nodes"]:
        if "env" in entry:
            entry["env"] = {key: _Quoted(value) for key, value in entry["env"].items()}
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30
    )
    return text
