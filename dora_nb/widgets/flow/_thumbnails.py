"""The newest picture of each picture topic that a page shows, small, and at most one per second."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

from dora_nb.data.arrow import Event
from dora_nb.errors import DoraNbError

from ..camera.thumbnail import thumbnail
from ..page.dataflow import Listener

EVERY_SECS = 1.0
MAX_WIDTH, MAX_HEIGHT = 112, 72
"""Twice the size on the page, for screens with two pixels where others have one."""


class _Newest:
    """A place for the newest message. The subscription's thread puts it there, which must be cheap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event: Event | None = None

    def put(self, event: Event) -> None:
        with self._lock:
            self._event = event

    def take(self) -> Event | None:
        with self._lock:
            event, self._event = self._event, None
            return event


class Thumbnails:
    """Reads topics while a page shows them, and reduces what came. The refresher's thread only.

    A topic that turns out to carry something else is closed again, and read anew in its publisher's next
    generation. A closed subscription costs nothing, so a hidden graph does not either.
    """

    def __init__(self, dataflow: Any) -> None:
        self._dataflow = dataflow
        self._readers: dict[str, tuple[Listener, _Newest]] = {}
        self._no_pictures: dict[str, int] = {}
        """Topics without pictures, with the generation of the publisher that sent something else."""
        self._sent_secs: dict[str, float] = {}

    @property
    def own_inputs(self) -> set[str]:
        """The names of its subscriptions among the notebook's inputs."""
        statuses = [listener.status() for listener, _ in self._readers.values()]
        return {status.input for status in statuses if status is not None}

    def watch(self, topics: Mapping[str, int]) -> None:
        """Reads these topics, each with its publisher's generation, and no others."""
        wanted = {
            topic
            for topic, generation in topics.items()
            if self._no_pictures.get(topic) != generation
        }
        for topic in [each for each in self._readers if each not in wanted]:
            self._end(topic)
        for topic in sorted(wanted - self._readers.keys()):
            newest = _Newest()
            try:
                listener = self._dataflow.subscribe(
                    topic, newest.put, queue_size=1, replay_last=True
                )
            except DoraNbError:
                continue  # its node was removed just now
            self._readers[topic] = (listener, newest)

    def take_due(self, now_secs: float, generations: Mapping[str, int]) -> dict[str, bytes]:
        """Returns the newest picture of each topic that has a new one, and had none in the last second."""
        made: dict[str, bytes] = {}
        for topic, (_, newest) in list(self._readers.items()):
            if now_secs - self._sent_secs.get(topic, float("-inf")) < EVERY_SECS:
                continue
            event = newest.take()
            if event is None:
                continue
            try:
                made[topic] = thumbnail(event, MAX_WIDTH, MAX_HEIGHT)
                self._sent_secs[topic] = now_secs
            except DoraNbError:  # something else than a picture, or OpenCV is missing
                self._no_pictures[topic] = generations.get(topic, 0)
                self._end(topic)
        return made

    def show_again(self) -> None:
        """Sends each topic's next picture at once: a new page has none."""
        self._sent_secs.clear()

    def forget(self, topics: Collection[str]) -> None:
        """Forgets what it knows of all other topics than these."""
        self._no_pictures = {key: each for key, each in self._no_pictures.items() if key in topics}
        self._sent_secs = {key: each for key, each in self._sent_secs.items() if key in topics}

    def close(self) -> None:
        """Ends all subscriptions."""
        for topic in list(self._readers):
            self._end(topic)

    def _end(self, topic: str) -> None:
        listener, _ = self._readers.pop(topic)
        listener.close()
