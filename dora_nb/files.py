"""Reads files that a dataflow names, which may be anything: a pipe, a device, a file of any size."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from .errors import nearest

_MOST_NAMES = 3
"""So many files are named in a sentence."""
MAX_SOURCE_BYTES = 1_000_000
"""The largest Python file that is read as a node; its check takes about a second."""
MAX_DESCRIPTOR_BYTES = 100_000
"""The most that a ``dataflow.yml`` and its modules may have; PyYAML needs about a second for it."""
MAX_NOTEBOOK_BYTES = 50_000_000
"""The largest notebook that is read, with the outputs of its cells."""


def read_regular_file(path: Path, *, max_bytes: int) -> bytes:
    """Returns the content of a file, without ever blocking on a pipe or a device.

    Raises OSError: also for what is not a regular file, and for a file of more than `max_bytes`.
    """
    # Non-blocking, or opening a named pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        # Files in /proc have no size, so the size is known only after reading.
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        reason = f"it has more than {max_bytes:,} bytes"
        raise OSError(errno.EFBIG, reason, str(path))
    return content


def read_regular_text(path: Path, *, max_bytes: int) -> str:
    """Returns the text of a file in UTF-8, with ``\\n`` at the end of each line.

    Raises OSError as `read_regular_file` does, and UnicodeDecodeError.
    """
    text = read_regular_file(path, max_bytes=max_bytes).decode()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def hint_at_missing(path: Path) -> str | None:
    """Returns the way out where no file has this path: the nearest name in its folder, or where paths begin."""
    if (near := nearest(path.name, names_in(path.parent))) is not None:
        return f"Did you mean '{path.parent / near}'?"
    return where_paths_begin(path)


def where_paths_begin(path: Path) -> str | None:
    """Returns the folder in which a relative path was looked for, as a sentence; None for an absolute one."""
    return None if path.is_absolute() else f"Relative paths begin at {Path.cwd()}."


def names_in(folder: Path) -> list[str]:
    """Returns the names of the files in a folder; none if it is missing, or may not be read."""
    try:
        return [each.name for each in folder.iterdir()]
    except OSError:
        return []


def changed_text(paths: Sequence[str], folder: str) -> str:
    """Returns ``helper.py changed``, with paths in `folder` relative to it; an empty text for no paths."""
    if not paths:
        return ""
    begin = f"{Path(folder).absolute()}/"
    names = [path.removeprefix(begin) for path in paths]
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES - 1 :] = [f"{len(names) - _MOST_NAMES + 1} other files"]
    return f"{' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} changed"
