"""Spare interpreters: started in the background, imports done, waiting for the operator they will run.

Importing numpy and pyarrow takes most of the time of an operator's start. A spare has done it. It receives
the environment and the working directory of its operator before the source. It is used only if the result
is the same as with a new process: the variables that libraries read on import, the folders of packages,
and what else a process inherits must be as they were when the spare started.

There is one pool for the whole kernel, so it survives a stop and a start. A thread of the pool starts the
spares. The parent-death signal of a process follows the *thread* that started it, so this thread lives as
long as any session. Nothing outlives the last session by more than `KEEP_SECS`.

An orphan reaper waits with the spares for the next session: started together with the session, it would
compete with the first operator for the processor.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import select
import site
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dora_nb.graph.nodes import NodeSpec
from dora_nb.leftovers import COOKIE
from dora_nb.protocol import control

from ..orphan_reaper import OrphanReaper
from ._launch import Launched, environment_of, launch
from ._process import OperatorProcess

KEEP_SECS = 60.0
"""How long spares wait after a stop, or a declaration, for the start that uses them."""
MAX_SPARES = 5
_VARIABLE = "DORA_NB_SPARES"
_QUIET_SECS = 1.0
"""No spare is started within this time of an operator's start: it would slow that start down."""
_POLL_SECS = 0.02
_MAX_ENVIRONMENT_BYTES = 60_000
"""So that the environment fits in one message of the control socket."""
_READ_AT_IMPORT = (
    "PYTHON", "LD_", "GLIBC_", "MALLOC_", "LANG", "LC_", "TZ", "HOME", "VIRTUAL_ENV", "OMP_", "GOMP_", "KMP_",
    "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "NPY_", "NUMPY_", "NUMEXPR_", "NUMBA_", "ARROW_",
    "CUDA", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "TORCH", "PYTORCH", "XLA_", "TF_", "OPENCV_",
)  # fmt: skip
"""Prefixes of variables that the loader, Python or a library reads only once."""


@dataclass(frozen=True)
class _Spare:
    process: OperatorProcess
    counters_descriptor: int
    fingerprint: Any


class Spares:
    """The pool of spares. Thread-safe; only `close` and `wait_warm` block."""

    def __init__(self) -> None:
        self._most = _number_from_environment(0)
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Spare] = []
        self._reaper: OrphanReaper | None = None
        self._wanted = 0
        self._not_before_secs = 0.0
        self._keep_until_secs = 0.0
        self._holders = 0
        self._closing = False
        self._thread: threading.Thread | None = None

    def allow(self) -> None:
        """Keeps spares from now on: in an interactive kernel, another start is likely.

        The variable DORA_NB_SPARES sets the largest number (0: none).
        """
        self._most = _number_from_environment(MAX_SPARES)

    def expect(self, number: int) -> None:
        """Announces that so many operators will probably be started soon."""
        with self._changed:
            self._want(number, time.monotonic() + _QUIET_SECS / 4)

    def hold(self) -> OrphanReaper | None:
        """Marks the begin of a session, which may use spares: the thread stays until its `release`.

        Returns the orphan reaper that waited for it, if there is one; the caller closes it.
        """
        with self._changed:
            self._holders += 1
            self._not_before_secs = time.monotonic() + _QUIET_SECS
            reaper, self._reaper = self._reaper, None
        return reaper

    def release(self, number: int) -> None:
        """Marks the end of a session of so many operators, which may be started again."""
        # Called when all processes of the session have ended: with the last holder the thread may end, and
        # with the thread each process that it has started.
        with self._changed:
            self._holders -= 1
            self._want(number, time.monotonic() + _QUIET_SECS / 4)

    def take(self, spec: NodeSpec) -> Launched | None:
        """Returns a spare that becomes that node's process; None if none fits."""
        with self._changed:
            self._not_before_secs = time.monotonic() + _QUIET_SECS
            if not self._most:
                return None
            self._closing = False
            self._ensure_thread()
            self._changed.notify_all()
            environment = environment_of(spec)
            size = len(control.encode(control.Adopt(environment, spec.working_dir)))
            if (
                spec.python is not None
                or size > _MAX_ENVIRONMENT_BYTES
                or not _can_be_entered(spec.working_dir)
                or not _is_utf8(spec.working_dir, *environment, *environment.values())
            ):
                return None
            spare = self._next_fitting(_fingerprint(environment))
        if spare is None:
            return None
        # Outside the lock, since the spare is out of the pool: only this caller knows it now.
        # The cookie that the spare was started with: what it starts inherits its environment of then or of now.
        environment[COOKIE] = spare.process.cookie
        spare.process.control.tell(control.Adopt(environment, spec.working_dir), [])
        return spare.process, spare.counters_descriptor

    def process_ids(self) -> list[int]:
        """Returns the process ids of the waiting spares."""
        with self._changed:
            return [spare.process.process_id for spare in self._waiting]

    def wait_warm(self, number: int, timeout_secs: float) -> bool:
        """Waits until so many spares have done their imports. False on a timeout."""
        deadline_secs = time.monotonic() + timeout_secs
        with self._changed:
            while sum(_is_warm(spare) for spare in self._waiting) < number:
                if time.monotonic() >= deadline_secs:
                    return False
                self._changed.wait(_POLL_SECS)
        return True

    def close(self) -> None:
        """Ends every spare and, if no session is left, the thread. The pool can be used again later."""
        with self._changed:
            self._closing = True
            self._wanted = 0
            self._changed.notify_all()
            # A session that runs may have taken spares, which would end with the thread.
            thread = None if self._holders else self._thread
            for spare in self._waiting:
                _discard(spare)
            self._waiting.clear()
        # Without the lock, which the thread needs in order to end.
        if thread is not None:
            thread.join()

    def forget_in_fork(self) -> None:
        """Empties the pool in a process forked from the kernel, whose children the spares are not.

        `_process` and `orphan_reaper` close the descriptors.
        """
        # New objects, above all a new lock: another thread of the kernel may have held the old one at the
        # fork. And no spares here: the thread that starts them was not forked.
        self._most = 0
        self._reset()

    # -- inside --------------------------------------------------------------------------------------

    def _want(self, number: int, not_before_secs: float) -> None:
        self._wanted = min(number, self._most)
        self._not_before_secs = not_before_secs
        self._keep_until_secs = time.monotonic() + KEEP_SECS
        if self._wanted:
            self._closing = False
            self._ensure_thread()
        self._changed.notify_all()

    def _ensure_thread(self) -> None:
        """Starts the thread if there is none. Call it with the lock held, as all methods below."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dora-spares", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                # The system allows no further thread. Spares only save time: do without them.
                self._thread = None

    def _next_fitting(self, fingerprint: Any) -> _Spare | None:
        """Takes the best spare out of the pool. Discards spares that do not fit: they never will."""
        # Warm ones to the end, where `pop` takes from: a cold one saves less time.
        self._waiting.sort(key=_is_warm)
        while self._waiting:
            spare = self._waiting.pop()
            if spare.fingerprint == fingerprint and _is_alive(spare):
                return spare
            _discard(spare)
        return None

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._should_start():
                    self._drop_surplus()
                    if self._is_idle():
                        self._thread = None
                        return
                    self._changed.wait(self._secs_to_wait())
                add = self._add_reaper if self._lacks_reaper() else self._add_one
            # Without the lock: to start a process takes milliseconds, and `take` must not wait for that.
            try:
                add()
            except (OSError, ValueError):
                # The same error will meet the start of an operator, which reports it. No further attempts.
                with self._changed:
                    self._wanted = 0

    def _should_start(self) -> bool:
        if self._closing or time.monotonic() < self._not_before_secs:
            return False
        if self._holders:
            # While operators run, one spare is enough: for the next edit.
            self._wanted = min(1, self._most)
        return len(self._waiting) < self._wanted or self._lacks_reaper()

    def _lacks_reaper(self) -> bool:
        """Whether the next session would find no reaper. A running session has its own."""
        return bool(self._wanted) and self._reaper is None and not self._holders

    def _add_reaper(self) -> None:
        reaper = OrphanReaper()
        with self._changed:
            self._reaper = reaper
            # `close` may have run while the lock was free.
            if self._closing:
                self._close_reaper()

    def _close_reaper(self) -> None:
        reaper, self._reaper = self._reaper, None
        if reaper is not None:
            reaper.close()

    def _add_one(self) -> None:
        environment = environment_of(None)
        # Before the launch: a package that is installed meanwhile then makes the fingerprint differ.
        fingerprint = _fingerprint(environment)
        process, counters_descriptor = launch(None, "/", environment, spare=True)
        with self._changed:
            spare = _Spare(process, counters_descriptor, fingerprint)
            if self._closing:
                _discard(spare)
            else:
                self._waiting.append(spare)

    def _drop_surplus(self) -> None:
        if not self._holders and time.monotonic() >= self._keep_until_secs:
            self._wanted = 0
        while len(self._waiting) > self._wanted:
            _discard(self._waiting.pop(0))
        if not self._wanted:
            self._close_reaper()

    def _is_idle(self) -> bool:
        return not self._holders and not self._wanted and not self._waiting

    def _secs_to_wait(self) -> float | None:
        now_secs = time.monotonic()
        due_secs = []
        if now_secs < self._not_before_secs:
            due_secs.append(self._not_before_secs)
        if not self._holders:
            due_secs.append(self._keep_until_secs)
        return max(0.0, min(due_secs) - now_secs) if due_secs else None


def _number_from_environment(otherwise: int) -> int:
    text = os.environ.get(_VARIABLE, "")
    return int(text) if text.isdigit() else otherwise


def _fingerprint(environment: Mapping[str, str]) -> Any:
    """Returns all that a process inherits and that cannot be changed later."""
    variables = sorted(
        (name, value) for name, value in environment.items() if name.startswith(_READ_AT_IMPORT)
    )
    folders = []
    for folder in _package_folders():
        with contextlib.suppress(OSError):
            # Installing or removing a package changes the time.
            folders.append((folder, os.stat(folder).st_mtime_ns))
    limits = [resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS)]
    cpus = sorted(os.sched_getaffinity(os.getpid()))
    return sys.executable, variables, folders, limits, cpus, os.getpriority(os.PRIO_PROCESS, 0)


@functools.cache
def _package_folders() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]


def _is_utf8(*texts: str) -> bool:
    """Whether a message can carry these texts unchanged; bytes that are not UTF-8 are lone surrogates in them."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _can_be_entered(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.X_OK)


def _is_alive(spare: _Spare) -> bool:
    return not _is_readable(spare.process.exit_descriptor)


def _is_warm(spare: _Spare) -> bool:
    """Whether the spare has sent `Warm`. The message stays in the socket; the supervisor ignores it."""
    return _is_readable(spare.process.control.socket.fileno())


def _is_readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _discard(spare: _Spare) -> None:
    # It runs no code of the user's, so nothing needs a grace period.
    spare.process.reap()
    spare.process.close()
    os.close(spare.counters_descriptor)


SPARES = Spares()
os.register_at_fork(after_in_child=SPARES.forget_in_fork)
