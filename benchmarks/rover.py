"""Measures the rover of samples/rover.py: pictures in a second, and the delay from a wheels command to a picture.

    .venv/bin/python benchmarks/rover.py [--seconds 20] [--size 640x480] [--json FILE]

The rover runs as an operator of a dataflow, with `tick` at 20 Hz. A second operator turns it left and right by turns,
with pauses, and sends the time of each command. A third one compares each picture with the one before.

rate_hz    pictures that arrive in a second; the goal is 20 at 640x480
delay      from sending a command to the arrival of the first picture that differs from the one before, since a
           rover that stands shows the same picture again and again; the goal is 100 ms
tick       how long the rover takes for one tick: to simulate, draw, find the boxes, and send

It prints a table; nothing here passes or fails. The figures hold for one machine and one run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

import dora_nb

REPOSITORY = Path(__file__).resolve().parent.parent
PERIOD_SECS = 1.5
"""Between two commands. The rover moves for a third of it and stands for the rest."""

DRIVER = f"""
import time
import pyarrow as pa

class Operator:
    def __init__(self):
        self.begin = time.monotonic()
        self.sent = 0
        self.moves = False

    def on_event(self, event, send_output):
        if event["type"] != "INPUT":
            return
        now = time.monotonic() - self.begin
        phase = now % {PERIOD_SECS}
        if not self.moves and phase < {PERIOD_SECS} / 3 and now > {PERIOD_SECS}:
            self.moves = True
            side = 0.3 if self.sent % 2 else -0.3
            self.sent += 1
            send_output("sent", pa.array([time.monotonic_ns()]))
            send_output("wheels", pa.array([-side, side]))
        elif self.moves and phase >= {PERIOD_SECS} / 3:
            self.moves = False
            send_output("wheels", pa.array([0.0, 0.0]))
"""

WATCHER = """
import time
import numpy as np
import pyarrow as pa

class Operator:
    def __init__(self):
        self.last = None
        self.waits_since = None

    def on_event(self, event, send_output):
        if event["type"] != "INPUT":
            return
        now = time.monotonic_ns()
        if event["id"] == "sent":
            self.waits_since = event["value"][0].as_py()
            return
        picture = event["value"].to_numpy()
        # What the command before it still moves, like a ball, is less than that.
        differs = self.last is not None and np.count_nonzero(picture != self.last) > picture.size // 50
        self.last = picture.copy()
        delay = -1
        if differs and self.waits_since is not None:
            delay, self.waits_since = now - self.waits_since, None
        send_output("figures", pa.array([now, delay]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="default 20")
    parser.add_argument("--size", default="640x480", help="of the pictures, default 640x480")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    figures = measure(arguments.seconds, *arguments.size.split("x"))
    print(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure(seconds: float, width: str, height: str) -> dict[str, float]:
    with dora_nb.Dataflow() as flow:
        flow.add_operator(
            "rover",
            REPOSITORY / "samples" / "rover.py",
            inputs={"tick": "dora/timer/hz/20", "wheels": "driver/wheels"},
            outputs=["image", "boxes", "pose", "scan", "imu"],
            queues={"tick": 1},
            env={"SIM_WIDTH": width, "SIM_HEIGHT": height},
        )
        flow.add_operator(
            "driver", DRIVER, inputs={"tick": "dora/timer/hz/100"}, outputs=["wheels", "sent"]
        )
        flow.add_operator(
            "watcher",
            WATCHER,
            inputs={"image": "rover/image", "sent": "driver/sent"},
            outputs=["figures"],
        )
        flow.start()
        flow.take("watcher/figures", 20, timeout_secs=60)
        count = int(seconds * 20)
        events = flow.take("watcher/figures", count, timeout_secs=20 * seconds + 60)
        rover = flow.status("rover")
    numbers = [event["value"].to_pylist() for event in events]
    arrivals = [arrival for arrival, _ in numbers]
    delays = sorted(delay / 1e6 for _, delay in numbers if delay >= 0)
    return {
        "rate_hz": (len(arrivals) - 1) / ((arrivals[-1] - arrivals[0]) / 1e9),
        "commands": len(delays),
        "delay_median_ms": statistics.median(delays),
        "delay_max_ms": delays[-1],
        "tick_median_ms": 1000 * (rover.on_event_p50_secs or 0),
        "load_average": os.getloadavg()[0],
    }


def table(figures: dict[str, float]) -> str:
    return "\n".join(f"{name:<18} {value:8.1f}" for name, value in figures.items())


if __name__ == "__main__":
    main()
