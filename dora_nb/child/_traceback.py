"""Tracebacks as the user should read them: their own frames, with the lines of their cells.

A frame of a cell reads ``Cell In[5], line 7``, as IPython names it; frames of dora_nb are left out.
"""

from __future__ import annotations

import os
import re
import traceback

_OUR_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MOST_TEXT_CHARS = 10_000
_CELL_FRAME = re.compile(r'^([ |]*)File "(Cell In\[[^"]*\])", line')
"""Bars stand in front of the frames of an exception group's members."""


def traceback_lines(error: BaseException) -> list[str]:
    """The lines of a traceback of `error` and of its causes.

    None of an exception whose class has ``__tracebackhide__ = True``, as frames have it for pytest and IPython:
    its text says all, a webcam that is missing for one, and the lines that found that out would only hide it.
    """
    if getattr(type(error), "__tracebackhide__", False) is True:
        return []
    summary = traceback.TracebackException.from_exception(error, compact=True)
    _leave_out_ours(summary, seen=set())
    text = printable("".join(summary.format()))
    return [as_cell(line) for line in text.rstrip("\n").split("\n")]


def shortened(text: str) -> str:
    """Returns the text, or its beginning and how much is left out."""
    left_out = len(text) - _MOST_TEXT_CHARS
    return text if left_out <= 0 else f"{text[:_MOST_TEXT_CHARS]} … ({left_out:,} more characters)"


def printable(text: str) -> str:
    """Returns the text with lone surrogates escaped, as Python prints them on stderr.

    They stand for bytes that are not UTF-8, mostly in a file's name; UTF-8 cannot encode them.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _leave_out_ours(summary: traceback.TracebackException, seen: set[int]) -> None:
    if id(summary) in seen:
        return
    seen.add(id(summary))
    theirs = [frame for frame in summary.stack if not is_ours(frame.filename)]
    summary.stack = traceback.StackSummary.from_list(theirs)
    # Here, before anything is made of it: a text may have 100 MB, and each step makes another copy.
    for name in ("_str", "msg", "text"):
        text = getattr(summary, name, None)
        if isinstance(text, str):
            setattr(summary, name, shortened(text))
    notes = getattr(summary, "__notes__", None)
    if isinstance(notes, (list, tuple)):
        summary.__notes__ = [shortened(note) if isinstance(note, str) else note for note in notes]
    for other in (summary.__cause__, summary.__context__, *(summary.exceptions or ())):
        if other is not None:
            _leave_out_ours(other, seen)


def is_ours(file: str) -> bool:
    """Whether that is a file of dora_nb itself; the tutorial that is installed with it is the user's."""
    return file.startswith(_OUR_FOLDER) and not file.startswith(_OUR_FOLDER + "tutorial" + os.sep)


def as_cell(line: str) -> str:
    """The line of a traceback, where it names a cell as IPython does."""
    return _CELL_FRAME.sub(r"\1\2, line", line)
