"""``%dora topic`` on dora-rs: the notebook's own dataflow, and one that it watches. One run serves both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.errors import DataflowStateError

from ..engines.conftest import CellDataflow
from ..engines.test_attached import Robot, robots
from ..waiting import wait_for_line
from .test_topic import STAMP, lines_of, measured_until_seen


@pytest.fixture(scope="module")
def robot() -> Iterator[Robot]:
    """A camera that sends four numbers, and a reader that prints what comes on notebook/command."""
    with robots() as made:
        made.dataflow.take(
            "camera/image", 1
        )  # What reads for it joins now, and stays for all tests.
        yield made


@pytest.fixture(scope="module")
def watching(robot: Robot) -> Iterator[CellDataflow]:
    """The dataflow of another notebook, which watches that one."""
    with CellDataflow() as made:
        robot.watched_by(made)
        made.take("camera/image", 1)
        made.send("notebook/command", 0)
        yield made
        made.front_end.detach()


@pytest.fixture(params=["own", "watched"])
def dataflow(
    request: pytest.FixtureRequest,
    robot: Robot,
    watching: CellDataflow,
    monkeypatch: pytest.MonkeyPatch,
) -> CellDataflow:
    """In place of the fake one of these folder's other tests."""
    used = robot.dataflow if request.param == "own" else watching
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(used))
    return used


@pytest.fixture
def leak_kinds(leak_kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The daemon of a robot that outlives the test makes segments in /dev/shm when it likes."""
    return tuple(kind for kind in leak_kinds if kind != "shared memory")


def test_messages_are_echoed(notebook: Any) -> None:
    lines = lines_of(notebook.run("%dora topic echo camera/image -n 3"))
    shown = [
        re.fullmatch(STAMP + r"int64 \[(\d+), \1, \1, \1\]  number=\1", line) for line in lines
    ]
    numbers = [int(each[1]) for each in shown if each is not None]
    assert len(numbers) == 3, lines
    assert numbers == sorted(set(numbers))


def test_a_topic_is_measured_and_named(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_until_seen("camera/image", monkeypatch)
    lines = lines_of(notebook.run("%dora topic info camera/image"))
    assert lines[0] == "camera/image"
    assert lines[1].startswith("  publisher  camera (running)")
    assert lines[2] == "  readers    reader/image: queue 10, drop_oldest"
    assert lines[3:5] == ["  type       int64[4]", "  size       32 bytes"]
    (line, *_) = lines_of(notebook.run("%dora topic hz camera/image --for 0.5"))
    assert line.startswith("camera/image: ")


def test_reading_all_topics_must_be_asked_for(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, image, command, way_out = lines_of(notebook.run("%dora topic list"))
    assert head.startswith("topic")
    assert image.split() == ["camera/image", "camera", "reader"]
    assert command.split() == ["notebook/command", "notebook", "reader"]
    assert "%dora topic list --for 1" in way_out
    measured_until_seen("camera/image", monkeypatch)
    _, image, command = lines_of(notebook.run("%dora topic list --for 1"))
    assert image.endswith("int64[4]")
    assert command.split() == ["notebook/command", "notebook", "reader"]


@pytest.mark.parametrize("dataflow", ["watched"], indirect=True)
def test_the_notebook_sends(notebook: Any, dataflow: CellDataflow, robot: Robot) -> None:
    """Not both notebooks: each would join dora-rs as the node `notebook`, and end the other's process."""
    assert lines_of(notebook.run("%dora topic pub notebook/command [7]")) == [
        "notebook/command: sent int64[1]"
    ]
    wait_for_line(robot.dataflow, "reader", "COMMAND [7]")
    (line,) = lines_of(notebook.run("%dora topic pub notebook/light 1"))
    assert line.startswith("notebook/light: sent int64[1]; no input reads it.")


def test_what_dora_cannot_do_is_one_line(notebook: Any, dataflow: CellDataflow) -> None:
    assert notebook.refused("%dora topic pub camera/image 1").splitlines()[-1] == (
        "DataflowStateError: 'camera/image' is sent by camera alone on dora-rs: "
        "send on notebook/NAME, and let an input read that."
    )
    (told,) = notebook.run("%dora topic echo notebook/command").stdout.splitlines()[2:]
    assert told == (
        "DataflowStateError: the notebook cannot read 'notebook/command' on dora-rs, "
        "which passes what a notebook sends to nodes only: read what a node answers."
    )
    with pytest.raises(DataflowStateError, match="to nodes only"):
        dataflow.take("notebook/command", 1)
    lines = lines_of(notebook.run("%dora topic info notebook/command"))
    assert lines[-1].endswith("on dora-rs, what a notebook sends goes to nodes only")


def test_a_subscription_from_before_the_start_does_not_disturb_the_others(robot: Robot) -> None:
    """One to notebook/NAME, which the embedded engine serves."""
    with CellDataflow() as other:
        unread, images = other.subscribe("notebook/command"), other.subscribe("camera/image")
        robot.watched_by(other)
        assert images.next(20.0)["id"] == "camera/image"
        images.close()
        unread.close()
        other.front_end.detach()


@pytest.mark.parametrize(
    "action", ["echo camera/image -n 1", "hz camera/image --for 0.001", "list --for 0.001"]
)
def test_progress_is_shown_before_a_process_joins(
    notebook: Any, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        "dora_nb.widgets.progress.Progress.show", lambda self, text: shown.append(text)
    )
    notebook.run(f"%dora topic {action}")
    assert shown[0] == ("reading all topics" if "list" in action else "reading camera/image")
