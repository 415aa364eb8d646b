"""What a node prints, as messages too (``send_stdout_as`` of ``dataflow.yml``).

Both streams of the process lead into pipes of ours. A thread passes on what comes, to the kernel as
ever, and line by line to whom it may concern: what C libraries and child processes print as well. As
in dora, a message is one line with its end, from either stream.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import threading
from collections.abc import Callable

_STREAMS = (1, 2)
_CHUNK = 1 << 16
_LOOK_SECS = 0.02
_MOST_LINE_BYTES = 1 << 16
"""A longer line is several messages."""


class Tee:
    """Begins at once; `close` ends it. `take_line` is called on its thread, for each line."""

    def __init__(self, take_line: Callable[[str], None]) -> None:
        self._take_line = take_line
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._kernels = {stream: os.dup(stream) for stream in _STREAMS}
        # A fault in C must be reported on the kernel's own pipe: this process could not pass it on any more.
        faulthandler.enable(self._kernels[2])
        self._pipes: dict[int, int] = {}
        self._rest = dict.fromkeys(_STREAMS, b"")
        for stream in _STREAMS:
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            os.dup2(writing, stream)
            os.close(writing)
            self._pipes[reading] = stream
        self._thread = threading.Thread(target=self._run, name="dora-tee", daemon=True)
        self._thread.start()

    def close(self, while_waiting: Callable[[], None]) -> None:
        """Gives the streams back to the kernel, after what is in the pipes. Blocks until that is done.

        `while_waiting` is called now and then: `take_line` may wait for what the caller does in it.
        """
        self._closing = True
        os.eventfd_write(self._wake, 1)
        while self._thread.is_alive():
            self._thread.join(_LOOK_SECS)
            while_waiting()
        faulthandler.enable()

    def _run(self) -> None:
        poller = select.poll()
        for descriptor in (self._wake, *self._pipes):
            poller.register(descriptor, select.POLLIN)
        while not self._closing:
            for descriptor, _ in poller.poll():
                if descriptor != self._wake:
                    self._pass_on(descriptor)
        for stream, kernels in self._kernels.items():
            os.dup2(kernels, stream)
        for reading, stream in self._pipes.items():
            while self._pass_on(reading):
                pass
            if self._rest[stream]:
                self._take(self._rest[stream])
        for descriptor in (self._wake, *self._pipes, *self._kernels.values()):
            os.close(descriptor)

    def _pass_on(self, reading: int) -> bool:
        """Reads once; whether there was anything."""
        try:
            data = os.read(reading, _CHUNK)
        except BlockingIOError:
            return False
        stream = self._pipes[reading]
        _write_all(self._kernels[stream], data)
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        for line in lines:
            self._take(line + b"\n")
        while len(rest) > _MOST_LINE_BYTES:
            self._take(rest[:_MOST_LINE_BYTES])
            rest = rest[_MOST_LINE_BYTES:]
        self._rest[stream] = rest
        return bool(data)

    def _take(self, line: bytes) -> None:
        self._take_line(line.decode("utf-8", "replace"))


def _write_all(descriptor: int, data: bytes) -> None:
    """Writes all of it; nothing once the pipe has no reader."""
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(descriptor, data) :]
