"""What is drawn on a frame: boxes, points, a mask and tracks, each from a topic of its own. Pure.

`Assembly` puts together what came from the topics. A frame that is shown with its own overlays gets those
of one stamp, once all have come; otherwise it gets the newest of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from dora_nb.data.boxes import Boxes
from dora_nb.data.masks import Mask
from dora_nb.data.points import Points

from ._paths import Paths
from ._sync_choice import is_same_stamp

Kind = Literal["boxes", "points", "mask", "tracks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Content: TypeAlias = Boxes | Points | Mask | Paths


@dataclass(frozen=True, slots=True)
class Overlay:
    """One message of one topic."""

    kind: Kind
    content: Content | None
    """None if it could not be read: its frame is shown without it."""
    stamp_micros: int | None
    received_secs: float
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class Overlays:
    """What is drawn on one frame: at most one message of each topic."""

    stamp_micros: int | None
    """Of the message that came last; of all, if they are of one stamp."""
    received_secs: float
    """When the last one came, monotonic."""
    by_kind: Mapping[Kind, Overlay] = field(default_factory=dict)

    def of(self, kind: Kind) -> Overlay | None:
        """Returns the message of that kind; None if there is none, or if it could not be read."""
        found = self.by_kind.get(kind)
        return None if found is None or found.content is None else found


class Assembly:
    """Puts the messages of several topics together, by stamp and by age."""

    MAX_INCOMPLETE = 16
    """Stamps that may wait for the messages of other topics."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        self.kinds = tuple(kinds)
        self.unmatched = 0
        """Messages whose stamp never had one of each topic."""
        self._newest: dict[Kind, Overlay] = {}
        self._incomplete: deque[dict[Kind, Overlay]] = deque()

    @property
    def came(self) -> frozenset[Kind]:
        """The topics that have sent something to draw."""
        return frozenset(self._newest)

    @property
    def newest(self) -> Overlays | None:
        """The newest message of each topic that could be read."""
        if not self._newest:
            return None
        last = max(self._newest.values(), key=lambda each: each.received_secs)
        return Overlays(last.stamp_micros, last.received_secs, dict(self._newest))

    def add(self, overlay: Overlay) -> Overlays | None:
        """Adds a message; returns those of its stamp if it was the last one that lacked."""
        if overlay.content is not None:
            self._newest[overlay.kind] = overlay
        if len(self.kinds) == 1:
            return Overlays(overlay.stamp_micros, overlay.received_secs, {overlay.kind: overlay})
        if overlay.stamp_micros is None:
            self.unmatched += 1
            return None
        for group in self._incomplete:
            stamp = next(iter(group.values())).stamp_micros
            if is_same_stamp(stamp, overlay.stamp_micros) and overlay.kind not in group:
                group[overlay.kind] = overlay
                return self._complete(group)
        self._incomplete.append({overlay.kind: overlay})
        if len(self._incomplete) > self.MAX_INCOMPLETE:
            self.unmatched += len(self._incomplete.popleft())
        return None

    def _complete(self, group: dict[Kind, Overlay]) -> Overlays | None:
        if len(group) < len(self.kinds):
            return None
        # Topics keep their order, so what is older can no longer become complete.
        while self._incomplete[0] is not group:
            self.unmatched += len(self._incomplete.popleft())
        self._incomplete.popleft()
        last = max(group.values(), key=lambda each: each.received_secs)
        return Overlays(last.stamp_micros, last.received_secs, group)

    def forget(self, before_secs: float) -> None:
        """Drops what was received before: it belongs to an earlier run."""
        self._newest = {
            kind: each for kind, each in self._newest.items() if each.received_secs >= before_secs
        }
        kept = [
            group
            for group in self._incomplete
            if max(each.received_secs for each in group.values()) >= before_secs
        ]
        self.unmatched += sum(map(len, self._incomplete)) - sum(map(len, kept))
        self._incomplete = deque(kept)
