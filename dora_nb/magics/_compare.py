"""``%dora compare``, and the option ``--compare`` of a cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING

from IPython.display import display

from dora_nb.compare.text import summary_text

if TYPE_CHECKING:
    from dora_nb.cells.dora_line import DoraLine
    from dora_nb.cells.header import Word
    from dora_nb.dataflow.front_end import FrontEnd
    from dora_nb.graph.nodes import NodeSpec


def run_compare_line(front_end: FrontEnd, asked: DoraLine) -> None:
    """Compares, and shows the result below the cell."""
    from dora_nb.widgets.progress import Progress

    assert asked.name is not None  # the parser requires both
    assert asked.recording is not None
    with Progress() as progress:
        comparison = front_end.dataflow.compare(
            asked.name.text,
            asked.recording.text,
            before=asked.generation,
            progress=progress.show,
        )
    display(comparison)  # type: ignore[no-untyped-call]


def compared_text(
    front_end: FrontEnd, spec: NodeSpec, recording: Word, progress: Callable[[str], None]
) -> str:
    """Compares what a cell is about to declare with the code before: ``on run.mcap: sends the same``."""
    file = PurePath(recording.text).name
    comparison = front_end.compare_edit(spec, recording.text, progress=progress)
    if comparison is None:
        return f"not compared: {file} has no source of {spec.name}"
    return f"on {file}: {summary_text(comparison)}"
