"""What the notebook's front end, its magics and its live widgets, does beyond the methods of a `Dataflow`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dora_nb.compare import Comparison
from dora_nb.errors import DataflowStateError, OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.status import State

from . import messaging, topics
from .comparing import compare_edit
from .current_run import Progress
from .dataflow import Dataflow, get_dataflow
from .replaying import Replay
from .results import Declared
from .watched import COORDINATOR, DAEMON_PORT, find


@dataclass(frozen=True, slots=True)
class Attached:
    """What `FrontEnd.attach` did."""

    name: str
    """Name or UUID of the dataflow that is watched now."""
    nodes: tuple[str, ...]
    already_watching: bool = False


class FrontEnd:
    """The notebook's side of a dataflow: declares what cells say, and remembers what the user has seen.

    While another dataflow is watched, `dataflow` shows that one, in the same object: views and variables of
    the notebook need not know of it.
    """

    def __init__(self, dataflow: Dataflow) -> None:
        self.dataflow = dataflow
        self._run = dataflow._run
        self._declaring = dataflow._declaring
        self._failures = dataflow._failures

    # -- cells ---------------------------------------------------------------------------------------

    def declare(self, spec: NodeSpec, *, progress: Progress | None = None) -> Declared:
        """Declares what a cell says, see `Declaring.declare`."""
        return self._declaring.declare(spec, progress=progress)

    def declare_all(self, graph: Graph) -> list[Declared]:
        """Declares every node of another graph, see `Declaring.declare_all`."""
        return self._declaring.declare_all(graph)

    def compare_edit(
        self, spec: NodeSpec, recording: str, *, progress: Progress
    ) -> Comparison | None:
        """Compares what a cell is about to declare with the code before, see `comparing.compare_edit`."""
        return compare_edit(self._run, spec, recording, progress)

    def note_cell_deleted(self, name: str) -> None:
        """The cell that declared this node is gone from the notebook, until it is declared anew."""
        self._run.note_cell(name, deleted=True)

    def kept_generation(self, name: str) -> int | None:
        """The generation that goes on where an edit of that node is refused; None where none runs."""
        if name not in self._run.graph or not self._run.alive:
            return None
        status = self._run.status(name)
        return status.generation if status.state in (State.RUNNING, State.WAITING) else None

    # -- failures ------------------------------------------------------------------------------------

    def unseen_failures(self) -> list[OperatorError]:
        """The failures that were not shown yet; each is returned once."""
        return self._failures.take_unseen()

    def mark_failure_seen(self, name: str) -> None:
        """That node's failure has been shown."""
        self._failures.mark(name)

    # -- a replay ------------------------------------------------------------------------------------

    @property
    def replay(self) -> Replay | None:
        """The recording that is replayed now; None where none is."""
        return self._run.replay

    @property
    def last_replay(self) -> Replay | None:
        """The replay that was started last, which may have ended."""
        return self._run.last_replay

    def unseen_problems(self) -> list[str]:
        """Why replays have ended before their time; each is returned once."""
        return self._run.take_problems()

    # -- topics --------------------------------------------------------------------------------------

    def find_topic(self, text: str) -> str:
        """The topic of that name; GraphError with the nearest one where there is none."""
        return topics.find_topic(self._run, text)

    def check_flows(self, topic: str) -> None:
        """Raises DataflowStateError where no message can come: nothing runs, or its node is not declared."""
        topics.check_flows(self._run, topic)

    def is_over(self, topic: str) -> bool:
        """Whether no further message can come, as its node has ended."""
        return messaging.is_over(self._run, topic)

    def publisher_text(self, topic: str) -> str:
        """Why nothing comes, as the end of a sentence: ``camera is failed (ValueError: ...)``."""
        return messaging.publisher_text(self._run, topic)

    def measure(self, names: Iterable[str], *, replay_last: bool) -> topics.Measurement:
        """Reads topics while it is open, and says how often their messages come."""
        return topics.Measurement(self._run, names, replay_last=replay_last)

    def publish(self, topic: str, data: Any) -> None:
        """As `Dataflow.send`, but ``notebook/NAME`` needs no reader."""
        messaging.send(self._run, topic, data, None, reader_needed=False)

    @property
    def reading_costs(self) -> bool:
        """Whether a process must join for each node that is read, as on dora-rs."""
        session = self._run.session
        return session is not None and session.edit_refusal is not None

    # -- another dataflow ----------------------------------------------------------------------------

    def attach(
        self,
        name: str | None = None,
        *,
        coordinator: str = COORDINATOR,
        daemon_port: int = DAEMON_PORT,
    ) -> Attached:
        """Has `dataflow` show one that was started elsewhere, until `detach`; see `dora_nb.attach`.

        Raises also DataflowStateError where the notebook's own dataflow runs.
        """
        run = self._run
        with run.lock:
            watched = run.session
            if run.watches and watched is not None:
                if watched.alive and name in (None, *watched.names):
                    nodes = tuple(run.graph.nodes)
                    return Attached(watched.names[0], nodes, already_watching=True)
                if not watched.alive:
                    run.end_watching()
            run.check_is_own("another dataflow cannot be watched")
            if run.alive:
                raise DataflowStateError(
                    "the notebook's own dataflow runs:",
                    hint="%dora stop it before you watch another.",
                )
            running, session = find(run, name, coordinator=coordinator, daemon_port=daemon_port)
            run.watch(running.graph, session)
        try:
            session.open()
        except BaseException:
            run.end_watching()
            raise
        run.changed()
        return Attached(running.name, tuple(running.graph.nodes))

    def detach(self) -> bool:
        """Ends that; what was declared here is shown again. False where nothing was watched."""
        return self._run.end_watching()


def get_front_end() -> FrontEnd:
    """The front end of the notebook's own dataflow."""
    return _own


_own = FrontEnd(get_dataflow())
