"""Processes of the user's own that join a dataflow as nodes: `dora_nb.Node("name")`."""

from __future__ import annotations

import gc
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dora_nb import Node
from dora_nb.engines.embedded._launch import Launched
from dora_nb.engines.embedded._spawner import Spawner
from dora_nb.errors import GraphError
from dora_nb.graph.nodes import NodeSpec
from dora_nb.protocol import control
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Kernel

TICK = {"tick": "dora/timer/millis/20"}
CAMERA = """
import pyarrow as pa

class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("image", pa.array([self.number]))
"""
READER = """
from dora import Node

for event in Node():
    value = event["value"].to_pylist() if event["type"] == "INPUT" else ""
    print(event["type"], event.get("id"), value, flush=True)
"""
PLOTTER = """
import sys
import dora_nb

node = dora_nb.Node("plotter")
print("joined", flush=True)
for event in node:
    print(event["type"], event.get("id"), flush=True)
    if event["type"] == "INPUT":
        node.send_output("out", event["value"])
        sys.stdin.readline()
print("goes on", flush=True)
"""


@pytest.fixture
def plotted(dataflow: CellDataflow) -> CellDataflow:
    """A camera, a plotter that the user starts, and a reader of what that sends."""
    dataflow.cell("camera", CAMERA, inputs=TICK, outputs=("image",))
    dataflow.add_node("plotter", path="dynamic", inputs={"image": "camera/image"}, outputs=["out"])
    dataflow.cell("reader", READER, inputs={"plot": "plotter/out"}, kind="script")
    return dataflow


@pytest.fixture
def outside() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python processes that are none of the kernel's."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str = PLOTTER) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_waits_for_a_process_and_holds_no_other_node_up(plotted: CellDataflow) -> None:
    assert in_words(plotted.start()) == "started: camera, plotter, reader"
    status = plotted.status("plotter")
    assert (status.state, status.state_text()) == (
        State.WAITING,
        "waiting (for a process to join)",
    )
    assert "plotter [waiting (for a process to join)]" in str(plotted.draw())
    assert plotted.status("reader").state is State.RUNNING
    plotted.take("camera/image", 3)
    (edge,) = plotted.status("plotter").inputs
    assert (edge.sent, edge.queued) == (0, 0)


def test_a_publisher_never_waits_for_one_that_is_not_there(
    plotted: CellDataflow, outside: Callable[..., subprocess.Popen[str]]
) -> None:
    plotted.add_node(
        "plotter",
        path="dynamic",
        inputs={"image": "camera/image"},
        queues={"image": (1, "backpressure")},
        outputs=["out"],
    )
    plotted.start()
    plotted.take("camera/image", 3)
    joined = outside()
    assert [line_of(joined), line_of(joined)] == ["joined", "INPUT image"]
    joined.kill()
    plotted.failure_of("plotter")
    plotted.take("camera/image", 3)


def test_a_process_joins_and_leaves_and_another_joins(
    plotted: CellDataflow, outside: Callable[..., subprocess.Popen[str]]
) -> None:
    plotted.start()
    plotted.latest("camera/image")
    first = outside()
    assert line_of(first) == "joined"
    assert line_of(first) == "INPUT image"
    assert plotted.until_state("plotter", State.RUNNING).generation == 1
    refused = outside("import dora_nb\ndora_nb.Node('plotter')")
    assert "another process has joined as 'plotter' already" in refused.communicate()[0]
    number = plotted.latest("plotter/out")["value"].to_pylist()[0]
    # What was sent while nobody was there has gone past: the newest are what it gets.
    assert number > 1
    first.kill()
    assert "ended without an error message" in str(plotted.failure_of("plotter"))
    second = outside()
    assert line_of(second) == "joined"
    assert plotted.until_state("plotter", State.RUNNING).generation == 2
    assert in_words(plotted.stop()) == "stopped"
    rest = second.communicate("\n" * 100)[0].splitlines()
    assert rest[-2:] == ["STOP MANUAL", "goes on"]
    assert second.returncode == 0


def test_what_it_sends_at_once_waits_for_a_reader_that_had_ended(
    plotted: CellDataflow,
    outside: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sends = """
import dora_nb

node = dora_nb.Node("plotter")
node.send_output("out", b"at once")
print("sent", flush=True)
"""
    plotted.start()
    assert line_of(outside(sends)) == "sent"
    plotted.until_state("reader", State.FINISHED)
    go_on = threading.Event()
    spawn = Spawner.spawn

    def spawn_late(self: Spawner, spec: NodeSpec) -> Launched:
        go_on.wait(TIMEOUT_SECS)
        return spawn(self, spec)

    monkeypatch.setattr(Spawner, "spawn", spawn_late)
    again = outside(sends)
    plotted.until(lambda: plotted.status("reader").generation == 2, "the reader is started")
    # Time enough to send it to nobody; it must not use that.
    select.select([again.stdout], [], [], 0.5)
    go_on.set()
    assert line_of(again) == "sent"
    plotted.until(
        lambda: sum(line.startswith("INPUT plot") for line in plotted.said_by("reader")) == 2,
        "the reader has both messages",
    )


def test_in_the_same_process_all_of_it_is_given_back(plotted: CellDataflow) -> None:
    """And the whole interface of a `Node` is there."""
    plotted.start()
    for _ in range(3):
        with Node("plotter") as node:
            assert node.node_config() == {
                "inputs": {"image": "camera/op/image"},
                "outputs": ["out"],
            }
            event = node.next(20.0)
            assert event is not None
            assert event["id"] == "image"
            with node.send_output_raw("out", 100_000) as buffer:
                buffer[:3] = b"abc"
            node.log("info", "from outside")
            kept = event["value"]
        assert node.next() is None
        with pytest.raises(RuntimeError, match="'plotter' has left its dataflow"):
            node.send_output("out", b"")
        node.close()
        del node, event
    gc.collect()
    assert kept.to_pylist()[0] > 0
    plotted.until(lambda: len(plotted.said_by("plotter", "info")) >= 3, "the third line")
    assert plotted.said_by("plotter", "info") == ["from outside"] * 3
    plotted.until_state("reader", State.FINISHED)
    plotted.stop()
    assert "INPUT_CLOSED plot " in plotted.said_by("reader")


def test_dropping_it_is_leaving(plotted: CellDataflow) -> None:
    plotted.start()
    node = Node("plotter")
    plotted.until_state("plotter", State.RUNNING)
    del node
    gc.collect()
    plotted.until_state("plotter", State.WAITING)


def test_one_that_is_stuck_is_let_go_and_never_killed(
    plotted: CellDataflow, outside: Callable[..., subprocess.Popen[str]]
) -> None:
    plotted.start()
    stuck = outside(
        "import dora_nb\nnode = dora_nb.Node('plotter')\nprint('joined', flush=True)\ninput()\nprint(node.next(), node.next())"
    )
    assert line_of(stuck) == "joined"
    assert in_words(plotted.stop(grace_secs=0.05)) == "stopped"
    assert stuck.poll() is None
    rest = stuck.communicate("\n")[0]
    assert rest.startswith("{'type': 'STOP'")
    assert rest.rstrip().endswith("None")
    assert stuck.returncode == 0


def test_the_end_of_the_kernel_is_the_end_of_its_stream(
    start_kernel: Callable[..., Kernel], outside: Callable[..., subprocess.Popen[str]]
) -> None:
    program = """
    dataflow.stop()
    dataflow.add_node("plotter", path="dynamic", inputs={"image": "camera/image"}, outputs=["out"])
    dataflow.start()
    print("open", flush=True)
    input()
    """
    camera = {"camera": {"source": CAMERA, "inputs": TICK, "outputs": ["image"]}}
    kernel = start_kernel(camera, program)
    assert kernel.line() == "open"
    plotter = outside()
    assert [line_of(plotter), line_of(plotter)] == ["joined", "INPUT image"]
    os.kill(kernel.process.pid, signal.SIGKILL)
    kernel.process.wait()
    rest = plotter.communicate("\n" * 100)[0].splitlines()
    assert rest[-2:] == ["STOP MANUAL", "goes on"]
    assert plotter.returncode == 0


def test_declaring_it_anew_shows_out_who_had_joined(plotted: CellDataflow) -> None:
    plotted.start()
    node = Node("plotter")
    declared = plotted.add_node("plotter", path="dynamic", outputs=["out", "more"])
    assert in_words(declared).startswith("plotter: ")
    events = list(node)
    assert events[-1]["type"] == "STOP"
    node.close()
    with Node("plotter") as again:
        assert again.node_config()["outputs"] == ["more", "out"]
    plotted.remove("plotter")
    with pytest.raises(RuntimeError, match="no running dataflow has a dynamic node 'plotter'"):
        Node("plotter")


def test_several_kernels_and_none(plotted: CellDataflow) -> None:
    with pytest.raises(
        RuntimeError, match=r"no kernel of yours declares any. Declare it there with"
    ):
        Node("plotter")
    plotted.start()
    with pytest.raises(RuntimeError, match=r"there are: plotter \(kernel \d+ in "):
        Node("ploter")
    with CellDataflow() as other:
        other.add_node("plotter", path="dynamic")
        other.cell("clock", CAMERA, inputs=TICK, outputs=("image",))
        other.start()
        with pytest.raises(RuntimeError, match="several kernels declare a dynamic node") as error:
            Node("plotter")
        assert len(re.findall(rf"kernel {os.getpid()} in ", str(error.value))) == 2


def test_the_door_is_open_only_where_a_dynamic_node_is_declared(dataflow: CellDataflow) -> None:
    dataflow.cell("camera", CAMERA, inputs=TICK, outputs=("image",))
    dataflow.start()
    assert join_sockets() == []
    dataflow.add_node("plotter", path="dynamic")
    assert len(join_sockets()) == 1
    dataflow.stop()
    assert join_sockets() == []


def test_strangers_and_nonsense_are_shown_out(plotted: CellDataflow) -> None:
    plotted.start()
    (join_socket,) = join_sockets()
    for said in (b"", b"nonsense", control.encode(control.Join("camera")), b"x" * 100_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guest:
            guest.settimeout(TIMEOUT_SECS)
            guest.connect(f"\0{join_socket}")
            assert control.receive_greeting(guest) is not None
            guest.send(said) if said else guest.shutdown(socket.SHUT_WR)
            if b"camera" in said:
                assert isinstance(control.receive_greeting(guest)[0], control.Refused)  # type: ignore[index]
            assert guest.recv(10) == b""
    with Node("plotter") as node:
        assert node.next(20.0) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_kernel_with_another_version_is_not_joined() -> None:
    """The process that joins has an environment of its own, and maybe another dora_nb in it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as join_socket:
        join_socket.bind(f"\0{control.join_socket_prefix(os.geteuid())}of-another-version")
        join_socket.listen()
        other = control.Offers(control.PROTOCOL_VERSION + 1, 12345, "robots", {"plotter": False})

        def greet() -> None:
            connection, _ = join_socket.accept()
            with connection:
                connection.send(control.encode(other))
                assert connection.recv(1) == b""  # It asks for nothing.

        with ThreadPoolExecutor() as pool:
            greeted = pool.submit(greet)
            said = "kernel 12345 in robots runs another version of dora_nb than this process"
            with pytest.raises(RuntimeError, match=said):
                Node("plotter")
            greeted.result(TIMEOUT_SECS)


def test_another_user_is_told_nothing(
    plotted: CellDataflow, outside: Callable[..., subprocess.Popen[str]]
) -> None:
    plotted.start()
    (join_socket,) = join_sockets()
    connect = (
        "import os, socket\n"
        "os.setuid(65534)\n"
        "guest = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"guest.connect('\\0{join_socket}')\n"
        "print('heard', guest.recv(1000))"
    )
    assert outside(connect).communicate()[0] == "heard b''\n"


def test_a_node_needs_one_code(dataflow: CellDataflow, tmp_path: Path) -> None:
    for options in ({}, {"source": READER, "path": "reader.py"}):
        with pytest.raises(GraphError, match="give source, or the path of a file"):
            dataflow.add_node("reader", **options)  # type: ignore[arg-type]
    (tmp_path / "reader.py").write_text(READER)
    assert in_words(dataflow.add_node("reader", path=tmp_path / "reader.py")) == "reader: declared"


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def join_sockets() -> list[str]:
    """The abstract sockets of this process on which nodes may join."""
    prefix = f"{control.join_socket_prefix(os.geteuid())}{os.getpid()}-"
    table = Path("/proc/net/unix").read_text()
    return re.findall(rf" @({re.escape(prefix)}\S+)", table)


FORKING = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: to fork with threads
import dora_nb

with dora_nb.Node("plotter") as node:
    pid = os.fork()
    if pid == 0:
        for event in node:
            print("copy", event["type"], flush=True)
    else:
        print("status", os.waitpid(pid, 0)[1], flush=True)
        for event in node:
            print(event["type"], event.get("id"), flush=True)
            sys.stdin.readline()
"""


def test_a_forked_copy_of_its_process_leaves_nothing_in_its_name(
    plotted: CellDataflow, outside: Callable[..., subprocess.Popen[str]]
) -> None:
    plotted.start()
    process = outside(FORKING)
    assert process.stdout is not None
    assert process.stdout.readline() == "status 0\n"
    assert process.stdout.readline() == "INPUT image\n"
    assert plotted.status("plotter").state is State.RUNNING
