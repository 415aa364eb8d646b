"""The interface of an engine to `dora_nb.dataflow.dataflow`: one run of a dataflow, from start to stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from dora_nb.child.crash_report import CrashReport
from dora_nb.errors import FailedStarts, OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import TopicSource
from dora_nb.status import EdgeStatus, LogLine, NodeStatus

from .control_words import Word
from .edit import Applied, Edit
from .embedded import Listener, ServiceSpec, Session


class EngineSession(Protocol):
    """One run of a dataflow. Any thread may call it; no process or thread exists before `open`.

    Its constructor takes the declared graph, the kernel's subscriptions, the controls, and a callback for
    changes of any node's state. The callback is called on any thread and must return at once.
    """

    @property
    def alive(self) -> bool:
        """Whether any node runs or is about to."""

    @property
    def messages_flow(self) -> bool:
        """Whether messages flow: every node has been ready once."""

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the nodes on this engine, a line each; complete after `open`."""

    @property
    def edit_refusal(self) -> str | None:
        """Why the nodes cannot be changed while they run, as the end of a sentence; None if they can."""

    @property
    def belongs_to(self) -> str | None:
        """The owner, if the dataflow was started elsewhere and must not be stopped from here; else None."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the run where it was started: its name and its UUID."""

    @property
    def failed_start_goes_on(self) -> bool:
        """Whether the other nodes wait after a failed start, and run once the failed node is corrected."""

    def open(self) -> None:
        """Starts every node; need not wait for them. Raises EngineError; `close` ends what was started."""

    def apply(self, declared: Graph, name: str, *, edit: Edit | None, grace_secs: float) -> bool:
        """Adds or changes a node; does not wait for it. False if the session is stopping.

        `edit` says how a running node takes its new declaration.
        """

    def applied(self, name: str) -> Applied | None:
        """Returns the outcome of the newest edit of that node; None if it was started instead."""

    def abandon(self, spec: NodeSpec) -> None:
        """Cancels the edit to that declaration, if it is not too late."""

    def restart(self, name: str, *, grace_secs: float, retry: bool = False) -> None:
        """Starts a new generation; does not wait for it. With `retry`, it first handles the event that the
        newest failure has kept."""

    def stop_node(self, name: str, *, grace_secs: float) -> bool:
        """Stops one node, and waits until it has ended; its readers' inputs from it are closed. False where
        it had ended by itself, or was never started."""

    def remove(self, declared: Graph, name: str, *, grace_secs: float) -> None:
        """Stops a node and removes it. Waits until it has ended."""

    def crash_report(self, name: str) -> CrashReport | None:
        """Returns the crash report of the node's newest failure; None if there is none."""

    def retry_event(self, name: str) -> bool:
        """Makes a running node handle the event that it failed on. False if it cannot."""

    def wait_retried(self, name: str, *, timeout_secs: float | None) -> bool:
        """Waits until the node has handled it or has ended. False on a timeout."""

    def living_state(self, name: str, *, timeout_secs: float) -> CrashReport | None:
        """Returns the state of a running node; None if the node cannot tell it in time."""

    def stacks(self, name: str) -> str:
        """Where the threads of that node's process are now, as text; asks its code for nothing. Waits a
        bounded time. DataflowStateError where that cannot be known, EngineError where it does not answer."""

    def params(self, name: str) -> dict[str, Any]:
        """Returns the parameters of that node."""

    def set_param(self, name: str, key: str, value_json: str) -> None:
        """Sets a parameter and tells the node."""

    def delete_param(self, name: str, key: str) -> None:
        """Deletes a parameter and tells the node."""

    def send(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> None:
        """Sends as the notebook, on ``notebook/NAME``. Blocks while a queue with backpressure is full."""

    def update_controls(self, removed: Mapping[str, Word] | None = None) -> None:
        """Makes the controls of the board those that are published; restarts no operator.

        `removed` are the last words of controls that are gone. Does not wait for the publishing process.
        """

    def send_word(self, name: str, word: Word) -> None:
        """Sends a word, or a newer one of that control, to the process that publishes it. Never blocks."""

    def set_service(self, spec: ServiceSpec | None, name: str) -> None:
        """Adds the service node of that name, changes its wires in place, or removes it; restarts no operator.

        A function as `spec` is called again after each change of what it reads. Does not wait; before `open`
        it is only noted.
        """

    def service_statuses(self) -> list[NodeStatus]:
        """Returns a snapshot of every service node that the user sees."""

    def service_error(self, name: str) -> OperatorError | None:
        """Returns why that service has failed; None if it has not."""

    def tell_service(self, name: str, data: pa.Array[Any], metadata: dict[str, Any]) -> None:
        """Sends a word to a service that reads them. Never blocks."""

    def wait_service_ready(self, name: str, *, timeout_secs: float | None) -> bool:
        """Waits until a service has begun or has ended. False on a timeout."""

    def wait_service_gone(self, name: str, *, timeout_secs: float | None = None) -> bool:
        """Waits until a service that was removed has ended. False on a timeout."""

    def replay_host(self, topics: Iterable[str]) -> Session:
        """Returns the embedded session whose player can publish these topics; see `Session.begin_replay`.

        Raises DataflowStateError if the engine cannot replay one of them.
        """

    def inject(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> bool:
        """Makes a node send a message as its own. False if it does not run or the engine cannot do it."""

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """Replaces the kernel's subscriptions. On an EngineError the previous ones stay."""

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        """Returns the counts of a subscription's edge; None if there is no edge yet."""

    def wait_settled(
        self, names: Iterable[str] | None, *, after: dict[str, int], timeout_secs: float | None
    ) -> bool:
        """Waits until those nodes (all, if None) are ready or have ended, in a generation later than
        `after` says. False on a timeout; EngineError if the start as a whole has failed."""

    def wait_exited(self, name: str, *, timeout_secs: float) -> bool:
        """Waits until the process of a node that has ended by itself has exited. False on a timeout."""

    def failed_starts(self) -> dict[str, FailedStarts]:
        """Returns the failures of each node that its restart policy starts again before it was ready."""

    def settling(self) -> list[str]:
        """Returns the nodes that are not ready yet."""

    def generations(self) -> dict[str, int]:
        """Returns the current generation of each node."""

    def errors(self) -> dict[str, OperatorError]:
        """Returns the error of each node that has failed."""

    def start_error(self, name: str) -> OperatorError | None:
        """Returns the error of the node's newest generation, if it failed before it was ready."""

    def status(self) -> list[NodeStatus]:
        """Returns a snapshot of every node, in the order of declaration."""

    def logs(self) -> dict[str, list[LogLine]]:
        """Returns the kept lines of each node's output."""

    def request_stop(self, *, grace_secs: float) -> None:
        """Asks every node to stop; returns at once."""

    def wait_ended(self, timeout_secs: float | None) -> bool:
        """Waits until no node runs. False on a timeout."""

    def close(self) -> None:
        """Stops the nodes that this session has started, and releases everything."""
