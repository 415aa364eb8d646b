"""What the operating system ran out of, in words with a way out. Pure."""

from __future__ import annotations

import errno
import resource

from dora_nb.errors import EngineError

_OUT_OF_MEMORY = "Stop operators, or send smaller messages."


def engine_error(what: str, error: OSError | RuntimeError) -> EngineError:
    """`what` (a clause without its end) could not be done because of `error`."""
    shortage = _shortage(error)
    if shortage is None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return EngineError(f"{what}: {reason}.")
    said, hint = shortage
    return EngineError(f"{what}: {said}.", hint=hint)


def _shortage(error: OSError | RuntimeError) -> tuple[str, str] | None:
    if isinstance(error, OSError):
        number = error.errno
    else:  # `threading` raises a bare RuntimeError: "can't start new thread".
        number = errno.EAGAIN if "new thread" in str(error) else None
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"this process may open only {limit} files, and all are in use",
            "Start Jupyter after `ulimit -n 65536`, or close what the notebook holds open.",
        )
    if number == errno.ENFILE:
        return "the system has no file descriptor left", "Close other programs."
    if number == errno.EAGAIN:
        return "the system allows no further process or thread", "See `ulimit -u`."
    if number == errno.ENOMEM:
        return "the system is out of memory", _OUT_OF_MEMORY
    return None
