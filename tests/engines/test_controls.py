"""Controls of real dataflows: who gets which value, and the dead-man when the kernel is stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from dora_nb.engines.dora import DoraSession
from dora_nb.engines.dora._feeder import NO_ROUTES
from dora_nb.engines.embedded import Session
from dora_nb.errors import GraphError
from dora_nb.graph.sources import CONTROLS
from dora_nb.status import State
from dora_nb.widgets.camera._picks import PICKED

from ..waiting import wait_until
from ..wording import in_words
from .conftest import CellDataflow, Fifo, Kernel

ARM = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            why = dora_event["metadata"].get("neutral", "")
            print(dora_event["id"], dora_event["value"].to_pylist(), why, flush=True)
"""
ARM_IN_A_PIPE = """
import os

class Operator:
    def __init__(self):
        self.pipe = open(os.environ["PIPE"], "w")
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            why = dora_event["metadata"].get("neutral", "")
            print(*filter(None, [dora_event["value"].to_pylist(), why]), file=self.pipe, flush=True)
"""
STUCK = """
import os

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            open(os.environ["PIPE"]).read()
"""
ARM_INPUTS = {name: f"notebook/{name}" for name in ("speed", "stick", "gain", "button")}


def heard(dataflow: CellDataflow, name: str, input_name: str) -> list[str]:
    """What that node's input got, oldest first."""
    lines = [line for line in dataflow.said_by(name) if line.startswith(input_name)]
    return [line.removeprefix(input_name).strip() for line in lines]


def until_heard(dataflow: CellDataflow, name: str, input_name: str, *values: str) -> None:
    """Waits until that is the end of what that node's input got."""
    wait_until(
        lambda: heard(dataflow, name, input_name)[-len(values) :] == list(values),
        otherwise=lambda: dataflow.said_by(name),
    )


def test_a_slider_outlives_its_readers(dataflow: CellDataflow) -> None:
    speed = dataflow.controls.add("notebook/speed", value=0.5)
    dataflow.controls.add("notebook/gain")
    dataflow.cell("arm", ARM, inputs=ARM_INPUTS)
    dataflow.start()
    until_heard(dataflow, "arm", "speed", "[0.5]")
    speed.set(1)
    until_heard(dataflow, "arm", "speed", "[0.5]", "[1.0]")
    dataflow.restart("arm")
    until_heard(dataflow, "arm", "speed", "[0.5]", "[1.0]", "[1.0]")
    dataflow.cell("arm", ARM + "\n# edited", inputs=ARM_INPUTS, on_edit="restart")
    until_heard(dataflow, "arm", "speed", "[0.5]", "[1.0]", "[1.0]", "[1.0]")
    assert dataflow.status("arm").generation == 3
    assert heard(dataflow, "arm", "gain") == []
    assert dataflow.latest("notebook/speed")["value"].to_pylist() == [1.0]


def test_controls_come_and_go_while_it_runs(dataflow: CellDataflow) -> None:
    dataflow.cell("arm", ARM, inputs=ARM_INPUTS)
    dataflow.start()
    dataflow.send("notebook/stick", "by hand")
    until_heard(dataflow, "arm", "stick", "['by hand']")
    stick = dataflow.controls.add(
        "notebook/stick", kind="motion", neutral=[0, 0], deadman_secs=60, owner="cell 3"
    )
    button = dataflow.controls.add("notebook/button", kind="event")
    until_heard(dataflow, "arm", "stick", "['by hand']", "[0, 0] idle")
    with pytest.raises(GraphError, match=r"'notebook/stick' is sent by a control"):
        dataflow.send("notebook/stick", "by hand")
    stick.set([1, 0])
    until_heard(dataflow, "arm", "stick", "[1, 0]")
    stick.release()
    until_heard(dataflow, "arm", "stick", "[0, 0] released")
    for number in range(3):
        button.set(number)
    until_heard(dataflow, "arm", "button", "[0]", "[1]", "[2]")
    dataflow.restart("arm")
    stick.set([2, 0])
    until_heard(dataflow, "arm", "stick", "[2, 0]")
    # The cell runs again, and has another control.
    stick = dataflow.controls.add(
        "notebook/stick", kind="motion", neutral=[0, 0], deadman_secs=60, owner="cell 3"
    )
    until_heard(dataflow, "arm", "stick", "[0, 0] replaced", "[0, 0] idle")
    stick.set([3, 0])
    until_heard(dataflow, "arm", "stick", "[3, 0]")
    stick.remove()
    until_heard(dataflow, "arm", "stick", "[0, 0] removed")
    dataflow.send("notebook/stick", "by hand")
    until_heard(dataflow, "arm", "stick", "[0, 0] removed", "['by hand']")
    assert heard(dataflow, "arm", "button") == ["[0]", "[1]", "[2]"]
    assert dataflow.status("arm").generation == 2
    # A reader that comes after its control, and one that gets another input while it runs.
    gain, speed = (dataflow.controls.add(f"notebook/{name}") for name in ("gain", "speed"))
    gain.set("high")
    speed.set(1)
    dataflow.cell("late", ARM, inputs={"speed": "notebook/speed"})
    until_heard(dataflow, "late", "speed", "[1]")
    edited = dataflow.cell(
        "late", ARM, inputs={name: ARM_INPUTS[name] for name in ("speed", "gain")}
    )
    assert in_words(edited) == "late: generation 2, in place, state kept"
    until_heard(dataflow, "late", "gain", "['high']")


def test_the_newest_of_a_flood_arrives_and_every_word_is_counted(dataflow: CellDataflow) -> None:
    speed = dataflow.controls.add("notebook/speed", value=-1)
    gain = dataflow.controls.add("notebook/gain", value=0)
    dataflow.cell("arm", ARM, inputs=ARM_INPUTS)
    dataflow.start()
    until_heard(dataflow, "arm", "gain", "[0]")
    gain.set(7)
    for number in range(10_000):
        speed.set(number)
    until_heard(dataflow, "arm", "speed", "[9999]")
    # The other control was not pushed out.
    until_heard(dataflow, "arm", "gain", "[0]", "[7]")
    numbers = [int(text.strip("[]")) for text in heard(dataflow, "arm", "speed")]
    assert numbers == sorted(numbers)
    status = speed.status()
    assert (status.words, status.value, status.state) == (10_000, 9999, "set")
    (edge,) = status.outputs
    assert edge.received == len(numbers)
    assert edge.sent == edge.received + edge.dropped + edge.queued
    assert edge.word_age_secs is not None
    assert dataflow.status("arm").inputs[-1].word_age_secs is None
    # It outlives the run too.
    dataflow.stop()
    speed.set(12)
    assert speed.status().words == 10_001
    dataflow.start()
    until_heard(dataflow, "arm", "speed", "[12]")


def test_a_stuck_reader_holds_up_neither_words_nor_the_deadman(
    dataflow: CellDataflow, make_fifo: Callable[..., Fifo]
) -> None:
    """Whatever its queues say, and although what the notebook itself sends to it waits."""
    pipe = make_fifo("pipe", stays_open=True)
    inputs = {"speed": "notebook/speed", "frames": "notebook/frames"}
    queues = dict.fromkeys(inputs, (1, "backpressure"))
    dataflow.cell("stuck", STUCK, inputs=inputs, queues=queues, env={"PIPE": str(pipe.path)})
    dataflow.cell("arm", ARM, inputs=ARM_INPUTS)
    speed = dataflow.controls.add("notebook/speed", value=0)
    stick = dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0])
    dataflow.start()
    wait_until(lambda: dataflow.status("stuck").busy_secs is not None)
    sends = threading.Thread(target=lambda: [dataflow.send("notebook/frames", n) for n in (1, 2)])
    sends.start()
    wait_until(lambda: dataflow.status("stuck").inputs[1].queued == 1)
    for number in range(1, 500):
        speed.set(number)
    until_heard(dataflow, "arm", "speed", "[499]")
    stick.set([1.0])
    until_heard(dataflow, "arm", "stick", "[0.0] silent")
    assert "[1.0]" in heard(dataflow, "arm", "stick")
    assert dataflow.status("stuck").inputs[0].policy == "drop_oldest"
    dataflow.stop(grace_secs=0.0)
    sends.join()


def test_controls_that_are_added_during_the_start(
    dataflow: CellDataflow, make_fifo: Callable[..., Fifo]
) -> None:
    gate = make_fifo("gate", stays_open=True)
    waits = ARM.replace(
        "class Operator:",
        "import os\nclass Operator:\n    def __init__(self): open(os.environ['GATE']).readline()",
    )
    dataflow.cell("arm", waits, inputs=ARM_INPUTS, env={"GATE": str(gate.path)})
    starts = threading.Thread(target=dataflow.start)
    starts.start()
    dataflow.until_state("arm", State.STARTING)
    for number, name in enumerate(("speed", "gain", "button")):
        dataflow.controls.add(f"notebook/{name}", value=number)
    dataflow.controls["notebook/button"].remove()
    dataflow.controls["notebook/speed"].set(7)
    os.write(gate.descriptor, b"go\n")
    starts.join()
    until_heard(dataflow, "arm", "speed", "[7]")
    until_heard(dataflow, "arm", "gain", "[1]")
    assert heard(dataflow, "arm", "button") == []
    assert dataflow.status("arm").generation == 1


def test_another_process_publishes_when_the_first_is_killed(dataflow: CellDataflow) -> None:
    dataflow.cell("arm", ARM, inputs=ARM_INPUTS)
    speed = dataflow.controls.add("notebook/speed", value=1)
    dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0])
    dataflow.start()
    until_heard(dataflow, "arm", "speed", "[1]")
    until_heard(dataflow, "arm", "stick", "[0.0] idle")
    session = dataflow._run.session
    assert isinstance(session, Session)
    process = session._supervisors[CONTROLS].process
    assert process is not None
    os.kill(process.process_id, signal.SIGKILL)
    until_heard(dataflow, "arm", "speed", "[1]", "[1]")
    until_heard(dataflow, "arm", "stick", "[0.0] idle", "[0.0] idle")
    speed.set(2)
    until_heard(dataflow, "arm", "speed", "[2]")
    assert dataflow.status("arm").generation == 1


def test_the_process_of_the_controls_is_not_a_node_of_the_user(dataflow: CellDataflow) -> None:
    source = "from dora import Node\nnode = Node()\nprint(sorted(n['id'] for n in node.dataflow_descriptor()['nodes']), flush=True)\nfor e in node: pass"
    dataflow.cell("told", source, inputs={"speed": "notebook/speed"}, kind="script")
    speed = dataflow.controls.add("notebook/speed", value=1)
    dataflow.start()
    wait_until(lambda: dataflow.said_by("told") == ["['told']"])
    assert [status.name for status in dataflow.status()] == ["told"]
    assert list(dataflow.graph.nodes) == ["told"]
    assert "controls" not in dataflow.to_yaml()
    assert str(dataflow.draw()) == "told [running]\n  speed ← notebook/speed"
    # It does not keep a dataflow running whose nodes have all ended.
    dataflow.stop("told")
    assert not dataflow.running
    assert dataflow.wait(timeout_secs=0.0)
    speed.set(2)
    dataflow.restart("told")


ARM_AS_SCRIPT = """
import os
from pathlib import Path

started = Path(os.environ["STARTED"])
if started.exists():
    # Of another generation, the straight way to it never gets ready: on a busy machine it takes a while.
    os.environ.pop("DORA_ZENOH_CONFIG_OVERLAY", None)
    os.environ["ZENOH_CONFIG"] = os.environ["NO_ROUTES"]
started.touch()
from dora import Node

for event in Node():
    if event["type"] == "INPUT":
        print(event["id"], event["value"].to_pylist(), flush=True)
        if event["id"] == "button":
            os._exit(1)
"""


def test_on_dora_rs_too(dataflow: CellDataflow, tmp_path: Path) -> None:
    """Another generation of the reader, and another process of ours, know the value.

    So does a reader that no other node can reach but through dora's daemon: dora-rs says that a node is
    ready before others can.
    """
    keys = {"restart_policy": "on-failure"}
    env = {"STARTED": str(tmp_path / "started"), "NO_ROUTES": str(NO_ROUTES)}
    dataflow.cell("arm", ARM_AS_SCRIPT, inputs=ARM_INPUTS, kind="script", keys=keys, env=env)
    speed = dataflow.controls.add("notebook/speed", value=0.5)
    button = dataflow.controls.add("notebook/button", kind="event")
    dataflow.controls.add("notebook/unread", value=0.5)
    dataflow.start("dora")
    until_heard(dataflow, "arm", "speed", "[0.5]")
    for number in range(1000):
        speed.set(number)
    until_heard(dataflow, "arm", "speed", "[999.0]")
    button.set(True)
    until_heard(dataflow, "arm", "speed", "[999.0]", "[999.0]")
    assert heard(dataflow, "arm", "button") == ["[True]"]
    assert dataflow.status("arm").generation == 2
    session = dataflow._run.session
    assert isinstance(session, DoraSession)
    assert session._feeder is not None
    feeder = session._feeder._session
    assert feeder is not None
    process = feeder._supervisors["feeder"].process
    assert process is not None
    os.kill(process.process_id, signal.SIGKILL)
    until_heard(dataflow, "arm", "speed", "[999.0]", "[999.0]", "[999.0]")
    dataflow.controls.add("notebook/gain", value=[1, 2])
    until_heard(dataflow, "arm", "gain", "[1, 2]")
    # What a camera view sends of a click: a struct with nulls and a time.
    row = dict.fromkeys(field.name for field in PICKED) | {"kind": "click", "x1": 1.5}
    picked = dataflow.controls.add("notebook/stick", kind="event")
    picked.set(pa.array([row | {"frame_time": datetime(2026, 11, 30, tzinfo=UTC)}], PICKED))
    wait_until(lambda: heard(dataflow, "arm", "stick"), otherwise=lambda: dataflow.said_by("arm"))
    (line,) = heard(dataflow, "arm", "stick")
    assert line.startswith("[{'kind': 'click', 'x1': 1.5, 'y1': None,")
    assert "datetime.datetime(2026, 11, 30, 0, 0" in line
    assert speed.status().outputs[0].sent == 0  # dora-rs counts no messages


HOLDS_THE_STICK = """
stick = dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0], deadman_secs=1.0)
while True:
    stick.set([1.0])
    time.sleep(0.02)
"""


def test_a_stopped_kernel_is_neutral(
    make_fifo: Callable[..., Fifo], start_kernel: Callable[..., Kernel]
) -> None:
    pipe = make_fifo("pipe")
    arm = {
        "source": ARM_IN_A_PIPE,
        "inputs": {"stick": "notebook/stick"},
        "env": {"PIPE": str(pipe.path)},
    }
    kernel = start_kernel({"arm": arm}, HOLDS_THE_STICK)
    pipe.wait_for("[1.0]")
    os.kill(kernel.process.pid, signal.SIGSTOP)
    wait_until(lambda: _is_stopped(kernel.process.pid))
    pipe.wait_until_last("[0.0] silent")
    os.kill(kernel.process.pid, signal.SIGCONT)
    pipe.wait_until_last("[1.0]")


def _is_stopped(process_id: int) -> bool:
    stat = Path(f"/proc/{process_id}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"
