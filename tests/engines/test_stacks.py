"""Where an operator is now: asked of real processes that hang, and of some that cannot answer.

Most of them are nodes of one dataflow, since asking changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dora_nb.child import stacks
from dora_nb.engines.embedded import SPARES, _stacks
from dora_nb.errors import DataflowStateError, DoraNbError, EngineError, GraphError
from dora_nb.status import State

from ..waiting import killed_at_the_end
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

TICK = {"tick": "dora/timer/millis/5"}
NEVER = {"tick": "dora/timer/secs/3600"}
WAITING = "main thread: in dora_nb, waiting; none of the node's code runs in it"
ENDLESS = """
import os

def loop_forever():
    here = os.open(os.environ["HERE"], os.O_WRONLY)
    os.write(here, b"endless ")
    while True: pass

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            loop_forever()
"""
IN_C_WITH_THE_GIL = """
import os, re

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"in_c ")
            re.match("(a+)+$", "a" * 60 + "b")
"""
WITH_A_THREAD = """
import os, threading

def wait_for_ever(lock):
    os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"threads ")
    lock.acquire()

class Operator:
    def __init__(self):
        lock = threading.Lock()
        lock.acquire()
        threading.Thread(target=wait_for_ever, args=[lock], name="mine", daemon=True).start()
    def on_event(self, dora_event, send_output):
        pass
"""
SCRIPT = """
import os
from dora import Node

node = Node()
reading, _ = os.pipe()
os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"script ")
os.read(reading, 1)
"""
DEEP = """
import os

def deeper(level):
    if level:
        return deeper(level - 1)
    os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"deep ")
    os.read(os.pipe()[0], 1)

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            deeper(200)
"""
IDLE = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
FAILING = "class Operator:\n    def on_event(self, dora_event, send_output): 1 / 0\n"
WITHOUT_HANDLER = """
import os, signal

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            signal.signal(signal.SIGRTMAX - 7, signal.SIG_DFL)
            os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"unhandled ")
            os.read(os.pipe()[0], 1)
"""
STUCK_IN_INIT = """
import os

class Operator:
    def __init__(self):
        os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"init ")
        os.read(os.pipe()[0], 1)
    def on_event(self, dora_event, send_output): pass
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fifo]:
    """Where a node writes its name when it is about to hang."""
    fifo = Fifo(tmp_path_factory.mktemp("stacks") / "here", stays_open=True)
    yield fifo
    fifo.close()


@pytest.fixture(scope="module")
def hanging(here: Fifo) -> Iterator[CellDataflow]:
    """A dataflow whose nodes hang, each in a way of its own; they are killed at the end."""
    env = {"HERE": str(here.path)}
    with CellDataflow() as dataflow:
        dataflow.cell("endless", ENDLESS, inputs=TICK, env=env)
        dataflow.cell("in_c", IN_C_WITH_THE_GIL, inputs=TICK, env=env, python=sys.executable)
        dataflow.cell("threads", WITH_A_THREAD, inputs=NEVER, env=env)
        dataflow.cell("script", SCRIPT, kind="script", env=env)
        dataflow.cell("deep", DEEP, inputs=TICK, env=env)
        dataflow.cell("unhandled", WITHOUT_HANDLER, inputs=TICK, env=env)
        dataflow.cell("idle", IDLE, inputs=TICK)
        dataflow.cell("edited", IDLE, inputs=TICK, number=4)
        dataflow.cell("failing", FAILING, inputs=TICK)
        dataflow.cell("joined", "", kind="dynamic")
        with contextlib.suppress(DoraNbError):  # `failing` may fail before all others are ready.
            dataflow.start()
        for word in ("endless ", "in_c ", "threads ", "script ", "deep ", "unhandled "):
            here.wait_for(word)
        dataflow.until(lambda: refusal(dataflow, "failing") is not None, "the end of failing")
        yield dataflow
        dataflow.stop(grace_secs=0.0)


def refusal(dataflow: CellDataflow, name: str) -> str | None:
    """Why there are no stacks of a node that has no process; None where it has one."""
    try:
        dataflow.stacks(name)
    except DataflowStateError as error:
        return str(error)
    return None


def stacks_with(dataflow: CellDataflow, name: str, last_line: str) -> str:
    """The stacks of a node, once it has come from the line where it says so to the next."""
    deadline_secs = time.monotonic() + TIMEOUT_SECS
    while last_line not in (shown := dataflow.stacks(name)):
        assert time.monotonic() < deadline_secs, shown
    return shown


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def process_of(shown: str) -> int:
    found = re.search(r"process (\d+)", shown)
    assert found is not None, shown
    return int(found[1])


def test_a_spare_can_be_asked_before_it_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first test, since a session that runs would keep the thread of the spares."""
    monkeypatch.setenv("DORA_NB_SPARES", "1")
    SPARES.allow()
    try:
        SPARES.expect(1)
        assert SPARES.wait_warm(1, TIMEOUT_SECS)
        (process,) = SPARES.process_ids()
        status = Path(f"/proc/{process}/status").read_text()
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        assert caught is not None
        assert int(caught[1], 16) & (1 << (stacks.SIGNAL - 1))
    finally:
        SPARES.close()
        monkeypatch.setenv("DORA_NB_SPARES", "0")
        SPARES.allow()


def test_an_endless_loop_is_shown_with_the_lines_of_its_cell(hanging: CellDataflow) -> None:
    heading, *lines = stacks_with(hanging, "endless", "while True").split("\n")
    assert re.fullmatch(r"endless: generation 1, process \d+, in on_event for \d+\.\d s", heading)
    assert lines == [
        "main thread (most recent call last):",
        "  Cell In[5], line 12, in on_event",
        "    loop_forever()",
        "  Cell In[5], line 7, in loop_forever",
        "    while True: pass",
    ]


def test_code_in_c_that_keeps_the_gil_is_shown(hanging: CellDataflow) -> None:
    """In an interpreter that `--python` names. No other thread gets a turn to look at it."""
    lines = stacks_with(hanging, "in_c", ", in match").split("\n")
    assert lines[1:4] == [
        "main thread (most recent call last):",
        "  Cell In[5], line 8, in on_event",
        '    re.match("(a+)+$", "a" * 60 + "b")',
    ]
    assert lines[-2].endswith(", in match")


def test_other_threads_stand_below_the_main_thread(hanging: CellDataflow) -> None:
    shown = stacks_with(hanging, "threads", "lock.acquire()")
    main, _, other = shown.partition("\nthread 2 (most recent call last):\n")
    assert main.split("\n")[1:] == [WAITING]
    assert other.endswith("  Cell In[5], line 6, in wait_for_ever\n    lock.acquire()")


def test_a_scripts_main_thread_is_its_own(hanging: CellDataflow) -> None:
    """And the thread of ours that serves the engine beside it is not shown."""
    assert stacks_with(hanging, "script", "os.read").split("\n")[1:] == [
        "main thread (most recent call last):",
        "  Cell In[5], line 8, in <module>",
        "    os.read(reading, 1)",
    ]


def test_a_deep_recursion_is_shown_from_its_newest_frames(hanging: CellDataflow) -> None:
    lines = stacks_with(hanging, "deep", "os.read").split("\n")
    assert lines[1:4] == [
        "main thread (most recent call last):",
        "  (older frames are left out)",
        "  Cell In[5], line 6, in deeper",
    ]
    assert lines[-2:] == ["  Cell In[5], line 8, in deeper", "    os.read(os.pipe()[0], 1)"]


def test_asking_again_shows_the_same_and_leaves_nothing_open(hanging: CellDataflow) -> None:
    stacks_with(hanging, "deep", "os.read")
    before = open_descriptors()
    with ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda _: hanging.stacks("deep"), range(40)))
    assert len({text.partition("\n")[2] for text in shown}) == 1
    assert open_descriptors() == before


def test_an_operator_that_waits_goes_on_as_before(hanging: CellDataflow) -> None:
    events = hanging.status("idle").events
    # Now and then it is asked in the middle of an event.
    assert WAITING in [hanging.stacks("idle").partition("\n")[2] for _ in range(20)]
    hanging.until(lambda: hanging.status("idle").events > events, "another tick")


def test_a_process_that_does_not_handle_the_signal_is_not_killed_by_it(
    hanging: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stacks, "STACKS_SECS", 0.2)
    with pytest.raises(EngineError, match=f"it does not handle signal {stacks.SIGNAL}"):
        hanging.stacks("unhandled")
    assert hanging.status("unhandled").state is State.RUNNING


def test_a_suspended_process_says_so_and_answers_once_it_goes_on(
    hanging: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stacks, "STACKS_SECS", 0.2)
    process = process_of(hanging.stacks("endless"))
    os.kill(process, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(EngineError) as caught:
                hanging.stacks("endless")
            assert str(caught.value) == (
                f"process {process} did not answer within 0.2 seconds: it is suspended "
                f"(kill -CONT {process} lets it go on)."
            )
    finally:
        os.kill(process, signal.SIGCONT)
    monkeypatch.undo()
    assert hanging.stacks("endless").count("in loop_forever") == 1


def test_what_has_no_process_of_ours_is_named(hanging: CellDataflow) -> None:
    for name in ("failing", "joined"):
        assert (
            refusal(hanging, name) == f"{name} is not running: dataflow.status() shows its state."
        )
    with pytest.raises(GraphError, match="Did you mean 'endless'"):
        hanging.stacks("endles")
    code = "import dora_nb, sys; node = dora_nb.Node('joined'); print(flush=True); sys.stdin.read()"
    with killed_at_the_end(
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    ) as joined:
        assert joined.stdout is not None
        assert joined.stdout.readline() == b"\n"
        hanging.until_state("joined", State.RUNNING)
        with pytest.raises(DataflowStateError, match=f"py-spy dump --pid {joined.pid} shows"):
            hanging.stacks("joined")


def test_an_operator_in_its_init_and_the_one_that_it_is_to_follow(
    hanging: CellDataflow, here: Fifo
) -> None:
    def declare() -> None:
        with contextlib.suppress(DoraNbError, GraphError):
            hanging.cell("edited", STUCK_IN_INIT, inputs=TICK, env={"HERE": str(here.path)})

    declaring = threading.Thread(target=declare)
    declaring.start()
    here.wait_for("init ")
    old, new = stacks_with(hanging, "edited", "os.read").split("\n\n")
    assert old.startswith("edited: generation 1, process ")
    assert new.split("\n")[0] == f"edited: generation 2, process {process_of(new)}"
    assert new.split("\n")[1:] == [
        "main thread (most recent call last):",
        "  Cell In[5], line 7, in __init__",
        "    os.read(os.pipe()[0], 1)",
    ]
    os.kill(process_of(new), signal.SIGKILL)
    declaring.join(TIMEOUT_SECS)
    assert not declaring.is_alive()


def test_a_dataflow_that_does_not_run_is_named(dataflow: CellDataflow) -> None:
    dataflow.cell("op", IDLE, inputs=TICK)
    with pytest.raises(DataflowStateError, match="the dataflow is not running"):
        dataflow.stacks("op")


SLEEPER = """
import os, select, time

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            begin = time.monotonic()
            os.write(os.open(os.environ["HERE"], os.O_WRONLY), b"asleep ")
            time.sleep(0.5)
            readable, _, _ = select.select([os.pipe()[0]], [], [], 0.5)
            print(time.monotonic() - begin >= 1.0, readable, flush=True)
            time.sleep(1000)
"""


def test_waiting_in_the_system_is_not_cut_short(
    dataflow: CellDataflow, make_fifo: Callable[..., Fifo]
) -> None:
    fifo = make_fifo("sleeper", stays_open=True)
    dataflow.cell("op", SLEEPER, inputs=TICK, env={"HERE": str(fifo.path)})
    dataflow.start()
    fifo.wait_for("asleep ")
    while not dataflow.said_by("op"):
        assert "in on_event" in dataflow.stacks("op")
    assert dataflow.said_by("op") == ["True []"]
    dataflow.stop(grace_secs=0.0)
