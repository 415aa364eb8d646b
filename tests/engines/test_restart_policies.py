"""Nodes that are started again by their policy, as dora does; and what dora's log keys do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import GraphError
from dora_nb.status import State

from ..waiting import wait_for_line
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow

FAILING = """
import pyarrow as pa

class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("out", pa.array([self.number]))
            if self.number == 2:
                raise ValueError("boom")
"""
READER = """
from dora import Node

node = Node()
print("restarts", node.restart_count(), flush=True)
for event in node:
    value = event["value"].to_pylist() if event["type"] == "INPUT" else ""
    print(event["type"], event.get("id"), value, flush=True)
"""
GO = {"go": "notebook/go"}


def until_failed_in(dataflow: CellDataflow, name: str, generation: int) -> None:
    def failed() -> bool:
        status = dataflow.status(name)
        return (status.state, status.generation) == (State.FAILED, generation)

    dataflow.until(failed, f"the failure of generation {generation}")


def go_through(dataflow: CellDataflow, name: str, generation: int) -> None:
    """Sends what lets that generation fail."""
    dataflow.until(
        lambda: (
            dataflow.status(name).generation == generation
            and dataflow.status(name).state is State.RUNNING
        ),
        f"generation {generation}",
    )
    for _ in range(2):
        dataflow.send("notebook/go", 1)


def test_a_start_names_a_node_that_fails_again_and_again_and_goes_on_once_it_is_ready(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    failing = f"""
import pathlib
if not pathlib.Path({str(tmp_path / "ready")!r}).exists():
    raise OSError("no camera")
class Operator:
    def on_event(self, dora_event, send_output): pass
"""
    keys = {"restart_policy": "on-failure", "restart_delay": 0.05}
    dataflow.cell("camera", failing, inputs=GO, keys=keys)
    seen: list[str] = []

    def progress(text: str) -> None:
        seen.append(text)
        if " times: " in text:
            (tmp_path / "ready").touch()

    dataflow.start(progress=progress)
    # On a busy machine, the start may take so long that it is named before it fails.
    first, *_, last = [text for text in seen if "failed" in text]
    reason = "OSError: no camera; starting: camera"
    assert re.fullmatch(rf"camera failed[^:]*: {reason} \(\d+ s\)", first), first
    assert re.fullmatch(rf"camera failed \d+ times: {reason} \(\d+ s\)", last), last
    assert dataflow.status("camera").state is State.RUNNING
    assert dataflow.status("camera").error is None


def test_its_readers_hear_of_a_restart_and_of_no_end(dataflow: CellDataflow) -> None:
    keys = {"restart_policy": "on-failure", "max_restarts": 1}
    dataflow.cell("failing", FAILING, inputs=GO, outputs=("out",), keys=keys)
    dataflow.cell("reader", READER, inputs={"in": "failing/out"}, kind="script")
    dataflow.start()
    go_through(dataflow, "failing", 1)
    go_through(dataflow, "failing", 2)
    until_failed_in(dataflow, "failing", 2)
    dataflow.until_state("reader", State.FINISHED)
    assert dataflow.said_by("reader") == [
        "restarts 0",
        "INPUT in [1]",
        "INPUT in [2]",
        "NODE_RESTARTED failing ",
        "INPUT in [1]",
        "INPUT in [2]",
        "INPUT_CLOSED in ",
        "NODE_FAILED failing ",
        "STOP ALL_INPUTS_CLOSED ",
    ]
    said = [line.text for line in dataflow.logs("failing")]
    assert sum("failed in on_event" in text for text in said) == 2


def test_what_a_killed_process_had_not_read_is_read_by_the_next(dataflow: CellDataflow) -> None:
    dies = READER.replace(
        "    value =",
        "    if event['type'] == 'INPUT' and event['value'][0].as_py() == 2: import os; os._exit(3)\n    value =",
    )
    dataflow.cell("dies", dies, inputs=GO, kind="script", keys={"restart_policy": "on-failure"})
    dataflow.start()
    for number in range(1, 5):
        dataflow.send("notebook/go", number)
    dataflow.until(
        lambda: (
            dataflow.status("dies").generation == 2
            and dataflow.status("dies").state is State.RUNNING
        ),
        "the second generation",
    )
    wait_for_line(dataflow, "dies", "INPUT go [4]")
    assert dataflow.said_by("dies") == [
        "restarts 0", "INPUT go [1]", "restarts 1", "INPUT go [3]", "INPUT go [4]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "generations"), [("never", 1), ("on-failure", 1), ("always", 3)]
)
def test_an_end_without_a_failure(dataflow: CellDataflow, policy: str, generations: int) -> None:
    keys = {"restart_policy": policy, "max_restarts": 2}
    ends = "from dora import Node\nnode = Node()\nprint('here')"
    dataflow.cell("ends", ends, inputs={"tick": "dora/timer/hz/1"}, kind="script", keys=keys)
    dataflow.start()
    assert dataflow.wait(TIMEOUT_SECS)
    assert dataflow.status("ends").generation == generations
    assert dataflow.status("ends").state is State.FINISHED


def test_no_restart_once_all_inputs_are_closed(dataflow: CellDataflow) -> None:
    ends = "from dora import Node\nnode = Node()\nnode.send_output('out', b'')"
    dataflow.cell(
        "source", ends, inputs={"tick": "dora/timer/hz/1"}, outputs=("out",), kind="script"
    )
    keys = {"restart_policy": "always"}
    dataflow.cell("reader", READER, inputs={"in": "source/out"}, kind="script", keys=keys)
    dataflow.start()
    assert dataflow.wait(TIMEOUT_SECS)
    assert dataflow.status("reader").generation == 1


@pytest.mark.parametrize("act", ["stop", "restart", "remove", "edit"])
def test_while_it_pauses_everything_can_be_asked_for(dataflow: CellDataflow, act: str) -> None:
    keys = {"restart_policy": "always", "restart_delay": 1000.0}
    dataflow.cell("failing", FAILING, inputs=GO, outputs=("out",), keys=keys)
    dataflow.start()
    go_through(dataflow, "failing", 1)
    dataflow.until_state("failing", State.STARTING)
    assert "boom" in str(dataflow.status("failing").error)
    assert dataflow.running
    if act == "stop":
        assert in_words(dataflow.stop()) == "stopped"
        assert dataflow.status("failing").state is State.STOPPED
    elif act == "restart":
        assert in_words(dataflow.restart("failing")).startswith("failing: generation 2")
    elif act == "remove":
        assert in_words(dataflow.remove("failing")) == "failing: removed"
    else:
        edited = dataflow.cell(
            "failing", FAILING + "# edited", inputs=GO, outputs=("out",), keys=keys
        )
        assert in_words(edited).startswith("failing: generation 2")


def test_a_stop_is_no_reason_for_a_restart(dataflow: CellDataflow) -> None:
    dataflow.cell("reader", READER, inputs=GO, kind="script", keys={"restart_policy": "always"})
    dataflow.start()
    assert in_words(dataflow.stop()) == "stopped"
    assert dataflow.status("reader").generation == 1


LOGGING = """
import logging, sys
from dora import Node

node = Node()
print("printed", file=sys.stderr)
for event in node:
    if event["type"] == "INPUT":
        node.log("warn", "heavy", target="arm", fields={"kg": "3"})
        node.log("debug", "details")
        logging.error("by logging")
"""


def test_what_it_logs_is_sent_and_only_what_is_grave_is_kept(dataflow: CellDataflow) -> None:
    keys: dict[str, Any] = {"send_logs_as": "logs", "min_log_level": "info"}
    dataflow.cell("talker", LOGGING, inputs=GO, outputs=("logs",), kind="script", keys=keys)
    dataflow.start()
    with dataflow.subscribe("talker/logs") as logs:
        dataflow.send("notebook/go", 1)
        first, second = (json.loads(logs.next(20.0)["value"][0].as_py()) for _ in range(2))
    assert (first["level"], first["message"], first["target"]) == ("WARN", "heavy", "arm")
    assert (first["node_id"], first["fields"]) == ("talker", {"kg": "3"})
    assert second["level"] == "ERROR"
    wait_for_line(dataflow, "talker", "by logging")
    streams = [line.stream for line in dataflow.logs("talker")]
    assert streams == ["warn", "error"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"min_log_level": "wran"}, "Did you mean 'warn'?"),
        ({"send_logs_as": "nowhere"}, "which is not one of its outputs"),
        ({"restart_policy": "sometimes"}, "restart_policy must be one of"),
    ],
)
def test_impossible_keys_are_refused(
    dataflow: CellDataflow, keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(GraphError, match=said.replace("?", r"\?")):
        dataflow.cell("reader", READER, inputs=GO, kind="script", keys=keys)
