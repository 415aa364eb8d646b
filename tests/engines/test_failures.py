"""The crash matrix: every way in which an operator can go wrong, and what its author is told."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import OperatorError, TopicTimeoutError
from dora_nb.status import State

from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo

TICK = {"tick": "dora/timer/hz/100"}
IMPORT, INIT, EVENT = "import", "__init__", "on_event"


def operator(where: str, statement: str) -> str:
    """An operator that executes `statement` in one of the three places."""
    lines = dict.fromkeys((IMPORT, INIT, EVENT), "pass") | {where: statement}
    return textwrap.dedent(
        f"""\
        import asyncio, ctypes, enum, os, signal, subprocess, sys, threading, time
        import numpy as np, pyarrow as pa
        from dora import DoraStatus
        {lines[IMPORT]}
        class Operator:
            def __init__(self):
                {lines[INIT]}
            def on_event(self, dora_event, send_output):
                {lines[EVENT]}
        """
    )


def answering(expression: str) -> str:
    """An operator whose `on_event` returns that."""
    return operator(EVENT, f"return {expression}")


@dataclass(frozen=True)
class Case:
    """A source, and what must be found in the error's parts (regular expressions).

    In them, NAME stands for the operator's name.
    """

    id: str
    source: str
    message: str
    hint: str | None = None
    traceback: tuple[str, ...] = ()
    at_start: bool = False
    """It fails before its first event."""


def at_each_place(name: str, statement: str, message: str, hint: str | None = None) -> list[Case]:
    """The same in import, `__init__` and on_event; the traceback names cell and line."""
    lines = {IMPORT: 5, INIT: 8, EVENT: 10}
    when = dict.fromkeys((IMPORT, INIT), "before its first event")
    return [
        Case(
            f"{name} in {place}",
            operator(place, statement),
            f"NAME failed {when.get(place, 'in on_event, at INPUT .tick.')}: {message}",
            hint,
            (rf"  Cell In\[5\], line {line}, in ", f"    {re.escape(statement)}"),
            at_start=place != EVENT,
        )
        for place, line in lines.items()
    ]


def at_each_place_without_a_word(
    name: str, statement: str, message: str, hint: str, *said: str
) -> list[Case]:
    """The same, where the process ends without an exception."""
    return [
        Case(f"{name} in {place}", operator(place, statement), message, hint, said, place != EVENT)
        for place in (IMPORT, INIT, EVENT)
    ]


STATUS_HINT = "Return DoraStatus.CONTINUE, STOP or STOP_ALL, or nothing to go on."
CASES = [
    *at_each_place("exception", "1 / 0", "ZeroDivisionError: division by zero"),
    *at_each_place(
        "missing module", "import no_such_thing", "ModuleNotFoundError: No module named",
        "Install it in the kernel's environment .* or correct 'no_such_thing'",
    ),
    *at_each_place("sys.exit(0)", "sys.exit(0)", r"it called sys.exit\(0\)", "returning DoraStatus.STOP"),
    *at_each_place("sys.exit(3)", "sys.exit(3)", r"it called sys.exit\(3\)", "returning DoraStatus.STOP"),
    *at_each_place("KeyboardInterrupt", "raise KeyboardInterrupt", "KeyboardInterrupt"),
    *at_each_place_without_a_word("os._exit(0)", "os._exit(0)", "exited with status 0", "os._exit"),
    *at_each_place_without_a_word("os._exit(3)", "os._exit(3)", "exited with status 3", "os._exit"),
    *at_each_place_without_a_word(
        "segfault", "ctypes.string_at(0)", r"killed by SIGSEGV \(Segmentation fault\)",
        "C extension library", "Segmentation fault", r"Cell In\[5\], line \d+ in ",
    ),
    *at_each_place_without_a_word(
        "abort", "os.abort()", r"killed by SIGABRT \(Aborted\)", "C extension library aborted", "Fatal Python error: Aborted",
    ),
    *at_each_place_without_a_word(
        "SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL", "out of memory",
    ),
    Case(
        "last words before a signal",
        operator(EVENT, "os.write(2, b'CUDA error 700\\n'); os.kill(os.getpid(), 9)"),
        "SIGKILL", "out of memory", ("The last lines of its stderr:", "    CUDA error 700"),
    ),
    Case(
        "no class", "x = 1\n", r"NAME has no class Operator: Cell In\[5\] does not define one", at_start=True,
    ),
    Case(
        "class deleted", "class Operator:\n    pass\ndel Operator\n", "NAME has no class Operator",
        at_start=True,
    ),
    Case(
        "__init__ with arguments",
        "class Operator:\n    def __init__(self, size): pass\n    def on_event(self, e, s): pass\n",
        "before its first event: TypeError: .*missing 1 required positional argument: 'size'",
        at_start=True,
    ),
    Case(
        "on_event is missing", "class Operator:\n    pass\n",
        r"NAME: the class `Operator` of Cell In\[5\] has no on_event", at_start=True,
    ),
    Case(
        "Operator is no class", "Operator = 3\n",
        r"NAME: in Cell In\[5\], `Operator` is of type int, not a class", at_start=True,
    ),
    Case(
        "send_output turned round", operator(EVENT, "send_output(b'x', 'out')"),
        r"TypeError: the first argument must be the output's name, not bytes: send_output\('OUTPUT', data, metadata\)",
    ),
    Case("returns True", answering("True"), r"on_event returned True \(a bool\) for INPUT 'tick'", STATUS_HINT),
    Case("returns an int", answering("0"), r"returned 0 \(a int\)", STATUS_HINT),
    Case("returns a str", answering("'CONTINUE'"), r"returned 'CONTINUE' \(a str\)", STATUS_HINT),
    Case(
        "returns a coroutine", answering("asyncio.sleep(0)"), "returned a coroutine",
        "Write def on_event, not async def.",
    ),
    Case(
        "returns an enum of its own, value 7", answering("enum.Enum('Mine', {'ODD': 7}).ODD"),
        r"returned <Mine.ODD: 7> \(a Mine\)", STATUS_HINT,
    ),
    Case(
        "returns something whose value is an array",
        answering("type('Boxes', (), {'value': np.zeros(3)})()"), r"\(a Boxes\)", STATUS_HINT,
    ),
    Case(
        "returns something that cannot be shown",
        answering("type('Shy', (), {'__repr__': lambda self: 1 / 0})()"),
        r"returned <an object whose repr\(\) raises ZeroDivisionError> \(a Shy\)", STATUS_HINT,
    ),
    Case(
        "an exception that cannot be shown",
        operator(EVENT, "raise type('Shy', (Exception,), {'__str__': lambda self: 1 / 0})()"),
        r"Shy: <an object whose str\(\) raises ZeroDivisionError>",
    ),
    Case(
        "an exception with a long message", operator(EVENT, "raise ValueError('x' * 5_000_000)"),
        "ValueError: xxxx",
    ),
    Case(
        "a deep recursion",
        operator(EVENT, "f = lambda f, n: f(f, n + 1) + len(str(n)); f(f, 0)"),
        "RecursionError", None, (r"line 10, in <lambda>",),
    ),
    Case("sends a list", operator(EVENT, "send_output('out', [1, 2])"), "`data`.*pa.array"),
    Case("sends a str", operator(EVENT, "send_output('out', 'text')"), r"pa.array\(\[text\]\)"),
    Case("sends None", operator(EVENT, "send_output('out', None)"), r"send pa\.array\(\[\]\)"),
    Case("sends a number", operator(EVENT, "send_output('out', 4.5)"), r"pa.array\(\[x\]\)"),
    Case("sends a bytearray", operator(EVENT, "send_output('out', bytearray(3))"), r"bytes\(x\)"),
    Case(
        "sends a Table", operator(EVENT, "send_output('out', pa.table({'a': [1]}))"),
        r"to_batches\(\)\[0\]",
    ),
    Case(
        "sends a ChunkedArray", operator(EVENT, "send_output('out', pa.chunked_array([[1]]))"),
        r"x.combine_chunks\(\)",
    ),
    Case("sends a Scalar", operator(EVENT, "send_output('out', pa.scalar(1))"), r"x.as_py\(\)"),
    Case(
        "sends objects", operator(EVENT, "send_output('out', np.array([{}], object))"), "dtype object",
    ),
    Case(
        "metadata that is no dict", operator(EVENT, "send_output('out', b'', [1])"),
        "metadata must be a dict, not list",
    ),
    Case(
        "metadata with a key that is no str", operator(EVENT, "send_output('out', b'', {1: 2})"),
        "metadata.*key",
    ),
    Case(
        "metadata beyond 64 bits", operator(EVENT, "send_output('out', b'', {'n': 2**63})"),
        "'n' is too large",
    ),
    Case(
        "metadata with a list of mixed types",
        operator(EVENT, "send_output('out', b'', {'n': [1, 'two']})"), "'n' mixes types",
    ),
    Case(
        "send_output with a node's keyword",
        operator(EVENT, "send_output(output_id='out', data=b'')"), "unexpected keyword.*output_id",
    ),
    Case(
        "Node() in an operator", operator(INIT, "from dora import Node; Node()"),
        r"Node\(\) is for scripts of their own", at_start=True,
    ),
    Case(
        "closes every descriptor", operator(EVENT, "os.closerange(3, 4096)"), "exited with status 1",
        None, ("something in the node's process closed descriptors",),
    ),
]  # fmt: skip


BATCH = 6


class Failures:
    """How each case failed. They run a few at a time, since it is starting them that takes long."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, OperatorError, list[str]]] = {}

    def of(self, case: Case) -> tuple[str, OperatorError, list[str]]:
        """The operator's name, its error, and the engine's lines in its log."""
        if case.id not in self._seen:
            alike = [each for each in CASES if each.at_start is case.at_start]
            first = alike.index(case) // BATCH * BATCH
            self._run(alike[first : first + BATCH])
        return self._seen[case.id]

    def _run(self, cases: list[Case]) -> None:
        names = {f"op{number}": case for number, case in enumerate(cases)}
        with CellDataflow() as dataflow:
            for name, case in names.items():
                dataflow.cell(name, case.source, inputs=TICK, outputs=("out",))
            # Some fail so soon after the start that it may raise, or not.
            raised = pytest.raises if cases[0].at_start else contextlib.suppress
            with raised(OperatorError):
                dataflow.start()
            for name, case in names.items():
                error = dataflow.failure_of(name)
                self._seen[case.id] = (name, error, dataflow.said_by(name, "engine"))


@pytest.fixture(scope="module")
def failures() -> Failures:
    return Failures()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_an_author_is_told(failures: Failures, case: Case) -> None:
    name, error, noted = failures.of(case)
    shown = "\n".join(error.traceback_lines)
    assert error.node == name
    assert re.search(case.message.replace("NAME", name), error.message), error.message
    assert len(error.message) < 2000
    if case.hint is not None:
        assert error.hint is not None
        assert re.search(case.hint, error.hint), error.hint
    for wanted in case.traceback:
        assert re.search(wanted, shown), shown
    assert "/dora_nb/" not in shown
    # What it says is kept where a user who missed it will look.
    if not error.message.startswith(f"{name}'s process"):
        assert error.message in noted


def test_a_failure_at_the_start_is_raised_there(dataflow: CellDataflow) -> None:
    dataflow.cell("op", operator(INIT, "1 / 0"))
    with pytest.raises(OperatorError, match="ZeroDivisionError") as caught:
        dataflow.start()
    assert caught.value is dataflow.status("op").error


ACCEPTED = {
    "nothing": "None",
    "CONTINUE": "DoraStatus.CONTINUE",
    "an enum of its own with value 0": "enum.Enum('Mine', {'GO': 0}).GO",
    "an IntEnum": "enum.IntEnum('Mine', {'GO': 0}).GO",
    "an object with a value": "type('Mine', (), {'value': 0})()",
}


def test_what_is_taken_as_continue(dataflow: CellDataflow) -> None:
    for number, answer in enumerate(ACCEPTED.values()):
        dataflow.cell(
            f"op{number}",
            operator(EVENT, f"send_output('out', b''); return {answer}"),
            inputs=TICK,
            outputs=("out",),
        )
    dataflow.start()
    for number in range(len(ACCEPTED)):
        assert len(dataflow.take(f"op{number}/out", 3)) == 3


def test_stop_ends_one_operator_and_no_other(dataflow: CellDataflow) -> None:
    dataflow.cell("ends", answering("DoraStatus.STOP"), inputs=TICK)
    dataflow.cell(
        "stays", operator(EVENT, "send_output('out', b'')"), inputs=TICK, outputs=("out",)
    )
    dataflow.start()
    assert dataflow.until_state("ends", State.FINISHED).error is None
    assert len(dataflow.take("stays/out", 3)) == 3


@pytest.mark.parametrize("status", ["DoraStatus.STOP_ALL", "type('Mine', (), {'value': 2})()"])
def test_stop_all_stops_everybody(dataflow: CellDataflow, status: str) -> None:
    dataflow.cell("other", operator(EVENT, "pass"), inputs=TICK)
    dataflow.cell("idle", operator(EVENT, "pass"), inputs={"in": "nobody/out"})
    dataflow.cell("ends", answering(status), inputs=TICK)
    dataflow.start()
    assert dataflow.wait(30)
    assert {each.name: each.state for each in dataflow.status()} == {
        "other": State.STOPPED,
        "idle": State.STOPPED,
        "ends": State.FINISHED,
    }
    assert not dataflow.running
    assert in_words(dataflow.stop()) == "already stopped"


def test_an_undeclared_output_is_ignored_warned_of_once_and_counted(dataflow: CellDataflow) -> None:
    statement = "send_output('typo', b'lost'); send_output('out', b'')"
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK, outputs=("out",))
    dataflow.start()
    dataflow.take("op/out", 5)
    dataflow.stop(grace_secs=TIMEOUT_SECS)  # The engine notes a stop that takes long.
    warnings = dataflow.said_by("op", "engine")
    assert warnings == [
        "output 'op/typo' is ignored, as it is not declared (declared: out); declare it as an output"
    ]
    status = dataflow.status("op")
    assert status.undeclared_outputs >= 5
    assert status.error is None


def test_an_output_that_is_nearly_declared_is_suggested(dataflow: CellDataflow) -> None:
    statement = "send_output('uot', b''); send_output('op/out', b''); send_output('out', b'')"
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK, outputs=("out",))
    dataflow.start()
    dataflow.latest("op/out")
    dataflow.stop(grace_secs=TIMEOUT_SECS)  # The engine notes a stop that takes long.
    warnings = dataflow.said_by("op", "engine")
    assert [warning.endswith("(declared: out); did you mean 'out'?") for warning in warnings] == [
        True
    ] * 2


def test_who_waits_for_an_output_is_told_of_its_misspelling(dataflow: CellDataflow) -> None:
    """In the status, which is amber, and by what waits for the right one; until an edit corrects it."""
    misspelt = operator(EVENT, "send_output('imge', b'')")
    dataflow.cell("cam", misspelt, inputs=TICK, outputs=("image",))
    dataflow.cell("fine", operator(EVENT, "send_output('out', b'')"), inputs=TICK, outputs=("out",))
    dataflow.start()
    dataflow.until(lambda: dataflow.status("cam").is_amber, "cam in amber")
    warning = "output 'cam/imge' is ignored, as it is not declared (declared: image); did you mean 'image'?"
    assert dataflow.status("cam").warnings == (warning,)
    assert not dataflow.status("fine").is_amber
    error = re.escape(f"came on 'cam/image' within 0 s; cam is running, but {warning}") + "$"
    with pytest.raises(TopicTimeoutError, match=error):
        dataflow.take("cam/image", 3, timeout_secs=0)
    with pytest.raises(TopicTimeoutError, match=error):
        dataflow.latest("cam/image", timeout_secs=0)
    with (
        dataflow.subscribe("cam/image") as images,
        pytest.raises(TopicTimeoutError, match=error),
    ):
        images.next(timeout_secs=0)
    correct = misspelt.replace("imge", "image")
    assert "in place" in in_words(dataflow.cell("cam", correct, inputs=TICK, outputs=("image",)))
    dataflow.take("cam/image", 1)
    assert not dataflow.status("cam").is_amber


def test_the_last_words_of_an_earlier_generation_are_not_repeated(dataflow: CellDataflow) -> None:
    dying = "import os, sys\nprint('WORD', file=sys.stderr)\nos._exit(4)\n"
    dataflow.cell("op", operator(EVENT, "pass"))
    dataflow.start()
    for word in ("first", "second"):
        with pytest.raises(OperatorError) as raised:
            dataflow.cell("op", dying.replace("WORD", word))
        assert [line.strip() for line in raised.value.traceback_lines][1:] == [word]


def test_an_error_knows_its_innermost_line(dataflow: CellDataflow) -> None:
    dataflow.cell("op", "def helper():\n    1 / 0\n" + operator(EVENT, "helper()"), inputs=TICK)
    dataflow.start()
    assert dataflow.failure_of("op").place == "Cell In[5], line 3"


def test_endless_warnings_are_bounded(dataflow: CellDataflow) -> None:
    statement = "[send_output(f'{n}' * 100_000, b'') for n in range(500)]; send_output('out', b'')"
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK, outputs=("out",))
    dataflow.start()
    dataflow.latest("op/out")
    dataflow.stop(grace_secs=TIMEOUT_SECS)  # The engine notes a stop that takes long.
    warnings = dataflow.said_by("op", "engine")
    assert len(warnings) == 200
    assert max(map(len, warnings)) <= 1000
    assert dataflow.status("op").error is None


def test_metadata_that_cannot_travel_as_it_is_arrives_as_text_with_a_warning(
    dataflow: CellDataflow,
) -> None:
    statement = "send_output('out', b'', {'none': None, 'count': np.int64(3), 'fine': 1.5})"
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK, outputs=("out",))
    dataflow.start()
    metadata = dataflow.latest("op/out")["metadata"]
    assert {key: metadata[key] for key in ("none", "count", "fine")} == {
        "none": "None",
        "count": "3",
        "fine": 1.5,
    }
    dataflow.stop(grace_secs=TIMEOUT_SECS)  # The engine notes a stop that takes long.
    assert [line[:16] for line in dataflow.said_by("op", "engine")] == [
        "metadata 'none' ",
        "metadata 'count'",
    ]


def test_others_go_on_when_one_fails(dataflow: CellDataflow) -> None:
    dataflow.cell("fails", operator(EVENT, "1 / 0"), inputs=TICK, outputs=("out",))
    dataflow.cell(
        "stays", operator(EVENT, "send_output('out', b'')"), inputs=TICK, outputs=("out",)
    )
    dataflow.start()
    dataflow.failure_of("fails")
    assert len(dataflow.take("stays/out", 3)) == 3
    (unseen,) = dataflow.front_end.unseen_failures()
    assert unseen.node == "fails"
    assert dataflow.front_end.unseen_failures() == []


# -- what it prints -------------------------------------------------------------------------------


def test_a_publisher_that_is_killed_takes_its_overflow_along_and_it_is_counted(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo], tmp_path: Path
) -> None:
    """What the socket could not hold is memory of its process; what the socket holds is read later."""
    sent, gate = make_fifo("sent"), tmp_path / "gate"
    os.mkfifo(gate)
    sending = f"""
import pyarrow as pa, threading
class Operator:
    def on_event(self, dora_event, send_output):
        for n in range(3000):
            send_output("out", pa.array([n] * 400))
        open({str(sent.path)!r}, "w").close()
        threading.Event().wait()
"""
    reading = f"""
class Operator:
    count = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            if not self.count:
                open({str(gate)!r}).read()
            assert dora_event["value"][0].as_py() == self.count
            self.count += 1
        else:
            print(self.count, flush=True)
"""
    dataflow.cell("source", sending, inputs={"go": "notebook/go"}, outputs=("out",))
    queues: Any = {"in": (5000, "backpressure")}
    dataflow.cell("reader", reading, inputs={"in": "source/out"}, queues=queues)
    dataflow.start()
    dataflow.send("notebook/go", 1)
    sent.wait_for_end()
    (edge,) = dataflow.status("reader").inputs
    assert (edge.sent, edge.dropped) == (3000, 0)
    session: Any = dataflow._run.session
    session._supervisors["source"].process.kill()
    dataflow.failure_of("source")
    gate.write_text("")
    dataflow.until_state("reader", State.FINISHED)
    (edge,) = dataflow.status("reader").inputs
    assert dataflow.said_by("reader")[-1] == str(edge.received)
    assert edge.dropped > 0
    assert (edge.sent, edge.queued) == (edge.received + edge.dropped, 0)


def test_output_of_any_kind_becomes_lines(dataflow: CellDataflow) -> None:
    statement = (
        "sys.stdout.buffer.write(b'bytes \\xff\\xfe\\n'); print('1%', end='\\r'); print('é', flush=True);"
        " os.write(1, b'y' * 10_000 + b'\\n'); subprocess.run(['echo', 'from a child']);"
        " print('last, without an end', end=''); return DoraStatus.STOP"
    )
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK)
    dataflow.start()
    dataflow.until_state("op", State.FINISHED)
    *others, long, child, last = dataflow.said_by("op")
    assert others == ["bytes ��", "1%", "é"]
    assert long == "y" * 2000 + "… (8000 more characters)"
    assert [child, last] == ["from a child", "last, without an end"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_flood_keeps_its_last_lines_in_bounded_memory(
    dataflow: CellDataflow, stream: str
) -> None:
    """200 MB; every line passes, or the operator would stand still in its `write`."""
    statement = (
        f"[sys.{stream}.buffer.write((b'%07d' % n + b'.' * 72 + b'\\n') * 1000) for n in range(2500)];"
        f" print('last words', file=sys.{stream}); os._exit(3)"
    )
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK)
    before_kb = resident_kb()
    dataflow.start()
    dataflow.failure_of("op")
    lines = dataflow.said_by("op", stream)
    assert lines[-2:] == ["0002499" + "." * 72, "last words"]
    assert len(lines) == 5000
    assert resident_kb() - before_kb < 50_000


def resident_kb() -> int:
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_what_an_escaped_process_prints_holds_nobody_up(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]
) -> None:
    """It has the operator's stdout, a session of its own, and never stops printing."""
    fifo = make_fifo("escaped")
    # Its fourth descriptor is the pipe that ends with it.
    statement = (
        f"f = os.open({str(fifo.path)!r}, os.O_WRONLY);"
        " subprocess.Popen(['yes'], start_new_session=True, pass_fds=[f]); os._exit(3)"
    )
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK)
    dataflow.start()
    dataflow.failure_of("op")
    assert in_words(dataflow.stop()) == "already stopped"
    fifo.wait_for_end()  # Nobody reads what it prints any more, so it got SIGPIPE.


# -- operators that do not end ------------------------------------------------------------------------


NEVER_ENDING = {
    "in Python": "while True: pass",
    "in Python, SIGTERM ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
    "in C with the GIL": "ctypes.PyDLL(None).usleep(100_000_000)",
    "swallowing every exception": "while True:\n    try: time.sleep(1)\n    except BaseException: pass",
}


@pytest.mark.parametrize("kind", NEVER_ENDING)
def test_one_that_never_returns_is_stopped_all_the_same(dataflow: CellDataflow, kind: str) -> None:
    source = operator(EVENT, "send_output('out', b'')")
    source += textwrap.indent(NEVER_ENDING[kind], " " * 8)
    dataflow.cell("op", source, inputs=TICK, outputs=("out",))
    with dataflow.subscribe("op/out") as entered:
        dataflow.start()
        entered.next(TIMEOUT_SECS)
    assert in_words(dataflow.stop(grace_secs=0.1)) == "stopped"
    status = dataflow.status("op")
    assert (status.state, status.error) == (State.STOPPED, None)
    terminated, *killed = dataflow.said_by("op", "engine")
    assert terminated == "it did not exit in time after STOP: sending SIGTERM"
    assert (killed != []) == (kind == "in Python, SIGTERM ignored")


def test_a_thread_that_its_operator_left_is_told_and_a_stop_ends_it(dataflow: CellDataflow) -> None:
    statement = "threading.Thread(target=threading.Event().wait).start(); return DoraStatus.STOP"
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK)
    dataflow.start()
    still = (
        "op has ended its own code and is still exiting, in exit handlers or in threads that are not daemons; "
        "a stop ends it"
    )
    dataflow.until(lambda: dataflow.status("op").warnings == (still,), "a slow exit")
    assert dataflow.said_by("op", "engine") == [still]
    dataflow.stop()
    assert dataflow.status("op").state is State.FAILED


def test_a_failure_while_stopping_is_not_lost(dataflow: CellDataflow) -> None:
    statement = "assert dora_event['type'] != 'STOP', 'arm not parked'"
    dataflow.cell("op", operator(EVENT, statement), inputs=TICK)
    dataflow.start()
    dataflow.stop()
    status = dataflow.status("op")
    assert status.state is State.STOPPED
    assert status.error is not None
    assert "in on_event, at STOP 'MANUAL': AssertionError: arm not parked" in status.error.message
    assert dataflow.front_end.unseen_failures() == [status.error]


# -- interpreters and folders -----------------------------------------------------------------------


def interpreter(tmp_path: Path, *lines: str) -> str:
    """A program that stands in for `--python`."""
    path = tmp_path / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_is_not_there(dataflow: CellDataflow) -> None:
    dataflow.cell("op", operator(EVENT, "pass"), python="/no/such/python")
    with pytest.raises(OperatorError) as caught:
        dataflow.start()
    assert str(caught.value) == (
        "op cannot be started: '/no/such/python' does not exist. Check python=."
    )


def test_an_interpreter_that_is_no_program(dataflow: CellDataflow, tmp_path: Path) -> None:
    text = tmp_path / "python"
    text.write_text("not a program")
    dataflow.cell("op", operator(EVENT, "pass"), python=str(text))
    with pytest.raises(OperatorError, match=r"is not an executable program\. Check python="):
        dataflow.start()


def test_an_interpreter_without_pyarrow(dataflow: CellDataflow, tmp_path: Path) -> None:
    bare = interpreter(tmp_path, f'exec {sys.executable} -S "$@"')
    dataflow.cell("op", operator(EVENT, "pass"), python=bare)
    with pytest.raises(OperatorError) as caught:
        dataflow.start()
    assert caught.value.message.endswith(
        "lacks what an operator needs; install it there: pip install msgspec numpy pyarrow"
    )
    assert caught.value.message.startswith("op cannot be started: ")


def test_an_interpreter_that_is_too_old(dataflow: CellDataflow, tmp_path: Path) -> None:
    older = "import sys; sys.version_info = (3, 9, 1); sys.argv = sys.argv[1:]; sys.path[0] = ''"
    run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    old = interpreter(tmp_path, f'exec {sys.executable} -c "{older}; {run}" "$@"')
    dataflow.cell("op", operator(EVENT, "pass"), python=old)
    with pytest.raises(OperatorError, match=r"is Python 3.9, and an operator needs 3.11 or newer"):
        dataflow.start()


def test_a_folder_that_is_gone(dataflow: CellDataflow, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    dataflow.cell("op", operator(EVENT, "pass"), working_dir=gone)
    with pytest.raises(OperatorError, match=r"its working folder '.*/gone' does not exist"):
        dataflow.start()
    gone.mkdir()
    assert in_words(dataflow.start()) == "started: op"


@pytest.mark.parametrize("env", [{"KEY": "nul\0byte"}, {"A=B": "c"}])
def test_a_variable_that_no_process_can_have(dataflow: CellDataflow, env: dict[str, str]) -> None:
    dataflow.cell("op", operator(EVENT, "pass"), env=env)
    with pytest.raises(OperatorError, match=r"op cannot be started: .*Check env="):
        dataflow.start()
