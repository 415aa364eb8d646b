"""The embedded engine: one supervised process for each operator, edges between the processes.

::

    Session            one run of a dataflow: starts, stops, applies edits; the only class others use
    ├── _supervisor    a thread for each operator; carries out what `_lifecycle` decides
    │   ├── _lifecycle pure: (life, event) → (life, actions)
    │   └── _process   one process: its control socket, its output, its end
    ├── _spawner       the one thread that starts processes
    │   └── _spares    interpreters that were started before they are needed (`_launch` starts either)
    ├── _wiring        edges and arenas: who holds which ends now
    ├── _tap           the kernel as a reader
    └── _voice         the kernel as a publisher: what the notebook sends, what nodes print (`_log_entries`)
"""

from __future__ import annotations

from ._kernel_subscriber import Listener
from ._session import Session
from ._spares import SPARES

__all__ = ["SPARES", "Listener", "Session"]
