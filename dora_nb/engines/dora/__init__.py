"""dora-rs as the engine: the same dataflow on the real distributed runtime, driven by its own program.

::

    _session           DoraSession: one run on a coordinator and a daemon of our own
    ├── _cluster       both programs, their ports, their folder, their end (`_cleanup_program`)
    ├── _files         a graph → the folder that a daemon runs
    └── _log_files     the log files of nodes, read as they grow
    _attached          AttachedSession: a run that was started elsewhere
    └── _remote        what runs on a coordinator: names, nodes, topics
    _run               the base of both: `engines.base.EngineSession` on dora-rs
    ├── _log_lines     pure: dora's log → entries
    ├── _node_states   pure: entries → the state of each node
    ├── _failure_report  pure: what a node printed → its error, with the lines of its cell
    ├── _params        parameters of nodes
    ├── _subscribers   the kernel as a reader, through processes that join (`subscriber_script`)
    └── _feeder        the kernel as a publisher, through another such process
    _program           calls of `dora`, and summaries of its errors

It does not reimplement any of dora's distributed parts.
"""

from __future__ import annotations

from ._attached import attach
from ._cleanup_program import remove_orphaned_segments
from ._cluster import FOLDER_PREFIX
from ._program import Coordinator, dora_version
from ._remote import RunningDataflow
from ._session import DoraSession

__all__ = [
    "FOLDER_PREFIX",
    "Coordinator",
    "DoraSession",
    "RunningDataflow",
    "attach",
    "dora_version",
    "remove_orphaned_segments",
]
