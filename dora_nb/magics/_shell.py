"""What the magics need to know about the cell that they run in, and how they print."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from dora_nb.cells.header import Header, split_header
from dora_nb.errors import DoraNbError, OperatorError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dora_nb.dataflow.front_end import FrontEnd
    from dora_nb.graph.graph import Graph


class MagicInterrupted(KeyboardInterrupt):
    """The user interrupted a magic; shown as one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


def notebook_front_end() -> FrontEnd:
    """The front end of the notebook's own dataflow; loaded when the first magic runs."""
    from dora_nb.dataflow.front_end import get_front_end

    return get_front_end()


def cell_name(shell: InteractiveShell) -> str:
    """The running cell as IPython names it."""
    # Its name stands in its code. The shell's `execution_count` is that of the cell, or one more:
    # newer versions count it up before the cell runs.
    frame = _cell_frame(shell)
    named = None if frame is None else shell.compile.format_code_name(frame.f_code.co_filename)
    if named is not None:
        return " ".join(named)
    history = shell.history_manager
    return f"Cell In[{len(history.input_hist_raw) - 1 if history is not None else 0}]"


def _cell_frame(shell: InteractiveShell) -> FrameType | None:
    """The frame of the cell itself: the outermost one whose globals are the notebook's names."""
    frame: FrameType | None = sys._getframe()
    found = None
    while frame is not None:
        if frame.f_globals is shell.user_global_ns:
            found = frame
        frame = frame.f_back
    return found


def raw_cell(shell: InteractiveShell) -> str:
    """The running cell as the user wrote it, or else the last one in the history."""
    get_parent = getattr(shell, "get_parent", None)
    if get_parent is not None:
        content = get_parent().get("content") or {}
        if isinstance(code := content.get("code"), str):
            return code
    history = shell.history_manager
    return str(history.input_hist_raw[-1]) if history is not None else ""


def cell_header(
    shell: InteractiveShell, magic: str, line: str, cell: str
) -> tuple[Header, str, int]:
    """The header of a cell magic, the body below it, and the number of the body's first line."""
    # IPython takes empty lines above a magic away; the editor counts them.
    lines = raw_cell(shell).split("\n")
    above = next((index for index, text in enumerate(lines) if text.strip()), 0)
    if not lines[above].strip().startswith(magic):
        above = 0
    header_lines, body = split_header(f"{magic} {line}" if line else magic, cell)
    header = Header(
        header_lines,
        magic=magic,
        name_end=len(magic),
        file=cell_name(shell),
        first_line=above + 1,
    )
    return header, body, above + len(header_lines) + 1


def line_header(shell: InteractiveShell, magic: str, line: str) -> Header:
    """The header of a line magic, with the line of the cell that it stands in, as far as it is known.

    IPython passes only the words. The header has no line number if these words are neither in the line
    that runs nor in exactly one other line of the cell.
    """
    lines = raw_cell(shell).split("\n")
    start = re.compile(rf"(?:^|[\s=]){re.escape(magic)}(?=\s|$)")
    found = []
    for index, text in enumerate(lines):
        match = start.search(text)
        if match is None:
            continue
        header_lines, _ = split_header(text, "\n".join(lines[index + 1 :]))
        header = Header(
            header_lines,
            magic=magic,
            name_end=match.end(),
            file=cell_name(shell),
            first_line=index + 1,
        )
        if header.text[match.end() :].split() == line.split():
            found.append(header)
    here = _running_line(shell, lines)
    for header in found:
        if header.first_line == here or len(found) == 1:
            return header
    text = f"{magic} {line}" if line else magic
    return Header([text], magic=magic, name_end=len(magic), file=cell_name(shell), first_line=None)


def _running_line(shell: InteractiveShell, lines: list[str]) -> int:
    """The number of the running line of the cell, if no line above it has a continuation."""
    frame = _cell_frame(shell)
    above = next((index for index, text in enumerate(lines) if text.strip()), 0)
    return above + (0 if frame is None else frame.f_lineno)


def notebook_names(shell: InteractiveShell) -> dict[str, Any]:
    """What the user has defined in the notebook, without IPython's own names."""
    hidden: Mapping[str, Any] = shell.user_ns_hidden
    return {
        name: value
        for name, value in shell.user_ns.items()
        if not (name in hidden and hidden[name] is value)
    }


@contextmanager
def located(header: Header, *, if_interrupted: str) -> Iterator[None]:
    """Adds the place in the cell to our errors, and words to an interrupt."""
    try:
        yield
    except OperatorError:
        raise  # it shows the lines of the operator
    except DoraNbError as error:
        raise header.placed(error) from None
    except KeyboardInterrupt:
        raise MagicInterrupted(if_interrupted) from None


def say(text: str) -> None:
    """Prints a line of the cell's output."""
    sys.stdout.write(text + "\n")


def say_unseen_failures(front_end: FrontEnd) -> None:
    """Prints, once, the failures that have not been shown since the last magic."""
    lines = [
        _failure_line(error, front_end.dataflow.graph) for error in front_end.unseen_failures()
    ]
    lines += front_end.unseen_problems()
    widgets = sys.modules.get("dora_nb.widgets.page.problems")
    if widgets is not None:
        lines += widgets.PROBLEMS.take()
    sys.stdout.flush()
    for line in lines:
        sys.stderr.write(line + "\n")


def _failure_line(error: OperatorError, graph: Graph) -> str:
    first = str(error).partition("\n")[0]
    named = first if first.startswith(error.node) else f"{error.node} failed: {first}"
    spec = graph.nodes.get(error.node)
    place = error.place or (None if spec is None else spec.code.file)
    return named if place is None else f"{place}: {named}"
