"""The clock of a node that runs on recorded messages: the functions of `time`, on the time of the recording.

The clock stands at the time of the event that is being handled. `sleep` returns at once and moves it, and so
does each look at it, by a microsecond: code that waits for the time to pass ends, a duration is never 0,
and two runs of the same code read the same times.

Only the node's own code is served. Python's library and installed packages keep the real clock, since
asyncio or a queue with a timeout would wait for ever on one that stands. What cannot follow: `datetime.now`,
`time.localtime` and the like without an argument, timeouts of locks and queues, and code that is not Python.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from typing import Any

LOOK_NANOS = 1_000
"""How far a look at the clock moves it."""
_MONOTONIC_ORIGIN_NANOS = 10_000 * 10**9
"""What `monotonic` says at the start: programs compare it with a time that they have set to 0."""
_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
real_monotonic = time.monotonic
real_perf_counter_ns = time.perf_counter_ns
_real_sleep = time.sleep


class RecordedClock:
    """The time of a recording, in nanoseconds since 1970. Any thread may look at it."""

    def __init__(self, start_nanos: int) -> None:
        self._start_nanos = self._now_nanos = start_nanos
        self._moved = threading.Condition()
        self._main_thread = threading.get_ident()
        self._is_over = False

    @property
    def now_nanos(self) -> int:
        """The time; to read it here does not move it."""
        return self._now_nanos

    def look(self) -> int:
        """Returns the time, and moves it by `LOOK_NANOS`."""
        with self._moved:
            now_nanos = self._now_nanos
            self._now_nanos += LOOK_NANOS
            return now_nanos

    def advance_to(self, nanos: int) -> None:
        """Moves the clock to that time. Does nothing where it is later already: time does not go backwards."""
        with self._moved:
            if nanos > self._now_nanos:
                self._now_nanos = nanos
                self._moved.notify_all()

    def end(self) -> None:
        """No event follows: from here on `sleep` moves the clock on every thread."""
        with self._moved:
            self._is_over = True
            self._moved.notify_all()

    def sleep(self, secs: float) -> None:
        """Moves the clock by so much. Another thread than the main one waits until events have moved it so far."""
        nanos = int(secs * 1e9)
        if secs < 0:
            raise ValueError("sleep length must be non-negative")
        target_nanos = self._now_nanos + nanos
        if threading.get_ident() != self._main_thread and not self._is_over:
            # Never longer than live: the main thread may be waiting for this one, and the clock then stands.
            with self._moved:
                self._moved.wait_for(lambda: self._is_over or self._now_nanos >= target_nanos, secs)
        self.advance_to(target_nanos)
        _real_sleep(0)  # As a sleep does, it lets other threads go on.

    def install(self) -> None:
        """Gives the node's own code this clock, by the functions of the module `time`."""

        def wall_nanos() -> int:
            return self.look()

        def elapsed_nanos() -> int:
            return self.look() - self._start_nanos + _MONOTONIC_ORIGIN_NANOS

        _serve("time_ns", wall_nanos)
        _serve("time", lambda: wall_nanos() / 1e9)
        for name in ("monotonic", "perf_counter"):
            _serve(f"{name}_ns", elapsed_nanos)
            _serve(name, lambda: elapsed_nanos() / 1e9)
        _serve("sleep", self.sleep)


def _serve(name: str, recorded: Callable[..., Any]) -> None:
    """Replaces a function of `time`, for callers in the node's own code."""
    real = getattr(time, name)

    @functools.wraps(real)
    def function(*args: Any) -> Any:
        # The direct caller decides, which is the code that wants to know the time.
        if is_own_code(sys._getframe(1).f_code.co_filename):
            return recorded(*args)
        return real(*args)

    setattr(time, name, function)


@functools.cache
def is_own_code(file: str) -> bool:
    """Whether that file is the node's own code: neither Python's library nor an installed package."""
    if file.startswith(_OWN_FOLDER):  # `Node.next` waits as the node's own code would.
        return True
    return not file.startswith(("<frozen", *_library_folders()))


@functools.cache
def _library_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_path(name) for name in names]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.join(each, "") for each in folders if each)
