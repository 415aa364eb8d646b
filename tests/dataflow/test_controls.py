"""Controls without any process: what cannot be declared or sent, and what the status says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.errors import DataflowStateError, GraphError

CAMERA = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
MOTION: dict[str, Any] = {"kind": "motion", "neutral": [0.0, 0.0]}


@pytest.fixture
def dataflow() -> Dataflow:
    made = Dataflow()
    made.add_operator("camera", CAMERA, outputs=["image"])
    return made


@pytest.mark.parametrize(
    ("topic", "options", "said"),
    [
        ("camera/image", {}, ("'camera/image' is sent by camera, so a control cannot send on it: "
         "give the control a topic of its own, such as 'notebook/image'.")),
        ("camera/speed", {}, ("the topic of a control must be notebook/NAME, got 'camera/speed': "
         "such as 'notebook/speed'.")),
        ("speed", {}, "the topic of a control must be notebook/NAME, got 'speed': such as 'notebook/speed'."),
        ("notebook", {}, ("the topic of a control must be notebook/NAME, got 'notebook': "
         "such as 'notebook/notebook'.")),
        ("notebook/", {}, "'' cannot be the name of a control's topic"),
        ("notebook/a b", {}, "'a b' cannot be the name of a control's topic: it has a blank"),
        (7, {}, "the topic of a control must be a text, got 7."),
        ("notebook/x", {"kind": "moton"}, ("'notebook/x': unknown kind of control 'moton'. "
         "Did you mean 'motion'?")),
        ("notebook/x", {"rate": 20}, "'notebook/x': rate is for a control of kind 'motion' only."),
        ("notebook/x", {"deadman_secs": 1}, "deadman_secs is for a control of kind 'motion' only."),
        ("notebook/x", {"kind": "motion"}, ("a control of kind 'motion' needs neutral, the value that "
         "stops the motion: give one, such as neutral=[0.0, 0.0].")),
        ("notebook/x", MOTION | {"value": [1.0, 0.0]}, "begins with neutral: leave value out."),
        ("notebook/x", MOTION | {"rate": 0}, "rate must be a number above 0, 1000 at most, got 0."),
        ("notebook/x", MOTION | {"rate": float("nan")}, "rate must be a number above 0, 1000 at most, got nan."),
        ("notebook/x", MOTION | {"rate": True}, "rate must be a number above 0, 1000 at most, got True."),
        ("notebook/x", MOTION | {"rate": "20"}, "rate must be a number above 0, 1000 at most, got '20'."),
        ("notebook/x", MOTION | {"rate": 1e4}, "rate must be a number above 0, 1000 at most, got 10000.0."),
        ("notebook/x", MOTION | {"deadman_secs": -1}, "deadman_secs must be a number above 0, 60 at most, got -1."),
        ("notebook/x", MOTION | {"deadman_secs": 0.04}, ("deadman_secs must be at least 1/rate (0.05 s), "
         "got 0.04: it would go neutral between two words.")),
        ("notebook/x", {"kind": "motion", "neutral": [0.0, float("inf")]}, ("cannot send the neutral "
         "[0.0, inf]: motion needs finite numbers.")),
        ("notebook/x", {"kind": "motion", "neutral": [0, "a"]}, ("the control on 'notebook/x' cannot send the "
         "neutral [0, 'a']: cannot make an Arrow array of this")),
        ("notebook/x", {"value": object}, "cannot send the value <class 'object'>"),
        ("notebook/x", {"value": "a" * 70_000}, "70"),
        ("notebook/x", {"value": [1.5], "neutral": [0]}, "cannot send the value [1.5] as int64: "),
        ("notebook/x", {"kind": "event", "value": 1}, "a control of kind 'event' has neither value nor neutral."),
    ],
)  # fmt: skip
def test_what_cannot_be_declared_is_told_in_a_line(
    dataflow: Dataflow, topic: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(GraphError) as raised:
        dataflow.controls.add(topic, **options)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 250
    assert "\n" not in str(raised.value)
    assert len(dataflow.controls) == 0


def test_a_topic_has_one_control_and_a_cell_that_runs_again_replaces_its_own(
    dataflow: Dataflow,
) -> None:
    first = dataflow.controls.add("notebook/speed", value=1, owner="cell 3")
    first.set(2)
    for owner in (None, "cell 4"):
        with pytest.raises(
            GraphError, match=r"'notebook/speed' already has a control \(state\): re"
        ):
            dataflow.controls.add("notebook/speed", owner=owner)
    second = dataflow.controls.add("notebook/speed", **MOTION, owner="cell 3")
    assert (first.removed, second.removed) == (True, False)
    for act in (lambda: first.set(3), first.status):
        with pytest.raises(DataflowStateError, match="on 'notebook/speed' was replaced by another"):
            act()
    first.remove()
    assert list(dataflow.controls) == [second]
    assert dataflow.controls["notebook/speed"] is second
    second.remove()
    second.remove()
    with pytest.raises(DataflowStateError, match="the control on 'notebook/speed' was removed"):
        second.release()
    with pytest.raises(GraphError, match="there is no control on 'notebook/speed'"):
        dataflow.controls["notebook/speed"]
    dataflow.controls.add("notebook/speed")


@pytest.mark.parametrize(
    "value",
    [[1.0, float("nan")], [1.0], [], [None, 1.0], "left", ["a", "b"], object(), [[1.0], [2.0]]],
)
def test_what_cannot_be_sent_changes_nothing(dataflow: Dataflow, value: object) -> None:
    stick = dataflow.controls.add("notebook/stick", **MOTION)
    stick.set([1, 0])
    with pytest.raises(GraphError, match="the control on 'notebook/stick' cannot send the value"):
        stick.set(value)
    status = stick.status()
    assert (status.value, status.words, status.state) == ([1.0, 0.0], 1, "held")


def test_values_keep_the_type_of_the_first(dataflow: Dataflow) -> None:
    """A page has one kind of number, so 1.0 comes from it as 1."""
    speed = dataflow.controls.add("notebook/speed", value=0.5)
    array = np.array([0.25])
    for given, kept in ((1, 1.0), (np.array([0.75]), 0.75), ([2], 2.0), (array, 0.25)):
        speed.set(given)
        assert (speed.status().value, type(speed.status().value)) == (kept, float)
    array[0] = 9.0
    assert speed.status().value == 0.25
    text = dataflow.controls.add("notebook/text", value="a")
    text.set("b")
    assert text.status().value == "b"
    free = dataflow.controls.add("notebook/free")
    free.set({"x": 1.0})
    free.set(True)
    assert free.status().value is True


def test_the_status_says_what_was_said_last_and_how_long_ago(dataflow: Dataflow) -> None:
    stick = dataflow.controls.add("notebook/stick", kind="motion", neutral=0.0, deadman_secs=60)
    speed = dataflow.controls.add("notebook/speed", value=3)
    first, second = dataflow.controls.status()
    assert (first.state, first.value, first.word_age_secs, first.words) == ("idle", None, None, 0)
    assert (second.topic, second.value, second.state) == ("notebook/speed", 3, "idle")
    dataflow.add_operator("arm", CAMERA, inputs={"stick": "notebook/stick", "in": "notebook/other"})
    assert dataflow.status("arm").inputs[0].word_age_secs is None
    stick.set(1.0)
    assert (stick.status().state, stick.status().value) == ("held", 1.0)
    ages = [edge.word_age_secs for edge in dataflow.status("arm").inputs]
    assert ages[0] is not None
    assert 0 <= ages[0] < 60
    assert ages[1] is None
    stick.release()
    assert (stick.status().state, stick.status().value) == ("released", None)
    with pytest.raises(GraphError, match="'notebook/speed' has no neutral value to return to"):
        speed.release()


def test_a_topic_with_a_control_cannot_be_sent_by_hand(dataflow: Dataflow) -> None:
    dataflow.controls.add("notebook/stick", **MOTION)
    with pytest.raises(
        GraphError, match=r"'notebook/stick' is sent by a control: use dataflow.con"
    ):
        dataflow.send("notebook/stick", 1)
