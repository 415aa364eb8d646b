"""Starts every process of a session, from one thread that lives as long as the session.

The parent-death signal of a process follows the *thread* that started it (prctl(2)): a supervisor
that ended would take its operators along. So all are started here. The warden is started first.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future

from ... import metrics
from ...errors import EngineError
from ...graph import OperatorSpec
from ._process import ControlSocket, OperatorProcess

_PROGRAM = os.path.normpath(os.path.join(os.path.dirname(__file__), "../../child/program.py"))
_WARDEN = os.path.join(os.path.dirname(__file__), "_warden.py")


class Spawner:
    """The spawning thread and the warden. `close` it when every process has ended."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[
            tuple[OperatorSpec, Future[tuple[OperatorProcess, int]]] | None
        ] = queue.SimpleQueue()
        self._warden = subprocess.Popen(
            [sys.executable, "-I", "-S", _WARDEN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._run, name="dora-spawner", daemon=True)
        self._thread.start()

    def spawn(self, spec: OperatorSpec) -> tuple[OperatorProcess, int]:
        """A new process that waits to be told what it is, and the descriptor of its counters.

        The descriptor is the caller's to close. Blocks for the system's part of starting a process;
        raises EngineError.
        """
        result: Future[tuple[OperatorProcess, int]] = Future()
        self._requests.put((spec, result))
        return result.result()

    def forget(self, process: OperatorProcess) -> None:
        """That process was reaped; the warden need not know it any more."""
        self._tell_warden(f"-{process.process_id}\n")

    def close_in_fork(self) -> None:
        """In a process forked from the kernel: lets go of the warden, or it would never see the end."""
        assert self._warden.stdin is not None
        os.close(self._warden.stdin.fileno())

    def close(self) -> None:
        """Ends the thread and the warden."""
        self._requests.put(None)
        self._thread.join()
        assert self._warden.stdin is not None
        self._warden.stdin.close()
        self._warden.wait()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            spec, result = request
            try:
                result.set_result(self._start(spec))
            except OSError as error:
                result.set_exception(_explain(spec, error))

    def _start(self, spec: OperatorSpec) -> tuple[OperatorProcess, int]:
        control = ControlSocket()
        counters = metrics.new_counters_page()
        try:
            popen = subprocess.Popen(
                [spec.python or sys.executable, "-P", _PROGRAM, str(control.other_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[control.other_end.fileno()],
                start_new_session=True,
                cwd=spec.working_dir,
                env=_environment(spec),
            )
        except OSError:
            control.close()
            os.close(counters)
            raise
        control.other_end.close()
        self._tell_warden(f"+{popen.pid}\n")
        return OperatorProcess(popen, control, counters), counters

    def _tell_warden(self, line: str) -> None:
        assert self._warden.stdin is not None
        # Unbuffered by going to the descriptor: two threads use it, and a line is one write.
        os.write(self._warden.stdin.fileno(), line.encode())


def _environment(spec: OperatorSpec) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    # ipykernel points matplotlib at its own backend, which draws into cells; an operator has none.
    if environment.get("MPLBACKEND", "").startswith("module://"):
        environment["MPLBACKEND"] = "agg"
    environment.update(spec.env)
    return environment


def _explain(spec: OperatorSpec, error: OSError) -> EngineError:
    python = spec.python or sys.executable
    if isinstance(error, FileNotFoundError):
        missing = spec.working_dir if not os.path.isdir(spec.working_dir) else python
        return EngineError(
            f"{spec.name} cannot be started: there is no '{missing}'.",
            hint="Correct --python, or declare the operator again from a folder that exists.",
        )
    return EngineError(
        f"{spec.name} cannot be started with {python}: {error.strerror or error}.",
        hint="The system may be out of processes or file descriptors.",
    )
