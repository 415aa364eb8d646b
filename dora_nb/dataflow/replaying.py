"""A recording that is replayed into a running dataflow: what `Dataflow.replay` returns for a file.

The player's process publishes (`dora_nb.engines.player_loop`), and the session wires it in place of the sources.
Here are its commands, and a thread that ends the replay: after the last message, or when the player has died.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from dora_nb.engines.embedded import ReplaySpec
from dora_nb.engines.player_words import Act, Command, PlayerJob, PlayerState, encode_array
from dora_nb.errors import DataflowStateError, EngineError, OperatorError
from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.graph.sources import NOTEBOOK, PLAYER
from dora_nb.how_to import how_to
from dora_nb.recording.recording import Recording
from dora_nb.status import State

from .arguments import check_count
from .current_run import CurrentRun
from .replay_plan import (
    Choice,
    Recorded,
    ReplayPlan,
    check_position,
    check_speed,
    downstream,
    plan_replay,
)

if TYPE_CHECKING:
    from dora_nb.engines.base import EngineSession
    from dora_nb.engines.embedded import Session

    from .running import Running

ReplayState = Literal["playing", "paused", "ended", "stopped", "failed"]
_ANSWER_SECS = 5.0
"""How long the player may take to carry out a command."""
_DRAIN_SECS = 5.0
"""A reader that takes no message for so long does not hold up the end of a replay."""
_LOOK_EVERY_SECS = 0.5
_LOOK_SOON_SECS = 0.02
_GONE_SECS = 5.0
_RESTARTED_STATES = (
    State.STARTING,
    State.RUNNING,
    State.WAITING,
    State.FAILED,
    State.FINISHED,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a replay has ended."""

    state: ReplayState
    error: str = ""


class Replay:
    """One replay of a recording, from `Dataflow.replay`. As a context manager it is stopped on exit.

    Example::

        >>> with dataflow.replay("run.mcap", speed=2) as replay:
        ...     replay.wait()
    """

    def __init__(
        self,
        run: CurrentRun,
        runner: Running,
        recorded: Recorded,
        plan: ReplayPlan,
        job: PlayerJob,
    ) -> None:
        self._run = run
        self._runner = runner
        self._recorded = recorded
        self._job = job
        self.plan = plan
        """Which topics are replayed, and which nodes are replaced."""
        self.spec = ReplaySpec(recorded.file, job, self._on_state)
        """What a session is told."""
        self._changed = threading.Condition()
        self._state = PlayerState("playing", job.from_secs)
        self._outcome: Outcome | None = None
        self._numbers = itertools.count(1)
        self._session: EngineSession | None = None
        self._host: Session | None = None
        self._one_command = threading.RLock()

    # -- what it does now ------------------------------------------------------------------------------

    @property
    def file(self) -> str:
        """The name of the recording, without folders.

        Example::

            >>> replay.file
            'run.mcap'
        """
        return self._recorded.file

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are published.

        Example::

            >>> replay.topics
            ('camera/image',)
        """
        return self.plan.topics

    @property
    def state(self) -> ReplayState:
        """``playing``, ``paused``, ``ended`` (after the last message), ``stopped``, or ``failed``.

        Example::

            >>> replay.state
            'playing'
        """
        outcome = self._outcome
        if outcome is not None:
            return outcome.state
        # After the last message it plays until its readers have taken what waits.
        return "paused" if self._state.phase == "paused" else "playing"

    @property
    def position_secs(self) -> float:
        """Where in the recording it is, in seconds from its beginning.

        Example::

            >>> replay.position_secs
            3.2
        """
        return min(self._state.position_secs, max(self.duration_secs, self._job.from_secs))

    @property
    def duration_secs(self) -> float:
        """How long the recording is.

        Example::

            >>> replay.duration_secs
            12.3
        """
        return self._recorded.duration_secs

    @property
    def speed(self) -> float | None:
        """How many seconds of the recording pass in a second; None: as fast as the readers take it.

        Example::

            >>> replay.speed
            1.0
        """
        return self._job.speed

    @property
    def sent(self) -> int:
        """How many messages were published so far.

        Example::

            >>> replay.sent
            94
        """
        return self._state.sent

    @property
    def last_topic(self) -> str:
        """The topic of the last message that was published; empty before the first.

        Example::

            >>> replay.last_topic
            'camera/image'
        """
        return self._state.last_topic

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the recording is left out, a sentence each; after its end, also what could not be read.

        Example::

            >>> replay.notes
            ('run.mcap: 1 chunk left out: it is damaged',)
        """
        read = (f"{self.file}: {note}" for note in self._state.notes)
        return tuple(dict.fromkeys([*self.plan.notes, *read]))

    @property
    def error(self) -> str:
        """Why it has failed, as a sentence; empty if it has not.

        Example::

            >>> replay.error
            ''
        """
        outcome = self._outcome
        return "" if outcome is None else outcome.error

    # -- commands --------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Pauses; does nothing if it pauses already. Blocks until the player has done it.

        Like all commands, raises DataflowStateError if the replay is over, or if a reader with a full queue holds
        the player up.

        Example::

            >>> replay.pause()
        """
        self._command("pause")

    def resume(self) -> None:
        """Goes on after a pause or a step. Blocks until the player has done it.

        Example::

            >>> replay.resume()
        """
        self._command("resume")

    def step(self, count: int = 1) -> None:
        """Publishes the next `count` messages at once, and pauses. Blocks until they are published.

        Example::

            >>> replay.step()
            >>> replay.last_topic
            'camera/image'
        """
        check_count(count, "count")
        self._command("step", count)

    def seek(self, secs: float) -> tuple[str, ...]:
        """Goes on from that second of the recording; returns the nodes that were restarted for it.

        Backward, the nodes that read the replayed topics, directly or through others, are restarted: what they
        have learned lies in the future. Blocks until they are ready. Raises GraphError for a second beyond the
        end; OperatorError if one of them fails at its start, and the others go on; and DataflowStateError for
        a step backward on dora-rs.

        Example::

            >>> replay.seek(0.5)
            ('detector',)
        """
        secs = check_position(self._recorded, "seek", secs)
        with self._one_command:
            if secs >= self._now_secs():
                self._command("seek", secs)
                return ()
            return self._seek_back(secs)

    def stop(self) -> None:
        """Ends the replay; the nodes that it had replaced while they ran start again. May be called twice.

        Does not wait for these nodes. Readers of nodes that do not come back get INPUT_CLOSED.

        Example::

            >>> replay.stop()
        """
        self._finish(Outcome("stopped"))

    def wait(self, timeout_secs: float | None = None) -> bool:
        """Blocks until the last message was taken by its readers, or the replay was stopped.

        False when the time is over. It can be interrupted, and the replay goes on. Raises EngineError if the
        player has failed.

        Example::

            >>> replay.wait(timeout_secs=60)
            True
        """
        with self._changed:
            over = self._changed.wait_for(lambda: self._outcome is not None, timeout_secs)
        if self.error:
            raise EngineError(self.error)
        return over

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return (
            f"<Replay of {self.file}: {self.state} at {self.position_secs:.1f} "
            f"of {self.duration_secs:.1f} s>"
        )

    # -- inside ----------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether it has ended, in any way.

        Example::

            >>> replay.over
            False
        """
        return self._outcome is not None

    def begin(self, session: EngineSession, host: Session) -> None:
        """Watches the player from now on."""
        self._session, self._host = session, host
        self._end_watching_changes = self._run.call_on_change(self._wake)
        threading.Thread(target=self._watch, name="dora-replay", daemon=True).start()

    def set_aside(self) -> None:
        """Counts as stopped: its session is about to be closed, or another replay takes its place there."""
        self._set_outcome(Outcome("stopped"))

    def _on_state(self, state: PlayerState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _command(self, act: Act, value: float = 0.0) -> None:
        with self._one_command:
            self._check_goes_on()
            assert self._host is not None  # `begin` sets it before anyone has the replay
            number = next(self._numbers)
            self._host.tell_player(Command(number, act, value).encode())
            with self._changed:
                answered = self._changed.wait_for(
                    lambda: self._state.carried_out >= number or self.over, _ANSWER_SECS
                )
            if not answered:
                raise DataflowStateError(
                    f"the player has not answered within {_ANSWER_SECS:g} s{self._held_up_by()}.",
                    hint=f"{how_to('stop the replay')} ends the replay.",
                )
            if self._outcome is not None and self._state.carried_out < number:
                self._check_goes_on()

    def _check_goes_on(self) -> None:
        if self._outcome is not None:
            how = "has failed" if self._outcome.error else f"has {self._outcome.state}"
            if self._outcome.state == "stopped":
                how = "was stopped"
            raise DataflowStateError(
                f"the replay of {self.file} {how}.", hint=f"Start it again with {how_to('replay')}."
            )

    def _held_up_by(self) -> str:
        full = [
            f"{edge.reader}/{edge.input}"
            for status in self._run.statuses()
            for edge in status.inputs
            if edge.topic in self.topics and edge.queued >= edge.queue_size
        ]
        return f": it waits for {', '.join(full)}, whose queue is full" if full else ""

    def _now_secs(self) -> float:
        """The position, also if the last report of the player is some time old."""
        return self._state.position_secs

    def _seek_back(self, secs: float) -> tuple[str, ...]:
        session = self._session
        assert session is not None
        if session.edit_refusal is not None:
            raise DataflowStateError(
                "a replay cannot go back on dora-rs, where single nodes cannot be restarted:",
                hint=f"stop it, and start it again with {how_to('replay from', secs=secs)}.",
            )
        plays = self.state == "playing"
        self._command("pause")
        names = self._downstream()
        # What waits for them is older than what comes next.
        self._drain(lambda: self._unread_of(names))
        try:
            self._runner.restart_all(names)
        finally:
            # Also if one of them fails: the others are ready, and an interrupt leaves no replay that hangs.
            self._command("seek", secs)
            if plays:
                self._command("resume")
        return names

    def _downstream(self) -> tuple[str, ...]:
        states = {each.name: each.state for each in self._run.statuses()}
        graph = self._run.graph
        return tuple(
            name
            for name in downstream(graph, self.topics)
            if states.get(name) in _RESTARTED_STATES and graph.node(name).kind != "dynamic"
        )

    def _unread_of(self, names: Iterable[str]) -> int:
        wanted = set(names)
        return sum(
            edge.queued
            for status in self._run.statuses()
            if status.name in wanted
            for edge in status.inputs
        )

    def _drain(self, unread: Callable[[], int]) -> None:
        """Waits until readers have taken what waits for them, but not for one that takes nothing."""
        known, deadline_secs = -1, 0.0
        while (left := unread()) and not self.over:
            now_secs = time.monotonic()
            if left != known:
                known, deadline_secs = left, now_secs + _DRAIN_SECS
            elif now_secs >= deadline_secs:
                return
            with self._changed:
                self._changed.wait(_LOOK_SOON_SECS)

    def _watch(self) -> None:
        session, host = self._session, self._host
        assert session is not None
        assert host is not None
        while True:
            with self._changed:
                if self._outcome is None and self._state.phase != "ended":
                    self._changed.wait(_LOOK_EVERY_SECS)
                if self._outcome is not None:
                    break
                at_end = self._state.phase == "ended"
            # Without our lock: a session asks its readers, which may wait for it.
            failure = host.service_error(PLAYER)
            if session.stopping or not session.alive:
                self._finish(Outcome("stopped"))
            elif failure is not None:
                self._finish(Outcome("failed", self._failure_text(failure)))
            elif at_end:
                self._drain(host.unread_of_player)
                self._finish(Outcome("ended"))
                for note in set(self._state.notes) - set(self._recorded.notes):
                    self._run.note_problem(f"{self.file}: {note}")
        self._end_watching_changes()

    def _failure_text(self, failure: OperatorError) -> str:
        why = failure.message.partition("RecordingError: ")[2] or failure.message
        why = why.replace(f"{PLAYER}'s process", "its process").replace(PLAYER, "the player")
        return f"the replay of {self.file} has ended at {self.position_secs:.1f} s: {why}"

    def _finish(self, outcome: Outcome) -> None:
        """Ends the replay in the session, if that has not happened yet."""
        with self._changed:
            if self._outcome is not None:
                return
        host = self._host
        if host is not None:
            host.end_replay(self.spec)
            host.wait_player_gone(_GONE_SECS)
        self._set_outcome(outcome)

    def _set_outcome(self, outcome: Outcome) -> None:
        run = self._run
        with run.lock:
            if outcome.error and self._outcome is None:
                run.note_problem(outcome.error)
            if run.replay is self:
                run.replay = None
                run.graph = run.graph.declared()
        with self._changed:
            self._outcome = self._outcome or outcome
            self._changed.notify_all()
        run.changed()


def is_recording(source: object) -> bool:
    """Whether `Dataflow.replay` takes this for a recording, and not for a list of events."""
    return isinstance(source, (Recording, str, Path))


def start_replay(
    run: CurrentRun,
    runner: Running,
    source: Recording | str | Path,
    *,
    speed: Any = 1.0,
    loop: bool = False,
    start: float = 0.0,
    stop: float | None = None,
    only: Iterable[str] | None = None,
    all_topics: bool = False,
    rename: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Replay:
    """Replays a recording, see `Dataflow.replay`."""
    run.check_is_own("a recording cannot be replayed")
    recorded, path = _look_into(source)
    choice = Choice(
        only=None if only is None else tuple(only),
        all=all_topics,
        map=dict(rename or {}),
        from_secs=start,
        to_secs=stop,
        speed=check_speed(speed),
    )
    live = [control.topic for control in runner.controls() if control.stays_live]
    with run.lock:
        plan = plan_replay(recorded, choice, run.graph.declared(), live=live)
    job = PlayerJob(
        path=path,
        outputs=plan.outputs,
        speed=choice.speed,
        loop=loop,
        from_secs=choice.from_secs,
        to_secs=choice.to_secs,
        neutrals=_neutrals(run, plan.topics),
    )
    replay = Replay(run, runner, recorded, plan, job)
    runner.start_replay(replay, progress)
    return replay


def _neutrals(run: CurrentRun, topics: Iterable[str]) -> dict[str, str]:
    """By topic whose control commands motion: what stops the motion."""
    found = {}
    for topic in topics:
        node, _, name = topic.partition("/")
        word = run.controls.word(name) if node == NOTEBOOK else None
        if word is not None and word.spec.kind == "motion" and word.spec.neutral is not None:
            found[topic] = encode_array(word.spec.neutral)
    return found


def _look_into(source: Recording | str | Path) -> tuple[Recorded, str]:
    """Returns what the plan needs to know, and the path; the player opens the file anew."""
    # In a function of its own: the traceback of an error in the plan would keep the file open.
    recording = source if isinstance(source, Recording) else Recording(source)
    return _recorded(recording), str(recording.path.resolve())


def _recorded(recording: Recording) -> Recorded:
    newest = {
        each.node: each for each in sorted(recording.cells(), key=lambda cell: cell.generation)
    }
    return Recorded(
        file=recording.path.name,
        topics=recording.topics,
        duration_secs=recording.duration_secs,
        notes=tuple(recording.notes),
        dataflow_yml=recording.dataflow_yml,
        cells={name: cell.text for name, cell in newest.items()},
    )


def stand_in_node(name: str, outputs: tuple[str, ...], file: str) -> NodeSpec:
    """Returns the node of a recording that is not declared here."""
    return NodeSpec(name, SourceCode("", file), outputs=outputs, kind="script", replayed_from=file)
