"""A thread that completes calls even if their caller is interrupted.

A KeyboardInterrupt is raised in the main thread, between any two instructions. It can end the wait for
a call, but not the call itself, which runs on this thread. So no change is left half done.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future


class Worker:
    """One thread that runs one call at a time, in order; it runs none before `start`."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], Future[bool]]] = (
            queue.SimpleQueue()
        )
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread. RuntimeError if the system allows no thread; then every call is refused."""
        try:
            self._thread.start()
        except RuntimeError:
            self._end()
            raise

    def call(self, function: Callable[[], object]) -> bool:
        """Waits until the call has returned, and raises what it raised. Not for use on the thread itself.

        False if the call was not made because the worker is closed.
        """
        return self.post(function).result()

    def post(self, function: Callable[[], object]) -> Future[bool]:
        """Queues the call and returns at once."""
        made: Future[bool] = Future()
        # With the lock, so that no call is queued after the thread has emptied the queue for the last
        # time: its caller would wait for ever.
        with self._lock:
            if self._closed:
                made.set_result(False)
            else:
                self._calls.put((function, made))
        return made

    def close(self) -> None:
        """Ends the thread once it has run the calls that are queued."""
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
            # BaseException too: the caller must get its answer, or it waits for ever.
            except BaseException as error:
                made.set_exception(error)
            # While the thread waits for the next call, its variables must not keep the last one alive.
            del function, made
        # What was queued behind the end is answered with False; nothing waits for an answer for ever.
        while not self._calls.empty():
            self._calls.get()[1].set_result(False)
