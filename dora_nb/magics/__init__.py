"""The magics: ``%%dora_operator`` declares, ``%dora`` acts. ``%load_ext dora_nb`` brings them.

::

    line ─► cells.header (words with their places) ─► cells (tables, parser) ─► Dataflow
                                                     ├─► _help
                                                     └─► _completion

They contain no logic: they read a line, call one method of the notebook's `Dataflow`, and show its
result. Mistakes are exceptions of `dora_nb.errors` with their place in the cell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dora_nb.graph.graph import Graph

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

    from dora_nb.compare import Comparison

_LINE_MAGICS = ("dora", "dora_operator", "dora_node", "%dora_operator", "%dora_node")
_CELL_MAGICS = ("dora_operator", "dora_node")
_matchers: dict[int, Callable[[CompletionContext], SimpleMatcherResult]] = {}
"""The matcher in each shell's completer, by the shell's identity."""
_hints: dict[int, Callable[[Any], None]] = {}
"""What is called after each cell, by the shell's identity."""
_callbacks: dict[int, Callable[[object], None]] = {}
"""What is called before each cell, by the shell's identity."""


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%load_ext dora_nb``; may be called again."""
    from dora_nb.child import dora_finder
    from dora_nb.child.real_node import REAL_NODE
    from dora_nb.engines.embedded import SPARES

    from ._completion import make_matcher
    from ._declaring_cells import DeclaringCells, note_deleted_cells
    from ._dora import DoraMagics
    from ._node_hint import NodeHint
    from ._operator import OperatorMagics

    unload_ipython_extension(shell)
    cells = DeclaringCells()

    def look_for_deleted_cells(_info: object) -> None:
        from ._shell import notebook_front_end

        if "dora_nb.dataflow.front_end" in sys.modules:  # Otherwise nothing is declared yet.
            note_deleted_cells(shell, cells, notebook_front_end())

    hint = NodeHint(shell)
    shell.events.register("post_run_cell", hint)
    _hints[id(shell)] = hint
    shell.register_magics(OperatorMagics(shell, cells), DoraMagics)
    shell.events.register("pre_run_cell", look_for_deleted_cells)
    _callbacks[id(shell)] = look_for_deleted_cells
    shell.input_transformers_cleanup.append(give_empty_cells_a_body)
    if shell.Completer is not None:
        _matchers[id(shell)] = make_matcher(_declared)
        shell.Completer.custom_matchers.append(_matchers[id(shell)])
    if shell.display_formatter is not None:
        formatter = shell.display_formatter.ipython_display_formatter
        # By name: the class is loaded by what makes the first comparison.
        formatter.for_type_by_name("dora_nb.compare.comparison", "Comparison", _show_comparison)
    dora_finder.install()
    REAL_NODE.explain()
    SPARES.allow()


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%unload_ext dora_nb``. A running dataflow goes on."""
    from dora_nb.child import dora_finder
    from dora_nb.child.real_node import REAL_NODE

    magics = shell.magics_manager.magics
    for kind, names in (("line", _LINE_MAGICS), ("cell", _CELL_MAGICS)):
        for name in names:
            magics[kind].pop(name, None)
    transforms = shell.input_transformers_cleanup
    transforms[:] = [each for each in transforms if each is not give_empty_cells_a_body]
    callback = _callbacks.pop(id(shell), None)
    if callback is not None:
        shell.events.unregister("pre_run_cell", callback)
    matcher = _matchers.pop(id(shell), None)
    if matcher is not None:
        shell.Completer.custom_matchers.remove(matcher)
    hint = _hints.pop(id(shell), None)
    if hint is not None:
        shell.events.unregister("post_run_cell", hint)
    REAL_NODE.end()
    dora_finder.uninstall()


def _show_comparison(comparison: Comparison) -> None:
    """A comparison as the last line of a cell, or in `display`, is its view."""
    from IPython.display import display

    from dora_nb.widgets.comparison import ComparisonView

    display(ComparisonView(comparison))  # type: ignore[no-untyped-call]


def give_empty_cells_a_body(lines: list[str]) -> list[str]:
    """An input transformer: a line ``%%dora_operator ...`` alone gets an empty line below it.

    IPython refuses a cell magic without a body by a text on stderr, at which Run All does not stop
    (`InteractiveShell.run_cell_magic`); with a body, the magic itself says what is wrong.
    """
    alone = len(lines) == 1 and lines[0].split(maxsplit=1)[:1] in (
        ["%%dora_operator"],
        ["%%dora_node"],
    )
    return [lines[0].rstrip("\n") + "\n", "\n"] if alone else lines


def _declared() -> Graph:
    from ._shell import notebook_front_end

    return notebook_front_end().dataflow.graph
