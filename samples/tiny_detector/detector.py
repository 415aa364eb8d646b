"""The detector as it is used: pictures in, boxes out; everything around the network is here."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .detections import Detections
from .net import MULTIPLE, TinyNet, candidates, fold_batch_norm, suppress

CLASS_NAMES = ("robot", "ball", "cube", "cone", "cup", "charger")
"""As in scene.py, which need not be there at inference."""
WEIGHTS = Path(__file__).resolve().parent / "weights.pt"

Picture = NDArray[np.uint8]


class TinyDetector(nn.Module):
    """Finds the things on the rendered table: ``results = model(picture)``.

    A picture is an ``(H, W, 3)`` uint8 array in RGB, of any size; a view such as ``bgr[:, :, ::-1]``
    is as good as a copy. A list of pictures gives one result for all. The settings may be changed
    between calls; their names are those of YOLOv5's models:

    `conf`      the least confidence of a detection
    `iou`       boxes of a class that overlap by more are one object
    `agnostic`  the same across classes
    `classes`   only these, as indices of `names`; None for all
    `max_det`   at most so many in a picture
    """

    def __init__(
        self,
        net: TinyNet,
        names: Sequence[str] = CLASS_NAMES,
        *,
        conf: float = 0.25,
        iou: float = 0.45,
        classes: Sequence[int] | None = None,
        agnostic: bool = False,
        max_det: int = 300,
    ) -> None:
        super().__init__()
        # Convolutions over many channels are twice as fast on a CPU with the channels last.
        self.net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.names: Mapping[int, str] = dict(enumerate(names))
        self.conf = conf
        self.iou = iou
        self.classes = classes
        self.agnostic = agnostic
        self.max_det = max_det

    @torch.no_grad()
    def forward(self, ims: Picture | Sequence[Picture], size: int | None = None) -> Detections:
        """Detections in one picture or in each of a list.

        With `size`, pictures are first scaled so that their longer side has so many pixels; boxes
        are always in pixels of the picture as it was given. Blocks for the time of the computation.
        Raises TypeError or ValueError if an argument is not a picture.
        """
        pictures = _as_pictures(ims)
        spent_secs = np.zeros(3)
        found: list[Tensor] = []
        shape: tuple[int, ...] = ()
        for picture in pictures:
            moments = [time.perf_counter()]
            prepared, scale = self._prepare(picture, size)
            shape = (len(pictures), *prepared.shape[1:])
            moments.append(time.perf_counter())
            output = self.net(prepared)
            moments.append(time.perf_counter())
            found.append(self._choose(output, picture, scale))
            moments.append(time.perf_counter())
            spent_secs += np.diff(moments)
        prepare, infer, choose = (1e3 * spent_secs / len(pictures)).tolist()
        return Detections(
            pictures, found, self.names, times_ms=(prepare, infer, choose), shape=shape
        )

    def _prepare(self, picture: Picture, size: int | None) -> tuple[Tensor, float]:
        """``(1, 3, H, W)`` in 0..1 with sides that the network takes, and the scale it has."""
        height, width = picture.shape[:2]
        device = next(self.parameters()).device
        pixels = torch.from_numpy(_to_floats(picture)).to(device).permute(2, 0, 1)[None]
        scale = size / max(height, width) if size else 1.0
        if scale != 1.0:
            scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
            pixels = functional.interpolate(pixels, scaled, mode="bilinear", antialias=True)
        right, below = (-side % MULTIPLE for side in (pixels.shape[3], pixels.shape[2]))
        if right or below:
            pixels = functional.pad(pixels, (0, right, 0, below), value=0.45)
        return pixels.contiguous(memory_format=torch.channels_last), scale

    def _choose(self, output: Tensor, picture: Picture, scale: float) -> Tensor:
        """``(N, 6)`` in pixels of the picture, from the output of the network."""
        (found,) = candidates(output, classes=len(self.names), min_confidence=self.conf)
        if self.classes is not None:
            wanted = found.new_tensor(list(self.classes))
            found = found[torch.isin(found[:, 5], wanted)]
        found = suppress(
            found, max_iou=self.iou, max_detections=self.max_det, across_classes=self.agnostic
        )
        height, width = picture.shape[:2]
        found[:, :4] /= scale
        found[:, 0:4:2] = found[:, 0:4:2].clamp(0, width)
        found[:, 1:4:2] = found[:, 1:4:2].clamp(0, height)
        return found


def _to_floats(picture: Picture) -> NDArray[np.float32]:
    """The picture in 0..1. Channel by channel: numpy crawls along a last axis of three that runs
    backwards (20 ms instead of 1), and that is what ``bgr[:, :, ::-1]`` is."""
    floats = np.empty(picture.shape, np.float32)
    for channel in range(3):
        np.multiply(picture[:, :, channel], np.float32(1 / 255), out=floats[:, :, channel])
    return floats


def _as_pictures(given: Picture | Sequence[Picture]) -> list[Picture]:
    pictures = list(given) if isinstance(given, (list, tuple)) else [given]
    if not pictures:
        raise ValueError("The detector needs at least one picture; got an empty list.")
    return [_as_picture(picture) for picture in pictures]


def _as_picture(given: object) -> Picture:
    if isinstance(given, (str, bytes, Path)):
        raise TypeError(
            f"The detector needs pictures, got the path {given!r}. "
            "Read it with cv2.imread(path)[:, :, ::-1]."
        )
    picture = np.asarray(given)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            "A picture must be an (H, W, 3) uint8 array in RGB; got shape "
            f"{picture.shape} and dtype {picture.dtype}."
        )
    return picture


def as_detector(net: TinyNet, *, conf: float = 0.25, iou: float = 0.45) -> TinyDetector:
    """A detector around a copy of a trained network, made fast for inference."""
    fast = copy.deepcopy(net).eval()
    fold_batch_norm(fast)
    return TinyDetector(fast, conf=conf, iou=iou)


def load_detector(
    weights: Path | None = WEIGHTS, *, conf: float = 0.25, iou: float = 0.45
) -> TinyDetector:
    """A detector with the weights of a file, or with random ones when there is none (None)."""
    net = TinyNet(len(CLASS_NAMES))
    if weights is not None:
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return as_detector(net, conf=conf, iou=iou)
