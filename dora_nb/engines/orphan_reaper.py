"""The kernel's end of the orphan reaper, the program that kills what is left when the kernel is gone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence

from dora_nb.leftovers import COOKIE

_PROGRAM = os.path.join(os.path.dirname(__file__), "orphan_reaper_program.py")
_SHORT_LIFE_SECS = 0.5
"""A program that ends sooner than this after its start cannot run here; the next attempt waits as long."""


class OrphanReaper:
    """One running orphan reaper, and what it kills after the kernel's end. Thread-safe.

    A program that was killed is replaced at once: a thread waits for its end from the first call on that tells
    it something.
    """

    def __init__(self) -> None:
        # All that the program was told is kept here too, so that a replacement can be told the same.
        self._sessions: set[int] = set()
        self._cookies: set[str] = set()
        self._exit_commands: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        try:
            self._popen = _start()
        except OSError:
            os.close(self._wake)
            raise
        self._started_secs = time.monotonic()
        _reapers.add(self)

    def watch(self, session_id: int, cookie: str | None = None) -> None:
        """From now on that session, and all processes with that cookie, are killed when the kernel is gone.

        The cookie stays when the session has ended: then it finds what the session has left behind.
        """
        with self._lock:
            self._sessions.add(session_id)
            marks = [] if cookie is None else [cookie]
            self._cookies.update(marks)
            self._send(f"+{session_id}\n" + "".join(f"@{mark}\n" for mark in marks))

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
        """Ends the program, which first kills what is left of all that it was told."""
        with self._lock:
            self._closing.set()
            os.eventfd_write(self._wake, 1)
        # The thread first: it would replace the program.
        if self._thread is not None:
            self._thread.join()
        os.close(self._wake)
        assert self._popen.stdin is not None
        # The end of its input is the only signal that the program knows: the system sends it too when
        # the kernel is killed, so the orderly end and the crash take the same path.
        self._popen.stdin.close()
        self._popen.wait()
        _reapers.discard(self)

    def close_in_fork(self) -> None:
        """Closes the pipe in a process forked from the kernel.

        With that copy open, the program would not see the end of its input when the kernel is gone.
        """
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        # The program is a child of the kernel, not of the fork: waiting for it here would fail.
        self._popen.returncode = 0
        os.close(self._wake)

    def _send(self, line: str) -> None:
        """Tells the program that. With the lock held."""
        self._ensure_thread()
        assert self._popen.stdin is not None
        try:
            # One write of less than PIPE_BUF bytes: the program never reads half a line, pipe(7).
            os.write(self._popen.stdin.fileno(), line.encode())
        except (BrokenPipeError, ValueError):  # ValueError: closed, and could not be replaced
            self._replace()

    def _ensure_thread(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._watch_program, name="dora-reaper", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system allows no further thread
            raise OSError(errno.EAGAIN, str(error)) from None
        self._thread = thread

    def _watch_program(self) -> None:
        """Replaces the program whenever it ends, until `close`."""
        while not self._closing.is_set():
            # OSError: no free descriptor, or no further process; that may pass.
            try:
                lived_secs = self._wait_for_end()
                if lived_secs < _SHORT_LIFE_SECS:
                    self._wait_for(-1, _SHORT_LIFE_SECS)
                with self._lock:
                    # Not if `_send` has replaced it.
                    if not self._closing.is_set() and self._popen.poll() is not None:
                        self._replace()
            except OSError:
                self._wait_for(-1, _SHORT_LIFE_SECS)

    def _wait_for_end(self) -> float:
        """Waits until the program has ended, or until `close`; returns how long the program has lived."""
        with self._lock:
            started_secs = self._started_secs
            # With the lock: nothing waits for the program meanwhile, so its id cannot be another one's.
            ended = os.pidfd_open(self._popen.pid) if self._popen.poll() is None else -1
        if ended >= 0:
            try:
                self._wait_for(ended, None)
            finally:
                os.close(ended)
        return time.monotonic() - started_secs

    def _wait_for(self, descriptor: int, timeout_secs: float | None) -> None:
        """Waits until that descriptor is readable, until `close`, or until the time is over."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        poller.poll(None if timeout_secs is None else timeout_secs * 1e3)

    def _replace(self) -> None:
        """Starts another program and tells it all. With the lock held."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait()
        self._popen = _start()
        self._started_secs = time.monotonic()
        assert self._popen.stdin is not None
        lines = "".join(f"+{session_id}\n" for session_id in self._sessions)
        lines += "".join(f"@{cookie}\n" for cookie in self._cookies)
        lines += "".join(f"!{command}\n" for command in self._exit_commands)
        os.write(self._popen.stdin.fileno(), lines.encode())


def _start() -> subprocess.Popen[bytes]:
    # Without a cookie: if an operator has started this kernel, the end of that operator kills the kernel, and
    # this program must live on to kill what the kernel leaves behind.
    environment = {key: value for key, value in os.environ.items() if key != COOKIE}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
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
