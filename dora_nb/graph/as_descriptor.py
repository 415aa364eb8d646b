"""The declared graph as a mapping in the form of ``dataflow.yml``: for files, and as nodes receive it. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from .graph import Graph
from .nodes import DEFAULT_QUEUE_SIZE, QUEUE_POLICIES, InputSpec, NodeSpec
from .sources import TimerSource

_NODE_DEFAULTS: dict[str, Any] = {
    "name": None,
    "description": None,
    "env": None,
    "outputs": [],
    "inputs": {},
    "restart_policy": "never",
    "max_restarts": 0,
    "deploy": None,
}
_OPERATOR_DEFAULTS: dict[str, Any] = {"id": None, "name": None, "description": None}
_ROOT_DEFAULTS: dict[str, Any] = {
    "deploy": None,
    "debug": {"enable_debug_inspection": False},
    "health_check_interval": None,
}
_NANOS_PER_UNIT = {"secs": 10**9, "millis": 10**6, "micros": 10**3, "nanos": 1}


def as_descriptor(declared: Graph, *, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the dataflow in the form of ``dataflow.yml``.

    `files` maps a node's name to the path of its code, for nodes whose code was moved since it was read.
    """
    nodes = [_node_descriptor(spec, files or {}) for spec in declared]
    return {**declared.other_keys, "nodes": nodes}


def descriptor_for_nodes(declared: Graph) -> dict[str, Any]:
    """Returns the dataflow as a node gets it from dora 1.1.0: with the keys that always stand there.

    Names are sorted, timers have the largest unit that is whole, and files are relative to the node's folder.
    """
    files = {spec.name: _relative_file(spec) for spec in declared if spec.code.path is not None}
    described = as_descriptor(declared, files=files)
    nodes = [
        _for_nodes(spec, entry)
        for spec, entry in zip(declared, described.pop("nodes"), strict=True)
    ]
    return {"nodes": nodes, **_ROOT_DEFAULTS, **described}


def _relative_file(spec: NodeSpec) -> str:
    path = str(spec.code.path)
    folder = spec.working_dir
    return os.path.relpath(path, folder) if PurePath(folder).is_absolute() else path


def _for_nodes(spec: NodeSpec, entry: dict[str, Any]) -> dict[str, Any]:
    sources = {read.name: _input_descriptor(read, _resolved(read)) for read in spec.inputs}
    wires = {"inputs": dict(sorted(sources.items())), "outputs": sorted(spec.outputs)}
    if "operator" in entry:
        own = {**_OPERATOR_DEFAULTS, **entry["operator"], **wires}
        return {**_NODE_DEFAULTS, **entry, "operator": own}
    return {**_NODE_DEFAULTS, **entry, **wires}


def _resolved(read: InputSpec) -> str:
    """Returns the source of an input; a timer in whole numbers of the largest possible unit."""
    if not isinstance(read.source, TimerSource):
        return str(read.source)
    _, _, unit, number = read.source.text.split("/")
    if unit == "hz":
        nanos = round(read.source.interval_secs * 1e9)
    else:
        nanos = int(number) * _NANOS_PER_UNIT[unit]
    largest = next(each for each, per_unit in _NANOS_PER_UNIT.items() if nanos % per_unit == 0)
    return f"dora/timer/{largest}/{nanos // _NANOS_PER_UNIT[largest]}"


def _node_descriptor(spec: NodeSpec, files: Mapping[str, str]) -> dict[str, Any]:
    path = files.get(spec.name) or spec.code.path or spec.code.file
    wires = {
        "inputs": {read.name: _input_descriptor(read, str(read.source)) for read in spec.inputs},
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


def _input_descriptor(read: InputSpec, source: str) -> str | dict[str, Any]:
    """Returns the source alone if all else has its default."""
    described: dict[str, Any] = {"source": source}
    if read.queue_size != DEFAULT_QUEUE_SIZE:
        described["queue_size"] = read.queue_size
    if read.queue_policy != QUEUE_POLICIES[0]:
        described["queue_policy"] = read.queue_policy
    if read.input_timeout_secs is not None:
        described["input_timeout"] = read.input_timeout_secs
    return source if len(described) == 1 else described
