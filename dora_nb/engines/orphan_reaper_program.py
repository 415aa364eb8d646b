"""The orphan reaper, a program beside the kernel: kills the operators' sessions when the kernel is gone.

An operator ends by itself when its kernel does (`dora_nb.child._parent_death`). The processes that it
has started, and operators that are stuck, must end too. The reaper reads lines from its standard input:
``+ID`` and ``-ID`` add and remove a session; ``!COMMAND`` and ``~COMMAND`` (a list in JSON) add and
remove a command to run at the end. At the end of its input it starts those commands, gives the operators
time to handle STOP, and kills what is left in the sessions.

Run by path with ``python -I -S``: it imports very little and needs no installed package.
"""

import contextlib
import json
import os
import signal
import sys
import time

PARK_SECS = 1.2
"""An operator has 1 s to end, then SIGALRM ends it; the rest is room for a busy machine."""
MAX_SWEEPS = 200
"""Bounds the wait for a process in an uninterruptible state to about a second."""


def session_members(session_id: int) -> list[int]:
    """The processes of a session, zombies left out, from ``/proc`` (proc(5), field 6 of stat)."""
    members = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # It ended meanwhile, or belongs to another user.
            if int(fields[3]) == session_id and fields[0] not in (b"Z", b"X"):
                members.append(int(entry))
    return members


def kill_session(session_id: int) -> None:
    """Sends SIGKILL to every process of a session, until none is left that could start another.

    Does not wait for a process that the system cannot end now (in an uninterruptible read).
    """
    # Not `killpg`: a process may leave its process group (a shell with job control gives each pipeline
    # its own), but leaves its session only by setsid. Several sweeps, since a process that forks while
    # /proc is read has a child that the sweep did not see.
    for _ in range(MAX_SWEEPS):
        try:
            members = session_members(session_id)
        except OSError:
            # No descriptor is free to read /proc with. The process group is most of the session.
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
    """Reads until the standard input is at its end, then kills what is left."""
    sessions: set[int] = set()
    commands: dict[str, list[str]] = {}
    for line in sys.stdin:
        sign, word = line[0], line[1:].rstrip("\n")
        if sign in "+-":
            (sessions.add if sign == "+" else sessions.discard)(int(word))
        elif sign == "!":
            commands[word] = json.loads(word)
        else:
            commands.pop(word, None)
    # The commands first, without waiting: a cleanup tells dora to stop, and its nodes need the same
    # second to end that the operators of the sessions have.
    cleanups = [_spawn(command) for command in commands.values()]
    if sessions or cleanups:
        time.sleep(PARK_SECS)
    # Only now SIGKILL: before, it would cut off operators that are handling STOP (a robot being parked).
    for session_id in sessions:
        kill_session(session_id)
    for process_id in filter(None, cleanups):
        os.waitpid(process_id, 0)


def _spawn(command: list[str]) -> int | None:
    """Returns the command's process; None if it cannot be started."""
    # Such an error is dropped: the kernel is gone, so there is no place left to report it.
    try:
        return os.posix_spawn(command[0], command, os.environ)
    except OSError:
        return None


if __name__ == "__main__":
    main()
