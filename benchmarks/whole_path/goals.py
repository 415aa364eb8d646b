"""The goals of the engine, as ratios to a peer or to a limit of the same round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .path import TWO_HOPS
from .peers import LIMIT, OURS
from .records import Results, Summary

WORST_FACTOR = 1.3
"""A single round may miss its goal by this factor."""
_SMALL = ("0 B", "8 B", "1 KB")


@dataclass(frozen=True)
class Goal:
    """A bound, in each case, for one of our figures over a peer's; without a peer, for our figure."""

    title: str
    measure: str
    figure: str
    other: str | None
    limits: dict[str, float]
    ours: str = OURS
    other_measure: str | None = None
    other_case: str | None = None
    higher_is_better: bool = False


class Outcome(NamedTuple):
    """A goal in one case, and what came out."""

    goal: Goal
    case: str
    limit: float
    reached: Summary | None

    @property
    def median_holds(self) -> bool:
        """Whether the median is within the goal."""
        return self.reached is not None and self._holds(self.reached.median, 1.0)

    @property
    def worst_holds(self) -> bool:
        """Whether the worst round is within `WORST_FACTOR` of the goal."""
        return self.reached is not None and self._holds(self.reached.worst, WORST_FACTOR)

    def _holds(self, value: float, factor: float) -> bool:
        if self.goal.higher_is_better:
            return value >= self.limit / factor
        return value <= self.limit * factor


def _by_case(
    small: float | None, kb64: float | None, vga: float | None, hd: float | None, mb40: float | None
) -> dict[str, float]:
    cases = [*((case, small) for case in _SMALL), ("64 KB", kb64), ("VGA", vga)]
    cases += [("1080p", hd), ("40 MB", mb40)]
    return {case: limit for case, limit in cases if limit is not None}


def _loops(placement: str, label: str) -> list[Goal]:
    limits = _by_case(0.13, 0.15, 0.27, 0.55, 0.10)
    return [
        Goal(f"closed loop / dora-rs, {label}", f"loop/{placement}", "p50_micros", "dora", limits)
    ]


GOALS = [
    Goal("paced / dora-rs", "paced", "p50_micros", "dora", _by_case(0.33, 0.36, 0.48, 0.75, 0.05)),
    Goal(
        "paced by send_output_raw / dora-rs",
        "paced",
        "p50_micros",
        "dora",
        _by_case(None, None, None, 0.55, None),
        ours="raw",
    ),
    Goal(
        "paced / dora-rs, 512 MB pool",
        "paced",
        "p50_micros",
        "dora512",
        _by_case(0.33, 0.36, 0.40, 0.50, 0.90),
    ),
    *_loops("one", "one CPU"),
    *_loops("free", "free"),
    Goal(
        "closed loop / two hops, one CPU",
        "loop/one",
        "p50_micros",
        LIMIT,
        _by_case(7.0, None, None, None, None),
        other_case=TWO_HOPS,
    ),
    Goal(
        "closed loop / one copy, one CPU",
        "loop/one",
        "p50_micros",
        LIMIT,
        _by_case(None, None, 4.5, 1.3, 1.1),
        other_measure="copy",
    ),
    Goal(
        "burst rate / dora-rs",
        "burst",
        "messages_per_sec",
        "dora",
        _by_case(15, 8, 4.5, 10, 10),
        higher_is_better=True,
    ),
    Goal(
        "burst rate / dora-rs, 512 MB pool",
        "burst",
        "messages_per_sec",
        "dora512",
        _by_case(15, 10, 4, 2.2, 1.5),
        higher_is_better=True,
    ),
    Goal("burst, messages lost", "burst", "dropped", None, _by_case(0, 0, 0, 0, 0)),
    Goal("fan-out to eight / dora-rs", "fan-out VGA", "p50_micros", "dora", {"8": 0.5}),
    Goal(
        "start to first message, ms",
        "start",
        "last_millis",
        None,
        {"1, spares": 8, "5, spares": 60},
    ),
    Goal("memory (RSS) / dora-rs", "memory", "rss_mib", "dora", {"idle operator": 0.65}),
    Goal(
        "ten idle operators and their kernel, % of a CPU", "idle", "cpu_percent", None, {"10": 1.0}
    ),
    Goal(
        "subscriber, busy kernel, p95 in µs",
        "subscriber VGA 30 Hz",
        "p95_micros",
        None,
        {"busy": 5000},
    ),
    Goal(
        "subscriber, frames lost", "subscriber VGA 30 Hz", "dropped", None, {"idle": 0, "busy": 0}
    ),
]


def outcomes(results: Results) -> list[Outcome]:
    """Every goal whose figures this run has measured."""
    found = []
    for goal in GOALS:
        for case, limit in goal.limits.items():
            reached = _reached(results, goal, case)
            if reached is not None:
                found.append(Outcome(goal, case, limit, reached))
    return found


def _reached(results: Results, goal: Goal, case: str) -> Summary | None:
    higher = goal.higher_is_better
    if goal.other is None:
        return results.summary(goal.measure, goal.ours, case, goal.figure, higher_is_better=higher)
    return results.ratio(
        goal.measure,
        case,
        goal.figure,
        ours=goal.ours,
        other=goal.other,
        other_measure=goal.other_measure,
        other_case=goal.other_case,
        higher_is_better=higher,
    )
