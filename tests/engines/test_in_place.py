"""A living operator takes new code: its object, its process and what it holds stay what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import OperatorError
from dora_nb.status import State

from ..waiting import wait_until
from ..wording import in_words
from .conftest import CellDataflow

EVERY_MILLI = {"tick": "dora/timer/millis/1"}
LIVING = """
import json, os
import math

FACTOR = 1
LIMIT = 10

def scaled(x):
    return x * FACTOR

class Model:
    made = 0
    def __init__(self):
        Model.made += 1
        self.id = os.urandom(8).hex()

class Operator:
    history = []

    def __init__(self):
        self.inits = getattr(self, "inits", 0) + 1
        self.model = Model()

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "RELOAD":
            print("RELOAD", dora_event["id"])
        if dora_event["type"] == "INPUT":
            self.history.append(1)
            said = {"said": self.say(), "inits": self.inits, "model": self.model.id}
            said |= {"made": Model.made, "history": len(self.history), "process": os.getpid()}
            send_output("out", b"", said)

    def say(self):
        return f"plain {scaled(1)}"
"""


def declare(dataflow: CellDataflow, body: str, **more: Any) -> str:
    return in_words(
        dataflow.cell("op", body, **{"inputs": EVERY_MILLI, "outputs": ("out",), **more})
    )


def newest(dataflow: CellDataflow) -> dict[str, Any]:
    metadata: dict[str, Any] = dataflow.take("op/out", 1)[0]["metadata"]
    return metadata


@pytest.fixture
def running(dataflow: CellDataflow) -> CellDataflow:
    declare(dataflow, LIVING)
    dataflow.start()
    newest(dataflow)
    return dataflow


def test_twenty_edits_in_place_keep_the_object_and_what_it_holds(running: CellDataflow) -> None:
    before = newest(running)
    edits = [
        ("FACTOR = 1", "FACTOR = {n}"),
        ("return x * FACTOR", "return x * FACTOR + {n}"),
        ('return f"plain', 'return f"edit {n}'),
        ("import math", "import math, string as string{n}"),
    ]
    for n in range(20):
        old, new = edits[n % 4]
        sentence = declare(running, LIVING.replace(old, new.format(n=n)), number=n + 6)
        assert sentence == f"op: generation {n + 2}, in place, state kept"
        after = newest(running)
        for name in ("model", "process", "made", "inits"):
            assert after[name] == before[name], (n, name)
        assert after["history"] > before["history"]
        before = after
        factor = n if n % 4 == 0 else 1
        added = n if n % 4 == 1 else 0
        said = f"edit {n}" if n % 4 == 2 else "plain"
        assert after["said"] == f"{said} {factor + added}"
    running.stop()
    assert running.said_by("op").count("RELOAD op") == 20


def test_new_code_that_fails_as_it_is_taken_changes_nothing(running: CellDataflow) -> None:
    before = newest(running)
    body = LIVING.replace("import math", "import math, nowhere_at_all").replace("plain", "new")
    with pytest.raises(OperatorError, match=r"^op: kept generation 1: .*nowhere_at_all") as raised:
        declare(running, body, number=8)
    assert raised.value.place == "Cell In[8], line 3"
    after = newest(running)
    assert (after["process"], after["said"]) == (before["process"], "plain 1")
    assert running.status("op").state is State.RUNNING
    assert declare(running, LIVING) == "op: unchanged"


def test_a_traceback_shows_the_lines_of_the_cell_as_it_is_now(running: CellDataflow) -> None:
    """The function that fails did not change; it stands two lines lower in another cell now."""
    moved = LIVING.replace("\n\ndef scaled", "\n# one\n# two\n\ndef scaled", 1)
    moved = moved.replace("LIMIT = 10", "LIMIT = 11")
    declare(running, moved, number=9)
    broken = moved.replace("FACTOR = 1", "FACTOR = None", 1)
    sentence = declare(running, broken, number=10)
    assert sentence == "op: generation 3, in place, state kept"
    error = running.failure_of("op")
    line = broken.lstrip("\n").split("\n").index("    return x * FACTOR") + 2
    assert error.place == f"Cell In[10], line {line}"


def test_doras_own_rule(running: CellDataflow) -> None:
    """`__init__` runs again, and the old attributes win."""
    before = newest(running)
    body = LIVING.replace("self.model = Model()", "self.model = Model(); self.new = 'new'")
    body = body.replace('return f"plain', 'return f"{self.new}')
    sentence = declare(running, body, on_edit="reload")
    assert sentence == "op: generation 2, in place, state kept"
    after = newest(running)
    assert after["said"] == "new 1"
    assert (after["process"], after["model"]) == (before["process"], before["model"])
    with pytest.raises(OperatorError, match=r"kept generation 2: .*ZeroDivisionError"):
        declare(running, body.replace("self.new = 'new'", "1 / 0"), on_edit="reload")
    assert newest(running)["said"] == "new 1"


def test_what_python_cannot_make_of_the_living_object_is_made_by_a_new_process(
    running: CellDataflow,
) -> None:
    body = (
        LIVING.replace('return f"plain', 'return f"new')
        + "\nOperator = type('Operator', (Operator,), {})\n"
    )
    sentence = declare(running, body)
    assert sentence.startswith("op: generation 2, restarted: ")
    assert newest(running)["said"] == "new 1"


def test_other_wires_alone_leave_the_process_and_the_neighbours_as_they_are(
    dataflow: CellDataflow,
) -> None:
    numbers = (
        "import json\nclass Operator:\n    n = 0\n    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n            self.n += 1\n"
        "            send_output('out', b'', {'n': self.n})\n"
    )
    echo = (
        "import os\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            for output in ('out', 'more'):\n"
        "                send_output(output, b'', {'from': dora_event['id'], 'process': os.getpid(),"
        " 'n': dora_event['metadata'].get('n')})\n"
        "        else:\n            print(dora_event['type'])\n"
    )
    for name in ("one", "two"):
        dataflow.cell(name, numbers, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("op", echo, inputs={"a": "one/out"}, outputs=("out",))
    seeing = numbers.replace("self.n += 1", "self.n = dora_event['metadata']['n']")
    dataflow.cell("reader", seeing, inputs={"in": "op/out"}, outputs=("out",))
    dataflow.start()
    before = newest(dataflow)
    dataflow.latest("reader/out")

    both = {"a": "one/out", "b": "two/out", "tick": "dora/timer/millis/5"}
    sentence = dataflow.cell("op", echo, inputs=both, outputs=("out", "more"))
    assert in_words(sentence) == "op: generation 2, in place, state kept"
    seen = {event["metadata"]["from"] for event in dataflow.take("op/more", 60)}
    assert seen == {"a", "b", "tick"}
    assert newest(dataflow)["process"] == before["process"]
    (edge_a, edge_b) = dataflow.status("op").inputs
    assert edge_a.received > 0 < edge_b.received

    only_b = {"b": "two/out"}
    dataflow.cell("op", echo, inputs=only_b, outputs=("out",), queues={"b": (3, "backpressure")})
    assert {event["metadata"]["from"] for event in dataflow.take("op/out", 20)[10:]} == {"b"}
    (edge,) = dataflow.status("op").inputs
    assert (edge.topic, edge.queue_size, edge.policy) == ("two/out", 3, "backpressure")
    assert newest(dataflow)["process"] == before["process"]
    assert dataflow.latest("reader/out")
    assert {each.name: each.generation for each in dataflow.status()} == {
        "one": 1,
        "two": 1,
        "op": 3,
        "reader": 1,
    }
    dataflow.stop()
    assert set(dataflow.said_by("op")) == {"STOP"}  # and no INPUT_CLOSED


def test_an_edge_that_did_not_change_loses_nothing_when_another_does(
    dataflow: CellDataflow,
) -> None:
    numbers = (
        "class Operator:\n    n = 0\n    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            send_output('out', b'', {'n': self.n}); self.n += 1\n"
    )
    checking = (
        "class Operator:\n    expected = None\n    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['id'] == 'kept':\n"
        "            n = dora_event['metadata']['n']\n"
        "            assert self.expected in (None, n), (self.expected, n)\n"
        "            self.expected = n + 1\n"
        "            send_output('seen', b'', {'n': n})\n"
    )
    queues: Any = {"kept": (1000, "backpressure")}
    dataflow.cell("one", numbers, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("two", numbers, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("op", checking, inputs={"kept": "one/out"}, outputs=("seen",), queues=queues)
    dataflow.start()
    for n in range(6):
        dataflow.take("op/seen", 5)
        more = {"other": "two/out"} if n % 2 == 0 else {}
        dataflow.cell(
            "op", checking, inputs={"kept": "one/out", **more}, outputs=("seen",), queues=queues
        )
    dataflow.take("op/seen", 5)
    status = dataflow.status("op")
    assert (status.state, status.generation) == (State.RUNNING, 7)
    assert [edge.dropped for edge in status.inputs if edge.input == "kept"] == [0]
    assert json.dumps(status.error) == "null"


def test_a_queue_that_becomes_shorter_keeps_the_newest_and_counts_the_rest(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    """The same topic with another queue: what has room stays in line, and the counts go on."""
    gate = tmp_path / "gate"
    sending = (
        "class Operator:\n    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            for n in range(20): send_output('out', b'')\n"
    )
    waiting = (
        "class Operator:\n    waits = True\n    def on_event(self, dora_event, send_output):\n"
        f"        if self.waits:\n            self.waits = False; open({str(gate)!r}).read()\n"
    )
    os.mkfifo(gate)
    wires: Any = {"inputs": {"in": "source/out"}, "queues": {"in": (100, "backpressure")}}
    dataflow.cell("source", sending, inputs={"tick": "dora/timer/secs/60"}, outputs=("out",))
    dataflow.cell("reader", waiting, **wires)
    dataflow.start()

    def counts() -> tuple[int, int, int, int]:
        (edge,) = dataflow.status("reader").inputs
        return edge.sent, edge.received, edge.dropped, edge.queued

    while counts()[0] < 20:  # It has sent them all once the kernel, which reads too, has its last.
        dataflow.latest("source/out")
    with gate.open("w"):  # Opens once the reader has its first message, so the rest is in line.
        wires["queues"] = {"in": (5, "drop_oldest")}
        dataflow.cell("reader", waiting, **wires)
        # The source's process shortens the queue, some time after the kernel has told it.
        wait_until(lambda: counts()[2] == 14, otherwise=counts)
    wait_until(lambda: counts()[3] == 0, otherwise=counts)
    assert counts() == (20, 6, 14, 0)
