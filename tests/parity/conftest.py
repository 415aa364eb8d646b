"""The parity suite runs programs of dora-rs by themselves as well."""

from __future__ import annotations

import pytest


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """dora's own segments in /dev/shm go some time after its processes."""
    return ("threads", "processes", "descriptors", "mappings")
