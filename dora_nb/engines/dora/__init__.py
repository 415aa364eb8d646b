"""dora-rs as the engine: the same dataflow on the real distributed runtime, driven by its own program.

::

    DoraSession        one run on a coordinator and a daemon of our own; the face of `engines.session`
    ├── _cluster       both programs, their ports, their folder, their end (`_farewell`)
    ├── _files         pure but for writing: a graph → the folder that a daemon runs
    ├── _lives         pure: what dora says (`_said`) → where each node is in its life
    ├── _blame         pure: what a node printed → why it failed, with the lines of its cell
    ├── _log_files     what nodes print, as it is written
    └── _taps          the kernel as a reader, through processes that join (`tap_script`)
    _program           calls of `dora`, and what its errors say

Nothing of dora's distributed part is imitated.
"""

from __future__ import annotations

from ._session import DoraSession

__all__ = ["DoraSession"]
