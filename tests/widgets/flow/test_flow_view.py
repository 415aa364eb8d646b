"""The live graph on the kernel's side: what it sends, and what a page may make it do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from dora_nb.dataflow.results import Declared, Stopped
from dora_nb.errors import GraphError, OperatorError
from dora_nb.events import Event
from dora_nb.protocol.counters import BUCKETS, bucket_of
from dora_nb.status import EdgeStatus, LogLine, State, TopicStatus
from dora_nb.widgets.flow.view import LOG_LINES, FlowView
from dora_nb.widgets.page import live

from ..scripted import ByHand, Page, Scripted


@dataclass(eq=False)
class Steered(Scripted):
    """A dataflow that a page may steer: it notes what it was asked, and waits for the test."""

    subscribed: list[EdgeStatus] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def topics(self) -> list[TopicStatus]:
        return [TopicStatus("camera/image", "camera", None, tuple(self.subscribed))]

    def logs(self, name: str | None = None) -> list[LogLine]:
        return [line for line in self.lines if line.node == name]

    def restart(self, name: str, *, progress: Callable[[str], None]) -> Declared:
        self.calls.append(("restart", name))
        progress(f"{name}: __init__ runs (2 s)")
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return Declared(name, "restarted", 3)

    def stop(self, name: str) -> Stopped:
        self.calls.append(("stop", name))
        return Stopped((name,))


@pytest.fixture
def dataflow() -> Steered:
    made = Steered(running=True)
    made.add("camera", {"tick": "dora/timer/hz/30"}, "image")
    made.add("detector", {"image": "camera/image"}, "bbox")
    return made


@pytest.fixture
def refresher(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    made = ByHand()
    monkeypatch.setattr(live, "REFRESHER", made)
    return made


@pytest.fixture
def page(dataflow: Steered, refresher: ByHand, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    view = FlowView(dataflow)
    page = Page(view)
    monkeypatch.setattr(view, "send", page.received.append)
    page.say(type="hello", v=1)
    page.say(type="visible", count=1)
    yield page
    view.close()


def image_edge(**counts: int) -> EdgeStatus:
    return EdgeStatus("camera/image", "detector", "image", 10, "drop_oldest", **counts)


def wait_for_actions() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("dora-flow-"):
            thread.join(20)


def test_the_graph_comes_first_and_again_only_when_it_changed(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    refresher.refresh_all()
    refresher.refresh_all()
    assert [message["type"] for message in page.received] == ["graph", "status"]
    boxes = page.received[0]["boxes"]
    assert [box["key"] for box in boxes if box["kind"] == "operator"] == ["camera", "detector"]
    assert {wire["edge"] for wire in page.received[0]["wires"]} == {"camera/tick", "detector/image"}
    dataflow.add("robot", {"boxes": "detector/bbox"})
    refresher.refresh_all()
    assert [message["type"] for message in page.received[2:]] == ["graph", "status"]
    page.say(type="hello", v=1)  # another page
    refresher.refresh_all()
    assert [message["type"] for message in page.received[4:]] == ["graph", "status"]


def test_nodes_say_state_generation_and_what_their_process_uses(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    dataflow.change(
        "detector", state=State.RUNNING, generation=2, process_id=os.getpid(), warnings=("late",)
    )
    refresher.refresh_all()
    refresher.refresh_all()
    nodes = page.last["nodes"]
    assert nodes["camera"]["text"] == "declared"
    assert nodes["camera"]["facts"] == ""
    assert nodes["detector"]["state"] == "amber"
    assert nodes["detector"]["title"] == "detector: running; late"
    generation, cpu, memory = nodes["detector"]["facts"].split(" · ")
    assert generation == "gen 2"
    assert cpu.endswith(" % CPU")
    assert memory.endswith(" MB")
    assert page.last["text"] == "running: 2 nodes"


def test_a_long_state_is_cut_in_the_box_and_whole_in_its_title(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    missing = ("a_camera_with_a_very_long_name", "another")
    dataflow.change("detector", state=State.WAITING, waiting_for=missing)
    refresher.refresh_all()
    detector = page.last["nodes"]["detector"]
    assert detector["text"].endswith("…")
    assert detector["title"] == f"detector: waiting (for {', '.join(missing)})"


def test_a_process_that_has_ended_is_left_out(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    process_id = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(process_id, 0)
    dataflow.change("detector", state=State.RUNNING, generation=1, process_id=process_id)
    refresher.refresh_all()
    assert page.last["nodes"]["detector"]["facts"] == "gen 1"


def test_edges_say_rate_queue_drops_and_silence(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    dataflow.change("detector", inputs=(image_edge(sent=10, received=10),))
    refresher.refresh_all()
    counts = {"sent": 40, "received": 22, "dropped": 15, "queued": 3, "sent_bytes": 40 * 921_600}
    dataflow.change("detector", inputs=(image_edge(**counts),))
    refresher.refresh_all()
    edge = page.last["edges"]["detector/image"]
    assert edge["text"] == "24/s · 3 queued · 50 % lost"
    assert edge["drops"] is True
    assert edge["title"] == (
        "camera/image → detector/image: 40 sent, 22 received, 15 dropped, "
        "3 of 10 queued (drop_oldest), 922 KB each"
    )
    refresher.refresh_all(after_secs=12)
    assert page.last["edges"]["detector/image"]["text"] == "last 12 s ago · 3 queued"
    dataflow.running = False
    refresher.refresh_all()
    assert page.last["edges"]["detector/image"]["text"] == ""


def test_what_the_notebook_reads_is_an_edge_of_its_own(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    dataflow.subscribed = [
        EdgeStatus("camera/image", "notebook", "image", 1, "drop_oldest", sent=9, received=4)
    ]
    refresher.refresh_all()
    assert "notebook//camera/image" in {wire["edge"] for wire in page.received[0]["wires"]}
    assert "9 sent" in page.last["edges"]["notebook//camera/image"]["title"]


def test_an_engine_without_counts_says_nothing_of_edges(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    dataflow.change("detector", state=State.RUNNING, events=None, inputs=(image_edge(),))
    refresher.refresh_all()
    assert page.last["edges"] == {}


class Reading:
    """A subscription of the graph's own."""

    def __init__(self, topic: str, callback: Callable[[Event], None]) -> None:
        self.topic, self.put, self.closed = topic, callback, False

    def status(self) -> EdgeStatus:
        return EdgeStatus(self.topic, "notebook", "subscription-9", 1, "drop_oldest")

    def close(self) -> None:
        self.closed = True


def picture(value: int = 100, width: int = 640, height: int = 480) -> Event:
    data = np.full(width * height * 3, value, np.uint8)
    metadata = {"width": width, "height": height, "encoding": "bgr8"}
    return {"type": "INPUT", "id": "image", "value": pa.array(data), "metadata": metadata}


@pytest.fixture
def readings(page: Page, dataflow: Steered, monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """What the graph reads, while the page sees the camera and the detector, which run."""
    made: list[Reading] = []

    def subscribe(topic: str, callback: Callable[[Event], None], **options: Any) -> Reading:
        assert options == {"queue_size": 1, "replay_last": True}
        made.append(Reading(topic, callback))
        return made[-1]

    def send(content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        page.received.append(content | ({"data": buffers[0]} if buffers else {}))

    monkeypatch.setattr(dataflow, "subscribe", subscribe, raising=False)
    monkeypatch.setattr(page.widget, "send", send)
    for name in ("camera", "detector"):
        dataflow.change(name, state=State.RUNNING, generation=1)
    return made


def thumbnails(page: Page) -> list[dict[str, Any]]:
    return [message for message in page.received if message["type"] == "thumbnail"]


def test_a_picture_on_an_edge_is_small_and_comes_once_a_second(
    page: Page, readings: list[Reading], refresher: ByHand
) -> None:
    page.say(type="see", nodes=["detector"])
    refresher.refresh_all()
    assert [reading.topic for reading in readings] == ["camera/image"]
    for _ in range(6):
        readings[0].put(picture(50))
        readings[0].put(picture(200))
        refresher.refresh_all(after_secs=0.5)
    shown = thumbnails(page)
    assert [each["topic"] for each in shown] == ["camera/image"] * 3
    assert all(len(each["data"]) < 2000 for each in shown)
    image = cv2.imdecode(np.frombuffer(shown[0]["data"], np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (72, 96, 3)
    assert abs(int(image.mean()) - 200) < 4  # the newest
    refresher.refresh_all(after_secs=5)  # the last one, which waited
    refresher.refresh_all(after_secs=5)
    assert len(thumbnails(page)) == 4  # no new one came
    # The graph does not show its own subscription.
    own = EdgeStatus("camera/image", "notebook", "subscription-9", 1, "drop_oldest")
    page.widget.dataflow.subscribed = [own]  # type: ignore[attr-defined]
    page.say(type="hello", v=1)
    refresher.refresh_all()
    assert page.last["type"] == "status"
    assert "notebook//camera/image" not in page.last["edges"]


def test_a_hidden_page_or_node_is_not_read_for(
    page: Page, dataflow: Steered, readings: list[Reading], refresher: ByHand
) -> None:
    refresher.refresh_all()
    assert readings == []
    page.say(type="see", nodes=["camera"])
    refresher.refresh_all()
    page.say(type="see", nodes=["elsewhere"])  # both are scrolled away
    refresher.refresh_all()
    assert [reading.closed for reading in readings] == [True]
    page.say(type="see", nodes=["camera"])
    refresher.refresh_all()
    page.say(type="visible", count=0)  # the tab is hidden
    refresher.refresh_all()
    assert [reading.closed for reading in readings] == [True, True]
    page.say(type="visible", count=1)
    refresher.refresh_all()
    dataflow.running = False
    refresher.refresh_all()
    dataflow.running = True
    refresher.refresh_all()
    page.widget.close()
    assert [reading.closed for reading in readings] == [True] * 4


def test_a_topic_without_pictures_is_closed_until_its_node_is_another_generation(
    page: Page, dataflow: Steered, readings: list[Reading], refresher: ByHand
) -> None:
    page.say(type="see", nodes=["camera"])
    refresher.refresh_all()
    readings[0].put({"type": "INPUT", "id": "image", "value": pa.array([1.0]), "metadata": {}})
    refresher.refresh_all()
    refresher.refresh_all()
    assert [reading.closed for reading in readings] == [True]
    dataflow.change("camera", generation=2)
    refresher.refresh_all()
    readings[1].put(picture())
    refresher.refresh_all()
    assert [each["topic"] for each in thumbnails(page)] == ["camera/image"]
    page.say(type="hello", v=1)  # a new page has no picture
    readings[1].put(picture())
    refresher.refresh_all(after_secs=0.0)
    refresher.refresh_all(after_secs=0.0)
    assert len(thumbnails(page)) == 2


def test_an_engine_without_counts_is_not_read_for(
    page: Page, dataflow: Steered, readings: list[Reading], refresher: ByHand
) -> None:
    for name in ("camera", "detector"):
        dataflow.change(name, events=None)
    page.say(type="see", nodes=["camera", "detector"])
    refresher.refresh_all()
    assert readings == []


@pytest.mark.parametrize("nodes", ["camera", {"camera": 1}, ["camera"] * 201, None])
def test_a_page_that_sees_nonsense_is_ignored(
    page: Page, readings: list[Reading], refresher: ByHand, nodes: Any
) -> None:
    page.say(type="see", nodes=nodes)
    refresher.refresh_all()
    assert readings == []


def test_an_edge_that_drops_for_five_seconds_gets_advice_until_the_stop(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    for step in range(12):
        counts = {"sent": 30 * step, "received": 15 * step, "dropped": 15 * step}
        durations = [0] * BUCKETS
        durations[bucket_of(48_000_000)] = 15 * step
        edges = (image_edge(**counts),)
        dataflow.change("detector", inputs=edges, on_event_counts=tuple(durations))
        refresher.refresh_all()
        assert bool(page.last["advice"]) == (step >= 10)
    assert page.last["advice"] == [
        "detector drops 50 %: 47 ms per event, one arrives every 17 ms; queues={'image': 1} keeps the newest"
    ]
    dataflow.running = False
    refresher.refresh_all()
    assert page.last["advice"] == []


def test_a_selected_node_has_a_panel_with_its_last_lines_and_its_error(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    dataflow.lines = [LogLine("detector", "stdout", f"line {n}", 0.0, n) for n in range(50)]
    trace = ["Cell In[2], line 5, in on_event", "    1 / 0"]
    error = OperatorError("detector failed: no", node="detector", traceback_lines=trace)
    dataflow.change("detector", state=State.FAILED, error=error)
    refresher.refresh_all()
    assert page.last["panels"] == {}
    page.say(type="select", node="detector")
    refresher.refresh_all()
    panel = page.last["panels"]["detector"]
    assert panel["lines"] == [f"line {n}" for n in range(50 - LOG_LINES, 50)]
    assert panel["place"] == "Cell In[2], line 5"
    assert panel["error"].startswith("detector failed: no")
    assert (panel["can_restart"], panel["can_stop"]) == (True, False)
    page.say(type="select", node="")
    refresher.refresh_all()
    assert page.last["panels"] == {}


def test_restart_does_not_block_says_how_far_it_is_and_runs_once(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    dataflow.change("detector", state=State.RUNNING)
    page.say(type="select", node="detector")
    page.say(type="restart", node="detector")
    page.say(type="restart", node="detector")
    page.say(type="stop", node="detector")
    refresher.refresh_all()
    panel = page.last["panels"]["detector"]
    assert panel["action"] in ("restarting …", "detector: __init__ runs (2 s)")
    assert not panel["can_restart"]
    dataflow.go.set()
    wait_for_actions()
    refresher.refresh_all()
    assert dataflow.calls == [("restart", "detector")]
    panel = page.last["panels"]["detector"]
    assert (panel["action"], panel["can_restart"]) == ("restarted: generation 3", True)
    page.say(type="stop", node="detector")
    wait_for_actions()
    refresher.refresh_all()
    assert page.last["panels"]["detector"]["action"] == "stopped"


@pytest.mark.parametrize("error", [GraphError("no such node"), RuntimeError("broken")])
def test_a_restart_that_fails_says_why(
    page: Page, dataflow: Steered, refresher: ByHand, error: Exception
) -> None:
    dataflow.error = error
    dataflow.go.set()
    page.say(type="select", node="detector")
    page.say(type="restart", node="detector")
    wait_for_actions()
    refresher.refresh_all()
    panel = page.last["panels"]["detector"]
    assert panel["action_failed"]
    assert str(error) in panel["action"]


@pytest.mark.parametrize("node", ["absent", "", "x" * 300, 7, None, {"a": 1}])
@pytest.mark.parametrize("kind", ["select", "restart", "stop", "other"])
def test_what_a_page_should_not_send_does_nothing(
    page: Page, dataflow: Steered, refresher: ByHand, kind: str, node: Any
) -> None:
    page.say(type=kind, node=node)
    refresher.refresh_all()
    assert dataflow.calls == []
    assert page.last["panels"] == {}


def test_a_dataflow_that_is_only_watched_cannot_be_steered(
    dataflow: Steered, refresher: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(Steered):
        restart = stop = None  # type: ignore[assignment]

    watched = Watched(running=True)
    watched.add("camera", outputs="image")
    view = FlowView(watched)
    page = Page(view)
    monkeypatch.setattr(view, "send", page.received.append)
    page.say(type="visible", count=1)
    page.say(type="select", node="camera")
    page.say(type="stop", node="camera")
    refresher.refresh_all()
    assert page.last["panels"]["camera"]["steerable"] is False
    view.close()


def test_a_view_off_the_screen_looks_at_nothing(
    page: Page, dataflow: Steered, refresher: ByHand
) -> None:
    refresher.refresh_all()
    page.say(type="visible", count=0)
    asked = dataflow.asked
    refresher.refresh_all()
    assert dataflow.asked == asked


def test_the_saved_notebook_has_the_picture_that_dora_graph_draws(page: Page) -> None:
    bundle, _ = page.widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "<title>Dataflow</title>" in bundle["image/svg+xml"]
    assert bundle["text/plain"].startswith("camera [declared]")


def test_an_empty_dataflow_says_so(refresher: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    view = FlowView(Steered())
    page = Page(view)
    monkeypatch.setattr(view, "send", page.received.append)
    page.say(type="visible", count=1)
    refresher.refresh_all()
    assert page.last["text"] == "no operator is declared"
    assert view._repr_mimebundle_()[0]["text/plain"] == "no operator is declared"
    view.close()
