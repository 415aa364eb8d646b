"""What of a recording is replayed by default and by choice: `dataflow.replay_plan`."""

from __future__ import annotations

from typing import Any

import pytest

from dora_nb.dataflow.replay_plan import (
    Choice,
    Recorded,
    ReplayPlan,
    check_position,
    check_speed,
    downstream,
    plan_replay,
)
from dora_nb.errors import GraphError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source

DATAFLOW = """
nodes:
  - id: camera
    operator: {python: camera.py, outputs: [image, depth], inputs: {tick: dora/timer/hz/30}}
  - id: watch
    path: watch.py
    inputs: {log: dora/logs}
    outputs: [alarm]
  - id: detector
    operator: {python: detector.py, outputs: [bbox], inputs: {image: {source: camera/image}}}
"""
TOPICS = ("camera/image", "camera/depth", "detector/bbox", "watch/alarm", "notebook/stick")


def node(name: str, outputs: str = "", **inputs: str) -> NodeSpec:
    reads = tuple(InputSpec(key, parse_source(source)) for key, source in inputs.items())
    code = SourceCode("", "Cell In[1]")
    return NodeSpec(name, code, inputs=reads, outputs=tuple(outputs.split()))


CAMERA = node("camera", "image depth", tick="dora/timer/hz/30")
DETECTOR = node("detector", "bbox", image="camera/image")
WHEELS = node("wheels", "speed", bbox="detector/bbox")
PLOT = node("plot", speed="wheels/speed")
ALL = Graph().with_nodes([CAMERA, DETECTOR, WHEELS, PLOT, node("watch", "alarm")])


def recorded(*topics: str, **more: Any) -> Recorded:
    return Recorded("run.mcap", topics or TOPICS, 12.34, **{"dataflow_yml": DATAFLOW, **more})


def plan(choice: Choice | None = None, declared: Graph = ALL, **more: Any) -> ReplayPlan:
    return plan_replay(more.pop("recorded", recorded()), choice or Choice(), declared, **more)


def test_by_default_the_sources_are_replayed() -> None:
    # A node that reads the log of the others, or a timer, reads no topic.
    assert plan().topics == ("camera/image", "camera/depth", "watch/alarm", "notebook/stick")
    assert plan().replaced == ("camera", "watch")
    assert plan().absent == {}


def test_nodes_that_are_not_declared_now_are_replayed_too() -> None:
    found = plan(declared=Graph().with_nodes([WHEELS]))

    assert found.topics == TOPICS
    assert found.absent == {
        "camera": ("image", "depth"),
        "detector": ("bbox",),
        "watch": ("alarm",),
    }
    assert found.replaced == ()


def test_without_a_recorded_dataflow_the_present_one_tells_the_sources() -> None:
    found = plan(recorded=recorded(dataflow_yml=None))

    assert "detector/bbox" not in found.topics
    assert "camera/image" in found.topics


def test_recorded_cells_tell_of_nodes_that_were_declared_later() -> None:
    cell = "%%dora_operator wheels --inputs tick=dora/timer/hz/1 --outputs speed\npass"
    file = recorded("wheels/speed", cells={"wheels": cell, "camera": "no declaration"})

    assert plan(recorded=file).topics == ("wheels/speed",)


@pytest.mark.parametrize(
    "yml", ["", "nodes: 3", "- a", "nodes: [{id: 3}, 7, {id: a, inputs: 4}]", "a: ["]
)
def test_a_recorded_dataflow_that_cannot_be_read_is_as_none(yml: str) -> None:
    assert plan(recorded=recorded(dataflow_yml=yml)).replaced == ("camera", "watch")


def test_only_chooses_topics_and_names_what_is_silent() -> None:
    found = plan(Choice(only=("camera/image",)))

    assert found.topics == ("camera/image",)
    assert found.replaced == ("camera",)
    assert found.silent == ("camera/depth",)


def test_all_is_pure_playback() -> None:
    assert plan(Choice(all=True)).replaced == ("camera", "detector", "watch")


def test_a_mapped_topic_is_replayed_on_another() -> None:
    found = plan(Choice(map={"detector/bbox": "notebook/old_boxes"}))

    assert found.outputs["detector/bbox"] == "notebook/old_boxes"
    assert "detector" not in found.replaced


def test_what_nodes_print_is_not_replayed() -> None:
    assert plan(Choice(all=True), recorded=recorded("dora/logs", "camera/image")).topics == (
        "camera/image",
    )


def test_topics_of_ros_lose_their_first_slash() -> None:
    found = plan(recorded=recorded("/camera/image", "/scan"), declared=Graph())

    assert found.outputs == {"/camera/image": "camera/image"}
    assert found.notes == (
        "/scan: not replayed, 'scan' is not NODE/OUTPUT; rename={'/scan': 'NODE/OUTPUT'} replays it",
    )


def test_an_emergency_stop_of_the_page_stays_live() -> None:
    file = recorded("notebook/estop", "camera/image")
    for choice in (Choice(), Choice(all=True), Choice(only=("notebook/estop", "camera/image"))):
        found = plan(choice, recorded=file, live=["notebook/estop"])
        assert found.topics == ("camera/image",)
        assert found.notes == (
            "notebook/estop: not replayed, the EStop of the page keeps notebook/estop",
        )


@pytest.mark.parametrize(
    ("choice", "file", "error"),
    [
        (
            Choice(only=("camra/image",)),
            recorded(),
            "run.mcap has no topic 'camra/image'. Did you mean 'camera/image'?",
        ),
        (
            Choice(map={"x/y": "a/b"}),
            recorded("camera/image"),
            "run.mcap has no topic 'x/y'. It has: camera/image.",
        ),
        (
            Choice(map={"camera/depth": "camera/image"}),
            recorded(),
            (
                "two topics of run.mcap go to 'camera/image': camera/image and camera/depth. Give one of "
                "them another topic with rename={'camera/depth': 'NODE/OUTPUT'}."
            ),
        ),
        (
            Choice(only=("/scan",)),
            recorded("/scan"),
            (
                "/scan cannot be replayed: 'scan' is not NODE/OUTPUT. Give it another topic: "
                "rename={'/scan': 'NODE/OUTPUT'}."
            ),
        ),
        (
            Choice(map={"camera/image": "camera/img"}),
            recorded(),
            (
                "the notebook reads 'camera/img', but camera has outputs: image, depth. "
                "Did you mean 'image'?"
            ),
        ),
        (
            Choice(only=("camera/image",), all=True),
            recorded(),
            "only=[TOPIC] and all_topics=True exclude each other: give one of them.",
        ),
        (Choice(), recorded("dora/logs"), "run.mcap has no messages to replay."),
        (
            Choice(),
            recorded("detector/bbox"),
            (
                "run.mcap has no topic of a source: detector/bbox come from nodes that read topics "
                "themselves. Choose topics with only=[TOPIC], or replay all of them with all_topics=True."
            ),
        ),
        (
            Choice(from_secs=20),
            recorded(),
            "from 20 s is beyond the end: run.mcap has 12.3 s.",
        ),
        (
            Choice(from_secs=5, to_secs=5),
            recorded(),
            "to must be after from, got from 5 s to 5 s.",
        ),
        (Choice(from_secs=float("nan")), recorded(), "from must be >= 0 seconds, got nan."),
    ],
)
def test_mistakes_are_one_line(choice: Choice, file: Recorded, error: str) -> None:
    with pytest.raises(GraphError) as caught:
        plan(choice, recorded=file)
    assert str(caught.value) == error


def test_the_nodes_downstream_of_topics() -> None:
    assert downstream(ALL, ["camera/image"]) == ("detector", "wheels", "plot")
    assert downstream(ALL, ["notebook/stick"]) == ()


def test_speeds() -> None:
    assert [check_speed(each) for each in (2, 0.5, "max", None)] == [2.0, 0.5, None, None]
    for wrong in (0, -1, True, "fast", float("inf"), float("nan")):
        with pytest.raises(GraphError, match="speed must be a number above 0, or 'max', got"):
            check_speed(wrong)


def test_positions() -> None:
    assert check_position(recorded(), "seek to", 12) == 12
    with pytest.raises(GraphError, match=r"seek to 13 s is beyond the end: run\.mcap has 12\.3 s"):
        check_position(recorded(), "seek to", 13)
