"""The dataflow as a live graph: how each node and each edge is doing, and why messages are dropped.

The protocol is that of `dora_nb.widgets.page.widget`, with these messages of its own.

kernel to page
    ``graph``: `width`, `height`, `boxes`, `wires`: where everything is. It is sent before the first status,
        and when nodes or connections have changed. All names and labels are text and MUST NOT become markup.
    ``thumbnail``: `topic`, and as a buffer its newest picture, a small JPEG; at most one a second for each
        topic of a node that a page sees.
    ``status``: `text`, `nodes` by key of their box, `edges` by ``READER/INPUT``, `advice` (sentences), and
        `panels` by node: of each node that a page has selected.
page to kernel
    ``see``: `nodes`, those of which some part is on the screen.
    ``select``: the `node` whose panel the page shows; empty for none.
    ``restart``, ``stop``: what a person wants to become of `node`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import traitlets

from dora_nb.graph.graph import Graph
from dora_nb.graph.layout import PADDING, SMALL_ADVANCE, Box, Layout, lay_out
from dora_nb.graph.sources import NOTEBOOK
from dora_nb.status import EdgeStatus, LogLine, NodeStatus, State, TopicStatus

from ..graph import GraphPicture, wire_path
from ..page import live
from ..page.assets import page_code, page_style
from ..page.dataflow import LiveDataflow, notebook_dataflow
from ..page.guarded import text_in
from ..page.live import LiveWidget
from ..page.pages import MAX_CLIENTS
from ..page.rates import RateMeter
from ._actions import ACTIONS, NodeActions
from ._thumbnails import Thumbnails
from ._usage import UsageMeter
from .bottleneck import WINDOW_SECS, Snapshot, bottleneck

LOG_LINES = 20
LINE_CHARS = 300
MAX_NAME_CHARS = 256
MAX_SEEN_NODES = 200
SILENT_SECS = 2.0
"""An edge says how long ago its last message came, once that is so long ago."""
DOT_ROOM = 14.0
_HAS_PROCESS = (State.STARTING, State.RUNNING, State.WAITING)


class FlowDataflow(LiveDataflow, Protocol):
    """The part of a `Dataflow` that the graph shows. It steers those that can `restart` and `stop` a node."""

    def topics(self) -> list[TopicStatus]: ...

    def logs(self, name: str | None = None) -> list[LogLine]: ...


class FlowView(LiveWidget):
    """Shows a dataflow as a live graph, below a cell.

    A node shows its state, its generation, and the CPU (100 % is one core) and memory of its process; an
    edge shows messages per second, how many wait, the share that was dropped lately, and how long ago the
    last one came. A click on a node shows its last log lines and its error, and restarts or stops it. If an
    edge drops more than 5 % for 5 s, a sentence says why. Make it in the last line of a cell; it lives
    until its cell runs again. `dataflow` is the notebook's own unless given. Making it does not block.

    Example::

        >>> FlowView()
    """

    _esm = traitlets.Unicode(page_code(__package__, "flow.js")).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "flow.css")).tag(sync=True)
    page_message_bytes = 16_384

    def __init__(self, dataflow: FlowDataflow | None = None) -> None:
        dataflow = notebook_dataflow() if dataflow is None else dataflow
        self._flow: FlowDataflow = dataflow
        self._edge_meters: dict[str, _EdgeMeter] = {}
        self._usage = UsageMeter()
        self._snapshots: deque[Snapshot] = deque()
        self._selected: dict[str, str] = {}
        self._seen: dict[str, frozenset[str]] = {}
        self._thumbnails = Thumbnails(dataflow)
        self._layout: Layout | None = None
        self._layout_of: tuple[Graph, tuple[str, ...]] | None = None
        self._sent_layout: Layout | None = None
        self._actions = NodeActions(dataflow, live.REFRESHER.wake)
        super().__init__(dataflow)

    # ----- what a page shows

    def _greet(self) -> None:
        self._sent_layout = None  # a new page has no graph
        self._thumbnails.show_again()

    def _before_content(self, now_secs: float) -> None:
        topics = self._seen_topics() if self._on_screen and self.dataflow.running else {}
        self._thumbnails.watch(topics)
        for topic, data in self._thumbnails.take_due(now_secs, topics).items():
            self.send({"type": "thumbnail", "v": 1, "topic": topic}, [data])

    def _seen_topics(self) -> dict[str, int]:
        """Returns the topics of connections between nodes of which a page sees one, with their generation."""
        with self._link.changed:
            seen = frozenset().union(*self._seen.values())
        if not seen:
            return {}
        statuses = {each.name: each for each in self.dataflow.status()}
        found: dict[str, int] = {}
        for edge in self.dataflow.graph.edges():
            status = statuses.get(edge.source.node)
            # dora-rs counts nothing, and there a process would have to join for each node that is read.
            if status is None or status.events is None or status.state is not State.RUNNING:
                continue
            if edge.source.node in seen or edge.reader in seen:
                found[str(edge.source)] = status.generation
        self._thumbnails.forget(found)
        return found

    def _content(self, now_secs: float) -> dict[str, Any]:
        statuses: dict[str, NodeStatus] = {each.name: each for each in self.dataflow.status()}
        subscriptions = self._subscriptions()
        layout = self._lay_out(self.dataflow.graph, subscriptions)
        if layout is not self._sent_layout:
            self._sent_layout = layout
            self.send({"type": "graph", "v": 1, **_graph_content(layout)})
        usage = self._usage_of(statuses.values(), now_secs)
        cpu_cores = {name: cores for name, (cores, _) in usage.items() if cores is not None}
        return {
            "text": _summary(statuses.values(), running=self.dataflow.running),
            "nodes": {
                box.key: self._node_content(box, statuses[box.key], usage)
                for box in layout.boxes
                if box.key in statuses
            },
            "edges": self._edges_content(statuses, subscriptions, now_secs),
            "advice": self._advice(Snapshot(now_secs, statuses, subscriptions, cpu_cores)),
            "panels": self._panels(statuses),
        }

    def _subscriptions(self) -> tuple[EdgeStatus, ...]:
        """Returns what the notebook reads itself, each topic once: the reader that has lost most."""
        by_topic: dict[str, EdgeStatus] = {}
        own = self._thumbnails.own_inputs
        for topic in self._flow.topics():
            for edge in topic.readers:
                if edge.reader == NOTEBOOK and edge.input not in own:
                    known = by_topic.get(edge.topic)
                    if known is None or edge.dropped > known.dropped:
                        # The graph names the notebook's inputs by their topics.
                        by_topic[edge.topic] = edge
        return tuple(by_topic[topic] for topic in sorted(by_topic))

    def _lay_out(self, graph: Graph, subscriptions: Iterable[EdgeStatus]) -> Layout:
        topics = tuple(edge.topic for edge in subscriptions)
        before = self._layout_of
        # A graph never changes: an edit makes another one.
        if self._layout is None or before is None or before[0] is not graph or before[1] != topics:
            self._layout = lay_out(graph, subscriptions=topics, with_facts=True)
            self._layout_of = (graph, topics)
        return self._layout

    def _usage_of(
        self, statuses: Iterable[NodeStatus], now_secs: float
    ) -> dict[str, tuple[float | None, int]]:
        found: dict[str, tuple[float | None, int]] = {}
        process_ids = {
            each.name: each.process_id
            for each in statuses
            if each.process_id is not None and each.state in _HAS_PROCESS
        }
        for name, process_id in process_ids.items():
            usage = self._usage.usage(process_id, now_secs)
            if usage is not None:
                found[name] = (usage.cpu_cores, usage.memory_bytes)
        self._usage.keep_only(set(process_ids.values()))
        return found

    def _node_content(
        self, box: Box, status: NodeStatus, usage: Mapping[str, tuple[float | None, int]]
    ) -> dict[str, Any]:
        text = status.state_text()
        facts = [f"gen {status.generation}"] if status.generation else []
        if status.name in usage:
            cores, memory_bytes = usage[status.name]
            facts += [] if cores is None else [f"{cores * 100:.0f} % CPU"]
            facts.append(f"{memory_bytes / 1e6:.0f} MB")
        room = int((box.width - 2 * PADDING - DOT_ROOM) / SMALL_ADVANCE)
        return {
            "state": "amber" if status.is_amber else status.state.value,
            "text": text if len(text) <= room else f"{text[: room - 1]}…",
            "facts": " · ".join(facts),
            "title": "; ".join([f"{status.name}: {text}", *status.warnings]),
        }

    def _edges_content(
        self,
        statuses: Mapping[str, NodeStatus],
        subscriptions: Iterable[EdgeStatus],
        now_secs: float,
    ) -> dict[str, Any]:
        edges = {
            f"{edge.reader}/{edge.input}": edge
            for status in statuses.values()
            if status.events is not None  # dora-rs counts nothing
            for edge in status.inputs
        }
        edges |= {f"{NOTEBOOK}//{edge.topic}": edge for edge in subscriptions}
        self._edge_meters = {key: self._edge_meters.get(key) or _EdgeMeter() for key in edges}
        return {
            key: self._edge_meters[key].content(edge, now_secs, running=self.dataflow.running)
            for key, edge in edges.items()
        }

    def _advice(self, snapshot: Snapshot) -> list[str]:
        if not self.dataflow.running:
            self._snapshots.clear()
            return []
        self._snapshots.append(snapshot)
        # One that is older than the window must stay: it is where the window begins.
        while len(self._snapshots) > 1 and self._snapshots[1].secs <= snapshot.secs - WINDOW_SECS:
            self._snapshots.popleft()
        return [each.sentence for each in bottleneck(self._snapshots)]

    def _panels(self, statuses: Mapping[str, NodeStatus]) -> dict[str, Any]:
        with self._link.changed:
            selected = set(self._selected.values())
        return {name: self._panel(statuses[name]) for name in selected if name in statuses}

    def _panel(self, status: NodeStatus) -> dict[str, Any]:
        lines = self._flow.logs(status.name)[-LOG_LINES:]
        error = status.error
        action, action_failed = self._actions.text(status.name)
        runs = self.dataflow.running and status.obstacle is None
        can_act = self._actions.possible and runs and not self._actions.is_busy(status.name)
        return {
            "declared": status.declared_in,
            "lines": [line.text[:LINE_CHARS] for line in lines],
            "error": "" if error is None else str(error),
            "place": "" if error is None else (error.place or ""),
            "warnings": list(status.warnings),
            "action": action,
            "action_failed": action_failed,
            "steerable": self._actions.possible,
            "can_restart": can_act,
            "can_stop": can_act and status.state in _HAS_PROCESS,
        }

    # ----- what a page sends

    def _receive(self, kind: str, message: Mapping[str, Any], _buffers: list[Any]) -> None:
        if kind == "see":
            self._note_seen(message)
            return
        node = text_in(message, "node", MAX_NAME_CHARS)
        if node is None:
            return
        if kind == "select":
            with self._link.changed:
                self._selected.pop(message["client"], None)
                if node:
                    self._selected[message["client"]] = node
                while len(self._selected) > MAX_CLIENTS:  # the oldest page is most likely gone
                    del self._selected[next(iter(self._selected))]
            self._wake()
        for action in ACTIONS:
            if kind == action and node in self.dataflow.graph:
                self._actions.begin(action, node)
                self._wake()

    def _note_seen(self, message: Mapping[str, Any]) -> None:
        nodes = message.get("nodes")
        if not isinstance(nodes, list) or len(nodes) > MAX_SEEN_NODES:
            return
        with self._link.changed:
            self._seen.pop(message["client"], None)
            self._seen[message["client"]] = frozenset(
                each for each in nodes if isinstance(each, str)
            )
            while len(self._seen) > MAX_CLIENTS:
                del self._seen[next(iter(self._seen))]
        self._wake()

    def _end(self) -> None:
        self._thumbnails.close()
        super()._end()

    # ----- the saved notebook

    def _still(self) -> dict[str, Any]:
        statuses = self.dataflow.status()
        picture = GraphPicture(
            self.dataflow.graph,
            {each.name: each.state for each in statuses},
            subscriptions=[edge.topic for edge in self._subscriptions()],
            amber=[each.name for each in statuses if each.is_amber],
            details={each.name: each.state_text() for each in statuses},
        )
        return picture._repr_mimebundle_()

    def _still_key(self, *, living: bool) -> object:
        del living
        return self._still().get("image/svg+xml", "")

    def __repr__(self) -> str:
        return f"FlowView({', '.join(self.dataflow.graph.nodes)})"


class _EdgeMeter:
    """Says how an edge is doing, from its counts."""

    def __init__(self) -> None:
        self._received = RateMeter()
        self._sent = RateMeter()
        self._dropped = RateMeter()
        self._last_received = 0
        self._came_secs: float | None = None

    def content(self, edge: EdgeStatus, now_secs: float, *, running: bool) -> dict[str, Any]:
        rate = self._received.rate(edge.received, now_secs)
        sent = self._sent.rate(edge.sent, now_secs)
        dropped = self._dropped.rate(edge.dropped, now_secs)
        if edge.received != self._last_received or self._came_secs is None:
            self._came_secs = now_secs if edge.received else None
            self._last_received = edge.received
        silent_secs = 0.0 if self._came_secs is None else now_secs - self._came_secs
        facts = []
        if running and silent_secs >= SILENT_SECS:
            facts.append(f"last {_age(silent_secs)} ago")
        elif running and rate is not None:
            facts.append(f"{rate:g}/s")
        if running and edge.queued:
            facts.append(f"{edge.queued} queued")
        share = min(1.0, dropped / sent) if dropped and sent else 0.0
        size = (
            f", {_size(edge.sent_bytes / edge.sent)} each" if edge.sent_bytes and edge.sent else ""
        )
        if running and share > 0:
            facts.append(f"{share * 100:.0f} % lost")
        return {
            "text": " · ".join(facts),
            "drops": running and share > 0,
            "title": (
                f"{edge.topic} → {edge.reader}/{edge.input}: {edge.sent} sent, {edge.received} received, "
                f"{edge.dropped} dropped, {edge.queued} of {edge.queue_size} queued ({edge.policy}){size}"
            ),
        }


def _size(num_bytes: float) -> str:
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    return f"{num_bytes / 1e3:.3g} KB" if num_bytes < 1e6 else f"{num_bytes / 1e6:.3g} MB"


def _age(secs: float) -> str:
    return f"{secs:.0f} s" if secs < 100 else f"{secs / 60:.0f} min"


def _summary(statuses: Iterable[NodeStatus], *, running: bool) -> str:
    """Returns ``running: 3 nodes, 1 failed``."""
    states = [status.state for status in statuses]
    if not states:
        return "no operator is declared"
    nodes = "1 node" if len(states) == 1 else f"{len(states)} nodes"
    failed = states.count(State.FAILED)
    ending = f", {failed} failed" if failed else ""
    return f"{'running' if running else 'not running'}: {nodes}{ending}"


def _graph_content(layout: Layout) -> dict[str, Any]:
    return {
        "width": layout.width,
        "height": layout.height,
        "boxes": [
            {
                "key": box.key,
                "kind": box.kind,
                "title": box.title,
                "label": box.label,
                "detail": box.detail,
                "place": [box.x, box.y, box.width, box.height],
                "inputs": [[port.name, port.label, port.x, port.y] for port in box.inputs],
                "outputs": [[port.name, port.label, port.x, port.y] for port in box.outputs],
            }
            for box in layout.boxes
        ],
        "wires": [
            {
                "edge": f"{wire.target}/{wire.input}",
                "topic": f"{wire.source}/{wire.output}",
                "path": wire_path(wire),
                "end": list(wire.points[-1]),
            }
            for wire in layout.wires
        ],
    }
