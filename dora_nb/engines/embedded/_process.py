"""One process of an operator, seen from the kernel.

`tell` may be called from any thread; it never blocks or raises. A message that the control socket cannot
take now waits in an outbox, which the supervisor sends when the socket is writable. All other methods
belong to the supervisor's thread.

A process forked from the kernel (`os.fork`, multiprocessing) inherits the kernel's ends. It closes them
at once: with them open, operators would not see that their kernel is gone.
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
from collections.abc import Callable
from dataclasses import dataclass, field

from dora_nb.leftovers import end_leftovers, kill_leftovers
from dora_nb.protocol import control, counters

from ..capture import LineSplitter, last_line
from ._imported_files import ImportedFiles

_READ_SIZE = 1 << 16
_MAX_LAST_READS = 64
"""As much as a pipe can hold (1 MiB, pipe(7)); not what a process that escaped the session still adds."""
_CONTROL_BUFFER = 1 << 20
"""Bytes. The wiring of many edges arrives at once, while the process may be busy in its `__init__`."""


@dataclass(eq=False)
class Stream:
    """One of the two streams that a process prints to."""

    name: str
    descriptor: int
    splitter: LineSplitter = field(default_factory=LineSplitter)
    at_end: bool = False

    def read(self) -> list[str] | None:
        """Returns the lines that the next piece of output completes; None if there is none. Never blocks."""
        try:
            data = os.read(self.descriptor, _READ_SIZE)
        except BlockingIOError:
            return None
        if not data:
            self.at_end = True
            return None
        return self.splitter.feed(data)

    def read_last(self) -> list[str]:
        """Returns all lines that are left when the process has ended."""
        # Not until the end of the stream: a process that left the session (a daemon) may hold the pipe
        # open for ever.
        lines: list[str] = []
        for _ in range(_MAX_LAST_READS):
            more = self.read()
            if more is None:
                break
            lines += more
        return lines + self.splitter.finish()


class ControlSocket:
    """The kernel's end of a control socket, with an outbox; of a new pair, or an accepted connection."""

    def __init__(self, accepted: socket.socket | None = None) -> None:
        self.other_end: socket.socket | None = None
        if accepted is None:
            self.socket, self.other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        else:
            self.socket = accepted
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CONTROL_BUFFER)
        self.socket.setblocking(False)
        self.at_end = False
        """The process has closed its end; no further message comes from it."""
        self.congested = False
        """The system refused because too many descriptors are in flight: only waiting helps."""
        self.failure: OSError | None = None
        """Why a message was lost. Later messages refer to it, so none is sent any more."""
        self.counters: counters.OperatorCounters | None = None
        """The counters of the process at the other end, which count the messages sent to it."""
        self._outbox: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._lock = threading.Lock()
        self._closed = False
        _kernel_ends.add(self)

    def tell(self, message: control.ToProcess, descriptors: list[int]) -> bool:
        """Sends the message or queues it. Returns whether the supervisor must attend to this socket.

        The caller keeps and closes the descriptors.
        """
        data = control.encode(message)
        # The lock keeps the order of several callers, and holds off `close`: a send on a closed descriptor
        # could reach the next file that gets the same number.
        with self._lock:
            if self._closed or self.failure is not None:
                return self.failure is not None
            # Only with an empty outbox, or this message would overtake the queued ones.
            if not self._outbox and self._send(data, descriptors):
                self._count(message)
                return False
            # The caller closes its descriptors when this returns, so the outbox needs copies.
            try:
                kept = _duplicates(descriptors)
            except OSError as error:
                self.failure = error
            else:
                self._outbox.append((data, kept))
                self._count(message)
            return True

    def flush(self) -> None:
        """Sends queued messages as long as the socket has room."""
        with self._lock:
            while self._outbox and not self._closed and self._send(*self._outbox[0]):
                self._drop_first()

    @property
    def pending(self) -> bool:
        """Whether messages wait for the socket to be writable."""
        return bool(self._outbox)

    def close(self) -> None:
        """Closes this end; a running process sees that as the end of its kernel."""
        with self._lock:
            self._closed = True
            _kernel_ends.discard(self)
            while self._outbox:
                self._drop_first()
            self.socket.close()
            if self.other_end is not None:
                self.other_end.close()

    def close_in_fork(self) -> None:
        """Closes the copies that a forked process has inherited."""
        # Without the lock: if another thread of the kernel held it at the fork, no thread of this process
        # will ever release it.
        self._closed = True
        self.socket.close()
        if self.other_end is not None:
            self.other_end.close()

    def _count(self, message: control.ToProcess) -> None:
        """Counts a message that was sent or queued (see `counters.CONTROL_SENT`)."""
        # After the send: a process that sees a higher count serves its control socket before it handles a
        # message of data. If the count rose first, it could find the socket empty, and handle the message
        # before it knew of a new reader. It does not count `Adopt` and `Begin`: `Begin` brings the page.
        if self.counters is not None and not isinstance(message, control.Adopt | control.Begin):
            self.counters.words[counters.CONTROL_SENT] += 1

    def _send(self, data: bytes, descriptors: list[int]) -> bool:
        """Returns whether the message is done with: sent, or undeliverable because the process is gone."""
        self.congested = False
        try:
            socket.send_fds(self.socket, [data], descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            # unix(7): a limit on descriptors in flight over all sockets of a user. The socket may be
            # writable all the same: polling for that would spin.
            if error.errno == errno.ETOOMANYREFS:
                self.congested = True
                return False
            # Otherwise the process is gone. That is not an error here: the supervisor sees its end by the
            # process's own descriptor.
        return True

    def _drop_first(self) -> None:
        for descriptor in self._outbox.popleft()[1]:
            os.close(descriptor)


@dataclass(eq=False)
class NotebookRequests:
    """The notebook's requests to one process that the process has not answered. It answers in order.

    So a request that is still here when the process hands over was not done; it is repeated to the
    successor.
    """

    retrying: bool = False
    """To handle the event of the newest failure's crash report."""
    injected: collections.deque[tuple[control.Inject, int]] = field(
        default_factory=collections.deque
    )
    """To send these messages as its own; each has a descriptor that this object owns."""
    shown: collections.deque[threading.Event] = field(default_factory=collections.deque)
    """To write its state; an event is set once it has done so, or will not."""

    def close(self) -> int:
        """Drops all requests; returns how many messages were to be sent."""
        self.retrying = False
        while self.shown:
            self.shown.popleft().set()
        lost = len(self.injected)
        while self.injected:
            os.close(self.injected.popleft()[1])
        return lost


class OperatorProcess:
    """A process that the kernel has started, until it is reaped."""

    number = 0
    """Numbers the processes of one operator, see `_lifecycle`."""
    taken_edit = 0
    """The edit whose source it has taken last."""
    events_before_code = 0
    """How many events it had handled when it took the code that it runs."""
    first_log_line = 0
    """The line of the operator's log at which its lines begin, or a little earlier."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        control_socket: ControlSocket,
        counters_descriptor: int,
        stacks_descriptor: int,
        cookie: str,
    ) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self.process_id = popen.pid
        self.cookie = cookie
        """Marks its environment, and so all that it starts (`dora_nb.leftovers`)."""
        self.control = control_socket
        self.requests = NotebookRequests()
        self.warnings: tuple[str, ...] = ()
        """What it has reported for the status of its node."""
        self.imported = ImportedFiles()
        self.last_line = ""
        """The line that it has printed or logged last."""
        self.counters = control_socket.counters = counters.OperatorCounters(counters_descriptor)
        self.when_reaped: Callable[[], None] = lambda: None
        """Called once its id may be reused."""
        self.stacks_descriptor = stacks_descriptor
        """Where it writes its stacks when it gets `child.stacks.SIGNAL`."""
        # A pidfd reports the end of the process itself. The ends of its streams and socket do not: a
        # child of the operator may hold them open, and a living operator may close them.
        self.exit_descriptor = os.pidfd_open(popen.pid)
        try:
            self.crash_report_descriptor = os.memfd_create("dora-crash-report", os.MFD_CLOEXEC)
            """The file into which it writes its crash report."""
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

    def note_printed(self, lines: list[str]) -> None:
        """Keeps the last of the lines that say anything."""
        self.last_line = last_line(lines) or self.last_line

    def control_lost(self) -> None:
        """Does nothing: `exit_descriptor` reports the end of the process."""

    def terminate(self) -> None:
        """Sends SIGTERM to the operator."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process_id, signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL to the operator and to all that it has started, resource trackers excepted."""
        kill_leftovers([self.process_id], [self.cookie])

    def reap(self) -> int:
        """Ends what the operator has left behind; returns the operator's status, as Popen gives it."""
        # The session before the wait: the zombie keeps the session's id in use. After the wait, the id
        # could belong to an unrelated process.
        end_leftovers([self.process_id], [self.cookie])
        status = self._popen.wait()
        # The orphan reaper must forget the session as soon as its id may be reused.
        self.when_reaped()
        return status

    def close(self) -> None:
        """Closes every descriptor."""
        _kernel_ends.discard(self)
        self.control.close()
        self.counters.close()
        self._close_descriptors()

    def close_in_fork(self) -> None:
        """Closes the copies that a forked process has inherited.

        With its copy open, an operator whose kernel is gone would fill the pipe and block, instead of
        getting SIGPIPE.
        """
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        os.close(self.exit_descriptor)
        os.close(self.crash_report_descriptor)
        os.close(self.stacks_descriptor)
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()


class JoinedProcess:
    """A process that was started elsewhere and has joined as a dynamic node; it is never killed."""

    number = taken_edit = events_before_code = first_log_line = 0
    """As in `OperatorProcess`."""

    def __init__(
        self, process_id: int, control_socket: ControlSocket, counters_descriptor: int
    ) -> None:
        self.process_id = process_id
        self.control = control_socket
        self.requests = NotebookRequests()
        self.warnings: tuple[str, ...] = ()
        self.imported = ImportedFiles()
        self.last_line = ""
        self.counters = control_socket.counters = counters.OperatorCounters(counters_descriptor)
        # Not a pidfd: the process may leave the dataflow and run on.
        self.exit_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable once it has left."""
        self.crash_report_descriptor = -1
        self.streams: list[Stream] = []

    def note_printed(self, lines: list[str]) -> None:
        """Keeps the last of the lines that say anything; it can log, and its streams are the user's."""
        self.last_line = last_line(lines) or self.last_line

    def control_lost(self) -> None:
        """Marks the process as gone: it has closed its end."""
        os.eventfd_write(self.exit_descriptor, 1)

    def terminate(self) -> None:
        """Does nothing: the process belongs to the user."""

    def kill(self) -> None:
        """Disconnects it: the process sees the end of its control socket."""
        # `shutdown`, not `close`: the descriptor stays valid for the supervisor's poll until `close`.
        with contextlib.suppress(OSError):
            self.control.socket.shutdown(socket.SHUT_RDWR)
        os.eventfd_write(self.exit_descriptor, 1)

    def reap(self) -> int:
        """Disconnects it; returns 0: the process is not a child of the kernel."""
        self.kill()
        return 0

    def close(self) -> None:
        """Closes every descriptor."""
        self.control.close()
        self.counters.close()
        os.close(self.exit_descriptor)


NodeProcess = OperatorProcess | JoinedProcess


def _duplicates(descriptors: list[int]) -> list[int]:
    """Returns a copy of each; on an OSError it leaves no copy open."""
    copies: list[int] = []
    try:
        for descriptor in descriptors:
            copies.append(os.dup(descriptor))  # noqa: PERF401 - those made are closed on an error
    except OSError:
        for copy in copies:
            os.close(copy)
        raise
    return copies


# Weak, so that this table keeps no process alive that its supervisor has dropped.
_kernel_ends: weakref.WeakSet[ControlSocket | OperatorProcess] = weakref.WeakSet()


def _close_kernel_ends() -> None:
    for end in list(_kernel_ends):
        # One that cannot be closed must not keep the others open.
        with contextlib.suppress(OSError):
            end.close_in_fork()


os.register_at_fork(after_in_child=_close_kernel_ends)
