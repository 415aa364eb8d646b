"""The cells and commands on the pages of the guide run, and print what the pages say.

On these pages ```` ```python ```` is a cell and ```` ```sh ```` are commands. ```` ```text ```` behind a cell is what it
prints: each of its lines, in this order, where `...` stands for any lines between. The cells of a page run one after
the other, in a folder beside the samples.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import dora_nb

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
PAGES = (
    "install",
    "first_dataflow",
    "operators_and_nodes",
    "messages",
    "editing",
    "debugging",
    "testing",
    "to_the_robot",
    "coming_from",
    "troubleshooting",
)
NOT_RUN = ("pip install", "jupyter lab", "dora up", "dora start")
"""Commands that need a network, a person or dora's daemon; docs/scale-out.md has a soak test for the latter."""
FORGET_THE_PAGE_BEFORE = """\
import dora_nb
dataflow = dora_nb.get_dataflow()
dataflow.stop()
for name in [each.name for each in dataflow.status()]:
    dataflow.remove(name)
%reset -f
"""
TIMEOUT_SECS = 60
"""Only reached by what hangs."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    printed: str | None


def blocks_of(name: str) -> list[Block]:
    """The fenced blocks of a page in order, each with the output that follows it."""
    text = (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")
    found: list[Block] = []
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for language, body in fences:
        if language == "text":
            found[-1] = Block(found[-1].language, found[-1].text, body)
        else:
            found.append(Block(language, body, None))
    return found


def check_printed(expected: str, printed: str) -> None:
    lines = iter(printed.splitlines())
    missing = [line for line in expected.splitlines() if line != "..." and line not in lines]
    assert missing == [], printed


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """pyzmq's context and its descriptors live as long as this process."""
    return ("processes", "shared memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of notebooks beside the samples, as `dora-nb tutorial` makes it."""
    made = tmp_path_factory.mktemp("guide")
    (made / "samples").symlink_to(REPOSITORY / "samples")
    (made / "notebooks").mkdir()
    return made / "notebooks"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[NotebookClient]:
    """One kernel for all pages: to start one takes longer than most pages."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("")])
    resources = {"metadata": {"path": str(folder)}}
    made = NotebookClient(
        notebook,
        timeout=TIMEOUT_SECS,
        kernel_name="python3",
        store_widget_state=False,
        resources=resources,
    )
    with made.setup_kernel():
        yield made


def run_cell(client: NotebookClient, source: str) -> str:
    """What a cell prints; the end of its error, if it raises."""
    cell = client.nb.cells[0] = nbformat.v4.new_code_cell(source)
    with contextlib.suppress(CellExecutionError):
        client.execute_cell(cell, 0)
    parts: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append("\n".join(["ERROR", *output.traceback]))
        else:
            parts.append(output.data.get("text/plain", ""))
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(parts))


@pytest.mark.parametrize("name", ["../README", *PAGES])
def test_the_cells_of_a_page_run_and_print_what_it_says(name: str, client: NotebookClient) -> None:
    run_cell(client, FORGET_THE_PAGE_BEFORE)
    for block in blocks_of(name):
        if block.language == "python":
            printed = run_cell(client, block.text)
            may_raise = "Error: " in (block.printed or "")
            assert may_raise or "ERROR" not in printed.splitlines(), printed
            check_printed(block.printed or "", printed)


@pytest.mark.soak  # They make projects and test them, which tests/test_cli.py does too.
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for block in blocks_of(name):
        lines = block.text.splitlines() if block.language == "sh" else []
        script = "\n".join(line for line in lines if not line.startswith(NOT_RUN))
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if block.language == "sh":
            check_printed(block.printed or "", done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_each_page_has_an_example_and_no_block_that_is_not_tested(name: str) -> None:
    languages = {block.language for block in blocks_of(name)}
    assert "python" in languages
    assert languages <= {"python", "sh"}


def test_each_message_of_the_troubleshooting_page_is_one_of_ours_or_of_python() -> None:
    """The first column quotes a part of the message that names nothing of the user's."""
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `(.+?)`", text, re.MULTILINE)
    folders = ("dora_nb", "samples")
    sources = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    assert len(quoted) > 8
    assert [each for each in quoted if each not in code and not hasattr(builtins, each)] == []
