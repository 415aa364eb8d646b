"""Runs nodes on an engine: dora_nb through its public API, dora-rs through its command line.

Both get the same files with the same inputs, and report through a FIFO each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from dora_nb import Dataflow

NODES = Path(__file__).parent / "nodes"
_ATTEMPTS = 3
REPORT_SECS = 120.0
"""A run that has not reported by then has failed."""
_LOOK_SECS = 1.0
_END_SECS = 10.0
_GRACE_SECS = 2.0


@dataclass(frozen=True)
class BenchNode:
    """One node of a run: a file of `nodes/`, and what it reads and sends."""

    name: str
    file: str
    inputs: Mapping[str, str]
    outputs: Sequence[str] = ()
    queue_size: int | None = None
    """For every input except timers; large enough that nothing is dropped."""
    env: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["operator", "script"] = "operator"
    reports: bool = True

    @property
    def path(self) -> Path:
        """Where its code is."""
        return NODES / self.file


class RunFailedError(RuntimeError):
    """A run ended or timed out before every node had reported."""


class Reports:
    """A FIFO for each node that reports, and what came out of it."""

    def __init__(self, nodes: Sequence[BenchNode], folder: Path) -> None:
        self._descriptors: dict[int, str] = {}
        self._texts: dict[str, str] = {}
        self.paths: dict[str, Path] = {}
        for node in nodes:
            if node.reports:
                path = folder / f"{node.name}.fifo"
                os.mkfifo(path)
                self.paths[node.name] = path
                self._texts[node.name] = ""
                self._descriptors[os.open(path, os.O_RDONLY | os.O_NONBLOCK)] = node.name

    def wait(self, why_ended: Any, *, timeout_secs: float = REPORT_SECS) -> dict[str, Any]:
        """Returns each node's report, parsed. `why_ended()` returns why a run has ended early, or None."""
        deadline_secs = time.monotonic() + timeout_secs
        while missing := [name for name, text in self._texts.items() if not text.endswith("\n")]:
            reason = why_ended()
            if not self._read() and (reason or time.monotonic() > deadline_secs):
                raise RunFailedError(f"{', '.join(missing)} did not report: {reason or 'too late'}")
        return {name: json.loads(text) for name, text in self._texts.items()}

    def _read(self) -> bool:
        poller = select.poll()
        for descriptor, name in self._descriptors.items():
            if not self._texts[name].endswith("\n"):
                poller.register(descriptor, select.POLLIN)
        ready = [each for each, mask in poller.poll(_LOOK_SECS * 1e3) if mask & select.POLLIN]
        for descriptor in ready:
            self._texts[self._descriptors[descriptor]] += os.read(descriptor, 1 << 20).decode()
        return bool(ready)

    def close(self) -> None:
        """Closes the FIFOs."""
        for descriptor in self._descriptors:
            os.close(descriptor)


@contextlib.contextmanager
def reports_for(nodes: Sequence[BenchNode]) -> Iterator[tuple[Reports, Path]]:
    """The reports of these nodes, and a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="whole-path-") as folder:
        reports = Reports(nodes, Path(folder))
        try:
            yield reports, Path(folder)
        finally:
            reports.close()


def run_on_dora_nb(nodes: Sequence[BenchNode]) -> dict[str, Any]:
    """What each node reports, from the start to the stop of a dataflow of dora_nb."""
    with reports_for(nodes) as (reports, _), Dataflow() as flow:
        declare(flow, nodes, reports)
        flow.start()
        return reports.wait(lambda: failure_of(flow))


def declare(flow: Dataflow, nodes: Sequence[BenchNode], reports: Reports) -> None:
    """Declares the nodes in a dataflow of dora_nb."""
    for node in nodes:
        add = flow.add_node if node.kind == "script" else flow.add_operator
        add(
            node.name,
            node.path,
            inputs=node.inputs,
            outputs=node.outputs,
            queues={
                name: (node.queue_size, "backpressure")
                for name, source in node.inputs.items()
                if node.queue_size and not source.startswith("dora/")
            },
            env=_environment(node, reports),
        )


def failure_of(flow: Dataflow) -> str | None:
    """Why a node of that dataflow has failed, if one has."""
    return next((str(each.error) for each in flow.status() if each.error is not None), None)


@contextlib.contextmanager
def dora_running(
    nodes: Sequence[BenchNode],
    reports: Reports,
    folder: Path,
    *,
    pool_bytes: int | None,
    ends: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """The nodes under ``dora run``; ended with the context, unless they are about to end (`ends`)."""
    descriptor = folder / "dataflow.yml"
    descriptor.write_text(yaml.safe_dump({"nodes": [_as_yaml(node, reports) for node in nodes]}))
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    if pool_bytes is not None:
        environment["DORA_NODE_SHM_POOL_SIZE"] = str(pool_bytes)
    with (folder / "dora.log").open("wb") as log:
        popen = subprocess.Popen(
            [Path(bin_folder) / "dora", "run", descriptor],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield popen
    finally:
        _end(popen, grace_secs=_GRACE_SECS if ends else 0.0)


def run_on_dora(nodes: Sequence[BenchNode], *, pool_bytes: int | None) -> dict[str, Any]:
    """What each node reports, from the start to the end of ``dora run``.

    dora occasionally drops a message without counting it, and with it a mark that the nodes wait for: such
    a run is repeated, with a note.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _run_once_on_dora(nodes, pool_bytes=pool_bytes)
        except RunFailedError as error:
            print(f"repeating a run on dora-rs: {error}", file=sys.stderr)
    return _run_once_on_dora(nodes, pool_bytes=pool_bytes)


def _run_once_on_dora(nodes: Sequence[BenchNode], *, pool_bytes: int | None) -> dict[str, Any]:
    with (
        reports_for(nodes) as (reports, folder),
        dora_running(nodes, reports, folder, pool_bytes=pool_bytes) as popen,
    ):
        return reports.wait(lambda: why_dora_ended(popen, folder))


def why_dora_ended(popen: subprocess.Popen[bytes], folder: Path) -> str | None:
    """The last lines of the log of a ``dora run`` that has ended."""
    if popen.poll() is None:
        return None
    lines = (folder / "dora.log").read_text(errors="replace").splitlines()
    return f"dora run ended with {popen.returncode}: {' / '.join(lines[-8:])}"


def _as_yaml(node: BenchNode, reports: Reports) -> dict[str, Any]:
    inputs = {
        name: source
        if source.startswith("dora/") or not node.queue_size
        else {"source": source, "queue_size": node.queue_size}
        for name, source in node.inputs.items()
    }
    wiring = {"inputs": inputs, "outputs": list(node.outputs)}
    head = {"id": node.name, "env": _environment(node, reports)}
    if node.kind == "script":
        return {**head, "path": str(node.path), **wiring}
    return {**head, "operator": {"python": str(node.path), **wiring}}


def _environment(node: BenchNode, reports: Reports) -> dict[str, str]:
    environment = dict(node.env)
    if node.reports:
        environment["BENCH_OUT"] = str(reports.paths[node.name])
    return environment


def _end(popen: subprocess.Popen[bytes], *, grace_secs: float) -> None:
    try:
        popen.wait(grace_secs)
    except subprocess.TimeoutExpired:
        popen.terminate()
        try:
            popen.wait(_END_SECS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
