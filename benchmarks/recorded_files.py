"""Measures how fast recordings are written, opened and searched.

    python -m benchmarks.recorded_files [--gigabytes 1.0] [--folder DIR]

The file is like that of a robot: a camera of VGA pictures as raw noise at 30 Hz, four topics at 1 kHz, boxes at 30 Hz.
Figures: CPU milliseconds to write a second of it, seconds to open the file whole and cut (without its index),
milliseconds of the slowest of 20 seeks (the first picture from a random time on), and of its table of topics.
The file is in the page cache: it was written right before.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from dora_nb import Recording
from dora_nb.recording import RecordingWriter

_SECOND = 1_000_000_000
_BEGIN = 1_700_000_000 * _SECOND
_WIDTH, _HEIGHT = 640, 480
_CAMERA = "camera/image"


def write(path: Path, num_bytes: int) -> tuple[int, float]:
    """Writes a recording of about this size; returns its seconds, and the CPU seconds that it took."""
    random_numbers = np.random.default_rng(1)
    pictures = [
        pa.array(random_numbers.integers(0, 255, _WIDTH * _HEIGHT * 3, np.uint8)) for _ in range(4)
    ]
    size = {"width": _WIDTH, "height": _HEIGHT, "encoding": "bgr8"}
    boxes = pa.array([{"bbox": [1.0, 2.0, 3.0, 4.0] * 5, "conf": [0.5] * 5, "labels": ["cat"] * 5}])
    begin = time.process_time()
    second = 0
    with RecordingWriter(path) as writer:
        while writer.size_bytes < num_bytes:
            for tick in range(1000):
                nanos = _BEGIN + second * _SECOND + tick * 1_000_000
                for number in range(4):
                    writer.write(
                        f"imu/axis{number}",
                        pa.array([tick * 0.5]),
                        {"tick": tick},
                        publish_nanos=nanos,
                        log_nanos=nanos,
                    )
                if tick % 33 == 0 and tick < 990:
                    picture = pictures[tick % 4]
                    writer.write(_CAMERA, picture, size, publish_nanos=nanos, log_nanos=nanos)
                    writer.write("detector/boxes", boxes, {}, publish_nanos=nanos, log_nanos=nanos)
            second += 1
    return second, time.process_time() - begin


def slowest_seek(recording: Recording) -> float:
    """Returns the seconds of the slowest of 20 seeks."""
    places = random.Random(1)
    slowest = 0.0
    for _ in range(20):
        start = places.uniform(0, recording.duration_secs - 1)
        begin = time.perf_counter()
        recording.take(_CAMERA, 1, start=start)
        slowest = max(slowest, time.perf_counter() - begin)
    return slowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument(
        "--folder", type=Path, help="where the file goes (default: a temporary one)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "run.mcap"
        seconds, cpu_secs = write(path, int(arguments.gigabytes * 1e9))
        size = path.stat().st_size
        print(f"{size / 1e9:.2f} GB, {seconds} s of a robot")
        print(f"write  {cpu_secs / seconds * 1000:7.0f} ms of CPU a second")
        for name, cut in (("whole", 0), ("cut", 1000)):
            os.truncate(path, size - cut)
            begin = time.perf_counter()
            recording = Recording(path)
            print(f"open   {(time.perf_counter() - begin) * 1000:7.0f} ms, {name}")
            print(f"seek   {slowest_seek(recording) * 1000:7.0f} ms, {name}, the slowest of 20")
            begin = time.perf_counter()
            repr(recording)
            print(f"table  {(time.perf_counter() - begin) * 1000:7.0f} ms, {name}")


if __name__ == "__main__":
    main()
