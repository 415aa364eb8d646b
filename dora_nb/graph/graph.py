"""`Graph`: the declared nodes, the edges between them, and the checks of names and wiring.

Pure and immutable: declaring a node returns a new graph or raises, so an error changes nothing. Engines
and views read it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dora_nb.errors import GraphError, did_you_mean, nearest
from dora_nb.how_to import how_to

from .nodes import KIND_WORDS, InputSpec, NodeSpec
from .restarts import read_policy
from .sources import (
    LOG_LEVELS,
    NOTEBOOK,
    RESERVED_NAMES,
    LogSource,
    TopicSource,
    check_name,
    check_port_name,
    parse_source,
)


@dataclass(frozen=True, slots=True)
class Edge:
    """A connection from an output to an input, both ends declared."""

    source: TopicSource
    reader: str
    input: InputSpec

    def __str__(self) -> str:
        return f"{self.source} → {self.reader}/{self.input.name}"


@dataclass(frozen=True)
class Graph:
    """All nodes of one dataflow, by name, in the order of their first declaration."""

    nodes: Mapping[str, NodeSpec] = field(default_factory=dict)
    other_keys: Mapping[str, Any] = field(default_factory=dict)
    """The keys beside ``nodes`` of the ``dataflow.yml`` that the graph was read from."""

    def __contains__(self, name: str) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[NodeSpec]:
        return iter(self.nodes.values())

    def with_node(self, spec: NodeSpec) -> Graph:
        """Returns this graph with `spec` declared, in place of an older node of that name.

        Raises GraphError if a name is impossible, if an input of the node names an output that a
        declared node lacks, or if the node lacks an output that another one reads. An input whose node
        is not declared is allowed: it waits.
        """
        return self.with_nodes([spec])

    def with_nodes(self, specs: Iterable[NodeSpec]) -> Graph:
        """Declares several nodes at once, so that they may refer to each other in any order."""
        new = {spec.name: spec for spec in specs}
        for spec in new.values():
            _check_names(spec)
        graph = replace(self, nodes={**self.nodes, **new})
        for reader in graph:
            graph._check_inputs(reader, declared_now=new)
        return graph

    def replacing(self, spec: NodeSpec) -> Graph:
        """Returns this graph with `spec` declared, without a check: it was checked when it was made."""
        return replace(self, nodes={**self.nodes, spec.name: spec})

    def without(self, name: str) -> Graph:
        """Returns this graph without that node; its readers wait from now on."""
        self.node(name)
        return replace(self, nodes={key: spec for key, spec in self.nodes.items() if key != name})

    def declared(self) -> Graph:
        """Returns this graph without the nodes that exist only while a recording is replayed."""
        if not any(spec.replayed_from for spec in self):
            return self
        return replace(
            self, nodes={key: spec for key, spec in self.nodes.items() if not spec.replayed_from}
        )

    def runnable(self) -> Graph:
        """Returns this graph without the nodes that the embedded engine cannot run; their readers wait."""
        return replace(
            self, nodes={key: spec for key, spec in self.nodes.items() if spec.obstacle is None}
        )

    def missing_text(self, name: str) -> str:
        """Returns ``camra is not declared; did you mean 'camera'?``, for the middle of a sentence."""
        near = nearest(name, self.nodes)
        return f"{name} is not declared" + (f"; did you mean '{near}'?" if near else "")

    def node(self, name: str) -> NodeSpec:
        """Returns the node of that name. Raises GraphError, with the nearest name, if there is none."""
        if name not in self.nodes:
            hint = did_you_mean(name, self.nodes)
            if hint is None:
                known = ", ".join(self.nodes)
                hint = f"Declared: {known}." if known else "Nothing is declared yet."
            raise GraphError(f"no operator '{name}' is declared.", hint=hint)
        return self.nodes[name]

    def edges(self) -> list[Edge]:
        """Returns every connection whose two ends are declared, or belong to the kernel."""
        return [
            Edge(read.source, spec.name, read)
            for spec in self
            for read in spec.inputs
            if isinstance(read.source, TopicSource) and self._has_publisher(read.source)
        ]

    def _has_publisher(self, source: TopicSource) -> bool:
        return source.node in self.nodes or source.node in RESERVED_NAMES

    def topics_of_the_notebook(self) -> list[str]:
        """Returns the topics ``notebook/NAME`` that some node reads."""
        found = [str(edge.source) for edge in self.edges() if edge.source.node == NOTEBOOK]
        return list(dict.fromkeys(found))

    def waiting_for(self, name: str) -> tuple[str, ...]:
        """Returns the undeclared nodes that this node's inputs wait for."""
        missing = [
            read.source.node
            for read in self.nodes[name].inputs
            if isinstance(read.source, TopicSource) and not self._has_publisher(read.source)
        ]
        return tuple(dict.fromkeys(missing))

    def blocking_cycle(self, name: str) -> list[str]:
        """Returns the shortest cycle through this node in which every edge blocks its publisher.

        The nodes are in the order of the messages, this node first; empty without such a cycle. Once
        all queues of the cycle are full, each node waits for the next one, and so for itself.
        """
        readers: dict[str, list[str]] = {}
        for edge in self.edges():
            if edge.input.queue_policy == "backpressure":
                readers.setdefault(edge.source.node, []).append(edge.reader)
        paths = deque([[name]])
        seen: set[str] = set()
        while paths:
            path = paths.popleft()
            for reader in readers.get(path[-1], []):
                if reader == name:
                    return path
                if reader not in seen:
                    seen.add(reader)
                    paths.append([*path, reader])
        return []

    def check_topic(self, topic: str) -> TopicSource:
        """Returns the source of a topic that the notebook wants to read.

        Raises GraphError if its node is declared without that output; an undeclared node is allowed.
        """
        source = parse_source(topic)
        if not isinstance(source, TopicSource):
            raise GraphError(f"'{topic}' is a timer, not a topic;", hint="name NODE/OUTPUT.")
        if isinstance(source, LogSource):
            raise GraphError(
                f"only nodes can read '{topic}';", hint=f"here, use {how_to('see logs')}."
            )
        self._check_output(source, asked_by="the notebook", file=None)
        return source

    def _check_inputs(self, reader: NodeSpec, *, declared_now: Collection[str]) -> None:
        for read in reader.inputs:
            if isinstance(read.source, TopicSource):
                file = None if reader.name in declared_now else reader.code.file
                self._check_output(read.source, asked_by=reader.name, file=file)

    def _check_output(self, source: TopicSource, *, asked_by: str, file: str | None) -> None:
        owner = self.nodes.get(source.node)
        if owner is None or owner.replayed_from or source.output in owner.outputs:
            return
        if owner.obstacle is not None and "hub" in owner.other_keys:
            return  # Its outputs may be listed in dora's hub alone.
        who = asked_by if file is None else f"{asked_by} ({file})"
        has = f"has outputs: {', '.join(owner.outputs)}." if owner.outputs else "has no outputs."
        hint = did_you_mean(source.output, owner.outputs)
        if file is not None:
            hint = f"Keep the output, or change {asked_by} first."
        raise GraphError(f"{who} reads '{source}', but {source.node} {has}", hint=hint)


def _check_names(spec: NodeSpec) -> None:
    check_name(spec.name, what=KIND_WORDS[spec.kind])
    for output in spec.outputs:
        check_port_name(output, what="an output")
    for read in spec.inputs:
        check_port_name(read.name, what="an input")
    for what, names in (
        ("input", [read.name for read in spec.inputs]),
        ("output", list(spec.outputs)),
    ):
        twice = _first_repeated(names)
        if twice is not None:
            raise GraphError(
                f"{spec.name} has the {what} '{twice}' twice;", hint="give each a name of its own."
            )
    for what, sent_as in (("prints", spec.send_stdout_as), ("logs", spec.send_logs_as)):
        if sent_as is not None and sent_as not in spec.outputs:
            raise GraphError(
                f"{spec.name} should send what it {what} as '{sent_as}', which is not one of its outputs.",
                hint="Declare it as an output.",
            )
    if spec.min_log_level not in LOG_LEVELS:
        near = did_you_mean(spec.min_log_level, LOG_LEVELS)
        raise GraphError(
            f"{spec.name}: invalid min_log_level '{spec.min_log_level}'.",
            hint=near or f"There are: {', '.join(LOG_LEVELS)}.",
        )
    try:
        read_policy(spec.other_keys)
    except ValueError as error:
        raise GraphError(f"{spec.name}: {error}.") from None


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
