"""What the notebook sends on ``notebook/NAME``, and what nodes print as messages on ``dora/logs``."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.engines.embedded._kernel_publisher import MOST_WAITING, KernelPublisher
from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.graph.nodes import NodeKind
from dora_nb.protocol import control
from dora_nb.status import State
from dora_nb.transport import InvalidDataError

from ..waiting import wait_until
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow

ECHO = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", dora_event["value"], dora_event["metadata"])
"""
READER = """
from dora import Node

for event in Node():
    value = event["value"].to_pylist() if event["type"] == "INPUT" else ""
    print(event["type"], event["id"], value, flush=True)
"""
LOG_READER = """
import json
from dora import Node

node = Node()
for event in node:
    if event["type"] == "INPUT":
        said = json.loads(event["value"][0].as_py())
        node.send_output("seen", event["value"], {"input": event["id"]})
        print("I saw", said["message"])
"""


@pytest.fixture
def echo(dataflow: CellDataflow) -> CellDataflow:
    dataflow.cell("echo", ECHO, inputs={"in": "notebook/command"}, outputs=("out",))
    return dataflow


@pytest.mark.parametrize(
    ("data", "arrives"),
    [
        (pa.array([1.5]), [1.5]),
        ([1, 2], [1, 2]),
        ("text", ["text"]),
        (7, [7]),
        ({"a": 1}, [{"a": 1}]),
        (b"ab", [97, 98]),
        (np.arange(4).reshape(2, 2), [0, 1, 2, 3]),
        (np.zeros(1_000_000, np.uint8), [0] * 1_000_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_sent_arrives(echo: CellDataflow, data: object, arrives: list[object]) -> None:
    echo.start()
    with echo.subscribe("echo/out") as out:
        echo.send("notebook/command", data, {"number": 1})
        event = out.next(20.0)
    assert event["value"].to_pylist() == arrives
    assert event["metadata"]["number"] == 1
    assert echo.latest("notebook/command")["value"].to_pylist() == arrives


def test_every_reader_gets_it_whenever_it_came(echo: CellDataflow) -> None:
    echo.start()
    with echo.subscribe("echo/out") as out:
        echo.send("notebook/command", 1)
        out.next(20.0)
        assert in_words(
            echo.cell("late", READER, inputs={"in": "notebook/command"}, kind="script")
        ) == ("late: started")
        echo.send("notebook/command", 2)
        assert out.next(20.0)["value"].to_pylist() == [2]
    echo.cell("echo", ECHO + "\n# edited", inputs={"in": "notebook/command"}, outputs=("out",))
    with echo.subscribe("echo/out") as out:
        echo.send("notebook/command", 3)
        assert out.next(20.0)["value"].to_pylist() == [3]
    echo.remove("echo")
    echo.send("notebook/command", 4)
    # A stop comes before what is still in line.
    deadline_secs = time.monotonic() + TIMEOUT_SECS
    while echo.status("late").events < 3:
        assert time.monotonic() < deadline_secs
    echo.stop()
    assert echo.said_by("late") == ["INPUT in [2]", "INPUT in [3]", "INPUT in [4]", "STOP MANUAL "]


def test_an_input_of_the_notebook_waits_for_nobody_and_never_closes(echo: CellDataflow) -> None:
    assert echo.graph.waiting_for("echo") == ()
    echo.start()
    echo.send("notebook/command", 1)
    assert echo.latest("echo/out")["value"].to_pylist() == [1]
    assert echo.status("echo").state is State.RUNNING
    (edge,) = echo.status("echo").inputs
    assert (edge.topic, edge.sent, edge.received, edge.dropped) == ("notebook/command", 1, 1, 0)


def test_what_cannot_be_sent_is_told(echo: CellDataflow) -> None:
    with pytest.raises(DataflowStateError, match="cannot be sent: the dataflow is not running"):
        echo.send("notebook/command", 1)
    echo.start()
    for topic, said in (
        ("notebook/comand", "Did you mean 'notebook/command'"),
        ("notebook/xyz", "Declare one with inputs={'IN': 'notebook/xyz'}"),
        ("dora/logs", "use dataflow.logs"),
    ):
        with pytest.raises(GraphError, match=said):
            echo.send(topic, 1)
    with pytest.raises(InvalidDataError):
        echo.send("notebook/command", object())
    for data in ([1, "a"], 10**30, "\ud800"):
        with pytest.raises(GraphError, match="cannot make an Arrow array"):
            echo.send("notebook/command", data)
    with pytest.raises(RuntimeError):
        echo.send("notebook/command", 1, {"mixed": [1, "a"]})
    echo.send("notebook/command", 1)
    assert echo.latest("echo/out")["value"].to_pylist() == [1]


BUSY = """
import os
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            open(os.environ["PIPE"]).read()
"""


@pytest.mark.parametrize("kind", ["operator", "script"])
def test_who_subscribes_and_then_sends_hears_the_answer(
    dataflow: CellDataflow, kind: NodeKind
) -> None:
    """A node lets the new reader in before it sees the message."""
    echo = "from dora import Node\nnode = Node()\nfor e in node:\n    if e['type'] == 'INPUT': node.send_output('out', e['value'])"
    body = ECHO if kind == "operator" else echo
    dataflow.cell("echo", body, inputs={"in": "notebook/command"}, outputs=("out",), kind=kind)
    dataflow.start()
    for number in range(50):
        with dataflow.subscribe("echo/out") as out:
            dataflow.send("notebook/command", number)
            assert out.next(20.0)["value"].to_pylist() == [number]


def test_the_kernel_too_lets_a_reader_in_before_it_sends_what_was_sent_afterwards() -> None:
    """Also where it is in the middle of sending what stood before it."""
    order: list[str] = []
    done = threading.Event()

    class Noting(KernelPublisher):
        def _act(self, message: control.ToProcess, descriptors: list[int]) -> None:
            order.append("told")

        def _publish(self, request: Any) -> None:
            order.append(request.output)
            if request.output == "first":
                self.tell(control.OpenInput(1), [])
                self.send_soon("second", None, None)
            else:
                done.set()

    publisher = Noting("notebook", released=order.append, warn=order.append)  # type: ignore[arg-type]
    publisher.send_soon("first", None, None)
    assert done.wait(TIMEOUT_SECS)
    publisher.close()
    assert order == ["first", "told", "second"]


def test_the_newest_of_an_output_waits_and_is_never_given_up() -> None:
    published: list[tuple[str, Any]] = []
    may_go_on = threading.Event()

    class Held(KernelPublisher):
        def _publish(self, request: Any) -> None:
            data = request.data if request.latest is None else request.latest()[0]
            published.append((request.output, data))
            may_go_on.wait(TIMEOUT_SECS)
            if request.sent is not None:
                request.sent.set_result(None)

    publisher = Held("words", released=lambda _: None, warn=lambda _: None)
    newest = {"held": 0, "speed": 0, "gain": 7}

    def send_latest(output: str, number: int) -> None:
        newest[output] = number
        publisher.send_latest(output, lambda: (newest[output], None))

    send_latest("held", 0)
    wait_until(lambda: bool(published))
    for number in range(3):
        send_latest("speed", number)
    send_latest("gain", 7)
    sender = threading.Thread(target=publisher.send, args=("sent", 8, None), daemon=True)
    sender.start()
    wait_until(lambda: len(publisher._requests) == 3)
    for number in range(MOST_WAITING + 5):
        publisher.send_soon("line", number, None)
    send_latest("held", 9)
    may_go_on.set()
    sender.join(TIMEOUT_SECS)
    assert not sender.is_alive()
    publisher.send("last", None, None)
    publisher.close()
    lines = [data for output, data in published if output == "line"]
    assert published[:4] == [("held", 0), ("speed", 2), ("gain", 7), ("sent", 8)]
    assert published[-2:] == [("held", 9), ("last", None)]
    # The message whose sender waits counts as one that waits.
    assert publisher.given_up == {"line": 6}
    assert lines == list(range(6, MOST_WAITING + 5))


@pytest.mark.parametrize("end", ["stop", "remove", "reader"])
def test_a_send_that_waits_for_room_ends(dataflow: CellDataflow, tmp_path: Path, end: str) -> None:
    """The reader is stuck, its queue is full: a stop or a removal lets the sender go."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    dataflow.cell(
        "busy",
        BUSY,
        inputs={"in": "notebook/command"},
        queues={"in": (1, "backpressure")},
        env={"PIPE": str(gate)},
    )
    dataflow.start()

    def send_three() -> None:
        with contextlib.suppress(GraphError, DataflowStateError):  # nobody is left to read
            for number in range(3):
                dataflow.send("notebook/command", number)

    sender = threading.Thread(target=send_three)
    sender.start()
    with gate.open("w"):  # it is in its first event
        pass
    if end == "remove":
        dataflow.remove("busy")
    elif end == "stop":
        dataflow.stop(grace_secs=0.0)
    else:
        # It goes on, and takes the next two.
        with gate.open("w"):
            pass
        with gate.open("w"):
            pass
    sender.join(20.0)
    assert not sender.is_alive()


# --- logs -------------------------------------------------------------------------------------

TALKER = """
import logging, sys
from dora import Node

node = Node()
for event in node:
    if event["type"] == "INPUT":
        print("printed")
        print("complained", file=sys.stderr)
        logging.error("by logging")
        node.log("warn", "logged", target="motor", fields={"speed": "3"})
"""


def test_what_nodes_print_and_log_reaches_who_reads_it(dataflow: CellDataflow) -> None:
    dataflow.cell("talker", TALKER, inputs={"go": "notebook/go"}, kind="script")
    inputs = {"all": "dora/logs", "grave": "dora/logs/warn", "other": "dora/logs/stdout/nobody"}
    dataflow.cell("watcher", LOG_READER, inputs=inputs, outputs=("seen",), kind="script")
    dataflow.start()
    with dataflow.subscribe("watcher/seen", queue_size=100) as seen:
        dataflow.send("notebook/go", 1)
        events = [seen.next(20.0) for _ in range(6)]
    said = [(each["metadata"]["input"], json.loads(each["value"][0].as_py())) for each in events]
    assert sorted((name, line["level"], line["message"]) for name, line in said) == [
        ("all", "ERROR", "by logging"),
        ("all", "WARN", "logged"),
        ("all", "stdout", "complained"),
        ("all", "stdout", "printed"),
        ("grave", "ERROR", "by logging"),
        ("grave", "WARN", "logged"),
    ]
    assert {line["node_id"] for _, line in said} == {"talker"}
    (logged,) = [line for name, line in said if (name, line["message"]) == ("all", "logged")]
    assert (logged["target"], logged["fields"]) == ("motor", {"speed": "3"})
    assert "motor: logged speed=3" in dataflow.said_by("talker", "warn")


def test_nobody_reads_his_own_lines(dataflow: CellDataflow) -> None:
    """Or each line that he prints of a line would bring another."""
    talks = """
    class Operator:
        def on_event(self, dora_event, send_output):
            print(dora_event["id"])
            if dora_event["id"] == "go":
                send_output("done", b"")
    """
    inputs = {"go": "notebook/go", "own": "dora/logs/stdout/one", "all": "dora/logs"}
    dataflow.cell("one", talks, inputs=inputs, outputs=("done",))
    dataflow.start()
    for number in (1, 2):
        with dataflow.subscribe("one/done") as done:
            dataflow.send("notebook/go", number)
            done.next(20.0)
    edges = {edge.input: edge.sent for edge in dataflow.status("one").inputs}
    assert edges == {"go": 2, "own": 0, "all": 0}


def test_a_flood_of_lines_holds_up_nobody(dataflow: CellDataflow) -> None:
    """Whatever the policy of the reader's queue, who prints goes on, and what is lost is counted."""
    flood = """
    class Operator:
        def on_event(self, dora_event, send_output):
            if dora_event["type"] == "INPUT":
                for number in range(20_000):
                    print(number)
                send_output("done", b"")
    """
    dataflow.cell("flood", flood, inputs={"go": "notebook/go"}, outputs=("done",))
    stuck = "class Operator:\n    def on_event(self, e, send_output):\n        import time; time.sleep(1000)"
    dataflow.cell("stuck", stuck, inputs={"all": "dora/logs"}, queues={"all": (2, "backpressure")})
    dataflow.start()
    with dataflow.subscribe("flood/done") as done:
        dataflow.send("notebook/go", 1)
        done.next(25.0)
    deadline_secs = time.monotonic() + TIMEOUT_SECS
    while (edge := dataflow.status("stuck").inputs[0]).sent < 20_000:
        assert time.monotonic() < deadline_secs, edge
        time.sleep(0.01)  # each look holds the session's lock
    assert edge.sent == 20_000
    assert edge.dropped > 0
    assert edge.queued <= 2
    dataflow.stop(grace_secs=0.0)
    (edge,) = dataflow.status("stuck").inputs
    assert edge.sent == edge.received + edge.dropped + edge.queued
