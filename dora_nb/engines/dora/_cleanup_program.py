"""The cleanup program: ends a dataflow on dora-rs whose kernel is gone. The orphan reaper starts it.

``python -I -S _cleanup_program.py FOLDER SESSION,SESSION COOKIE COMMAND...`` runs the command, which stops the
dataflow, so that each node gets STOP and a second to end. Then it kills what is left in the sessions or has
the cookie (`dora_nb.leftovers`), and removes the folder and the shared memory that zenoh has left.
"""

import contextlib
import os
import re
import shutil
import sys
import time

# Run by its path and with `-S`, it cannot import the package dora_nb, only files beside it.
if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from leftovers import end_leftovers  # type: ignore[import-not-found]
else:
    from dora_nb.leftovers import end_leftovers

PROGRAM = os.path.abspath(__file__)
STOP_SECS = 1.2
_SEGMENT = re.compile(r"\d+\.zenoh")


def remove_orphaned_segments() -> None:
    """Removes the shared memory of zenoh sessions that have ended, as the next zenoh to start would.

    A process that is killed or fails leaves its files in /dev/shm. Files that a process has open or mapped
    stay, and so do files of other users.
    """
    # List the files first, then look for users: a session that starts in between has new files, which are
    # not in the list.
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
        # A process that ends meanwhile, or belongs to another user, cannot be read.
        with contextlib.suppress(OSError):
            with open(f"/proc/{process_id}/maps") as maps:
                used.update(path for line in maps for path in paths if line.rstrip().endswith(path))
            folder = f"/proc/{process_id}/fd"
            used.update(os.readlink(f"{folder}/{number}") for number in os.listdir(folder))
    return used


def main() -> None:
    """Stops the dataflow, kills what is left and removes the files, within about two seconds."""
    folder, sessions, cookie, *stop = sys.argv[1:]
    session_ids = [int(word) for word in sessions.split(",")]
    # dora takes the coordinator's token from its working directory. The command line is readable by every
    # user, and this program's own environment is the kernel's, which never had the token.
    with contextlib.suppress(OSError):
        os.chdir(folder)
    # With a deadline: the coordinator may be hanging, or be gone already, and the rest must happen anyway.
    stopping = os.posix_spawn(stop[0], stop, os.environ)
    deadline_secs = time.monotonic() + STOP_SECS
    while time.monotonic() < deadline_secs:
        if os.waitpid(stopping, os.WNOHANG)[0]:
            break
        time.sleep(0.02)
    # The daemon's session holds its nodes. Only after this does no process use the files any more.
    end_leftovers(session_ids, [cookie])
    remove_orphaned_segments()
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
