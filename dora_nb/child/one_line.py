"""Errors of dora's API that a notebook shows as dora_nb's own are shown: the place and one sentence."""

from __future__ import annotations

import functools
import linecache
import sys
from typing import TypeVar

from ._traceback import is_ours

_AnyError = TypeVar("_AnyError", bound=Exception)


def shown_in_one_line(error: _AnyError) -> _AnyError:
    """Returns the error, for which IPython shows no frame of dora_nb.

    Its type stays Python's own, as code that is written for dora may catch it.
    """
    error._render_traceback_ = functools.partial(_lines_of, error)  # type: ignore[attr-defined]
    return error


def _lines_of(error: Exception) -> list[str]:
    """Returns the line of the user's code that the error comes from, and the error."""
    traceback = error.__traceback__
    code, number = None, 0
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not is_ours(file) and not file.startswith("<frozen "):
            code, number = traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next
    shown = f"{type(error).__name__}: {error}"
    if code is None:
        return [shown]
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    named = None if shell is None else shell.compile.format_code_name(code.co_filename)
    place = code.co_filename if named is None else " ".join(named)
    text = linecache.getline(code.co_filename, number).strip()
    return [f"{place}, line {number}", *([f"    {text}"] if text else []), shown]
