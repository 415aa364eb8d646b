"""One process of an operator, seen from the kernel.

`tell` may be called from any thread and never blocks: what the control socket cannot take now waits
in an outbox, which the supervisor empties when the socket is writable. Everything else belongs to the
supervisor's thread.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass, field

from ... import messages, metrics
from ._capture import LineSplitter
from ._warden import kill_session

_READ_SIZE = 1 << 16
_CONTROL_BUFFER = 1 << 20


@dataclass(eq=False)
class Stream:
    """One of the two streams that a process prints to."""

    name: str
    descriptor: int
    splitter: LineSplitter = field(default_factory=LineSplitter)
    at_end: bool = False

    def read(self) -> list[str] | None:
        """Lines that this much more output completes; None where there is none now. Never blocks."""
        try:
            data = os.read(self.descriptor, _READ_SIZE)
        except BlockingIOError:
            return None
        if not data:
            self.at_end = True
            return None
        return self.splitter.feed(data)


class ControlSocket:
    """The kernel's end of a control socket, with an outbox."""

    def __init__(self) -> None:
        self.socket, self.other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CONTROL_BUFFER)
        self.socket.setblocking(False)
        self._outbox: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self.at_end = False
        """The process closed its end; nothing more comes from it."""
        self._lock = threading.Lock()
        self._closed = False

    def tell(self, message: messages.ToProcess, descriptors: list[int]) -> bool:
        """Sends, or keeps it for later; whether anything is waiting now. The descriptors stay the caller's."""
        with self._lock:
            if self._closed:
                return False
            self._outbox.append((messages.encode(message), [os.dup(fd) for fd in descriptors]))
            return self._empty_outbox()

    def flush(self) -> bool:
        """Sends what was kept; whether anything is still waiting."""
        with self._lock:
            return not self._closed and self._empty_outbox()

    @property
    def pending(self) -> bool:
        """Whether something waits for the socket to be writable."""
        return bool(self._outbox)

    def close(self) -> None:
        """Closes this end, which is how a living process learns that it is alone."""
        with self._lock:
            self._closed = True
            while self._outbox:
                self._forget_first()
            self.socket.close()
            self.other_end.close()

    def _empty_outbox(self) -> bool:
        while self._outbox:
            data, descriptors = self._outbox[0]
            try:
                socket.send_fds(self.socket, [data], descriptors)
            except BlockingIOError:
                return True
            except OSError:
                pass  # The process is gone; its descriptor in the poll says so.
            self._forget_first()
        return False

    def _forget_first(self) -> None:
        for descriptor in self._outbox.popleft()[1]:
            os.close(descriptor)


class OperatorProcess:
    """A process that was started, until it was reaped."""

    def __init__(
        self, popen: subprocess.Popen[bytes], control: ControlSocket, counters_descriptor: int
    ) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self.process_id = popen.pid
        self.exit_descriptor = os.pidfd_open(popen.pid)
        self.control = control
        self.counters = metrics.OperatorCounters(counters_descriptor)
        self.streams = [
            Stream("stdout", popen.stdout.fileno()),
            Stream("stderr", popen.stderr.fileno()),
        ]
        for stream in self.streams:
            os.set_blocking(stream.descriptor, False)
        self._popen = popen

    def terminate(self) -> None:
        """SIGTERM to the operator."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the operator and all it started."""
        kill_session(self.process_id)

    def reap(self) -> int:
        """Ends what the operator left in its session, and returns its own exit status as Popen gives it."""
        kill_session(self.process_id)
        return self._popen.wait()

    def close(self) -> None:
        """Closes every descriptor."""
        self.control.close()
        os.close(self.exit_descriptor)
        self.counters.close()
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()
