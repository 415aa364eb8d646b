"""The bytes between the kernel and a node on trial: the events that it gets, and what it does about them.

A frame is a header, then a name, metadata and a value. Events come through a pipe, as many as there is room
for; what the node sends goes into a file, where it is even if the process dies.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

INPUT = 1
"""An event of type INPUT: the name is the input's."""
STOP = 2
"""The last event; a pipe that ends without it has lost its kernel."""
SENT = 3
"""A message of the node: the name is the output's, the number that of the event it was handling."""
HANDLED = 4
"""An event was handled; the time is how long that took."""
BEFORE_FIRST = -1
"""The number of what a node sends before it has taken an event."""
LOST_DESCRIPTORS_STATUS = 79
"""The exit status of a process whose code has closed our descriptors, so that it cannot say why it ends."""
_HEADER = struct.Struct("<BBHIqqQ")
HEADER_SIZE = _HEADER.size


class Frame(NamedTuple):
    """The header of one frame; sizes are in bytes."""

    kind: int
    type_code: int
    """How the value is encoded, see `dora_nb.transport.as_bytes`."""
    name_size: int
    metadata_size: int
    number: int
    """Which event, counted from 0."""
    nanos: int
    """The time of an event on the recorded clock; a duration on the real one."""
    value_size: int

    @property
    def body_size(self) -> int:
        """How many bytes follow the header."""
        return self.name_size + self.metadata_size + self.value_size

    def pack(self) -> bytes:
        """The header's bytes."""
        return _HEADER.pack(*self)


def unpack(data: bytes | memoryview) -> Frame:
    """The frame whose header these bytes are. Raises struct.error."""
    return Frame._make(_HEADER.unpack(data))
