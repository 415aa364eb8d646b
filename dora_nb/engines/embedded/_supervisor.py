"""The thread that looks after one operator for as long as the session lives.

It waits on everything that can happen (requests, the process's messages, its output, its death, a
deadline), turns it into an event for `_lifecycle`, and carries out what that decides. It never prints
and never calls user code.

Should something go wrong in here that cannot go wrong, the process is ended and the operator has
failed, with an error that says so: nobody waits for a thread that is no more.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import select
import threading
import time
import traceback
from collections.abc import Callable
from typing import Protocol

from ... import messages, metrics
from ...child._log_entries import log_text
from ...errors import EngineError, OperatorError
from ...graph import LOG_LEVELS, NodeSpec
from ...restarts import Restarts, next_restart
from ..capture import Log
from ..shortage import engine_error
from . import _lifecycle as lifecycle
from ._death import describe_death
from ._process import NodeProcess, Stream

_CONGESTION_SECS = 0.05
_NO_WORDS = [0, 0, 0]


class Host(Protocol):
    """What a supervisor asks of its session. Called on the supervisor's thread."""

    def start_process(self, supervisor: Supervisor) -> None:
        """Starts a process for the operator's newest declaration, has it adopted, and wires it.

        Raises EngineError or OSError; a process that was adopted is the supervisor's to end.
        """

    def process_reaped(self, process: NodeProcess) -> None:
        """That process and its session are no more."""

    def process_gone(self, supervisor: Supervisor, *, for_good: bool, outputs_closed: bool) -> None:
        """That supervisor's process has ended."""

    def edge_released(self, supervisor: Supervisor, edge_id: int) -> None:
        """The reader of an edge that this operator published to holds nothing of it any more."""

    def printed(self, name: str, level: str, lines: list[messages.Logged]) -> None:
        """That node has printed or logged these lines, all of that level."""

    def life_changed(self, supervisor: Supervisor) -> None:
        """Its phase, generation or error may be another."""

    def caught_up(self, supervisor: Supervisor) -> None:
        """It has seen to a request."""

    def may_be_fed(self, name: str) -> bool:
        """Whether that node has an input that is not closed for good, a timer, or none at all."""

    def stop_everything(self) -> None:
        """An operator returned STOP_ALL. Must not wait."""


class Supervisor:
    """One operator of a session. `post` and the properties may be used from any thread."""

    def __init__(self, spec: NodeSpec, host: Host) -> None:
        self.spec = spec
        self.life = lifecycle.Life()
        self.error: OperatorError | None = None
        self.inputs_closed = False
        """It finished because all its inputs had closed."""
        self.log = Log(spec.name)
        self._restarts = Restarts()
        self._host = host
        self._requests: collections.deque[lifecycle.Event] = collections.deque()
        self._unhandled = 0
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake_open = True
        self._wake_lock = threading.Lock()
        self._process: NodeProcess | None = None
        self._deadline_secs: float | None = None
        self._exit_status: int | None = None
        self._killed = False
        self._first_line = 0
        """Where the lines of this generation begin in the log."""
        self._counters_lock = threading.Lock()
        self._past = _NO_WORDS
        self._past_durations: list[int] = []
        thread = threading.Thread(
            target=self._run, name=f"dora-supervisor {spec.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            os.close(self._wake)
            raise

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.spec.name

    @property
    def alive(self) -> bool:
        """Whether a process is there, or what was asked for may bring one."""
        return self._unhandled > 0 or self.life.phase not in lifecycle.NO_PROCESS

    @property
    def busy(self) -> bool:
        """Whether something that was asked for has not been seen to yet."""
        return self._unhandled > 0

    def post(self, event: lifecycle.Event) -> None:
        """Asks for something; the supervisor's thread sees to it. After `close` nobody does."""
        if isinstance(event, (lifecycle.Start, lifecycle.Restart)):
            self._restarts = Restarts()  # somebody asked for it
        with self._wake_lock:
            if self._wake_open:
                self._unhandled += 1
                self._requests.append(event)
                os.eventfd_write(self._wake, 1)

    def tell(self, message: messages.ToProcess, descriptors: list[int]) -> None:
        """Sends to the process, if there is one. Never blocks."""
        process = self._process
        if process is not None and process.control.tell(message, descriptors):
            self._rouse()

    def close(self) -> None:
        """Ends the thread, and before that its process, if there still is one. Returns at once."""
        self._closing = True
        self._rouse()

    def forget_in_fork(self) -> None:
        """In a process forked from the kernel: there is no thread, and no process of its own."""
        self.life = lifecycle.Life(generation=self.life.generation)
        self._wake_lock = threading.Lock()
        self._counters_lock = threading.Lock()
        self._process = None
        self._unhandled = 0
        if self._wake_open:
            self._wake_open = False
            os.close(self._wake)

    # -- counters ------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Events handled, ticks missed, undeclared outputs; over all generations of this session."""
        with self._counters_lock:
            now = _first_words(self._process) if self._process is not None else _NO_WORDS
            events, ticks, undeclared = (a + b for a, b in zip(self._past, now, strict=True))
        return events, ticks, undeclared

    def busy_secs(self) -> float | None:
        """How long the `on_event` that runs now has taken so far."""
        with self._counters_lock:
            if self._process is None:
                return None
            since_nanos = self._process.counters.words[metrics.BUSY_SINCE_NANOS]
        return (time.monotonic_ns() - since_nanos) / 1e9 if since_nanos else None

    def durations(self) -> list[int]:
        """The histogram of `on_event`, over all generations of this session."""
        with self._counters_lock:
            now = self._process.counters.durations() if self._process is not None else []
            return _added(self._past_durations, now)

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._closing and self._process is None):
                requests, happened = self._wait()
                for event in requests:
                    self._guarded(functools.partial(self._handle, event))
                    self._count_handled()
                for event in happened:
                    self._guarded(functools.partial(self._handle, event))
        finally:
            with self._wake_lock:
                self._wake_open = False
                self._unhandled = 0
                os.close(self._wake)
            self._host.caught_up(self)

    def _wait(self) -> tuple[list[lifecycle.Event], list[lifecycle.Event]]:
        """What was asked for, and what happened by itself. Blocks until there is something."""
        ready: dict[int, int] = {}
        happened: list[lifecycle.Event] = []
        if self._closing and self._process is not None:
            self._guarded(self._process.kill)
        self._guarded(lambda: ready.update(self._poller().poll(self._millis_to_wake())))
        requests = self._requested() if self._wake in ready else []
        self._guarded(lambda: happened.extend(self._look(ready)))
        return requests, happened

    def _guarded(self, step: Callable[[], object]) -> None:
        """Does one step. What it raises is a fault of ours, or the system's: the operator has failed."""
        try:
            step()
        except Exception as error:
            self._fail_inside(error)

    def _fail_inside(self, error: Exception) -> None:
        """Leaves nothing running, and says what happened where the user looks."""
        cannot = f"dora_nb could not look after {self.name}"
        if isinstance(error, OSError):
            known = engine_error(cannot, error)
            self.error = OperatorError(known.message, node=self.name, hint=known.hint)
        else:
            self.error = OperatorError(
                f"{cannot}: {type(error).__name__}: {error}.",
                node=self.name,
                traceback_lines="".join(traceback.format_exception(error)).splitlines(),
                hint="This is a fault in dora_nb: please report it. The operator can be started again.",
            )
        self._deadline_secs = None
        with contextlib.suppress(Exception):
            self._let_go_of_process()
        with contextlib.suppress(Exception):
            self._host.process_gone(self, for_good=True, outputs_closed=True)
        self._publish(lifecycle.Life(phase=lifecycle.Phase.FAILED, generation=self.life.generation))

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

    def _count_handled(self) -> None:
        with self._wake_lock:
            self._unhandled -= 1
        self._host.caught_up(self)

    def _rouse(self) -> None:
        with self._wake_lock:
            if self._wake_open:
                os.eventfd_write(self._wake, 1)

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
                self.note("it did not end in time after STOP, and is sent SIGTERM")
                process.terminate()
            case lifecycle.Kill() if process is not None:
                self.note("it did not end in time, and is killed")
                self._killed = True
                process.kill()
            case lifecycle.ArmDeadline(secs):
                self._deadline_secs = time.monotonic() + secs
            case lifecycle.ReportDeath():
                self.error = self._describe_death()
            case lifecycle.SettleEnd(for_good, outputs_closed):
                self._deadline_secs = None
                self._host.process_gone(self, for_good=for_good, outputs_closed=outputs_closed)

    def _spawn(self) -> None:
        self.error = None
        self.inputs_closed = False
        self._first_line = self.log.count
        self._exit_status = None
        self._killed = False
        try:
            self._host.start_process(self)
        except (EngineError, OSError) as error:
            if isinstance(error, OSError):
                error = engine_error(f"{self.name} cannot be started", error)
            self.error = OperatorError(error.message, node=self.name, hint=error.hint)
            self._let_go_of_process()
            self.post(lifecycle.ChildFailed())
            self.post(self._process_is_gone([]))

    def adopt(self, process: NodeProcess) -> None:
        """Called by the host while it starts the process, so that the wiring can reach it."""
        self._process = process

    def _poller(self) -> select.poll:
        """Everything that may happen next."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        process = self._process
        if process is not None:
            control = process.control
            wanted = select.POLLIN
            if control.pending and not control.congested:
                wanted |= select.POLLOUT
            if not control.at_end:
                poller.register(control.socket, wanted)
            poller.register(process.exit_descriptor, select.POLLIN)
            for stream in process.streams:
                if not stream.at_end:
                    poller.register(stream.descriptor, select.POLLIN)
        return poller

    def _look(self, ready: dict[int, int]) -> list[lifecycle.Event]:
        """What those descriptors, and the clock, mean."""
        events: list[lifecycle.Event] = []
        process = self._process
        if process is not None:
            for stream in process.streams:
                if stream.descriptor in ready:
                    self._read_stream(stream)
            self._empty_outbox(process)
            if process.exit_descriptor in ready:
                return self._process_ended(process)
            if ready.get(process.control.socket.fileno(), 0) & ~select.POLLOUT:
                events.extend(self._read_control(process))
        if self._deadline_secs is not None and time.monotonic() >= self._deadline_secs:
            self._deadline_secs = None
            events.append(lifecycle.DeadlinePassed())
        return events

    def _empty_outbox(self, process: NodeProcess) -> None:
        if process.control.failure is not None:
            raise process.control.failure
        if process.control.pending:
            process.control.flush()

    def _millis_to_wake(self) -> float | None:
        now_secs = time.monotonic()
        at_secs = [] if self._deadline_secs is None else [self._deadline_secs]
        if self._process is not None and self._process.control.congested:
            at_secs.append(now_secs + _CONGESTION_SECS)
        return max(0.0, (min(at_secs) - now_secs) * 1e3) if at_secs else None

    def _requested(self) -> list[lifecycle.Event]:
        os.eventfd_read(self._wake)
        events = []
        while self._requests:
            events.append(self._requests.popleft())
        return events

    def _read_control(self, process: NodeProcess) -> list[lifecycle.Event]:
        events: list[lifecycle.Event] = []
        while True:
            try:
                message = messages.receive_in_kernel(process.control.socket)
            except BlockingIOError:
                return events
            if message is None:
                process.control.at_end = True
                process.control_lost()
                return [*events, lifecycle.ControlLost()]
            events.extend(self._understand(message))

    def _understand(self, message: messages.ToKernel) -> list[lifecycle.Event]:
        match message:
            case messages.Ready():
                return [lifecycle.ChildReady()]
            case messages.Failed(text, traceback_lines, hint):
                self.error = OperatorError(
                    text, node=self.name, traceback_lines=traceback_lines, hint=hint
                )
                self.note("\n".join([*traceback_lines, text]))
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
            case messages.Logged():
                self._keep(message.level, log_text(message).splitlines())
                self._host.printed(self.name, message.level, [message])
        return []

    def _process_ended(self, process: NodeProcess) -> list[lifecycle.Event]:
        """Reads what the process said last, and lets go of it."""
        events = self._read_control(process)
        status = self._let_go_of_process()
        self._exit_status = status
        if status and status < 0 and self.life.rung is lifecycle.Rung.ASKED:
            self.note(describe_death(self.name, status, []).message)
        return [*events, self._process_is_gone(events)]

    def _process_is_gone(self, just_before: list[lifecycle.Event]) -> lifecycle.ProcessEnded:
        """With what the restart policy says of it."""
        said = {type(event) for event in just_before}
        outcome = self.life.outcome
        finished = outcome is lifecycle.Phase.FINISHED or lifecycle.ChildFinished in said
        if self.inputs_closed or not self._host.may_be_fed(self.name):
            return lifecycle.ProcessEnded()
        self._restarts, delay_secs = next_restart(
            self.spec.restart_policy,
            self._restarts,
            failed=not finished,
            now_secs=time.monotonic(),
        )
        return lifecycle.ProcessEnded(delay_secs)

    def _let_go_of_process(self) -> int | None:
        """Ends the process and all it started, keeps what it printed and counted; its exit status."""
        process = self._process
        if process is None:
            return None
        process.kill()
        status = process.reap()
        self._host.process_reaped(process)
        for stream in process.streams:
            self._keep(stream.name, stream.read_last())
        with self._counters_lock:
            now = _first_words(process)
            self._past = [a + b for a, b in zip(self._past, now, strict=True)]
            self._past_durations = _added(self._past_durations, process.counters.durations())
            self._process = None
            process.close()
        return status

    def _describe_death(self) -> OperatorError:
        assert self._exit_status is not None
        if self.spec.kind == "dynamic":
            return OperatorError(
                f"{self.name}: the process that had joined is gone, and did not say why.",
                node=self.name,
                hint="Let it join again.",
            )
        if self._killed:  # Nobody asked it to end: it could be told nothing any more.
            return OperatorError(
                f"{self.name}'s process closed its connection to the kernel, and was ended.",
                node=self.name,
                hint="Something in it closes descriptors that are not its own (os.closerange).",
            )
        own = [line for line in self.log.lines() if line.number >= self._first_line]
        return describe_death(self.name, self._exit_status, own)

    def _read_stream(self, stream: Stream) -> None:
        lines = stream.read()
        if lines and self.spec.min_log_level == LOG_LEVELS[-1]:
            self._keep(stream.name, lines)
            self._host.printed(
                self.name, "stdout", [messages.Logged("stdout", line) for line in lines]
            )

    def note(self, text: str) -> None:
        """Keeps lines of the engine's own."""
        self._keep("engine", text.splitlines())

    def _keep(self, stream: str, lines: list[str]) -> None:
        self.log.add(stream, lines, time_secs=time.time())


def _first_words(process: NodeProcess) -> list[int]:
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
