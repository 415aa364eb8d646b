"""``dataflow.yml`` in and out: the form in which dora-rs takes a dataflow (1.1; ``docs/yaml-spec.md``).

::

    Graph ─► _render (text of every file, notes) ─► _write ─► a folder that `dora run` runs
"""

from __future__ import annotations

from ._render import DATAFLOW_FILE, Rendered, render
from ._write import Written, write_dataflow

__all__ = ["DATAFLOW_FILE", "Rendered", "Written", "render", "write_dataflow"]
