"""A program of its own: ends the operators' sessions when the kernel is gone.

An operator ends by itself when its kernel does (`dora_nb.child._parent_death`), but what it started in
turn, and whatever is stuck, must end too. The warden reads from its standard input, a line each:
``+ID`` and ``-ID`` for a session that is there and is no more, ``!COMMAND`` and ``~COMMAND`` (a list
in JSON) for what is to be run at the end. At the end of its input it begins those commands, waits until
the operators had their time to park, and kills whatever is left in the sessions.

Run by path with ``python -I -S``, so it imports next to nothing and needs nothing installed.
"""

import contextlib
import json
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
    commands: dict[str, list[str]] = {}
    for line in sys.stdin:
        sign, word = line[0], line[1:].rstrip("\n")
        if sign in "+-":
            (sessions.add if sign == "+" else sessions.discard)(int(word))
        elif sign == "!":
            commands[word] = json.loads(word)
        else:
            commands.pop(word, None)
    cleanups = [_spawn(command) for command in commands.values()]
    if sessions or cleanups:
        time.sleep(PARK_SECS)
    for session_id in sessions:
        kill_session(session_id)
    for process_id in filter(None, cleanups):
        os.waitpid(process_id, 0)


def _spawn(command: list[str]) -> int | None:
    """Its process; None where it cannot be started any more, and nobody is left to be told."""
    try:
        return os.posix_spawn(command[0], command, os.environ)
    except OSError:
        return None


if __name__ == "__main__":
    main()
