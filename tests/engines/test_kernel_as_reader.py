"""The kernel reads along: what it gets, what it misses and counts, and what it holds on to."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dora_nb.errors import DataflowStateError, GraphError, OperatorError, TopicTimeoutError
from dora_nb.status import State

from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

EVERY_MILLI = {"tick": "dora/timer/millis/1"}
COUNTING = """
import numpy as np, pyarrow as pa
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("small", pa.array([self.n]), {"n": self.n})
            send_output("large", pa.array(np.full(50_000, self.n)), {"n": self.n})
            self.n += 1
"""
ONCE = """
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        send_output("out", pa.array([7] * SIZE), {"n": 1})
"""


@pytest.fixture
def counting(dataflow: CellDataflow) -> CellDataflow:
    dataflow.cell("op", COUNTING, inputs=EVERY_MILLI, outputs=("small", "large"))
    dataflow.start()
    return dataflow


def test_take_is_what_comes_after_the_call(counting: CellDataflow) -> None:
    first = counting.take("op/small", 20)
    numbers = [event["metadata"]["n"] for event in first]
    assert numbers == sorted(set(numbers))
    assert [event["value"].to_pylist() for event in first] == [[n] for n in numbers]
    assert {(event["type"], event["id"]) for event in first} == {("INPUT", "op/small")}
    again = counting.take("op/small", 1)
    assert again[0]["metadata"]["n"] > numbers[-1]


@pytest.mark.parametrize("size", [1, 10_000])
def test_latest_is_there_at_once_if_there_ever_was_one(dataflow: CellDataflow, size: int) -> None:
    dataflow.cell(
        "op",
        ONCE.replace("SIZE", str(size)),
        inputs={"tick": "dora/timer/secs/3600"},
        outputs=("out",),
    )
    with dataflow.subscribe("op/out") as first:
        dataflow.start()
        first.next(TIMEOUT_SECS)
    for _ in range(3):
        event = dataflow.latest("op/out")
        assert event["value"].to_pylist() == [7] * size
        assert event["metadata"]["n"] == 1


def test_arrays_stay_what_they_were_for_as_long_as_they_are_held(counting: CellDataflow) -> None:
    """Through hundreds of later messages, a restart of their publisher, and the stop."""
    held = [(e["metadata"]["n"], e["value"].to_numpy()) for e in counting.take("op/large", 12)]
    assert not held[0][1].flags.writeable
    counting.take("op/large", 200)
    counting.restart("op")
    counting.take("op/large", 50)
    counting.stop()
    for n, values in held:
        assert np.array_equal(values, np.full(50_000, n))


def test_a_subscription_counts_what_it_missed(dataflow: CellDataflow) -> None:
    """It keeps the newest; every other one is counted, wherever it was dropped. A stop keeps that."""
    body = (
        "import pyarrow as pa\nfrom dora import DoraStatus\nclass Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        for n in range(500): send_output('out', b'', {'n': n})\n"
        "        return DoraStatus.STOP\n"
    )
    dataflow.cell("op", body, inputs=EVERY_MILLI, outputs=("out",))
    with dataflow.subscribe("op/out", queue_size=3) as messages:
        for sent in (500, 1000):
            dataflow.start()
            dataflow.until_state("op", State.FINISHED)
            with messages._arrived:
                assert messages._arrived.wait_for(
                    lambda: bool(messages._events) and messages._events[-1]["metadata"]["n"] == 499,
                    TIMEOUT_SECS,
                )
            # A publisher may not have seen yet that one was taken, and drop one more than it has to.
            numbers = [event["metadata"]["n"] for event in messages._events]
            assert len(numbers) == 3
            assert numbers == sorted(numbers)
            messages._events.clear()
            assert messages.dropped == sent - 3 * sent // 500
            dataflow.stop()
            assert messages.dropped == sent - 3 * sent // 500


def test_a_subscription_goes_on_over_stop_start_and_edit(dataflow: CellDataflow) -> None:
    """It may be there before its node is, and be closed while a reader waits."""
    with dataflow.subscribe("op/small") as messages:
        for generation in (1, 2):
            dataflow.cell(
                "op", f"{COUNTING}# {generation}", inputs=EVERY_MILLI, outputs=("small", "large")
            )
            dataflow.start()
            assert messages.next(TIMEOUT_SECS)
            dataflow.cell(
                "op",
                f"{COUNTING}# edited {generation}",
                inputs=EVERY_MILLI,
                outputs=("small", "large"),
            )
            messages._events.clear()
            assert messages.next(TIMEOUT_SECS)
            dataflow.stop()
            messages._events.clear()
        waiting = threading.Event()
        ended: list[object] = []

        def read() -> None:
            waiting.set()
            ended.extend(messages)

        thread = threading.Thread(target=read)
        thread.start()
        waiting.wait(TIMEOUT_SECS)
        messages.close()
        thread.join(TIMEOUT_SECS)
        assert not thread.is_alive()
        with pytest.raises(DataflowStateError, match="the subscription to 'op/small' is closed"):
            messages.next(0)


def drain(events: object) -> None:
    events.clear()  # type: ignore[attr-defined]


def test_a_listener_gets_each_message_and_none_after_its_close(counting: CellDataflow) -> None:
    seen: list[int] = []
    enough = threading.Event()

    def note(event: dict[str, object]) -> None:
        seen.append(event["metadata"]["n"])  # type: ignore[index]
        if len(seen) == 20:
            enough.set()

    listener = counting.subscribe("op/small", note, queue_size=100)
    assert enough.wait(TIMEOUT_SECS)
    status = listener.status()
    assert status is not None
    assert (status.topic, status.reader) == ("op/small", "notebook")
    assert status.received >= 20
    listener.close()
    counting.take("op/small", 5)
    after = len(seen)
    counting.take("op/small", 20)
    assert len(seen) == after
    assert seen[:20] == list(range(seen[0], seen[0] + 20))


def test_an_output_that_its_node_lost_is_an_error_and_comes_back(counting: CellDataflow) -> None:
    """A subscription to it stays, without an edge; the engine does not stumble over it."""
    with counting.subscribe("op/large") as messages:
        assert messages.next(TIMEOUT_SECS)
        only_small = COUNTING.replace('send_output("large"', 'send_output("small"')
        counting.cell("op", only_small, inputs=EVERY_MILLI, outputs=("small",))
        assert counting.take("op/small", 2)
        with pytest.raises(GraphError):
            counting.latest("op/large")
        messages._events.clear()
        counting.cell("op", COUNTING, inputs=EVERY_MILLI, outputs=("small", "large"))
        assert messages.next(TIMEOUT_SECS)


def test_a_topic_of_a_node_that_is_declared_without_it(dataflow: CellDataflow) -> None:
    """Subscribed to before anybody could know."""
    with dataflow.subscribe("op/typo"):
        dataflow.cell("op", COUNTING, inputs=EVERY_MILLI, outputs=("small", "large"))
        dataflow.start()
        assert dataflow.take("op/small", 2)
        assert dataflow.status("op").error is None


# -- when nothing comes ------------------------------------------------------------------------------


def test_what_is_said_when_nothing_comes(dataflow: CellDataflow) -> None:
    silent = "class Operator:\n    def on_event(self, e, s): pass\n"
    failing = "class Operator:\n    def on_event(self, e, s): 1 / 0\n"
    once = (
        ONCE.replace("SIZE", "1")
        + "\n        from dora import DoraStatus; return DoraStatus.STOP\n"
    )
    dataflow.cell("silent", silent, inputs={"in": "nobody/out"}, outputs=("out",))
    dataflow.cell("fails", failing, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("ends", once, inputs=EVERY_MILLI, outputs=("out",))
    with pytest.raises(DataflowStateError, match="nothing comes on 'silent/out'"):
        dataflow.latest("silent/out")
    with pytest.raises(GraphError, match="no operator 'nobody' is declared"):
        dataflow.latest("nobody/out")
    try:
        dataflow.start()
    except OperatorError as error:  # It may fail before the start has returned.
        assert error.node == "fails"  # noqa: PT017
    dataflow.failure_of("fails")
    dataflow.until_state("ends", State.FINISHED)
    for topic, wanted, said in (
        (
            "silent/out",
            1,
            "0 of 1 messages came on 'silent/out' within 0.01 s; silent is waiting (for nobody)",
        ),
        (
            "fails/out",
            2,
            "0 of 2 messages came on 'fails/out' within 0.01 s; fails is failed (fails failed in on_event",
        ),
        ("ends/out", 3, "0 of 3 messages came on 'ends/out' within 0.01 s; ends is finished"),
    ):
        with pytest.raises(TopicTimeoutError) as caught:
            dataflow.take(topic, wanted, timeout_secs=0.01)
        assert str(caught.value).startswith(said)


def test_what_is_said_where_a_failed_start_holds_the_others_up(dataflow: CellDataflow) -> None:
    failing = "class Operator:\n    def __init__(self): 1 / 0\n    def on_event(self, e, s): pass\n"
    dataflow.cell("port", failing, inputs=EVERY_MILLI, outputs=("line",))
    dataflow.cell("op", COUNTING, inputs={"line": "port/line"}, outputs=("small", "large"))
    with pytest.raises(OperatorError, match="port failed before its first event"):
        dataflow.start()
    said = "op is starting, and begins once port is corrected or removed: it failed.$"
    with pytest.raises(TopicTimeoutError, match=said):
        dataflow.take("op/small", 1, timeout_secs=0.01)


def test_nobody_waits_for_one_that_can_send_no_more(dataflow: CellDataflow) -> None:
    """However long the timeout is, as soon as its node has ended."""
    body = (
        "import pyarrow as pa\nfrom dora import DoraStatus\nclass Operator:\n"
        "    def on_event(self, e, send_output):\n"
        "        send_output('out', b'')\n        return DoraStatus.STOP\n"
    )
    dataflow.cell("ends", body, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("stays", COUNTING, inputs=EVERY_MILLI, outputs=("small", "large"))
    dataflow.start()
    dataflow.until_state("ends", State.FINISHED)
    with pytest.raises(TopicTimeoutError, match="ends is finished"):
        dataflow.take("ends/out", 10, timeout_secs=10_000)


# -- nothing is used up -------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def look_many_times(counting: CellDataflow, times: int) -> None:
    counting.latest("op/large")
    pid = next(
        int(process)
        for task in Path("/proc/self/task").iterdir()
        for process in (task / "children").read_text().split()
        if b"child/program.py" in Path(f"/proc/{process}/cmdline").read_bytes()
    )
    theirs = Path(f"/proc/{pid}/fd")
    before = open_descriptors(), len(list(theirs.iterdir()))
    for _ in range(times):
        counting.latest("op/large")
        counting.latest("op/small")
    # The operator closes an edge when it comes to it: the last few may be on their way.
    assert open_descriptors() <= before[0] + 2
    assert len(list(theirs.iterdir())) <= before[1] + 20
    assert counting.status("op").error is None


def test_looking_many_times_uses_nothing_up(counting: CellDataflow) -> None:
    look_many_times(counting, 150)


@pytest.mark.soak
def test_looking_5000_times_uses_nothing_up(counting: CellDataflow) -> None:
    """More often than an output has columns for readers."""
    look_many_times(counting, 2500)


def test_looking_at_one_that_is_stuck_uses_nothing_up_for_good(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo], tmp_path: Path
) -> None:
    """Each look asks it for an edge and takes that back; it serves all of them in order, later."""
    entered, gate = make_fifo("entered"), tmp_path / "gate"
    os.mkfifo(gate)
    body = (
        "class Operator:\n    at_gate = True\n    def on_event(self, e, send_output):\n"
        "        if self.at_gate:\n            self.at_gate = False\n"
        f"            open({str(entered.path)!r}, 'w').close(); open({str(gate)!r}).read()\n"
        "        send_output('out', b'')\n"
    )
    dataflow.cell("op", body, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.start()
    entered.wait_for_end()
    before = open_descriptors()
    for _ in range(300):
        with pytest.raises(TopicTimeoutError, match="op is running"):
            dataflow.latest("op/out", timeout_secs=0)
    assert open_descriptors() <= before
    gate.write_text("")
    assert len(dataflow.take("op/out", 5)) == 5
    assert dataflow.status("op").error is None


def test_the_switch_interval_is_lent_and_given_back(dataflow: CellDataflow) -> None:
    """A cell that computes lets a subscription's thread in sooner, for as long as there is one."""
    own_secs = sys.getswitchinterval()
    dataflow.cell("op", ONCE, outputs=("out",))
    dataflow.start()
    with dataflow.subscribe("op/out"), dataflow.subscribe("op/out"):
        assert sys.getswitchinterval() < own_secs
    assert sys.getswitchinterval() == own_secs
    with dataflow.subscribe("op/out"):
        sys.setswitchinterval(0.25)
    try:
        assert sys.getswitchinterval() == 0.25
    finally:
        sys.setswitchinterval(own_secs)
    with dataflow.subscribe("op/out"):
        dataflow.stop()
        assert sys.getswitchinterval() == own_secs
