"""The socket on which processes of the same user join as dynamic nodes: an abstract unix socket.

It has no file, so it disappears with the kernel, however the kernel ends. Its name is listed in
``/proc/net/unix`` and any user can connect, so the peer's user is checked before anything is sent
(SO_PEERCRED, unix(7)). A connection that sends something else than `Join`, or nothing in time, is closed.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from dora_nb.protocol import control

_JOIN_TIMEOUT_SECS = 5.0
_MAX_UNDECIDED = 16


class JoinSocket:
    """The listening socket and its thread.

    `offers()` returns the dynamic nodes, and whether a process has joined as each. `accept(name, connection,
    process_id)` takes over the connection and returns None, or returns why it refuses.
    """

    def __init__(
        self,
        dataflow_id: str,
        offers: Callable[[], dict[str, bool]],
        accept: Callable[[str, socket.socket, int], str | None],
    ) -> None:
        self._offers = offers
        self._accept = accept
        self._undecided: dict[int, tuple[socket.socket, int, float]] = {}
        """Connections that got `Offers` and have not answered, by descriptor: socket, process, deadline."""
        self._wake_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.setblocking(False)
        name = f"{control.join_socket_prefix(os.geteuid())}{os.getpid()}-{dataflow_id}"
        self._listening.bind(f"\0{name}")
        self._listening.listen(_MAX_UNDECIDED)
        self._thread = threading.Thread(target=self._run, name="dora-join-socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Closes the socket and ends the thread."""
        os.eventfd_write(self._wake_descriptor, 1)
        # Join first: a descriptor that is closed under the thread's poll could be reused by another file.
        self._thread.join()
        self._close_descriptors()

    def close_in_fork(self) -> None:
        """Closes the copies that a forked process has inherited."""
        # With the listening socket open there, its name would stay taken after the kernel's end, and a
        # process that joins would wait for an answer in vain.
        self._close_descriptors()

    def _run(self) -> None:
        while True:
            ready = self._wait()
            if self._wake_descriptor in ready:
                return
            for descriptor in ready:
                if descriptor == self._listening.fileno():
                    self._accept_connection()
                elif descriptor in self._undecided:
                    self._read_answer(descriptor)
            now_secs = time.monotonic()
            for descriptor, (_, _, deadline_secs) in list(self._undecided.items()):
                if now_secs >= deadline_secs:
                    self._drop(descriptor)

    def _wait(self) -> set[int]:
        poller = select.poll()
        for descriptor in (self._wake_descriptor, self._listening.fileno(), *self._undecided):
            poller.register(descriptor, select.POLLIN)
        deadlines_secs = [each[2] for each in self._undecided.values()]
        millis = max(0.0, min(deadlines_secs) - time.monotonic()) * 1e3 if deadlines_secs else None
        return {descriptor for descriptor, _ in poller.poll(millis)}

    def _accept_connection(self) -> None:
        # Any error concerns this connection only: the thread goes on for the others.
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            process_id = control.peer_of_same_user(connection)
            if process_id is None or len(self._undecided) >= _MAX_UNDECIDED:
                connection.close()
                return
            # Non-blocking: a peer that does not read must not hold up the thread.
            connection.setblocking(False)
            offers = control.Offers(
                control.PROTOCOL_VERSION, os.getpid(), _folder(), self._offers()
            )
            deadline_secs = time.monotonic() + _JOIN_TIMEOUT_SECS
            self._undecided[connection.fileno()] = (connection, process_id, deadline_secs)
            connection.send(control.encode(offers))

    def _read_answer(self, descriptor: int) -> None:
        connection, process_id, _ = self._undecided[descriptor]
        try:
            received = control.receive_greeting(connection)
        except (OSError, ValueError):
            received = None
        if received is None or not isinstance(received[0], control.Join):
            self._drop(descriptor)
            return
        refusal = self._accept(received[0].name, connection, process_id)
        if refusal is None:
            # The connection is the process's control socket now, and belongs to its supervisor.
            del self._undecided[descriptor]
            return
        with contextlib.suppress(OSError):
            connection.send(control.encode(control.Refused(refusal)))
        self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._undecided.pop(descriptor)[0].close()

    def _close_descriptors(self) -> None:
        for descriptor in list(self._undecided):
            self._drop(descriptor)
        self._listening.close()
        os.close(self._wake_descriptor)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # The folder has been removed.
        return "?"
