"""A dataflow without processes: what a view uses of one, filled by hand.

Tests of the Python side take it from the fixture `dataflow`; those in a browser copy this file beside
their notebook and import it there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.status import EdgeStatus, NodeStatus, State


class FakeListener:
    """One callback on a topic, and its edge."""

    def __init__(self, dataflow: FakeDataflow, topic: str, on_event: Callable[[Any], None]) -> None:
        self.topic = topic
        self.on_event = on_event
        self.edge: EdgeStatus | None = None
        self._dataflow = dataflow

    def status(self) -> EdgeStatus | None:
        return self.edge

    def close(self) -> None:
        if self in self._dataflow.listeners:
            self._dataflow.listeners.remove(self)


@dataclass
class FakeDataflow:
    """A camera and a detector that are declared and running, and publish what a test gives them."""

    running: bool = True
    listeners: list[FakeListener] = field(default_factory=list)
    watchers: list[Callable[[], None]] = field(default_factory=list)
    graph: Graph = field(default_factory=Graph)
    statuses: dict[str, NodeStatus] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.declare("camera", outputs=("image",))
        self.declare("detector", outputs=("bbox",))

    # ----- what a view uses

    def status(self, name: str) -> NodeStatus:
        self.graph.node(name)
        return self.statuses[name]

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Any], None],
        *,
        queue_size: int = 1,
        replay_last: bool = False,
    ) -> FakeListener:
        self.graph.check_topic(topic)
        listener = FakeListener(self, topic, callback)
        self.listeners.append(listener)
        return listener

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback)

    # ----- what a test does

    def declare(self, name: str, outputs: tuple[str, ...], state: State = State.RUNNING) -> None:
        spec = NodeSpec(name, SourceCode("", "Cell In[1]"), outputs=outputs)
        self.graph = self.graph.with_node(spec)
        self.statuses[name] = NodeStatus(name, state, "Cell In[1]")
        self.changed()

    def remove(self, name: str) -> None:
        self.graph = self.graph.without(name)
        del self.statuses[name]
        self.changed()

    def set_state(self, name: str, state: State, **details: Any) -> None:
        self.statuses[name] = replace(self.statuses[name], state=state, **details)
        self.changed()

    def fail(self, name: str, message: str) -> None:
        self.set_state(name, State.FAILED, error=OperatorError(message, node=name))

    def start(self) -> None:
        self.running = True
        self.changed()

    def stop(self) -> None:
        self.running = False
        self.changed()

    def changed(self) -> None:
        for on_change in list(self.watchers):
            on_change()

    def publish(self, topic: str, value: object, metadata: dict[str, Any] | None = None) -> None:
        """Hands a message to its listeners, on the calling thread as the tap's."""
        told = {"timestamp": datetime.now(UTC), **(metadata or {})}
        event = {"type": "INPUT", "kind": "dora", "id": topic, "value": value, "metadata": told}
        for listener in list(self.listeners):
            if listener.topic == topic:
                listener.on_event(event)

    def publish_image(
        self, image: npt.NDArray[Any], topic: str = "camera/image", **metadata: Any
    ) -> None:
        """An image with its size and encoding."""
        told = {
            "height": image.shape[0],
            "width": image.shape[1],
            "encoding": "bgr8" if image.ndim == 3 else "mono8",
        }
        self.publish(topic, pa.array(image.ravel()), told | metadata)

    def publish_boxes(
        self, boxes: list[list[float]], topic: str = "detector/bbox", **metadata: Any
    ) -> None:
        """Boxes as N x 6 floats."""
        values = np.array(boxes, np.float32).ravel()
        self.publish(topic, pa.array(values, pa.float32()), metadata)

    @contextmanager
    def playing(self, fps: float = 30, size: tuple[int, int] = (320, 240)) -> Iterator[None]:
        """A thread that publishes a moving square and a box around it, until the block ends."""
        ended = threading.Event()
        player = threading.Thread(target=self._play, args=(fps, size, ended), name="player")
        player.start()
        try:
            yield
        finally:
            ended.set()
            player.join()

    def play_on(self, fps: float = 30, size: tuple[int, int] = (320, 240)) -> threading.Event:
        """The same for a notebook, where nothing ends a block: until the event is set."""
        ended = threading.Event()
        arguments = (fps, size, ended)
        threading.Thread(target=self._play, args=arguments, name="player", daemon=True).start()
        return ended

    def _play(self, fps: float, size: tuple[int, int], ended: threading.Event) -> None:
        width, height = size
        number = 0
        due_secs = time.monotonic()
        while not ended.is_set():
            left, top, side = 20 + (number * 3) % (width - 120), height // 3, 80
            image = np.full((height, width, 3), (96, 64, 32), np.uint8)
            image[top : top + side, left : left + side] = (40, 160, 220)
            stamp = datetime.now(UTC)
            self.publish_image(image, timestamp=stamp)
            box = [left, top, left + side, top + side, 0.87, 0]
            self.publish_boxes([box], timestamp=stamp + timedelta(microseconds=1), names=["cup"])
            number += 1
            due_secs += 1 / fps
            ended.wait(max(0.0, due_secs - time.monotonic()))
