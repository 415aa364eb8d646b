"""``%dora replay`` in a real shell, with a real dataflow and recording."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.recording.writer import RecordingWriter

from ..waiting import wait_until
from .conftest import Notebook

CAMERA = "\nclass Operator:\n    def on_event(self, dora_event, send_output): pass\n"
DETECTOR = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            print(dora_event["value"][0].as_py(), flush=True)
"""
START = 1_700_000_000 * 10**9


@pytest.fixture
def dataflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataflow]:
    """A real one, where other tests of magics have a fake."""
    with Dataflow() as flow:
        front_end = FrontEnd(flow)
        monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: front_end)
        monkeypatch.setattr("dora_nb.dataflow.dataflow.get_dataflow", lambda: flow)
        yield flow


@pytest.fixture
def robot(notebook: Notebook) -> Notebook:
    """A camera and a detector, and a recording of a picture each 100 s."""
    writer = RecordingWriter(Path("run.mcap"))
    for at in range(5):
        nanos = START + at * 100 * 10**9
        stamp = datetime.datetime.fromtimestamp(nanos / 1e9, datetime.UTC)
        for topic in ("camera/image", "notebook/go"):
            writer.write(
                topic, pa.array([at]), {"timestamp": stamp}, publish_nanos=nanos, log_nanos=nanos
            )
    writer.close()
    notebook.run("%%dora_operator camera --outputs image depth" + CAMERA)
    notebook.run("%%dora_operator detector --inputs image=camera/image" + DETECTOR)
    return notebook


def last_line(ran: Any) -> str:
    assert ran.error is None, ran
    return str(ran.stdout.splitlines()[-1])


def test_a_replay_from_the_start_to_the_stop(robot: Notebook, dataflow: Dataflow) -> None:
    assert robot.run("%dora replay").stdout == "nothing is replayed\n"
    assert "nothing is replayed: start a replay with" in robot.refused("%dora replay pause")
    ran = robot.run("%dora replay run.mcap")
    assert ran.texts == ["run.mcap: replaying camera/image, notebook/go"]
    assert ran.stdout == "camera/depth: silent meanwhile, since camera does not run\n"

    replay = dataflow._run.replay
    assert replay is not None
    wait_until(lambda: replay.sent == 2)
    robot.run("%dora replay pause")
    assert last_line(robot.run("%dora replay step 2")) == (
        "run.mcap: paused at 100.0 s, notebook/go"
    )
    wait_until(lambda: [line.text for line in dataflow.logs("detector")] == ["0", "1"])
    assert last_line(robot.run("%dora replay")) == (
        "run.mcap: paused at 100.0 of 400.0 s; 4 messages"
    )
    assert last_line(robot.run("%dora replay seek 50")) == (
        "run.mcap: paused at 50.0 of 400.0 s; 4 messages; restarted: detector"
    )
    declared = robot.run("%%dora_operator camera --outputs image depth" + CAMERA + "\nx = 1")
    assert declared.texts == ["camera: declared, replayed from run.mcap"]
    beyond = robot.refused("%dora replay seek 500")
    assert "seek 500 s is beyond the end: run.mcap has 400.0 s." in beyond
    assert "Traceback" not in beyond
    assert "run.mcap: stopped at 50.0" in last_line(robot.run("%dora replay stop"))
    assert "nothing is replayed:" in robot.refused("%dora replay step")
    assert "run.mcap: stopped at 50.0" in last_line(robot.run("%dora replay"))


def test_a_player_that_died_is_named_by_the_next_cell(robot: Notebook, dataflow: Dataflow) -> None:
    # So slowly that no line depends on how fast this machine is.
    robot.run("%dora replay run.mcap --speed 0.001 --loop")
    replay = dataflow._run.replay
    assert replay is not None
    wait_until(lambda: replay.sent == 2)
    assert last_line(robot.run("%dora replay")) == (
        "run.mcap: playing at 0.0 of 400.0 s, speed 0.001; 2 messages"
    )
    robot.run("%dora replay pause")
    robot.run("%dora replay seek 50")
    assert last_line(robot.run("%dora replay resume")).startswith(
        "run.mcap: playing at 50.0 of 400.0 s, speed 0.001"
    )
    player = dataflow.service_status()[0]
    assert player.name == "player"
    assert player.process_id is not None
    os.kill(player.process_id, signal.SIGKILL)
    wait_until(lambda: replay.over)

    lines = robot.run("%dora stop").stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("the replay of run.mcap has ended at 50.0 s")
    assert robot.run("%dora stop").stderr == ""


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("missing.mcap", "missing.mcap"),
        (".", "RecordingError"),
        ("text.mcap", "RecordingError: text.mcap"),
        ("run.mcap --only camera/imag", "run.mcap has no topic 'camera/imag'. Did you mean"),
        ("run.mcap --map camera/image=notebook/go", "two topics of run.mcap go to 'notebook/go'"),
        ("run.mcap --from 401", "from 401 s is beyond the end: run.mcap has 400.0 s."),
        ("run.mcap --from 20 --to 10", "to must be after from"),
    ],
)
def test_mistakes_are_one_line(robot: Notebook, line: str, error: str) -> None:
    Path("text.mcap").write_text("no recording")
    shown = robot.refused(f"%dora replay {line}")

    assert error in shown
    assert "Traceback" not in shown
    assert "--map" in shown or "rename" not in shown
