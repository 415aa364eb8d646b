"""A dataflow whose status a test writes, time that it lets pass, and a page that it plays by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.status import NodeStatus, State
from dora_nb.widgets.page.live import REFRESH_SECS, Refresher
from dora_nb.widgets.page.problems import Problems
from dora_nb.widgets.page.widget import PageWidget


@dataclass(eq=False)
class Scripted:
    """A dataflow whose status a test writes."""

    graph: Graph = field(default_factory=Graph)
    running: bool = False
    statuses: dict[str, NodeStatus] = field(default_factory=dict)
    watchers: list[Callable[[], None]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    asked: int = 0

    def add(self, name: str, inputs: dict[str, str] | None = None, outputs: str = "") -> None:
        reads = tuple(InputSpec(key, parse_source(text)) for key, text in (inputs or {}).items())
        spec = NodeSpec(name, SourceCode("", "Cell In[1]"), reads, tuple(outputs.split()))
        self.graph = self.graph.with_node(spec)
        self.statuses[name] = NodeStatus(name, State.DECLARED, "Cell In[1]")

    def change(self, name: str, **changes: Any) -> None:
        self.statuses[name] = replace(self.statuses[name], **changes)
        for on_change in list(self.watchers):
            on_change()

    def remove(self, name: str) -> None:
        self.graph = self.graph.without(name)

    def service_status(self) -> list[Any]:
        return []

    def status(self, name: str | None = None) -> Any:
        if name is None:
            return [self.status(spec.name) for spec in self.graph]
        self.asked += 1
        self.graph.node(name)
        return self.statuses[name]

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback) if callback in self.watchers else None


class ByHand(Refresher):
    """A refresher without a thread: a test says when time passes."""

    def __init__(self) -> None:
        self.now_secs = 100.0
        self.woken = 0
        super().__init__(clock=lambda: self.now_secs, problems=Problems())
        self._thread = threading.current_thread()  # so that none is started

    def wake(self) -> None:
        self.woken += 1

    def refresh_all(self, after_secs: float = REFRESH_SECS) -> None:
        self.now_secs += after_secs
        for widget in self._living():
            self._refresh(widget)


@dataclass
class Page:
    """A front end: what it was sent, and words to say."""

    widget: PageWidget
    client: str = "page"
    received: list[dict[str, Any]] = field(default_factory=list)
    num_said: int = 0

    def say(self, **content: Any) -> None:
        self.num_said += 1
        message = {"client": self.client, "n": self.num_said, **content}
        self.widget._handle_custom_msg(message, [])

    @property
    def last(self) -> dict[str, Any]:
        return self.received[-1]
