"""One node is stopped, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from dora_nb.errors import GraphError
from dora_nb.status import State

from ..waiting import wait_for_line
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo
from .test_restart_policies import FAILING, GO, READER, go_through

TICK = {"tick": "dora/timer/hz/200"}
COUNTING = """
import pyarrow as pa

class Operator:
    def __init__(self):
        self.number = 0

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("out", pa.array([self.number]))
        elif dora_event["type"] == "STOP":
            print("STOP", flush=True)
"""


@pytest.fixture
def two(dataflow: CellDataflow) -> CellDataflow:
    """A counter and another, whose numbers a script reads."""
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    dataflow.cell("other", COUNTING, inputs=TICK, outputs=("out",))
    inputs = {"in": "counter/out", "on": "other/out"}
    dataflow.cell("reader", READER, inputs=inputs, kind="script")
    dataflow.start()
    dataflow.take("counter/out", 3)
    return dataflow


def events_of(dataflow: CellDataflow, name: str) -> list[str]:
    """What a reader has printed of everything but messages."""
    return [line for line in dataflow.said_by(name) if not line.startswith("INPUT ")]


def test_its_readers_see_an_end_and_the_others_go_on(two: CellDataflow) -> None:
    stopped = two.stop("counter")
    assert (stopped.names, stopped.already_stopped) == (("counter",), False)
    assert two.status("counter").state is State.STOPPED
    assert two.status("counter").process_id is None
    assert two.said_by("counter") == ["STOP"]
    wait_for_line(two, "reader", "INPUT_CLOSED in ")
    assert events_of(two, "reader") == ["restarts 0", "INPUT_CLOSED in "]
    assert len(two.take("other/out", 3)) == 3
    assert "counter" in two.graph
    assert two.stop("counter").already_stopped


def test_a_restart_starts_it_again(two: CellDataflow) -> None:
    two.stop("counter")
    wait_for_line(two, "reader", "INPUT_CLOSED in ")
    assert in_words(two.restart("counter")) == ("counter: generation 2, restarted, state not kept")
    assert len(two.take("counter/out", 3)) == 3
    wait_for_line(two, "reader", "NODE_RESTARTED counter ")
    assert two.status("reader").generation == 1


@pytest.mark.parametrize("more", ["", "# edited\n"])
def test_its_cell_starts_it_again(two: CellDataflow, more: str) -> None:
    two.stop("counter")
    declared = two.cell("counter", COUNTING + more, inputs=TICK, outputs=("out",))
    assert in_words(declared) == "counter: generation 2, restarted, state not kept"
    assert len(two.take("counter/out", 3)) == 3


def test_a_reader_of_it_alone_ends_and_comes_back_with_it(dataflow: CellDataflow) -> None:
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    dataflow.cell("reader", COUNTING, inputs={"in": "counter/out"}, outputs=("out",))
    dataflow.start()
    dataflow.take("reader/out", 1)
    dataflow.stop("counter")
    dataflow.until_state("reader", State.FINISHED)
    dataflow.restart("counter")
    assert len(dataflow.take("reader/out", 3)) == 3
    assert dataflow.status("reader").generation == 2


def test_the_last_one_ends_the_run_and_can_be_started_again(dataflow: CellDataflow) -> None:
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    dataflow.start()
    dataflow.stop("counter")
    assert not dataflow.running
    assert dataflow.restart("counter").generation == 2
    assert len(dataflow.take("counter/out", 3)) == 3
    dataflow.stop("counter")
    assert in_words(dataflow.start()) == "started: counter"
    assert dataflow.status("counter").generation == 1


@pytest.mark.parametrize("policy", ["always", "on-failure"])
def test_no_policy_restarts_it(dataflow: CellDataflow, policy: str) -> None:
    dataflow.cell("reader", READER, inputs=GO, kind="script", keys={"restart_policy": policy})
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    dataflow.start()
    assert not dataflow.stop("reader").already_stopped
    status = dataflow.status("reader")
    assert (status.state, status.generation) == (State.STOPPED, 1)


def test_one_that_backs_off_is_not_started_again(dataflow: CellDataflow) -> None:
    keys = {"restart_policy": "always", "restart_delay": 1000.0}
    dataflow.cell("failing", FAILING, inputs=GO, outputs=("out",), keys=keys)
    dataflow.cell("reader", READER, inputs={"in": "failing/out", **GO}, kind="script")
    dataflow.start()
    go_through(dataflow, "failing", 1)
    dataflow.until_state("failing", State.STARTING)
    assert not dataflow.stop("failing").already_stopped
    assert dataflow.status("failing").state is State.STOPPED
    wait_for_line(dataflow, "reader", "INPUT_CLOSED in ")
    assert dataflow.running


def test_one_that_has_failed_stays_failed(dataflow: CellDataflow) -> None:
    dataflow.cell("failing", FAILING, inputs=GO, outputs=("out",))
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    dataflow.start()
    go_through(dataflow, "failing", 1)
    dataflow.failure_of("failing")
    assert dataflow.stop("failing").already_stopped
    assert dataflow.status("failing").state is State.FAILED


def test_one_that_does_not_react_is_killed(dataflow: CellDataflow) -> None:
    ignores = (
        "import signal, time\n"
        "class Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        print('here', flush=True)\n"
        "        time.sleep(1000)\n"
    )
    dataflow.cell("stuck", ignores, inputs=TICK)
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    dataflow.start()
    wait_for_line(dataflow, "stuck", "here")
    assert not dataflow.stop("stuck", grace_secs=0.1).already_stopped
    assert dataflow.status("stuck").state is State.STOPPED
    assert len(dataflow.take("counter/out", 3)) == 3


def test_a_start_goes_on_without_one_that_is_stopped(
    dataflow: CellDataflow, make_fifo: Callable[..., Fifo]
) -> None:
    entered = make_fifo("entered")
    slow = (
        "import os, time\n"
        "class Operator:\n"
        "    def __init__(self):\n"
        f"        os.write(os.open({str(entered.path)!r}, os.O_WRONLY), b'here')\n"
        "        time.sleep(1000)\n"
        "    def on_event(self, dora_event, send_output): pass\n"
    )
    dataflow.cell("slow", slow, inputs=TICK)
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    with ThreadPoolExecutor() as background:
        started = background.submit(dataflow.start)
        entered.wait_for("here")
        dataflow.stop("slow", grace_secs=0.0)
        assert in_words(started.result(TIMEOUT_SECS)) == "started: slow, counter"
    assert dataflow.status("slow").state is State.STOPPED
    assert len(dataflow.take("counter/out", 3)) == 3


def test_what_does_not_run_is_stopped_already_and_an_unknown_name_gets_the_nearest(
    dataflow: CellDataflow,
) -> None:
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("out",))
    assert dataflow.stop("counter").already_stopped
    with pytest.raises(GraphError, match=r"no operator 'conter' is declared. Did you mean 'count"):
        dataflow.stop("conter")
    with pytest.raises(GraphError, match="grace_secs must be >= 0, got -1"):
        dataflow.stop("counter", grace_secs=-1)
    dataflow.start()
    with pytest.raises(GraphError, match="Did you mean 'counter'"):
        dataflow.stop("conter")
    assert dataflow.status("counter").state is State.RUNNING
