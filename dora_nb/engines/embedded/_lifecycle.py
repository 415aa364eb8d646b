"""The life of one operator, decided purely: `step(life, event)` returns the next life and the actions.

It uses no thread, clock or process; `_supervisor` carries the actions out. A stop escalates in steps, and
each step is an action::

    Stop ──► AskToStop, arm grace ──► Terminate (SIGTERM), arm 1 s ──► Kill (SIGKILL, whole session)
                     └───────────── the process may end at any step ─────────────┘

Phases::

    IDLE ──Start──► STARTING ──ChildReady──► READY ──Open──► RUNNING
                        └────────────┴──────────────┴──► ENDING ──ProcessEnded──► FAILED │ FINISHED │ STOPPED
                                                            ├──(restart requested)──► STARTING
                                                            └──(restart policy)──► BACKING_OFF ──► STARTING

While an operator runs, another generation may be prepared beside it. It takes over once it works::

    Replace ──► PREPARING ──ChildReady──► PAUSING ──ChildPaused──► (RESTORING ──StateTaken──►) RETIRING
    the new one's __init__ runs          the old one ends its      the new one takes          the old one
                                         event and reads no more   the old one's state        handles STOP
                                     RETIRING ──HandedOver──► the new one is the operator: TakeOver, SendGo

A process that has ended by itself may take its time to exit: its exit handlers may park a robot. Only a stop
bounds that.

Until it gets `AskToRetire`, the old process can continue as if nothing had happened; it does so if the new
one fails or the edit is dropped. If the old process ends at any step, the new one takes over from there.

Several processes of one operator may exist at the same time, and their events arrive late and in any order.
So every event carries a number that says where it belongs, and `step` ignores it if that is over:

* an event of a process carries that process's number. Only the operator's process and the one prepared to
  follow it count; a process that was replaced changes nothing;
* an answer to an edit carries that edit's number, since one process may get several edits in turn;
* a deadline carries its number, and only the deadline armed last can pass.

An edit is part of the life from its request to its outcome: `Life.pending` is what has become known of it, and
`Life.applied` the outcome. Errors, notes and declarations go through this module unread.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any, Literal

from dora_nb.errors import FailedStarts, OperatorError
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.restarts import Restarts

from ..edit import Applied, Edit, Outcome

TERM_GRACE_SECS = 1.0
EXIT_GRACE_SECS = 2.0
"""When a process that is to exit by itself is reported, or is killed if nothing shows that it will."""
_NO_RESTARTS = Restarts()


class Phase(enum.Enum):
    """Where an operator is in its life."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    ENDING = "ending"
    BACKING_OFF = "backing off"
    """It has ended, and the restart policy starts another generation after a delay."""
    FAILED = "failed"
    FINISHED = "finished"
    STOPPED = "stopped"


NO_PROCESS = frozenset({Phase.IDLE, Phase.FAILED, Phase.FINISHED, Phase.STOPPED})
"""There is no process, and none will start by itself."""
HAS_PROCESS = frozenset(Phase) - NO_PROCESS - {Phase.BACKING_OFF}


class Next(enum.Enum):
    """The step of the hand-over to the next generation."""

    NONE = "none"
    PREPARING = "preparing"
    PAUSING = "pausing"
    RESTORING = "restoring"
    RETIRING = "retiring"


_REVOCABLE = frozenset({Next.PREPARING, Next.PAUSING, Next.RESTORING})
"""Steps from which the old generation can continue: it has not been asked to retire."""
_PAUSED_STEPS = frozenset({Next.PAUSING, Next.RESTORING})
"""Steps in which the old generation handles no event, so that it must be resumed if the edit is dropped."""


class StopStep(enum.IntEnum):
    """How far a stop has escalated."""

    NONE = 0
    ASKED = 1
    TERMINATED = 2
    KILLED = 3


@dataclass(frozen=True, slots=True, eq=False)
class EditRequest:
    """An edit, as it was requested."""

    number: int
    """Numbers the edits of one operator, from 1."""
    spec: NodeSpec
    previous: NodeSpec
    """The declaration to return to, if the process with the new one does not get ready."""
    edit: Edit


@dataclass(frozen=True, slots=True)
class PendingEdit:
    """An edit in progress."""

    request: EditRequest
    reason: str
    """See `Applied.reason`."""
    error: OperatorError | None = None
    """Why the operator does not run the new declaration."""
    state_carried: bool = False
    notes: tuple[str, ...] = ()
    spawned: bool = False
    """The old process has ended and the new one runs its `__init__`."""
    fell_back: bool = False
    """The new one has failed and the previous declaration is started again."""


@dataclass(frozen=True, slots=True)
class Life:
    """The whole state of one operator's life."""

    phase: Phase = Phase.IDLE
    generation: int = 0
    stop_step: StopStep = StopStep.NONE
    outcome: Phase | None = None
    """The phase that the end of the process will lead to, if that is known before."""
    restarts: bool = False
    """Whether a restart was requested: another generation follows the end of the process."""
    stopping: bool = False
    """Whether a stop was requested: then the restart policy does not apply."""
    closes_outputs: bool = False
    """Whether it was stopped alone: then its readers get INPUT_CLOSED at its end."""
    was_ready: bool = False
    """Whether this generation's `__init__` has returned."""
    exits_freely: bool = False
    """Whether only a stop bounds the exit of the process, which has ended by itself."""
    process: int = 0
    """The number of the process that is the operator; 0 before the first."""
    successor: int = 0
    """The number of the process prepared to follow it; 0 if there is none."""
    started: int = 0
    """How many processes were started; numbers each process uniquely."""
    deadline: int = 0
    """The number of the deadline that was armed last; disarming takes a new number too."""
    pending: PendingEdit | None = None
    """The edit in progress."""
    applied: Applied | None = None
    """The outcome of the newest edit; None while it is in progress, or if a newer declaration cancelled it."""
    newest_edit: int = 0
    """The number of the newest edit that has begun."""
    reloading: bool = False
    """Whether the process was sent that edit's source and has not answered."""
    next: Next = Next.NONE
    grace_secs: float = 0.0
    """How long each step of a hand-over may take."""
    falls_back: bool = False
    """Whether the previous source is started again if `__init__` fails."""
    error: OperatorError | None = None
    """Why this generation has failed."""
    inputs_closed: bool = False
    """Whether it finished because all its inputs had closed."""
    was_killed: bool = False
    """Whether its process was sent SIGKILL."""
    exits_slowly: bool = False
    """Whether it was reported that the process has ended by itself and is still exiting."""
    retries_event: bool = False
    """Whether the next process handles the event of the crash report before any other."""
    policy_restarts: Restarts = _NO_RESTARTS
    """The restarts that the restart policy counts."""
    failed_starts: FailedStarts | None = None
    """The failures before it was ready that its restart policy has answered since it was ready last."""

    @property
    def edit(self) -> int:
        """The number of the edit in progress; 0 for none."""
        return 0 if self.pending is None else self.pending.request.number


# -- events: requests ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start the operator, if it has no process."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start another generation; stop the current one first."""

    grace_secs: float
    edit: EditRequest | None = None
    """What the new generation runs. If it does not get ready, the previous source is started again."""
    retries_event: bool = False
    """Whether the new generation handles the event of the crash report before any other."""
    is_declared_anew: bool = False
    """Whether it runs a newer declaration than that of an edit in progress, which is cancelled."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Prepare another generation beside the running one; it takes over once it is ready."""

    edit: EditRequest
    grace_secs: float


@dataclass(frozen=True, slots=True)
class Reload:
    """Let the running process take the new source or the new wiring."""

    edit: EditRequest
    grace_secs: float


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drop that edit, if it is not too late."""

    edit: int


@dataclass(frozen=True, slots=True)
class Open:
    """Every operator is ready: messages may move."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the operator, if it has a process."""

    grace_secs: float
    closes_outputs: bool = False
    """It is stopped alone, so its readers get INPUT_CLOSED, as when it ends by itself."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The deadline of that number has passed."""

    deadline: int


# -- events of a process ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """An event of one process of the operator, by its number (`Spawn`, `Prepare`)."""

    process: int


@dataclass(frozen=True, slots=True)
class ChildReady(ProcessEvent):
    """The operator's `__init__` has returned."""


@dataclass(frozen=True, slots=True)
class ChildFailed(ProcessEvent):
    """The process reported a failure and is about to exit; or it could not be started."""

    restarts: bool = False
    """Whether the restart policy waits for the exit, which is bounded then."""
    error: OperatorError | None = None


@dataclass(frozen=True, slots=True)
class ChildFinished(ProcessEvent):
    """The operator has finished and its process is about to exit."""

    inputs_closed: bool = False
    """Whether it has, because all its inputs had closed."""


@dataclass(frozen=True, slots=True)
class ControlLost(ProcessEvent):
    """The process closed its control socket: it is about to exit, or cannot be controlled any more."""


@dataclass(frozen=True, slots=True)
class ProcessEnded(ProcessEvent):
    """The process is gone, or could not be started."""

    restart_after_secs: float | None = None
    """The delay before a restart by the restart policy; None for no restart. Ignored after a stop."""
    badly: bool = False
    """Whether it was killed or exited with a status that means an error."""
    death: OperatorError | None = None
    """The error, if the process ended without a request or a report."""
    policy_restarts: Restarts | None = None
    """What the restart policy has counted; None if it was not asked."""


@dataclass(frozen=True, slots=True)
class ChildReloaded(ProcessEvent):
    """The process has taken the source or the wiring of that edit: it is the next generation."""

    edit: int


@dataclass(frozen=True, slots=True)
class ChildKept(ProcessEvent):
    """The process could not take the edit and is unchanged."""

    edit: int
    replace: bool
    """Whether a new process could take it."""
    reason: str = ""
    """Why only a new process can."""
    error: OperatorError | None = None
    """Why no process can."""


@dataclass(frozen=True, slots=True)
class ChildPaused(ProcessEvent):
    """For that edit the process handles no further event, until `Resume` or `AskToRetire`."""

    edit: int
    has_state: bool
    problem: str | None = None
    """What is wrong with its state."""


@dataclass(frozen=True, slots=True)
class HandedOver(ProcessEvent):
    """The process has handled STOP, and will neither read nor send."""


@dataclass(frozen=True, slots=True)
class StateTaken(ProcessEvent):
    """The prepared process has answered to the state of the old one."""

    carried: bool = True
    """Whether it has taken the state."""


Event = (
    Start | Restart | Replace | Reload | Abandon | Open | Stop | DeadlinePassed | ChildReady | ChildFailed
    | ChildFinished | ControlLost | ProcessEnded | ChildReloaded | ChildKept | ChildPaused | HandedOver
    | StateTaken
)  # fmt: skip


# -- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this generation and wire it. Its events carry this number."""

    generation: int
    process: int
    spec: NodeSpec | None = None
    """The declaration that is the operator's from now on; None if it does not change."""
    retries_event: bool = False
    """Whether the process handles the event of the crash report before any other."""


@dataclass(frozen=True, slots=True)
class SendReload:
    """Send the edit to the process."""

    edit: EditRequest


@dataclass(frozen=True, slots=True)
class FinishReload:
    """The process has taken that edit: change its wiring."""

    edit: EditRequest


@dataclass(frozen=True, slots=True)
class CancelReload:
    """Tell the process not to take the source of that edit, if it has not taken it yet."""

    edit: int


@dataclass(frozen=True, slots=True)
class ReportLateReload:
    """Report that the process has taken the source of an edit that was dropped before it answered."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Start a process for this generation beside the running one; do not wire it yet."""

    generation: int
    process: int
    spec: NodeSpec


@dataclass(frozen=True, slots=True)
class AskToPause:
    """Tell the process to handle no further event, for that edit."""

    edit: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Tell the paused process to continue."""


@dataclass(frozen=True, slots=True)
class GiveState:
    """Send the state of the paused process to the prepared one."""


@dataclass(frozen=True, slots=True)
class AskToRetire:
    """Tell the process to handle STOP and to send all that it still holds back."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Make the prepared process the operator's process; give it all edges and memory of the old one."""

    spec: NodeSpec


@dataclass(frozen=True, slots=True)
class Discard:
    """End the prepared process."""


@dataclass(frozen=True, slots=True)
class Disarm:
    """Disarm the deadline."""


@dataclass(frozen=True, slots=True)
class FallBack:
    """Return to the declaration of the previous generation."""

    spec: NodeSpec


@dataclass(frozen=True, slots=True)
class SendGo:
    """Tell the process that messages may flow."""


@dataclass(frozen=True, slots=True)
class AskToStop:
    """Tell the process to handle STOP and end."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """SIGTERM to the process."""


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL to the whole session of the process."""


@dataclass(frozen=True, slots=True)
class ReportSlowExit:
    """The process has ended by itself and is still exiting: tell the user."""


@dataclass(frozen=True, slots=True)
class ArmDeadline:
    """Report `DeadlinePassed` after this time, unless another deadline is armed or the process ends."""

    secs: float


@dataclass(frozen=True, slots=True)
class SettleEnd:
    """The process is gone: give back what it held."""

    for_good: bool
    """No generation follows."""
    outputs_closed: bool = False
    """It ended by itself, so its readers get INPUT_CLOSED. An operator that was stopped may return."""


Action = (
    Spawn | SendReload | FinishReload | CancelReload | ReportLateReload | Prepare | AskToPause | Resume | GiveState
    | AskToRetire | TakeOver | Discard | Disarm | FallBack | SendGo | AskToStop | Terminate | Kill
    | ReportSlowExit | ArmDeadline | SettleEnd
)  # fmt: skip


def step(life: Life, event: Event) -> tuple[Life, list[Action]]:
    """Returns the next life and the actions. An event that is late or does not apply changes nothing."""
    following, actions = _dispatch(life, event)
    following = _settled(following)
    # A new number for each change of the deadline: if a `DeadlinePassed` of the previous one comes late, it
    # must not count against the step that has begun meanwhile.
    if any(isinstance(action, (ArmDeadline, Disarm, SettleEnd)) for action in actions):
        following = replace(following, deadline=life.deadline + 1)
    return following, actions


def _dispatch(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case ProcessEvent(process) if process == life.process:
            return _on_current(life, event)
        case ProcessEvent(process) if process == life.successor:
            return _on_successor(life, event)
        case DeadlinePassed(deadline) if deadline == life.deadline:
            return _deadline_passed(life)
        # An event of a process that was replaced or discarded, or of a deadline that was disarmed.
        case ProcessEvent() | DeadlinePassed():
            return life, []
    return _on_request(life, event)


def _on_request(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case Start():
            counting_anew = replace(life, policy_restarts=_NO_RESTARTS)
            if life.phase in NO_PROCESS:
                return _next_generation(counting_anew, [])
            return counting_anew, []
        case Restart(grace_secs, edit, retries_event, is_declared_anew):
            # Otherwise a corrected operator would still have the long delay of the broken one.
            counting_anew = replace(life, policy_restarts=_NO_RESTARTS, retries_event=retries_event)
            if is_declared_anew:
                # Otherwise the next generation would run the older declaration of that edit.
                counting_anew = replace(counting_anew, pending=None, applied=None)
            return _restart(counting_anew, grace_secs, edit, falls_back=edit is not None)
        case Stop(grace_secs, closes_outputs):
            if life.phase in NO_PROCESS:
                return life, []
            # Its end was settled as one with a successor; now its readers and publishers learn that none comes.
            if life.phase is Phase.BACKING_OFF:
                settle = SettleEnd(for_good=True, outputs_closed=closes_outputs)
                return replace(life, phase=Phase.STOPPED), [settle]
            life, first = _drop_next(life)
            stopping = replace(life, restarts=False, stopping=True)
            stopping = replace(stopping, closes_outputs=life.closes_outputs or closes_outputs)
            asked, then = _ask_to_stop(stopping, grace_secs)
            return asked, [*first, *then]
        case Replace(edit, grace_secs):
            if life.phase is Phase.RUNNING and life.next is Next.NONE:
                return _prepare(replace(_begun(life, edit), grace_secs=grace_secs))
            # No running generation to take over from, or another edit in progress: start from the beginning.
            return _restart(life, grace_secs, edit)
        case Reload(edit, grace_secs):
            if life.phase is Phase.RUNNING and life.next is Next.NONE:
                reloading = replace(_begun(life, edit), reloading=True, grace_secs=grace_secs)
                return reloading, [SendReload(edit), ArmDeadline(grace_secs)]
            return _restart(life, grace_secs, edit)
        case Abandon(edit) if edit == life.edit and life.next in _REVOCABLE:
            return _drop_next(life)
        case Open() if life.phase is Phase.READY:
            return replace(life, phase=Phase.RUNNING), [SendGo()]
    return life, []


def _on_current(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case ChildReady() if life.phase is Phase.STARTING:
            return replace(life, phase=Phase.READY, was_ready=True, falls_back=False), []
        case ChildFailed(_, restarts, error) if life.phase in HAS_PROCESS:
            failed = replace(life, error=error)
            if life.next is not Next.NONE and error is not None:
                failed = _noted(
                    failed, f"the old generation failed while it stopped ({error.message})"
                )
            # A start waits for the exit of a node that failed before it was ready, and must come to an end.
            return _await_exit(failed, Phase.FAILED, freely=life.was_ready and not restarts)
        case ChildFinished(_, inputs_closed) if life.phase in HAS_PROCESS:
            finished = replace(life, inputs_closed=inputs_closed)
            return _await_exit(finished, Phase.FINISHED, freely=True)
        case ControlLost() if life.phase in HAS_PROCESS - {Phase.ENDING}:
            return _await_exit(life, None, freely=False)
        case ProcessEnded() if life.phase in HAS_PROCESS:
            return _process_ended(life, event)
        case ChildReloaded(_, edit) if life.phase is Phase.RUNNING:
            return _reloaded(life, edit)
        case ChildKept(_, edit) if life.pending is not None and edit == life.edit:
            return _kept(life, event)
        case ChildPaused(_, edit, has_state, problem) if (
            edit == life.edit and life.next is Next.PAUSING
        ):
            paused = life if problem is None else _noted(life, problem)
            if has_state:
                restoring = replace(paused, next=Next.RESTORING, stop_step=StopStep.NONE)
                return restoring, [GiveState(), ArmDeadline(life.grace_secs)]
            return _retire(paused)
        case HandedOver() if life.next is Next.RETIRING:
            return _taken_over(life, [Disarm()])
    return life, []


def _on_successor(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case ChildReady() if life.next is Next.PREPARING:
            # The old process is ending by itself, and takes no `Pause`: its end is the hand-over.
            if life.phase is not Phase.RUNNING:
                return replace(life, next=Next.RETIRING), []
            pausing = replace(life, next=Next.PAUSING)
            return pausing, [AskToPause(life.edit), ArmDeadline(life.grace_secs)]
        case StateTaken(_, carried) if life.next is Next.RESTORING:
            return _retire(_with_edit(life, state_carried=carried))
        case ChildFailed(_, _, error):
            return _successor_lost(_with_edit(life, error=error))
        case ProcessEnded(death=error):
            known = None if life.pending is None else life.pending.error
            return _successor_lost(_with_edit(life, error=known or error))
        case ChildFinished():
            return _successor_lost(life)
    return life, []


def _successor_lost(life: Life) -> tuple[Life, list[Action]]:
    if life.next is not Next.RETIRING:
        return _drop_next(life)
    # The old process has been asked to retire and cannot continue. The new source is known to work,
    # since its process was ready: start it again.
    ending = replace(life, next=Next.NONE, successor=0, phase=Phase.ENDING, restarts=True)
    return replace(ending, stop_step=max(life.stop_step, StopStep.ASKED)), [Discard()]


def _restart(
    life: Life, grace_secs: float, edit: EditRequest | None, *, falls_back: bool = False
) -> tuple[Life, list[Action]]:
    if life.phase not in HAS_PROCESS:
        return _next_generation(_begun(life, edit), [])
    # The prepared process first: with the old one stopped, it would take over, and run the source
    # of an edit that this request replaces.
    life, first = _drop_next(life)
    restarting = replace(_begun(life, edit), restarts=True, falls_back=falls_back)
    asked, then = _ask_to_stop(restarting, grace_secs)
    return asked, [*first, *then]


def _ask_to_stop(life: Life, grace_secs: float) -> tuple[Life, list[Action]]:
    if life.stop_step is not StopStep.NONE:
        return life, []
    outcome = Phase.STOPPED if life.outcome is None else life.outcome
    asked = replace(
        life, phase=Phase.ENDING, stop_step=StopStep.ASKED, outcome=outcome, reloading=False
    )
    return asked, [AskToStop(), ArmDeadline(grace_secs)]


def _await_exit(life: Life, outcome: Phase | None, *, freely: bool) -> tuple[Life, list[Action]]:
    """Waits for the process to exit by itself. An escalation that has begun continues."""
    exiting = replace(life, phase=Phase.ENDING, outcome=life.outcome or outcome, reloading=False)
    exiting = replace(exiting, exits_freely=freely)
    return exiting, [ArmDeadline(EXIT_GRACE_SECS)] if life.stop_step is StopStep.NONE else []


def _deadline_passed(life: Life) -> tuple[Life, list[Action]]:
    if life.phase is Phase.BACKING_OFF:
        return _next_generation(life, [])
    if life.next is Next.RESTORING:
        return _drop_next(life, too_slow=True)
    if life.phase is Phase.ENDING or life.next in (Next.PAUSING, Next.RETIRING):
        return _escalate(life)
    # The process is busy and has not come to the reload: prepare a new one beside it.
    if life.phase is Phase.RUNNING and life.reloading:
        return _prepare(life)
    return life, []


def _escalate(life: Life) -> tuple[Life, list[Action]]:
    ends_by_itself = life.phase is Phase.ENDING and life.stop_step is StopStep.NONE
    if ends_by_itself and life.exits_freely:
        return replace(life, exits_slowly=True), [ReportSlowExit()]
    if life.next is not Next.NONE:
        life = _noted(life, "the old generation did not exit in time and was killed")
    if ends_by_itself or life.stop_step in (StopStep.TERMINATED, StopStep.KILLED):
        return replace(life, stop_step=StopStep.KILLED, was_killed=True), [Kill()]
    return replace(life, stop_step=StopStep.TERMINATED), [
        Terminate(),
        ArmDeadline(TERM_GRACE_SECS),
    ]


def _process_ended(life: Life, ended: ProcessEnded) -> tuple[Life, list[Action]]:
    life = replace(life, exits_slowly=False)
    # It had finished, but did not get through its exit handlers.
    if ended.badly and life.outcome is Phase.FINISHED:
        life = replace(life, outcome=None)
    if ended.policy_restarts is not None:
        life = replace(life, policy_restarts=ended.policy_restarts)
    # The order of these cases is the order of precedence. A prepared process comes first: it is further than
    # any process that could be started now.
    if life.next is not Next.NONE:
        return _successor_promoted(life)
    if life.restarts:
        return _next_generation(life, [SettleEnd(for_good=False)])
    life = replace(life, reloading=False)
    died = life.outcome is None
    if died:
        life = replace(life, error=ended.death)
    # The edit's own way back precedes the restart policy, which would start the failed source again.
    if life.falls_back and life.pending is not None and not life.stopping:
        back = FallBack(life.pending.request.previous)
        life = _with_edit(life, error=life.error, fell_back=True)
        return _next_generation(life, [SettleEnd(for_good=False), back])
    if ended.restart_after_secs is not None and not life.stopping:
        return _backing_off(life, ended.restart_after_secs)
    if died:
        dead = replace(life, phase=Phase.FAILED, stop_step=StopStep.NONE)
        return dead, [SettleEnd(for_good=True, outputs_closed=True)]
    assert life.outcome is not None
    closed = life.outcome is not Phase.STOPPED or life.closes_outputs
    over = replace(life, phase=life.outcome, stop_step=StopStep.NONE, outcome=None)
    return over, [SettleEnd(for_good=True, outputs_closed=closed)]


def _backing_off(life: Life, secs: float) -> tuple[Life, list[Action]]:
    failed_starts = None
    if life.error is not None and not life.was_ready:
        times = 0 if life.failed_starts is None else life.failed_starts.times
        failed_starts = FailedStarts(times + 1, life.error)
    pausing = replace(life, phase=Phase.BACKING_OFF, stop_step=StopStep.NONE, outcome=None)
    pausing = replace(pausing, failed_starts=failed_starts)
    return pausing, [SettleEnd(for_good=False), ArmDeadline(secs)]


def _next_generation(life: Life, first: list[Action]) -> tuple[Life, list[Action]]:
    # What the new generation runs is the edit's, unless that has been tried and has failed.
    spec = None
    if life.pending is not None and not life.pending.fell_back:
        spec = life.pending.request.spec
        life = _with_edit(life, spawned=True)
    born = _born(life, Phase.STARTING, life.started + 1)
    born = replace(born, falls_back=life.restarts and life.falls_back)
    return born, [*first, Spawn(born.generation, born.process, spec, life.retries_event)]


def _born(life: Life, phase: Phase, process: int) -> Life:
    """Returns the life of the next generation, whose process has that number."""
    # A new life: no stop or failure of the previous generation applies to it. But the numbers go on, so that
    # late events of earlier processes and deadlines stay invalid; and so does an edit that asked for it.
    return Life(
        phase=phase,
        generation=life.generation + 1,
        process=process,
        started=max(life.started, process),
        deadline=life.deadline,
        pending=life.pending,
        applied=life.applied,
        newest_edit=life.newest_edit,
        policy_restarts=life.policy_restarts,
        failed_starts=life.failed_starts,
    )


# -- one generation takes over from another ------------------------------------------------------


def _prepare(life: Life) -> tuple[Life, list[Action]]:
    # Without a deadline: `__init__` may load a model for minutes, and the old generation runs meanwhile.
    assert life.pending is not None
    number = life.started + 1
    preparing = replace(life, next=Next.PREPARING, successor=number, started=number)
    prepare = Prepare(life.generation + 1, number, life.pending.request.spec)
    return preparing, [Disarm(), prepare]


def _drop_next(life: Life, *, too_slow: bool = False) -> tuple[Life, list[Action]]:
    """Drops the prepared process. The old generation continues, unless it is ending."""
    if life.next is Next.NONE:
        return life, []
    if too_slow and life.pending is not None:
        name = life.pending.request.spec.name
        slow = OperatorError(f"{name}: set_state did not return in time.", node=name)
        life = _with_edit(life, error=slow)
    actions: list[Action] = [Discard()]
    alone = replace(life, next=Next.NONE, successor=0, reloading=False)
    # From RETIRING on, the old process cannot continue: the end of the edit is the end of that process.
    if life.pending is not None and life.next is not Next.RETIRING:
        outcome: Outcome = "dropped" if life.pending.error is None else "kept"
        alone = _edit_ended(alone, outcome, state="kept")
    # It is ending already; the deadline of its end stays armed.
    if life.phase is not Phase.RUNNING:
        return alone, actions
    if life.reloading:
        actions.append(CancelReload(life.edit))
    if life.next in _PAUSED_STEPS:
        actions += [Resume(), Disarm()]
    return replace(alone, stop_step=StopStep.NONE), actions


def _reloaded(life: Life, edit: int) -> tuple[Life, list[Action]]:
    """The process has taken the source of that edit, even if the edit was dropped meanwhile."""
    # It is ending, and its successor has that source too.
    if life.next is Next.RETIRING:
        return life, []
    if life.pending is None or edit != life.edit:
        return replace(life, generation=life.generation + 1), [ReportLateReload()]
    request = life.pending.request
    life = _edit_ended(replace(life, reloading=False), "in_place", state="kept")
    # Its answer may be late; then a new process is being prepared, and is not needed any more.
    alone, first = _drop_next(life)
    return replace(alone, generation=life.generation + 1), [
        FinishReload(request),
        *first,
        Disarm(),
    ]


def _kept(life: Life, kept: ChildKept) -> tuple[Life, list[Action]]:
    """The process could not take the edit in progress."""
    runs = life.phase is Phase.RUNNING
    answered = replace(life, reloading=False)
    # Late: the grace period is over, and a new process is being prepared already.
    if life.next is not Next.NONE:
        return answered, []
    if kept.replace:
        answered = _with_edit(answered, reason=kept.reason)
        return _prepare(answered) if runs else (answered, [])
    answered = _edit_ended(_with_edit(answered, error=kept.error), "kept", state="kept")
    return answered, [Disarm()] if runs else []


def _retire(life: Life) -> tuple[Life, list[Action]]:
    retiring = replace(life, next=Next.RETIRING, stop_step=StopStep.NONE)
    return retiring, [AskToRetire(), ArmDeadline(life.grace_secs)]


def _successor_promoted(life: Life) -> tuple[Life, list[Action]]:
    """The old process has ended before it handed over: the prepared one goes on from there."""
    pending = life.pending
    assert pending is not None
    if not pending.notes:
        life = _noted(life, "the old generation ended during the hand-over")
    settle = SettleEnd(for_good=False)
    if life.next is not Next.PREPARING:
        return _taken_over(life, [settle])
    starting = _born(_with_edit(life, spawned=True), Phase.STARTING, life.successor)
    return starting, [settle, TakeOver(pending.request.spec)]


def _taken_over(life: Life, first: list[Action]) -> tuple[Life, list[Action]]:
    pending = life.pending
    assert pending is not None
    taken = replace(_born(life, Phase.RUNNING, life.successor), was_ready=True)
    taken = _edit_ended(taken, "restarted", state="carried" if pending.state_carried else "lost")
    # `SendGo` last: the process must not handle a message before `TakeOver` has given it all its edges.
    return taken, [*first, TakeOver(pending.request.spec), SendGo()]


# -- the edit in progress ------------------------------------------------------------------------


def _begun(life: Life, edit: EditRequest | None) -> Life:
    """Begins an edit, in the place of an earlier one that is still in progress."""
    if edit is None:
        return life
    pending = PendingEdit(edit, edit.edit.reason)
    return replace(life, pending=pending, applied=None, newest_edit=edit.number)


def _with_edit(life: Life, **known: Any) -> Life:
    """Changes what is known of the edit in progress, if there is one."""
    if life.pending is None:
        return life
    return replace(life, pending=replace(life.pending, **known))


def _noted(life: Life, note: str) -> Life:
    """Adds what the user should know about the hand-over, once."""
    if life.pending is None or note in life.pending.notes:
        return life
    return replace(life, pending=replace(life.pending, notes=(*life.pending.notes, note)))


def _settled(life: Life) -> Life:
    """Ends the edit once its process is ready, or once nothing runs."""
    pending = life.pending
    if pending is None:
        return life
    if life.phase not in HAS_PROCESS:
        return _edit_ended(_with_edit(life, error=pending.error or life.error), "failed")
    if pending.spawned and life.phase is Phase.RUNNING:
        return _edit_ended(life, "kept" if pending.fell_back else "restarted")
    return life


def _edit_ended(
    life: Life, outcome: Outcome, *, state: Literal["kept", "carried", "lost"] = "lost"
) -> Life:
    pending = life.pending
    assert pending is not None
    applied = Applied(outcome, pending.reason, state, pending.error, pending.notes)
    return replace(life, pending=None, applied=applied)


def failed_internally(life: Life, error: OperatorError, requested: EditRequest | None) -> Life:
    """Returns the life after an internal error, which has ended all processes and the edit requested last."""
    if requested is not None and requested.number != life.newest_edit:
        life = _begun(life, requested)
    failed = Life(
        phase=Phase.FAILED,
        generation=life.generation,
        started=life.started,
        deadline=life.deadline + 1,
        pending=life.pending,
        applied=life.applied,
        newest_edit=life.newest_edit,
        error=error,
        policy_restarts=life.policy_restarts,
        failed_starts=life.failed_starts,
    )
    return _settled(failed)
