"""Receives what the sender sends, notes how long each message took, and answers where that is asked.

Plain dora code: the same on every peer. The time of receipt is the first statement of `on_event`.
"""

import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
from measuring import (
    LAST,
    MARK_SIZE,
    load_pandas,
    mark,
    now_nanos,
    pin,
    read_mark,
    report,
    statuses,
)

ANSWER = pa.array(np.zeros(8, np.uint8))


class Operator:
    """The receiver's end: input `data`, output `answer`."""

    def __init__(self) -> None:
        pin("BENCH_RECEIVER_CPU")
        load_pandas()
        self.go_on, self.stop = statuses()
        self.phases = json.loads(os.environ["BENCH_PHASES"])
        self.results: list[dict[str, Any]] = [
            {"received": 0, "last_nanos": 0, "latencies": [], "received_nanos": []}
            for _ in self.phases
        ]
        self.bursts = {
            phase["size"]: number
            for number, phase in enumerate(self.phases)
            if phase["mode"] == "burst"
        }
        self.number = -1
        self.mode = ""
        self.answers = False

    def on_event(self, event: Any, send_output: Any) -> Any:
        """Notes one message; one that has the length of a mark begins a phase."""
        received_nanos = now_nanos()
        if event["type"] != "INPUT":
            return self.go_on
        value = event["value"]
        if len(value) == MARK_SIZE:
            return self.on_mark(value, send_output)
        if self.answers:
            send_output("answer", ANSWER)
        result = self.results[self.phase_of(len(value))]
        result["received"] += 1
        result["last_nanos"] = received_nanos
        if self.mode == "paced":
            if len(value):
                stamp_nanos = int(value.to_numpy()[:8].view(np.int64)[0])
                result["latencies"].append(received_nanos - stamp_nanos)
            else:
                result["received_nanos"].append(received_nanos)
        return self.go_on

    def on_mark(self, value: Any, send_output: Any) -> Any:
        number, _ = read_mark(value)
        if number == LAST:
            report(self.results)
            return self.stop
        self.number = number
        if number < len(self.phases):
            phase = self.phases[number]
            self.mode = phase["mode"]
            self.answers = phase["mode"] == "loop" or phase["gated"]
        else:
            self.mode, self.answers = "", False
        received = self.results[number - 1]["received"] if number > 0 else 0
        send_output("answer", mark(number, received))
        return self.go_on

    def phase_of(self, size: int) -> int:
        """The phase that a message belongs to: what is late from a burst is known by its size."""
        if self.mode in ("burst", "") and size in self.bursts:
            return self.bursts[size]
        return self.number
