"""What `dora_nb.dataflow.dataflow` asks of an engine: one run of a dataflow, from start to stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from dora_nb.child.crash_report import CrashReport
from dora_nb.errors import OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import TopicSource
from dora_nb.status import EdgeStatus, LogLine, NodeStatus

from .edit import Applied, Edit
from .embedded import Listener


class EngineSession(Protocol):
    """One run. Any thread may call it; nothing is there before `open`.

    It is given what is declared, the kernel's subscriptions, and what to call (on any thread, to
    return at once) when any node's state may have changed.
    """

    @property
    def alive(self) -> bool:
        """Whether any node runs, or is about to."""

    @property
    def messages_flow(self) -> bool:
        """Whether messages move: every node was ready once."""

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the nodes on this engine, a line each; known once it is open."""

    @property
    def edit_refusal(self) -> str | None:
        """Why nothing of it can be changed while it runs, as the end of a sentence; None where it can."""

    @property
    def belongs_to(self) -> str | None:
        """Whose dataflow it is, where it is somebody else's and never to be stopped from here."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the run is called by whoever started it: its name, its UUID."""

    @property
    def failed_start_goes_on(self) -> bool:
        """Whether a start in which a node failed is still there, and goes once that one is corrected."""

    def open(self) -> None:
        """Starts every node; need not wait for them. EngineError; what was begun is `close`'s to end."""

    def apply(self, declared: Graph, name: str, *, edit: Edit | None, grace_secs: float) -> bool:
        """Takes a new or changed node in; does not wait for it. False where nothing starts any more.

        `edit` says how a node that runs is to become what it is declared as now.
        """

    def applied(self, name: str) -> Applied | None:
        """What came of the newest edit of that node; None where it was started instead."""

    def abandon(self, spec: NodeSpec) -> None:
        """Drops what is being prepared for that declaration, if it is not too late."""

    def restart(self, name: str, *, grace_secs: float, retry: bool = False) -> None:
        """Lets another generation follow; does not wait for it. With `retry` it first handles the event
        that the newest failure left."""

    def remove(self, declared: Graph, name: str, *, grace_secs: float) -> None:
        """Stops a node and forgets it. Waits until it has ended."""

    def crash_report(self, name: str) -> CrashReport | None:
        """What the newest failure of that node left behind; None for nothing."""

    def retry_event(self, name: str) -> bool:
        """Has a node that runs handle the event that it failed on. False where that cannot be."""

    def wait_retried(self, name: str, *, timeout_secs: float | None) -> bool:
        """Waits until it has, or has ended. False when the time is over."""

    def living_state(self, name: str, *, timeout_secs: float) -> CrashReport | None:
        """The state of a node that runs; None where it cannot be had, or not in time."""

    def params(self, name: str) -> dict[str, Any]:
        """The parameters of that node."""

    def set_param(self, name: str, key: str, value_json: str) -> None:
        """Sets a parameter and tells the node."""

    def delete_param(self, name: str, key: str) -> None:
        """Takes a parameter away and tells the node."""

    def send(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> None:
        """Sends as the notebook, on ``notebook/NAME``. Blocks while a queue with backpressure is full."""

    def inject(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> bool:
        """Has a node send something as if of itself. False where it does not run, or the engine cannot."""

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """The kernel's subscriptions are these now. EngineError, and they are what they were."""

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        """The counts of a subscription's edge; None where there is no edge yet."""

    def wait_settled(
        self, names: Iterable[str] | None, *, after: dict[str, int], timeout_secs: float | None
    ) -> bool:
        """Waits until those nodes (all, if None) are ready or have ended, in a generation later than
        `after` says. False when the time is over; EngineError where the start as a whole has failed."""

    def settling(self) -> list[str]:
        """The nodes that are not ready yet."""

    def generations(self) -> dict[str, int]:
        """The generation of each node now."""

    def errors(self) -> dict[str, OperatorError]:
        """The nodes that have failed, and why."""

    def start_error(self, name: str) -> OperatorError | None:
        """Why that node's newest generation failed, if it did before it was ready."""

    def status(self) -> list[NodeStatus]:
        """A snapshot of every node, in the order of declaration."""

    def logs(self) -> dict[str, list[LogLine]]:
        """The lines that each node printed, as many as are kept."""

    def request_stop(self, *, grace_secs: float) -> None:
        """Asks every node to stop; returns at once."""

    def wait_ended(self, timeout_secs: float | None) -> bool:
        """Waits until no node runs. False when the time is over."""

    def close(self) -> None:
        """Lets go of everything; stops what is still there and its own."""
