"""A dynamic node: a process of the user's own that joins a notebook's dataflow and leaves it again.

Nothing of the process is changed for it, unlike in those that the engine starts: it keeps its name, its
streams, its modules, and lives on when the kernel is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dora_nb.protocol import control

from . import _life
from ._script import Script
from .user_code import KernelGoneError

_GREETING_SECS = 5.0
_RELEASE_SECS = 1.0


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A kernel that lets nodes join, and which nodes."""

    connection: socket.socket
    offers: control.Offers

    def __str__(self) -> str:
        return f"kernel {self.offers.kernel_process_id} in {self.offers.folder}"


class Joined(Script):
    """What a `Node` runs on in a process that has joined: a script that may leave. Any thread may call it."""

    def __init__(self, control_socket: socket.socket, name: str) -> None:
        super().__init__(control_socket)
        self._left = False
        self._control_failed = False
        control_socket.send(control.encode(control.Join(name)))
        received = control.receive_greeting(control_socket)
        if received is None:
            raise RuntimeError(f"the kernel ended before '{name}' could join")
        answer, descriptors = received
        if isinstance(answer, control.Refused):
            raise RuntimeError(answer.text)
        assert isinstance(answer, control.Begin)
        self.process.learn(answer, descriptors)
        os.close(self.process.source_descriptor)
        control_socket.settimeout(None)
        self._start_serving()

    def leave(self) -> None:
        """Ends the node: the others see its outputs close. Called twice it does nothing."""
        process = self.process
        if process.is_forked:  # The process that has joined is still there.
            return
        with process.inputs_changed:
            if self._left:
                return
            self._left = True
            # Before anything is closed: other threads may be about to send.
            self.send_output = self._refuse_to_send
        self._stop_serving()
        self._at_end = True
        with contextlib.suppress(KernelGoneError, OSError):
            if not self._control_failed:
                _life.end(self, control.Finished(inputs_closed=self._inputs_have_closed))
                # The next process that joins finds the place free.
                process.wait_for_kernel_to_leave(_RELEASE_SECS)
        self._wake_readers()
        process.close_ends()

    def __del__(self) -> None:
        # Not in `leave`: threads may wait on these for as long as any of them has the node.
        self._to_read.close()
        os.close(self._changed)
        self.process.close_pollers()

    def _refuse_to_send(
        self, output: str, data: Any, metadata: dict[str, Any] | None = None
    ) -> None:
        raise RuntimeError(f"'{self.process.name}' has left its dataflow")

    # Both end the node, never the process, and leave its streams alone: it is the user's own.

    def _note_kernel_gone(self) -> None:
        self._kernel_gone = self.process.stopping = self._control_failed = True
        self._wake_readers()

    def _note_serving_failed(self, error: Exception) -> None:
        if isinstance(error, OSError):  # The socket: the kernel's end is gone, or broken.
            self._note_kernel_gone()
            return
        _life.report_failure(self.process, _life.internal_failure(error))
        self.process.stopping = self._control_failed = True
        self._wake_readers()


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
        f"no running dataflow has a dynamic node '{name}'; {found}. Declare it there with "
        f"%dora_node {name} dynamic or add_node({name!r}, path='dynamic'), and start the dataflow"
    )


def _check_version(kernel: _Kernel) -> None:
    """Raises RuntimeError where the two use different protocols: this process has a venv of its own."""
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
    """The kernel at that socket; None where no kernel of this user answers."""
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
