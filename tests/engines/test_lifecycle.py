"""The life of an operator, decided without a process: every sequence of events ends well."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.engines.edit import Applied, Edit
from dora_nb.engines.embedded._lifecycle import (
    EXIT_GRACE_SECS,
    HAS_PROCESS,
    NO_PROCESS,
    TERM_GRACE_SECS,
    Abandon,
    Action,
    ArmDeadline,
    AskToPause,
    AskToRetire,
    AskToStop,
    CancelReload,
    ChildFailed,
    ChildFinished,
    ChildKept,
    ChildPaused,
    ChildReady,
    ChildReloaded,
    ControlLost,
    DeadlinePassed,
    Disarm,
    Discard,
    EditRequest,
    Event,
    FallBack,
    FinishReload,
    GiveState,
    HandedOver,
    Kill,
    Life,
    Next,
    Open,
    Phase,
    Prepare,
    ProcessEnded,
    ProcessEvent,
    Reload,
    Replace,
    ReportLateReload,
    ReportSlowExit,
    Restart,
    Resume,
    SendGo,
    SendReload,
    SettleEnd,
    Spawn,
    Start,
    StateTaken,
    Stop,
    StopStep,
    TakeOver,
    Terminate,
    failed_internally,
    step,
)
from dora_nb.errors import FailedStarts, OperatorError
from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.graph.restarts import Restarts

GRACE_SECS = 2.0
EDIT = 1


def declared(text: str) -> NodeSpec:
    # Declarations are compared without their code.
    return NodeSpec("camera", SourceCode(text, "Cell In[1]"), outputs=(text,))


def edit_to(text: str, number: int) -> EditRequest:
    return EditRequest(number, declared(text), declared("old"), Edit("beside", "its reason"))


REQUEST = edit_to("new", EDIT)
NEWER = edit_to("newer", 2)
NEW, OLD = REQUEST.spec, REQUEST.previous
DEATH = OperatorError("camera's process was killed.", node="camera")
FAILURE = OperatorError("camera failed: ValueError: x", node="camera")
Step = Event | Callable[[Life], Event]
"""An event, or the event that this life would take for its own."""


def ready(life: Life) -> Event:
    return ChildReady(life.process)


def failed(life: Life) -> Event:
    return ChildFailed(life.process, error=FAILURE)


def failed_and_restarts(life: Life) -> Event:
    return ChildFailed(life.process, restarts=True, error=FAILURE)


def finished(life: Life) -> Event:
    return ChildFinished(life.process)


def control_lost(life: Life) -> Event:
    return ControlLost(life.process)


def ended(life: Life) -> Event:
    return ProcessEnded(life.process, death=DEATH)


def ended_badly(life: Life) -> Event:
    return ProcessEnded(life.process, badly=True, death=DEATH)


def ended_and_restarts(life: Life) -> Event:
    return ProcessEnded(life.process, restart_after_secs=0.5, death=DEATH)


def passed(life: Life) -> Event:
    return DeadlinePassed(life.deadline)


def reloaded(life: Life) -> Event:
    return ChildReloaded(life.process, life.edit)


def kept(life: Life) -> Event:
    return ChildKept(life.process, life.edit, replace=False)


def kept_for_another(life: Life) -> Event:
    return ChildKept(life.process, life.edit, replace=True)


def paused(life: Life) -> Event:
    return ChildPaused(life.process, life.edit, has_state=False)


def paused_with_state(life: Life) -> Event:
    return ChildPaused(life.process, life.edit, has_state=True)


def handed_over(life: Life) -> Event:
    return HandedOver(life.process)


def next_ready(life: Life) -> Event:
    return ChildReady(life.successor)


def state_taken(life: Life) -> Event:
    return StateTaken(life.successor)


def next_failed(life: Life) -> Event:
    return ChildFailed(life.successor, error=FAILURE)


def next_ended(life: Life) -> Event:
    return ProcessEnded(life.successor, death=DEATH)


def abandon(life: Life) -> Event:
    return Abandon(life.edit)


EVENTS: tuple[Step, ...] = (
    Start(),
    Restart(GRACE_SECS),
    Restart(GRACE_SECS, is_declared_anew=True),
    Open(),
    Stop(GRACE_SECS),
    ready,
    failed,
    finished,
    control_lost,
    passed,
    ended,
    ended_and_restarts,
)
OF_AN_EDIT: tuple[Step, ...] = (
    Restart(GRACE_SECS, REQUEST),
    Replace(REQUEST, GRACE_SECS),
    Reload(REQUEST, GRACE_SECS),
    abandon,
    reloaded,
    kept,
    kept_for_another,
    paused,
    paused_with_state,
    handed_over,
    next_ready,
    state_taken,
    next_failed,
    next_ended,
)


def event_for(life: Life, event: Step) -> Event:
    return event(life) if callable(event) else event


def after(*events: Step, life: Life | None = None) -> tuple[Life, list[Action]]:
    """The life after these events, and what the last of them made to be done."""
    life = life or Life()
    actions: list[Action] = []
    for event in events:
        life, actions = step(life, event_for(life, event))
    return life, actions


RUNNING = (Start(), ready, Open())


def test_start_spawns_the_first_generation() -> None:
    life, actions = after(Start())
    assert (life.phase, life.generation) == (Phase.STARTING, 1)
    assert actions == [Spawn(1, 1)]


def test_it_goes_only_when_it_is_ready_and_told() -> None:
    assert after(Start(), Open())[0].phase is Phase.STARTING
    life, actions = after(Start(), ready)
    assert (life.phase, actions) == (Phase.READY, [])
    assert after(Open(), life=life)[1] == [SendGo()]


def test_a_stop_climbs_one_rung_at_each_deadline() -> None:
    life, asked = after(*RUNNING, Stop(GRACE_SECS))
    assert asked == [AskToStop(), ArmDeadline(GRACE_SECS)]
    life, terminated = after(passed, life=life)
    assert terminated == [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    life, killed = after(passed, life=life)
    assert killed == [Kill()]
    life, last = after(ended, life=life)
    assert last == [SettleEnd(for_good=True)]
    assert life.phase is Phase.STOPPED


DIED = "its error is its death"


def after_with_death(*events: Step) -> tuple[Life, list[Action | str]]:
    """As `after`; `DIED` comes first if the last event has made the death of the process the error."""
    before, _ = after(*events[:-1])
    life, actions = after(events[-1], life=before)
    died = life.error is DEATH and before.error is not DEATH
    return life, [*([DIED] if died else []), *actions]


ALONE = Stop(1, closes_outputs=True)


@pytest.mark.parametrize("before", [(Start(),), (Start(), ready), RUNNING])
@pytest.mark.parametrize(
    ("events", "phase", "last"),
    [
        ([ended], Phase.FAILED, [DIED, SettleEnd(True, outputs_closed=True)]),
        ([failed, ended], Phase.FAILED, [SettleEnd(True, outputs_closed=True)]),
        ([finished, ended], Phase.FINISHED, [SettleEnd(True, outputs_closed=True)]),
        ([Stop(1), ended], Phase.STOPPED, [SettleEnd(True)]),
        ([ALONE, ended], Phase.STOPPED, [SettleEnd(True, True)]),
        ([ALONE, Stop(1), ended], Phase.STOPPED, [SettleEnd(True, True)]),
        ([Stop(1), ALONE, ended], Phase.STOPPED, [SettleEnd(True, True)]),
        ([ALONE, Restart(1), ended], Phase.STARTING, [SettleEnd(False), Spawn(2, 2)]),
        ([Stop(1), finished, ended], Phase.STOPPED, [SettleEnd(True)]),
        ([Stop(1), failed, ended], Phase.STOPPED, [SettleEnd(True)]),
        ([failed, Stop(1), ended], Phase.FAILED, [SettleEnd(True, True)]),
        ([finished, Stop(1), ended], Phase.FINISHED, [SettleEnd(True, True)]),
        ([control_lost, ended], Phase.FAILED, [DIED, SettleEnd(True, True)]),
        ([finished, ended_badly], Phase.FAILED, [DIED, SettleEnd(True, True)]),
        ([finished, Stop(1), ended_badly], Phase.FAILED, [DIED, SettleEnd(True, True)]),
        ([Stop(1), finished, ended_badly], Phase.STOPPED, [SettleEnd(True)]),
        ([failed, ended_badly], Phase.FAILED, [SettleEnd(True, True)]),
        ([control_lost, Stop(1), ended], Phase.STOPPED, [SettleEnd(True)]),
        ([Restart(1), ended], Phase.STARTING, [SettleEnd(False), Spawn(2, 2)]),
        ([Restart(1), Stop(1), ended], Phase.STOPPED, [SettleEnd(True)]),
        ([Stop(1), Restart(1), ended], Phase.STARTING, [SettleEnd(False), Spawn(2, 2)]),
        ([failed, Restart(1), ended], Phase.STARTING, [SettleEnd(False), Spawn(2, 2)]),
    ],
)
def test_how_an_end_is_understood(
    before: tuple[Step, ...], events: list[Step], phase: Phase, last: list[Action | str]
) -> None:
    life, actions = after_with_death(*before, *events)
    assert life.phase is phase
    assert actions == last


AGAIN = ended_and_restarts
PAUSE = [SettleEnd(False), ArmDeadline(0.5)]


@pytest.mark.parametrize(
    ("events", "phase", "last"),
    [
        ([AGAIN], Phase.BACKING_OFF, [DIED, *PAUSE]),
        ([failed, AGAIN], Phase.BACKING_OFF, PAUSE),
        ([finished, AGAIN], Phase.BACKING_OFF, PAUSE),
        ([control_lost, passed, AGAIN], Phase.BACKING_OFF, [DIED, *PAUSE]),
        ([AGAIN, passed], Phase.STARTING, [Spawn(2, 2)]),
        ([AGAIN, Restart(1)], Phase.STARTING, [Spawn(2, 2)]),
        ([AGAIN, Stop(1)], Phase.STOPPED, [SettleEnd(True)]),
        ([AGAIN, ALONE], Phase.STOPPED, [SettleEnd(True, True)]),
        ([ALONE, AGAIN], Phase.STOPPED, [SettleEnd(True, True)]),
        ([AGAIN, Start()], Phase.BACKING_OFF, []),
        ([AGAIN, ready], Phase.BACKING_OFF, []),
        ([Stop(1), AGAIN], Phase.STOPPED, [SettleEnd(True)]),
        ([failed, Stop(1), AGAIN], Phase.FAILED, [SettleEnd(True, True)]),
        ([Restart(1), AGAIN], Phase.STARTING, [SettleEnd(False), Spawn(2, 2)]),
    ],
)
def test_a_restart_policy_lets_another_generation_follow(
    events: list[Step], phase: Phase, last: list[Action | str]
) -> None:
    """Not where a stop was asked for; and what is asked for while it pauses is done at once."""
    life, actions = after_with_death(*RUNNING, *events)
    assert life.phase is phase
    assert actions == last


@pytest.mark.parametrize(
    ("before", "said"),
    [((Start(),), failed), (RUNNING, failed_and_restarts), (RUNNING, control_lost)],
)
def test_a_process_that_others_wait_for_is_killed_if_it_does_not_exit(
    before: tuple[Step, ...], said: Step
) -> None:
    """A thread that its operator left behind would hold it for ever."""
    life, actions = after(*before, said)
    assert actions == [ArmDeadline(EXIT_GRACE_SECS)]
    assert after(passed, life=life)[1] == [Kill()]


@pytest.mark.parametrize("said", [failed, finished])
def test_a_process_that_ends_by_itself_is_told_of_and_bounded_by_a_stop_alone(said: Step) -> None:
    """Its exit handlers may park a robot."""
    life, actions = after(*RUNNING, said)
    assert actions == [ArmDeadline(EXIT_GRACE_SECS)]
    life, actions = after(passed, life=life)
    assert (life.phase, actions) == (Phase.ENDING, [ReportSlowExit()])
    life, actions = after(Stop(GRACE_SECS), life=life)
    assert actions == [AskToStop(), ArmDeadline(GRACE_SECS)]
    assert after(passed, life=life)[1] == [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    assert after(passed, passed, life=life)[1] == [Kill()]


@pytest.mark.parametrize("said", [failed, finished, control_lost])
def test_what_a_process_says_while_it_is_stopped_gives_it_no_more_time(said: Step) -> None:
    assert after(*RUNNING, Stop(GRACE_SECS), said)[1] == []


def test_only_one_that_ended_by_itself_or_was_stopped_alone_closes_its_readers_inputs() -> None:
    for event, closed in ((finished, True), (failed, True), (Stop(1), False), (ALONE, True)):
        assert after(*RUNNING, event, ended)[1] == [SettleEnd(True, outputs_closed=closed)]


@pytest.mark.parametrize("phase", sorted(NO_PROCESS, key=str))
def test_without_a_process_only_a_start_or_a_restart_means_something(phase: Phase) -> None:
    life = Life(phase=phase, generation=3, process=5, started=6)
    for event in EVENTS:
        following, actions = step(life, event_for(life, event))
        if isinstance(event, Start | Restart):
            assert actions == [Spawn(4, 7)]
        else:
            assert (following, actions) == (life, [])


def renumbered(life: Life) -> Life:
    """The same life for all numbers that it may have come to by another way."""
    return replace(
        life,
        generation=1,
        process=min(life.process, 1),
        successor=2 * min(life.successor, 1),
        started=2,
        deadline=1,
        newest_edit=min(life.newest_edit, 1),
        # What `step` only keeps.
        applied=None,
        error=None,
        failed_starts=None,
        pending=None
        if life.pending is None
        else replace(life.pending, error=None, notes=(), reason="", state_carried=False),
    )


@functools.cache
def reachable_lives() -> tuple[Life, ...]:
    """Every life that any sequence of events leads to; numbers are not told apart."""
    seen: set[Life] = set()
    todo = deque([Life(), renumbered(Life())])
    while todo:
        life = todo.popleft()
        if life in seen:
            continue
        seen.add(life)
        for event in EVENTS + OF_AN_EDIT:
            following, _ = step(life, event_for(life, event))
            if following is not life:
                todo.append(renumbered(following))
    return tuple(sorted(seen, key=str))


def test_from_anywhere_a_stop_ends_in_at_most_a_kill() -> None:
    """Three deadlines at the most, whatever the process does, and nothing comes after it."""
    assert len(reachable_lives()) > 100
    for begin in reachable_lives():
        life, _ = step(begin, Stop(GRACE_SECS))
        for _ in range(3):
            if life.phase in NO_PROCESS or life.stop_step is StopStep.KILLED:
                break
            life, _ = after(passed, life=life)
        if life.phase not in NO_PROCESS:
            assert life.stop_step is StopStep.KILLED, begin
            life, _ = after(ended, life=life)
        assert life.phase in NO_PROCESS, begin
        assert not life.restarts, begin


# -- late events ---------------------------------------------------------------------------------


def events_of(process: int, edit: int) -> list[Event]:
    """All that one process may say or do, as an answer to that edit."""
    return [
        ChildReady(process),
        ChildFailed(process),
        ChildFinished(process),
        ControlLost(process),
        ProcessEnded(process),
        ProcessEnded(process, restart_after_secs=0.5),
        ChildReloaded(process, edit),
        ChildKept(process, edit, replace=True),
        ChildKept(process, edit, replace=False),
        ChildPaused(process, edit, has_state=True),
        ChildPaused(process, edit, has_state=False),
        HandedOver(process),
        StateTaken(process),
    ]


def test_no_life_changes_by_what_is_over() -> None:
    """From anywhere: another process, an earlier edit, an earlier deadline."""
    others = 99
    for life in reachable_lives():
        over = [*events_of(others, life.edit), DeadlinePassed(life.deadline - 1), Abandon(others)]
        over += [
            ChildKept(life.process, others, replace=True),
            ChildKept(life.process, others, replace=False),
            ChildPaused(life.process, others, has_state=True),
            ChildPaused(life.process, others, has_state=False),
        ]
        for event in over:
            assert step(life, event) == (life, []), (life, event)


OF_THREE_PROCESSES = st.integers(1, 3).flatmap(
    lambda process: st.sampled_from(events_of(process, EDIT))
)
ASKED: list[Event] = [
    Start(),
    Open(),
    Stop(GRACE_SECS),
    Restart(GRACE_SECS),
    Restart(GRACE_SECS, is_declared_anew=True),
    Restart(GRACE_SECS, REQUEST),
    Replace(REQUEST, GRACE_SECS),
    Reload(REQUEST, GRACE_SECS),
    Abandon(EDIT),
]
HAND_OVER: list[Event] = [
    Start(),
    ChildReady(1),
    Open(),
    Replace(REQUEST, GRACE_SECS),
    ChildReady(2),
    ChildPaused(1, EDIT, has_state=False),
    HandedOver(1),
]
ANY_INTERLEAVING = st.lists(st.one_of(OF_THREE_PROCESSES, st.sampled_from(ASKED)), max_size=40)


@given(st.integers(0, len(HAND_OVER)), ANY_INTERLEAVING)
def test_a_process_that_was_replaced_changes_nothing_for_the_one_that_replaced_it(
    begun: int, events: list[Event]
) -> None:
    """Two and three processes, whose events come in any order: those that are over might as well not come."""
    life = without_late_ones = Life()
    actions: list[Action] = []
    expected: list[Action] = []
    for event in [*HAND_OVER[:begun], *events]:
        there = (life.process, life.successor)
        is_late = isinstance(event, ProcessEvent) and event.process not in there
        life, more = step(life, event)
        actions += more
        if not is_late:
            without_late_ones, more = step(without_late_ones, event)
            expected += more
        assert life.process not in (0, life.successor) or life.generation == 0
        assert max(life.process, life.successor) <= life.started
    assert (life, actions) == (without_late_ones, expected)


def test_a_hand_over_is_not_undone_by_what_the_old_process_says_last() -> None:
    """HandedOver, Finished, the end of its control socket and its exit may all come in one batch."""
    life, _ = after(*HAND_OVER[:-1])
    following, actions = step(life, HandedOver(1))
    assert TakeOver(NEW) in actions
    assert (following.phase, following.process, following.generation) == (Phase.RUNNING, 2, 2)
    assert after(ChildFinished(1), ControlLost(1), ProcessEnded(1), life=following) == (
        following,
        [],
    )


def test_a_deadline_that_passed_while_the_old_one_handed_over_is_over() -> None:
    parting, armed = after(*HAND_OVER[:-1])
    assert ArmDeadline(GRACE_SECS) in armed
    following, _ = step(parting, HandedOver(1))
    assert step(following, DeadlinePassed(parting.deadline)) == (following, [])


def test_an_answer_to_an_edit_that_was_dropped_does_not_answer_the_next_one() -> None:
    """A process that was busy all the time comes to both requests in turn."""
    dropped, actions = after(*RUNNING, Reload(REQUEST, GRACE_SECS), passed, next_failed)
    assert CancelReload(1) in actions
    again, _ = step(dropped, Reload(NEWER, GRACE_SECS))
    assert step(again, ChildKept(again.process, 1, replace=False)) == (again, [])
    late, actions = step(again, ChildReloaded(again.process, 1))
    assert actions == [ReportLateReload()]
    assert late == replace(again, generation=2)
    assert step(late, ChildReloaded(late.process, 2))[1] == [FinishReload(NEWER), Disarm()]

    dropped, _ = after(*RUNNING, Replace(REQUEST, GRACE_SECS), next_ready, next_failed)
    again, _ = after(Replace(NEWER, GRACE_SECS), next_ready, life=dropped)
    assert step(again, ChildPaused(again.process, 1, has_state=True)) == (again, [])


def test_source_that_was_taken_while_another_process_was_ready_to_follow_is_kept() -> None:
    """The old one took it before it came to the pause: nothing is lost, and no successor is needed."""
    life, _ = after(*RUNNING, Reload(REQUEST, GRACE_SECS), passed, next_ready)
    assert life.next is Next.PAUSING
    life, actions = after(reloaded, life=life)
    assert actions == [FinishReload(REQUEST), Discard(), Resume(), Disarm(), Disarm()]
    assert (life.phase, life.generation, life.next) == (Phase.RUNNING, 2, Next.NONE)


ANY_EVENTS = st.lists(
    # The beginning of a hand-over, so that what comes after is not left to chance alone.
    st.sampled_from((*EVENTS, *OF_AN_EDIT, Open(), Replace(REQUEST, GRACE_SECS), next_ready)),
    max_size=60,
)


@given(st.booleans(), ANY_EVENTS)
def test_one_operator_and_one_to_follow_and_none_without_a_way_out(
    running: bool, events: list[Step]
) -> None:
    life = Life()
    current, prepared, told_to_retire, armed = False, False, False, False
    is_cancelled = False
    for chosen in [*(RUNNING if running else ()), *events]:
        event = event_for(life, chosen)
        is_end = isinstance(event, ProcessEnded)
        if isinstance(event, ProcessEvent):
            is_next = event.process == life.successor
            if not (prepared if is_next else current):
                continue  # No process, nothing that it says.
            if is_end and not is_next:
                current = False
        if isinstance(event, HandedOver) and not told_to_retire:
            continue
        if isinstance(event, DeadlinePassed):
            if not armed:
                continue
            armed = False
        before = life
        life, actions = step(life, event)
        for action in actions:
            match action:
                case Spawn(generation, process):
                    assert not current
                    assert generation == before.generation + 1
                    assert process == life.process > before.started
                    current = True
                case Prepare(generation, process):
                    assert not prepared
                    assert generation == before.generation + 1
                    assert process == life.successor > before.started
                    prepared = True
                case Discard():
                    assert prepared
                    prepared = False
                case AskToRetire():
                    told_to_retire = True
                case Resume():
                    assert current
                    assert not told_to_retire
                case TakeOver():
                    assert prepared
                    current, prepared, told_to_retire = True, False, False
                case ArmDeadline():
                    armed = True
                case SettleEnd() | Disarm():
                    armed = False
        if is_end and not current:
            told_to_retire = False
        assert prepared == (life.next is not Next.NONE) == (life.successor != 0)
        assert current == (life.phase in HAS_PROCESS)
        # An end that was asked for comes, if only by the next deadline. Only one that the process has
        # announced may take any time.
        is_bounded = armed or life.stop_step is StopStep.KILLED
        is_asked_for = life.stop_step is not StopStep.NONE or not life.exits_freely
        assert life.phase is not Phase.ENDING or is_bounded or not is_asked_for
        assert life.phase is not Phase.BACKING_OFF or armed
        waits_for_the_old = life.next in (Next.PAUSING, Next.RESTORING, Next.RETIRING)
        # An old process that exits by itself is waited for as any that does.
        exits_by_itself = life.phase is Phase.ENDING and not is_asked_for
        assert not waits_for_the_old or is_bounded or exits_by_itself
        assert not life.reloading or armed or life.next is not Next.NONE
        assert before.generation <= life.generation
        # An edit is in progress, or it has an outcome, or a newer declaration has cancelled it; what is
        # prepared or sent belongs to one.
        if isinstance(event, Restart) and event.is_declared_anew:
            is_cancelled = True
        elif life.pending is not None:
            is_cancelled = False
        has_edit = life.newest_edit > 0 and not is_cancelled
        assert has_edit == (life.pending is not None or life.applied is not None)
        assert life.pending is None or life.applied is None
        assert life.pending is not None or not (life.reloading or life.next is not Next.NONE)
        assert life.pending is None or life.phase in HAS_PROCESS
        if life.phase in NO_PROCESS:
            assert (life.stop_step, life.outcome, life.restarts) == (StopStep.NONE, None, False)


# -- an edit ------------------------------------------------------------------------------------------

READY_TO_PAUSE = (*RUNNING, Replace(REQUEST, GRACE_SECS), next_ready)


def test_a_hand_over_step_by_step() -> None:
    life, actions = after(*RUNNING, Replace(REQUEST, GRACE_SECS))
    assert actions == [Disarm(), Prepare(2, 2, NEW)]
    life, actions = after(next_ready, life=life)
    assert actions == [AskToPause(EDIT), ArmDeadline(GRACE_SECS)]
    assert (life.phase, life.generation) == (Phase.RUNNING, 1)
    with_state, actions = after(paused_with_state, life=life)
    assert actions == [GiveState(), ArmDeadline(GRACE_SECS)]
    assert after(state_taken, life=with_state)[1] == [AskToRetire(), ArmDeadline(GRACE_SECS)]
    life, actions = after(paused, life=life)
    assert actions == [AskToRetire(), ArmDeadline(GRACE_SECS)]
    life, actions = after(handed_over, life=life)
    assert actions == [Disarm(), TakeOver(NEW), SendGo()]
    assert (life.phase, life.generation, life.was_ready) == (Phase.RUNNING, 2, True)
    assert (life.process, life.successor, life.next) == (2, 0, Next.NONE)


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([Replace(REQUEST, 2), next_failed], [Discard()]),
        ([Replace(REQUEST, 2), abandon], [Discard()]),
        ([Replace(REQUEST, 2), next_ready, next_failed], [Discard(), Resume(), Disarm()]),
        ([Replace(REQUEST, 2), next_ready, abandon], [Discard(), Resume(), Disarm()]),
        (
            [Replace(REQUEST, 2), next_ready, paused_with_state, passed],
            [Discard(), Resume(), Disarm()],
        ),
        ([Reload(REQUEST, 2), kept], [Disarm()]),
    ],
)
def test_the_old_one_goes_on_whatever_becomes_of_the_new_one(
    events: list[Step], last: list[Action]
) -> None:
    life, actions = after(*RUNNING, *events)
    assert actions == last
    assert (life.phase, life.generation, life.next) == (Phase.RUNNING, 1, Next.NONE)
    assert life.stop_step is StopStep.NONE


@pytest.mark.parametrize("step_before", [(), (next_ready,), (next_ready, paused)])
def test_the_new_one_takes_over_where_the_old_one_ends(step_before: tuple[Step, ...]) -> None:
    life, actions = after(*RUNNING, Replace(REQUEST, 2), *step_before, failed, ended)
    assert SettleEnd(for_good=False) in actions
    assert TakeOver(NEW) in actions
    assert (SendGo() in actions) == bool(step_before)
    assert (life.phase, life.generation) == (
        Phase.RUNNING if step_before else Phase.STARTING,
        2,
    )


def test_a_new_one_that_dies_when_the_old_one_has_parted_is_started_once_more() -> None:
    life, actions = after(*READY_TO_PAUSE, paused, next_failed)
    assert actions == [Discard()]
    life, actions = after(ended, life=life)
    assert actions == [SettleEnd(for_good=False), Spawn(2, 3, NEW)]


def test_an_old_one_that_is_stuck_is_terminated_and_killed() -> None:
    life, actions = after(*READY_TO_PAUSE, passed)
    assert actions == [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    life, actions = after(passed, life=life)
    assert actions == [Kill()]
    assert TakeOver(NEW) in after(ended, life=life)[1]


def test_new_source_in_the_living_process() -> None:
    life, actions = after(*RUNNING, Reload(REQUEST, GRACE_SECS))
    assert actions == [SendReload(REQUEST), ArmDeadline(GRACE_SECS)]
    taken, actions = after(reloaded, life=life)
    assert actions == [FinishReload(REQUEST), Disarm()]
    assert (taken.phase, taken.generation) == (Phase.RUNNING, 2)
    for needs_a_process in (kept_for_another, passed):
        assert after(needs_a_process, life=life)[1] == [Disarm(), Prepare(2, 2, NEW)]
    # Late, but done: what was prepared in its place is not needed.
    assert after(passed, reloaded, life=life)[1] == [
        FinishReload(REQUEST),
        Discard(),
        Disarm(),
    ]


def test_an_exclusive_one_that_fails_is_what_it_was_again() -> None:
    life, actions = after(*RUNNING, Restart(GRACE_SECS, REQUEST), ended)
    assert actions == [SettleEnd(for_good=False), Spawn(2, 2, NEW)]
    fell_back, actions = after(failed, ended, life=life)
    assert actions == [SettleEnd(for_good=False), FallBack(OLD), Spawn(3, 3)]
    # But once, and not after it was ready.
    assert after(failed, ended, life=fell_back)[0].phase is Phase.FAILED
    assert after(ready, failed, ended, life=life)[0].phase is Phase.FAILED


@pytest.mark.parametrize("request_of", [Reload(REQUEST, 2), Restart(2, REQUEST)])
def test_a_newer_declaration_cancels_the_edit_in_progress(request_of: Step) -> None:
    """A plain restart starts what that edit would have started."""
    for restart, spec in ((Restart(2), NEW), (Restart(2, is_declared_anew=True), None)):
        life, actions = after(*RUNNING, request_of, restart, ended)
        assert actions == [SettleEnd(for_good=False), Spawn(life.generation, life.process, spec)]
        assert (life.pending is None) == restart.is_declared_anew
        assert life.applied is None


@pytest.mark.parametrize("edit", [Replace(REQUEST, 2), Reload(REQUEST, 2)])
def test_where_nothing_moves_an_edit_is_a_restart(edit: Step) -> None:
    assert after(edit)[1] == [Spawn(1, 1, NEW)]
    assert after(Start(), ready, edit)[1] == [AskToStop(), ArmDeadline(2)]


def test_it_is_known_whether_a_generation_was_ready_before_it_failed() -> None:
    """Who waited for it is told of a failure at the start, and not of one at a first event."""
    life, _ = after(Start(), failed, ended)
    assert (life.phase, life.was_ready) == (Phase.FAILED, False)
    life, _ = after(Start(), ready, Open(), failed, ended, life=life)
    assert (life.phase, life.was_ready) == (Phase.FAILED, True)
    life, _ = after(Restart(GRACE_SECS), life=life)
    assert (life.phase, life.was_ready) == (Phase.STARTING, False)


# -- the edit in progress, and its outcome -------------------------------------------------------------


def outcome(life: Life) -> str | None:
    return None if life.applied is None else life.applied.outcome


def test_an_edit_is_pending_until_its_process_is_the_operator() -> None:
    life, _ = after(*RUNNING, Replace(REQUEST, GRACE_SECS))
    assert life.pending is not None
    assert (life.pending.request, life.applied) == (REQUEST, None)
    life, _ = after(next_ready, paused, handed_over, life=life)
    assert life.pending is None
    assert life.applied == Applied("restarted", "its reason", "lost")
    with_state = (*RUNNING, Replace(REQUEST, GRACE_SECS), next_ready, paused_with_state)
    life, _ = after(*with_state, state_taken, handed_over)
    assert life.applied == Applied("restarted", "its reason", "carried")
    life, _ = after(*with_state, lambda life: StateTaken(life.successor, False), handed_over)
    assert life.applied == Applied("restarted", "its reason", "lost")


def test_a_newer_edit_replaces_one_that_is_being_prepared() -> None:
    """What was prepared for the first is dropped, and the second one's source is what is started."""
    life, actions = after(*RUNNING, Replace(REQUEST, 2), Replace(NEWER, 2))
    assert actions == [Discard(), AskToStop(), ArmDeadline(2)]
    assert life.pending is not None
    assert (life.pending.request, life.newest_edit, life.applied) == (NEWER, 2, None)
    life, actions = after(ended, life=life)
    assert actions == [SettleEnd(for_good=False), Spawn(2, 3, NEWER.spec)]
    assert outcome(after(ready, Open(), life=life)[0]) == "restarted"


def test_a_newer_edit_replaces_one_that_the_process_has_not_taken_yet() -> None:
    life, _ = after(*RUNNING, Reload(REQUEST, 2), Reload(NEWER, 2))
    # Its answer to the first no longer counts.
    assert step(life, ChildKept(life.process, EDIT, replace=False)) == (life, [])
    life, actions = step(life, ChildReloaded(life.process, 2))
    assert actions == [FinishReload(NEWER), Disarm()]
    assert outcome(life) == "in_place"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), "dropped"),
        ((next_ready,), "dropped"),
        ((next_ready, paused_with_state), "dropped"),
        # The old process cannot continue: nothing runs at the end.
        ((next_ready, paused), "failed"),
    ],
)
def test_a_stop_drops_the_edit_in_progress(events: tuple[Step, ...], expected: str) -> None:
    life, _ = after(*RUNNING, Replace(REQUEST, 2), *events, Stop(GRACE_SECS))
    assert outcome(life) == (None if expected == "failed" else expected)
    life, _ = after(ended, life=life)
    assert (life.phase, outcome(life), life.pending) == (Phase.STOPPED, expected, None)


def test_a_stop_while_the_process_should_take_new_source_ends_the_edit() -> None:
    life, _ = after(*RUNNING, Reload(REQUEST, 2), Stop(GRACE_SECS))
    assert (life.edit, life.applied) == (EDIT, None)
    refused = after(lambda life: ChildKept(1, EDIT, False, error=FAILURE), life=life)[0]
    assert refused.applied == Applied("kept", "its reason", "kept", FAILURE)
    assert after(ended, life=life)[0].applied == Applied("failed", "its reason")


@pytest.mark.parametrize(
    "request_of", [Replace(REQUEST, 2), Reload(REQUEST, 2), Restart(2, REQUEST)]
)
def test_an_edit_while_the_restart_policy_waits_starts_at_once(request_of: Event) -> None:
    backing_off, _ = after(*RUNNING, AGAIN)
    life, actions = after(request_of, life=backing_off)
    assert actions == [Spawn(2, 2, NEW)]
    assert (life.edit, life.applied) == (EDIT, None)
    assert outcome(after(ready, Open(), life=life)[0]) == "restarted"
    # The process with the new source fails too: the edit has failed, though another generation follows.
    life, _ = after(failed, AGAIN, life=life)
    assert (life.phase, life.applied) == (
        Phase.BACKING_OFF,
        Applied("failed", "its reason", "lost", FAILURE),
    )
    assert after(passed, life=life)[1] == [Spawn(3, 3)]


def test_an_operator_that_dies_while_it_should_take_new_source_has_a_failed_edit() -> None:
    for end in (ended, AGAIN):
        life, _ = after(*RUNNING, Reload(REQUEST, 2), end)
        assert life.applied == Applied("failed", "its reason", "lost", DEATH)


def test_an_edit_during_a_hand_over_starts_the_newest_source_once() -> None:
    for events in ((next_ready,), (next_ready, paused_with_state), (next_ready, paused)):
        life, _ = after(*RUNNING, Replace(REQUEST, 2), *events, Reload(NEWER, 2))
        assert (life.successor, life.edit, life.applied) == (0, 2, None)
        assert after(ended, life=life)[1] == [SettleEnd(False), Spawn(2, 3, NEWER.spec)]


def test_the_end_of_the_prepared_process_says_why_the_old_one_is_kept() -> None:
    prepared = (*RUNNING, Replace(REQUEST, 2))
    life, _ = after(*prepared, next_failed)
    assert life.applied == Applied("kept", "its reason", "kept", FAILURE)
    life, _ = after(*prepared, next_ended)
    assert life.applied == Applied("kept", "its reason", "kept", DEATH)
    life, _ = after(*prepared, next_ready, paused_with_state, passed)
    assert life.applied is not None
    assert (life.applied.outcome, str(life.applied.error)) == (
        "kept",
        "camera: set_state did not return in time.",
    )
    assert outcome(after(*prepared, abandon)[0]) == "dropped"


def test_an_exclusive_one_that_fails_is_kept_out_with_its_error() -> None:
    """A crash in `__init__`: what ran before runs again, and the edit says why the new one does not."""
    asked = (*RUNNING, Restart(GRACE_SECS, REQUEST), ended)
    life, actions = after(*asked)
    assert actions == [SettleEnd(for_good=False), Spawn(2, 2, NEW)]
    for end, error in (((failed, ended), FAILURE), ((ended,), DEATH)):
        fell_back, actions = after(*end, life=life)
        assert actions == [SettleEnd(for_good=False), FallBack(OLD), Spawn(3, 3)]
        assert (fell_back.error, fell_back.applied) == (None, None)
        again, _ = after(ready, Open(), life=fell_back)
        assert again.applied == Applied("kept", "its reason", "lost", error)
        # The previous source fails too.
        failed_too, _ = after(ended, life=fell_back)
        assert failed_too.applied == Applied("failed", "its reason", "lost", error)
    # A stop meanwhile: nothing is started.
    stopped, _ = after(Stop(GRACE_SECS), ended, life=life)
    assert (stopped.phase, outcome(stopped)) == (Phase.STOPPED, "failed")


def test_an_edit_waits_for_an_old_process_that_takes_its_time_to_exit_and_a_stop_ends_the_wait() -> (
    None
):
    life, _ = after(*RUNNING, Replace(REQUEST, 2), finished, passed)
    assert life.exits_slowly
    life, actions = after(next_ready, life=life)
    assert (life.next, actions) == (Next.RETIRING, [])
    stopping, actions = after(Stop(GRACE_SECS), life=life)
    assert actions == [Discard(), AskToStop(), ArmDeadline(GRACE_SECS)]
    assert outcome(after(ended, life=stopping)[0]) == "failed"
    assert outcome(after(ended, life=life)[0]) == "restarted"


NOTE = "the old generation ended during the hand-over"


def test_what_became_of_the_old_process_is_noted_with_the_edit() -> None:
    died = after(*READY_TO_PAUSE, ended)[0]
    failed_first = after(*READY_TO_PAUSE, failed, ended)[0]
    killed = after(*READY_TO_PAUSE, passed, passed, ended)[0]
    odd_state = after(
        *READY_TO_PAUSE, lambda life: ChildPaused(1, EDIT, True, "its state is odd"), ended
    )[0]
    notes = [() if each.applied is None else each.applied.notes for each in (died, failed_first)]
    assert notes == [
        (NOTE,),
        (f"the old generation failed while it stopped ({FAILURE.message})",),
    ]
    assert killed.applied is not None
    assert killed.applied.notes == ("the old generation did not exit in time and was killed",)
    assert odd_state.applied is not None
    assert odd_state.applied.notes == ("its state is odd",)


def test_source_that_the_process_takes_ends_the_edit_in_place() -> None:
    life, _ = after(*RUNNING, Reload(REQUEST, 2), reloaded)
    assert life.applied == Applied("in_place", "its reason", "kept")
    refused = ChildKept(1, EDIT, replace=True, reason="it cannot")
    life, _ = after(*RUNNING, Reload(REQUEST, 2), refused, next_ready, paused, handed_over)
    assert life.applied == Applied("restarted", "it cannot", "lost")
    # A busy process answers after another one was prepared: that is not wanted any more.
    life, _ = after(*RUNNING, Reload(REQUEST, 2), passed, reloaded)
    assert life.applied == Applied("in_place", "its reason", "kept")


def test_an_internal_error_ends_the_edit_and_late_events_stay_late() -> None:
    life, _ = after(*RUNNING, Replace(REQUEST, 2))
    broken = failed_internally(life, FAILURE, REQUEST)
    assert (broken.phase, broken.error) == (Phase.FAILED, FAILURE)
    assert broken.applied == Applied("failed", "its reason", "lost", FAILURE)
    # Requested, and not begun when the error came.
    broken = failed_internally(after(*RUNNING)[0], FAILURE, REQUEST)
    assert (outcome(broken), broken.newest_edit) == ("failed", EDIT)
    again, actions = step(broken, Start())
    assert actions == [Spawn(2, 2)]
    assert step(again, ProcessEnded(1)) == (again, [])


# -- what the restart policy has counted --------------------------------------------------------------


def ended_and_counts(life: Life) -> Event:
    counted = Restarts(life.policy_restarts.count + 1, 7.0)
    return ProcessEnded(life.process, 0.5, death=DEATH, policy_restarts=counted)


def test_a_start_that_was_asked_for_lets_the_policy_count_anew() -> None:
    life, _ = after(*RUNNING, ended_and_counts, passed, ended_and_counts)
    assert life.policy_restarts == Restarts(2, 7.0)
    for asked in (Start(), Restart(GRACE_SECS)):
        assert after(asked, life=life)[0].policy_restarts == Restarts()
    # An edit in place or beside is no start.
    assert after(Replace(REQUEST, 2), life=life)[0].policy_restarts == Restarts(2, 7.0)


def test_failures_before_it_was_ready_are_counted_until_it_is() -> None:
    life, _ = after(Start(), failed, ended_and_counts)
    assert life.failed_starts == FailedStarts(1, FAILURE)
    life, _ = after(passed, ended_and_counts, life=life)
    assert life.failed_starts == FailedStarts(2, DEATH)
    assert after(passed, ready, Open(), ended_and_counts, life=life)[0].failed_starts is None


def test_an_error_belongs_to_its_generation() -> None:
    life, _ = after(*RUNNING, failed)
    assert life.error is FAILURE
    assert after(ended, life=life)[0].error is FAILURE
    assert after(ended, Start(), life=life)[0].error is None
    life, _ = after(*RUNNING, lambda life: ChildFinished(1, inputs_closed=True), ended)
    assert (life.phase, life.inputs_closed) == (Phase.FINISHED, True)
    assert not after(Start(), life=life)[0].inputs_closed


def test_it_is_known_that_a_process_exits_slowly_until_it_is_gone() -> None:
    life, _ = after(*RUNNING, finished, passed)
    assert life.exits_slowly
    assert not after(ended, life=life)[0].exits_slowly


def test_it_is_known_whether_the_operator_sent_the_kill_itself() -> None:
    life, _ = after(*RUNNING, control_lost)
    assert not life.was_killed
    life, _ = after(passed, life=life)
    assert life.was_killed
    assert not after(AGAIN, passed, life=life)[0].was_killed


def test_the_event_of_a_crash_report_is_retried_by_one_process_only() -> None:
    life, actions = after(*RUNNING, failed, ended, Restart(1, retries_event=True))
    assert actions == [Spawn(2, 2, retries_event=True)]
    assert after(failed, ended, Start(), life=life)[1] == [Spawn(3, 3)]
    # A plain start anew takes the request back.
    life, _ = after(*RUNNING, Restart(1, retries_event=True), Restart(1))
    assert after(ended, life=life)[1][-1] == Spawn(2, 2)
