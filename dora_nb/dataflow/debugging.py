"""An operator rebuilt in the kernel on the event that it failed on, for `%debug`, print and plots.

The cell's code runs in this process, its `import dora` too. The object is made without `__init__` where
every attribute of the one that failed was kept, since `__init__` may open a camera that is in use; else
`__init__` runs, and the attributes that were kept replace those that it made. An operator with `set_state`
gets its state that way.
"""

from __future__ import annotations

import contextlib
import datetime
import pickle
import queue
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
from dora_nb.events import Event
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import NOTEBOOK, LogSource, TopicSource
from dora_nb.transport import as_received

from .current_run import CurrentRun
from .messaging import too_few

_SHOWN_CHARS = 60


@dataclass(eq=False)
class Rebuilt:
    """An operator in the kernel, from `Dataflow.debug`.

    `operator` is the object, `event` what it is given, `outputs` the events that it has sent here, by output.

    Example::

        >>> rebuilt = dataflow.debug("detector", next_event=True)
        >>> rebuilt.operator.threshold = 0.2
        >>> rebuilt.run()
    """

    name: str
    operator: Any
    event: Event
    outputs: dict[str, list[Event]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """The attributes that could not be kept, and why."""
    why_no_state: str | None = None
    """Why it has only the attributes that `__init__` made; None where its state was kept."""

    def run(self, event: Event | None = None) -> None:
        """Calls `on_event` in this process, with `self.event` if no other is given. Blocks until it returns.

        What it raises goes through as it is. Raises OperatorError where it returns something that
        `on_event` must not return.

        Example::

            >>> rebuilt.operator.threshold = 0.2
            >>> rebuilt.run()
        """
        __tracebackhide__ = True
        event = self.event if event is None else event
        answer = self.operator.on_event(event, self.send_output)
        decided = on_event_result(self.name, answer, dict(event))
        if not isinstance(decided, EventResult):
            raise OperatorError(decided.message, node=self.name, hint=decided.hint)

    def send_output(
        self, output: str, data: Any, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Keeps what the operator sends, as a reader would get it; it goes nowhere else.

        Example::

            >>> rebuilt.send_output("boxes", pa.array([0.5]))
        """
        value, received = as_received(
            data, None if metadata is None else dict(metadata), warn=lambda _sentence: None
        )
        event = Event(type="INPUT", kind="dora", id=output, value=value, metadata=received)
        self.outputs.setdefault(output, []).append(event)

    def __repr__(self) -> str:
        about = (
            f"{self.event['type']} '{self.event['id']}'"
            if "id" in self.event
            else self.event["type"]
        )
        sent = ", ".join(f"{output} ({len(events)})" for output, events in self.outputs.items())
        lines = [f"{self.name} in the kernel, at {about}; it sent: {sent or 'nothing'}"]
        if self.why_no_state is not None:
            lines.append(f"  its state was not kept ({self.why_no_state})")
        lines += [
            f"  .{name} was not kept ({why[:_SHOWN_CHARS]})" for name, why in self.missing.items()
        ]
        return "\n".join(lines)


def rebuild(spec: NodeSpec, event: Event, state: CrashReport | None) -> Rebuilt:
    """The operator of that declaration, in this process, as far as its state was kept.

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
    """Lets pickle find what is in the cell's own module, and imports find what lies beside the notebook."""
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


def next_event_of(run: CurrentRun, spec: NodeSpec, timeout_secs: float) -> Event:
    """The next message on any of a node's inputs; a tick, where it reads nothing else. TopicTimeoutError."""
    import pyarrow as pa

    topics = {
        str(read.source): read.name
        for read in spec.inputs
        if isinstance(read.source, TopicSource) and not isinstance(read.source, LogSource)
    }
    if not topics:
        timer = spec.inputs[0].name if spec.inputs else ""
        now = datetime.datetime.now(datetime.UTC)
        return Event(
            type="INPUT", kind="dora", id=timer, value=pa.nulls(0), metadata={"timestamp": now}
        )
    arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with contextlib.ExitStack() as readers:
        for topic in topics:
            if topic.partition("/")[0] in (NOTEBOOK, *run.graph.nodes):
                reader = run.add_reader(topic, arrived.put, queue_size=1, replay_last=False)
                readers.callback(run.remove_reader, reader)
        try:
            event = arrived.get(timeout=timeout_secs)
        except queue.Empty:
            raise too_few(run, next(iter(topics)), 0, 1, timeout_secs) from None
    return {**event, "id": topics[event["id"]]}
