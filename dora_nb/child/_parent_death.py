"""An operator never outlives its kernel.

Two ways, since one alone is not enough. A living operator sees the end of file on its control
socket, handles STOP and ends. One that is stuck in C, perhaps with the GIL, sees nothing: for it the
kernel of the operating system sends SIGHUP when the thread that started this process ends
(`prctl(2)`, PR_SET_PDEATHSIG), and the handler of SIGHUP is libc's own `alarm`. Called as a signal
handler it gets the signal's number, 1, so it means: end by SIGALRM in one second. No line of Python
has to run for that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

PARK_SECS = 1
"""How long an operator has to park the robot when its kernel is gone: the number of SIGHUP."""
_PR_SET_PDEATHSIG = 1


def follow_parent() -> None:
    """Arms the second way. Called once, before anything of the user's is imported."""
    assert signal.SIGHUP.value == PARK_SECS
    libc = ctypes.CDLL(None, use_errno=True)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)


def end_with_session() -> None:
    """Ends this process and what it started, at once. The kernel is gone: nobody else will."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(0, signal.SIGKILL)
