"""dora-rs as the engine: the same dataflow on the real distributed runtime, driven by its own program.

::

    DoraSession        one run on a coordinator and a daemon of our own
    ├── _cluster       both programs, their ports, their folder, their end (`_cleanup`)
    ├── _files         a graph → the folder that a daemon runs
    └── _log_files     what nodes print, as it is written
    AttachedSession    a run that somebody else has started
    └── _remote        what runs on a coordinator: names, nodes, topics
    _run               what both are to the notebook: the face of `engines.session`
    ├── _lives         pure: what dora says (`_said`) → where each node is in its life
    ├── _blame         pure: what a node printed → why it failed, with the lines of its cell
    ├── _params        parameters of nodes
    ├── _taps          the kernel as a reader, through processes that join (`tap_script`)
    └── _feeder        the kernel as a publisher, through another
    _program           calls of `dora`, and what its errors say

Nothing of dora's distributed part is imitated.
"""

from __future__ import annotations

from ._attached import attach
from ._cleanup_program import remove_orphaned_segments
from ._program import Coordinator
from ._remote import RunningDataflow
from ._session import DoraSession

__all__ = ["Coordinator", "DoraSession", "RunningDataflow", "attach", "remove_orphaned_segments"]
