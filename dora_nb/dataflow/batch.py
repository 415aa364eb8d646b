"""Runs a dataflow from a shell: starts it, passes its output on, stops it."""

from __future__ import annotations

import time
from collections.abc import Callable

from dora_nb.errors import OperatorError

from .dataflow import Dataflow

_LOOK_EVERY_SECS = 0.1


class _TimeIsOverError(Exception):
    """The time of the run is over before every node was ready."""


def run_to_the_end(
    dataflow: Dataflow,
    *,
    engine: str = "embedded",
    stop_after_secs: float | None,
    say: Callable[[str], None],
    progress: Callable[[str], None] | None = None,
) -> list[OperatorError]:
    """Runs it until every node has ended, the time is over, or an interrupt; then stops it.

    The time begins with this call. Calls `say` with each line that a node printed, after the node's name,
    from the first moment on, and `progress` while the start takes long or fails and is tried again. Returns
    the errors of the nodes that failed, at the start too; whatever else a start raises goes through.
    """
    printed: dict[str, int] = {}
    deadline_secs = None if stop_after_secs is None else time.monotonic() + stop_after_secs
    errors: dict[str, OperatorError] = {}

    def is_over() -> bool:
        return deadline_secs is not None and time.monotonic() >= deadline_secs

    def look() -> None:
        _pass_on(dataflow, printed, say)
        if is_over():
            # Before the stop: what is still starting has no state afterwards.
            errors.update(dataflow._errors_of_start())
            raise _TimeIsOverError

    try:
        try:
            dataflow._start_with_looks(engine, progress, look)
            while not dataflow.wait(_LOOK_EVERY_SECS) and not is_over():
                _pass_on(dataflow, printed, say)
        except (OperatorError, _TimeIsOverError):
            pass  # What the nodes have failed with is read below.
        errors.update(_failures(dataflow))
    finally:
        dataflow.stop()
        _pass_on(dataflow, printed, say)
    # Also what failed at the stop: a node that it killed, or that raised as it handled STOP.
    return list({**_failures(dataflow), **errors}.values())


def _pass_on(dataflow: Dataflow, printed: dict[str, int], say: Callable[[str], None]) -> None:
    for line in dataflow.logs():
        if line.number >= printed.get(line.node, 0):
            printed[line.node] = line.number + 1
            say(f"{line.node}: {line.text}")


def _failures(dataflow: Dataflow) -> dict[str, OperatorError]:
    return {each.name: each.error for each in dataflow.status() if each.error is not None}
