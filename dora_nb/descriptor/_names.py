"""Names for the files that nodes are written to."""

from __future__ import annotations

import re
from collections.abc import Callable

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec

_SUFFIXES = {"operator": "operator", "script": "node"}


def file_names(graph: Graph, *, is_taken: Callable[[NodeSpec, str], bool]) -> dict[str, str]:
    """Returns the file name of each node that has code: ``NAME_operator.py`` or ``NAME_node.py``.

    dora imports an operator by the stem of its file, after everything else on `sys.path`: so a stem
    is a plain identifier, and never the name of a module that can be imported already (`is_taken`).
    """
    names: dict[str, str] = {}
    stems: set[str] = set()
    for spec in graph:
        has_code = spec.obstacle is None or bool(spec.code.text)
        if spec.kind in _SUFFIXES and has_code and "path" not in spec.other_keys:
            stem = _stem(spec)
            number = 1
            while stem.lower() in stems or is_taken(spec, stem):
                number += 1
                stem = f"{_stem(spec)}_{number}"
            stems.add(stem.lower())  # some file systems ignore case
            names[spec.name] = f"{stem}.py"
    return names


def _stem(spec: NodeSpec) -> str:
    plain = re.sub(r"\W", "_", spec.name, flags=re.ASCII)
    digit = "n" if plain[0].isdigit() else ""
    return f"{digit}{plain}_{_SUFFIXES[spec.kind]}"
