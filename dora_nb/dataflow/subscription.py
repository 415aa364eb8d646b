"""How messages of a topic come to the notebook's own code: what `Dataflow.subscribe` returns."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dora_nb.errors import DataflowStateError

if TYPE_CHECKING:
    from dora_nb.status import EdgeStatus

    from .dataflow import Dataflow

Event = dict[str, Any]
"""One event as dora gives it: ``type``, ``id``, ``value`` (a `pyarrow.Array`), ``metadata``."""


class CallbackSubscription:
    """A callback on a topic, from `Dataflow.subscribe`. `close` ends it."""

    def __init__(
        self,
        dataflow: Dataflow,
        topic: str,
        callback: Callable[[Event], None],
        *,
        queue_size: int,
        replay_last: bool,
    ) -> None:
        self.topic = topic
        self._dataflow = dataflow
        self._listener = dataflow._add_listener(topic, callback, queue_size, replay_last)

    def status(self) -> EdgeStatus | None:
        """The counts of its edge; None while its publisher was never started."""
        return self._dataflow._listener_status(self._listener)

    @property
    def dropped(self) -> int:
        """How many messages the callback missed."""
        status = self.status()
        return 0 if status is None else status.dropped

    def close(self) -> None:
        """No further call of the callback begins; one that is running may still end."""
        self._dataflow._forget_listener(self._listener)

    def __repr__(self) -> str:
        return f"<CallbackSubscription to {self.topic}>"


class Subscription:
    """Messages of a topic, from `Dataflow.subscribe`: an iterator and a context manager.

    It keeps the newest `queue_size` messages; older ones are dropped and counted.
    """

    def __init__(
        self, dataflow: Dataflow, topic: str, queue_size: int, *, replay_last: bool = False
    ) -> None:
        self.topic = topic
        self._dataflow = dataflow
        self._events: collections.deque[Event] = collections.deque()
        self._queue_size = queue_size
        self._arrived = threading.Condition()
        self._dropped_here = 0
        self._closed = False
        self._reader = CallbackSubscription(
            dataflow, topic, self._keep, queue_size=queue_size, replay_last=replay_last
        )

    def status(self) -> EdgeStatus | None:
        """The counts of its edge; None while its publisher was never started."""
        return self._reader.status()

    @property
    def dropped(self) -> int:
        """How many messages this subscription missed."""
        return self._dropped_here + self._reader.dropped

    def next(self, timeout_secs: float | None = None) -> Event:
        """The next message. Blocks; raises TopicTimeoutError when the time is over."""
        deadline_secs = None if timeout_secs is None else time.monotonic() + timeout_secs
        with self._arrived:
            while not self._events:
                if self._closed:
                    raise DataflowStateError(f"the subscription to '{self.topic}' is closed.")
                left_secs = None if deadline_secs is None else deadline_secs - time.monotonic()
                if left_secs is not None and left_secs <= 0:
                    raise self._dataflow._too_few(self.topic, 0, 1, timeout_secs)
                self._arrived.wait(left_secs)
            return self._events.popleft()

    def close(self) -> None:
        """Ends the subscription; a `next` that waits raises."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
