"""Reads and writes ``dataflow.yml``, the file that dora-rs runs (1.1; ``docs/yaml-spec.md``).

::

    Graph ─► _render (text of every file, notes) ─► _write ─► a folder that `dora run` runs
    dataflow.yml ─► _yaml (values with their places) ─► _read ─► Graph, notes, builds
                                                                  └─► _cells (cells that declare it)
    notebook.ipynb ─► notebook_files ─► Graph, notes, builds

Nothing here runs a node or a build command.
"""

from __future__ import annotations

from ._cells import cell_text
from ._footer import FOOTER, without_footer
from ._read import Allowed, Build, Imported, read_dataflow
from ._render import DATAFLOW_FILE, Rendered, Surroundings, render
from ._wiring import wiring_of
from ._write import Exported, dataflow_text, write_dataflow

__all__ = [
    "DATAFLOW_FILE",
    "FOOTER",
    "Allowed",
    "Build",
    "Exported",
    "Imported",
    "Rendered",
    "Surroundings",
    "cell_text",
    "dataflow_text",
    "read_dataflow",
    "render",
    "wiring_of",
    "without_footer",
    "write_dataflow",
]
