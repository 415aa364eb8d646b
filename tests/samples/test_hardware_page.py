"""docs/hardware.md is true about the samples that it describes; tests/test_guide_pages.py runs its cells."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from dora_nb.cells.header import Header
from dora_nb.cells.node_line import parse_node_line
from dora_nb.testing import run_operator

from .conftest import SAMPLES

TEXT = (SAMPLES.parent / "docs" / "hardware.md").read_text(encoding="utf-8")
LINES = re.findall(r"^%dora_operator .*$", TEXT, re.MULTILINE)


def test_the_cell_reads_the_lines_of_a_device() -> None:
    (cell,) = re.findall(r"^```python\n(%%dora_.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    events = [("line", pa.array([text])) for text in ("distance 0.82", "distance 1.5")]
    sent = run_operator(cell, events)["metres"]
    assert [event["value"].to_pylist() for event in sent] == [[0.82], [1.5]]


@pytest.mark.parametrize("line", LINES, ids=["camera", "serial port"])
def test_a_line_names_a_sample_with_its_settings_and_outputs(line: str) -> None:
    magic = "%dora_operator"
    header = Header([line], magic=magic, name_end=len(magic), file="<cell>")
    parsed = parse_node_line(header, header.words(), what="operator", from_file=True)
    assert parsed.file is not None
    source = (SAMPLES.parent / "notebooks" / parsed.file.text).read_text(encoding="utf-8")
    assert all(f'"{name}"' in source for name, _ in parsed.env)
    assert [f'send_output("{name}"' in source for name in parsed.outputs] == [True]


def test_each_setting_on_the_page_is_one_of_a_sample() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SAMPLES.glob("*.py"))
    named = set(re.findall(r"\b(?:CAMERA|SERIAL)_[A-Z]+\b", TEXT))
    assert len(named) > 5
    assert {name for name in named if f'"{name}"' not in sources} == set()


def test_the_command_on_the_page_is_a_file() -> None:
    (command,) = re.findall(r"^python (\S+)$", TEXT, re.MULTILINE)
    assert (SAMPLES.parent / command).is_file()
