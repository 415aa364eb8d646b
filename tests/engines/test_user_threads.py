"""A thread of an operator that an exception ends: the node runs on, in amber, and says which line it was."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from dora_nb.errors import TopicTimeoutError
from dora_nb.status import State

from ..waiting import wait_until
from .conftest import CellDataflow

TICK = {"tick": "dora/timer/hz/20"}
ROBOT = """
    import threading

    def capture():
        raise ValueError("the camera was unplugged")

    class Operator:
        def __init__(self):
            threading.Thread(target=capture, name="sdk-capture", daemon=True).start()

        def on_event(self, dora_event, send_output):
            pass
    """
ENDED = "a thread of robot ended: ValueError: the camera was unplugged (Cell In[3], line 5)"


def until_warned(dataflow: CellDataflow, name: str, *, times: int = 1) -> tuple[str, ...]:
    dataflow.until(lambda: len(dataflow.status(name).warnings) >= times, f"warnings of {name}")
    return dataflow.status(name).warnings


def test_a_thread_that_ends_by_an_exception_makes_its_node_amber(dataflow: CellDataflow) -> None:
    dataflow.cell("robot", ROBOT, inputs=TICK, outputs=("image",), number=3)
    dataflow.start()
    assert until_warned(dataflow, "robot") == (ENDED,)
    status = dataflow.status("robot")
    assert (status.state, status.error, status.is_amber) == (State.RUNNING, None, True)
    with pytest.raises(TopicTimeoutError) as raised:
        dataflow.take("robot/image", 1, timeout_secs=0)
    assert f"; robot is running, but {ENDED}." in str(raised.value)
    assert ENDED in dataflow.said_by("robot", "engine")
    # What it prints and what it tells of a thread come by two ways.
    wait_until(lambda: len(dataflow.said_by("robot", "stderr")) >= 5)
    assert dataflow.said_by("robot", "stderr") == [
        "Exception in thread sdk-capture:",
        "Traceback (most recent call last):",
        "  Cell In[3], line 5, in capture",
        '    raise ValueError("the camera was unplugged")',
        "ValueError: the camera was unplugged",
    ]

    # The object stays, and its thread is still missing.
    edited = ROBOT.replace("pass", "dora_event.clear()")
    dataflow.cell("robot", edited, inputs=TICK, outputs=("image",), number=3)
    assert dataflow.status("robot").warnings == (ENDED,)

    corrected = edited.replace("raise ValueError", "str")
    dataflow.cell("robot", corrected, inputs=TICK, outputs=("image",), number=3)
    assert dataflow.status("robot").generation == 3
    assert dataflow.status("robot").warnings == ()


def test_which_ends_of_threads_are_told(dataflow: CellDataflow, tmp_path: Path) -> None:
    def starting(statements: str) -> str:
        return textwrap.dedent(ROBOT).replace(
            'threading.Thread(target=capture, name="sdk-capture", daemon=True).start()', statements
        )

    dataflow.cell(
        "low_level", starting("import _thread; _thread.start_new_thread(capture, ())"), inputs=TICK
    )
    dataflow.cell(
        "exiting", starting("import sys; threading.Thread(target=sys.exit).start()"), inputs=TICK
    )
    dataflow.cell(
        "many",
        starting(
            "threads = [threading.Thread(target=int, args=(f'x{n}',)) for n in range(20)]\n"
            "        for thread in threads: thread.start()\n"
            "        for thread in threads: thread.join()"
        ),
        inputs=TICK,
    )
    dataflow.cell(
        "unprintable",
        starting(
            "class Odd(Exception):\n"
            "            def __str__(self): raise RuntimeError\n"
            "        def end(): raise Odd\n"
            "        threading.Thread(target=end).start()"
        ),
        inputs=TICK,
    )
    script = tmp_path / "robot.py"
    script.write_text(
        "import threading\n"
        "from dora import Node\n"
        "node = Node()\n"
        "threading.Thread(target=node.send_output, args=(1, 2)).start()\n"
        "for event in node: pass\n"
    )
    dataflow.cell("script", script.read_text(), path=script, inputs=TICK, kind="script")
    dataflow.start()
    assert until_warned(dataflow, "low_level")[0].startswith("a thread of low_level ended: Value")
    assert len(until_warned(dataflow, "many", times=8)) == 8
    assert until_warned(dataflow, "unprintable")[0].startswith(
        "a thread of unprintable ended: Odd: <an object whose str() raises RuntimeError> (Cell In[5]"
    )
    assert until_warned(dataflow, "script")[0].startswith("a thread of script ended: TypeError: ")
    dataflow.stop()
    assert dataflow.status("exiting").warnings == ()
    assert len(dataflow.status("many").warnings) == 8
    assert not dataflow.status("many").is_amber
