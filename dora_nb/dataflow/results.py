"""What the methods of a `Dataflow` return: what they did, for a program to read. Pure.

The magics make the sentences of a cell from them (`dora_nb.magics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Literal

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import Obstacle

EngineName = Literal["embedded", "dora"]
ENGINES: tuple[EngineName, ...] = ("embedded", "dora")

Way = Literal["declared", "unchanged", "started", "in_place", "restarted", "kept"]
"""``declared``: the dataflow does not run. ``unchanged``: it was declared just so. ``started``: its first
process is ready. ``in_place``: the living process took it. ``restarted``: another process took over.
``kept``: the generation before goes on."""


class _ShortRepr:
    """A repr of the fields that say something: a notebook shows it if the call is the last line of a cell."""

    __slots__ = ()

    def __repr__(self) -> str:
        said = []
        for each in fields(self):  # type: ignore[arg-type]  # its subclasses are dataclasses
            value = getattr(self, each.name)
            default = each.default if each.default_factory is MISSING else each.default_factory()
            if value != default:
                said.append(f"{each.name}={value!r}")
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, slots=True, repr=False)
class Declared(_ShortRepr):
    """What became of a node that was declared or restarted."""

    name: str
    way: Way
    generation: int = 0
    """The generation that runs now, counted from 1; 0 where none was started."""
    reason: str = ""
    """Why it was not changed in place, as the end of a sentence; empty where that needs no reason."""
    state: Literal["kept", "carried", "lost"] = "lost"
    """Whether the operator's attributes are still there: the same object, or carried over."""
    notes: tuple[str, ...] = ()
    """What else happened while the new generation took over, each the end of a sentence."""
    waiting_for: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    """The undeclared nodes that its inputs wait for, each with the declared name nearest to it."""
    held_by: tuple[str, ...] = ()
    """The failed nodes for which the whole start still waits."""
    obstacle: Obstacle | None = None
    """Why the embedded engine does not start it; None where it can."""
    replayed_from: str = ""
    """The recording that is replayed in its place: it starts when that has ended."""
    blocking_cycle: tuple[str, ...] = ()
    """The nodes of a cycle through it that stands still once its queues are full, this node first."""


@dataclass(frozen=True, slots=True, repr=False)
class Started(_ShortRepr):
    """What `Dataflow.start` did."""

    names: tuple[str, ...]
    engine: EngineName = "embedded"
    notes: tuple[str, ...] = ()
    """What is different for a node on this engine, a line each."""
    already_running: bool = False
    left_out: tuple[LeftOut, ...] = ()
    """The nodes that the engine cannot run. They are not among the `names`."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A node that the embedded engine cannot run, and the nodes that wait for it."""

    name: str
    obstacle: Obstacle
    waiting: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.name}: not started, {self.obstacle}"
        if not self.waiting:
            return text
        wait = "waits" if len(self.waiting) == 1 else "wait"
        return f"{text}; {', '.join(self.waiting)} {wait} for it"


@dataclass(frozen=True, slots=True, repr=False)
class Stopped(_ShortRepr):
    """What `Dataflow.stop` did."""

    names: tuple[str, ...]
    already_stopped: bool = False
    """Whether none of them had a process."""


@dataclass(frozen=True, slots=True, repr=False)
class Removed(_ShortRepr):
    """What `Dataflow.remove` did."""

    name: str
    waiting: tuple[str, ...] = ()
    """The nodes whose inputs wait for it now."""


@dataclass(frozen=True, slots=True, repr=False)
class Retried(_ShortRepr):
    """What `Dataflow.retry` did: that generation has handled the event."""

    name: str
    generation: int


def cycle_warning(cycle: Sequence[str]) -> str:
    """The sentence about a cycle of nodes that each block their publisher."""
    return (
        f"{' → '.join([*cycle, cycle[0]])} stands still once its queues are full, as every input in it "
        "has backpressure: let one drop its oldest"
    )


def left_out(graph: Graph, engine: EngineName) -> tuple[LeftOut, ...]:
    """The nodes of a graph that the engine cannot run."""
    if engine != "embedded":
        return ()
    here = graph.runnable()
    return tuple(
        LeftOut(
            spec.name,
            spec.obstacle,
            tuple(each.name for each in here if spec.name in here.waiting_for(each.name)),
        )
        for spec in graph
        if spec.obstacle is not None
    )
