"""What runs on a coordinator that was started elsewhere, as `dora` lists it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dora_nb.errors import DataflowStateError, GraphError, did_you_mean
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import Source, check_name, parse_source
from dora_nb.status import State

from ._program import Dora

SUBSCRIBER_PREFIX = "notebook-subscriber"
_STATES = {"failed": State.FAILED, "stopped": State.FINISHED, "finished": State.FINISHED}
"""States in ``dora node list``; any other state means that the node runs."""


@dataclass(frozen=True, slots=True)
class RunningDataflow:
    """A dataflow that was started elsewhere."""

    uuid: str
    name: str
    graph: Graph
    states: Mapping[str, State]
    subscribers: Mapping[str, frozenset[str]]
    """By node: the outputs that a subscriber declared in the dataflow itself reads. Only such a subscriber can
    read from another machine (dora-rs 1.1.0): a node that is added later reads only from its own daemon."""


def find_dataflow(dora: Dora, wanted: str | None) -> RunningDataflow:
    """Returns the running dataflow of that name or UUID; for None, the only one that runs.

    Raises DataflowStateError or GraphError with the candidates, and EngineError.
    """
    what = "cannot list the running dataflows"
    running = [
        each
        for each in dora.query("list", what=what)
        if str(each["status"]).lower() in ("running", "recovering")
    ]
    names = [str(each["name"] or each["uuid"]) for each in running]
    if not running:
        raise DataflowStateError(
            f"no dataflow is running on the coordinator at {dora.coordinator}.",
            hint="Start it there with: dora start dataflow.yml --detach",
        )
    if wanted is None and len(running) > 1:
        raise DataflowStateError(
            f"several dataflows are running on the coordinator at {dora.coordinator}.",
            hint=f"Name one of {', '.join(names)}.",
        )
    chosen = [each for each in running if wanted in (None, each["name"], each["uuid"])]
    if not chosen:
        hint = did_you_mean(str(wanted), names) or f"Running: {', '.join(names)}."
        raise GraphError(
            f"no dataflow '{wanted}' is running on the coordinator at {dora.coordinator}.",
            hint=hint,
        )
    uuid, name = str(chosen[-1]["uuid"]), str(chosen[-1]["name"] or chosen[-1]["uuid"])
    return _read(dora, uuid, name)


def _read(dora: Dora, uuid: str, name: str) -> RunningDataflow:
    what = f"cannot list the nodes of {name}"
    listed = dora.query("node", "list", f"--dataflow={uuid}", what=what)
    specs, subscribers = [], {}
    for each in listed:
        (answer,) = dora.query("node", "info", f"--dataflow={uuid}", "--", each["node"], what=what)
        if not str(each["node"]).startswith(f"{SUBSCRIBER_PREFIX}-"):
            specs.append(_node(answer, f"{name} on dora-rs"))
        elif (subscribed := str(each["node"]).removeprefix(f"{SUBSCRIBER_PREFIX}-")) in _node_names(
            listed
        ):
            sources = {str(read["source"]): str(read["id"]) for read in answer["inputs"]}
            subscribers[subscribed] = frozenset(
                output for source, output in sources.items() if source == f"{subscribed}/{output}"
            )
    states = {
        str(each["node"]): _STATES.get(str(each["status"]).lower(), State.RUNNING)
        for each in listed
    }
    graph = Graph({spec.name: spec for spec in specs if spec is not None})
    known = {spec.name: states[spec.name] for spec in graph}
    return RunningDataflow(uuid, name, graph, known, subscribers)


def _node_names(listed: list[dict[str, Any]]) -> set[str]:
    return {str(each["node"]) for each in listed}


def _node(answer: Mapping[str, Any], where: str) -> NodeSpec | None:
    """Returns the node as far as a reader needs it; None if its name is not valid in a notebook."""
    try:
        name = check_name(str(answer["node_id"]), what="a node")
    except GraphError:
        return None
    reads = [(str(each["id"]), _source(str(each["source"]))) for each in answer["inputs"]]
    return NodeSpec(
        name=name,
        code=SourceCode("", where),
        inputs=tuple(InputSpec(read, source) for read, source in reads if source is not None),
        outputs=tuple(str(each["id"]) for each in answer["outputs"]),
        kind="dynamic",
    )


def _source(text: str) -> Source | None:
    """Returns None for a source that cannot be named in a notebook."""
    try:
        return parse_source(text)
    except GraphError:
        return None
