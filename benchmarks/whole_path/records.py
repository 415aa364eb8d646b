"""The results: one record for each round, peer and case, and their summary over the rounds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Record:
    """The figures of one peer in one case of a measure, in one round."""

    measure: str
    peer: str
    case: str
    round: int
    figures: dict[str, float]
    """By name, which ends in the unit."""


class Summary(NamedTuple):
    """The median of the rounds, and the round that is worst for us."""

    median: float
    worst: float


class Results:
    """The records of a run, and how it was made."""

    def __init__(self, machine: dict[str, Any], records: Iterable[Record] = ()) -> None:
        self.machine = machine
        self.records = list(records)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Reads a file that `write` has written."""
        text = json.loads(path.read_text(encoding="utf-8"))
        return cls(text["machine"], [Record(**record) for record in text["records"]])

    def write(self, path: Path) -> None:
        """Writes JSON, one record on each line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(asdict(record)) for record in self.records)
        head = json.dumps(self.machine)
        path.write_text(f'{{"machine": {head},\n"records": [\n{lines}\n]}}\n', encoding="utf-8")

    def by_round(self, measure: str, peer: str, case: str, figure: str) -> dict[int, float]:
        """One figure in each round that has it."""
        return {
            record.round: record.figures[figure]
            for record in self.records
            if (record.measure, record.peer, record.case) == (measure, peer, case)
            and figure in record.figures
        }

    def summary(
        self, measure: str, peer: str, case: str, figure: str, *, higher_is_better: bool = False
    ) -> Summary | None:
        """The median of a figure and its worst round; None where it was not measured."""
        return summarise(
            self.by_round(measure, peer, case, figure).values(), higher_is_better=higher_is_better
        )

    def ratio(
        self,
        measure: str,
        case: str,
        figure: str,
        *,
        ours: str,
        other: str,
        other_measure: str | None = None,
        other_case: str | None = None,
        higher_is_better: bool = False,
    ) -> Summary | None:
        """Ours divided by another's, round by round; None where no round has both."""
        own = self.by_round(measure, ours, case, figure)
        theirs = self.by_round(other_measure or measure, other, other_case or case, figure)
        ratios = [own[number] / theirs[number] for number in own if theirs.get(number)]
        return summarise(ratios, higher_is_better=higher_is_better)

    def cases(self, measure: str) -> list[str]:
        """The cases of a measure, in the order in which they were measured."""
        return list(dict.fromkeys(each.case for each in self.records if each.measure == measure))

    def peers(self, measure: str) -> list[str]:
        """Who was measured there."""
        return list(dict.fromkeys(each.peer for each in self.records if each.measure == measure))

    def measures(self) -> list[str]:
        """All measures of the run."""
        return list(dict.fromkeys(each.measure for each in self.records))


def summarise(values: Iterable[float], *, higher_is_better: bool = False) -> Summary | None:
    """The median and the worst; None of nothing."""
    known = list(values)
    if not known:
        return None
    return Summary(statistics.median(known), min(known) if higher_is_better else max(known))


def quantiles_micros(nanos: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile of times in nanoseconds; nothing of nothing."""
    if not len(nanos):
        return {}
    p50, p99 = np.percentile(np.asarray(nanos, np.float64), [50, 99]) / 1e3
    return {"p50_micros": float(p50), "p99_micros": float(p99)}
