"""Runs one node on recorded events, in a process of its own and without a dataflow.

The other side is `dora_nb.child._trial`. Events go through a pipe, so a file is read at the
node's pace; what the node sends comes back in a file without a name, which outlives a process that is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from dora_nb.errors import DataflowStateError, EngineError, OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.protocol import control, counters
from dora_nb.protocol.control import new_id
from dora_nb.protocol.log_entries import log_text
from dora_nb.protocol.trial_frames import (
    HEADER_SIZE,
    INPUT,
    LOST_DESCRIPTORS_STATUS,
    SENT,
    STOP,
    Frame,
    unpack,
)
from dora_nb.transport import as_bytes, from_bytes

from ..capture import Log
from ..os_errors import engine_error
from ._death import describe_death
from ._node_messages import send_begin
from ._process import OperatorProcess
from ._spawner import Spawner
from ._stacks import Question

MOST_OUTPUT_BYTES = 4 << 30
_PIPE_BYTES = 1 << 20
_LOOK_SECS = 0.1
"""How often the time since the last progress is looked at."""
_START_SECS = 60.0
"""How long the interpreter may take before the node's own code runs, on a machine that is very busy."""
_EXIT_SECS = 5.0
"""How long a process may take to exit when its code has ended."""


@dataclass(frozen=True, slots=True)
class TrialEvent:
    """One event of type INPUT."""

    input: str
    value: pa.Array[Any]
    metadata: dict[str, Any]
    time_nanos: int
    """When the node gets it, on the recorded clock."""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that the node has sent; it is decoded when it is looked at."""

    number: int
    """Which event the node was handling, counted from 0; -1 before the first, the number of events for STOP."""
    output: str
    _type_code: int
    _value: memoryview
    _metadata: memoryview

    @property
    def metadata(self) -> dict[str, Any]:
        """What was sent with it, without a time of sending."""
        metadata = self._message().metadata
        return {key: value for key, value in metadata.items() if key != "timestamp"}

    @property
    def value(self) -> pa.Array[Any]:
        """Its value, on the memory of the file."""
        value: pa.Array[Any] = self._message().value
        return value

    def has_same_bytes(self, other: SentMessage) -> bool:
        """Whether value and metadata are the same, byte by byte. False says nothing."""
        if self._type_code != other._type_code or self._metadata != other._metadata:
            return False
        # By Arrow, which calls memcmp: memoryviews compare one byte after the other.
        return pa.py_buffer(self._value).equals(pa.py_buffer(other._value))

    def _message(self) -> Any:
        return from_bytes(self._type_code, self._value, bytes(self._metadata), 0)


@dataclass(slots=True)
class TrialResult:
    """What a node did on trial."""

    num_events: int = 0
    """How many events it has taken, STOP not among them."""
    handling_nanos: list[int] = field(default_factory=list)
    """How long it took for each event, on the real clock."""
    sent: list[SentMessage] = field(default_factory=list)
    error: OperatorError | None = None
    """Why it failed; None where it ended in order."""
    failed_on: int | None = None
    """The number of the event that it failed on; None where it failed before the first, or not at all."""
    printed: tuple[str, ...] = ()
    """The last lines that it printed or logged."""
    warnings: tuple[str, ...] = ()


class Trials:
    """The processes of some nodes on trial; at its end none is left. One thread at a time uses it."""

    def __init__(self) -> None:
        self._spawner = Spawner()
        self._undo = contextlib.ExitStack()
        self._undo.callback(self._spawner.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def start(self, spec: NodeSpec, declared: Graph) -> Trial:
        """Starts an interpreter for that node. No code of the node runs yet.

        Raises EngineError where it cannot be started.
        """
        launched = self._spawner.spawn(spec)
        trial = Trial(spec, declared, launched[0], launched[1], self._spawner)
        self._undo.callback(trial.close)
        return trial


class Trial:
    """One node on trial, and its process."""

    def __init__(
        self,
        spec: NodeSpec,
        declared: Graph,
        process: OperatorProcess,
        counters_descriptor: int,
        spawner: Spawner,
    ) -> None:
        self._spec = spec
        self._declared = declared
        self._process = process
        self._counters_descriptor = counters_descriptor
        self._spawner = spawner
        self._log = Log(spec.name)
        self._failed: control.Failed | None = None
        self._finished = False
        self._warnings: list[str] = []
        self._is_closed = False
        self._exit_status: int | None = None
        self.num_handled = 0
        """How many events it has handled so far. Any thread may read it."""

    def run(
        self,
        events: Iterable[TrialEvent],
        *,
        start_nanos: int,
        stop_nanos: int,
        timeout_secs: float,
        cancel_descriptor: int,
    ) -> TrialResult:
        """Gives the node all events, then STOP at `stop_nanos`; returns what it did. Blocks until it has ended.

        An event that takes longer than `timeout_secs`, or an `__init__`, ends it with an error that says
        where it is. It ends too when `cancel_descriptor` becomes readable (EngineError). What `events` raises
        goes through. The process is gone in any case.
        """
        try:
            outputs = tempfile.TemporaryFile(prefix="dora-nb-trial-")  # noqa: SIM115 - kept by what was sent
        except OSError as error:
            raise engine_error("what the versions send cannot be kept", error) from None
        with contextlib.ExitStack() as undo:
            undo.callback(outputs.close)
            undo.callback(self.close)
            reading, writing = os.pipe()
            feed = _Feed(writing, events, stop_nanos)
            undo.callback(feed.close)
            try:
                _grow(writing)
                self._begin(start_nanos, reading, outputs.fileno())
            finally:
                os.close(reading)
            hang = self._attend(feed, timeout_secs, cancel_descriptor)
            # Before the reap, which forgets them.
            handled = self._process.counters.words[counters.EVENTS]
            self.close()
            return self._result(outputs.fileno(), feed, int(handled), hang)

    def close(self) -> None:
        """Ends the process and all that it has started. A second time it does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        process = self._process
        self._exit_status = process.reap()
        self._read_control()
        for stream in process.streams:
            self._note(stream.name, stream.read_last())
        os.close(self._counters_descriptor)
        process.close()

    # -- while it runs ---------------------------------------------------------------------------------

    def _begin(self, start_nanos: int, reading: int, outputs: int) -> None:
        send_begin(
            self._process,
            self._spec,
            self._declared,
            generation=1,
            dataflow_id=new_id(),
            counters_descriptor=self._counters_descriptor,
            on_trial=True,
        )
        opened = control.OpenTrial(start_nanos, MOST_OUTPUT_BYTES)
        self._process.control.tell(opened, [reading, outputs])

    def _attend(self, feed: _Feed, timeout_secs: float, cancel_descriptor: int) -> str | None:
        """Serves the process until it has ended. Returns where it is if it hangs."""
        process = self._process
        runs = False
        progress: object = None
        ended_secs: float | None = None
        progress_secs = time.monotonic()
        while True:
            ready = self._wait(feed, cancel_descriptor)
            if ready.pop(cancel_descriptor, 0):
                raise EngineError("the comparison was interrupted.")
            self._read_control()
            for stream in process.streams:
                if ready.get(stream.descriptor):
                    self._note(stream.name, stream.read() or [])
            if process.exit_descriptor in ready:
                return None
            feed.write()
            if process.control.pending:
                process.control.flush()
            now_secs = time.monotonic()
            if self._finished or self._failed is not None:
                # Its code has ended: exit handlers may take a while, and nothing waits for what they do.
                ended_secs = ended_secs or now_secs
                if now_secs - ended_secs > _EXIT_SECS:
                    return None
                continue
            events = process.counters.words[counters.EVENTS]
            self.num_handled = int(events)
            runs = runs or bool(events or process.counters.words[counters.BUSY_SINCE_NANOS])
            now_progress = (runs, events, feed.num_written)
            most_secs = timeout_secs if runs else max(timeout_secs, _START_SECS)
            if now_progress != progress:
                progress, progress_secs = now_progress, now_secs
            elif now_secs - progress_secs > most_secs:
                return self._where()

    def _wait(self, feed: _Feed, cancel_descriptor: int) -> dict[int, int]:
        process = self._process
        poller = select.poll()
        poller.register(cancel_descriptor, select.POLLIN)
        poller.register(process.exit_descriptor, select.POLLIN)
        if not process.control.at_end:
            mask = select.POLLIN | (select.POLLOUT if process.control.pending else 0)
            poller.register(process.control.socket, mask)
        for stream in process.streams:
            if not stream.at_end:
                poller.register(stream.descriptor, select.POLLIN)
        if feed.has_more:
            poller.register(feed.descriptor, select.POLLOUT)
        return dict(poller.poll(_LOOK_SECS * 1e3))

    def _read_control(self) -> None:
        process = self._process
        while not process.control.at_end:
            try:
                message = control.receive_in_kernel(process.control.socket)
            except BlockingIOError:
                return
            except OSError:
                message = None
            match message:
                case None:
                    process.control.at_end = True
                case control.Failed():
                    self._failed = self._failed or message
                case control.Finished():
                    self._finished = True
                case control.Warned(text):
                    self._warnings.append(text)
                case control.Logged():
                    self._note(message.level, log_text(message).splitlines())

    def _note(self, stream: str, lines: list[str]) -> None:
        self._log.add(stream, lines, time_secs=time.time())

    def _where(self) -> str:
        """Where the process is now, as far as it says so."""
        try:
            question = Question("", self._spec.code, self._process)
        except OSError:
            return ""
        try:
            return question.ask(self._spec.name).strip()
        except (DataflowStateError, EngineError, OSError):
            return ""
        finally:
            question.close()

    # -- what came of it -------------------------------------------------------------------------------

    def _result(self, outputs: int, feed: _Feed, handled: int, hang: str | None) -> TrialResult:
        result = TrialResult(num_events=min(handled, feed.num_events))
        for frame, name, metadata, value in _frames(outputs):
            if frame.kind != SENT:
                if frame.number < feed.num_events or not feed.is_complete:
                    result.handling_nanos.append(frame.nanos)
                continue
            message = SentMessage(
                frame.number, bytes(name).decode(), frame.type_code, value, metadata
            )
            result.sent.append(message)
        result.error = self._error(hang)
        if result.error is not None and handled:
            result.failed_on = handled - 1
        lines = self._log.lines()
        result.printed = tuple(line.text for line in lines[-20:])
        result.warnings = tuple(dict.fromkeys(self._warnings))
        return result

    def _error(self, hang: str | None) -> OperatorError | None:
        name, failed = self._spec.name, self._failed
        if failed is not None:
            return OperatorError(
                failed.message, node=name, traceback_lines=failed.traceback_lines, hint=failed.hint
            )
        if hang is not None:
            return OperatorError(
                f"{name} hangs: it has taken no further event in time",
                node=name,
                traceback_lines=hang.splitlines(),
                hint="If it only takes long, give compare a larger timeout_secs.",
            )
        if self._finished:
            return None
        assert self._exit_status is not None
        if self._exit_status == LOST_DESCRIPTORS_STATUS:
            return OperatorError(
                f"{name} closed descriptors that are not its own",
                node=name,
                hint="Look for os.closerange, or a library that makes a daemon of its process.",
            )
        return describe_death(name, self._exit_status, self._log.lines())


class _Feed:
    """The kernel's end of the pipe: encodes each event when there is room for it."""

    def __init__(self, descriptor: int, events: Iterable[TrialEvent], stop_nanos: int) -> None:
        self.descriptor = descriptor
        self.has_more = True
        self.num_written = 0
        """Bytes."""
        self.num_events = 0
        """How many events were encoded so far."""
        self.is_complete = False
        """Whether STOP was encoded."""
        self._frames = self._encode(events, stop_nanos)
        self._waiting: list[memoryview] = []
        os.set_blocking(descriptor, False)

    def write(self) -> None:
        """Writes as much as there is room for. Never blocks."""
        try:
            while self.has_more:
                if not self._waiting:
                    self._waiting = next(self._frames, [])
                    if not self._waiting:
                        self.close()
                        return
                written = os.writev(self.descriptor, self._waiting)
                self.num_written += written
                while self._waiting and written >= len(self._waiting[0]):
                    written -= len(self._waiting.pop(0))
                if written:
                    self._waiting[0] = self._waiting[0][written:]
        except BlockingIOError:
            return
        except BrokenPipeError:  # It takes no further event: it has ended.
            self.close()

    def close(self) -> None:
        """Closes the pipe; a process that has not read STOP takes its kernel for gone."""
        if self.has_more:
            self.has_more = False
            os.close(self.descriptor)

    def _encode(self, events: Iterable[TrialEvent], stop_nanos: int) -> Iterator[list[memoryview]]:
        for event in events:
            code, size, value, metadata = as_bytes(event.value, event.metadata)
            name = event.input.encode()
            number = self.num_events
            self.num_events += 1
            frame = Frame(INPUT, code, len(name), len(metadata), number, event.time_nanos, size)
            parts = (frame.pack(), name, metadata, value)
            yield [memoryview(part).cast("B") for part in parts if len(part)]
        self.is_complete = True
        yield [memoryview(Frame(STOP, 0, 0, 0, self.num_events, stop_nanos, 0).pack())]


def _grow(descriptor: int) -> None:
    """Gives a pipe room for a picture, where the system allows that."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _frames(
    descriptor: int,
) -> Iterator[tuple[Frame, memoryview, memoryview, memoryview]]:
    """The whole frames in a file: the process may have been killed in the middle of one."""
    size = os.fstat(descriptor).st_size
    if not size:
        return
    # It stays mapped as long as anything that was sent is looked at.
    whole = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    at = 0
    while at + HEADER_SIZE <= size:
        try:
            frame = unpack(whole[at : at + HEADER_SIZE])
        except struct.error:
            return
        at += HEADER_SIZE
        if at + frame.body_size > size:
            return
        name = whole[at : at + frame.name_size]
        metadata = whole[at + frame.name_size : at + frame.name_size + frame.metadata_size]
        value = whole[at + frame.name_size + frame.metadata_size : at + frame.body_size]
        at += frame.body_size
        yield frame, name, metadata, value
