"""What a node is told beside its messages: silence on an input, a failure, a restart, a parameter."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.graph.nodes import InputSpec, NodeKind, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.status import State

from .conftest import TIMEOUT_SECS, CellDataflow

TICK = {"tick": "dora/timer/hz/200"}
TELLING_OPERATOR = """
class Operator:
    def on_event(self, dora_event, send_output):
        send_output("told", f"{dora_event['type']} {dora_event['id']}".encode())
"""
TELLING_SCRIPT = """
from dora import Node
node = Node()
for event in node:
    value = event.get("value") if event["type"] == "NODE_FAILED" else ""
    node.send_output("told", f"{event['type']} {event['id']} {value}".strip().encode())
"""
TELLERS: dict[NodeKind, str] = {"operator": TELLING_OPERATOR, "script": TELLING_SCRIPT}


def teller(dataflow: CellDataflow, kind: NodeKind, **read: Any) -> None:
    """A node that sends the type and the id of each event; its input is `in`."""
    spec = NodeSpec(
        name="teller",
        code=SourceCode(TELLERS[kind], "Cell In[7]"),
        inputs=(InputSpec("in", parse_source("source/out"), 100, "backpressure", **read),),
        outputs=("told",),
        working_dir=str(Path.cwd()),
        kind=kind,
    )
    dataflow.front_end.declare(spec)


def told(messages: Any, count: int) -> list[str]:
    """The next things that the teller has sent."""
    return [bytes(messages.next(TIMEOUT_SECS)["value"].to_pylist()).decode() for _ in range(count)]


@pytest.mark.parametrize("kind", ["operator", "script"])
def test_an_input_that_is_silent_for_too_long_closes_until_it_is_heard_again(
    dataflow: CellDataflow, tmp_path: Path, kind: NodeKind
) -> None:
    """Only nodes are told that it has recovered, as in dora; silence counts from the first message."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    body = f"""
class Operator:
    def on_event(self, dora_event, send_output):
        open({str(gate)!r}).read()
        send_output("out", b"")
"""
    dataflow.cell("source", body, inputs=TICK, outputs=("out",))
    teller(dataflow, kind, input_timeout_secs=0.2)
    recovered = ["INPUT_RECOVERED in"] if kind == "script" else []
    with dataflow.subscribe("teller/told") as messages:
        dataflow.start()
        for before in ([], recovered):
            gate.write_text("")
            expected = [*before, "INPUT in", "INPUT_CLOSED in"]
            assert told(messages, len(expected)) == expected
    assert dataflow.status("teller").state is State.RUNNING
    dataflow.stop(grace_secs=0.0)


FAILING = """
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        self.n += 1
        send_output("out", b"")
        assert self.n < 3, "boom"
"""


def test_a_node_is_told_of_a_failure_after_its_inputs_have_closed(dataflow: CellDataflow) -> None:
    dataflow.cell("source", FAILING, inputs=TICK, outputs=("out",))
    teller(dataflow, "script")
    with dataflow.subscribe("teller/told", queue_size=50) as messages:
        dataflow.start()
        *_, closed, failed, stop = told(messages, 6)
    assert (closed, stop) == ("INPUT_CLOSED in", "STOP ALL_INPUTS_CLOSED")
    assert failed.startswith("NODE_FAILED source {'source_node_id': 'source', 'error': ")
    assert "source failed in on_event, at INPUT 'tick': AssertionError: boom" in failed
    assert failed.endswith("'affected_input_ids': ['in']}")


def test_an_operator_is_told_nothing_of_a_failure(dataflow: CellDataflow) -> None:
    """It learns that its input has closed, and no more; so it is in dora."""
    dataflow.cell("source", FAILING, inputs=TICK, outputs=("out",))
    teller(dataflow, "operator")
    with dataflow.subscribe("teller/told", queue_size=50) as messages:
        dataflow.start()
        assert told(messages, 4) == ["INPUT in"] * 3 + ["INPUT_CLOSED in"]
        dataflow.until_state("teller", State.FINISHED)


def test_a_node_is_told_of_a_restart_and_of_no_end(dataflow: CellDataflow) -> None:
    body = "class Operator:\n    def on_event(self, e, s):\n        if e['type'] == 'INPUT': s('out', b'')\n"
    dataflow.cell("source", body, inputs={"once": "dora/timer/secs/3600"}, outputs=("out",))
    teller(dataflow, "script")
    with dataflow.subscribe("teller/told", queue_size=50) as messages:
        dataflow.start()
        assert told(messages, 1) == ["INPUT in"]
        dataflow.restart("source")
        assert sorted(told(messages, 2)) == ["INPUT in", "NODE_RESTARTED source"]


WAITING_SCRIPT = """
from dora import Node
node = Node()
node.send_output("told", b"up")
for event in node:
    if event["type"] != "INPUT":
        node.send_output("told", f"{event['type']} {event['id']} {event.get('value')}".encode())
"""
RARELY = {"tick": "dora/timer/secs/3600"}


def test_a_node_is_told_of_its_parameters_and_another_generation_is_not(
    dataflow: CellDataflow,
) -> None:
    """While it waits for events that do not come. As in dora, a restart keeps them and says nothing."""
    dataflow.cell("teller", WAITING_SCRIPT, inputs=RARELY, outputs=("told",), kind="script")
    with dataflow.subscribe("teller/told", queue_size=50) as messages:
        dataflow.start()
        assert told(messages, 1) == ["up"]
        params = dataflow.params("teller")
        params["gain"] = 0.5
        assert repr(params) == "<Params of teller: {'gain': 0.5}>"
        params["limits"] = {"low": (1, None), "on": True}
        del params["gain"]
        assert told(messages, 3) == [
            "PARAM_UPDATE gain 0.5",
            "PARAM_UPDATE limits {'low': [1, None], 'on': True}",
            "PARAM_DELETED gain None",
        ]
        dataflow.restart("teller")
        assert told(messages, 2) == ["STOP MANUAL None", "up"]
        params["last"] = "x"
        assert told(messages, 1) == ["PARAM_UPDATE last x"]
        for most in ([0.5] * 13_000, 2**200):
            params["last"] = most
            assert told(messages, 1) == [f"PARAM_UPDATE last {most}"]
        params["last"] = "x"
        assert params == {"limits": {"low": [1, None], "on": True}, "last": "x"}


def test_parameters_that_nobody_would_read_are_refused(dataflow: CellDataflow) -> None:
    dataflow.cell("node", WAITING_SCRIPT, inputs=RARELY, outputs=("told",), kind="script")
    dataflow.cell("operator", TELLING_OPERATOR, inputs=RARELY, outputs=("told",))
    params = dataflow.params("node")
    with pytest.raises(DataflowStateError, match="is not running"):
        params["k"] = 1
    with pytest.raises(DataflowStateError, match="is not running"):
        list(params)
    assert "is not running" in repr(params)
    with pytest.raises(GraphError, match="Did you mean 'node'"):
        dataflow.params("nod")
    dataflow.start()
    with pytest.raises(
        GraphError, match="operator is an operator, and operators do not receive parameters"
    ):
        dataflow.params("operator")["k"] = 1
    for wrong in ({1}, float("nan"), {"k": {(1, 2): 3}}):
        with pytest.raises(GraphError, match="cannot write the value of 'k' as JSON"):
            params["k"] = wrong
    for key, value in (("k", "x" * 70_000), ("k" * 70_000, 1)):
        with pytest.raises(GraphError, match="characters, more than 65536"):
            params[key] = value
    params["gain"] = 1
    for ask in (operator.getitem, operator.delitem):
        with pytest.raises(
            GraphError, match=r"no parameter 'gian'\. Did you mean 'gain'"
        ) as raised:
            ask(params, "gian")
        assert isinstance(raised.value, KeyError)
    assert "gian" not in params
    assert params.get("gian", 2) == 2
    assert (dict(params), len(params), params.pop("gain")) == ({"gain": 1}, 1, 1)
    assert params == {}
    dataflow.stop(grace_secs=0.0)
