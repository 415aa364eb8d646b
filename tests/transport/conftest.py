"""What the tests of the transport share; `transport_rig` holds the parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from transport_peer import Nursery, PeerHandle
from transport_rig import Rig, rig_with


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An output whose publisher never has a reason to wait."""
    with rig_with() as rig:
        yield rig


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """The process that the processes of these tests are forked from."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def peers(nursery: Nursery) -> Iterator[Callable[[], PeerHandle]]:
    """Makes processes; those that still live at the end are killed."""
    yield nursery.peer
    nursery.end_peers()
