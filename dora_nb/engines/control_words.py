"""What the kernel tells the process that publishes the controls (sliders, joysticks), and how it travels.

A word says all that there is to know about one control, so the newest word replaces those before it, and a
process that starts later needs only that one. It travels as an ordinary message: the value, and behind it
the neutral value, are the array; the rest is metadata.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa

from dora_nb.graph.nodes import InputSpec
from dora_nb.graph.sources import WORDS, TopicSource

Array: TypeAlias = "pa.Array[Any]"
ControlKind = Literal["state", "event", "motion"]
"""``state``: has a value, which is sent when it changes and again to a reader that starts (a slider).
``event``: each word is one message, sent once (a button). ``motion``: commands motion (a joystick): sent at
a rate while words keep coming, and neutral as soon as they do not."""
KINDS: tuple[ControlKind, ...] = get_args(ControlKind)
WORD_INPUT = "word of "
"""Inputs of words begin with this; the rest is the name of the control's topic. No user's input can."""
_QUEUE_SIZE = 100
"""Enough for many presses of a button; of the other controls only the newest word counts."""
_declarations = itertools.count(1)


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """What was declared about one control. Value and neutral value have the same Arrow type."""

    kind: ControlKind
    value: Array | None = None
    neutral: Array | None = None
    """What is sent when the control is released, and when the dataflow or the kernel ends."""
    rate: float = 0.0
    """Messages in a second, of a control that commands motion."""
    deadman_secs: float = 0.0
    """A control that commands motion is neutral after this long without a word."""


@dataclass(frozen=True, slots=True)
class Word:
    """The state of one control, as the kernel knows it."""

    spec: ControlSpec
    declaration: int
    """Which declaration of a control on this topic it is."""
    number: int = 0
    """How often the control was set or released."""
    at_secs: float = 0.0
    """When that was last, on the monotonic clock, which all processes share."""
    released: bool = False
    value: Array | None = None
    again: int = 0
    """How often a reader has started that must be sent the value again."""
    replays: int = 0
    """How often a recording that was replayed on its topic has ended."""

    def encode(self) -> tuple[Array, dict[str, Any]]:
        """Returns the word as data and metadata of a message."""
        arrays = [each for each in (self.value, self.spec.neutral) if each is not None]
        data: Array = pa.concat_arrays(arrays) if arrays else pa.nulls(0)
        metadata = {
            "kind": self.spec.kind,
            "rate": self.spec.rate,
            "deadman_secs": self.spec.deadman_secs,
            "declaration": self.declaration,
            "number": self.number,
            "at_secs": self.at_secs,
            "released": self.released,
            "again": self.again,
            "replays": self.replays,
            "has_value": self.value is not None,
            "has_neutral": self.spec.neutral is not None,
            "value_length": 0 if self.value is None else len(self.value),
        }
        return data, metadata


def decode_word(data: Array, metadata: dict[str, Any]) -> Word:
    """Returns the word that `Word.encode` made a message of."""
    length = metadata["value_length"]
    spec = ControlSpec(
        kind=metadata["kind"],
        neutral=data.slice(length) if metadata["has_neutral"] else None,
        rate=metadata["rate"],
        deadman_secs=metadata["deadman_secs"],
    )
    return Word(
        spec,
        declaration=metadata["declaration"],
        number=metadata["number"],
        at_secs=metadata["at_secs"],
        released=metadata["released"],
        value=data.slice(0, length) if metadata["has_value"] else None,
        again=metadata["again"],
        replays=metadata["replays"],
    )


def word_inputs(names: Iterable[str]) -> tuple[InputSpec, ...]:
    """Returns the inputs on which a process gets the words of these controls."""
    return tuple(
        InputSpec(WORD_INPUT + name, TopicSource(WORDS, name), _QUEUE_SIZE) for name in names
    )


def first_word(spec: ControlSpec) -> Word:
    """Returns the word of a control that has just been declared."""
    return Word(spec, declaration=next(_declarations), value=spec.value)
