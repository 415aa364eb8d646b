"""The life of an operator, decided without a process: every sequence of events ends well."""

from __future__ import annotations

from collections import deque
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
    AskToPart,
    AskToPause,
    AskToStop,
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
    GiveState,
    GoOn,
    HandedOver,
    Kill,
    LetGo,
    Life,
    Next,
    NextFailed,
    NextReady,
    Open,
    Phase,
    Prepare,
    ProcessEnded,
    Reload,
    Replace,
    ReportDeath,
    Restart,
    Rung,
    SettleEnd,
    Spawn,
    Start,
    StateTaken,
    Stop,
    TakeOver,
    TakeReload,
    TellReload,
    Terminate,
    step,
)

GRACE_SECS = 2.0
EVENTS: tuple[Event, ...] = (
    Start(),
    Restart(GRACE_SECS),
    Open(),
    Stop(GRACE_SECS),
    ChildReady(),
    ChildFailed(),
    ChildFinished(),
    ControlLost(),
    DeadlinePassed(),
    ProcessEnded(),
    ProcessEnded(restart_after_secs=0.5),
)
OF_AN_EDIT: tuple[Event, ...] = (
    Restart(GRACE_SECS, falls_back=True),
    Replace(GRACE_SECS),
    Reload(GRACE_SECS),
    Abandon(),
    ChildReloaded(),
    ChildKept(replace=True),
    ChildKept(replace=False),
    ChildPaused(has_state=True),
    ChildPaused(has_state=False),
    HandedOver(),
    NextReady(),
    StateTaken(),
    NextFailed(),
)


def after(*events: Event, life: Life | None = None) -> tuple[Life, list[Action]]:
    """The life after these events, and what the last of them made to be done."""
    life = life or Life()
    actions: list[Action] = []
    for event in events:
        life, actions = step(life, event)
    return life, actions


RUNNING = (Start(), ChildReady(), Open())


def test_start_spawns_the_first_generation() -> None:
    life, actions = after(Start())
    assert (life.phase, life.generation) == (Phase.STARTING, 1)
    assert actions == [Spawn(1)]


def test_it_goes_only_when_it_is_ready_and_told() -> None:
    assert after(Start(), Open())[0].phase is Phase.STARTING
    life, actions = after(Start(), ChildReady())
    assert (life.phase, actions) == (Phase.READY, [])
    assert after(Open(), life=life)[1] == [LetGo()]


def test_a_stop_climbs_one_rung_at_each_deadline() -> None:
    life, asked = after(*RUNNING, Stop(GRACE_SECS))
    assert asked == [AskToStop(), ArmDeadline(GRACE_SECS)]
    life, terminated = after(DeadlinePassed(), life=life)
    assert terminated == [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    life, killed = after(DeadlinePassed(), life=life)
    assert killed == [Kill()]
    life, ended = after(ProcessEnded(), life=life)
    assert ended == [SettleEnd(for_good=True)]
    assert life.phase is Phase.STOPPED


@pytest.mark.parametrize("before", [(Start(),), (Start(), ChildReady()), RUNNING])
@pytest.mark.parametrize(
    ("events", "phase", "last"),
    [
        ([ProcessEnded()], Phase.FAILED, [ReportDeath(), SettleEnd(True, outputs_closed=True)]),
        ([ChildFailed(), ProcessEnded()], Phase.FAILED, [SettleEnd(True, outputs_closed=True)]),
        ([ChildFinished(), ProcessEnded()], Phase.FINISHED, [SettleEnd(True, outputs_closed=True)]),
        ([Stop(1), ProcessEnded()], Phase.STOPPED, [SettleEnd(True)]),
        ([Stop(1), ChildFinished(), ProcessEnded()], Phase.STOPPED, [SettleEnd(True)]),
        ([Stop(1), ChildFailed(), ProcessEnded()], Phase.STOPPED, [SettleEnd(True)]),
        ([ChildFailed(), Stop(1), ProcessEnded()], Phase.FAILED, [SettleEnd(True, True)]),
        ([ChildFinished(), Stop(1), ProcessEnded()], Phase.FINISHED, [SettleEnd(True, True)]),
        ([ControlLost(), ProcessEnded()], Phase.FAILED, [ReportDeath(), SettleEnd(True, True)]),
        ([ControlLost(), Stop(1), ProcessEnded()], Phase.STOPPED, [SettleEnd(True)]),
        ([Restart(1), ProcessEnded()], Phase.STARTING, [SettleEnd(False), Spawn(2)]),
        ([Restart(1), Stop(1), ProcessEnded()], Phase.STOPPED, [SettleEnd(True)]),
        ([Stop(1), Restart(1), ProcessEnded()], Phase.STARTING, [SettleEnd(False), Spawn(2)]),
        ([ChildFailed(), Restart(1), ProcessEnded()], Phase.STARTING, [SettleEnd(False), Spawn(2)]),
    ],
)
def test_how_an_end_is_understood(
    before: tuple[Event, ...], events: list[Event], phase: Phase, last: list[Action]
) -> None:
    life, actions = after(*before, *events)
    assert life.phase is phase
    assert actions == last


AGAIN = ProcessEnded(restart_after_secs=0.5)
PAUSE = [SettleEnd(False), ArmDeadline(0.5)]


@pytest.mark.parametrize(
    ("events", "phase", "last"),
    [
        ([AGAIN], Phase.PAUSING, [ReportDeath(), *PAUSE]),
        ([ChildFailed(), AGAIN], Phase.PAUSING, PAUSE),
        ([ChildFinished(), AGAIN], Phase.PAUSING, PAUSE),
        ([ControlLost(), DeadlinePassed(), AGAIN], Phase.PAUSING, [ReportDeath(), *PAUSE]),
        ([AGAIN, DeadlinePassed()], Phase.STARTING, [Spawn(2)]),
        ([AGAIN, Restart(1)], Phase.STARTING, [Spawn(2)]),
        ([AGAIN, Stop(1)], Phase.STOPPED, [SettleEnd(True)]),
        ([AGAIN, Start()], Phase.PAUSING, []),
        ([AGAIN, ChildReady()], Phase.PAUSING, []),
        ([Stop(1), AGAIN], Phase.STOPPED, [SettleEnd(True)]),
        ([ChildFailed(), Stop(1), AGAIN], Phase.FAILED, [SettleEnd(True, True)]),
        ([Restart(1), AGAIN], Phase.STARTING, [SettleEnd(False), Spawn(2)]),
    ],
)
def test_a_restart_policy_lets_another_generation_follow(
    events: list[Event], phase: Phase, last: list[Action]
) -> None:
    """Not where a stop was asked for; and what is asked for while it pauses is done at once."""
    life, actions = after(*RUNNING, *events)
    assert life.phase is phase
    assert actions == last


@pytest.mark.parametrize("said", [ChildFailed(), ChildFinished(), ControlLost()])
def test_a_process_that_said_it_ends_is_killed_if_it_does_not(said: Event) -> None:
    """A thread that its operator left behind would hold it for ever."""
    life, actions = after(*RUNNING, said)
    assert actions == [ArmDeadline(EXIT_GRACE_SECS)]
    assert after(DeadlinePassed(), life=life)[1] == [Kill()]


@pytest.mark.parametrize("said", [ChildFailed(), ChildFinished(), ControlLost()])
def test_what_a_process_says_while_it_is_stopped_gives_it_no_more_time(said: Event) -> None:
    assert after(*RUNNING, Stop(GRACE_SECS), said)[1] == []


def test_only_who_ended_by_itself_closes_its_readers_inputs() -> None:
    for event, closed in ((ChildFinished(), True), (ChildFailed(), True), (Stop(1), False)):
        assert after(*RUNNING, event, ProcessEnded())[1] == [SettleEnd(True, outputs_closed=closed)]


@pytest.mark.parametrize("phase", NO_PROCESS)
def test_without_a_process_only_a_start_or_a_restart_means_something(phase: Phase) -> None:
    life = Life(phase=phase, generation=3)
    for event in EVENTS:
        following, actions = step(life, event)
        if isinstance(event, Start | Restart):
            assert actions == [Spawn(4)]
        else:
            assert (following, actions) == (life, [])


def reachable_lives() -> set[Life]:
    """Every life that any sequence of events leads to; generations are not told apart."""
    seen: set[Life] = set()
    todo = deque([Life()])
    while todo:
        life = todo.popleft()
        if life in seen:
            continue
        seen.add(life)
        for event in EVENTS + OF_AN_EDIT:
            following, _ = step(life, event)
            todo.append(replace(following, generation=1))
    return seen


@pytest.mark.parametrize("life", sorted(reachable_lives(), key=str), ids=str)
def test_from_anywhere_a_stop_ends_in_at_most_a_kill(life: Life) -> None:
    """Three deadlines at the most, whatever the process does, and nothing comes after it."""
    life, _ = step(life, Stop(GRACE_SECS))
    for _ in range(3):
        if life.phase in NO_PROCESS or life.rung is Rung.KILLED:
            break
        life, _ = step(life, DeadlinePassed())
    if life.phase not in NO_PROCESS:
        assert life.rung is Rung.KILLED
        life, _ = step(life, ProcessEnded())
    assert life.phase in NO_PROCESS
    assert not life.again


ANY_EVENTS = st.lists(
    # The beginning of a hand-over, so that what comes after is not left to chance alone.
    st.sampled_from((*EVENTS, *OF_AN_EDIT, Open(), Replace(GRACE_SECS), NextReady())),
    max_size=60,
)


@given(st.booleans(), ANY_EVENTS)
def test_one_operator_and_one_to_follow_and_none_without_a_way_out(
    running: bool, events: list[Event]
) -> None:
    life = Life()
    current, prepared, told_to_part, armed = False, False, False, False
    for event in [*(RUNNING if running else ()), *events]:
        if isinstance(event, ProcessEnded):
            if not current:
                continue  # No process, no end of it.
            current = False
        if isinstance(event, NextReady | StateTaken | NextFailed) and not prepared:
            continue
        if isinstance(event, HandedOver) and not told_to_part:
            continue
        if isinstance(event, DeadlinePassed):
            if not armed:
                continue
            armed = False
        before = life
        life, actions = step(life, event)
        for action in actions:
            match action:
                case Spawn(generation):
                    assert not current
                    assert generation == before.generation + 1
                    current = True
                case Prepare(generation):
                    assert not prepared
                    assert generation == before.generation + 1
                    prepared = True
                case Discard():
                    assert prepared
                    prepared = False
                case AskToPart():
                    told_to_part = True
                case GoOn():
                    assert current
                    assert not told_to_part
                case TakeOver():
                    assert prepared
                    current, prepared, told_to_part = True, False, False
                case ArmDeadline():
                    armed = True
                case SettleEnd() | Disarm():
                    armed = False
        if isinstance(event, ProcessEnded):
            told_to_part = False
        assert prepared == (life.next is not Next.NONE)
        assert current == (life.phase in HAS_PROCESS)
        # An end that was asked for or announced comes, if only by the next deadline.
        assert life.phase is not Phase.ENDING or armed or life.rung is Rung.KILLED
        assert life.phase is not Phase.PAUSING or armed
        waits_for_the_old = life.next in (Next.PAUSING, Next.FILLING, Next.PARTING)
        assert not waits_for_the_old or armed or life.rung is Rung.KILLED
        assert before.generation <= life.generation
        if life.phase in NO_PROCESS:
            assert (life.rung, life.outcome, life.again) == (Rung.NONE, None, False)


# -- an edit ------------------------------------------------------------------------------------------

READY_TO_PAUSE = (*RUNNING, Replace(GRACE_SECS), NextReady())


def test_a_hand_over_step_by_step() -> None:
    life, actions = after(*RUNNING, Replace(GRACE_SECS))
    assert actions == [Disarm(), Prepare(2)]
    life, actions = after(NextReady(), life=life)
    assert actions == [AskToPause(), ArmDeadline(GRACE_SECS)]
    assert (life.phase, life.generation) == (Phase.RUNNING, 1)
    with_state, actions = after(ChildPaused(has_state=True), life=life)
    assert actions == [GiveState(), ArmDeadline(GRACE_SECS)]
    assert after(StateTaken(), life=with_state)[1] == [AskToPart(), ArmDeadline(GRACE_SECS)]
    life, actions = after(ChildPaused(has_state=False), life=life)
    assert actions == [AskToPart(), ArmDeadline(GRACE_SECS)]
    life, actions = after(HandedOver(), life=life)
    assert actions == [Disarm(), TakeOver(), LetGo()]
    assert life == Life(phase=Phase.RUNNING, generation=2, was_ready=True)


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([Replace(2), NextFailed()], [Discard()]),
        ([Replace(2), Abandon()], [Discard()]),
        ([Replace(2), NextReady(), NextFailed()], [Discard(), GoOn(), Disarm()]),
        ([Replace(2), NextReady(), Abandon()], [Discard(), GoOn(), Disarm()]),
        (
            [Replace(2), NextReady(), ChildPaused(True), DeadlinePassed()],
            [Discard(too_slow=True), GoOn(), Disarm()],
        ),
        ([Reload(2), ChildKept(replace=False)], [Disarm()]),
    ],
)
def test_the_old_one_goes_on_whatever_becomes_of_the_new_one(
    events: list[Event], last: list[Action]
) -> None:
    life, actions = after(*RUNNING, *events)
    assert actions == last
    assert (life.phase, life.generation, life.next) == (Phase.RUNNING, 1, Next.NONE)
    assert life.rung is Rung.NONE


@pytest.mark.parametrize("step_before", [(), (NextReady(),), (NextReady(), ChildPaused(False))])
def test_the_new_one_takes_over_where_the_old_one_ends(step_before: tuple[Event, ...]) -> None:
    life, actions = after(*RUNNING, Replace(2), *step_before, ChildFailed(), ProcessEnded())
    assert SettleEnd(for_good=False) in actions
    assert TakeOver() in actions
    assert (LetGo() in actions) == bool(step_before)
    assert (life.phase, life.generation) == (
        Phase.RUNNING if step_before else Phase.STARTING,
        2,
    )


def test_a_new_one_that_dies_when_the_old_one_has_parted_is_started_once_more() -> None:
    life, actions = after(*READY_TO_PAUSE, ChildPaused(False), NextFailed())
    assert actions == [Discard()]
    life, actions = after(ProcessEnded(), life=life)
    assert actions == [SettleEnd(for_good=False), Spawn(2)]


def test_an_old_one_that_is_stuck_is_terminated_and_killed() -> None:
    life, actions = after(*READY_TO_PAUSE, DeadlinePassed())
    assert actions == [Terminate(), ArmDeadline(TERM_GRACE_SECS)]
    life, actions = after(DeadlinePassed(), life=life)
    assert actions == [Kill()]
    assert TakeOver() in after(ProcessEnded(), life=life)[1]


def test_new_source_in_the_living_process() -> None:
    life, actions = after(*RUNNING, Reload(GRACE_SECS))
    assert actions == [TellReload(), ArmDeadline(GRACE_SECS)]
    taken, actions = after(ChildReloaded(), life=life)
    assert actions == [TakeReload(), Disarm()]
    assert (taken.phase, taken.generation) == (Phase.RUNNING, 2)
    for needs_a_process in (ChildKept(replace=True), DeadlinePassed()):
        assert after(needs_a_process, life=life)[1] == [Disarm(), Prepare(2)]
    # Late, but done: what was prepared in its place is not needed.
    assert after(DeadlinePassed(), ChildReloaded(), life=life)[1] == [
        TakeReload(),
        Discard(),
        Disarm(),
    ]


def test_an_exclusive_one_that_fails_is_what_it_was_again() -> None:
    life, actions = after(*RUNNING, Restart(GRACE_SECS, falls_back=True), ProcessEnded())
    assert actions == [SettleEnd(for_good=False), Spawn(2)]
    failed, actions = after(ChildFailed(), ProcessEnded(), life=life)
    assert actions == [SettleEnd(for_good=False), FallBack(), Spawn(3)]
    # But once, and not after it was ready.
    assert after(ChildFailed(), ProcessEnded(), life=failed)[0].phase is Phase.FAILED
    assert after(ChildReady(), ChildFailed(), ProcessEnded(), life=life)[0].phase is Phase.FAILED


@pytest.mark.parametrize("edit", [Replace(2), Reload(2)])
def test_where_nothing_moves_an_edit_is_a_restart(edit: Event) -> None:
    assert after(edit)[1] == [Spawn(1)]
    assert after(Start(), ChildReady(), edit)[1] == [AskToStop(), ArmDeadline(2)]


def test_it_is_known_whether_a_generation_was_ready_before_it_failed() -> None:
    """Who waited for it is told of a failure at the start, and not of one at a first event."""
    life, _ = after(Start(), ChildFailed(), ProcessEnded())
    assert (life.phase, life.was_ready) == (Phase.FAILED, False)
    life, _ = after(Start(), ChildReady(), Open(), ChildFailed(), ProcessEnded(), life=life)
    assert (life.phase, life.was_ready) == (Phase.FAILED, True)
    life, _ = after(Restart(GRACE_SECS), life=life)
    assert (life.phase, life.was_ready) == (Phase.STARTING, False)
