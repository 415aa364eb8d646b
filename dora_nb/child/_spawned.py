"""Lets worker processes that an operator spawns unpickle its functions and classes.

They are pickled as ``NAME.function``, and NAME is a module without a file. The operator's process
keeps its source in an anonymous file and names it in an environment variable, which workers inherit;
they open it through ``/proc`` for as long as the operator lives.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder

    class _FinderAndLoader(MetaPathFinder, Loader): ...
else:
    _FinderAndLoader = object  # See `_patches`.

_VARIABLE = "DORA_NB_OPERATOR_MODULE"


def announce(name: str, file: str, descriptor: int) -> None:
    """Called in the operator's process; the descriptor stays open as long as the process lives."""
    # By /proc, not by inheritance: a pool may pass on no descriptors (close_fds), but passes on the environment.
    os.environ[_VARIABLE] = f"{name}:/proc/{os.getpid()}/fd/{descriptor}:{file}"


def make_importable() -> None:
    """Called in a spawned worker, before anything is unpickled there."""
    from . import dora_api

    sys.modules.setdefault("dora", dora_api)
    if _VARIABLE in os.environ:
        name, source_path, file = os.environ[_VARIABLE].split(":", 2)
        # First, so that a file of the operator's name on `sys.path` is not taken for it.
        sys.meta_path.insert(0, _OperatorFinder(name, source_path, file))


class _OperatorFinder(_FinderAndLoader):
    def __init__(self, name: str, source_path: str, file: str) -> None:
        self._name = name
        self._source_path = source_path
        self._file = file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # Opened anew, with a file position of its own: several workers read it at the same time.
        with open(self._source_path, encoding="utf-8") as source:
            exec(compile(source.read(), self._file, "exec"), module.__dict__)
