"""Graphs of more than two nodes: a fan-out, a chain; and arrays with more than a flat buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .engines import BenchNode
from .peers import OURS, PEERS, placed
from .plan import SIZE_NAMES
from .records import Record, quantiles_micros

FAN_OUTS = (1, 2, 4, 8)
CHAINS = (1, 2, 8, 32)
_OTHERS_CHAINS = (1, 2, 8)
"""Of dora-rs, whose processes take longer to start."""
_FRAME = 921_600
_SMALL = 1024
_WARMUP = 5


def measure_fan_out(peers: Sequence[str], *, number: int, divisor: int) -> Iterator[Record]:
    """One round: frames of VGA at 30 Hz, read by one to eight."""
    for readers in FAN_OUTS if divisor == 1 else FAN_OUTS[:2]:
        for name in peers:
            source = _source(_FRAME, 33, 36 // min(divisor, 3))
            nodes = [source] + [_collector(f"reader{at}", "source/frame") for at in range(readers)]
            yield _record(f"fan-out {SIZE_NAMES[_FRAME]}", name, f"{readers}", number, nodes)


def measure_chain(peers: Sequence[str], *, number: int, divisor: int) -> Iterator[Record]:
    """One round: 1 KB through one to 32 operators, from the source to the last."""
    for length in CHAINS if divisor == 1 else CHAINS[:2]:
        for name in peers:
            if name != OURS and length not in _OTHERS_CHAINS:
                continue
            nodes = [_source(_SMALL, 24, 30 // min(divisor, 3))]
            before = "source"
            for at in range(length - 1):
                relay = BenchNode(
                    f"relay{at}", "relay.py", {"frame": f"{before}/frame"}, ["frame"], reports=False
                )
                nodes.append(relay)
                before = relay.name
            nodes.append(_collector("last", f"{before}/frame"))
            yield _record("chain 1 KB", name, f"{length}", number, nodes)


def measure_types(peers: Sequence[str], *, number: int) -> Iterator[Record]:
    """One round: the closed loop of eight boxes in Arrow's types, all on one CPU."""
    nodes = [
        BenchNode(
            "typed", "typed.py", {"tick": "dora/timer/millis/50", "answer": "echo/answer"}, ["data"]
        ),
        BenchNode("echo", "echo.py", {"data": "typed/data"}, ["answer"], reports=False),
    ]
    for name in peers:
        run = PEERS[name].run_nodes
        assert run is not None
        with placed("one"):
            reported = run(nodes)["typed"]
        for kind, round_trips in reported.items():
            yield Record("types", name, kind, number, quantiles_micros(round_trips))


def _source(size: int, every_millis: int, count: int) -> BenchNode:
    environment = {"BENCH_SIZE": str(size), "BENCH_COUNT": str(count + _WARMUP)}
    tick = {"tick": f"dora/timer/millis/{every_millis}"}
    return BenchNode("source", "source.py", tick, ["frame"], env=environment, reports=False)


def _collector(name: str, source: str) -> BenchNode:
    return BenchNode(name, "collector.py", {"frame": source}, queue_size=100)


def _record(measure: str, name: str, case: str, number: int, nodes: Sequence[BenchNode]) -> Record:
    run = PEERS[name].run_nodes
    assert run is not None
    reports = run(nodes)
    latencies = [each for report in reports.values() for each in report[_WARMUP:]]
    received = sum(len(report) for report in reports.values())
    figures = quantiles_micros(latencies) | {"received": received}
    return Record(measure, name, case, number, figures)
