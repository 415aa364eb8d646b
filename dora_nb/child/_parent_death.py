"""An operator never outlives its kernel.

Two ways, since one alone is not enough. An operator that responds sees the end of file on its control
socket, handles STOP and ends. One that is stuck in C, perhaps with the GIL, does not: to its process the
operating system sends SIGHUP when the thread that started it ends (`prctl(2)`, PR_SET_PDEATHSIG), and the
handler of SIGHUP is libc's own `alarm`. A signal handler is called with the signal's number, 1, so the
call means: end by SIGALRM in one second. No line of Python has to run for that.
"""

from __future__ import annotations

import ctypes
import os
import signal

from dora_nb.leftovers import COOKIE, kill_leftovers

PARK_SECS = 1
"""How long an operator has to park the robot when its kernel is gone: the number of SIGHUP."""
_PR_SET_PDEATHSIG = 1
_cookie = os.environ.get(COOKIE)


def follow_parent() -> None:
    """Arms the second way. Called once, before any of the user's code is imported."""
    assert signal.SIGHUP.value == PARK_SECS
    # By libc's `signal`, not Python's: a handler of Python's runs between two instructions of the main
    # thread, and one that is stuck in C does not get to the next. `alarm` is async-signal-safe, and SIGALRM ends the process
    # whatever it does, unless the user's code handles that signal itself.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGHUP, ctypes.cast(libc.alarm, ctypes.c_void_p))
    # After the handler is there: SIGHUP's default would end the operator at once, without parking.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)


def end_with_session() -> None:
    """Ends this process and what it started, at once, in place of the kernel, which is gone."""
    # By SIGKILL: neither a handler nor a child that ignores SIGTERM can hold it up. Not resource trackers: they
    # remove the shared memory of this process once it is gone, and the orphan reaper ends those that do not.
    # The cookie of the start: the user's code may have changed the variable.
    kill_leftovers([os.getpid()], [_cookie] if _cookie else [])
    os.kill(os.getpid(), signal.SIGKILL)
