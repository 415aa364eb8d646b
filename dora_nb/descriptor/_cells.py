"""Writes a node as the cell that declares it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dora_nb.graph.nodes import DEFAULT_QUEUE_SIZE, QUEUE_POLICIES, NodeSpec
from dora_nb.graph.restarts import KEYS as RESTART_KEYS

_WIDTH = 100
_MAGICS = {"operator": "%%dora_operator", "script": "%%dora_node"}


def cell_text(spec: NodeSpec) -> str | None:
    """Returns the text of a cell; None for a node without code to edit, or with a shell command."""
    if spec.kind not in _MAGICS or "path" in spec.other_keys:
        return None
    lines = [f"{_MAGICS[spec.kind]} {spec.name}"]
    for option in _options(spec):
        if len(lines[-1]) + len(option) + 1 > _WIDTH - len(" \\"):
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {option}"
    return "\n".join(lines) + "\n" + spec.code.text.rstrip("\n")


def _options(spec: NodeSpec) -> Iterator[str]:
    if spec.inputs:
        yield _option("--inputs", *(f"{read.name}={read.source}" for read in spec.inputs))
    if spec.outputs:
        yield _option("--outputs", *spec.outputs)
    queues = [
        f"{read.name}={read.queue_size}:{read.queue_policy}"
        for read in spec.inputs
        if (read.queue_size, read.queue_policy) != (DEFAULT_QUEUE_SIZE, QUEUE_POLICIES[0])
    ]
    if queues:
        yield _option("--queue", *queues)
    timeouts = [
        f"{read.name}={read.input_timeout_secs:g}"
        for read in spec.inputs
        if read.input_timeout_secs is not None
    ]
    if timeouts:
        yield _option("--input-timeout", *timeouts)
    if spec.env:
        yield _option("--env", *(f"{key}={value}" for key, value in spec.env))
    if spec.python is not None:
        yield _option("--python", spec.python)
    for key in RESTART_KEYS:
        if key in spec.other_keys:
            yield _option(f"--{key.replace('_', '-')}", str(spec.other_keys[key]))
    if spec.args:
        yield _option("--args", shlex.join(spec.args))


def _option(flag: str, *values: str) -> str:
    return " ".join([flag, *map(_quoted, values)])


def _quoted(value: str) -> str:
    """Returns one word of the line, quoted so that it stays a value even if it begins with ``-``."""
    return (
        f"'{value}'"
        if value.startswith("-") and value == shlex.quote(value)
        else shlex.quote(value)
    )
