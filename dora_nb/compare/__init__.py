"""Two versions of a node on the same recorded messages.

::

    recorded_inputs   a recording → the events of the node, with ticks on the recorded clock
    runner            both versions, each in its own process (`engines.embedded.Trials`)
    pairing           pure: which message belongs to which
    differences       pure: how two messages differ; `box_differences` for boxes
    comparison        the result; `text` says it in a terminal
    clock_readers     pure: calls of the node's code that do not follow the recorded clock
"""

from __future__ import annotations

from .comparison import AS_RECORDED, Comparison, MessagePair, OutputComparison, Version
from .runner import Candidate, compare

__all__ = [
    "AS_RECORDED",
    "Candidate",
    "Comparison",
    "MessagePair",
    "OutputComparison",
    "Version",
    "compare",
]
