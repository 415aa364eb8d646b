"""A thread that carries out calls to their end.

A KeyboardInterrupt is raised in the main thread between any two instructions. Whoever waits for a
call may be interrupted; what the call does is done all the same, so nothing is left half wired.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future


class Worker:
    """One thread, one call at a time, in the order they were asked for; none before `start`."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], Future[bool]]] = (
            queue.SimpleQueue()
        )
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread; RuntimeError where the system allows none, and no call will be made."""
        try:
            self._thread.start()
        except RuntimeError:
            self._end()
            raise

    def call(self, function: Callable[[], object]) -> bool:
        """Waits until the call was made, and raises what it raised. Not from the thread itself.

        False where it was not made, since the worker is closed.
        """
        return self.post(function).result()

    def post(self, function: Callable[[], object]) -> Future[bool]:
        """Asks for the call, and returns at once."""
        made: Future[bool] = Future()
        with self._lock:
            if self._closed:
                made.set_result(False)
            else:
                self._calls.put((function, made))
        return made

    def close(self) -> None:
        """Ends the thread after what was asked for before."""
        self.post(self._end)

    def _end(self) -> None:
        with self._lock:
            self._closed = True

    def _run(self) -> None:
        while not self._closed:
            function, made = self._calls.get()
            try:
                function()
                made.set_result(True)
            except BaseException as error:
                made.set_exception(error)
            # A thread that waits must not keep alive what it did last.
            del function, made
        while not self._calls.empty():
            self._calls.get()[1].set_result(False)
