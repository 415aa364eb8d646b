"""One run of a dataflow, from start to stop.

The session decides what concerns more than one operator: nothing moves before all are ready, edits
reach the neighbours, a stop takes everybody along. All methods may be called from any thread; those
that wait say so. One lock guards the wiring and the table of supervisors; it is never held while
waiting.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import weakref
from collections.abc import Callable, Iterable

from ... import graph, messages
from ...errors import OperatorError
from ...metrics import quantile_secs
from ...status import EdgeStatus, LogLine, NodeStatus, State
from . import _lifecycle as lifecycle
from ._lifecycle import Phase
from ._process import OperatorProcess
from ._spawner import Spawner
from ._supervisor import Supervisor
from ._tap import Listener, Tap
from ._wiring import Wiring

_STATES = {
    Phase.IDLE: State.DECLARED,
    Phase.STARTING: State.STARTING,
    Phase.READY: State.STARTING,
    Phase.RUNNING: State.RUNNING,
    Phase.ENDING: State.RUNNING,
    Phase.FAILED: State.FAILED,
    Phase.FINISHED: State.FINISHED,
    Phase.STOPPED: State.STOPPED,
}


class Session:
    """The embedded engine at work on one dataflow.

    `on_change` is called, on any thread and without the lock, after any operator's state may have
    changed; it must return at once.
    """

    def __init__(
        self,
        declared: graph.Graph,
        listeners: Iterable[Listener],
        *,
        on_change: Callable[[], None],
    ) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._on_change = on_change
        self._declared = declared
        self._listeners = list(listeners)
        self._going = False
        self._stopping = False
        self._spawner = Spawner()
        self._tap = Tap()
        self._wiring = Wiring(self._tell, self._tap)
        self._supervisors = {spec.name: Supervisor(spec, self) for spec in declared}
        _live_sessions.add(self)
        with self.changed:
            for supervisor in self._supervisors.values():
                supervisor.post(lifecycle.Start())

    # -- asked by the dataflow -----------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether any operator has a process, or is about to."""
        return any(each.alive for each in list(self._supervisors.values()))

    @property
    def going(self) -> bool:
        """Whether messages move: every operator was ready once."""
        return self._going

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        """The counts of a subscription's edge; None where there is no edge yet."""
        with self.changed:
            for edge, status in self._wiring.statuses():
                if edge.reader == graph.NOTEBOOK and edge.input.name == listener.key:
                    return status
        return None

    def apply(self, declared: graph.Graph, name: str, *, grace_secs: float) -> None:
        """Takes a new or changed operator in; returns at once. See `wait_settled`."""
        with self.changed:
            self._declared = declared
            self._stopping = False
            spec = declared.operator(name)
            supervisor = self._supervisors.get(name)
            if supervisor is None:
                self._supervisors[name] = supervisor = Supervisor(spec, self)
            supervisor.spec = spec
            supervisor.post(lifecycle.Restart(grace_secs))

    def restart(self, name: str, *, grace_secs: float) -> None:
        """Lets another generation follow; returns at once. See `wait_settled`."""
        with self.changed:
            self._stopping = False
            self._supervisors[name].post(lifecycle.Restart(grace_secs))

    def remove(self, declared: graph.Graph, name: str, *, grace_secs: float) -> None:
        """Stops an operator and forgets it. Waits until it has ended."""
        supervisor = self._supervisors[name]
        supervisor.post(lifecycle.Stop(grace_secs))
        with self.changed:
            self.changed.wait_for(lambda: not supervisor.alive)
            self._declared = declared
            self._wiring.reconcile(declared, self._listeners)
            del self._supervisors[name]
        supervisor.close()
        self._check_barrier()

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """The kernel's subscriptions are these now."""
        with self.changed:
            self._listeners = list(listeners)
            self._wiring.reconcile(self._declared, self._listeners)

    def wait_settled(
        self, names: Iterable[str] | None, *, after: dict[str, int], timeout_secs: float | None
    ) -> bool:
        """Waits until those operators (all, if None) are past their `__init__` or have ended.

        `after` holds the generations before the request, so that a restart is not mistaken for done
        before it began. False when the time is over.
        """
        with self.changed:
            wanted = list(self._supervisors if names is None else names)
            return self.changed.wait_for(
                lambda: all(self._is_settled(name, after.get(name, 0)) for name in wanted),
                timeout_secs,
            )

    def generations(self) -> dict[str, int]:
        """The generation of each operator now."""
        with self.changed:
            return {name: each.life.generation for name, each in self._supervisors.items()}

    def errors(self) -> dict[str, OperatorError]:
        """The operators that have failed, and why."""
        with self.changed:
            return {
                name: each.error
                for name, each in self._supervisors.items()
                if each.error is not None and each.life.phase is Phase.FAILED
            }

    def settling(self) -> list[str]:
        """The operators that are still on their way through `__init__`."""
        with self.changed:
            return [name for name in self._supervisors if not self._is_settled(name, 0)]

    def status(self) -> list[NodeStatus]:
        """A snapshot of every operator, in the order of declaration."""
        with self.changed:
            edges = self._wiring.statuses()
            return [
                dataclasses.replace(
                    self._node_status(self._supervisors[spec.name], spec),
                    inputs=tuple(s for edge, s in edges if edge.reader == spec.name),
                    outputs=tuple(s for edge, s in edges if edge.source.node == spec.name),
                )
                for spec in self._declared
                if spec.name in self._supervisors
            ]

    def logs(self) -> dict[str, list[LogLine]]:
        """The lines that each operator printed, as many as are kept."""
        with self.changed:
            return {name: each.log.lines() for name, each in self._supervisors.items()}

    def request_stop(self, *, grace_secs: float) -> None:
        """Asks every operator to stop; returns at once."""
        with self.changed:
            self._stopping = True
            for supervisor in self._supervisors.values():
                supervisor.post(lifecycle.Stop(grace_secs))

    def wait_ended(self, timeout_secs: float | None) -> bool:
        """Waits until no operator has a process. False when the time is over."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.alive, timeout_secs)

    def close(self) -> None:
        """Lets go of everything; every operator must have ended."""
        for supervisor in self._supervisors.values():
            supervisor.close()
        with self.changed:
            self._wiring.close()
        self._tap.close()
        self._spawner.close()
        _live_sessions.discard(self)

    # -- asked by the supervisors (the protocol `Host`) ------------------------------------------------

    def start_process(self, supervisor: Supervisor) -> OperatorProcess:
        """Starts a process and gives it all that it holds; the wiring is brought up to date first."""
        spec = supervisor.spec
        process, counters = self._spawner.spawn(spec)
        source = _source_memory(spec.code)
        with self.changed:
            supervisor.adopt(process)
            self._wiring.reconcile(self._declared, self._listeners)
            begin = messages.Begin(
                protocol_version=messages.PROTOCOL_VERSION,
                name=spec.name,
                generation=supervisor.life.generation,
                file=spec.code.file,
                first_line=spec.code.first_line,
                path=spec.code.path,
                working_dir=spec.working_dir,
                outputs=list(spec.outputs),
                timers={
                    read.name: read.source.interval_secs
                    for read in spec.inputs
                    if isinstance(read.source, graph.TimerSource)
                },
                topics=sum(isinstance(read.source, graph.TopicSource) for read in spec.inputs),
            )
            supervisor.tell(begin, [source, counters])
            self._wiring.introduce(spec)
            self._wake_readers_that_finished(spec.name)
        os.close(source)
        os.close(counters)
        return process

    def process_reaped(self, process: OperatorProcess) -> None:
        """The warden need not look after it any more."""
        self._spawner.forget(process)

    def process_gone(self, supervisor: Supervisor, *, for_good: bool) -> None:
        """Gives back what a process held."""
        with self.changed:
            self._wiring.process_gone(supervisor.name, for_good=for_good)

    def edge_released(self, supervisor: Supervisor, edge_id: int) -> None:
        """Part of the lease table is free again."""
        with self.changed:
            self._wiring.edge_released(supervisor.name, edge_id)

    def life_changed(self, supervisor: Supervisor) -> None:
        """Tells everybody who waits."""
        with self.changed:
            self._check_barrier()
            self.changed.notify_all()
        self._on_change()

    def stop_everything(self) -> None:
        """An operator returned STOP_ALL."""
        self.request_stop(grace_secs=2.0)

    # -- inside ----------------------------------------------------------------------------------------

    def close_in_fork(self) -> None:
        """In a process forked from the kernel: it must not keep operators alive."""
        for supervisor in self._supervisors.values():
            supervisor.close_in_fork()
        self._spawner.close_in_fork()

    def _tell(self, name: str, message: messages.ToProcess, descriptors: list[int]) -> None:
        supervisor = self._supervisors.get(name)
        if supervisor is not None:
            supervisor.tell(message, descriptors)

    def _check_barrier(self) -> None:
        """Nothing moves before every operator is ready; later ones go when they are."""
        with self.changed:
            supervisors = list(self._supervisors.values())
            phases = {each.life.phase for each in supervisors}
            if not self._going:
                self._going = phases <= {Phase.READY}
            if self._going and Phase.READY in phases:
                for supervisor in supervisors:
                    if supervisor.life.phase is Phase.READY:
                        supervisor.post(lifecycle.Open())

    def _wake_readers_that_finished(self, name: str) -> None:
        """A node that came back feeds the operators again that had ended for want of inputs."""
        for edge in self._declared.edges():
            reader = self._supervisors.get(edge.reader)
            if edge.source.node != name or reader is None:
                continue
            if reader.life.phase is Phase.FINISHED and reader.inputs_closed:
                reader.post(lifecycle.Start())

    def _is_settled(self, name: str, after: int) -> bool:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            return True
        life = supervisor.life
        if self._stopping and life.phase in lifecycle.NO_PROCESS:
            return True
        if life.generation <= after:
            return False
        if life.phase is Phase.READY:
            return not self._going
        return life.phase in (Phase.RUNNING, *lifecycle.NO_PROCESS)

    def _node_status(self, supervisor: Supervisor, spec: graph.OperatorSpec) -> NodeStatus:
        events, missed_ticks, undeclared = supervisor.counts()
        durations = supervisor.durations()
        waiting_for = self._declared.waiting_for(spec.name)
        state = _STATES[supervisor.life.phase]
        if state is State.RUNNING and waiting_for:
            state = State.WAITING
        return NodeStatus(
            name=spec.name,
            state=state,
            declared_in=spec.code.file,
            generation=supervisor.life.generation,
            waiting_for=waiting_for,
            events=events,
            missed_ticks=missed_ticks,
            undeclared_outputs=undeclared,
            on_event_p50_secs=quantile_secs(durations, 0.5),
            on_event_p95_secs=quantile_secs(durations, 0.95),
            error=supervisor.error,
        )


def _source_memory(code: graph.SourceCode) -> int:
    """The source in an anonymous file, with empty lines in front so that lines count as in the editor."""
    descriptor = os.memfd_create("dora-source", os.MFD_CLOEXEC)
    text = "\n" * (code.first_line - 1) + code.text
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


_live_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _close_in_fork() -> None:
    for session in list(_live_sessions):
        session.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
