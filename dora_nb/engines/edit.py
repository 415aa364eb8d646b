"""What an engine is asked to do when a node that runs is declared anew, and what came of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dora_nb.cells.edits import Fresh, InPlace, plan_edit
from dora_nb.errors import OperatorError
from dora_nb.graph.nodes import NodeSpec

Way = Literal["in_place", "beside", "after"]
"""``in_place``: the living process takes it. ``beside``: a new process is prepared beside the old one, and
takes over once it works. ``after``: the old process ends first, as it owns something that only one can."""


@dataclass(frozen=True, slots=True)
class Edit:
    """How a node that runs is to become what it was declared anew."""

    way: Way
    reason: str = ""
    """Why not in place, as the end of a sentence; empty where it needs none."""
    code: InPlace | None = None
    """What changes in the living module; None where the source is what it was, or all of it is run."""
    whole: bool = False
    """All of the new source is run in the living process, by dora's rule for a reload."""


Outcome = Literal["in_place", "restarted", "kept", "dropped", "failed"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of an edit.

    ``kept``: the generation before goes on, and `error` says why. ``dropped``: the same, as whoever asked
    for the edit took it back. ``failed``: nothing goes on.
    """

    outcome: Outcome
    reason: str = ""
    state: Literal["kept", "carried", "lost"] = "lost"
    error: OperatorError | None = None
    notes: tuple[str, ...] = ()
    """What the user should know of the hand-over, each the end of a sentence."""


def plan(before: NodeSpec, after: NodeSpec) -> Edit:
    """The gentlest way from one declaration of a node to another: only what changed is touched."""
    beside: Way = "after" if after.exclusive else "beside"
    if reason := _needs_a_process(before, after):
        return Edit(beside, reason)
    if before.code.text == after.code.text and before.code.path == after.code.path:
        return Edit("in_place")
    if after.kind == "script":
        return Edit(beside, "a script always starts from its beginning")
    if after.on_edit == "reload":
        return Edit("in_place", whole=True)
    planned = plan_edit(before.code, after.code, on_edit=after.on_edit)
    if isinstance(planned, Fresh):
        return Edit(beside, planned.reason)
    return Edit("in_place", code=planned)


def _needs_a_process(before: NodeSpec, after: NodeSpec) -> str:
    """What of the declaration a process cannot change any more, once it runs; empty for nothing."""
    if before.kind != after.kind:
        return f"it is {'a node' if after.kind == 'script' else 'an operator'} now"
    for what, was, now in (
        ("--python", before.python, after.python),
        ("--env", before.env, after.env),
        ("--args", before.args, after.args),
        ("its working folder", before.working_dir, after.working_dir),
        ("where its log goes", _log_keys(before), _log_keys(after)),
    ):
        if was != now:
            return f"{what} changed"
    return ""


def _log_keys(spec: NodeSpec) -> tuple[str | None, str | None, str]:
    return spec.send_stdout_as, spec.send_logs_as, spec.min_log_level
