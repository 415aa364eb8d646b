"""The dataflow as it was declared: nodes, their inputs and outputs, and what follows from them.

Pure and immutable. A `Graph` never starts anything: declaring makes a new graph or raises, so an
error changes nothing. Engines and views read it.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .errors import GraphError, did_you_mean
from .restarts import RestartPolicy, read_policy
from .timers import UNITS, parse_interval_secs

QueuePolicy = Literal["drop_oldest", "backpressure"]
QUEUE_POLICIES: tuple[QueuePolicy, ...] = ("drop_oldest", "backpressure")
NodeKind = Literal["operator", "script", "dynamic"]
"""A class `Operator`; a script that makes a `Node()`; a `Node("name")` in a process of somebody else's."""
KIND_WORDS: dict[NodeKind, str] = {
    "operator": "an operator",
    "script": "a node",
    "dynamic": "a node",
}
OnEdit = Literal["auto", "reload", "restart"]
DYNAMIC = "dynamic"
"""In place of a path: somebody else's process is the node."""
DEFAULT_QUEUE_SIZE = 10
NOTEBOOK = "notebook"
"""The pseudo-node that stands for the kernel: reader of every subscription, and source of what it sends."""
LOGS = "dora"
"""The pseudo-node whose outputs are what the nodes print and log."""
RESERVED_NAMES = (LOGS, NOTEBOOK)
LOG_LEVELS = ("error", "warn", "info", "debug", "trace", "stdout")
"""From the gravest on; a source with a level gives that one and those before it, as dora does."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def check_name(name: str, *, what: str) -> str:
    """The name itself if it is one that dora takes too (``libraries/message/src/id.rs``); else GraphError."""
    if not _NAME.fullmatch(name):
        raise GraphError(
            f"'{name}' cannot be the name of {what}:",
            hint="use letters, digits, '_', '-' and '.', the '.' not first.",
        )
    if name in RESERVED_NAMES:
        raise GraphError(
            f"'{name}' is reserved and cannot be the name of {what};", hint="choose another."
        )
    return name


@dataclass(frozen=True, slots=True)
class TopicSource:
    """An output of another node, ``node/output``."""

    node: str
    output: str

    def __str__(self) -> str:
        return f"{self.node}/{self.output}"


@dataclass(frozen=True, slots=True)
class TimerSource:
    """A timer in the reader's own loop, ``dora/timer/hz/30``."""

    interval_secs: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class LogSource(TopicSource):
    """What nodes print and log, ``dora/logs[/LEVEL[/NODE]]``: all but the reader's own lines."""

    level: str = LOG_LEVELS[-1]
    of: str | None = None
    """The only node whose lines are wanted."""

    def wants(self, level: str, node: str) -> bool:
        """Whether a line of that level, which that node printed, is one of them."""
        grave_enough = LOG_LEVELS.index(level) <= LOG_LEVELS.index(self.level)
        return grave_enough and self.of in (None, node)


Source = TopicSource | TimerSource


def parse_source(text: str) -> Source:
    """What an input is connected to, from ``node/output``, ``dora/timer/UNIT/N`` or ``dora/logs/...``.

    Raises GraphError with the way out.
    """
    parts = text.split("/")
    if parts[0] == "dora":
        return _parse_dora_source(text, parts)
    if len(parts) == 1:
        raise GraphError(
            f"the source '{text}' names no output;", hint=f"write it as {text or 'node'}/OUTPUT."
        )
    if len(parts) != 2 or not parts[1]:
        raise GraphError(f"'{text}' is no source;", hint="a source is NODE/OUTPUT.")
    node, output = parts
    if node != NOTEBOOK:
        check_name(node, what="a node")
    return TopicSource(node, check_name(output, what="an output"))


def _parse_dora_source(text: str, parts: list[str]) -> Source:
    if len(parts) == 4 and parts[1] == "timer":
        try:
            return TimerSource(parse_interval_secs(parts[2], parts[3]), text)
        except ValueError as error:
            near = did_you_mean(parts[2], UNITS) if parts[2] not in UNITS else None
            raise GraphError(f"in '{text}': {error}.", hint=near) from None
    if len(parts) in (2, 3, 4) and parts[1] == "logs":
        return _log_source(text, *parts[2:])
    raise GraphError(
        f"'{text}' is no source of dora's;",
        hint="a timer is dora/timer/UNIT/N, such as dora/timer/hz/30.",
    )


def _log_source(text: str, level: str = LOG_LEVELS[-1], of: str | None = None) -> LogSource:
    if level not in LOG_LEVELS:
        hint = did_you_mean(level, LOG_LEVELS) or f"There are: {', '.join(LOG_LEVELS)}."
        raise GraphError(f"in '{text}': there is no level '{level}'.", hint=hint)
    if of is not None:
        check_name(of, what="a node")
    return LogSource(LOGS, text.partition("/")[2], level, of)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node: what feeds it, and how much may wait in line."""

    name: str
    source: Source
    queue_size: int = DEFAULT_QUEUE_SIZE
    queue_policy: QueuePolicy = "drop_oldest"
    input_timeout_secs: float | None = None
    """Silence after which the input counts as closed, until it is heard again."""


@dataclass(frozen=True, slots=True)
class SourceCode:
    """The Python of a node and where its lines stand in the user's editor."""

    text: str
    file: str
    """``Cell In[5]``, or the path of the file it was read from."""
    first_line: int = 1
    """The number that the editor gives to the first line of `text` (2 under a one-line magic)."""
    path: str | None = None
    """The absolute path, where the source is a file."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Everything that the user declared about one node.

    `working_dir` is the working directory of its process and the first entry of its `sys.path`.
    `args` are a script's, as in `sys.argv[1:]`. A dynamic node has no code: its text is empty.
    """

    name: str
    code: SourceCode = field(compare=False)
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    working_dir: str = "."
    kind: NodeKind = "operator"
    args: tuple[str, ...] = ()
    exclusive: bool = False
    """Whether it owns something (a camera, a port) that its old process has to let go of first."""
    on_edit: OnEdit = "auto"
    """How a change of its code is taken in while it runs, see `dora_nb.edits`."""
    other_keys: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What its entry in a ``dataflow.yml`` says beyond the fields above, kept for dora-rs and for engines
    that know it; an operator's own keys are in a mapping under ``operator``."""

    @property
    def send_stdout_as(self) -> str | None:
        """The output that gets each line that the node prints, beside the log."""
        output: str | None = self._log_keys.get("send_stdout_as")
        return output

    @property
    def send_logs_as(self) -> str | None:
        """The output that gets each line that the node logs, beside the log."""
        output: str | None = self._log_keys.get("send_logs_as")
        return output

    @property
    def min_log_level(self) -> str:
        """The least grave level that is kept of what the node prints and logs."""
        return str(self._log_keys.get("min_log_level") or LOG_LEVELS[-1])

    @property
    def _log_keys(self) -> Mapping[str, Any]:
        own: Mapping[str, Any] = self.other_keys
        return {**own, **own.get("operator", {})} if self.kind == "operator" else own

    @property
    def restart_policy(self) -> RestartPolicy:
        """Whether another generation follows when this node has ended. ValueError as `read_policy`."""
        return read_policy(self.other_keys)

    def same_as(self, other: NodeSpec) -> bool:
        """Whether running `other` instead would change nothing (the cell's number does not count)."""
        return (
            self == other
            and self.code.text == other.code.text
            and self.code.path == other.code.path
        )


@dataclass(frozen=True, slots=True)
class Edge:
    """One connection from an output to an input, both ends declared."""

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
    """What the ``dataflow.yml`` that it was read from says beside the nodes."""

    def __contains__(self, name: str) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[NodeSpec]:
        return iter(self.nodes.values())

    def with_node(self, spec: NodeSpec) -> Graph:
        """This graph with `spec` declared, in place of an older node of that name.

        Raises GraphError where a name is impossible or an input names an output that its declared
        node lacks, in either direction. An input whose node is not declared is no error: it waits.
        """
        return self.with_nodes([spec])

    def with_nodes(self, specs: Iterable[NodeSpec]) -> Graph:
        """The same for several at once: they have to fit together, but not one after the other."""
        new = {spec.name: spec for spec in specs}
        for spec in new.values():
            _check_names(spec)
        graph = replace(self, nodes={**self.nodes, **new})
        for reader in graph:
            graph._check_inputs(reader, declared_now=new)
        return graph

    def replacing(self, spec: NodeSpec) -> Graph:
        """The same without a check, for a declaration that was checked when it was made."""
        return replace(self, nodes={**self.nodes, spec.name: spec})

    def without(self, name: str) -> Graph:
        """This graph without that node; its readers wait from now on."""
        self.node(name)
        return replace(self, nodes={key: spec for key, spec in self.nodes.items() if key != name})

    def node(self, name: str) -> NodeSpec:
        """The node of that name; GraphError with the nearest name where there is none."""
        if name not in self.nodes:
            hint = did_you_mean(name, self.nodes)
            if hint is None:
                known = ", ".join(self.nodes)
                hint = f"Declared are: {known}." if known else "Nothing is declared yet."
            raise GraphError(f"no operator '{name}' is declared.", hint=hint)
        return self.nodes[name]

    def edges(self) -> list[Edge]:
        """Every connection whose both ends are there: declared, or the kernel's own."""
        return [
            Edge(read.source, spec.name, read)
            for spec in self
            for read in spec.inputs
            if isinstance(read.source, TopicSource) and self._has_publisher(read.source)
        ]

    def _has_publisher(self, source: TopicSource) -> bool:
        return source.node in self.nodes or source.node in RESERVED_NAMES

    def topics_of_the_notebook(self) -> list[str]:
        """The topics ``notebook/NAME`` that some node reads."""
        found = [str(edge.source) for edge in self.edges() if edge.source.node == NOTEBOOK]
        return list(dict.fromkeys(found))

    def waiting_for(self, name: str) -> tuple[str, ...]:
        """The undeclared nodes that this node's inputs wait for."""
        missing = [
            read.source.node
            for read in self.nodes[name].inputs
            if isinstance(read.source, TopicSource) and not self._has_publisher(read.source)
        ]
        return tuple(dict.fromkeys(missing))

    def waiting_text(self, name: str) -> str:
        """The same as words, each with the declared name that is nearest to it; empty for none."""
        known = [other for other in self.nodes if other != name]
        return ", ".join(
            f"{missing} ({hint[0].lower()}{hint[1:]})"
            if (hint := did_you_mean(missing, known))
            else missing
            for missing in self.waiting_for(name)
        )

    def blocking_cycle(self, name: str) -> list[str]:
        """The nodes of the shortest cycle through this node where every edge blocks its publisher, in the
        order in which messages go, this node first; empty where there is none.

        Once all its queues are full each node waits for the next, and so for itself.
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
        """A topic that something in the notebook wants to read.

        Raises GraphError where its declared node has no such output; an undeclared node is allowed.
        """
        source = parse_source(topic)
        if not isinstance(source, TopicSource):
            raise GraphError(f"'{topic}' is a timer, not a topic;", hint="name NODE/OUTPUT.")
        if isinstance(source, LogSource):
            raise GraphError(f"'{topic}' is for nodes;", hint="here there is %dora logs.")
        self._check_output(source, asked_by="the notebook", file=None)
        return source

    def _check_inputs(self, reader: NodeSpec, *, declared_now: Collection[str]) -> None:
        for read in reader.inputs:
            if isinstance(read.source, TopicSource):
                file = None if reader.name in declared_now else reader.code.file
                self._check_output(read.source, asked_by=reader.name, file=file)

    def _check_output(self, source: TopicSource, *, asked_by: str, file: str | None) -> None:
        owner = self.nodes.get(source.node)
        if owner is None or source.output in owner.outputs:
            return
        who = asked_by if file is None else f"{asked_by} ({file})"
        has = f"has outputs: {', '.join(owner.outputs)}." if owner.outputs else "has no outputs."
        hint = did_you_mean(source.output, owner.outputs)
        if file is not None:
            hint = f"Keep the output, or change {asked_by} first."
        raise GraphError(f"{who} reads '{source}', but {source.node} {has}", hint=hint)


def as_descriptor(declared: Graph, *, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The dataflow in the form of ``dataflow.yml``, as nodes and operators are told it.

    `files` says by node where its code lies, where that is another place than it was read from.
    """
    nodes = [_node_descriptor(spec, files or {}) for spec in declared]
    return {**declared.other_keys, "nodes": nodes}


def _node_descriptor(spec: NodeSpec, files: Mapping[str, str]) -> dict[str, Any]:
    path = files.get(spec.name) or spec.code.path or spec.code.file
    wires = {
        "inputs": {read.name: _input_descriptor(read) for read in spec.inputs},
        "outputs": list(spec.outputs),
    }
    described: dict[str, Any] = {"id": spec.name}
    if spec.kind == "operator":
        described["operator"] = {"python": path, **wires}
    else:
        described |= {"path": "dynamic" if spec.kind == "dynamic" else path, **wires}
    if spec.args:
        described["args"] = shlex.join(spec.args)
    if spec.env:
        described["env"] = dict(spec.env)
    return _merged(described, spec.other_keys)


def _merged(described: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, one level deep: an operator's keys go to its own."""
    for key, value in more.items():
        known = described.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            described[key] = {**known, **value}
        else:
            described[key] = value
    return described


def _input_descriptor(read: InputSpec) -> str | dict[str, Any]:
    """The source alone where the rest is as it is by default."""
    described: dict[str, Any] = {"source": str(read.source)}
    if read.queue_size != DEFAULT_QUEUE_SIZE:
        described["queue_size"] = read.queue_size
    if read.queue_policy != QUEUE_POLICIES[0]:
        described["queue_policy"] = read.queue_policy
    if read.input_timeout_secs is not None:
        described["input_timeout"] = read.input_timeout_secs
    return str(read.source) if len(described) == 1 else described


def _check_names(spec: NodeSpec) -> None:
    check_name(spec.name, what=KIND_WORDS[spec.kind])
    for output in spec.outputs:
        check_name(output, what="an output")
    for read in spec.inputs:
        check_name(read.name, what="an input")
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
                f"{spec.name} is to send what it {what} as '{sent_as}', which is none of its outputs:",
                hint="declare it among them.",
            )
    if spec.min_log_level not in LOG_LEVELS:
        near = did_you_mean(spec.min_log_level, LOG_LEVELS)
        raise GraphError(
            f"{spec.name}: min_log_level is no level, '{spec.min_log_level}'.",
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
