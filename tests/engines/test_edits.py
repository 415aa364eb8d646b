"""A dataflow that runs takes edits: one operator changes, and no other notices more than it must."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dora_nb.errors import GraphError, OperatorError
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

MakeFifo = Callable[[str], Fifo]
EVERY_MILLI = {"tick": "dora/timer/millis/1"}
NEVER_FULL = (10_000, "backpressure")
NUMBERING = """
import os
import numpy as np, pyarrow as pa
from dora import DoraStatus

class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            return
        if os.path.exists(os.environ["END"]):
            print(self.n)
            return DoraStatus.STOP
        send_output("small", pa.array([self.n]))
        if self.n % 10 == 0:
            send_output("large", pa.array(np.full(30_000, self.n)))
        self.n += 1
"""
PASSING_ON = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output(dora_event["id"], dora_event["value"], dora_event["metadata"])
"""
CHECKING = """
import json
import os
from dora import DoraStatus

class Operator:
    expected = {"small": 0, "large": 0}
    step = {"small": 1, "large": 10}
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            print(json.dumps([dora_event["type"], dora_event["id"], self.expected]))
            return
        name, value = dora_event["id"], dora_event["value"]
        assert value[0].as_py() == self.expected[name], (name, value[0], self.expected)
        assert value[0] == value[len(value) - 1]
        self.expected[name] += self.step[name]
        send_output("seen", b"", self.expected)
"""
TELLING = """
import json
import os
class Operator:
    def on_event(self, dora_event, send_output):
        print(dora_event["type"], dora_event["id"], dora_event.get("metadata", {}).get("n", ""))
        send_output("told", b"", {"type": dora_event["type"], "id": dora_event["id"]})
"""
SENDING = """
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", b"", {"n": self.n})
            self.n += 1
"""


def sending_and_ending(count: int, size: int = 8) -> str:
    """Sends that many messages in one event, and is done."""
    return (
        "import numpy as np, pyarrow as pa\nfrom dora import DoraStatus\n"
        "class Operator:\n    def on_event(self, dora_event, send_output):\n"
        f"        for n in range({count}):\n"
        f"            send_output('out', pa.array(np.full({size}, n)), {{'n': n}})\n"
        "        return DoraStatus.STOP\n"
    )


# -- nothing is lost ------------------------------------------------------------------------------


@pytest.mark.soak  # test_hand_over.py shows it for one replacement after the other.
def test_ten_restarts_under_traffic_lose_double_and_reorder_nothing(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    """About 1,000 messages a second, small ones inline and large ones in shared memory, a → b → c."""
    names = ("small", "large")
    end = tmp_path / "end"
    policy = dict.fromkeys(names, (100, "backpressure"))
    dataflow.cell("a", NUMBERING, inputs=EVERY_MILLI, outputs=names, env={"END": str(end)})
    dataflow.cell(
        "b", PASSING_ON, inputs={name: f"a/{name}" for name in names}, outputs=names, queues=policy
    )
    dataflow.cell(
        "c",
        CHECKING,
        inputs={name: f"b/{name}" for name in names},
        outputs=("seen",),
        queues=policy,
    )
    dataflow.cell("x", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("y", TELLING, inputs={"in": "x/out"}, outputs=("told",))
    dataflow.start()
    for number in range(10):
        declared = dataflow.cell(
            "b",
            f"{PASSING_ON}# {number}",
            inputs={name: f"a/{name}" for name in names},
            outputs=names,
            queues=policy,
            on_edit="restart",
        )
        what = "restarted: --on-edit restart, state not kept"
        assert in_words(declared) == f"b: generation {number + 2}, {what}"
        dataflow.take("c/seen", 5)  # It goes on in between.
    end.touch()
    for name in "abc":
        status = dataflow.until_state(name, State.FINISHED)
        assert status.error is None
        for edge in (*status.inputs, *status.outputs):
            assert (edge.dropped, edge.queued) == (0, 0)
            assert edge.sent == edge.received
    (sent,) = (int(line) for line in dataflow.said_by("a"))
    last = json.loads(dataflow.said_by("c")[-1])
    assert last[0] == "INPUT_CLOSED"
    assert last[2] == {"small": sent, "large": -(-sent // 10) * 10}
    assert sent > 100
    # Who has nothing to do with b, or only reads from it, is what it was.
    generations = {each.name: each.generation for each in dataflow.status()}
    assert generations == {"a": 1, "b": 11, "c": 1, "x": 1, "y": 1}


@pytest.mark.parametrize("size", [8, 20_000], ids=["inline", "in shared memory"])
def test_what_an_old_generation_had_sent_arrives(
    dataflow: CellDataflow, tmp_path: Path, make_fifo: MakeFifo, size: int
) -> None:
    """The reader is busy all the while, and takes them when their publisher is long gone."""
    gate, entered = tmp_path / "gate", make_fifo("entered")
    body = (
        "import os\n"
        "class Operator:\n    at_gate = True\n    def on_event(self, dora_event, send_output):\n"
        "        if self.at_gate:\n            self.at_gate = False\n"
        f"            open({str(entered.path)!r}, 'w').close(); open({str(gate)!r}).read()\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            value = dora_event['value']\n"
        "            assert value[0] == value[len(value) - 1]\n"
        "            print(value[0].as_py())\n"
    )

    os.mkfifo(gate)
    read = {"in": "source/out"}
    dataflow.cell("source", sending_and_ending(20, size), inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("reader", body, inputs=read, queues={"in": (100, "backpressure")})
    dataflow.start()
    entered.wait_for_end()
    dataflow.until_state("source", State.FINISHED)
    for _ in range(2):
        dataflow.restart("source")
        dataflow.until_state("source", State.FINISHED)
    gate.write_text("")
    dataflow.until_state("reader", State.FINISHED)
    assert dataflow.said_by("reader") == [str(n) for n in range(20)] * 3


def test_a_publisher_does_not_wait_for_a_reader_that_failed_or_was_removed(
    dataflow: CellDataflow, make_fifo: MakeFifo
) -> None:
    blocking = {"in": (1, "backpressure")}
    entered = make_fifo("entered")
    never_reading = (
        "import time\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
        f"        open({str(entered.path)!r}, 'w').close(); time.sleep(1000)\n"
    )
    dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("stuck", never_reading, inputs={"in": "source/out"}, queues=blocking)
    dataflow.start()
    entered.wait_for_end()
    assert in_words(dataflow.remove("stuck")) == "stuck: removed"
    assert len(dataflow.take("source/out", 20)) == 20
    failing = "class Operator:\n    def on_event(self, e, s): 1 / 0\n"
    dataflow.cell("fails", failing, inputs={"in": "source/out"}, queues=blocking)
    dataflow.failure_of("fails")
    assert len(dataflow.take("source/out", 20)) == 20


# -- what an edit changes -----------------------------------------------------------------------------


def test_the_same_cell_again_changes_nothing(dataflow: CellDataflow) -> None:
    for expected in ("source: declared", "source: unchanged"):
        declared = dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
        assert in_words(declared) == expected
    dataflow.start()
    declared = dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",), number=9)
    assert in_words(declared) == "source: unchanged"
    assert dataflow.status("source").generation == 1


def test_inputs_and_outputs_may_change(dataflow: CellDataflow) -> None:
    dataflow.cell("one", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("two", SENDING, inputs={"tick": "dora/timer/hz/100"}, outputs=("out",))
    dataflow.cell("op", PASSING_ON, inputs={"a": "one/out"}, outputs=("a",))
    dataflow.start()
    assert dataflow.latest("op/a")
    dataflow.cell("op", PASSING_ON, inputs={"b": "two/out"}, outputs=("b",))
    assert dataflow.latest("op/b")
    with pytest.raises(GraphError, match="'op/a'"):
        dataflow.latest("op/a")
    assert [edge.topic for edge in dataflow.status("op").inputs] == ["two/out"]
    assert dataflow.status("one").outputs == ()
    # The same input from another source, with another queue.
    dataflow.cell(
        "op", PASSING_ON, inputs={"b": "one/out"}, outputs=("b",), queues={"b": (3, "drop_oldest")}
    )
    assert dataflow.take("op/b", 3)
    (edge,) = dataflow.status("op").inputs
    assert (edge.topic, edge.queue_size) == ("one/out", 3)
    assert dataflow.status("op").generation == 3


def test_a_waiting_input_comes_alive(dataflow: CellDataflow) -> None:
    dataflow.cell("reader", TELLING, inputs={"in": "source/out"}, outputs=("told",))
    dataflow.start()
    assert dataflow.until_state("reader", State.WAITING).waiting_for == ("source",)
    typo = dataflow.cell("typo", TELLING, inputs={"in": "raeder/told", "other": "x/y"})
    assert in_words(typo) == "typo: started, waiting for raeder (did you mean 'reader'?), x"
    declared = dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    assert in_words(declared) == "source: started"
    assert dataflow.latest("reader/told")["metadata"]["type"] == "INPUT"
    reader = dataflow.until_state("reader", State.RUNNING)
    assert (reader.generation, reader.waiting_for) == (1, ())
    dataflow.stop()  # All that it printed was read then.
    assert dataflow.said_by("reader")[0] == "INPUT in 0"


def test_a_reader_of_a_removed_operator_waits_and_is_told_nothing(dataflow: CellDataflow) -> None:
    dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("reader", TELLING, inputs={"in": "source/out"}, outputs=("told",))
    dataflow.start()
    dataflow.latest("reader/told")
    for _ in range(3):
        assert in_words(dataflow.remove("source")) == "source: removed; reader waits for it"
        assert dataflow.until_state("reader", State.WAITING).waiting_for == ("source",)
        dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
        assert dataflow.take("reader/told", 2)
    assert dataflow.status("reader").generation == 1
    dataflow.stop()
    assert {line.split()[0] for line in dataflow.said_by("reader")} == {"INPUT", "STOP"}


def test_an_operator_that_was_removed_leaves_nothing(dataflow: CellDataflow) -> None:
    """Not in the engine either: memory of its outputs, counts, logs."""
    dataflow.cell("stays", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.start()
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        dataflow.cell("op", SENDING, inputs=EVERY_MILLI, outputs=("out", "other"))
        dataflow.cell("op", SENDING, inputs=EVERY_MILLI, outputs=("out",))
        dataflow.latest("op/out")
        dataflow.remove("op")
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 1
    assert [each.name for each in dataflow.status()] == ["stays"]
    with pytest.raises(GraphError):
        dataflow.logs("op")


# -- who comes to an end, and comes back ------------------------------------------------------------


def test_a_reader_is_told_after_the_last_message_and_finishes(dataflow: CellDataflow) -> None:
    dataflow.cell("source", sending_and_ending(50), inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell(
        "reader",
        TELLING,
        inputs={"in": "source/out"},
        outputs=("told",),
        queues={"in": (100, "drop_oldest")},
    )
    dataflow.cell(
        "last", TELLING, inputs={"in": "reader/told"}, queues={"in": (100, "drop_oldest")}
    )
    dataflow.start()
    dataflow.until_state("last", State.FINISHED)
    told = [f"INPUT in {n}" for n in range(50)]
    assert dataflow.said_by("reader") == [*told, "INPUT_CLOSED in "]
    assert dataflow.said_by("last") == ["INPUT in "] * 51 + ["INPUT_CLOSED in "]
    assert {each.state for each in dataflow.status()} == {State.FINISHED}
    assert dataflow.wait(TIMEOUT_SECS)


def test_a_reader_with_another_input_goes_on(dataflow: CellDataflow) -> None:
    """A timer never closes, and neither does an input that waits."""
    dataflow.cell("source", sending_and_ending(1), inputs=EVERY_MILLI, outputs=("out",))
    others = {"other": "stays/out", "timer": "dora/timer/hz/100", "waiting": "nobody/out"}
    for name, source in others.items():
        dataflow.cell(
            f"with_{name}", TELLING, inputs={"in": "source/out", name: source}, outputs=("told",)
        )
    dataflow.cell("stays", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    closed = [dataflow.subscribe(f"with_{name}/told", queue_size=10_000) for name in others]
    dataflow.start()
    for subscription in closed:
        with subscription:
            while subscription.next(TIMEOUT_SECS)["metadata"]["type"] != "INPUT_CLOSED":
                pass
    dataflow.until_state("source", State.FINISHED)
    states = {each.name: each.state for each in dataflow.status() if each.name.startswith("with")}
    assert states == {
        "with_other": State.RUNNING,
        "with_timer": State.RUNNING,
        "with_waiting": State.WAITING,
    }


def test_a_failure_upstream_is_an_end_too_and_readers_come_back_with_it(
    dataflow: CellDataflow,
) -> None:
    """Down the whole chain, each with a new generation."""
    failing = "class Operator:\n    def on_event(self, e, s): 1 / 0\n"
    dataflow.cell("source", failing, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("reader", TELLING, inputs={"in": "source/out"}, outputs=("told",))
    dataflow.cell("last", TELLING, inputs={"in": "reader/told"}, outputs=("told",))
    dataflow.cell("stays", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    with_failure = dataflow.subscribe("last/told")
    with contextlib.suppress(OperatorError):  # It may fail before the start has returned.
        dataflow.start()
    with with_failure:
        for name in ("reader", "last"):
            dataflow.until_state(name, State.FINISHED)
        dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
        while with_failure.next(TIMEOUT_SECS)["metadata"]["type"] != "INPUT":
            pass
    for name in ("reader", "last"):
        assert dataflow.until_state(name, State.RUNNING).generation == 2


def test_one_that_ended_on_its_own_account_does_not_come_back(dataflow: CellDataflow) -> None:
    once = "from dora import DoraStatus\nclass Operator:\n    def on_event(self, e, s): return DoraStatus.STOP\n"
    dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("once", once, inputs={"in": "source/out"})
    dataflow.cell("other", TELLING, inputs={"in": "source/out"}, outputs=("told",))
    dataflow.start()
    dataflow.until_state("once", State.FINISHED)
    dataflow.restart("source")
    dataflow.take("other/told", 2)
    assert dataflow.status("once").state is State.FINISHED


def test_a_publisher_that_is_back_is_closed_no_more(dataflow: CellDataflow) -> None:
    """Its reader was told once, and finishes only when both are at their end at the same time."""
    dataflow.cell("one", sending_and_ending(1), inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("two", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("reader", TELLING, inputs={"a": "one/out", "b": "two/out"}, outputs=("told",))
    with dataflow.subscribe("reader/told", queue_size=10_000) as told:

        def wait_for(kind: str, name: str) -> None:
            while True:
                metadata = told.next(TIMEOUT_SECS)["metadata"]
                if (metadata["type"], metadata["id"]) == (kind, name):
                    return

        dataflow.start()
        wait_for("INPUT_CLOSED", "a")
        # Back, and silent: that it sends nothing yet must not count as its end.
        dataflow.cell("one", SENDING, outputs=("out",))
        dataflow.cell("two", sending_and_ending(1), inputs=EVERY_MILLI, outputs=("out",))
        wait_for("INPUT_CLOSED", "b")
        dataflow.cell("one", SENDING, inputs=EVERY_MILLI, outputs=("out",))
        wait_for("INPUT", "a")
        assert dataflow.status("reader").generation == 1
        dataflow.cell("one", sending_and_ending(1), inputs=EVERY_MILLI, outputs=("out",))
        wait_for("INPUT_CLOSED", "a")
    assert dataflow.until_state("reader", State.FINISHED).generation == 1


def test_a_publisher_that_is_back_while_its_reader_is_ending(
    dataflow: CellDataflow, tmp_path: Path, make_fifo: MakeFifo
) -> None:
    """The reader said that it ends; when it has, it is started again."""

    gate, ending = tmp_path / "gate", make_fifo("ending")
    os.mkfifo(gate)
    slow_to_end = (
        "import atexit, os\n"
        f"if os.path.exists({str(gate)!r}):\n"
        f"    atexit.register(lambda: (open({str(ending.path)!r}, 'w').close(), open({str(gate)!r}).read()))\n"
        + TELLING
    )
    dataflow.cell("source", sending_and_ending(1), inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("reader", slow_to_end, inputs={"in": "source/out"}, outputs=("told",))
    dataflow.cell("stays", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.start()
    ending.wait_for_end()
    dataflow.cell("source", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    assert dataflow.status("reader").generation == 1
    # Opened for both: the atexit handler that waits goes on, and the next generation has none.
    descriptor = os.open(gate, os.O_RDWR)
    gate.unlink()
    os.close(descriptor)
    dataflow.until(
        lambda: (
            (status := dataflow.status("reader")).generation == 2 and status.state is State.RUNNING
        ),
        "the next generation",
    )
    assert dataflow.latest("reader/told")["metadata"]["type"] == "INPUT"


def test_a_stop_tells_nobody_that_an_input_has_closed(dataflow: CellDataflow) -> None:
    dataflow.cell("source", SENDING, outputs=("out",))
    for name in ("one", "two", "three"):
        dataflow.cell(name, TELLING, inputs={"in": "source/out"})
    for _ in range(2):
        dataflow.start()
        dataflow.stop()
        for name in ("one", "two", "three"):
            assert dataflow.said_by(name) == ["STOP MANUAL "]
            assert dataflow.status(name).state is State.STOPPED


def test_of_many_declared_at_once_one_that_fails_keeps_no_other_back(
    dataflow: CellDataflow,
) -> None:
    dataflow.cell("first", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.start()
    other = CellDataflow()
    other.cell("fails", "1 / 0")
    other.cell("second", SENDING, inputs=EVERY_MILLI, outputs=("out",))
    with pytest.raises(OperatorError, match="fails failed before its first event"):
        dataflow.front_end.declare_all(other.graph)
    assert dataflow.take("second/out", 2)
