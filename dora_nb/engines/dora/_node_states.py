"""Where each node of a dataflow on dora-rs is in its life, from what dora says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dora_nb.status import State

from ._log_lines import Entry

OVER = frozenset({State.FAILED, State.FINISHED, State.STOPPED})
_FAILED = re.compile(r"exited (?:with code|because of|with) .*", re.DOTALL)
_ENDED_BY_A_STOP = re.compile(r"because of signal SIG(TERM|KILL)|This error occurred because node")
_OTHERS_FAULT = re.compile(r"This error occurred because node `([^`]+)`")


@dataclass(frozen=True, slots=True)
class Life:
    """One node."""

    state: State = State.STARTING
    generation: int = 1
    was_ready: bool = False
    exit_words: str | None = None
    """How dora says that it failed."""

    @property
    def others_fault(self) -> str | None:
        """The node whose failure ended this one."""
        found = _OTHERS_FAULT.search(self.exit_words or "")
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Lives:
    """All nodes of one run."""

    nodes: Mapping[str, Life]
    going: bool = False
    """Every node was ready once, and messages move."""
    over: bool = False
    """The dataflow has ended."""


def step(lives: Lives, entry: Entry, *, stopping: bool) -> Lives:
    """What follows from one line of dora's; a line that means nothing changes nothing."""
    if not entry.by_dora:
        return lives
    if entry.node is None:
        return _whole(lives, entry, stopping=stopping)
    life = lives.nodes.get(entry.node)
    if life is None:  # A node of somebody else's, such as the kernel's own taps.
        return lives
    changed = _node(life, entry, going=lives.going, stopping=stopping)
    return replace(lives, nodes={**lives.nodes, entry.node: changed})


def end_all(lives: Lives, *, stopping: bool) -> Lives:
    """Nothing more will be said: whatever has not ended was ended with the dataflow."""
    return _over(lives, State.STOPPED if stopping else State.FINISHED)


def fail_all(lives: Lives) -> Lives:
    """What ran them is gone: whatever has not ended has failed."""
    return _over(lives, State.FAILED)


def _over(lives: Lives, last: State) -> Lives:
    nodes = {
        name: life if life.state in OVER else replace(life, state=last)
        for name, life in lives.nodes.items()
    }
    return Lives(nodes, going=lives.going, over=True)


def _whole(lives: Lives, entry: Entry, *, stopping: bool) -> Lives:
    if entry.text.startswith("all nodes are ready") and _all_were_ready(lives):
        nodes = {
            name: replace(life, state=State.RUNNING) if life.state is State.STARTING else life
            for name, life in lives.nodes.items()
        }
        return replace(lives, nodes=nodes, going=True)
    if entry.target == "coordinator" and entry.text == "dataflow finished":
        return end_all(lives, stopping=stopping)
    return lives


def _all_were_ready(lives: Lives) -> bool:
    """dora says "all" of those that are left; where one is not, the rest soon fails for it."""
    return all(life.was_ready for life in lives.nodes.values())


def _node(life: Life, entry: Entry, *, going: bool, stopping: bool) -> Life:
    if entry.text == "node is ready":
        state = State.RUNNING if going else State.STARTING
        return replace(life, state=state, was_ready=True)
    if entry.text.endswith(" finished successfully"):
        return replace(life, state=State.STOPPED if stopping else State.FINISHED)
    if entry.text.startswith("node will be restarted"):
        return Life(State.STARTING, life.generation + 1)
    if entry.level == "error" and _FAILED.match(entry.text):
        if life.state in OVER:  # It is said twice.
            return life
        if stopping and _ENDED_BY_A_STOP.search(entry.text):
            return replace(life, state=State.STOPPED)
        return replace(life, state=State.FAILED, exit_words=entry.text)
    return life
