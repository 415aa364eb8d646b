"""Errors for names that the served module `dora` does not have. They name no file of dora_nb."""

from __future__ import annotations

import opcode
import sys
from collections.abc import Iterable
from types import FrameType

from .one_line import shown_in_one_line

_IMPORT_FROM = opcode.opmap["IMPORT_FROM"]


def missing_name(module: str, name: str, known: Iterable[str]) -> Exception:
    """Returns what a module's `__getattr__` raises; call it from there.

    An AttributeError, as `hasattr` and `getattr` need it. Not for ``from MODULE import NAME``: Python would
    put another error in its place, whose text has the path of the module's file.
    """
    if name.startswith("__"):  # Many tools look for these, and expect none.
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    import difflib  # Here, since only a mistake needs it.

    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f". Did you mean '{near[0]}'?" if near else ""
    caller = sys._getframe(2)
    error: Exception
    if _imports_from(caller):
        error = ImportError(f"cannot import name {name!r} from {module!r}{hint}", name=module)
    else:
        error = AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
    return shown_in_one_line(error)


def _imports_from(frame: FrameType) -> bool:
    """Returns whether the frame stands at the instruction of ``from MODULE import NAME``."""
    return frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM
