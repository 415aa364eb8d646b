"""The life of an operator, decided without a process: every sequence of events ends well."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ReportDeath,
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
    step,
)

GRACE_SECS = 2.0
EDIT = 1
Step = Event | Callable[[Life], Event]
"""An event, or the event that this life would take for its own."""


def ready(life: Life) -> Event:
    return ChildReady(life.process)


def failed(life: Life) -> Event:
    return ChildFailed(life.process)


def failed_and_restarts(life: Life) -> Event:
    return ChildFailed(life.process, restarts=True)


def finished(life: Life) -> Event:
    return ChildFinished(life.process)


def control_lost(life: Life) -> Event:
    return ControlLost(life.process)


def ended(life: Life) -> Event:
    return ProcessEnded(life.process)


def ended_badly(life: Life) -> Event:
    return ProcessEnded(life.process, badly=True)


def ended_and_restarts(life: Life) -> Event:
    return ProcessEnded(life.process, restart_after_secs=0.5)


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
    return ChildFailed(life.successor)


def next_ended(life: Life) -> Event:
    return ProcessEnded(life.successor)


def abandon(life: Life) -> Event:
    return Abandon(life.edit)


EVENTS: tuple[Step, ...] = (
    Start(),
    Restart(GRACE_SECS),
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
    Restart(GRACE_SECS, falls_back=True),
    Replace(EDIT, GRACE_SECS),
    Reload(EDIT, GRACE_SECS),
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


ALONE = Stop(1, closes_outputs=True)


@pytest.mark.parametrize("before", [(Start(),), (Start(), ready), RUNNING])
@pytest.mark.parametrize(
    ("events", "phase", "last"),
    [
        ([ended], Phase.FAILED, [ReportDeath(), SettleEnd(True, outputs_closed=True)]),
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
        ([control_lost, ended], Phase.FAILED, [ReportDeath(), SettleEnd(True, True)]),
        ([finished, ended_badly], Phase.FAILED, [ReportDeath(), SettleEnd(True, True)]),
        ([finished, Stop(1), ended_badly], Phase.FAILED, [ReportDeath(), SettleEnd(True, True)]),
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
    before: tuple[Step, ...], events: list[Step], phase: Phase, last: list[Action]
) -> None:
    life, actions = after(*before, *events)
    assert life.phase is phase
    assert actions == last


AGAIN = ended_and_restarts
PAUSE = [SettleEnd(False), ArmDeadline(0.5)]


@pytest.mark.parametrize(
    ("events", "phase", "last"),
    [
        ([AGAIN], Phase.BACKING_OFF, [ReportDeath(), *PAUSE]),
        ([failed, AGAIN], Phase.BACKING_OFF, PAUSE),
        ([finished, AGAIN], Phase.BACKING_OFF, PAUSE),
        ([control_lost, passed, AGAIN], Phase.BACKING_OFF, [ReportDeath(), *PAUSE]),
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
    events: list[Step], phase: Phase, last: list[Action]
) -> None:
    """Not where a stop was asked for; and what is asked for while it pauses is done at once."""
    life, actions = after(*RUNNING, *events)
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
        edit=min(life.edit, 1),
    )


def reachable_lives() -> list[Life]:
    """Every life that any sequence of events leads to; numbers are not told apart."""
    seen: set[Life] = set()
    todo = deque([Life()])
    while todo:
        life = todo.popleft()
        if life in seen:
            continue
        seen.add(life)
        for event in EVENTS + OF_AN_EDIT:
            following, _ = step(life, event_for(life, event))
            todo.append(renumbered(following))
    return sorted(seen, key=str)


LIVES = reachable_lives()


def test_from_anywhere_a_stop_ends_in_at_most_a_kill() -> None:
    """Three deadlines at the most, whatever the process does, and nothing comes after it."""
    assert len(LIVES) > 100
    for begin in LIVES:
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
    for life in LIVES:
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
    Restart(GRACE_SECS, falls_back=True),
    Replace(EDIT, GRACE_SECS),
    Reload(EDIT, GRACE_SECS),
    Abandon(EDIT),
]
HAND_OVER: list[Event] = [
    Start(),
    ChildReady(1),
    Open(),
    Replace(EDIT, GRACE_SECS),
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
    assert TakeOver() in actions
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
    dropped, actions = after(*RUNNING, Reload(1, GRACE_SECS), passed, next_failed)
    assert CancelReload(1) in actions
    again, _ = step(dropped, Reload(2, GRACE_SECS))
    assert step(again, ChildKept(again.process, 1, replace=False)) == (again, [])
    late, actions = step(again, ChildReloaded(again.process, 1))
    assert actions == [ReportLateReload()]
    assert late == replace(again, generation=2)
    assert step(late, ChildReloaded(late.process, 2))[1] == [FinishReload(2), Disarm()]

    dropped, _ = after(*RUNNING, Replace(1, GRACE_SECS), next_ready, next_failed)
    again, _ = after(Replace(2, GRACE_SECS), next_ready, life=dropped)
    assert step(again, ChildPaused(again.process, 1, has_state=True)) == (again, [])


def test_source_that_was_taken_while_another_process_was_ready_to_follow_is_kept() -> None:
    """The old one took it before it came to the pause: nothing is lost, and no successor is needed."""
    life, _ = after(*RUNNING, Reload(EDIT, GRACE_SECS), passed, next_ready)
    assert life.next is Next.PAUSING
    life, actions = after(reloaded, life=life)
    assert actions == [FinishReload(EDIT), Discard(), Resume(), Disarm(), Disarm()]
    assert (life.phase, life.generation, life.next) == (Phase.RUNNING, 2, Next.NONE)


ANY_EVENTS = st.lists(
    # The beginning of a hand-over, so that what comes after is not left to chance alone.
    st.sampled_from((*EVENTS, *OF_AN_EDIT, Open(), Replace(EDIT, GRACE_SECS), next_ready)),
    max_size=60,
)


@given(st.booleans(), ANY_EVENTS)
def test_one_operator_and_one_to_follow_and_none_without_a_way_out(
    running: bool, events: list[Step]
) -> None:
    life = Life()
    current, prepared, told_to_retire, armed = False, False, False, False
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
        assert not waits_for_the_old or armed or life.stop_step is StopStep.KILLED
        assert not life.reloading or armed or life.next is not Next.NONE
        assert before.generation <= life.generation
        if life.phase in NO_PROCESS:
            assert (life.stop_step, life.outcome, life.restarts) == (StopStep.NONE, None, False)


# -- an edit ------------------------------------------------------------------------------------------

READY_TO_PAUSE = (*RUNNING, Replace(EDIT, GRACE_SECS), next_ready)


def test_a_hand_over_step_by_step() -> None:
    life, actions = after(*RUNNING, Replace(EDIT, GRACE_SECS))
    assert actions == [Disarm(), Prepare(2, 2)]
    life, actions = after(next_ready, life=life)
    assert actions == [AskToPause(), ArmDeadline(GRACE_SECS)]
    assert (life.phase, life.generation) == (Phase.RUNNING, 1)
    with_state, actions = after(paused_with_state, life=life)
    assert actions == [GiveState(), ArmDeadline(GRACE_SECS)]
    assert after(state_taken, life=with_state)[1] == [AskToRetire(), ArmDeadline(GRACE_SECS)]
    life, actions = after(paused, life=life)
    assert actions == [AskToRetire(), ArmDeadline(GRACE_SECS)]
    life, actions = after(handed_over, life=life)
    assert actions == [Disarm(), TakeOver(), SendGo()]
    assert (life.phase, life.generation, life.was_ready) == (Phase.RUNNING, 2, True)
    assert (life.process, life.successor, life.next) == (2, 0, Next.NONE)


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([Replace(EDIT, 2), next_failed], [Discard()]),
        ([Replace(EDIT, 2), abandon], [Discard()]),
        ([Replace(EDIT, 2), next_ready, next_failed], [Discard(), Resume(), Disarm()]),
        ([Replace(EDIT, 2), next_ready, abandon], [Discard(), Resume(), Disarm()]),
        (
            [Replace(EDIT, 2), next_ready, paused_with_state, passed],
            [Discard(too_slow=True), Resume(), Disarm()],
        ),
        ([Reload(EDIT, 2), kept], [Disarm()]),
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
    life, actions = after(*RUNNING, Replace(EDIT, 2), *step_before, failed, ended)
    assert SettleEnd(for_good=False) in actions
    assert TakeOver() in actions
    assert (SendGo() in actions) == bool(step_before)
    assert (life.phase, life.generation) == (
        Phase.RUNNING if step_before else Phase.STARTING,
        2,
    )


def test_a_new_one_that_dies_when_the_old_one_has_parted_is_started_once_more() -> None:
    life, actions = after(*READY_TO_PAUSE, paused, next_failed)
    assert actions == [Discard()]
    life, actions = after(ended, life=life)
    assert actions == [SettleEnd(for_good=False), Spawn(2, 3)]


def test_an_old_one_that_is_stuck_is_terminated_and_killed() -> None:
    life, actions = after(*READY_TO_PAUSE, passed)
    assert actions == [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    life, actions = after(passed, life=life)
    assert actions == [Kill()]
    assert TakeOver() in after(ended, life=life)[1]


def test_new_source_in_the_living_process() -> None:
    life, actions = after(*RUNNING, Reload(EDIT, GRACE_SECS))
    assert actions == [SendReload(), ArmDeadline(GRACE_SECS)]
    taken, actions = after(reloaded, life=life)
    assert actions == [FinishReload(EDIT), Disarm()]
    assert (taken.phase, taken.generation) == (Phase.RUNNING, 2)
    for needs_a_process in (kept_for_another, passed):
        assert after(needs_a_process, life=life)[1] == [Disarm(), Prepare(2, 2)]
    # Late, but done: what was prepared in its place is not needed.
    assert after(passed, reloaded, life=life)[1] == [
        FinishReload(EDIT),
        Discard(),
        Disarm(),
    ]


def test_an_exclusive_one_that_fails_is_what_it_was_again() -> None:
    life, actions = after(*RUNNING, Restart(GRACE_SECS, falls_back=True), ended)
    assert actions == [SettleEnd(for_good=False), Spawn(2, 2)]
    fell_back, actions = after(failed, ended, life=life)
    assert actions == [SettleEnd(for_good=False), FallBack(), Spawn(3, 3)]
    # But once, and not after it was ready.
    assert after(failed, ended, life=fell_back)[0].phase is Phase.FAILED
    assert after(ready, failed, ended, life=life)[0].phase is Phase.FAILED


@pytest.mark.parametrize("edit", [Replace(EDIT, 2), Reload(EDIT, 2)])
def test_where_nothing_moves_an_edit_is_a_restart(edit: Step) -> None:
    assert after(edit)[1] == [Spawn(1, 1)]
    assert after(Start(), ready, edit)[1] == [AskToStop(), ArmDeadline(2)]


def test_it_is_known_whether_a_generation_was_ready_before_it_failed() -> None:
    """Who waited for it is told of a failure at the start, and not of one at a first event."""
    life, _ = after(Start(), failed, ended)
    assert (life.phase, life.was_ready) == (Phase.FAILED, False)
    life, _ = after(Start(), ready, Open(), failed, ended, life=life)
    assert (life.phase, life.was_ready) == (Phase.FAILED, True)
    life, _ = after(Restart(GRACE_SECS), life=life)
    assert (life.phase, life.was_ready) == (Phase.STARTING, False)
