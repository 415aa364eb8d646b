"""What the kernel tells the process that records, and what that answers.

The kernel's words are ordinary messages on an input of the recorder's own; the answers are messages of its
output `STATE`, one text in JSON each, of which the newest says all.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec
import pyarrow as pa

WORDS_INPUT = "words"
"""The recorder's input for words. No topic has this name, since it lacks a slash."""
STATE = "state"
"""The recorder's output."""
Images = Literal["raw", "jpeg"]
IMAGES: tuple[Images, ...] = ("raw", "jpeg")


class RecordTo(msgspec.Struct, frozen=True):
    """What a recorder is started with: the file."""

    path: str
    overwrite: bool = False
    images: Images = "raw"
    quality: int = 90
    foxglove: bool = False
    losses_known: bool = True


class KeepLast(msgspec.Struct, frozen=True):
    """What a flight recorder is started with."""

    secs: float
    limit_bytes: int
    quality: int
    losses_known: bool = True


def encode_task(task: RecordTo | KeepLast) -> str:
    """Returns the argument that a recorder's process is started with."""
    kind = "record" if isinstance(task, RecordTo) else "keep"
    # Not by msgspec: the name of a file need not be UTF-8, and the lone surrogates that then stand for its bytes
    # are escaped by the standard library alone.
    return json.dumps({"kind": kind, **msgspec.structs.asdict(task)})


def decode_task(text: str) -> RecordTo | KeepLast:
    """Returns the task that `encode_task` made the argument of."""
    given = json.loads(text)
    if given.pop("kind") == "record":
        return msgspec.convert(given, RecordTo)
    return msgspec.convert(given, KeepLast)


@dataclass(frozen=True, slots=True)
class Attach:
    """A word: this file belongs into the recording."""

    name: str
    data: bytes
    media_type: str
    time_nanos: int

    def encode(self) -> tuple[pa.Array[Any], dict[str, Any]]:
        """Returns the word as data and metadata of a message."""
        about = {
            "word": "attach",
            "name": self.name,
            "media_type": self.media_type,
            "time_nanos": self.time_nanos,
        }
        return pa.array([self.data], pa.binary()), about


@dataclass(frozen=True, slots=True)
class Save:
    """A word: write what is kept into this file."""

    request: int
    path: str
    overwrite: bool = False

    def encode(self) -> tuple[pa.Array[Any], dict[str, Any]]:
        """Returns the word as data and metadata of a message."""
        about = {"word": "save", "request": self.request, "overwrite": self.overwrite}
        return pa.array([self.path.encode(errors="surrogateescape")], pa.binary()), about


@dataclass(frozen=True, slots=True)
class Finish:
    """A word: record what has been sent up to now, then end."""

    def encode(self) -> tuple[pa.Array[Any], dict[str, Any]]:
        """Returns the word as data and metadata of a message."""
        return pa.array([b""], pa.binary()), {"word": "finish"}


@dataclass(frozen=True, slots=True)
class Missed:
    """A word: so many messages of a topic never came to any edge."""

    topic: str
    number: int

    def encode(self) -> tuple[pa.Array[Any], dict[str, Any]]:
        """Returns the word as data and metadata of a message."""
        about = {"word": "missed", "topic": self.topic, "number": self.number}
        return pa.array([b""], pa.binary()), about


Word = Attach | Save | Missed | Finish


def decode_word(data: pa.Array[Any], metadata: dict[str, Any]) -> Word:
    """Returns the word that `encode` made a message of."""
    content: bytes = data[0].as_py()
    if metadata["word"] == "attach":
        return Attach(metadata["name"], content, metadata["media_type"], metadata["time_nanos"])
    if metadata["word"] == "finish":
        return Finish()
    if metadata["word"] == "missed":
        return Missed(metadata["topic"], metadata["number"])
    path = content.decode(errors="surrogateescape")
    return Save(metadata["request"], path, metadata["overwrite"])


@dataclass(frozen=True, slots=True)
class TopicState:
    """What was recorded of one topic."""

    received: int = 0
    lost: int | None = 0
    """How many messages did not reach the recorder; None where that is unknown."""
    rate_hz: float = 0.0
    """Over the last second or so."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a `Save`."""

    request: int
    error: str | None = None
    hint: str | None = None
    messages: int = 0
    secs: float = 0.0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RecorderState:
    """What a recorder says of itself, twice a second."""

    secs: float = 0.0
    """How long it records; of a flight recorder, how long is kept."""
    size_bytes: int = 0
    topics: dict[str, TopicState] = field(default_factory=dict)
    error: str | None = None
    """Why the recording ended by itself."""
    hint: str | None = None
    ended: bool = False
    saved: Saved | None = None

    def encode(self) -> pa.Array[Any]:
        """Returns the state as a message."""
        return pa.array([json.dumps(asdict(self))])


def decode_state(data: pa.Array[Any]) -> RecorderState:
    """Returns the state that `RecorderState.encode` made a message of."""
    return msgspec.convert(json.loads(data[0].as_py()), RecorderState)
