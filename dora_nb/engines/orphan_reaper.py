"""The kernel's end of the warden, the program that ends what is left when the kernel is gone."""

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
    """The kernel's end of the warden: the sessions that it is to end after the kernel. Thread-safe.

    Should somebody have killed it, the next operator that starts or ends brings another.
    """

    def __init__(self) -> None:
        self._sessions: set[int] = set()
        self._exit_commands: set[str] = set()
        self._lock = threading.Lock()
        self._popen = _start()
        _reapers.add(self)

    def watch(self, session_id: int) -> None:
        """That session ends with the kernel from now on."""
        with self._lock:
            self._sessions.add(session_id)
            self._send(f"+{session_id}\n")

    def unwatch(self, session_id: int) -> None:
        """That session is no more."""
        # A warden that cannot be replaced now is replaced when the next operator starts.
        with self._lock, contextlib.suppress(OSError):
            self._sessions.discard(session_id)
            self._send(f"-{session_id}\n")

    def run_at_exit(self, command: Sequence[str]) -> None:
        """Has that command run once the kernel is gone; the program is named by its path."""
        line = json.dumps(command)
        with self._lock:
            self._exit_commands.add(line)
            self._send(f"!{line}\n")

    def cancel_at_exit(self, command: Sequence[str]) -> None:
        """It need not be run any more."""
        line = json.dumps(command)
        with self._lock, contextlib.suppress(OSError):
            self._exit_commands.discard(line)
            self._send(f"~{line}\n")

    def close(self) -> None:
        """Ends it, and what is left of the sessions it knows."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait()

    def close_in_fork(self) -> None:
        """In a process forked from the kernel: with its copy open, the warden would never see the end."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        # It is no child of this process, and nothing is to be waited for.
        self._popen.returncode = 0

    def _send(self, line: str) -> None:
        assert self._popen.stdin is not None
        try:
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
        start_new_session=True,
        bufsize=0,
    )


_reapers: weakref.WeakSet[OrphanReaper] = weakref.WeakSet()


def _close_in_fork() -> None:
    for reaper in list(_reapers):
        reaper.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
