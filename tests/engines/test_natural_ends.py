"""A node that ends by itself takes the time that its exit handlers need; only a stop bounds it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dora_nb.errors import OperatorError
from dora_nb.status import State

from .conftest import CellDataflow, Fifo

TICK = {"tick": "dora/timer/hz/50"}
SCRIPT = """
import atexit, os, threading
from dora import Node
node = Node()
def close_the_arm():
    print("closing", flush=True)
    open(os.environ["HOLD"]).readline()
    {exits}
    print("CLOSED", flush=True)
atexit.register(close_the_arm)
{end}
"""
OPERATOR = """
import atexit, os
from dora import DoraStatus
def close_the_arm():
    open(os.environ["HOLD"]).readline()
    print("CLOSED", flush=True)
class Operator:
    def __init__(self):
        atexit.register(close_the_arm)
    def on_event(self, dora_event, send_output):
        return DoraStatus.STOP
"""
STILL = "is still exiting, in exit handlers or in threads that are not daemons; a stop ends it"


@pytest.fixture
def hold(make_fifo: Callable[..., Fifo]) -> Fifo:
    """What each exit handler waits for."""
    return make_fifo("hold", stays_open=True)


def declare(
    dataflow: CellDataflow, name: str, hold: Fifo, *, end: str = "pass", exits: str = "pass"
) -> None:
    path = hold.path.parent / f"{name}.py"
    dataflow.cell(
        name,
        SCRIPT.format(end=end, exits=exits),
        path=path,
        kind="script",
        inputs=TICK,
        env={"HOLD": str(hold.path)},
    )


def until_still_exiting(dataflow: CellDataflow, *names: str) -> None:
    def all_are() -> bool:
        return all(
            any(line.endswith(STILL) for line in dataflow.said_by(name, "engine")) for name in names
        )

    dataflow.until(all_are, "slow exits")


def release(hold: Fifo, times: int) -> None:
    os.write(hold.descriptor, b"\n" * times)


def test_exit_handlers_run_to_their_end(dataflow: CellDataflow, hold: Fifo) -> None:
    declare(dataflow, "ended", hold)
    declare(dataflow, "exited", hold, end="raise SystemExit(0)")
    declare(dataflow, "raised", hold, end="1 / 0")
    dataflow.cell("operator", OPERATOR, inputs=TICK, env={"HOLD": str(hold.path)})
    names = ("ended", "exited", "raised", "operator")
    dataflow.start()
    until_still_exiting(dataflow, *names)
    status = dataflow.status("ended")
    assert (status.state, status.is_amber) == (State.RUNNING, True)
    assert status.warnings == (f"ended has ended its own code and {STILL}",)
    # Nothing waits for their exits: not a start, nor a cell.
    session = dataflow._run.session
    assert session is not None
    assert session.wait_settled(names, after={}, timeout_secs=0)
    for number, name in enumerate(names):
        # One at a time: a reader of the pipe takes more than its line.
        ended = [each for each in names if "CLOSED" in dataflow.said_by(each)]
        assert len(ended) == number, name
        release(hold, 1)
        dataflow.until(
            lambda before=ended: (
                sum("CLOSED" in dataflow.said_by(each) for each in names) > len(before)
            ),
            "the next end",
        )
    assert dataflow.wait(30)
    for name in names:
        assert dataflow.said_by(name)[-1] == "CLOSED"
    states = {each.name: each.state for each in dataflow.status()}
    assert states.pop("raised") is State.FAILED
    assert set(states.values()) == {State.FINISHED}
    assert dataflow.status("ended").warnings == ()


def test_a_stop_bounds_it_and_a_killed_one_has_failed(dataflow: CellDataflow, hold: Fifo) -> None:
    declare(dataflow, "arm", hold)
    dataflow.start()
    until_still_exiting(dataflow, "arm")
    dataflow.stop(grace_secs=0)
    status = dataflow.status("arm")
    assert status.state is State.FAILED
    assert status.error is not None
    assert status.error.message == (
        "arm had ended its own code and was still exiting when the stop killed its process."
    )
    assert "CLOSED" not in dataflow.said_by("arm")


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ("os.kill(os.getpid(), 9)", "arm's process was killed by SIGKILL (Killed)."),
        ("os._exit(3)", "arm's process exited with status 3 without an error message."),
    ],
)
def test_one_that_does_not_get_through_its_exit_has_failed(
    dataflow: CellDataflow, hold: Fifo, exits: str, message: str
) -> None:
    declare(dataflow, "arm", hold, exits=exits)
    release(hold, 1)
    dataflow.start()
    assert dataflow.failure_of("arm").message == message


def test_a_start_that_failed_does_not_wait_for_a_thread(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    source = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n1 / 0\n"
    dataflow.cell("op", source, inputs=TICK, path=tmp_path / "op.py")
    with pytest.raises(OperatorError, match="op failed before its first event: ZeroDivisionError"):
        dataflow.start()
    dataflow.until_state("op", State.FAILED)


def test_a_restart_policy_does_not_wait_for_a_thread(dataflow: CellDataflow) -> None:
    source = (
        "import threading\n"
        "class Operator:\n"
        "    def on_event(self, e, send_output):\n"
        "        threading.Thread(target=threading.Event().wait).start()\n"
        "        1 / 0\n"
    )
    dataflow.cell("op", source, inputs=TICK, keys={"restart_policy": "on-failure"})
    dataflow.start()
    dataflow.until(lambda: dataflow.status("op").generation > 1, "a restart")
