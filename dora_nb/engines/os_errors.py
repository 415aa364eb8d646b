"""Errors of the operating system as EngineErrors that name a way out. Pure."""

from __future__ import annotations

import errno
import resource

from dora_nb.errors import EngineError

_OUT_OF_MEMORY = "Stop operators, or send smaller messages."


def engine_error(what: str, error: OSError | RuntimeError) -> EngineError:
    """Returns the EngineError "`what`: reason" for an error of the system; `what` is a clause."""
    known = _explain(error)
    if known is None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return EngineError(f"{what}: {reason}.")
    reason, hint = known
    return EngineError(f"{what}: {reason}.", hint=hint)


def _explain(error: OSError | RuntimeError) -> tuple[str, str] | None:
    if isinstance(error, OSError):
        number = error.errno
    else:
        # `threading` raises a bare RuntimeError, "can't start new thread", for what fork calls EAGAIN.
        number = errno.EAGAIN if "new thread" in str(error) else None
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"all {limit} file descriptors of the kernel process are in use",
            "Run `ulimit -n 65536` before you start Jupyter, or close files in the notebook.",
        )
    if number == errno.ENFILE:
        return "the system is out of file descriptors", "Close other programs."
    if number == errno.EAGAIN:
        return (
            "the limit of processes and threads is reached",
            "Raise it before you start Jupyter (`ulimit -u`), or end other programs.",
        )
    if number == errno.ENOMEM:
        return "the system is out of memory", _OUT_OF_MEMORY
    return None
