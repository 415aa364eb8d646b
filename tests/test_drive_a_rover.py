"""The robot of notebooks/05_drive_a_rover.ipynb, headless: real processes, and a simulator in lockstep.

Each picture waits for the command that the picture before it led to, so the rover drives on a slow machine as it does
on a fast one. The simulator's own pose and boxes, and its model, say where the rover and the ball are.
"""

from __future__ import annotations

import ast
import hashlib
import math
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import dora_nb
from dora_nb.data.boxes import read_boxes
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.descriptor import write_dataflow
from dora_nb.descriptor.notebook_files import read_notebook
from dora_nb.events import Event

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOK = REPOSITORY / "notebooks" / "05_drive_a_rover.ipynb"
TIMEOUT_SECS = 60
SETTINGS = {"SIM_STEP": "lockstep", "SIM_STEP_SECS": "0.1", "SIM_SEED": "7", "SIM_NOISE": "1"}
TOPICS = ("rover/image", "rover/pose", "rover/boxes", "detector/box", "controller/wheels")
WORLD_XML = runpy.run_path(str(REPOSITORY / "samples" / "rover_world.py"))["WORLD_XML"]
BALL = ElementTree.fromstring(WORLD_XML).find(".//body[@name='ball']")
assert BALL is not None
BALL_X, BALL_Y, _ = map(float, BALL.attrib["pos"].split())

SAY_POSES = """\
from dora import Node

for event in Node():
    if event["type"] == "INPUT":
        print("pose", event["value"][0].as_py(), flush=True)
"""


@pytest.fixture
def leak_kinds(request: pytest.FixtureRequest, leak_kinds: tuple[str, ...]) -> tuple[str, ...]:
    """On dora-rs all but names in /dev/shm: zenoh leaves a segment there at times."""
    if "dora_rs" in request.node.name:
        return tuple(kind for kind in leak_kinds if kind != "shared memory")
    return leak_kinds


@pytest.fixture
def controllers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The notebook up to its first controller, and up to its second one, as files beside the samples."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "samples").symlink_to(REPOSITORY / "samples")
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    found = []
    for end, cell in enumerate(cells, start=1):
        if cell.source.startswith("%%dora_operator controller"):
            found.append(folder / f"{len(found) + 1}.ipynb")
            nbformat.write(nbformat.v4.new_notebook(cells=cells[:end]), found[-1])
    return found


def declare(flow: dora_nb.Dataflow, notebook: Path) -> None:
    FrontEnd(flow).declare_all(read_notebook(notebook).graph)


def next_pose(flow: dora_nb.Dataflow) -> dict[str, float]:
    event = flow.take("rover/pose", 1, TIMEOUT_SECS)[0]
    assert event["metadata"]["sim_secs"] < 60, event["value"]
    pose: dict[str, float] = event["value"][0].as_py()
    return pose


def stands_at_the_ball(pose: dict[str, float]) -> bool:
    """Whether the rover stands still in front of the place where the model has the ball, and looks there."""
    east, north = BALL_X - pose["x"], BALL_Y - pose["y"]
    aside = math.remainder(math.atan2(north, east) - pose["heading"], math.tau)
    is_near = 0.3 < math.hypot(east, north) < 0.75
    return is_near and abs(aside) < 0.1 and abs(pose["speed"]) < 0.02


def true_box(event: Event) -> NDArray[np.float32]:
    """The corners of the ball on the picture, as the simulator knows them."""
    boxes = read_boxes(event)
    (found,) = (
        box[:4] for box, label in zip(boxes.values, boxes.labels, strict=True) if label == "ball"
    )
    return found


def test_the_rover_drives_to_the_ball_and_its_new_code_pushes_the_ball(
    controllers: list[Path],
) -> None:
    first, second = controllers
    with dora_nb.Dataflow() as flow:
        declare(flow, first)
        flow.start()
        while not stands_at_the_ball(next_pose(flow)):
            pass
        flow.take("rover/pose", 20, TIMEOUT_SECS)  # it nods when it brakes
        found = flow.take("detector/box", 1, TIMEOUT_SECS)[0]["value"].to_numpy()[:4]
        true = true_box(flow.take("rover/boxes", 1, TIMEOUT_SECS)[0])
        assert found == pytest.approx(true, abs=5)  # pixels

        declare(flow, second)
        assert flow.status("controller").generation == 2
        # Where the ball was is the rover now.
        while next_pose(flow)["x"] < BALL_X:
            pass


@pytest.mark.soak
def test_two_drives_send_identical_messages(controllers: list[Path], tmp_path: Path) -> None:
    recordings = []
    for name in ("one.mcap", "two.mcap"):
        with dora_nb.Dataflow() as flow:
            declare(flow, controllers[0])
            recorder = flow.record(tmp_path / name, TOPICS)
            flow.start()
            while not stands_at_the_ball(next_pose(flow)):
                pass
            recorder.stop()
            assert recorder.status().lost == 0
        recordings.append(dora_nb.Recording(tmp_path / name))
    for topic in TOPICS:
        one, two = (digests(recording, topic) for recording in recordings)
        # Where a recording ends depends on when it was stopped.
        both = min(len(one), len(two))
        assert both > 20
        assert one[:both] == two[:both], topic


def digests(recording: dora_nb.Recording, topic: str) -> list[str]:
    """One for each message; of a command without its time stamp, which the simulator does not set."""
    found = []
    for event in recording.events(topic):
        about = dict(event["metadata"])
        if topic == "controller/wheels":
            del about["timestamp"]
        batch = pa.RecordBatch.from_arrays([event["value"]], ["value"])
        text = str(sorted(about.items())).encode()
        found.append(hashlib.sha256(text + batch.serialize().to_pybytes()).hexdigest())
    return found


@pytest.mark.soak
def test_what_the_notebook_exports_drives_to_the_ball_on_dora_rs(
    controllers: list[Path], tmp_path: Path
) -> None:
    """With one more node, which prints where the rover is. Without dora_nb: its folder is not on the path."""
    flow = dora_nb.Dataflow()
    declare(flow, controllers[0])
    flow.add_node("poses", SAY_POSES, inputs={"pose": "rover/pose"})
    robot = tmp_path / "robot"
    assert write_dataflow(flow.graph, robot).notes == ()
    dora = Path(sys.executable).with_name("dora")
    environment = {**SETTINGS, "PATH": f"{dora.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    said: list[str] = []
    with subprocess.Popen(
        [dora, "run", "dataflow.yml", "--stop-after", "300s"],  # where it never arrives
        cwd=robot,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout
        for line in run.stdout:
            said.append(line)
            pose = line.partition("poses: pose ")[2]
            if pose and stands_at_the_ball(ast.literal_eval(pose.strip())):
                break
        else:
            pytest.fail("".join(said[-40:]))
        os.kill(run.pid, signal.SIGINT)
        rest = run.stdout.read()
    assert run.returncode == 0, rest
