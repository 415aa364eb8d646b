"""What a person picks in a picture (a click, a box, a line) as a message: checks what a page sends.

A page may send anything, and its message may be late. So it names the frame that it shows, and this module
knows the frames that were sent: their stamps, their sizes and their boxes.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dora_nb.data.boxes import Boxes
from dora_nb.data.picture_files import DamagedPictureError, picture_size
from dora_nb.dataflow.base import BaseDataflow
from dora_nb.dataflow.controls import Control
from dora_nb.errors import DataflowStateError, DeclarationError

from ..controls.base import declare_control, heard_by
from ..page.guarded import count_in, numbers_in
from ._feed import SentPicture

KINDS = ("click", "box", "line")
PICKED = pa.struct(
    [
        ("kind", pa.string()),
        *[(name, pa.float64()) for name in ("x1", "y1", "x2", "y2")],
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("box_index", pa.int32()),
        ("box_label", pa.string()),
        ("box_score", pa.float64()),
        *[(f"box_{name}", pa.float64()) for name in ("x1", "y1", "x2", "y2")],
        ("frame_time", pa.timestamp("us", tz="UTC")),
    ]
)
"""The type of the messages, which are arrays of one such struct."""
MAX_FRAMES = 256
"""Frames that a late message may still name: 8 s at 30 a second."""
MAX_A_SECOND = 20
"""A person does not click faster. More are refused."""
MAX_SIDE = 65_536
MAX_BOXES = 16
"""Of one frame. A camera may stop while its detector goes on."""
_CORNER_ERROR = 0.06
"""Corners go to the page with one decimal."""


@dataclass(slots=True)
class _Frame:
    """One frame that was sent."""

    stamp_micros: int | None
    size: tuple[int, int] | None
    """None if the header of its file does not say it."""
    boxes: deque[Boxes] = field(default_factory=lambda: deque(maxlen=MAX_BOXES))
    """Those that were sent for it."""


class Picks:
    """The topic that one view sends on, and what it knows of its frames. Any thread may call it."""

    def __init__(
        self, dataflow: object, topic: object, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Declares the topic. Raises GraphError if it is not ``notebook/NAME``, or is taken."""
        if not isinstance(topic, str):
            raise DeclarationError(
                f"events must be a topic such as 'notebook/picked', got {topic!r}."
            )
        if not isinstance(dataflow, BaseDataflow):
            raise DeclarationError(
                f"events needs a dora_nb.Dataflow, got {type(dataflow).__name__}."
            )
        self._dataflow = dataflow
        self.control: Control = declare_control(dataflow, topic, kind="event")
        self._clock = clock
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, _Frame] = OrderedDict()
        self._sent_secs: deque[float] = deque(maxlen=MAX_A_SECOND)
        self._num_sent = 0

    def note(self, shown: SentPicture) -> None:
        """Notes a frame that is sent now, or overlays that are sent for it."""
        overlay = None if shown.overlays is None else shown.overlays.of("boxes")
        with self._lock:
            frame = self._frames.get(shown.seq)
            if frame is None:
                frame = self._frames[shown.seq] = _Frame(shown.stamp_micros, _size_of(shown))
                if len(self._frames) > MAX_FRAMES:
                    self._frames.popitem(last=False)
            boxes = None if overlay is None else overlay.content
            if isinstance(boxes, Boxes) and all(boxes is not each for each in frame.boxes):
                frame.boxes.append(boxes)

    def take(self, message: Mapping[str, Any]) -> bool:
        """Sends what a page has picked; returns False for what is malformed, outside or too much.

        Never blocks.
        """
        with self._lock:
            row = self._row(message)
            now_secs = self._clock()
            is_full = len(self._sent_secs) == MAX_A_SECOND
            if row is None or (is_full and now_secs - self._sent_secs[0] < 1):
                return False
            self._sent_secs.append(now_secs)
            self._num_sent += 1
        try:
            self.control.set(pa.array([row], PICKED))
        except DataflowStateError:
            return False  # another control has taken the topic, which the view says
        return True

    def status(self) -> dict[str, Any]:
        """Returns what the page shows of it."""
        state, text = heard_by(self._dataflow, self.control)
        read = state == "read"
        return {"topic": self.control.topic, "sent": self._num_sent, "read": read, "text": text}

    def close(self) -> None:
        self.control.remove()
        with self._lock:
            self._frames.clear()

    def _row(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        kind, frame = message.get("kind"), self._frames.get(count_in(message, "seq"))
        ends, size = numbers_in(message, "ends", 4), numbers_in(message, "size", 2)
        if kind not in KINDS or frame is None or ends is None or size is None:
            return None
        width, height = size
        if not _is_size(width, height, frame.size) or not _is_inside(kind, ends, width, height):
            return None
        x1, y1, x2, y2 = ends
        row: dict[str, Any] = {"kind": kind, "x1": x1, "y1": y1, "x2": x2, "y2": y2}
        row |= {"width": int(width), "height": int(height), "frame_time": frame.stamp_micros}
        if message.get("box") is None:
            return row
        box = _box(message["box"], frame.boxes)
        return None if box is None else {**row, **box}


def _is_size(width: float, height: float, known: tuple[int, int] | None) -> bool:
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return False
    # A browser turns a file as its EXIF orientation says.
    return known is None or sorted(known) == sorted((width, height))


def _is_inside(kind: object, ends: list[float], width: float, height: float) -> bool:
    x1, y1, x2, y2 = ends
    if kind == "click":
        return (x1, y1) == (x2, y2) and 0 <= x1 < width and 0 <= y1 < height
    if kind == "box" and not (x1 <= x2 and y1 <= y2):
        return False
    return all(0 <= x <= width for x in (x1, x2)) and all(0 <= y <= height for y in (y1, y2))


def _box(given: object, known: Iterable[Boxes]) -> dict[str, Any] | None:
    """Returns the box that the page names, if it was sent one like that."""
    corners = numbers_in(given, "corners", 4) if isinstance(given, Mapping) else None
    if corners is None or not isinstance(given, Mapping) or "row" not in given:
        return None
    row = count_in(given, "row")
    for boxes in known:
        if row >= len(boxes):
            continue
        values = boxes.values[row].tolist()
        if all(
            abs(one - other) <= _CORNER_ERROR + 1e-4 * abs(other)
            for one, other in zip(corners, values, strict=False)
        ):
            score = None if math.isnan(values[4]) else values[4]  # unknown
            names = ("box_x1", "box_y1", "box_x2", "box_y2")
            return {
                "box_index": row,
                "box_label": boxes.labels[row],
                "box_score": None if score is None else round(score, 4),
                **dict(zip(names, (round(value, 2) for value in values[:4]), strict=True)),
            }
    return None


def _size_of(shown: SentPicture) -> tuple[int, int] | None:
    picture = shown.picture
    if picture.width:
        return picture.width, picture.height
    try:
        return picture_size(picture.data, picture.mime.partition("/")[2])
    except (DamagedPictureError, KeyError):
        return None
