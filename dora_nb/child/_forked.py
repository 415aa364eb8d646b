"""A process that the user's code forks has all that the node's process has, and is not the node.

It may compute and start programs. It must neither read nor report for the node: `NodeProcess.forget_in_fork`
takes that away from it. If it returns from the user's code into ours, as after a bare `os.fork()`, it ends
here; the node goes on.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from ._traceback import traceback_lines
from .user_code import NodeFailedError


def end_fork(error: BaseException | None = None) -> NoReturn:
    """Ends this process as Python ends one: with the status of `sys.exit`, or the traceback of `error`."""
    status = 0
    if isinstance(error, NodeFailedError):
        error = error.__context__ or error
    if isinstance(error, SystemExit):
        status = _exit_status(error.code)
    elif error is not None:
        status = 1
        with contextlib.suppress(Exception):
            lines = ["In a process forked by the node's code:", *traceback_lines(error)]
            sys.stderr.write("\n".join([*lines, ""]))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # Neither exit handlers nor `__del__`: those are the node's, and would park its robot.
    os._exit(status)


def _exit_status(code: object) -> int:
    """Returns the status of ``sys.exit(code)``."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{code}\n")
    return 1
