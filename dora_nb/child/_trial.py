"""A node on trial: recorded events in the order of the recording, as fast as it takes them.

An operator or a script runs in a process of its own, as in a dataflow, but without edges: events come
through a pipe, and what it sends goes into a file, beside the event that it was handling. `time` follows the
recorded clock; how long each event takes is measured on the real one. Another process does the same with
another version of the code, see `dora_nb.compare`.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, NoReturn, cast

from dora_nb.protocol import control, counters
from dora_nb.protocol.trial_frames import (
    BEFORE_FIRST,
    HANDLED,
    HEADER_SIZE,
    INPUT,
    LOST_DESCRIPTORS_STATUS,
    SENT,
    STOP,
    Frame,
    unpack,
)
from dora_nb.protocol.undeclared_output import undeclared_output_text
from dora_nb.transport import Input, Output, Reservation, as_bytes, from_bytes

from . import _life, _logging, _parent_death, _process, node
from ._loop import make_operator
from ._prepared_events import PreparedEvents
from ._process import NodeProcess
from ._recorded_clock import RecordedClock, real_monotonic, real_perf_counter_ns
from ._script import no_node_failure, run_script
from .user_code import KernelGoneError
from .user_operator import EventResult

Event = dict[str, Any]
_EMPTY_LOOK_NANOS = 1_000_000
"""How far `try_recv` moves the clock when no event is due: a loop around it reaches the next event soon."""
_FLUSH_BYTES = 1 << 16


class Trial:
    """Runs a node on trial in its process (`_life.NodeCode`). The kernel ends it by killing it."""

    def __init__(self, control_socket: socket.socket) -> None:
        self.process = NodeProcess(control_socket, watcher=self)
        self.process.actions |= {control.OpenTrial: self._open}
        self._opened: tuple[control.OpenTrial, list[int]] | None = None

    def serve(self, source: str) -> control.Finished:
        """Runs the node on the events that come."""
        while self._opened is None:
            self.process.serve_engine()
        message, (inputs, outputs) = self._opened
        clock = RecordedClock(message.start_nanos)
        recorder = _Recorder(self.process, outputs, most_bytes=message.most_output_bytes)
        events = _Events(inputs)
        clock.install()
        # From here on the node's own code runs, and the kernel counts the time.
        self.process.counters.words[counters.BUSY_SINCE_NANOS] = int(real_monotonic() * 1e9)
        try:
            return self._run(source, events, recorder, clock)
        finally:
            recorder.flush()

    def _run(
        self, source: str, events: _Events, recorder: _Recorder, clock: RecordedClock
    ) -> control.Finished:
        raise NotImplementedError

    def _open(self, message: control.OpenTrial, descriptors: list[int]) -> None:
        self._opened = message, descriptors

    def forget(self) -> None:
        """Nothing."""

    def park(self) -> None:
        """The kernel is gone: no robot is connected, so there is nothing to stop."""
        _parent_death.end_with_session()

    def leave_crash_report(self) -> None:
        """Nothing: the event is in the recording."""

    # -- what is watched: nothing, as there are no edges -----------------------------------------------

    def watch_input(self, reader: Input) -> None: ...

    def unwatch_input(self, reader: Input) -> None: ...

    def forget_in_fork(self) -> None: ...


class OperatorTrial(Trial):
    """An operator on trial."""

    def _run(
        self, source: str, events: _Events, recorder: _Recorder, clock: RecordedClock
    ) -> control.Finished:
        process = self.process
        node.refusal = node.IN_AN_OPERATOR
        self._operator = make_operator(process, source)
        process.tell(control.Ready())
        for number, nanos, event in events:
            clock.advance_to(nanos)
            if event["type"] == "STOP":
                clock.end()
            recorder.begin(number)
            try:
                result = self._operator.on_event(event, recorder.send_output)
            finally:
                recorder.end()
            if process.is_forked or result is not EventResult.CONTINUE:
                break
        return control.Finished()

    def forget(self) -> None:
        """Drops the operator's instance."""
        self._operator.forget()


class ScriptTrial(Trial):
    """A script on trial."""

    def _run(
        self, source: str, events: _Events, recorder: _Recorder, clock: RecordedClock
    ) -> control.Finished:
        host = _ScriptHost(self.process, events, recorder, clock)
        node.host = host
        try:
            run_script(self.process, source)
        finally:
            recorder.end()
        host.check_has_node()
        return control.Finished()


class _Events:
    """The events that come through the pipe. One thread at a time takes them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, True)

    def __iter__(self) -> Iterator[tuple[int, int, Event]]:
        """Each with its number and its time. KernelGoneError where the pipe ends before STOP."""
        while True:
            frame = unpack(self._read(HEADER_SIZE))
            if frame.kind == STOP:
                yield frame.number, frame.nanos, {"type": "STOP", "kind": "dora", "id": "MANUAL"}
                return
            assert frame.kind == INPUT
            name = bytes(self._read(frame.name_size)).decode()
            metadata = bytes(self._read(frame.metadata_size))
            # A buffer of its own for each value: the node may keep the array.
            value = self._read(frame.value_size)
            message = from_bytes(frame.type_code, value, metadata, frame.nanos)
            event = _process.input_event(name, message.value, message.metadata)
            yield frame.number, frame.nanos, event

    def _read(self, size: int) -> memoryview:
        buffer = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            try:
                got = os.readv(self._descriptor, [buffer[filled:]])
            except OSError:  # Another file may have our number by now.
                os._exit(LOST_DESCRIPTORS_STATUS)
            if not got:
                raise KernelGoneError
            filled += got
        return buffer.toreadonly()


class _Recorder:
    """Keeps what the node sends and how long it takes, in a file. Any thread may send."""

    def __init__(self, process: NodeProcess, descriptor: int, *, most_bytes: int) -> None:
        self._process = process
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._written = 0
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._number = BEFORE_FIRST
        self._begin_nanos: int | None = None
        os.register_at_fork(after_in_child=self._forget_in_fork)

    def begin(self, number: int) -> None:
        """The node gets that event now."""
        self._number = number
        words = self._process.counters.words
        words[counters.EVENTS] += 1
        words[counters.BUSY_SINCE_NANOS] = int(real_monotonic() * 1e9)
        self._begin_nanos = real_perf_counter_ns()

    def end(self) -> None:
        """The event that the node got last is handled."""
        end_nanos = real_perf_counter_ns()
        if self._begin_nanos is None:
            return
        took_nanos, self._begin_nanos = end_nanos - self._begin_nanos, None
        self._process.counters.words[counters.BUSY_SINCE_NANOS] = 0
        self._put(Frame(HANDLED, 0, 0, 0, self._number, took_nanos, 0), [])

    def send_output(self, output: str, data: Any, metadata: Event | None = None) -> None:
        """Keeps a message. What cannot be sent in a dataflow raises here too."""
        if not isinstance(output, str):
            raise TypeError(
                f"the first argument must be the output's name, not {type(output).__name__}: "
                "send_output('OUTPUT', data, metadata)"
            )
        process = self._process
        if output not in process.begin.outputs:
            process.warn(undeclared_output_text(process.name, output, process.begin.outputs))
            return
        code, size, value, packed = as_bytes(data, metadata)
        name = output.encode()
        frame = Frame(SENT, code, len(name), len(packed), self._number, 0, size)
        self._put(frame, [name, packed, value])

    def flush(self) -> None:
        """Writes what waits. It is copied by then: the node may change an array that it has sent."""
        with self._lock:
            self._write_waiting()

    def _put(self, frame: Frame, body: list[Any]) -> None:
        if self._process.is_forked:  # A copy of the node writes nothing into the node's file.
            return
        with self._lock:
            self._written += HEADER_SIZE + frame.body_size
            if self._written > self._most_bytes:
                self._fail(f"sent more than {self._most_bytes / 1e9:g} GB")
            self._waiting += [frame.pack(), *(part for part in body if len(part))]
            self._waiting_bytes += HEADER_SIZE + frame.body_size
            # A message at once: a process that is killed has written what it sent.
            if frame.kind == SENT or self._waiting_bytes > _FLUSH_BYTES:
                self._write_waiting()

    def _write_waiting(self) -> None:
        parts = [memoryview(part).cast("B") for part in self._waiting]
        self._waiting, self._waiting_bytes = [], 0
        while parts:
            try:
                written = os.writev(self._descriptor, parts[:512])
            except OSError as error:
                if error.errno == errno.EBADF:
                    os._exit(LOST_DESCRIPTORS_STATUS)
                self._fail(f"sent what cannot be kept: {error.strerror}")
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts and written:
                parts[0] = parts[0][written:]

    def _forget_in_fork(self) -> None:
        self._lock = threading.Lock()
        self._waiting = []

    def _fail(self, why: str) -> NoReturn:
        # Not by an exception, which the node's code may catch.
        process = self._process
        _life.report_failure(process, control.Failed(f"{process.name} {why} on trial", []))
        os._exit(1)


class _ScriptHost(PreparedEvents):
    """What a `Node` runs on (`node.Host`). Any thread may call it."""

    def __init__(
        self, process: NodeProcess, events: _Events, recorder: _Recorder, clock: RecordedClock
    ) -> None:
        super().__init__(self._read_ahead(events))
        self.begin = process.begin
        self.dataflow_descriptor = process.dataflow_descriptor
        self.send_output = recorder.send_output
        self._process = process
        self._recorder = recorder
        self._clock = clock
        self._start_nanos = clock.now_nanos
        self._ahead: tuple[int, int] = (BEFORE_FIRST, 0)
        """The number and the time of the event that was read ahead."""
        self._lock = threading.RLock()
        self._has_node = False
        # Always readable: `Node.recv_async` waits on it, and each look without an event moves the clock.
        self._readable = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def join(self) -> None:
        """Tells the kernel that the script is ready."""
        if self._has_node:
            raise RuntimeError("this process has its Node() already; one process is one node")
        self._has_node = True
        self._process.tell(control.Ready())

    def check_has_node(self) -> None:
        """Raises NodeFailedError where the script has made no `Node()`."""
        if not self._has_node:
            raise no_node_failure(self._process.name)

    def next_event(self, timeout_secs: float | None) -> Event | None:
        """Moves the clock to the next event, or by `timeout_secs`; None after the last."""
        with self._lock:
            self._recorder.end()
            return super().next_event(timeout_secs)

    def event_now(self) -> Event | None:
        """The next event if the clock has reached it; otherwise moves the clock a little."""
        with self._lock:
            self._recorder.end()
            event = super().event_now()
            if event is None:
                self._clock.advance_to(self._clock.now_nanos + _EMPTY_LOOK_NANOS)
            return event

    def secs_to_next_tick(self) -> float | None:
        """How long until the next event, on the recorded clock; None where there is none."""
        with self._lock:
            return super().secs_to_next_tick()

    def fileno(self) -> int:
        """A descriptor that is always readable."""
        return self._readable

    def bridge_logging(self, node: node.Node) -> None:
        """As in a dataflow."""
        _logging.bridge_logging(node)

    def log(
        self,
        level: str,
        text: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """Puts a line into the node's log."""
        if level in self.begin.log_levels:
            as_text = {str(key): str(value) for key, value in (fields or {}).items()}
            self._process.tell(control.Logged(level, text, target, as_text or None))

    def reserve(self, output: str, size: int) -> Reservation:
        """Room for a message on that output. RuntimeError where it is not declared, as in dora."""
        if output not in self.begin.outputs:
            raise RuntimeError(f"Output `{output}` not in node's output list.")
        return Reservation(cast(Output, _Reserved(self._recorder, output)), size, None)

    # -- the recorded clock ----------------------------------------------------------------------------

    def _read_ahead(self, events: _Events) -> Iterator[tuple[float, Event]]:
        for number, nanos, event in events:
            self._ahead = number, nanos
            yield (nanos - self._start_nanos) / 1e9, event

    def _elapsed_secs(self) -> float:
        return (self._clock.now_nanos - self._start_nanos) / 1e9

    def _wait(self, secs: float) -> None:
        self._clock.advance_to(self._clock.now_nanos + int(secs * 1e9))

    def _take(self) -> Event | None:
        event = super()._take()
        number, nanos = self._ahead
        # Exactly, which a wait in floating-point seconds is not.
        self._clock.advance_to(nanos)
        self._recorder.begin(number)
        if event is not None and event["type"] == "STOP":
            self._clock.end()
        return event

    def _peek(self) -> tuple[float, Event] | None:
        # A copy that the node has forked must not read the pipe.
        return None if self._process.is_forked else super()._peek()


class _Reserved:
    """The output that a `Reservation` of a trial publishes to."""

    def __init__(self, recorder: _Recorder, output: str) -> None:
        self._recorder = recorder
        self._output = output

    def publish_reserved(self, reservation: Reservation, metadata: Event | None) -> None:
        """Keeps what was written into the memory."""
        self._recorder.send_output(self._output, reservation.memory.copy(), metadata)
