"""Another generation takes over from one that runs: nothing is lost, and either may be killed at any step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dora_nb.errors import OperatorError

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo
from .hand_over_rig import (
    HAND_OVER_STEPS,
    StagedHandOver,
    declare_middle,
    start_three,
    what_arrived,
)

MakeFifo = Callable[..., Fifo]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, no process is cut short while a test looks at it."""
    monkeypatch.setattr("dora_nb.dataflow.declaring.STOP_GRACE_SECS", TIMEOUT_SECS)
    monkeypatch.setattr("dora_nb.engines.embedded._lifecycle.EXIT_GRACE_SECS", TIMEOUT_SECS)


def passing_on(generation: int, *, more: str = "") -> str:
    return (
        "class Operator:\n"
        f"    def __init__(self): self.generation = {generation}\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            send_output('out', dora_event['value'], {'generation': self.generation})\n"
        + more
    )


@pytest.mark.parametrize(
    ("edits", "env"),
    [
        pytest.param(8, {}, id="1 kHz"),
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
        assert in_words(declared) == what
        dataflow.take("b/out", 3)
    said = what_arrived(dataflow, tmp_path / "end")
    (edge,) = dataflow.status("a").outputs
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
    (edge,) = dataflow.status("b").inputs
    assert edge.dropped > 0
    assert (count, missing, wrong) == (edge.sent, edge.dropped, 0)


def test_what_the_old_one_sends_at_its_stop_comes_before_the_new_ones_first(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    leave = (
        "        else:\n"
        "            import pyarrow as pa\n"
        "            send_output('out', pa.array([-1]), {'generation': 'farewell'})\n"
    )
    start_three(dataflow, tmp_path / "end", passing_on(1, more=leave))
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


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.mark.parametrize("step", HAND_OVER_STEPS)
@pytest.mark.parametrize("which", ["old", "new"])
def test_either_may_be_killed_at_any_step(
    dataflow: CellDataflow,
    tmp_path: Path,
    make_fifo: MakeFifo,
    background: ThreadPoolExecutor,
    step: str,
    which: str,
) -> None:
    staged = StagedHandOver(dataflow, tmp_path, make_fifo("at_gate", stays_open=True))
    start_three(dataflow, staged.end, staged.body(1))
    edited = staged.begin(background, step, 2)
    staged.kill(which)
    if which == "old" or step == "parting":
        staged.open_gate()
        sentence = in_words(edited.result(TIMEOUT_SECS))
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
    lost = sum(edge.dropped for edge in dataflow.status("b").inputs)
    assert said[2] <= 1, said
    assert lost <= 1
    assert said[3] == 0
