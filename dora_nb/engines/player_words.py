"""What the kernel and the player of a recording tell each other, and what the player has to do.

The kernel's commands are messages on an input of the player, its states are messages on an output. Each is a
text, so that a newer kernel's words cannot break an older player: unknown keys are ignored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, cast

import pyarrow as pa

COMMANDS = "commands"
"""The input that brings the kernel's commands."""
STATES = "state"
"""The output with the player's states: it has no slash, so no topic is called like it."""

Act = Literal["pause", "resume", "step", "seek"]
Phase = Literal["playing", "paused", "ended"]


class _Words:
    """What one side tells the other, as a message's text. For dataclasses."""

    __slots__ = ()

    def encode(self) -> str:
        """Returns it as text."""
        return json.dumps(asdict(cast(Any, self)))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Returns what `encode` has written."""
        names = {each.name for each in fields(cast(Any, cls))}
        given = {key: value for key, value in json.loads(text).items() if key in names}
        # JSON makes a list of a tuple.
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


@dataclass(frozen=True, slots=True)
class PlayerJob(_Words):
    """What is played, and how."""

    path: str
    outputs: Mapping[str, str]
    """By topic of the recording: the topic that its messages are published on, which is the output's name."""
    speed: float | None = 1.0
    """How many seconds of the recording pass in a second; None: as fast as the readers take them."""
    loop: bool = False
    from_secs: float = 0.0
    to_secs: float | None = None
    """Seconds from the beginning of the recording; None: to its end."""
    neutrals: Mapping[str, str] = field(default_factory=dict, hash=False)
    """By topic that commands motion: what is sent as soon as the replay pauses, see `encode_array`."""


@dataclass(frozen=True, slots=True)
class Command(_Words):
    """One thing that the player is to do now."""

    number: int
    """Counts the commands of a replay from 1; the player's states name the last one that it has carried out."""
    act: Act
    value: float = 0.0
    """Of ``step`` the number of messages, of ``seek`` the seconds from the beginning of the recording."""


@dataclass(frozen=True, slots=True)
class PlayerState(_Words):
    """What the player does at one moment."""

    phase: Phase
    position_secs: float
    """Seconds from the beginning of the recording."""
    sent: int = 0
    """Messages that were published since the replay began."""
    loops: int = 0
    """How often it has begun anew."""
    carried_out: int = 0
    """The number of the last command that was carried out."""
    last_topic: str = ""
    """The topic of the last message that was published."""
    notes: tuple[str, ...] = ()
    """At the end: what of the file could not be read."""


def encode_array(array: pa.Array[Any]) -> str:
    """Returns an Arrow array as text."""
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([array], names=[""])
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode()


def decode_array(text: str) -> pa.Array[Any]:
    """Returns the array that `encode_array` has written."""
    return pa.ipc.open_stream(base64.b64decode(text)).read_next_batch().column(0)
