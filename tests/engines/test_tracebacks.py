"""A failure shows the user's own lines, numbered as their editor numbers them, and no frame of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from dora_nb.child._traceback import traceback_lines
from dora_nb.child.user_code import NodeFailedError
from dora_nb.child.user_operator import UserOperator
from dora_nb.errors import OperatorError

from .conftest import CellDataflow

TICK = {"tick": "dora/timer/hz/100"}


def failure(source: str, *, file: str = "Cell In[5]", first_line: int = 2) -> list[str]:
    """The lines of a traceback in this process, as the child program makes them."""
    try:
        text = "\n" * (first_line - 1) + source
        made = UserOperator("op", text, file=file, path=None, registered=False)
        made.on_event({"type": "INPUT", "id": "tick"}, None)
    except NodeFailedError as error:
        return list(error.report.traceback_lines)
    raise AssertionError("it did not fail")


def test_an_exception_may_say_that_its_text_is_all() -> None:
    body = """
class Missing(Exception):
    __tracebackhide__ = HIDE
class Operator:
    def on_event(self, dora_event, send_output):
        raise Missing("no webcam was found")
"""
    assert failure(body.replace("HIDE", "True")) == []
    shown = failure(body.replace("HIDE", "False"))
    assert shown[1] == "  Cell In[5], line 7, in on_event"

    source = (
        "def scale(x):\n"
        "    return x / 0\n"
        "class Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        # the next line is line 7 of the cell\n"
        "        scale(  1)\n"
    )
    lines = failure(source)
    carets = [line for line in lines if set(line) <= set(" ^~")]
    assert [line for line in lines if line not in carets] == [
        "Traceback (most recent call last):",
        "  Cell In[5], line 7, in on_event",
        "    scale(  1)",
        "  Cell In[5], line 3, in scale",
        "    return x / 0",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize("odd", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_a_character_that_splits_no_line_of_python_shifts_none(odd: str) -> None:
    """`str.splitlines` splits at it, Python's tokenizer does not."""
    source = f"x = 'a{odd}b'\nraise ValueError('here')\n"
    assert failure(source)[1:3] == [
        "  Cell In[5], line 3, in <module>",
        "    raise ValueError('here')",
    ]


def test_chained_exceptions_are_all_shown() -> None:
    source = (
        "class Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        try:\n"
        "            {}['frame']\n"
        "        except KeyError as error:\n"
        "            raise ValueError('no frame') from error\n"
    )
    text = "\n".join(failure(source))
    first, cause, second = text.partition(
        "The above exception was the direct cause of the following exception:"
    )
    assert cause
    assert "  Cell In[5], line 5, in on_event\n    {}['frame']" in first
    assert "  Cell In[5], line 7, in on_event\n    raise ValueError('no frame')" in second


def test_the_members_of_an_exception_group_are_shown() -> None:
    source = (
        "def fail():\n"
        "    raise OSError('camera')\n"
        "class Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        try:\n"
        "            fail()\n"
        "        except OSError as error:\n"
        "            raise ExceptionGroup('both', [error])\n"
    )
    lines = failure(source)
    assert any(line.endswith("Cell In[5], line 3, in fail") for line in lines), lines
    assert not any('File "Cell' in line for line in lines), lines


def test_frames_of_ours_are_left_out_where_they_call_back() -> None:
    def calls_back() -> None:
        UserOperator("op", "\n1 / 0", file="Cell In[2]", path=None, registered=False)

    with pytest.raises(NodeFailedError) as caught:
        calls_back()
    assert caught.value.report.traceback_lines[1] == "  Cell In[2], line 2, in <module>"


def test_an_exception_that_contains_itself_ends() -> None:
    error = ValueError("round")
    error.__cause__ = error
    assert traceback_lines(error)[-1] == "ValueError: round"


def test_a_file_is_named_by_its_path(dataflow: CellDataflow, tmp_path: Path) -> None:
    path = tmp_path / "detector.py"
    source = "class Operator:\n    def __init__(self):\n        self.model = missing\n"
    path.write_text(source)
    dataflow.cell("detector", source, path=path)
    with pytest.raises(OperatorError) as caught:
        dataflow.start()
    assert caught.value.traceback_lines[1:3] == (
        f'  File "{path}", line 3, in __init__',
        "    self.model = missing",
    )


def test_a_failure_in_a_module_beside_the_notebook(dataflow: CellDataflow, tmp_path: Path) -> None:
    """The lines of the module are shown too, and those of a library."""
    module = tmp_path / "arm.py"
    module.write_text("import json\ndef move():\n    return json.loads('{')\n")
    body = (
        "import arm\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
        "        arm.move()\n"
    )
    dataflow.cell("op", body, inputs=TICK, working_dir=tmp_path)
    dataflow.start()
    lines = dataflow.failure_of("op").traceback_lines
    assert "  Cell In[5], line 5, in on_event" in lines
    assert f'  File "{module}", line 3, in move' in lines
    assert any("json/__init__.py" in line for line in lines)


def test_an_error_of_ours_shows_the_users_line_only(dataflow: CellDataflow) -> None:
    body = (
        "class Operator:\n    def on_event(self, dora_event, send_output):\n"
        "        send_output('out', object())\n"
    )
    dataflow.cell("op", body, inputs=TICK, outputs=("out",))
    dataflow.start()
    lines = dataflow.failure_of("op").traceback_lines
    assert [line for line in lines if "line " in line] == ["  Cell In[5], line 4, in on_event"]


def test_a_huge_traceback_keeps_its_beginning_and_its_end(dataflow: CellDataflow) -> None:
    body = (
        "import sys\nsys.setrecursionlimit(3000)\n"
        "def a(n):\n    return b(n + 1)\n"
        "def b(n):\n    return a(n + 1) if n < 900 else 'x' * 3000 + n\n"
        "class Operator:\n    def on_event(self, dora_event, send_output):\n        a(0)\n"
    )
    dataflow.cell("op", body, inputs=TICK)
    dataflow.start()
    lines = dataflow.failure_of("op").traceback_lines
    assert lines[1] == "  Cell In[5], line 10, in on_event"
    assert any("more lines)" in line for line in lines)
    assert "TypeError" in lines[-1]
    assert len(lines) <= 61
