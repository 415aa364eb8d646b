"""A serial port as a dora operator: what a microcontroller says, and what it is told.

    %dora_operator arduino ../samples/serial_port.py --inputs tick=dora/timer/hz/100 write=control/wheels --outputs line --env SERIAL_PORT=/dev/ttyACM0

It needs pyserial: ``pip install "dora-nb[serial]"``. On each input it sends what has come since the last one, so
the tick sets the delay. What any other input carries is written to the port: texts, a line each; bytes (uint8) as
they are; other numbers as text, the numbers of a message on one line with spaces between.

Outputs, by SERIAL_MODE; both carry as ``timestamp`` when they were read:

line     a text for each line, without its end; bytes that are not UTF-8 are replaced
bytes    uint8

Settings, from the environment:

SERIAL_PORT        ``auto`` (default): the only USB port there is; else a path. ``/dev/serial/by-id/...`` stays
                   the same when a device is plugged in elsewhere
SERIAL_BAUD        bits per second, by default 115200
SERIAL_MODE        ``lines`` (default) or ``bytes``
SERIAL_RECONNECT   ``yes`` (default): a port that vanishes is waited for, and comes back when it is plugged in
                   again; ``no``: the operator fails

What should be written while the port is gone is dropped, not kept: an old command must not move a robot. The line
that says that the port is back also says how many messages were dropped. Opening a port resets many boards
(Arduino Uno), which then need a second or two.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from dora import DoraStatus


class MissingPackageError(ImportError):
    """A package has to be installed."""

    __tracebackhide__ = True  # dora_nb shows its text alone


try:
    import serial
    from serial.tools.list_ports import comports
except ImportError:
    raise MissingPackageError(
        'serial_port.py needs pyserial: pip install "dora-nb[serial]"'
    ) from None

READ_SECS = 0.1
"""How long one read waits for bytes; at STOP the reading thread ends within that time."""
WRITE_SECS = 0.5
"""How long the device may take to accept a message."""
RETRY_SECS = 0.5
"""Between two attempts to open a port that has vanished."""
CLOSE_SECS = 1.0
MAX_LINE_BYTES = 65_536
MAX_WAITING = 1000
"""What was read and waits for the next input: lines, or pieces of bytes. More drop the oldest."""
MAX_NEWS = 50
YES_OR_NO = {"yes": True, "no": False, "": True}


class SerialPortError(RuntimeError):
    """The port cannot be used."""

    __tracebackhide__ = True  # dora_nb shows its text alone


class SettingError(ValueError):
    """A setting has a value that it cannot have."""

    __tracebackhide__ = True  # dora_nb shows its text alone


# ---------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    port: str
    baud: int
    lines: bool
    reconnect: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        def text(name: str) -> str:
            return environment.get(name, "").strip()

        baud, mode, reconnect = (
            text("SERIAL_BAUD") or "115200",
            text("SERIAL_MODE"),
            text("SERIAL_RECONNECT"),
        )
        if not baud.isdecimal() or not 0 < int(baud) <= 100_000_000:
            raise SettingError(f"SERIAL_BAUD must be a number of bits per second, got {baud!r}")
        if mode not in ("", "lines", "bytes"):
            raise SettingError(f"SERIAL_MODE must be lines or bytes, got {mode!r}")
        if reconnect.lower() not in YES_OR_NO:
            raise SettingError(f"SERIAL_RECONNECT must be yes or no, got {reconnect!r}")
        return cls(
            text("SERIAL_PORT") or "auto", int(baud), mode != "bytes", YES_OR_NO[reconnect.lower()]
        )


def usb_ports() -> dict[str, str]:
    """The USB ports of this machine, and what each calls itself."""
    return {port.device: port.description for port in comports() if port.vid is not None}


def path_of(port: str) -> str:
    """The path of the port that a setting means. Raises SerialPortError if it is not clear."""
    if port != "auto":
        return port
    found = usb_ports()
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise SerialPortError(
            "no USB serial port was found: plug the device in, or name a port: SERIAL_PORT=/dev/ttyS0"
        )
    raise SerialPortError(
        f"there are several USB serial ports, {_listed(found)}: choose one with SERIAL_PORT"
    )


def _listed(ports: Mapping[str, str]) -> str:
    return ", ".join(f"{path} ({name})" for path, name in ports.items()) or "none"


# ---------------------------------------------------------------- the port


@dataclass(frozen=True)
class News:
    text: str
    is_loss: bool = False
    """Whether the port was lost; `text` is then the reason."""
    is_return: bool = False
    """Whether the port is back."""


class Port:
    """A serial port that is read in a thread of its own, and opened again when it has vanished."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.path = path_of(settings.port)
        self.failure: str | None = None
        """Why it is gone for good; None as long as it may come back."""
        self._serial: serial.Serial | None = _open(self.path, settings.baud)
        self._lock = threading.Lock()
        self._using_device = threading.Lock()
        """Held to write and to close: a number of a closed file may soon be that of another one."""
        self._lost: list[serial.Serial] = []
        """To be closed by the thread that reads, when its read has returned."""
        self._closing = threading.Event()
        self._waiting: deque[tuple[bytes, datetime]] = deque()
        self._rest = b""
        # A port with a loose contact says a lot while no tick comes.
        self._news: deque[News] = deque(maxlen=MAX_NEWS)
        self._unwritten = 0
        self._thread = threading.Thread(
            target=self._run, name=f"serial port {self.path}", daemon=True
        )
        self._thread.start()

    def take(self) -> list[tuple[bytes, datetime]]:
        """What has come since the last call: lines or pieces of bytes, and when. Never blocks."""
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
            return waiting

    def news(self) -> list[News]:
        """What is new for the user, in the order in which it happened, each once."""
        with self._lock:
            news = list(self._news)
            self._news.clear()
            return news

    def write(self, data: bytes) -> None:
        """Writes to the device; while it is gone, or if it takes nothing, the data is dropped and counted."""
        with self._lock:
            device = self._serial
        if device is None:
            self._count_unwritten()
            return
        try:
            with self._using_device:
                device.write(data)
        except serial.SerialTimeoutException:
            self._note(
                f"{self.path} has not taken {len(data)} bytes within {WRITE_SECS:g} s, the rest was dropped: "
                "is the device busy, or the baud rate too low?"
            )
        except (serial.SerialException, OSError) as error:
            self._count_unwritten()
            self._lose(device, error)

    def _count_unwritten(self) -> None:
        with self._lock:
            self._unwritten += 1

    def close(self) -> None:
        self._closing.set()
        self._thread.join(CLOSE_SECS)

    # The rest runs in the thread.

    def _run(self) -> None:
        try:
            while not self._closing.is_set() and self.failure is None:
                self._close_lost()
                device = self._serial
                if device is None:
                    self._try_to_open()
                else:
                    self._read(device)
        except Exception as error:
            self._note(f"{self.path}: {error}")
            self.failure = f"{self.path}: {error}"
        finally:
            with self._lock:
                device, self._serial = self._serial, None
                self._lost += [device] if device is not None else []
            self._close_lost()

    def _close_lost(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, []
        with self._using_device:
            for device in lost:
                device.close()

    def _read(self, device: serial.Serial) -> None:
        try:
            data = device.read(max(1, device.in_waiting))
        except (
            serial.SerialException,
            OSError,
            TypeError,
        ) as error:  # TypeError: it was closed meanwhile
            self._lose(device, error)
            return
        if data:
            self._take_in(data, datetime.now(UTC))

    def _take_in(self, data: bytes, now: datetime) -> None:
        pieces = [data]
        if self._settings.lines:
            *pieces, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > MAX_LINE_BYTES:
                self._note(
                    f"{self.path} has sent {MAX_LINE_BYTES} bytes without the end of a line: is it the right "
                    "SERIAL_BAUD, or is SERIAL_MODE=bytes meant?"
                )
                self._rest = b""
        with self._lock:
            self._waiting.extend((piece, now) for piece in pieces)
            dropped = max(0, len(self._waiting) - MAX_WAITING)
            for _ in range(dropped):
                self._waiting.popleft()
        if dropped:
            self._note(
                f"{dropped} messages of {self.path} were dropped: the tick is too slow for them"
            )

    def _try_to_open(self) -> None:
        try:
            path = path_of(self._settings.port)
            device = _open(path, self._settings.baud) if Path(path).exists() else None
        except SerialPortError as error:
            device = None
            if "USB serial port" not in str(error):
                self._note(f"still waiting: {error}")
        if device is None:
            self._closing.wait(RETRY_SECS)
            return
        with self._lock:
            self.path, self._serial, self._rest = path, device, b""
            unwritten, self._unwritten = self._unwritten, 0
        dropped = (
            f"; {unwritten} message{'s' * (unwritten > 1)} not written meanwhile"
            if unwritten
            else ""
        )
        with self._lock:
            self._news.append(News(f"{path} is back{dropped}", is_return=True))

    def _lose(self, device: serial.Serial, error: Exception) -> None:
        with self._lock:
            if self._serial is not device:  # the other thread was first
                return
            self._serial = None
            self._lost.append(device)
            gone = not Path(self.path).exists()
            why = (
                f"{self.path} is gone (was it unplugged?)"
                if gone
                else f"{self.path} has failed: {error}"
            )
            if self._settings.reconnect:
                self._news.append(News(why, is_loss=True))
            else:
                self.failure = (
                    f"{why}. Plug it in again and restart the operator; with SERIAL_RECONNECT=yes it would "
                    "be waited for."
                )

    def _note(self, line: str) -> None:
        with self._lock:
            if not self._news or self._news[-1] != News(line):
                self._news.append(News(line))


def _open(path: str, baud: int) -> serial.Serial:
    """Raises SerialPortError with the reason and the way out."""
    try:
        return serial.Serial(
            path, baud, timeout=READ_SECS, write_timeout=WRITE_SECS, exclusive=True
        )
    except ValueError as error:
        raise SerialPortError(f"{path} cannot be opened at SERIAL_BAUD={baud}: {error}") from None
    except (serial.SerialException, OSError) as error:
        raise SerialPortError(f"{path} cannot be opened: {_why_not(path, error)}") from None


def _why_not(path: str, error: Exception) -> str:
    if not Path(path).exists():
        return f"it does not exist (USB ports found: {_listed(usb_ports())}). Is the device plugged in?"
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
        return (
            "this account may not use it. Members of the group 'dialout' usually may: "
            "sudo usermod -aG dialout $USER, then log in again"
        )
    if getattr(error, "errno", None) in (errno.EAGAIN, errno.EBUSY) or "lock" in str(error):
        return "another program uses it; close its serial monitor"
    if "configure" in str(error):
        return "it is not a serial port; their names are /dev/ttyACM0, /dev/ttyUSB0 and so on"
    return str(error)


# ---------------------------------------------------------------- messages


def bytes_of(value: Any, *, lines: bool) -> bytes:
    """What a message means on the wire; empty for a tick. Raises TypeError for values that mean nothing there."""
    if value is None or len(value) == 0 or pa.types.is_null(value.type):
        return b""
    kind = value.type
    if pa.types.is_uint8(kind):
        return value.to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return b"".join(value.to_pylist())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        end = "\n" if lines else ""
        return "".join(
            text if text.endswith("\n") else text + end for text in value.to_pylist()
        ).encode()
    if lines and (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    ):
        return (" ".join(_number_text(number) for number in value.to_pylist()) + "\n").encode()
    wanted = "texts, bytes (uint8) or numbers" if lines else "texts or bytes (uint8)"
    raise TypeError(f"a serial port takes {wanted}, got {kind}")


def _number_text(number: float | bool | None) -> str:
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        raise ValueError(f"{number} is not a number that a device could read; nothing was written")
    return str(int(number)) if isinstance(number, bool) else repr(number)


# ---------------------------------------------------------------- the operator


class Operator:
    """Reads and writes a serial port; see the head of the file."""

    def __init__(self) -> None:
        self._settings = Settings.from_environment(os.environ)
        self._port = Port(self._settings)
        self._warned_of = ""
        _say(f"{self._port.path}, {self._settings.baud} baud")

    def on_event(self, dora_event: dict[str, Any], send_output: Callable[..., None]) -> DoraStatus:
        if dora_event["type"] == "INPUT":
            data = bytes_of(dora_event["value"], lines=self._settings.lines)
            if data:
                self._port.write(data)
            self._send_what_came(send_output)
            self._say_what_happened()
        elif dora_event["type"] == "STOP":
            self._port.close()
        return DoraStatus.CONTINUE

    def _send_what_came(self, send_output: Callable[..., None]) -> None:
        for data, moment in self._port.take():
            if self._settings.lines:
                text = data.decode("utf-8", errors="replace").rstrip("\r")
                send_output("line", pa.array([text]), {"timestamp": moment})
            else:
                send_output("bytes", pa.array(np.frombuffer(data, np.uint8)), {"timestamp": moment})

    def _say_what_happened(self) -> None:
        for news in self._port.news():
            if news.is_loss:
                self._warned_of = f"{news.text}: waiting until it is back; plug it in again"
                _warn(self._warned_of)
                _say(f"{news.text}; waiting until it is back")
            else:
                _say(news.text)
                if news.is_return:
                    _withdraw(self._warned_of)
        if self._port.failure is not None:
            raise SerialPortError(self._port.failure)


def _say(line: str) -> None:
    print(f"serial port: {line}", flush=True)


def _warn(text: str) -> None:
    """dora_nb turns the operator's line amber and shows this there; elsewhere it is a line on stderr."""
    # A level beyond the stack. With a level on it, Python prints a line of this file below the warning, which
    # would then be the last line that the operator has printed.
    warnings.warn(text, stacklevel=1000)


def _withdraw(text: str) -> None:
    """What was warned of is over: dora_nb's line is no longer amber; elsewhere nothing happens."""
    withdraw = getattr(warnings.warn, "withdraw", None)
    if withdraw is not None:
        withdraw(text)
