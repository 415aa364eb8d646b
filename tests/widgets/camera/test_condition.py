"""The word and the sentence that a view shows for each situation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dora_nb.errors import MessageError
from dora_nb.graph.sources import TopicSource
from dora_nb.status import EdgeStatus, State
from dora_nb.widgets.camera._condition import FeedState, ViewCondition, condition, drops

IMAGE = TopicSource("camera", "image")
BBOX = TopicSource("detector", "bbox")
ALL_WELL = FeedState(
    paused=False,
    frame_came=True,
    silent_secs=0.03,
    usual_interval_secs=0.033,
    boxes_came=True,
    frame_problem=None,
    boxes_problem=None,
    own_problem=None,
)
NEVER_MATCHED = (
    "no boxes of detector/bbox have the timestamp of a frame (messages received: 9); "
    "the detector must forward event['metadata']"
)
NOTHING_YET = replace(ALL_WELL, frame_came=False, silent_secs=float("inf"), boxes_came=False)


def look(
    dataflow: Any, seen: FeedState = ALL_WELL, boxes: TopicSource | None = BBOX
) -> tuple[str, str]:
    found = condition(dataflow, IMAGE, {} if boxes is None else {"boxes": boxes}, seen)
    return found.state, found.reason


def test_all_is_well(dataflow: Any):
    assert condition(dataflow, IMAGE, {"boxes": BBOX}, ALL_WELL) == ViewCondition("running", "")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (replace(ALL_WELL, paused=True), ("paused", "")),
        (replace(ALL_WELL, silent_secs=3.2), ("stale", "no frame of camera/image for 3 s")),
        (replace(ALL_WELL, silent_secs=3.2, usual_interval_secs=1.0), ("running", "")),
        (
            replace(ALL_WELL, own_boxes_late_secs=3.2),
            ("stale", "no boxes of detector/bbox for 3 s"),
        ),
        (
            replace(ALL_WELL, own_boxes_late_secs=3.2, boxes_never_matched=9),
            (
                "stale",
                NEVER_MATCHED,
            ),
        ),
        (replace(ALL_WELL, own_boxes_late_secs=1.5), ("running", "")),
        (NOTHING_YET, ("waiting", "no frame of camera/image yet")),
        (
            replace(
                ALL_WELL, silent_secs=float("inf")
            ),  # of this run; there is a picture of the last
            ("waiting", "no frame of camera/image yet"),
        ),
        (
            replace(NOTHING_YET, silent_secs=0.1),
            ("waiting", "no boxes of detector/bbox yet"),
        ),
        (
            replace(ALL_WELL, boxes_came=False),
            ("running", "no boxes of detector/bbox yet"),
        ),
        (
            replace(ALL_WELL, frame_problem=MessageError("cannot show x as a picture.")),
            ("error", "camera/image: cannot show x as a picture."),
        ),
        (
            replace(ALL_WELL, frame_problem=MessageError("cannot show camera/image as a picture.")),
            ("error", "cannot show camera/image as a picture."),
        ),
        (
            replace(ALL_WELL, boxes_problem=MessageError("cannot read x as boxes.")),
            ("error", "detector/bbox: cannot read x as boxes."),
        ),
        (replace(ALL_WELL, own_problem="OpenCV is missing."), ("error", "OpenCV is missing.")),
    ],
)
def test_what_was_seen_of_the_topics(dataflow: Any, seen: FeedState, expected: tuple[str, str]):
    assert look(dataflow, seen) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.DECLARED, ("waiting", "camera is declared")),
        (State.STARTING, ("waiting", "camera is starting")),
        (State.FINISHED, ("stopped", "camera has finished")),
        (State.STOPPED, ("stopped", "camera has stopped")),
        (State.FAILED, ("error", "camera failed: it ended without an error message")),
    ],
)
def test_the_state_of_the_camera(dataflow: Any, state: State, expected: tuple[str, str]):
    dataflow.set_state("camera", state)

    assert look(dataflow) == expected


@pytest.mark.parametrize(
    ("node", "seen", "expected"),
    [
        ("camera", NOTHING_YET, ("waiting", "no frame of camera/image yet; it went wrong")),
        (
            "camera",
            replace(ALL_WELL, silent_secs=3.2),
            ("stale", "no frame of camera/image for 3 s; it went wrong"),
        ),
        (
            "detector",
            replace(NOTHING_YET, silent_secs=0.1),
            ("waiting", "no boxes of detector/bbox yet; it went wrong"),
        ),
        (
            "detector",
            replace(ALL_WELL, boxes_came=False),
            ("running", "no boxes of detector/bbox yet; it went wrong"),
        ),
        ("camera", ALL_WELL, ("running", "")),
    ],
)
def test_a_view_that_waits_tells_the_warnings_of_the_node_it_waits_for(
    dataflow: Any, node: str, seen: FeedState, expected: tuple[str, str]
):
    dataflow.set_state(node, State.RUNNING, warnings=("it went wrong",))

    assert look(dataflow, seen) == expected


def test_a_camera_that_waits_says_for_whom(dataflow: Any):
    dataflow.set_state("camera", State.WAITING, waiting_for=("scene",))

    assert look(dataflow) == ("waiting", "camera is waiting (for scene)")


def test_a_node_that_nobody_declared(dataflow: Any):
    dataflow.remove("detector")
    assert look(dataflow) == ("running", "no boxes: detector is not declared")

    dataflow.remove("camera")
    assert look(dataflow) == ("waiting", "camera is not declared")


def test_a_node_whose_name_is_misspelt(dataflow: Any):
    dataflow.declare("camra", outputs=("image",))
    dataflow.remove("camera")
    assert look(dataflow) == ("waiting", "camera is not declared; did you mean 'camra'?")
    dataflow.declare("detectr", outputs=("bbox",))
    dataflow.remove("detector")
    dataflow.declare("camera", outputs=("image",))
    reason = "no boxes: detector is not declared; did you mean 'detectr'?"
    assert look(dataflow) == ("running", reason)


def test_a_detector_that_does_not_run_does_not_stop_the_picture(dataflow: Any):
    dataflow.set_state("detector", State.STARTING)

    assert look(dataflow) == ("running", "no new boxes: detector is starting")


def test_an_edit_that_takes_the_output_away_is_an_error(dataflow: Any):
    dataflow.declare("camera", outputs=("picture",))

    assert look(dataflow) == (
        "error",
        "the notebook reads 'camera/image', but camera has outputs: picture.",
    )


def test_a_dataflow_that_is_not_started_or_was_stopped(dataflow: Any):
    dataflow.stop()

    assert look(dataflow) == ("stopped", "the dataflow is stopped")
    assert look(dataflow, NOTHING_YET) == (
        "waiting",
        "the dataflow is not running; start it with dataflow.start()",
    )


def test_a_failure_counts_more_than_a_pause_or_a_stop(dataflow: Any):
    dataflow.fail("detector", "no such model")
    dataflow.stop()

    assert look(dataflow, replace(ALL_WELL, paused=True)) == (
        "error",
        "detector failed: no such model",
    )


def test_what_the_notebook_sends_itself_has_no_node(dataflow: Any):
    found = condition(dataflow, TopicSource("notebook", "image"), {}, ALL_WELL)

    assert found == ViewCondition("running", "")


def test_boxes_that_match_no_frame_are_explained(dataflow: Any):
    seen = replace(NOTHING_YET, silent_secs=0.1, boxes_never_matched=7)

    assert look(dataflow, seen) == (
        "waiting",
        (
            "no boxes of detector/bbox have the timestamp of a frame (messages received: 7); "
            "the detector must forward event['metadata']"
        ),
    )


def test_drops_are_told_for_each_edge_on_the_way(dataflow: Any):
    def edge(topic: str, reader: str, dropped: int) -> EdgeStatus:
        return EdgeStatus(topic, reader, "in", 1, "drop_oldest", dropped=dropped)

    inputs = (edge("camera/image", "detector", 120), edge("other/topic", "detector", 9))
    dataflow.set_state("detector", State.RUNNING, inputs=inputs)
    edges = [edge("camera/image", "notebook", 1), None]

    assert drops(dataflow, IMAGE, {"boxes": BBOX}, edges, 4) == [
        ("camera/image → notebook", 1),
        ("camera/image → detector", 120),
        ("this view", 4),
    ]
