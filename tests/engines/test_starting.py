"""Nothing moves before everybody is ready, and every call may come at any moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dora_nb.engines.embedded import Session, _spawner, _supervisor
from dora_nb.engines.embedded import _lifecycle as lifecycle
from dora_nb.engines.embedded._process import OperatorProcess
from dora_nb.errors import DataflowStateError, OperatorError
from dora_nb.graph.nodes import NodeKind, NodeSpec
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

MakeFifo = Callable[[str], Fifo]
TICK = {"tick": "dora/timer/millis/1"}
COUNTING = """
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("n", b"", {"n": self.n})
            self.n += 1
"""
PASSING_ON = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "STOP":
            send_output("n", b"", dora_event.get("metadata") or {"closed": dora_event["id"]})
"""
IDLE = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
FAILING = "class Operator:\n    def __init__(self): 1 / 0\n"
WAITING = """
import os
class Operator:
    def __init__(self):
        open(os.environ["STARTED"], "w").close()
        open(os.environ["GATE"]).read()  # until the gate was opened and closed
    def on_event(self, dora_event, send_output): pass
"""


class Gate:
    """Holds operators in their `__init__`."""

    def __init__(self, folder: Path, started: Fifo) -> None:
        self.path = folder / "gate"
        os.mkfifo(self.path)
        self._started = started
        self.env = {"GATE": str(self.path), "STARTED": str(started.path)}

    def wait_until_reached(self) -> None:
        """Returns when an operator is in its `__init__`."""
        self._started.wait_for_end()

    def open(self) -> None:
        """Lets it go on."""
        self.path.write_text("")


@pytest.fixture
def gate(tmp_path: Path, make_fifo: MakeFifo) -> Gate:
    return Gate(tmp_path, make_fifo("started"))


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def test_nothing_moves_before_everybody_is_ready(
    dataflow: CellDataflow, gate: Gate, background: ThreadPoolExecutor
) -> None:
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    dataflow.cell(
        "reader", PASSING_ON, inputs={"n": "counter/n"}, outputs=("n",),
        queues={"n": (10, "backpressure")},
    )  # fmt: skip
    dataflow.cell("slow", WAITING, env=gate.env)
    started = background.submit(dataflow.start)
    with dataflow.subscribe("reader/n", queue_size=50) as passed_on:
        gate.wait_until_reached()
        session = dataflow._run.session
        assert session is not None
        dataflow.until(lambda: session.settling() == ["slow"], "two of three ready")
        assert {each.state for each in dataflow.status()} == {State.STARTING}
        assert [each.events for each in dataflow.status()] == [0, 0, 0]
        assert not started.done()
        gate.open()
        assert in_words(started.result(TIMEOUT_SECS)) == "started: counter, reader, slow"
        assert [passed_on.next(TIMEOUT_SECS)["metadata"]["n"] for _ in range(20)] == list(range(20))


def test_one_that_fails_leaves_the_others_ready_until_it_is_corrected(
    dataflow: CellDataflow,
) -> None:
    """Also its readers: an input whose publisher never was there has not closed."""
    dataflow.cell("source", FAILING, outputs=("n",))
    dataflow.cell(
        "reader", PASSING_ON, inputs={"n": "source/n"}, outputs=("n",),
        queues={"n": (10, "backpressure")},
    )  # fmt: skip
    with dataflow.subscribe("reader/n", queue_size=50) as passed_on:
        with pytest.raises(OperatorError, match="source failed before its first event") as raised:
            dataflow.start()
        assert "The others are ready: correct the cell" in str(raised.value)
        assert "take it away (dataflow.remove('source'))" in str(raised.value)
        reader = dataflow.status("reader")
        assert (reader.state, reader.events) == (State.STARTING, 0)
        with pytest.raises(OperatorError, match="source failed before its first event"):
            dataflow.cell("source", FAILING + "# still", outputs=("n",))
        idle = dataflow.cell("idle", IDLE)
        assert in_words(idle) == "idle: started; the start is held by source"
        dataflow.cell("source", COUNTING, inputs=TICK, outputs=("n",))
        assert passed_on.next(TIMEOUT_SECS)["metadata"]["n"] == 0
    reader = dataflow.status("reader")
    assert (reader.state, reader.generation) == (State.RUNNING, 1)
    assert dataflow.status("source").generation == 3


@pytest.mark.parametrize("kind", ["operator", "script"])
def test_a_stop_before_anything_has_moved_ends_readers_in_order(
    dataflow: CellDataflow, kind: NodeKind
) -> None:
    reading = (
        PASSING_ON if kind == "operator" else "from dora import Node\nfor event in Node(): pass\n"
    )
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    dataflow.cell("reader", reading, inputs={"n": "counter/n"}, outputs=("n",), kind=kind)
    dataflow.cell("fails", FAILING)
    with pytest.raises(OperatorError, match="fails failed"):
        dataflow.start()
    dataflow.stop()
    assert {each.name: each.state for each in dataflow.status()} == {
        "counter": State.STOPPED,
        "reader": State.STOPPED,
        "fails": State.FAILED,
    }
    assert dataflow.status("reader").error is None
    assert dataflow.said_by("reader", "engine") == []


def test_it_goes_too_when_the_failed_one_is_removed(dataflow: CellDataflow) -> None:
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    dataflow.cell("fails", FAILING, outputs=("out",))
    dataflow.cell("reader", IDLE, inputs={"in": "fails/out"})
    with pytest.raises(OperatorError):
        dataflow.start()
    assert dataflow.status("counter").events == 0
    assert in_words(dataflow.remove("fails")) == "fails: removed; reader waits for it"
    assert dataflow.latest("counter/n")["metadata"]["n"] >= 0
    assert dataflow.until_state("reader", State.WAITING).waiting_for == ("fails",)


def test_a_start_tries_again_what_failed_and_leaves_the_rest(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    absent = tmp_path / "model.pt"
    dataflow.cell("loads", f"open({str(absent)!r})\n{IDLE}")
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    for _ in range(2):
        with pytest.raises(OperatorError, match="No such file"):
            dataflow.start()
    absent.touch()
    assert in_words(dataflow.start()) == "started: loads, counter"
    assert dataflow.status("counter").generation == 1
    assert in_words(dataflow.start()) == "already running"


def test_all_failures_of_a_start_are_named(dataflow: CellDataflow) -> None:
    dataflow.cell("one", FAILING)
    dataflow.cell("two", FAILING)
    with pytest.raises(OperatorError) as caught:
        dataflow.start()
    assert caught.value.node == "one"
    assert caught.value.hint == "Failed too: two."
    assert in_words(dataflow.stop()) == "already stopped"


def test_starting_stopping_and_starting_again(dataflow: CellDataflow) -> None:
    with pytest.raises(DataflowStateError, match="nothing to start"):
        dataflow.start()
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    assert in_words(dataflow.stop()) == "already stopped"
    for _ in range(2):
        assert in_words(dataflow.start()) == "started: counter"
        assert in_words(dataflow.start()) == "already running"
        assert dataflow.running
        assert dataflow.take("counter/n", 1)[0]["metadata"]["n"] < 1000
        assert in_words(dataflow.stop()) == "stopped"
        assert in_words(dataflow.stop()) == "already stopped"
        assert not dataflow.running
        assert dataflow.status("counter").state is State.STOPPED


# -- at the wrong moment ---------------------------------------------------------------------------


def test_a_stop_during_the_start(
    dataflow: CellDataflow, gate: Gate, background: ThreadPoolExecutor
) -> None:
    dataflow.cell("slow", WAITING, env=gate.env)
    dataflow.cell("ready", IDLE)
    started = background.submit(dataflow.start)
    gate.wait_until_reached()
    assert in_words(dataflow.stop(grace_secs=0.1)) == "stopped"
    started.exception(TIMEOUT_SECS)  # It may say one thing or another, and must not hang.
    assert {each.state for each in dataflow.status()} == {State.STOPPED}
    assert not dataflow.running


def test_a_stop_right_after_the_start_was_asked_for(
    dataflow: CellDataflow, background: ThreadPoolExecutor
) -> None:
    """Before any process is there: none may appear afterwards."""
    for name in ("one", "two", "three"):
        dataflow.cell(name, IDLE)
    for _ in range(5):
        asked = threading.Event()
        unwatch = dataflow.on_change(asked.set)
        started = background.submit(dataflow.start)
        assert asked.wait(TIMEOUT_SECS)
        unwatch()
        dataflow.stop()
        started.exception(TIMEOUT_SECS)
        dataflow.stop()
        assert not dataflow.running


def test_a_restart_during_the_start(
    dataflow: CellDataflow, gate: Gate, background: ThreadPoolExecutor
) -> None:
    """The generation in `__init__` cannot be asked to stop; SIGTERM ends it."""
    dataflow.cell("slow", WAITING, env=gate.env)
    started = background.submit(dataflow.start)
    gate.wait_until_reached()
    declared = background.submit(dataflow.cell, "slow", IDLE)
    assert (
        in_words(declared.result(TIMEOUT_SECS)) == "slow: generation 2, restarted, state not kept"
    )
    assert in_words(started.result(TIMEOUT_SECS)) == "started: slow"


def test_a_removal_during_the_start(
    dataflow: CellDataflow, gate: Gate, background: ThreadPoolExecutor
) -> None:
    dataflow.cell("slow", WAITING, env=gate.env)
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    started = background.submit(dataflow.start)
    gate.wait_until_reached()
    assert in_words(dataflow.remove("slow")) == "slow: removed"
    assert in_words(started.result(TIMEOUT_SECS)) == "started: counter"
    assert dataflow.latest("counter/n")


def test_many_may_stop_at_once(dataflow: CellDataflow, background: ThreadPoolExecutor) -> None:
    dataflow.cell("counter", COUNTING, inputs=TICK, outputs=("n",))
    dataflow.start()
    stops = [background.submit(dataflow.stop) for _ in range(8)]
    said = {in_words(stop.result(TIMEOUT_SECS)) for stop in stops}
    assert "stopped" in said
    assert said <= {"stopped", "already stopped"}


def test_declarations_from_many_threads(
    dataflow: CellDataflow, background: ThreadPoolExecutor
) -> None:
    """The last one wins; there is one process, and it has the last one's environment."""
    body = (
        "import os\nclass Operator:\n    def on_event(self, e, send_output):\n"
        "        send_output('out', os.environ['WHO'].encode())\n"
    )
    declare = {"inputs": TICK, "outputs": ("out",)}
    dataflow.cell("op", body, env={"WHO": "first"}, **declare)
    dataflow.start()
    others = [
        background.submit(dataflow.cell, "op", body, env={"WHO": f"{n}"}, **declare)
        for n in range(6)
    ]
    for other in others:
        other.result(TIMEOUT_SECS)
    expected = dict(dataflow.graph.node("op").env)["WHO"]
    assert dataflow.take("op/out", 1)[0]["value"].to_pylist() == list(expected.encode())
    dataflow.until(lambda: len(operator_processes()) == 1, "the end of those that were replaced")


def operator_processes() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                if (
                    int(status[1]) == os.getpid()
                    and b"child/program.py" in (entry / "cmdline").read_bytes()
                ):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_outputs_that_change_while_a_process_is_made_for_the_old_ones(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the old environment, and may be another interpreter: it is ended, and another one made."""
    dataflow.cell("op", COUNTING, inputs=TICK, outputs=("old",))
    edited = CellDataflow()
    saying = f"import os\nprint(os.environ.get('WHO'))\n{COUNTING}"
    edited.cell("op", saying, inputs=TICK, outputs=("n",), env={"WHO": "the new one"})
    edited.cell("reader", PASSING_ON, inputs={"n": "op/n"}, outputs=("n",))
    original = _spawner.Spawner.spawn
    made: list[int] = []

    def spawn(self: _spawner.Spawner, spec: NodeSpec) -> tuple[OperatorProcess, int]:
        process, counters = original(self, spec)
        made.append(process.process_id)
        if len(made) == 1:
            assert dataflow._run.session is not None
            for name in ("op", "reader"):
                dataflow._run.session.apply(edited.graph, name, edit=None, grace_secs=2.0)
        return process, counters

    with monkeypatch.context() as patch:
        patch.setattr(_spawner.Spawner, "spawn", spawn)
        dataflow.start()
    dataflow._run.graph = edited.graph
    assert dataflow.latest("reader/n")["metadata"]["n"] >= 0
    assert dataflow.status("op").error is None
    assert made[0] not in operator_processes()
    dataflow.stop()
    assert set(dataflow.said_by("op")) == {"the new one"}


def test_what_was_asked_for_counts_from_the_moment_it_was_asked(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a stop right after a start would see nothing to stop, and the process came afterwards."""
    dataflow.cell("op", IDLE)
    go_on = threading.Event()
    original = _supervisor.Supervisor._take_requests

    def held_back(self: _supervisor.Supervisor) -> list[lifecycle.Event]:
        go_on.wait(TIMEOUT_SECS)
        return original(self)

    monkeypatch.setattr(_supervisor.Supervisor, "_take_requests", held_back)
    session = Session(dataflow.graph, [], on_change=lambda: None)
    try:
        session.open()
        assert session.alive
        session.request_stop(grace_secs=0.1)
        assert not session.wait_ended(0)
        assert not session.wait_settled(None, after={}, timeout_secs=0)
    finally:
        go_on.set()
        session.close()
    assert operator_processes() == []


def test_a_stop_that_is_asked_for_before_it_opens_starts_nothing(dataflow: CellDataflow) -> None:
    """As when a start is interrupted just then."""
    dataflow.cell("op", IDLE)
    session = Session(dataflow.graph, [], on_change=lambda: None)
    try:
        session.request_stop(grace_secs=0.1)
        assert session.wait_ended(0)
        session.open()
        assert not session.alive
        assert session.status() == []
    finally:
        session.close()
