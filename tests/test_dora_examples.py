"""The script that runs dora's examples: what it takes for passed. The examples are dora's, not here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dora_nb

SCRIPT = Path(dora_nb.__file__).resolve().parents[1] / "scripts" / "dora_examples.py"
CHECKING = """\
from dora import Node
for event in Node():
    print("[PASS] #1 data matches\\nTotal PASS: 1")
    BREAK
"""


def run(checkout: Path, folder: str, text: str) -> subprocess.CompletedProcess[str]:
    example = checkout / "examples" / folder
    example.mkdir(parents=True, exist_ok=True)
    (example / "node.py").write_text(text)
    (example / "dataflow.yml").write_text(
        "nodes:\n  - {id: node, path: node.py, inputs: {tick: dora/timer/hz/20}}\n"
    )
    return subprocess.run(
        [sys.executable, SCRIPT, checkout, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHECKING.replace("BREAK", "break"), "passed\n1 of 1 passed"),
        (CHECKING.replace("BREAK", "1 / 0"), "ended with status 1"),
        (CHECKING.replace("BREAK", "print('[FAIL] 2'); break"), "printed 'node: [FAIL] 2'"),
        (CHECKING.replace("[PASS]", "").replace("BREAK", "break"), "never printed"),
    ],
)
def test_an_example_passes_where_it_says_so_and_nothing_failed(
    text: str, said: str, tmp_path: Path
) -> None:
    ran = run(tmp_path, "python-echo", text)
    assert said in ran.stdout, ran.stdout
    assert ran.returncode == (0 if "passed" in said else 1)


def test_what_is_not_there_has_not_passed(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    ran = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, "python-echo"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "is not in this checkout" in ran.stdout
    assert ran.returncode == 1
