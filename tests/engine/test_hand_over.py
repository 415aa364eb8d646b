"""Another generation takes over from one that runs: nothing is lost, and either may be killed at any step."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dora_nb.dataflow import Declaration
from dora_nb.errors import OperatorError
from dora_nb.status import State

from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

MakeFifo = Callable[[str], Fifo]
EVERY_MILLI = {"tick": "dora/timer/millis/1"}
BLOCKING = {"in": (1000, "backpressure")}
NUMBERING = """
import os
import pyarrow as pa
from dora import DoraStatus

class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            for _ in range(int(os.environ.get("BURST", "1"))):
                send_output("out", pa.array([self.n] * int(os.environ.get("SIZE", "1"))))
                self.n += 1
            if os.path.exists(os.environ["END"]):
                return DoraStatus.STOP
"""
CHECKING = """
import json

class Operator:
    def __init__(self):
        self.expected, self.missing, self.wrong, self.generations = 0, 0, 0, []
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            print(json.dumps([dora_event["type"], self.expected, self.missing, self.wrong, self.generations]))
            return
        value, n = dora_event["value"], dora_event["value"][0].as_py()
        generation = dora_event["metadata"]["generation"]
        if generation not in self.generations[-1:]:
            self.generations.append(generation)
        self.wrong += n < self.expected or value[len(value) - 1].as_py() != n
        self.missing += max(0, n - self.expected)
        self.expected = n + 1
"""
STEPS = """
import os, signal
import pyarrow as pa
GENERATION = {generation}

def gate(step):
    if step == {step!r}:
        with open({at_gate!r}, "w") as file:
            file.write(str(os.getpid()) + "\\n")
        open({gate!r}).read()

class Operator:
    def __init__(self):
        self.handled = 0
        if GENERATION == 2 and {holds!r}:
            open({hold!r}).read()
        gate("preparing")
    def get_state(self):
        return self.handled
    def set_state(self, state):
        self.handled = state
        gate("filling")
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "STOP":
            gate("parting")
            return
        self.handled += 1
        send_output("out", dora_event["value"], {{"generation": GENERATION}})
        if GENERATION == 1 and os.path.exists({ready!r}):
            gate("pausing")
"""


def passing_on(generation: int, *, more: str = "") -> str:
    return (
        "class Operator:\n"
        f"    def __init__(self): self.generation = {generation}\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            send_output('out', dora_event['value'], {'generation': self.generation})\n"
        + more
    )


def declare_middle(dataflow: CellDataflow, body: str, **more: Any) -> Declaration:
    queues = more.pop("queues", BLOCKING)
    return dataflow.cell("b", body, inputs={"in": "a/out"}, outputs=("out",), queues=queues, **more)


def start_three(
    dataflow: CellDataflow, end: Path, body: str, *, queues: Any = BLOCKING, **env: str
) -> None:
    """Numbers, from a to b to c, which says at the end what it got."""
    dataflow.cell(
        "a", NUMBERING, inputs=EVERY_MILLI, outputs=("out",), env={"END": str(end), **env}
    )
    declare_middle(dataflow, body, queues=queues)
    dataflow.cell("c", CHECKING, inputs={"in": "b/out"}, queues=BLOCKING)
    dataflow.start()
    dataflow.take("b/out", 3)


def what_arrived(dataflow: CellDataflow, end: Path) -> list[Any]:
    """Ends the numbers; what c says: type, count, missing, wrong, generations."""
    end.touch()
    dataflow.until_state("c", State.FINISHED)
    said: list[Any] = json.loads(dataflow.said_by("c")[-1])
    return said


@pytest.mark.parametrize(
    ("edits", "env"),
    [
        pytest.param(8, {}, id="1 kHz"),
        pytest.param(8, {"BURST": "200"}, id="full rate"),
        pytest.param(4, {"SIZE": "8192"}, id="in shared memory"),
        pytest.param(100, {}, id="100 at 1 kHz", marks=pytest.mark.soak),
        pytest.param(100, {"BURST": "200"}, id="100 at full rate", marks=pytest.mark.soak),
    ],
)
def test_nothing_is_lost_doubled_or_reordered(
    dataflow: CellDataflow, tmp_path: Path, edits: int, env: dict[str, str]
) -> None:
    start_three(dataflow, tmp_path / "end", passing_on(1), **env)
    for generation in range(2, edits + 2):
        declared = declare_middle(dataflow, passing_on(generation))
        what = f"b: generation {generation}, restarted: __init__ changed, state not kept"
        assert str(declared) == what
        dataflow.take("b/out", 3)
    said = what_arrived(dataflow, tmp_path / "end")
    (edge,) = dataflow.node_status("a").outputs
    assert said == ["INPUT_CLOSED", edge.sent, 0, 0, list(range(1, edits + 2))]
    assert edge.dropped == edge.queued == 0
    assert {each.name: each.generation for each in dataflow.status()} == {
        "a": 1,
        "b": edits + 1,
        "c": 1,
    }


def test_with_drop_oldest_what_is_missing_was_counted(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    few = {"in": (5, "drop_oldest")}
    start_three(dataflow, tmp_path / "end", passing_on(1), queues=few, BURST="500")
    for generation in range(2, 8):
        declare_middle(dataflow, passing_on(generation), queues=few)
        dataflow.take("b/out", 3)
    _, count, missing, wrong, _ = what_arrived(dataflow, tmp_path / "end")
    (edge,) = dataflow.node_status("b").inputs
    assert edge.dropped > 0
    assert (count, missing, wrong) == (edge.sent, edge.dropped, 0)


def test_what_the_old_one_sends_at_its_stop_comes_before_the_new_ones_first(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    farewell = (
        "        else:\n"
        "            import pyarrow as pa\n"
        "            send_output('out', pa.array([-1]), {'generation': 'farewell'})\n"
    )
    start_three(dataflow, tmp_path / "end", passing_on(1, more=farewell))
    with dataflow.subscribe("b/out", queue_size=10_000) as arrived:
        arrived.next(TIMEOUT_SECS)
        declare_middle(dataflow, passing_on(2))
        order = []
        while order[-1:] != [2]:
            generation = arrived.next(TIMEOUT_SECS)["metadata"]["generation"]
            if generation not in order[-1:]:
                order.append(generation)
    assert order == [1, "farewell", 2]


def test_what_the_old_one_holds_is_not_written_over(dataflow: CellDataflow, tmp_path: Path) -> None:
    """It keeps an array, and looks at it when it is long replaced and the publisher has gone on."""
    holding = (
        "class Operator:\n    held = None\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            self.held = dora_event['value'] if self.held is None else self.held\n"
        "            send_output('out', dora_event['value'], {'generation': 1})\n"
        "    def __del__(self):\n"
        f"        open({str(tmp_path / 'gate')!r}).read()\n"
        "        print(set(self.held.to_pylist()) == {self.held[0].as_py()}, flush=True)\n"
    )
    os.mkfifo(tmp_path / "gate")
    start_three(dataflow, tmp_path / "end", holding, SIZE="20000")
    declare_middle(dataflow, passing_on(2))
    dataflow.take("b/out", 50)
    (tmp_path / "gate").write_text("")
    dataflow.until(lambda: dataflow.said_by("b") == ["True"], "the old one's last word")


class _Staged:
    """An edit whose hand-over stands still at one step."""

    def __init__(self, dataflow: CellDataflow, folder: Path, fifo: Fifo, step: str) -> None:
        self.dataflow, self.step, self.fifo = dataflow, step, fifo
        self.gate, self.ready, self.end = folder / "gate", folder / "ready", folder / "end"
        self.hold = folder / "hold"
        os.mkfifo(self.gate)
        os.mkfifo(self.hold)

    def body(self, generation: int) -> str:
        # A gate of the new one is at the new one, and of the old one at the old one.
        mine = {"preparing": 2, "filling": 2, "pausing": 1, "parting": 1}[self.step]
        return STEPS.format(
            generation=generation,
            step=self.step if generation == mine else None,
            at_gate=str(self.fifo.path),
            gate=str(self.gate),
            hold=str(self.hold),
            holds=self.step == "pausing",
            ready=str(self.ready),
        )

    def start(self, background: ThreadPoolExecutor) -> Future[Declaration]:
        """Begins the edit, and waits until the hand-over stands at the step."""
        start_three(self.dataflow, self.end, self.body(1))
        edited = background.submit(declare_middle, self.dataflow, self.body(2))
        if self.step == "pausing":
            # The old one comes to the gate while the new one is prepared, and so cannot pause; a kill
            # before the edit has begun would be a failure that nobody follows.
            self.until_next_is("preparing")
            self.ready.touch()
            self.fifo.wait_for("\n")
            self.hold.write_text("")
            self.until_next_is("pausing")
        else:
            self.fifo.wait_for("\n")
        return edited

    @property
    def supervisor(self) -> Any:
        return self.dataflow._session._supervisors["b"]  # type: ignore[union-attr]

    def until_next_is(self, step: str) -> None:
        self.dataflow.until(lambda: self.supervisor.life.next.value == step, f"b {step}")

    def kill(self, which: str) -> None:
        """Kills a generation, of which one stands at the gate."""
        role = "_process" if which == "old" else "_next"
        process = getattr(self.supervisor, role)
        os.kill(process.process_id, signal.SIGKILL)
        self.dataflow.until(lambda: getattr(self.supervisor, role) is not process, "its end")

    def open_gate(self) -> None:
        """Whoever stands there goes on, if he still lives, and does not come again."""
        self.ready.unlink(missing_ok=True)
        descriptor = os.open(self.gate, os.O_RDWR | os.O_NONBLOCK)
        os.close(descriptor)


@pytest.fixture
def background() -> Any:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.mark.parametrize("step", ["preparing", "pausing", "filling", "parting"])
@pytest.mark.parametrize("which", ["old", "new"])
def test_either_may_be_killed_at_any_step(
    dataflow: CellDataflow,
    tmp_path: Path,
    make_fifo: MakeFifo,
    background: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    which: str,
) -> None:
    # However busy the machine is, no step is cut short while the test looks at it.
    monkeypatch.setattr("dora_nb.dataflow.STOP_GRACE_SECS", TIMEOUT_SECS)
    staged = _Staged(dataflow, tmp_path, make_fifo("at_gate"), step)
    edited = staged.start(background)
    staged.kill(which)
    gone = "old" if which == "old" else "new"
    if which == "old" or step == "parting":
        staged.open_gate()
        sentence = str(edited.result(TIMEOUT_SECS))
        assert sentence.startswith("b: generation "), sentence
        expected = 2
    else:
        with pytest.raises(OperatorError, match="b: kept generation 1: "):
            edited.result(TIMEOUT_SECS)
        staged.open_gate()
        expected = 1
    generations = set()
    while expected not in generations:
        generations.add(dataflow.take("b/out", 1)[0]["metadata"]["generation"])
    said = what_arrived(dataflow, staged.end)
    # A killed process loses at most the message it had in hand.
    lost = sum(edge.dropped for edge in dataflow.node_status("b").inputs)
    assert said[2] <= 1, said
    assert lost <= 1
    assert said[3] == 0, gone
