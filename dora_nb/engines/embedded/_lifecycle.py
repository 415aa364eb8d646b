"""The life of one operator, decided purely: `step(life, event)` gives the next life and what to do.

No thread, no clock, no process here; `_supervisor` carries the actions out. A stop is a ladder, and
each rung is an action::

    Stop ──► AskToStop, arm grace ──► Terminate (SIGTERM), arm 1 s ──► Kill (SIGKILL, whole session)
                     └───────────── the process may end at any rung ─────────────┘

Phases::

    IDLE ──Start──► STARTING ──ChildReady──► READY ──Open──► RUNNING
                        └────────────┴──────────────┴──► ENDING ──ProcessEnded──► FAILED │ FINISHED │ STOPPED
                                                            └──────(restart asked)────► STARTING

While an operator runs, another generation may be prepared beside it, and takes over once it works::

    Replace ──► PREPARING ──NextReady──► PAUSING ──ChildPaused──► (FILLING ──StateTaken──►) PARTING
    the new one's __init__ runs          the old one reads no more  the new one is          the old one
                                                                    given its state         handles STOP
                                     PARTING ──HandedOver──► the new one is the operator, and goes

Up to PARTING the old one can go on as if nothing had been: so it does, whatever becomes of the new one.
Should the old one end at any step, the new one takes over from there.
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
    PAUSING = "pausing"
    """It has ended, and another generation follows after a time."""
    FAILED = "failed"
    FINISHED = "finished"
    STOPPED = "stopped"


NO_PROCESS = frozenset({Phase.IDLE, Phase.FAILED, Phase.FINISHED, Phase.STOPPED})
"""Nothing is there, and nothing follows by itself."""
HAS_PROCESS = frozenset(Phase) - NO_PROCESS - {Phase.PAUSING}


class Next(enum.Enum):
    """How far the generation is that is to take over."""

    NONE = "none"
    PREPARING = "preparing"
    PAUSING = "pausing"
    FILLING = "filling"
    PARTING = "parting"


_REVOCABLE = frozenset({Next.PREPARING, Next.PAUSING, Next.FILLING})
"""The old generation has not been told that it ends."""
_HELD = frozenset({Next.PAUSING, Next.FILLING})
_UNTOUCHED = frozenset({Next.NONE, Next.PREPARING})


class Rung(enum.IntEnum):
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
    rung: Rung = Rung.NONE
    outcome: Phase | None = None
    """What the end of the process will mean, where that is known before."""
    again: bool = False
    """Whether another generation follows when the process has ended."""
    stopping: bool = False
    """Whether a stop was asked for: then no restart policy is."""
    was_ready: bool = False
    """Whether this generation's `__init__` has returned."""
    next: Next = Next.NONE
    grace_secs: float = 0.0
    """How long each step of a hand-over may take."""
    falls_back: bool = False
    """Whether the source of the generation before is started again, should `__init__` fail."""


# -- events --------------------------------------------------------------------------------------


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

    grace_secs: float


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drop what is being prepared, if it is not too late."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Let the living process take the new source, or the new wires."""

    grace_secs: float


@dataclass(frozen=True, slots=True)
class ChildReloaded:
    """The process has taken them: it is the next generation."""


@dataclass(frozen=True, slots=True)
class ChildKept:
    """The process could not take them, and is what it was."""

    replace: bool
    """Whether a fresh process could."""


@dataclass(frozen=True, slots=True)
class ChildPaused:
    """It handles no event any more, until it is told to go on or to part."""

    has_state: bool


@dataclass(frozen=True, slots=True)
class HandedOver:
    """It has handled STOP, and reads and sends no more."""


@dataclass(frozen=True, slots=True)
class NextReady:
    """The `__init__` of the generation that is prepared has returned."""


@dataclass(frozen=True, slots=True)
class StateTaken:
    """The generation that is prepared has taken the state of the one before."""


@dataclass(frozen=True, slots=True)
class NextFailed:
    """The generation that is prepared failed, or is gone."""


@dataclass(frozen=True, slots=True)
class Open:
    """Every operator is ready: messages may move."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop it, if it is there."""

    grace_secs: float


@dataclass(frozen=True, slots=True)
class ChildReady:
    """The operator's `__init__` has returned."""


@dataclass(frozen=True, slots=True)
class ChildFailed:
    """The process reported a failure and is about to exit."""


@dataclass(frozen=True, slots=True)
class ChildFinished:
    """The operator is done and its process is about to exit."""


@dataclass(frozen=True, slots=True)
class ControlLost:
    """The process closed its control socket: it is about to exit, or can be told nothing any more."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The deadline that was armed last is over."""


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """The process is gone, or could not be started."""

    restart_after_secs: float | None = None
    """What the node's restart policy says of it; not asked where it was stopped."""


Event = (
    Start | Restart | Replace | Abandon | Reload | Open | Stop | ChildReady | ChildFailed | ChildFinished
    | ControlLost | DeadlinePassed | ProcessEnded | ChildReloaded | ChildKept | ChildPaused | HandedOver
    | NextReady | StateTaken | NextFailed
)  # fmt: skip


# -- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this generation and wire it."""

    generation: int


@dataclass(frozen=True, slots=True)
class TellReload:
    """Tell the process what it is to take."""


@dataclass(frozen=True, slots=True)
class TakeReload:
    """The process has taken it: its wires follow."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Start a process for this generation beside the one that runs; nobody is wired to it yet."""

    generation: int


@dataclass(frozen=True, slots=True)
class AskToPause:
    """Tell the process to handle no further event."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Tell the process that it goes on."""


@dataclass(frozen=True, slots=True)
class GiveState:
    """Give the state of the one that pauses to the one that is prepared."""


@dataclass(frozen=True, slots=True)
class AskToPart:
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
class LetGo:
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
    Spawn | TellReload | TakeReload | Prepare | AskToPause | GoOn | GiveState | AskToPart | TakeOver
    | Discard | Disarm | FallBack | LetGo | AskToStop | Terminate | Kill | ArmDeadline | ReportDeath
    | SettleEnd
)  # fmt: skip


def step(life: Life, event: Event) -> tuple[Life, list[Action]]:
    """What follows from an event. An event that means nothing in this phase changes nothing."""
    match event:
        case Start():
            return _start(life)
        case Restart(grace_secs, falls_back):
            if life.phase in NO_PROCESS:
                return _start(life)
            if life.phase is Phase.PAUSING:
                return _next_generation(life, [])
            life, first = _without_next(life)
            asked, then = _ask_to_stop(replace(life, again=True, falls_back=falls_back), grace_secs)
            return asked, [*first, *then]
        case Stop(grace_secs):
            if life.phase in NO_PROCESS:
                return life, []
            if life.phase is Phase.PAUSING:
                return replace(life, phase=Phase.STOPPED), [SettleEnd(for_good=True)]
            life, first = _without_next(life)
            asked, then = _ask_to_stop(replace(life, again=False, stopping=True), grace_secs)
            return asked, [*first, *then]
        case Replace(grace_secs):
            if life.phase is Phase.RUNNING and life.next is Next.NONE:
                return _prepare(replace(life, grace_secs=grace_secs))
            return step(life, Restart(grace_secs))  # There is nothing to take over from.
        case Abandon() if life.next in _REVOCABLE:
            return _without_next(life)
        case Reload(grace_secs):
            if life.phase is Phase.RUNNING and life.next is Next.NONE:
                return replace(life, grace_secs=grace_secs), [TellReload(), ArmDeadline(grace_secs)]
            return step(life, Restart(grace_secs))
        case ChildReloaded() if life.phase is Phase.RUNNING and life.next in _UNTOUCHED:
            alone, first = _without_next(life)
            reloaded = replace(alone, generation=life.generation + 1)
            return reloaded, [TakeReload(), *first, Disarm()]
        case ChildKept(again) if life.phase is Phase.RUNNING and life.next is Next.NONE:
            return _prepare(life) if again else (life, [Disarm()])
        case ChildReady() if life.phase is Phase.STARTING:
            return replace(life, phase=Phase.READY, was_ready=True, falls_back=False), []
        case Open() if life.phase is Phase.READY:
            return replace(life, phase=Phase.RUNNING), [LetGo()]
        case ChildFailed() if life.phase in HAS_PROCESS:
            return _await_exit(life, Phase.FAILED)
        case ChildFinished() if life.phase in HAS_PROCESS:
            return _await_exit(life, Phase.FINISHED)
        case ControlLost() if life.phase in HAS_PROCESS - {Phase.ENDING}:
            return _await_exit(life, None)
        case DeadlinePassed():
            return _deadline_passed(life)
        case ProcessEnded(restart_after_secs) if life.phase in HAS_PROCESS:
            return _process_ended(life, restart_after_secs)
        case _ if life.next is not Next.NONE:
            return _hand_over(life, event)
    return life, []


def _start(life: Life) -> tuple[Life, list[Action]]:
    if life.phase not in NO_PROCESS:
        return life, []
    born = Life(phase=Phase.STARTING, generation=life.generation + 1)
    return born, [Spawn(born.generation)]


def _ask_to_stop(life: Life, grace_secs: float) -> tuple[Life, list[Action]]:
    if life.rung is not Rung.NONE:
        return life, []
    outcome = Phase.STOPPED if life.outcome is None else life.outcome
    asked = replace(life, phase=Phase.ENDING, rung=Rung.ASKED, outcome=outcome)
    return asked, [AskToStop(), ArmDeadline(grace_secs)]


def _await_exit(life: Life, outcome: Phase | None) -> tuple[Life, list[Action]]:
    """The process is to exit by itself now. A ladder that it is on already goes on."""
    exiting = replace(life, phase=Phase.ENDING, outcome=life.outcome or outcome)
    return exiting, [ArmDeadline(EXIT_GRACE_SECS)] if life.rung is Rung.NONE else []


def _deadline_passed(life: Life) -> tuple[Life, list[Action]]:
    if life.phase is Phase.PAUSING:
        return _next_generation(life, [])
    if life.next is Next.FILLING:
        return _without_next(life, too_slow=True)
    if life.phase is Phase.ENDING or life.next in (Next.PAUSING, Next.PARTING):
        return _climb(life)
    if life.phase is Phase.RUNNING and life.next is Next.NONE:  # It never came to the reload.
        return _prepare(life)
    return life, []


def _climb(life: Life) -> tuple[Life, list[Action]]:
    if life.rung in (Rung.TERMINATED, Rung.KILLED):
        return replace(life, rung=Rung.KILLED), [Kill()]
    if life.rung is Rung.NONE and life.phase is Phase.ENDING:
        return replace(life, rung=Rung.KILLED), [Kill()]
    return replace(life, rung=Rung.TERMINATED), [Terminate(), ArmDeadline(TERM_GRACE_SECS)]


def _process_ended(life: Life, restart_after_secs: float | None) -> tuple[Life, list[Action]]:
    if life.next is Next.PREPARING:
        born = Life(phase=Phase.STARTING, generation=life.generation + 1)
        return born, [SettleEnd(for_good=False), TakeOver()]
    if life.next is not Next.NONE:
        return _taken_over(life, [SettleEnd(for_good=False)])
    if life.again:
        return _next_generation(life, [SettleEnd(for_good=False)])
    died = life.outcome is None
    report: list[Action] = [ReportDeath()] if died else []
    if life.falls_back and not life.stopping:
        return _next_generation(life, [*report, SettleEnd(for_good=False), FallBack()])
    if restart_after_secs is not None and not life.stopping:
        pausing = replace(life, phase=Phase.PAUSING, rung=Rung.NONE, outcome=None)
        return pausing, [*report, SettleEnd(for_good=False), ArmDeadline(restart_after_secs)]
    if died:
        dead = replace(life, phase=Phase.FAILED, rung=Rung.NONE)
        return dead, [*report, SettleEnd(for_good=True, outputs_closed=True)]
    assert life.outcome is not None
    closed = life.outcome is not Phase.STOPPED
    ended = replace(life, phase=life.outcome, rung=Rung.NONE, outcome=None)
    return ended, [SettleEnd(for_good=True, outputs_closed=closed)]


def _next_generation(life: Life, first: list[Action]) -> tuple[Life, list[Action]]:
    falls_back = life.again and life.falls_back
    born = Life(phase=Phase.STARTING, generation=life.generation + 1, falls_back=falls_back)
    return born, [*first, Spawn(born.generation)]


# -- one generation takes over from another ------------------------------------------------------


def _prepare(life: Life) -> tuple[Life, list[Action]]:
    return replace(life, next=Next.PREPARING), [Disarm(), Prepare(life.generation + 1)]


def _without_next(life: Life, *, too_slow: bool = False) -> tuple[Life, list[Action]]:
    """Nothing is prepared any more. The old generation goes on, unless it was told that it ends."""
    if life.next is Next.NONE:
        return life, []
    actions: list[Action] = [Discard(too_slow)]
    if life.phase is not Phase.RUNNING:  # It is on its way out already, at its own pace.
        return replace(life, next=Next.NONE), actions
    if life.next in _HELD:
        actions += [GoOn(), Disarm()]
    return replace(life, next=Next.NONE, rung=Rung.NONE), actions


def _hand_over(life: Life, event: Event) -> tuple[Life, list[Action]]:
    match event:
        case NextReady() if life.next is Next.PREPARING:
            if life.phase is not Phase.RUNNING:  # The old one is about to end by itself.
                return replace(life, next=Next.PARTING), []
            return replace(life, next=Next.PAUSING), [AskToPause(), ArmDeadline(life.grace_secs)]
        case ChildPaused(has_state) if life.next is Next.PAUSING:
            if has_state:
                filling = replace(life, next=Next.FILLING, rung=Rung.NONE)
                return filling, [GiveState(), ArmDeadline(life.grace_secs)]
            return _part(life)
        case StateTaken() if life.next is Next.FILLING:
            return _part(life)
        case HandedOver() if life.next is Next.PARTING:
            return _taken_over(life, [Disarm()])
        case NextFailed() if life.next is Next.PARTING:
            # The old one is told that it ends. Its successor is known to work: it is started once more.
            ending = replace(life, next=Next.NONE, phase=Phase.ENDING, again=True)
            return replace(ending, rung=max(life.rung, Rung.ASKED)), [Discard()]
        case NextFailed():
            return _without_next(life)
    return life, []


def _part(life: Life) -> tuple[Life, list[Action]]:
    parting = replace(life, next=Next.PARTING, rung=Rung.NONE)
    return parting, [AskToPart(), ArmDeadline(life.grace_secs)]


def _taken_over(life: Life, first: list[Action]) -> tuple[Life, list[Action]]:
    taken = Life(phase=Phase.RUNNING, generation=life.generation + 1, was_ready=True)
    return taken, [*first, TakeOver(), LetGo()]
