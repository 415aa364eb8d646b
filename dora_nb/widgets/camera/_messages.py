"""The overlays of a picture as a message to the page: JSON, and buffers for what is large."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ._drawn import DrawnMask, DrawnPoints
from ._feed import SentPicture
from ._matching import lag_micros
from ._overlays import Kind


def overlays_message(shown: SentPicture) -> tuple[dict[str, Any], list[bytes]]:
    """Returns the keys of a ``frame`` or ``overlays`` that say what is drawn, and its buffers after the first."""
    drawn = shown.drawn
    buffers: list[bytes] = []
    message: dict[str, Any] = {"boxes": drawn.boxes, **_ages(shown, "boxes")}
    if drawn.points is not None:
        buffers.append(drawn.points.values.astype("<f4").tobytes())
        points = {**_points(drawn.points), "buffer": len(buffers)}
        message["points"] = {**points, **_ages(shown, "points")}
    if drawn.mask is not None:
        buffers.append(_runs(drawn.mask))
        mask = {**_mask(drawn.mask), "buffer": len(buffers)}
        message["mask"] = {**mask, **_ages(shown, "mask")}
    if drawn.tracks is not None:
        buffers.append(drawn.tracks.places.astype("<f4").tobytes())
        tracks = {"paths": drawn.tracks.paths, "buffer": len(buffers)}
        message["tracks"] = {**tracks, **_ages(shown, "tracks")}
    return message, buffers


def _points(points: DrawnPoints) -> dict[str, Any]:
    return {
        "lines": points.lines,
        "colours": points.colours,
        "per_object": points.per_object,
    }


def _mask(mask: DrawnMask) -> dict[str, Any]:
    return {
        "number": mask.number,
        "width": mask.width,
        "height": mask.height,
        "legend": [[label, colour, round(share, 4)] for label, colour, share in mask.legend],
    }


def _runs(mask: DrawnMask) -> bytes:
    """Returns all lengths, and behind them all places."""
    return mask.lengths.astype("<u4").tobytes() + mask.places.astype(np.uint8).tobytes()


def _ages(shown: SentPicture, kind: Kind) -> dict[str, float | None]:
    """Returns how far the overlay is behind the frame, and how long ago it came, in ms."""
    overlay = None if shown.overlays is None else shown.overlays.of(kind)
    if overlay is None:
        return {"lag": None, "age": None}
    lag = lag_micros(shown.stamp_micros, overlay.stamp_micros)
    return {
        "lag": None if lag is None else lag / 1000,
        "age": (time.monotonic() - overlay.received_secs) * 1000,
    }
