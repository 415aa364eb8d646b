"""The sentences in which cells say what a dataflow did. They are stable, so that a notebook can be compared.

`Dataflow` returns results for a program (`dora_nb.dataflow.results`); English is made of them here alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from dora_nb.dataflow.front_end import Attached
from dora_nb.dataflow.results import Declared, Removed, Retried, Started, Stopped, cycle_warning

_ON_ENGINE = {"embedded": "", "dora": " on dora-rs"}


def declared_text(declared: Declared) -> str:
    """``detector: generation 2, in place, state kept``: what a cell that declares ends in."""
    return f"{declared.name}: {_what(declared)}"


def _what(declared: Declared) -> str:
    if declared.replayed_from:
        return f"{declared.way}, replayed from {declared.replayed_from}"
    if declared.obstacle is not None:
        return f"{declared.way}, {declared.obstacle}"
    if declared.way == "unchanged":
        return "unchanged"
    text = declared.way if declared.way in ("declared", "started") else _generation_text(declared)
    if declared.waiting_for:
        text += f", waiting for {_waiting_text(declared.waiting_for)}"
    if declared.held_by:
        text += f"; the start is held by {', '.join(declared.held_by)}"
    if declared.blocking_cycle:
        text += f"; {cycle_warning(declared.blocking_cycle)}"
    return text


def _generation_text(declared: Declared) -> str:
    begin = f"generation {declared.generation}, "
    if declared.way == "in_place":
        return f"{begin}in place, state kept"
    if declared.way == "kept":
        return f"{begin}kept"
    state = "state carried over" if declared.state == "carried" else "state not kept"
    restarted = f"restarted: {declared.reason}" if declared.reason else "restarted"
    return "; ".join([f"{begin}{restarted}, {state}", *declared.notes])


def _waiting_text(waiting_for: Mapping[str, str | None]) -> str:
    return ", ".join(
        missing if nearest is None else f"{missing} (did you mean '{nearest}'?)"
        for missing, nearest in waiting_for.items()
    )


def kept_text(name: str, generation: int) -> str:
    """What goes on where an edit is refused."""
    return f"{name}: kept generation {generation}"


def started_text(started: Started) -> str:
    """``started: camera, detector``, and a line for each node that is different, or left out, on this engine."""
    if started.already_running:
        return "already running"
    names = ", ".join(started.names)
    lines = [*started.notes, *map(str, started.left_out)]
    return "\n".join([f"started{_ON_ENGINE[started.engine]}: {names}", *lines])


def stopped_text(stopped: Stopped) -> str:
    """Of the whole dataflow: ``stopped``, ``already stopped``."""
    return "already stopped" if stopped.already_stopped else "stopped"


def stopped_node_text(stopped: Stopped) -> str:
    """Of one node: ``detector: stopped``."""
    return f"{', '.join(stopped.names)}: {stopped_text(stopped)}"


def removed_text(removed: Removed) -> str:
    """``camera: removed; detector waits for it``."""
    if not removed.waiting:
        return f"{removed.name}: removed"
    wait = "waits" if len(removed.waiting) == 1 else "wait"
    return f"{removed.name}: removed; {', '.join(removed.waiting)} {wait} for it"


def retried_text(retried: Retried) -> str:
    """What a retry ends in where it did not fail again."""
    return f"{retried.name}: generation {retried.generation} has handled the event that it had failed on"


def attached_text(attached: Attached) -> str:
    """``watching arm: camera, driver``."""
    if attached.already_watching:
        return f"already watching {attached.name}"
    return f"watching {attached.name}: {', '.join(attached.nodes)}"


def detached_text(detached: bool) -> str:
    """Of `FrontEnd.detach`."""
    return "detached" if detached else "nothing is watched"
