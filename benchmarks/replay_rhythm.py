"""Measures how well a replay keeps the recorded rhythm, and how fast it is without one.

    python -m benchmarks.replay_rhythm [--secs 20] [--hz 100 1000]

A recording is made of what robots send: VGA pictures at 30 Hz, boxes at 30 Hz, and four topics at 100 Hz, then at
1 kHz, all with random jitter. An operator notes when each message reaches it. The error of a message is the difference between
its place in the replay and its place in the recording, both counted from the first message: all errors come from
absolute deadlines, so they do not add up. `drift` is the median of the last second minus that of the first.
The figures are in ms. The goal is a median of at most 5 ms.
"""

from __future__ import annotations

import argparse
import datetime
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from dora_nb import Dataflow
from dora_nb.recording.writer import RecordingWriter

TOPICS = ("camera/image", "detector/boxes", *(f"imu/axis_{at}" for at in range(4)))
_JITTER = 0.2
"""Of the interval between two messages."""
GOAL_MS = 5.0
NOTE = """
import os, time
import numpy as np

class Operator:
    def __init__(self):
        self.file = open(os.environ["SEEN"], "wb")
    def on_event(self, dora_event, send_output):
        now_secs = time.monotonic()
        if dora_event["type"] == "INPUT":
            at = dora_event["metadata"]["at"]
            self.file.write(np.array([at, now_secs]).tobytes())
        elif dora_event["type"] == "STOP":
            self.file.close()
"""


def record(path: Path, secs: float, rate_hz: int) -> int:
    """Writes the recording; returns the number of its messages."""
    jitter = random.Random(1)
    picture = pa.array(np.zeros(640 * 480 * 3, np.uint8))
    small = pa.array([0.5])
    times = sorted(
        ((number + _JITTER * jitter.random()) / rate, topic)
        for topic in TOPICS
        for rate in [rate_hz if topic.startswith("imu") else 30]
        for number in range(round(secs * rate))
    )
    begin_nanos = time.time_ns()
    writer = RecordingWriter(path)
    for at, topic in times:
        nanos = begin_nanos + round(at * 1e9)
        stamp = datetime.datetime.fromtimestamp(nanos / 1e9, datetime.UTC)
        writer.write(
            topic,
            picture if topic == "camera/image" else small,
            {"timestamp": stamp, "at": at},
            publish_nanos=nanos,
            log_nanos=nanos,
        )
    writer.close()
    return len(times)


def play(path: Path, speed: float | None) -> tuple[np.ndarray, float]:
    """Replays it; returns place and time of each message, in seconds, and how long it took."""
    with tempfile.TemporaryDirectory() as folder, Dataflow() as dataflow:
        seen = Path(folder, "seen")
        inputs = {topic.replace("/", "_"): topic for topic in TOPICS}
        dataflow.add_operator(
            "note",
            NOTE,
            inputs=inputs,
            queues=dict.fromkeys(inputs, 1000),
            env={"SEEN": str(seen)},
        )
        begin_secs = time.monotonic()
        replay = dataflow.replay(path, speed="max" if speed is None else speed)
        replay.wait()
        took_secs = time.monotonic() - begin_secs
        dataflow.wait(10)
        dataflow.stop()
        return np.fromfile(seen).reshape(-1, 2), took_secs


def errors_ms(seen: np.ndarray, speed: float) -> np.ndarray:
    """Returns how late each message was, in ms."""
    late_secs = seen[:, 1] - seen[:, 0] / speed
    # From the earliest on: a message is never early, as each waits for its deadline.
    return (late_secs - late_secs.min()) * 1e3


def main() -> None:
    """Measures with slow and with quick topics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secs", type=float, default=20.0, help="how long the recording is")
    parser.add_argument("--hz", type=int, nargs="+", default=[100, 1000])
    given = parser.parse_args()
    for rate_hz in given.hz:
        measure(given.secs, rate_hz)


def measure(secs: float, rate_hz: int) -> None:
    """Prints a line for each speed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.mcap")
        count = record(path, secs, rate_hz)
        print(f"pictures, boxes, and four topics at {rate_hz} Hz: {count} messages in {secs:g} s")
        for speed in (1.0, 2.0):
            seen, _ = play(path, speed)
            errors = errors_ms(seen, speed)
            in_order = errors[np.argsort(seen[:, 0])]
            a_second = max(1, round(count / secs))
            drift = statistics.median(in_order[-a_second:]) - statistics.median(in_order[:a_second])
            p50, p95, p99 = np.percentile(errors, [50, 95, 99])
            verdict = "" if p50 <= GOAL_MS else f"  over the goal of {GOAL_MS:g} ms"
            print(
                f"speed {speed:g}: {len(seen)} of {count}, late p50 {p50:.2f}  p95 {p95:.2f}  "
                f"p99 {p99:.2f}  drift {drift:+.2f} ms{verdict}"
            )
        seen, took_secs = play(path, None)
        print(f"speed max: {len(seen)} of {count} in {took_secs:.1f} s, {count / took_secs:,.0f}/s")


if __name__ == "__main__":
    main()
