"""Tells the user's own files from those that were installed."""

from __future__ import annotations

import os
import sys

from ._traceback import is_ours

_INSTALLED = frozenset(("site-packages", "dist-packages"))
_STANDARD_LIBRARY = (
    os.path.dirname(os.__file__) + os.sep,
    os.path.join(
        sys.base_exec_prefix,
        sys.platlibdir,
        f"python{sys.version_info[0]}.{sys.version_info[1]}",
    )
    + os.sep,
)


def is_own(file: str) -> bool:
    """Whether the user may edit that file: a cell, a module beside the notebook, an editable install.

    Not so in the standard library, in any ``site-packages`` (that of a local ``.venv`` too), and in dora_nb.
    """
    return (
        not file.startswith(_STANDARD_LIBRARY)
        and not file.startswith("<frozen ")
        and _INSTALLED.isdisjoint(file.split(os.sep))
        and not is_ours(file)
    )
