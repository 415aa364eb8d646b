"""Where the threads of a node's process are now, written without the help of the node's own code.

The kernel sends `SIGNAL` to a thread. The handler is C code of `faulthandler`: it needs neither the GIL
nor a turn of the interpreter, so it also answers for a thread that is stuck in a loop, in a lock or in a
library. It writes to an anonymous file that the kernel shares. `faulthandler` writes short frames, newest
first; `readable` turns them into what tracebacks look like in a cell.
"""

from __future__ import annotations

import faulthandler
import linecache
import os
import re
import signal
import traceback

from . import _traceback

# Not one of the signals with a name: a user's program or a library may handle each of those (SIGURG is
# Go's, SIGPROF the profilers', SIGUSR1 and SIGUSR2 anybody's). Of the real-time signals libraries take the
# lowest ones, counted from SIGRTMIN, as signal(7) asks them to, and glibc itself hides two or three there;
# Valgrind takes the highest. SIGRTMIN also differs between C libraries (34 in glibc, 35 in musl), and
# `--python` may name an interpreter on another one, while SIGRTMAX is 64 in both.
SIGNAL = signal.SIGRTMAX - 7

_MOST_FRAMES = 100
"""So many does `faulthandler` write at most (MAX_FRAME_DEPTH in ``Python/traceback.c``)."""
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")


def register(descriptor: int) -> None:
    """From now on this process writes its stacks to that descriptor whenever `SIGNAL` comes.

    Called once, before anything of the user's is imported: an import may hang as well. System calls that
    the signal interrupts go on: `faulthandler` asks for SA_RESTART, and Python itself repeats those that
    the system does not restart (PEP 475), with the time that is left.
    """
    os.set_inheritable(descriptor, False)
    # Only the thread that gets the signal: to read the frames of others is not safe without the GIL.
    faulthandler.register(SIGNAL, file=descriptor, all_threads=False, chain=False)


def readable(title: str, text: str, *, source: str, file: str, first_line: int) -> str | None:
    """What one thread wrote, as a traceback of a cell under that title, with frames of dora_nb hidden.

    `source` is the text of the node's cell, whose frames have the name `file`, and `first_line` is the
    number of its first line. None where there is nothing to show: a thread that is dora_nb's own, or one
    without Python frames.
    """
    found = [each for each in map(_FRAME.fullmatch, text.splitlines()) if each is not None]
    files = [_unescaped(each["file"]) for each in found]
    theirs = [name for name in files if not _traceback.is_ours(name)]
    if not files:
        return None
    if not theirs:
        return f"{title}: in dora_nb, waiting; none of the node's code runs in it"
    # By name: another interpreter (`--python`) has its standard library elsewhere.
    only_started = all(os.path.basename(name) == "threading.py" for name in theirs)
    if only_started and len(theirs) < len(files):
        return None
    lines = source.split("\n")

    def line_of(name: str, number: int) -> str:
        if name != file:
            return linecache.getline(name, number)
        index = number - first_line
        return lines[index] if 0 <= index < len(lines) else ""

    frames = []
    for name, each in reversed(list(zip(files, found, strict=True))):
        if not _traceback.is_ours(name):
            number = int(each["line"]) if each["line"].isdigit() else 0
            function = _unescaped(each["function"])
            frames.append(
                traceback.FrameSummary(
                    name, number, function, lookup_line=False, line=line_of(name, number)
                )
            )
    shown = "".join(traceback.StackSummary.from_list(frames).format()).rstrip("\n").split("\n")
    # Python 3.13 leaves frames out without a word.
    cut = len(found) >= _MOST_FRAMES
    older = ["  (older frames are left out)"] if cut else []
    return "\n".join([f"{title} (most recent call last):", *older, *map(_traceback.as_cell, shown)])


def _unescaped(text: str) -> str:
    """`faulthandler` writes ASCII only."""
    return _ESCAPED.sub(lambda found: chr(int(found[0][2:], 16)), text)
