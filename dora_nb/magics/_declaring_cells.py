"""Which cell of the notebook declared which node: what a renamed and a deleted cell leave behind.

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
    """By identity, what each cell of one kernel declared last."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def note(self, cell_id: str | None, name: str) -> None:
        """That cell has declared that node: whichever cell did so before did not, from now on."""
        self._names = {cell: other for cell, other in self._names.items() if other != name}
        if cell_id is not None:
            self._names[cell_id] = name

    def name_of(self, cell_id: str | None) -> str | None:
        """What that cell declared last, if no other cell has taken the name over."""
        return None if cell_id is None else self._names.get(cell_id)

    def take_deleted(self, cell_ids: Iterable[str]) -> list[str]:
        """The names of nodes whose cells these were; each is named once."""
        names = [self._names.pop(cell_id, None) for cell_id in cell_ids]
        return [name for name in names if name is not None]


def running_cell_id(shell: InteractiveShell) -> str | None:
    """The identity of the cell that runs, where the front end says it."""
    cell_id = _metadata(shell).get("cellId")
    return cell_id if isinstance(cell_id, str) else None


def note_deleted_cells(shell: InteractiveShell, cells: DeclaringCells, front_end: FrontEnd) -> None:
    """Has the dataflow know which of its nodes have no cell any more, as far as this request says it."""
    deleted = _metadata(shell).get("deletedCells")
    if isinstance(deleted, list):
        for name in cells.take_deleted(each for each in deleted if isinstance(each, str)):
            front_end.note_cell_deleted(name)


def _metadata(shell: InteractiveShell) -> dict[str, Any]:
    get_parent = getattr(shell, "get_parent", None)
    metadata = None if get_parent is None else get_parent().get("metadata")
    return metadata if isinstance(metadata, dict) else {}
