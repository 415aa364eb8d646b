"""The same dataflow on both engines: what its nodes observe is the same, but for what is listed.

Each case is a few nodes that print what they see, as lines ``OBS …``. The list is `DIFFERENCES`; it
stands with its reasons in docs/compatibility.md. A difference that is not listed fails, and so does a
listed one that is none any more.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from dora_nb.dataflow.batch import run_to_the_end
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.descriptor import write_dataflow
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec

from .parity_rig import TIMEOUT_SECS, compare, node, run_file


def observed_here(graph: Graph) -> list[str]:
    dataflow = Dataflow()
    FrontEnd(dataflow).declare_all(graph)
    lines: list[str] = []
    run_to_the_end(dataflow, stop_after_secs=TIMEOUT_SECS, say=lines.append)
    return sorted(line for line in lines if " OBS " in f" {line}")


def observed_by_dora(graph: Graph, folder: Path) -> list[str]:
    path = write_dataflow(graph, folder).path
    return sorted(run_file(path, "dora", TIMEOUT_SECS)[1])


# -- what is sent, and what arrives ----------------------------------------------------------------

SENDING = """
import datetime, time
import numpy as np
import pyarrow as pa
from dora import Node
node = Node()
values = [
    b"ab", b"", pa.array([1, 2]), pa.array([1.5, None]), pa.array([True]), pa.nulls(2),
    pa.array(["a", None]), pa.array([[1], []]), pa.array([{"a": 1}]), pa.array(["x", "x"]).dictionary_encode(),
    pa.array([1, 2, 3, 4]).slice(1, 2), pa.record_batch({"a": [1], "b": ["c"]}), pa.array([b"x"]),
    pa.array([1.5], pa.float16()), pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
    pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 2))),
]
for number, value in enumerate(values):
    node.send_output("out", value, {"number": number})
    time.sleep(0.005)
stamp = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
for number, metadata in enumerate([
    {"i": 1, "f": 1.5, "s": "x", "b": True, "l": [1, 2], "t": (1.5, 2.5), "e": [], "d": stamp},
    {"none": None, "dict": {"a": 1}, "np": np.int64(3), "npf": np.float64(2.5), "bools": [True], "nested": [[1]]},
    {"timestamp": stamp},
]):
    node.send_output("out", b"", {**metadata, "number": 100 + number})
    time.sleep(0.005)
for wrong in ("text", [1], None, np.zeros(2), pa.table({"a": [1]}), pa.chunked_array([[1]]), pa.scalar(1)):
    try:
        node.send_output("out", wrong, {"number": 200})
        print("OBS sent", type(wrong).__name__)
    except Exception as error:
        print("OBS refused", type(wrong).__name__, isinstance(error, RuntimeError), str(error)[:19])
for wrong in ({1: 2}, "text", {"mixed": [1, "a"]}, {"huge": 2**70}):
    try:
        node.send_output("out", b"", wrong)
        print("OBS sent metadata", wrong)
    except Exception as error:
        print("OBS refused metadata", wrong, isinstance(error, (RuntimeError, TypeError)))
print("OBS undeclared", node.send_output("nope", b""))
node.send_output(output_id="out", data=b"kw", metadata=None)
for name in ("bad id",):
    try:
        node.send_output(name, b"")
    except RuntimeError as error:
        print("OBS", str(error).splitlines()[0])
"""
PRINTING = """
from dora import DoraStatus
class Operator:
    def on_event(self, dora_event, send_output):
        keys = sorted(dora_event)
        if dora_event["type"] == "INPUT":
            value, metadata = dora_event["value"], dora_event["metadata"]
            number = metadata.pop("number", None)
            stamp = metadata.pop("timestamp")
            forwarded = stamp.isoformat() if stamp.year < 2025 else (stamp.tzinfo is not None)
            print("OBS", number, keys, type(value).__name__, value.type, value.to_pylist(), sorted(metadata.items()), forwarded)
        else:
            print("OBS", {key: dora_event[key] for key in keys})
        return DoraStatus.CONTINUE
"""

# -- a script's methods ----------------------------------------------------------------------------

METHODS = """
import asyncio, datetime
from dora import Node
node = Node()
event = node.next(timeout=0.01)
print("OBS timeout", event["type"], event["error"][:44])
for wrong in (-1, float("nan")):
    try:
        node.next(wrong)
    except ValueError:
        print("OBS ValueError", wrong)
print("OBS", asyncio.run(node.recv_async(timeout=0.01))["type"], node.try_recv(), node.drain(), node.is_empty())
print("OBS", len(node.dataflow_id()), node.dataflow_id()[14], node.is_restart(), node.restart_count())
print("OBS", node.node_config()["outputs"], sorted(node.node_config()["inputs"]))
print("OBS", [each["id"] for each in node.dataflow_descriptor()["nodes"]])
print("OBS", node.timestamp().tzinfo is not None)
try:
    with node.send_output_raw("out", 5, {"k": 1}) as buffer:
        memoryview(buffer)[:] = b"hello"
    sample = node.send_output_raw("out", 3)
    view = sample.as_memoryview()
    view[:] = b"abc"
    try:
        sample.send()
    except RuntimeError as error:
        print("OBS", str(error)[:44])
    del view
    sample.send()
    try:
        sample.send()
    except RuntimeError as error:
        print("OBS", str(error).splitlines()[0])
    node.send_output_raw("nope", 1)
except RuntimeError as error:
    print("OBS", str(error).splitlines()[0])
request = node.send_service_request("out", b"?", {"k": 1})
print("OBS", len(request), request[14])
node.send_service_response("out", b"!", {"request_id": request})
print("OBS", node.log("info", "a line"), node.log_warn("another"))
"""
LISTENING = """
from dora import Node
node = Node()
for event in node:
    value = event["value"].to_pylist() if event["type"] == "INPUT" else ""
    keys = sorted(set(event.get("metadata", {})) - {"timestamp"})
    print("OBS", event["type"], event["id"], value, keys, sorted(event))
print("OBS", node.next(), node.try_recv(), node.is_empty(), node.send_output("out", b"late"))
try:
    node.drain()
except RuntimeError as error:
    print("OBS", str(error).splitlines()[0])
"""

# -- how operators end -----------------------------------------------------------------------------

FEW = """
import time
from dora import Node
import pyarrow as pa
node = Node()
for n in range(5):
    node.send_output("out", pa.array([n]))
    time.sleep(0.005)
"""
ENDING = """
import enum
from dora import DoraStatus
class Mine(enum.Enum):
    GO = 0
    STOP = 1
class Operator:
    def __init__(self):
        print("OBS early", hasattr(self, "dataflow_descriptor"))
    def on_event(self, dora_event, send_output):
        print("OBS", dora_event["type"], dora_event["id"], hasattr(self, "dataflow_descriptor"))
        if dora_event["type"] == "INPUT":
            n = dora_event["value"][0].as_py()
            send_output("out", dora_event["value"])
            send_output("nope", b"")
            send_output(output="out", data=b"kw", metadata={"k": 1})
            try:
                send_output(output_id="out", data=b"")
            except TypeError:
                print("OBS TypeError")
            return Mine.STOP if n == 2 else Mine.GO
        return DoraStatus.CONTINUE
    def __del__(self):
        print("OBS let go")
"""
RAISING = """
class Operator:
    def on_event(self, dora_event, send_output):
        print("OBS", dora_event["type"])
        1 / 0
"""

FAILING = """
from dora import Node
node = Node()
node.send_output("out", b"")
node.next()  # The watcher has got it.
raise ValueError("boom")
"""
WATCHING = """
from dora import Node
node = Node()
for event in node:
    if event["type"] == "NODE_FAILED":
        value = event["value"]
        print("OBS", event["id"], sorted(value), value["source_node_id"], value["affected_input_ids"])
        print("OBS", "ValueError: boom" in value["error"], sorted(event))
        break
    if event["id"] == "in":
        print("OBS", event["type"])
        node.send_output("out", b"")
"""

TICKED = """
from dora import Node
for event in Node():
    print("OBS", event["id"], type(event["value"]).__name__, len(event["value"]), sorted(event["metadata"]))
    break
"""

SPEAKING = """
import os, sys
from dora import Node
node = Node()
print("one\\ntwo")
print("to stderr", file=sys.stderr)
os.system("echo from a child")
os.write(1, b"no end")
"""

SPAWNS = """\
import multiprocessing
from dora import Node
def work(queue):
    queue.put(1)
if __name__ == "__main__":
    node = Node()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    process.join(20)
    print("OBS worked", process.exitcode == 0, flush=True)
"""
ARGUMENTS = {
    "another_name": "Node('another-name.of_a-camera')",
    "by_keyword": "Node(node_id='other', daemon_port=None)",
    "port": "Node(daemon_port=5)",
    "port_that_is_true": "Node(daemon_port=True)",
    "none": "Node(None, None)",
    "both": "Node('other', 1)",
    "blank": "Node('a b')",
    "empty": "Node('')",
    "slash": "Node('a/b')",
    "reserved": "Node('dora')",
    "number": "Node(5)",
    "bytes": "Node(b'a')",
    "text_as_port": "Node(daemon_port='5')",
    "float_as_port": "Node('a', 5.5)",
    "negative_port": "Node(daemon_port=-1)",
    "large_port": "Node(daemon_port=70_000)",
    "three": "Node('a', 1, 2)",
    "unknown": "Node(name='a')",
}
ARGUMENT = """
from dora import Node
try:
    node = ARGUMENT
    print("OBS made")
except Exception as error:
    print("OBS", type(error).__name__)
    node = Node()
node.next()
"""
CASES: dict[str, tuple[NodeSpec, ...]] = {
    "what is sent, and what arrives": (
        node("script", "source", SENDING),
        node("operator", "reader", PRINTING, {"in": "source/out"}),
    ),
    "a script's methods": (
        node("script", "methods", METHODS),
        node("script", "reader", LISTENING, {"in": "methods/out"}),
        node("script", "ticked", TICKED, {"tick": "dora/timer/millis/50"}),
    ),
    "what is printed": (
        replace(
            node("script", "speaks", SPEAKING, outputs=("lines",)),
            other_keys={"send_stdout_as": "lines"},
        ),
        node("operator", "reader", PRINTING, {"in": "speaks/lines"}),
    ),
    "how operators end": (
        node("script", "source", FEW),
        node("operator", "stops", ENDING, {"in": "source/out"}),
        node("operator", "raises", RAISING, {"in": "source/out"}),
        node("script", "reader", LISTENING, {"in": "stops/out"}),
    ),
    "arguments of Node": tuple(
        node("script", name, ARGUMENT.replace("ARGUMENT", argument), {"t": "dora/timer/millis/50"})
        for name, argument in ARGUMENTS.items()
    ),
    "processes of a script's own": (node("script", "script", SPAWNS),),
    "how a failure is told": (
        node("script", "fails", FAILING, {"seen": "watcher/out"}),
        node("script", "watcher", WATCHING, {"in": "fails/out", "tick": "dora/timer/millis/20"}),
    ),
}

DIFFERENCES: dict[str, dict[str, str]] = {
    "what is sent, and what arrives": {
        r": source: OBS (sent|refused) ndarray": "numpy arrays",
        r": reader: OBS 200 .* DoubleArray": "numpy arrays",
        r": source: OBS refused metadata \{'huge'": "integers beyond 64 bits",
    },
    "processes of a script's own": {
        r"OBS worked": "`multiprocessing` with the start method `spawn` in a script's cell"
    },
    "what is printed": {r": reader: OBS .* \['no end'\]": "a last line without its end"},
}
"""By case: what only one engine prints, as patterns, and the row of docs/compatibility.md about it."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.soak) if name == "arguments of Node" else name
        for name in CASES
    ],
)
def test_both_engines_observe_the_same(name: str, tmp_path: Path) -> None:
    graph = Graph()
    for spec in CASES[name]:
        graph = graph.with_node(spec)
    attempts = itertools.count()

    def observe(engine: str) -> list[str]:
        if engine == "embedded":
            return observed_here(graph)
        return observed_by_dora(graph, tmp_path / f"{next(attempts)}")

    compare(observe, DIFFERENCES.get(name, {}))
