"""The one event loop of an operator's process: inputs, timers and the engine's messages.

One thread, the main one, runs the operator and reads everything. What is due is decided anew after
each event, in this order: the tick that is due the longest, the engine's messages, an input that has
closed, the oldest message among the inputs (by the time it was sent: peeked, nothing leaves a socket
before it is handled). So nobody starves but one whose messages are always the newest: after
`PATIENCE` others it goes first.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import errno
import faulthandler
import gc
import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from .. import messages, metrics
from ..timers import Ticks
from ..transport import Arena, Input, OutEdge, Output
from . import _dora, _output, _parent, _patches, _spawned
from ._operator import KernelGoneError, OperatorFailedError, UserOperator, Verdict, is_free

FLUSH_SECS = 0.5
"""How long a message that waits for room may take once STOP was asked for."""
PATIENCE = 16
_MOST_WARNINGS = 200
_MOST_WARNING_CHARS = 1000
_MOST_REPORT_CHARS = 500
_MOST_FIRST_LINES, _MOST_LAST_LINES = 20, 40
"""Of a failure's traceback; with them a report fits into one message of the control socket."""
_TICK_VALUE = pa.nulls(0)
_monotonic = time.monotonic


class SendOutput:
    """What an operator's `on_event` gets as `send_output`. It may be kept and used from any thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __call__(
        self, output: str, data: bytes | pa.Array[Any], metadata: dict[str, Any] | None = None
    ) -> None:
        """Sends `data` on `output`; see dora's Python API. numpy arrays are taken too."""
        self._loop.send_output(output, data, metadata)


class Loop:
    """The process's side of `dora_nb.messages`."""

    def __init__(self, control_descriptor: int) -> None:
        self._control = socket.socket(fileno=control_descriptor)
        # It had to be inherited once; what the operator starts has no business with it.
        self._control.set_inheritable(False)
        self._main_thread = threading.get_ident()
        self._send_output = SendOutput(self)
        self._inputs: dict[int, tuple[str, Input]] = {}
        self._by_descriptor: dict[int, int] = {}
        self._closing: set[int] = set()
        self._closed: set[int] = set()
        self._passed_over: collections.Counter[int] = collections.Counter()
        self._outputs: dict[str, Output] = {}
        self._readers: dict[int, tuple[Output, OutEdge]] = {}
        self._timers: dict[str, Ticks] = {}
        self._warned: set[str] = set()
        self._watched: set[int] = set()
        self._poller = select.poll()
        self._poller.register(self._control, select.POLLIN)
        self._overflowed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Written by other threads whose message stands in the overflow, which this one moves on."""
        self._poller.register(self._overflowed, select.POLLIN)
        self._unserved: collections.deque[tuple[messages.ToProcess, list[int]]] = (
            collections.deque()
        )
        self._serving = False
        self._going = False
        self._stopping = False
        self._give_up_secs = 0.0
        self._actions: dict[type, Callable[[Any, list[int]], None]] = {
            messages.AddOutput: self._add_output,
            messages.AddReader: self._add_reader,
            messages.RemoveReader: self._remove_reader,
            messages.AddInput: self._add_input,
            messages.RemoveInput: self._remove_input,
            messages.AddArena: self._add_arena,
            messages.RetireArena: self._retire_arena,
            messages.CloseInput: self._close_input,
            messages.OpenInput: self._open_input,
            messages.VoidLeases: self._void_leases,
            messages.Go: self._go,
            messages.Stop: self._stop,
        }

    def run(self) -> None:
        """Becomes the operator that the engine names, and runs it to its end."""
        faulthandler.enable()
        _output.protect()
        try:
            report = self._live()
            if report is not None:
                self._report(_bounded(report))
                sys.exit(1)
        except KernelGoneError:
            self._park()

    def _report(self, report: messages.Failed) -> None:
        try:
            self._tell(report)
        except OSError:  # Without the control socket, stderr is what the engine still reads.
            sys.stderr.write(f"{report.message} {report.hint or ''}\n")

    def _live(self) -> messages.Failed | None:
        """From the first message of the engine to the operator's end; the failure it ended in."""
        try:
            begin, descriptors = self._receive()
            assert isinstance(begin, messages.Begin)
            self._become(begin, descriptors)
            self._tell(messages.Ready())
            self._end(self._serve())
        except OperatorFailedError as failure:
            return failure.report
        except Exception as error:
            return _internal_failure(error)
        return None

    # -- life ------------------------------------------------------------------------------------

    def _become(self, begin: messages.Begin, descriptors: list[int]) -> None:
        source_descriptor, counters_descriptor = descriptors
        if begin.protocol_version != messages.PROTOCOL_VERSION:
            raise OperatorFailedError(
                messages.Failed("two versions of dora_nb meet; restart the kernel", [])
            )
        self._name = begin.name
        self._declared_topics = begin.topics
        self._counters = metrics.OperatorCounters(counters_descriptor)
        os.close(counters_descriptor)
        sys.modules["dora"] = _dora
        sys.argv = [begin.path or begin.name]
        sys.path.insert(0, begin.working_dir)
        if begin.path is not None:  # As dora does, so that modules beside the file are found.
            sys.path.append(os.path.dirname(begin.path))
        first_output = begin.outputs[0] if begin.outputs else "OUTPUT"
        _patches.install(f"{begin.name}/{first_output}")
        registered = is_free(begin.name, begin.path)
        if registered:
            _spawned.announce(begin.name, begin.path or begin.file, source_descriptor)
        with open(source_descriptor, encoding="utf-8", closefd=False) as file:
            source = file.read()
        self._operator = UserOperator(
            begin.name, source, file=begin.file, path=begin.path, registered=registered
        )
        start_secs = _monotonic()
        self._timers = {
            name: Ticks(interval_secs, start_secs=start_secs)
            for name, interval_secs in begin.timers.items()
        }

    def _serve(self) -> messages.Finished:
        """Handles whatever comes until there is a reason to end."""
        while not self._stopping:
            verdict = self._next_tick() if self._going else Verdict.CONTINUE
            if verdict is Verdict.CONTINUE and not self._stopping:
                verdict = self._next_message()
            if verdict is not Verdict.CONTINUE:
                return messages.Finished(stop_all=verdict is Verdict.STOP_ALL)
            if self._all_inputs_closed():
                return messages.Finished(inputs_closed=True)
        if self._going:
            self._handle({"type": "STOP", "kind": "dora", "id": "MANUAL"})
        return messages.Finished()

    def _end(self, finished: messages.Finished) -> None:
        """Moves on what the sockets could not hold yet, for a bounded time once STOP has come."""
        self._going = False
        for _, reader in self._inputs.values():
            self._poller.unregister(reader.fileno())
        self._operator.forget()
        gc.collect()
        deadline_secs = _monotonic() + FLUSH_SECS
        while self._flush_all():
            left_secs = deadline_secs - _monotonic()
            if self._stopping and left_secs <= 0:
                break
            self._wait_until_ready(left_secs if self._stopping else None)
        self._tell(finished)

    def _flush_all(self) -> bool:
        """Moves on every output's overflow; whether some is left."""
        left = [output.flush() for output in self._outputs.values()]
        return any(left)

    def _park(self) -> None:
        """The kernel is gone. The second way of `_parent` sets the limit."""
        try:
            _output.lead_nowhere()
            if self._going:
                self._operator.on_event(
                    {"type": "STOP", "kind": "dora", "id": "MANUAL"}, self._send_output
                )
        finally:
            _parent.end_with_session()

    def _all_inputs_closed(self) -> bool:
        """Timers never close, and an input that waits for its node does not count as closed."""
        return not self._timers and 0 < self._declared_topics == len(self._closed)

    # -- events ----------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any]) -> Verdict:
        words = self._counters.words
        begin = time.monotonic_ns()
        words[metrics.BUSY_SINCE_NANOS] = begin
        try:
            return self._operator.on_event(event, self._send_output)
        finally:
            words[metrics.BUSY_SINCE_NANOS] = 0
            words[metrics.EVENTS] += 1
            self._counters.record_duration(time.monotonic_ns() - begin)

    def _next_tick(self) -> Verdict:
        if not self._timers:
            return Verdict.CONTINUE
        name, ticks = min(self._timers.items(), key=lambda timer: timer[1].due_secs)
        if not ticks.take(_monotonic()):
            return Verdict.CONTINUE
        self._counters.words[metrics.MISSED_TICKS] = sum(
            timer.missed for timer in self._timers.values()
        )
        timestamp = datetime.datetime.now(datetime.UTC)
        return self._handle(_input_event(name, _TICK_VALUE, {"timestamp": timestamp}))

    def _next_message(self) -> Verdict:
        """Waits for something, serves the engine, and handles at most one message."""
        ready = self._wait_until_ready(self._secs_to_next_tick())
        closed = self._next_closed()
        if closed is not None:
            return self._handle({"type": "INPUT_CLOSED", "kind": "dora", "id": closed})
        edge_id = self._next_in_line(ready)
        if edge_id is None:
            return Verdict.CONTINUE
        name, reader = self._inputs[edge_id]
        message = reader.take()
        if message is None:
            return Verdict.CONTINUE
        self._closed.discard(edge_id)
        return self._handle(_input_event(name, message.value, message.metadata))

    def _next_in_line(self, ready: list[int]) -> int | None:
        """The ready input whose first message was sent first. More than one is looked into."""
        if len(ready) == 1:
            return ready[0]
        stamps = [
            (stamp, edge_id)
            for edge_id in ready
            if (stamp := self._inputs[edge_id][1].next_stamp_nanos()) is not None
        ]
        if not stamps:
            return None
        chosen = min(stamps)[1]
        waiting, times = max(
            ((edge_id, self._passed_over[edge_id]) for _, edge_id in stamps),
            key=lambda passed: passed[1],
        )
        if times >= PATIENCE:
            chosen = waiting
        self._passed_over.update(edge_id for _, edge_id in stamps)
        del self._passed_over[chosen]
        return chosen

    def _next_closed(self) -> str | None:
        """The name of an input whose publisher has ended and whose line is empty; named once."""
        if not self._going:
            return None
        for edge_id in sorted(self._closing):
            name, reader = self._inputs[edge_id]
            if reader.next_stamp_nanos() is None:
                self._closing.discard(edge_id)
                self._closed.add(edge_id)
                return name
        return None

    def _secs_to_next_tick(self) -> float | None:
        if not self._going:
            return None
        if self._closing:
            return 0.0
        if not self._timers:
            return None
        return max(0.0, min(ticks.due_secs for ticks in self._timers.values()) - _monotonic())

    def _wait_until_ready(self, timeout_secs: float | None) -> list[int]:
        """Blocks until something can be done; serves the engine; returns the inputs with messages."""
        timeout_millis = None if timeout_secs is None else timeout_secs * 1e3
        ready = []
        self._watch_overflow()
        for descriptor, _ in self._poller.poll(timeout_millis):
            if descriptor == self._control.fileno():
                self._serve_engine()
            elif descriptor in self._by_descriptor:
                ready.append(self._by_descriptor[descriptor])
            else:
                if descriptor == self._overflowed:
                    os.eventfd_read(self._overflowed)
                self._flush_all()
        return [edge_id for edge_id in ready if edge_id in self._inputs]

    def _watch_overflow(self) -> None:
        """Polls the sending sockets whose publisher keeps messages back, and only those."""
        for _, edge in self._readers.values():
            if not edge.attached:
                continue
            if edge.overflow:
                self._poller.register(edge.fileno(), select.POLLOUT)
                self._watched.add(edge.fileno())
            elif edge.fileno() in self._watched:
                self._poller.unregister(edge.fileno())
                self._watched.discard(edge.fileno())

    # -- sending ---------------------------------------------------------------------------------

    def send_output(self, output: str, data: Any, metadata: dict[str, Any] | None) -> None:
        """Publishes to one output. An output that is not declared is ignored, as dora does."""
        publisher = self._outputs.get(output)
        if publisher is not None:
            publisher.publish(data, metadata)
            if threading.get_ident() != self._main_thread and any(
                edge.overflow for edge in publisher.edges
            ):
                os.eventfd_write(self._overflowed, 1)
            return
        self._counters.words[metrics.UNDECLARED_OUTPUTS] += 1
        declared = ", ".join(self._outputs) or "none"
        self._warn(
            f"ignoring output '{self._name}/{output}', which is not declared (declared: {declared}); "
            "add it to --outputs"
        )

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        """Called while a publisher waits for room: serves the engine, from the main thread only."""
        poller = select.poll()
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        control = self._control.fileno()
        if threading.get_ident() == self._main_thread:
            poller.register(control, select.POLLIN)
        if any(ready == control for ready, _ in poller.poll(timeout_secs * 1e3)):
            self._serve_engine()

    def giving_up(self) -> bool:
        """Whether the operator was told to stop, and a message has waited for room long enough."""
        return self._stopping and _monotonic() >= self._give_up_secs

    # -- the engine's messages ---------------------------------------------------------------------

    def _receive(self) -> tuple[messages.ToProcess, list[int]]:
        received = messages.receive_in_process(self._control)
        if received is None:
            raise KernelGoneError
        return received

    def _serve_engine(self) -> None:
        """Does what the engine's next message says, in the order of the messages.

        An action may have to wait for another thread's `send_output`, and serve the engine meanwhile.
        What arrives then is done after it; only what ends such a wait takes effect at once.
        """
        message, descriptors = self._receive()
        if isinstance(message, messages.Stop):
            self._stopping = True
            self._give_up_secs = _monotonic() + FLUSH_SECS
        elif isinstance(message, messages.RemoveReader) and message.edge_id in self._readers:
            self._readers[message.edge_id][1].attached = False
        self._unserved.append((message, descriptors))
        if self._serving:
            return
        self._serving = True
        try:
            while self._unserved:
                message, descriptors = self._unserved.popleft()
                self._actions[type(message)](message, descriptors)
        finally:
            self._serving = False

    def _tell(self, message: messages.ToKernel) -> None:
        try:
            self._control.send(messages.encode(message))
        except ConnectionError as error:
            raise KernelGoneError from error

    def _warn(self, text: str) -> None:
        """Says something once; the kernel keeps it with what the operator prints."""
        text = text[:_MOST_WARNING_CHARS]
        if text in self._warned or len(self._warned) >= _MOST_WARNINGS:
            return
        self._warned.add(text)
        # Without a kernel nobody is left to be warned, and the loop is about to see it.
        with contextlib.suppress(KernelGoneError):
            self._tell(messages.Warned(text))

    def _add_output(self, message: messages.AddOutput, descriptors: list[int]) -> None:
        (memory,) = descriptors
        arena = Arena(message.arena, memory)
        os.close(memory)
        self._outputs[message.output] = Output(message.output, arena, waiter=self, warn=self._warn)

    def _add_reader(self, message: messages.AddReader, descriptors: list[int]) -> None:
        tx, rx, words = descriptors
        edge = OutEdge(
            message.edge_id,
            socket.socket(fileno=tx),
            socket.socket(fileno=rx),
            words,
            queue_size=message.queue_size,
            drop_oldest=message.drop_oldest,
            column=message.column,
        )
        os.close(words)
        output = self._outputs[message.output]
        self._readers[message.edge_id] = (output, edge)
        output.attach(edge, replay_last=message.replay_last)

    def _remove_reader(self, message: messages.RemoveReader, _none: list[int]) -> None:
        output, edge = self._readers[message.edge_id]
        if edge.fileno() in self._watched:
            self._poller.unregister(edge.fileno())
            self._watched.discard(edge.fileno())
        output.detach(edge)
        self._report_released()

    def _report_released(self) -> None:
        for output in self._outputs.values():
            for edge in output.released():
                del self._readers[edge.edge_id]
                self._tell(messages.Released(edge.edge_id))

    def _add_input(self, message: messages.AddInput, descriptors: list[int]) -> None:
        rx, words = descriptors
        reader = Input(
            message.edge_id, socket.socket(fileno=rx), words, find_arena=self._find_arena
        )
        os.close(words)
        self._inputs[message.edge_id] = (message.input, reader)
        self._by_descriptor[reader.fileno()] = message.edge_id
        if self._going:
            self._poller.register(reader.fileno(), select.POLLIN)

    def _remove_input(self, message: messages.RemoveInput, _none: list[int]) -> None:
        _, reader = self._inputs.pop(message.edge_id)
        self._closing.discard(message.edge_id)
        self._closed.discard(message.edge_id)
        del self._passed_over[message.edge_id]
        del self._by_descriptor[reader.fileno()]
        if self._going:
            self._poller.unregister(reader.fileno())
        reader.close()

    def _add_arena(self, message: messages.AddArena, descriptors: list[int]) -> None:
        (memory,) = descriptors
        if message.edge_id in self._inputs:
            self._inputs[message.edge_id][1].add_arena(message.arena, memory, message.column)
        os.close(memory)

    def _retire_arena(self, message: messages.RetireArena, _none: list[int]) -> None:
        if message.edge_id in self._inputs:
            self._inputs[message.edge_id][1].retire_arena(message.arena)

    def _find_arena(self, edge_id: int, arena: int) -> None:
        """The engine announces an arena before its publisher may use it: it is on its way."""
        while not self._inputs[edge_id][1].has_arena(arena):
            self._serve_engine()

    def _close_input(self, message: messages.CloseInput, _none: list[int]) -> None:
        if message.edge_id in self._inputs:
            self._closing.add(message.edge_id)

    def _open_input(self, message: messages.OpenInput, _none: list[int]) -> None:
        self._closing.discard(message.edge_id)
        self._closed.discard(message.edge_id)

    def _void_leases(self, message: messages.VoidLeases, _none: list[int]) -> None:
        if message.edge_id in self._readers:
            self._readers[message.edge_id][1].void(message.up_to)
            self._report_released()

    def _go(self, _message: messages.Go, _none: list[int]) -> None:
        self._going = True
        for _, reader in self._inputs.values():
            self._poller.register(reader.fileno(), select.POLLIN)
        for ticks in self._timers.values():
            ticks.due_secs = _monotonic()

    def _stop(self, _message: messages.Stop, _none: list[int]) -> None:
        """It took effect when it arrived."""


def _input_event(name: str, value: pa.Array[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    return {"type": "INPUT", "kind": "dora", "id": name, "value": value, "metadata": metadata}


def _bounded(report: messages.Failed) -> messages.Failed:
    """The report, cut so that it fits into one message."""
    lines = [line[:_MOST_REPORT_CHARS] for line in report.traceback_lines]
    left_out = len(lines) - _MOST_FIRST_LINES - _MOST_LAST_LINES
    if left_out > 0:
        lines[_MOST_FIRST_LINES:-_MOST_LAST_LINES] = [f"  … ({left_out} more lines)"]
    return messages.Failed(report.message[: 2 * _MOST_REPORT_CHARS], lines, report.hint)


def _internal_failure(error: Exception) -> messages.Failed:
    """What must not happen: an error of this program, not of the operator."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return messages.Failed(
            "the operator's process has too many files open to go on.",
            [],
            "Close what it opens, or raise the limit before Jupyter starts (ulimit -n).",
        )
    if isinstance(error, OSError) and error.errno in (errno.EBADF, errno.ENOTSOCK):
        return messages.Failed(
            "something in the operator's process closed descriptors that are not its own.",
            [],
            "Look for os.closerange, or a library that makes a daemon of its process.",
        )
    return messages.Failed(
        f"dora_nb failed in the operator's process: {type(error).__name__}: {error}",
        "".join(traceback.format_exception(error)).splitlines(),
        "This is a fault in dora_nb: please report it.",
    )
