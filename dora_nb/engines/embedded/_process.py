"""One process of an operator, seen from the kernel.

`tell` may be called from any thread and never blocks or raises: what the control socket cannot take
now waits in an outbox, which the supervisor empties when the socket is writable. Everything else
belongs to the supervisor's thread.

A process forked from the kernel (`os.fork`, multiprocessing) inherits the kernel's ends. It closes
them at once: with them open, no operator would see that its kernel is gone.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import signal
import socket
import subprocess
import threading
import weakref
from dataclasses import dataclass, field

from dora_nb.protocol import control, counters

from ..capture import LineSplitter
from ..orphan_reaper import kill_session

_READ_SIZE = 1 << 16
_MOST_LAST_READS = 64
"""What a pipe may hold at the end (1 MiB at most, pipe(7)), and not what an escaped process adds."""
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

    def read_last(self) -> list[str]:
        """All lines that are left when the process has ended."""
        lines: list[str] = []
        for _ in range(_MOST_LAST_READS):
            more = self.read()
            if more is None:
                break
            lines += more
        return lines + self.splitter.finish()


class ControlSocket:
    """The kernel's end of a control socket, with an outbox: of a new pair, or one that was accepted."""

    def __init__(self, accepted: socket.socket | None = None) -> None:
        self.other_end: socket.socket | None = None
        if accepted is None:
            self.socket, self.other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        else:
            self.socket = accepted
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CONTROL_BUFFER)
        self.socket.setblocking(False)
        self.at_end = False
        """The process closed its end; nothing more comes from it."""
        self.congested = False
        """The system refused because too many descriptors are on their way: only time helps."""
        self.failure: OSError | None = None
        """A message could not be kept. What follows it would make no sense to the process."""
        self.counters: counters.OperatorCounters | None = None
        """The page of the process at the other end, where it is told how much it was told."""
        self._outbox: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._lock = threading.Lock()
        self._closed = False
        _kernel_ends.add(self)

    def tell(self, message: control.ToProcess, descriptors: list[int]) -> bool:
        """Sends, or keeps it for later; whether the supervisor has to look after it now.

        The descriptors stay the caller's.
        """
        data = control.encode(message)
        with self._lock:
            if self._closed or self.failure is not None:
                return self.failure is not None
            if not self._outbox and self._send(data, descriptors):
                self._count(message)
                return False
            try:
                kept = _duplicates(descriptors)
            except OSError as error:
                self.failure = error
            else:
                self._outbox.append((data, kept))
                self._count(message)
            return True

    def flush(self) -> None:
        """Sends what was kept, as far as the socket has room."""
        with self._lock:
            while self._outbox and not self._closed and self._send(*self._outbox[0]):
                self._drop_first()

    @property
    def pending(self) -> bool:
        """Whether something waits for the socket to be writable."""
        return bool(self._outbox)

    def close(self) -> None:
        """Closes this end, which is how a living process learns that it is alone."""
        with self._lock:
            self._closed = True
            _kernel_ends.discard(self)
            while self._outbox:
                self._drop_first()
            self.socket.close()
            if self.other_end is not None:
                self.other_end.close()

    def close_in_fork(self) -> None:
        """Lets go of the copies that a forked process got. Takes no lock: its holder is not there."""
        self._closed = True
        self.socket.close()
        if self.other_end is not None:
            self.other_end.close()

    def _count(self, message: control.ToProcess) -> None:
        """Counts a message, after it was sent (see `metrics.CONTROL_SENT`). The process knows its page from `Begin` on."""
        if self.counters is not None and not isinstance(message, control.Adopt | control.Begin):
            self.counters.words[counters.CONTROL_SENT] += 1

    def _send(self, data: bytes, descriptors: list[int]) -> bool:
        """Whether that is settled: sent, or in vain."""
        self.congested = False
        try:
            socket.send_fds(self.socket, [data], descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # unix(7): a limit for all sockets of a user
                self.congested = True
                return False
            # The process is gone; its descriptor in the supervisor's poll says so.
        return True

    def _drop_first(self) -> None:
        for descriptor in self._outbox.popleft()[1]:
            os.close(descriptor)


@dataclass(eq=False)
class NotebookRequests:
    """What the notebook asked of one process, and the process has not answered: it answers in order.

    So what stands here when a process hands over was not done, and its successor is asked instead.
    """

    retrying: bool = False
    """To handle the event that the newest failure left."""
    injected: collections.deque[tuple[control.Inject, int]] = field(
        default_factory=collections.deque
    )
    """To send these as its own; each with a descriptor of its own."""
    shown: collections.deque[threading.Event] = field(default_factory=collections.deque)
    """To write its state: set once it has, or will not."""

    def close(self) -> int:
        """Nothing of it is answered any more; how many messages were to be sent."""
        self.retrying = False
        while self.shown:
            self.shown.popleft().set()
        lost = len(self.injected)
        while self.injected:
            os.close(self.injected.popleft()[1])
        return lost


class OperatorProcess:
    """A process that was started, until it was reaped."""

    number = 0
    """Which of the processes of its operator it is, see `_lifecycle`."""
    taken_edit = 0
    """The edit whose source it took last."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        control_socket: ControlSocket,
        counters_descriptor: int,
    ) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self.process_id = popen.pid
        self.control = control_socket
        self.requests = NotebookRequests()
        self.counters = control_socket.counters = counters.OperatorCounters(counters_descriptor)
        self.exit_descriptor = os.pidfd_open(popen.pid)
        try:
            self.crash_report_descriptor = os.memfd_create("dora-crash-report", os.MFD_CLOEXEC)
            """Where it writes what a failure leaves behind."""
        except OSError:
            os.close(self.exit_descriptor)
            raise
        self.streams = [
            Stream("stdout", popen.stdout.fileno()),
            Stream("stderr", popen.stderr.fileno()),
        ]
        for stream in self.streams:
            os.set_blocking(stream.descriptor, False)
        self._popen = popen
        _kernel_ends.add(self)

    def control_lost(self) -> None:
        """Its control socket is at its end; that it has ended is seen elsewhere."""

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
        _kernel_ends.discard(self)
        self.control.close()
        self.counters.close()
        self._close_descriptors()

    def close_in_fork(self) -> None:
        """Lets go of the copies that a forked process got: a pipe that nobody reads would fill."""
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        os.close(self.exit_descriptor)
        os.close(self.crash_report_descriptor)
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()


class JoinedProcess:
    """A process of somebody else's that has joined as a dynamic node: told things, and never ended."""

    number = taken_edit = 0
    """As those of `OperatorProcess`."""

    def __init__(
        self, process_id: int, control_socket: ControlSocket, counters_descriptor: int
    ) -> None:
        self.process_id = process_id
        self.control = control_socket
        self.requests = NotebookRequests()
        self.counters = control_socket.counters = counters.OperatorCounters(counters_descriptor)
        self.exit_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable once it has left."""
        self.crash_report_descriptor = -1
        self.streams: list[Stream] = []

    def control_lost(self) -> None:
        """It has closed its end, and so it has left."""
        os.eventfd_write(self.exit_descriptor, 1)

    def terminate(self) -> None:
        """Nothing: it is not ours to be ended."""

    def kill(self) -> None:
        """Lets it go: it sees the end of its stream."""
        with contextlib.suppress(OSError):
            self.control.socket.shutdown(socket.SHUT_RDWR)
        os.eventfd_write(self.exit_descriptor, 1)

    def reap(self) -> int:
        """Nothing is to be reaped."""
        return 0

    def close(self) -> None:
        """Closes every descriptor."""
        self.control.close()
        self.counters.close()
        os.close(self.exit_descriptor)


NodeProcess = OperatorProcess | JoinedProcess


def _duplicates(descriptors: list[int]) -> list[int]:
    """A copy of each, or OSError and none."""
    copies: list[int] = []
    try:
        for descriptor in descriptors:
            copies.append(os.dup(descriptor))  # noqa: PERF401 - those made are closed on an error
    except OSError:
        for copy in copies:
            os.close(copy)
        raise
    return copies


_kernel_ends: weakref.WeakSet[ControlSocket | OperatorProcess] = weakref.WeakSet()


def _close_kernel_ends() -> None:
    for end in list(_kernel_ends):
        with contextlib.suppress(OSError):
            end.close_in_fork()


os.register_at_fork(after_in_child=_close_kernel_ends)
