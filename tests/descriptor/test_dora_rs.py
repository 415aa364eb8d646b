"""What is written, given to the real dora-rs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from descriptor_graphs import MODULE, OPERATOR, SCRIPT, WITH_MODULE, graph_of, node, two

from dora_nb.descriptor import read_dataflow, write_dataflow
from dora_nb.graph.as_descriptor import as_descriptor

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


LENIENT = """\
import numpy as np

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("image", np.arange(6, dtype=np.uint8).reshape(2, 3), {"n": 1})
"""
STRICT_READER = """\
from dora import DoraStatus
from helpers import describe

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            print(describe(dora_event["value"], dora_event["metadata"]["n"]), flush=True)
        return DoraStatus.STOP
"""


def test_what_only_dora_nb_takes_runs_on_dora_rs_with_its_footer(tmp_path: Path) -> None:
    """An array of numpy's, None, a module beside the notebook; and no dora_nb to be imported."""
    notebook = tmp_path / "notebook"
    notebook.mkdir()
    (notebook / "helpers.py").write_text(
        "def describe(value, n): return f'{value.type} {len(value)} {n}'\n"
    )
    graph = graph_of(
        node("camera", LENIENT, inputs={"tick": "dora/timer/hz/20"}, outputs=("image",)),
        node("reader", STRICT_READER, inputs={"image": "camera/image"}, working_dir=str(notebook)),
    )
    written = write_dataflow(graph, tmp_path / "robot")
    assert written.notes == ()
    assert "dora_nb" not in (tmp_path / "robot" / "reader_operator.py").read_text()
    ran = dora("run", "dataflow.yml", "--stop-after", "4s", folder=tmp_path / "robot")
    assert "uint8 6 1" in ran.stdout, ran.stdout
    assert ran.returncode == 0, ran.stdout


def test_modules_are_what_dora_makes_of_them(tmp_path: Path) -> None:
    """`dora expand` is the oracle."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "dataflow.yml").write_text(WITH_MODULE)
    (tmp_path / "modules" / "a.py").write_text(SCRIPT)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "modules" / "t.yml").write_text(MODULE.replace("../", ""))
    (tmp_path / "modules" / "operator.py").write_text(OPERATOR)
    expanded = yaml.safe_load(dora("expand", "dataflow.yml", folder=tmp_path).stdout)
    ours = as_descriptor(read_dataflow(tmp_path / "dataflow.yml").graph)
    for theirs, mine in zip(expanded["nodes"], ours["nodes"], strict=True):
        theirs.update((theirs.get("operator") or {}) | {"id": theirs["id"]})
        mine.update(mine.get("operator") or {})
        assert mine["env"] == {**expanded["env"], **(theirs["env"] or {})}
        assert sorted(mine["outputs"]) == sorted(theirs["outputs"])
        assert str(mine["inputs"]).replace("hz/2", "millis/500") == str(theirs["inputs"])
        for key in ("id", "args", "build"):
            assert mine.get(key) == theirs.get(key)
