"""The status of one node of the embedded engine, from its supervisor and its declaration."""

from __future__ import annotations

from dora_nb.graph.nodes import NodeSpec
from dora_nb.protocol import counters
from dora_nb.status import PROCESS_TO_JOIN, NodeStatus, State

from ._lifecycle import Phase, StopStep
from ._supervisor import Supervisor

_STATES = {
    Phase.IDLE: State.DECLARED,
    Phase.STARTING: State.STARTING,
    Phase.READY: State.STARTING,
    Phase.RUNNING: State.RUNNING,
    Phase.ENDING: State.RUNNING,
    Phase.BACKING_OFF: State.STARTING,
    Phase.FAILED: State.FAILED,
    Phase.FINISHED: State.FINISHED,
    Phase.STOPPED: State.STOPPED,
}


def node_status(
    supervisor: Supervisor, spec: NodeSpec, *, waiting_for: tuple[str, ...]
) -> NodeStatus:
    """Returns the node's status without its edges; `waiting_for` are its missing publishers."""
    events, missed_ticks, undeclared = supervisor.counts()
    durations = supervisor.durations()
    life = supervisor.life
    state = _STATES[life.phase]
    if spec.kind == "dynamic" and state in (State.DECLARED, State.FINISHED):
        state, waiting_for = State.WAITING, (PROCESS_TO_JOIN,)
    if state is State.RUNNING and waiting_for:
        state = State.WAITING
    # The process has reported the failure and is about to exit: the user should not see it as running.
    ends_by_itself = life.stop_step is StopStep.NONE
    if supervisor.error is not None and ends_by_itself and state is State.RUNNING:
        state = State.FAILED
    return NodeStatus(
        name=spec.name,
        state=state,
        declared_in=spec.code.file,
        generation=life.generation,
        waiting_for=waiting_for,
        events=events,
        missed_ticks=missed_ticks,
        undeclared_outputs=undeclared,
        on_event_p50_secs=counters.quantile_secs(durations, 0.5),
        on_event_p95_secs=counters.quantile_secs(durations, 0.95),
        busy_secs=supervisor.busy_secs(),
        error=supervisor.error,
        last_line=supervisor.last_line(),
        warnings=supervisor.warnings,
        changed_files=supervisor.changed_files(),
        process_id=supervisor.process_id(),
        on_event_counts=tuple(durations),
    )
