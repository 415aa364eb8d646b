"""What of a recording is replayed, on which topics, and which nodes it stands in for. Pure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dora_nb.cells.declare import MAGICS, split_cell
from dora_nb.cells.node_line import parse_node_line
from dora_nb.descriptor import wiring_of
from dora_nb.errors import DeclarationError, GraphError, did_you_mean
from dora_nb.graph.graph import Graph
from dora_nb.graph.sources import LOGS, NOTEBOOK, LogSource, TopicSource, parse_source
from dora_nb.how_to import how_to

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the plan needs to know of a recording."""

    file: str
    """Its name, without folders."""
    topics: tuple[str, ...]
    duration_secs: float
    notes: tuple[str, ...] = ()
    """What of it cannot be read."""
    dataflow_yml: str | None = None
    cells: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By node: the text of its newest cell."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asked for."""

    only: tuple[str, ...] | None = None
    all: bool = False
    map: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By topic of the recording: the topic that it is published on."""
    from_secs: float = 0.0
    to_secs: float | None = None
    speed: float | None = 1.0
    """None: as fast as the readers take it."""


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay publishes, and what it replaces."""

    outputs: Mapping[str, str]
    """By topic of the recording: the topic that its messages are published on."""
    replaced: tuple[str, ...]
    """Declared nodes that do not run meanwhile."""
    absent: Mapping[str, tuple[str, ...]]
    """Nodes that exist during the replay only, with their outputs."""
    silent: tuple[str, ...]
    """Outputs of replaced nodes on which nothing comes meanwhile."""
    notes: tuple[str, ...] = ()
    """What is left out, a line each."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are published."""
        return tuple(self.outputs.values())


def plan_replay(
    recorded: Recorded, choice: Choice, declared: Graph, *, live: Collection[str] = ()
) -> ReplayPlan:
    """Decides what is replayed. Topics in `live` are not, as they must work in any case: an emergency stop.

    Without a choice these are the sources: topics of ``notebook``, of nodes that read no topic, and of nodes that are
    not declared now. Raises GraphError, with the way out.
    """
    _check_range(recorded, choice)
    topics = [each for each in recorded.topics if each.partition("/")[0] != LOGS]
    named = [*(choice.only or ()), *choice.map]
    for topic in named:
        _check_is_recorded(topic, recorded)
    if not topics:
        raise GraphError(f"{recorded.file} has no messages to replay.")
    if choice.only is not None and choice.all:
        raise GraphError(
            f"{how_to('replay only some topics')} and {how_to('replay all topics')} exclude each other:",
            hint="give one of them.",
        )
    explicit = set(named) if choice.only is not None else set(choice.map)
    if choice.only is not None:
        chosen = [each for each in topics if each in explicit]
    elif choice.all:
        chosen = topics
    else:
        wirings = _recorded_wirings(recorded)
        chosen = [
            each for each in topics if each in explicit or _is_source(each, wirings, declared)
        ]
    outputs, notes = _published_on(chosen, explicit, choice, declared, recorded.file)
    notes += (f"{recorded.file}: {note}" for note in recorded.notes)
    for topic in live:
        # Also if the user named it: an emergency stop is worth more than a recorded message.
        kept_out = [each for each, output in outputs.items() if output == topic]
        for each in kept_out:
            del outputs[each]
            notes.append(f"{each}: not replayed, the EStop of the page keeps {topic}")
    if not outputs:
        raise GraphError(_nothing_text(recorded.file, topics, choice, notes), hint=_way_out(choice))
    by_node = _by_node(outputs.values())
    replaced = tuple(name for name in by_node if name in declared)
    silent = tuple(
        f"{name}/{output}"
        for name in replaced
        for output in declared.node(name).outputs
        if output not in by_node[name]
    )
    absent = {
        name: own for name, own in by_node.items() if name not in declared and name != NOTEBOOK
    }
    return ReplayPlan(outputs, replaced, absent, silent, tuple(notes))


def as_written(topic: str) -> str:
    """Returns the topic as dora writes it: topics of ROS begin with a slash."""
    return topic.lstrip("/")


def downstream(declared: Graph, topics: Iterable[str]) -> tuple[str, ...]:
    """Returns the nodes that read these topics, directly or through others, in the order of declaration."""
    reached = {str(each) for each in topics}
    found: set[str] = set()
    while True:
        new = {
            spec.name
            for spec in declared
            if spec.name not in found
            and any(
                isinstance(read.source, TopicSource) and str(read.source) in reached
                for read in spec.inputs
            )
        }
        if not new:
            return tuple(spec.name for spec in declared if spec.name in found)
        found |= new
        reached |= {f"{name}/{output}" for name in new for output in declared.node(name).outputs}


def check_speed(speed: object) -> float | None:
    """Returns the speed; None for ``"max"``. Raises GraphError for anything but a number above 0."""
    if speed == "max" or speed is None:
        return None
    is_number = isinstance(speed, (int, float)) and not isinstance(speed, bool)
    if not is_number or not 0 < speed < math.inf:  # type: ignore[operator]  # is a number
        raise GraphError(f"speed must be a number above 0, or 'max', got {speed!r}.")
    return float(speed)  # type: ignore[arg-type]


def check_position(recorded: Recorded, what: str, secs: Any) -> float:
    """Returns a position in the recording. Raises GraphError for one that it does not have."""
    is_number = isinstance(secs, (int, float)) and not isinstance(secs, bool)
    if not is_number or not 0 <= secs < math.inf:
        raise GraphError(f"{what} must be >= 0 seconds, got {secs!r}.")
    if secs > recorded.duration_secs:
        raise GraphError(
            f"{what} {secs:g} s is beyond the end: {recorded.file} has {recorded.duration_secs:.1f} s."
        )
    return float(secs)


def _check_range(recorded: Recorded, choice: Choice) -> None:
    check_position(recorded, "from", choice.from_secs)
    to_secs = choice.to_secs
    if to_secs is not None and not to_secs > choice.from_secs:
        raise GraphError(
            f"to must be after from, got from {choice.from_secs:g} s to {to_secs:g} s."
        )


def _check_is_recorded(topic: str, recorded: Recorded) -> None:
    if topic not in recorded.topics:
        hint = did_you_mean(topic, recorded.topics)
        known = ", ".join(recorded.topics[:_MOST_NAMED]) or "none"
        more = ", ..." if len(recorded.topics) > _MOST_NAMED else ""
        raise GraphError(
            f"{recorded.file} has no topic '{topic}'.", hint=hint or f"It has: {known}{more}."
        )


def _recorded_wirings(recorded: Recorded) -> dict[str, tuple[str, ...]]:
    """By recorded node: the sources of its inputs."""
    known: dict[str, tuple[str, ...]] = {}
    if recorded.dataflow_yml is not None:
        known |= wiring_of(recorded.dataflow_yml)
    # The cells too: a node may have been declared, or wired anew, while it was recorded.
    for node, text in recorded.cells.items():
        with contextlib.suppress(DeclarationError):
            known[node] = _sources_of_cell(text)
    return known


def _sources_of_cell(text: str) -> tuple[str, ...]:
    cell = split_cell(text, "a recorded cell")
    if cell is None:
        raise GraphError("the text declares no node.")
    what = MAGICS[cell.magic].word
    line = parse_node_line(cell.header, cell.header.words(), what=what, from_file=False)
    return tuple(str(read.source) for read in line.inputs)


def _is_source(topic: str, wirings: Mapping[str, Sequence[str]], declared: Graph) -> bool:
    node = as_written(topic).partition("/")[0]
    if node == NOTEBOOK or node not in declared:
        return True
    if node in wirings:
        return not any(map(_is_topic, wirings[node]))
    return not any(_is_topic(str(read.source)) for read in declared.node(node).inputs)


def _is_topic(source: str) -> bool:
    return source.partition("/")[0] != LOGS


def _published_on(
    chosen: Sequence[str],
    explicit: Collection[str],
    choice: Choice,
    declared: Graph,
    file: str,
) -> tuple[dict[str, str], list[str]]:
    outputs: dict[str, str] = {}
    notes: list[str] = []
    owners: dict[str, str] = {}
    for topic in chosen:
        output = choice.map.get(topic) or as_written(topic)
        try:
            source = parse_source(output)
        except GraphError:
            if topic in choice.map:
                raise
            source = None
        if not isinstance(source, TopicSource) or isinstance(source, LogSource):
            text = f"'{output}' is not NODE/OUTPUT"
            if topic in explicit:
                raise GraphError(
                    f"{topic} cannot be replayed: {text}.",
                    hint=f"Give it another topic: {_elsewhere(topic)}.",
                )
            notes.append(f"{topic}: not replayed, {text}; {_elsewhere(topic)} replays it")
            continue
        if output in owners:
            raise GraphError(
                f"two topics of {file} go to '{output}': {owners[output]} and {topic}.",
                hint=f"Give one of them another topic with {_elsewhere(topic)}.",
            )
        declared.check_topic(output)
        owners[output] = topic
        outputs[topic] = output
    return outputs, notes


def _by_node(topics: Iterable[str]) -> dict[str, tuple[str, ...]]:
    by_node: dict[str, tuple[str, ...]] = {}
    for topic in topics:
        node, _, output = topic.partition("/")
        by_node[node] = (*by_node.get(node, ()), output)
    return by_node


def _nothing_text(file: str, topics: Sequence[str], choice: Choice, notes: Sequence[str]) -> str:
    if choice.only is None and not choice.all and not notes:
        few = ", ".join(topics[:_MOST_NAMED])
        return (
            f"{file} has no topic of a source: {few} come from nodes that read topics themselves."
        )
    return f"nothing of {file} can be replayed{': ' if notes else ''}{'; '.join(notes)}."


def _way_out(choice: Choice) -> str | None:
    if choice.only is None and not choice.all:
        only, everything = how_to("replay only some topics"), how_to("replay all topics")
        return f"Choose topics with {only}, or replay all of them with {everything}."
    return None


def _elsewhere(topic: str) -> str:
    return how_to("replay on another topic", topic=topic, to="NODE/OUTPUT")
