"""Which sources the nodes of a ``dataflow.yml`` read, without a look at their code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dora_nb.errors import DescriptorError

from ._yaml import parse


def wiring_of(text: str) -> dict[str, tuple[str, ...]]:
    """Returns the sources of the inputs of each node, by its id; of entries that are not nodes, nothing.

    The files that it names need not exist. Empty if the text is not a ``dataflow.yml``.
    """
    try:
        root = parse(text, "dataflow.yml").plain()
    except DescriptorError:
        return {}
    nodes = root.get("nodes") if isinstance(root, dict) else None
    found: dict[str, tuple[str, ...]] = {}
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, dict) and isinstance(node.get("id"), str):
            found[node["id"]] = tuple(_sources(node))
    return found


def _sources(node: Mapping[str, Any]) -> Iterator[str]:
    operators = node.get("operators")
    parts = [node, node.get("operator"), *(operators if isinstance(operators, list) else ())]
    for part in parts:
        inputs = part.get("inputs") if isinstance(part, Mapping) else None
        for each in inputs.values() if isinstance(inputs, Mapping) else ():
            source = each.get("source") if isinstance(each, Mapping) else each
            if isinstance(source, str):
                yield source
