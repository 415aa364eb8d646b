"""What a recording is read from: an MCAP file, or a ROS 2 bag."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .message import RecordedMessage


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What a source tells of a topic before it reads its messages."""

    topic: str
    type: str
    """For people: ``uint8``, ``bgr8 as JPEG``, ``sensor_msgs/msg/Imu``."""
    count: int
    unreadable: str | None = None
    """Why its messages cannot be read, a sentence; None if they can."""


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A file inside a recording, without its content."""

    name: str
    time_nanos: int
    place: int
    """What the source needs to read it."""


class Source(Protocol):
    """Times are log times in nanoseconds since 1970. Methods raise RecordingError."""

    topics: dict[str, TopicInfo]
    start_nanos: int
    end_nanos: int
    size_bytes: int
    attachments: tuple[AttachedFile, ...]

    @property
    def notes(self) -> list[str]:
        """What is wrong or missing, as far as it has been read."""

    def messages(
        self, topics: Collection[str], start_nanos: int | None, stop_nanos: int | None
    ) -> Iterator[RecordedMessage]:
        """Yields the messages from `start_nanos` until before `stop_nanos`, in order."""

    def newest(self, topic: str, nanos: int) -> RecordedMessage | None:
        """Returns the newest message that is not later than `nanos`."""

    def log_times(self, topic: str) -> npt.NDArray[np.int64]:
        """Returns the times of a topic's messages, in order."""

    def read_attachment(self, file: AttachedFile) -> bytes:
        """Returns the content of a file."""
