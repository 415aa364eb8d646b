"""Sends BENCH_COUNT frames of BENCH_SIZE bytes, one at each tick; the stamp is the first eight bytes."""

import os
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import now_nanos, statuses


class Operator:
    """Input `tick`, output `frame`."""

    def __init__(self) -> None:
        self.go_on, self.stop = statuses()
        self.memory = np.ones(int(os.environ["BENCH_SIZE"]), np.uint8)
        self.array = pa.array(self.memory)
        self.left = int(os.environ["BENCH_COUNT"])

    def on_event(self, event: Any, send_output: Any) -> Any:
        """The next frame; after the last, the end."""
        if event["type"] != "INPUT":
            return self.go_on
        if not self.left:
            return self.stop
        self.left -= 1
        self.memory[:8].view(np.int64)[0] = now_nanos()
        send_output("frame", self.array)
        return self.go_on
