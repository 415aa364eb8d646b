"""``%%dora_operator`` and ``%%dora_node``, and both with one ``%``: a node from a cell, or from a file."""

from __future__ import annotations

import difflib
import os
import tokenize
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display

from dora_nb.errors import GrammarError, GraphError
from dora_nb.graph import NodeKind, NodeSpec, SourceCode
from dora_nb.operators import check_node_source, check_operator_source

from ._grammar import NodeLine, parse_declaration, wants_help
from ._header import Header, Word
from ._help import node_help, operator_help
from ._shell import (
    cell_header,
    line_header,
    located,
    notebook_dataflow,
    notebook_names,
    say,
    say_what_nobody_saw,
)

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dora_nb.dataflow import Dataflow


class SourceCheck(Protocol):
    """What is refused of a kind's source before any of it runs."""

    def __call__(self, code: SourceCode, *, notebook_names: Collection[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    """What differs between the two magics."""

    word: str
    kind: NodeKind
    check_source: SourceCheck
    help: Callable[[], str]


_OPERATOR = _Kind("operator", "operator", check_operator_source, operator_help)
_NODE = _Kind("node", "script", check_node_source, node_help)


@magics_class
class OperatorMagics(Magics):
    """The magics that declare."""

    shell: InteractiveShell

    @no_var_expand
    @line_cell_magic
    def dora_operator(self, line: str, cell: str | None = None) -> None:
        self._run(_OPERATOR, line, cell)

    @no_var_expand
    @line_cell_magic
    def dora_node(self, line: str, cell: str | None = None) -> None:
        self._run(_NODE, line, cell)

    def _run(self, kind: _Kind, line: str, cell: str | None) -> None:
        header, body, first_line = self._split(f"dora_{kind.word}", line, cell)
        words = header.words()
        if wants_help(words):
            say(kind.help())
            return
        dataflow = notebook_dataflow()
        say_what_nobody_saw(dataflow)
        declared = parse_declaration(header, words, what=kind.word, from_file=cell is None)
        if declared.file is None:
            code = SourceCode(body, header.file, first_line)
        else:
            code = read_source_file(header, declared.file)
        kind.check_source(code, notebook_names=notebook_names(self.shell))
        self._declare(dataflow, header, declared, code, kind)

    def _split(self, name: str, line: str, cell: str | None) -> tuple[Header, str, int]:
        if cell is None:
            return line_header(self.shell, f"%{name}", line), "", 1
        return cell_header(self.shell, f"%%{name}", line, cell)

    def _declare(
        self,
        dataflow: Dataflow,
        header: Header,
        declared: NodeLine,
        code: SourceCode,
        kind: _Kind,
    ) -> None:
        from dora_nb.widgets.live_line import show_live_line
        from dora_nb.widgets.progress import Progress

        spec = NodeSpec(
            name=declared.name,
            code=code,
            inputs=declared.inputs,
            outputs=declared.outputs,
            env=declared.env,
            python=declared.python,
            working_dir=os.getcwd(),  # noqa: PTH109 - a string is what is kept
            kind=kind.kind,
        )
        interrupted = f"{declared.name} may still be starting; look at it with %dora status."
        with located(header, if_interrupted=interrupted):
            try:
                with Progress() as progress:
                    declaration = dataflow.declare(spec, progress=progress.show)
            except GraphError as error:
                raise header.placed(error, _word_in_question(declared, error)) from None
        line = show_live_line(declaration.name, str(declaration), dataflow=dataflow)
        display(line)  # type: ignore[no-untyped-call]


def _word_in_question(declared: NodeLine, error: GraphError) -> Word | None:
    """The source that the error names, if it names one of this line."""
    named = [word for text, word in declared.sources.items() if f"'{text}'" in error.message]
    return named[0] if named else None


def read_source_file(header: Header, word: Word) -> SourceCode:
    """The code in that file, which is looked for from the kernel's working directory."""
    path = Path(word.text).expanduser()
    try:
        with tokenize.open(path) as file:  # honours a coding line, as Python does
            text = file.read()
    except FileNotFoundError:
        raise _no_file(header, word, path) from None
    except IsADirectoryError:
        raise header.error(
            f"'{word.text}' is a folder;", hint="name a file in it.", at=word
        ) from None
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise header.error(f"'{word.text}' cannot be read: {reason}.", at=word) from None
    return SourceCode(text, word.text, path=str(path.resolve()))


def _no_file(header: Header, word: Word, path: Path) -> GrammarError:
    """Names the file that is most like the missing one, in the nearest folder that is there."""
    folder, name = path.parent, path.name
    while not folder.is_dir() and folder != folder.parent:
        folder, name = folder.parent, folder.name
    try:
        there = sorted(each.name for each in folder.iterdir())
    except OSError:  # not ours to read: then nothing can be suggested
        there = []
    near = difflib.get_close_matches(name, there, n=1)
    if near:
        hint = f"Did you mean '{folder / near[0]}'?"
    else:
        hint = f"Paths begin at the kernel's working directory, {Path.cwd().name}/."
    return header.error(f"there is no file '{word.text}'.", hint=hint, at=word)


OperatorMagics.dora_operator.__doc__ = operator_help()
OperatorMagics.dora_node.__doc__ = node_help()
