"""What goes through a serial port, and a port that vanishes; the ports are pseudo-terminals."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tty
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.child.dora_api import DoraStatus

from .conftest import SAMPLES

PATIENCE_SECS = 10.0
"""Only reached when a test fails."""
TICK = {"type": "INPUT", "kind": "dora", "id": "tick", "value": pa.nulls(0), "metadata": {}}
STOP = {"type": "STOP", "kind": "dora", "id": "MANUAL"}


class Board:
    """A microcontroller at the other end; its port is a link, as in /dev/serial/by-id."""

    def __init__(self, port: Path) -> None:
        self.port = port
        self._ends: tuple[int, int] | None = None
        self.plug_in()

    def plug_in(self) -> None:
        # The end of the port stays open here too: else the board sees the end each time the port is closed.
        board, port = os.openpty()
        tty.setraw(port)
        self._ends = board, port
        self.port.symlink_to(os.ttyname(port))

    def unplug(self, *, keep_name: bool = False) -> None:
        if self._ends is None:
            return
        if not keep_name:
            self.port.unlink()
        for end in self._ends:
            os.close(end)
        self._ends = None

    def say(self, data: bytes) -> None:
        assert self._ends is not None
        os.write(self._ends[0], data)

    def heard(self, count: int) -> bytes:
        assert self._ends is not None
        data = b""
        while len(data) < count:
            data += os.read(self._ends[0], count - len(data))
        return data


class Outputs:
    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, dict[str, Any]]] = []

    def __call__(self, output: str, data: Any, metadata: dict[str, Any]) -> None:
        self.sent.append((output, data, metadata))

    @property
    def lines(self) -> list[str]:
        assert {output for output, _, _ in self.sent} <= {"line"}
        return [text for _, data, _ in self.sent for text in data.to_pylist()]

    @property
    def bytes(self) -> bytes:
        assert {output for output, _, _ in self.sent} <= {"bytes"}
        return b"".join(data.to_numpy().tobytes() for _, data, _ in self.sent)


Start = Callable[..., tuple[Any, Outputs]]
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def port(load_sample: Callable[[str], ModuleType]) -> ModuleType:
    module = load_sample("serial_port")
    module.READ_SECS = 0.01
    module.RETRY_SECS = 0.01
    return module


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "ttyACM0")
    yield board
    board.unplug()


@pytest.fixture
def start(port: ModuleType, board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    operators = []

    def start(**environment: object) -> tuple[Any, Outputs]:
        for name, value in {"port": board.port, **environment}.items():
            monkeypatch.setenv(f"SERIAL_{name.upper()}", str(value))
        operators.append(port.Operator())
        return operators[-1], Outputs()

    yield start
    for operator in operators:
        assert operator.on_event(STOP, Outputs()) is DoraStatus.CONTINUE
        assert not operator._port._thread.is_alive()


def write(data: Any, name: str = "write") -> dict[str, Any]:
    return {"type": "INPUT", "kind": "dora", "id": name, "value": pa.array(data), "metadata": {}}


def tick_until(condition: Callable[[], bool], operator: Any, outputs: Outputs) -> None:
    deadline = datetime.now(UTC).timestamp() + PATIENCE_SECS
    while not condition():
        assert datetime.now(UTC).timestamp() < deadline, f"only {outputs.sent} came"
        assert operator.on_event(TICK, outputs) is DoraStatus.CONTINUE


def wait_until(condition: Callable[[], bool]) -> None:
    """For what a thread does meanwhile."""
    deadline = datetime.now(UTC).timestamp() + PATIENCE_SECS
    while not condition():
        assert datetime.now(UTC).timestamp() < deadline
        os.sched_yield()


def until_it_says(text: str, operator: Any, outputs: Outputs, capsys: Printed) -> str:
    """What it prints until this text is part of it."""
    printed: list[str] = []

    def said() -> bool:
        printed.append(capsys.readouterr().out)
        return text in "".join(printed)

    tick_until(said, operator, outputs)
    return "".join(printed)


# ---------------------------------------------------------------- reading


def test_each_line_is_a_message_with_the_moment_when_it_was_read(
    start: Start, board: Board, capsys: Printed
) -> None:
    operator, outputs = start()
    assert capsys.readouterr().out == f"serial port: {board.port}, 115200 baud\n"
    before = datetime.now(UTC)
    board.say(b"x 1.5\r\ny 2\nz")
    tick_until(lambda: len(outputs.sent) == 2, operator, outputs)
    board.say(b" 3\n\xff\xe2\x82\xac\n\n")
    tick_until(lambda: len(outputs.sent) == 5, operator, outputs)
    assert outputs.lines == ["x 1.5", "y 2", "z 3", "\ufffd€", ""]
    moments = [metadata["timestamp"] for _, _, metadata in outputs.sent]
    assert before <= moments[0] <= moments[-1] <= datetime.now(UTC)


def test_bytes_are_sent_as_they_come(start: Start, board: Board) -> None:
    operator, outputs = start(mode="bytes")
    data = bytes(range(256))
    board.say(data)
    tick_until(lambda: len(outputs.bytes) == 256, operator, outputs)
    assert outputs.bytes == data
    assert {str(value.type) for _, value, _ in outputs.sent} == {"uint8"}


def test_lines_that_nothing_takes_are_dropped_from_the_oldest_on_and_counted(
    start: Start, board: Board, port: ModuleType, capsys: Printed
) -> None:
    port.MAX_WAITING = 3
    operator, outputs = start()
    board.say(b"1\n2\n3\n4\n5\n")
    printed = until_it_says("were dropped: the tick is too slow", operator, outputs, capsys)
    assert re.search(rf"{board.port}: \d|\d messages of {board.port} were dropped", printed)
    tick_until(lambda: outputs.lines[-1:] == ["5"], operator, outputs)
    assert len(outputs.lines) < 5


def test_a_device_that_never_ends_a_line_fills_no_memory_and_is_said_to_be_one(
    start: Start, board: Board, port: ModuleType, capsys: Printed
) -> None:
    port.MAX_LINE_BYTES = 100
    operator, outputs = start()
    board.say(b"x" * 150)
    printed = until_it_says("without the end of a line", operator, outputs, capsys)
    assert "has sent 100 bytes" in printed
    assert "is it the right SERIAL_BAUD, or is SERIAL_MODE=bytes meant?" in printed
    board.say(b"\nhello\n")
    tick_until(lambda: "hello" in outputs.lines, operator, outputs)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (["left 1"], b"left 1\n"),
        (["left 1\n", "right 2"], b"left 1\nright 2\n"),
        (np.array([0.5, -1.0]), b"0.5 -1.0\n"),
        (np.array([3, 4], np.int32), b"3 4\n"),
        ([True, False], b"1 0\n"),
        (np.array([0, 255, 10], np.uint8), b"\x00\xff\n"),
        ([b"a\x00", b"b"], b"a\x00b"),
    ],
)
def test_what_an_input_carries_is_written(
    data: Any, written: bytes, start: Start, board: Board
) -> None:
    operator, outputs = start()
    operator.on_event(write(data), outputs)
    assert board.heard(len(written)) == written


def test_in_bytes_mode_texts_are_written_without_an_end_of_line(start: Start, board: Board) -> None:
    operator, outputs = start(mode="bytes")
    operator.on_event(write(["left"]), outputs)
    operator.on_event(write(np.array([1, 2], np.uint8)), outputs)
    assert board.heard(6) == b"left\x01\x02"


@pytest.mark.parametrize("value", [None, pa.nulls(0), pa.array([], pa.float64())])
def test_a_tick_writes_nothing(value: Any, start: Start, board: Board) -> None:
    operator, outputs = start()
    operator.on_event({**TICK, "value": value}, outputs)
    operator.on_event(write(["end"]), outputs)
    assert board.heard(4) == b"end\n"


@pytest.mark.parametrize(
    ("data", "mode", "error"),
    [
        ([{"x": 1}], "lines", "a serial port takes texts, bytes (uint8) or numbers, got struct"),
        ([1.5], "bytes", "a serial port takes texts or bytes (uint8), got double"),
        ([1.5, float("nan")], "lines", "nan is not a number that a device could read; nothing was"),
        ([1.5, None], "lines", "None is not a number that a device could read"),
    ],
)
def test_what_a_device_cannot_read_is_refused(
    data: Any, mode: str, error: str, start: Start
) -> None:
    operator, outputs = start(mode=mode)
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        operator.on_event(write(data), outputs)


def test_a_device_that_takes_nothing_holds_nothing_up_and_is_said_to_be_busy(
    start: Start, port: ModuleType, capsys: Printed
) -> None:
    port.WRITE_SECS = 0.01
    operator, outputs = start()
    operator.on_event(write(np.zeros(1_000_000, np.uint8)), outputs)
    printed = capsys.readouterr().out
    assert (
        "has not taken 1000000 bytes within 0.01 s, the rest was dropped: is the device" in printed
    )


# ---------------------------------------------------------------- a port that vanishes


def test_a_port_that_vanishes_is_waited_for_and_comes_back(
    start: Start, board: Board, withdrawn: list[str], capsys: Printed
) -> None:
    operator, outputs = start()
    board.say(b"1\nhalf a li")
    tick_until(lambda: outputs.lines == ["1"], operator, outputs)
    capsys.readouterr()
    board.unplug()
    why = f"{board.port} is gone (was it unplugged?)"
    expected = re.escape(f"{why}: waiting until it is back; plug it in")
    with pytest.warns(UserWarning, match=expected) as warned:
        printed = until_it_says("waiting", operator, outputs, capsys)
    assert printed == f"serial port: {why}; waiting until it is back\n"
    for _ in range(3):
        operator.on_event(write(["old command"]), outputs)
    assert withdrawn == []
    board.plug_in()
    printed = until_it_says("is back", operator, outputs, capsys)
    assert withdrawn == [str(each.message) for each in warned]
    assert printed == (f"serial port: {board.port} is back; 3 messages not written meanwhile\n")
    operator.on_event(write(["new command"]), outputs)
    assert board.heard(12) == b"new command\n"
    board.say(b"2\n")
    tick_until(lambda: outputs.lines == ["1", "2"], operator, outputs)


def test_a_port_may_vanish_and_come_back_many_times(
    start: Start, board: Board, capsys: Printed
) -> None:
    operator, outputs = start()
    for number in range(4):
        board.unplug()
        with pytest.warns(UserWarning, match="waiting until it is back"):
            until_it_says("waiting", operator, outputs, capsys)
        if number == 0:
            operator.on_event(write(["old command"]), outputs)
        board.plug_in()
        printed = until_it_says("is back", operator, outputs, capsys)
        assert ("not written" in printed) is (number == 0)
        board.say(f"{number}\n".encode())
        tick_until(lambda: outputs.lines[-1:] == [str(number)], operator, outputs)  # noqa: B023


def test_a_port_that_may_not_come_back_ends_the_operator(
    start: Start, board: Board, port: ModuleType
) -> None:
    operator, outputs = start(reconnect="no")
    board.unplug()
    expected = (
        f"{board.port} is gone (was it unplugged?). Plug it in again and restart the operator"
    )
    with pytest.raises(port.SerialPortError, match=re.escape(expected)):
        tick_until(lambda: False, operator, outputs)


def test_what_happens_between_two_ticks_is_said_in_its_order(
    start: Start, board: Board, capsys: Printed
) -> None:
    operator, outputs = start()
    port = operator._port
    capsys.readouterr()
    back = f"{board.port} is back"
    for count in (1, 2):
        board.unplug()
        board.plug_in()
        wait_until(
            lambda count=count: [each.text for each in list(port._news)].count(back) == count
        )
    with pytest.warns(UserWarning, match="waiting until it is back"):
        operator.on_event(TICK, outputs)
    lines = capsys.readouterr().out.splitlines()
    assert ["waiting" in line for line in lines] == [True, False, True, False]
    assert lines[1] == lines[3] == f"serial port: {back}"


def test_a_port_that_fails_while_its_name_stays_is_said_with_the_systems_words(
    start: Start, board: Board, capsys: Printed
) -> None:
    """Its name leads to a file, as if another driver had taken the device."""
    operator, outputs = start()
    other = board.port.with_name("other")
    other.touch()
    other.replace(board.port)  # before the port fails: its name is always there
    board.unplug(keep_name=True)
    with pytest.warns(UserWarning, match="has failed: ") as warned:
        until_it_says("waiting", operator, outputs, capsys)
    # One line, so that the last line below the cell is never code.
    (warning,) = warned
    shown = warnings.formatwarning(
        warning.message, warning.category, warning.filename, warning.lineno
    )
    assert len(shown.splitlines()) == 1
    printed = until_it_says("still waiting", operator, outputs, capsys)
    assert f"still waiting: {board.port} cannot be opened: it is not a serial port" in printed


def test_a_write_that_fails_loses_the_port_too(
    start: Start, board: Board, port: ModuleType, capsys: Printed
) -> None:
    operator, outputs = start()
    device = operator._port._serial

    def fail(data: bytes) -> None:
        raise port.serial.SerialException("write failed: [Errno 5] Input/output error")

    device.write = fail
    with pytest.warns(UserWarning, match="write failed"):
        operator.on_event(write(["go"]), outputs)
    back = f"{board.port} is back"
    printed = until_it_says(back, operator, outputs, capsys)
    assert printed.endswith(f"{back}; 1 message not written meanwhile\n")
    assert not device.is_open
    operator.on_event(write(["go"]), outputs)
    assert board.heard(3) == b"go\n"


# ---------------------------------------------------------------- which port


def found(monkeypatch: pytest.MonkeyPatch, port: ModuleType, *paths: str) -> None:
    ports = [SimpleNamespace(device="/dev/ttyS0", description="onboard", vid=None)]
    ports += [SimpleNamespace(device=path, description="Uno", vid=0x2341) for path in paths]
    monkeypatch.setattr(port, "comports", lambda: ports)


def test_the_only_usb_port_is_found_also_after_it_got_another_name(
    start: Start,
    board: Board,
    port: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    found(monkeypatch, port, str(board.port))
    operator, outputs = start(port="")
    assert capsys.readouterr().out == f"serial port: {board.port}, 115200 baud\n"
    board.unplug()
    found(monkeypatch, port)
    with pytest.warns(UserWarning, match="waiting until it is back"):
        until_it_says("waiting", operator, outputs, capsys)
    board.port = board.port.with_name("ttyACM1")
    board.plug_in()
    found(monkeypatch, port, str(board.port))
    printed = until_it_says("is back", operator, outputs, capsys)
    assert printed == f"serial port: {board.port} is back\n"


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (
            [],
            "no USB serial port was found: plug the device in, or name a port: SERIAL_PORT=/dev/ttyS0",
        ),
        (
            ["/dev/ttyACM0", "/dev/ttyACM1"],
            "there are several USB serial ports, /dev/ttyACM0 (Uno), /dev/ttyACM1 (Uno): choose one",
        ),
    ],
)
def test_without_a_choice_of_one_the_ports_are_listed(
    paths: list[str], said: str, start: Start, port: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, port, *paths)
    with pytest.raises(port.SerialPortError, match=re.escape(said)):
        start(port="")


def test_a_port_that_is_missing_is_named_with_those_that_exist(
    start: Start, port: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, port, "/dev/ttyUSB3")
    said = (
        "/dev/no/tty cannot be opened: it does not exist (USB ports found: /dev/ttyUSB3 (Uno)). "
        "Is the device plugged in?"
    )
    with pytest.raises(port.SerialPortError, match=f"^{re.escape(said)}$"):
        start(port="/dev/no/tty")


def test_a_port_that_another_program_uses_is_said_to_be_used(
    start: Start, port: ModuleType
) -> None:
    start()
    with pytest.raises(port.SerialPortError, match="another program uses it; close its serial"):
        start()


def test_a_port_that_may_not_be_used_is_said_to_be_that(
    start: Start, port: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise port.serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(port.serial, "Serial", refuse)
    with pytest.raises(port.SerialPortError, match="sudo usermod -aG dialout"):
        start()


def test_a_path_that_is_not_a_serial_port_is_said_to_be_none(
    start: Start, port: ModuleType
) -> None:
    with pytest.raises(
        port.SerialPortError, match="/dev/null cannot be opened: it is not a serial"
    ):
        start(port="/dev/null")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"baud": "fast"}, "SERIAL_BAUD must be a number of bits per second, got 'fast'"),
        ({"baud": "0"}, "SERIAL_BAUD must be a number of bits per second, got '0'"),
        ({"mode": "words"}, "SERIAL_MODE must be lines or bytes, got 'words'"),
        ({"reconnect": "maybe"}, "SERIAL_RECONNECT must be yes or no, got 'maybe'"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_by_name(
    settings: dict[str, str], said: str, start: Start
) -> None:
    with pytest.raises(ValueError, match=said):
        start(**settings)


@pytest.mark.parametrize("module", ["serial", "serial.tools.list_ports"])
def test_without_pyserial_one_line_says_what_to_install(module: str) -> None:
    """Another package on PyPI is called `serial`; it has no `serial.tools`."""
    code = f"import sys; sys.modules[{module!r}] = None; sys.modules['dora'] = sys; sys.DoraStatus = None; "
    code += f"sys.path.insert(0, {str(SAMPLES)!r}); import serial_port"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        'serial_port.MissingPackageError: serial_port.py needs pyserial: pip install "dora-nb[serial]"'
    )
