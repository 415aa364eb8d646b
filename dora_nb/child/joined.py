"""A dynamic node: a process of the user's own that joins a notebook's dataflow and leaves it again.

Nothing of the process is changed for it, unlike in those that the engine starts: it keeps its name, its
streams, its modules, and lives on when the kernel is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dora_nb.protocol import control

from ._script import Script
from .user_code import KernelGoneError

_GREETING_SECS = 5.0
_RELEASE_SECS = 1.0


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A kernel that has opened its door, and what it offers."""

    connection: socket.socket
    offers: control.Offers

    def __str__(self) -> str:
        return f"kernel {self.offers.kernel_process_id} in {self.offers.folder}"


class Joined(Script):
    """What a `Node` stands on in a process that has joined. Any thread may call it."""

    def __init__(self, control_socket: socket.socket, name: str) -> None:
        super().__init__(control_socket)
        self._gone = threading.Event()
        control_socket.send(control.encode(control.Join(name)))
        received = control.receive_greeting(control_socket)
        if received is None:
            raise RuntimeError(f"the kernel ended while '{name}' was to join")
        answer, descriptors = received
        if isinstance(answer, control.Refused):
            raise RuntimeError(answer.text)
        assert isinstance(answer, control.Begin)
        os.close(self._learn(answer, descriptors))
        control_socket.settimeout(None)
        self._keeper = threading.Thread(target=self._keep, name="dora-keeper", daemon=True)
        self._serving_thread = 0
        self._keeper.start()

    def leave(self) -> None:
        """Ends the node: the others see its outputs close. Called twice it does nothing."""
        with self._inputs_changed:
            if self._dismissed:
                return
            self._dismissed = True
        os.eventfd_write(self._overflowed, 1)
        self._keeper.join()
        self._serving_thread = threading.get_ident()
        self._at_end = True
        with contextlib.suppress(KernelGoneError, OSError):
            if not self._gone.is_set():
                self._end(control.Finished(inputs_closed=self._inputs_have_closed))
                self._await_release()
        self._wake_readers()
        self._control.close()
        with self._inputs_changed:
            for _, reader in self._inputs.values():
                reader.close()
            self._inputs.clear()
        for _, edge in self._readers.values():
            edge.close()
        self._readers.clear()
        for output in self._outputs.values():
            output.arena.close()
        self._outputs.clear()

    def _await_release(self) -> None:
        """Until the kernel has let go: whoever wants to join next finds the place free."""
        self._control.shutdown(socket.SHUT_WR)
        self._control.settimeout(_RELEASE_SECS)
        while (received := control.receive_in_process(self._control)) is not None:
            for descriptor in received[1]:
                os.close(descriptor)

    def __del__(self) -> None:
        """Somebody may wait on these until nobody has the node any more."""
        self._to_read.close()
        self._control_poller.close()
        for descriptor in (self._changed, self._overflowed):
            os.close(descriptor)

    def send_output(self, output: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        self._check_is_there()
        super().send_output(output, data, metadata)

    def _keep(self) -> None:
        self._serving_thread = threading.get_ident()
        try:
            while not self._dismissed:
                self._wait_until_ready(None)
                self._wake_readers()
        except (KernelGoneError, OSError):
            self._kernel_gone = self._stopping = True
            self._gone.set()
            self._wake_readers()
        except Exception as error:
            self._report_internal_failure(error)
            self._stopping = True
            self._gone.set()
            self._wake_readers()

    def _check_is_there(self) -> None:
        if self._dismissed:
            raise RuntimeError(f"'{self._name}' has left its dataflow")


def join(name: str, *, kernel_process_id: int | None) -> Joined:
    """Joins as the dynamic node of that name, in whichever kernel of this user declares it.

    RuntimeError, with the candidates, where there is none or more than one.
    """
    kernels = _kernels()
    try:
        chosen = _choose(kernels, name, kernel_process_id)
        kernels.remove(chosen)
        return Joined(chosen.connection, name)
    finally:
        for kernel in kernels:
            kernel.connection.close()


def _choose(kernels: list[_Kernel], name: str, kernel_process_id: int | None) -> _Kernel:
    wanted = [
        each for each in kernels if kernel_process_id in (None, each.offers.kernel_process_id)
    ]
    having = [each for each in wanted if name in each.offers.nodes]
    free = [each for each in having if not each.offers.nodes[name]]
    if len(free) == 1:
        _check_version(free[0])
        return free[0]
    if len(free) > 1:
        raise RuntimeError(
            f"several kernels declare a dynamic node '{name}': {'; '.join(map(str, free))}. Choose one: "
            f"Node('{name}', kernel_process_id={free[0].offers.kernel_process_id})"
        )
    if having:
        raise RuntimeError(f"another process has joined as '{name}' already ({having[0]})")
    offered = [f"{', '.join(each.offers.nodes) or 'none'} ({each})" for each in wanted]
    found = f"there are: {'; '.join(offered)}" if offered else "no kernel of yours declares any"
    raise RuntimeError(
        f"no running dataflow has a dynamic node '{name}'; {found}. Declare it with "
        f"%dora_node {name} dynamic, and start the dataflow"
    )


def _check_version(kernel: _Kernel) -> None:
    """What the two would say to each other means the same to both. This process has a venv of its own."""
    if kernel.offers.protocol_version != control.PROTOCOL_VERSION:
        raise RuntimeError(
            f"{kernel} runs another version of dora_nb than this process: install the same one in both"
        )


def _kernels() -> list[_Kernel]:
    """Every kernel of this user that lets nodes join now."""
    prefix = f"@{control.join_socket_prefix(os.geteuid())}"
    table = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    names = {line.rpartition(" ")[2] for line in table.splitlines() if f" {prefix}" in line}
    found = [_greeted(name[1:]) for name in sorted(names)]
    return [kernel for kernel in found if kernel is not None]


def _greeted(name: str) -> _Kernel | None:
    """None where nobody answers, or somebody who is not this user."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(_GREETING_SECS)
    try:
        connection.connect(f"\0{name}")
        same_user = control.peer_of_same_user(connection) is not None
        received = control.receive_greeting(connection)
        if same_user and received is not None and isinstance(received[0], control.Offers):
            return _Kernel(connection, received[0])
    except (OSError, ValueError):
        pass
    connection.close()
    return None
