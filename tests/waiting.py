"""How a test waits for what tells nobody: it looks again and again; and for the end of a program."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import AnyStr

from dora_nb.dataflow.dataflow import Dataflow

TIMEOUT_SECS = 45.0
"""Reached only where something hangs: on a busy machine a process may take many seconds to start. After 60 s
pytest would end its worker (`faulthandler_timeout`), and not say which condition was waited for."""


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


@contextlib.contextmanager
def killed_at_the_end(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Ends that program with the block. `Popen` alone would wait for it, for ever where the block has failed."""
    with process:
        try:
            yield process
        finally:
            process.kill()
