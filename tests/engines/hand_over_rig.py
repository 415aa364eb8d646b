"""Numbers from a to b to c, and a hand-over of b that stands still at one of its steps."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dora_nb.dataflow.results import Declared
from dora_nb.status import State

from .conftest import CellDataflow, Fifo

EVERY_MILLI = {"tick": "dora/timer/millis/1"}
BLOCKING = {"in": (1000, "backpressure")}
NUMBERING = """
import os
import pyarrow as pa
from dora import DoraStatus

class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            for _ in range(int(os.environ.get("BURST", "1"))):
                send_output("out", pa.array([self.n] * int(os.environ.get("SIZE", "1"))))
                self.n += 1
            if os.path.exists(os.environ["END"]):
                return DoraStatus.STOP
"""
CHECKING = """
import json

class Operator:
    def __init__(self):
        self.expected, self.missing, self.wrong, self.generations = 0, 0, 0, []
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            print(json.dumps([dora_event["type"], self.expected, self.missing, self.wrong, self.generations]))
            return
        value, n = dora_event["value"], dora_event["value"][0].as_py()
        generation = dora_event["metadata"]["generation"]
        if generation not in self.generations[-1:]:
            self.generations.append(generation)
        self.wrong += n < self.expected or value[len(value) - 1].as_py() != n
        self.missing += max(0, n - self.expected)
        self.expected = n + 1
"""
STEPS = """
import os, select
FOLDER, GENERATION = {folder!r}, {generation}

def gate(step):
    if os.path.exists(FOLDER + "/" + step):
        # Opened before it is said: what opens the gate then is seen however soon it comes.
        descriptor = os.open(FOLDER + "/gate", os.O_RDONLY | os.O_NONBLOCK)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        with open(FOLDER + "/at_gate", "w") as file:
            file.write(step + "\\n")
        poller.poll(60_000)
        os.close(descriptor)

class Operator:
    def __init__(self):
        self.handled = 0
        if os.path.exists(FOLDER + "/held"):
            open(FOLDER + "/hold").read()
        gate("preparing")
    def get_state(self):
        return self.handled
    def set_state(self, state):
        self.handled = state
        gate("filling")
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "STOP":
            gate("parting")
            return
        self.handled += 1
        send_output("out", dora_event["value"], {{"generation": GENERATION}})
        gate("pausing")
"""
HAND_OVER_STEPS = ("preparing", "pausing", "filling", "parting")


def declare_middle(dataflow: CellDataflow, body: str, **more: Any) -> Declared:
    queues = more.pop("queues", BLOCKING)
    return dataflow.cell("b", body, inputs={"in": "a/out"}, outputs=("out",), queues=queues, **more)


def start_three(
    dataflow: CellDataflow, end: Path, body: str, *, queues: Any = BLOCKING, **env: str
) -> None:
    """Numbers, from a to b to c, which says at the end what it got."""
    dataflow.cell(
        "a", NUMBERING, inputs=EVERY_MILLI, outputs=("out",), env={"END": str(end), **env}
    )
    declare_middle(dataflow, body, queues=queues)
    dataflow.cell("c", CHECKING, inputs={"in": "b/out"}, queues=BLOCKING)
    dataflow.start()
    dataflow.take("b/out", 3)


def what_arrived(dataflow: CellDataflow, end: Path) -> list[Any]:
    """Ends the numbers; what c says: type, count, missing, wrong, generations."""
    end.touch()
    dataflow.until_state("c", State.FINISHED)
    said: list[Any] = json.loads(dataflow.said_by("c")[-1])
    return said


class StagedHandOver:
    """Edits of b, each of which stands still at one step until `open_gate`.

    `at_gate` is a named pipe in `folder` that stays open; a process that comes to a gate says so there.
    """

    def __init__(self, dataflow: CellDataflow, folder: Path, at_gate: Fifo) -> None:
        self.dataflow, self.folder, self.at_gate = dataflow, folder, at_gate
        self.end = folder / "end"
        self._step = ""
        for name in ("gate", "hold"):
            os.mkfifo(folder / name)

    def body(self, generation: int) -> str:
        """The code of b: each generation says in its messages which one it is."""
        return STEPS.format(generation=generation, folder=str(self.folder))

    def begin(self, background: ThreadPoolExecutor, step: str, generation: int) -> Future[Declared]:
        """Begins the edit that makes it that generation, and waits until the hand-over stands at that step."""
        self.at_gate.text, self._step = "", step
        if step != "pausing":
            (self.folder / step).touch()
            edited = background.submit(declare_middle, self.dataflow, self.body(generation))
            self.at_gate.wait_for("\n")
            return edited
        # The old one comes to its gate while the new one is prepared, and so cannot pause. A kill before
        # the edit has begun would be a failure without a successor.
        (self.folder / "held").touch()
        edited = background.submit(declare_middle, self.dataflow, self.body(generation))
        self._until_next_is("preparing")
        (self.folder / step).touch()
        self.at_gate.wait_for("\n")
        (self.folder / "hold").write_text("")  # Returns once the new one is there.
        (self.folder / "held").unlink()
        self._until_next_is("pausing")
        return edited

    def kill(self, which: str) -> None:
        """Kills the old or the new process, one of which stands at the gate."""
        role = "_process" if which == "old" else "_next"
        process = getattr(self.supervisor, role)
        os.kill(process.process_id, signal.SIGKILL)
        self.dataflow.until(lambda: getattr(self.supervisor, role) is not process, "its end")

    def open_gate(self) -> None:
        """The process that stands there goes on, if it still lives, and no process stops there again."""
        (self.folder / self._step).unlink()
        descriptor = os.open(self.folder / "gate", os.O_RDWR | os.O_NONBLOCK)
        os.write(descriptor, b"!")
        os.close(descriptor)

    @property
    def session(self) -> Any:
        """The run of the dataflow."""
        return self.dataflow._run.session

    @property
    def supervisor(self) -> Any:
        """What looks after b."""
        return self.session._supervisors["b"]

    def _until_next_is(self, step: str) -> None:
        self.dataflow.until(lambda: self.supervisor.life.next.value == step, f"b {step}")
