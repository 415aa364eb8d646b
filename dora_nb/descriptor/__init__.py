"""``dataflow.yml`` in and out: the form in which dora-rs takes a dataflow (1.1; ``docs/yaml-spec.md``).

::

    Graph ─► _render (text of every file, notes) ─► _write ─► a folder that `dora run` runs
"""

from __future__ import annotations

from ._footer import FOOTER, without_footer
from ._render import DATAFLOW_FILE, REQUIREMENTS_FILE, Rendered, Surroundings, render
from ._write import Written, write_dataflow

__all__ = [
    "DATAFLOW_FILE",
    "FOOTER",
    "REQUIREMENTS_FILE",
    "Rendered",
    "Surroundings",
    "Written",
    "render",
    "without_footer",
    "write_dataflow",
]
