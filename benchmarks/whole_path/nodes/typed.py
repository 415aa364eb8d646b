"""Closed loops of small Arrow arrays that are more than a flat buffer, one type after the other."""

from typing import Any

import numpy as np
import pyarrow as pa
from measuring import now_nanos, report, statuses

_ROUNDS, _WARMUP = 200, 30


def arrays() -> dict[str, Any]:
    """One message of each type: what eight boxes of a detector may look like."""
    boxes = pa.array([[float(at), 0.0, 1.0, 2.0] for at in range(8)], pa.list_(pa.float32()))
    conf = pa.array(np.linspace(0, 1, 8, dtype=np.float32))
    labels = pa.array([f"class {at % 3}" for at in range(8)])
    struct = pa.StructArray.from_arrays([boxes, conf, labels], ["bbox", "conf", "labels"])
    flat = pa.array(np.zeros(32, np.float32))
    found = {"flat": flat, "struct": struct, "list": boxes, "string": labels}
    return found | {"dictionary": labels.dictionary_encode()}


class Operator:
    """Input `tick` and `answer`, output `data`."""

    def __init__(self) -> None:
        self.go_on, self.stop = statuses()
        self.arrays = arrays()
        self.names = list(self.arrays)
        self.round_trips: dict[str, list[int]] = {name: [] for name in self.names}
        self.began = False
        self.sent_nanos = 0

    def on_event(self, event: Any, send_output: Any) -> Any:
        """The first tick begins; each answer goes on."""
        received_nanos = now_nanos()
        if event["type"] != "INPUT":
            return self.go_on
        if event["id"] == "answer":
            done = self.round_trips[self.names[0]]
            done.append(received_nanos - self.sent_nanos)
            if len(done) == _ROUNDS + _WARMUP:
                del done[:_WARMUP]
                self.names.pop(0)
        elif self.began:
            return self.go_on
        self.began = True
        if not self.names:
            report(self.round_trips)
            return self.stop
        self.sent_nanos = now_nanos()
        send_output("data", self.arrays[self.names[0]])
        return self.go_on
