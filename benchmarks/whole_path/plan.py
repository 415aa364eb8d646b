"""The phases of a run: one for each way of sending and each size."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Mode = Literal["paced", "loop", "burst"]

SIZES = (0, 8, 1024, 65_536, 921_600, 6_220_800, 40_000_000)
"""Bytes. The fifth is a frame of 640x480 in colour (VGA), the sixth one of 1920x1080 (1080p)."""
SIZE_NAMES = {0: "0 B", 8: "8 B", 1024: "1 KB", 65_536: "64 KB"}
SIZE_NAMES |= {921_600: "VGA", 6_220_800: "1080p", 40_000_000: "40 MB"}
TICK_MILLIS = 8
"""The sender's clock: it may send once in a whole number of ticks."""

_PACED_TICKS = {0: 1, 8: 1, 1024: 1, 65_536: 1, 921_600: 2, 6_220_800: 3, 40_000_000: 8}
_COUNTS: dict[Mode, dict[int, int]] = {
    "paced": {0: 90, 8: 90, 1024: 90, 65_536: 90, 921_600: 60, 6_220_800: 40, 40_000_000: 8},
    "loop": {0: 400, 8: 400, 1024: 400, 65_536: 300, 921_600: 200, 6_220_800: 60, 40_000_000: 6},
    "burst": {0: 3000, 8: 3000, 1024: 3000, 65_536: 2000, 921_600: 500, 6_220_800: 120, 40_000_000: 24},
}  # fmt: skip
_GATED_FROM = 10_000_000
"""From this size on, the next message waits for the answer to the last: else a peer that needs longer
than the pace would show its queue, not its path."""
QUEUE_SIZE = 4000
"""The receiver's queue size: more than any burst, so that no peer drops by policy."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One way of sending messages of one size."""

    mode: Mode
    size: int
    count: int
    warmup: int
    """How many of the first are not counted: they touch memory and fill caches."""
    every_ticks: int
    gated: bool


def phases(modes: Iterable[Mode], sizes: Iterable[int], *, divisor: int = 1) -> list[Phase]:
    """Every mode with every size; `divisor` makes each of them shorter."""
    chosen = list(sizes)
    return [_phase(mode, size, divisor) for mode in modes for size in chosen]


def as_json(planned: Iterable[Phase]) -> str:
    """What the sender and the receiver read from their environment."""
    return json.dumps([asdict(phase) for phase in planned])


def _phase(mode: Mode, size: int, divisor: int) -> Phase:
    count = max(4, _COUNTS[mode][size] // divisor)
    warmup = 0 if mode == "burst" else max(1, count // 8)
    gated = mode == "paced" and size >= _GATED_FROM
    return Phase(mode, size, count + warmup, warmup, _PACED_TICKS[size], gated)
