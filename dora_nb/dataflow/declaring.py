"""Declaring nodes, before the start and while the dataflow runs."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace

from dora_nb.engines.base import EngineSession
from dora_nb.engines.edit import Applied, Edit, plan
from dora_nb.engines.edit import Way as EditWay
from dora_nb.engines.embedded import SPARES
from dora_nb.errors import GraphError, OperatorError, nearest
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.status import State

from .current_run import STOP_GRACE_SECS, CurrentRun, Progress
from .failures import ShownFailures
from .results import Declared, Removed

_ABANDON_SECS = 5.0
"""How long an interrupted edit may take to settle: longer than a hand-over that cannot be revoked."""
_MOST_GENERATIONS = 50


class Declaring:
    """Changes what is declared, and applies it at once to a session that runs.

    Edits of one node happen one after the other. What each generation of a run was declared as is kept,
    so that `go_back` can declare it again.
    """

    def __init__(self, run: CurrentRun, failures: ShownFailures) -> None:
        self._run = run
        self._failures = failures
        self._generations: weakref.WeakKeyDictionary[
            EngineSession, dict[str, dict[int, NodeSpec]]
        ] = weakref.WeakKeyDictionary()
        """By session and node, what its newest generations were declared as."""
        self._edit_locks: dict[str, threading.RLock] = {}

    def declare(self, spec: NodeSpec, *, progress: Progress | None = None) -> Declared:
        """Declares a node, or declares it anew; while the dataflow runs it is applied at once.

        Only what changed is touched, see `dora_nb.engines.edit.plan`; blocks until the new generation has
        taken over. An interrupt drops what is being prepared. Raises GraphError, and nothing has changed; or
        OperatorError with the operator's own traceback: where a generation ran before, that one goes on,
        and is what is declared.
        """
        with self.edit_lock(spec.name):
            return self._declare(spec, progress)

    def _declare(
        self, spec: NodeSpec, progress: Progress | None, *, again: Edit | None = None
    ) -> Declared:
        run = self._run
        with run.lock:
            run.check_is_own(f"{spec.name} cannot be declared")
            run.close_if_over()
            before = run.graph.declared().nodes.get(spec.name)
            graph = run.graph.with_node(spec)
            run.note_cell(spec.name, deleted=False)
            session = run.open_session()
            changed_files: tuple[str, ...] = ()
            if before is not None and session is not None:
                changed_files = run.status(spec.name).changed_files
            unchanged = before is not None and before.same_as(spec) and again is None
            # Running the cell of a failed or stopped node again, unchanged, means: start it once more.
            if (
                unchanged
                and not changed_files
                and not (session is not None and self._has_ended(session, spec.name))
            ):
                if session is None:
                    run.graph = graph  # the cell has another number now
                return Declared(spec.name, "unchanged", obstacle=spec.obstacle)
            run.check_may_change(f"{spec.name} cannot be changed now")
            run.graph = graph
            if session is None:
                run.forget_status(spec.name)
                SPARES.expect(len(graph.nodes))
        generations = {} if session is None else session.generations()
        if spec.obstacle is not None:
            if session is not None and spec.name in generations:
                session.remove(graph, spec.name, grace_secs=STOP_GRACE_SECS)
            run.changed()
            return _not_started(graph, spec.name)
        if before is not None and before.obstacle is not None:
            before = None  # It was never started: there is nothing to edit.
        edit = again or (None if before is None else plan(before, spec, changed_files))
        applying = session is not None and session.apply(
            graph, spec.name, edit=edit, grace_secs=STOP_GRACE_SECS
        )
        file = run.replayed_from(spec.name)
        if session is None or not applying or file:
            run.changed()
            return replace(_not_started(graph, spec.name), replayed_from=file)
        try:
            run.wait_settled(session, [spec.name], generations, progress)
        except BaseException:
            session.abandon(spec)
            session.wait_settled([spec.name], after=generations, timeout_secs=_ABANDON_SECS)
            self._take_in(session, before, spec, generations)
            raise
        applied = self._take_in(session, before, spec, generations)
        if applied is None or applied.outcome == "failed":
            self.raise_start_error(session, spec.name)
        result = self.what_became_of(spec, applied, restarted=before is not None)
        if applied is None and changed_files and edit is not None:
            return replace(result, reason=edit.reason)
        return result

    def _has_ended(self, session: EngineSession, name: str) -> bool:
        """Whether the node has failed, or was stopped alone."""
        status = self._run.status(name)
        stopped = status.state is State.STOPPED and self._run.graph.node(name).kind != "dynamic"
        return stopped or name in session.errors()

    def _take_in(
        self,
        session: EngineSession,
        before: NodeSpec | None,
        spec: NodeSpec,
        generations: dict[str, int],
    ) -> Applied | None:
        """Makes what runs what is declared, and returns what came of an edit. Raises why it was not taken."""
        applied = session.applied(spec.name)
        kept = applied is not None and applied.outcome in ("kept", "dropped")
        generation = session.generations().get(spec.name, 0)
        with self._run.lock:
            if kept and before is not None:
                self._run.graph = self._run.graph.replacing(before)
                self.note_generation(session, before, generation, "kept")
            else:
                way = "restarted" if applied is None else applied.outcome
                self.note_generation(session, spec, generation, way)
        self._run.changed()
        if kept and applied is not None and applied.error is not None:
            raise _kept(applied.error, generations.get(spec.name, generation), generation)
        return applied

    def declare_all(self, graph: Graph) -> list[Declared]:
        """Declares every node of another graph, as `declare`; nothing, where they do not fit together.

        While the dataflow runs, they are declared one after the other: one that fails at its start does
        not keep the others back, and the first such error is raised after all were declared.
        """
        run = self._run
        with run.lock:
            run.check_is_own("nothing can be declared")
            run.close_if_over()
            before = run.graph
            together = replace(before.with_nodes(graph), other_keys=graph.other_keys)
            running = run.open_session() is not None
            run.graph = replace(before, other_keys=graph.other_keys) if running else together
        if running:
            return self._declare_one_after_the_other(graph)
        run.changed()
        return [
            Declared(spec.name, "unchanged", obstacle=spec.obstacle)
            if _is_there(spec, before)
            else _not_started(together, spec.name)
            for spec in graph
        ]

    def _declare_one_after_the_other(self, graph: Graph) -> list[Declared]:
        declared, errors = [], []
        for spec in graph:
            try:
                declared.append(self.declare(spec))
            except OperatorError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return declared

    def remove(self, name: str) -> Removed:
        """Stops a node and forgets it. Blocks until it has ended."""
        run = self._run
        with run.lock:
            run.check_is_own(f"{name} cannot be removed")
            run.close_if_over()
            run.graph.declared().node(name)
            graph = run.graph.without(name)
            run.check_may_change(f"{name} cannot be removed now")
            run.graph = graph
            run.forget(name)
            session = run.session
        if session is not None and name in session.generations():
            session.remove(graph, name, grace_secs=STOP_GRACE_SECS)
        run.changed()
        waiting = (spec.name for spec in graph if name in graph.waiting_for(spec.name))
        return Removed(name, tuple(waiting))

    # -- generations -----------------------------------------------------------------------------------

    def go_back(
        self, session: EngineSession, name: str, generation: int, progress: Progress | None
    ) -> Declared:
        """Declares again what that generation of the session was declared as. With the node's edit lock."""
        known = self._generations.get(session, {}).get(name, {})
        if generation not in known:
            has = ", ".join(map(str, sorted(known)))
            raise GraphError(
                f"{name} has no generation {generation} to go back to.",
                hint=f"There are: {has}." if has else None,
            )
        spec = known[generation]
        way: EditWay = "after" if spec.exclusive else "beside"
        return self._declare(
            spec, progress, again=Edit(way, f"the code of generation {generation}")
        )

    def note_generation(
        self, session: EngineSession, spec: NodeSpec, generation: int, way: str = "restarted"
    ) -> None:
        """Keeps what a generation was declared as, and tells recordings. With the run's lock."""
        self._run.story.note(spec, generation, way)
        known = self._generations.setdefault(session, {}).setdefault(spec.name, {})
        known[generation] = spec
        while len(known) > _MOST_GENERATIONS:
            del known[min(known)]

    def generations(self, name: str) -> dict[int, NodeSpec]:
        """What the newest generations of a node in this run were declared as, by number."""
        with self._run.lock:
            session = self._run.session
            known = {} if session is None else self._generations.get(session, {})
            return dict(known.get(name, {}))

    @contextlib.contextmanager
    def edit_lock(self, name: str) -> Iterator[None]:
        """One edit of a node at a time; others wait."""
        with self._run.lock:
            lock = self._edit_locks.setdefault(name, threading.RLock())
        with lock:
            yield

    # -- what came of it -------------------------------------------------------------------------------

    def what_became_of(
        self, spec: NodeSpec, applied: Applied | None, *, restarted: bool
    ) -> Declared:
        """The result for a node whose newest generation is ready."""
        name, graph, session = spec.name, self._run.graph, self._run.session
        graph = graph.runnable()
        known = [other for other in graph.nodes if other != name]
        held_by = () if session is None or session.messages_flow else tuple(session.errors())
        result = Declared(
            name,
            "restarted" if restarted else "started",
            generation=self._run.status(name).generation,
            waiting_for={each: nearest(each, known) for each in graph.waiting_for(name)},
            held_by=held_by,
            blocking_cycle=tuple(graph.blocking_cycle(name)),
        )
        if not restarted or applied is None:
            return result
        if applied.outcome == "in_place":
            return replace(result, way="in_place", state="kept")
        if applied.outcome in ("kept", "dropped"):
            return replace(result, way="kept", state="kept")
        return replace(
            result,
            reason=applied.reason,
            state="carried" if applied.state == "carried" else "lost",
            notes=applied.notes,
        )

    def raise_start_error(self, session: EngineSession, name: str) -> None:
        """Raises why a node's newest generation did not get past its `__init__`, if it did not."""
        error = session.start_error(name)
        if error is not None:
            self._failures.mark(name)
            raise error


def _not_started(graph: Graph, name: str) -> Declared:
    return Declared(
        name,
        "declared",
        obstacle=graph.node(name).obstacle,
        blocking_cycle=tuple(graph.blocking_cycle(name)),
    )


def _is_there(spec: NodeSpec, graph: Graph) -> bool:
    return spec.name in graph and graph.node(spec.name).same_as(spec)


def _kept(error: OperatorError, before: int, generation: int) -> OperatorError:
    """Why an edit was not taken, with what goes on instead: what ran before, or its code once more."""
    begin = f"{error.node}: kept generation {generation}: "
    if generation != before:
        begin = f"{error.node}: kept the code of generation {before}, restarted as generation {generation}: "
    message = error.message.removeprefix(f"{error.node}: ")
    return OperatorError(
        begin + message, node=error.node, traceback_lines=error.traceback_lines, hint=error.hint
    )
