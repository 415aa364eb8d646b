"""The life of an operator, decided without a process: every sequence of events ends well."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.engines.embedded._lifecycle import (
    EXIT_GRACE_SECS,
    NO_PROCESS,
    TERM_GRACE_SECS,
    Action,
    ArmDeadline,
    AskToStop,
    ChildFailed,
    ChildFinished,
    ChildReady,
    ControlLost,
    DeadlinePassed,
    Event,
    Kill,
    LetGo,
    Life,
    Open,
    Phase,
    ProcessEnded,
    ReportDeath,
    Restart,
    Rung,
    SettleEnd,
    Spawn,
    Start,
    Stop,
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
        for event in EVENTS:
            following, _ = step(life, event)
            todo.append(
                Life(following.phase, 1, following.rung, following.outcome, following.again)
            )
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


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_never_two_processes_and_none_without_a_way_out(events: list[Event]) -> None:
    life = Life()
    processes = 0
    armed = False
    generations = []
    for event in events:
        if isinstance(event, ProcessEnded) and not processes:
            continue  # No process, no end of it.
        if isinstance(event, ProcessEnded):
            processes -= 1
        if isinstance(event, DeadlinePassed):
            if not armed:
                continue
            armed = False
        before = life
        life, actions = step(life, event)
        for action in actions:
            if isinstance(action, Spawn):
                processes += 1
                generations.append(action.generation)
            if isinstance(action, ArmDeadline):
                armed = True
            if isinstance(action, SettleEnd):
                armed = False
        assert processes <= 1
        assert (processes == 0) == (life.phase in NO_PROCESS | {Phase.PAUSING})
        # An end that was asked for or announced comes, if only by the next deadline.
        assert life.phase is not Phase.ENDING or armed or life.rung is Rung.KILLED
        assert life.phase is not Phase.PAUSING or armed
        assert before.generation <= life.generation
        if life.phase in NO_PROCESS:
            assert (life.rung, life.outcome, life.again) == (Rung.NONE, None, False)
    assert generations == list(range(1, len(generations) + 1))


def test_it_is_known_whether_a_generation_was_ready_before_it_failed() -> None:
    """Who waited for it is told of a failure at the start, and not of one at a first event."""
    life, _ = after(Start(), ChildFailed(), ProcessEnded())
    assert (life.phase, life.was_ready) == (Phase.FAILED, False)
    life, _ = after(Start(), ChildReady(), Open(), ChildFailed(), ProcessEnded(), life=life)
    assert (life.phase, life.was_ready) == (Phase.FAILED, True)
    life, _ = after(Restart(GRACE_SECS), life=life)
    assert (life.phase, life.was_ready) == (Phase.STARTING, False)
