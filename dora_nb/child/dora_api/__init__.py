"""The module that ``import dora`` gives in a node's process: dora's Python API, version 1.1.0.

In the kernel it is served only where dora-rs is not installed. It is loaded under the name `dora`, so
imports in here are absolute.
"""

from __future__ import annotations

import enum
from typing import Any

from dora_nb.child.dora_names import missing_name
from dora_nb.child.node import Node
from dora_nb.child.one_line import shown_in_one_line

__version__ = "1.1.0"
__all__ = ["DoraStatus", "Node"]

_RUNNERS = {
    "build": "build the nodes with dora-nb run FILE --build, or in a terminal with dora build FILE",
    "run": "start the dataflow from the notebook, or in a terminal with dora-nb run FILE",
    "start_runtime": "declare operators in the notebook; dora_nb starts their processes itself",
}


def __getattr__(name: str) -> Any:
    """Says how to do without a name that only the real dora has."""
    # Not an AttributeError: `from dora import NAME` would replace its text by one with this file's path.
    if name in _RUNNERS:
        why = _RUNNERS[name]
    elif name.startswith("Ros2"):
        why = (
            "dora_nb has no bridge to ROS 2; start this dataflow on dora-rs, from the notebook "
            "or with dora-nb run FILE --engine dora"
        )
    else:
        raise missing_name("dora", name, [*__all__, "builder", "testing"])
    raise shown_in_one_line(ImportError(f"dora.{name} is not available here: {why}", name="dora"))


class DoraStatus(enum.Enum):
    """What `on_event` returns; dora compares by value, so any object with such a `.value` will do."""

    CONTINUE = 0
    """Go on with the next event."""
    STOP = 1
    """This operator is done; the rest of the dataflow goes on."""
    STOP_ALL = 2
    """The whole dataflow is to stop."""
