"""The kernel as a publisher: what the notebook sends, and what nodes print as messages.

To the wiring it is a node like any other, told of readers and memory by the same messages. One thread
does all of its publishing, as a node's process would: a queue with backpressure then holds only that
thread, and readers come and go meanwhile.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dora_nb.errors import EngineError
from dora_nb.protocol import control
from dora_nb.transport import OutputPorts

MOST_WAITING = 4096
"""How many messages of `send_soon` may wait; beyond, the oldest are given up and counted."""


Latest = Callable[[], tuple[Any, dict[str, Any] | None] | None]
"""Returns the newest data and metadata of an output, or None where there is nothing to send any more."""


@dataclass(slots=True)
class _Request:
    output: str
    data: Any
    metadata: dict[str, Any] | None
    sent: Future[None] | None
    latest: Latest | None = None
    """Of `send_latest`: returns data and metadata, in place of those above."""


class KernelPublisher:
    """The publisher of one pseudo-node's outputs. Any thread may call it; only `send` blocks.

    `released(edge_id)` is called on its thread when the reader of a detached edge holds no message any
    more; `warn(sentence)` where a value could be sent only by changing it.
    """

    def __init__(
        self, name: str, *, released: Callable[[int], None], warn: Callable[[str], None]
    ) -> None:
        self.name = name
        self.given_up: collections.Counter[str] = collections.Counter()
        """By output: messages of `send_soon` for which there was no time."""
        self._released = released
        self._warn = warn
        self._lock = threading.Lock()
        self._unserved: collections.deque[tuple[control.ToProcess, list[int]]] = collections.deque()
        self._requests: collections.deque[_Request] = collections.deque()
        self._latest: set[str] = set()
        """The outputs of which a request of `send_latest` waits."""
        self._outputs = OutputPorts(waiter=self, warn=warn)
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None

    def tell(self, message: control.ToProcess, descriptors: list[int]) -> None:
        """Takes a message of the wiring, as a node's process would. The descriptors stay the caller's."""
        # Copies, as a socket would make: the wiring may close its own before the thread gets to the message.
        copies = [os.dup(descriptor) for descriptor in descriptors]
        with self._lock:
            if self._closing:
                for copy in copies:
                    os.close(copy)
                return
            self._unserved.append((message, copies))
            self._start_thread()
            os.eventfd_write(self._wake, 1)

    def send(self, output: str, data: Any, metadata: dict[str, Any] | None) -> None:
        """Sends one message; blocks until every queue with backpressure has room.

        Raises `InvalidDataError` or `MetadataError`. An interrupt ends the wait; the message is sent all the
        same.
        """
        sent: Future[None] = Future()
        with self._lock:
            if self._closing:
                return
            self._requests.append(_Request(output, data, metadata, sent))
            self._start_thread()
            os.eventfd_write(self._wake, 1)
        sent.result()

    def send_soon(self, output: str, data: Any, metadata: dict[str, Any] | None) -> None:
        """As `send`, but returns at once; a failure becomes a warning."""
        with self._lock:
            if self._closing:
                return
            if len(self._requests) - len(self._latest) >= MOST_WAITING:
                self._give_up_oldest()
            self._requests.append(_Request(output, data, metadata, None))
            self._start_thread()
            os.eventfd_write(self._wake, 1)

    def send_latest(self, output: str, latest: Latest) -> None:
        """As `send_soon`, but asks `latest` for the message when its turn comes. Never given up.

        A call for an output of which a message still waits does nothing: that one will be the newest.
        """
        with self._lock:
            if self._closing or output in self._latest:
                return
            request = _Request(output, None, None, None, latest)
            self._latest.add(output)
            self._requests.append(request)
            self._start_thread()
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Ends the thread. A message that waits for room is given up."""
        with self._lock:
            self._closing = True
            os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        self._close_descriptors()

    def close_in_fork(self) -> None:
        """Closes the descriptors in a process forked from the kernel, where the thread does not exist."""
        # A new lock: another thread may have held the old one at the fork, and will never release it here.
        self._lock = threading.Lock()
        self._closing = True
        self._close_descriptors()

    # -- asked by the outputs (the protocol `Waiter`) ------------------------------------------------

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        """Waits for a reader to make room; what the wiring tells meanwhile takes effect."""
        poller = select.poll()
        for each in (self._wake, descriptor):
            if each >= 0:
                poller.register(each, select.POLLIN)
        if any(ready == self._wake for ready, _ in poller.poll(timeout_secs * 1e3)):
            self._serve()

    def giving_up(self) -> bool:
        """Whether waiting is pointless."""
        return self._closing

    def note_overflow(self) -> None:
        """Nothing: this thread is the one that sends, and looks before it waits."""

    # -- the thread ----------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"dora-publisher {self.name}", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:
                self._thread = None
                raise EngineError(
                    "cannot start a thread: the system's limit is reached."
                ) from error

    def _run(self) -> None:
        while not self._closing:
            self._wait()
            self._serve()
            while (request := self._next_request()) is not None:
                # Again for each message: a reader that subscribed before this one was sent must get it.
                self._serve()
                self._publish(request)
            self._outputs.flush()
        while self._requests:
            sent = self._requests.popleft().sent
            if sent is not None:
                sent.set_result(None)

    def _next_request(self) -> _Request | None:
        # With the lock, in which others replace a message or give one up.
        with self._lock:
            if self._closing or not self._requests:
                return None
            request = self._requests.popleft()
            if request.latest is not None:
                # Before it is asked: what is newer than its answer then makes another request.
                self._latest.discard(request.output)
            return request

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for edge in self._outputs.attached_edges():
            if edge.overflow:
                poller.register(edge.fileno(), select.POLLOUT)
        poller.poll()

    def _publish(self, request: _Request) -> None:
        output = self._outputs.by_name.get(request.output)
        # Every way out answers the request, as the notebook's thread may wait for it.
        try:
            message = (
                (request.data, request.metadata) if request.latest is None else request.latest()
            )
            if output is not None and message is not None:
                output.publish(*message)
        except Exception as error:
            if request.sent is None:
                self._warn(f"{self.name}/{request.output}: {error}")
            else:
                request.sent.set_exception(error)
            return
        if request.sent is not None:
            request.sent.set_result(None)

    def _give_up_oldest(self) -> None:
        """Gives up the oldest message of `send_soon`. With the lock."""
        # Neither one of `send_latest`, of which no other would follow, nor one whose sender waits for it.
        for at, request in enumerate(self._requests):
            if request.sent is None and request.latest is None:
                del self._requests[at]
                self.given_up[request.output] += 1
                return

    def _serve(self) -> None:
        # The wake before the messages: what is told after this read makes the descriptor readable again.
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._unserved:
            message, descriptors = self._unserved.popleft()
            self._act(message, descriptors)

    def _act(self, message: control.ToProcess, descriptors: list[int]) -> None:
        match message:
            case control.AddOutput(name, number):
                (memory,) = descriptors
                self._outputs.add(name, number, memory)
            case control.RemoveOutput(name) if name in self._outputs.by_name:
                self._outputs.remove(name)
                self._report_released()
            case control.AddReader():
                self._outputs.attach(
                    message.edge_id,
                    message.output,
                    descriptors,
                    queue_size=message.queue_size,
                    drop_oldest=message.drop_oldest,
                    column=message.column,
                    replay_last=message.replay_last,
                )
            case control.ChangeQueue(edge_id, queue_size, drop_oldest):
                self._outputs.change_queue(edge_id, queue_size=queue_size, drop_oldest=drop_oldest)
            case control.RemoveReader(edge_id) if self._outputs.edge(edge_id) is not None:
                self._outputs.detach(edge_id)
                self._report_released()
            case control.VoidLeases(edge_id, up_to) if self._outputs.edge(edge_id) is not None:
                self._outputs.void_leases(edge_id, up_to)
                self._report_released()

    def _report_released(self) -> None:
        for edge_id in self._outputs.released():
            self._released(edge_id)

    def _close_descriptors(self) -> None:
        for _, descriptors in self._unserved:
            for descriptor in descriptors:
                os.close(descriptor)
        self._unserved.clear()
        self._outputs.close()
        os.close(self._wake)
