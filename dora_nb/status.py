"""What a dataflow looks like at one moment: frozen snapshots.

The counts come from shared pages that the nodes' processes write, each word by one writer, so that taking
a snapshot sends no message and never blocks.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import OperatorError
from .graph.nodes import Obstacle, QueuePolicy

LONG_BUSY_SECS = 2.0
PROCESS_TO_JOIN = "a process to join"
"""What a dynamic node waits for, as the end of a sentence."""


class State(enum.Enum):
    """The state of a node, in the words that a user sees.

    ``DECLARED``: it was never started. ``STARTING``: it runs its `__init__`, or its restart policy waits.
    ``WAITING``: it runs, and an input waits for a node that is not declared; or a dynamic node waits for its
    process. ``FINISHED``: it ended by itself. ``STOPPED``: it was asked to end. ``REPLAYED``: it does not run,
    as a recording is replayed in its place.

    Example::

        >>> State.RUNNING.value
        'running'
    """

    DECLARED = "declared"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    FINISHED = "finished"
    STOPPED = "stopped"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """The counts of one edge. While nothing moves, ``sent == received + dropped + queued``."""

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
    """Messages that are lost: evicted by newer ones, or left when a process ended."""
    queued: int = 0
    """Messages that wait in the queue now."""
    word_age_secs: float | None = None
    """How long ago the control was set whose topic this is; None for other topics, and if it never was."""
    sent_bytes: int = 0
    """Size of the data of the messages that were sent; 0 on dora-rs, which does not count it."""


ControlState = Literal["idle", "set", "held", "silent", "released"]


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """A snapshot of one control, from ``Dataflow.controls.status()``."""

    topic: str
    kind: str
    """``state``, ``event`` or ``motion``."""
    state: ControlState
    """``idle``: it was never set. ``set``: it has a value. Of a control that commands motion, ``held``: its
    words come; ``silent``: they stay away, and neutral was sent. ``released``: it was released."""
    value: Any
    """The last value that was set; None if there is none, or it was released."""
    word_age_secs: float | None
    """How long ago it was set or released last; None if it never was."""
    words: int
    """How often it was set or released."""
    outputs: tuple[EdgeStatus, ...] = ()
    """What was sent to each reader, without subscriptions of the notebook."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A snapshot of one node, from `Dataflow.status`. Times are in seconds.

    Example::

        >>> status = NodeStatus("camera", State.RUNNING, declared_in="Cell In[2]", generation=1)
        >>> status.state is State.RUNNING, status.dropped, status.error
        (True, 0, None)
    """

    name: str
    state: State
    declared_in: str
    """``Cell In[5]`` or a file's path."""
    cell_deleted: bool = False
    """Whether that cell was deleted from the notebook."""
    generation: int = 0
    """How often it was started; 0 before the first start."""
    waiting_for: tuple[str, ...] = ()
    """Undeclared nodes that its inputs wait for."""
    inputs: tuple[EdgeStatus, ...] = ()
    outputs: tuple[EdgeStatus, ...] = ()
    """One entry for each reader of each output."""
    events: int | None = 0
    """Events handled, over all generations of this run; None where the engine does not count them."""
    missed_ticks: int = 0
    undeclared_outputs: int = 0
    """Calls of `send_output` with an output that is not declared; they are ignored, as in dora."""
    on_event_p50_secs: float | None = None
    """Half of the events took at most so long; None before the first, and where the engine does not say."""
    on_event_p95_secs: float | None = None
    """95 % of the events took at most so long."""
    busy_secs: float | None = None
    """How long the `on_event` that runs now has taken so far; None while none does."""
    error: OperatorError | None = None
    """Why it failed; None where it did not."""
    last_line: str = ""
    """The line that its newest generation printed or logged last; empty before the first."""
    warnings: tuple[str, ...] = ()
    """What goes wrong while it runs on, a clause each, oldest first: a thread that has ended, an output that is
    not declared, what its own code gave to `warnings.warn`. At most eight; an edit that corrects the cause
    removes its warning."""
    changed_files: tuple[str, ...] = ()
    """Paths of files that its code imported, and that have changed since: it runs the old ones until its cell
    is run again. Files of the standard library and of installed packages do not count."""
    obstacle: Obstacle | None = None
    """Why the embedded engine does not start it; None where it can, and on dora-rs."""
    process_id: int | None = None
    """The id of its process; None where none runs, and on dora-rs."""
    replayed_from: str = ""
    """The name of the file that is replayed in its place; empty where none is."""
    is_service: bool = False
    """Whether it is a node of dora_nb's own, such as the recorder."""
    stands_in_for: tuple[str, ...] = ()
    """Of the player: the topics that it publishes in place of their nodes."""
    on_event_counts: tuple[int, ...] = field(default=(), repr=False)
    """A histogram of how long its events took, over all generations, for the difference of two snapshots."""

    @property
    def dropped(self) -> int:
        """How many messages to this node were dropped, over all its inputs."""
        return sum(edge.dropped for edge in self.inputs)

    @property
    def long_busy_secs(self) -> float | None:
        """`busy_secs`, where that is two seconds or more; else None."""
        secs = self.busy_secs
        return secs if secs is not None and secs >= LONG_BUSY_SECS else None

    @property
    def is_amber(self) -> bool:
        """Whether views show it in amber, not in green: it runs, with warnings."""
        return self.state is State.RUNNING and bool(self.warnings)

    @property
    def shown_name(self) -> str:
        """The name as views show it; a node of dora_nb's own is marked, as a user's may have its name."""
        return f"{self.name} (dora_nb)" if self.is_service else self.name

    def reads_text(self) -> str:
        """``5 topics``: what a node of dora_nb's own reads, or publishes in place of others."""
        number = len(self.stands_in_for) or sum("/" in edge.input for edge in self.inputs)
        return "1 topic" if number == 1 else f"{number} topics"

    def state_text(self) -> str:
        """The state as the end of a sentence: ``running``, ``waiting (for camera)``, ``dora-rs only``."""
        if self.obstacle is not None:
            return self.obstacle.mark
        if self.state is State.REPLAYED:
            return f"replayed from {self.replayed_from}"
        if self.state is State.WAITING:
            return f"waiting (for {', '.join(self.waiting_for)})"
        return str(self.state.value)


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A snapshot of one topic, from `Dataflow.topics`.

    Example::

        >>> status = TopicStatus("camera/image", "camera", State.RUNNING)
        >>> status.publisher, status.readers
        ('camera', ())
    """

    topic: str
    """``NODE/OUTPUT``, or ``notebook/NAME``."""
    publisher: str
    """The name of the node that sends it; ``notebook`` for what the notebook sends."""
    publisher_state: State | None
    """The state of that node; None for the notebook, and for a node that is not declared."""
    readers: tuple[EdgeStatus, ...] = ()
    """One entry for each input that reads it, then one for each subscription of the notebook."""


@dataclass(frozen=True, slots=True)
class RecordedTopicStatus:
    """What was recorded of one topic, from `Recorder.status`."""

    topic: str
    received: int
    """Messages in the recording."""
    lost: int | None
    """Messages that did not reach the recorder; None on dora-rs, where that is unknown."""
    rate_hz: float
    """Messages in a second, lately."""


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """A snapshot of a recording, from `Recorder.status`.

    Example::

        >>> RecorderStatus(Path("run.mcap"), "recording").messages
        0
    """

    path: Path
    state: Literal["waiting", "recording", "ended", "failed"]
    """``waiting``: for the start of the dataflow. ``failed``: it has ended by itself, and `error` says why."""
    secs: float = 0.0
    """How long it has recorded."""
    size_bytes: int = 0
    topics: tuple[RecordedTopicStatus, ...] = ()
    error: str | None = None

    @property
    def messages(self) -> int:
        """How many messages it holds."""
        return sum(each.received for each in self.topics)

    @property
    def lost(self) -> int | None:
        """How many messages did not reach the recorder; None where that is unknown."""
        known = [each.lost for each in self.topics if each.lost is not None]
        return sum(known) if len(known) == len(self.topics) else None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a node printed or logged, or that the engine noted about it, from `Dataflow.logs`."""

    node: str
    stream: str
    """``stdout``, ``stderr``, ``engine``, or the level of a line that the node logged: ``error``, ``warn``,
    ``info``, ``debug``, ``trace``."""
    text: str
    time_secs: float
    """When the kernel read it: seconds since the epoch, by the wall clock."""
    number: int = 0
    """Counts the node's lines from 0, including older ones that are not kept."""
