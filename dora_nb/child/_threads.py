"""What becomes of an exception that one of the user's threads does not catch: a warning in the node's status.

Such an exception ends its thread alone. The node runs on and looks healthy, though nothing may come from it
any more: a camera's capture thread, a driver's reader.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType

from ._process import NodeProcess
from ._traceback import is_ours, traceback_lines
from .user_code import KernelGoneError, problem_text

_STARTED_BY = "Exception ignored in thread started by"
"""How the message of `sys.unraisablehook` begins for a thread of `_thread.start_new_thread`."""


def watch_threads(process: NodeProcess) -> None:
    """From now on each thread that an exception ends is reported. The user's code may set hooks of its own."""
    unraisable_before = sys.unraisablehook

    def thread_ended(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = "unknown" if args.thread is None else args.thread.name
            _report(process, f"Exception in thread {name}:", args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        # Threads that do without `threading` end in this hook.
        if args.exc_value is not None and (args.err_msg or "").startswith(_STARTED_BY):
            _report(process, "Exception in a thread:", args.exc_value)
        else:
            unraisable_before(args)

    threading.excepthook = thread_ended
    sys.unraisablehook = unraisable


def _report(process: NodeProcess, head: str, error: BaseException) -> None:
    # `sys.exit` ends a thread in order, and without a kernel the report has no reader.
    if isinstance(error, (SystemExit, KernelGoneError)):
        return
    while error.__traceback__ and _is_of_threading(error.__traceback__):
        error.__traceback__ = error.__traceback__.tb_next
    # Python's own hook prints no source lines of a cell before 3.13: it looks for a file of that name.
    sys.stderr.write("\n".join([head, *traceback_lines(error), ""]))
    place = _place(error.__traceback__, {process.begin.file, process.begin.path})
    at = f" ({place})" if place else ""
    # Another edit in place keeps the object, whose `__init__` may have started the thread: it stays ended.
    process.warn_in_status(
        f"a thread of {process.name} ended: {problem_text(error)}{at}", outlasts_edits=True
    )


def _is_of_threading(tb: TracebackType) -> bool:
    return tb.tb_frame.f_code.co_filename == threading.__file__


def _place(tb: TracebackType | None, own_files: set[str | None]) -> str | None:
    """Returns the innermost line of the node's own source; without one, the innermost outside dora_nb."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(tb)
        if not is_ours(frame.f_code.co_filename)
    ]
    found = [place for place in frames if place[0] in own_files] or frames
    return "{}, line {}".format(*found[-1]) if found else None
