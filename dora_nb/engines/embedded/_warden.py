"""A program of its own: ends the operators' sessions when the kernel is gone.

An operator ends by itself when its kernel does (`dora_nb.child._parent`), but what it started in
turn, and whatever is stuck, must end too. The warden reads the sessions' ids from its standard input,
``+ID`` and ``-ID`` a line; at its end it waits until the operators had their time to park, and kills
whatever is left in those sessions.

Run by path with ``python -I -S``, so it imports next to nothing and needs nothing installed.
"""

import contextlib
import os
import signal
import sys
import time

PARK_SECS = 1.2
"""An operator has 1 s; SIGALRM ends a stuck one then."""
MOST_SWEEPS = 200


def session_members(session_id: int) -> list[int]:
    """The processes of a session, zombies left out, from ``/proc`` (proc(5), field 6 of stat)."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # It ended meanwhile, or is another user's.
            if int(fields[3]) == session_id and fields[0] not in (b"Z", b"X"):
                members.append(int(entry))
    return members


def kill_session(session_id: int) -> None:
    """SIGKILL to every process of a session, until none is left that could start another.

    One that the system cannot end now (in an uninterruptible read) is not waited for.
    """
    for _ in range(MOST_SWEEPS):
        try:
            members = session_members(session_id)
        except OSError:  # No descriptor is left to look around with. The group is most of it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session_id, signal.SIGKILL)
            return
        if not members:
            return
        for process_id in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        time.sleep(0.002)


def main() -> None:
    """Runs until the standard input is at its end, and a little longer."""
    sessions: set[int] = set()
    for line in sys.stdin:
        (sessions.add if line[0] == "+" else sessions.discard)(int(line[1:]))
    if sessions:
        time.sleep(PARK_SECS)
    for session_id in sessions:
        kill_session(session_id)


if __name__ == "__main__":
    main()
