"""The supervisor: the thread that controls one operator's processes for as long as the session lives.

It waits for everything that can happen (requests, the process's messages, its output, its end, a
deadline), turns it into an event for `_lifecycle`, and carries out the actions that follow. It never prints
and never runs user code.

During an edit it controls up to three kinds of process: the operator's current process, the one prepared to
follow it, and replaced processes that are ending. It acts on each event before it reads the next one, since
an event may change which process is which: once the old process has handed over, its messages are no longer
those of the operator.

On an internal error, it kills the process and marks the operator as failed, with an error that says so. The
thread goes on, so a caller never waits for a thread that has ended.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import os
import select
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dora_nb.errors import EngineError, OperatorError
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.restarts import next_restart
from dora_nb.graph.sources import LOG_LEVELS
from dora_nb.how_to import how_to
from dora_nb.protocol import control, counters
from dora_nb.protocol.log_entries import log_text
from dora_nb.status import LogLine

from ..capture import Log
from ..edit import Applied, Edit
from ..os_errors import engine_error
from . import _lifecycle as lifecycle
from ._death import describe_death
from ._event_at_death import keep_event_at_death
from ._imported_files import ImportedFiles
from ._node_messages import send_reload
from ._operator_counts import OperatorCounts
from ._process import NodeProcess, Stream

_CONGESTION_SECS = 0.05
"""How soon to send again after ETOOMANYREFS, which no descriptor reports the end of."""


class Host(Protocol):
    """What a supervisor needs of its session. Called on the supervisor's thread."""

    def new_process(self, spec: NodeSpec) -> tuple[NodeProcess, int]:
        """Returns a process for that declaration that waits for `Begin`, and the descriptor of its counters.

        The caller owns both. Blocks while the system starts the process. Raises EngineError or OSError.
        """

    def discard_process(self, process: NodeProcess) -> None:
        """Ends a process that has not received `Begin`."""

    def begin(self, supervisor: Supervisor, counters_descriptor: int) -> None:
        """Tells the supervisor's process what it is, and wires it. With the lock. EngineError or OSError."""

    def prepare_process(self, spec: NodeSpec, generation: int) -> NodeProcess:
        """Returns a new process for that declaration, which has received `Begin` and is not wired.

        Raises EngineError or OSError.
        """

    def declaration_changed(self, supervisor: Supervisor) -> None:
        """Called when the supervisor's `spec` has changed."""

    def rewire(self, supervisor: Supervisor) -> None:
        """Called when `spec` has changed and the process stays: tells it the changes of its wiring."""

    def locked(self) -> contextlib.AbstractContextManager[object]:
        """Returns the session's lock, which is reentrant: it holds off all requests to the session."""

    def hand_over(self, supervisor: Supervisor, *, old_is_alive: bool) -> FreeLeases:
        """Wires the process that has become the operator.

        Returns what frees the leases of the previous process once that is gone.
        """

    def process_gone(
        self,
        supervisor: Supervisor,
        *,
        for_good: bool,
        outputs_closed: bool,
        error: OperatorError | None,
    ) -> None:
        """Called when the supervisor's process has ended, with the failure that it ended by."""

    def find_input(
        self, supervisor: Supervisor, edge_id: int
    ) -> tuple[str, Callable[[int], tuple[int, int]]]:
        """Returns the input of that edge, and a function that finds an arena and the edge's column in it.

        Both raise LookupError if there is none.
        """

    def edge_released(self, supervisor: Supervisor, edge_id: int) -> None:
        """Called when the reader of a removed edge holds no message of this operator any more."""

    def printed(self, name: str, level: str, lines: list[control.Logged]) -> None:
        """Called when the node has printed or logged these lines, all of that level."""

    def life_changed(self, supervisor: Supervisor) -> None:
        """Called when the phase, generation, error or warnings may have changed."""

    def request_handled(self, supervisor: Supervisor) -> None:
        """Called when a request has been handled."""

    def may_get_input(self, name: str) -> bool:
        """Whether that node has a timer, an input that is not closed for good, or no topics as inputs."""

    def stop_everything(self) -> None:
        """Called when an operator has returned STOP_ALL. Must not wait."""


FreeLeases = Callable[[], None]
"""Frees what a process may still hold as a reader. Call it once that process is gone."""


@dataclass(eq=False)
class _ReplacedProcess:
    """A replaced process, until it has ended."""

    process: NodeProcess
    free_leases: FreeLeases
    deadline_secs: float | None
    """When to kill it; None once that is done."""


@dataclass(frozen=True, slots=True)
class _Deadline:
    """The armed deadline."""

    number: int
    """See `lifecycle.DeadlinePassed`."""
    at_secs: float
    """On the monotonic clock."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """What is left of the operator's process that has ended last, for the status."""

    warnings: tuple[str, ...] = ()
    last_line: str = ""
    imported: ImportedFiles = field(default_factory=ImportedFiles)


def _changes_code(edit: Edit) -> bool:
    return edit.code is not None or edit.whole


class Supervisor:
    """Controls one operator of a session. `post` and the properties may be used from any thread."""

    def __init__(self, spec: NodeSpec, host: Host) -> None:
        self.spec = spec
        self.life = lifecycle.Life()
        self.log = Log(spec.name)
        self._host = host
        self._requests: collections.deque[lifecycle.Event] = collections.deque()
        self._unhandled_requests = 0
        self._closing = False
        self._wake_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake_open = True
        self._wake_lock = threading.Lock()
        self._requested: lifecycle.EditRequest | None = None
        """The newest edit, which may not have begun yet."""
        self._forgotten_edit = 0
        """The number of an edit whose outcome does not describe what runs now."""
        self._state_descriptor = -1
        """The state that is handed over in an edit, an anonymous file; or -1."""
        self._process: NodeProcess | None = None
        self._next: NodeProcess | None = None
        self._replaced: list[_ReplacedProcess] = []
        self._ended = _Ended()
        self.crash_report_descriptor = -1
        """The newest failure's crash report, an anonymous file; or -1."""
        self._deadline: _Deadline | None = None
        self._counts = OperatorCounts()
        thread = threading.Thread(
            target=self._run, name=f"dora-supervisor {spec.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            os.close(self._wake_descriptor)
            raise

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.spec.name

    @property
    def process(self) -> NodeProcess | None:
        """The operator's current process. The session uses it while it starts and wires the process."""
        return self._process

    @property
    def error(self) -> OperatorError | None:
        """Why the operator has failed; None if it has not, or is started again."""
        return self.life.error

    @property
    def inputs_closed(self) -> bool:
        """Whether it finished because all its inputs had closed."""
        return self.life.inputs_closed

    @property
    def applied(self) -> Applied | None:
        """The outcome of the newest edit; None while it is in progress, or if it was started anew since."""
        requested = 0 if self._requested is None else self._requested.number
        life = self.life
        is_over = requested == life.newest_edit and requested != self._forgotten_edit
        return life.applied if is_over else None

    def forget_applied(self) -> None:
        """Drops the outcome of the newest edit, unless it is in progress."""
        if self._requested is not None and not self._is_editing(self.life):
            self._forgotten_edit = self._requested.number

    def _is_editing(self, life: lifecycle.Life) -> bool:
        """Whether an edit was requested that is not over in this life."""
        requested = self._requested
        return requested is not None and (
            requested.number != life.newest_edit or life.pending is not None
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator's process, or the one that ended last, has reported for its status."""
        process = self._process
        warnings = self._ended.warnings if process is None else process.warnings
        return (*warnings, self._slow_exit) if self.life.exits_slowly else warnings

    @property
    def _slow_exit(self) -> str:
        return (
            f"{self.name} has ended its own code and is still exiting, in exit handlers or in threads "
            "that are not daemons; a stop ends it"
        )

    @property
    def alive(self) -> bool:
        """Whether there is a process, even a replaced one, or a pending request may start one."""
        starting_or_running = (
            self._unhandled_requests > 0 or self.life.phase not in lifecycle.NO_PROCESS
        )
        return starting_or_running or bool(self._replaced)

    @property
    def busy(self) -> bool:
        """Whether a request or an edit is in progress."""
        return self._unhandled_requests > 0 or self._is_editing(self.life)

    def apply(self, spec: NodeSpec, edit: Edit, *, grace_secs: float) -> bool:
        """Requests an edit; `applied` returns its outcome. False if another edit is in progress."""
        # Under the lock, so that two callers cannot both start an edit.
        with self._wake_lock:
            if self._is_editing(self.life):
                return False
            number = 1 if self._requested is None else self._requested.number + 1
            request = lifecycle.EditRequest(number, spec, self.spec, edit)
            self._requested = request
        if edit.way == "in_place":
            self.post(lifecycle.Reload(request, grace_secs))
        elif edit.way == "beside":
            self.post(lifecycle.Replace(request, grace_secs))
        else:
            self.post(lifecycle.Restart(grace_secs, request))
        return True

    def abandon(self, spec: NodeSpec) -> None:
        """Cancels the edit to that declaration, unless it is too late or another edit is in progress."""
        requested = self._requested
        if requested is not None and requested.spec is spec and self._is_editing(self.life):
            self.post(lifecycle.Abandon(requested.number))

    def post(self, event: lifecycle.Event) -> None:
        """Queues a request for the supervisor's thread. Ignored after the thread has ended."""
        with self._wake_lock:
            # Counted here, not when the thread takes it: `alive` must be true from the moment of the request,
            # or a stop right after a start would find nothing to wait for.
            if self._wake_open:
                self._unhandled_requests += 1
                self._requests.append(event)
                os.eventfd_write(self._wake_descriptor, 1)

    def tell(self, message: control.ToProcess, descriptors: list[int]) -> None:
        """Sends a message to the process, if there is one. Never blocks."""
        process = self._process
        if process is not None and process.control.tell(message, descriptors):
            self._wake_up()

    def close(self) -> None:
        """Kills the process, if there is one, then ends the thread. Returns at once."""
        self._closing = True
        self._wake_up()

    def forget_in_fork(self) -> None:
        """Clears the state in a process forked from the kernel, which has neither thread nor processes."""
        # New locks: another thread of the kernel may have held the old ones at the fork, and no thread of
        # this process would ever release them. `_process` closes the descriptors of the processes.
        self.life = lifecycle.Life(generation=self.life.generation)
        self._wake_lock = threading.Lock()
        self._counts.lock = threading.Lock()
        for process in self._processes():
            process.requests.close()
        self._process = self._next = self._requested = None
        self._replaced = []
        self._unhandled_requests = 0
        self.forget_crash_report()
        if self._wake_open:
            self._wake_open = False
            os.close(self._wake_descriptor)

    # -- counters ------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        """Returns events handled, ticks missed and undeclared outputs, over all generations."""
        return self._counts.totals(self._processes)

    def busy_secs(self) -> float | None:
        """Returns how long the current `on_event` has been running; None if none is."""
        # The lock holds off `_reap`, which closes the page.
        with self._counts.lock:
            if self._process is None:
                return None
            since_nanos = self._process.counters.words[counters.BUSY_SINCE_NANOS]
        return (time.monotonic_ns() - since_nanos) / 1e9 if since_nanos else None

    def process_id(self) -> int | None:
        """Returns the id of the process whose events count; None if there is none."""
        process = self._process
        return None if process is None else process.process_id

    def changed_files(self) -> tuple[str, ...]:
        """Returns the files that have changed since the operator's code has imported them.

        Those of a node that has finished count, and of one that failed or was stopped do not: that is started
        anew in any case.
        """
        process = self._process
        if process is not None:
            return process.imported.changed()
        finished = self.life.phase is lifecycle.Phase.FINISHED
        return self._ended.imported.changed() if finished else ()

    def last_line(self) -> str:
        """Returns the line that the operator's process, or the one that ended last, has printed last."""
        process = self._process
        return self._ended.last_line if process is None else process.last_line

    def durations(self) -> list[int]:
        """Returns the histogram of `on_event` durations, over all generations."""
        return self._counts.durations(self._processes)

    def processes(self) -> list[tuple[int, NodeSpec, NodeProcess]]:
        """Returns the process that is the operator, and the one that an edit prepares to replace it.

        Each comes with its generation and its declaration. The caller holds the session's lock, without
        which `_reap` could close them meanwhile.
        """
        found = []
        if self._process is not None:
            found.append((self.life.generation, self.spec, self._process))
        pending, prepared = self.life.pending, self._next
        if prepared is not None and pending is not None:
            found.append((self.life.generation + 1, pending.request.spec, prepared))
        return found

    def _processes(self) -> list[NodeProcess]:
        """Returns all processes that it controls."""
        # The prepared process first: if it died together with the operator's process, its end must be known
        # before the operator's end would make it the operator.
        found = [self._next, self._process, *(each.process for each in self._replaced)]
        return [process for process in found if process is not None]

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._closing and not self._processes()):
                # `ready` holds descriptor numbers of these processes. A process that is started below may get
                # a number that another one had, so it must not be looked up in this round.
                watched = self._processes()
                ready = self._wait(watched)
                for event in self._take_requests() if self._wake_descriptor in ready else []:
                    self._guarded(functools.partial(self._handle, event))
                    self._request_handled()
                for process in watched:
                    self._guarded(functools.partial(self._handle_ready, process, ready))
                self._guarded(self._check_deadlines)
        finally:
            # A caller that waits for an edit or a request sees that it will not happen. The descriptor is
            # closed under the lock, or `post` could write to a file that has got the same number.
            with self._wake_lock:
                self._wake_open = False
                self._unhandled_requests = 0
                if self._requested is not None:
                    newest = self._requested.number
                    self.life = dataclasses.replace(self.life, pending=None, newest_edit=newest)
                self._close_state()
                self.forget_crash_report()
                os.close(self._wake_descriptor)
            self._host.request_handled(self)

    def _wait(self, watched: list[NodeProcess]) -> dict[int, int]:
        """Blocks until there is a request or an event; returns the ready descriptors."""
        ready: dict[int, int] = {}
        if self._closing:
            for process in watched:
                self._guarded(process.kill)
        self._guarded(lambda: ready.update(self._poller(watched).poll(self._millis_to_wake())))
        return ready

    def _guarded(self, step: Callable[[], object]) -> None:
        """Runs one step. An exception is a bug of ours or an error of the system: the operator has failed."""
        # A guard for each step, not around the loop: an error with one process must not keep the thread
        # from the others, nor end it.
        try:
            step()
        except Exception as error:
            self._fail_internally(error)

    def _fail_internally(self, error: Exception) -> None:
        """Ends all processes and sets the error that the user will see."""
        cannot = f"dora_nb failed to supervise {self.name}"
        if isinstance(error, OSError):
            known = engine_error(cannot, error)
            failure = OperatorError(known.message, node=self.name, hint=known.hint)
        else:
            failure = OperatorError(
                f"{cannot}: {type(error).__name__}: {error}.",
                node=self.name,
                traceback_lines="".join(traceback.format_exception(error)).splitlines(),
                hint="This is a bug in dora_nb: please report it. You can start the operator again.",
            )
        self._deadline = None
        # The state may be inconsistent, so each of these may fail too. The processes first: an operator
        # without a supervisor would run on, and could not be stopped.
        for process in self._processes():
            with contextlib.suppress(Exception):
                self._reap(process)
        with contextlib.suppress(Exception):
            self._host.process_gone(self, for_good=True, outputs_closed=True, error=failure)
        # An edit that was requested has failed too, even if it had not begun in the life that is known here.
        requested = self._requested if self._is_editing(self.life) else None
        self._publish(lifecycle.failed_internally(self.life, failure, requested))

    def _handle(self, event: lifecycle.Event) -> None:
        life, actions = lifecycle.step(self.life, event)
        for action in actions:
            if isinstance(action, lifecycle.Spawn):
                self._publish(life)
            self._perform(action, life)
        self._publish(life)

    def _publish(self, life: lifecycle.Life) -> None:
        """Makes the life visible to other threads, and with it the outcome of an edit that led to it."""
        # Callers publish after the actions, so that a life is seen only once it is true: who sees RUNNING may
        # rely on the wiring. Only STARTING comes before its action, since a start can take long.
        self.life = life
        if life.pending is None:
            self._close_state()
        self._host.life_changed(self)

    def _request_handled(self) -> None:
        with self._wake_lock:
            self._unhandled_requests -= 1
        self._host.request_handled(self)

    def _wake_up(self) -> None:
        with self._wake_lock:
            if self._wake_open:
                os.eventfd_write(self._wake_descriptor, 1)

    def _perform(self, action: lifecycle.Action, life: lifecycle.Life) -> None:
        """Carries out an action that leads to that life."""
        process = self._process
        match action:
            case lifecycle.Spawn(_, number, spec, retries_event):
                self._spawn(number, spec, retries_event=retries_event)
            case lifecycle.SendReload(request) if process is not None:
                if _changes_code(request.edit):
                    self._send_reload(process, request)
                else:
                    # Only the wiring changes: the process has nothing to take, so it need not answer.
                    self.post(lifecycle.ChildReloaded(process.number, request.number))
            case lifecycle.CancelReload(number):
                self.tell(control.CancelReload(number), [])
            case lifecycle.ReportLateReload():
                self.note(
                    "the edit was cancelled too late, and its new code runs now; run the cell again to run "
                    "the code that it shows"
                )
            case lifecycle.FinishReload(request):
                # Rewire only now: had the process refused the source, the previous wiring would stay right.
                self.spec = request.spec
                self._host.rewire(self)
                if process is not None and _changes_code(request.edit):
                    process.taken_edit = request.number
                    # The RELOAD event that follows does not count.
                    process.events_before_code = process.counters.words[counters.EVENTS] + 1
            case lifecycle.Prepare(generation, number, spec):
                self._prepare(generation, number, spec)
            case lifecycle.AskToPause(edit):
                self._close_state()
                self._state_descriptor = os.memfd_create("dora-state", os.MFD_CLOEXEC)
                self.tell(control.Pause(edit), [self._state_descriptor])
            case lifecycle.Resume():
                self.tell(control.Resume(), [])
            case lifecycle.GiveState() if self._next is not None:
                os.lseek(self._state_descriptor, 0, os.SEEK_SET)
                self._next.control.tell(control.TakeState(), [self._state_descriptor])
            case lifecycle.AskToRetire():
                self.tell(control.Retire(), [])
            case lifecycle.TakeOver(spec):
                self._take_over(spec)
            case lifecycle.Discard() if self._next is not None:
                self._reap(self._next)
            case lifecycle.Disarm():
                self._deadline = None
            case lifecycle.FallBack(spec):
                self.spec = spec
                self._host.declaration_changed(self)
            case lifecycle.SendGo():
                self.tell(control.Go(), [])
            case lifecycle.AskToStop():
                self.tell(control.Stop(), [])
            case lifecycle.Terminate() if process is not None:
                self.note("it did not exit in time after STOP: sending SIGTERM")
                process.terminate()
            case lifecycle.Kill() if process is not None:
                self.note("it did not exit in time: sending SIGKILL")
                process.kill()
            case lifecycle.ReportSlowExit():
                self.note(self._slow_exit)
            case lifecycle.ArmDeadline(secs):
                self._deadline = _Deadline(life.deadline, time.monotonic() + secs)
            case lifecycle.SettleEnd(for_good, outputs_closed):
                self._deadline = None
                self._host.process_gone(
                    self, for_good=for_good, outputs_closed=outputs_closed, error=life.error
                )

    def _send_reload(self, process: NodeProcess, request: lifecycle.EditRequest) -> None:
        send_reload(
            self.tell,
            request.spec.code,
            request.edit,
            number=request.number,
            last_taken_edit=process.taken_edit,
        )

    def _spawn(self, process_number: int, spec: NodeSpec | None, *, retries_event: bool) -> None:
        self._ended = _Ended()
        if spec is not None:
            self.spec = spec
            self._host.declaration_changed(self)
        try:
            self._start_process(process_number, retries_event=retries_event)
        except (EngineError, OSError) as error:
            # The wiring may have failed after the process was adopted.
            if self._process is not None:
                self._reap(self._process)
            # As requests: handled here, inside `_handle`, their result would be overwritten by the life that
            # `_handle` publishes last.
            self.post(lifecycle.ChildFailed(process_number, error=self._cannot_start(error)))
            self.post(self._ended_event(process_number, failed=True))

    def _start_process(self, number: int, *, retries_event: bool) -> None:
        """Starts the operator's process and wires it. Raises EngineError or OSError."""
        while True:
            # The start without the lock: it takes milliseconds, and the session must answer meanwhile.
            spec = self.spec
            process, counters_descriptor = self._host.new_process(spec)
            try:
                with self._host.locked():
                    # A process that has joined has the environment of its own program.
                    if self.spec is spec or spec.kind == "dynamic":
                        process.number, process.first_log_line = number, self.log.count
                        self._process = process
                        self._host.begin(self, counters_descriptor)
                        # Last, when the outputs are there, and before any message: those wait for `Go`.
                        if retries_event:
                            self.retry_event()
                        return
            finally:
                os.close(counters_descriptor)
            # The declaration has changed meanwhile; this process has the environment of the old one.
            self._host.discard_process(process)

    def _cannot_start(self, error: EngineError | OSError) -> OperatorError:
        if isinstance(error, OSError):
            error = engine_error(f"{self.name} cannot be started", error)
        return OperatorError(error.message, node=self.name, hint=error.hint)

    # -- an edit -------------------------------------------------------------------------------------

    def _prepare(self, generation: int, number: int, spec: NodeSpec) -> None:
        try:
            process = self._host.prepare_process(spec, generation)
        except (EngineError, OSError) as error:
            self.post(lifecycle.ProcessEnded(number, death=self._cannot_start(error)))
            return
        process.number = number
        process.first_log_line = self.log.count
        self._next = process

    @property
    def retrying(self) -> bool:
        """Whether the process was sent an event to retry that it has not handled yet."""
        process = self._process
        return process is not None and process.requests.retrying

    @property
    def injecting(self) -> int:
        """How many injected messages the process has not sent yet."""
        process = self._process
        return 0 if process is None else len(process.requests.injected)

    def retry_event(self) -> bool:
        """Makes the process handle the event of the crash report before any other.

        False if there is no process or no such event. Call it with the session's lock held.
        """
        if self.crash_report_descriptor < 0 or self._process is None:
            return False
        self._process.requests.retrying = True
        self.tell(control.Give(), [self.crash_report_descriptor])
        return True

    def inject(self, message: control.Inject, descriptor: int) -> bool:
        """Makes the process send a message as its own; False if it does not run.

        Call it with the session's lock held.
        """
        if self._process is None or self.life.phase is not lifecycle.Phase.RUNNING:
            return False
        self._process.requests.injected.append((message, os.dup(descriptor)))
        self.tell(message, [descriptor])
        return True

    def show_state(self, descriptor: int) -> threading.Event:
        """Makes the process write its state between two events; the result is set once it has, or will not.

        Call it with the session's lock held.
        """
        shown = threading.Event()
        if self._process is None:
            shown.set()
        else:
            self._process.requests.shown.append(shown)
        self.tell(control.ShowState(), [descriptor])
        return shown

    def _take_over(self, spec: NodeSpec) -> None:
        """Makes the prepared process the operator's; the old one is ending."""
        old = self._process
        # The session's lock from the switch to the end of the wiring: a request of the notebook in between
        # would go to a process that has ended or has no edges yet. The session's lock is always taken before
        # the lock of the counters, here as in `_reap`.
        with self._host.locked():
            with self._counts.lock:
                self._process, self._next = self._next, None
                if old is not None:
                    deadline_secs = time.monotonic() + lifecycle.EXIT_GRACE_SECS
                    self._replaced.append(_ReplacedProcess(old, lambda: None, deadline_secs))
            self.spec = spec
            # If the old process has ended, `SettleEnd` has settled its edges. If it still lives, it may
            # hold arrays: their slots stay leased until it is gone (`_process_ended`).
            free_leases = self._host.hand_over(self, old_is_alive=old is not None)
            if old is not None:
                self._replaced[-1].free_leases = free_leases
                # After the wiring: a message that is injected needs the outputs.
                self._repeat_requests(old)

    def _repeat_requests(self, old: NodeProcess) -> None:
        """Repeats to the new process the requests that the old one has not answered, and so has not done."""
        unanswered = old.requests
        if unanswered.retrying:
            unanswered.retrying = False
            self.retry_event()
        while unanswered.injected and self._process is not None:
            message, descriptor = unanswered.injected.popleft()
            self._process.requests.injected.append((message, descriptor))
            self.tell(message, [descriptor])
        unanswered.close()  # The state of the old object cannot be shown any more.

    def _close_state(self) -> None:
        """Closes the state of a hand-over that is over."""
        if self._state_descriptor >= 0:
            os.close(self._state_descriptor)
            self._state_descriptor = -1

    def _poller(self, watched: list[NodeProcess]) -> select.poll:
        """Returns a poller for everything that may happen next."""
        # Built anew for each wait: the set of processes and what each waits for change with every event, and
        # the descriptors of one process are few.
        poller = select.poll()
        poller.register(self._wake_descriptor, select.POLLIN)
        for process in watched:
            control_socket = process.control
            wanted = select.POLLIN
            # A congested socket is writable all the time, and polling it would spin: see `_millis_to_wake`.
            if control_socket.pending and not control_socket.congested:
                wanted |= select.POLLOUT
            # A socket or stream at its end is readable for ever.
            if not control_socket.at_end:
                poller.register(control_socket.socket, wanted)
            poller.register(process.exit_descriptor, select.POLLIN)
            for stream in process.streams:
                if not stream.at_end:
                    poller.register(stream.descriptor, select.POLLIN)
        return poller

    def _handle_ready(self, process: NodeProcess, ready: dict[int, int]) -> None:
        """Handles the ready descriptors of a process, if it is still there."""
        # An earlier event of this round may have ended it and closed its descriptors.
        if not self._owns(process):
            return
        # The output first, so that what a process has printed before a failure stands before it in the log.
        for stream in process.streams:
            if stream.descriptor in ready:
                self._read_stream(process, stream)
        self._flush_outbox(process)
        if process.exit_descriptor in ready:
            self._process_ended(process)
        elif ready.get(process.control.socket.fileno(), 0) & ~select.POLLOUT:
            self._read_control(process)

    def _owns(self, process: NodeProcess) -> bool:
        """Whether that process has not been reaped, so that its descriptors are open."""
        return any(each is process for each in self._processes())

    def _check_deadlines(self) -> None:
        now_secs = time.monotonic()
        for replaced in self._replaced:
            if replaced.deadline_secs is not None and now_secs >= replaced.deadline_secs:
                replaced.deadline_secs = None
                replaced.process.kill()
        if self._deadline is not None and now_secs >= self._deadline.at_secs:
            number, self._deadline = self._deadline.number, None
            self._handle(lifecycle.DeadlinePassed(number))

    def _flush_outbox(self, process: NodeProcess) -> None:
        if process.control.failure is not None:
            raise process.control.failure
        if process.control.pending:
            process.control.flush()

    def _millis_to_wake(self) -> float | None:
        now_secs = time.monotonic()
        at_secs = [each.deadline_secs for each in self._replaced if each.deadline_secs is not None]
        if self._deadline is not None:
            at_secs.append(self._deadline.at_secs)
        if any(process.control.congested for process in self._processes()):
            at_secs.append(now_secs + _CONGESTION_SECS)
        return max(0.0, (min(at_secs) - now_secs) * 1e3) if at_secs else None

    def _take_requests(self) -> list[lifecycle.Event]:
        os.eventfd_read(self._wake_descriptor)
        events = []
        while self._requests:
            events.append(self._requests.popleft())
        return events

    def _read_control(self, process: NodeProcess) -> None:
        """Handles all messages of the process, until one of them ends it or there is none left."""
        while self._owns(process):
            try:
                message = control.receive_in_kernel(process.control.socket)
            except BlockingIOError:
                return
            if message is None:
                process.control.at_end = True
                process.control_lost()
                # For a prepared or a replaced process, only the end of the process itself counts.
                if process is self._process:
                    self._handle(lifecycle.ControlLost(process.number))
                return
            # What it printed before it sent this may have come after the poll: a failure must not stand in the
            # log before the lines that led to it.
            for stream in process.streams:
                if not stream.at_end:
                    self._read_stream(process, stream)
            event = self._to_event(process, message)
            if event is not None:
                self._handle(event)

    def _to_event(self, process: NodeProcess, message: control.ToKernel) -> lifecycle.Event | None:
        """Records a message of a process and returns the event that it means, if it means one."""
        number = process.number
        match message:
            case control.Ready():
                return lifecycle.ChildReady(number)
            case control.Failed():
                restarts = self.spec.restart_policy.policy != "never"
                return lifecycle.ChildFailed(number, restarts, self._failure(process, message))
            case control.Finished(inputs_closed, stop_all):
                if stop_all and process is not self._next:
                    self._host.stop_everything()
                return lifecycle.ChildFinished(number, inputs_closed)
            case control.Reloaded(edit):
                return lifecycle.ChildReloaded(number, edit)
            case control.Kept():
                return self._refusal(process, message)
            case control.Paused(edit, has_state, problem):
                return lifecycle.ChildPaused(number, edit, has_state, problem)
            case control.HandedOver():
                return lifecycle.HandedOver(number)
            case control.StateTaken(taken):
                return lifecycle.StateTaken(number, taken)
        self._handle_answer(process, message)
        return None

    def _handle_answer(self, process: NodeProcess, message: control.ToKernel) -> None:
        """Handles a message that changes nothing in the life of the operator."""
        match message:
            case control.Given():
                process.requests.retrying = False
                self._host.request_handled(self)
            case control.Injected() if process.requests.injected:
                os.close(process.requests.injected.popleft()[1])
                self._host.request_handled(self)
            case control.StateShown() if process.requests.shown:
                process.requests.shown.popleft().set()
            case control.Released(edge_id):
                self._host.edge_released(self, edge_id)
            case control.Imported(file):
                process.imported.note(file)
            case control.Warned(text):
                self.note(text)
            case control.Warnings(texts):
                process.warnings = tuple(texts)
                self._host.life_changed(self)
            case control.Logged():
                lines = log_text(message).splitlines()
                self._log_lines(message.level, lines)
                process.note_printed(lines)
                self._host.printed(self.name, message.level, [message])

    def _failure(self, process: NodeProcess, failed: control.Failed) -> OperatorError:
        """Logs why a process has failed, and returns it as an error."""
        self.note("\n".join([*failed.traceback_lines, failed.message]))
        hint = failed.hint
        if process is self._process and failed.keeps_event:
            hint = " ".join(filter(None, [hint, self._retry_hint(process)]))
        return OperatorError(
            failed.message, node=self.name, traceback_lines=failed.traceback_lines, hint=hint
        )

    def _retry_hint(self, process: NodeProcess | None) -> str:
        """Returns what the user can do about a failure on an event, which is kept.

        The way back is shown if the process is known, and has failed on the first event of new code.
        """
        ways = (
            f"The event is kept: inspect it with {how_to('debug', name=self.name)}, or handle it again "
            f"with {how_to('retry', name=self.name)}."
        )
        if process is None:
            return ways
        handled = process.counters.words[counters.EVENTS] - process.events_before_code
        if handled <= 1 and self.life.generation > 1:
            earlier = self.life.generation - 1
            back = how_to("go back to a generation", name=self.name, generation=earlier)
            ways += f" Go back with {back}."
        return ways

    def _refusal(self, process: NodeProcess, kept: control.Kept) -> lifecycle.ChildKept:
        """Returns why the process refused new source; logs it, if it answers the edit in progress."""
        error = OperatorError(
            kept.message, node=self.name, traceback_lines=kept.traceback_lines, hint=kept.hint
        )
        life = self.life
        answers_edit = process is self._process and life.edit == kept.edit
        if answers_edit and life.next is lifecycle.Next.NONE and not kept.replace:
            self.note("\n".join([*kept.traceback_lines, kept.message]))
        return lifecycle.ChildKept(process.number, kept.edit, kept.replace, kept.message, error)

    def _process_ended(self, process: NodeProcess) -> None:
        """Reads the last messages of a process that has ended, then reaps it."""
        # Its last messages are still in the socket: without them, a failure that it has reported would look
        # like a death without a reason.
        self._read_control(process)
        if not self._owns(process):
            return  # One of these messages has led to its end already.
        was_next, was_current = process is self._next, process is self._process
        replaced = [each for each in self._replaced if each.process is process]
        event_is_kept, status = self._reap(process)
        if was_next:
            death = describe_death(self.name, status, self._lines_of(process))
            self._handle(lifecycle.ProcessEnded(process.number, death=death))
            return
        if not was_current:
            for each in replaced:
                each.free_leases()
            self._publish(self.life)
            return
        # During a hand-over the prepared process goes on, and the restart policy is not asked.
        if self.life.next is not lifecycle.Next.NONE:
            self._handle(lifecycle.ProcessEnded(process.number))
            return
        if status < 0 and self.life.stop_step is lifecycle.StopStep.ASKED:
            self.note(describe_death(self.name, status, []).message)
        failed = self.life.outcome is not lifecycle.Phase.FINISHED or status != 0
        death = self._describe_death(process, status, event_is_kept=event_is_kept)
        event = self._ended_event(process.number, failed=failed)
        self._handle(dataclasses.replace(event, badly=status != 0, death=death))

    def _ended_event(self, number: int, *, failed: bool) -> lifecycle.ProcessEnded:
        """Returns the event of that end, with the delay that the restart policy sets."""
        if self.inputs_closed or not self._host.may_get_input(self.name):
            return lifecycle.ProcessEnded(number)
        counted, delay_secs = next_restart(
            self.spec.restart_policy,
            self.life.policy_restarts,
            failed=failed,
            now_secs=time.monotonic(),
        )
        return lifecycle.ProcessEnded(number, delay_secs, policy_restarts=counted)

    def _reap(self, process: NodeProcess) -> tuple[bool, int]:
        """Kills a process and all that it has started; keeps its output and counts.

        Returns whether the event that it was handling is kept, though it has reported nothing, and its status.
        """
        status = process.reap()
        # After the end, so that nothing is added; before `close`, which closes the streams.
        for stream in process.streams:
            lines = stream.read_last()
            self._log_lines(stream.name, lines)
            process.note_printed(lines)
        # Before the session settles the process's end: until then its leases protect the event's payload.
        event_is_kept = self._keep_crash_report(process)
        # Both locks: no request of the notebook and no status may see a process whose descriptors are being
        # closed. Always in this order.
        with self._host.locked(), self._counts.lock:
            self._counts.keep(process)
            if process is self._process:
                self._ended = _Ended(process.warnings, process.last_line, process.imported)
                self._process = None
            elif process is self._next:
                self._next = None
            self._replaced = [each for each in self._replaced if each.process is not process]
            process.close()
            lost = process.requests.close()
        if lost:
            self.note(
                f"messages that the notebook sent as {self.name} may be lost ({lost}): its process ended "
                "before it confirmed them"
            )
        return event_is_kept, status

    def _keep_crash_report(self, process: NodeProcess) -> bool:
        """Keeps its crash report; returns whether it was written here, for a process that could not."""
        event_is_kept = (
            process is self._process
            and self.spec.kind == "operator"
            and self.life.stop_step is lifecycle.StopStep.NONE
            and not os.fstat(process.crash_report_descriptor).st_size
            and keep_event_at_death(process, functools.partial(self._host.find_input, self))
        )
        if (
            process.crash_report_descriptor >= 0
            and os.fstat(process.crash_report_descriptor).st_size
        ):
            self.forget_crash_report()
            self.crash_report_descriptor = os.dup(process.crash_report_descriptor)
        return event_is_kept

    def forget_crash_report(self) -> None:
        """Closes the crash report of the newest failure."""
        if self.crash_report_descriptor >= 0:
            os.close(self.crash_report_descriptor)
            self.crash_report_descriptor = -1

    def _describe_death(
        self, process: NodeProcess, status: int, *, event_is_kept: bool
    ) -> OperatorError:
        """Returns the error for the operator's process, should it have ended without a report."""
        if self.spec.kind == "dynamic":
            return OperatorError(
                f"{self.name}: the process that had joined ended without an error message.",
                node=self.name,
                hint="Start it again: it joins again.",
            )
        if self.life.exits_freely and self.life.stop_step >= lifecycle.StopStep.TERMINATED:
            return OperatorError(
                f"{self.name} had ended its own code and was still exiting when the stop killed its process.",
                node=self.name,
                hint="Likely cause: an exit handler (atexit) that takes long, or a thread that is not a daemon.",
            )
        # Killed without a request to stop: it had closed its control socket (`ControlLost`).
        if self.life.was_killed:
            return OperatorError(
                f"{self.name}'s process closed its connection to the kernel and was killed.",
                node=self.name,
                hint="Likely cause: its code closes file descriptors that it did not open (os.closerange).",
            )
        ways_out = None
        # `%dora debug` runs the code in the kernel, where a fault in a library would end the kernel.
        if event_is_kept:
            ways_out = (
                f"{self._retry_hint(None)} While debugging, the same fault would crash the kernel."
            )
        return describe_death(self.name, status, self._lines_of(process), ways_out=ways_out)

    def _lines_of(self, process: NodeProcess) -> list[LogLine]:
        return [line for line in self.log.lines() if line.number >= process.first_log_line]

    def _read_stream(self, process: NodeProcess, stream: Stream) -> None:
        lines = stream.read()
        if lines and self.spec.min_log_level == LOG_LEVELS[-1]:
            self._log_lines(stream.name, lines)
            process.note_printed(lines)
            self._host.printed(
                self.name, "stdout", [control.Logged("stdout", line) for line in lines]
            )

    def note(self, text: str) -> None:
        """Adds lines of the engine to the log."""
        self._log_lines("engine", text.splitlines())

    def _log_lines(self, stream: str, lines: list[str]) -> None:
        self.log.add(stream, lines, time_secs=time.time())
