"""A coordinator and a daemon of our own, on free ports of the loopback interface.

Everything that they write is in one private folder, so two notebooks never meet. They end with
`close`, and when the kernel is gone by the warden: first by the words of `_cleanup`, which lets the
nodes have their STOP, then with their sessions.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from dora_nb.errors import EngineError

from ..environment import kernel_environment
from ..orphan_reaper import OrphanReaper, kill_session
from . import _files
from ._cleanup_program import PROGRAM as CLEANUP_PROGRAM
from ._cleanup_program import remove_orphaned_segments
from ._program import Coordinator, Dora, find_program, plain_environment

LONGEST_START_SECS = 20.0
_END_SECS = 1.0
_TRIES = 3
"""Somebody may take a port between our look for a free one and the program's use of it."""
_KEPT_LINES = 20
DATAFLOW_NAME = "notebook"


class Cluster:
    """Both programs, from construction to `close`. Blocks until they know each other.

    `on_end` is called, on a thread of ours, when one of them ends that was not told to.
    Raises EngineError.
    """

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._closing = False
        self._programs: dict[str, _Program] = {}
        self._last_output = ""
        self._cleanup: list[str] | None = None
        program = find_program()
        with contextlib.ExitStack() as undo:
            self._reaper = OrphanReaper()
            undo.callback(self._reaper.close)
            self.folder = Path(tempfile.mkdtemp(prefix="dora-nb-"))
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._environment = self._make_environment()
            undo.callback(self._end_programs)
            coordinator = self._start_coordinator(program)
            self.dora = Dora(program, coordinator, self._environment)
            self.daemon_port = self._start_daemon()
            self._undo = undo.pop_all()

    def stop_at_exit(self, dataflow: str) -> None:
        """From now on that dataflow is stopped first when the kernel is gone."""
        sessions = ",".join(str(each.session_id) for each in self._programs.values())
        stop = self.dora.command("stop", dataflow, "--grace-duration=1s")
        self._cleanup = [
            sys.executable,
            "-I",
            "-S",
            CLEANUP_PROGRAM,
            str(self.folder),
            sessions,
            *stop,
        ]
        self._reaper.run_at_exit(self._cleanup)

    def watch(self, session_id: int) -> None:
        """That session ends with the kernel too."""
        self._reaper.watch(session_id)

    def unwatch(self, session_id: int) -> None:
        """That session is no more."""
        self._reaper.unwatch(session_id)

    def close(self) -> None:
        """Ends both programs and whatever nodes are left, and removes all that they wrote."""
        self._closing = True
        if self._cleanup is not None:
            self._reaper.cancel_at_exit(self._cleanup)
        self._undo.close()
        remove_orphaned_segments()

    # -- inside --------------------------------------------------------------------------------------

    def _make_environment(self) -> dict[str, str]:
        """What both programs find, and so all nodes: a daemon hands on its own."""
        programs = self.folder / "bin"
        programs.mkdir()
        _files.write_python(programs)
        environment = kernel_environment()
        environment["PATH"] = f"{programs}{os.pathsep}{environment.get('PATH', os.defpath)}"
        for name in ("DORA_COORDINATOR_ADDR", "DORA_COORDINATOR_PORT", "DORA_NODE_CONFIG"):
            environment.pop(name, None)
        return plain_environment(environment)

    def _start_coordinator(self, program: str) -> Coordinator:
        for _ in range(_TRIES):
            port = _free_port()
            words = ["coordinator", f"--port={port}", "--store=memory", "--interface=127.0.0.1"]
            if self._start("coordinator", [program, *words], ready_text=b"Listening on port"):
                return Coordinator("127.0.0.1", port)
        raise self._start_error("coordinator")

    def _start_daemon(self) -> int:
        for _ in range(_TRIES):
            port = _free_port()
            # Without multicast two notebooks' zenoh sessions do not see each other.
            words = ["daemon", f"--local-listen-port={port}", "--zenoh-no-multicast"]
            if self._start(
                "daemon", self.dora.command(*words), ready_text=b"Connected to dora-coord"
            ):
                return port
        raise self._start_error("daemon")

    def _start(self, role: str, command: Sequence[str], *, ready_text: bytes) -> bool:
        """Whether the program came up: it has said what is to be ready_text of it."""
        environment = self._environment
        if role == "coordinator":
            # It leaves a folder for artifacts in there. Nodes, which have the daemon's variables, go on
            # with the user's.
            environment = environment | {"TMPDIR": str(self.folder)}
        program = _Program(role, command, environment, self.folder, ready_text)
        self._programs[role] = program
        self._reaper.watch(program.session_id)
        came_up = program.wait_until_up()
        if came_up:
            program.watch(self._ended)
        else:
            self._end_program(role)
        return came_up

    def _start_error(self, role: str) -> EngineError:
        return EngineError(
            f"dora's {role} did not start: {self._last_output or 'it printed nothing'}.",
            hint=f"Run `dora {role}` in a terminal to see what is wrong.",
        )

    def _ended(self, program: _Program) -> None:
        if not self._closing:
            self._on_end(f"dora's {program.role} ended unexpectedly ({program.exit_text()})")

    def _end_programs(self) -> None:
        for role in reversed(list(self._programs)):
            self._end_program(role)

    def _end_program(self, role: str) -> None:
        program = self._programs.pop(role)
        program.end()
        self._last_output = program.last_output()
        self._reaper.unwatch(program.session_id)


class _Program:
    """One program in a session of its own, what it says read by a thread until it ends."""

    def __init__(
        self,
        role: str,
        command: Sequence[str],
        environment: dict[str, str],
        folder: Path,
        ready_text: bytes,
    ) -> None:
        self.role = role
        self._popen = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.session_id = self._popen.pid
        self._ready_text = ready_text
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._changed = threading.Condition()
        self._up = self._exited = False
        self._on_end: Callable[[_Program], None] | None = None
        self._thread = threading.Thread(target=self._read, name=f"dora-{role}", daemon=True)
        self._thread.start()

    def wait_until_up(self) -> bool:
        """Whether it said that it is up, before it ended and before the time was over."""
        with self._changed:
            self._changed.wait_for(lambda: self._up or self._exited, LONGEST_START_SECS)
            return self._up and not self._exited

    def watch(self, on_end: Callable[[_Program], None]) -> None:
        """Calls that once, with this, when it has ended."""
        with self._changed:
            self._on_end = on_end
            exited = self._exited
        if exited:
            on_end(self)

    def last_output(self) -> str:
        """The end of what it said, in one line."""
        return " / ".join(list(self._lines)[-3:])

    def exit_text(self) -> str:
        """How it has ended."""
        status = self._popen.returncode
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name

    def end(self) -> None:
        """SIGTERM, a second, and SIGKILL to its session. Blocks until all of it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.session_id, signal.SIGTERM)
        with self._changed:
            self._changed.wait_for(lambda: self._exited, _END_SECS)
        kill_session(self.session_id)
        self._thread.join()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as output:
            for line in output:
                self._lines.append(line.decode(errors="replace").strip()[:300])
                if self._ready_text in line:
                    self._set(up=True)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.session_id, os.WEXITED | os.WNOWAIT)
        # Nodes outlive their daemon. Not reaped yet, its id is no other session's.
        kill_session(self.session_id)
        self._popen.wait()
        self._set(exited=True)
        if self._on_end is not None:
            self._on_end(self)

    def _set(self, *, up: bool = False, exited: bool = False) -> None:
        with self._changed:
            self._up |= up
            self._exited |= exited
            self._changed.notify_all()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
