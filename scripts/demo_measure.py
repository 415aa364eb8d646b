"""The part of `make demo` that runs in the notebook's kernel, beside the running dataflow.

It uses what any cell could use. `scripts/demo.py` makes the kernel evaluate `measure` as a user
expression of a silent request: that shows nothing, defines no name, and does not change the history.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import dora_nb

if TYPE_CHECKING:
    from dora_nb.dataflow.dataflow import Dataflow
    from dora_nb.dataflow.subscription import Subscription
    from dora_nb.status import NodeStatus

TIMEOUT_SECS = 20.0


def measure(image_topic: str, boxes_topic: str, *, pictures: int = 30) -> str:
    """Watch the dataflow for that many pictures, and return the figures as JSON.

    They include the last picture that has boxes, with its boxes.
    """
    dataflow = dora_nb.get_dataflow()
    with (
        dataflow.subscribe(boxes_topic, queue_size=pictures) as boxes,
        dataflow.subscribe(image_topic, queue_size=pictures) as images,
    ):
        seen, ages_secs = _pictures(images, pictures)
        found = _boxes_of(boxes, seen)
    frame = next(reversed(found))
    detector = boxes_topic.partition("/")[0]
    times = dataflow.status(detector)
    return json.dumps(
        {
            # After the two subscriptions above are closed, so that their edges are not listed.
            "edges": _edges(dataflow),
            "detector": detector,
            "detector_p50_secs": times.on_event_p50_secs,
            "detector_p95_secs": times.on_event_p95_secs,
            "ages_secs": ages_secs,
            "detections": [len(rows) for rows in found.values()],
            "frame": frame,
            "picture_png": base64.b64encode(_png(seen[frame])).decode(),
            "boxes": found[frame].tolist(),
        }
    )


def _pictures(images: Subscription, count: int) -> tuple[dict[int, np.ndarray], list[float]]:
    """Return copies of the next pictures by frame number, and the age of each in seconds."""
    seen, ages_secs = {}, []
    for _ in range(count):
        event = images.next(TIMEOUT_SECS)
        ages_secs.append((datetime.now(UTC) - event["metadata"]["timestamp"]).total_seconds())
        seen[_frame_of(event)] = dora_nb.as_image(event).copy()
    return seen, ages_secs


def _boxes_of(boxes: Subscription, seen: dict[int, Any]) -> dict[int, np.ndarray]:
    """Return the boxes by frame number; the detector may have skipped some of the pictures."""
    found: dict[int, np.ndarray] = {}
    last = max(seen)
    while True:
        event = boxes.next(TIMEOUT_SECS)
        frame = _frame_of(event)
        if frame in seen:
            found[frame] = dora_nb.as_boxes(event).copy()
        if frame >= last and found:
            return found
        if frame > last + 10 * len(seen):
            raise LookupError("the detector's boxes do not belong to any of the measured pictures")


def _frame_of(event: dora_nb.Event) -> int:
    try:
        return int(event["metadata"]["frame"])
    except KeyError:
        raise LookupError(
            f"the metadata of {event['id']} lacks the frame number: is it a rendered scene?"
        ) from None


def _edges(dataflow: Dataflow) -> list[dict[str, Any]]:
    """Return every edge once, from its publisher."""
    return [edge for node in dataflow.status() for edge in _edges_of(node)]


def _edges_of(node: NodeStatus) -> list[dict[str, Any]]:
    return [
        {
            "topic": edge.topic,
            "reader": f"{edge.reader}/{edge.input}",
            "sent": edge.sent,
            "received": edge.received,
            "dropped": edge.dropped,
            "queued": edge.queued,
        }
        for edge in node.outputs
    ]


def _png(image: np.ndarray) -> bytes:
    encoded, data = cv2.imencode(".png", image)
    assert encoded
    return data.tobytes()
