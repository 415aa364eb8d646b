"""The detector's results, with the interface of YOLOv5's, so that code for one works with the other.

The names and columns are those of the `Detections` object that YOLOv5's documentation describes
(https://docs.ultralytics.com/yolov5/tutorials/pytorch_hub_model_loading/); written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from pandas import DataFrame

_EDGES = ["xmin", "ymin", "xmax", "ymax", "confidence", "class"]
_MIDDLE = ["xcenter", "ycenter", "width", "height", "confidence", "class"]
_LINE_COLOURS = (
    (66, 135, 245),
    (245, 130, 48),
    (60, 180, 75),
    (230, 60, 60),
    (70, 200, 220),
    (200, 90, 220),
)


class Detections:
    """Boxes in each of `n` pictures, most confident first.

    Each of these is a list with one float32 tensor ``(N, 6)`` per picture:

    ==========  ==============================================================
    ``xyxy``    x1, y1, x2, y2 in pixels of the picture, confidence, class
    ``xywh``    x and y of the middle, width, height in pixels, confidence, class
    ``xyxyn``   as ``xyxy`` and ``xywh``, with the first four as parts of the
    ``xywhn``   picture's width and height
    ==========  ==============================================================

    `names` maps a class to its name, `s` is the shape of what the network saw, `t` the milliseconds
    per picture for preparing, the network, and choosing boxes. `ims` are the pictures as they were
    given, not copies: who keeps this object keeps them.
    """

    def __init__(
        self,
        ims: Sequence[NDArray[np.uint8]],
        pred: Sequence[Tensor],
        names: Mapping[int, str],
        *,
        times_ms: tuple[float, float, float] = (0.0, 0.0, 0.0),
        shape: tuple[int, ...] = (),
    ) -> None:
        self.ims = list(ims)
        self.pred = list(pred)
        self.names = dict(names)
        self.n = len(self.pred)
        self.t = times_ms
        self.s = shape
        self.xyxy = self.pred
        self.xywh = [_as_middle(boxes) for boxes in self.xyxy]
        self.xyxyn = [_relative(boxes, im) for boxes, im in zip(self.xyxy, self.ims, strict=True)]
        self.xywhn = [_as_middle(boxes) for boxes in self.xyxyn]

    def pandas(self) -> SimpleNamespace:
        """The four lists with a DataFrame for each tensor, and with a column ``name``."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "Detections.pandas() makes DataFrames and needs pandas: pip install pandas. "
                "Without it, .xyxy holds the same as tensors."
            ) from error
        return SimpleNamespace(
            **{
                form: [self._frame(pd, boxes, columns) for boxes in getattr(self, form)]
                for form, columns in {
                    "xyxy": _EDGES,
                    "xyxyn": _EDGES,
                    "xywh": _MIDDLE,
                    "xywhn": _MIDDLE,
                }.items()
            }
        )

    def _frame(self, pd: Any, boxes: Tensor, columns: list[str]) -> DataFrame:
        frame = pd.DataFrame(boxes.cpu().numpy(), columns=columns)
        frame["class"] = frame["class"].astype(int)
        frame["name"] = [self.names[kind] for kind in frame["class"]]
        return frame

    def render(self, labels: bool = True) -> list[NDArray[np.uint8]]:
        """Copies of the pictures with the boxes drawn in, RGB as they were given."""
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                "Detections.render() draws with OpenCV: pip install opencv-python"
            ) from error
        drawn = []
        for im, boxes in zip(self.ims, self.xyxy, strict=True):
            canvas = np.ascontiguousarray(im).copy()
            for x1, y1, x2, y2, confidence, kind in boxes.tolist():
                colour = _LINE_COLOURS[int(kind) % len(_LINE_COLOURS)]
                corner = (round(x1), round(y1))
                cv2.rectangle(canvas, corner, (round(x2), round(y2)), colour, 2)
                if labels:
                    text = f"{self.names[int(kind)]} {confidence:.2f}"
                    place = (corner[0] + 2, max(12, corner[1] - 4))
                    cv2.putText(
                        canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA
                    )
            drawn.append(canvas)
        return drawn

    def print(self) -> None:
        """Prints what is in each picture and how long it took."""
        print(self)

    def tolist(self) -> list[Detections]:
        """One object for each picture."""
        return [
            Detections([im], [boxes], self.names, times_ms=self.t, shape=self.s)
            for im, boxes in zip(self.ims, self.pred, strict=True)
        ]

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Detections]:
        return iter(self.tolist())

    def __str__(self) -> str:
        lines = [
            f"image {number}/{self.n}: {im.shape[0]}x{im.shape[1]} {self._count(boxes)}"
            for number, (im, boxes) in enumerate(zip(self.ims, self.pred, strict=True), 1)
        ]
        prepare, infer, choose = self.t
        speed = (
            f"Speed: {prepare:.1f} ms preparing, {infer:.1f} ms network, {choose:.1f} ms choosing "
            f"boxes, per image at shape {self.s}"
        )
        return "\n".join([*lines, speed])

    def __repr__(self) -> str:
        return f"<Detections: {', '.join(self._count(boxes) for boxes in self.pred)}>"

    def _count(self, boxes: Tensor) -> str:
        counts = Counter(self.names[int(kind)] for kind in boxes[:, 5])
        if not counts:
            return "(no detections)"
        return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())


def _as_middle(boxes: Tensor) -> Tensor:
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return torch.cat([middle, boxes[:, 2:4] - boxes[:, :2], boxes[:, 4:]], dim=1)


def _relative(boxes: Tensor, im: NDArray[np.uint8]) -> Tensor:
    height, width = im.shape[:2]
    return boxes / boxes.new_tensor([width, height, width, height, 1, 1])
