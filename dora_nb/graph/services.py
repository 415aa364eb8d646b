"""Service nodes: the kit's own nodes beside the user's, such as the process that publishes the controls. Pure.

A service stands in for topics: an input that reads such a topic is wired to the service. Nothing of it is in
what the user declared, so no export and no check of the user's graph sees it.
"""

from __future__ import annotations

from typing import NamedTuple

from .graph import Edge, Graph
from .nodes import NodeSpec, SourceCode
from .sources import CONTROLS, NOTEBOOK, PLAYER, SERVICES, TopicSource


class Publisher(NamedTuple):
    """The node whose process sends a topic, and the name of its output."""

    node: str
    output: str


def stand_ins(declared: Graph) -> dict[TopicSource, Publisher]:
    """Returns the topics that services of this graph publish in place of others.

    The outputs of `CONTROLS` are names of topics of the notebook, those of `PLAYER` whole topics.
    """
    found: dict[TopicSource, Publisher] = {}
    # The player last: what it replays may be a control.
    for service in (CONTROLS, PLAYER):
        spec = declared.nodes.get(service)
        for output in () if spec is None else spec.outputs:
            topic = f"{NOTEBOOK}/{output}" if service == CONTROLS else output
            node, slash, name = topic.partition("/")
            if not slash:
                continue  # What the service says of itself.
            found[TopicSource(node, name)] = Publisher(service, output)
    return found


def wired_edges(declared: Graph, standing_in: dict[TopicSource, Publisher]) -> list[Edge]:
    """Returns every edge that has a publisher: the graph's, and those that only a service sends on."""
    edges = declared.edges()
    missing = [source for source in standing_in if source.node not in declared]
    if not missing:
        return edges
    known = {(edge.reader, edge.input.name) for edge in edges}
    return edges + [
        Edge(read.source, spec.name, read)
        for spec in declared
        for read in spec.inputs
        if isinstance(read.source, TopicSource)
        and read.source in standing_in
        and (spec.name, read.name) not in known
    ]


def with_played_nodes(declared: Graph) -> Graph:
    """Returns what the user has declared, and the nodes that exist only while the player publishes their topics."""
    found = without_services(declared)
    played: dict[str, list[str]] = {}
    for source, publisher in stand_ins(declared).items():
        if publisher.node == PLAYER and source.node not in (*found.nodes, NOTEBOOK):
            played.setdefault(source.node, []).append(source.output)
    for name, outputs in played.items():
        found = found.replacing(NodeSpec(name, SourceCode("", ""), outputs=tuple(outputs)))
    return found


def without_services(declared: Graph) -> Graph:
    """Returns what the user has declared."""
    for name in SERVICES:
        if name in declared:
            declared = declared.without(name)
    return declared


def shown_name(node: str) -> str:
    """Returns the name of a node as the user sees it."""
    return SERVICES.get(node, node)
