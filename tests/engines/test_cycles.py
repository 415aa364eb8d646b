"""Started and stopped, edited and removed, as often as one likes: nothing grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import TIMEOUT_SECS, CellDataflow

EVERY_MILLI = {"tick": "dora/timer/millis/1"}
SENDING = """
import numpy as np, pyarrow as pa
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", pa.array(np.full(20_000 * (self.n % 2) + 1, self.n)))
            self.n += 1
"""
PASSING_ON = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", dora_event["value"])
"""


def in_use(process: str = "self") -> dict[str, int]:
    """Descriptors, threads and mappings of a process, by what they are."""
    folder = Path("/proc") / process
    maps = (folder / "maps").read_text()
    return {
        "descriptors": len(list((folder / "fd").iterdir())),
        "threads": len(list((folder / "task").iterdir())),
        "mappings of memfd": len(re.findall("memfd:", maps)),
    }


def operator_called(name: str) -> str:
    """The process of an operator, by what it writes into its environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"\0OPERATOR={name}\0".encode() in (entry / "environ").read_bytes():
                    return entry.name
            except OSError:
                continue
    raise AssertionError(f"there is no process of {name}")


def declare(dataflow: CellDataflow, name: str, *, edit: str = "") -> None:
    """One of the chain a → b → c; `a` sends small and large messages."""
    before = {"b": "a", "c": "b"}.get(name)
    dataflow.cell(
        name,
        (PASSING_ON if before else SENDING) + edit,
        inputs={"in": f"{before}/out"} if before else EVERY_MILLI,
        outputs=("out",),
        env={"OPERATOR": name},
        on_edit="restart",
    )


def declare_chain(dataflow: CellDataflow) -> None:
    for name in "abc":
        declare(dataflow, name)


def repeat(times: int, change: Callable[[int], object], seen: Callable[[], dict[str, int]]) -> None:
    """Nothing that is in use after a few rounds is more after the others."""
    for number in range(3):
        change(number)
    before = seen()
    for number in range(3, times):
        change(number)
    after = seen()
    # An edge with its three descriptors may still be on its way out; growth would be one for each
    # round, or more.
    grown = {what: after[what] - before[what] for what in before}
    assert not {what: more for what, more in grown.items() if more >= times - 3}


def starts_and_stops(dataflow: CellDataflow, times: int) -> None:
    declare_chain(dataflow)

    def change(_number: int) -> None:
        dataflow.start()
        assert dataflow.take("c/out", 3)
        dataflow.stop()

    repeat(times, change, in_use)


def edits(dataflow: CellDataflow, times: int, edited: str) -> None:
    declare_chain(dataflow)
    dataflow.start()
    others = [operator_called(name) for name in "abc" if name != edited]

    def change(number: int) -> None:
        declare(dataflow, edited, edit=f"N = {number}\n")
        assert dataflow.status(edited).generation == number + 2
        with dataflow.subscribe("c/out") as messages:
            assert messages.next(TIMEOUT_SECS)

    def seen() -> dict[str, int]:
        total = {f"{what} of the kernel": n for what, n in in_use().items()}
        for number, process in enumerate(others):
            total |= {f"{what} of {number}": n for what, n in in_use(process).items()}
        return total

    repeat(times, change, seen)


def test_a_few_edits_of_the_one_in_the_middle(dataflow: CellDataflow) -> None:
    edits(dataflow, 8, "b")


@pytest.mark.soak
def test_many_starts_and_stops(dataflow: CellDataflow) -> None:
    starts_and_stops(dataflow, 50)


@pytest.mark.soak
@pytest.mark.parametrize("edited", list("abc"))
def test_a_thousand_generations(dataflow: CellDataflow, edited: str) -> None:
    """Of a publisher, of one in the middle and of a reader, a third each; each has a process of its own."""
    edits(dataflow, 334, edited)


@pytest.mark.soak
def test_many_declarations_and_removals(dataflow: CellDataflow) -> None:
    declare_chain(dataflow)
    dataflow.start()

    def change(_number: int) -> None:
        dataflow.remove("b")
        declare(dataflow, "b")
        with dataflow.subscribe("c/out") as messages:
            assert messages.next(TIMEOUT_SECS)

    repeat(50, change, in_use)
