"""What the kernel and the player of a recording tell each other, and what the player has to do.

The kernel's commands are messages on an input of the player, its states are messages on an output. Each is a
text, so that a newer kernel's words cannot break an older player: unknown keys are ignored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import pyarrow as pa

COMMANDS = "commands"
"""The input that brings the kernel's commands."""
STATES = "state"
"""The output with the player's states: it has no slash, so no topic is called like it."""

Act = Literal["pause", "resume", "step", "seek"]
Phase = Literal["playing", "paused", "ended"]


@dataclass(frozen=True, slots=True)
class PlayerJob:
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

    def encode(self) -> str:
        """Returns the job as an argument of the player's script."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> PlayerJob:
        """Returns the job that `encode` has written."""
        return cls(**_known(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that the player is to do now."""

    number: int
    """Counts the commands of a replay from 1; the player's states name the last one that it has carried out."""
    act: Act
    value: float = 0.0
    """Of ``step`` the number of messages, of ``seek`` the seconds from the beginning of the recording."""

    def encode(self) -> str:
        """Returns the command as a message's text."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Command:
        """Returns the command that `encode` has written."""
        return cls(**_known(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class PlayerState:
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

    def encode(self) -> str:
        """Returns the state as a message's text."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> PlayerState:
        """Returns the state that `encode` has written."""
        known = _known(cls, json.loads(text))
        return cls(**{**known, "notes": tuple(known.get("notes", ()))})


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


def _known(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {key: value for key, value in given.items() if key in names}
