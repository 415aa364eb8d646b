"""The parity suite runs programs of dora-rs by themselves as well, and its rows share one coordinator and daemon."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dora_nb.engines.dora import _session
from dora_nb.engines.dora._cluster import Cluster

_HERE = Path(__file__).parent


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """dora's own segments in /dev/shm go some time after its processes."""
    return ("threads", "processes", "descriptors", "mappings")


class SharedCluster:
    """The coordinator and the daemon that the rows run on; a run's end leaves them up.

    To start them takes longer than most rows. How they start and end is tested in
    tests/engine/test_on_dora.py.
    """

    _shared: Cluster | None = None
    _ended: list[str] = []  # noqa: RUF012

    def __init__(self, _on_end: Callable[[str], None]) -> None:
        shared = self._shared
        assert shared is not None
        assert not self._ended, self._ended
        self.dora, self.daemon_port = shared.dora, shared.daemon_port
        self.watch, self.unwatch = shared.watch, shared.unwatch
        self.folder = Path(tempfile.mkdtemp(dir=shared.folder))

    def stop_at_exit(self, dataflow: str) -> None:
        """Does nothing: these tests kill no kernel."""

    def close(self) -> None:
        """Does nothing: the next run uses the same cluster."""

    @classmethod
    def start(cls) -> None:
        """Starts the cluster, unless an earlier module did."""
        if cls._shared is None:
            cls._shared = Cluster(cls._ended.append)

    @classmethod
    def end(cls) -> None:
        """Ends the cluster."""
        if cls._shared is not None:
            cls._shared.close()
            cls._shared = None


@pytest.fixture(scope="module", autouse=True)
def _one_cluster_for_all() -> Iterator[None]:
    """Started before the leak check takes its first snapshot, since it outlives the tests."""
    SharedCluster.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_session, "Cluster", SharedCluster)
        yield


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Ends the cluster with the last test of this folder.

    The segments of its daemon in /dev/shm would be reported as left behind by tests elsewhere.
    """
    if nextitem is None or _HERE not in nextitem.path.parents:
        SharedCluster.end()
