"""One recorded message, as the writer takes it and the reader gives it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dora_nb.events import Event


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A message of a recording, with its two times in nanoseconds since 1970."""

    topic: str
    """``NODE/OUTPUT``, ``notebook/NAME``, ``dora/logs`` or ``dora/params``."""
    value: pa.Array[Any]
    """One-dimensional, as it was sent."""
    metadata: dict[str, Any]
    """As a live reader got it, with ``timestamp``, a `datetime` in UTC."""
    publish_nanos: int
    """When it was sent; when it was received, if the engine does not tell."""
    log_nanos: int
    """When the recorder received it. Recordings are read in this order."""
    sequence: int
    """Counted for each topic, from 0."""

    def as_event(self) -> Event:
        """Returns the event that a live reader of the topic gets."""
        return Event(
            type="INPUT", kind="dora", id=self.topic, value=self.value, metadata=dict(self.metadata)
        )


def timestamp_of(publish_nanos: int) -> datetime:
    """Returns the ``timestamp`` of a message that was sent at this time.

    The same float arithmetic as in the transport: a recorded timestamp equals the one that was read live.
    """
    return datetime.fromtimestamp(publish_nanos / 1e9, UTC)
