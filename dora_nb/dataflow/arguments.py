"""Checks what users pass to a `Dataflow` in Python, and makes of it what the graph takes.

Each check raises GraphError and says what to write instead, as no type checker has seen a notebook.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dora_nb.errors import GraphError, did_you_mean
from dora_nb.files import MAX_SOURCE_BYTES, read_regular_text
from dora_nb.graph.nodes import (
    DEFAULT_QUEUE_SIZE,
    QUEUE_POLICIES,
    InputSpec,
    NodeKind,
    NodeSpec,
    QueuePolicy,
    SourceCode,
)
from dora_nb.graph.sources import parse_source

MOST_PARAM_CHARS = 65536
"""Key and value as JSON: they go in one message on a control socket."""


def check_wiring(name: str, inputs: object, outputs: object) -> None:
    """Checks that inputs are a mapping, and outputs a list: a text would be a list of its letters."""
    if isinstance(outputs, str):
        hint = f"give outputs=['{outputs}']."
        raise GraphError(f"the outputs of {name} are a text, not a list:", hint=hint)
    if inputs is not None and not isinstance(inputs, Mapping):
        hint = "give inputs={'IN': 'NODE/OUTPUT'}."
        raise GraphError(
            f"the inputs of {name} are a {type(inputs).__name__}, not a dict:", hint=hint
        )


def check_count(count: object, what: str) -> None:
    """Checks that the argument named `what` is a whole number of 1 or more."""
    if not _is_count(count):
        raise GraphError(f"{what} must be a whole number >= 1, got {count!r}.")


def read_source(name: str, source: object) -> SourceCode:
    """The code of a node, from its text or from a file."""
    if isinstance(source, Path):
        path = source.resolve()
        try:
            text = read_regular_text(path, max_bytes=MAX_SOURCE_BYTES)
            return SourceCode(text, str(source), path=str(path))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            hint = f"Relative paths begin at {Path.cwd()}."
            raise GraphError(f"{name}: cannot read {source} ({why}).", hint=hint) from None
    if not isinstance(source, str):
        hint = "give the code as text, or the Path of its file: another process runs it."
        kind = "class" if isinstance(source, type) else type(source).__name__
        raise GraphError(f"source of {name} must be its code, got a {kind}:", hint=hint)
    if "\n" not in source and source.endswith(".py"):
        hint = f"give Path('{source}') for the file."
        raise GraphError(
            f"source of {name} must be the code itself, got a path as text:", hint=hint
        )
    return SourceCode(source, f"<source of {name}>")


def node_spec(
    name: str,
    code: SourceCode,
    kind: NodeKind,
    inputs: Mapping[str, str] | None,
    outputs: Iterable[str],
    queues: Mapping[str, int | tuple[int, QueuePolicy]] | None,
    env: Mapping[str, str] | None,
    python: str | None,
) -> NodeSpec:
    """The declaration of a node that runs in the kernel's working directory."""
    return NodeSpec(
        name=name,
        code=code,
        inputs=_input_specs(inputs or {}, queues or {}),
        outputs=tuple(outputs),
        env=tuple((env or {}).items()),
        python=python,
        working_dir=str(Path.cwd()),
        kind=kind,
    )


def _input_specs(
    inputs: Mapping[str, str], queues: Mapping[str, int | tuple[int, QueuePolicy]]
) -> tuple[InputSpec, ...]:
    for name in queues:
        if name not in inputs:
            hint = did_you_mean(name, inputs)
            raise GraphError(f"queues names '{name}', which is not an input.", hint=hint)
    specs = []
    for name, source in inputs.items():
        queue_spec = queues.get(name, DEFAULT_QUEUE_SIZE)
        size, policy = queue_spec if isinstance(queue_spec, tuple) else (queue_spec, "drop_oldest")
        if not _is_count(size) or policy not in QUEUE_POLICIES:
            raise GraphError(
                f"the queue of '{name}' is {queue_spec!r};",
                hint=f"give a size of 1 or more, and one of {', '.join(QUEUE_POLICIES)}.",
            )
        specs.append(InputSpec(name, parse_source(source), size, policy))
    return tuple(specs)


def as_sendable(data: Any) -> Any:
    """A list, a number, a text or a dict as an Arrow array; anything else unchanged."""
    if isinstance(data, (list, tuple, str, bool, int, float, dict)):
        import pyarrow as pa

        values = list(data) if isinstance(data, (list, tuple)) else [data]
        try:
            return pa.array(values)
        # Arrow itself raises Python's own errors for an integer beyond 64 bits and for a lone surrogate.
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            reason = str(error).rstrip(".")
            raise GraphError(f"cannot make an Arrow array of this: {reason}.") from None
    return data


def param_json(key: str, value: Any) -> str:
    """The value of a parameter as JSON, if it fits into one message."""
    if not isinstance(key, str):
        raise GraphError(f"the key of a parameter must be a text, got {key!r}.")
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise GraphError(f"cannot write the value of '{key}' as JSON: {error}.") from None
    length = len(json.dumps(key)) + len(text)
    if length > MOST_PARAM_CHARS:
        raise GraphError(
            f"the parameter '{key[:40]}' has {length} characters, more than {MOST_PARAM_CHARS}:",
            hint="send it on an input.",
        )
    return text


def _is_count(count: object) -> bool:
    return isinstance(count, int) and not isinstance(count, bool) and count >= 1
