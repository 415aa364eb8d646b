"""Which topics a dataflow has, as far as that is known without running it."""

from __future__ import annotations

import pytest

from dora_nb import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.status import EdgeStatus, State, TopicStatus

OPERATOR = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"


@pytest.fixture
def dataflow() -> Dataflow:
    """Three nodes, of which one reads from a fourth that is not declared."""
    made = Dataflow()
    made.add_operator("camera", OPERATOR, outputs=["image", "depth"])
    queues = {"image": 1}
    made.add_operator(
        "detector", OPERATOR, inputs={"image": "camera/image"}, outputs=["bbox"], queues=queues
    )
    reads = {
        "tick": "dora/timer/hz/1",
        "plan": "planner/path",
        "go": "notebook/go",
        "log": "dora/logs",
    }
    made.add_operator("arm", OPERATOR, inputs=reads)
    return made  # fmt: skip


def edge(topic: str, reader: str, name: str, size: int = 10) -> EdgeStatus:
    return EdgeStatus(topic, reader, name, size, "drop_oldest")


def test_outputs_come_first_and_then_what_is_only_read(dataflow: Dataflow) -> None:
    assert dataflow.topics() == [
        TopicStatus(
            "camera/image",
            "camera",
            State.DECLARED,
            (edge("camera/image", "detector", "image", 1),),
        ),
        TopicStatus("camera/depth", "camera", State.DECLARED),
        TopicStatus("detector/bbox", "detector", State.DECLARED),
        TopicStatus("planner/path", "planner", None, (edge("planner/path", "arm", "plan"),)),
        TopicStatus("notebook/go", "notebook", None, (edge("notebook/go", "arm", "go"),)),
    ]
    assert Dataflow().topics() == []


def test_subscriptions_of_the_notebook_are_readers(dataflow: Dataflow) -> None:
    with dataflow.subscribe("camera/depth", queue_size=3), dataflow.subscribe("notebook/extra"):
        topics = {each.topic: each for each in dataflow.topics()}
        (reader,) = topics["camera/depth"].readers
        assert (reader.reader, reader.queue_size, reader.policy) == ("notebook", 3, "drop_oldest")
        assert [each.reader for each in topics["notebook/extra"].readers] == ["notebook"]
        assert topics["notebook/extra"].publisher_state is None
    assert len(dataflow.topics()) == 5


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("camera/imge", "Did you mean 'camera/image'?"),
        ("camera/xyz", "camera has outputs: image, depth."),
        ("arm/angle", "arm has no outputs."),
        ("camra/image", "Did you mean 'camera/image'?"),
        ("image", "Did you mean 'camera/image'?"),
        ("detector", "Did you mean 'detector/bbox'?"),
        ("", "There are: camera/image, camera/depth, detector/bbox, planner/path, notebook/go."),
        ("xyz", "There are: camera/image,"),
        ("notebook/", "expected NODE/OUTPUT"),
        ("notebook", "Did you mean 'notebook/go'?"),
        ("dora/logs", "dataflow.logs()"),
        ("dora/timer/hz/1", "is a timer"),
    ],
)
def test_an_unknown_topic_gets_the_near_one(dataflow: Dataflow, text: str, hint: str) -> None:
    with pytest.raises(GraphError) as error:
        FrontEnd(dataflow).find_topic(text)
    assert hint in str(error.value)


def test_of_many_topics_some_are_named() -> None:
    many = Dataflow()
    many.add_operator("node", OPERATOR, outputs=[f"out{number}" for number in range(9)])
    with pytest.raises(GraphError, match=r"There are: node/out0, .*, node/out7, \.\.\.\.$"):
        FrontEnd(many).find_topic("xyz")
    with pytest.raises(GraphError, match="No node with an output is declared yet"):
        FrontEnd(Dataflow()).find_topic("a/b")


def test_a_topic_of_the_notebook_needs_no_reader(dataflow: Dataflow) -> None:
    for topic in ("notebook/go", "notebook/whatever", "camera/depth", "planner/path"):
        assert FrontEnd(dataflow).find_topic(topic) == topic


def test_where_nothing_runs_nothing_comes(dataflow: Dataflow) -> None:
    front_end = FrontEnd(dataflow)
    with pytest.raises(
        DataflowStateError, match="nothing comes on 'camera/image': the dataflow is"
    ):
        front_end.check_flows("camera/image")
    with pytest.raises(
        DataflowStateError, match="'notebook/go' cannot be sent: the dataflow is not"
    ):
        front_end.publish("notebook/go", 1)
    with pytest.raises(
        DataflowStateError, match="'notebook/other' cannot be sent: the dataflow is not"
    ):
        front_end.publish("notebook/other", 1)


def test_a_measurement_of_what_cannot_be_read_reads_nothing(dataflow: Dataflow) -> None:
    front_end = FrontEnd(dataflow)
    with pytest.raises(GraphError, match="'dora/timer/hz/1' is a timer"):
        front_end.measure(["camera/image", "dora/timer/hz/1"], replay_last=False)
    assert [each for each in dataflow.topics() if each.readers and each.publisher == "camera"] == [
        dataflow.topics()[0]
    ]
