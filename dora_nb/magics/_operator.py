"""``%%dora_operator`` and ``%%dora_node``, and both with one ``%``: a node from a cell, or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from IPython.display import display

from dora_nb.cells.declare import MAGICS, DeclaredNode, misplaced_magic, read_declaration
from dora_nb.cells.header import Header, Word
from dora_nb.cells.node_line import NodeLine
from dora_nb.cells.parse import wants_help
from dora_nb.errors import GraphError, RecordingError, SourceError
from dora_nb.graph.nodes import SourceCode

from ._declaring_cells import DeclaringCells, running_cell_id
from ._help import node_help, operator_help
from ._shell import (
    cell_header,
    line_header,
    located,
    notebook_front_end,
    notebook_names,
    say,
    say_unseen_failures,
)
from ._wording import declared_text, kept_text, removed_text

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dora_nb.dataflow.front_end import FrontEnd

_HELP = {"dora_operator": operator_help, "dora_node": node_help}


@magics_class
class OperatorMagics(Magics):
    """The magics ``%%dora_operator`` and ``%%dora_node``.

    Below another line of the cell, such as a comment, IPython takes ``%%NAME`` for a line magic whose name
    begins with ``%``, and would say that there is none.
    """

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell, cells: DeclaringCells) -> None:
        super().__init__(shell)
        self._cells = cells

    @no_var_expand
    @line_cell_magic
    def dora_operator(self, line: str, cell: str | None = None) -> None:
        self._run("dora_operator", line, cell)

    @no_var_expand
    @line_cell_magic
    def dora_node(self, line: str, cell: str | None = None) -> None:
        self._run("dora_node", line, cell)

    @no_var_expand
    @line_magic("%dora_operator")  # type: ignore[arg-type]  # it takes names too
    def misplaced_operator(self, line: str) -> None:
        """``%%dora_operator`` must be the first line of its cell."""
        raise misplaced_magic(line_header(self.shell, "%%dora_operator", line))

    @no_var_expand
    @line_magic("%dora_node")  # type: ignore[arg-type]  # it takes names too
    def misplaced_node(self, line: str) -> None:
        """``%%dora_node`` must be the first line of its cell."""
        raise misplaced_magic(line_header(self.shell, "%%dora_node", line))

    def _run(self, magic: str, line: str, cell: str | None) -> None:
        header, body = self._split(magic, line, cell)
        words = header.words()
        if wants_help(words):
            say(_HELP[magic]())
            return
        front_end = notebook_front_end()
        say_unseen_failures(front_end)
        try:
            declared = read_declaration(
                MAGICS[magic],
                header,
                words,
                body,
                folder=Path.cwd(),
                notebook_names=notebook_names(self.shell),
            )
        except SourceError as error:
            raise with_what_goes_on(error, _kept(front_end, words[0].text)) from None
        self._declare(front_end, header, declared, whole_cell=cell is not None)

    def _split(self, magic: str, line: str, cell: str | None) -> tuple[Header, SourceCode | None]:
        if cell is None:
            return line_header(self.shell, f"%{magic}", line), None
        header, body, first_line = cell_header(self.shell, f"%%{magic}", line, cell)
        return header, SourceCode(body, header.file, first_line)

    def _declare(
        self, front_end: FrontEnd, header: Header, declared: DeclaredNode, *, whole_cell: bool
    ) -> None:
        from dora_nb.widgets.live_line import show_live_line
        from dora_nb.widgets.progress import Progress

        dataflow, name = front_end.dataflow, declared.spec.name
        interrupted = f"{name} may still be starting; look at it with %dora status."
        if (kept := _kept(front_end, name)) is not None:
            interrupted = f"{kept}, unless the new one had taken over already; see %dora status."
        # A cell magic declares one node: under a new name it is the same node, renamed.
        cell_id = running_cell_id(self.shell) if whole_cell else None
        renamed = self._cells.name_of(cell_id)
        if renamed == name or (renamed is not None and renamed not in dataflow.graph):
            renamed = None
        with located(header, if_interrupted=interrupted):
            if renamed is not None and declared.spec.exclusive:
                removed = dataflow.remove(renamed)
            compared = ""
            if declared.line.compare is not None:
                compared = self._compared(front_end, header, declared, declared.line.compare)
            try:
                with Progress() as progress:
                    result = front_end.declare(declared.spec, progress=progress.show)
            except GraphError as error:
                raise header.placed(error, _word_in_question(declared.line, error)) from None
            self._cells.note(cell_id, name)
            sentence = declared_text(result) + compared
            if renamed is not None:
                if not declared.spec.exclusive:
                    removed = dataflow.remove(renamed)
                sentence += f"; {removed_text(removed)} (this cell declared it before)"
        line = show_live_line(
            name, sentence, dataflow=dataflow, on_failure_seen=front_end.mark_failure_seen
        )
        display(line)  # type: ignore[no-untyped-call]

    def _compared(
        self, front_end: FrontEnd, header: Header, declared: DeclaredNode, recording: Word
    ) -> str:
        """Compares before the new code takes over; returns the end of the cell's sentence."""
        from dora_nb.widgets.progress import Progress

        from ._compare import compared_text

        with Progress() as progress:
            try:
                text = compared_text(front_end, declared.spec, recording, progress.show)
            except (GraphError, RecordingError) as error:
                raise header.placed(error, recording) from None
        return f"; {text}"


def _kept(front_end: FrontEnd, name: str) -> str | None:
    """What goes on where an edit of that node is refused; None for nothing."""
    generation = front_end.kept_generation(name)
    return None if generation is None else kept_text(name, generation)


def with_what_goes_on(error: SourceError, kept: str | None) -> SourceError:
    """Adds to an error in new source that the old generation runs on."""
    if kept is None:
        return error
    return SourceError(f"{kept}: {error.message}", hint=error.hint, location=error.location)


def _word_in_question(line: NodeLine, error: GraphError) -> Word | None:
    """The source that the error names, if it names one of this line."""
    named = [word for text, word in line.sources.items() if f"'{text}'" in error.message]
    return named[0] if named else None


OperatorMagics.dora_operator.__doc__ = operator_help()
OperatorMagics.dora_node.__doc__ = node_help()
