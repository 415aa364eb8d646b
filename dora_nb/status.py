"""What a dataflow looks like at one moment: frozen snapshots, read without disturbing anything.

The counts come from pages that the operators' processes write (one writer a word), so taking a
snapshot sends no message and waits for nobody.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .errors import OperatorError
from .graph.nodes import QueuePolicy

LONG_BUSY_SECS = 2.0
SOMEBODY = "a process to join"
"""What a dynamic node waits for."""


class State(enum.Enum):
    """Where an operator is in its life, in the words that a user sees."""

    DECLARED = "declared"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """One edge: at any quiet moment ``sent == received + dropped + queued``, each counted where it happens."""

    topic: str
    reader: str
    """Name of the reading node; ``notebook`` for a subscription of the kernel."""
    input: str
    queue_size: int
    policy: QueuePolicy
    sent: int = 0
    """Messages that the publisher gave to this edge."""
    received: int = 0
    """Messages that the reader took."""
    dropped: int = 0
    """Messages that were taken back or given up, counted by who did it."""
    queued: int = 0
    """Messages in line right now."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One operator."""

    name: str
    state: State
    declared_in: str
    """``Cell In[5]`` or a file's path."""
    cell_deleted: bool = False
    """Whether that cell is not in the notebook any more."""
    generation: int = 0
    """How often it was started; 0 before the first start."""
    waiting_for: tuple[str, ...] = ()
    """Undeclared nodes that inputs of it wait for."""
    inputs: tuple[EdgeStatus, ...] = ()
    outputs: tuple[EdgeStatus, ...] = ()
    """One entry for each reader of each output."""
    events: int | None = 0
    """Events handled, over all generations of this run; None where the engine does not count them."""
    missed_ticks: int = 0
    undeclared_outputs: int = 0
    """Calls of `send_output` that named an output which is not declared; ignored, as dora does."""
    on_event_p50_secs: float | None = None
    on_event_p95_secs: float | None = None
    busy_secs: float | None = None
    """How long the `on_event` that runs right now has taken so far; None while none does."""
    error: OperatorError | None = None

    @property
    def dropped(self) -> int:
        """Messages lost on the way to this operator."""
        return sum(edge.dropped for edge in self.inputs)

    @property
    def long_busy_secs(self) -> float | None:
        """How long it has been busy with one event, where that is long enough to be worth a word."""
        secs = self.busy_secs
        return secs if secs is not None and secs >= LONG_BUSY_SECS else None

    def state_text(self) -> str:
        """The state as a sentence's end: ``running``, ``waiting (for camera)``."""
        if self.state is State.WAITING:
            return f"waiting (for {', '.join(self.waiting_for)})"
        return str(self.state.value)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that an operator printed, or that the engine says about it."""

    node: str
    stream: str
    """``stdout``, ``stderr``, ``engine``, or the level of a line that the node logged: ``error``, ``warn``,
    ``info``, ``debug``, ``trace``."""
    text: str
    time_secs: float
    """Wall clock when the kernel read it, seconds since the epoch."""
    number: int = 0
    """Counts the node's lines from 0, those that are not kept any more too."""
