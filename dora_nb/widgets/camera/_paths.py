"""The paths of tracked objects over the last seconds, within bounds. Pure: the caller passes in the time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dora_nb.data.tracks import Tracks

MAX_PATHS = 100
"""The objects that were seen last are kept."""
MAX_PLACES = 150
"""Of one path: 3 s at 50 a second. Of more, the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Path:
    """The places of one object, the newest last."""

    number: int
    label: str
    places: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """All paths as they were at one message."""

    paths: tuple[Path, ...]
    num_bad: int = 0


@dataclass(slots=True)
class _Kept:
    label: str
    last_secs: float
    places: deque[tuple[float, float, float]] = field(
        default_factory=lambda: deque(maxlen=MAX_PLACES)
    )
    """Time, x, y."""


class PathHistory:
    """Collects the paths of one topic."""

    def __init__(self, secs: float) -> None:
        self._secs = secs
        self._kept: dict[int, _Kept] = {}
        self._now_secs = 0.0

    def add(self, tracks: Tracks, now_secs: float) -> Paths:
        """Adds a message; returns the paths up to it. `now_secs` is its stamp, or when it came."""
        if now_secs < self._now_secs:  # a video that starts again, a clock that was set
            self._kept.clear()
        self._now_secs = now_secs
        places = tracks.places.tolist()
        for number, (x, y), label in zip(tracks.ids.tolist(), places, tracks.labels, strict=True):
            # Taken out and put back, so that the order is that of the last message of each.
            kept = self._kept.pop(number, None) or _Kept(label, now_secs)
            self._kept[number] = kept
            kept.label, kept.last_secs = label, now_secs
            kept.places.append((now_secs, round(x, 1), round(y, 1)))
        self._forget_old(now_secs - self._secs)
        return Paths(
            tuple(
                Path(number, kept.label, tuple((x, y) for _, x, y in kept.places))
                for number, kept in self._kept.items()
            ),
            tracks.num_bad,
        )

    def _forget_old(self, before_secs: float) -> None:
        for number, kept in list(self._kept.items()):
            while kept.places and kept.places[0][0] < before_secs:
                kept.places.popleft()
            if not kept.places:
                del self._kept[number]
        while len(self._kept) > MAX_PATHS:
            del self._kept[next(iter(self._kept))]
