"""How messages of a topic come to the notebook's own code: what `Dataflow.subscribe` returns."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from dora_nb.errors import DataflowStateError
from dora_nb.events import Event
from dora_nb.status import EdgeStatus

from .current_run import CurrentRun
from .messaging import too_few


class CallbackSubscription:
    """A callback on a topic, from ``Dataflow.subscribe(topic, callback)``; also a context manager.

    Example::

        >>> seen = dataflow.subscribe("camera/image", print)
        >>> seen.close()
    """

    def __init__(
        self,
        run: CurrentRun,
        topic: str,
        callback: Callable[[Event], None],
        *,
        queue_size: int,
        replay_last: bool,
    ) -> None:
        self.topic = topic
        self._run = run
        self._reader = run.add_reader(
            topic, callback, queue_size=queue_size, replay_last=replay_last
        )

    @property
    def dropped(self) -> int:
        """How many messages the callback missed, as it was still busy with an earlier one.

        Example::

            >>> seen.dropped
            0
        """
        status = self.status()
        return 0 if status is None else status.dropped

    def status(self) -> EdgeStatus | None:
        """Returns the counts of the edge to this subscription; None while its publisher was never started.

        Never blocks.

        Example::

            >>> seen.status().received
            120
        """
        return self._run.reader_status(self._reader)

    def close(self) -> None:
        """Ends the subscription: no further call of the callback begins; one that is running may still end.

        May be called twice.

        Example::

            >>> seen.close()
        """
        self._run.remove_reader(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<CallbackSubscription to {self.topic}>"


class Subscription:
    """Messages of a topic, from ``Dataflow.subscribe(topic)``: an iterator and a context manager.

    It keeps the newest `queue_size` messages; older ones are dropped and counted. The loop over it ends
    when it is closed.

    Example::

        >>> with dataflow.subscribe("camera/image") as images:
        ...     for event in images:
        ...         print(event["metadata"]["width"])
    """

    def __init__(
        self, run: CurrentRun, topic: str, *, queue_size: int, replay_last: bool = False
    ) -> None:
        self.topic = topic
        self._run = run
        self._events: collections.deque[Event] = collections.deque()
        self._queue_size = queue_size
        self._arrived = threading.Condition()
        self._dropped_here = 0
        self._closed = False
        self._reader = CallbackSubscription(
            run, topic, self._keep, queue_size=queue_size, replay_last=replay_last
        )

    @property
    def dropped(self) -> int:
        """How many messages this subscription missed, as more than `queue_size` of them waited.

        Example::

            >>> images.dropped
            0
        """
        return self._dropped_here + self._reader.dropped

    def status(self) -> EdgeStatus | None:
        """Returns the counts of the edge to this subscription; None while its publisher was never started.

        Never blocks.

        Example::

            >>> images.status().received
            120
        """
        return self._reader.status()

    def next(self, timeout_secs: float | None = None) -> Event:
        """Returns the next message. Blocks until there is one; without `timeout_secs`, for ever.

        Raises TopicTimeoutError when the time is over, and DataflowStateError where it is closed.

        Example::

            >>> event = images.next(timeout_secs=5)
        """
        deadline_secs = None if timeout_secs is None else time.monotonic() + timeout_secs
        with self._arrived:
            while not self._events:
                if self._closed:
                    raise DataflowStateError(f"the subscription to '{self.topic}' is closed.")
                left_secs = None if deadline_secs is None else deadline_secs - time.monotonic()
                if left_secs is not None and left_secs <= 0:
                    raise too_few(self._run, self.topic, 0, 1, timeout_secs)
                self._arrived.wait(left_secs)
            return self._events.popleft()

    def close(self) -> None:
        """Ends the subscription; a `next` that waits raises DataflowStateError. May be called twice.

        Example::

            >>> images.close()
        """
        self._reader.close()
        with self._arrived:
            self._closed = True
            self._events.clear()
            self._arrived.notify_all()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return self.next()
        except DataflowStateError:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Subscription to {self.topic}>"

    def _keep(self, event: Event) -> None:
        with self._arrived:
            if len(self._events) >= self._queue_size:
                self._events.popleft()
                self._dropped_here += 1
            self._events.append(event)
            self._arrived.notify()
