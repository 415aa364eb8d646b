"""The parity suite runs programs of dora-rs by themselves as well, and its rows share one coordinator and daemon."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dora_nb.engines.dora import _session
from dora_nb.engines.dora._cluster import Cluster


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """dora's own segments in /dev/shm go some time after its processes."""
    return ("threads", "processes", "descriptors", "mappings")


@pytest.fixture(scope="session", autouse=True)
def _one_cluster_for_all() -> Iterator[None]:
    """The coordinator and the daemon that all rows run on; a run's end leaves them up.

    To start them takes longer than most rows. How they start and end is tested in
    tests/engines/test_on_dora.py. They end with the last test of this folder.
    """
    ended: list[str] = []
    cluster = Cluster(ended.append)

    class SharedCluster(Cluster):
        """What one run has of it."""

        def __init__(self, _on_end: Callable[[str], None]) -> None:
            assert not ended, ended
            self.__dict__.update(cluster.__dict__)
            self.folder = Path(tempfile.mkdtemp(dir=cluster.folder))

        def stop_at_exit(self, dataflow: str) -> None:
            """Does nothing: these tests kill no kernel."""

        def close(self) -> None:
            """Does nothing: the next run uses the same cluster."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_session, "Cluster", SharedCluster)
        yield
    cluster.close()
