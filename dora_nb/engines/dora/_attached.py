"""A dataflow that was started elsewhere and is only watched: never stopped or changed from here.

The notebook adds subscribers to it, nodes that join and leave again. If the kernel is killed, the orphan
reaper calls `dora` to remove them.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterable

from dora_nb.leftovers import end_leftovers

from ..capture import LineSplitter
from ..control_board import ControlBoard
from ..embedded import Listener
from ..orphan_reaper import OrphanReaper
from . import _log_lines
from ._node_states import NodeState, NodeStates
from ._params import Params
from ._program import Coordinator, Dora, find_program
from ._remote import SUBSCRIBER_PREFIX, RunningDataflow, find_dataflow
from ._run import Run
from ._subscribers import Subscribers

_READ_SIZE = 1 << 16


class AttachedSession(Run):
    """The notebook's view of a dataflow that was started elsewhere, from `open` to `close`."""

    _cannot_open = "cannot watch the dataflow"

    def __init__(
        self,
        dora: Dora,
        running: RunningDataflow,
        listeners: Iterable[Listener],
        *,
        daemon_port: int,
        on_change: Callable[[], None],
        controls: ControlBoard,
    ) -> None:
        super().__init__(running.graph, listeners, on_change=on_change, controls=controls)
        self._dora = dora
        self._dataflow = running.uuid
        self._daemon_port = daemon_port
        self._declared_subscribers = running.subscribers
        self._node_states = NodeStates(
            {name: NodeState(state, was_ready=True) for name, state in running.states.items()},
            messages_flow=True,
        )
        self.names: tuple[str, ...] = (running.name, running.uuid)
        self.belongs_to: str | None = f"'{running.name}' at {dora.coordinator}"
        self.edit_refusal: str | None = (
            f"the notebook only watches {self.belongs_to}; change it where it was started"
        )

    def _open(self) -> None:
        self._reaper = OrphanReaper()
        self._to_close.callback(self._reaper.close)
        self._params = Params(self._dora, self._dataflow)
        self._follower = _Follower(self._dora, self._dataflow, self)
        self._reaper.watch(self._follower.session_id)
        self._to_close.callback(self._reaper.unwatch, self._follower.session_id)
        self._to_close.callback(self._follower.close)
        self._started = True
        self._follower.start()
        if self._listeners:
            self._worker.post(self._subscribe_after_the_start)
        self._worker.post(self._send_controls)

    def _new_subscribers(self) -> Subscribers:
        # A random part in the name: several notebooks may watch one dataflow.
        return Subscribers(
            self._dora,
            self._dataflow,
            daemon_port=self._daemon_port,
            prefix=f"{SUBSCRIBER_PREFIX}-{secrets.token_hex(3)}",
            note=self.note,
            on_failure=self._subscribe_again,
            reaper=self._reaper,
            declared=self._declared_subscribers,
        )

    def _port_to_join(self) -> int:
        return self._daemon_port

    def _read_logs(self) -> None:
        """Does nothing: `dora logs` brings the nodes' output too."""

    def request_stop(self, *, grace_secs: float) -> None:
        raise AssertionError("stops are refused before this is called")

    def _ended(self) -> None:
        """Does nothing: the subscribers have ended with the dataflow."""

    def on_log_line(self, line: str) -> None:
        """Handles a line of ``dora logs``."""
        entry = _log_lines.read_json(line)
        if entry is None or (entry.node is None and not entry.by_dora):
            return
        if entry.by_dora:
            self.on_entry(entry)
        elif entry.node is not None:
            self.on_printed(entry)


class _Follower:
    """The program ``dora logs --follow`` and the thread that reads its output."""

    def __init__(self, dora: Dora, dataflow: str, session: AttachedSession) -> None:
        self._session = session
        command = dora.command(
            "logs", dataflow, "--follow", "--all-nodes", "--log-format=json", "--tail=0"
        )
        self._popen = subprocess.Popen(
            command,
            env=dora.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.session_id = self._popen.pid
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="dora-follower", daemon=True)

    def start(self) -> None:
        """Starts to read."""
        self._thread.start()

    def close(self) -> None:
        """Ends the program and the thread."""
        self._closing = True
        end_leftovers([self.session_id])
        if self._thread.ident is not None:
            self._thread.join()
        self._popen.wait()
        assert self._popen.stdout is not None
        self._popen.stdout.close()

    def _run(self) -> None:
        assert self._popen.stdout is not None
        output_descriptor, splitter = self._popen.stdout.fileno(), LineSplitter()
        while data := os.read(output_descriptor, _READ_SIZE):
            for line in splitter.feed(data):
                self._session.on_log_line(line)
        if not self._closing:
            self._session.on_end("the output of `dora logs` has ended")


def attach(
    wanted: str | None,
    coordinator: Coordinator,
    listeners: Iterable[Listener],
    *,
    daemon_port: int,
    on_change: Callable[[], None],
    controls: ControlBoard,
) -> tuple[RunningDataflow, AttachedSession]:
    """Returns that dataflow and a session on it, which is not open yet. Raises as `find_dataflow`."""
    dora = Dora(find_program(), coordinator)
    running = find_dataflow(dora, wanted)
    session = AttachedSession(
        dora,
        running,
        listeners,
        daemon_port=daemon_port,
        on_change=on_change,
        controls=controls,
    )
    return running, session
