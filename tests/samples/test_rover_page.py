"""docs/rover.md is true about the rover; tests/test_guide_pages.py runs its cells."""

from __future__ import annotations

import re
import time
from pathlib import Path

import nbformat
import pyarrow as pa
import pytest

import dora_nb
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.descriptor import write_dataflow
from dora_nb.descriptor.notebook_files import read_notebook

from .conftest import SAMPLES

TEXT = (SAMPLES.parent / "docs" / "rover.md").read_text(encoding="utf-8")
(LINE,) = re.findall(r"^%dora_operator .*$", TEXT, re.MULTILINE)
(DRIVER,) = re.findall(r"^```python\n(%%dora_operator.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dora_nb.Dataflow:
    """The page's operators, from a notebook beside the samples."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "samples").symlink_to(SAMPLES)
    monkeypatch.chdir(folder)
    cells = [nbformat.v4.new_code_cell(cell) for cell in (LINE, DRIVER)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "robot.ipynb")
    made = dora_nb.Dataflow()
    FrontEnd(made).declare_all(read_notebook(folder / "robot.ipynb").graph)
    return made


def test_a_stick_drives_the_rover(flow: dora_nb.Dataflow) -> None:
    with flow:
        flow.start()
        (picture,) = flow.take("rover/image", 1, timeout_secs=60)
        assert dora_nb.as_image(picture).shape == (480, 640, 3)
        begin = flow.latest("rover/pose")["value"][0]["x"].as_py()
        give_up = time.monotonic() + 60
        while flow.latest("rover/pose")["value"][0]["x"].as_py() < begin + 0.05:
            assert time.monotonic() < give_up
            flow.send("notebook/drive", pa.array([0.0, 1.0]))
            flow.take("rover/pose", 1, timeout_secs=60)
        (boxes,) = flow.take("rover/boxes", 1, timeout_secs=60)
        assert len(dora_nb.as_boxes(boxes)) > 3


def test_the_rover_is_exported_with_its_room(flow: dora_nb.Dataflow, tmp_path: Path) -> None:
    written = write_dataflow(flow.graph, tmp_path / "robot")
    assert {"boxes.py", "rover_world.py"} <= set(written.files)
    assert (tmp_path / "robot/rover_world.py").read_bytes() == (
        SAMPLES / "rover_world.py"
    ).read_bytes()
    assert "mujoco==" in (tmp_path / "robot/requirements.txt").read_text()


def test_each_name_on_the_page_is_one_of_the_sample() -> None:
    source = (SAMPLES / "rover.py").read_text(encoding="utf-8")
    named = set(re.findall(r"\bSIM_[A-Z_]+\b", TEXT))
    assert len(named) > 5
    assert {name for name in named if f'"{name}"' not in source} == set()
    tables = re.findall(r"^\| (`.*?`) \|", TEXT, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", " ".join(tables)):
        assert f'"{name}"' in source, name
    (command,) = re.findall(r"^python (\S+) >", TEXT, re.MULTILINE)
    assert (SAMPLES.parent / command).is_file()
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", TEXT)
    assert (SAMPLES.parent / "docs" / picture).is_file()
