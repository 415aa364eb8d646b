"""The process that records, as a service node of the session: a script of our own that reads the topics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import (
    LOGS,
    LOGS_TOPIC,
    NOTEBOOK,
    PARAMS_TOPIC,
    WORDS,
    TopicSource,
    parse_source,
)

from ..recorder_words import (
    STATE,
    WORDS_INPUT,
    KeepLast,
    RecordTo,
    encode_task,
)
from ._services import Follow

QUEUE_SIZE = 5000
"""Messages of each topic: five seconds at 1 kHz, in which the disk may be busy. Pictures are bound by the
memory of their output instead."""
_SCRIPT = Path(__file__).parents[1] / "recorder_script.py"
_NO_MODULES = "/proc"
"""A folder that cannot contain a dora.py."""
_RESTARTS = {"restart_policy": "on-failure", "restart_delay": 0.5, "max_restart_delay": 10.0}


def recorder_node(
    name: str, task: RecordTo | KeepLast, topics: Iterable[str] | None = None
) -> Follow:
    """Returns the service `name` that does the task, as `Session.set_service` takes it.

    It reads these topics, or all: also those of nodes that are declared later, what the notebook sends, what
    nodes print, and changes of parameters.
    """
    code = SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name)
    chosen = None if topics is None else tuple(topics)
    argument = encode_task(task)

    def follow(declared: Graph, said: tuple[str, ...]) -> NodeSpec:
        names = all_topics(declared, said) if chosen is None else chosen
        return NodeSpec(
            name=name,
            code=code,
            inputs=(
                *(InputSpec(topic, _source(topic), QUEUE_SIZE) for topic in names),
                InputSpec(WORDS_INPUT, TopicSource(WORDS, name), QUEUE_SIZE),
            ),
            outputs=(STATE,),
            kind="script",
            args=(argument,),
            working_dir=_NO_MODULES,
            # What is kept is lost with the process, but what comes is kept again. A file has one writer.
            other_keys=_RESTARTS if isinstance(task, KeepLast) else {},
        )

    return follow


def all_topics(declared: Graph, said: Iterable[str]) -> list[str]:
    """Returns all that can be recorded of a dataflow; `said` are the names of the notebook's own topics."""
    return [
        *(f"{spec.name}/{output}" for spec in declared for output in spec.outputs),
        *(f"{NOTEBOOK}/{name}" for name in said),
        LOGS_TOPIC,
        PARAMS_TOPIC,
    ]


def _source(topic: str) -> TopicSource:
    # Not by `parse_source`, which knows only the topics that a user's input can read.
    if topic == PARAMS_TOPIC:
        return TopicSource(LOGS, PARAMS_TOPIC.partition("/")[2])
    source = parse_source(topic)
    assert isinstance(source, TopicSource)
    return source
