"""Notes the files that the user's code imports, so that the kernel can tell when one was edited.

Another process imports the module anew, and only that does: an edit in place keeps old modules. So the
kernel starts one when a file that was imported has changed since.

What counts is a file outside the standard library, of no ``site-packages`` and not of dora_nb: modules beside
the notebook, and packages that are installed editable. They are noted where a loader reads them, not by a
finder on `sys.meta_path`: what ``spec_from_file_location`` makes (`torch.hub` for a ``hubconf.py``) asks no
finder. Nothing of this is on the path of a message.
"""

from __future__ import annotations

import importlib.machinery
import os
import time
import zipimport
from collections.abc import Callable
from types import CodeType
from typing import Any

from dora_nb.protocol.imported_file import ImportedFile, note_file

from ._own_code import is_own

_MOST_FILES = 5000
_SETTLED_SECS = 2.0
"""How old a file's modification must be for Python's cache of its bytecode to be believed."""


def watch(report: Callable[[ImportedFile], None]) -> None:
    """Calls `report`, on any thread, with each such file right before it is imported."""
    notes = _Notes(report)
    for loader in (
        importlib.machinery.SourceFileLoader,
        importlib.machinery.SourcelessFileLoader,
        zipimport.zipimporter,
    ):
        _patch_get_code(loader, notes)
    _patch_create_module(importlib.machinery.ExtensionFileLoader, notes)


class _Notes:
    def __init__(self, report: Callable[[ImportedFile], None]) -> None:
        self._report = report
        self._process_id = os.getpid()
        self._noted: dict[bytes, ImportedFile] = {}

    def note(self, path: str) -> ImportedFile | None:
        """Reports the file, if it is one that counts and was not reported as it is now."""
        if not is_own(path) or len(self._noted) >= _MOST_FILES:
            return None
        try:
            file = note_file(path)
        except OSError:  # The import says it better.
            return None
        # A process that the node has forked must not speak for it.
        if self._noted.get(file.path) != file and os.getpid() == self._process_id:
            self._noted[file.path] = file
            self._report(file)
        return file


def _patch_get_code(loader: Any, notes: _Notes) -> None:
    """For loaders of Python code. The code is executed later, so our frame is in no traceback of it."""
    original = loader.get_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        file = notes.note(getattr(self, "archive", None) or self.path)
        code: CodeType | None
        if (
            file is not None
            and loader is importlib.machinery.SourceFileLoader
            and time.time() - file.modified_nanos / 1e9 < _SETTLED_SECS
        ):
            # Python believes a cache for a file of the same size and *second* of modification. A file that was
            # edited twice in a second would stay as it was after the first edit, in each new process too.
            code = self.source_to_code(self.get_data(self.path), self.path)
        else:
            code = original(self, fullname)
        return code

    loader.get_code = get_code


def _patch_create_module(loader: Any, notes: _Notes) -> None:
    original = loader.create_module

    def create_module(self: Any, spec: importlib.machinery.ModuleSpec) -> Any:
        notes.note(self.path)
        return original(self, spec)

    loader.create_module = create_module
