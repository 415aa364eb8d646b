"""The script that runs a dataflow on two machines, as it is run by hand: two network namespaces, real dora."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "two_machines.py"


def may_make_networks() -> bool:
    """Whether the system lets this user have a network of its own."""
    return subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0


@pytest.mark.soak
@pytest.mark.skipif(not may_make_networks(), reason="not allowed to make a network namespace")
def test_a_notebook_watches_two_machines() -> None:
    ran = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, timeout=180, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "watching two: camera, detector" in ran.stdout
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert not {"alpha", "beta"} & set(left.stdout.split())
