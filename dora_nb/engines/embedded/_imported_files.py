"""The files that a process of a node has imported, and which of them have changed since."""

from __future__ import annotations

import os
import time

from dora_nb.protocol.imported_file import ImportedFile

_FEW_FILES = 100
_SHARE_OF_TIME = 0.05
"""Looking at more files than these takes no more of a thread's time, however often it is asked for."""


class ImportedFiles:
    """What one process has imported, as it reported it. Any thread may call the methods."""

    def __init__(self) -> None:
        self._files: dict[bytes, ImportedFile] = {}
        self._changed: tuple[str, ...] = ()
        self._next_look_secs = 0.0

    def note(self, file: ImportedFile) -> None:
        """The process imports that file now."""
        self._files[file.path] = file
        self._next_look_secs = 0.0

    def changed(self) -> tuple[str, ...]:
        """Returns the paths of those that are not what the process has imported."""
        begin_secs = time.monotonic()
        files = list(self._files.values())
        # Each live line asks for a status several times a second: of thousands of files only now and then.
        if len(files) <= _FEW_FILES or begin_secs >= self._next_look_secs:
            self._changed = tuple(os.fsdecode(file.path) for file in files if _has_changed(file))
            end_secs = time.monotonic()
            self._next_look_secs = end_secs + (end_secs - begin_secs) / _SHARE_OF_TIME
        return self._changed


def _has_changed(file: ImportedFile) -> bool:
    try:
        return file.has_changed()
    except OSError:  # It cannot be read now, by which it has not become another one.
        return False
