"""``dataflow.yml``, in and out: the form in which dora-rs runs what was declared here, and the reverse.

Nothing here runs anything. Reading gives a `Graph` and says in words what of the file has no meaning
here; writing makes a folder that ``dora run`` runs without this package.
"""

from __future__ import annotations

from ._reading import Allowed, Imported, read_dataflow
from ._writing import Exported, dataflow_text, write_dataflow

__all__ = ["Allowed", "Exported", "Imported", "dataflow_text", "read_dataflow", "write_dataflow"]
