"""The dynamic nodes of a session: lets processes of the same user join as them, on the join socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping

from dora_nb.errors import EngineError
from dora_nb.protocol import counters

from . import _lifecycle as lifecycle
from ._join_socket import JoinSocket
from ._process import ControlSocket, JoinedProcess
from ._supervisor import Supervisor

_REJOIN_TIMEOUT_SECS = 4.0
"""Longer than a stop with all its steps takes."""


class DynamicNodes:
    """Accepts processes that join, and keeps each until its supervisor takes it.

    `lock` and `changed` are those of the session; `supervisors` is its table, which `lock` guards.
    """

    def __init__(
        self,
        dataflow_id: str,
        supervisors: Mapping[str, Supervisor],
        *,
        lock: threading.RLock,
        changed: threading.Condition,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._dataflow_id = dataflow_id
        self._supervisors = supervisors
        self._lock = lock
        self._changed = changed
        self._is_stopping = is_stopping
        self._join_socket: JoinSocket | None = None
        self._joining: dict[str, tuple[JoinedProcess, int]] = {}
        """By node: the process and the descriptor of its counters, until its supervisor takes it."""

    def open_if_declared(self) -> None:
        """Opens the join socket, if a dynamic node is declared. Call it with the lock held."""
        # Not in every session: without dynamic nodes, no other process should find the kernel.
        dynamic = any(each.spec.kind == "dynamic" for each in self._supervisors.values())
        if dynamic and self._join_socket is None:
            self._join_socket = JoinSocket(self._dataflow_id, self._offers, self._accept)

    def take(self, name: str) -> tuple[JoinedProcess, int]:
        """Returns the process that joins as that node, and the descriptor of its counters.

        The caller owns both. Raises EngineError if none joins. Call it with the lock held.
        """
        joining = self._joining.pop(name, None)
        if joining is None:
            raise EngineError(f"no process has joined as {name}.")
        return joining

    def close(self) -> None:
        """Closes the join socket, so that no process can join any more. Call it without the lock."""
        if self._join_socket is not None:
            self._join_socket.close()

    def close_in_fork(self) -> None:
        """Closes the copies that a process forked from the kernel has inherited."""
        if self._join_socket is not None:
            self._join_socket.close_in_fork()

    # -- on the thread of the join socket --------------------------------------------------------------

    def _offers(self) -> dict[str, bool]:
        """Returns the dynamic nodes, and whether a process has already joined as each."""
        with self._lock:
            return {
                name: name in self._joining
                or (each.alive and each.life.phase is not lifecycle.Phase.ENDING)
                for name, each in self._supervisors.items()
                if each.spec.kind == "dynamic" and not self._is_stopping()
            }

    def _accept(self, name: str, connection: socket.socket, process_id: int) -> str | None:
        """Accepts a process as that node and takes over its connection; or returns why it refuses."""
        # The lock from the check to the end: two processes must not join as the same node.
        with self._lock:
            offers = self._offers()
            if name not in offers:
                return f"no dynamic node '{name}' is declared in that notebook"
            if offers[name]:
                return f"another process has already joined as '{name}'"
            # The previous process may have closed its end without having been reaped yet. The condition
            # releases the lock while it waits.
            earlier = self._supervisors[name]
            if not self._changed.wait_for(lambda: not earlier.alive, _REJOIN_TIMEOUT_SECS):
                return f"the process that joined as '{name}' before has not ended yet; try again"
            counters_descriptor = counters.new_counters_page()
            process = JoinedProcess(process_id, ControlSocket(connection), counters_descriptor)
            self._joining[name] = (process, counters_descriptor)
            self._supervisors[name].post(lifecycle.Start())
        return None
