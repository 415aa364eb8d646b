"""After a crash: the event is kept, given again, and looked at in the kernel with the state it met."""

from __future__ import annotations

import os
import signal
import traceback
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.errors import DataflowStateError, GraphError, OperatorError
from dora_nb.status import State

from ..wording import in_words
from .conftest import CellDataflow

EVERY_MILLI = {"tick": "dora/timer/millis/1"}
NUMBERING = """
import pyarrow as pa
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", pa.array([self.n, {size}]), {{"n": self.n, "name": "x"}})
            self.n += 1
"""
FAILING = """
import threading

class Box:
    def __init__(self, value):
        self.value = value

class Operator:
    def __init__(self):
        self.seen, self.box, self.lock = 0, Box(7), threading.Lock()
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            n = dora_event["value"][0].as_py()
            self.seen += 1
            send_output("out", dora_event["value"], {"n": n, "seen": self.seen})
            if n == FAILS_AT:
                raise ValueError(f"not {n}")
"""


def failing(at: object) -> str:
    return FAILING.replace("FAILS_AT", str(at))


def declare(dataflow: CellDataflow, body: str, **more: Any) -> str:
    queues = {"in": (1000, "backpressure")}
    return in_words(
        dataflow.cell(
            "op",
            body,
            **{"inputs": {"in": "source/out"}, "outputs": ("out",), "queues": queues, **more},
        )
    )


@pytest.fixture
def failed(dataflow: CellDataflow) -> CellDataflow:
    """An operator that has failed on message 5."""
    dataflow.cell("source", NUMBERING.format(size=0), inputs=EVERY_MILLI, outputs=("out",))
    declare(dataflow, failing(5))
    dataflow.start()
    dataflow.failure_of("op")
    return dataflow


def test_the_error_says_what_can_be_done(failed: CellDataflow) -> None:
    error = failed.failure_of("op")
    assert "at INPUT 'in'" in error.message
    assert error.hint is not None
    assert "dataflow.debug('op')" in error.hint
    assert "dataflow.retry('op')" in error.hint
    assert "Go back" not in error.hint  # There is nothing to go back to.


def test_a_retry_gives_the_event_first(failed: CellDataflow) -> None:
    with failed.subscribe("op/out", queue_size=1000) as arrived:
        sentence = declare(failed, failing(None))
        assert sentence.startswith("op: generation 2, restarted")
        assert (
            in_words(failed.retry("op"))
            == "op: generation 2 has handled the event that it had failed on"
        )
        numbers: list[int] = []
        while 5 not in numbers:
            numbers.append(arrived.next(10)["metadata"]["n"])
        numbers += [arrived.next(10)["metadata"]["n"] for _ in range(5)]
    rest = [n for n in numbers if n != 5]
    assert rest == list(range(rest[0], rest[0] + len(rest)))
    assert rest[0] >= 6  # Nobody keeps a line for a reader that has failed for good.


def test_a_retry_starts_it_again_and_comes_before_what_is_in_line(failed: CellDataflow) -> None:
    with failed.subscribe("op/out", queue_size=1000) as arrived:
        with pytest.raises(OperatorError, match="ValueError: not 5"):
            failed.retry("op")
        assert arrived.next(10)["metadata"] | {"timestamp": 0} == {
            "timestamp": 0,
            "n": 5,
            "seen": 1,
        }
    assert failed.status("op").generation == 2
    assert failed.status("op").state is State.FAILED


def test_the_first_event_of_new_code_offers_the_way_back(failed: CellDataflow) -> None:
    declare(failed, failing(None))
    failed.take("op/out", 3)
    broken = failing(None).replace("self.seen += 1", "self.seen += None")
    assert declare(failed, broken) == "op: generation 3, in place, state kept"
    error = failed.failure_of("op")
    assert error.hint is not None
    assert error.hint.endswith("Go back with dataflow.restart('op', generation=2).")
    assert in_words(failed.restart("op", generation=2)).startswith("op: generation 4, restarted")
    assert failed.take("op/out", 3)


def test_it_is_rebuilt_in_the_kernel_with_its_state(failed: CellDataflow) -> None:
    with pytest.raises(ValueError, match="not 5") as raised:
        failed.debug("op")
    frame = list(traceback.walk_tb(raised.value.__traceback__))[-1][0]
    assert frame.f_code.co_filename == "Cell In[5]"
    itself, n = frame.f_locals["self"], frame.f_locals["n"]
    assert (n, itself.box.value) == (5, 7)
    assert itself.seen == 7  # Six in its own process, and this one.
    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert last.line == 'raise ValueError(f"not {n}")'


def test_without_a_failure_it_says_what_was_sent(failed: CellDataflow) -> None:
    declare(failed, failing(None))
    rebuilt = failed.debug("op")
    assert rebuilt.event["value"] == pa.array([5, 0])
    assert [event["metadata"]["n"] for event in rebuilt.outputs["out"]] == [5]
    assert repr(rebuilt).splitlines() == [
        "op in the kernel, at INPUT 'in'; it sent: out (1)",
        "  .lock was not kept (TypeError: cannot pickle '_thread.lock' object)",
    ]


def test_the_next_event_and_the_living_state(dataflow: CellDataflow) -> None:
    dataflow.cell("source", NUMBERING.format(size=0), inputs=EVERY_MILLI, outputs=("out",))
    declare(dataflow, failing(None))
    dataflow.start()
    seen = dataflow.take("op/out", 20)[-1]["metadata"]["seen"]
    rebuilt = dataflow.debug("op", next_event=True)
    assert rebuilt.operator.seen > seen
    assert rebuilt.event["id"] == "in"
    assert dataflow.status("op").state is State.RUNNING
    assert dataflow.take("op/out", 3)


def test_an_operator_that_saves_its_state_is_given_it(dataflow: CellDataflow) -> None:
    body = failing(5) + (
        "    def get_state(self): return self.seen\n"
        "    def set_state(self, state): self.seen = 100 + state\n"
    )
    dataflow.cell("source", NUMBERING.format(size=0), inputs=EVERY_MILLI, outputs=("out",))
    declare(dataflow, body)
    dataflow.start()
    dataflow.failure_of("op")
    with pytest.raises(ValueError, match="not 5") as raised:
        dataflow.debug("op")
    frame = list(traceback.walk_tb(raised.value.__traceback__))[-1][0]
    assert frame.f_locals["self"].seen == 107


def test_events_without_a_message_are_kept_too(dataflow: CellDataflow) -> None:
    body = (
        "class Operator:\n    def on_event(self, e, s):\n        if e['type'] == 'RELOAD': 1 / 0\n"
    )
    dataflow.cell("op", body, inputs=EVERY_MILLI)
    dataflow.start()
    dataflow.cell("op", body + "# more\n", inputs=EVERY_MILLI)
    dataflow.failure_of("op")
    with pytest.raises(ZeroDivisionError):
        dataflow.debug("op")


def test_where_no_event_is_kept_it_says_so(dataflow: CellDataflow) -> None:
    script = "from dora import Node\nfor event in Node():\n    1 / 0\n"
    dataflow.cell("op", "class Operator:\n    def on_event(self, e, s): pass\n", inputs=EVERY_MILLI)
    dataflow.cell("script", script, inputs=EVERY_MILLI, kind="script")
    dataflow.start()
    with pytest.raises(DataflowStateError, match=r"'op' cannot be given .*: it has not failed\."):
        dataflow.retry("op")
    session: Any = dataflow._run.session
    os.kill(session._supervisors["op"].process.process_id, signal.SIGKILL)
    dataflow.failure_of("op")
    # Between two events, as far as anybody can tell.
    with pytest.raises(
        DataflowStateError, match="its process ended before it could keep the event"
    ):
        dataflow.debug("op")
    dataflow.failure_of("script")
    with pytest.raises(
        DataflowStateError, match="it is a script, and the events of scripts are not kept"
    ):
        dataflow.retry("script")
    with pytest.raises(GraphError, match="only operators can be rebuilt here"):
        dataflow.debug("script")


def test_an_event_that_is_too_large_is_not_kept(
    dataflow: CellDataflow,
) -> None:
    large = (
        "import pyarrow as pa, numpy as np\nclass Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        if dora_event['type'] == 'INPUT':\n"
        "            send_output('out', pa.array(np.zeros(65 << 20, np.uint8)))\n"
    )
    dataflow.cell("source", large, inputs={"tick": "dora/timer/secs/60"}, outputs=("out",))
    dataflow.cell(
        "op", "class Operator:\n    def on_event(self, e, s): 1 / 0\n", inputs={"in": "source/out"}
    )
    dataflow.start()
    dataflow.failure_of("op")
    with pytest.raises(DataflowStateError, match=r"not kept, as it has 68,157,440 bytes"):
        dataflow.retry("op")


# -- a process that is killed writes nothing -----------------------------------------------------------

DYING = """
import os, signal
class Operator:
    def __init__(self): self.seen = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            return
        self.seen += 1
        value, metadata = dora_event["value"], dora_event["metadata"]
        if DIES:
            WHILE
            HOW
        send_output("out", value, {"n": metadata.get("n", -1), "size": len(value)})
"""


def dying(
    dies: str, how: str = "os.kill(os.getpid(), signal.SIGSEGV)", while_: str = "pass"
) -> str:
    return DYING.replace("DIES", dies).replace("HOW", how).replace("WHILE", while_)


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)"])
@pytest.mark.parametrize(
    ("size", "extra"),
    [(2, ""), (200_000, ""), (2, "x" * 3000), (200_000, "x" * 3000), (200_000, "x" * 20_000)],
    ids=["inline", "slot", "inline with metadata", "slot with metadata", "metadata in the slot"],
)
def test_the_event_of_a_killed_process_is_kept(
    dataflow: CellDataflow, size: int, extra: str, how: str
) -> None:
    sends = NUMBERING.format(size=0).replace(
        "pa.array([self.n, 0])", f"pa.array([self.n] * {size})"
    )
    sends = sends.replace('"name": "x"', f'"name": "{extra}"')
    dataflow.cell("source", sends, inputs=EVERY_MILLI, outputs=("out",))
    declare(dataflow, dying("metadata['n'] == 5", how))
    dataflow.start()
    error = dataflow.failure_of("op")
    assert error.hint is not None
    assert (
        "The event is kept: inspect it with dataflow.debug('op'), or handle it again with dataflow.retry('op')."
        in error.hint
    )
    declare(dataflow, dying("False"))
    rebuilt = dataflow.debug("op")
    assert rebuilt.event["id"] == "in"
    assert rebuilt.event["value"] == pa.array([5] * size)
    about = rebuilt.event["metadata"]
    assert {key: about[key] for key in about if key != "timestamp"} == {"n": 5, "name": extra}
    assert rebuilt.operator.seen == 1
    assert "its state was not kept (its process ended before" in repr(rebuilt)
    with dataflow.subscribe("op/out", queue_size=1000) as arrived:
        assert (
            in_words(dataflow.retry("op"))
            == "op: generation 2 has handled the event that it had failed on"
        )
        while (event := arrived.next(10))["metadata"]["n"] != 5:
            pass
    assert event["metadata"]["size"] == size


def test_the_tick_of_a_killed_process_is_kept(dataflow: CellDataflow) -> None:
    dataflow.cell("op", dying("self.seen == 3"), inputs=EVERY_MILLI, outputs=("out",))
    dataflow.start()
    error = dataflow.failure_of("op")
    assert "SIGSEGV" in error.message
    dataflow.cell("op", dying("False"), inputs=EVERY_MILLI, outputs=("out",))
    rebuilt = dataflow.debug("op")
    assert (rebuilt.event["id"], len(rebuilt.event["value"])) == ("tick", 0)
    assert rebuilt.event["metadata"]["timestamp"].tzinfo is not None


def test_memory_that_was_given_back_is_not_taken_for_the_event(dataflow: CellDataflow) -> None:
    sends = NUMBERING.format(size=0).replace(
        "pa.array([self.n, 0])", "pa.array([self.n] * 200_000)"
    )
    dataflow.cell("source", sends, inputs=EVERY_MILLI, outputs=("out",))
    # Past what one process may hold, messages are copied and given back at once.
    held = "self.seen = len(held); held.append(dora_event['value'])"
    body = dying("metadata['n'] == 20").replace("self.seen += 1", held)
    declare(dataflow, f"held = []\n{body}")
    dataflow.start()
    error = dataflow.failure_of("op")
    assert "is kept" not in (error.hint or "")
    with pytest.raises(DataflowStateError, match="as its memory had been given back"):
        dataflow.debug("op")


def test_a_process_that_is_stopped_while_it_works_leaves_nothing(
    dataflow: CellDataflow, make_fifo: Any
) -> None:
    entered = make_fifo("entered")
    stuck = dying("True", "signal.pause()", f"open({str(entered.path)!r}, 'w').write('here\\n')")
    dataflow.cell("op", stuck, inputs={"tick": "dora/timer/secs/60"})
    dataflow.cell(
        "other", "class Operator:\n    def on_event(self, e, s): pass\n", inputs=EVERY_MILLI
    )
    dataflow.start()
    entered.wait_for("here")
    dataflow.stop(grace_secs=0)
    with pytest.raises(DataflowStateError, match=r"not failed|not running"):
        dataflow.retry("op")
