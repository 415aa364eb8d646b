"""An operator never outlives its kernel, however the kernel ends and whatever the operator is doing.

Each operator holds the writing end of a named pipe, and so does what it started. The pipe is at its
end when all of them are gone, and what stands in it shows who saw STOP.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dora_nb.child import _output

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo, Kernel, reapers

MakeFifo = Callable[[str], Fifo]
TICK = {"tick": "dora/timer/hz/100"}
OPERATOR = """
import os, re, signal, subprocess, sys, time
class Operator:
    def __init__(self):
        self.pipe = os.open(os.environ["PIPE"], os.O_WRONLY)
        self.entered = False
        {init}
    def say(self, word):
        os.write(self.pipe, (word + "\\n").encode())
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "STOP":
            print("parking")
            self.say("STOP")
            return
        if not self.entered:
            self.entered = True
            self.say("entered")
        {event}
"""
LIVING = {
    "idle": ("pass", "pass"),
    "busy": ("pass", "[x for x in range(300_000)]"),
    "printing": ("pass", "print('x' * 1000)"),
    "with_grandchild": ("subprocess.Popen(['sleep', '1000'], pass_fds=[self.pipe])", "pass"),
    "blocked_by_backpressure": ("pass", "send_output('out', b'')"),
    "swallowing_everything": (
        "pass",
        "\n        try: send_output('out', b'')\n        except BaseException: pass",
    ),
}
STUCK = {
    "asleep": ("pass", "time.sleep(1000)"),
    "holding_the_gil": ("pass", "re.match('(a+)+$', 'a' * 90 + 'b')"),
    "deaf_to_signals": (
        "[signal.signal(n, signal.SIG_IGN) for n in (signal.SIGHUP, signal.SIGALRM, signal.SIGTERM)]",
        "time.sleep(1000)",
    ),
    "with_stuck_grandchild": (
        "subprocess.Popen(['sh', '-c', 'trap : TERM; sleep 999; sleep 999'], pass_fds=[self.pipe])",
        "time.sleep(1000)",
    ),
}


def declared(
    kinds: dict[str, tuple[str, str]], fifos: dict[str, Fifo]
) -> dict[str, dict[str, object]]:
    """The declarations of those operators, and of one that reads nothing of what it gets."""
    operators: dict[str, dict[str, object]] = {
        name: {
            "source": OPERATOR.format(init=init, event=event),
            "inputs": TICK,
            "outputs": ["out"],
            "env": {"PIPE": str(fifos[name].path)},
        }
        for name, (init, event) in kinds.items()
    }
    for name, (_, event) in kinds.items():
        if "send_output" in event:
            operators[f"{name}_reader"] = {
                "source": "import time\nclass Operator:\n"
                "    def on_event(self, dora_event, send_output): time.sleep(1000)\n",
                "inputs": {"in": f"{name}/out"},
                "queues": {"in": [1, "backpressure"]},
            }
    return operators


def test_a_killed_kernel_takes_everybody_along(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    kinds = LIVING | STUCK
    fifos = {name: make_fifo(name) for name in kinds}
    kernel = start_kernel(declared(kinds, fifos))
    for fifo in fifos.values():
        fifo.wait_for("entered")
    kernel.process.kill()
    seen = {name: fifo.wait_for_end().split() for name, fifo in fifos.items()}
    assert {name for name, words in seen.items() if words == ["entered", "STOP"]} == set(LIVING)
    assert {name for name, words in seen.items() if words == ["entered"]} == set(STUCK)


SCRIPT = """
import asyncio, os, threading, time
from dora import Node
node = Node()
pipe = os.open(os.environ["PIPE"], os.O_WRONLY)
def heard(event):
    if event["type"] == "STOP":
        print("parking")
        os.write(pipe, b"STOP")
    return event["type"] == "STOP"
os.write(pipe, b"entered\\n")
{body}
"""
LISTENING = {
    "iterating": "for event in node: heard(event)",
    "polling": "while not heard(node.next(timeout=0.01)): pass",
    "awaiting": "async def main():\n    while not heard(await node.recv_async()): pass\nasyncio.run(main())",
    "with_a_thread": "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
    "for event in node: heard(event)",
}
DEAF = {
    "never_asking": "while True: node.send_output('out', b''); time.sleep(0.01)",
    "asleep": "time.sleep(1000)",
}


def test_a_killed_kernel_takes_scripts_along(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    fifos = {name: make_fifo(name) for name in LISTENING | DEAF}
    scripts: dict[str, dict[str, object]] = {
        name: {
            "script": True,
            "source": SCRIPT.format(body=body),
            "outputs": ["out"],
            "env": {"PIPE": str(fifos[name].path)},
        }
        for name, body in (LISTENING | DEAF).items()
    }
    kernel = start_kernel(scripts)
    for fifo in fifos.values():
        fifo.wait_for("entered")
    kernel.process.kill()
    seen = {name: fifo.wait_for_end().split() for name, fifo in fifos.items()}
    assert {name for name, words in seen.items() if words == ["entered", "STOP"]} == set(LISTENING)
    assert {name for name, words in seen.items() if words == ["entered"]} == set(DEAF)


def test_without_the_warden_nobody_stays_either(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    """It was killed before the kernel: what is stuck ends by its own alarm."""
    kinds = {name: (LIVING | STUCK)[name] for name in ("idle", "asleep", "holding_the_gil")}
    fifos = {name: make_fifo(name) for name in kinds}
    find = "[print(task.read_text(), flush=True) for task in pathlib.Path('/proc/self/task').glob('*/children')]"
    kernel = start_kernel(
        declared(kinds, fifos), f"import pathlib\n{find}\nprint('.', flush=True)\ninput()"
    )
    for fifo in fifos.values():
        fifo.wait_for("entered")
    for pid in " ".join(iter(kernel.line, ".")).split():
        if b"orphan_reaper_program.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    kernel.process.kill()
    assert fifos["idle"].wait_for_end().split() == ["entered", "STOP"]
    for name in ("asleep", "holding_the_gil"):
        assert fifos[name].wait_for_end().split() == ["entered"]


def test_a_print_that_nobody_reads_fails_nobody() -> None:
    """The kernel's end of the pipe may be gone before the operator sees that its kernel is."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        stream = _output._unbroken(pipe)
        print("read", file=stream)
        assert os.read(read, 100) == b"read\n"
        os.close(read)
        for _ in range(2):
            print("lost", file=stream)
        assert os.path.samestat(os.fstat(write), Path(os.devnull).stat())


FORKS = {
    "os.fork": "pid = os.fork()\nif pid == 0: time.sleep(1000)\n",
    "multiprocessing": (
        "import multiprocessing\n"
        "forked = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,))\n"
        "forked.start()\npid = forked.pid\n"
    ),
}


@pytest.mark.parametrize("way", FORKS)
def test_a_process_forked_from_the_kernel_keeps_nobody_alive(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo, way: str
) -> None:
    """It has copies of all that the kernel had open; that it has them must not matter."""
    kinds = {name: (LIVING | STUCK)[name] for name in ("printing", "holding_the_gil")}
    fifos = {name: make_fifo(name) for name in kinds}
    kernel = start_kernel(declared(kinds, fifos), FORKS[way] + "print(pid, flush=True)\ninput()")
    forked = os.pidfd_open(int(kernel.line()))
    try:
        for fifo in fifos.values():
            fifo.wait_for("entered")
        kernel.process.kill()
        assert fifos["printing"].wait_for_end().split() == ["entered", "STOP"]
        assert fifos["holding_the_gil"].wait_for_end().split() == ["entered"]
        signal.pidfd_send_signal(forked, 0)  # All the while it lived.
    finally:
        signal.pidfd_send_signal(forked, signal.SIGKILL)
        os.close(forked)


def test_a_forked_process_may_end_and_disturbs_nothing(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    """Its exit runs the same handlers as the kernel's, and finds the same dataflow."""
    fifos = {"sending": make_fifo("sending")}
    kernel = start_kernel(
        declared({"sending": ("pass", "send_output('out', b'')")}, fifos)
        | {"sending_reader": {"source": "class Operator:\n    def on_event(self, e, s): pass\n"}},
        """
        pid = os.fork()
        if pid == 0:
            print(dataflow.running, dataflow.stop().already_stopped, flush=True)
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        print(status, len(dataflow.take("sending/out", 3)), dataflow.status()[0].state.value)
        """,
    )
    assert kernel.line() == "False True"
    assert kernel.line() == "0 3 running"
    assert kernel.process.wait(TIMEOUT_SECS) == 0
    assert fifos["sending"].wait_for_end().split() == ["entered", "STOP"]


@pytest.mark.parametrize(
    ("program", "status"), [("pass", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1)]
)
def test_a_kernel_that_ends_in_order_stops_its_operators(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo, program: str, status: int
) -> None:
    kinds = {"with_grandchild": LIVING["with_grandchild"]}
    fifo = make_fifo("with_grandchild")
    kernel = start_kernel(
        declared(kinds, {"with_grandchild": fifo}),
        f"sys.stderr = open(os.devnull, 'w')\ninput()\n{program}",
    )
    fifo.wait_for("entered")
    kernel.go_on()
    assert kernel.process.wait(TIMEOUT_SECS) == status
    assert fifo.wait_for_end().split() == ["entered", "STOP"]


def test_an_interrupt_of_the_kernels_group_reaches_no_operator(
    start_kernel: Callable[..., Kernel], make_fifo: MakeFifo
) -> None:
    fifo = make_fifo("idle")
    kernel = start_kernel(
        declared({"idle": LIVING["idle"]}, {"idle": fifo}),
        """
        try:
            print("waiting", flush=True)
            time.sleep(1000)
        except KeyboardInterrupt:
            status, = dataflow.status()
            stopped = dataflow.stop()
            print(
                status.state.value, status.generation, status.error, stopped.names, flush=True
            )
        """,
    )
    assert kernel.line() == "waiting"
    fifo.wait_for("entered")
    os.killpg(kernel.process.pid, signal.SIGINT)
    assert kernel.line() == "running 1 None ('idle',)"
    assert fifo.wait_for_end().split() == ["entered", "STOP"]


def test_a_thread_that_started_the_dataflow_may_end(dataflow: CellDataflow) -> None:
    """The signal at the death of the parent follows the thread that made the process."""
    body = "class Operator:\n    def on_event(self, e, send_output): send_output('out', b'')\n"
    dataflow.cell("op", body, inputs=TICK, outputs=("out",))
    for change in (dataflow.start, lambda: dataflow.restart("op")):
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
        assert len(dataflow.take("op/out", 5)) == 5
    assert dataflow.status("op").error is None


def test_what_an_operator_left_behind_ends_with_it(
    dataflow: CellDataflow, make_fifo: MakeFifo
) -> None:
    fifo = make_fifo("left")
    body = OPERATOR.format(init=STUCK["with_stuck_grandchild"][0], event="os._exit(0)")
    dataflow.cell("op", body, inputs=TICK, env={"PIPE": str(fifo.path)})
    dataflow.start()
    dataflow.failure_of("op")
    assert fifo.wait_for_end().split() == ["entered"]


def test_a_killed_warden_is_replaced(dataflow: CellDataflow) -> None:
    """A user kills it: the next operator that starts brings another one."""
    body = "class Operator:\n    def on_event(self, e, send_output): pass\n"
    dataflow.cell("op", body, inputs=TICK)
    dataflow.start()
    (reaper,) = reapers()
    with os.fdopen(os.pidfd_open(reaper)) as ended:
        os.kill(reaper, signal.SIGKILL)
        select.select([ended], [], [])  # Not waitid: the kernel may have waited for it already.
    assert in_words(dataflow.restart("op")).startswith("op: generation 2")
    (replaced,) = reapers()
    assert replaced != reaper
    assert in_words(dataflow.stop()) == "stopped"
    assert reapers() == []
