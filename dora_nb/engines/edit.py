"""How a running node takes a new declaration: the request to the engine, and its outcome. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dora_nb.cells.edits import Fresh, InPlace, plan_edit
from dora_nb.errors import OperatorError
from dora_nb.files import changed_text
from dora_nb.graph.nodes import NodeSpec

Way = Literal["in_place", "beside", "after"]
"""``in_place``: the running process takes it. ``beside``: a new process is prepared beside the old one and
takes over once it works. ``after``: the old process ends first, because it owns something exclusive."""


@dataclass(frozen=True, slots=True)
class Edit:
    """How a running node takes its new declaration."""

    way: Way
    reason: str = ""
    """Why not in place, as the end of a sentence; empty if it needs no reason."""
    code: InPlace | None = None
    """What changes in the living module; None if the source did not change, or if all of it is run."""
    whole: bool = False
    """All of the new source is run in the running process: dora's rule for a reload."""


Outcome = Literal["in_place", "restarted", "kept", "dropped", "failed"]


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of an edit.

    ``kept``: the previous generation keeps running, and `error` says why. ``dropped``: the same, because
    the caller cancelled the edit. ``failed``: nothing runs.
    """

    outcome: Outcome
    reason: str = ""
    state: Literal["kept", "carried", "lost"] = "lost"
    error: OperatorError | None = None
    notes: tuple[str, ...] = ()
    """What the user should know about the hand-over; each is the end of a sentence."""


def plan(before: NodeSpec, after: NodeSpec, changed_files: Sequence[str] = ()) -> Edit:
    """Returns the gentlest way from one declaration of a node to another: it touches only what changed.

    `changed_files` are paths of files that the running code imported and that have changed since.
    """
    beside: Way = "after" if after.exclusive else "beside"
    if reason := _needs_a_process(before, after) or changed_text(changed_files, after.working_dir):
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
    """Says which change a running process cannot take, as the end of a sentence; empty if there is none."""
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
