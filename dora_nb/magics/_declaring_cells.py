"""Remembers which cell declared which node, for cells that are renamed or deleted.

Cells are known by the identity that the front end gives them. JupyterLab sends it with each cell that
it runs, and with it the cells that were deleted since (``cellId`` and ``deletedCells`` in the metadata
of an ``execute_request``, https://github.com/jupyterlab/jupyterlab/blob/main/packages/cells/src/widget.ts);
a front end that sends neither gets neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dora_nb.dataflow.front_end import FrontEnd


class DeclaringCells:
    """The node that each cell of one kernel declared last, by the cell's identity."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def note(self, cell_id: str | None, name: str) -> None:
        """Notes that this cell has declared that node; the node then belongs to no other cell."""
        self._names = {cell: other for cell, other in self._names.items() if other != name}
        if cell_id is not None:
            self._names[cell_id] = name

    def name_of(self, cell_id: str | None) -> str | None:
        """The node that the cell declared last, unless another cell has declared it since."""
        return None if cell_id is None else self._names.get(cell_id)

    def take_deleted(self, cell_ids: Iterable[str]) -> list[str]:
        """Returns the nodes whose cells these were, and forgets the cells."""
        names = [self._names.pop(cell_id, None) for cell_id in cell_ids]
        return [name for name in names if name is not None]


def running_cell_id(shell: InteractiveShell) -> str | None:
    """The identity of the running cell, if the front end sends it."""
    cell_id = _metadata(shell).get("cellId")
    return cell_id if isinstance(cell_id, str) else None


def note_deleted_cells(shell: InteractiveShell, cells: DeclaringCells, front_end: FrontEnd) -> None:
    """Tells the dataflow which of its nodes have lost their cell, as far as this request says."""
    deleted = _metadata(shell).get("deletedCells")
    if isinstance(deleted, list):
        for name in cells.take_deleted(each for each in deleted if isinstance(each, str)):
            front_end.note_cell_deleted(name)


def _metadata(shell: InteractiveShell) -> dict[str, Any]:
    get_parent = getattr(shell, "get_parent", None)
    metadata = None if get_parent is None else get_parent().get("metadata")
    return metadata if isinstance(metadata, dict) else {}
