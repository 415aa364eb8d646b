"""Checks the types of inputs and outputs, such as ``std/media/v1/Image``, by name.

dora-rs has a table of compatible types (``docs/types.md``) and checks it with ``dora validate``. Here,
two names fit if they are equal up to parameters in brackets, or if the file's ``type_rules`` say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dora_nb.errors import DescriptorError, did_you_mean
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import TopicSource

from ._yaml import Item


class TypeCheck:
    """Collects the types that nodes give their inputs and outputs, and compares them."""

    def __init__(self) -> None:
        self._inputs: dict[tuple[str, str], Item] = {}
        self._outputs: dict[tuple[str, str], str] = {}

    def learn(self, spec: NodeSpec, inputs: Item | None, outputs: Item | None) -> None:
        """Adds a node's ``input_types`` and ``output_types``.

        Raises DescriptorError for a type of an input or output that the node lacks.
        """
        names = [read.name for read in spec.inputs]
        for name, item in _typed(inputs, "input", names):
            self._inputs[spec.name, name] = item
        for name, item in _typed(outputs, "output", spec.outputs):
            self._outputs[spec.name, name] = item.text("a type")

    def problems(self, graph: Graph, rules: Item | None, *, strict: bool) -> list[str]:
        """Returns a sentence for each input whose type does not fit; raises the first if `strict`."""
        allowed = set(_rules(rules))
        sentences = []
        for reader in graph:
            for read in reader.inputs:
                wanted = self._inputs.get((reader.name, read.name))
                if wanted is None or not isinstance(read.source, TopicSource):
                    continue
                given = self._outputs.get((read.source.node, read.source.output))
                expected = wanted.text("a type")
                if given is None or _fits(given, expected) or (given, expected) in allowed:
                    continue
                message = f"{reader.name}/{read.name} is {expected}, but {read.source} is {given}."
                if strict:
                    raise wanted.error(message)
                sentences.append(f"{wanted.location}: {message}")
        return sentences


def _fits(given: str, expected: str) -> bool:
    return given.partition("[")[0] == expected.partition("[")[0]


def _typed(item: Item | None, what: str, names: Iterable[str]) -> Iterator[tuple[str, Item]]:
    known = list(names)
    entries = {} if item is None else item.mapping(f"'{what}_types'")
    for name, value in entries.items():
        if name not in known:
            assert item is not None
            raise item.key_error(
                name, f"there is no {what} '{name}'.", hint=did_you_mean(name, known)
            )
        value.text("a type")
        yield name, value


def _rules(item: Item | None) -> Iterator[tuple[str, str]]:
    for rule in [] if item is None else item.sequence("'type_rules'"):
        entries = rule.mapping("a rule")
        if set(entries) != {"from", "to"}:
            raise DescriptorError("a rule needs 'from' and 'to'.", location=rule.location)
        yield entries["from"].text("'from'"), entries["to"].text("'to'")
