"""A recording stands in for the sources of real dataflows: `Dataflow.replay`, with a player of its own process."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.dataflow.replaying import Replay
from dora_nb.engines.embedded import Session
from dora_nb.errors import DataflowStateError, EngineError, GraphError, OperatorError
from dora_nb.graph.sources import PLAYER
from dora_nb.recording.writer import RecordingWriter
from dora_nb.status import State

from ..waiting import wait_until
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo, Kernel

START = 1_700_000_000 * 10**9
CAMERA = """
from pathlib import Path

class Operator:
    def __init__(self):
        with open({opened!r}, "a") as file:
            print("opened", file=file)
    def on_event(self, dora_event, send_output):
        import pyarrow as pa
        if dora_event["type"] == "INPUT":
            send_output("image", pa.array([-1]))
"""
KEEP = """
class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, dora_event, send_output):
        import pyarrow as pa
        if dora_event["type"] == "INPUT":
            self.number += 1
            print(dora_event["value"][0].as_py(), flush=True)
            send_output("seen", pa.array([self.number, dora_event["value"][0].as_py()]))
        elif dora_event["type"] == "INPUT_CLOSED":
            print("closed", dora_event["id"], flush=True)
"""


def record(path: Path, messages: Iterable[tuple[float, str, Any]], **metadata: Any) -> Path:
    """Writes a recording: seconds, topic and value of each message."""
    writer = RecordingWriter(path, overwrite=True)
    for secs, topic, value in messages:
        nanos = START + round(secs * 1e9)
        stamp = datetime.datetime.fromtimestamp(nanos / 1e9, datetime.UTC)
        about = {"timestamp": stamp, **metadata}
        array = value if isinstance(value, pa.Array) else pa.array([value])
        writer.write(topic, array, about, publish_nanos=nanos, log_nanos=nanos + 1000)
    writer.close()
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """20 pictures within 0.2 s."""
    return record(tmp_path / "film.mcap", [(at / 100, "camera/image", at) for at in range(20)])


@pytest.fixture
def long_film(tmp_path: Path) -> Path:
    """A picture every 100 s: at most one comes by itself in a test."""
    return record(tmp_path / "long.mcap", [(at * 100, "camera/image", at) for at in range(10)])


ROOM = {"image": (100, "drop_oldest")}
"""For a whole film, however late its reader is."""


class Robot:
    """A camera that says when it is opened, and a detector."""

    def __init__(self, dataflow: CellDataflow, folder: Path) -> None:
        self.dataflow = dataflow
        self._opened = folder / "opened"
        camera = CAMERA.format(opened=str(self._opened))
        dataflow.cell("camera", camera, inputs={"tick": "dora/timer/hz/50"}, outputs=("image",))
        dataflow.cell(
            "detector", KEEP, inputs={"image": "camera/image"}, outputs=("seen",), queues=ROOM
        )

    @property
    def times_opened(self) -> int:
        return self._opened.read_text().count("opened") if self._opened.exists() else 0

    def seen(self) -> list[int]:
        """What the detector has printed of pictures, live ones left out."""
        lines = self.dataflow.said_by("detector")
        return [int(line) for line in lines if line.isdecimal()]


@pytest.fixture
def robot(dataflow: CellDataflow, tmp_path: Path) -> Robot:
    return Robot(dataflow, tmp_path)


def player_pid(dataflow: CellDataflow) -> int:
    session = dataflow._run.session
    assert session is not None
    players = [each for each in session.service_statuses() if each.name == "player"]
    assert players[0].process_id is not None
    return players[0].process_id


def test_a_dataflow_that_does_not_run_is_started_without_its_sources(
    robot: Robot, film: Path
) -> None:
    flow = robot.dataflow
    with flow.replay(film) as replay:
        camera = flow.status("camera")
        assert (camera.state, camera.state_text()) == (State.REPLAYED, "replayed from film.mcap")
        assert replay.topics == ("camera/image",)
        assert replay.plan.replaced == ("camera",)
        assert replay.wait(TIMEOUT_SECS)
        flow.until_state("detector", State.FINISHED)
    assert robot.seen() == list(range(20))
    assert flow.said_by("detector")[-1] == "closed image"
    assert robot.times_opened == 0
    assert (replay.state, replay.sent, replay.error) == ("ended", 20, "")
    assert not flow.running
    with pytest.raises(DataflowStateError, match=r"the replay of film\.mcap has ended"):
        replay.pause()


def test_what_ran_before_comes_back_and_its_readers_see_no_end(robot: Robot, film: Path) -> None:
    flow = robot.dataflow
    flow.start()
    flow.take("detector/seen", 1)
    replay = flow.replay(film)
    assert flow.status("camera").state is State.REPLAYED
    assert replay.wait(TIMEOUT_SECS)
    flow.until_state("camera", State.RUNNING)
    flow.until(lambda: flow.status("camera").generation == 2, "the camera's second generation")
    live = flow.take("detector/seen", 1)[0]

    assert live["value"][1].as_py() == -1, "the camera is read again"
    assert robot.seen() == list(range(20))
    assert "closed image" not in flow.said_by("detector")
    assert flow.status("detector").generation == 1
    assert robot.times_opened == 2


def test_downstream_is_edited_and_the_replaced_cell_waits(robot: Robot, long_film: Path) -> None:
    flow = robot.dataflow
    with flow.replay(long_film) as replay:
        edited = flow.cell(
            "detector",
            KEEP.replace("self.number += 1", "self.number += 10"),
            inputs={"image": "camera/image"},
            outputs=("seen",),
        )
        assert edited.way == "in_place"
        number = flow.latest("detector/seen")["value"][0].as_py()
        replay.step()
        wait_until(lambda: flow.latest("detector/seen")["value"][0].as_py() == number + 10)

        camera = CAMERA.format(opened=str(robot._opened)) + "\nx = 1"
        declared = flow.cell(
            "camera", camera, inputs={"tick": "dora/timer/hz/50"}, outputs=("image",)
        )
        assert (declared.way, declared.replayed_from) == ("declared", "long.mcap")
        with pytest.raises(DataflowStateError) as refused:
            flow.restart("camera")
        assert str(refused.value) == (
            "camera cannot be restarted: it is replayed from long.mcap. replay.stop() ends that."
        )
        with pytest.raises(DataflowStateError, match=r"'camera/image' is replayed from long\.mcap"):
            flow.send("camera/image", 1)
        assert robot.times_opened == 0
    # Its cell was run meanwhile: that means that it shall run.
    flow.until_state("camera", State.RUNNING)


def test_nodes_that_are_not_declared_exist_meanwhile(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    path = record(
        tmp_path / "lidar.mcap",
        [(at * 100, topic, at) for at in range(4) for topic in ("lidar/points", "imu/accel")],
    )
    with dataflow.replay(path) as replay:
        assert dataflow.running
        assert {each.topic for each in dataflow.topics()} == {"lidar/points", "imu/accel"}
        assert dataflow.status("lidar").state_text() == "replayed from lidar.mcap"
        assert "lidar" in str(dataflow.draw())
        wait_until(lambda: replay.sent == 2)
        with dataflow.subscribe("lidar/points") as points:
            replay.step(2)
            assert next(points)["value"].to_pylist() == [1]
        reader = dataflow.cell("reader", KEEP, inputs={"in": "lidar/points"}, outputs=("seen",))
        assert reader.waiting_for == {}
        replay.step(2)
        wait_until(lambda: dataflow.said_by("reader") == ["2"])
        with pytest.raises(GraphError, match="no operator 'lidar' is declared"):
            dataflow.remove("lidar")
        assert "id: lidar" not in dataflow.to_yaml()
    assert list(dataflow.graph.nodes) == ["reader"]
    dataflow.until_state("reader", State.FINISHED)
    assert dataflow.said_by("reader")[-1] == "closed in"


def test_pause_step_and_seek(robot: Robot, long_film: Path) -> None:
    flow = robot.dataflow
    with flow.replay(long_film) as replay:
        wait_until(lambda: robot.seen() == [0])
        replay.pause()
        assert replay.state == "paused"
        replay.step(2)
        wait_until(lambda: robot.seen() == [0, 1, 2])
        assert (round(replay.position_secs, 3), replay.last_topic) == (200.0, "camera/image")
        assert replay.seek(800.0) == ()
        replay.step()
        wait_until(lambda: robot.seen() == [0, 1, 2, 8])

        assert replay.seek(300.0) == ("detector",), "what it has learned lies in the future"
        assert flow.status("detector").generation == 2
        assert replay.state == "paused"
        replay.step()
        wait_until(lambda: robot.seen()[-1] == 3)
        assert flow.latest("detector/seen")["value"].to_pylist() == [1, 3]

        for wrong, text in ((1000, "beyond the end"), (-1, "must be >= 0"), ("x", "must be >= 0")):
            with pytest.raises(GraphError, match=text):
                replay.seek(wrong)  # type: ignore[arg-type]
        with pytest.raises(GraphError, match="count must be a whole number >= 1, got 0"):
            replay.step(0)
        replay.seek(899.9)
        replay.resume()
        assert replay.wait(TIMEOUT_SECS)
    assert robot.seen()[-1] == 9


def test_as_fast_as_possible_loses_nothing(dataflow: CellDataflow, tmp_path: Path) -> None:
    # More than a socket holds: what waits lies in the player's memory too.
    path = record(tmp_path / "fast.mcap", [(at, "camera/image", at) for at in range(1500)])
    keep = KEEP.replace("print(", "self.seen = (").replace(", flush=True", "")
    reads: dict[str, Any] = {"inputs": {"image": "camera/image"}, "outputs": ("seen",)}
    dataflow.cell("quick", keep, queues={"image": (1, "drop_oldest")}, **reads)
    slow = keep.replace("self.number += 1", "self.number += 1; import time; time.sleep(0.0005)")
    dataflow.cell("slow", slow, queues={"image": (2, "drop_oldest")}, **reads)
    dataflow.cell(
        "behind",
        KEEP.replace("def on_event", "import time\n    def on_event").replace(
            "self.number += 1", "self.number += 1; self.time.sleep(0.05)"
        ),
        inputs={"in": "quick/seen"},
        outputs=("seen",),
        queues={"in": (1, "drop_oldest")},
    )
    replay = dataflow.replay(path, speed="max")
    assert replay.wait(60)
    for name in ("quick", "slow"):
        edge = dataflow.status(name).inputs[0]
        assert (edge.sent, edge.received, edge.dropped) == (1500, 1500, 0)
        assert edge.policy == "backpressure"
    # Only what leaves the player waits for its readers.
    assert dataflow.status("behind").inputs[0].policy == "drop_oldest"
    assert dataflow.status("behind").dropped > 0


def test_a_loop_goes_on_until_it_is_stopped(robot: Robot, film: Path) -> None:
    flow = robot.dataflow
    replay = flow.replay(film, loop=True, speed=4, start=0.05, stop=0.1)
    wait_until(lambda: len(robot.seen()) >= 12)
    replay.stop()
    replay.stop()

    assert set(robot.seen()) == {5, 6, 7, 8, 9}
    assert replay.state == "stopped"
    flow.until_state("detector", State.FINISHED)
    with pytest.raises(DataflowStateError, match=r"the replay of film\.mcap was stopped"):
        replay.step()


def test_a_replay_that_is_started_again_opens_no_camera(
    robot: Robot, film: Path, long_film: Path
) -> None:
    flow = robot.dataflow
    flow.start()
    first = flow.replay(long_film)
    second = flow.replay(film, loop=True)

    assert (first.state, second.state) == ("stopped", "playing")
    assert flow.status("camera").state_text() == "replayed from film.mcap"
    assert robot.times_opened == 1
    wait_until(lambda: 19 in robot.seen())
    second.stop()
    flow.until_state("camera", State.RUNNING)
    assert robot.times_opened == 2


def test_a_stop_of_the_dataflow_ends_the_replay(robot: Robot, long_film: Path) -> None:
    flow = robot.dataflow
    flow.start()
    replay = flow.replay(long_film)
    flow.stop()

    assert replay.state == "stopped"
    assert replay.wait(0)
    assert flow.status("camera").state is State.STOPPED
    replay.stop()
    flow.start()
    assert flow.take("detector/seen", 1)[0]["value"][1].as_py() == -1


def test_start_after_a_replay_starts_the_sources(robot: Robot, film: Path) -> None:
    flow = robot.dataflow
    # It reads a timer too, so it goes on after the replay.
    flow.cell("clock", KEEP, inputs={"tick": "dora/timer/hz/1", "image": "camera/image"})
    assert flow.replay(film, speed="max").wait(TIMEOUT_SECS)
    assert flow.status("camera").state is State.DECLARED
    started = flow.start()

    assert not started.already_running
    assert flow.status("camera").state is State.RUNNING
    assert flow.take("detector/seen", 1)[0]["value"][1].as_py() == -1


def test_topics_of_the_notebook_come_from_the_file_and_return(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    path = record(
        tmp_path / "run.mcap",
        [
            (at * 100, f"notebook/{name}", at)
            for at in range(9)  # More than the steps below: after its last message a replay ends.
            for name in ("speed", "estop", "go")
        ],
    )
    speed = dataflow.controls.add("notebook/speed", value=70)
    stop = dataflow.controls.add("notebook/estop", value=71)
    stop.stays_live = True
    inputs = {"speed": "notebook/speed", "estop": "notebook/estop", "go": "notebook/go"}
    code = KEEP.replace("print(", "print(dora_event['id'], ", 1)
    dataflow.cell("robot", code, inputs=inputs, outputs=("seen",))
    with dataflow.replay(path) as replay:
        assert set(replay.topics) == {"notebook/speed", "notebook/go"}
        assert replay.plan.notes == (
            "notebook/estop: not replayed, the EStop of the page keeps notebook/estop",
        )
        stop.set(72)
        wait_until(lambda: "estop 72" in dataflow.said_by("robot"))
        replay.step(4)
        wait_until(lambda: "speed 1" in dataflow.said_by("robot"))
        speed.set(73)
        with pytest.raises(DataflowStateError, match=r"'notebook/go' is replayed from run\.mcap"):
            dataflow.send("notebook/go", 1)
        assert [line for line in dataflow.said_by("robot") if line.startswith("speed 7")] == []
    wait_until(lambda: "speed 73" in dataflow.said_by("robot"))
    dataflow.send("notebook/go", 74)
    wait_until(lambda: "go 74" in dataflow.said_by("robot"))


def test_a_failed_start_holds_the_replay_until_it_is_corrected(robot: Robot, film: Path) -> None:
    flow = robot.dataflow
    wires: dict[str, Any] = {
        "inputs": {"image": "camera/image"}, "outputs": ("seen",), "queues": ROOM
    }  # fmt: skip
    flow.cell("detector", KEEP.replace("self.number = 0", "1 / 0"), **wires)
    with pytest.raises(OperatorError, match="division by zero"):
        flow.replay(film)
    replay = flow._run.replay
    assert replay is not None
    flow.cell("detector", KEEP, **wires)
    assert replay.wait(TIMEOUT_SECS)
    assert robot.seen() == list(range(20))


def test_a_player_that_is_killed_is_one_line_and_the_camera_comes_back(
    robot: Robot, long_film: Path
) -> None:
    flow = robot.dataflow
    flow.start()
    # So slowly that it is at its beginning, however long the next line takes.
    replay = flow.replay(long_film, speed=0.001)
    os.kill(player_pid(flow), signal.SIGKILL)
    with pytest.raises(EngineError) as caught:
        replay.wait(TIMEOUT_SECS)

    assert str(caught.value) == replay.error
    assert replay.error.startswith("the replay of long.mcap has ended at 0.0 s: ")
    assert "its process was killed by SIGKILL" in replay.error
    assert "\n" not in replay.error
    assert replay.state == "failed"
    flow.until_state("camera", State.RUNNING)
    assert flow.take("detector/seen", 1)[0]["value"][1].as_py() == -1
    assert "closed image" not in flow.said_by("detector")
    # And it can be replayed again.
    with flow.replay(long_film) as again:
        again.step()


def test_what_cannot_be_read_is_left_out_and_told(robot: Robot, film: Path) -> None:
    data = bytearray(film.read_bytes())
    at = data.index(b"camera/image", 0)
    first_chunk = data.index(b"lz4", at) if b"lz4" in data else at + 400
    data[first_chunk + 200 : first_chunk + 260] = b"x" * 60
    film.write_bytes(data)
    flow = robot.dataflow
    replay = flow.replay(film, speed="max")
    assert replay.wait(TIMEOUT_SECS)
    assert replay.notes
    assert all(line.startswith("film.mcap: ") and "\n" not in line for line in replay.notes)
    assert replay.sent < 20


def test_a_kernel_that_is_killed_leaves_nothing(
    make_fifo: Any, start_kernel: Any, long_film: Path, tmp_path: Path
) -> None:
    alive: Fifo = make_fifo("alive")
    # Only the player has this variable's file open: its processes inherit no other descriptor.
    program = f"""
    import os
    replay = dataflow.replay({str(long_film)!r})
    pids = [each.process_id for each in dataflow._run.session.service_statuses()]
    print(*pids, flush=True)
    input()
    """
    code = f"out = open({str(alive.path)!r}, 'w')\n" + KEEP
    operators = {
        "detector": {"source": code, "inputs": {"image": "camera/image"}, "outputs": ["seen"]}
    }
    kernel: Kernel = start_kernel(operators, program)
    pid = int(kernel.line())
    os.kill(kernel.process.pid, signal.SIGKILL)
    alive.wait_for_end()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_the_session_of_a_player_is_the_embedded_one(robot: Robot, film: Path) -> None:
    flow = robot.dataflow
    replay: Replay = flow.replay(film, loop=True)
    session = flow._run.session
    assert isinstance(session, Session)
    (player,) = session.service_statuses()
    assert player.name == "player"
    assert player.stands_in_for == replay.topics
    assert player.reads_text() == f"{len(replay.topics)} topic{'s' * (len(replay.topics) > 1)}"
    assert PLAYER not in flow.graph.nodes
    replay.stop()
    assert session.service_statuses() == []


def test_on_dora_topics_of_the_notebook_are_replayed_forward(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    path = record(
        tmp_path / "run.mcap",
        [(at * 100, topic, at) for at in range(5) for topic in ("camera/image", "notebook/go")],
    )
    dataflow.cell("robot", KEEP, inputs={"go": "notebook/go"}, outputs=("seen",))
    dataflow.start("dora")
    with pytest.raises(DataflowStateError) as refused:
        dataflow.replay(path)
    assert str(refused.value) == (
        "on dora-rs, only topics notebook/NAME that an input reads can be replayed, not camera/image: "
        "choose with only=[TOPIC], or give it another topic with "
        "rename={'camera/image': 'notebook/NAME'}."
    )
    assert dataflow._run.replay is None
    replay = dataflow.replay(path, only=["notebook/go"])
    wait_until(lambda: replay.sent == 1)
    replay.pause()
    replay.step(2)
    wait_until(lambda: dataflow.said_by("robot") == ["0", "1", "2"])
    with pytest.raises(DataflowStateError, match="a replay cannot go back on dora-rs"):
        replay.seek(0)
    replay.seek(400)
    replay.resume()
    assert replay.wait(TIMEOUT_SECS)
    wait_until(lambda: dataflow.said_by("robot") == ["0", "1", "2", "4"])
    # The topic is the notebook's again.
    dataflow.send("notebook/go", 7)
    wait_until(lambda: dataflow.said_by("robot")[-1] == "7")


def test_a_replayed_joystick_ends_in_neutral(dataflow: CellDataflow, tmp_path: Path) -> None:
    path = record(
        tmp_path / "drive.mcap", [(at * 100, "notebook/stick", at + 0.5) for at in range(4)]
    )
    dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0])
    dataflow.cell("wheels", KEEP, inputs={"stick": "notebook/stick"}, outputs=("seen",))
    dataflow.start()
    # Else a robot would drive on with the last command of a replay that pauses, or was stopped or killed.
    with dataflow.replay(path) as replay:
        wait_until(lambda: dataflow.said_by("wheels")[-1:] == ["0.5"])
        replay.pause()
        wait_until(lambda: dataflow.said_by("wheels")[-2:] == ["0.5", "0.0"])
        replay.step()
        wait_until(lambda: dataflow.said_by("wheels")[-2:] == ["1.5", "0.0"])
        replay.seek(200)
        replay.resume()
        wait_until(lambda: dataflow.said_by("wheels")[-1] == "2.5")
    wait_until(lambda: dataflow.said_by("wheels")[-2:] == ["2.5", "0.0"])
    replay = dataflow.replay(path)
    wait_until(lambda: dataflow.said_by("wheels")[-1] == "0.5")
    os.kill(player_pid(dataflow), signal.SIGKILL)
    wait_until(lambda: dataflow.said_by("wheels")[-2:] == ["0.5", "0.0"])
    wait_until(lambda: replay.over)
