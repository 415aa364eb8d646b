"""Starts every process of a session, from one thread that lives as long as the session.

The parent-death signal of a process is sent when the *thread* that started it ends (prctl(2)): if a
supervisor started its operator, the end of the supervisor's thread would end the operator. So this thread,
or the thread of `_spares`, starts all processes, and no error of one start may end it. The orphan reaper is
started first.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import queue
import sys
import threading
from concurrent.futures import Future

from dora_nb.errors import EngineError
from dora_nb.graph.nodes import NodeSpec
from dora_nb.how_to import how_to

from ..orphan_reaper import OrphanReaper
from ..os_errors import engine_error
from ._launch import Launched, environment_of, launch
from ._process import OperatorProcess
from ._spares import SPARES


class Spawner:
    """The spawning thread and the orphan reaper. `close` it after every process has ended."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[NodeSpec, Future[Launched]] | None] = (
            queue.SimpleQueue()
        )
        self._started: set[str] = set()
        with contextlib.ExitStack() as undo:
            # Hold the pool before anything else: its thread has started the spares, and a spare that becomes
            # an operator would end with that thread.
            waiting = SPARES.hold()
            undo.callback(SPARES.release, 0)
            # The reaper before the first process: if the kernel is killed between the two, a process with
            # no reaper could leave children behind.
            self._reaper = waiting or OrphanReaper()
            undo.callback(self._reaper.close)
            self._thread = threading.Thread(target=self._run, name="dora-spawner", daemon=True)
            self._thread.start()
            undo.pop_all()

    def spawn(self, spec: NodeSpec) -> Launched:
        """Returns a new process that waits for `Begin`, and the descriptor of its counters.

        The caller closes the descriptor. Blocks while the system starts the process. Raises EngineError.
        """
        result: Future[Launched] = Future()
        self._requests.put((spec, result))
        return result.result()

    def discard(self, process: OperatorProcess) -> None:
        """Ends a process that has not received `Begin`."""
        # It runs no code of the user's yet, so there is nothing that STOP could save.
        process.reap()
        process.close()

    def close(self) -> None:
        """Ends the thread and the orphan reaper."""
        self._requests.put(None)
        self._thread.join()
        # The reaper last: until the thread has ended, it may still start a process.
        self._reaper.close()
        SPARES.release(len(self._started))

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            spec, result = request
            try:
                result.set_result(self._start(spec))
            except (OSError, ValueError) as error:
                result.set_exception(_explain(spec, error))
            # BaseException too: with this thread, all operators of the session would end.
            except BaseException as error:
                result.set_exception(error)
            # While the thread waits, its variables must not keep a process alive that belongs to a
            # supervisor.
            del request, spec, result

    def _start(self, spec: NodeSpec) -> Launched:
        self._started.add(spec.name)
        launched = SPARES.take(spec)
        if launched is None:
            launched = launch(spec.python, spec.working_dir, environment_of(spec))
        process, counters_descriptor = launched
        # Only now, since the session's id is the process's. Until then only the parent-death signal ends it;
        # it has not received `Begin`, so it has not started children.
        try:
            self._reaper.watch(process.process_id, process.cookie)
        except BaseException:
            process.reap()
            process.close()
            os.close(counters_descriptor)
            raise
        process.when_reaped = functools.partial(self._reaper.unwatch, process.process_id)
        return launched


def _explain(spec: NodeSpec, error: OSError | ValueError) -> EngineError:
    """Returns the error for a failed start: mostly `--python`, `--env` or the folder is wrong."""
    python = spec.python or sys.executable
    cannot = f"{spec.name} cannot be started"
    if isinstance(error, ValueError):
        return EngineError(
            f"{cannot}: {error}.",
            hint=f"Check {how_to('environment')} and {how_to('interpreter')}.",
        )
    if error.filename == spec.working_dir:
        return EngineError(
            f"{cannot}: its working folder '{spec.working_dir}' does not exist or cannot be entered.",
            hint="Run its cell again from a folder that exists.",
        )
    if isinstance(error, FileNotFoundError):
        return EngineError(
            f"{cannot}: '{python}' does not exist.", hint=f"Check {how_to('interpreter')}."
        )
    if isinstance(error, PermissionError) or error.errno == errno.ENOEXEC:
        return EngineError(
            f"{cannot}: '{python}' is not an executable program.",
            hint=f"Check {how_to('interpreter')}.",
        )
    return engine_error(cannot, error)
