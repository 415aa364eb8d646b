"""The life of one operator, decided purely: `step(life, event)` gives the next life and what to do.

No thread, no clock, no process here; `_supervisor` carries the actions out. A stop is a ladder, and
each rung is an action::

    Stop ──► AskToStop, arm grace ──► Terminate (SIGTERM), arm 1 s ──► Kill (SIGKILL, whole session)
                     └───────────── the process may end at any rung ─────────────┘

Phases::

    IDLE ──Start──► STARTING ──ChildReady──► READY ──Open──► RUNNING
                        └────────────┴──────────────┴──► ENDING ──ProcessEnded──► FAILED │ FINISHED │ STOPPED
                                                            └──────(restart asked)────► STARTING
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


# -- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start it, if it is not there."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Let another generation follow; the one that is there is stopped first."""

    grace_secs: float


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
    Start | Restart | Open | Stop | ChildReady | ChildFailed | ChildFinished | ControlLost
    | DeadlinePassed | ProcessEnded
)  # fmt: skip


# -- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this generation and wire it."""

    generation: int


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
    Spawn | LetGo | AskToStop | Terminate | Kill | ArmDeadline | ReportDeath | SettleEnd
)  # fmt: skip


def step(life: Life, event: Event) -> tuple[Life, list[Action]]:
    """What follows from an event. An event that means nothing in this phase changes nothing."""
    match event:
        case Start():
            return _start(life)
        case Restart(grace_secs):
            if life.phase in NO_PROCESS:
                return _start(life)
            if life.phase is Phase.PAUSING:
                return _next_generation(life, [])
            return _ask_to_stop(replace(life, again=True), grace_secs)
        case Stop(grace_secs):
            if life.phase in NO_PROCESS:
                return life, []
            if life.phase is Phase.PAUSING:
                return replace(life, phase=Phase.STOPPED), [SettleEnd(for_good=True)]
            return _ask_to_stop(replace(life, again=False, stopping=True), grace_secs)
        case ChildReady() if life.phase is Phase.STARTING:
            return replace(life, phase=Phase.READY, was_ready=True), []
        case Open() if life.phase is Phase.READY:
            return replace(life, phase=Phase.RUNNING), [LetGo()]
        case ChildFailed() if life.phase in HAS_PROCESS:
            return _await_exit(life, Phase.FAILED)
        case ChildFinished() if life.phase in HAS_PROCESS:
            return _await_exit(life, Phase.FINISHED)
        case ControlLost() if life.phase in HAS_PROCESS - {Phase.ENDING}:
            return _await_exit(life, None)
        case DeadlinePassed() if life.phase is Phase.ENDING:
            return _climb(life)
        case DeadlinePassed() if life.phase is Phase.PAUSING:
            return _next_generation(life, [])
        case ProcessEnded(restart_after_secs) if life.phase in HAS_PROCESS:
            return _process_ended(life, restart_after_secs)
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


def _climb(life: Life) -> tuple[Life, list[Action]]:
    if life.rung is Rung.ASKED:
        return replace(life, rung=Rung.TERMINATED), [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    return replace(life, rung=Rung.KILLED), [Kill()]


def _process_ended(life: Life, restart_after_secs: float | None) -> tuple[Life, list[Action]]:
    if life.again:
        return _next_generation(life, [SettleEnd(for_good=False)])
    died = life.outcome is None
    report: list[Action] = [ReportDeath()] if died else []
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
    born = Life(phase=Phase.STARTING, generation=life.generation + 1)
    return born, [*first, Spawn(born.generation)]
