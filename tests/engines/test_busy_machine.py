"""Robots are busy machines: the same promises beside four busy loops, often enough to meet the rare orders."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dora_nb.errors import OperatorError
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo
from .hand_over_rig import (
    BLOCKING,
    EVERY_MILLI,
    HAND_OVER_STEPS,
    NUMBERING,
    StagedHandOver,
    declare_middle,
    start_three,
    what_arrived,
)

pytestmark = pytest.mark.soak
REPOSITORY = Path(__file__).resolve().parents[2]
LOOPS = 4
IN_PLACE = """
class Operator:
    def __init__(self):
        self.handled = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.handled += 1
            send_output("out", dora_event["value"], self.about())
    def about(self):
        return {{"generation": {generation}, "handled": self.handled}}
"""
ECHO = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", dora_event["value"])
"""
FAILS_WHEN_TOLD = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", dora_event["value"])
            if dora_event["value"][0].as_py() % 2:
                raise ValueError("told to fail")
"""


@pytest.fixture(autouse=True)
def busy_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine is kept busy for as long as the test runs."""
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    with importlib.import_module("beside_busy_loops").busy_loops(LOOPS):
        yield


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """States how often something was done, at the end of what `make soak` prints."""
    return lambda text: record_property("stated", f"beside {LOOPS} busy loops: {text}")


def test_edits_with_fresh_processes(
    dataflow: CellDataflow,
    tmp_path: Path,
    make_fifo: Callable[..., Fifo],
    say: Callable[[str], None],
) -> None:
    edits = 200
    end = tmp_path / "end"
    staged = StagedHandOver(dataflow, tmp_path, make_fifo("at_gate", stays_open=True))
    start_three(dataflow, end, staged.body(1))
    for generation in range(2, edits + 2):
        declared = in_words(declare_middle(dataflow, staged.body(generation)))
        assert declared.startswith(f"b: generation {generation}, restarted"), declared
    said = what_arrived(dataflow, end)
    (edge,) = dataflow.status("a").outputs
    assert said[:4] == ["INPUT_CLOSED", edge.sent, 0, 0]
    assert dataflow.status("b").generation == edits + 1
    say(f"{edits} edits with fresh processes, {edge.sent} messages, none lost")


def test_edits_in_place(dataflow: CellDataflow, tmp_path: Path, say: Callable[[str], None]) -> None:
    edits = 200
    end = tmp_path / "end"
    start_three(dataflow, end, IN_PLACE.format(generation=1))
    for generation in range(2, edits + 2):
        declared = in_words(declare_middle(dataflow, IN_PLACE.format(generation=generation)))
        # A process that does not come to it in two seconds is followed by another one.
        assert declared.startswith(f"b: generation {generation}, "), declared
    said = what_arrived(dataflow, end)
    (edge,) = dataflow.status("a").outputs
    assert said[:4] == ["INPUT_CLOSED", edge.sent, 0, 0]
    say(f"{edits} edits in place, {edge.sent} messages, none lost")


@pytest.mark.parametrize("kind", ["operator", "script"])
def test_subscriptions_that_send_and_hear_the_answer(
    dataflow: CellDataflow, say: Callable[[str], None], kind: str
) -> None:
    rounds = 200
    script = (
        "from dora import Node\nnode = Node()\nfor e in node:\n"
        "    if e['type'] == 'INPUT': node.send_output('out', e['value'])"
    )
    body = ECHO if kind == "operator" else script
    dataflow.cell(
        "echo",
        body,
        inputs={"in": "notebook/command"},
        outputs=("out",),
        kind=kind,  # type: ignore[arg-type]
    )
    dataflow.start()
    for number in range(rounds):
        with dataflow.subscribe("echo/out") as out:
            dataflow.send("notebook/command", number)
            assert out.next(TIMEOUT_SECS)["value"].to_pylist() == [number]
    say(f"{rounds} rounds of subscribing to {kind}, sending and hearing the answer")


@pytest.mark.parametrize("step", HAND_OVER_STEPS)
def test_kills_at_each_step_of_a_hand_over(
    dataflow: CellDataflow,
    tmp_path: Path,
    make_fifo: Callable[..., Fifo],
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[[str], None],
    step: str,
) -> None:
    """The old and the new one in turn. A process that was killed loses at most the message in hand."""
    kills = 50
    monkeypatch.setattr("dora_nb.dataflow.declaring.STOP_GRACE_SECS", TIMEOUT_SECS)
    staged = StagedHandOver(dataflow, tmp_path, make_fifo("at_gate", stays_open=True))
    start_three(dataflow, staged.end, staged.body(1))
    takes_over = 0
    with ThreadPoolExecutor() as background:
        for number in range(kills):
            which = "old" if number % 2 else "new"
            edited = staged.begin(background, step, number + 2)
            staged.kill(which)
            if which == "old" or step == "parting":
                staged.open_gate()
                assert in_words(edited.result(TIMEOUT_SECS)).startswith("b: generation ")
                takes_over += 1
            else:
                with pytest.raises(OperatorError, match="b: kept generation "):
                    edited.result(TIMEOUT_SECS)
                staged.open_gate()
            assert dataflow.take("b/out", 1, timeout_secs=TIMEOUT_SECS)
    said = what_arrived(dataflow, staged.end)
    lost = sum(edge.dropped for edge in dataflow.status("b").inputs)
    assert said[2] <= kills, said
    assert lost <= kills
    assert said[3] == 0
    say(f"{kills} kills while {step}, {takes_over} took over; {said[2]} messages lost in hand")


def test_restarts_by_policy(dataflow: CellDataflow, say: Callable[[str], None]) -> None:
    restarts = 50
    policy = {"restart_policy": "on-failure", "max_restarts": 0}  # At once, each time.
    dataflow.cell(
        "b",
        FAILS_WHEN_TOLD,
        inputs={"in": "notebook/go"},
        outputs=("out",),
        queues=BLOCKING,
        keys=policy,
    )
    dataflow.start()
    for number in range(1, 2 * restarts, 2):
        dataflow.send("notebook/go", number)
        # It waits for the next generation where it stands.
        dataflow.send("notebook/go", number + 1)
        dataflow.until(
            lambda generation=(number + 1) // 2 + 1: (  # type: ignore[misc]
                dataflow.status("b").generation == generation
                and dataflow.status("b").state is State.RUNNING
            ),
            "the next generation",
        )
    (edge,) = dataflow.status("b").inputs
    assert edge.sent == 2 * restarts
    assert edge.dropped == 0
    say(f"{restarts} restarts by policy, {edge.sent} messages, none lost")


def test_starts_and_stops_of_eight_operators(
    dataflow: CellDataflow, tmp_path: Path, say: Callable[[str], None]
) -> None:
    times = 20
    dataflow.cell(
        "op0", NUMBERING, inputs=EVERY_MILLI, outputs=("out",), env={"END": str(tmp_path / "never")}
    )
    for number in range(1, 8):
        dataflow.cell(f"op{number}", ECHO, inputs={"in": f"op{number - 1}/out"}, outputs=("out",))
    for _ in range(times):
        dataflow.start()
        assert len(dataflow.take("op7/out", 3, timeout_secs=TIMEOUT_SECS)) == 3
        dataflow.stop()
        assert {each.state for each in dataflow.status()} == {State.STOPPED}
    say(f"{times} starts and stops of eight operators")
