"""An operator rebuilt in the kernel, on the event that it failed on: `%debug`, print and plots then work on
what it had in hand.

The cell's code runs in this process, `import dora` and all. The object is made without `__init__` where every
attribute of the one that failed could be had, since `__init__` may open a camera that is in use; else
`__init__` runs, and what could be had is put over what it made. An operator with `set_state` gets its state
that way.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from dora_nb.child import dora_finder
from dora_nb.child.crash_report import CrashReport
from dora_nb.child.user_code import execute
from dora_nb.child.user_operator import EventResult, on_event_result
from dora_nb.errors import OperatorError
from dora_nb.graph.nodes import NodeSpec
from dora_nb.transport import as_received

Event = dict[str, Any]
_SHOWN_CHARS = 60


@dataclass(eq=False)
class Rebuilt:
    """An operator in the kernel: `operator` is the object, `outputs` what it has sent here, by output."""

    name: str
    operator: Any
    event: Event
    outputs: dict[str, list[Event]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """The attributes that could not be had, and why."""
    why_no_state: str | None = None
    """Why it has only what `__init__` has made."""

    def run(self, event: Event | None = None) -> None:
        """Calls `on_event`, with the event if none is given; what it raises goes through as it is."""
        __tracebackhide__ = True
        event = self.event if event is None else event
        decided = on_event_result(self.name, self.operator.on_event(event, self.send_output), event)
        if not isinstance(decided, EventResult):
            raise OperatorError(decided.message, node=self.name, hint=decided.hint)

    def send_output(
        self, output: str, data: Any, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Keeps what is sent, as a reader would get it; nobody else does."""
        value, received = as_received(
            data, None if metadata is None else dict(metadata), warn=lambda _sentence: None
        )
        event = {"type": "INPUT", "kind": "dora", "id": output, "value": value}
        self.outputs.setdefault(output, []).append({**event, "metadata": received})

    def __repr__(self) -> str:
        about = (
            f"{self.event['type']} '{self.event['id']}'"
            if "id" in self.event
            else self.event["type"]
        )
        sent = ", ".join(f"{output} ({len(events)})" for output, events in self.outputs.items())
        lines = [f"{self.name} in the kernel, at {about}; it sent: {sent or 'nothing'}"]
        if self.why_no_state is not None:
            lines.append(f"  its state could not be had ({self.why_no_state})")
        lines += [
            f"  .{name} could not be had ({why[:_SHOWN_CHARS]})"
            for name, why in self.missing.items()
        ]
        return "\n".join(lines)


def rebuild(spec: NodeSpec, event: Event, state: CrashReport | None) -> Rebuilt:
    """The operator of that declaration, in this process, as far as its state could be had.

    Raises what the cell's code, `__init__` or `set_state` raises.
    """
    __tracebackhide__ = True
    dora_finder.install()
    module = ModuleType(spec.name)
    if spec.code.path is not None:
        module.__file__ = spec.code.path
    missing: dict[str, str] = {}
    with _found(module, spec.working_dir):
        execute(
            "\n" * (spec.code.first_line - 1) + spec.code.text,
            spec.code.path or spec.code.file,
            module,
        )
        instance = _instance(module.__dict__["Operator"], state, missing)
    why_no_state = None if state is None else state.why_no_state
    return Rebuilt(spec.name, instance, event, missing=missing, why_no_state=why_no_state)


def _instance(operator: type, state: CrashReport | None, missing: dict[str, str]) -> Any:
    __tracebackhide__ = True
    if state is None or state.why_no_state is not None:
        return operator()
    missing.update({name: why for name, why in state.missing.items() if name})
    if state.whole_state is not None:
        instance: Any = operator()
        if hasattr(instance, "set_state"):
            instance.set_state(pickle.loads(state.whole_state))
        return instance
    attributes: dict[str, Any] = {}
    for name, data in state.attributes.items():
        try:
            attributes[name] = pickle.loads(data)
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}"
    instance = operator() if missing else object.__new__(operator)
    instance.__dict__.update(attributes)
    return instance


@contextlib.contextmanager
def _found(module: ModuleType, working_dir: str) -> Iterator[None]:
    """What the state refers to in the cell's own module is found, and so is what lies beside the notebook."""
    name, before = module.__name__, sys.modules.get(module.__name__)
    if before is None:
        sys.modules[name] = module
    sys.path.insert(0, working_dir)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(working_dir)
        if before is None:
            sys.modules.pop(name, None)
