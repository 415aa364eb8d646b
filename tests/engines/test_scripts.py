"""Scripts that make a `Node()`: what they receive, what they may call, how they end."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.errors import OperatorError
from dora_nb.graph.nodes import InputSpec, NodeKind, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

MakeFifo = Callable[[str], Fifo]
TICK = {"tick": "dora/timer/hz/100"}
ONCE = {"tick": "dora/timer/secs/3600"}
IMPORTS = "from dora import Node\nimport pyarrow as pa\n"
COUNTING = """
from dora import Node
import pyarrow as pa
node = Node()
for n, event in enumerate(node):
    if event["type"] == "INPUT":
        node.send_output("out", pa.array([n]), event["metadata"])
"""
SENDING_OPERATOR = """
import pyarrow as pa
from dora import DoraStatus
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", pa.array([self.n]))
            self.n += 1
            if self.n == LAST: return DoraStatus.STOP
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A named pipe: its reader waits until it is opened to write."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def script(dataflow: CellDataflow, name: str, body: str, **options: Any) -> None:
    dataflow.cell(name, body, kind="script", **options)


def said(dataflow: CellDataflow, name: str) -> list[str]:
    """What it printed, once it has finished or failed."""
    ended = (State.FINISHED, State.FAILED, State.STOPPED)
    dataflow.until(lambda: dataflow.status(name).state in ended, f"the end of {name}")
    return dataflow.said_by(name)


def run(dataflow: CellDataflow, body: str, **options: Any) -> list[str]:
    """Starts a dataflow of one script that ends by itself; what it printed."""
    script(dataflow, "node", IMPORTS + body, **options)
    dataflow.start()
    lines = said(dataflow, "node")
    assert dataflow.status("node").error is None
    return lines


# -- events ----------------------------------------------------------------------------------------


def test_a_script_receives_and_sends_beside_operators(dataflow: CellDataflow) -> None:
    operator = SENDING_OPERATOR.replace("LAST", "-1")
    dataflow.cell("source", operator, inputs=TICK, outputs=("out",))
    script(dataflow, "node", COUNTING, inputs={"in": "source/out"}, outputs=("out",))
    assert in_words(dataflow.start()) == "started: source, node"
    with dataflow.subscribe("node/out", queue_size=1000) as messages:
        values = [messages.next(TIMEOUT_SECS)["value"].to_pylist()[0] for _ in range(5)]
    assert values == list(range(values[0], values[0] + 5))
    status = dataflow.status("node")
    assert (status.state, status.generation) == (State.RUNNING, 1)
    assert status.events >= 5


def test_the_names_of_ports_may_have_slashes(dataflow: CellDataflow) -> None:
    script(dataflow, "source", COUNTING, inputs=TICK, outputs=("out", "left/out"))
    body = (
        IMPORTS
        + """
node = Node()
for event in node:
    if event["type"] == "INPUT":
        node.send_output("v1/got", event["value"])
        break
node.send_output("v1/gto", pa.array([1]))
"""
    )
    script(dataflow, "node", body, inputs={"in/a": "source/out"}, outputs=("v1/got",))
    with dataflow.subscribe("node/v1/got") as messages:
        dataflow.start()
        assert next(iter(messages))["value"].to_pylist() == [0]
    said(dataflow, "node")
    assert "did you mean 'v1/got'?" in "\n".join(dataflow.said_by("node", "engine"))


def test_its_events_are_doras(dataflow: CellDataflow) -> None:
    body = """
node = Node()
for event in node:
    print(event["kind"], event["type"], event["id"], event.get("value", pa.array([])).to_pylist())
print(node.next(), node.try_recv(), node.is_empty())
try:
    node.drain()
except RuntimeError as error:
    print(error)
"""
    source = SENDING_OPERATOR.replace("LAST", "2")
    dataflow.cell("source", source, inputs=TICK, outputs=("out",))
    assert run(dataflow, body, inputs={"in": "source/out"}) == [
        "dora INPUT in [0]",
        "dora INPUT in [1]",
        "dora INPUT_CLOSED in []",
        "dora STOP ALL_INPUTS_CLOSED []",
        "None None True",
        "Could not drain events. Channel is closed",
    ]


def test_a_timeout_is_an_event(dataflow: CellDataflow) -> None:
    body = """
node = Node()
print(node.next(timeout=0))
print(node.next(0.01) == node.next(0), node.try_recv(), node.drain(), node.is_empty())
for wrong in (-1, float("nan")):
    try:
        node.next(wrong)
    except ValueError as error:
        print(error)
"""
    timed_out = "Timeout event stream error: Receiver timed out"
    assert run(dataflow, body) == [
        str({"type": "ERROR", "kind": "dora", "error": timed_out}),
        "True None [] True",
        "timeout must be >= 0 seconds, got -1",
        "timeout must be >= 0 seconds, got nan",
    ]


def test_the_input_whose_turn_is_the_longest_ago_comes_first(
    dataflow: CellDataflow, gate: Path
) -> None:
    """However long another's line is. Operators get messages in the order of their sending instead."""
    body = f"""
node = Node()
open({str(gate)!r}).read()
print(*(event["id"] for event in node if event["type"] == "INPUT"))
"""
    for name, last in (("long", "6"), ("short", "2")):
        source = SENDING_OPERATOR.replace("LAST", last)
        dataflow.cell(name, source, inputs=TICK, outputs=("out",))
    script(dataflow, "node", IMPORTS + body, inputs={"long": "long/out", "short": "short/out"})
    dataflow.start()
    for name in ("long", "short"):
        dataflow.until_state(name, State.FINISHED)
    gate.write_text("")
    (line,) = said(dataflow, "node")
    assert line in (
        "long short long short long long long long",
        "short long short long long long long long",
    )


def test_events_can_be_awaited_while_other_tasks_go_on(dataflow: CellDataflow, gate: Path) -> None:
    body = f"""
import asyncio
async def main():
    node = Node()
    print((await node.recv_async(timeout=0))["type"])
    cancelled, waiting = (asyncio.create_task(node.recv_async()) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    open({str(gate)!r}, "w").close()
    print((await waiting)["value"].to_pylist())
    while (event := await node.recv_async()) is not None:
        print(event["type"], event["id"])
asyncio.run(main())
"""
    source = f"""
from dora import DoraStatus
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        open({str(gate)!r}).read()
        send_output("out", pa.array([0]))
        return DoraStatus.STOP
"""
    dataflow.cell("source", source, inputs=ONCE, outputs=("out",))
    assert run(dataflow, body, inputs={"in": "source/out"}) == [
        "ERROR",
        "[0]",
        "INPUT_CLOSED in",
        "STOP ALL_INPUTS_CLOSED",
    ]


def test_one_thread_may_wait_for_events_while_another_sends(dataflow: CellDataflow) -> None:
    """In a circle, where each event is the answer to a message of the other thread's."""
    body = """
import threading
node = Node()
got = []
def read():
    while len(got) < 20:
        event = node.next()
        if event["type"] == "INPUT":
            got.append(event["value"].to_pylist()[0])
reader = threading.Thread(target=read)
reader.start()
for n in range(20):
    node.send_output("out", pa.array([n]))
reader.join()
print(got == list(range(20)))
"""
    options = {"inputs": {"in": "echo/out"}, "outputs": ("out",)}
    backpressure = {"in": (5, "backpressure")}
    script(dataflow, "node", IMPORTS + body, queues=backpressure, **options)
    echo = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT": send_output("out", dora_event["value"])
"""
    dataflow.cell("echo", echo, inputs={"in": "node/out"}, outputs=("out",), queues=backpressure)
    dataflow.start()
    assert said(dataflow, "node") == ["True"]


# -- sending ---------------------------------------------------------------------------------------


def test_what_can_be_sent_and_what_is_said_otherwise(dataflow: CellDataflow) -> None:
    body = """
node = Node()
for output, data in (("out", b"ab"), ("undeclared", b""), ("bad id", b""), ("", b""), ("out", [1])):
    try:
        print(node.send_output(output, data, {"n": 1}))
    except RuntimeError as error:
        print(str(error).splitlines()[0])
node.send_output(output_id="out", data=pa.array(["x"]), metadata=None)
"""
    with dataflow.subscribe("node/out") as messages:
        lines = run(dataflow, body, outputs=("out",))
        first, second = messages.next(TIMEOUT_SECS), messages.next(TIMEOUT_SECS)
    assert lines[:2] == ["None", "None"]
    assert lines[2].startswith("invalid output_id: identifier contains invalid character ' '")
    assert lines[3].startswith("invalid output_id: ")
    assert lines[4].startswith("invalid `data` type")
    assert (first["value"].to_pylist(), first["metadata"]["n"]) == ([97, 98], 1)
    assert second["value"].to_pylist() == ["x"]
    assert dataflow.status("node").undeclared_outputs == 1


@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_room_can_be_written_in_place(dataflow: CellDataflow, size: int) -> None:
    body = f"""
import numpy as np
node = Node()
with node.send_output_raw("out", {size}, {{"n": 1}}) as buffer:
    np.frombuffer(buffer, np.uint8)[:] = 7
try:
    with node.send_output_raw("out", {size}) as buffer:
        raise KeyError
except KeyError:
    print("not sent")
sample = node.send_output_raw("out", {size})
view = sample.as_memoryview()
view[:] = bytes([8]) * {size}
try:
    sample.send()
except RuntimeError as error:
    print(str(error)[:44])
view.release()
sample.send()
for again in (sample.send, sample.as_buffer):
    try:
        again()
    except RuntimeError as error:
        print(error)
try:
    node.send_output_raw("nope", 1)
except RuntimeError as error:
    print(error)
"""
    with dataflow.subscribe("node/out") as messages:
        lines = run(dataflow, body, outputs=("out",))
        first, second = messages.next(TIMEOUT_SECS), messages.next(TIMEOUT_SECS)
    assert lines == [
        "not sent",
        "Cannot send: 1 buffer view(s) are still open",
        "Sample has already been sent",
        "Sample has already been sent",
        "Output `nope` not in node's output list.",
    ]
    assert first["value"].equals(pa.array([7] * size, pa.uint8()))
    assert second["value"].equals(pa.array([8] * size, pa.uint8()))
    assert first["metadata"]["n"] == 1


@pytest.mark.parametrize("size", [64, 100_000], ids=["inline", "in shared memory"])
def test_a_sample_has_one_buffer_and_one_that_was_not_sent_yet_still_can_be(
    dataflow: CellDataflow, size: int
) -> None:
    """As in the contract cases of dora's own example of `send_output_raw`."""
    body = f"""
import numpy as np
node = Node()
sample = node.send_output_raw("out", {size})
buffer = sample.as_buffer()
print(buffer is sample.as_buffer())
try:
    with sample as buffer:
        np.asarray(buffer)[:] = 1
        raise KeyError
except KeyError:
    np.asarray(buffer)[:] = 2
sample.send()
try:
    memoryview(buffer)
except ValueError as error:
    print(error)
left = node.send_output_raw("out", {size})
written = np.asarray(left.as_memoryview())
del left
written[:] = 9  # Into nobody's message.
for n in range(3):
    with node.send_output_raw("out", {size}) as buffer:
        np.asarray(buffer)[:] = 3
        written[:] = 9
"""
    with dataflow.subscribe("node/out") as messages:
        lines = run(dataflow, body, outputs=("out",))
        values = [set(messages.next(TIMEOUT_SECS)["value"].to_pylist()) for _ in range(4)]
    assert lines == ["True", "operation forbidden on released memoryview object"]
    assert values == [{2}, {3}, {3}, {3}]


def test_samples_that_the_socket_cannot_hold_are_moved_on_while_the_script_does_something_else(
    dataflow: CellDataflow, gate: Path
) -> None:
    """No socket holds 6 MB, and the reader takes none before all are sent. Then the script waits for it
    without a call of ours."""
    sent = gate.with_name("sent")
    os.mkfifo(sent)
    script(
        dataflow,
        "node",
        IMPORTS
        + f"""
node = Node()
for number in range(1500):
    with node.send_output_raw("out", 4000) as buffer:
        memoryview(buffer)[:] = bytes(4000)
open({str(sent)!r}, "w").close()
open({str(gate)!r}).read()
""",
        outputs=("out",),
    )
    reader = f"""
class Operator:
    seen = 0
    def on_event(self, dora_event, send_output):
        if not self.seen:
            open({str(sent)!r}).read()
        self.seen += dora_event["type"] == "INPUT"
        if self.seen == 1500:
            open({str(gate)!r}, "w").close()
"""
    dataflow.cell("reader", reader, inputs={"in": "node/out"}, queues={"in": (2000, "drop_oldest")})
    dataflow.start()
    said(dataflow, "node")
    assert dataflow.status("node").state is State.FINISHED


def test_requests_and_their_responses(dataflow: CellDataflow) -> None:
    server = """
from dora import Node
node = Node()
for event in node:
    if event["type"] == "INPUT":
        node.send_service_response("out", event["value"], event["metadata"])
        node.send_service_response("out", event["value"], {})
"""
    client = """
node = Node()
request_id = node.send_service_request("out", b"?", {"n": 1})
print(len(request_id), request_id[14])
metadata = [node.next()["metadata"] for _ in range(2)]
print(metadata[0]["request_id"] == request_id, metadata[0]["n"], "request_id" in metadata[1])
"""
    script(dataflow, "server", server, inputs={"in": "node/out"}, outputs=("out",))
    lines = run(dataflow, client, inputs={"in": "server/out"}, outputs=("out",))
    assert lines == ["36 7", "True 1 False"]
    dataflow.stop()
    (warning,) = dataflow.said_by("server", "warn")
    assert "no request_id" in warning


# -- what it is, and its log -----------------------------------------------------------------------


def test_a_node_knows_what_it_is(dataflow: CellDataflow) -> None:
    body = """
import datetime, json, uuid
node = Node("node")
print(uuid.UUID(node.dataflow_id()).version, node.is_restart(), node.restart_count())
print(abs(node.timestamp() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(hours=1))
print(json.dumps(node.node_config()))
print([each["id"] for each in node.dataflow_descriptor()["nodes"]])
"""
    dataflow.cell("other", "class Operator:\n    def on_event(self, e, s): pass\n")
    queues = {"in": (3, "backpressure")}
    lines = run(
        dataflow, body, inputs={"in": "later/out", **TICK}, queues=queues, outputs=("a", "b")
    )
    assert lines[:2] == ["7 False 0", "True"]
    assert json.loads(lines[2]) == {
        "inputs": {
            "in": {"source": "later/out", "queue_size": 3, "queue_policy": "backpressure"},
            "tick": "dora/timer/millis/10",
        },
        "outputs": ["a", "b"],
    }
    assert lines[3] == "['other', 'node']"
    dataflow.restart("node")
    assert said(dataflow, "node")[4] == "7 True 1"


def test_an_operator_knows_its_dataflow_once_it_is_made(dataflow: CellDataflow) -> None:
    body = """
class Operator:
    def __init__(self):
        self.early = hasattr(self, "dataflow_descriptor")
    def on_event(self, dora_event, send_output):
        known = self.dataflow_descriptor["nodes"][0]["operator"]["outputs"]
        send_output("out", repr((self.early, known)).encode())
"""
    dataflow.cell("op", body, inputs=TICK, outputs=("out",))
    with dataflow.subscribe("op/out") as messages:
        dataflow.start()
        value = messages.next(TIMEOUT_SECS)["value"]
    assert bytes(value.to_pylist()) == b"(False, ['out'])"


def test_lines_that_it_logs_have_levels(dataflow: CellDataflow) -> None:
    body = """
import logging
node = Node()
for level in ("error", "warn", "info", "debug", "trace"):
    getattr(node, f"log_{level}")(f"by {level}")
node.log("info", "with more", target="there", fields={"n": "1"})
logging.debug("not even by dora")
logging.info("also by %s", "logging")
logging.warning("by %s", "logging")
logging.getLogger("mine").error("of mine")
try:
    node.log("loud", "no")
except ValueError as error:
    print(error)
"""
    lines = run(dataflow, body)
    assert lines == ["unknown level 'loud': expected one of error, warn, info, debug, trace"]
    logged = [(line.stream, line.text) for line in dataflow.logs("node") if line.stream != "stdout"]
    assert logged == [
        ("error", "by error"),
        ("warn", "by warn"),
        ("info", "by info"),
        ("debug", "by debug"),
        ("trace", "by trace"),
        ("info", "there: with more n=1"),
        ("info", "also by logging"),
        ("warn", "by logging"),
        ("error", "mine: of mine"),
    ]


@pytest.mark.parametrize("kind", ["script", "operator"])
def test_what_it_prints_can_be_an_output_too(dataflow: CellDataflow, kind: NodeKind) -> None:
    """Of either stream and of child processes, once messages move, and to a failure's end; the log has it too."""
    printing = """
import os, sys
DEFINE
    print("in", "parts", end=" "); print("of a line")
    print("to stderr", file=sys.stderr, flush=True)
    os.system("echo from a child")
    os.write(1, b"x" * 70_000)
    1 / 0
"""
    define = {
        "script": "from dora import Node\nnode = Node()\nif True:",
        "operator": "class Operator:\n  def on_event(self, dora_event, send_output):",
    }[kind]
    printed = {"send_stdout_as": "lines"}
    spec = NodeSpec(
        name="node",
        code=SourceCode(printing.replace("DEFINE", define), "Cell In[1]"),
        inputs=(InputSpec("tick", parse_source("dora/timer/secs/3600")),),
        outputs=("lines",),
        working_dir=str(Path.cwd()),
        kind=kind,
        other_keys=printed if kind == "script" else {"operator": printed},
    )
    dataflow.front_end.declare(spec)
    with dataflow.subscribe("node/lines", queue_size=20) as messages:
        dataflow.start()
        dataflow.failure_of("node")
        lines = [messages.next(TIMEOUT_SECS)["value"].to_pylist()[0] for _ in range(5)]
    assert sorted(lines[:3]) == ["from a child\n", "in parts of a line\n", "to stderr\n"]
    assert [len(line) for line in lines[3:]] == [1 << 16, 70_000 - (1 << 16)]
    assert dataflow.said_by("node")[0] == "in parts of a line"
    assert dataflow.said_by("node", "stderr")[0] == "to stderr"


def test_a_file_has_its_arguments_and_its_own_folder(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    (tmp_path / "helper.py").write_text("WORD = 'helped'")
    path = tmp_path / "file.py"
    body = "import sys, helper\nNode()\nprint(sys.argv, __name__, __file__, helper.WORD)"
    lines = run(dataflow, body, path=path, args=("--fast", "a b"))
    assert lines == [f"['{path}', '--fast', 'a b'] __main__ {path} helped"]


def test_a_script_can_be_declared_from_python(dataflow: CellDataflow, tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text("import sys\nfrom dora import Node\nNode()\nprint(sys.argv[1:])\n")
    dataflow.add_node("node", path, args=["--fast"])
    dataflow.add_node("other", "from dora import Node\nNode().send_output('out', b'')")
    dataflow.start()
    assert said(dataflow, "node") == ["['--fast']"]


# -- its life --------------------------------------------------------------------------------------


def test_nothing_moves_before_every_node_is_made(dataflow: CellDataflow, gate: Path) -> None:
    """So nobody misses the first message."""
    late = f"from dora import Node\nopen({str(gate)!r}).read()\n" + COUNTING
    dataflow.cell("source", SENDING_OPERATOR.replace("LAST", "3"), inputs=TICK, outputs=("out",))
    script(
        dataflow,
        "node",
        late.replace("node.send", "print(event['value']); node.send"),
        inputs={"in": "source/out"},
        outputs=("out",),
    )
    opener = threading.Thread(target=gate.write_text, args=("",))
    opener.start()  # It waits until the script has come to where it reads.
    dataflow.start()
    opener.join()
    assert said(dataflow, "node")[1::3] == ["  0", "  1", "  2"]


def test_a_script_that_computes_lets_readers_in_and_is_stopped(
    dataflow: CellDataflow, make_fifo: MakeFifo
) -> None:
    """It never asks for an event, as many producers do."""
    fifo = make_fifo("alive")
    body = f"""
import os, time
from dora import Node
alive = os.open({str(fifo.path)!r}, os.O_WRONLY)
node = Node()
n = 0
while True:
    node.send_output("out", bytes([n % 256]))
    n += 1
    time.sleep(0.001)
"""
    script(dataflow, "node", body, outputs=("out",))
    dataflow.start()
    with dataflow.subscribe("node/out") as messages:
        first, second = (messages.next(TIMEOUT_SECS)["value"][0].as_py() for _ in range(2))
    assert (second - first) % 256 == 1
    assert in_words(dataflow.stop(grace_secs=0.0)) == "stopped"
    fifo.wait_for_end()
    assert dataflow.status("node").state is State.STOPPED


def test_a_stop_is_an_event_and_then_the_end(dataflow: CellDataflow) -> None:
    body = """
from dora import Node
node = Node()
print([(event["type"], event["id"]) for event in node if event["type"] != "INPUT"])
print(node.send_output("out", b"last words"))
"""
    script(dataflow, "node", body, inputs=TICK, outputs=("out",))
    with dataflow.subscribe("node/out") as messages:
        dataflow.start()
        dataflow.stop()
        assert messages.next(TIMEOUT_SECS)["value"].to_pylist() == list(b"last words")
    assert dataflow.said_by("node") == ["[('STOP', 'MANUAL')]", "None"]


def test_the_end_of_the_last_thread_is_the_end_of_the_script(dataflow: CellDataflow) -> None:
    body = """
import threading
node = Node()
def send():
    for n in range(50):
        node.send_output("out", pa.array([n]))
    print("done")
threading.Thread(target=send).start()
"""
    queue = {"in": (100, "backpressure")}
    counting = "from dora import Node\nprint(sum(e['type'] == 'INPUT' for e in Node()))"
    script(dataflow, "reader", counting, inputs={"in": "node/out"}, queues=queue)
    assert run(dataflow, body, outputs=("out",)) == ["done"]
    assert said(dataflow, "reader") == ["50"]


FAILING = {
    "1 / 0": r"node failed: ZeroDivisionError: division by zero",
    "node = Node()\n1 / 0": r"node failed: ZeroDivisionError",
    "import sys; Node(); sys.exit(3)": r"node ended with sys.exit\(3\)",
    "print('no node')": r"node: the script ended without making a Node\(\)",
    "Node(); Node()": r"this process has its Node\(\) already",
    "Node('other', 1)": r"this process is the node 'node' already; write Node\(\)",
    "Node('a b')": r"'a b' cannot be the name of a node: use letters",
    "import os, signal; Node(); os.kill(os.getpid(), signal.SIGSEGV)": "SIGSEGV",
}


@pytest.mark.parametrize("body", FAILING)
def test_what_an_author_is_told_of_a_failure(dataflow: CellDataflow, body: str) -> None:
    script(dataflow, "node", f"from dora import Node\n{body}")
    try:
        dataflow.start()
        error = dataflow.failure_of("node")
    except OperatorError as raised:
        error = raised
    assert re.search(FAILING[body], error.message), error.message
    if "1 / 0" in body:
        line = 3 + body.count("\n")
        assert f"Cell In[5], line {line}" in "\n".join(error.traceback_lines)
        assert "dora_nb" not in "\n".join(error.traceback_lines)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("from dora import Nod", "cannot import name 'Nod' from 'dora'. Did you mean 'Node'?"),
        (
            "from dora.builder import DataflowBuildr",
            "cannot import name 'DataflowBuildr' from 'dora.builder'. Did you mean 'DataflowBuilder'?",
        ),
        ("from dora import Ros2Context", "dora.Ros2Context is not available here: dora_nb has no"),
    ],
)
def test_a_misspelt_name_of_dora_is_reported_without_a_file_of_ours(
    dataflow: CellDataflow, line: str, error: str
) -> None:
    dataflow.cell("script", f"import pyarrow\n{line}\n", kind="script")
    with pytest.raises(OperatorError) as caught:
        dataflow.start()
    assert caught.value.message.startswith(f"script failed: ImportError: {error}")
    shown = "\n".join(caught.value.render())
    assert f"Cell In[5], line 3, in <module>\n    {line}\n" in shown
    assert "dora_api" not in shown
    assert "/dora_nb/" not in shown


def test_a_script_may_end_with_status_zero(dataflow: CellDataflow) -> None:
    assert run(dataflow, "import sys\nNode()\nprint('bye')\nsys.exit(0)") == ["bye"]


def test_an_operator_is_told_that_it_is_none(dataflow: CellDataflow) -> None:
    dataflow.cell("op", "from dora import Node\nnode = Node()\nclass Operator: pass\n")
    with pytest.raises(OperatorError, match="this is an operator"):
        dataflow.start()


def test_a_module_of_ones_own_hides_none_that_the_process_needs(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    for name in ("logging", "traceback", "struct"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('mine')")
    dataflow.cell(
        "script", "from dora import Node\nNode()\n1 / 0", kind="script", working_dir=tmp_path
    )
    dataflow.start()
    assert "ZeroDivisionError" in str(dataflow.failure_of("script"))
