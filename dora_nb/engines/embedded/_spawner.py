"""Starts every process of a session, from one thread that lives as long as the session.

The parent-death signal of a process follows the *thread* that started it (prctl(2)): a supervisor
that ended would take its operators along. So all are started here, or were by the thread of `_spares`,
and nothing that goes wrong with one may end this thread. The warden is started first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import sys
import threading
from concurrent.futures import Future

from dora_nb.errors import EngineError
from dora_nb.graph.nodes import NodeSpec

from ..orphan_reaper import OrphanReaper
from ..os_errors import engine_error
from ._launch import Launched, environment_of, launch
from ._process import OperatorProcess
from ._spares import SPARES


class Spawner:
    """The spawning thread and the warden. `close` it when every process has ended."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[NodeSpec, Future[Launched]] | None] = (
            queue.SimpleQueue()
        )
        self._started: set[str] = set()
        with contextlib.ExitStack() as undo:
            waiting = SPARES.hold()
            undo.callback(SPARES.release, 0)
            self._reaper = waiting or OrphanReaper()
            undo.callback(self._reaper.close)
            self._thread = threading.Thread(target=self._run, name="dora-spawner", daemon=True)
            self._thread.start()
            undo.pop_all()

    def spawn(self, spec: NodeSpec) -> Launched:
        """A new process that waits to be told what it is, and the descriptor of its counters.

        The descriptor is the caller's to close. Blocks for the system's part of starting a process;
        raises EngineError.
        """
        result: Future[Launched] = Future()
        self._requests.put((spec, result))
        return result.result()

    def forget(self, process: OperatorProcess) -> None:
        """That process was reaped; the warden need not know it any more."""
        self._reaper.unwatch(process.process_id)

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
        self._reaper.close()
        SPARES.release(len(self._started))

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

    def _start(self, spec: NodeSpec) -> Launched:
        self._started.add(spec.name)
        launched = SPARES.take(spec)
        if launched is None:
            launched = launch(spec.python, spec.working_dir, environment_of(spec))
        process, counters_descriptor = launched
        try:
            self._reaper.watch(process.process_id)
        except BaseException:
            process.kill()
            process.reap()
            process.close()
            os.close(counters_descriptor)
            raise
        return launched


def _explain(spec: NodeSpec, error: OSError | ValueError) -> EngineError:
    """Why no process could be started: mostly what `--python`, `--env` or the folder say."""
    python = spec.python or sys.executable
    cannot = f"{spec.name} cannot be started"
    if isinstance(error, ValueError):
        return EngineError(f"{cannot}: {error}.", hint="Check --env and --python.")
    if error.filename == spec.working_dir:
        return EngineError(
            f"{cannot}: its working folder '{spec.working_dir}' does not exist or cannot be entered.",
            hint="Run its cell again from a folder that exists.",
        )
    if isinstance(error, FileNotFoundError):
        return EngineError(f"{cannot}: '{python}' does not exist.", hint="Check --python.")
    if isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
        return EngineError(
            f"{cannot}: '{python}' is not an executable program.", hint="Check --python."
        )
    return engine_error(cannot, error)
