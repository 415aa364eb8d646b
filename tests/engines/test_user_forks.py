"""A process that the user's code forks is not the node: it ends quietly, and the node goes on."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from dora_nb.protocol import counters
from dora_nb.status import State

from .conftest import CellDataflow, Fifo

TICK = {"tick": "dora/timer/hz/50"}
FORKING = """
import os, sys, threading
import pyarrow as pa
PIPE = os.open(os.environ["PIPE"], os.O_WRONLY)
def fork(child):
    '''Both return from the code around; the original once the copy has ended.'''
    pid = os.fork()
    if pid == 0:
        os.write(PIPE, b"forked\\n")
        child()
    else:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(PIPE, f"status {{status}}\\n".encode())
    return pid
def fail(): raise ValueError("in the child")
class Operator:
    def __init__(self):
        self.events = 0
        {init}
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "STOP":
            os.write(PIPE, b"STOP\\n")
            return
        if dora_event["type"] != "INPUT":
            return
        self.events += 1
        send_output("out", pa.array([self.events]))
        if self.events == 3:
            {event}
    def get_state(self):
        {state}
        return self.events
    def set_state(self, state):
        self.events = state + 1000
    def __del__(self):
        os.write(PIPE, b"deleted\\n")
"""


def forking(init: str = "pass", event: str = "pass", state: str = "pass") -> str:
    return textwrap.dedent(FORKING).format(init=init, event=event, state=state)


@pytest.mark.parametrize(
    ("places", "statuses", "printed"),
    [
        ({"event": "fork(lambda: None)"}, "status 0", []),
        ({"init": "fork(lambda: None)"}, "status 0", []),
        ({"event": "fork(lambda: sys.exit(3))"}, "status 3", []),
        ({"event": "fork(fail)"}, "status 1", ["ValueError: in the child"]),
        ({"init": "fork(fail)"}, "status 1", ["ValueError: in the child"]),
        # In the copy it is refused, as an exception that ends the copy.
        (
            {"event": "fork(lambda: send_output('out', pa.array([0])))"},
            "status 1",
            ["cannot send its messages"],
        ),
        ({"event": "fork(dora_event.clear)"}, "status 0", []),
    ],
    ids=["event", "init", "exit", "raise", "raise_in_init", "send", "drop_its_event"],
)
def test_the_operator_goes_on_when_a_forked_copy_returns(
    dataflow: CellDataflow,
    make_fifo: Callable[[str], Fifo],
    places: dict[str, str],
    statuses: str,
    printed: list[str],
) -> None:
    fifo = make_fifo("pipe")
    dataflow.cell(
        "op", forking(**places), inputs=TICK, outputs=("out",), env={"PIPE": str(fifo.path)}
    )
    with dataflow.subscribe("op/out", queue_size=1000) as seen:
        dataflow.start()
        fifo.wait_for("status")
        # None is missing, and none came twice: the copy has sent and taken nothing.
        assert [seen.next(20)["value"][0].as_py() for _ in range(10)] == list(range(1, 11))
    status = dataflow.status("op")
    assert (status.state, status.error, status.generation) == (State.RUNNING, None, 1)
    dataflow.stop()
    assert fifo.wait_for_end().split("\n") == ["forked", statuses, "STOP", "deleted", ""]
    said = dataflow.said_by("op", "stderr")
    assert [line for line in said if "dora_nb/" in line] == []
    assert all(any(text in line for line in said) for text in printed)
    assert bool(said) == bool(printed)


def test_a_fork_while_the_operator_is_busy_leaves_its_counts_alone(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]
) -> None:
    """The copy returns at once, and the original stays in its event."""
    fifo = make_fifo("pipe")
    event = "if fork(lambda: None): open(os.environ['HOLD']).read()"
    dataflow.cell(
        "op",
        forking(event=event),
        inputs=TICK,
        env={"PIPE": str(fifo.path), "HOLD": str(make_fifo("hold", stays_open=True).path)},  # type: ignore[call-arg]
    )
    dataflow.start()
    fifo.wait_for("status 0")
    process = dataflow._run.session._supervisors["op"].process  # type: ignore[union-attr]
    assert process.counters.words[counters.EVENTS] == 2
    assert dataflow.status("op").busy_secs is not None
    dataflow.stop(grace_secs=0)


def test_a_fork_in_a_hand_over(dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]) -> None:
    fifo = make_fifo("pipe")
    options = {"inputs": TICK, "outputs": ("out",), "env": {"PIPE": str(fifo.path)}}
    dataflow.cell("op", forking(state="fork(lambda: None)"), **options)  # type: ignore[arg-type]
    dataflow.start()
    dataflow.take("op/out", 1)
    dataflow.cell("op", forking(init="self.new = 1"), **options)  # type: ignore[arg-type]
    fifo.wait_for("status 0")
    assert dataflow.take("op/out", 1)[0]["value"][0].as_py() > 1000
    assert dataflow.status("op").error is None


SCRIPT = """
import os, sys
import pyarrow as pa
from dora import Node
PIPE = os.open(os.environ["PIPE"], os.O_WRONLY)
node = Node()
for number, event in enumerate(node):
    if event["type"] == "STOP":
        os.write(PIPE, b"STOP\\n")
    if number == 3:
        pid = os.fork()
        if pid:
            os.write(PIPE, b"status %d\\n" % os.waitpid(pid, 0)[1])
    if pid if number >= 3 else True:
        node.send_output("out", pa.array([number]))
os.write(PIPE, b"ended\\n")
"""


def test_a_script_goes_on_when_its_forked_copy_ends(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo], tmp_path: Path
) -> None:
    fifo = make_fifo("pipe")
    dataflow.cell(
        "node",
        SCRIPT,
        path=tmp_path / "node.py",
        kind="script",
        inputs=TICK,
        outputs=("out",),
        env={"PIPE": str(fifo.path)},
    )
    with dataflow.subscribe("node/out", queue_size=1000) as seen:
        dataflow.start()
        assert [seen.next(20)["value"][0].as_py() for _ in range(10)] == list(range(10))
    assert dataflow.status("node").error is None
    dataflow.stop()
    # The copy gets no event, not even STOP: its loop just ends.
    assert fifo.wait_for_end() == "ended\nstatus 0\nSTOP\nended\n"
    assert dataflow.status("node").error is None
