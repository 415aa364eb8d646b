"""Measures what a recording takes and what it loses.

    python -m benchmarks.recording [--secs 60] [--only busy|raw|latency|keep]

``busy``: pictures of 1080p as JPEG at 30 Hz, four topics at 1 kHz, boxes at 30 Hz. ``raw``: VGA pictures as they
are at 30 Hz. Of both the goal is that none is lost, by a recorder that takes less than one processor.
``latency``: how long a message takes from one operator to the next, recorded and not, in turns; the goal is a p95
of at most 1.2 times. ``keep``: a camera of the tutorial's size and its boxes in `Dataflow.keep(30)`; the goal is
less than 15 % of one processor. Exits with status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dora_nb import Dataflow, Recording

_TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
_LATENCY_ROUNDS = 3
CAMERA = """
import os, cv2, numpy as np, pyarrow as pa

WIDTH, HEIGHT, FORM = int(os.environ["WIDTH"]), int(os.environ["HEIGHT"]), os.environ["FORM"]

class Operator:
    def __init__(self):
        # Neither plain nor noise: about as many bytes as a room has.
        small = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        scene = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        self.pictures = [np.roll(scene, 7 * at, axis=1) for at in range(30)]
        if FORM == "jpeg":
            self.pictures = [cv2.imencode(".jpg", each)[1] for each in self.pictures]
        self.number = 0

    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            about = {"width": WIDTH, "height": HEIGHT, "encoding": "jpeg" if FORM == "jpeg" else "bgr8"}
            picture = self.pictures[self.number % 30]
            self.number += 1
            send_output("image", pa.array(picture.ravel()), {**about, "number": self.number})
            boxes = pa.array([10.0, 20.0, 110.0, 220.0, 0.9] * 5, pa.float32())
            send_output("boxes", boxes, {"format": "xyxy", "number": self.number})
"""
WHEELS = """
import pyarrow as pa

class Operator:
    number = 0
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            self.number += 1
            for output in ("left", "right", "front", "rear"):
                send_output(output, pa.array([self.number * 0.5]), {"number": self.number})
"""
CLOCK = """
import time
import pyarrow as pa

class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            send_output("now", pa.array([time.monotonic_ns()]))
"""
ARM = """
import os, time

class Operator:
    def __init__(self):
        self.latencies = []
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            self.latencies.append(time.monotonic_ns() - event["value"][0].as_py())
        elif event["type"] == "STOP":
            with open(os.environ["SEEN"], "w") as file:
                print(*self.latencies, sep="\\n", file=file)
"""


def cpu_secs(process_id: int) -> float:
    """Returns the processor time that a process has taken."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SEC


def share_of_cpu(dataflow: Dataflow, secs: float) -> float:
    """Returns the share of one processor that the recorder takes, over that time."""
    (status,) = dataflow.service_status()
    assert status.process_id is not None
    before, begin_secs = cpu_secs(status.process_id), time.monotonic()
    time.sleep(secs)
    return (cpu_secs(status.process_id) - before) / (time.monotonic() - begin_secs)


def add_camera(dataflow: Dataflow, width: int, height: int, form: str) -> None:
    """Declares a camera of that size, with boxes."""
    env = {"WIDTH": str(width), "HEIGHT": str(height), "FORM": form}
    ticks = {"tick": "dora/timer/hz/30"}
    dataflow.add_operator("camera", CAMERA, inputs=ticks, outputs=["image", "boxes"], env=env)


def measure_losses(what: str, secs: float, declare: Callable[[Dataflow], None]) -> bool:
    """Records that dataflow; prints what came, what was lost, and the recorder's share of a processor."""
    with tempfile.TemporaryDirectory() as folder, Dataflow() as dataflow:
        declare(dataflow)
        path = Path(folder, "run.mcap")
        recorder = dataflow.record(path)
        dataflow.start()
        share = share_of_cpu(dataflow, secs)
        dataflow.stop()
        status, recording = recorder.status(), Recording(path)
        gaps = sum(missing(recording, topic) for topic in recording.topics)
        good = status.lost == 0 and gaps == 0 and share < 1
        rates = ", ".join(
            f"{each.topic} {each.received / secs:.0f} Hz" for each in sorted(status.topics, key=str)
        )
        print(
            f"{what}: {status.messages} messages in {secs:g} s, {status.lost} lost, {gaps} missing in the file, "
            f"{status.size_bytes / 1e6:.0f} MB, {share:.0%} of a processor{verdict(good)}\n  {rates}"
        )
    return good


def missing(recording: Recording, topic: str) -> int:
    """Returns how many numbers are missing between the first and the last message of a topic."""
    numbers = [each.metadata.get("number") for each in recording.messages(topic)]
    known = [number for number in numbers if number is not None]
    return known[-1] - known[0] + 1 - len(known) if known else 0


def measure_latency(secs: float) -> bool:
    """Compares the latency of a recorded dataflow with that of one that is not."""
    seen: dict[bool, list[int]] = {False: [], True: []}
    for _ in range(_LATENCY_ROUNDS):
        for recorded in (False, True):
            seen[recorded] += latencies(secs / (2 * _LATENCY_ROUNDS), recorded=recorded)
    p50, p95 = ({each: np.percentile(seen[each], q) / 1e3 for each in seen} for q in (50, 95))
    ratio = p95[True] / p95[False]
    good = bool(ratio <= 1.2)
    print(
        f"latency: p50 {p50[False]:.0f} µs, recorded {p50[True]:.0f} µs; p95 {p95[False]:.0f} µs, "
        f"recorded {p95[True]:.0f} µs, {ratio:.2f} times{verdict(good)}"
    )
    return good


def latencies(secs: float, *, recorded: bool) -> list[int]:
    """Returns the nanoseconds that each message took from the clock to the arm."""
    with tempfile.TemporaryDirectory() as folder, Dataflow() as dataflow:
        seen = Path(folder, "seen")
        ticks = {"tick": "dora/timer/hz/200"}
        dataflow.add_operator("clock", CLOCK, inputs=ticks, outputs=["now"])
        dataflow.add_operator("arm", ARM, inputs={"now": "clock/now"}, env={"SEEN": str(seen)})
        add_camera(dataflow, 640, 480, "raw")
        if recorded:
            dataflow.record(Path(folder, "run.mcap"))
        dataflow.start()
        time.sleep(secs)
        dataflow.stop()
        numbers = [int(line) for line in seen.read_text().split()]
        return numbers[len(numbers) // 10 :]  # the first find cold caches


def measure_keep(secs: float) -> bool:
    """Prints the flight recorder's share of a processor."""
    with Dataflow() as dataflow:
        add_camera(dataflow, 640, 480, "raw")
        dataflow.keep(30)
        dataflow.start()
        share = share_of_cpu(dataflow, secs)
        kept = dataflow.kept
        assert kept is not None
        good = share < 0.15
        print(
            f"keep: {share:.1%} of a processor, {kept.size_bytes / 1e6:.0f} MB for {kept.kept_secs:.0f} s"
            f"{verdict(good)}"
        )
    return good


def verdict(good: bool) -> str:
    """Returns whether the goal is reached, as the end of a line."""
    return "" if good else "  (goal missed)"


def add_busy(dataflow: Dataflow) -> None:
    """Declares pictures, boxes and four fast topics."""
    add_camera(dataflow, 1920, 1080, "jpeg")
    outputs = ["left", "right", "front", "rear"]
    dataflow.add_operator("wheels", WHEELS, inputs={"tick": "dora/timer/hz/1000"}, outputs=outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--secs", type=float, default=60.0, help="how long each measurement takes")
    parser.add_argument("--only", choices=("busy", "raw", "latency", "keep"))
    asked = parser.parse_args()
    measurements: dict[str, Callable[[], bool]] = {
        "busy": lambda: measure_losses("busy", asked.secs, add_busy),
        "raw": lambda: measure_losses(
            "raw", asked.secs, lambda dataflow: add_camera(dataflow, 640, 480, "raw")
        ),
        "latency": lambda: measure_latency(asked.secs),
        "keep": lambda: measure_keep(asked.secs),
    }
    good = [measure() for name, measure in measurements.items() if asked.only in (None, name)]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
