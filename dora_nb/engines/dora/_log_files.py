"""The files into which a daemon on this machine writes its nodes' output, read as they grow.

inotify(7) reports changes, without polling. ``dora logs`` is not used: it misses the beginning of the
dataflow and does not distinguish stderr from stdout (dora-rs 1.1.0).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_CLOSE_ON_EXEC, _NON_BLOCKING = os.O_CLOEXEC, os.O_NONBLOCK
_IN_MODIFY, _IN_CREATE = 0x2, 0x100
_READ_SIZE = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class LogFiles:
    """All files ``log_NODE.jsonl`` in one folder, which must exist. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[str, int] = {}
        self._partial_lines: dict[str, bytes] = {}
        self._inotify_descriptor: int = _libc.inotify_init1(_CLOSE_ON_EXEC | _NON_BLOCKING)
        if self._inotify_descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        added = _libc.inotify_add_watch(
            self._inotify_descriptor, os.fsencode(folder), ctypes.c_uint32(_IN_MODIFY | _IN_CREATE)
        )
        if added < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), str(folder))

    def fileno(self) -> int:
        """Returns a descriptor that is readable when there may be more lines."""
        return self._inotify_descriptor

    def read(self) -> Iterator[tuple[str, str]]:
        """Yields each node's complete lines since the last call."""
        # First empty the queue of notifications, then read the files: a line that comes in between makes the
        # descriptor readable again. In the other order it could be missed.
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify_descriptor, _READ_SIZE)
        for path in sorted(self._folder.glob("log_*.jsonl")):
            node = path.name.removeprefix("log_").removesuffix(".jsonl")
            for line in self._new_lines(path):
                yield node, line

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._inotify_descriptor)

    def _new_lines(self, path: Path) -> list[str]:
        offset = self._offsets.get(path.name, 0)
        lines: list[str] = []
        with path.open("rb") as file:
            file.seek(offset)
            while data := file.read(_READ_SIZE):
                offset += len(data)
                whole = self._partial_lines.get(path.name, b"") + data
                *ended, self._partial_lines[path.name] = whole.split(b"\n")
                lines += [line.decode(errors="replace") for line in ended]
        self._offsets[path.name] = offset
        return lines
