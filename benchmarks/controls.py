"""Measures how long a joystick's value takes from `Control.set` in the kernel to the operator's `on_event`.

    python -m benchmarks.controls [--words 300] [--engine embedded|dora]

A thread of the kernel, as a subshell is, sets another value 20 times a second, while the main thread rests,
runs Python, or calls numpy on large arrays. The operator compares the machine's monotonic clock with the time
in each value. The figures are in ms; `neutral` is how long after the last word the dead-man's neutral value
reaches the operator, with a dead-man of 300 ms.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dora_nb import Dataflow

_RATE = 20.0
_LOOK_SECS = 0.05
ARM = """
import os, time
class Operator:
    def __init__(self):
        self.file = open(os.environ["SEEN"], "a", buffering=1)
    def on_event(self, dora_event, send_output):
        now_secs = time.monotonic()
        if dora_event["type"] == "INPUT":
            why = dora_event["metadata"].get("neutral", "value")
            self.file.write(f"{why} {now_secs} {dora_event['value'][0].as_py()}\\n")
"""


def rest() -> None:
    """The kernel runs no cell."""
    time.sleep(0.01)


def python() -> None:
    """A cell runs Python, which gives the interpreter away every 5 ms."""
    sum(number * number for number in range(20_000))


def arrays() -> None:
    """A cell calls numpy on arrays of objects, whose loops keep the interpreter for about 15 ms each."""
    np.arange(200_000).astype(object).sum()


CELLS: tuple[Callable[[], None], ...] = (rest, python, arrays)


def measure(engine: str, words: int, cell: Callable[[], None]) -> tuple[list[float], float]:
    """Returns the latencies of all values that arrived, and how long after the last word neutral did."""
    with tempfile.TemporaryDirectory() as folder, Dataflow() as dataflow:
        seen = Path(folder, "seen")
        seen.touch()
        dataflow.add_operator(
            "arm", ARM, inputs={"stick": "notebook/stick"}, env={"SEEN": str(seen)}
        )
        stick = dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0], rate=_RATE)
        dataflow.start(engine)
        while "idle" not in seen.read_text():
            time.sleep(_LOOK_SECS)
        done = threading.Event()

        def say() -> None:
            for _ in range(words):
                stick.set([time.monotonic()])
                time.sleep(1 / _RATE)
            done.set()

        thread = threading.Thread(target=say)
        thread.start()
        while not done.is_set():
            cell()
        thread.join()
        while "silent" not in seen.read_text():
            time.sleep(_LOOK_SECS)
        lines = [line.split() for line in seen.read_text().splitlines()]
    # A value is repeated while no other comes: only its first arrival counts.
    arrivals: dict[float, float] = {}
    for why, now_secs, value in lines:
        if why == "value":
            arrivals.setdefault(float(value), float(now_secs))
    latencies = [(arrived - said) * 1e3 for said, arrived in arrivals.items()]
    silent_secs = max(float(now_secs) for why, now_secs, _ in lines if why == "silent")
    return latencies, (silent_secs - max(arrivals)) * 1e3


def main() -> None:
    """Prints a line for each kind of cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--engine", default="embedded", choices=("embedded", "dora"))
    asked = parser.parse_args()
    print(f"{'cell':8}{'values':>8}{'p50':>8}{'p95':>8}{'max':>8}{'neutral':>10}")
    for cell in CELLS:
        latencies, neutral_millis = measure(asked.engine, asked.words, cell)
        p50, p95, most = (float(np.quantile(latencies, part)) for part in (0.5, 0.95, 1.0))
        print(
            f"{cell.__name__:8}{len(latencies):8}{p50:8.1f}{p95:8.1f}{most:8.1f}{neutral_millis:10.0f}"
        )


if __name__ == "__main__":
    main()
