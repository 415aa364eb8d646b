"""What authors test their cells with: `run_operator` and `MockNode`; and the modules of `dora` beside it."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.child import _recorded_inputs, dora_api
from dora_nb.errors import GrammarError, MessageError, OperatorError, SourceError
from dora_nb.testing import MockNode, run_operator

DOUBLING = """
from dora import DoraStatus
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            doubled = dora_event["value"].to_numpy() * 2
            send_output("out", pa.array(doubled), dora_event["metadata"])
            return DoraStatus.CONTINUE
"""


class Echo:
    def on_event(self, dora_event: dict[str, Any], send_output: Any) -> None:
        if dora_event["type"] == "INPUT":
            send_output(dora_event["id"], dora_event["value"], dora_event["metadata"])


# -- run_operator ----------------------------------------------------------------------------------


def test_a_cells_text_runs_on_events_and_its_outputs_come_back(tmp_path: Path) -> None:
    path = tmp_path / "doubling.py"
    path.write_text(DOUBLING)
    for operator in (DOUBLING, path):
        events = [("in", pa.array([1, 2])), {"type": "STOP", "id": "MANUAL"}, ("in", pa.array([3]))]
        sent = run_operator(operator, events)["out"]
        assert [event["value"].to_pylist() for event in sent] == [[2, 4], [6]]
        assert {event["type"] for event in sent} == {"INPUT"}


def test_a_cell_is_accepted_with_the_line_that_declares_it() -> None:
    """With what may stand above it, and in its continuation lines; its outputs are the declared ones."""
    line = "%%dora_operator doubling --inputs in=arm/angle --queue in=2 \\\n  --outputs out boxes # Two\n"
    for above in ("", "\n", "# Doubles what comes.\n\n# On purpose.\n"):
        sent = run_operator(above + line + DOUBLING, [("in", pa.array([1]))])
        assert {name: len(events) for name, events in sent.items()} == {"out": 1, "boxes": 0}

    misspelt = line + DOUBLING.replace('"out"', '"box"')
    with pytest.warns(UserWarning, match="ignoring output 'box', .*: did you mean 'boxes'?"):
        assert run_operator(misspelt, [("in", pa.array([1]))]) == {"boxes": [], "out": []}
    sent = run_operator(misspelt, [("in", pa.array([1]))], outputs=["box"])
    assert [event["id"] for event in sent["box"]] == ["box"]
    bare = "%%dora_operator doubling\n" + DOUBLING
    assert list(run_operator(bare, [("in", pa.array([1]))])) == ["out"]

    # Errors name the operator, and the lines of the whole cell.
    fails = "# A comment\n%%dora_operator arm\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
    with pytest.raises(ZeroDivisionError) as failed:
        run_operator(f"{fails}        1 / 0\n", [("in", pa.array([1]))])
    assert failed.traceback[-1].lineno == 4  # counted from 0
    with pytest.raises(OperatorError, match="arm"):
        run_operator(f"{fails}        return 7\n", [("in", pa.array([1]))])
    with pytest.raises(SourceError, match="Operator") as wrong:
        run_operator("%%dora_operator arm\nclass Opreator: pass\n", [])
    assert wrong.value.location is not None
    with pytest.raises(GrammarError, match="--ouputs"):
        run_operator("%%dora_operator arm --ouputs x\n" + DOUBLING, [])
    with pytest.raises(SourceError, match="declares a script: test it with MockNode"):
        run_operator("%%dora_node arm\nfrom dora import Node\nNode()\n", [])


def test_a_file_knows_where_it_is_and_may_have_dataclasses(tmp_path: Path) -> None:
    file = tmp_path / "placed.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Place:\n"
        "    path: str = __file__\n"
        "class Operator:\n"
        "    def on_event(self, event, send_output):\n"
        "        send_output('path', Place().path.encode())\n"
    )
    sent = run_operator(file, [("tick", b"")])
    assert bytes(sent["path"][0]["value"].to_numpy()).decode() == str(file.resolve())


def test_data_and_metadata_are_what_a_reader_would_get() -> None:
    """Numpy arrays and record batches are converted, arrays read-only, metadata as dora carries it."""
    batch = pa.record_batch({"a": [1]})
    with pytest.warns(UserWarning, match="'count' is of type int64"):
        sent = run_operator(
            Echo,
            [
                ("array", np.arange(3), {"n": 1, "count": np.int64(3)}),
                ("batch", batch),
                ("bytes", b"ab"),
            ],
        )
    (array,), (struct,), (data,) = sent["array"], sent["batch"], sent["bytes"]
    assert array["value"].to_pylist() == [0, 1, 2]
    assert not array["value"].to_numpy().flags.writeable
    assert (array["metadata"]["n"], array["metadata"]["count"]) == (1, "3")
    assert array["metadata"]["timestamp"].tzinfo is not None
    assert struct["value"].type == pa.struct({"a": pa.int64()})
    assert data["value"].equals(pa.array([97, 98], pa.uint8()))
    with pytest.raises(RuntimeError, match="invalid `data` type"):
        run_operator(Echo, [("in", [1])])
    with pytest.raises(RuntimeError, match="failed to parse metadata"):
        run_operator(Echo, [("in", b"", {1: 2})])


def test_a_forwarded_timestamp_is_kept() -> None:
    first = run_operator(Echo, [("in", b"")])["in"][0]
    second = run_operator(Echo, [first])["in"][0]
    assert second["metadata"]["timestamp"] == first["metadata"]["timestamp"]


def test_an_output_that_is_not_declared_is_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="ignoring output 'typo'"):
        sent = run_operator(Echo, [("typo", b""), ("out", b"")], outputs=["out", "other"])
    assert {output: len(events) for output, events in sent.items()} == {"other": 0, "out": 1}


def test_a_stop_ends_it_and_other_answers_are_refused() -> None:
    class Stops:
        def on_event(self, dora_event: dict[str, Any], send_output: Any) -> Any:
            send_output("out", b"")
            return self.answer

        answer: Any = dora_api.DoraStatus.STOP

    assert len(run_operator(Stops, [("in", b"")] * 3)["out"]) == 1
    Stops.answer = True
    with pytest.raises(OperatorError, match=r"Stops: on_event returned True \(a bool\)"):
        run_operator(Stops, [("in", b"")])


def test_what_an_author_did_wrong_is_the_authors_own_exception() -> None:
    failing = "class Operator:\n    def on_event(self, e, s): 1 / 0\n"
    with pytest.raises(ZeroDivisionError) as raised:
        run_operator(failing, [("in", b"")])
    assert raised.traceback[-1].lineno == 1  # of the text, counted from 0
    with pytest.raises(SourceError, match="no class `Operator`"):
        run_operator("x = 1", [])


def test_an_input_that_the_cell_does_not_declare_is_given_with_a_warning() -> None:
    """A misspelt one would make a test that tests nothing."""
    cell = f"%%dora_operator doubling --inputs in=arm/angle --outputs out\n{DOUBLING}"
    with pytest.warns(UserWarning, match=r"doubling declares no input 'inn', but in$"):
        sent = run_operator(cell, [("inn", pa.array([1])), {"type": "STOP", "id": "MANUAL"}])
    assert len(sent["out"]) == 1


class HasNoOnEvent:
    def onevent(self, dora_event: dict[str, Any], send_output: Any) -> None: ...


@pytest.mark.parametrize(
    ("operator", "answer"),
    [
        (Path("arm.py"), "there is no file arm.py. Did you mean 'ar.py'?"),
        (Path("gone.py"), "there is no file gone.py. Relative paths begin at "),
        ("ar.py", "'ar.py' is the name of a file, and a text is code: write Path('ar.py')."),
        (Echo(), "got an object of Echo: give the class, Echo."),
        (HasNoOnEvent, "the class HasNoOnEvent has no method `on_event`: write `def on_event("),
    ],
    ids=["misspelt", "no file", "text", "object", "no on_event"],
)
def test_what_is_no_operator_is_answered_with_the_way_out(
    operator: Any, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ar.py").write_text(DOUBLING)
    with pytest.raises(SourceError) as caught:
        run_operator(operator, [("in", b"")])
    assert answer in str(caught.value)


@pytest.mark.parametrize(
    "events", [("in", b""), [("in",)], [5]], ids=["no list", "short", "number"]
)
def test_what_is_no_event_is_answered_with_what_one_is(events: Any) -> None:
    with pytest.raises(
        MessageError, match=r"an event is \(input, data\) or \(input, data, metadata\)"
    ):
        run_operator(Echo, events)


# -- dora's modules --------------------------------------------------------------------------------


@pytest.fixture
def dora(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`import dora` as a node's process has it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "dora"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dora", dora_api)
    yield dora_api
    for name in ("dora.builder", "dora.testing"):
        sys.modules.pop(name, None)


def test_its_modules_are_found_under_its_name(dora: ModuleType) -> None:
    assert dora.__version__ == "1.1.0"
    assert importlib.import_module("dora.testing").MockNode.__name__ == MockNode.__name__
    with pytest.raises(RuntimeError, match=r"begins with %%dora_node NAME, or read a topic"):
        dora.Node()


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("Ros2Context", "start this dataflow on dora-rs, from the notebook"),
        ("Ros2QosPolicies", "start this dataflow on dora-rs, from the notebook"),
        ("build", "dora-nb run FILE --build"),
        ("run", "start the dataflow from the notebook, or"),
        ("start_runtime", "declare operators in the notebook"),
    ],
)
def test_a_name_that_only_the_real_dora_has_is_an_error_with_the_way_out(
    dora: ModuleType, name: str, way_out: str
) -> None:
    with pytest.raises(ImportError) as raised:
        getattr(dora, name)
    assert str(raised.value).startswith(f"dora.{name} is not available here: ")
    assert way_out in str(raised.value)
    assert "dora_nb.child" not in str(raised.value)
    assert name not in dir(dora)
    assert not hasattr(dora, "a_name_that_dora_does_not_have_either")


BUILDING = """
from dora.builder import DataflowBuilder, Operator
with DataflowBuilder("name") as flow:
    camera = flow.add_node("camera", description="sees").path("camera.py").args("--fast")
    image = camera.add_output("image")
    camera.add_output("image")
    camera.env({"A": "b"}).build("make").git("url", branch="main")
    reader = flow.add_node("reader")
    reader.add_input("image", image, queue_size=1, queue_policy="backpressure")
    reader.add_input("tick", "dora/timer/hz/1").add_operator(Operator("op", python="op.py"))
print(flow.to_yaml(), image)
for wrong in ({"queue_size": 0}, {"queue_policy": "newest"}):
    try:
        reader.add_input("wrong", image, **wrong)
    except ValueError as error:
        print(str(error).split("frozenset")[0][:20])
"""
MOCKING = """
import asyncio, json
from dora.testing import MockNode
node = MockNode(
    [("a", 1), {"type": "INPUT_CLOSED", "id": "a"}], {"k": 1},
    service_responses={"ask": ["answer"]}, dataflow_id="id", restart_count=2, is_restart=True,
)
said = [node.next(timeout=1), asyncio.run(node.recv_async())]
request_id = node.send_service_request("ask", "question", {"m": 1})
answer = node.try_recv()
said.append((answer["value"], answer["metadata"]["request_id"] == request_id))
said += [node.is_empty(), node.drain(), node.is_empty(), node.next(), list(node)]
node.send_output("out", 5, {"x": 1})
node.send_service_response("out", 6, {"request_id": "r"})
node.log_info("hello")
node.log("warn", "so", target="t", fields={"f": "1"})
request = node.service_requests[0]
said += [request.pop("request_id") == request_id, node.service_requests, node.outputs, node.logs]
said += [node.service_responses_sent, node.dataflow_id(), node.restart_count(), node.is_restart()]
said += [node.node_config(), node.dataflow_descriptor(), node.timestamp().tzinfo is not None]
for call in (lambda: node.send_output_raw("out", 1), lambda: node.merge_external_events(None)):
    try:
        call()
    except NotImplementedError:
        said.append("not implemented")
print(json.dumps(said, default=str))
"""
OURS = "import sys\nfrom dora_nb.child import dora_api\nsys.modules['dora'] = dora_api\n"


@pytest.mark.parametrize("script", [BUILDING, MOCKING], ids=["builder", "MockNode"])
def test_they_do_what_dora_does(script: str) -> None:
    """The same script with dora-rs and with ours prints the same."""
    printed = []
    for before in ("", OURS):
        ran = subprocess.run(
            [sys.executable, "-c", before + script], capture_output=True, text=True, check=False
        )
        assert ran.stderr == ""
        printed.append(ran.stdout)
    assert printed[0] == printed[1]
    assert printed[0]


def test_a_mock_node_takes_the_place_of_a_node() -> None:
    node = MockNode([("tick", pa.array([0]))])
    seen = [event["type"] for event in node]
    assert seen == ["INPUT", "STOP"]
    assert asyncio.run(node.recv_async()) is None
    assert json.dumps(node.outputs) == "{}"


# -- recorded inputs -------------------------------------------------------------------------------

RECORDED = [
    {"type": "Input", "id": "a", "data": [1, 2, 3], "metadata": None},
    {"type": "Input", "id": "a", "data": "text", "metadata": {"n": {"Integer": 1}}},
    {"type": "Input", "id": "b", "data": [1, 2], "data_type": "UInt8"},
    {"type": "Input", "id": "b", "data": ["7879"], "data_type": "Binary"},
    {"type": "Input", "id": "b", "data": [{"a": 1}, {"a": None}]},
    {"type": "Input", "id": "b", "data": [[1.5], []]},
    {"type": "Input", "id": "b"},
    {"type": "Input", "id": "c", "path": "data.arrow"},
    {"type": "Input", "id": "c", "path": "data.arrow", "batch_index": 1, "column": "x"},
    {"type": "InputClosed", "id": "a"},
    {"type": "Stop"},
]
ECHOING = """
from dora import Node
import pyarrow as pa
node = Node()
for event in node:
    print(event["type"], event.get("id"), event.get("metadata", {}).get("n"))
    if event["type"] == "INPUT":
        node.send_output(event["id"], event["value"], {"n": 1})
for value in (b"ab", ["x", None], [True], [1.5], [{"a": b"x", "b": [1]}]):
    node.send_output("more", value if isinstance(value, bytes) else pa.array(value))
node.send_output("more", pa.array(["a", "a"]).dictionary_encode())
node.send_output("more", pa.array([[1, 2]], pa.list_(pa.int8(), 2)))
print(node.next(), node.is_empty(), node.node_config())
"""


def record(folder: Path, events: list[dict[str, Any]]) -> dict[str, str]:
    """The variables that make a script run on these events."""
    timed = [{"time_offset_secs": 0.001 * at, **event} for at, event in enumerate(events)]
    (folder / "in.json").write_text(json.dumps({"id": "node", "events": timed}))
    first = pa.record_batch({"x": [1, 2], "y": ["a", "b"]})
    with pa.ipc.new_file(folder / "data.arrow", first.schema) as file:
        file.write_batch(first)
        file.write_batch(pa.record_batch({"x": [3], "y": ["c"]}))
    return {
        "DORA_TEST_WITH_INPUTS": "in.json",
        "DORA_TEST_WRITE_OUTPUTS_TO": "out.jsonl",
        "DORA_TEST_NO_OUTPUT_TIME_OFFSET": "1",
    }


def test_a_script_runs_on_recorded_inputs_as_with_dora(tmp_path: Path) -> None:
    environment = os.environ | record(tmp_path, RECORDED)
    seen = []
    for before in ("", OURS):
        ran = subprocess.run(
            [sys.executable, "-c", before + ECHOING],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        printed = [line for line in ran.stdout.splitlines() if not line.startswith("node reports")]
        seen.append((printed, (tmp_path / "out.jsonl").read_text()))
    assert seen[0] == seen[1]
    assert seen[1][1].count("\n") == 9 + 7


def test_recorded_inputs_that_are_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DORA_TEST_WITH_INPUTS", str(tmp_path / "in.json"))
    for content, said in (
        ("{", "JSONDecodeError"),
        ("{}", "KeyError: 'events'"),
        ('{"events": [{"time_offset_secs": 0, "type": "Inptu"}]}', "unknown type 'Inptu'"),
    ):
        (tmp_path / "in.json").write_text(content)
        with pytest.raises(RuntimeError, match="cannot be read as recorded inputs") as raised:
            dora_api.Node()
        assert said in str(raised.value)


def test_a_recorded_event_comes_at_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in record(
        tmp_path, [{"type": "Stop"}, {"type": "InputClosed", "id": "a"}]
    ).items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setattr(logging, "basicConfig", logging.basicConfig)
    node = dora_api.Node()
    host = node._host
    assert isinstance(host, _recorded_inputs.Recorded)
    host._begin_secs = time.monotonic() + 3600
    assert (node.try_recv(), node.is_empty(), node.drain()) == (None, True, [])
    assert node.next(timeout=0)["type"] == "ERROR"
    assert asyncio.run(node.recv_async(timeout=0))["type"] == "ERROR"
    host._begin_secs = time.monotonic() - 3600
    assert node.next()["id"] == "MANUAL"
    assert asyncio.run(node.recv_async())["type"] == "INPUT_CLOSED"
    assert node.next() is None
    host._outputs.close()
