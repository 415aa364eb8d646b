"""The topics of a dataflow: which there are, who sends and reads them, and how often messages come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from dora_nb.engines.embedded import Listener
from dora_nb.errors import DataflowStateError, GraphError, did_you_mean, nearest
from dora_nb.events import Event
from dora_nb.graph.graph import Graph
from dora_nb.graph.sources import LOGS, NOTEBOOK, LogSource, TopicSource
from dora_nb.status import EdgeStatus, TopicStatus

from .current_run import CurrentRun
from .rates import Reading, TopicMeter, sent_secs

_QUEUE_SIZE = 100
"""Of a measurement: so many messages may come while a cell holds the interpreter."""
_MOST_NAMED = 8


def topic_statuses(run: CurrentRun) -> list[TopicStatus]:
    """A snapshot of every topic: those of declared nodes first, in the order of declaration."""
    with run.lock:
        statuses = run.statuses()
        own_readers = run.readers
        names = _topic_names(run.graph, own_readers)
    readers: dict[str, list[EdgeStatus]] = {name: [] for name in names}
    for status in statuses:
        for edge in status.inputs:
            readers.setdefault(edge.topic, []).append(edge)
    for reader in own_readers:
        readers[str(reader.source)].append(run.reader_status(reader) or _unread(reader))
    states = {status.name: status.state for status in statuses}
    return [
        TopicStatus(name, owner, states.get(owner), tuple(readers[name]))
        for name in names
        for owner in [name.partition("/")[0]]
    ]


def _topic_names(graph: Graph, own_readers: Iterable[Listener]) -> list[str]:
    outputs = [f"{spec.name}/{output}" for spec in graph for output in spec.outputs]
    read = [
        str(each.source)
        for spec in graph
        for each in spec.inputs
        if isinstance(each.source, TopicSource) and not isinstance(each.source, LogSource)
    ]
    return list(dict.fromkeys([*outputs, *read, *(str(each.source) for each in own_readers)]))


def _unread(reader: Listener) -> EdgeStatus:
    """A subscription whose topic nothing has sent yet."""
    edge = reader.as_edge()
    read = edge.input
    return EdgeStatus(str(edge.source), NOTEBOOK, read.name, read.queue_size, read.queue_policy)


def find_topic(run: CurrentRun, text: str) -> str:
    """Returns the topic of that name: one of `topic_statuses`, or any ``notebook/NAME``.

    Raises GraphError, with the nearest name, if there is none.
    """
    with run.lock:
        graph, known = run.graph, _topic_names(run.graph, run.readers)
    if text in known:
        return text
    node, slash, output = text.partition("/")
    if slash and node in (NOTEBOOK, LOGS):
        return str(graph.check_topic(text))
    error = f"there is no topic '{text}'."
    if slash and node in graph:
        raise GraphError(error, hint=_outputs_hint(node, output, graph.nodes[node].outputs))
    raise GraphError(error, hint=_nearest_topic(text, known))


def _outputs_hint(node: str, output: str, outputs: Sequence[str]) -> str:
    near = nearest(output, outputs)
    if near is not None:
        return f"Did you mean '{node}/{near}'?"
    return f"{node} has outputs: {', '.join(outputs)}." if outputs else f"{node} has no outputs."


def _nearest_topic(text: str, known: Sequence[str]) -> str:
    """``Did you mean 'camera/image'?``, also where only the node or only the output is given; or all topics."""
    of_its_name = [topic for topic in known if text in topic.split("/", 1)]
    near = f"Did you mean '{of_its_name[0]}'?" if of_its_name else did_you_mean(text, known)
    if near is not None:
        return near
    if not known:
        return "No node with an output is declared yet."
    more = ", ..." if len(known) > _MOST_NAMED else ""
    return f"There are: {', '.join(known[:_MOST_NAMED])}{more}."


def check_flows(run: CurrentRun, topic: str) -> None:
    """Raises DataflowStateError where no message can come: nothing runs, or its node is not declared."""
    run.running_session(f"nothing comes on '{topic}'")
    owner = topic.partition("/")[0]
    if owner != NOTEBOOK and owner not in run.graph:
        raise DataflowStateError(
            f"nothing comes on '{topic}': {run.graph.missing_text(owner)}.",
            hint="Run the cell that declares it.",
        )


@dataclass
class _Probe:
    """What was seen of one topic. The subscriber's thread writes it."""

    begin_secs: float
    meter: TopicMeter = field(default_factory=TopicMeter)
    newest: Event | None = None

    def note(self, event: Event) -> None:
        sent_at_secs = sent_secs(event)
        # Only the first message can be an old one that was sent again for us; its interval says nothing.
        is_old = sent_at_secs is not None and sent_at_secs < self.begin_secs
        if self.newest is not None or not is_old:
            self.meter.add(event, time.time())
        self.newest = event


@dataclass(frozen=True, slots=True)
class Measured:
    """What a measurement has seen of one topic."""

    reading: Reading
    newest: Event | None
    """The newest message, which may be older than the measurement; None if there is none."""


class Measurement:
    """Reads topics from its `__enter__` on until `close`, and counts their messages.

    Raises GraphError and EngineError where a topic cannot be read. With `replay_last`, the newest message that
    was sent before is known too. Holds one message of each topic.
    """

    def __init__(self, run: CurrentRun, topics: Iterable[str], *, replay_last: bool) -> None:
        self._run = run
        begin_secs = time.time()
        self._probes = {topic: _Probe(begin_secs) for topic in topics}
        self._readers = {
            topic: run.make_reader(
                topic, probe.note, queue_size=_QUEUE_SIZE, replay_last=replay_last
            )
            for topic, probe in self._probes.items()
        }

    def read(self, topic: str) -> Measured:
        """Returns what was seen of that topic so far."""
        probe = self._probes[topic]
        status = self._run.reader_status(self._readers[topic])
        missed = 0 if status is None else status.dropped
        return Measured(probe.meter.reading(missed), probe.newest)

    def close(self) -> None:
        """Stops reading; `read` still returns what was seen. May be called twice."""
        self._run.remove_readers(list(self._readers.values()))

    def __enter__(self) -> Self:
        try:
            self._run.add_readers(list(self._readers.values()))
        except BaseException:
            # An interrupt may come when they are read already.
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
