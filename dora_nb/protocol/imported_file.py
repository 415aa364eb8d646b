"""What is noted of a file when a process imports it, to tell later whether that file has changed."""

from __future__ import annotations

import os
import stat

import msgspec

MAX_DIGESTED_BYTES = 1 << 24
"""A larger file (a library with debug symbols, say) has no digest: its size and times alone must do."""


class ImportedFile(msgspec.Struct, frozen=True):
    """A file, as it was right before a process imported it."""

    path: bytes
    """Absolute; as bytes, since a file's name need not be text."""
    size: int
    modified_nanos: int
    changed_nanos: int
    """When content or inode changed last. A program can set the time of the modification, as ``cp -p`` does,
    and not this one."""
    digest: bytes
    """Of the content; empty for a file of more than `MAX_DIGESTED_BYTES`."""

    def has_changed(self) -> bool:
        """Whether its content is another one now, or it is gone. OSError where that cannot be known."""
        try:
            now = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        if self.matches(now):
            return False
        # Only now the content: a file that was saved or checked out unchanged has other times, and no
        # operator need restart for it. Reading every file each time would cost a hundred times as much.
        return not self.digest or digest_of(self.path, now) != self.digest

    def matches(self, now: os.stat_result) -> bool:
        """Whether size and times are those that were noted."""
        noted = (self.size, self.modified_nanos, self.changed_nanos)
        return noted == (now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def note_file(path: str) -> ImportedFile:
    """Returns what a file is now. Raises OSError."""
    # The times before the content: of a file that is written in between, they are then the old ones, and it
    # counts as changed. The other way round a change would be missed.
    now = os.stat(path)
    digest = digest_of(path, now)
    absolute = os.fsencode(os.path.abspath(path))
    return ImportedFile(absolute, now.st_size, now.st_mtime_ns, now.st_ctime_ns, digest)


def digest_of(path: str | bytes, now: os.stat_result) -> bytes:
    """Returns a digest of the content, empty for a file that has none. Raises OSError."""
    if not stat.S_ISREG(now.st_mode) or now.st_size > MAX_DIGESTED_BYTES:
        return b""
    # Not by hashlib, which loads OpenSSL: 3 MB in every operator that imports a file of its own. The module is
    # Python's own, and `random` uses its neighbour for the same reason.
    from _blake2 import blake2b

    with open(path, "rb") as file:
        return blake2b(file.read(), digest_size=16).digest()
