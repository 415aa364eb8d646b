"""What operators print becomes bounded lines, and the end of a process becomes a sentence. Pure."""

from __future__ import annotations

import itertools
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.child import program
from dora_nb.engines.capture import MAX_LINE_CHARS, MAX_LINES, LineSplitter, Log
from dora_nb.engines.embedded import _death
from dora_nb.engines.embedded._death import describe_death
from dora_nb.status import LogLine


def lines_of(*pieces: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.finish()


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"no end"], ["no end"]),
        ([b"in ", b"pieces\nre", b"st"], ["in pieces", "rest"]),
        ([b" 10%\r 20%\r100%\n"], [" 10%", " 20%", "100%"]),
        ([b"windows\r", b"\nnext\r\n"], ["windows", "next"]),
        ([b"\xc3", b"\xa9t\xc3\xa9\n"], ["été"]),
        ([b"bad \xff\xfe byte\n"], ["bad �� byte"]),
        ([b"cut off \xc3"], ["cut off �"]),
        ([b"\n\n"], []),
        ([], []),
    ],
)
def test_bytes_become_lines(pieces: list[bytes], lines: list[str]) -> None:
    assert lines_of(*pieces) == lines


@given(st.text(alphabet="ab\n\ré"), st.lists(st.integers(0, 40), max_size=5))
def test_where_the_bytes_are_cut_makes_no_difference(text: str, cuts: list[int]) -> None:
    data = text.encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert lines_of(*pieces) == lines_of(data) == [line for line in text.splitlines() if line]


@pytest.mark.parametrize("piece_size", [7, 4096, 10**6])
def test_a_very_long_line_is_cut_and_says_by_how_much(piece_size: int) -> None:
    data = b"x" * 123_456 + b"\nshort\n"
    pieces = [data[at : at + piece_size] for at in range(0, len(data), piece_size)]
    long, short = lines_of(*pieces)
    assert long == "x" * MAX_LINE_CHARS + f"… ({123_456 - MAX_LINE_CHARS} more characters)"
    assert short == "short"


def test_a_line_that_never_ends_takes_bounded_memory() -> None:
    splitter = LineSplitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 65_536) == []
    assert len(splitter._rest) == MAX_LINE_CHARS


def test_a_log_keeps_the_newest_lines_and_counts_the_others() -> None:
    log = Log("camera")
    for first in range(0, 3 * MAX_LINES, 700):
        texts = [str(number) for number in range(first, min(first + 700, 3 * MAX_LINES))]
        log.add("stderr", texts, time_secs=1.5)
    lines = log.lines()
    last = 3 * MAX_LINES - 1
    assert lines[-1] == LogLine("camera", "stderr", str(last), 1.5, last)
    assert [line.text for line in lines] == [str(n) for n in range(2 * MAX_LINES, 3 * MAX_LINES)]
    assert log.forgotten == 2 * MAX_LINES


@pytest.mark.parametrize("between", [0, 1, MAX_LINES - 1, MAX_LINES, 2 * MAX_LINES])
def test_a_log_that_is_read_again_and_again_has_all_lines_that_are_kept(between: int) -> None:
    log = Log("camera")
    added: list[str] = []
    for number_of_lines in (0, 3, between, between, 1):
        texts = [str(len(added) + number) for number in range(number_of_lines)]
        log.add("stdout", texts, time_secs=1.5)
        added += texts
        lines = log.lines()
        assert [line.text for line in lines] == added[-MAX_LINES:]
        assert [str(line.number) for line in lines] == added[-MAX_LINES:]


def printed(*texts: str, stream: str = "stderr") -> list[LogLine]:
    return [LogLine("camera", stream, text, 0.0) for text in texts]


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (3, "camera's process exited with status 3 without an error message.", "os._exit"),
        (0, "camera's process exited with status 0 without an error message.", "os._exit"),
        (-signal.SIGSEGV, "SIGSEGV (Segmentation fault)", "C extension library"),
        (-signal.SIGKILL, "SIGKILL (Killed)", "out of memory"),
        (-signal.SIGABRT, "SIGABRT (Aborted)", "stderr"),
        (-63, "signal 63", None),
    ],
)
def test_a_death_is_named(status: int, message: str, hint: str | None) -> None:
    error = describe_death("camera", status, [])
    assert message in error.message
    assert error.hint == hint or (hint is not None and hint in str(error.hint))
    assert error.traceback_lines == ()


def test_the_last_words_are_shown_without_what_only_we_understand() -> None:
    ours = _death.__file__.replace("engines/embedded/_death.py", "child/_loop.py")
    log = [
        *printed(*(f"line {number}" for number in range(40))),
        *printed("to stdout", stream="stdout"),
        *printed(
            "Fatal Python error: Segmentation fault",
            "Current thread 0x00007f1c2a0b7740 (most recent call first):",
            '  File "Cell In[5]", line 7 in on_event',
            f'  File "{ours}", line 12 in _serve',
            "Extension modules: numpy._core._multiarray_umath (total: 63)",
        ),
    ]
    lines = describe_death("camera", -11, log).traceback_lines
    assert lines[0] == "The last lines of its stderr:"
    assert [line.strip() for line in lines[-4:]] == [
        "line 39",
        "Fatal Python error: Segmentation fault",
        "Current thread (most recent call first):",
        "Cell In[5], line 7 in on_event",
    ]
    assert len(lines) == 13


def test_an_interpreter_that_cannot_run_operators_is_no_crash() -> None:
    assert program.CANNOT_BEGIN_STATUS == _death.CANNOT_BEGIN_STATUS
    error = describe_death(
        "camera", _death.CANNOT_BEGIN_STATUS, printed("noise", "it lacks pyarrow")
    )
    assert error.message == "camera cannot be started: it lacks pyarrow"
    assert error.hint is None
