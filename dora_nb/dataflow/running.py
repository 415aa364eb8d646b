"""Starting and stopping: the whole dataflow, or one node of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence

from dora_nb.engines.base import EngineSession
from dora_nb.engines.embedded import Session
from dora_nb.errors import DataflowStateError, EngineError, GraphError, OperatorError, did_you_mean
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import PLAYER
from dora_nb.how_to import how_to
from dora_nb.status import State

from .controls import Control, Controls
from .current_run import PROGRESS_AFTER_SECS, STOP_GRACE_SECS, CurrentRun, Progress, way_out_of
from .declaring import Declaring
from .failures import ShownFailures
from .replaying import Replay, stand_in_node
from .results import ENGINES, Declared, EngineName, Retried, Started, Stopped, left_out

PLAYER_READY_SECS = 20.0
_SETTLE_SECS = 5.0
"""How long a failure that is known may take until its process has ended."""
_ENDED = (State.FAILED, State.FINISHED, State.STOPPED)


class Running:
    """Opens and closes the sessions of a dataflow, and starts and stops single nodes of them."""

    def __init__(
        self, run: CurrentRun, declaring: Declaring, failures: ShownFailures, controls: Controls
    ) -> None:
        self._run = run
        self._controls = controls
        self._declaring = declaring
        self._failures = failures

    # -- the whole -------------------------------------------------------------------------------------

    def start(
        self,
        engine: EngineName,
        failed: list[str],
        progress: Progress | None,
        look: Callable[[], None] | None = None,
    ) -> Started:
        """Starts every declared node, or tries those again that failed; waits until all are ready.

        `look` is called ten times a second meanwhile; an exception that it raises ends the wait.

        Where it is interrupted, the caller has to `stop` what was started.
        """
        session = self._begin(failed, engine)
        return self._wait_started(session, engine, progress, look)

    def _wait_started(
        self,
        session: EngineSession,
        engine: EngineName,
        progress: Progress | None,
        look: Callable[[], None] | None = None,
    ) -> Started:
        self._run.wait_settled(session, None, {}, progress, look)
        if (
            not session.messages_flow
        ):  # A node that fails after all were ready does not fail the start.
            self._raise_start_errors(session)
        with self._run.lock:
            graph = self._run.graph
            for name, generation in session.generations().items():
                if name in graph:
                    self._declaring.note_generation(session, graph.node(name), generation)
        out = left_out(graph, engine)
        for each in out:
            self._failures.mark(each.name)  # The result names it.
        absent = {each.name for each in out}
        names = tuple(
            name for name in graph.nodes if name not in absent and not self._run.replayed_from(name)
        )
        return Started(names, engine, tuple(session.notes), left_out=out)

    def to_start_again(self, engine: EngineName) -> list[str] | None:
        """The nodes that a start has to try once more, none for a new start; None where everything runs.

        Raises DataflowStateError where nothing can be started.
        """
        self._run.check_is_own("nothing can be started")
        with self._run.lock:
            if not self._run.graph.nodes:
                raise DataflowStateError(
                    "there is nothing to start:",
                    hint=f"declare an operator with {how_to('add an operator')}.",
                )
            session = self._run.session
            if session is None or not session.alive:
                self._check_any_runs(engine)
                return []
            if session.messages_flow:
                return self._left_by_a_replay() or None
            return list(session.errors()) or None

    def _left_by_a_replay(self) -> list[str]:
        """The nodes that were not started, as a recording that has ended was replayed in their place."""
        if self._run.replay is not None:
            return []
        return [
            each.name
            for each in self._run.statuses()
            if each.state is State.DECLARED and each.obstacle is None
        ]

    def _check_any_runs(self, engine: EngineName) -> None:
        out = left_out(self._run.graph, engine)
        if len(out) == len(self._run.graph.nodes):
            why = "; ".join(f"{each.name} is {each.obstacle}" for each in out)
            raise DataflowStateError(
                f"there is nothing to start here: {why}.", hint=way_out_of(out[0].obstacle)
            )

    # -- a replay --------------------------------------------------------------------------------------

    def controls(self) -> Iterable[Control]:
        """The controls of the dataflow."""
        return self._controls

    def start_replay(self, replay: Replay, progress: Progress | None) -> None:
        """Has the player stand in for the topics of a replay, in the session that runs or in a new one.

        Waits until the player is ready and messages flow. Where it is interrupted before, or the player fails,
        the replay is ended again.
        """
        run = self._run
        with run.lock:
            session = run.session
            is_new = session is None or not session.alive or session.stopping
            if is_new or session is None:
                session = self._new_session_for(replay)
            host = session.replay_host(replay.topics)
            if run.replay is not None:
                run.replay.set_aside()
            file = replay.file
            ghosts = [
                stand_in_node(name, outputs, file) for name, outputs in replay.plan.absent.items()
            ]
            run.graph = run.graph.declared()
            for spec in ghosts:
                run.graph = run.graph.replacing(spec)
            run.replay = run.last_replay = replay
            try:
                host.begin_replay(replay.spec)
                if is_new:
                    run.begin(session)
                replay.begin(session, host)
            except BaseException:
                replay.set_aside()
                raise
        run.changed()
        try:
            if not session.messages_flow:
                self._wait_started(session, "embedded", progress)
            self._wait_player(replay, host)
        except OperatorError:
            raise  # The others are ready, and the replay begins once the failed one is corrected.
        except BaseException:
            replay.stop()
            if is_new:
                self.stop(STOP_GRACE_SECS)
            raise

    def _new_session_for(self, replay: Replay) -> EngineSession:
        run = self._run
        if run.graph.nodes and not replay.plan.absent:
            self._check_any_runs("embedded")
        run.close_session()
        session = _new_session("embedded", run)
        for name, spec in run.services.items():
            session.set_service(spec, name)
        return session

    def _wait_player(self, replay: Replay, host: Session) -> None:
        """Waits until the player has begun. EngineError if it has failed."""
        host.wait_player_ready(PLAYER_READY_SECS)
        failure = host.service_error(PLAYER)
        if failure is not None:
            why = failure.message.partition("RecordingError: ")[2] or failure.message
            raise EngineError(f"{replay.file} cannot be replayed: {why}")

    def restart_all(self, names: Sequence[str]) -> None:
        """Starts another generation of each of these nodes; waits until all are ready.

        Raises OperatorError if one of them fails at its start.
        """
        run = self._run
        session = run.running_session("the nodes cannot be restarted")
        with contextlib.ExitStack() as edits:
            for name in names:
                edits.enter_context(self._declaring.edit_lock(name))
            generations = session.generations()
            for name in names:
                session.restart(name, grace_secs=STOP_GRACE_SECS)
            run.wait_settled(session, list(names), generations, None)
            with run.lock:
                now = session.generations()
                for name in names:
                    if name in run.graph:
                        spec = run.graph.node(name)
                        self._declaring.note_generation(session, spec, now.get(name, 0))
            for name in names:
                self._declaring.raise_start_error(session, name)

    def _begin(self, failed: list[str], engine: EngineName) -> EngineSession:
        """The session that a start waits for: a new one, or the one whose failed nodes try again."""
        with self._run.lock:
            session = self._run.session
            if session is None or not failed:
                # First, as what belongs to the run that is over does not start with the next.
                self._run.close_session()
                session = _new_session(engine, self._run)
                for name, spec in self._run.services.items():
                    session.set_service(spec, name)
                self._run.begin(session)
                return session
        for name in failed:
            session.restart(name, grace_secs=STOP_GRACE_SECS)
        return session

    def _raise_start_errors(self, session: EngineSession) -> None:
        errors = session.errors()
        if not errors:
            return
        for name in errors:
            self._failures.mark(name)
        first, *others = errors.values()
        failed_too = f"Failed too: {', '.join(error.node for error in others)}." if others else ""
        way_out = ""
        if not session.failed_start_goes_on:
            way_out = "Nothing runs now: correct the cell, and start again."
        elif len(errors) < len(self._run.graph.runnable().nodes):
            away = how_to("remove", name=first.node)
            way_out = (
                f"The others are ready: correct the cell and run it, or take it away ({away}), "
                "and they go."
            )
        if not others and not way_out:
            raise first
        hint = " ".join(filter(None, [first.hint, failed_too, way_out]))
        raise OperatorError(
            first.message,
            node=first.node,
            traceback_lines=first.traceback_lines,
            hint=hint or None,
        )

    def stop(self, grace_secs: float) -> Stopped:
        """Stops every node, and waits until all have ended."""
        names = tuple(self._run.graph.declared().nodes)
        session = self._run.session
        if session is None:
            return Stopped(names, already_stopped=True)
        self._run.check_is_own("it cannot be stopped")
        was_alive = session.alive
        session.request_stop(grace_secs=grace_secs)
        session.wait_ended(None)
        with self._run.lock:
            self._run.close_session()
        self._run.changed()
        return Stopped(names, already_stopped=not was_alive)

    # -- one node --------------------------------------------------------------------------------------

    def stop_node(self, name: str, grace_secs: float) -> Stopped:
        """Stops one node, and waits until it has ended; the others go on."""
        self._run.check_is_own(f"{name} cannot be stopped")
        self._run.graph.node(name)
        session = self._run.open_session()
        if session is None:
            return Stopped((name,), already_stopped=True)
        self._run.check_may_change(f"{name} cannot be stopped alone")
        stopped = session.stop_node(name, grace_secs=grace_secs)
        self._run.changed()
        return Stopped((name,), already_stopped=not stopped)

    def restart(self, name: str, generation: int | None, progress: Progress | None) -> Declared:
        """Lets another generation of a node follow, or an earlier one take over; waits until it is ready."""
        run = self._run
        run.check_is_own(f"{name} cannot be restarted")
        run.check_runs_here(name, f"{name} cannot be restarted")
        run.check_is_not_replayed(name, f"{name} cannot be restarted")
        session = run.open_session()
        if session is None or run.status(name).state is not State.STOPPED:
            session = run.running_session(f"'{name}' cannot be restarted")
        run.check_may_change(f"{name} cannot be restarted alone")
        with self._declaring.edit_lock(name):
            if generation is not None:
                return self._declaring.go_back(session, name, generation, progress)
            spec = self._start_again(session, name, progress, retry=False)
            return self._declaring.what_became_of(spec, None, restarted=True)

    def _start_again(
        self, session: EngineSession, name: str, progress: Progress | None, *, retry: bool
    ) -> NodeSpec:
        generations = session.generations()
        session.restart(name, grace_secs=STOP_GRACE_SECS, retry=retry)
        self._run.wait_settled(session, [name], generations, progress)
        self._declaring.raise_start_error(session, name)
        with self._run.lock:
            spec = self._run.graph.node(name)
            generation = session.generations().get(name, 0)
            self._declaring.note_generation(session, spec, generation)
        return spec

    def retry(self, name: str, progress: Progress | None) -> Retried:
        """Gives a node the event that it failed on, and waits until it has handled it."""
        session = self.failed_session(name, f"'{name}' cannot be given its event again")
        with self._declaring.edit_lock(name):
            if self._run.status(name).state in _ENDED:
                self._start_again(session, name, progress, retry=True)
            else:
                session.retry_event(name)
            begin_secs = time.monotonic()
            while not session.wait_retried(name, timeout_secs=PROGRESS_AFTER_SECS):
                if progress is not None:
                    progress(f"waiting: {name} ({time.monotonic() - begin_secs:.0f} s)")
            generation = session.generations().get(name, 0)
            error = session.errors().get(name)
            if error is not None:
                self._failures.mark(name)
                raise error
            return Retried(name, generation)

    def failed_session(self, name: str, what: str) -> EngineSession:
        """The session, which has an event that this node failed on; DataflowStateError if it has not."""
        self._run.check_is_own(what)
        self._run.check_runs_here(name, what)
        self._run.check_is_not_replayed(name, what)
        spec = self._run.graph.node(name)
        session = self._run.session
        if session is not None:
            session.wait_settled([name], after={}, timeout_secs=_SETTLE_SECS)
        # A failure is known before its process has left the event, and may be long before it has exited.
        if session is not None and not session.wait_exited(name, timeout_secs=_SETTLE_SECS):
            raise DataflowStateError(
                f"{what}: its process has failed and is still exiting.",
                hint="Try again when it has ended.",
            )
        crash_report = None if session is None else session.crash_report(name)
        if session is not None and crash_report is not None and crash_report.event is not None:
            return session
        if session is not None and session.edit_refusal is not None:
            raise DataflowStateError(f"{what}: on dora-rs no event is kept.")
        if spec.kind != "operator":
            raise DataflowStateError(
                f"{what}: it is a script, and the events of scripts are not kept."
            )
        if crash_report is not None:
            raise DataflowStateError(
                f"{what}: its event was not kept, as {crash_report.why_no_event}."
            )
        failed = session is not None and name in session.errors()
        why = "its process ended before it could keep the event" if failed else "it has not failed"
        look = how_to("debug the next event", name=name)
        hint = f"{look} looks at the next event." if not failed else None
        raise DataflowStateError(f"{what}: {why}.", hint=hint)


def engine_name(name: str) -> EngineName:
    """The engine of that name; GraphError, with the nearest name, where there is none."""
    for engine in ENGINES:
        if name == engine:
            return engine
    hint = did_you_mean(name, ENGINES) or f"There are: {', '.join(ENGINES)}."
    raise GraphError(f"there is no engine '{name}'.", hint=hint)


def _new_session(engine: EngineName, run: CurrentRun) -> EngineSession:
    if engine == "dora":
        from dora_nb.engines.dora import DoraSession  # loaded only where dora-rs is asked for

        return DoraSession(run.graph, run.all_readers, on_change=run.changed, controls=run.controls)
    runnable = run.graph.declared().runnable()
    return Session(runnable, run.all_readers, on_change=run.changed, controls=run.controls)
