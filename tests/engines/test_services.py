"""Service nodes beside the user's: they come and go while it runs, and stand in for topics."""

from __future__ import annotations

import os
import signal

import pyarrow as pa

from dora_nb.engines.embedded import Session
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import PLAYER, RECORDER, TopicSource
from dora_nb.status import State

from ..waiting import wait_until
from .conftest import CellDataflow

COUNTER = """
import pyarrow as pa

class Operator:
    number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("count", pa.array([self.number]))
        elif dora_event["type"] == "STOP":
            send_output("count", pa.array([-1]))
"""
PRINTER = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            print(dora_event["id"], dora_event["value"].to_pylist(), flush=True)
"""
READS_ALL = """
import sys
from dora import Node

node = Node()
pipe = open(sys.argv[1], "a")
for event in node:
    if event["type"] == "INPUT":
        print(event["id"], event["value"].to_pylist(), file=pipe, flush=True)
print("end", file=pipe, flush=True)
"""
PLAYS = """
import pyarrow as pa
from dora import Node

node = Node()
while (event := node.next(timeout=0.01)) is not None and event["type"] != "STOP":
    for output in node.node_config()["outputs"]:
        node.send_output(output, pa.array([f"played {output}"]))
"""


def reader_of_all(path: object) -> object:
    """A service that reads all topics, as the recorder does."""

    def follow(graph: Graph, said: tuple[str, ...]) -> NodeSpec:
        topics = [TopicSource(spec.name, output) for spec in graph for output in spec.outputs]
        topics += [TopicSource("notebook", name) for name in said]
        return NodeSpec(
            name=RECORDER,
            code=SourceCode(READS_ALL, "reader"),
            inputs=(
                *(InputSpec(str(topic), topic, 1000) for topic in topics),
                InputSpec("words", TopicSource("the notebook's words", "to the reader")),
            ),
            kind="script",
            args=(str(path),),
        )

    return follow


def player_of(*topics: str) -> NodeSpec:
    """A service that publishes these topics."""
    code = SourceCode(PLAYS, "player")
    return NodeSpec(name=PLAYER, code=code, outputs=topics, kind="script")


def session_of(dataflow: CellDataflow) -> Session:
    session = dataflow._run.session
    assert isinstance(session, Session)
    return session


def test_a_service_follows_the_dataflow_and_ends_last(dataflow, tmp_path) -> None:
    said = tmp_path / "said"

    def lines() -> list[str]:
        return said.read_text().splitlines() if said.exists() else []

    ticks = {"tick": "dora/timer/millis/5"}
    dataflow.cell("first", COUNTER, inputs=ticks, outputs=("count",))
    dataflow._run.services[RECORDER] = reader_of_all(said)
    dataflow.start()
    # From the first message on: it is ready before messages flow.
    wait_until(lambda: len(lines()) > 3, otherwise=lambda: lines()[-5:])
    assert lines()[0] == "first/count [1]"
    assert [each.name for each in dataflow.status()] == ["first"]
    (service,) = session_of(dataflow).service_statuses()
    assert (service.name, service.state, service.generation) == ("recorder", State.RUNNING, 1)
    assert service.is_service
    assert {edge.reader for edge in dataflow.status("first").outputs} == {"recorder"}
    # Another node, another output of the first, and what no input reads.
    dataflow.cell("second", COUNTER, inputs=ticks, outputs=("count",))
    wait_until(lambda: "second/count [1]" in lines(), otherwise=lambda: lines()[-5:])
    both = COUNTER.replace('"count", pa.array([self', '"also", pa.array([self')
    dataflow.cell("first", both, inputs=ticks, outputs=("count", "also"))
    wait_until(
        lambda: any(each.startswith("first/also") for each in lines()),
        otherwise=lambda: lines()[-5:],
    )
    session_of(dataflow).send(TopicSource("notebook", "unread"), pa.array(["heard"]), None)
    wait_until(lambda: "notebook/unread ['heard']" in lines(), otherwise=lambda: lines()[-5:])
    dataflow.remove("second")
    assert [each.generation for each in session_of(dataflow).service_statuses()] == [1]
    dataflow.stop()
    assert lines()[-1] == "end"
    assert "first/count [-1]" in lines()


def test_a_service_does_not_keep_a_dataflow_alive(dataflow, tmp_path) -> None:
    once = COUNTER.replace(
        "elif", 'if self.number: return __import__("dora").DoraStatus.STOP\n        elif'
    )
    dataflow.cell("first", once, inputs={"tick": "dora/timer/millis/5"}, outputs=("count",))
    dataflow._run.services[RECORDER] = reader_of_all(tmp_path / "said")
    dataflow.start()
    dataflow.until_state("first", State.FINISHED)
    session = session_of(dataflow)
    assert session.wait_ended(30)
    assert not session.alive
    (service,) = session.service_statuses()
    assert service.state is State.RUNNING
    process_id = service.process_id
    assert process_id is not None
    # Of a service that dies, the user's nodes notice nothing.
    os.kill(process_id, signal.SIGKILL)
    wait_until(lambda: session.service_error(RECORDER) is not None)
    assert session.errors() == {}


def test_a_player_stands_in_for_topics(dataflow) -> None:
    inputs = {"of_node": "camera/image", "of_none": "lidar/points", "of_notebook": "notebook/x"}
    ticks = {"tick": "dora/timer/millis/5"}
    camera = COUNTER.replace('"count"', '"image"')
    dataflow.cell("camera", camera, inputs=ticks, outputs=("image",))
    dataflow.cell("arm", PRINTER, inputs=inputs)
    dataflow.start()
    session = session_of(dataflow)

    def heard(text: str) -> bool:
        return any(line == text for line in dataflow.said_by("arm"))

    wait_until(lambda: heard("of_node [3]"), otherwise=lambda: dataflow.said_by("arm")[-5:])
    topics = ("camera/image", "lidar/points", "notebook/x")
    session.set_service(player_of(*topics), PLAYER)
    played = [f"{name} ['played {topic}']" for name, topic in zip(inputs, topics, strict=True)]
    wait_until(lambda: all(map(heard, played)), otherwise=lambda: dataflow.said_by("arm")[-5:])
    # The camera runs on beside it, unheard.
    read = [edge for edge in dataflow.status("arm").inputs if edge.topic == "camera/image"]
    assert len(read) == 1
    session.set_service(player_of("lidar/points"), PLAYER)
    at = len(dataflow.said_by("arm"))
    wait_until(lambda: any(line.startswith("of_node [") for line in dataflow.said_by("arm")[at:]))
    session.set_service(None, PLAYER)
    session.wait_service_gone(PLAYER)
    assert session.service_statuses() == []
    assert dataflow.status("arm").generation == dataflow.status("camera").generation == 1
    dataflow.send("notebook/x", "by hand")
    wait_until(lambda: heard("of_notebook ['by hand']"))
