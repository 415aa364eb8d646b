"""Unit tests of cells: operators and scripts on prepared events, without processes.

`MockNode` stands in for `Node`, as in dora. `run_operator` gives an operator events, and returns what it
sent, as a reader would get it. Importing this module makes ``import dora`` work where dora-rs is not
installed. With `DORA_TEST_WITH_INPUTS` set, a script runs on recorded inputs in its own process.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from .cells.check import check_operator_source
from .cells.declare import MAGICS, split_cell
from .cells.node_line import parse_node_line
from .child import dora_finder
from .child.dora_api.testing import MockNode
from .child.user_code import execute
from .child.user_operator import EventResult, on_event_result
from .errors import MessageError, OperatorError, SourceError, did_you_mean
from .events import Event
from .files import MAX_SOURCE_BYTES, hint_at_missing, read_regular_text
from .graph.nodes import SourceCode
from .transport import as_received

__all__ = ["MockNode", "run_operator"]


dora_finder.install()


def run_operator(
    operator: type | str | Path,
    events: Iterable[Event | tuple[Any, ...]],
    *,
    outputs: Iterable[str] | None = None,
) -> dict[str, list[Event]]:
    """Returns what an operator sends on these events: for each output a list of INPUT events.

    `operator` is a class, the text of a cell with its ``%%dora_operator`` line or without, or the `Path` of
    a file. An event is dora's dict, or for an INPUT a tuple ``(input, data)`` or ``(input, data, metadata)``.
    Data and metadata are encoded as between processes: what cannot be sent raises here too, and arrays
    arrive one-dimensional and read-only. With `outputs`, or else where the cell's line declares some, other
    outputs are ignored with a warning, as undeclared ones are. An event on an input that the cell's line does
    not declare is given with a warning.

    Runs in this process and thread, and blocks until the events are used up, or the operator returns STOP
    or STOP_ALL; STOP and INPUT_CLOSED come only if they are among the events. What the operator raises goes
    through as it is. Raises SourceError where the code is not an operator or cannot be read, MessageError
    where an event has another form, GrammarError and GraphError where the cell's line is wrong, and OperatorError
    where `on_event` returns something that it must not.

    Example::

        >>> class Double:
        ...     def on_event(self, event, send_output):
        ...         if event["type"] == "INPUT":
        ...             send_output("twice", pa.array([2 * event["value"][0].as_py()]))
        >>> sent = run_operator(Double, [("angle", pa.array([1.5]))])
        >>> sent["twice"][0]["value"].to_pylist()
        [3.0]
    """
    __tracebackhide__ = True
    name, operator_class, inputs, declared = _read(operator)
    made = operator_class()
    collector = _Collector(declared if outputs is None else frozenset(outputs))
    for given in events:
        event = _as_event(given)
        if inputs is not None and event.get("type") == "INPUT" and event.get("id") not in inputs:
            known = ", ".join(sorted(inputs))
            text = f"the cell of {name} declares no input '{event.get('id')}', but {known}"
            warnings.warn(text, stacklevel=2)
        answer = made.on_event(event, collector.send_output)
        decided = on_event_result(name, answer, event)
        if not isinstance(decided, EventResult):
            raise OperatorError(decided.message, node=name, hint=decided.hint)
        if decided is not EventResult.CONTINUE:
            break
    return collector.sent


class _Collector:
    """Keeps what an operator sends, by output."""

    def __init__(self, declared: frozenset[str] | None) -> None:
        self.sent: dict[str, list[Event]] = {output: [] for output in sorted(declared or ())}
        self._declared = declared

    def send_output(self, output: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        if self._declared is not None and output not in self._declared:
            hint = did_you_mean(output, self._declared)
            way_out = f": {hint[0].lower()}{hint[1:]}" if hint else ""
            warnings.warn(
                f"ignoring output '{output}', which is not declared{way_out}", stacklevel=2
            )
            return
        value, received = as_received(data, metadata, warn=_warn)
        event = Event(type="INPUT", kind="dora", id=output, value=value, metadata=received)
        self.sent.setdefault(output, []).append(event)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)


def _read(
    operator: type | str | Path,
) -> tuple[str, Any, frozenset[str] | None, frozenset[str] | None]:
    """The operator's name, its class, and the inputs and outputs that its cell declares."""
    if isinstance(operator, type):
        if not hasattr(operator, "on_event"):
            raise SourceError(
                f"the class {operator.__name__} has no method `on_event`:",
                hint="write `def on_event(self, dora_event, send_output):` in it.",
            )
        return operator.__name__, operator, None, None
    name, inputs, outputs = "operator", None, None
    cell = split_cell(operator, "<operator>") if isinstance(operator, str) else None
    if cell is not None:
        code = cell.body
        if cell.magic != "dora_operator":
            raise SourceError(
                "run_operator needs an operator, and this cell declares a script:",
                hint="test it with MockNode.",
                location=cell.header.location(),
            )
        line = parse_node_line(
            cell.header, cell.header.words(), what=MAGICS[cell.magic].word, from_file=False
        )
        name, outputs = line.name, frozenset(line.outputs) or None
        inputs = frozenset(each.name for each in line.inputs) or None
    elif isinstance(operator, Path):
        name = operator.stem
        code = SourceCode(_text_of(operator), str(operator), path=str(operator))
    elif isinstance(operator, str):
        if operator.endswith(".py") and "\n" not in operator:
            raise SourceError(
                f"'{operator}' is the name of a file, and a text is code:",
                hint=f"write Path('{operator}').",
            )
        code = SourceCode(operator, "<operator>")
    else:
        kind = type(operator).__name__
        raise SourceError(
            f"run_operator makes the operator itself, and got an object of {kind}:",
            hint=f"give the class, {kind}.",
        )
    check_operator_source(code)
    # Dataclasses look their module up. The name is one that no import can mean.
    module = ModuleType(f"<operator {name}>")
    sys.modules[module.__name__] = module
    if code.path is not None:
        module.__file__ = str(Path(code.path).resolve())
    execute("\n" * (code.first_line - 1) + code.text, code.file, module)
    return name, module.__dict__["Operator"], inputs, outputs


def _text_of(file: Path) -> str:
    try:
        return read_regular_text(file, max_bytes=MAX_SOURCE_BYTES)
    except FileNotFoundError:
        raise SourceError(f"there is no file {file}.", hint=hint_at_missing(file)) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SourceError(f"cannot read {file} ({why}).") from None


def _as_event(given: Event | tuple[Any, ...]) -> dict[str, Any]:
    event: dict[str, Any]
    is_event_tuple = isinstance(given, tuple | list) and len(given) in (2, 3)
    if not isinstance(given, dict) and not is_event_tuple:
        raise MessageError(
            f"run_operator takes a list of events, and got {type(given).__name__} as an event:",
            hint="an event is (input, data) or (input, data, metadata), or dora's dict.",
        )
    if isinstance(given, dict):
        event = {"kind": "dora", **cast(dict[str, Any], given)}
        if event.get("type") != "INPUT":
            return event
    else:
        name, data, *rest = given
        event = {"type": "INPUT", "kind": "dora", "id": name, "value": data}
        event["metadata"] = rest[0] if rest else None
    value, metadata = as_received(event.get("value"), event.get("metadata"), warn=_warn)
    return {**event, "value": value, "metadata": metadata}
