"""The notebook sends as a node does, and gives back what it took: a function is tried on real messages."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.dataflow import messaging
from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.status import State
from dora_nb.transport import InvalidDataError

from ..waiting import wait_until
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo
from .hand_over_rig import StagedHandOver, declare_middle

SECONDLY = {"tick": "dora/timer/secs/60"}
QUIET = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
SCRIPT = "from dora import Node\nfor event in Node():\n    pass\n"
ECHO = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", dora_event["value"], dora_event["metadata"])
"""


@pytest.fixture(scope="module", params=["operator", "script"])
def started(request: pytest.FixtureRequest) -> Iterator[CellDataflow]:
    """A source that sends nothing by itself, and one that passes on."""
    with CellDataflow() as dataflow:
        code = QUIET if request.param == "operator" else SCRIPT
        dataflow.cell("source", code, inputs=SECONDLY, outputs=("out",), kind=request.param)
        queues: Any = {"in": (1000, "backpressure")}
        dataflow.cell("echo", ECHO, inputs={"in": "source/out"}, outputs=("out",), queues=queues)
        dataflow.start()
        yield dataflow


@pytest.fixture
def running(started: CellDataflow) -> Iterator[CellDataflow]:
    """Both, with nothing under way: what a test sends has arrived before the next one begins."""
    yield started
    with started.subscribe("echo/out", queue_size=1000) as arrived:
        started.send("source/out", 0, {"name": "the last of this test"})
        while "name" not in arrived.next(TIMEOUT_SECS)["metadata"]:
            pass


def counts(dataflow: CellDataflow) -> tuple[int, int, int]:
    """How many messages the echo was sent, has received and has lost."""
    (edge,) = dataflow.status("echo").inputs
    return edge.sent, edge.received, edge.dropped


@pytest.mark.parametrize(
    "value",
    [
        pa.array([1, 2, 3]),
        pa.array(["a", None]),
        pa.array([{"x": 1.5}]),
        pa.array(range(100_000)),
        pa.array([], pa.float32()),
    ],
    ids=["small", "texts", "struct", "large", "empty"],
)
def test_a_message_is_sent_as_if_its_node_had(running: CellDataflow, value: pa.Array[Any]) -> None:
    sent, received, dropped = counts(running)
    with running.subscribe("echo/out") as arrived:
        running.send("source/out", value, {"n": 7})
        event = arrived.next(10)
    assert event["value"] == value
    assert event["metadata"]["n"] == 7
    assert (dropped, counts(running)) == (0, (sent + 1, received + 1, 0))
    assert running.latest("source/out")["value"] == value


def test_many_are_sent_in_their_order(running: CellDataflow) -> None:
    with running.subscribe("echo/out", queue_size=1000) as arrived:
        for n in range(200):
            running.send("source/out", n)
        assert [arrived.next(10)["value"][0].as_py() for _ in range(200)] == list(range(200))


def test_what_cannot_be_sent_raises_here(running: CellDataflow) -> None:
    with pytest.raises(InvalidDataError):
        running.send("source/out", object())
    with pytest.raises(GraphError, match="no operator 'sorce' is declared"):
        running.send("sorce/out", 1)
    with pytest.raises(GraphError, match="Did you mean 'out'"):
        running.send("source/ou", 1)


def test_a_node_that_does_not_run_sends_nothing(dataflow: CellDataflow) -> None:
    failing = "class Operator:\n    def on_event(self, e, s): 1 / 0\n"
    dataflow.cell("source", failing, inputs=SECONDLY, outputs=("out",))
    dataflow.cell("other", QUIET, inputs=SECONDLY)
    with pytest.raises(DataflowStateError, match="is not running"):
        dataflow.send("source/out", 1)
    dataflow.start()
    dataflow.failure_of("source")
    with pytest.raises(DataflowStateError, match="'source/out' is sent by source, which is failed"):
        dataflow.send("source/out", 1)


def test_a_busy_node_holds_back_who_sends_too_much(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]
) -> None:
    """And its end lets them go."""
    entered = make_fifo("entered")
    stuck = (
        "import threading\nclass Operator:\n    def on_event(self, e, s):\n"
        f"        open({str(entered.path)!r}, 'w').write('here\\n'); threading.Event().wait()\n"
    )
    dataflow.cell("source", stuck, inputs=SECONDLY, outputs=("out",))
    dataflow.cell("other", QUIET, inputs=SECONDLY)
    dataflow.start()
    entered.wait_for("here")
    session: Any = dataflow._run.session
    for n in range(16):
        dataflow.send("source/out", n)
    assert session._supervisors["source"].injecting == 16
    session._supervisors["source"].process.kill()
    with pytest.raises(DataflowStateError, match="which is failed"):
        dataflow.send("source/out", 16)
    assert dataflow.status("source").state is State.FAILED


def test_a_full_reader_holds_up_nothing_else_that_is_asked(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]
) -> None:
    """What waits for room is sent between events: the source still hears of a new reader."""
    entered, release = make_fifo("entered"), make_fifo("release")
    slow = (
        "class Operator:\n    def on_event(self, e, s):\n        if e['type'] == 'INPUT':\n"
        f"            open({str(entered.path)!r}, 'w').write('here\\n'); open({str(release.path)!r}).read()\n"
    )
    dataflow.cell("source", QUIET, inputs=SECONDLY, outputs=("out",))
    queues: Any = {"in": (1, "backpressure")}
    dataflow.cell("slow", slow, inputs={"in": "source/out"}, queues=queues)
    dataflow.start()
    dataflow.send("source/out", 0)
    entered.wait_for("here")
    for n in range(1, 6):
        dataflow.send("source/out", n)
    # One is in hand, one in line, one waits for room: who asks now is answered all the same.
    assert dataflow.latest("source/out")["value"][0].as_py() <= 2
    dataflow.cell("other", QUIET, inputs={"in": "source/out"})
    assert dataflow.status("other").state is State.RUNNING


def test_what_a_process_did_not_come_to_before_it_handed_over_its_successor_sends(
    dataflow: CellDataflow,
    tmp_path: Path,
    make_fifo: Callable[..., Fifo],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked while the old one handles its STOP, and reads nothing of the engine's any more."""
    monkeypatch.setattr("dora_nb.dataflow.declaring.STOP_GRACE_SECS", TIMEOUT_SECS)
    staged = StagedHandOver(dataflow, tmp_path, make_fifo("at_gate", stays_open=True))
    dataflow.cell("a", QUIET, inputs=SECONDLY, outputs=("out",))
    declare_middle(dataflow, staged.body(1))
    dataflow.start()
    with ThreadPoolExecutor() as background, dataflow.subscribe("b/out") as out:
        edited = staged.begin(background, "parting", 2)
        for number in range(3):
            dataflow.send("b/out", number)
        state = background.submit(staged.session.living_state, "b", timeout_secs=TIMEOUT_SECS)
        wait_until(lambda: bool(staged.supervisor.process.requests.shown))
        staged.open_gate()
        assert "generation 2" in in_words(edited.result(TIMEOUT_SECS))
        assert [out.next(TIMEOUT_SECS)["value"].to_pylist() for _ in range(3)] == [[0], [1], [2]]
        # The object that had the state is gone, so the question ends without an answer.
        assert state.result(TIMEOUT_SECS) is None
    wait_until(lambda: staged.supervisor.injecting == 0)


# -- replay ----------------------------------------------------------------------------------------


def taken(n: int, *, secs: float) -> dict[str, Any]:
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=secs)
    about = {"timestamp": when, "n": n}
    return {
        "type": "INPUT",
        "kind": "dora",
        "id": "source/out",
        "value": pa.array([n]),
        "metadata": about,
    }


def test_what_was_taken_is_fed_again(running: CellDataflow) -> None:
    with running.subscribe("echo/out") as arrived:
        running.send("source/out", [1], {"n": 1})
        arrived.next(10)
    event = running.latest("source/out")
    with running.subscribe("echo/out", queue_size=100) as arrived:
        assert running.replay([event, taken(2, secs=1)], speed=None) == 2
        replayed = [arrived.next(10) for _ in range(2)]
    assert [each["metadata"]["n"] for each in replayed] == [1, 2]
    assert replayed[0]["metadata"]["timestamp"] >= event["metadata"]["timestamp"]


def test_a_replay_keeps_the_spacing(running: CellDataflow, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(messaging, "_sleep", slept.append)
    monkeypatch.setattr(messaging.time, "monotonic", lambda: 100.0)
    events = [taken(n, secs=secs) for n, secs in enumerate((0, 1, 1.5))]
    running.replay(events)
    assert slept == [0, 1, 1.5]
    slept.clear()
    running.replay(events, speed=2)
    assert slept == [0, 0.5, 0.75]


def test_a_replay_on_another_topic(dataflow: CellDataflow) -> None:
    dataflow.cell("echo", ECHO, inputs={"in": "notebook/numbers"}, outputs=("out",))
    dataflow.start()
    with dataflow.subscribe("echo/out") as arrived:
        dataflow.replay([taken(5, secs=0)], topic="notebook/numbers")
        assert arrived.next(10)["metadata"]["n"] == 5
    with pytest.raises(GraphError, match="speed must be a number above 0, or None, got 0"):
        dataflow.replay([], speed=0)


def test_several_topics_come_as_they_were_sent(running: CellDataflow) -> None:
    events = [taken(2, secs=0.02), taken(4, secs=0.04), taken(1, secs=0.01), taken(3, secs=0.03)]
    with running.subscribe("echo/out", queue_size=100) as arrived:
        running.replay(events)
        numbers = [arrived.next(10)["metadata"]["n"] for _ in range(4)]
    assert numbers == [1, 2, 3, 4]


def test_what_is_no_event_is_found_before_anything_is_sent(running: CellDataflow) -> None:
    before = counts(running)
    with pytest.raises(GraphError, match="cannot replay item 1: expected an event, got"):
        running.replay([taken(1, secs=0), {"type": "STOP"}])
    assert counts(running) == before
