"""The module that ``import dora`` gives in a node's process: dora's Python API, version 1.1.0.

In the kernel it is served only where dora-rs is not installed. It is loaded under the name `dora`, so
imports in here are absolute.
"""

from __future__ import annotations

import enum

from dora_nb.child.node import Node

__version__ = "1.1.0"
__all__ = ["DoraStatus", "Node"]


class DoraStatus(enum.Enum):
    """What `on_event` returns; dora compares by value, so any object with such a `.value` will do."""

    CONTINUE = 0
    """Go on with the next event."""
    STOP = 1
    """This operator is done; the rest of the dataflow goes on."""
    STOP_ALL = 2
    """The whole dataflow is to stop."""
