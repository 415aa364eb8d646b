"""The declared graph as a mapping in the form of ``dataflow.yml``, which nodes receive. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from .graph import Graph
from .nodes import DEFAULT_QUEUE_SIZE, QUEUE_POLICIES, InputSpec, NodeSpec


def as_descriptor(declared: Graph, *, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the dataflow in the form of ``dataflow.yml``.

    `files` maps a node's name to the path of its code, for nodes whose code was moved since it was read.
    """
    nodes = [_node_descriptor(spec, files or {}) for spec in declared]
    return {**declared.other_keys, "nodes": nodes}


def _node_descriptor(spec: NodeSpec, files: Mapping[str, str]) -> dict[str, Any]:
    path = files.get(spec.name) or spec.code.path or spec.code.file
    wires = {
        "inputs": {read.name: _input_descriptor(read) for read in spec.inputs},
        "outputs": list(spec.outputs),
    }
    described: dict[str, Any] = {"id": spec.name}
    # Without code, the keys that name what the node runs are among its other keys.
    has_code = spec.obstacle is None or bool(spec.code.text)
    if spec.kind == "operator":
        described["operator"] = {"python": path, **wires} if has_code else wires
    elif spec.kind == "dynamic":
        described |= {"path": "dynamic", **wires}
    else:
        described |= {"path": path, **wires} if has_code else wires
    if spec.args:
        described["args"] = shlex.join(spec.args)
    if spec.env:
        described["env"] = dict(spec.env)
    return _merged(described, spec.other_keys)


def _merged(described: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Returns both mappings merged, one level deep: keys under ``operator`` join the operator's own."""
    for key, value in more.items():
        known = described.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            described[key] = {**known, **value}
        else:
            described[key] = value
    return described


def _input_descriptor(read: InputSpec) -> str | dict[str, Any]:
    """Returns the source alone if all else has its default."""
    described: dict[str, Any] = {"source": str(read.source)}
    if read.queue_size != DEFAULT_QUEUE_SIZE:
        described["queue_size"] = read.queue_size
    if read.queue_policy != QUEUE_POLICIES[0]:
        described["queue_policy"] = read.queue_policy
    if read.input_timeout_secs is not None:
        described["input_timeout"] = read.input_timeout_secs
    return str(read.source) if len(described) == 1 else described
