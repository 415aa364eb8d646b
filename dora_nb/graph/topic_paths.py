"""Topic paths: a topic with the field of its messages that a plot shows, such as ``sim/pose.x``. Pure.

::

    imu/accel[0]      output accel of imu, element 0
    sim/pose.x        output pose.x of sim if sim declares it, else field x of its output pose
    a/b/c.d[2].e      output b/c of a, then d, element 2, e

The names of outputs may have dots, so only the declared outputs can tell where a field begins: the
longest one that fits is meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dora_nb.errors import GraphError, nearest

from .graph import Graph
from .sources import LOGS, NOTEBOOK, TopicSource

Field = tuple[str | int, ...]
"""The steps from a message to the value: names of struct fields, and places in a list from 0."""
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<place>-?[0-9]{1,9})\]")
_ENDS_OF_OUTPUT = re.compile(r"[.\[]")


@dataclass(frozen=True, slots=True)
class TopicPath:
    """A topic, and the field of its messages that is meant. An empty field is the whole message."""

    source: TopicSource
    field: Field = ()
    is_assumed: bool = False
    """The node is not declared yet, so where the field begins is a guess. Parse the text again once it is."""

    def __str__(self) -> str:
        return f"{self.source}{field_text(self.field)}"


def field_text(field: Field) -> str:
    """Returns the field as it stands behind a topic: ``.pose[0].x``; empty for the whole message."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in field)


def parse_topic_path(text: str, graph: Graph) -> TopicPath:
    """Returns the topic and the field that the text names: the longest declared output, then the field.

    While the node is not declared, any topic may come; then the output is taken to end at the first dot or
    bracket behind the last slash, and the path `is_assumed`. Whether messages have the field is seen when one
    comes. Raises GraphError for what is not a topic, for an output that the node does not have (with the
    nearest path), and for a field that does not read ``.name`` or ``[0]``.

    Example::

        >>> path = parse_topic_path("imu/accel[0]", dataflow.graph)
        >>> path.source.output, path.field
        ('accel', (0,))
    """
    node, _, rest = text.partition("/")
    outputs = _known_outputs(node, graph)
    ends = [found.start() for found in _ENDS_OF_OUTPUT.finditer(rest)]
    declared = [end for end in (*ends, len(rest)) if rest[:end] in outputs]
    if declared:
        end = declared[-1]
    elif node == LOGS:
        end = len(rest)  # `check_topic` refuses it, and shows all of it
    else:
        if node in graph:
            _refuse_unknown_output(node, rest, ends, outputs)
        # The first name behind the last slash: few outputs have dots in their names.
        slash = rest.rfind("/", 0, rest.find("[") if "[" in rest else len(rest))
        # A name may begin with a dot, but never with a bracket.
        fits = (end for end in ends if end > slash + 1 or rest[end] == "[")
        end = next(fits, len(rest))
    source = graph.check_topic(f"{node}/{rest[:end]}" if rest else text)
    field = _parse_field(text, rest[end:])
    return TopicPath(source, field, is_assumed=bool(rest) and not declared)


def _known_outputs(node: str, graph: Graph) -> tuple[str, ...]:
    if node == NOTEBOOK:
        return tuple(topic.partition("/")[2] for topic in graph.topics_of_the_notebook())
    return graph.nodes[node].outputs if node in graph else ()


def _refuse_unknown_output(node: str, rest: str, ends: list[int], outputs: tuple[str, ...]) -> None:
    """Raises GraphError with the nearest path, if the text names an output at all."""
    if not rest:
        return  # `check_topic` says that the output is missing
    has = f"has outputs: {', '.join(outputs)}." if outputs else "has no outputs."
    hint = None
    for end in (*ends, len(rest)):
        near = nearest(rest[:end], outputs)
        if near is not None:
            hint = f"Did you mean '{node}/{near}{rest[end:]}'?"
            break
    raise GraphError(f"the notebook reads '{node}/{rest}', but {node} {has}", hint=hint)


def _parse_field(text: str, rest: str) -> Field:
    steps: list[str | int] = []
    place = 0
    while place < len(rest):
        found = _STEP.match(rest, place)
        if found is None:
            raise GraphError(
                f"in '{text}': cannot read '{rest[place:]}' as a field;",
                hint="write .name for a field of a struct and [0] for an element of a list.",
            )
        steps.append(found["name"] if found["place"] is None else int(found["place"]))
        place = found.end()
    return tuple(steps)
