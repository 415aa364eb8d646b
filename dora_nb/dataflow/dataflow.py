"""The dataflow of a notebook: what the magics, the widgets and `import dora_nb` act on.

A `Dataflow` holds what is declared, and at most one session of an engine that runs it. Declaring is
always possible; while a session runs, it is applied at once. Every method may be called from any
thread; those that wait can be interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import queue
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from dora_nb.cells.check import check_node_source, check_operator_source
from dora_nb.descriptor import Allowed, dataflow_text, read_dataflow
from dora_nb.engines.base import EngineSession
from dora_nb.engines.edit import Applied, Edit, Way, plan
from dora_nb.engines.embedded import SPARES, Session
from dora_nb.engines.embedded import Listener as EngineListener
from dora_nb.errors import (
    DataflowStateError,
    GraphError,
    OperatorError,
    TopicTimeoutError,
    did_you_mean,
)
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import (
    DEFAULT_QUEUE_SIZE,
    DYNAMIC,
    NodeSpec,
    OnEdit,
    QueuePolicy,
    SourceCode,
)
from dora_nb.graph.sources import NOTEBOOK, LogSource, TopicSource
from dora_nb.status import EdgeStatus, LogLine, NodeStatus, State

from .arguments import as_sendable, check_count, check_wiring, node_spec, read_source
from .debugging import Rebuilt, rebuild
from .params import Params
from .subscription import CallbackSubscription, Event, Subscription

if TYPE_CHECKING:
    from dora_nb.widgets.graph import GraphPicture

Progress = Callable[[str], None]
"""What is called with a sentence, now and then, by what takes long."""
ENGINES = ("embedded", "dora")
_sleep = time.sleep
ENGINE_NAMES = {"embedded": "the embedded engine", "dora": "dora-rs"}
DAEMON_PORT = 53291
"""Where a daemon of dora's listens for nodes that join, if it is told nothing else."""
STOP_GRACE_SECS = 2.0
PROGRESS_AFTER_SECS = 2.0
_PROGRESS_EVERY_SECS = 1.0
_LOOK_EVERY_SECS = 0.2
_ABANDON_SECS = 5.0
"""How long an interrupted edit may take to settle: longer than a hand-over that cannot be taken back."""
_MOST_GENERATIONS = 50


@dataclass(frozen=True, slots=True)
class Declaration:
    """What declaring an operator did; its `str` is the stable sentence that the cell ends in."""

    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


class Dataflow:
    """Operators that were declared, and the engine that runs them.

    As a context manager it stops on exit. `get_dataflow()` is the notebook's own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._declared = Graph()
        self._session: EngineSession | None = None
        self._own_declared: Graph | None = None
        """What is declared here, while another dataflow is watched."""
        self._listeners: list[EngineListener] = []
        self._last_status: dict[str, NodeStatus] = {}
        self._last_logs: dict[str, list[LogLine]] = {}
        self._watchers: list[Callable[[], None]] = []
        self._failures_shown: set[tuple[str, int]] = set()
        self._without_cell: set[str] = set()
        self._generations: dict[str, dict[int, NodeSpec]] = {}
        """What each generation of this run was declared as; the newest of each node."""
        self._edit_locks: dict[str, threading.RLock] = {}
        _all_dataflows.add(self)

    # -- declaring -----------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """What is declared now."""
        return self._declared

    @property
    def running(self) -> bool:
        """Whether any operator has a process."""
        session = self._session
        return session is not None and session.alive

    def declare(self, spec: NodeSpec, *, progress: Progress | None = None) -> Declaration:
        """Declares an operator, or declares it anew; while the dataflow runs it is applied at once.

        Only what changed is touched, see `dora_nb.engines.edit.plan`; it blocks until the new generation
        has taken over. An interrupt drops what is being prepared. For `progress` see `start`. Raises
        GraphError, and nothing has changed; or OperatorError with the operator's own traceback, and where
        a generation ran before, that one goes on, and is what is declared.
        """
        with self._edit_lock(spec.name):
            return self._declare(spec, progress)

    def _declare(
        self, spec: NodeSpec, progress: Progress | None, *, again: Edit | None = None
    ) -> Declaration:
        with self._lock:
            self._check_is_own(f"{spec.name} cannot be declared")
            self._close_if_over()
            before = self._declared.nodes.get(spec.name)
            declared = self._declared.with_node(spec)
            self._without_cell.discard(spec.name)
            session = self._open_session()
            unchanged = before is not None and before.same_as(spec) and again is None
            # Running a failed operator's cell again, unchanged, means: try once more.
            if unchanged and not (session is not None and spec.name in session.errors()):
                if session is None:
                    self._declared = declared  # the cell has another number now
                return Declaration(spec.name, "unchanged")
            self._check_may_change(f"{spec.name} cannot be changed now")
            self._declared = declared
            if session is None:
                self._last_status.pop(spec.name, None)
                SPARES.expect(len(declared.nodes))
        generations = {} if session is None else session.generations()
        edit = again or (None if before is None else plan(before, spec))
        applying = session is not None and session.apply(
            declared, spec.name, edit=edit, grace_secs=STOP_GRACE_SECS
        )
        if session is None or not applying:
            self._changed()
            return Declaration(spec.name, _declared_words(declared, spec.name))
        try:
            self._wait_settled(session, [spec.name], generations, progress)
        except BaseException:
            session.abandon(spec)
            session.wait_settled([spec.name], after=generations, timeout_secs=_ABANDON_SECS)
            self._take_in(session, before, spec, generations)
            raise
        applied = self._take_in(session, before, spec, generations)
        if applied is None or applied.outcome == "failed":
            self._raise_start_error(session, spec.name)
        return Declaration(spec.name, self._applied(spec, applied, restarted=before is not None))

    def _take_in(
        self,
        session: EngineSession,
        before: NodeSpec | None,
        spec: NodeSpec,
        generations: dict[str, int],
    ) -> Applied | None:
        """What is declared is what runs: notes what came of an edit. Raises why it was not taken."""
        applied = session.applied(spec.name)
        kept = applied is not None and applied.outcome in ("kept", "dropped")
        generation = session.generations().get(spec.name, 0)
        with self._lock:
            if kept and before is not None:
                self._declared = self._declared.replacing(before)
                self._note_generation(before, generation)
            else:
                self._note_generation(spec, generation)
        self._changed()
        if kept and applied is not None and applied.error is not None:
            raise _kept(applied.error, generations.get(spec.name, generation), generation)
        return applied

    def note_cell_deleted(self, name: str) -> None:
        """The cell that declared this node is not in the notebook any more; until it is declared anew."""
        if name in self._declared:
            self._without_cell.add(name)
            self._changed()

    def kept_generation(self, name: str) -> str | None:
        """What goes on where an edit of that node is refused: ``NAME: kept generation N``; None for nothing."""
        session = self._session
        if name not in self._declared or session is None or not session.alive:
            return None
        status = self.status(name)
        goes_on = status.state in (State.RUNNING, State.WAITING)
        return f"{name}: kept generation {status.generation}" if goes_on else None

    def _note_generation(self, spec: NodeSpec, generation: int) -> None:
        known = self._generations.setdefault(spec.name, {})
        known[generation] = spec
        while len(known) > _MOST_GENERATIONS:
            del known[min(known)]

    @contextlib.contextmanager
    def _edit_lock(self, name: str) -> Iterator[None]:
        """One edit of a node at a time; others wait."""
        with self._lock:
            lock = self._edit_locks.setdefault(name, threading.RLock())
        with lock:
            yield

    def add_operator(
        self,
        name: str,
        source: str | Path,
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Iterable[str] = (),
        queues: Mapping[str, int | tuple[int, QueuePolicy]] | None = None,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
        exclusive: bool = False,
        on_edit: OnEdit = "auto",
    ) -> Declaration:
        """Declares an operator from Python: `source` is its code, or the path of a file.

        `inputs` maps the operator's input to a source (``camera/image``, ``dora/timer/hz/30``);
        `queues` maps it to a size, or a size and a policy. `exclusive` and `on_edit` are the options of
        a cell. Blocks and raises as `declare`, and SourceError where the code cannot be an operator.
        """
        check_wiring(name, inputs, outputs)
        code = read_source(name, source)
        check_operator_source(code)
        spec = node_spec(name, code, "operator", inputs, outputs, queues, env, python)
        return self.declare(replace(spec, exclusive=exclusive, on_edit=on_edit))

    def add_node(
        self,
        name: str,
        source: str | Path | None = None,
        *,
        path: str | Path | None = None,
        args: Iterable[str] = (),
        inputs: Mapping[str, str] | None = None,
        outputs: Iterable[str] = (),
        queues: Mapping[str, int | tuple[int, QueuePolicy]] | None = None,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
    ) -> Declaration:
        """Declares a script that makes a `Node()`, as `add_operator` does; `args` are its `sys.argv[1:]`.

        `path` names its file in place of `source`. With the path ``dynamic``, as in dora, there is no
        script: another Python process of yours joins with ``dora_nb.Node("NAME")`` when it likes.
        """
        check_wiring(name, inputs, outputs)
        if (source is None) == (path is None):
            raise GraphError(
                f"{name} has {'no code' if source is None else 'two codes'}:",
                hint="give source, or the path of a file.",
            )
        if path == DYNAMIC:
            nothing = SourceCode("", f"<{name}>")
            spec = node_spec(name, nothing, "dynamic", inputs, outputs, queues, env, None)
            return self.declare(spec)
        code = read_source(name, Path(path) if source is None and path is not None else source)
        check_node_source(code)
        spec = node_spec(name, code, "script", inputs, outputs, queues, env, python)
        return self.declare(replace(spec, args=tuple(args)))

    @classmethod
    def from_yaml(cls, path: str | Path, *, allowed: Allowed | None = None) -> Self:
        """A dataflow of its own with what a ``dataflow.yml`` declares. Raises as `read_dataflow`.

        What has no effect in the embedded engine is a warning, and so is a cycle that can stand still;
        builds are not run.
        """
        imported = read_dataflow(Path(path), allowed=allowed)
        for note in imported.notes:
            warnings.warn(note, stacklevel=2)
        dataflow = cls()
        for declaration in dataflow.declare_all(imported.graph):
            if declaration.what != "declared":
                warnings.warn(str(declaration), stacklevel=2)
        return dataflow

    def to_yaml(self) -> str:
        """The text of a ``dataflow.yml``; `write_dataflow` makes the files that it names as well."""
        return dataflow_text(self._declared)

    def declare_all(self, graph: Graph) -> list[Declaration]:
        """Declares every node of another graph, as `declare`; nothing, where they do not fit together.

        While the dataflow runs, they are declared one after the other, and one that fails at its start
        keeps none of the others back; the first such error is raised after all were declared.
        """
        with self._lock:
            self._check_is_own("nothing can be declared")
            self._close_if_over()
            before = self._declared
            together = replace(before.with_nodes(graph), other_keys=graph.other_keys)
            running = self._open_session() is not None
            self._declared = replace(before, other_keys=graph.other_keys) if running else together
        if running:
            return self._declare_one_after_the_other(graph)
        self._changed()
        return [
            Declaration(
                spec.name,
                "unchanged" if _is_there(spec, before) else _declared_words(together, spec.name),
            )
            for spec in graph
        ]

    def _declare_one_after_the_other(self, graph: Graph) -> list[Declaration]:
        declarations, errors = [], []
        for spec in graph:
            try:
                declarations.append(self.declare(spec))
            except OperatorError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return declarations

    def remove(self, name: str) -> str:
        """Stops an operator and forgets it; returns a sentence that names who waits for it now.

        Blocks until it has ended.
        """
        with self._lock:
            self._check_is_own(f"{name} cannot be removed")
            self._close_if_over()
            declared = self._declared.without(name)
            self._check_may_change(f"{name} cannot be removed now")
            self._declared = declared
            self._last_status.pop(name, None)
            self._last_logs.pop(name, None)
            self._without_cell.discard(name)
            session = self._session
        if session is not None and name in session.generations():
            session.remove(declared, name, grace_secs=STOP_GRACE_SECS)
        self._changed()
        waiting = [spec.name for spec in declared if name in declared.waiting_for(spec.name)]
        wait = "waits" if len(waiting) == 1 else "wait"
        return f"{name}: removed" + (f"; {', '.join(waiting)} {wait} for it" if waiting else "")

    # -- running -------------------------------------------------------------------------------------

    def start(self, engine: str = "embedded", *, progress: Progress | None = None) -> str:
        """Starts every declared operator; returns when all have returned from their `__init__`.

        No message moves before. `progress` is called about once a second, after two seconds, with a
        sentence. Raises OperatorError if one fails: the others stay ready, and the dataflow goes by
        itself once the failed one is declared again or removed. An interrupt stops what was started.
        """
        if engine not in ENGINES:
            hint = did_you_mean(engine, ENGINES) or f"There are: {', '.join(ENGINES)}."
            raise GraphError(f"there is no engine '{engine}'.", hint=hint)
        self._check_is_own("nothing can be started")
        failed = self._to_start_again(engine)
        if failed is None:
            return "already running"
        try:
            session = self._begin(failed, engine)
            self._wait_settled(session, None, {}, progress)
            # What fails after all were ready is no failure of the start.
            if not session.messages_flow:
                self._raise_start_errors(session)
            with self._lock:
                for name, generation in session.generations().items():
                    if name in self._declared:
                        self._note_generation(self._declared.node(name), generation)
            on = "" if engine == ENGINES[0] else f" on {ENGINE_NAMES[engine]}"
            return "\n".join([f"started{on}: {', '.join(self._declared.nodes)}", *session.notes])
        except OperatorError:
            raise
        except BaseException:
            self.stop()
            raise

    def stop(self, *, grace_secs: float = STOP_GRACE_SECS) -> str:
        """Stops every operator: STOP and that much time, then SIGTERM and a second, then SIGKILL.

        Blocks until all have ended. Declarations are kept.
        """
        if not grace_secs >= 0:
            raise GraphError(f"grace_secs is 0 or more, not {grace_secs!r}.")
        session = self._session
        if session is None:
            return "already stopped"
        self._check_is_own("it cannot be stopped")
        was_alive = session.alive
        session.request_stop(grace_secs=grace_secs)
        session.wait_ended(None)
        with self._lock:
            self._close_session()
        self._changed()
        return "stopped" if was_alive else "already stopped"

    def attach(
        self,
        name: str | None = None,
        *,
        coordinator: str = "127.0.0.1:6013",
        daemon_port: int = DAEMON_PORT,
    ) -> str:
        """Watches a dataflow that somebody else has started with dora-rs, until `detach`.

        `name` is its name or UUID, and may be left out where only one runs on the coordinator (HOST:PORT).
        Its nodes are what is declared here meanwhile, its topics can be read, and nothing of it can be
        stopped or changed. To read a topic, a process of ours joins at the daemon of this machine that
        listens on `daemon_port`. Raises DataflowStateError, GraphError or EngineError.
        """
        from dora_nb.engines.dora import Coordinator, attach

        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise GraphError(f"'{coordinator}' is no coordinator:", hint="it is HOST:PORT.")
        with self._lock:
            watched = self._session
            if self._own_declared is not None and watched is not None:
                if watched.alive and name in (None, *watched.names):
                    return f"already watching {watched.names[0]}"
                if not watched.alive:
                    self.detach()
            self._check_is_own("another dataflow cannot be watched")
            if self._session is not None and self._session.alive:
                raise DataflowStateError(
                    "the notebook's own dataflow runs:",
                    hint="%dora stop it before you watch another.",
                )
            running, session = attach(
                name,
                Coordinator(host, int(port)),
                self._listeners,
                daemon_port=daemon_port,
                on_change=self._changed,
            )
            self._close_session()
            self._session = session
            self._own_declared, self._declared = self._declared, running.graph
        try:
            session.open()
        except BaseException:
            self.detach()
            raise
        self._changed()
        return f"watching {running.name}: {', '.join(running.graph.nodes)}"

    def detach(self) -> str:
        """Ends the watching; the dataflow goes on. What was declared here is declared again."""
        with self._lock:
            own = self._own_declared
            if own is None:
                return "nothing is watched"
            self._close_session()
            self._own_declared, self._declared = None, own
            self._last_status, self._last_logs = {}, {}
        self._changed()
        return "detached"

    def restart(
        self, name: str, *, generation: int | None = None, progress: Progress | None = None
    ) -> str:
        """Ends an operator's process and starts another; blocks until it has returned from `__init__`.

        With `generation`, what that generation of this run was declared as is declared again, and takes
        over from the process that runs. For `progress` see `start`.
        """
        self._check_is_own(f"{name} cannot be restarted")
        self._declared.node(name)
        session = self._running_session(f"'{name}' cannot be restarted")
        self._check_may_change(f"{name} cannot be restarted alone")
        with self._edit_lock(name):
            if generation is not None:
                return str(self._go_back(name, generation, progress))
            generations = session.generations()
            session.restart(name, grace_secs=STOP_GRACE_SECS)
            self._wait_settled(session, [name], generations, progress)
            self._raise_start_error(session, name)
            spec = self._declared.node(name)
            with self._lock:
                self._note_generation(spec, session.generations().get(name, 0))
            return f"{name}: {self._applied(spec, None, restarted=True)}"

    def _go_back(self, name: str, generation: int, progress: Progress | None) -> Declaration:
        known = self._generations.get(name, {})
        if generation not in known:
            has = ", ".join(map(str, sorted(known)))
            raise GraphError(
                f"{name} has no generation {generation} to go back to.",
                hint=f"There are: {has}." if has else None,
            )
        spec = known[generation]
        reason = f"the code of generation {generation}"
        way: Way = "after" if spec.exclusive else "beside"
        return self._declare(spec, progress, again=Edit(way, reason))

    def retry(self, name: str, *, progress: Progress | None = None) -> str:
        """Gives an operator the event that it failed on, before anything in line.

        One that does not run is started again first, as it is declared now. Blocks until it has handled
        the event; raises OperatorError if it fails on it again, and DataflowStateError where no event was
        kept: the process was killed before it could, or it is a script.
        """
        session = self._failed_session(name, f"'{name}' cannot be given its event again")
        with self._edit_lock(name):
            status = self.status(name)
            if status.state in (State.FAILED, State.STOPPED, State.FINISHED):
                generations = session.generations()
                session.restart(name, grace_secs=STOP_GRACE_SECS, retry=True)
                self._wait_settled(session, [name], generations, progress)
                self._raise_start_error(session, name)
                with self._lock:
                    generation = session.generations().get(name, 0)
                    self._note_generation(self._declared.node(name), generation)
            else:
                session.retry_event(name)
            begin_secs = time.monotonic()
            while not session.wait_retried(name, timeout_secs=PROGRESS_AFTER_SECS):
                if progress is not None:
                    progress(f"waiting: {name} ({time.monotonic() - begin_secs:.0f} s)")
            generation = session.generations().get(name, 0)
            error = session.errors().get(name)
            if error is not None:
                self.mark_failure_seen(name)
                raise error
            return f"{name}: generation {generation} has handled the event that it had failed on"

    def debug(self, name: str, *, next_event: bool = False, timeout_secs: float = 10.0) -> Rebuilt:
        """Rebuilds an operator in this process on the event that it failed on, and calls `on_event`.

        What that raises goes through as it is, so that a debugger finds the operator's own frame. With
        `next_event` it is the next event that comes to the operator, which runs on, and the state is that
        of the living one. `timeout_secs` is how long such an event is waited for (TopicTimeoutError).
        """
        __tracebackhide__ = True
        spec = self._declared.node(name)
        if spec.kind != "operator":
            raise GraphError(
                f"{name} is no operator:", hint="only an operator can be rebuilt here."
            )
        if next_event:
            session = self._running_session(f"nothing comes to '{name}'")
            event = self._next_event_of(spec, timeout_secs)
            state = session.living_state(name, timeout_secs=STOP_GRACE_SECS)
        else:
            session = self._failed_session(name, f"'{name}' cannot be looked at")
            state = session.crash_report(name)
            assert state is not None
            assert state.event is not None
            event = state.event
        rebuilt = rebuild(spec, event, state)
        rebuilt.run()
        return rebuilt

    def _failed_session(self, name: str, what: str) -> EngineSession:
        """The session, which has an event that this node failed on."""
        self._check_is_own(what)
        spec = self._declared.node(name)
        session = self._session
        if session is not None:  # A failure is known a moment before its process has ended.
            session.wait_settled([name], after={}, timeout_secs=_ABANDON_SECS)
        crash_report = None if session is None else session.crash_report(name)
        if session is not None and crash_report is not None and crash_report.event is not None:
            return session
        if session is not None and session.edit_refusal is not None:
            raise DataflowStateError(f"{what}: on dora-rs no event is kept.")
        if spec.kind != "operator":
            raise DataflowStateError(
                f"{what}: it is no operator, and of a script no event is kept."
            )
        if crash_report is not None:
            raise DataflowStateError(
                f"{what}: its event was not kept, as {crash_report.why_no_event}."
            )
        failed = session is not None and name in session.errors()
        why = "its process ended before it could keep the event" if failed else "it has not failed"
        hint = f"%dora debug {name} --next looks at the next event." if not failed else None
        raise DataflowStateError(f"{what}: {why}.", hint=hint)

    def _next_event_of(self, spec: NodeSpec, timeout_secs: float) -> Event:
        """The next message on any of a node's inputs; a tick, where it reads nothing else."""
        import pyarrow as pa

        topics = {
            str(read.source): read.name
            for read in spec.inputs
            if isinstance(read.source, TopicSource) and not isinstance(read.source, LogSource)
        }
        if not topics:
            tick = {
                "type": "INPUT",
                "kind": "dora",
                "id": spec.inputs[0].name if spec.inputs else "",
            }
            now = datetime.datetime.now(datetime.UTC)
            return {**tick, "value": pa.nulls(0), "metadata": {"timestamp": now}}
        arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with contextlib.ExitStack() as listeners:
            for topic in topics:
                if topic.partition("/")[0] in (NOTEBOOK, *self._declared.nodes):
                    listeners.callback(self.subscribe(topic, arrived.put).close)
            try:
                event = arrived.get(timeout=timeout_secs)
            except queue.Empty:
                raise self._too_few(next(iter(topics)), 0, 1, timeout_secs) from None
        return {**event, "id": topics[event["id"]]}

    def params(self, name: str) -> Params:
        """The parameters of a node that runs, as a mapping. They last until the dataflow stops.

        ``params("arm")["speed"] = 3`` sets one, to any value that JSON knows, 64 KB at most, and ``del``
        deletes one: the node gets a PARAM_UPDATE or PARAM_DELETED event. As in dora, operators receive no
        parameters, so setting one of those is refused (GraphError), and a node that is restarted is not
        told again. A key that is not there is a GraphError that is also a KeyError.
        """
        self._declared.node(name)
        return Params(self, name)

    def wait(self, timeout_secs: float | None = None) -> bool:
        """Waits until every operator has ended by itself or was stopped; False when the time is over."""
        session = self._session
        return True if session is None else session.wait_ended(timeout_secs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()
        self.stop()

    # -- looking -------------------------------------------------------------------------------------

    @overload
    def status(self, name: None = None) -> list[NodeStatus]: ...

    @overload
    def status(self, name: str) -> NodeStatus: ...

    def status(self, name: str | None = None) -> list[NodeStatus] | NodeStatus:
        """A snapshot of one operator, or of every one that is declared. Sends no message, never blocks.

        Raises GraphError, with the nearest name, where that one is not declared.
        """
        if name is not None:
            self._declared.node(name)
            return next(each for each in self.status() if each.name == name)
        with self._lock:
            current = dict(self._last_status)
            if self._session is not None:
                current.update({each.name: each for each in self._session.status()})
            found = [
                current.get(spec.name) or self._declared_status(spec) for spec in self._declared
            ]
            return [
                replace(each, cell_deleted=True) if each.name in self._without_cell else each
                for each in found
            ]

    def logs(self, name: str | None = None) -> list[LogLine]:
        """What the operators printed, oldest first; of one operator, or of all in order of time."""
        if name is not None:
            self._declared.node(name)
        with self._lock:
            by_name = self._session.logs() if self._session is not None else self._last_logs
            lines = [line for key, kept in by_name.items() if name in (None, key) for line in kept]
        return sorted(lines, key=lambda line: line.time_secs)

    def draw(self) -> GraphPicture:
        """A picture of the dataflow, with the state of each operator, and what the notebook reads."""
        from dora_nb.widgets.graph import GraphPicture

        states = {each.name: each.state for each in self.status()}
        topics = sorted({str(each.source) for each in self._listeners})
        return GraphPicture(self._declared, states, subscriptions=topics)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` after anything may have changed; returns a function that ends it.

        It is called on any thread and must return at once.
        """
        self._watchers.append(callback)

        def end() -> None:
            if callback in self._watchers:
                self._watchers.remove(callback)

        return end

    def unseen_failures(self) -> list[OperatorError]:
        """Failures that nobody was shown yet; each is returned once."""
        unseen = []
        for each in self.status():
            failure = (each.name, each.generation)
            if each.error is not None and failure not in self._failures_shown:
                self._failures_shown.add(failure)
                unseen.append(each.error)
        return unseen

    def mark_failure_seen(self, name: str) -> None:
        """A front end has shown that operator's failure."""
        if name in self._declared:
            self._failures_shown.add((name, self.status(name).generation))

    # -- messages ------------------------------------------------------------------------------------

    @overload
    def subscribe(
        self,
        topic: str,
        callback: None = None,
        *,
        queue_size: int | None = None,
        replay_last: bool = False,
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        topic: str,
        callback: Callable[[Event], None],
        *,
        queue_size: int | None = None,
        replay_last: bool = False,
    ) -> CallbackSubscription: ...

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Event], None] | None = None,
        *,
        queue_size: int | None = None,
        replay_last: bool = False,
    ) -> Subscription | CallbackSubscription:
        """The messages of a topic from now on, to be iterated over; or each is given to `callback`.

        It may be called before the start, and goes on over stops, starts and edits. `callback` is called
        on one thread of dora_nb that all subscriptions share, and must return quickly. The newest
        `queue_size` messages wait in line: 10 of an iterator, 1 for a callback if nothing else is said. With
        `replay_last` the newest message comes at once, if there ever was one.
        """
        if queue_size is not None:
            check_count(queue_size, "queue_size")
        if callback is None:
            return Subscription(
                self, topic, queue_size or DEFAULT_QUEUE_SIZE, replay_last=replay_last
            )
        return CallbackSubscription(
            self, topic, callback, queue_size=queue_size or 1, replay_last=replay_last
        )

    def _add_listener(
        self, topic: str, callback: Callable[[Event], None], queue_size: int, replay_last: bool
    ) -> EngineListener:
        with self._lock:
            source = self._declared.check_topic(topic)
            listener = EngineListener(
                source, callback, queue_size=queue_size, replay_last=replay_last
            )
            if self._session is not None:
                self._session.set_listeners([*self._listeners, listener])
            self._listeners.append(listener)
        return listener

    def take(self, topic: str, count: int, timeout_secs: float = 10.0) -> list[Event]:
        """The next `count` messages of a topic after the call. Blocks.

        There may be gaps between them, as the kernel never slows a dataflow. Raises
        TopicTimeoutError, which names the topic, how many came, and the state of its node.
        """
        check_count(count, "count")
        return self._collect(topic, count, timeout_secs, replay_last=False)

    def latest(self, topic: str, timeout_secs: float = 10.0) -> Event:
        """The newest message of a topic: at once if there ever was one, else the first to come."""
        return self._collect(topic, 1, timeout_secs, replay_last=True)[0]

    def send(self, topic: str, data: Any, metadata: Mapping[str, Any] | None = None) -> None:
        """Sends a message on a topic: as the notebook on ``notebook/NAME``, else as if its node had.

        ``notebook/NAME`` needs no declaration but a reader. Any other topic is sent by its node's own
        process, when that comes to it: between two events, or while it waits for room. `data` is what
        `send_output` takes (an Arrow array, bytes, a numpy array), or a list, a number or a text, which
        become an Arrow array. Blocks while a reader whose queue has backpressure is full, or a busy node
        has sixteen such messages to send. Raises GraphError where nobody reads ``notebook/NAME``,
        DataflowStateError where nothing runs, and what `send_output` raises.
        """
        source = self._declared.check_topic(topic)
        about = None if metadata is None else dict(metadata)
        if source.node != NOTEBOOK:
            self._declared.node(source.node)
            session = self._running_session(f"'{topic}' reaches nobody")
            if not session.inject(source, as_sendable(data), about):
                state = self.status(source.node).state_text()
                instead = f"send on {NOTEBOOK}/NAME, and let an input read that."
                raise DataflowStateError(
                    f"'{topic}' is sent by {source.node}, which is {state}:"
                    if session.edit_refusal is None
                    else f"'{topic}' is sent by {source.node} alone on dora-rs:",
                    hint=f"start it again, or {instead}"
                    if session.edit_refusal is None
                    else instead,
                )
            return
        known = [each.partition("/")[2] for each in self._declared.topics_of_the_notebook()]
        if source.output not in known:
            near = did_you_mean(source.output, known)
            hint = near and near.replace("'", f"'{NOTEBOOK}/", 1)
            hint = hint or f"Declare one with --inputs IN={topic}."
            raise GraphError(f"no input reads '{topic}'.", hint=hint)
        session = self._running_session(f"'{topic}' reaches nobody")
        session.send(source, as_sendable(data), about)

    def replay(
        self, events: Iterable[Any], *, topic: str | None = None, speed: float | None = 1.0
    ) -> int:
        """Sends events that were taken, each as `send` does; returns how many.

        On the topic that each came from, or all on `topic`. In the order in which they were sent (their
        ``timestamp``), so that ``take(...) + take(...)`` of several topics comes as it was; the time between
        two is what it was then, divided by `speed`; None for the order given, as fast as it goes. Blocks
        until the last is sent, and can be interrupted. The metadata goes with them, but for ``timestamp``,
        which says when a message is sent. Raises GraphError before anything is sent where one is no event.
        """
        if speed is not None and not speed > 0:
            raise GraphError(f"the speed is a number above 0, or None, not {speed!r}.")
        events = list(events)
        for at, event in enumerate(events):
            if (
                not isinstance(event, Mapping)
                or "value" not in event
                or not (topic or "id" in event)
            ):
                raise GraphError(
                    f"number {at} of these is no event that can be sent: {type(event).__name__}.",
                    hint="replay takes what take, latest and subscribe return.",
                )
        stamps = [_stamp_of(event) for event in events]
        if speed is not None and None not in stamps:
            events.sort(key=lambda event: event["metadata"]["timestamp"])
        begin_secs, first = time.monotonic(), None
        count = 0
        for event in events:
            stamp = _stamp_of(event)
            metadata = {**(event.get("metadata") or {})}
            metadata.pop("timestamp", None)
            if stamp is not None and speed is not None:
                first = first or stamp
                due_secs = begin_secs + (stamp - first).total_seconds() / speed
                _sleep(max(0.0, due_secs - time.monotonic()))
            self.send(topic or event["id"], event["value"], metadata)
            count += 1
        return count

    # -- inside --------------------------------------------------------------------------------------

    def _collect(
        self, topic: str, count: int, timeout_secs: float, *, replay_last: bool
    ) -> list[Event]:
        source = self._declared.check_topic(topic)
        if source.node != NOTEBOOK:
            self._declared.node(source.node)
        self._running_session(f"nothing comes on '{topic}'")
        arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        listener = self.subscribe(
            topic,
            arrived.put,
            queue_size=max(count, DEFAULT_QUEUE_SIZE),
            replay_last=replay_last,
        )
        try:
            return self._receive(arrived, topic, count, timeout_secs)
        finally:
            listener.close()

    def _receive(
        self, arrived: queue.SimpleQueue[Event], topic: str, count: int, timeout_secs: float
    ) -> list[Event]:
        events: list[Event] = []
        deadline_secs = time.monotonic() + timeout_secs
        while len(events) < count:
            left_secs = deadline_secs - time.monotonic()
            try:
                events.append(arrived.get(timeout=max(0.0, min(left_secs, _LOOK_EVERY_SECS))))
            except queue.Empty:
                if left_secs <= 0 or self._is_over(topic):
                    raise self._too_few(topic, len(events), count, timeout_secs) from None
        return events

    def _is_over(self, topic: str) -> bool:
        """Whether no message can come on this topic any more."""
        name = topic.partition("/")[0]
        if name == NOTEBOOK:
            return not self.running
        over = (State.FAILED, State.FINISHED, State.STOPPED, State.DECLARED)
        return name not in self._declared or self.status(name).state in over

    def _too_few(
        self, topic: str, came: int, wanted: int, timeout_secs: float | None
    ) -> TopicTimeoutError:
        name = topic.partition("/")[0]
        if name == NOTEBOOK:
            state = "nobody has sent any"
        elif name not in self._declared:
            state = f"{name} is not declared"
        else:
            status = self.status(name)
            state = f"{name} is {status.state_text()}"
            if status.error is not None:
                state += f" ({status.error.message})"
        return TopicTimeoutError(
            f"{came} of {wanted} messages came on '{topic}' within {timeout_secs:g} s; {state}."
        )

    def _wait_settled(
        self,
        session: EngineSession,
        names: list[str] | None,
        generations: dict[str, int],
        progress: Progress | None,
    ) -> None:
        """Waits for those operators (all, if None), and says so where it takes long."""
        begin_secs = time.monotonic()
        timeout_secs = PROGRESS_AFTER_SECS
        while not session.wait_settled(names, after=generations, timeout_secs=timeout_secs):
            timeout_secs = _PROGRESS_EVERY_SECS
            if progress is not None:
                waited_secs = time.monotonic() - begin_secs
                waited_for = ", ".join(names or session.settling())
                progress(f"starting: {waited_for} ({waited_secs:.0f} s)")

    def _to_start_again(self, engine: str) -> list[str] | None:
        """The operators that a start has to try once more; None where everything runs already."""
        with self._lock:
            if not self._declared.nodes:
                raise DataflowStateError(
                    "there is nothing to start:", hint="declare an operator with %%dora_operator."
                )
            session = self._session
            if session is None or not session.alive:
                return []
            return (list(session.errors()) or None) if not session.messages_flow else None

    def _begin(self, failed: list[str], engine: str) -> EngineSession:
        """The session that a start waits for: a new one, or the one whose failed operators try again."""
        with self._lock:
            session = self._session
            if session is None or not failed:
                self._close_session()
                # Known before it opens: a start that is interrupted in between is stopped as any other.
                session = _new_session(
                    engine, self._declared, self._listeners, on_change=self._changed
                )
                self._session = session
                session.open()
                return session
        for name in failed:
            session.restart(name, grace_secs=STOP_GRACE_SECS)
        return session

    def _raise_start_errors(self, session: EngineSession) -> None:
        errors = session.errors()
        if not errors:
            return
        for name in errors:
            self.mark_failure_seen(name)
        first, *others = errors.values()
        failed_too = f"Failed too: {', '.join(error.node for error in others)}." if others else ""
        way_out = ""
        if not session.failed_start_goes_on:
            way_out = "Nothing runs now: correct the cell, and start again."
        elif len(errors) < len(self._declared.nodes):
            way_out = (
                "The others are ready: correct the cell and run it, or remove it, and they go."
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

    def _raise_start_error(self, session: EngineSession, name: str) -> None:
        """Raises why a node's newest generation did not get past its `__init__`, if it did not."""
        error = session.start_error(name)
        if error is not None:
            self.mark_failure_seen(name)
            raise error

    def _applied(self, spec: NodeSpec, applied: Applied | None, *, restarted: bool) -> str:
        name = spec.name
        status = self.status(name)
        waiting_for = self._declared.waiting_text(name)
        waiting = f", waiting for {waiting_for}" if waiting_for else ""
        session = self._session
        if session is not None and not session.messages_flow and (holding := session.errors()):
            waiting += f"; the start is held by {', '.join(holding)}"
        waiting += _cycle_warning(self._declared, name)
        if not restarted:
            return f"started{waiting}"
        return f"generation {status.generation}, {_what_happened(applied)}{waiting}"

    def _running_session(self, what: str) -> EngineSession:
        session = self._session
        if session is None or not session.alive:
            raise DataflowStateError(
                f"{what}: the dataflow is not running.", hint="Start it with %dora start."
            )
        return session

    def _open_session(self) -> EngineSession | None:
        """The session that an edit is applied to: started, and not asked to stop. All of its
        operators may have ended by themselves, or failed."""
        session = self._session
        if session is None or session.stopping:
            return None
        return session if session.alive or session.edit_refusal is None else None

    def _close_if_over(self) -> None:
        """An edit is no business of a run that has ended, where it could not be edited while it went."""
        session = self._session
        if session is not None and session.edit_refusal is not None and not session.alive:
            self._close_session()

    def _check_is_own(self, what: str) -> None:
        session = self._session
        if session is not None and session.belongs_to is not None:
            raise DataflowStateError(
                f"{what}, as the notebook watches {session.belongs_to}, which belongs to whoever started it:",
                hint="%dora detach first.",
            )

    def _check_may_change(self, what: str) -> None:
        session = self._open_session()
        if session is not None and session.edit_refusal is not None:
            raise DataflowStateError(f"{what}, as {session.edit_refusal}.")

    def _close_session(self) -> None:
        """Keeps what is worth keeping of a session that has ended, and lets go of it."""
        session = self._session
        if session is None:
            return
        self._generations.clear()
        self._last_status = {each.name: each for each in session.status()}
        self._last_logs = session.logs()
        session.close()  # Once it is asked for it happens, whatever interrupts this; and twice is no harm.
        self._session = None

    def _declared_status(self, spec: NodeSpec) -> NodeStatus:
        return NodeStatus(
            name=spec.name,
            state=State.DECLARED,
            declared_in=spec.code.file,
            waiting_for=self._declared.waiting_for(spec.name),
            inputs=tuple(
                EdgeStatus(
                    str(read.source), spec.name, read.name, read.queue_size, read.queue_policy
                )
                for read in spec.inputs
                if isinstance(read.source, TopicSource)
            ),
        )

    def _listener_status(self, listener: EngineListener) -> EdgeStatus | None:
        session = self._session
        return listener.last_status if session is None else session.listener_status(listener)

    def _forget_listener(self, listener: EngineListener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
                if self._session is not None:
                    self._session.set_listeners(self._listeners)

    def _changed(self) -> None:
        for on_change in list(self._watchers):
            on_change()

    def __repr__(self) -> str:
        names = ", ".join(self._declared.nodes) or "empty"
        return f"<Dataflow {names}: {'running' if self.running else 'not running'}>"


def get_dataflow() -> Dataflow:
    """The notebook's own dataflow, which the magics act on."""
    return _own


def _new_session(
    engine: str,
    declared: Graph,
    listeners: Iterable[EngineListener],
    *,
    on_change: Callable[[], None],
) -> EngineSession:
    if engine == "dora":
        from dora_nb.engines.dora import DoraSession  # only who asks for it needs dora-rs

        return DoraSession(declared, listeners, on_change=on_change)
    return Session(declared, listeners, on_change=on_change)


def _is_there(spec: NodeSpec, declared: Graph) -> bool:
    return spec.name in declared and declared.node(spec.name).same_as(spec)


def _what_happened(applied: Applied | None) -> str:
    """The middle of the sentence that a cell ends in after an edit."""
    if applied is None:
        return "restarted, state not kept"
    if applied.outcome == "in_place":
        return "in place, state kept"
    if applied.outcome in ("kept", "dropped"):
        return "kept"
    state = "state carried over" if applied.state == "carried" else "state not kept"
    restarted = f"restarted: {applied.reason}" if applied.reason else "restarted"
    return "; ".join([f"{restarted}, {state}", *applied.notes])


def _kept(error: OperatorError, before: int, generation: int) -> OperatorError:
    """Why an edit was not taken, with what goes on instead: what ran before, or its code once more."""
    begin = f"{error.node}: kept generation {generation}: "
    if generation != before:
        begin = f"{error.node}: kept the code of generation {before}, restarted as generation {generation}: "
    said = error.message.removeprefix(f"{error.node}: ")
    return OperatorError(
        begin + said, node=error.node, traceback_lines=error.traceback_lines, hint=error.hint
    )


def _declared_words(declared: Graph, name: str) -> str:
    return "declared" + _cycle_warning(declared, name)


def _cycle_warning(declared: Graph, name: str) -> str:
    """The end of a sentence; empty where the node waits for itself in no way."""
    cycle = declared.blocking_cycle(name)
    if not cycle:
        return ""
    return (
        f"; {' → '.join([*cycle, name])} stands still once its queues are full, as every input in it "
        "has backpressure: let one drop its oldest"
    )


_all_dataflows: weakref.WeakSet[Dataflow] = weakref.WeakSet()
_own = Dataflow()


@atexit.register
def _stop_all() -> None:
    """At a kernel's orderly end operators get their STOP; at any other, they see it by themselves."""
    for dataflow in list(_all_dataflows):
        dataflow.detach()
        dataflow.stop(grace_secs=1.0)


def _stamp_of(event: Event) -> datetime.datetime | None:
    stamp = (event.get("metadata") or {}).get("timestamp")
    return stamp if isinstance(stamp, datetime.datetime) else None
