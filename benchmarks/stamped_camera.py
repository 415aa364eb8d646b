"""The rendered scene, with the time of sending written into the picture as a row of black and white.

For live_view.py: any reader of the pixels can compute the picture's age. The stamp is `BITS` bits of the
wall clock in milliseconds, each followed by its inverse, so that a reader notices if something was
drawn over it.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "samples"))

from scene import MovingScene

WIDTH, HEIGHT = 640, 480
BITS = 20
CELL_WIDTH, ROW_HEIGHT = 16, 12


class Operator:
    """Sends a picture on each tick."""

    def __init__(self):
        scene = MovingScene(0, (WIDTH, HEIGHT))
        # Rendered in advance, so that the benchmark measures the path and not the scene.
        self.pictures = [scene.frame(index) for index in range(60)]
        self.sent = 0

    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            return
        picture = self.pictures[self.sent % len(self.pictures)].copy()
        self.sent += 1
        stamp_millis = time.time_ns() // 1_000_000 % (1 << BITS)
        bits = stamp_millis >> np.arange(BITS) & 1
        row = np.stack([bits, 1 - bits], axis=1).ravel().astype(np.uint8) * 255
        picture[:ROW_HEIGHT] = np.repeat(row, CELL_WIDTH)[None, :, None]
        about = {"width": WIDTH, "height": HEIGHT, "encoding": "bgr8"}
        send_output("image", pa.array(picture.ravel()), about)
