"""A dataflow that another user has started with dora-rs, watched from a notebook."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from dora_nb import WatchedDataflow, attach
from dora_nb.engines.dora._program import Dora
from dora_nb.errors import DataflowStateError, EngineError, GraphError
from dora_nb.status import State

from ..waiting import wait_until
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Kernel
from .test_on_dora import CAMERA, TICK

READER = """
from dora import Node

for event in Node():
    if event["type"] != "INPUT":
        print(event["type"], event.get("id"), event.get("value"), flush=True)
    elif event["id"] == "command":
        why = event["metadata"].get("neutral")
        print("COMMAND", event["value"].to_pylist(), *filter(None, [why]), flush=True)
"""


@dataclasses.dataclass
class Robot:
    """A coordinator and a daemon with a dataflow on them, which is none of the notebook's."""

    dataflow: CellDataflow
    dora: Dora
    daemon_port: int

    @property
    def coordinator(self) -> str:
        return str(self.dora.coordinator)

    def nodes(self) -> list[str]:
        """The nodes that it has now, by dora's own account."""
        answer = self.dora.query("node", "list", what="the robot's nodes")
        return sorted(each["node"] for each in answer)

    def watched_by(self, notebook: CellDataflow, name: str | None = None) -> str:
        """What ``%dora attach`` says in that notebook."""
        attached = notebook.front_end.attach(
            name, coordinator=self.coordinator, daemon_port=self.daemon_port
        )
        return in_words(attached)

    def watched(self, name: str | None = None) -> WatchedDataflow:
        """The same from Python."""
        return attach(name, coordinator=self.coordinator, daemon_port=self.daemon_port)


@contextlib.contextmanager
def robots() -> Iterator[Robot]:
    with CellDataflow() as dataflow:
        dataflow.cell("camera", CAMERA, inputs=TICK, outputs=("image",))
        inputs = {"image": "camera/image", "command": "notebook/command"}
        dataflow.cell("reader", READER, inputs=inputs, kind="script")
        dataflow.start("dora")
        cluster = dataflow._run.session._cluster  # type: ignore[union-attr]
        with pytest.MonkeyPatch.context() as environment:
            # As a user who watches a robot has it, whose coordinator asks for a token.
            environment.setenv("DORA_AUTH_TOKEN", cluster.dora.environment["DORA_AUTH_TOKEN"])
            yield Robot(dataflow, cluster.dora, cluster.daemon_port)


@pytest.fixture
def robot() -> Iterator[Robot]:
    """One for a test that ends it."""
    with robots() as made:
        yield made


@pytest.fixture(scope="module")
def lasting_robot() -> Iterator[Robot]:
    """One for all tests that leave it as it is."""
    with robots() as made:
        yield made


@pytest.fixture
def leak_kinds(leak_kinds: tuple[str, ...], request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The daemon of a robot that outlives the test makes segments in /dev/shm when it likes."""
    lasting = "lasting_robot" in request.fixturenames
    return tuple(kind for kind in leak_kinds if kind != "shared memory" or not lasting)


def test_it_is_watched_and_left_alone(dataflow: CellDataflow, lasting_robot: Robot) -> None:
    dataflow.cell("mine", CAMERA, inputs=TICK, outputs=("image",))
    assert lasting_robot.watched_by(dataflow) == "watching notebook: camera, reader"
    assert lasting_robot.watched_by(dataflow) == lasting_robot.watched_by(dataflow, "notebook")
    assert {each.state for each in dataflow.status()} == {State.RUNNING}
    assert sorted(map(str, dataflow.graph.edges())) == [
        "camera/image → reader/image",
        "notebook/command → reader/command",
    ]
    first, second = dataflow.take("camera/image", 2)
    assert first["metadata"]["number"] < second["metadata"]["number"]
    assert len(lasting_robot.nodes()) == 4
    assert dataflow.front_end.detach()
    assert lasting_robot.nodes() == ["camera", "notebook", "reader"]
    assert {each.state for each in lasting_robot.dataflow.status()} == {State.RUNNING}
    assert list(dataflow.graph.nodes) == ["mine"]
    assert not dataflow.front_end.detach()
    assert in_words(dataflow.start()) == "started: mine"


def test_nothing_of_it_is_changed(dataflow: CellDataflow, lasting_robot: Robot) -> None:
    lasting_robot.watched_by(dataflow)
    for act in (
        dataflow.stop,
        lambda: dataflow.stop("camera"),
        dataflow.start,
        lambda: dataflow.restart("camera"),
        lambda: dataflow.remove("camera"),
        lambda: dataflow.cell("camera", CAMERA, inputs=TICK, outputs=("image",)),
        lambda: dataflow.cell("another", CAMERA, inputs=TICK, outputs=("image",)),
    ):
        with pytest.raises(DataflowStateError, match="which was started elsewhere: %dora detach"):
            act()
    assert lasting_robot.nodes() == ["camera", "notebook", "reader"]


def test_it_is_watched_from_python(lasting_robot: Robot) -> None:
    with lasting_robot.watched() as watched:
        assert repr(watched) == "<WatchedDataflow notebook (camera, reader): running>"
        assert watched.name == "notebook"
        assert watched.running
        assert list(watched.graph.nodes) == ["camera", "reader"]
        assert watched.status("camera").state is State.RUNNING
        assert str(watched.draw()).startswith("camera [running]")
        first, second = watched.take("camera/image", 2)
        assert first["metadata"]["number"] < second["metadata"]["number"]
        with watched.subscribe("camera/image") as images:
            assert next(images)["id"] == "camera/image"
        assert len(lasting_robot.nodes()) == 4
        for name in ("start", "stop", "restart", "remove", "add_operator", "retry"):
            assert not hasattr(watched, name)
    assert lasting_robot.nodes() == ["camera", "notebook", "reader"]
    assert {each.state for each in lasting_robot.dataflow.status()} == {State.RUNNING}
    assert not watched.running
    assert {each.state for each in watched.status()} == {State.DECLARED}
    with pytest.raises(DataflowStateError, match=r"it is not watched any more.*Attach to it again"):
        watched.send("notebook/command", 1)
    watched.close()


def test_its_logs_and_parameters(lasting_robot: Robot) -> None:
    """What is printed once dora's own `logs` follows, which nothing tells."""
    with lasting_robot.watched() as watched:
        deadline_secs = time.monotonic() + TIMEOUT_SECS
        number = 0
        while not any(line.stream == "stdout" for line in watched.logs("reader")):
            number += 1
            watched.params("reader")["gain"] = number
            assert time.monotonic() < deadline_secs
        printed = [line.text for line in watched.logs("reader") if line.stream == "stdout"]
        assert printed[0].startswith("PARAM_UPDATE gain")


def test_it_is_fed(lasting_robot: Robot) -> None:
    def commands() -> list[str]:
        # Parameters that another test has set are printed too.
        said = lasting_robot.dataflow.said_by("reader")
        return [line for line in said if line.startswith("COMMAND")]

    with lasting_robot.watched("notebook") as watched:
        with pytest.raises(GraphError, match="Did you mean 'notebook/command'"):
            watched.send("notebook/comand", 1)
        for number in (1, 2):
            watched.send("notebook/command", number)
        wait_until(lambda: len(commands()) == 2)
        assert commands() == ["COMMAND [1]", "COMMAND [2]"]
    assert {each.state for each in lasting_robot.dataflow.status()} == {State.RUNNING}


def test_its_end_is_seen(
    dataflow: CellDataflow, robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot.watched_by(dataflow)
    dataflow.latest("camera/image")
    robot.dataflow.stop()
    dataflow.until_state("camera", State.FINISHED)
    with pytest.raises(DataflowStateError, match="not running"):
        dataflow.latest("camera/image")
    robot.dataflow.start("dora")
    cluster = robot.dataflow._run.session._cluster  # type: ignore[union-attr]
    monkeypatch.setenv("DORA_AUTH_TOKEN", cluster.dora.environment["DORA_AUTH_TOKEN"])
    again = dataclasses.replace(robot, dora=cluster.dora, daemon_port=cluster.daemon_port)
    assert again.watched_by(dataflow) == "watching notebook: camera, reader"
    dataflow.latest("camera/image")


def test_two_notebooks_watch_one(dataflow: CellDataflow, lasting_robot: Robot) -> None:
    lasting_robot.watched_by(dataflow)
    dataflow.latest("camera/image")
    with lasting_robot.watched() as other:
        other.latest("camera/image")
        assert len(lasting_robot.nodes()) == 5
    dataflow.take("camera/image", 3)


def test_a_killed_notebook_leaves_nothing_in_it_and_ends_the_motion(
    lasting_robot: Robot, start_kernel: Callable[..., Kernel]
) -> None:
    program = f"""
    dataflow.stop()
    import dora_nb
    robot = dora_nb.attach(coordinator="{lasting_robot.coordinator}", daemon_port={lasting_robot.daemon_port})
    robot.take("camera/image", 2)
    print("watching", flush=True)
    input()
    stick = robot.controls.add("notebook/command", kind="motion", neutral=[0.0], deadman_secs=1.0)
    while True:
        stick.set([1.0])
        time.sleep(0.02)
    """
    source = "class Operator:\n    def on_event(self, e, send_output): pass\n"
    kernel = start_kernel({"own": {"source": source, "inputs": TICK}}, program)
    assert kernel.line() == "watching"
    assert len(lasting_robot.nodes()) == 4

    def last() -> str:
        lines = [line for line in lasting_robot.dataflow.said_by("reader") if "COMMAND" in line]
        return lines[-1] if lines else ""

    kernel.go_on()
    wait_until(lambda: last() == "COMMAND [1.0]")
    os.kill(kernel.process.pid, signal.SIGSTOP)
    wait_until(lambda: last() == "COMMAND [0.0] silent")
    os.kill(kernel.process.pid, signal.SIGCONT)
    wait_until(lambda: last() == "COMMAND [1.0]")
    kernel.process.kill()
    kernel.process.wait()
    # The robot lives on, so its motion is ended for it.
    wait_until(lambda: last() == "COMMAND [0.0] stopped", otherwise=last)
    deadline_secs = time.monotonic() + TIMEOUT_SECS
    while lasting_robot.nodes() != ["camera", "notebook", "reader"]:
        assert time.monotonic() < deadline_secs, lasting_robot.nodes()
    assert {each.state for each in lasting_robot.dataflow.status()} == {State.RUNNING}


def test_what_cannot_be_watched_is_told(dataflow: CellDataflow, robot: Robot) -> None:
    with pytest.raises(
        GraphError,
        match=r"no dataflow 'notebok' is running on the coordinator at .* Did you mean 'notebook'?",
    ):
        robot.watched_by(dataflow, "notebok")
    dataflow.cell("mine", CAMERA, inputs=TICK, outputs=("image",))
    dataflow.start()
    with pytest.raises(DataflowStateError, match="own dataflow runs"):
        robot.watched_by(dataflow)
    dataflow.stop()
    robot.dataflow.stop()
    for attaches in (dataflow.front_end.attach, attach):
        with pytest.raises(GraphError, match="invalid coordinator 'robot': expected HOST:PORT"):
            attaches(coordinator="robot")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(EngineError, match=f"cannot connect to coordinator at 127.0.0.1:{port}"):
            dataflow.front_end.attach(coordinator=f"127.0.0.1:{port}")
    assert list(dataflow.graph.nodes) == ["mine"]


def test_a_wrong_port_of_the_daemon_is_told(lasting_robot: Robot) -> None:
    watched = attach(coordinator=lasting_robot.coordinator, daemon_port=1)
    with watched, pytest.raises(EngineError, match=r"cannot read from camera.*Could not setup"):
        watched.take("camera/image", 1)
    assert lasting_robot.nodes() == ["camera", "notebook", "reader"]
