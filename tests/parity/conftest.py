"""The parity suite runs programs of dora-rs by themselves as well."""

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
    """The coordinator and the daemon that all rows run on, one after the other.

    To start them takes longer than most rows. How they come up and end is what `tests/engine/test_on_dora`
    is about.
    """
    ended: list[str] = []
    cluster = Cluster(ended.append)

    class Shared:
        """What a run has of it; the run's end leaves it as it is."""

        dora, daemon_port = cluster.dora, cluster.daemon_port
        look_after, forget = cluster.look_after, cluster.forget

        def __init__(self, _on_end: Callable[[str], None]) -> None:
            assert not ended, ended
            self.folder = Path(tempfile.mkdtemp(dir=cluster.folder))

        def say_farewell_with(self, dataflow: str) -> None:
            """Nothing: a kernel that is killed is not what these tests are about."""

        def close(self) -> None:
            """The next run goes on with it."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_session, "Cluster", Shared)
        yield
    cluster.close()
