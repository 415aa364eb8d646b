"""The orphan reaper, a program beside the kernel: kills the operators' sessions when the kernel is gone.

An operator ends by itself when its kernel does (`dora_nb.child._parent_death`). The processes that it
has started, and operators that are stuck, must end too. The reaper reads lines from its standard input:
``+ID`` and ``-ID`` add and remove a session; ``@COOKIE`` adds a cookie (`dora_nb.leftovers`);
``!COMMAND`` and ``~COMMAND`` (a list in JSON) add and remove a command to run at the end. At the end of its
input it starts those commands, gives the operators time to handle STOP, and kills what is left in the
sessions or has one of the cookies.

Run by path with ``python -I -S``: it imports very little and needs no installed package.
"""

import json
import os
import sys
import time

# Without the package: the file itself, from its folder, which comes last on the path.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from leftovers import end_leftovers  # type: ignore[import-not-found]

PARK_SECS = 1.2
"""An operator has 1 s to end, then SIGALRM ends it; the rest is room for a busy machine."""


def main() -> None:
    """Reads until the standard input is at its end, then kills what is left."""
    sessions: set[int] = set()
    cookies: set[str] = set()
    commands: dict[str, list[str]] = {}
    for line in sys.stdin:
        sign, word = line[0], line[1:].rstrip("\n")
        if sign in "+-":
            (sessions.add if sign == "+" else sessions.discard)(int(word))
        elif sign == "@":
            cookies.add(word)
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
    end_leftovers(sessions, cookies)
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
