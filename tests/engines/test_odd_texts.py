"""Texts of an operator that UTF-8 cannot encode, and texts of any length, are told like all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dora_nb.protocol import control
from dora_nb.status import State

from ..waiting import wait_until
from .conftest import CellDataflow
from .test_failures import EVENT, INIT, TICK, operator

NAME = r"b'caf\xe9.txt'.decode('utf-8', 'surrogateescape')"
"""A name as `os.listdir` returns it for a file whose name is not UTF-8."""
SHOWN = r"caf\udce9.txt"


def test_a_name_that_is_not_utf8_loses_no_reason(dataflow: CellDataflow, tmp_path: Path) -> None:
    raising = f"raise ValueError('cannot read ' + {NAME})"
    dataflow.cell("raising", operator(EVENT, raising), inputs=TICK)
    dataflow.cell(
        "noted", operator(EVENT, f"e = KeyError(1); e.add_note({NAME}); raise e"), inputs=TICK
    )
    dataflow.cell("exiting", operator(EVENT, f"sys.exit({NAME})"), inputs=TICK)
    dataflow.cell(
        "saving",
        operator(EVENT, "1 / 0") + f"    def get_state(self): raise ValueError({NAME})\n",
        inputs=TICK,
    )
    printing = f"print({NAME}); print({NAME}, file=sys.stderr); send_output({NAME}, b'')"
    dataflow.cell("printing", operator(EVENT, printing), inputs=TICK)
    script = (
        f"from dora import Node\nnode = Node()\nnode.log('info', {NAME}, fields={{'f': {NAME}}})\n"
    )
    dataflow.cell(
        "script", script + f"raise OSError({NAME})\n", path=tmp_path / "s.py", kind="script"
    )
    dataflow.start()

    error = dataflow.failure_of("raising")
    assert error.message == (
        f"raising failed in on_event, at INPUT 'tick': ValueError: cannot read {SHOWN}"
    )
    assert error.place == "Cell In[5], line 10"
    assert error.traceback_lines[-1] == f"ValueError: cannot read {SHOWN}"
    assert dataflow.failure_of("noted").traceback_lines[-1] == SHOWN
    assert repr(SHOWN).replace("\\\\", "\\") in dataflow.failure_of("exiting").message
    dataflow.failure_of("saving")
    session = dataflow._run.session
    assert session is not None
    dataflow.until(lambda: session.crash_report("saving") is not None, "the crash report")
    crash_report = session.crash_report("saving")
    assert crash_report is not None
    assert crash_report.missing["get_state"] == f"ValueError: {SHOWN}"
    assert crash_report.event is not None
    for stream in ("stderr", "engine"):  # Each comes by a way of its own.
        wait_until(lambda stream=stream: bool(dataflow.said_by("printing", stream)))
    assert dataflow.said_by("printing", "stderr")[0] == SHOWN
    assert f"'printing/{SHOWN}'" in dataflow.said_by("printing", "engine")[0]
    assert dataflow.status("printing").error is None
    assert dataflow.failure_of("script").message == f"script failed: OSError: {SHOWN}"
    assert dataflow.said_by("script", "info") == [f"{SHOWN} f={SHOWN}"]


def test_an_edit_whose_state_cannot_be_saved_says_why(dataflow: CellDataflow) -> None:
    source = operator(EVENT, "pass") + f"    def get_state(self): raise ValueError({NAME})\n"
    dataflow.cell("op", source, inputs=TICK)
    dataflow.start()
    declared = dataflow.cell(
        "op", source.replace("__init__(self):", "__init__(self, x=1):"), inputs=TICK
    )
    assert declared.notes == (f"get_state failed (ValueError: {SHOWN})",)
    assert dataflow.status("op").generation == 2


def test_a_text_of_any_length_is_cut_where_it_is_raised(dataflow: CellDataflow) -> None:
    """The process has room for a few copies of it and no more."""
    limit = (
        "import re, resource; in_use = re.search(r'VmData:\\s+(\\d+)', open('/proc/self/status').read())[1]; "
        "resource.setrlimit(resource.RLIMIT_DATA, ((int(in_use) << 10) + 350_000_000, -1))"
    )
    long = "'x' * 100_000_000"
    events = {
        "raising": f"raise ValueError({long})",
        "lines": "raise ValueError('x\\n' * 50_000_000)",
        "noted": f"e = KeyError(1); e.add_note({long}); raise e",
        "exiting": f"sys.exit({long})",
    }
    for name, statement in events.items():
        dataflow.cell(name, f"{limit}\n{operator(EVENT, statement)}", inputs=TICK)
    dataflow.start()
    raising = dataflow.failure_of("raising")
    assert raising.message.startswith(
        "raising failed in on_event, at INPUT 'tick': ValueError: xxxxx"
    )
    for name in events:
        error = dataflow.failure_of(name)
        assert len(error.message) <= 1000
        assert sum(map(len, error.traceback_lines)) <= 50_000
        assert "  Cell In[5], line 11, in on_event" in error.traceback_lines
    assert dataflow.failure_of("lines").message.endswith("ValueError: x")
    # The end of the traceback: how much there was.
    assert "99,990,000 more characters" in "".join(dataflow.failure_of("lines").traceback_lines)


def test_a_thread_that_ends_with_such_a_text(dataflow: CellDataflow) -> None:
    start = f"threading.Thread(target=int, args=({NAME} + 'x' * 100_000,)).start()"
    dataflow.cell("op", operator(INIT, start), inputs=TICK)
    dataflow.start()
    dataflow.until(lambda: bool(dataflow.status("op").warnings), "a warning")
    (warning,) = dataflow.status("op").warnings
    assert SHOWN in warning
    assert len(warning) <= 1000
    assert dataflow.status("op").state is State.RUNNING


@pytest.mark.parametrize("text", ["caf\udce9", "\ud83d", "\x00é…😀"])
def test_every_message_can_be_encoded(text: str) -> None:
    message = control.Logged("info", text, None, {text: text})
    shown = text.encode("utf-8", "backslashreplace").decode()
    decoded = control._decode_to_kernel(control.encode(message))
    assert decoded == control.Logged("info", shown, None, {shown: shown})
