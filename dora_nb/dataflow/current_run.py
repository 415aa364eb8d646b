"""What is declared now, and the session that runs it, as all parts of a dataflow share them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from dora_nb.engines.base import EngineSession
from dora_nb.engines.control_board import ControlBoard
from dora_nb.engines.embedded import Listener, ServiceSpec
from dora_nb.errors import DataflowStateError, OperatorError
from dora_nb.events import Event
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec, Obstacle
from dora_nb.graph.sources import NOTEBOOK, TopicSource
from dora_nb.how_to import how_to
from dora_nb.status import EdgeStatus, LogLine, NodeStatus, State

from .story import Story

if TYPE_CHECKING:
    from .recording import FlightRecorder, Recorder
    from .replaying import Replay

Progress = Callable[[str], None]
"""Called with a sentence about once a second by what takes long."""
STOP_GRACE_SECS = 2.0
PROGRESS_AFTER_SECS = 2.0
_PROGRESS_EVERY_SECS = 1.0
_LOOK_EVERY_SECS = 0.1


class CurrentRun:
    """The declared graph, at most one session that runs it, and the notebook's own readers of its topics.

    Any thread may call the methods. `lock` guards `graph` and `session`; it is never held while waiting.
    The readers outlive a session: those of the old one are those of the next.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.graph = Graph()
        self.session: EngineSession | None = None
        self._own_graph: Graph | None = None
        """What is declared here, while another dataflow is watched."""
        self.controls = ControlBoard()
        """Where the controls of the page leave their values; it outlives a session, as the readers do."""
        self.services: dict[str, ServiceSpec] = {}
        """By name: the service nodes that the next session starts with; see `set_service`."""
        self.before_close: list[Callable[[], None]] = []
        """What is called before a session closes, which has ended; with the lock."""
        self.story = Story()
        """What recordings are told of the code."""
        self.recorder: Recorder | None = None
        """The `Recorder` that was started last."""
        self.hint_at_failures: str | None = None
        """What the error of a node that has failed says too, while a session lasts."""
        self.keeper: FlightRecorder | None = None
        """The `FlightRecorder`; None where nothing is kept."""
        self.replay: Replay | None = None
        """The recording that is replayed now."""
        self.last_replay: Replay | None = None
        """The replay that was started last, which may have ended."""
        self._problems: list[str] = []
        self._readers: list[Listener] = []
        self._service_readers: list[Listener] = []
        """What the kernel reads from services; not the user's."""
        self._last_status: dict[str, NodeStatus] = {}
        self._last_logs: dict[str, list[LogLine]] = {}
        self._let_go = False
        self._callbacks: list[Callable[[], None]] = []
        self._without_cell: set[str] = set()

    # -- the session -----------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether any node has a process."""
        session = self.session
        return session is not None and session.alive

    def running_session(self, what: str) -> EngineSession:
        """The session, if it has living nodes; else raises DataflowStateError, which begins with `what`."""
        session = self.session
        if session is None or not session.alive:
            if self._let_go:
                raise DataflowStateError(
                    f"{what}: it is not watched any more.", hint="Attach to it again."
                )
            raise DataflowStateError(
                f"{what}: the dataflow is not running.", hint=f"Start it with {how_to('start')}."
            )
        return session

    def open_session(self) -> EngineSession | None:
        """The session that an edit is applied to: started, and not asked to stop. All of its nodes may have
        ended by themselves, or failed."""
        session = self.session
        if session is None or session.stopping:
            return None
        return session if session.alive or session.edit_refusal is None else None

    def check_is_own(self, what: str) -> None:
        """Raises DataflowStateError, which begins with `what`, while another dataflow is watched."""
        session = self.session
        if session is not None and session.belongs_to is not None:
            raise DataflowStateError(
                f"{what} while the notebook watches {session.belongs_to}, which was started elsewhere:",
                hint="%dora detach first.",
            )

    def check_runs_here(self, name: str, what: str) -> None:
        """Raises DataflowStateError, which begins with `what`, if the embedded engine cannot run the node."""
        session, obstacle = self.session, self.graph.node(name).obstacle
        if obstacle is None or (session is not None and session.edit_refusal is not None):
            return
        raise DataflowStateError(f"{what}: {obstacle}.", hint=way_out_of(obstacle))

    def note_problem(self, text: str) -> None:
        """Keeps what went wrong without a cell that could show it, for the next cell. Any thread."""
        self._problems.append(text)

    def take_problems(self) -> list[str]:
        """Returns what was noted since the last call."""
        with self.lock:
            problems, self._problems = self._problems, []
        return problems

    def replayed_from(self, name: str) -> str:
        """The name of the recording that is replayed in place of that node; empty where none is."""
        replay = self.replay
        owners = () if replay is None else (topic.partition("/")[0] for topic in replay.topics)
        return replay.file if replay is not None and name in owners else ""

    def check_is_not_replayed(self, name: str, what: str) -> None:
        """Raises DataflowStateError, which begins with `what`, while a recording is replayed in place of the node."""
        file = self.replayed_from(name)
        if file:
            raise DataflowStateError(
                f"{what}: it is replayed from {file}.",
                hint=f"{how_to('stop the replay')} ends that.",
            )

    def check_may_change(self, what: str) -> None:
        """Raises DataflowStateError, which begins with `what`, if the engine cannot change one node alone."""
        session = self.open_session()
        if session is not None and session.edit_refusal is not None:
            raise DataflowStateError(f"{what}, as {session.edit_refusal}.")

    def begin(self, session: EngineSession) -> None:
        """Opens a session in place of one that has ended. With the lock."""
        self.close_session()
        # It is known before it opens, so that a start that is interrupted in between is stopped like any other.
        self.session = session
        session.open()
        self.story.begin(self.graph)

    def close_session(self) -> None:
        """Closes a session that has ended, and keeps its last states and logs."""
        session = self.session
        if session is None:
            return
        for call in list(self.before_close):
            call()
        self.story.end()
        if self.replay is not None:
            self.replay.set_aside()
        self._last_status = {each.name: each for each in session.status()}
        self._last_logs = session.logs()
        session.close()  # Once asked for it happens, whatever interrupts this; asking twice does no harm.
        self.session = None

    def close_if_over(self) -> None:
        """A run that could not be edited while it went, and has ended, is closed before an edit."""
        session = self.session
        if session is not None and session.edit_refusal is not None and not session.alive:
            self.close_session()

    def wait_settled(
        self,
        session: EngineSession,
        names: list[str] | None,
        generations: dict[str, int],
        progress: Progress | None,
        look: Callable[[], None] | None = None,
    ) -> None:
        """Waits until those nodes (all, if None) are ready or have ended.

        Calls `progress` if it takes long, and at once when a node fails that its policy starts again. Calls
        `look` ten times a second; an exception that it raises ends the wait.
        """
        begin_secs = time.monotonic()
        next_secs = begin_secs + PROGRESS_AFTER_SECS
        seen_failures = False
        while not session.wait_settled(names, after=generations, timeout_secs=_LOOK_EVERY_SECS):
            if look is not None:
                look()
            if progress is None:
                continue
            now_secs = time.monotonic()
            failures = [str(each) for each in session.failed_starts().values()]
            if now_secs < next_secs and (not failures or seen_failures):
                continue
            seen_failures = bool(failures)
            next_secs = now_secs + _PROGRESS_EVERY_SECS
            waited_for = ", ".join(names or session.settling())
            waiting = f"starting: {waited_for} ({now_secs - begin_secs:.0f} s)"
            progress("; ".join([*failures, waiting]))

    def set_service(self, name: str, spec: ServiceSpec | None, *, in_this_run: bool = True) -> None:
        """Starts, changes or (None) ends a service node, in this run and those that follow. EngineError.

        Restarts no operator, and does not wait for the service. Without `in_this_run`, only those that follow.
        """
        with self.lock:
            self.services.pop(name, None)
            if spec is not None:
                self.services[name] = spec
            session = self.session
        if session is not None and in_this_run:
            session.set_service(spec, name)

    # -- another dataflow ------------------------------------------------------------------------------

    @property
    def watches(self) -> bool:
        """Whether graph and session are those of a dataflow that was started elsewhere."""
        return self._own_graph is not None

    def watch(self, graph: Graph, session: EngineSession) -> None:
        """Shows a dataflow that was started elsewhere until `end_watching`; keeps what is declared here.

        The session is the caller's to open, after it has let go of the lock.
        """
        with self.lock:
            self.close_session()
            self.session = session
            self._own_graph, self.graph = self.graph, graph

    def end_watching(self) -> bool:
        """Shows again what is declared here; the other dataflow goes on. False where nothing was watched."""
        with self.lock:
            own = self._own_graph
            if own is None:
                return False
            self.close_session()
            self._own_graph, self.graph = None, own
            self._last_status, self._last_logs = {}, {}
        self.changed()
        return True

    def let_go(self) -> None:
        """Ends the watching for good: the graph is kept, and nothing else. May be called twice."""
        with self.lock:
            self.close_session()
            self._last_status, self._last_logs = {}, {}
            self._let_go = True
        self.changed()

    # -- what is seen ----------------------------------------------------------------------------------

    def statuses(self) -> list[NodeStatus]:
        """A snapshot of every declared node."""
        with self.lock:
            current = dict(self._last_status)
            if self.session is not None:
                current.update({each.name: each for each in self.session.status()})
            found = [current.get(spec.name) or self._declared_status(spec) for spec in self.graph]
            found = [
                replace(each, inputs=tuple(map(self._with_age, each.inputs))) for each in found
            ]
            if self.session is not None and self.hint_at_failures is not None:
                found = [_with_hint(each, self.hint_at_failures) for each in found]
            return [
                replace(each, cell_deleted=True) if each.name in self._without_cell else each
                for each in found
            ]

    def _with_age(self, edge: EdgeStatus) -> EdgeStatus:
        """The edge, with the age of the last word where a control sends on it."""
        node, _, name = edge.topic.partition("/")
        word = self.controls.word(name) if node == NOTEBOOK else None
        if word is None or not word.number:
            return edge
        return replace(edge, word_age_secs=time.monotonic() - word.at_secs)

    def status(self, name: str) -> NodeStatus:
        """The snapshot of one node. GraphError where it is not declared."""
        with self.lock:
            self.graph.node(name)
            return next(each for each in self.statuses() if each.name == name)

    def logs(self) -> dict[str, list[LogLine]]:
        """The lines that are kept of each node; after a stop, those of the last run."""
        with self.lock:
            return self._last_logs if self.session is None else self.session.logs()

    def forget_status(self, name: str) -> None:
        """Forgets the state that the node had in the last run, as it is declared anew."""
        self._last_status.pop(name, None)

    def forget(self, name: str) -> None:
        """Forgets a node that is removed."""
        self._last_status.pop(name, None)
        self._last_logs.pop(name, None)
        self._without_cell.discard(name)

    def note_cell(self, name: str, *, deleted: bool) -> None:
        """Whether the cell that declared the node is gone from the notebook."""
        if not deleted:
            self._without_cell.discard(name)
        elif name in self.graph:
            self._without_cell.add(name)
            self.changed()

    def _declared_status(self, spec: NodeSpec) -> NodeStatus:
        obstacle = spec.obstacle
        failed = obstacle is not None and bool(obstacle.place) and self.session is not None
        return NodeStatus(
            name=spec.name,
            state=_state_before_start(spec, failed=failed),
            replayed_from=spec.replayed_from,
            obstacle=obstacle,
            error=obstacle_error(spec.name, obstacle) if failed and obstacle is not None else None,
            declared_in=spec.code.file,
            waiting_for=self.graph.waiting_for(spec.name),
            inputs=tuple(
                EdgeStatus(
                    str(read.source), spec.name, read.name, read.queue_size, read.queue_policy
                )
                for read in spec.inputs
                if isinstance(read.source, TopicSource)
            ),
        )

    def call_on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls it after anything may have changed; returns a function that ends that."""
        self._callbacks.append(callback)

        def end() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return end

    def changed(self) -> None:
        """Calls the callbacks, as anything may have changed. On any thread."""
        for callback in list(self._callbacks):
            callback()

    # -- the notebook's readers ------------------------------------------------------------------------

    @property
    def readers(self) -> tuple[Listener, ...]:
        """What the notebook's own code reads now."""
        return tuple(self._readers)

    def add_reader(
        self, topic: str, callback: Callable[[Event], None], *, queue_size: int, replay_last: bool
    ) -> Listener:
        """Calls `callback` with each message of a topic, until `remove_readers`. GraphError, EngineError."""
        with self.lock:
            reader = self.make_reader(
                topic, callback, queue_size=queue_size, replay_last=replay_last
            )
            self.add_readers([reader])
        return reader

    def make_reader(
        self, topic: str, callback: Callable[[Event], None], *, queue_size: int, replay_last: bool
    ) -> Listener:
        """A reader that reads nothing before `add_readers`. GraphError for a topic that cannot be read."""
        return Listener(
            self.graph.check_topic(topic),
            cast(Callable[[dict[str, object]], None], callback),
            queue_size=queue_size,
            replay_last=replay_last,
        )

    @property
    def all_readers(self) -> list[Listener]:
        """Those, and what the kernel reads from services."""
        return [*self._readers, *self._service_readers]

    def add_service_reader(self, reader: Listener) -> None:
        """Reads from a service node, until `remove_service_reader`."""
        with self.lock:
            self._service_readers.append(reader)
            if self.session is not None:
                self.session.set_listeners(self.all_readers)

    def remove_service_reader(self, reader: Listener) -> None:
        """No further call of its callback begins."""
        with self.lock:
            if reader in self._service_readers:
                self._service_readers.remove(reader)
                if self.session is not None:
                    self.session.set_listeners(self.all_readers)

    def add_readers(self, readers: Sequence[Listener]) -> None:
        """Adds several at once: on dora-rs, another output of a node that is read already takes half a second."""
        with self.lock:
            if self.session is not None:
                self.session.set_listeners([*self.all_readers, *readers])
            self._readers.extend(readers)

    def remove_reader(self, reader: Listener) -> None:
        """No further call of its callback begins."""
        self.remove_readers([reader])

    def remove_readers(self, readers: Sequence[Listener]) -> None:
        """No further call of their callbacks begins."""
        with self.lock:
            kept = [each for each in self._readers if each not in readers]
            if len(kept) < len(self._readers):
                self._readers = kept
                if self.session is not None:
                    self.session.set_listeners(self.all_readers)

    def reader_status(self, reader: Listener) -> EdgeStatus | None:
        """The counts of a reader's edge; None while its publisher was never started."""
        session = self.session
        return reader.last_status if session is None else session.listener_status(reader)


def _with_hint(status: NodeStatus, hint: str) -> NodeStatus:
    error = status.error
    if error is None:
        return status
    told = OperatorError(
        error.message,
        node=error.node,
        traceback_lines=error.traceback_lines,
        hint=f"{error.hint} {hint}" if error.hint else hint,
        location=error.location,
    )
    return replace(status, error=told)


def _state_before_start(spec: NodeSpec, *, failed: bool) -> State:
    if spec.replayed_from:
        return State.REPLAYED
    return State.FAILED if failed else State.DECLARED


def way_out_of(obstacle: Obstacle) -> str:
    """What to do about a node that the embedded engine cannot run."""
    if obstacle.place:
        return "Correct its file and import it again, or give the node a Python that can run it."
    return f"Run the dataflow with {how_to('start on dora-rs')}."


def obstacle_error(name: str, obstacle: Obstacle) -> OperatorError:
    """The failure of a node whose code this Python cannot run."""
    return OperatorError(f"{name} failed: {obstacle}", node=name, traceback_lines=obstacle.place)
