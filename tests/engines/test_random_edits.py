"""Five hundred edits under traffic: good ones, broken ones, other wires, kills. Nothing is left, nothing lost."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import DoraNbError
from dora_nb.status import State

from .conftest import CellDataflow

EDITS = 500
SEED = 20261127
MOST_MORE_KIB = 48 * 1024
"""What the kernel's memory may grow by; a leak of one frame an edit would be 400 MiB."""
NUMBERING = """
import pyarrow as pa
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("small", pa.array([self.n]))
            send_output("large", pa.array([self.n] * 10_000))
            self.n += 1
"""
CHECKING = """
class Operator:
    def __init__(self):
        self.expected = {}
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            name, value = dora_event["id"], dora_event["value"]
            n = value[0].as_py()
            assert n == self.expected.get(name, n), (name, n, self.expected)
            assert value[len(value) - 1].as_py() == n
            self.expected[name] = n + 1
            send_output("seen", b"", {"n": n})
"""
EDITED = """
import os
{imports}
FACTOR = {factor}

def helper(x):
    return x, {helper}

class Operator:
    def __init__(self):
        self.made = {made}
        self.held = []
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            {handling}
            self.held = [*self.held[-3:], dora_event["value"]]
            send_output("out", dora_event["value"], {{"made": self.made, "by": helper(FACTOR)[1]}})
"""
READING = """
class Operator:
    def on_event(self, dora_event, send_output):
        pass
"""


class _Editor:
    """Makes one random edit after the other of the operator in the middle, and of those around it."""

    def __init__(self, dataflow: CellDataflow) -> None:
        self.dataflow = dataflow
        self.random = random.Random(SEED)
        self.fields: dict[str, Any] = {
            "imports": "",
            "factor": 0,
            "helper": 0,
            "made": 0,
            "handling": "pass",
        }
        self.inputs = {"in": "source/small"}
        self.outputs: tuple[str, ...] = ("out",)
        self.options: dict[str, Any] = {}
        self.done: Counter[str] = Counter()

    def declare(self, **broken: object) -> None:
        self.dataflow.cell(
            "edited",
            EDITED.format(**{**self.fields, **broken}),
            inputs=self.inputs,
            outputs=self.outputs,
            **self.options,
        )

    def edit(self, number: int) -> None:
        kinds = {
            "in place": 8,
            "fresh": 5,
            "broken": 4,
            "rewired": 4,
            "reader": 2,
            "killed": 2,
            "crashed": 1,
            "exclusive": 1,
        }
        kind = self.random.choices(list(kinds), list(kinds.values()))[0]
        self.done[kind] += 1
        getattr(self, f"_{kind.replace(' ', '_')}")(number)

    def _in_place(self, number: int) -> None:
        field = self.random.choice(["factor", "helper", "imports"])
        self.fields[field] = f"import string as string{number}" if field == "imports" else number
        self.declare()

    def _fresh(self, number: int) -> None:
        self.fields["made"] = number
        self.declare()

    def _exclusive(self, number: int) -> None:
        self.options["exclusive"] = not self.options.get("exclusive", False)
        self._fresh(number)

    def _broken(self, number: int) -> None:
        broken = self.random.choice(
            [
                {"imports": f"import nowhere{number}"},
                {"made": "1 / 0"},
                {"imports": "def ("},
                {"imports": "os._exit(3)"},
            ]
        )
        generation = self.dataflow.status("edited").generation
        with pytest.raises(DoraNbError):
            self.declare(**broken)
        status = self.dataflow.status("edited")
        assert status.state in (State.RUNNING, State.WAITING), status
        assert status.generation >= generation

    def _rewired(self, number: int) -> None:
        del number
        self.inputs = self.random.choice(
            [
                {"in": "source/small"},
                {"in": "source/large"},
                {"in": "source/small", "tick": "dora/timer/hz/50"},
                {"in": "source/small", "other": "source/large"},
                {"in": "nobody/out", "other": "source/large"},
            ]
        )
        self.options["queues"] = {
            "in": self.random.choice(
                [(1, "drop_oldest"), (50, "backpressure"), (300, "drop_oldest")]
            )
        }
        self.outputs = self.random.choice([("out",), ("out", "more")])
        self.declare()

    def _reader(self, number: int) -> None:
        """A node comes or goes that reads what is edited."""
        name = f"reader{number % 3}"
        if name in self.dataflow.graph:
            self.dataflow.remove(name)
        else:
            self.dataflow.cell(name, READING, inputs={"in": "edited/out"})

    def _killed(self, number: int) -> None:
        session: Any = self.dataflow._run.session
        process = session._supervisors["edited"].process
        assert process is not None
        os.kill(process.process_id, signal.SIGKILL)
        self.dataflow.failure_of("edited")
        self._fresh(number)

    def _crashed(self, number: int) -> None:
        with contextlib.suppress(DoraNbError):  # It may fail before the edit is settled.
            self.declare(handling="1 / 0", made=f"{number} + 0")
        self.dataflow.until_state("edited", State.FAILED)
        self._fresh(number)


def resources() -> dict[str, int]:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in status.splitlines()
        if line.startswith(("VmRSS", "Threads"))
    }
    return {"descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()), **kib}


@pytest.mark.soak
def test_five_hundred_random_edits(dataflow: CellDataflow) -> None:
    blocking: Any = (1000, "backpressure")
    dataflow.cell(
        "source", NUMBERING, inputs={"tick": "dora/timer/hz/200"}, outputs=("small", "large")
    )
    dataflow.cell(
        "checker",
        CHECKING,
        inputs={"small": "source/small", "large": "source/large"},
        outputs=("seen",),
        queues={"small": blocking, "large": blocking},
    )
    editor = _Editor(dataflow)
    editor.declare()
    dataflow.start()
    before: dict[str, int] = {}
    for number in range(1, EDITS + 1):
        editor.edit(number)
        if number == EDITS // 10:
            _back_to_the_beginning(editor)
            before = resources()
    _back_to_the_beginning(editor)
    after = resources()
    assert len(editor.done) == 8
    for name in ("source", "checker"):
        status = dataflow.status(name)
        assert (status.state, status.generation, status.error) == (State.RUNNING, 1, None)
    assert [edge.dropped for edge in dataflow.status("checker").inputs] == [0, 0]
    assert dataflow.take("checker/seen", 10)
    assert after["descriptors"] <= before["descriptors"], (before, after)
    assert after["Threads"] <= before["Threads"], (before, after)
    assert after["VmRSS"] <= before["VmRSS"] + MOST_MORE_KIB, (before, after)


def _back_to_the_beginning(editor: _Editor) -> None:
    """The same nodes and wires each time something is counted, and those that were replaced are gone."""
    for spec in list(editor.dataflow.graph):
        if spec.name.startswith("reader"):
            editor.dataflow.remove(spec.name)
    editor.inputs, editor.outputs = {"in": "source/small"}, ("out",)
    editor.options = {}
    editor._fresh(-editor.fields["made"] - 1)
    editor.dataflow.take("edited/out", 20)
    session: Any = editor.dataflow._run.session
    supervisors = session._supervisors.values()
    editor.dataflow.until(
        lambda: not any(each._replaced for each in supervisors), "the end of those replaced"
    )
