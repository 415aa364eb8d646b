"""Kills what an operator has started and left behind, in any session, and lets shared memory be removed.

Two things find such a process: its session, which is the operator's own unless it has made another one, and
a cookie, a variable that every process inherits with its environment.

Programs that run without the package load this file by its folder: it imports nothing of dora_nb.
"""

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Collection

COOKIE = "DORA_NB_COOKIE"
"""The environment variable that marks an operator's process and all that it starts."""
TRACKER_SECS = 0.5
"""How long a resource tracker has to remove the shared memory of processes that are gone."""
BUSY_TRACKER_SECS = 3.0
"""The same for one that is at work: on a busy machine it gets little of the processor."""
MAX_SWEEPS = 200
"""Bounds the wait for a process in an uninterruptible state to about a second."""
_LOOK_SECS = 0.02
_PREFIX = f"{COOKIE}=".encode()
_TRACKER = b"resource_tracker import main"
"""In the command line of `multiprocessing`'s resource tracker, and of joblib's."""


def new_cookie() -> str:
    """Returns a value for `COOKIE` that no other process has."""
    return os.urandom(8).hex()


def end_leftovers(
    sessions: Collection[int], cookies: Collection[str] = (), *, but: Collection[int] = ()
) -> None:
    """Kills every process of these sessions or with these cookies, except `but`; returns once none is left.

    A resource tracker comes last: it removes the shared memory of the others once all of them are gone.
    Does not wait for a process that the system cannot end now (in an uninterruptible read).
    """
    trackers = kill_leftovers(sessions, cookies, but=but)
    if trackers:
        _wait_for_trackers(trackers)
        for process_id in trackers:
            _kill(process_id)


def kill_leftovers(
    sessions: Collection[int], cookies: Collection[str], *, but: Collection[int] = ()
) -> list[int]:
    """Kills them, but neither the caller nor resource trackers; returns the trackers that are left."""
    spared = {os.getpid(), *but}
    # Several sweeps, since a process that forks while /proc is read has a child that the sweep did not see.
    trackers: list[int] = []
    for _ in range(MAX_SWEEPS):
        try:
            found = [each for each in _find(sessions, cookies) if each not in spared]
        except OSError:
            # No descriptor is free to read /proc with. The process group is most of a session.
            for session_id in sessions:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(session_id, signal.SIGKILL)
            return []
        trackers = [process_id for process_id in found if _is_tracker(process_id)]
        others = set(found) - set(trackers)
        if not others:
            break
        for process_id in others:
            _kill(process_id)
        time.sleep(0.002)
    return trackers


def has_child(process_id: int) -> bool:
    """Whether that process has a living child. False where it has ended itself."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process_id}/task"):
            for child in _read(str(process_id), f"task/{thread}/children").split():
                with contextlib.suppress(OSError):
                    if _is_alive(child.decode()):
                        return True
    return False


def _find(sessions: Collection[int], cookies: Collection[str]) -> list[int]:
    """Returns the living processes of these sessions or with these cookies."""
    # By session, not by process group: a process may leave its group (a shell with job control gives each
    # pipeline its own), but leaves its session only by setsid.
    marks = {_PREFIX + cookie.encode() for cookie in cookies}
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) in sessions:
                    belongs = _is_alive(entry)
                else:
                    # A process that has ended has no environment, even as long as nothing waits for it.
                    belongs = bool(marks) and not marks.isdisjoint(
                        _read(entry, "environ").split(b"\0")
                    )
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                continue  # It ended meanwhile, or belongs to another user.
            if belongs:
                found.append(int(entry))
    return found


def _is_alive(entry: str) -> bool:
    return _state(entry) not in (b"Z", b"X")


def _state(entry: str) -> bytes:
    # proc(5): the state is the first field behind the name, which may have parentheses of its own.
    return _read(entry, "stat").rpartition(b")")[2].split()[0]


def _is_tracker(process_id: int) -> bool:
    with contextlib.suppress(OSError):
        return _TRACKER in _read(str(process_id), "cmdline")
    return False


def _read(entry: str, name: str) -> bytes:
    with open(f"/proc/{entry}/{name}", "rb") as file:
        return file.read()


def _wait_for_trackers(process_ids: list[int]) -> None:
    """Waits until they have ended, for `TRACKER_SECS`, or longer for one that a busy machine holds up."""
    begin_secs = time.monotonic()
    for process_id in process_ids:
        # It may have ended meanwhile; then there is nothing to wait for.
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(process_id)
            try:
                poller = select.poll()
                poller.register(descriptor, select.POLLIN)
                left_secs = max(0.0, begin_secs + TRACKER_SECS - time.monotonic())
                ended = poller.poll(left_secs * 1e3)
                # One that waits (S) will not go on: some process still holds its pipe.
                while (
                    not ended
                    and time.monotonic() < begin_secs + BUSY_TRACKER_SECS
                    and _state(str(process_id)) in (b"R", b"D")
                ):
                    ended = poller.poll(_LOOK_SECS * 1e3)
            finally:
                os.close(descriptor)


def _kill(process_id: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process_id, signal.SIGKILL)
