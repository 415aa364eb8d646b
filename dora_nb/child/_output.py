"""What an operator prints goes to the kernel, and must not fail when the kernel is gone.

The kernel's end of the pipe closes a moment before the operator learns that its kernel is gone. A
`print` in between, or in the handling of STOP, would raise BrokenPipeError, and the operator would end
instead of parking its robot.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


class _Pipe(io.FileIO):
    """Writes to a pipe; once that has no reader, to /dev/null."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            _lead_nowhere(self.fileno())
            return memoryview(data).nbytes  # type: ignore[arg-type]


def protect() -> None:
    """Makes `sys.stdout` and `sys.stderr` survive the kernel. Unbuffered, as they were."""
    for name in ("stdout", "stderr"):
        stream = _unbroken(getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def lead_nowhere() -> None:
    """Sends both streams of this process, C libraries included, to /dev/null from now on."""
    for descriptor in (1, 2):
        _lead_nowhere(descriptor)


def _unbroken(stream: TextIO) -> TextIO:
    pipe = _Pipe(stream.fileno(), "w", closefd=False)
    pipe.name = stream.name
    return io.TextIOWrapper(
        pipe,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        write_through=True,
    )


def _lead_nowhere(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
