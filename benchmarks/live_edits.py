"""Measures how long an edit takes: dora_nb's edits and dora-rs's hot reload, in one run.

    python -m benchmarks.live_edits [--rounds 3] [--edits 20]

Numbers go at 1 kHz from a source through the operator that is edited to a sink, on both engines in turn.
The operator stamps the beginning of each `on_event` with the machine's monotonic clock, and the sink
keeps the first stamp of each generation and the last one of the generation before. The figures, in ms:

latency   from the edit (the cell reaches the kernel; the file is written) to the first event that the
          new code handles
gap       from the last event of the old code to the first of the new code; the messages are 1 ms apart
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dora_nb import Dataflow
from dora_nb.engines.dora._cluster import Cluster

_WAIT_SECS = 10.0
_LOOK_SECS = 0.002
_BETWEEN_SECS = 0.05
SOURCE = """
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", pa.array([1]))
        return DoraStatus.CONTINUE
from dora import DoraStatus
"""
EDITED = """
import time
import pyarrow as pa
from dora import DoraStatus
GENERATION = {generation}
class Operator:
    def __init__(self):
        self.made = {made}
    def on_event(self, dora_event, send_output):
        begin = time.monotonic_ns()
        if dora_event["type"] == "INPUT":
            send_output("out", pa.array([GENERATION, begin]))
        return DoraStatus.CONTINUE
"""
SINK = """
import os
from dora import DoraStatus
class Operator:
    def __init__(self):
        self.generation, self.last = None, 0
        self.file = open(os.environ["SEEN"], "a", buffering=1)
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            generation, begin = dora_event["value"].to_pylist()
            if generation != self.generation:
                self.file.write(f"{generation} {begin} {self.last}\\n")
                self.generation = generation
            self.last = begin
        return DoraStatus.CONTINUE
"""
Edit = Callable[[str], object]


@dataclass
class Times:
    """Of one way to edit, in milliseconds."""

    latencies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    missed: int = 0
    """Edits that no event ever showed."""

    def summary(self) -> dict[str, float | int]:
        """Medians and 95th percentiles; of nothing, nothing."""
        found: dict[str, float | int] = {"edits": len(self.latencies), "missed": self.missed}
        for name, values in (("latency", self.latencies), ("gap", self.gaps)):
            if values:
                found[f"{name}_p50_ms"] = round(statistics.median(values), 2)
                found[f"{name}_p95_ms"] = round(sorted(values)[int(0.95 * (len(values) - 1))], 2)
        return found


def edit_repeatedly(edit: Edit, seen: Path, times: Times, *, edits: int, fresh: bool) -> None:
    """Edits one generation after the other, each once the one before was seen at the sink."""
    generation = 0
    _wait_for(seen, generation)
    for generation in range(1, edits + 1):
        time.sleep(_BETWEEN_SECS)
        begin_nanos = time.monotonic_ns()
        edit(EDITED.format(generation=generation, made=generation if fresh else 0))
        line = _wait_for(seen, generation)
        if line is None:
            times.missed += 1
            continue
        first_nanos, last_nanos = line
        times.latencies.append((first_nanos - begin_nanos) / 1e6)
        times.gaps.append((first_nanos - last_nanos) / 1e6)


def _wait_for(seen: Path, generation: int) -> tuple[int, int] | None:
    deadline_secs = time.monotonic() + _WAIT_SECS
    while time.monotonic() < deadline_secs:
        for line in seen.read_text().splitlines() if seen.exists() else []:
            number, first, last = map(int, line.split())
            if number == generation:
                return first, last
        time.sleep(_LOOK_SECS)
    return None


@contextmanager
def on_dora_nb(folder: Path) -> Iterator[Edit]:
    """The dataflow on dora_nb; what is yielded runs the cell again."""
    queues = {"in": (1000, "backpressure")}

    def edit(source: str) -> object:
        return flow.add_operator(
            "edited", source, inputs={"in": "source/out"}, outputs=["out"], queues=queues
        )

    with Dataflow() as flow:
        flow.add_operator("source", SOURCE, inputs={"t": "dora/timer/millis/1"}, outputs=["out"])
        edit(EDITED.format(generation=0, made=0))
        flow.add_operator(
            "sink",
            SINK,
            inputs={"in": "edited/out"},
            queues=queues,
            env={"SEEN": str(folder / "seen")},
        )
        flow.start()
        yield edit


@contextmanager
def on_dora(folder: Path) -> Iterator[Edit]:
    """The same under ``dora start --attach --hot-reload``; what is yielded writes the file."""
    edited = folder / "edited_operator.py"
    files = {"source": SOURCE, "edited": EDITED.format(generation=0, made=0), "sink": SINK}
    for name, text in files.items():
        (folder / f"{name}_operator.py").write_text(text)
    nodes = [
        _node("source", {"t": "dora/timer/millis/1"}, ["out"]),
        _node("edited", {"in": _queued("source/out")}, ["out"]),
        {**_node("sink", {"in": _queued("edited/out")}, []), "env": {"SEEN": str(folder / "seen")}},
    ]
    (folder / "dataflow.yml").write_text(yaml.safe_dump({"nodes": nodes}))
    with hot_reloading(folder):
        yield edited.write_text


@contextmanager
def hot_reloading(
    folder: Path, *, stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """The ``dataflow.yml`` of that folder on dora-rs, by a program that watches its operators' files."""
    cluster = Cluster(lambda _role: None)
    try:
        command = cluster.dora.command(
            "start", str(folder / "dataflow.yml"), "--attach", "--hot-reload", "--name=edits"
        )
        with subprocess.Popen(
            command,
            cwd=folder,
            env=cluster.dora.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        ) as attached:
            try:
                yield attached
            finally:
                cluster.dora.call(
                    "stop", "edits", "--grace-duration=1s", what="it cannot be stopped"
                )
                attached.terminate()
    finally:
        cluster.close()


def _node(name: str, inputs: dict[str, object], outputs: list[str]) -> dict[str, object]:
    operator = {"python": f"{name}_operator.py", "inputs": inputs, "outputs": outputs}
    return {"id": name, "operator": operator}


def _queued(source: str) -> dict[str, object]:
    return {"source": source, "queue_size": 1000}


def main() -> None:
    """Prints a table, and writes what it holds as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", type=int, default=20, help="of each kind, in each round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    ways = {
        "dora_nb, in place": (on_dora_nb, False),
        "dora_nb, fresh process": (on_dora_nb, True),
        "dora-rs, hot reload": (on_dora, False),
    }
    found = {name: Times() for name in ways}
    for _ in range(arguments.rounds):
        for name, (engine, fresh) in ways.items():
            with tempfile.TemporaryDirectory(prefix="live-edits-") as text:
                folder = Path(text)
                with engine(folder) as edit:
                    edit_repeatedly(
                        edit, folder / "seen", found[name], edits=arguments.edits, fresh=fresh
                    )
    figures = {name: times.summary() for name, times in found.items()}
    for name, summary in figures.items():
        print(f"{name:24}", "  ".join(f"{key} {value}" for key, value in summary.items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + os.linesep)


if __name__ == "__main__":
    sys.exit(main())
