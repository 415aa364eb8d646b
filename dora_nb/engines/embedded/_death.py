"""The error for a process that ended without a report: from its exit status and the end of its stderr.

Pure. An interpreter that ends by a signal prints its stack (`faulthandler`). Frames of dora_nb, addresses
and the list of extension modules are left out, and cells are named as in IPython.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable

from dora_nb.errors import OperatorError
from dora_nb.status import LogLine

CANNOT_BEGIN_STATUS = 78
"""The exit status of `dora_nb.child.program` if its interpreter cannot run an operator; stderr says why."""
_MAX_LINES = 12
_OUR_FOLDER = os.path.normpath(os.path.join(os.path.dirname(__file__), "../..")) + os.sep
_CELL = re.compile(r'File "(Cell In\[[^"]*\])", line')
_ADDRESS = re.compile(r"^(Current thread|Thread) 0x[0-9a-f]+")
_LAST_LINES = "The last lines of its stderr:"
_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGSEGV: "Likely cause: a bug in a C extension library.",
    signal.SIGABRT: "Likely cause: a C extension library aborted; it usually says why on stderr.",
    signal.SIGKILL: "Likely cause: the system ran out of memory (see dmesg), or another program killed it.",
    signal.SIGILL: "Likely cause: a library was built for another processor.",
    signal.SIGBUS: "Likely cause: a memory-mapped file was truncated, or its file system is full.",
    signal.SIGTERM: "Another program or a process manager sent the signal.",
}


def describe_death(
    name: str, exit_status: int, log: Iterable[LogLine], *, ways_out: str | None = None
) -> OperatorError:
    """Returns the error for an operator whose process ended with that status (as `Popen.returncode`).

    `ways_out` follows the likely cause in the hint.
    """
    printed = [line.text for line in log if line.stream == "stderr"]
    if exit_status == CANNOT_BEGIN_STATUS:
        return OperatorError(f"{name} cannot be started: {' '.join(printed[-1:])}", node=name)
    last_lines = _readable(printed)
    stderr_lines = [_LAST_LINES, *(f"    {line}" for line in last_lines)] if last_lines else []
    if exit_status >= 0:
        return OperatorError(
            f"{name}'s process exited with status {exit_status} without an error message.",
            node=name,
            traceback_lines=stderr_lines,
            hint=_sentences("Likely cause: the code or a library called os._exit.", ways_out),
        )
    return OperatorError(
        f"{name}'s process was killed by {_signal_name(-exit_status)}.",
        node=name,
        traceback_lines=stderr_lines,
        hint=_sentences(_SIGNAL_HINTS.get(-exit_status), ways_out),
    )


def _sentences(*sentences: str | None) -> str | None:
    return " ".join(filter(None, sentences)) or None


def _readable(printed: list[str]) -> list[str]:
    """Returns the last lines, without what only developers of dora_nb understand."""
    lines = [
        _ADDRESS.sub(r"\1", _CELL.sub(r"\1, line", line))
        for line in printed
        if f'File "{_OUR_FOLDER}' not in line and not line.startswith("Extension modules: ")
    ]
    return lines[-_MAX_LINES:]


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({signal.strsignal(number)})"
    except ValueError:
        return f"signal {number}"
