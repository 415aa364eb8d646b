"""A coordinator and a daemon of our own, on free ports of the loopback interface.

All files that they write are in one private folder, so two notebooks never interfere. `close` ends them. If
the kernel is killed, the orphan reaper does: it starts the cleanup program, which lets the nodes handle
STOP, and then kills their sessions.
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
from dora_nb.leftovers import COOKIE, end_leftovers, has_child, new_cookie

from ..environment import kernel_environment
from ..orphan_reaper import OrphanReaper
from . import _files
from ._cleanup_program import PROGRAM as CLEANUP_PROGRAM
from ._cleanup_program import remove_orphaned_segments
from ._program import Coordinator, Dora, find_program, plain_environment

START_TIMEOUT_SECS = 20.0
_TERM_GRACE_SECS = 1.0
FOLDER_PREFIX = "dora-nb-"
"""Of the private folder in which coordinator and daemon run, among the system's temporary files."""
_ATTEMPTS = 3
"""Another program may take a port between our search for a free one and its use."""
_KEPT_LINES = 20
DATAFLOW_NAME = "notebook"
TOKEN_VARIABLE = "DORA_AUTH_TOKEN"
_OF_ANOTHER_COORDINATOR = ("DORA_COORDINATOR_ADDR", "DORA_COORDINATOR_PORT", TOKEN_VARIABLE)
TOKEN_FILE = ".dora-token"
"""What the coordinator writes into its working directory; the programs of dora look there for it, too."""


class Cluster:
    """Both programs, from construction to `close`. The constructor blocks until they are connected.

    `on_end` is called, on a thread of its own, when one of them ends unexpectedly. Raises EngineError.
    """

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._closing = False
        self._programs: dict[str, _Program] = {}
        self._last_output = ""
        self._cleanup: list[str] | None = None
        self._cookie = new_cookie()
        """Marks the daemon's environment, and so all nodes and what they start."""
        program = find_program()
        # Undone in the opposite order: programs, folder, reaper. The reaper comes first and goes last, so that
        # at no moment a program runs without it.
        with contextlib.ExitStack() as undo:
            self._reaper = OrphanReaper()
            undo.callback(self._reaper.close)
            self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._environment = self._make_environment()
            undo.callback(self._end_programs)
            coordinator = self._start_coordinator(program)
            self.dora = Dora(program, coordinator, self._environment)
            self.daemon_port = self._start_daemon()
            self._undo = undo.pop_all()

    def stop_at_exit(self, dataflow: str) -> None:
        """From now on, if the kernel is killed, that dataflow is stopped before the programs are killed."""
        sessions = ",".join(str(each.session_id) for each in self._programs.values())
        stop = self.dora.command("stop", dataflow, "--grace-duration=1s")
        self._cleanup = [
            sys.executable,
            "-I",
            "-S",
            CLEANUP_PROGRAM,
            str(self.folder),
            sessions,
            self._cookie,
            *stop,
        ]
        self._reaper.run_at_exit(self._cleanup)

    def watch(self, session_id: int) -> None:
        """If the kernel is killed, that session is killed too."""
        self._reaper.watch(session_id, self._cookie)

    def unwatch(self, session_id: int) -> None:
        """Forgets that session, which has ended."""
        self._reaper.unwatch(session_id)

    def nodes_are_gone(self) -> bool:
        """Whether every process that the daemon has started has ended."""
        return not has_child(self._programs["daemon"].session_id)

    def kill_nodes(self) -> None:
        """Kills the nodes, and what they have started in any session."""
        end_leftovers([], [self._cookie], but=[self._programs["daemon"].session_id])

    def close(self) -> None:
        """Ends both programs and all nodes that are left; removes all files that they wrote."""
        # Before the programs end, or their end would be reported as unexpected.
        self._closing = True
        # Before the reaper is closed: at the end of its input it would run the cleanup program.
        if self._cleanup is not None:
            self._reaper.cancel_at_exit(self._cleanup)
        self._undo.close()
        remove_orphaned_segments()

    # -- inside --------------------------------------------------------------------------------------

    def _make_environment(self) -> dict[str, str]:
        """Returns the environment of both programs and of calls of `dora`. Nodes inherit the daemon's."""
        programs = self.folder / "bin"
        programs.mkdir()
        _files.write_python(programs)
        environment = kernel_environment()
        environment["PATH"] = f"{programs}{os.pathsep}{environment.get('PATH', os.defpath)}"
        # The user's variables for another coordinator or node must not reach ours.
        for name in (*_OF_ANOTHER_COORDINATOR, "DORA_NODE_CONFIG"):
            environment.pop(name, None)
        return plain_environment(environment)

    def _start_coordinator(self, program: str) -> Coordinator:
        for _ in range(_ATTEMPTS):
            port = _free_port()
            # Without --auth any user of this machine could make the daemon run code as this one.
            words = ["coordinator", f"--port={port}", "--store=memory", "--interface=127.0.0.1"]
            words.append("--auth")
            if self._start("coordinator", [program, *words], ready_text=b"Listening on port"):
                token = (self.folder / TOKEN_FILE).read_text(encoding="ascii").strip()
                # In the environment, since every user can read the command line of a process.
                self._environment[TOKEN_VARIABLE] = token
                return Coordinator("127.0.0.1", port)
        raise self._start_error("coordinator")

    def _start_daemon(self) -> int:
        for _ in range(_ATTEMPTS):
            port = _free_port()
            # Without multicast, the zenoh sessions of two notebooks do not find each other.
            words = ["daemon", f"--local-listen-port={port}", "--zenoh-no-multicast"]
            if self._start(
                "daemon", self.dora.command(*words), ready_text=b"Connected to dora-coord"
            ):
                return port
        raise self._start_error("daemon")

    def _start(self, role: str, command: Sequence[str], *, ready_text: bytes) -> bool:
        """Starts a program; returns whether it printed `ready_text`."""
        environment = self._environment
        if role == "coordinator":
            # The coordinator leaves a folder for artifacts in TMPDIR, and writes its token into the home too, where
            # it would replace that of another coordinator. Not for the daemon: nodes inherit its variables, and
            # must keep the user's.
            home = str(self.folder / "home")
            private = {"TMPDIR": str(self.folder), "HOME": home, "XDG_CONFIG_HOME": home}
            environment = environment | private
        else:
            environment = environment | {COOKIE: self._cookie}
        program = _Program(role, command, environment, self.folder, ready_text)
        self._programs[role] = program
        self._reaper.watch(program.session_id, self._cookie)
        # Report its end only once it is up: before, the caller tries another port.
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
        # The daemon before the coordinator, to which it is connected.
        for role in reversed(list(self._programs)):
            self._end_program(role)
        end_leftovers([], [self._cookie])

    def _end_program(self, role: str) -> None:
        program = self._programs.pop(role)
        program.end()
        self._last_output = program.last_output()
        self._reaper.unwatch(program.session_id)


class _Program:
    """One program in a session of its own, and the thread that reads its output until it ends."""

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
        """Waits until it is up; False if it ended before or did not get ready in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._up or self._exited, START_TIMEOUT_SECS)
            return self._up and not self._exited

    def watch(self, on_end: Callable[[_Program], None]) -> None:
        """Calls `on_end` once, with this program, when it has ended."""
        # It may have ended since `wait_until_up`: then the reading thread found no callback, and calls none.
        with self._changed:
            self._on_end = on_end
            exited = self._exited
        if exited:
            on_end(self)

    def last_output(self) -> str:
        """Returns the end of its output, in one line."""
        return " / ".join(list(self._lines)[-3:])

    def exit_text(self) -> str:
        """Returns how it has ended: its exit status or the signal."""
        status = self._popen.returncode
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name

    def end(self) -> None:
        """Sends SIGTERM and, after a second, SIGKILL to its session. Blocks until the session is empty."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.session_id, signal.SIGTERM)
        with self._changed:
            self._changed.wait_for(lambda: self._exited, _TERM_GRACE_SECS)
        end_leftovers([self.session_id])
        self._thread.join()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as output:
            for line in output:
                self._lines.append(line.decode(errors="replace").strip()[:300])
                if self._ready_text in line:
                    self._set(up=True)
        # Nodes outlive their daemon, so kill its session. First wait with WNOWAIT: the program has ended but is
        # not reaped, so its id, which is the session's, cannot belong to other processes yet.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.session_id, os.WEXITED | os.WNOWAIT)
        end_leftovers([self.session_id])
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
