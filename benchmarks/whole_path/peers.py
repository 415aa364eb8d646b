"""The peers that are compared: each runs the same sender and receiver, and reports in the same form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import bare, engines
from .engines import BenchNode
from .plan import QUEUE_SIZE, TICK_MILLIS, Phase, as_json

Placement = Literal["free", "one", "two"]
PLACEMENT_NAMES = {"free": "left to the scheduler", "one": "on one CPU", "two": "on two CPUs"}
PhaseReports = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""What the sender and the receiver report of each phase."""
LARGE_POOL_BYTES = 512 << 20


@dataclass(frozen=True)
class Peer:
    """One of those that are compared."""

    name: str
    label: str
    run_pair: Callable[[Sequence[Phase], Placement], PhaseReports]
    run_nodes: Callable[[Sequence[BenchNode]], dict[str, Any]] | None = None
    """Runs any graph of nodes; None for a transport without an engine."""


def _on_engine(
    run_nodes: Callable[[Sequence[BenchNode]], dict[str, Any]], *, raw: bool = False
) -> Callable[[Sequence[Phase], Placement], PhaseReports]:
    def run(phases: Sequence[Phase], placement: Placement) -> PhaseReports:
        with placed(placement) as cpus:
            reported = run_nodes(_pair(phases, cpus, raw=raw))
        return reported["sender"], reported["receiver"]

    return run


def _on_bare(
    transport: bare.Bare,
) -> Callable[[Sequence[Phase], Placement], PhaseReports]:
    def run(phases: Sequence[Phase], placement: Placement) -> PhaseReports:
        with placed(placement) as cpus:
            return bare.run_on(transport, as_json(phases), cpus=cpus)

    return run


def _pair(phases: Sequence[Phase], cpus: tuple[int, int] | None, *, raw: bool) -> list[BenchNode]:
    environment = {"BENCH_PHASES": as_json(phases)}
    if cpus is not None:
        environment |= {"BENCH_SENDER_CPU": str(cpus[0]), "BENCH_RECEIVER_CPU": str(cpus[1])}
    sender = BenchNode(
        "sender",
        "raw_sender.py" if raw else "sender.py",
        {"tick": f"dora/timer/millis/{TICK_MILLIS}", "answer": "receiver/answer"},
        ["data"],
        QUEUE_SIZE,
        environment,
        "script" if raw else "operator",
    )
    receiver = BenchNode(
        "receiver", "receiver.py", {"data": "sender/data"}, ["answer"], QUEUE_SIZE, environment
    )
    return [sender, receiver]


@contextlib.contextmanager
def placed(placement: Placement) -> Iterator[tuple[int, int] | None]:
    """The CPUs of the sender and of the receiver. What is started within inherits "one"."""
    allowed = sorted(os.sched_getaffinity(0))
    if placement == "free":
        yield None
    elif placement == "two":
        yield allowed[0], allowed[-1]
    else:
        os.sched_setaffinity(0, {allowed[0]})
        try:
            yield allowed[0], allowed[0]
        finally:
            os.sched_setaffinity(0, allowed)


def _dora(pool_bytes: int | None) -> Callable[[Sequence[BenchNode]], dict[str, Any]]:
    return lambda nodes: engines.run_on_dora(nodes, pool_bytes=pool_bytes)


_PEERS = (
    Peer("dora_nb", "dora_nb", _on_engine(engines.run_on_dora_nb), engines.run_on_dora_nb),
    Peer("raw", "dora_nb, send_output_raw", _on_engine(engines.run_on_dora_nb, raw=True)),
    Peer("dora", "dora-rs", _on_engine(_dora(None)), _dora(None)),
    Peer(
        "dora512",
        "dora-rs, 512 MB pool",
        _on_engine(_dora(LARGE_POOL_BYTES)),
        _dora(LARGE_POOL_BYTES),
    ),
    Peer("iceoryx2", "iceoryx2", _on_bare(bare.ICEORYX2)),
    Peer("pyzmq", "pyzmq", _on_bare(bare.PYZMQ)),
    Peer("multiprocessing", "multiprocessing", _on_bare(bare.MULTIPROCESSING)),
)
PEERS = {peer.name: peer for peer in _PEERS}
OURS = "dora_nb"
LIMIT = "limit"
"""The name of the figures of `limits` in the results, where they are listed like a peer."""
LABELS = {peer.name: peer.label for peer in _PEERS} | {LIMIT: "limit"}
