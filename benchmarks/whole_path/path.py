"""From one node to the next: paced, in a closed loop, in bursts; and the limits of the same sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .limits import copy_micros, two_hops_micros
from .peers import LIMIT, PEERS, PhaseReports, Placement, placed
from .plan import SIZE_NAMES, Phase, phases
from .records import Record, quantiles_micros

PLACEMENTS: tuple[Placement, ...] = ("one", "two", "free")
TWO_HOPS = "two hops"
"""The case of the limit that has no size."""
_HOPS, _COPIES = 800, 40
_LARGE = 1_000_000


def measure_name(mode: str, placement: Placement) -> str:
    """How a measure is called in the records."""
    return mode if placement == "free" and mode != "loop" else f"{mode}/{placement}"


def measure_path(
    peers: Sequence[str], sizes: Sequence[int], *, number: int, divisor: int
) -> Iterator[Record]:
    """One round: paced, closed loop and burst of each peer, left to the scheduler."""
    planned = phases(("paced", "loop", "burst"), sizes, divisor=divisor)
    for name in peers:
        yield from _records(name, planned, "free", number)


def measure_loops(
    peers: Sequence[str], sizes: Sequence[int], *, number: int, divisor: int
) -> Iterator[Record]:
    """One round: the closed loop of each peer, all on one CPU, and each end on a CPU of its own."""
    planned = phases(("loop",), sizes, divisor=divisor)
    for placement in PLACEMENTS[:2]:
        for name in peers:
            if name == "raw":  # It differs where the bytes are many, and that is paced.
                continue
            yield from _records(name, planned, placement, number)


def measure_limits(sizes: Sequence[int], *, number: int, divisor: int) -> Iterator[Record]:
    """One round: two hops between two Python processes, and one copy of each size."""
    for placement in PLACEMENTS:
        with placed(placement) as cpus:
            micros = two_hops_micros(_HOPS // divisor, cpus=cpus)
        yield Record(measure_name("loop", placement), LIMIT, TWO_HOPS, number, _as_p50(micros))
    for size in sizes:
        if size >= 1 << 16:
            rounds = max(4, (_COPIES if size < _LARGE else _COPIES // 3) // divisor)
            yield Record(
                "copy", LIMIT, SIZE_NAMES[size], number, _as_p50(copy_micros(size, rounds))
            )


def _as_p50(micros: list[float]) -> dict[str, float]:
    return quantiles_micros([each * 1e3 for each in micros])


def _records(
    name: str, planned: Sequence[Phase], placement: Placement, number: int
) -> Iterator[Record]:
    reports = PEERS[name].run_pair(planned, placement)
    for phase, figures in zip(planned, phase_figures(planned, reports), strict=True):
        measure = measure_name(phase.mode, placement)
        yield Record(measure, name, SIZE_NAMES[phase.size], number, figures)


def phase_figures(planned: Sequence[Phase], reports: PhaseReports) -> list[dict[str, float]]:
    """The figures of each phase, from the reports of the sender and the receiver."""
    return [
        _figures(phase, sent, received)
        for phase, sent, received in zip(planned, *reports, strict=True)
    ]


def _figures(phase: Phase, sent: dict[str, Any], received: dict[str, Any]) -> dict[str, float]:
    counts = {"sent": sent["sent"], "received": received["received"]}
    counts["dropped"] = counts["sent"] - counts["received"]
    if phase.mode == "loop":
        return quantiles_micros(sent["round_trips"][phase.warmup :]) | counts
    if phase.mode == "paced":
        return quantiles_micros(_latencies(sent, received)[phase.warmup :]) | counts
    secs = (received["last_nanos"] - sent["first_nanos"]) / 1e9
    if not counts["received"] or secs <= 0:
        return counts
    rate = counts["received"] / secs
    return {"messages_per_sec": rate, "gb_per_sec": rate * phase.size / 1e9, **counts}


def _latencies(sent: dict[str, Any], received: dict[str, Any]) -> list[int]:
    """Pairs messages by the stamps in the payload; those without a stamp by their order."""
    if received["received_nanos"]:
        if len(sent["sent_nanos"]) != len(received["received_nanos"]):
            return []
        pairs = zip(sent["sent_nanos"], received["received_nanos"], strict=True)
        return [there - here for here, there in pairs]
    latencies: list[int] = received["latencies"]
    return latencies
