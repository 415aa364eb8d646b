"""What one event looks like, wherever the notebook or a test gets one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Required, TypedDict

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(TypedDict, total=False):
    """One event as dora gives it to an operator: a plain dict, of which only ``type`` is always there.

    A message that the notebook reads has the type ``INPUT``, its topic as the ``id``, a value and metadata.

    Example::

        >>> event: Event = {"type": "INPUT", "kind": "dora", "id": "arm/angle"}
        >>> event["type"], event.get("metadata", {})
        ('INPUT', {})
    """

    type: Required[str]
    """``INPUT``, ``INPUT_CLOSED``, ``STOP``, ``PARAM_UPDATE`` and so on."""
    kind: str
    """``dora``, as in dora."""
    id: str
    """The name of the input; of a message that the notebook reads, the topic ``NODE/OUTPUT``."""
    value: Any
    """Of a message: a one-dimensional `pyarrow.Array`, read-only."""
    metadata: dict[str, Any]
    """What was sent with the value, and ``timestamp``: when it was sent, a `datetime` in UTC."""
    error: str
    """What went wrong, in an event of the type ``ERROR``."""


def stamp_micros(metadata: Mapping[str, Any] | None) -> int | None:
    """Returns a message's ``timestamp`` in microseconds since 1970; None without a usable one."""
    stamp = metadata.get("timestamp") if isinstance(metadata, Mapping) else None
    if not isinstance(stamp, datetime) or stamp.tzinfo is None:
        return None
    return (stamp - _EPOCH) // timedelta(microseconds=1)
