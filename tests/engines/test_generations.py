"""What becomes of the generation before: kept where the new one fails, ended where it is stuck, gone back to."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import GraphError, OperatorError
from dora_nb.status import State

from ..waiting import wait_until
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

MakeFifo = Callable[[str], Fifo]
EVERY_MILLI = {"tick": "dora/timer/millis/1"}
COUNTING = """
class Operator:
    def __init__(self):
        self.n = {start}
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.n += 1
            send_output("out", b"", {{"n": self.n, "start": {start}, "process": __import__("os").getpid()}})
"""


def declare(dataflow: CellDataflow, body: str, **more: Any) -> str:
    return in_words(
        dataflow.cell("op", body, **{"inputs": EVERY_MILLI, "outputs": ("out",), **more})
    )


def newest(dataflow: CellDataflow) -> dict[str, Any]:
    """The metadata of the next message."""
    metadata: dict[str, Any] = dataflow.take("op/out", 1)[0]["metadata"]
    return metadata


@pytest.fixture
def running(dataflow: CellDataflow) -> CellDataflow:
    declare(dataflow, COUNTING.format(start=0))
    dataflow.start()
    newest(dataflow)
    return dataflow


# -- failures keep the old one -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nowhere_at_all\n" + COUNTING.format(start=9), "ModuleNotFoundError"),
        (COUNTING.format(start="1 / 0"), "ZeroDivisionError"),
        ("def broken(:\n", "SyntaxError"),
        ("import os\nos._exit(3)\n", "exited with status 3"),
        ("x = 1\n", "no class Operator"),
        (COUNTING.format(start=9).replace("on_event", "on_evnt"), "no on_event"),
    ],
    ids=["import", "__init__", "syntax", "death", "no class", "no on_event"],
)
def test_a_failure_leaves_the_old_generation_running(
    running: CellDataflow, body: str, said: str
) -> None:
    before = newest(running)
    with pytest.raises(OperatorError, match=r"^op: kept generation 1: ") as raised:
        declare(running, body, on_edit="restart")
    assert said in str(raised.value)
    after = newest(running)
    assert after["process"] == before["process"]
    assert after["n"] > before["n"]
    status = running.status("op")
    assert (status.state, status.generation, status.error) == (State.RUNNING, 1, None)
    assert status.process_id == after["process"]
    # The old one is what is declared: the mended cell is an edit of that.
    assert declare(running, COUNTING.format(start=0)) == "op: unchanged"
    sentence = declare(running, COUNTING.format(start=100))
    assert sentence == "op: generation 2, restarted: __init__ changed, state not kept"
    assert newest(running)["n"] > 100


def test_the_error_of_a_kept_generation_has_the_new_cells_lines(running: CellDataflow) -> None:
    with pytest.raises(OperatorError) as raised:
        declare(running, COUNTING.format(start="1 / 0"), number=8)
    assert raised.value.place == "Cell In[8], line 4"


# -- state -------------------------------------------------------------------------------------------

STATEFUL = (
    COUNTING
    + """
    def get_state(self):
        return {{"n": self.n}}
    def set_state(self, state):
        self.n = state["n"]
"""
)


def test_an_operator_hands_over_its_state(dataflow: CellDataflow) -> None:
    declare(dataflow, STATEFUL.format(start=0))
    dataflow.start()
    before = dataflow.take("op/out", 20)[-1]["metadata"]["n"]
    sentence = declare(dataflow, STATEFUL.format(start=-(10**6)))
    assert sentence == "op: generation 2, restarted: __init__ changed, state carried over"
    after = newest(dataflow)
    assert after["start"] == -(10**6)
    assert after["n"] > before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (STATEFUL, COUNTING, "state not kept"),
        (COUNTING, STATEFUL, "state not kept"),
        (
            STATEFUL.replace('return {{"n": self.n}}', "return (n for n in ())"),
            STATEFUL,
            "state not kept; get_state failed (TypeError: cannot pickle 'generator' object)",
        ),
    ],
    ids=["no set_state", "no get_state", "get_state fails"],
)
def test_the_line_says_that_no_state_was_carried(
    dataflow: CellDataflow, old: str, new: str, said: str
) -> None:
    declare(dataflow, old.format(start=0))
    dataflow.start()
    sentence = declare(dataflow, new.format(start=100), on_edit="restart")
    assert sentence == f"op: generation 2, restarted: --on-edit restart, {said}"
    assert newest(dataflow)["n"] > 100


def test_a_set_state_that_fails_keeps_the_old_generation(dataflow: CellDataflow) -> None:
    declare(dataflow, STATEFUL.format(start=0))
    dataflow.start()
    before = newest(dataflow)
    broken = STATEFUL.format(start=100).replace('state["n"]', 'state["m"]')
    with pytest.raises(OperatorError, match=r"op: kept generation 1: .*set_state: KeyError"):
        declare(dataflow, broken)
    after = newest(dataflow)
    assert after["process"] == before["process"]
    assert after["n"] > before["n"]


# -- stuck and interrupted ---------------------------------------------------------------------------


def test_an_old_generation_that_is_stuck_is_ended_and_the_line_says_so(
    dataflow: CellDataflow, make_fifo: MakeFifo
) -> None:
    entered = make_fifo("entered")
    stuck = (
        "import threading\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
        f"        open({str(entered.path)!r}, 'w').write('here\\n')\n"
        "        threading.Event().wait()\n"
    )
    declare(dataflow, stuck)
    dataflow.start()
    entered.wait_for("here")
    sentence = declare(dataflow, COUNTING.format(start=0))
    assert sentence.startswith("op: generation 2, restarted: ")
    assert sentence.endswith("the old generation did not exit in time and was killed")
    assert newest(dataflow)["n"] > 0


def test_an_interrupt_drops_the_preparation_only(
    running: CellDataflow, make_fifo: MakeFifo
) -> None:
    entered = make_fifo("entered")
    slow = (
        f"open({str(entered.path)!r}, 'w').write('here\\n')\n"
        "import threading; threading.Event().wait()\n" + COUNTING.format(start=9)
    )
    before = newest(running)

    def interrupt() -> None:
        entered.wait_for("here")
        _thread.interrupt_main()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        declare(running, slow)
    interrupter.join()
    after = newest(running)
    assert after["process"] == before["process"]
    assert running.status("op").generation == 1
    assert declare(running, COUNTING.format(start=0)) == "op: unchanged"
    entered.wait_for_end()  # What was prepared is gone.


def test_a_stop_while_a_generation_is_prepared_stops_both(
    running: CellDataflow, make_fifo: MakeFifo
) -> None:
    entered = make_fifo("entered")
    slow = (
        f"open({str(entered.path)!r}, 'w').write('here\\n')\n"
        "import threading; threading.Event().wait()\n" + COUNTING.format(start=9)
    )
    with ThreadPoolExecutor() as background:
        edited = background.submit(declare, running, slow)
        entered.wait_for("here")
        running.stop()
        edited.result(TIMEOUT_SECS)
    entered.wait_for_end()
    assert running.status("op").state is State.STOPPED


# -- exclusive ---------------------------------------------------------------------------------------

OWNING = """
import fcntl
class Operator:
    def __init__(self):
        self.file = open({path!r}, "w")
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.generation = {generation}
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", b"", {{"generation": self.generation}})
"""


def owning(folder: Path, generation: object) -> str:
    return OWNING.format(path=str(folder / "lock"), generation=generation)


def test_an_exclusive_operator_lets_go_before_the_new_one_begins(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    declare(dataflow, owning(tmp_path, 1), exclusive=True)
    dataflow.start()
    with pytest.raises(OperatorError, match=r"kept generation 1: .*BlockingIOError"):
        declare(dataflow, owning(tmp_path, 2))
    sentence = declare(dataflow, owning(tmp_path, 3), exclusive=True)
    assert sentence == "op: generation 2, restarted: __init__ changed, state not kept"
    assert newest(dataflow)["generation"] == 3


def test_an_exclusive_operator_that_fails_is_what_it_was_again(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    declare(dataflow, owning(tmp_path, 1), exclusive=True)
    dataflow.start()
    newest(dataflow)
    with pytest.raises(
        OperatorError,
        match=r"^op: kept the code of generation 1, restarted as generation 3: .*ZeroDivisionError",
    ):
        declare(dataflow, owning(tmp_path, "1 / 0"), exclusive=True)
    assert newest(dataflow)["generation"] == 1
    status = dataflow.status("op")
    assert (status.state, status.generation, status.error) == (State.RUNNING, 3, None)
    assert declare(dataflow, owning(tmp_path, 1), exclusive=True) == "op: unchanged"


# -- going back --------------------------------------------------------------------------------------


def test_going_back_to_an_earlier_generation(running: CellDataflow) -> None:
    declare(running, COUNTING.format(start=1000))
    declare(running, COUNTING.format(start=2000))
    said = in_words(running.restart("op", generation=2))
    assert said == "op: generation 4, restarted: the code of generation 2, state not kept"
    assert newest(running)["start"] == 1000
    # What is declared is what runs: that cell again changes nothing.
    assert declare(running, COUNTING.format(start=1000)) == "op: unchanged"
    with pytest.raises(GraphError, match=r"no generation 9 to go back to.* There are: 1, 2, 3, 4"):
        running.restart("op", generation=9)


def test_going_back_after_a_crash(running: CellDataflow) -> None:
    declare(running, COUNTING.format(start=1000).replace("self.n += 1", "1 / 0"))
    running.failure_of("op")
    said = in_words(running.restart("op", generation=1))
    assert said.startswith("op: generation 3, restarted")
    assert newest(running)["start"] == 0


def test_an_exclusive_operator_declared_anew_while_its_edit_starts_runs_the_newest_code(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    """The first cell was interrupted while its `__init__` took long; then it was corrected and run again."""
    begun, go_on = tmp_path / "begun", tmp_path / "go_on"
    slow = f"""
        import pathlib, time
        import pyarrow as pa

        class Operator:
            def __init__(self):
                pathlib.Path({str(begun)!r}).touch()
                while not pathlib.Path({str(go_on)!r}).exists():
                    time.sleep(0.01)

            def on_event(self, dora_event, send_output):
                if dora_event["type"] == "INPUT":
                    send_output("out", pa.array([2]))
    """

    def sends(number: int) -> str:
        return (
            slow.partition("class")[0]
            + f"""
        class Operator:
            def on_event(self, dora_event, send_output):
                if dora_event["type"] == "INPUT":
                    send_output("out", pa.array([{number}]))
    """
        )

    declare(dataflow, sends(1), exclusive=True)
    dataflow.start()

    def interrupt() -> None:
        wait_until(begun.exists)
        _thread.interrupt_main()

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        declare(dataflow, slow, exclusive=True)
    interrupting.join()
    declare(dataflow, sends(3), exclusive=True)
    dataflow.until(lambda: dataflow.latest("op/out")["value"].to_pylist() == [3], "the newest code")
