"""A run on dora-rs as the notebook sees it; the base of runs started here and elsewhere.

Any thread may call the methods. One thread of the session makes all changes, so that an interrupt of the
caller leaves nothing half done. Another thread reads dora's output and calls `on_entry`, `on_file_line` and
`on_end`.
"""

from __future__ import annotations

import abc
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from dora_nb.child.crash_report import CrashReport
from dora_nb.errors import (
    DataflowStateError,
    DoraNbError,
    EngineError,
    FailedStarts,
    OperatorError,
)
from dora_nb.graph.graph import Edge, Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.services import shown_name
from dora_nb.graph.sources import LOG_LEVELS, NOTEBOOK, TopicSource
from dora_nb.how_to import how_to
from dora_nb.protocol import control
from dora_nb.protocol.undeclared_output import undeclared_output_text
from dora_nb.status import PROCESS_TO_JOIN, EdgeStatus, LogLine, NodeStatus, State

from ..capture import Log, last_line, shortened
from ..control_board import ControlBoard
from ..control_words import Word
from ..edit import Applied, Edit
from ..embedded import Listener, ServiceSpec, Session
from ..os_errors import engine_error
from ..worker import Worker
from . import _log_lines, _node_states
from ._failure_report import failure_of
from ._feeder import Feeder
from ._node_states import NodeState, NodeStates
from ._params import Params
from ._subscribers import Subscribers

_MOST_WARNINGS = 8


class Run(abc.ABC):
    """One dataflow on dora-rs; the public methods are those of `engines.base.EngineSession`."""

    failed_start_goes_on = False
    _cannot_open = "the dataflow cannot be started on dora-rs"

    def __init__(
        self,
        declared: Graph,
        listeners: Iterable[Listener],
        *,
        on_change: Callable[[], None],
        controls: ControlBoard,
    ) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._on_change = on_change
        self._declared = declared
        self._listeners = list(listeners)
        self._controls = controls
        self.notes: tuple[str, ...] = ()
        first = {spec.name: _first_state(spec) for spec in declared}
        # If every node is dynamic, dora waits for none, and never reports that all are ready.
        self._node_states = NodeStates(
            first, messages_flow=all(node_state.was_ready for node_state in first.values())
        )
        self._started = False
        self._stopping = False
        self._failure: EngineError | None = None
        self._errors: dict[str, OperatorError] = {}
        self._logs = {spec.name: Log(spec.name) for spec in declared}
        self._warnings: dict[str, tuple[str, ...]] = {}
        self._thread_ends = {spec.name: _log_lines.ThreadEnds() for spec in declared}
        """What goes wrong in each node while it runs on."""
        self._last_lines: dict[str, str] = {}
        """The line that each node has printed last."""
        self._first_lines = dict.fromkeys(self._logs, 0)
        """The log line at which each node's newest generation begins."""
        self._private_folder = "/nowhere"
        """Frames of files in it are left out of tracebacks: the files are ours, not the user's."""
        self._subscribers: Subscribers | None = None
        self._services: dict[str, ServiceSpec] = {}
        """The services that run once messages flow."""
        self._feeder: Feeder | None = None
        self._params: Params | None = None
        self._to_close = contextlib.ExitStack()
        self._worker = Worker("dora-session")
        self._to_close.callback(self._worker.close)

    def open(self) -> None:
        try:
            self._worker.start()
        # Only `start` raises a bare RuntimeError here: the system allows no further thread.
        except RuntimeError as error:
            raise engine_error(self._cannot_open, error) from None
        self._run_on_worker(self._open, or_else=self._cannot_open)

    @abc.abstractmethod
    def _open(self) -> None:
        """Makes all that must exist before dora's output is read. Called on the worker."""

    @abc.abstractmethod
    def _new_subscribers(self) -> Subscribers:
        """Returns the subscribers of this run. Called once it is open."""

    @abc.abstractmethod
    def _port_to_join(self) -> int:
        """Returns the port on which the daemon accepts nodes that join."""

    @abc.abstractmethod
    def _read_logs(self) -> None:
        """Reads what nodes have printed so far, if it comes by another way than dora's own output."""

    # -- called by the dataflow ----------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._started and not self._node_states.over

    @property
    def messages_flow(self) -> bool:
        return self._node_states.messages_flow

    @property
    def stopping(self) -> bool:
        return self._stopping

    def apply(self, declared: Graph, name: str, *, edit: Edit | None, grace_secs: float) -> bool:
        del declared, name, edit, grace_secs
        raise AssertionError("edits are refused before this is called")

    def applied(self, name: str) -> Applied | None:
        del name
        return None

    def abandon(self, spec: NodeSpec) -> None:
        del spec

    def restart(self, name: str, *, grace_secs: float, retry: bool = False) -> None:
        del name, grace_secs, retry
        raise AssertionError("restarts are refused before this is called")

    def stop_node(self, name: str, *, grace_secs: float) -> bool:
        del name, grace_secs
        raise AssertionError("stops of one node are refused before this is called")

    def remove(self, declared: Graph, name: str, *, grace_secs: float) -> None:
        del declared, name, grace_secs
        raise AssertionError("removals are refused before this is called")

    def crash_report(self, name: str) -> CrashReport | None:
        del name
        return None

    def retry_event(self, name: str) -> bool:
        del name
        return False

    def wait_retried(self, name: str, *, timeout_secs: float | None) -> bool:
        del name, timeout_secs
        return True

    def living_state(self, name: str, *, timeout_secs: float) -> CrashReport | None:
        del name, timeout_secs
        return None

    def stacks(self, name: str) -> str:
        raise DataflowStateError(
            f"the stacks of {name} cannot be shown: dora-rs has started its process.",
            hint="py-spy dump --pid PROCESS shows them, or start it on the embedded engine.",
        )

    def params(self, name: str) -> dict[str, Any]:
        return {} if self._params is None else self._params.all_of(name)

    def set_param(self, name: str, key: str, value_json: str) -> None:
        assert self._params is not None
        self._params.set(name, key, value_json)
        self._publish_param(name, key, value_json)

    def delete_param(self, name: str, key: str) -> None:
        assert self._params is not None
        self._params.delete(name, key)
        self._publish_param(name, key, None)

    def _publish_param(self, name: str, key: str, value_json: str | None) -> None:
        session = self._subscriber_session()
        if session is not None and self._services:
            session.publish_param(name, key, value_json)

    def send(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> None:
        self._the_feeder().send(source, data, metadata)
        # A recorder hears it here: dora-rs passes it to nodes only.
        session = self._subscriber_session()
        if session is not None and self._services:
            session.send(source, data, metadata)

    def update_controls(self, removed: Mapping[str, Word] | None = None) -> None:
        for name, word in (removed or {}).items():
            if self._feeder is not None:
                self._feeder.send_word(name, word)
        self._worker.post(self._send_controls)

    def send_word(self, name: str, word: Word) -> None:
        feeder = self._feeder
        if feeder is not None:
            feeder.send_word(name, word)

    # The services are nodes of the embedded session that the subscribers are in (`Subscribers`).

    def set_service(self, spec: ServiceSpec | None, name: str) -> None:
        def set_it() -> None:
            self._services.pop(name, None)
            if spec is not None:
                self._services[name] = spec
                self._update_subscribers()
            elif self._subscribers is not None:
                self._subscribers.remove_service(name)

        # Before `open` there is no worker, and nothing to change.
        if self._started:
            self._run_on_worker(set_it, or_else=f"the {shown_name(name)} cannot be started")
        else:
            set_it()

    def service_statuses(self) -> list[NodeStatus]:
        session = self._subscriber_session()
        return [] if session is None else session.service_statuses()

    def service_error(self, name: str) -> OperatorError | None:
        session = self._subscriber_session()
        return None if session is None else session.service_error(name)

    def tell_service(self, name: str, data: pa.Array[Any], metadata: dict[str, Any]) -> None:
        session = self._subscriber_session()
        if session is not None:
            session.tell_service(name, data, metadata)

    def wait_service_ready(self, name: str, *, timeout_secs: float | None) -> bool:
        session = self._subscriber_session()
        return session is None or session.wait_service_ready(name, timeout_secs=timeout_secs)

    def wait_service_gone(self, name: str, *, timeout_secs: float | None = None) -> bool:
        session = self._subscriber_session()
        return session is None or session.wait_service_gone(name, timeout_secs=timeout_secs)

    def _subscriber_session(self) -> Session | None:
        subscribers = self._subscribers
        return None if subscribers is None else subscribers.session

    def replay_host(self, topics: Iterable[str]) -> Session:
        known = self._declared.topics_of_the_notebook()
        others = [each for each in topics if each not in known]
        if others:
            only = how_to("replay only some topics")
            elsewhere = how_to("replay on another topic", topic=others[0], to=f"{NOTEBOOK}/NAME")
            raise DataflowStateError(
                f"on dora-rs, only topics {NOTEBOOK}/NAME that an input reads can be replayed, not "
                f"{', '.join(others)}:",
                hint=f"choose with {only}, or give it another topic with {elsewhere}.",
            )
        return self._the_feeder().joined_session()

    def inject(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> bool:
        del source, data, metadata
        return False

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        wanted = list(listeners)
        for each in wanted:
            if each.source.node == NOTEBOOK and each not in self._listeners:
                raise DataflowStateError(
                    f"the notebook cannot read '{each.source}' on dora-rs, which passes what a notebook "
                    "sends to nodes only:",
                    hint="read what a node answers.",
                )

        def set_them() -> None:
            before, self._listeners = self._listeners, wanted
            try:
                self._update_subscribers()
            # Or every later change would fail again at the topic that failed now.
            except BaseException:
                self._listeners = before
                raise

        self._run_on_worker(set_them, or_else="the notebook cannot subscribe to that topic")

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        subscribers = self._subscribers
        return (
            listener.last_status if subscribers is None else subscribers.listener_status(listener)
        )

    def wait_settled(
        self, names: Iterable[str] | None, *, after: dict[str, int], timeout_secs: float | None
    ) -> bool:
        del names, after  # dora starts the dataflow as a whole.
        with self._lock:
            settled = self._changed.wait_for(
                lambda: self._node_states.messages_flow or self._node_states.over, timeout_secs
            )
            # If a node has failed, its error says more than the failure of the start as a whole.
            if self._failure is not None and not self._errors:
                raise self._failure
            return settled

    def wait_exited(self, name: str, *, timeout_secs: float) -> bool:
        del name, timeout_secs  # A node that has ended has exited.
        return True

    def failed_starts(self) -> dict[str, FailedStarts]:
        return {}  # dora restarts nodes by itself, and does not say why they have failed.

    def settling(self) -> list[str]:
        return [
            name for name, node_state in self._node_states.nodes.items() if not node_state.was_ready
        ]

    def generations(self) -> dict[str, int]:
        return {name: node_state.generation for name, node_state in self._node_states.nodes.items()}

    def errors(self) -> dict[str, OperatorError]:
        with self._lock:
            # Nodes that failed by themselves come first: dora has ended the others because of them.
            own_fault = {
                name: error
                for name, error in self._errors.items()
                if self._node_states.nodes[name].caused_by is None
            }
            return {**own_fault, **self._errors}

    def start_error(self, name: str) -> OperatorError | None:
        with self._lock:
            return None if self._node_states.nodes[name].was_ready else self._errors.get(name)

    def status(self) -> list[NodeStatus]:
        with self._lock:
            return [self._node_status(spec) for spec in self._declared]

    def logs(self) -> dict[str, list[LogLine]]:
        return {name: log.lines() for name, log in self._logs.items()}

    def wait_ended(self, timeout_secs: float | None) -> bool:
        with self._lock:
            return self._changed.wait_for(lambda: not self.alive, timeout_secs)

    def close(self) -> None:
        self._run_on_worker(self._close)

    def _close(self) -> None:
        # Subscribers and the feeder leave first, while dora can still remove them; then what `open` has made.
        if self._subscribers is not None:
            subscribers, self._subscribers = self._subscribers, None
            subscribers.close()
        if self._feeder is not None:
            feeder, self._feeder = self._feeder, None
            feeder.close()
        self._to_close.close()

    # -- on the worker -------------------------------------------------------------------------------

    def _update_subscribers(self) -> None:
        # Subscribers join only once messages flow; `on_entry` then calls this again.
        if not self.messages_flow or not self.alive:
            return
        if self._subscribers is None:
            self._subscribers = self._new_subscribers()
        # The services first: some of the listeners listen to them.
        for name, spec in self._services.items():
            self._subscribers.set_service(spec, name, self._declared)
        # A subscription to `notebook/NAME` from before the start stays silent; the others must not fail by it.
        self._subscribers.set_listeners(
            [each for each in self._listeners if each.source.node != NOTEBOOK]
        )

    def _subscribe_again(self) -> None:
        """Lets a subscriber that has failed join again. On any thread."""
        self._on_change()
        # On the worker, since the failure is reported by a thread of the session that must be changed.
        if self.alive and not self._stopping:
            self._worker.post(self._subscribe_after_the_start)

    def _the_feeder(self) -> Feeder:
        # With the lock, or two first messages on two threads would start two feeders.
        with self._lock:
            if self._feeder is None:
                self._feeder = Feeder(
                    self._declared.topics_of_the_notebook(),
                    daemon_port=self._port_to_join(),
                    controls=self._controls,
                    on_failure=self._send_controls_again,
                )
            return self._feeder

    def _send_controls_again(self) -> None:
        """Lets the feeder, which has failed, join again. On any thread."""
        if self.alive and not self._stopping:
            self._worker.post(self._send_controls)

    def _send_controls(self) -> None:
        """Publishes the controls, once messages flow; `on_entry` then calls this again."""
        if not (self.messages_flow and self.alive and self._controls.names()) or self._stopping:
            return
        try:
            self._the_feeder().send_controls()
        except EngineError as error:
            for edge in self._declared.edges():
                if edge.source.node == NOTEBOOK:
                    self.note(edge.reader, f"the controls of the notebook do not work: {error}")

    def _say_again(self, name: str) -> None:
        """That node has started again, and does not know the values of the controls that it reads."""
        for edge in self._declared.edges():
            if edge.reader == name and edge.source.node == NOTEBOOK:
                word = self._controls.word(edge.source.output)
                # A press is not repeated.
                if word is not None and word.spec.kind != "event":
                    self._controls.say_again(edge.source.output)
                    self.send_word(edge.source.output, word)

    def _subscribe_after_the_start(self) -> None:
        try:
            self._update_subscribers()
        except EngineError as error:
            for listener in self._listeners:
                self.note(listener.source.node, str(error))

    def _run_on_worker(
        self, change: Callable[[], None], *, or_else: str = "dora_nb failed"
    ) -> bool:
        try:
            return self._worker.call(change)
        except DoraNbError:
            raise
        except (OSError, RuntimeError) as error:
            raise engine_error(or_else, error) from None

    # -- on the thread that reads dora's output ------------------------------------------------------------

    def on_entry(self, entry: _log_lines.Entry) -> None:
        """Handles an entry of dora's log."""
        with self._lock:
            before = self._node_states
            self._node_states = _node_states.step(before, entry, stopping=self._stopping)
            if self._node_states is before:
                self._keep_warning(entry)
                return
            self._note_changes(before)
            self._changed.notify_all()
        # Without the lock from here on: `_ended` and `on_change` call code that takes locks of its own.
        if self._node_states.over:
            self._ended()
        if self._node_states.messages_flow and not before.messages_flow:
            self._worker.post(self._subscribe_after_the_start)
            self._worker.post(self._send_controls)
        self._on_change()

    def on_file_line(self, node: str, line: str) -> None:
        """Handles a line of a node's log file."""
        read = _log_lines.read_file_line(line)
        if node in self._logs and read is not None:
            stream, text, time_secs = read
            if text:
                self._logs[node].add(stream, [shortened(text)], time_secs=time_secs)
                self._last_lines[node] = text
                self._note_warnings(node, stream, text)
                self._publish_line(node, stream, text)

    def on_printed(self, entry: _log_lines.Entry) -> None:
        """Handles what a node has printed or logged, as dora passes it on."""
        stream, text = _log_lines.as_printed(entry)
        if entry.node in self._logs and text:
            time_secs = time.time() if entry.time_secs is None else entry.time_secs
            lines = [shortened(line) for line in text.splitlines()]
            self._logs[entry.node].add(stream, lines, time_secs=time_secs)
            self._last_lines[entry.node] = last_line(lines)
            for line in text.splitlines():
                self._note_warnings(entry.node, stream, line)
                self._publish_line(entry.node, stream, line)

    def _publish_line(self, node: str, stream: str, text: str) -> None:
        """Sends a line to a recorder. `dora logs` reports stderr as stdout (dora-rs 1.1.0)."""
        session = self._subscriber_session()
        if session is not None and self._services:
            level = stream if stream in LOG_LEVELS else "stdout"
            session.printed(node, level, [control.Logged(level, shortened(text), None, None)])

    def _note_warnings(self, node: str, stream: str, text: str) -> None:
        """Makes a node amber if that line of its log says that an output was ignored or a thread has ended."""
        spec = self._declared.node(node)
        text = shortened(text)
        output = _log_lines.undeclared_output(stream, text)
        ended = self._thread_ends[node].read(text, spec.code.path or spec.code.file)
        if output is not None:
            # dora knows it as an output of the node in which the operator runs: OPERATOR/OUTPUT.
            own = output.partition("/")[2] if spec.kind == "operator" else output
            self._warn(node, undeclared_output_text(node, own, spec.outputs))
        elif ended is not None:
            self._warn(node, f"a thread of {node} ended: {ended}")

    def _warn(self, node: str, warning: str) -> None:
        with self._lock:
            before = self._warnings.get(node, ())
            if warning in before or len(before) >= _MOST_WARNINGS:
                return
            self._warnings[node] = (*before, warning)
        self.note(node, warning)
        self._on_change()

    def note(self, node: str, text: str) -> None:
        """Adds lines of the engine to a node's log."""
        if node in self._logs:
            self._logs[node].add("engine", text.splitlines(), time_secs=time.time())

    def on_end(self, why: str | None) -> None:
        """Handles the end of dora's output; `why` is a clause, or None if dora has run the dataflow to its end."""
        with self._lock:
            # An end before all nodes were ready, without a failed node or a stop: the start itself has failed.
            flowed = self._node_states.messages_flow
            if why is not None and not flowed and not self._errors and not self._stopping:
                self._failure = EngineError(f"{self._cannot_open}: {why}.")
            self._node_states = _node_states.end_all(self._node_states, stopping=self._stopping)
            self._changed.notify_all()
        self._ended()
        self._on_change()

    @abc.abstractmethod
    def _ended(self) -> None:
        """Called when the dataflow has ended."""

    def _fail(self, why: str) -> None:
        """Marks all nodes as failed: the coordinator or the daemon is gone."""
        with self._lock:
            # The dataflow has ended before: how each node ended is known, and stays.
            if self._node_states.over:
                return
            self._failure = EngineError(f"{why}.")
            for name, node_state in self._node_states.nodes.items():
                if node_state.state not in _node_states.OVER:
                    self._errors[name] = OperatorError(f"{name} ended: {why}.", node=name)
                    self.note(name, why)
            self._node_states = _node_states.fail_all(self._node_states)
            self._changed.notify_all()
        self._on_change()

    def _note_changes(self, before: NodeStates) -> None:
        for name, node_state in self._node_states.nodes.items():
            was = before.nodes[name]
            if node_state.generation != was.generation:
                self._errors.pop(name, None)
                self._warnings.pop(name, None)
                self._last_lines.pop(name, None)
                self._first_lines[name] = self._logs[name].count
            if node_state.was_ready and not was.was_ready and node_state.generation > 1:
                self._say_again(name)
            if node_state.state in _node_states.OVER and was.state not in _node_states.OVER:
                # What it printed last, such as a traceback, may not have been read yet.
                self._read_logs()
            if node_state.state is State.FAILED and was.state is not State.FAILED:
                self._errors[name] = self._failure_of(name, node_state)

    def _failure_of(self, name: str, node_state: NodeState) -> OperatorError:
        lines = self._logs[name].lines()
        mine = [line for line in lines if line.number >= self._first_lines[name]]
        # `dora logs` reports stderr as stdout (dora-rs 1.1.0).
        printed = [line.text for line in mine if line.stream in ("stderr", "stdout")]
        return failure_of(
            name,
            printed,
            node_state.exit_text or "",
            folder=self._private_folder,
            line_of=self._line_of,
            caused_by=node_state.caused_by,
        )

    def _line_of(self, file: str, number: int) -> str | None:
        """Returns a line of a node's code, numbered as in the editor."""
        for spec in self._declared:
            code = spec.code
            lines = code.text.splitlines()
            if code.file == file and 0 <= number - code.first_line < len(lines):
                return lines[number - code.first_line]
        return None

    def _keep_warning(self, entry: _log_lines.Entry) -> None:
        """Adds a warning of dora to the log of its node."""
        if entry.by_dora and entry.node is not None and entry.level in ("warn", "error"):
            self.note(entry.node, entry.text)

    # -- inside --------------------------------------------------------------------------------------

    def _node_status(self, spec: NodeSpec) -> NodeStatus:
        node_state = self._node_states.nodes[spec.name]
        edges = self._declared.edges()
        waiting_for = self._declared.waiting_for(spec.name)
        state = node_state.state
        if state is State.WAITING:
            waiting_for = (PROCESS_TO_JOIN,)
        if state is State.RUNNING and waiting_for:
            state = State.WAITING
        return NodeStatus(
            name=spec.name,
            state=state,
            declared_in=spec.code.file,
            generation=node_state.generation,
            waiting_for=waiting_for,
            events=None,
            inputs=tuple(_edge(each) for each in edges if each.reader == spec.name),
            outputs=tuple(_edge(each) for each in edges if each.source.node == spec.name),
            error=self._errors.get(spec.name),
            warnings=self._warnings.get(spec.name, ()),
            last_line=self._last_lines.get(spec.name, ""),
        )


def _first_state(spec: NodeSpec) -> NodeState:
    """Returns a node's first state. The start does not wait for a dynamic node, which joins at any time."""
    if spec.kind == "dynamic":
        return NodeState(State.WAITING, was_ready=True)
    return NodeState()


def _edge(edge: Edge) -> EdgeStatus:
    """Returns what is known of an edge; dora-rs counts no messages."""
    read = edge.input
    return EdgeStatus(str(edge.source), edge.reader, read.name, read.queue_size, read.queue_policy)
