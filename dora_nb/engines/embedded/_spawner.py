"""Starts every process of a session, from one thread that lives as long as the session.

The parent-death signal of a process follows the *thread* that started it (prctl(2)): a supervisor
that ended would take its operators along. So all are started here, and nothing that goes wrong with
one may end this thread. The warden is started first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future

from ... import metrics
from ...errors import EngineError
from ...graph import NodeSpec
from ..shortage import engine_error
from ..warden import Warden, kill_session
from ._process import ControlSocket, OperatorProcess

_PROGRAM = os.path.normpath(os.path.join(os.path.dirname(__file__), "../../child/program.py"))


class Spawner:
    """The spawning thread and the warden. `close` it when every process has ended."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[
            tuple[NodeSpec, Future[tuple[OperatorProcess, int]]] | None
        ] = queue.SimpleQueue()
        self._warden = Warden()
        self._thread = threading.Thread(target=self._run, name="dora-spawner", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._warden.close()
            raise

    def spawn(self, spec: NodeSpec) -> tuple[OperatorProcess, int]:
        """A new process that waits to be told what it is, and the descriptor of its counters.

        The descriptor is the caller's to close. Blocks for the system's part of starting a process;
        raises EngineError.
        """
        result: Future[tuple[OperatorProcess, int]] = Future()
        self._requests.put((spec, result))
        return result.result()

    def forget(self, process: OperatorProcess) -> None:
        """That process was reaped; the warden need not know it any more."""
        self._warden.forget(process.process_id)

    def discard(self, process: OperatorProcess) -> None:
        """Ends a process that nobody has told anything yet."""
        process.kill()
        process.reap()
        self.forget(process)
        process.close()

    def close(self) -> None:
        """Ends the thread and the warden."""
        self._requests.put(None)
        self._thread.join()
        self._warden.close()

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            spec, result = request
            try:
                result.set_result(self._start(spec))
            except (OSError, ValueError) as error:
                result.set_exception(_explain(spec, error))
            except BaseException as error:
                result.set_exception(error)
            # A process is its supervisor's, and goes with it.
            del request, spec, result

    def _start(self, spec: NodeSpec) -> tuple[OperatorProcess, int]:
        with contextlib.ExitStack() as undo:
            counters = metrics.new_counters_page()
            undo.callback(os.close, counters)
            control = ControlSocket()
            undo.callback(control.close)
            assert control.other_end is not None
            popen = subprocess.Popen(
                [spec.python or sys.executable, _PROGRAM, str(control.other_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[control.other_end.fileno()],
                start_new_session=True,
                cwd=spec.working_dir,
                env=_environment(spec),
            )
            undo.callback(_end, popen)
            control.other_end.close()
            self._warden.look_after(popen.pid)
            process = OperatorProcess(popen, control, counters)
            undo.pop_all()
        return process, counters


def _end(popen: subprocess.Popen[bytes]) -> None:
    kill_session(popen.pid)
    popen.wait()
    for pipe in (popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()


def _environment(spec: NodeSpec) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    # ipykernel points matplotlib at its own backend, which draws into cells; an operator has none.
    if environment.get("MPLBACKEND", "").startswith("module://"):
        environment["MPLBACKEND"] = "agg"
    environment.update(spec.env)
    return environment


def _explain(spec: NodeSpec, error: OSError | ValueError) -> EngineError:
    """Why no process could be started: mostly what `--python`, `--env` or the folder say."""
    python = spec.python or sys.executable
    cannot = f"{spec.name} cannot be started"
    if isinstance(error, ValueError):
        return EngineError(f"{cannot}: {error}.", hint="Correct --env or --python.")
    if error.filename == spec.working_dir:
        return EngineError(
            f"{cannot}: its folder '{spec.working_dir}' is gone, or cannot be entered.",
            hint="Declare it again from a folder that exists.",
        )
    if isinstance(error, FileNotFoundError):
        return EngineError(f"{cannot}: there is no '{python}'.", hint="Correct --python.")
    if isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
        return EngineError(
            f"{cannot}: '{python}' is no program that can be run.", hint="Correct --python."
        )
    return engine_error(cannot, error)
