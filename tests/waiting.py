"""How a test waits for what tells nobody: it looks again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

from dora_nb.dataflow.dataflow import Dataflow

TIMEOUT_SECS = 20.0
"""Reached only where something hangs."""


def wait_until(holds: Callable[[], bool], *, otherwise: Callable[[], object] = str) -> None:
    """Until that holds; what `otherwise` returns is shown where it never does."""
    deadline_secs = time.monotonic() + TIMEOUT_SECS
    while not holds():
        assert time.monotonic() < deadline_secs, otherwise()
        time.sleep(0.01)


def wait_for_line(dataflow: Dataflow, name: str, text: str) -> None:
    """Until that node has printed that."""
    wait_until(
        lambda: any(text in line.text for line in dataflow.logs(name)),
        otherwise=lambda: f"{name} did not print {text!r}: {dataflow.logs(name)}",
    )
