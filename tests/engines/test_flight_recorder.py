"""The last seconds of real dataflows: kept in memory, saved after a crash, bounded."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dora_nb import Recording
from dora_nb.errors import DataflowStateError, GraphError, RecordingError
from dora_nb.magics._record import kept_text
from dora_nb.status import State

from ..waiting import wait_until
from .conftest import CellDataflow

CAMERA = """
import numpy as np

class Operator:
    number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            image = np.full((48, 64, 3), self.number % 256, np.uint8)
            metadata = {"width": 64, "height": 48, "encoding": "bgr8", "number": self.number}
            send_output("image", image.ravel(), metadata)
"""
DETECTOR = """
import pyarrow as pa

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            number = dora_event["metadata"]["number"]
            send_output("seen", pa.array([number]))
            if number == 30:
                raise ValueError("too much")
"""


@pytest.fixture
def robot(dataflow: CellDataflow) -> CellDataflow:
    """A camera, and a detector that fails at its 30th picture."""
    dataflow.cell("camera", CAMERA, inputs={"tick": "dora/timer/millis/10"}, outputs=("image",))
    dataflow.cell("detector", DETECTOR, inputs={"image": "camera/image"}, outputs=("seen",))
    return dataflow


def test_what_happened_before_a_crash(robot: CellDataflow, tmp_path: Path) -> None:
    robot.keep(30)
    robot.start()
    error = robot.failure_of("detector")
    assert "too much" in error.message
    assert str(error.hint).endswith("Save the last 30 s with dataflow.save('FILE.mcap').")
    path = tmp_path / "what_happened.mcap"
    saved = robot.save(path)
    recording = Recording(path)
    assert recording.notes == ()
    messages = list(recording.messages())
    assert (saved.error, saved.messages) == (None, len(messages))
    assert saved.size_bytes == path.stat().st_size
    seen = [each.value[0].as_py() for each in recording.messages("detector/seen")]
    assert seen == list(range(1, 31))
    pictures = list(recording.messages("camera/image"))
    assert [each.metadata["number"] for each in pictures] == list(range(1, len(pictures) + 1))
    # As JPEG in memory, and as the array that was sent here.
    assert len(pictures[0].value) == 64 * 48 * 3
    assert abs(pictures[9].value[0].as_py() - 10) <= 3
    assert path.stat().st_size < 64 * 48 * 3 * len(pictures) / 2
    assert {(each.node, each.generation) for each in recording.cells()} == {
        ("camera", 1),
        ("detector", 1),
    }
    # The camera goes on, and so does the keeping.
    with pytest.raises(RecordingError, match=r"what_happened.mcap already exists"):
        robot.save(path)
    assert robot.save(path, overwrite=True).messages >= saved.messages
    robot.stop()
    with pytest.raises(
        DataflowStateError, match="nothing is kept now: the dataflow is not running"
    ):
        robot.save(tmp_path / "late.mcap")
    robot.start()
    robot.until_state("camera", State.RUNNING)
    robot.keep(None)
    assert robot.service_status() == []
    with pytest.raises(
        DataflowStateError, match=r"nothing is kept that could be saved: dataflow.keep\(30\)"
    ):
        robot.save(tmp_path / "off.mcap")


def test_seconds_and_bytes_bound_it(robot: CellDataflow, tmp_path: Path) -> None:
    robot.start()
    robot.keep(0.2, ["camera/image"])
    robot.until_state("detector", State.FAILED)
    events = robot.status("camera").events
    wait_until(lambda: robot.status("camera").events > events + 50)
    path = tmp_path / "last.mcap"
    saved = robot.save(path)
    assert 0 < saved.secs <= 0.2
    recording = Recording(path)
    assert recording.topics == ("camera/image",)
    numbers = [each.metadata["number"] for each in recording.messages()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    # Beside a recording, each has a process of its own.
    with robot.record(tmp_path / "run.mcap"):
        names = [each.name for each in robot.service_status()]
    assert names == ["flight recorder", "recorder"]


def test_a_flight_recorder_that_is_killed_keeps_anew(robot: CellDataflow, tmp_path: Path) -> None:
    robot.keep(30, ["camera/image"])
    robot.start()
    (status,) = robot.service_status()
    assert status.process_id is not None
    os.kill(status.process_id, signal.SIGKILL)

    def is_back() -> bool:
        (now,) = robot.service_status()
        return (now.generation, now.state) == (2, State.RUNNING)

    wait_until(is_back)
    kept = robot.kept
    assert kept is not None
    assert kept.restarts == 1
    assert kept_text(kept).splitlines()[1] == (
        "  its process ended by itself once: what it held until then is lost"
    )
    events = robot.status("camera").events
    wait_until(lambda: robot.status("camera").events > events + 10)
    assert robot.save(tmp_path / "last.mcap").messages > 0
    assert robot.status("camera").generation == 1


@pytest.mark.parametrize(
    ("secs", "topics", "limit_bytes", "error"),
    [
        (0, None, 10**8, r"secs must be above 0 and at most 3600, got 0"),
        (float("nan"), None, 10**8, r"secs must be above 0 and at most 3600, got nan"),
        (5, None, 1000, r"limit_bytes must be >= 1000000 \(1 MB\), got 1000"),
        (5, ["camera/imaeg"], 10**8, r"no topic 'camera/imaeg'. Did you mean 'camera/image'"),
    ],
)
def test_bad_input_of_keep(
    robot: CellDataflow, secs: float, topics: list[str] | None, limit_bytes: int, error: str
) -> None:
    with pytest.raises(GraphError, match=error):
        robot.keep(secs, topics, limit_bytes=limit_bytes)
