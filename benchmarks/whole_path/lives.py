"""Figures that are not about messages: starting, editing, memory, and the cost of an idle dataflow."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb import Dataflow, Event
from dora_nb.engines.embedded import SPARES

from . import engines
from .engines import BenchNode, reports_for
from .records import Record, quantiles_micros

STARTS = (1, 5)
_IDLE_OPERATORS = 10
_IDLE_SECS = 4.0
_MEMORY_OPERATORS = 3
_WARM_SECS = 30.0
_VARIABLE = "DORA_NB_SPARES"
_TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
_TICK = {"tick": "dora/timer/millis/20"}
_NEVER = {"tick": "dora/timer/secs/3600"}
_EDITED = """
import os, time
import pyarrow as pa
class Operator:
    edition = EDITION
    def __init__(self):
        self.reported = BEGIN
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT" and self.reported != self.edition:
            pa.array([1])
            now_nanos = time.perf_counter_ns()
            self.reported = self.edition
            with open(os.environ["BENCH_OUT"] + str(self.edition), "w") as file:
                file.write(f"{now_nanos}\\n")
"""


def measure_lives(peers: Sequence[str], *, number: int, divisor: int) -> Iterator[Record]:
    """One round of all of them."""
    for operators in STARTS:
        if "dora_nb" in peers:
            for case, spares in ((f"{operators}, spares", operators), (f"{operators}, none", 0)):
                yield Record("start", "dora_nb", case, number, start_millis(operators, spares))
        if "dora" in peers:
            yield Record(
                "start", "dora", f"{operators}, none", number, dora_start_millis(operators)
            )
    if "dora_nb" in peers:
        yield Record("edit", "dora_nb", "in place", number, edit_millis(fresh=False))
        yield Record("edit", "dora_nb", "fresh", number, edit_millis(fresh=True))
        yield Record("memory", "dora_nb", "idle operator", number, memory_mib())
        yield Record("idle", "dora_nb", f"{_IDLE_OPERATORS}", number, idle_percent(divisor))
    if "dora" in peers:
        yield Record("memory", "dora", "idle operator", number, dora_memory_mib())


# -- starting --------------------------------------------------------------------------------------


def start_millis(operators: int, spares: int) -> dict[str, float]:
    """From the call of `start` to the first event of the first and of the last operator."""
    nodes = _firsts(operators, _TICK)
    with keeping_spares(spares), reports_for(nodes) as (reports, _), Dataflow() as flow:
        engines.declare(flow, nodes, reports)
        if spares and not SPARES.wait_warm(spares, _WARM_SECS):
            return {}
        begin_nanos = time.perf_counter_ns()
        flow.start()
        return _start_figures(reports.wait(lambda: engines.failure_of(flow)), begin_nanos)


def dora_start_millis(operators: int) -> dict[str, float]:
    """From the start of ``dora run`` to the first event of the first and of the last operator."""
    nodes = _firsts(operators, _TICK)
    with reports_for(nodes) as (reports, folder):
        begin_nanos = time.perf_counter_ns()
        with engines.dora_running(nodes, reports, folder, pool_bytes=None, ends=False) as popen:
            reported = reports.wait(lambda: engines.why_dora_ended(popen, folder))
    return _start_figures(reported, begin_nanos)


class keeping_spares:  # noqa: N801 - reads as the context that it is
    """Within it so many spare interpreters are kept at most."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        self._before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = str(self._number)
        SPARES.allow()

    def __exit__(self, *exc: object) -> None:
        SPARES.close()
        os.environ[_VARIABLE] = self._before or "0"
        SPARES.allow()


def _firsts(operators: int, inputs: dict[str, str]) -> list[BenchNode]:
    return [BenchNode(f"op{at}", "first.py", inputs) for at in range(operators)]


def _start_figures(reported: dict[str, Any], begin_nanos: int) -> dict[str, float]:
    millis = sorted((nanos - begin_nanos) / 1e6 for _, nanos in reported.values())
    return {"first_millis": millis[0], "last_millis": millis[-1]}


# -- editing ---------------------------------------------------------------------------------------


def edit_millis(*, fresh: bool) -> dict[str, float]:
    """From running a changed cell of a running dataflow to the first event that its new code handles."""
    nodes = [BenchNode("op", "", _TICK)]
    with keeping_spares(1), reports_for(nodes) as (reports, _), Dataflow() as flow:
        path = reports.paths["op"]
        env = {"BENCH_OUT": str(path)}
        first = _EDITED.replace("EDITION", "0").replace("BEGIN", "-1")
        second = _EDITED.replace("EDITION", "1").replace("BEGIN", "-2" if fresh else "-1")
        flow.add_operator("op", first, inputs=_TICK, env=env)
        flow.start()
        SPARES.wait_warm(1, _WARM_SECS)
        begin_nanos = time.perf_counter_ns()
        flow.add_operator("op", second, inputs=_TICK, env=env)
        return {"first_millis": (_wait_for_stamp(Path(f"{path}1")) - begin_nanos) / 1e6}


def _wait_for_stamp(path: Path) -> int:
    deadline_secs = time.monotonic() + engines.REPORT_SECS
    while time.monotonic() < deadline_secs:
        if path.exists() and (text := path.read_text(encoding="utf-8")).endswith("\n"):
            return int(text)
        time.sleep(0.002)
    raise engines.RunFailedError("the new code handled nothing")


# -- memory and idleness ---------------------------------------------------------------------------


def memory_mib() -> dict[str, float]:
    """The memory of an operator that has handled one event."""
    nodes = _firsts(_MEMORY_OPERATORS, _NEVER)
    with reports_for(nodes) as (reports, _), Dataflow() as flow:
        engines.declare(flow, nodes, reports)
        flow.start()
        return _memory_of(reports.wait(lambda: engines.failure_of(flow)))


def dora_memory_mib() -> dict[str, float]:
    """The same of dora-rs."""
    nodes = _firsts(_MEMORY_OPERATORS, _NEVER)
    with (
        reports_for(nodes) as (reports, folder),
        engines.dora_running(nodes, reports, folder, pool_bytes=None, ends=False) as popen,
    ):
        return _memory_of(reports.wait(lambda: engines.why_dora_ended(popen, folder)))


def idle_percent(divisor: int) -> dict[str, float]:
    """The share of one CPU that ten idle operators, and the process that started them, use."""
    nodes = _firsts(_IDLE_OPERATORS, _NEVER)
    with reports_for(nodes) as (reports, _), Dataflow() as flow:
        engines.declare(flow, nodes, reports)
        flow.start()
        reported = reports.wait(lambda: engines.failure_of(flow))
        process_ids = [os.getpid(), *(process_id for process_id, _ in reported.values())]
        time.sleep(0.5)
        before = sum(_cpu_ticks(each) for each in process_ids)
        secs = _IDLE_SECS if divisor == 1 else 1.0
        time.sleep(secs)
        ticks = sum(_cpu_ticks(each) for each in process_ids) - before
    return {"cpu_percent": 100 * ticks / _TICKS_PER_SEC / secs}


def _memory_of(reported: dict[str, Any]) -> dict[str, float]:
    rollups = [_rollup_kib(process_id) for process_id, _ in reported.values()]
    own = [each["Private_Clean"] + each["Private_Dirty"] for each in rollups]
    return {
        "rss_mib": statistics.median(each["Rss"] for each in rollups) / 1024,
        "uss_mib": statistics.median(own) / 1024,
        "pss_mib": statistics.median(each["Pss"] for each in rollups) / 1024,
    }


def _rollup_kib(process_id: int) -> dict[str, int]:
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}


def _cpu_ticks(process_id: int) -> int:
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# -- the kernel as a reader ------------------------------------------------------------------------


def measure_subscriber(*, number: int, divisor: int) -> Iterator[Record]:
    """One round: frames of VGA at 30 Hz into this process, while its main thread sleeps or computes."""
    for case, busy in (("idle", False), ("busy", True)):
        yield Record(
            "subscriber VGA 30 Hz",
            "dora_nb",
            case,
            number,
            subscriber_micros(90 // min(divisor, 5), busy),
        )


def _compute() -> None:
    """What a cell does that is busy: no call that holds the interpreter for long."""
    total = 0
    for number in range(2000):
        total += number


def subscriber_micros(count: int, busy: bool) -> dict[str, float]:
    """From the stamp to the call of a subscription's callback."""
    pa.array([0]).to_numpy()  # The first of a process loads pandas, where that is installed.
    latencies: list[int] = []
    enough = threading.Event()

    def note(event: Event) -> None:
        received_nanos = time.perf_counter_ns()
        stamp_nanos = int(event["value"].to_numpy()[:8].view(np.int64)[0])
        latencies.append(received_nanos - stamp_nanos)
        if len(latencies) >= count:
            enough.set()

    environment = {"BENCH_SIZE": "921600", "BENCH_COUNT": str(count)}
    source = engines.NODES / "source.py"
    with Dataflow() as flow:
        flow.add_operator(
            "source",
            source,
            inputs={"tick": "dora/timer/hz/30"},
            outputs=["frame"],
            env=environment,
        )
        listener = flow.subscribe("source/frame", note)
        flow.start()
        deadline_secs = time.monotonic() + count / 30 + 5
        while not enough.is_set() and time.monotonic() < deadline_secs:
            if busy:
                _compute()
            else:
                enough.wait(0.5)
        flow.stop()
        listener.close()
    figures = quantiles_micros(latencies)
    if latencies:
        figures["p95_micros"] = float(np.percentile(latencies, 95)) / 1e3
    return figures | {"received": len(latencies), "dropped": count - len(latencies)}
