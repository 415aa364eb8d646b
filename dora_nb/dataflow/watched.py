"""A dataflow that was started elsewhere with dora-rs, watched and fed from here."""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING, Self

from dora_nb.engines.base import EngineSession
from dora_nb.errors import GraphError

from .base import BaseDataflow
from .current_run import CurrentRun

if TYPE_CHECKING:
    from dora_nb.engines.dora import RunningDataflow

COORDINATOR = "127.0.0.1:6013"
DAEMON_PORT = 53291
"""Where dora's daemon listens for nodes that join, unless it is told another port."""


class WatchedDataflow(BaseDataflow):
    """A running dataflow of dora-rs that was started elsewhere, from `dora_nb.attach`.

    Its states, logs and topics can be read, messages sent on ``notebook/NAME``, and parameters of its nodes
    changed; it cannot be stopped or edited from here. As a context manager it detaches on exit.

    Example::

        >>> with dora_nb.attach("arm", coordinator="robot:6013") as arm:
        ...     arm.latest("camera/image")
    """

    def __init__(self, run: CurrentRun, name: str) -> None:
        super().__init__(run)
        self._name = name

    @property
    def name(self) -> str:
        """The name that it was started with, or its UUID.

        Example::

            >>> arm.name
            'arm'
        """
        return self._name

    def close(self) -> None:
        """Detaches from the dataflow, which goes on; its states and logs are not kept. May be called twice.

        Blocks until the processes that read its topics for this one have left it.

        Example::

            >>> arm.close()
        """
        self._run.let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        nodes = ", ".join(self._run.graph.nodes) or "no nodes"
        state = "running" if self.running else "not running"
        return f"<WatchedDataflow {self._name} ({nodes}): {state}>"


def attach(
    name: str | None = None,
    *,
    coordinator: str = COORDINATOR,
    daemon_port: int = DAEMON_PORT,
) -> WatchedDataflow:
    """Returns a view of a dataflow that was started elsewhere with dora-rs.

    `name` is its name or UUID, and may be left out where only one runs on the coordinator, ``HOST:PORT``. To
    read a topic, a process of ours joins at the daemon of this machine that listens on `daemon_port`. Blocks
    until the coordinator has answered. Raises GraphError for a coordinator or a dataflow that does not exist,
    and EngineError where the coordinator cannot be reached.

    Example::

        >>> arm = dora_nb.attach("arm", coordinator="robot:6013")
        >>> arm.take("camera/image", 3)
        >>> arm.close()
    """
    run = CurrentRun()
    with run.lock:
        running, session = find(run, name, coordinator=coordinator, daemon_port=daemon_port)
        run.graph = running.graph
        try:
            run.begin(session)
        except BaseException:
            run.let_go()
            raise
    _all_runs.add(run)
    return WatchedDataflow(run, running.name)


def find(
    run: CurrentRun, name: str | None, *, coordinator: str, daemon_port: int
) -> tuple[RunningDataflow, EngineSession]:
    """That dataflow, and a session on it for `run`, which is not open yet. With the run's lock."""
    from dora_nb.engines.dora import Coordinator, attach  # loaded only where dora-rs is asked for

    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise GraphError(f"invalid coordinator '{coordinator}': expected HOST:PORT.")
    return attach(
        name,
        Coordinator(host, int(port)),
        run.readers,
        daemon_port=daemon_port,
        on_change=run.changed,
        controls=run.controls,
    )


_all_runs: weakref.WeakSet[CurrentRun] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At a kernel's orderly end; at any other end, the orphan reaper takes our processes out of the dataflow."""
    for run in list(_all_runs):
        run.let_go()
