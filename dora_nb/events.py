"""What one event looks like, wherever the notebook or a test gets one."""

from __future__ import annotations

from typing import Any, Required, TypedDict


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
