"""The thread that looks after one operator for as long as the session lives.

It waits on everything that can happen (requests, the process's messages, its output, its death, a
deadline), turns it into an event for `_lifecycle`, and carries out what that decides. It never prints
and never calls user code.
"""

from __future__ import annotations

import collections
import os
import select
import signal
import threading
import time
from typing import Protocol

from ... import messages, metrics
from ...errors import EngineError, OperatorError
from ...graph import OperatorSpec
from ...status import LogLine
from . import _lifecycle as lifecycle
from ._capture import Log
from ._process import OperatorProcess, Stream

_LAST_STDERR_LINES = 12


class Host(Protocol):
    """What a supervisor asks of its session. Called on the supervisor's thread."""

    def start_process(self, supervisor: Supervisor) -> OperatorProcess:
        """Starts a process for the operator's newest declaration and wires it. Raises EngineError."""

    def process_reaped(self, process: OperatorProcess) -> None:
        """That process and its session are no more."""

    def process_gone(self, supervisor: Supervisor, *, for_good: bool) -> None:
        """That supervisor's process has ended."""

    def edge_released(self, supervisor: Supervisor, edge_id: int) -> None:
        """The reader of an edge that this operator published to holds nothing of it any more."""

    def life_changed(self, supervisor: Supervisor) -> None:
        """Its phase, generation or error may be another."""

    def stop_everything(self) -> None:
        """An operator returned STOP_ALL. Must not wait."""


class Supervisor:
    """One operator of a session. `post` and the properties may be used from any thread."""

    def __init__(self, spec: OperatorSpec, host: Host) -> None:
        self.spec = spec
        self.life = lifecycle.Life()
        self.error: OperatorError | None = None
        self.inputs_closed = False
        """It finished because all its inputs had closed."""
        self.log = Log()
        self._host = host
        self._requests: collections.deque[lifecycle.Event | None] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._process: OperatorProcess | None = None
        self._deadline_secs: float | None = None
        self._exit_status: int | None = None
        self._counters_lock = threading.Lock()
        self._past = [0] * 3
        self._past_durations: list[int] = []
        self._ended = False
        self._thread = threading.Thread(
            target=self._run, name=f"dora-supervisor {spec.name}", daemon=True
        )
        self._thread.start()

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.spec.name

    @property
    def alive(self) -> bool:
        """Whether a process is there, or about to be."""
        return self.life.phase not in lifecycle.NO_PROCESS

    def post(self, event: lifecycle.Event) -> None:
        """Asks for something; the supervisor's thread sees to it."""
        self._requests.append(event)
        os.eventfd_write(self._wake, 1)

    def tell(self, message: messages.ToProcess, descriptors: list[int]) -> None:
        """Sends to the process, if there is one. Never blocks."""
        process = self._process
        if process is not None and process.control.tell(message, descriptors):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Ends the thread; the process must have ended."""
        self._requests.append(None)
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def close_in_fork(self) -> None:
        """In a process forked from the kernel: lets go of the control socket, or the operator would
        never see that its kernel is gone."""
        if self._process is not None:
            os.close(self._process.control.socket.fileno())

    # -- counters ------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Events handled, ticks missed, undeclared outputs; over all generations of this session."""
        with self._counters_lock:
            now = _first_words(self._process) if self._process is not None else [0] * 3
            events, ticks, undeclared = (a + b for a, b in zip(self._past, now, strict=True))
        return events, ticks, undeclared

    def durations(self) -> list[int]:
        """The histogram of `on_event`, over all generations of this session."""
        with self._counters_lock:
            now = self._process.counters.durations() if self._process is not None else []
            return _added(self._past_durations, now)

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            for event in self._wait():
                self._handle(event)

    def _handle(self, event: lifecycle.Event) -> None:
        life, actions = lifecycle.step(self.life, event)
        for action in actions:
            if isinstance(action, lifecycle.Spawn):
                self._publish(life)
            self._perform(action)
        self._publish(life)

    def _publish(self, life: lifecycle.Life) -> None:
        """Others see a life only once what led to it was done; `starting` they see at once."""
        self.life = life
        self._host.life_changed(self)

    def _perform(self, action: lifecycle.Action) -> None:
        process = self._process
        match action:
            case lifecycle.Spawn():
                self._spawn()
            case lifecycle.LetGo():
                self.tell(messages.Go(), [])
            case lifecycle.AskToStop():
                self.tell(messages.Stop(), [])
            case lifecycle.Terminate() if process is not None:
                process.terminate()
            case lifecycle.Kill() if process is not None:
                process.kill()
            case lifecycle.ArmDeadline(secs):
                self._deadline_secs = time.monotonic() + secs
            case lifecycle.ReportDeath():
                self.error = self._describe_death()
            case lifecycle.SettleEnd(for_good):
                self._deadline_secs = None
                self._host.process_gone(self, for_good=for_good)

    def _spawn(self) -> None:
        self.error = None
        self.inputs_closed = False
        self._exit_status = None
        try:
            self._process = self._host.start_process(self)
        except EngineError as error:
            self.error = OperatorError(error.message, node=self.name, hint=error.hint)
            self.post(lifecycle.ChildFailed())
            self.post(lifecycle.ProcessEnded())

    def adopt(self, process: OperatorProcess) -> None:
        """Called by the host while it starts the process, so that the wiring can reach it."""
        self._process = process

    def _wait(self) -> list[lifecycle.Event]:
        """Blocks until something happens, and returns what it means."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        process = self._process
        streams: dict[int, Stream] = {}
        if process is not None:
            wanted = select.POLLIN | (select.POLLOUT if process.control.pending else 0)
            if not process.control.at_end:
                poller.register(process.control.socket, wanted)
            poller.register(process.exit_descriptor, select.POLLIN)
            streams = {each.descriptor: each for each in process.streams if not each.at_end}
            for descriptor in streams:
                poller.register(descriptor, select.POLLIN)
        ready = dict(poller.poll(self._millis_to_deadline()))
        events = self._requested() if self._wake in ready else []
        if process is not None:
            for descriptor in ready.keys() & streams.keys():
                self._read_stream(streams[descriptor])
            control = ready.get(process.control.socket.fileno(), 0)
            if control & select.POLLOUT:
                process.control.flush()
            if process.exit_descriptor in ready:
                return [*events, *self._process_ended(process)]
            if control & select.POLLIN:
                events.extend(self._read_control(process))
        if self._deadline_secs is not None and time.monotonic() >= self._deadline_secs:
            self._deadline_secs = None
            events.append(lifecycle.DeadlinePassed())
        return events

    def _millis_to_deadline(self) -> float | None:
        if self._deadline_secs is None:
            return None
        return max(0.0, (self._deadline_secs - time.monotonic()) * 1e3)

    def _requested(self) -> list[lifecycle.Event]:
        os.eventfd_read(self._wake)
        events: list[lifecycle.Event] = []
        while self._requests:
            request = self._requests.popleft()
            if request is None:
                self._ended = True
            else:
                events.append(request)
        return events

    def _read_control(self, process: OperatorProcess) -> list[lifecycle.Event]:
        events: list[lifecycle.Event] = []
        while True:
            try:
                message = messages.receive_in_kernel(process.control.socket)
            except BlockingIOError:
                return events
            if message is None:
                process.control.at_end = True
                return events
            events.extend(self._understand(message))

    def _understand(self, message: messages.ToKernel) -> list[lifecycle.Event]:
        match message:
            case messages.Ready():
                return [lifecycle.ChildReady()]
            case messages.Failed(text, traceback_lines, hint):
                self.error = OperatorError(
                    text, node=self.name, traceback_lines=traceback_lines, hint=hint
                )
                return [lifecycle.ChildFailed()]
            case messages.Finished(inputs_closed, stop_all):
                self.inputs_closed = inputs_closed
                if stop_all:
                    self._host.stop_everything()
                return [lifecycle.ChildFinished()]
            case messages.Released(edge_id):
                self._host.edge_released(self, edge_id)
            case messages.Warned(text):
                self.note(text)
        return []

    def _process_ended(self, process: OperatorProcess) -> list[lifecycle.Event]:
        """Reads what the process said last, and lets go of it."""
        events = self._read_control(process)
        self._exit_status = process.reap()
        self._host.process_reaped(process)
        for stream in process.streams:
            while self._read_stream(stream):
                pass
            for line in stream.splitter.finish():
                self._keep(stream.name, line)
        with self._counters_lock:
            now = _first_words(process)
            self._past = [a + b for a, b in zip(self._past, now, strict=True)]
            self._past_durations = _added(self._past_durations, process.counters.durations())
            self._process = None
            process.close()
        return [*events, lifecycle.ProcessEnded()]

    def _read_stream(self, stream: Stream) -> bool:
        """Keeps the lines that are there; whether there may be more now."""
        lines = stream.read()
        for line in lines or ():
            self._keep(stream.name, line)
        return lines is not None

    def note(self, text: str) -> None:
        """Keeps a line of the engine's own."""
        self._keep("engine", text)

    def _keep(self, stream: str, text: str) -> None:
        self.log.append(LogLine(self.name, stream, text, time.time()))

    def _describe_death(self) -> OperatorError:
        """What is known of a process that ended without a reason."""
        status = self._exit_status
        assert status is not None
        last = [line.text for line in self.log.lines() if line.stream == "stderr"]
        last = last[-_LAST_STDERR_LINES:]
        said = ["The last lines of its stderr:", *(f"    {line}" for line in last)] if last else []
        if status >= 0:
            return OperatorError(
                f"{self.name}'s process exited with status {status} and gave no reason.",
                node=self.name,
                traceback_lines=said,
                hint="Something called os._exit, or a library did.",
            )
        number = -status
        try:
            name = f"{signal.Signals(number).name} ({signal.strsignal(number)})"
        except ValueError:
            name = f"signal {number}"
        return OperatorError(
            f"{self.name}'s process was ended by {name}.",
            node=self.name,
            traceback_lines=said,
            hint=_SIGNAL_HINTS.get(number),
        )


_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGSEGV: "A fault in a library written in C is the usual cause.",
    signal.SIGABRT: "A library written in C gave up; its last words are usually on stderr.",
    signal.SIGKILL: "The system may have run out of memory (see dmesg), or somebody killed it.",
    signal.SIGILL: "A library was built for another processor.",
    signal.SIGBUS: "Memory that a library had mapped went away.",
}


def _first_words(process: OperatorProcess) -> list[int]:
    words = process.counters.words
    return [
        words[metrics.EVENTS],
        words[metrics.MISSED_TICKS],
        words[metrics.UNDECLARED_OUTPUTS],
    ]


def _added(some: list[int], more: list[int]) -> list[int]:
    if not some or not more:
        return some or more
    return [a + b for a, b in zip(some, more, strict=True)]
