"""Lets ``from dora import DoraStatus`` work in the kernel too, where dora-rs is not installed.

The finder stands at the end of `sys.meta_path`, so an installed dora always wins.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_PACKAGE = "dora_nb.child.dora_api"


class DoraFinder:
    """Serves the package `dora`; its modules are then found in it."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Part of the import system's protocol."""
        if fullname != "dora":
            return None
        served = importlib.util.find_spec(_PACKAGE)
        assert served is not None
        assert served.origin is not None
        return importlib.util.spec_from_file_location(
            "dora", served.origin, submodule_search_locations=served.submodule_search_locations
        )


def install() -> None:
    """Serves `dora` from now on; called twice it does nothing."""
    if DoraFinder not in sys.meta_path:
        sys.meta_path.append(DoraFinder)


def uninstall() -> None:
    """Stops serving `dora`. A module that was imported stays."""
    if DoraFinder in sys.meta_path:
        sys.meta_path.remove(DoraFinder)
