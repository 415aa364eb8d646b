"""What an operator says of itself: the line that it printed last, and what it warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dora_nb.engines.capture import last_line
from dora_nb.status import State

from ..waiting import wait_until
from .conftest import CellDataflow

EVERY_MILLI = {"tick": "dora/timer/millis/1"}


def test_what_the_users_own_code_warns_of_turns_its_node_amber(
    dataflow: CellDataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what libraries warn of, nor numpy at the user's line, nor what the user's filters hide."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text(
        "import warnings\ndef check():\n    warnings.warn('the lens is\\ndirty')\n"
    )
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "library.py").write_text(
        "import warnings\ndef call():\n    warnings.warn('old call', FutureWarning, stacklevel=2)\n"
    )
    body = """
        import sys
        import warnings
        import numpy as np
        sys.path.append("site-packages")
        import helper, library

        class Operator:
            def __init__(self):
                warnings.warn("no webcam was found")
                helper.check()
                library.call()
                np.ones(1) / np.zeros(1)
                warnings.warn("moved", DeprecationWarning)
                warnings.filterwarnings("ignore", "hidden")
                warnings.warn("hidden")
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    try:
                        warnings.warn("raised")
                    except UserWarning:
                        pass
                try:
                    warnings.warn("wrong", int)
                except TypeError as error:
                    print(error)

            def on_event(self, dora_event, send_output):
                warnings.warn("the room is dark", RuntimeWarning)
                send_output("out", b"")
    """
    script = "import warnings\nfrom dora import Node\nnode = Node()\nwarnings.warn('alone')\nfor event in node: pass"
    dataflow.cell("cam", body, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.cell("script", script, inputs=EVERY_MILLI, kind="script", number=6)
    dataflow.start()
    dataflow.until(lambda: len(dataflow.status("cam").warnings) == 3, "warnings")
    first = ("cam warns: no webcam was found", "cam warns: the lens is dirty")
    assert dataflow.status("cam").warnings == (*first, "cam warns: the room is dark")
    assert dataflow.status("cam").is_amber
    dataflow.until(lambda: dataflow.status("script").is_amber, "the script in amber")
    assert dataflow.status("script").warnings == ("script warns: alone",)

    # Python's own line is as it always is, with the place of the call: the body begins at line 2.
    # The lines and the warnings come by two ways.
    wait_until(
        lambda: any("the room is dark" in line for line in dataflow.said_by("cam", "stderr"))
    )
    wait_until(lambda: bool(dataflow.said_by("cam")))
    lines = dataflow.said_by("cam", "stderr")
    assert "Cell In[5]:10: UserWarning: no webcam was found" in lines
    assert "Cell In[5]:12: FutureWarning: old call" in lines
    assert any(line.startswith("Cell In[5]:13: RuntimeWarning: divide by zero") for line in lines)
    assert any("must be a Warning subclass" in line for line in dataflow.said_by("cam"))

    # An edit in place: what __init__ has warned of is as it was, the rest is warned of again if it is.
    edited = body.replace('warnings.warn("the room is dark", RuntimeWarning)', "pass")
    assert dataflow.cell("cam", edited, inputs=EVERY_MILLI, outputs=("out",)).way == "in_place"
    dataflow.take("cam/out", 1)
    assert dataflow.status("cam").warnings == first
    assert dataflow.cell("cam", body, inputs=EVERY_MILLI, outputs=("out",)).way == "in_place"
    dataflow.until(lambda: len(dataflow.status("cam").warnings) == 3, "warnings")


def test_what_was_warned_of_can_be_over_and_happen_again(dataflow: CellDataflow) -> None:
    body = """
        import warnings

        class Operator:
            def on_event(self, dora_event, send_output):
                if dora_event["type"] == "INPUT":
                    word = dora_event["value"][0].as_py()
                    if word == "over":
                        warnings.warn.withdraw("the webcam\\n is gone")
                    else:
                        warnings.warn(word)
    """
    dataflow.cell("cam", body, inputs={"word": "notebook/word"})
    dataflow.start()

    def warnings_after(word: str, warnings: tuple[str, ...]) -> None:
        dataflow.send("notebook/word", [word])
        dataflow.until(lambda: dataflow.status("cam").warnings == warnings, f"{warnings}")

    gone, dark = "cam warns: the webcam is gone", "cam warns: the room is dark"
    for _ in range(2):
        warnings_after("the webcam is gone", (gone,))
        assert dataflow.status("cam").is_amber
        warnings_after("over", ())
        assert not dataflow.status("cam").is_amber
    warnings_after("the room is dark", (dark,))
    warnings_after("the webcam is gone", (dark, gone))
    warnings_after("over", (dark,))
    assert dataflow.said_by("cam", "engine").count(gone) == 3


def test_the_line_that_was_printed_last_is_in_the_status(dataflow: CellDataflow) -> None:
    """Of the generation that runs, also from its stderr; nothing that the engine says."""
    body = """
        import sys
        class Operator:
            def on_event(self, dora_event, send_output):
                if dora_event["type"] == "INPUT":
                    print("one"); print("TEXT", file=STREAM, flush=True); print("  ", flush=True)
                    send_output("typo", b"")
                    send_output("out", b"")
    """
    quiet = "class Operator:\n    def __init__(self): pass\n    def on_event(self, e, s): s('out', b'')\n"

    def printing(text: str, stream: str) -> str:
        return body.replace("TEXT", text).replace("STREAM", stream)

    assert dataflow.cell(
        "op", printing("first", "sys.stdout"), inputs=EVERY_MILLI, outputs=("out",)
    )
    assert dataflow.status("op").last_line == ""
    dataflow.start()
    wait_until(lambda: dataflow.status("op").last_line == "first")
    dataflow.cell("op", quiet, inputs=EVERY_MILLI, outputs=("out",))
    dataflow.take("op/out", 1)
    assert dataflow.status("op").last_line == ""
    dataflow.stop()
    assert dataflow.status("op").state is State.STOPPED


def test_the_last_line_among_blank_ones() -> None:
    assert last_line(["a", "b", " \t"]) == "b"
    assert last_line([]) == last_line([" "]) == ""
