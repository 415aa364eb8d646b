"""What a session is told of a service node (`dora_nb.graph.services`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import KEEPER, RECORDER

Follow = Callable[[Graph, tuple[str, ...]], NodeSpec]
"""Makes a service's declaration from what the user has declared, and the names of what the notebook sends."""
ServiceSpec = NodeSpec | Follow
ENDS_LAST = frozenset({RECORDER, KEEPER})
"""The services that end after all other nodes."""
SERVICE_GRACE_SECS = 10.0
"""How long a service may take to end, such as to write what it has been sent."""


def spec_of_service(wanted: ServiceSpec, user_graph: Graph, said: Iterable[str]) -> NodeSpec:
    """Returns the declaration of a service. `said` are the names of the notebook's own topics."""
    if isinstance(wanted, NodeSpec):
        return wanted
    read = (each.partition("/")[2] for each in user_graph.topics_of_the_notebook())
    return wanted(user_graph, tuple(dict.fromkeys([*read, *said])))
