"""The life of one operator, decided purely: `step(life, event)` gives the next life and what to do.

No thread, no clock, no process here; `_supervisor` carries the actions out. A stop is a ladder, and
each stop_step is an action::

    Stop ──► AskToStop, arm grace ──► Terminate (SIGTERM), arm 1 s ──► Kill (SIGKILL, whole session)
                     └───────────── the process may end at any stop_step ─────────────┘

Phases::

    IDLE ──Start──► STARTING ──ChildReady──► READY ──Open──► RUNNING
                        └────────────┴──────────────┴──► ENDING ──ProcessEnded──► FAILED │ FINISHED │ STOPPED
                                                            └──────(restart asked)────► STARTING

While an operator runs, another generation may be prepared beside it, and takes over once it works::

    Replace ──► PREPARING ──ChildReady──► PAUSING ──ChildPaused──► (RESTORING ──StateTaken──►) RETIRING
    the new one's __init__ runs          the old one reads no more  the new one is          the old one
                                                                    given its state         handles STOP
                                     RETIRING ──HandedOver──► the new one is the operator, and goes

Up to RETIRING the old one can go on as if nothing had been: so it does, whatever becomes of the new one.
Should the old one end at any step, the new one takes over from there.

Several processes of one operator may be there at the same time, and what they say arrives late and in any
order. So every event says where it belongs, and `step` ignores it where that is over:

* what a process says or does carries that process's number. Only the operator's process and the one that
  is prepared to follow it mean anything; a process that was replaced changes nothing any more;
* an answer to an edit carries that edit's number, since one process may be asked by several edits in turn;
* a deadline carries its number, and only the one that was armed last can pass.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

TERM_GRACE_SECS = 1.0
EXIT_GRACE_SECS = 2.0
"""How long a process may take to exit once it said that it ends, or closed its control socket."""


class Phase(enum.Enum):
    """Where an operator is in its life."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    ENDING = "ending"
    BACKING_OFF = "backing off"
    """It has ended, and another generation follows after a time."""
    FAILED = "failed"
    FINISHED = "finished"
    STOPPED = "stopped"


NO_PROCESS = frozenset({Phase.IDLE, Phase.FAILED, Phase.FINISHED, Phase.STOPPED})
"""Nothing is there, and nothing follows by itself."""
HAS_PROCESS = frozenset(Phase) - NO_PROCESS - {Phase.BACKING_OFF}


class Next(enum.Enum):
    """How far the generation is that is to take over."""

    NONE = "none"
    PREPARING = "preparing"
    PAUSING = "pausing"
    RESTORING = "restoring"
    RETIRING = "retiring"


_REVOCABLE = frozenset({Next.PREPARING, Next.PAUSING, Next.RESTORING})
"""The old generation has not been told that it ends."""
_PAUSED_STEPS = frozenset({Next.PAUSING, Next.RESTORING})


class StopStep(enum.IntEnum):
    """How far up the ladder a stop has gone."""

    NONE = 0
    ASKED = 1
    TERMINATED = 2
    KILLED = 3


@dataclass(frozen=True, slots=True)
class Life:
    """The whole state of one operator's life."""

    phase: Phase = Phase.IDLE
    generation: int = 0
    stop_step: StopStep = StopStep.NONE
    outcome: Phase | None = None
    """What the end of the process will mean, where that is known before."""
    restarts: bool = False
    """Whether another generation follows when the process has ended."""
    stopping: bool = False
    """Whether a stop was asked for: then no restart policy is."""
    was_ready: bool = False
    """Whether this generation's `__init__` has returned."""
    process: int = 0
    """The number of the process that is the operator; 0 before the first."""
    successor: int = 0
    """The number of the process that is prepared to follow it; 0 where there is none."""
    started: int = 0
    """How many processes were started: so the next one gets a number that no other had."""
    deadline: int = 0
    """The number of the deadline that was armed last; another one where it was disarmed."""
    edit: int = 0
    """The number of the edit that is under way; 0 for none."""
    reloading: bool = False
    """Whether the process was told of that edit's source, and has not answered."""
    next: Next = Next.NONE
    grace_secs: float = 0.0
    """How long each step of a hand-over may take."""
    falls_back: bool = False
    """Whether the source of the generation before is started again, should `__init__` fail."""


# -- events: what is asked for ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start it, if it is not there."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Let another generation follow; the one that is there is stopped first."""

    grace_secs: float
    falls_back: bool = False
    """If it does not get ready, the source of the one before is started again."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Prepare another generation beside the one that runs, and let it take over once it is ready."""

    edit: int
    grace_secs: float


@dataclass(frozen=True, slots=True)
class Reload:
    """Let the living process take the new source, or the new wires."""

    edit: int
    grace_secs: float


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drop what that edit prepares, if it is not too late."""

    edit: int


@dataclass(frozen=True, slots=True)
class Open:
    """Every operator is ready: messages may move."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop it, if it is there."""

    grace_secs: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """That deadline is over."""

    deadline: int


# -- events: what a process says or does -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """An event of one process of the operator, by its number (`Spawn`, `Prepare`)."""

    process: int


@dataclass(frozen=True, slots=True)
class ChildReady(ProcessEvent):
    """The operator's `__init__` has returned."""


@dataclass(frozen=True, slots=True)
class ChildFailed(ProcessEvent):
    """The process reported a failure and is about to exit."""


@dataclass(frozen=True, slots=True)
class ChildFinished(ProcessEvent):
    """The operator is done and its process is about to exit."""


@dataclass(frozen=True, slots=True)
class ControlLost(ProcessEvent):
    """The process closed its control socket: it is about to exit, or can be told nothing any more."""


@dataclass(frozen=True, slots=True)
class ProcessEnded(ProcessEvent):
    """The process is gone, or could not be started."""

    restart_after_secs: float | None = None
    """What the node's restart policy says of it; not asked where it was stopped."""


@dataclass(frozen=True, slots=True)
class ChildReloaded(ProcessEvent):
    """The process has taken the source or the wires of that edit: it is the next generation."""

    edit: int


@dataclass(frozen=True, slots=True)
class ChildKept(ProcessEvent):
    """The process could not take them, and is what it was."""

    edit: int
    replace: bool
    """Whether a fresh process could."""


@dataclass(frozen=True, slots=True)
class ChildPaused(ProcessEvent):
    """For that edit it handles no event any more, until it is told to go on or to part."""

    edit: int
    has_state: bool


@dataclass(frozen=True, slots=True)
class HandedOver(ProcessEvent):
    """It has handled STOP, and reads and sends no more."""


@dataclass(frozen=True, slots=True)
class StateTaken(ProcessEvent):
    """The generation that is prepared has taken the state of the one before."""


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


@dataclass(frozen=True, slots=True)
class SendReload:
    """Tell the process what it is to take."""


@dataclass(frozen=True, slots=True)
class FinishReload:
    """The process has taken what that edit told it: its wires follow."""

    edit: int


@dataclass(frozen=True, slots=True)
class CancelReload:
    """Tell the process not to take the source of that edit, if it has not yet."""

    edit: int


@dataclass(frozen=True, slots=True)
class ReportLateReload:
    """The process has taken the source of an edit that was dropped before it answered."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Start a process for this generation beside the one that runs; nobody is wired to it yet."""

    generation: int
    process: int


@dataclass(frozen=True, slots=True)
class AskToPause:
    """Tell the process to handle no further event."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Tell the process that it goes on."""


@dataclass(frozen=True, slots=True)
class GiveState:
    """Give the state of the one that pauses to the one that is prepared."""


@dataclass(frozen=True, slots=True)
class AskToRetire:
    """Tell the process to handle STOP, and to send what it still has to send."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What was prepared is the operator's process now, and gets all that the one before held."""


@dataclass(frozen=True, slots=True)
class Discard:
    """End what was prepared."""

    too_slow: bool = False
    """It did not take the state in time."""


@dataclass(frozen=True, slots=True)
class Disarm:
    """No deadline is armed any more."""


@dataclass(frozen=True, slots=True)
class FallBack:
    """The source of the generation before is the operator's again."""


@dataclass(frozen=True, slots=True)
class SendGo:
    """Tell the process that messages may move."""


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
class ArmDeadline:
    """Report `DeadlinePassed` after this time, unless another deadline is armed or the process ends."""

    secs: float


@dataclass(frozen=True, slots=True)
class ReportDeath:
    """The process ended although nobody asked it to and it gave no reason: say how."""


@dataclass(frozen=True, slots=True)
class SettleEnd:
    """The process is gone: what it held is given back."""

    for_good: bool
    """No generation follows now."""
    outputs_closed: bool = False
    """It ended by itself, so its readers get INPUT_CLOSED; one that was stopped is only away."""


Action = (
    Spawn | SendReload | FinishReload | CancelReload | ReportLateReload | Prepare | AskToPause | Resume | GiveState
    | AskToRetire | TakeOver | Discard | Disarm | FallBack | SendGo | AskToStop | Terminate | Kill | ArmDeadline
    | ReportDeath | SettleEnd
)  # fmt: skip


def step(life: Life, event: Event) -> tuple[Life, list[Action]]:
    """What follows from an event. One that means nothing in this phase, or whose time is over, changes nothing."""
    following, actions = _dispatch(life, event)
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
        case ProcessEvent() | DeadlinePassed():
            return life, []
    return _on_request(life, event)


def _on_request(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case Start():
            return _start(life)
        case Restart(grace_secs, falls_back):
            if life.phase in NO_PROCESS:
                return _start(life)
            if life.phase is Phase.BACKING_OFF:
                return _next_generation(life, [])
            life, first = _drop_next(life)
            asked, then = _ask_to_stop(
                replace(life, restarts=True, falls_back=falls_back), grace_secs
            )
            return asked, [*first, *then]
        case Stop(grace_secs):
            if life.phase in NO_PROCESS:
                return life, []
            if life.phase is Phase.BACKING_OFF:
                return replace(life, phase=Phase.STOPPED), [SettleEnd(for_good=True)]
            life, first = _drop_next(life)
            asked, then = _ask_to_stop(replace(life, restarts=False, stopping=True), grace_secs)
            return asked, [*first, *then]
        case Replace(edit, grace_secs):
            if life.phase is Phase.RUNNING and life.next is Next.NONE:
                return _prepare(replace(life, edit=edit, grace_secs=grace_secs))
            return _on_request(life, Restart(grace_secs))  # There is nothing to take over from.
        case Reload(edit, grace_secs):
            if life.phase is Phase.RUNNING and life.next is Next.NONE:
                reloading = replace(life, edit=edit, reloading=True, grace_secs=grace_secs)
                return reloading, [SendReload(), ArmDeadline(grace_secs)]
            return _on_request(life, Restart(grace_secs))
        case Abandon(edit) if edit == life.edit and life.next in _REVOCABLE:
            return _drop_next(life)
        case Open() if life.phase is Phase.READY:
            return replace(life, phase=Phase.RUNNING), [SendGo()]
    return life, []


def _on_current(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case ChildReady() if life.phase is Phase.STARTING:
            return replace(life, phase=Phase.READY, was_ready=True, falls_back=False), []
        case ChildFailed() if life.phase in HAS_PROCESS:
            return _await_exit(life, Phase.FAILED)
        case ChildFinished() if life.phase in HAS_PROCESS:
            return _await_exit(life, Phase.FINISHED)
        case ControlLost() if life.phase in HAS_PROCESS - {Phase.ENDING}:
            return _await_exit(life, None)
        case ProcessEnded(_, restart_after_secs) if life.phase in HAS_PROCESS:
            return _process_ended(life, restart_after_secs)
        case ChildReloaded(_, edit) if life.phase is Phase.RUNNING:
            return _reloaded(life, edit)
        case ChildKept(_, edit, needs_process) if edit == life.edit and life.phase is Phase.RUNNING:
            answered = replace(life, reloading=False)
            if life.next is not Next.NONE:  # Late: a fresh process is on its way already.
                return answered, []
            return _prepare(answered) if needs_process else (replace(answered, edit=0), [Disarm()])
        case ChildPaused(_, edit, has_state) if edit == life.edit and life.next is Next.PAUSING:
            if has_state:
                restoring = replace(life, next=Next.RESTORING, stop_step=StopStep.NONE)
                return restoring, [GiveState(), ArmDeadline(life.grace_secs)]
            return _retire(life)
        case HandedOver() if life.next is Next.RETIRING:
            return _taken_over(life, [Disarm()])
    return life, []


def _on_successor(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case ChildReady() if life.next is Next.PREPARING:
            if life.phase is not Phase.RUNNING:  # The old one is about to end by itself.
                return replace(life, next=Next.RETIRING), []
            return replace(life, next=Next.PAUSING), [AskToPause(), ArmDeadline(life.grace_secs)]
        case StateTaken() if life.next is Next.RESTORING:
            return _retire(life)
        case ChildFailed() | ChildFinished() | ProcessEnded() if life.next is Next.RETIRING:
            # The old one is told that it ends. Its successor is known to work: it is started once more.
            ending = replace(life, next=Next.NONE, successor=0, phase=Phase.ENDING, restarts=True)
            return replace(ending, stop_step=max(life.stop_step, StopStep.ASKED)), [Discard()]
        case ChildFailed() | ChildFinished() | ProcessEnded():
            return _drop_next(life)
    return life, []


def _start(life: Life) -> tuple[Life, list[Action]]:
    return _next_generation(life, []) if life.phase in NO_PROCESS else (life, [])


def _ask_to_stop(life: Life, grace_secs: float) -> tuple[Life, list[Action]]:
    if life.stop_step is not StopStep.NONE:
        return life, []
    outcome = Phase.STOPPED if life.outcome is None else life.outcome
    asked = replace(
        life, phase=Phase.ENDING, stop_step=StopStep.ASKED, outcome=outcome, reloading=False
    )
    return asked, [AskToStop(), ArmDeadline(grace_secs)]


def _await_exit(life: Life, outcome: Phase | None) -> tuple[Life, list[Action]]:
    """The process is to exit by itself now. A ladder that it is on already goes on."""
    exiting = replace(life, phase=Phase.ENDING, outcome=life.outcome or outcome, reloading=False)
    return exiting, [ArmDeadline(EXIT_GRACE_SECS)] if life.stop_step is StopStep.NONE else []


def _deadline_passed(life: Life) -> tuple[Life, list[Action]]:
    if life.phase is Phase.BACKING_OFF:
        return _next_generation(life, [])
    if life.next is Next.RESTORING:
        return _drop_next(life, too_slow=True)
    if life.phase is Phase.ENDING or life.next in (Next.PAUSING, Next.RETIRING):
        return _escalate(life)
    if life.phase is Phase.RUNNING and life.reloading:  # It never came to the reload.
        return _prepare(life)
    return life, []


def _escalate(life: Life) -> tuple[Life, list[Action]]:
    if life.stop_step in (StopStep.TERMINATED, StopStep.KILLED):
        return replace(life, stop_step=StopStep.KILLED), [Kill()]
    if life.stop_step is StopStep.NONE and life.phase is Phase.ENDING:
        return replace(life, stop_step=StopStep.KILLED), [Kill()]
    return replace(life, stop_step=StopStep.TERMINATED), [Terminate(), ArmDeadline(TERM_GRACE_SECS)]


def _process_ended(life: Life, restart_after_secs: float | None) -> tuple[Life, list[Action]]:
    if life.next is Next.PREPARING:
        return _promoted(life, Phase.STARTING), [SettleEnd(for_good=False), TakeOver()]
    if life.next is not Next.NONE:
        return _taken_over(life, [SettleEnd(for_good=False)])
    if life.restarts:
        return _next_generation(life, [SettleEnd(for_good=False)])
    life = replace(life, edit=0, reloading=False)
    died = life.outcome is None
    report: list[Action] = [ReportDeath()] if died else []
    if life.falls_back and not life.stopping:
        return _next_generation(life, [*report, SettleEnd(for_good=False), FallBack()])
    if restart_after_secs is not None and not life.stopping:
        pausing = replace(life, phase=Phase.BACKING_OFF, stop_step=StopStep.NONE, outcome=None)
        return pausing, [*report, SettleEnd(for_good=False), ArmDeadline(restart_after_secs)]
    if died:
        dead = replace(life, phase=Phase.FAILED, stop_step=StopStep.NONE)
        return dead, [*report, SettleEnd(for_good=True, outputs_closed=True)]
    assert life.outcome is not None
    closed = life.outcome is not Phase.STOPPED
    ended = replace(life, phase=life.outcome, stop_step=StopStep.NONE, outcome=None)
    return ended, [SettleEnd(for_good=True, outputs_closed=closed)]


def _next_generation(life: Life, first: list[Action]) -> tuple[Life, list[Action]]:
    born = Life(
        phase=Phase.STARTING,
        generation=life.generation + 1,
        process=life.started + 1,
        started=life.started + 1,
        deadline=life.deadline,
        falls_back=life.restarts and life.falls_back,
    )
    return born, [*first, Spawn(born.generation, born.process)]


# -- one generation takes over from another ------------------------------------------------------


def _prepare(life: Life) -> tuple[Life, list[Action]]:
    number = life.started + 1
    preparing = replace(life, next=Next.PREPARING, successor=number, started=number)
    return preparing, [Disarm(), Prepare(life.generation + 1, number)]


def _drop_next(life: Life, *, too_slow: bool = False) -> tuple[Life, list[Action]]:
    """Nothing is prepared any more. The old generation goes on, unless it was told that it ends."""
    if life.next is Next.NONE:
        return life, []
    actions: list[Action] = [Discard(too_slow)]
    alone = replace(life, next=Next.NONE, successor=0, edit=0, reloading=False)
    if life.phase is not Phase.RUNNING:  # It is on its way out already, at its own pace.
        return alone, actions
    if life.reloading:
        actions.append(CancelReload(life.edit))
    if life.next in _PAUSED_STEPS:
        actions += [Resume(), Disarm()]
    return replace(alone, stop_step=StopStep.NONE), actions


def _reloaded(life: Life, edit: int) -> tuple[Life, list[Action]]:
    """The process has the source of that edit, whatever else became of the edit meanwhile."""
    if life.next is Next.RETIRING:  # It ends, and its successor has that source too.
        return life, []
    if edit != life.edit:
        return replace(life, generation=life.generation + 1), [ReportLateReload()]
    # It may be late: what was prepared in its place is not needed then.
    alone, first = _drop_next(replace(life, reloading=False))
    reloaded = replace(alone, generation=life.generation + 1, edit=0, reloading=False)
    return reloaded, [FinishReload(edit), *first, Disarm()]


def _retire(life: Life) -> tuple[Life, list[Action]]:
    retiring = replace(life, next=Next.RETIRING, stop_step=StopStep.NONE)
    return retiring, [AskToRetire(), ArmDeadline(life.grace_secs)]


def _taken_over(life: Life, first: list[Action]) -> tuple[Life, list[Action]]:
    taken = replace(_promoted(life, Phase.RUNNING), was_ready=True)
    return taken, [*first, TakeOver(), SendGo()]


def _promoted(life: Life, phase: Phase) -> Life:
    """The life of the generation whose process was prepared."""
    return Life(
        phase=phase,
        generation=life.generation + 1,
        process=life.successor,
        started=life.started,
        deadline=life.deadline,
    )
