"""Ties a view to the notebook: to the cell that made it, and to the outputs that show it.

A view ends when the cell that made it runs again. Its outputs have a display id, so that outputs with
a still can replace them. Both must work from any thread, and after every cell: a front end or a
headless run may save the notebook as soon as the cell is done.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from IPython.core.getipython import get_ipython
from IPython.display import display


class CellOutput:
    """The outputs that show one view. They are all replaced at once."""

    def __init__(self) -> None:
        self._display_id = uuid.uuid4().hex
        self._shown = False

    @property
    def shown(self) -> bool:
        """Whether the view was ever displayed."""
        return self._shown

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Adds an output to the running cell."""
        self._shown = True
        display(dict(data), metadata=dict(metadata), raw=True, display_id=self._display_id)  # type: ignore[no-untyped-call]

    def replace(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Replaces all outputs of the view. Any thread; prints nothing."""
        # `display` would need the thread of the cell: it takes the parent message from there.
        shell = get_ipython()
        if shell is None or not self._shown:
            return
        shell.display_pub.publish(
            dict(data),
            metadata=dict(metadata),
            transient={"display_id": self._display_id},
            update=True,
        )


class LiveView(Protocol):
    """A view that lives until its cell runs again."""

    def close(self) -> None: ...

    def settle(self) -> None:
        """Called after every cell, in the cell's thread, before the front end learns that it is done."""


@dataclass(frozen=True, slots=True)
class CellRun:
    """One execution of one cell."""

    cell: str
    run: str


class Registry:
    """The living views of each cell."""

    def __init__(self) -> None:
        # Weak references: a view that the user forgets must be collected, which ends its thread.
        self._made: dict[str, tuple[str, list[weakref.ref[LiveView]]]] = {}
        self._living: weakref.WeakSet[LiveView] = weakref.WeakSet()

    def add(self, view: LiveView, cell_run: CellRun | None) -> None:
        """Adds the view, and closes those that an earlier run of its cell has made."""
        self._living.add(view)
        _call_after_cells(self.settle)
        if cell_run is None:
            return
        self._forget_collected()
        run, views = self._made.get(cell_run.cell, (cell_run.run, []))
        # Another run of the same cell: its outputs were cleared, so nothing shows the earlier views.
        if run != cell_run.run:
            for reference in views:
                earlier = reference()
                if earlier is not None:
                    earlier.close()
            views = []
        self._made[cell_run.cell] = (cell_run.run, [*views, weakref.ref(view)])

    def remove(self, view: LiveView) -> None:
        """Removes a view that is closed."""
        self._living.discard(view)
        if not self._living:
            _call_after_cells(self.settle, register=False)

    def living(self) -> list[LiveView]:
        return list(self._living)

    def settle(self, _result: object = None) -> None:
        for view in self.living():
            view.settle()

    def _forget_collected(self) -> None:
        self._made = {
            cell: (run, views)
            for cell, (run, views) in self._made.items()
            if any(reference() is not None for reference in views)
        }


def runs_unattended() -> bool:
    """Returns whether a program runs the cells, as nbconvert and papermill do, and no page shows them.

    Then outputs must hold no live widget: nbconvert's page would show it, without a kernel behind it,
    in place of the still or table beside it.
    """
    parent = _parent_message()
    if parent is None or "cellId" in (parent.get("metadata") or {}):
        return False
    if any(name.startswith("VOILA_") for name in os.environ):
        return False  # it runs the cells as nbconvert does, and shows them live
    # No one can answer `input()`. Front ends for people allow it.
    return (parent.get("content") or {}).get("allow_stdin") is False


def _parent_message() -> Mapping[str, Any] | None:
    """Returns the front end's request to run the cell; None outside of a notebook."""
    get_parent = getattr(get_ipython(), "get_parent", None)
    parent = get_parent() if get_parent is not None else None
    return parent if isinstance(parent, Mapping) else None


def current_cell_run() -> CellRun | None:
    """Returns the running cell and its run; None outside of a notebook.

    Front ends that edit notebooks send the cell's id. Those that only run notebooks (nbclient, nbval)
    do not: there, the cell's text identifies it.
    """
    parent = _parent_message()
    if parent is None:
        return None
    # Front ends add "cellId" to the metadata of the request; it is not part of the protocol.
    cell = (parent.get("metadata") or {}).get("cellId") or (parent.get("content") or {}).get("code")
    run = (parent.get("header") or {}).get("msg_id")
    return CellRun(str(cell), str(run)) if cell and run else None


def _call_after_cells(callback: Any, *, register: bool = True) -> None:
    """Registers with IPython's event after a cell: its result is shown, its reply not sent yet."""
    shell = get_ipython()
    if shell is None:
        return
    registered = callback in shell.events.callbacks["post_run_cell"]
    if register and not registered:
        shell.events.register("post_run_cell", callback)
    elif registered and not register:
        shell.events.unregister("post_run_cell", callback)
