"""Sends what the plan says, and measures the round trips. Plain dora code: the same on every peer.

Before each phase goes a mark, which the receiver answers with how many messages of the phase before
have arrived. Not every peer keeps the order of small and large messages, so the sender asks until all
are there, or no more come.
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

_RESEND_TICKS = 40
_STALLED_NANOS = 8_000_000_000
_PATIENCE = 3
"""Answers without a further message, after which the rest counts as lost."""


class Operator:
    """The sender's end: inputs `tick` and `answer`, output `data`."""

    def __init__(self) -> None:
        pin("BENCH_SENDER_CPU")
        load_pandas()
        self.go_on, self.stop = statuses()
        self.phases = json.loads(os.environ["BENCH_PHASES"])
        self.memory = {
            size: np.ones(size, np.uint8) for size in {phase["size"] for phase in self.phases}
        }
        self.arrays = {size: pa.array(memory) for size, memory in self.memory.items()}
        self.results: list[dict[str, Any]] = [
            {"sent": 0, "first_nanos": 0, "sent_nanos": [], "round_trips": []} for _ in self.phases
        ]
        self.number = 0
        self.asking = True
        self.answered = True
        self.ticks = 0
        self.began_nanos = 0
        self.arrived = -1
        self.in_vain = 0

    def on_event(self, event: Any, send_output: Any) -> Any:
        """One step of the plan for each tick and each answer."""
        received_nanos = now_nanos()
        if event["type"] != "INPUT":
            return self.go_on
        if event["id"] == "tick":
            return self.on_tick(send_output)
        return self.on_answer(event["value"], received_nanos, send_output)

    def on_tick(self, send_output: Any) -> Any:
        self.ticks += 1
        if self.asking:
            if self.ticks % _RESEND_TICKS == 1:
                send_output("data", mark(self.number))
            return self.go_on
        phase = self.phases[self.number]
        if phase["mode"] == "paced":
            if self.ticks % phase["every_ticks"] == 0 and (self.answered or not phase["gated"]):
                self.send(send_output)
                if self.results[self.number]["sent"] == phase["count"]:
                    self.ask_for_next()
        elif now_nanos() - self.began_nanos > _STALLED_NANOS:
            self.ask_for_next()  # A message of the loop was lost.
        return self.go_on

    def on_answer(self, value: Any, received_nanos: int, send_output: Any) -> Any:
        if len(value) == MARK_SIZE:
            answered, received = read_mark(value)
            if self.asking and answered == self.number and self.all_arrived(received):
                if self.number == len(self.phases):
                    return self.finish(send_output)
                self.begin(send_output)
        elif not self.asking:
            self.answered = True
            if self.phases[self.number]["mode"] == "loop":
                self.go_round(received_nanos, send_output)
        return self.go_on

    def all_arrived(self, received: int) -> bool:
        """Whether nothing of the phase before is to be waited for."""
        if self.number == 0 or received >= self.results[self.number - 1]["sent"]:
            return True
        self.in_vain = self.in_vain + 1 if received == self.arrived else 0
        self.arrived = received
        return self.in_vain >= _PATIENCE

    def begin(self, send_output: Any) -> None:
        self.asking = False
        self.answered = True
        self.ticks = 0
        self.began_nanos = now_nanos()
        phase = self.phases[self.number]
        if phase["mode"] == "loop":
            self.send(send_output)
        elif phase["mode"] == "burst":
            for _ in range(phase["count"]):
                self.send(send_output)
            self.ask_for_next()

    def go_round(self, received_nanos: int, send_output: Any) -> None:
        result = self.results[self.number]
        result["round_trips"].append(received_nanos - self.stamp_nanos)
        if result["sent"] == self.phases[self.number]["count"]:
            self.ask_for_next()
        else:
            self.send(send_output)

    def send(self, send_output: Any) -> None:
        """One message; its stamp is its first eight bytes, where it has them."""
        size = self.phases[self.number]["size"]
        result = self.results[self.number]
        result["sent"] += 1
        self.answered = False
        array, memory = self.arrays[size], self.memory[size]
        stamp_nanos = self.stamp_nanos = now_nanos()
        if size:
            memory[:8].view(np.int64)[0] = stamp_nanos
        send_output("data", array)
        result["first_nanos"] = result["first_nanos"] or stamp_nanos
        if not size:
            result["sent_nanos"].append(stamp_nanos)

    def ask_for_next(self) -> None:
        self.number += 1
        self.asking = True
        self.ticks = 0
        self.arrived = -1
        self.in_vain = 0

    def finish(self, send_output: Any) -> Any:
        send_output("data", mark(LAST))
        report(self.results)
        return self.stop
