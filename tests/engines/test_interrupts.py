"""A KeyboardInterrupt may come at any moment of a call; nothing is left half done by it."""

from __future__ import annotations

import contextlib
import dis
import functools
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import dora_nb.dataflow
import dora_nb.engines.embedded
import dora_nb.transport
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

TICK = {"tick": "dora/timer/hz/200"}
SENDING = (
    "class Operator:\n    def on_event(self, dora_event, send_output): send_output('out', b'')\n"
)
ENGINE_FOLDERS = tuple(
    str(Path(package.__path__[0]))
    for package in (dora_nb.dataflow, dora_nb.engines.embedded, dora_nb.transport)
)


def interrupt_when(dataflow: Dataflow, condition: Callable[[], bool]) -> Callable[[], None]:
    """One SIGINT to the main thread, as soon as a change has made that true."""
    main = threading.main_thread().ident
    assert main is not None
    sent = threading.Event()
    once = threading.Lock()  # Several threads may look at the same time.

    def look() -> None:
        if not sent.is_set() and condition() and once.acquire(blocking=False):
            sent.set()
            signal.pthread_kill(main, signal.SIGINT)

    return dataflow.on_change(look)


def test_an_interrupted_start_stops_what_it_started(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]
) -> None:
    fifo = make_fifo("alive")
    body = (
        f"import os, time\npipe = os.open({str(fifo.path)!r}, os.O_WRONLY)\n"
        "class Operator:\n    def __init__(self): time.sleep(1000)\n"
    )
    dataflow.cell("slow", body)
    dataflow.cell("ready", SENDING)
    interrupt_when(dataflow, lambda: dataflow.status("slow").state is State.STARTING)
    with pytest.raises(KeyboardInterrupt):
        dataflow.start()
    fifo.wait_for_end()
    assert not dataflow.running
    assert {each.state for each in dataflow.status()} == {State.STOPPED}
    dataflow.cell("slow", SENDING)
    assert in_words(dataflow.start()) == "started: slow, ready"


def test_an_interrupted_stop_can_be_asked_for_again(dataflow: CellDataflow) -> None:
    body = "import time\nclass Operator:\n    def on_event(self, dora_event, send_output): time.sleep(1000)\n"
    dataflow.cell("busy", body, inputs=TICK)
    dataflow.cell("other", SENDING, inputs=TICK, outputs=("out",))
    dataflow.start()
    interrupt_when(dataflow, lambda: dataflow.status("other").state is State.STOPPED)
    with pytest.raises(KeyboardInterrupt):
        dataflow.stop()
    assert dataflow.running
    assert in_words(dataflow.stop()) == "stopped"
    assert not dataflow.running


def test_an_interrupted_edit_goes_on_by_itself(dataflow: CellDataflow) -> None:
    """The declaration is the new one; it is only that nobody waited for it."""
    dataflow.cell("op", SENDING, inputs=TICK, outputs=("out",))
    dataflow.start()
    edited = SENDING + "# edited"
    interrupt_when(dataflow, lambda: dataflow.status("op").generation == 2)
    with pytest.raises(KeyboardInterrupt):
        dataflow.cell("op", edited, inputs=TICK, outputs=("out",))
    dataflow.until_state("op", State.RUNNING)
    assert len(dataflow.take("op/out", 3)) == 3
    assert in_words(dataflow.cell("op", edited, inputs=TICK, outputs=("out",))) == "op: unchanged"


def test_an_interrupted_removal_goes_on_by_itself(dataflow: CellDataflow) -> None:
    body = (
        "import time\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
        "        time.sleep(1000)\n"
    )
    dataflow.cell("busy", body, inputs=TICK)
    dataflow.cell("other", SENDING, inputs=TICK, outputs=("out",))
    dataflow.start()
    session = dataflow._run.session
    assert session is not None
    interrupt_when(dataflow, lambda: "busy" not in dataflow.graph)
    with pytest.raises(KeyboardInterrupt):
        dataflow.remove("busy")
    dataflow.until(lambda: "busy" not in session.generations(), "the end of the removal")
    assert [each.name for each in dataflow.status()] == ["other"]


class InterruptAt:
    """Raises KeyboardInterrupt at the n-th place in the engine where this thread could get one.

    CPython looks for signals at the end of a call, at the begin of a function and at a jump back, and
    nowhere else: so a lock that `with` has taken is always given back. A trace function can raise only
    before the next instruction; where that one has another handler, it would be another place.
    """

    _LOOKS_AT = ("CALL", "RESUME", "JUMP_BACKWARD")

    def __init__(self, number: int) -> None:
        self.left = number
        self._before: dict[FrameType, int] = {}

    def __enter__(self) -> InterruptAt:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)
        self._before.clear()

    @property
    def raised(self) -> bool:
        return self.left < 0

    def _trace(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ENGINE_FOLDERS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not self.raised:
            before = self._before.get(frame)
            self._before[frame] = frame.f_lasti
            if before is not None and self._is_place(frame.f_code, before, frame.f_lasti):
                self.left -= 1
                if self.raised:
                    raise KeyboardInterrupt
        return self._trace

    def _is_place(self, code: CodeType, before: int, now: int) -> bool:
        looks = opcode_names(code)[before].startswith(self._LOOKS_AT)
        return looks and handler_of(code, before) == handler_of(code, now)


@functools.cache
def opcode_names(code: CodeType) -> dict[int, str]:
    return {each.offset: each.opname for each in dis.get_instructions(code)}


@functools.cache
def handler_of(code: CodeType, offset: int) -> int | None:
    """Where an exception at that instruction is handled in its function."""
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return next((each.target for each in table if each.start <= offset < each.end), None)


def places_in(call: Callable[[], object]) -> int:
    """At how many places of the engine this thread could be interrupted in that call."""
    counting = InterruptAt(10**9)
    with counting:
        call()
    return 10**9 - counting.left


def test_reading_can_be_interrupted_anywhere(dataflow: CellDataflow) -> None:
    dataflow.cell("op", SENDING, inputs=TICK, outputs=("out",))
    dataflow.start()
    dataflow.latest("op/out")
    most = places_in(lambda: dataflow.latest("op/out"))
    interrupted = 0
    for number in range(most):
        with InterruptAt(number) as at:
            try:
                dataflow.latest("op/out")
            except KeyboardInterrupt:
                interrupted += 1
        assert not at.raised or interrupted
    assert interrupted > most / 2
    # What an interrupt kept from being closed goes with the next call.
    with dataflow.subscribe("op/out") as messages:
        assert messages.next(TIMEOUT_SECS)
        session = dataflow._run.session
        assert session is not None
        assert len(session._subscriber._inputs.by_edge) <= 1 + len(dataflow._run.readers)


@pytest.mark.parametrize("at", ["start", "restart", "stop"])
def test_changes_can_be_interrupted_anywhere(dataflow: CellDataflow, at: str) -> None:
    """A few places of each; `test_changes_can_be_interrupted_everywhere` takes more."""
    interrupt_changes(dataflow, at, parts=4)


@pytest.mark.soak
@pytest.mark.parametrize("at", ["start", "restart", "stop"])
def test_changes_can_be_interrupted_everywhere(dataflow: CellDataflow, at: str) -> None:
    interrupt_changes(dataflow, at, parts=40)


def interrupt_changes(dataflow: CellDataflow, at: str, *, parts: int) -> None:
    dataflow.cell("op", SENDING, inputs=TICK, outputs=("out",))
    changes: dict[str, Callable[[], object]] = {
        "start": dataflow.start,
        "restart": lambda: dataflow.restart("op"),
        "stop": dataflow.stop,
    }
    if at != "start":
        dataflow.start()
    most = places_in(changes[at])
    for number in range(0, most, max(1, most // parts)):
        if at == "start":
            dataflow.stop()
        elif not dataflow.running:
            dataflow.start()
        with InterruptAt(number) as interrupt, contextlib.suppress(KeyboardInterrupt):
            changes[at]()
        if at == "start":
            assert dataflow.running is not interrupt.raised
        # Whatever was interrupted, asking for it again does it.
        dataflow.stop()
        assert not dataflow.running
        dataflow.start()
        assert dataflow.take("op/out", 1)
