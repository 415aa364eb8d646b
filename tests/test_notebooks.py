"""The tutorials: executed as a person would who runs everything twice, and fit to be committed.

That each cell prints what it printed when it was committed is nbval's part; see `make test`.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parent.parent
COMPARING = REPOSITORY / "notebooks" / "04_record_and_compare.ipynb"
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
MOST_SANITISING_RULES = 5
MOST_IGNORED_CELLS = 2
MOST_STILL_BYTES = 100_000
_IGNORING_TAGS = {"nbval-ignore-output", "nbval-skip"}


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """All but descriptors: nbclient keeps the event loop that it made for the next notebook."""
    return ("threads", "processes", "shared memory", "mappings")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def _errors(notebook: nbformat.NotebookNode) -> list[str]:
    return [
        f"{cell.source.splitlines()[0]}: {output.ename}: {output.evalue}"
        for cell in notebook.cells
        if "raises-exception" not in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


@pytest.mark.soak  # nbval runs each of them once in any case.
def test_run_all_twice_in_one_kernel_is_clean(
    notebook: nbformat.NotebookNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its last cell leaves the dataflow alive, and the end of the kernel leaves no process: the leak check."""
    monkeypatch.setenv("CAMERA_SOURCE", "scene")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    client = NotebookClient(
        notebook,
        timeout=60,
        allow_errors=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(REPOSITORY / "notebooks")}},
    )
    with client.setup_kernel():
        for _ in range(2):
            client.reset_execution_trackers()  # it would update displays of the first run
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            assert _errors(notebook) == []
        alive = nbformat.v4.new_code_cell("import dora_nb; dora_nb.get_dataflow().running")
        notebook.cells.append(alive)
        client.execute_cell(alive, len(notebook.cells) - 1)
        assert alive.outputs[0].data["text/plain"] == "True"


@pytest.mark.soak
def test_the_golden_test_in_the_text_fails_where_boxes_are_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a reader does it: the files saved beside the notebook's recording, and pytest in a terminal."""
    monkeypatch.setenv("CAMERA_SOURCE", "scene")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "samples").symlink_to(REPOSITORY / "samples")
    notebook = nbformat.read(COMPARING, as_version=4)
    detectors = [
        cell.source.partition("\n")[2]
        for cell in notebook.cells
        if cell.source.startswith("%%dora_operator detector")
    ]
    (test,) = re.findall(
        "```python\n(.*?)```", "".join(c.source for c in notebook.cells), re.DOTALL
    )
    stop = next(at for at, cell in enumerate(notebook.cells) if cell.source == "%dora record stop")
    del notebook.cells[stop + 1 :]
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=60, store_widget_state=False, resources=resources).execute()
    (folder / "test_detector.py").write_text(test)

    def run_pytest() -> str:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_detector.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout

    _, unsure, tidy = detectors
    (folder / "detector.py").write_text(tidy)
    assert "1 passed" in run_pytest()
    (folder / "detector.py").write_text(unsure)
    failed = run_pytest()
    assert "1 failed" in failed
    assert re.search(r"bbox .*: \d+ box(es)? lost", failed)


def test_it_ends_alive(notebook: nbformat.NotebookNode) -> None:
    """Run All leaves something to play with; how to stop it is in the last cell."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[-1].source == code[-1] == "# %dora stop"
    assert not any("%dora stop" in source for source in code[:-1])


def test_the_picture_stays_in_the_file(notebook: nbformat.NotebookNode) -> None:
    stills = [
        base64.b64decode(output.data["image/jpeg"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/jpeg" in output.get("data", {})
    ]
    assert stills
    assert all(len(still) <= MOST_STILL_BYTES for still in stills)


def test_it_is_committed_executed_and_without_what_changes(
    notebook: nbformat.NotebookNode,
) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.language_info.keys() == {"name"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


def test_few_cells_are_exempt_from_comparison(notebook: nbformat.NotebookNode) -> None:
    ignored = [
        cell
        for cell in notebook.cells
        if _IGNORING_TAGS & set(cell.metadata.get("tags", [])) or "NBVAL_" in cell.source
    ]
    assert len(ignored) <= MOST_IGNORED_CELLS


def test_few_rules_make_outputs_comparable() -> None:
    rules = (REPOSITORY / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8")
    assert rules.count("\nregex:") <= MOST_SANITISING_RULES
