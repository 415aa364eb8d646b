"""Measures how long it takes to compare two versions of a 1 ms operator on recorded VGA frames.

    python -m benchmarks.comparing [--frames 300] [--images raw|jpeg] [--spares]

The operator sends a picture and a number for each frame; the second version changes both in every tenth
frame. `total` is the call of `Dataflow.compare`, both processes' start included, and `differences` the time for
looking at all pairs afterwards. The goal is 3 s for both. With `--spares`, interpreters wait warm, as in a
notebook.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from dora_nb import Dataflow
from dora_nb.engines.embedded import SPARES
from dora_nb.recording import RecordingWriter

_GOAL_SECS = 3.0
_START_NANOS = 1_700_000_000 * 10**9
DETECTOR = """
import time
import pyarrow as pa
real_clock = time.perf_counter.__wrapped__

class Operator:
    def __init__(self):
        self.number = 0

    def on_event(self, event, send_output):
        if event["type"] != "INPUT":
            return
        until = real_clock() + 0.001
        self.number += 1
        image = event["value"]
        if CHANGES and self.number % 10 == 0:
            image = image.to_numpy().copy()
            image[:1000] += 1
        send_output("image", image, event["metadata"])
        send_output("number", pa.array([self.number + (CHANGES and self.number % 10 == 0)]))
        while real_clock() < until:
            pass
"""


def record(path: Path, frames: int, images: str) -> None:
    """Writes a recording of frames that differ."""
    writer = RecordingWriter(path, images="jpeg" if images == "jpeg" else "raw")
    image = np.random.default_rng(0).integers(0, 255, 640 * 480 * 3, np.uint8)
    metadata = {"width": 640, "height": 480, "encoding": "bgr8"}
    for number in range(frames):
        image[number] ^= 255
        nanos = _START_NANOS + number * 33_333_333
        writer.write(
            "camera/image", pa.array(image), metadata, publish_nanos=nanos, log_nanos=nanos
        )
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--images", choices=("raw", "jpeg"), default="raw")
    parser.add_argument("--spares", action="store_true")
    options = parser.parse_args()
    dataflow = Dataflow()
    after, before = (DETECTOR.replace("CHANGES", word) for word in ("True", "False"))
    if options.spares:
        SPARES.allow()
        SPARES.expect(2)
        SPARES.wait_warm(2, 30.0)
    dataflow.add_operator(
        "detector", after, inputs={"image": "camera/image"}, outputs=["image", "number"]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.mcap"
        record(path, options.frames, options.images)
        begin_secs = time.perf_counter()
        comparison = dataflow.compare("detector", path, before=before)
        compared_secs = time.perf_counter()
        text = str(comparison)
        end_secs = time.perf_counter()
        print(text)
        print(
            f"total {compared_secs - begin_secs:.2f} s, differences {end_secs - compared_secs:.2f} s: "
            f"{end_secs - begin_secs:.2f} s (goal {_GOAL_SECS:g} s)"
        )
        del comparison
    SPARES.close()


if __name__ == "__main__":
    main()
