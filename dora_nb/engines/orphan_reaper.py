"""The kernel's end of the orphan reaper, the program that kills what is left when the kernel is gone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence

from .orphan_reaper_program import kill_session, session_members

__all__ = ["OrphanReaper", "kill_session", "session_members"]

_PROGRAM = os.path.join(os.path.dirname(__file__), "orphan_reaper_program.py")


class OrphanReaper:
    """One running orphan reaper and the sessions that it kills after the kernel's end. Thread-safe.

    If the program has been killed, the next call that tells it something starts another one.
    """

    def __init__(self) -> None:
        # All that the program was told is kept here too, so that a replacement can be told the same.
        self._sessions: set[int] = set()
        self._exit_commands: set[str] = set()
        self._lock = threading.Lock()
        self._popen = _start()
        _reapers.add(self)

    def watch(self, session_id: int) -> None:
        """From now on that session is killed when the kernel is gone."""
        with self._lock:
            self._sessions.add(session_id)
            self._send(f"+{session_id}\n")

    def unwatch(self, session_id: int) -> None:
        """Forgets that session, which has ended."""
        # OSError: the reaper was dead and no new one could be started. The end of an operator must not
        # fail for that; the next `watch` tries again, and does raise.
        with self._lock, contextlib.suppress(OSError):
            # The system may reuse an id once no process of the session is left. If the reaper kept it,
            # it could kill another program that has got the same id.
            self._sessions.discard(session_id)
            self._send(f"-{session_id}\n")

    def run_at_exit(self, command: Sequence[str]) -> None:
        """Runs that command once the kernel is gone; its program is given as a path."""
        line = json.dumps(command)
        with self._lock:
            self._exit_commands.add(line)
            self._send(f"!{line}\n")

    def cancel_at_exit(self, command: Sequence[str]) -> None:
        """Takes that command back."""
        line = json.dumps(command)
        with self._lock, contextlib.suppress(OSError):
            self._exit_commands.discard(line)
            self._send(f"~{line}\n")

    def close(self) -> None:
        """Ends the program, which first kills what is left of the sessions it watches."""
        assert self._popen.stdin is not None
        # The end of its input is the only signal that the program knows: the system sends it too when
        # the kernel is killed, so the orderly end and the crash take the same path.
        self._popen.stdin.close()
        self._popen.wait()

    def close_in_fork(self) -> None:
        """Closes the pipe in a process forked from the kernel.

        With that copy open, the program would not see the end of its input when the kernel is gone.
        """
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        # The program is a child of the kernel, not of the fork: waiting for it here would fail.
        self._popen.returncode = 0

    def _send(self, line: str) -> None:
        assert self._popen.stdin is not None
        try:
            # One write of less than PIPE_BUF bytes: the program never reads half a line, pipe(7).
            os.write(self._popen.stdin.fileno(), line.encode())
        except (BrokenPipeError, ValueError):  # ValueError: closed, and could not be replaced
            self._replace()

    def _replace(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait()
        self._popen = _start()
        assert self._popen.stdin is not None
        lines = "".join(f"+{session_id}\n" for session_id in self._sessions)
        lines += "".join(f"!{command}\n" for command in self._exit_commands)
        os.write(self._popen.stdin.fileno(), lines.encode())


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A session of its own: a Ctrl-C in Jupyter's terminal, or a kill of the kernel's process group,
        # would end it together with the kernel, just when it is needed.
        start_new_session=True,
        bufsize=0,
    )


_reapers: weakref.WeakSet[OrphanReaper] = weakref.WeakSet()


def _close_in_fork() -> None:
    for reaper in list(_reapers):
        reaper.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
