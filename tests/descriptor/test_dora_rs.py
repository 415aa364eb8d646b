"""What is written, given to the real dora-rs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from descriptor_graphs import two

from dora_nb.descriptor import write_dataflow

DORA = Path(sys.executable).with_name("dora")


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """Zenoh leaves a segment in /dev/shm at times, which the next zenoh to start takes away."""
    return ("threads", "processes", "descriptors", "mappings")


def dora(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{DORA.parent}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        [DORA, *map(str, words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def test_dora_accepts_and_runs_it(tmp_path: Path) -> None:
    write_dataflow(two(), tmp_path)
    checked = dora("validate", "dataflow.yml", folder=tmp_path)
    assert (checked.returncode, "wiring OK" in checked.stdout) == (0, True), checked.stdout
    ran = dora("run", "dataflow.yml", "--stop-after", "10s", folder=tmp_path)
    assert "INPUT image" in ran.stdout, ran.stdout
