"""A program of its own: the last words to a dataflow on dora-rs whose kernel is gone.

``python -I -S _cleanup_program.py FOLDER SESSION,SESSION COMMAND...``: runs the command, which stops the
dataflow, so that each node gets its STOP and a second; then kills what is left in the sessions, and
removes the folder and the memory that zenoh has left. The warden begins it.
"""

import contextlib
import os
import re
import shutil
import sys
import time

if __name__ == "__main__":  # Run by its path, it knows no packages.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import orphan_reaper_program as orphan_reaper  # type: ignore[import-not-found]
else:
    from .. import orphan_reaper_program as orphan_reaper

PROGRAM = os.path.abspath(__file__)
STOP_SECS = 1.2
_SEGMENT = re.compile(r"\d+\.zenoh")


def remove_orphaned_segments() -> None:
    """Removes the memory of zenoh sessions that are no more, as the next zenoh to start would.

    A process that is killed, or fails, leaves its files in /dev/shm. What a living process of anybody
    has open or mapped stays, and so does what belongs to another user.
    """
    mine = {
        entry.path
        for entry in os.scandir("/dev/shm")
        if _SEGMENT.fullmatch(entry.name) and entry.stat().st_uid == os.geteuid()
    }
    if mine:
        for path in mine - _in_use(mine):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _in_use(paths: set[str]) -> set[str]:
    used: set[str] = set()
    for process_id in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{process_id}/maps") as maps:
                used.update(path for line in maps for path in paths if line.rstrip().endswith(path))
            folder = f"/proc/{process_id}/fd"
            used.update(os.readlink(f"{folder}/{number}") for number in os.listdir(folder))
    return used


def main() -> None:
    """Does all of it within about two seconds."""
    folder, sessions, *stop = sys.argv[1:]
    session_ids = [int(word) for word in sessions.split(",")]
    stopping = os.posix_spawn(stop[0], stop, os.environ)
    deadline_secs = time.monotonic() + STOP_SECS
    while time.monotonic() < deadline_secs:
        if os.waitpid(stopping, os.WNOHANG)[0]:
            break
        time.sleep(0.02)
    for session_id in session_ids:
        orphan_reaper.kill_session(session_id)
    remove_orphaned_segments()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
