"""What a process uses: CPU and memory, from two small files of /proc."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_USER_TICKS, _SYSTEM_TICKS = 11, 12
"""Places in /proc/ID/stat, counted from behind the name of the program."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used lately."""

    cpu_cores: float | None
    """Cores that it kept busy since the last look: 1.0 is one full core; None at the first look."""
    memory_bytes: int


class UsageMeter:
    """Measures processes. It is as cheap as its caller is rare: it keeps nothing open."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, float]] = {}

    def usage(self, process_id: int, now_secs: float) -> Usage | None:
        """Returns what the process uses; None if it has ended."""
        folder = Path(f"/proc/{process_id}")
        try:
            # The name in parentheses may hold spaces and parentheses itself.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            pages = int((folder / "statm").read_text().split()[1])
            ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
        except (OSError, ValueError, IndexError):
            return None
        used_secs = ticks / _TICKS_PER_SEC
        before = self._last.get(process_id)
        self._last[process_id] = (now_secs, used_secs)
        cores = None
        if before is not None and now_secs > before[0]:
            cores = max(0.0, (used_secs - before[1]) / (now_secs - before[0]))
        return Usage(cores, pages * _PAGE_BYTES)

    def keep_only(self, process_ids: Collection[int]) -> None:
        """Forgets the other processes: their ids may be used again."""
        self._last = {key: last for key, last in self._last.items() if key in process_ids}
