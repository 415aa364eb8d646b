"""What an operator leaves behind goes with it: processes in sessions of their own, shared memory.

Each process that must go holds the writing end of a named pipe; the pipe is at its end when all are gone.
"""

from __future__ import annotations

import os
import select
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from dora_nb.engines import orphan_reaper
from dora_nb.leftovers import COOKIE

from ..waiting import wait_until
from .conftest import CellDataflow, Fifo, Kernel, reapers

MakeFifo = Callable[..., Fifo]
TICK = {"tick": "dora/timer/hz/50"}
LAUNCHER = """
import os, subprocess, time
class Operator:
    def __init__(self):
        self.pipe = os.open(os.environ["PIPE"], os.O_WRONLY)
        self.entered = False
        {init}
    def on_event(self, dora_event, send_output):
        if not self.entered:
            self.entered = True
            os.write(self.pipe, b"entered\\n")
        {event}
"""
DETACHED = {
    "own_session": "subprocess.Popen(['sleep', '993'], pass_fds=[self.pipe], start_new_session=True)",
    "daemon": (
        "subprocess.Popen(['sh', '-c', 'setsid sh -c \"sleep 993 & sleep 994\" &'],"
        " pass_fds=[self.pipe])"
    ),
    "forked": "if os.fork() == 0: os.setsid(); time.sleep(993)",
    "deaf": (
        "subprocess.Popen(['sh', '-c', 'trap \"\" TERM HUP; sleep 993; sleep 994'],"
        " pass_fds=[self.pipe], start_new_session=True)"
    ),
}
"""Ways to start a process that is not in the operator's session."""
LEAKY = """
import os, time
from multiprocessing import shared_memory
class Operator:
    def __init__(self):
        self.pipe = os.open(os.environ["PIPE"], os.O_WRONLY)
        self.memory = shared_memory.SharedMemory(create=True, size=1000)
        {init}
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            is_there = os.path.exists(f"/dev/shm/{{self.memory.name}}")
            os.write(self.pipe, f"{{self.memory.name}} {{is_there}}\\n".encode())
            {event}
"""


def launcher(init: str, event: str = "pass") -> str:
    return textwrap.dedent(LAUNCHER).format(init=init, event=event)


def leaky(event: str, init: str = "pass") -> str:
    return textwrap.dedent(LEAKY).format(init=init, event=event)


def memory_named_in(fifo: Fifo) -> Path:
    """The shared memory of an operator, once its first event has said its name."""
    fifo.wait_for("\n")
    # Whether it was there, the operator says: the test may come to look when all is over.
    name, was_there = fifo.text.split()
    assert was_there == "True"
    return Path("/dev/shm", name)


@pytest.mark.parametrize("way", DETACHED)
def test_a_process_with_a_session_of_its_own_ends_with_its_operator(
    dataflow: CellDataflow, make_fifo: MakeFifo, way: str
) -> None:
    first, second = make_fifo("first"), make_fifo("second")
    for fifo in (first, second):
        dataflow.cell(
            "op",
            launcher(DETACHED[way]),
            inputs=TICK,
            env={"PIPE": str(fifo.path)},
            exclusive=True,
        )
        if fifo is first:
            dataflow.start()
        fifo.wait_for("entered")
    # Of the generation before, nothing is left; of this one, all is.
    assert first.wait_for_end() == "entered\n"
    poller = select.poll()
    poller.register(second.descriptor, select.POLLIN)
    assert not poller.poll(0)
    dataflow.stop()
    assert second.wait_for_end() == "entered\n"


def test_it_ends_too_when_the_operator_dies_or_hands_over(
    dataflow: CellDataflow, make_fifo: MakeFifo
) -> None:
    fifos = {name: make_fifo(name) for name in ("dies", "hands_over")}
    own_session = DETACHED["own_session"]
    for name, event in (("dies", "os._exit(0)"), ("hands_over", "pass")):
        env = {"PIPE": str(fifos[name].path)}
        dataflow.cell(name, launcher(own_session, event), inputs=TICK, env=env)
    dataflow.start()
    dataflow.failure_of("dies")
    assert fifos["dies"].wait_for_end() == "entered\n"
    fifos["hands_over"].wait_for("entered")
    after = make_fifo("after")
    dataflow.cell("hands_over", launcher(own_session), inputs=TICK, env={"PIPE": str(after.path)})
    assert fifos["hands_over"].wait_for_end() == "entered\n"


@pytest.mark.parametrize("killed_reapers", [0, 2])
def test_it_ends_with_the_kernel(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo, killed_reapers: int
) -> None:
    """Also after the reaper was killed: another one is there at once."""
    fifos = {way: make_fifo(way) for way in DETACHED}
    stuck = make_fifo("stuck")
    operators: dict[str, dict[str, object]] = {
        way: {
            "source": launcher(DETACHED[way]),
            "inputs": TICK,
            "env": {"PIPE": str(fifo.path)},
        }
        for way, fifo in fifos.items()
    }
    operators["stuck"] = {
        "source": launcher(DETACHED["own_session"], "time.sleep(1000)"),
        "inputs": TICK,
        "env": {"PIPE": str(stuck.path)},
    }
    kernel = start_kernel(operators)
    for fifo in (*fifos.values(), stuck):
        fifo.wait_for("entered")
    for _ in range(killed_reapers):
        (reaper,) = reapers(kernel.process.pid)
        os.kill(reaper, signal.SIGKILL)
        wait_until(lambda gone=reaper: reapers(kernel.process.pid) not in ([gone], []))
    kernel.process.kill()
    for fifo in (*fifos.values(), stuck):
        assert fifo.wait_for_end() == "entered\n"


def test_without_kernel_and_reaper_a_living_operator_ends_what_it_started(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    fifo = make_fifo("op")
    operator = {
        "source": launcher(DETACHED["own_session"]),
        "inputs": TICK,
        "env": {"PIPE": str(fifo.path)},
    }
    kernel = start_kernel({"op": operator})
    fifo.wait_for("entered")
    (reaper,) = reapers(kernel.process.pid)
    # The kernel first, and only stopped, so that it cannot start another one.
    os.kill(kernel.process.pid, signal.SIGSTOP)
    os.kill(reaper, signal.SIGKILL)
    kernel.process.kill()
    assert fifo.wait_for_end() == "entered\n"


@pytest.mark.parametrize(
    ("event", "init"),
    [
        ("os.kill(os.getpid(), 9)", "pass"),
        ("time.sleep(1000)", "pass"),
        # What holds the tracker's pipe must go first, in whichever session it is.
        (
            "os.kill(os.getpid(), 9)",
            "import multiprocessing; multiprocessing.get_context('fork').Process(target=leave).start()",
        ),
    ],
    ids=["killed", "stopped", "killed_with_a_worker"],
)
def test_shared_memory_goes_with_an_operator(
    dataflow: CellDataflow, make_fifo: MakeFifo, event: str, init: str
) -> None:
    fifo = make_fifo("op")
    worker = "\ndef leave():\n    os.setsid()\n    time.sleep(993)\n"
    source = leaky(event, init) + worker
    dataflow.cell("op", source, inputs=TICK, env={"PIPE": str(fifo.path)})
    dataflow.start()
    memory = memory_named_in(fifo)
    if "sleep" in event:
        dataflow.stop(grace_secs=0)
    else:
        dataflow.failure_of("op")
    assert fifo.wait_for_end() == f"{memory.name} True\n"
    assert not memory.exists()


def test_shared_memory_goes_with_the_kernel(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    fifos = {name: make_fifo(name) for name in ("idle", "stuck")}
    operators: dict[str, dict[str, object]] = {
        name: {
            "source": leaky("time.sleep(1000)" if name == "stuck" else "self.on_event = id"),
            "inputs": TICK,
            "env": {"PIPE": str(fifo.path)},
        }
        for name, fifo in fifos.items()
    }
    kernel = start_kernel(operators)
    memories = [memory_named_in(fifo) for fifo in fifos.values()]
    kernel.process.kill()
    for fifo in fifos.values():
        fifo.wait_for_end()
    # The tracker is the last to go, and has the pipe no longer.
    wait_until(lambda: not any(memory.exists() for memory in memories))


def test_a_kernel_that_an_operator_started_leaves_its_reaper_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of that operator kills the kernel, and the reaper must then kill what the kernel leaves."""
    monkeypatch.setenv(COOKIE, "of-the-outer-operator")
    reaper = orphan_reaper.OrphanReaper()
    try:
        # Until it has executed its program, it has the environment of this process.
        wait_until(lambda: len(reapers()) == 1)
        (process_id,) = reapers()
        assert COOKIE.encode() not in Path(f"/proc/{process_id}/environ").read_bytes()
    finally:
        reaper.close()


def test_a_reaper_that_cannot_be_replaced_at_first_is_replaced_later(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_reaper, "_SHORT_LIFE_SECS", 0.0)
    dataflow.cell("op", launcher("pass"), inputs=TICK, env={"PIPE": os.devnull})
    dataflow.start()
    (reaper,) = reapers()
    start, failures = orphan_reaper._start, iter(range(3))

    def start_later() -> object:
        if next(failures, None) is not None:
            raise OSError(11, "no further process now")
        return start()

    monkeypatch.setattr(orphan_reaper, "_start", start_later)
    os.kill(reaper, signal.SIGKILL)
    wait_until(lambda: reapers() not in ([reaper], []))
    dataflow.stop()
    assert reapers() == []
