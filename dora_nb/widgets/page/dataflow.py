"""The part of a `Dataflow` that widgets use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, overload

from dora_nb.graph.graph import Graph
from dora_nb.status import EdgeStatus, NodeStatus


class LiveDataflow(Protocol):
    """For widgets that show its state."""

    @property
    def graph(self) -> Graph: ...

    @property
    def running(self) -> bool: ...

    @overload
    def status(self) -> list[NodeStatus]: ...

    @overload
    def status(self, name: str) -> NodeStatus: ...

    def service_status(self) -> list[NodeStatus]: ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


class Listener(Protocol):
    """The return value of `ViewedDataflow.subscribe`."""

    def close(self) -> None: ...

    def status(self) -> EdgeStatus | None: ...


class ViewedDataflow(Protocol):
    """For views of single topics."""

    @property
    def graph(self) -> Graph: ...

    @property
    def running(self) -> bool: ...

    def status(self, name: str) -> NodeStatus: ...

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Any], None],
        *,
        queue_size: int = 1,
        replay_last: bool = False,
    ) -> Listener: ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


def notebook_dataflow() -> Any:
    """Returns the notebook's own dataflow, for a view that was given none."""
    # Here, since this package is loaded without the engines.
    from dora_nb.dataflow.dataflow import get_dataflow

    return get_dataflow()
