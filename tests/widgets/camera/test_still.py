"""The still that a saved notebook keeps, in a real kernel that no browser looks at."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import cv2
import nbformat
import numpy as np
import pytest
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

FAKES = Path(__file__).parents[1] / "fake_dataflow.py"
SETUP = f"""\
import sys
sys.path.insert(0, {str(FAKES.parent)!r})
from fake_dataflow import FakeDataflow
from dora_nb import CameraView
dataflow = FakeDataflow()
"""
PLAY = "playing = dataflow.play_on(fps=60)"
SHOW = "view = CameraView('camera/image', boxes='detector/bbox', dataflow=dataflow)\nview"
OPERATOR = """\
class Operator:
    def on_event(self, event, send_output):
        pass
"""
TEXT = "CameraView('camera/image', boxes='detector/bbox')"


@pytest.fixture(scope="module", autouse=True)
def _event_loop() -> None:
    """jupyter_core keeps the loop that its first synchronous call makes."""
    ensure_event_loop()


@pytest.fixture(autouse=True)
def _folders_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def run(*cells: str) -> nbformat.NotebookNode:
    """Runs the cells as `make demo` and nbconvert do; what the file would hold."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=30, store_widget_state=False, kernel_name="python3").execute()
    return notebook


def output(notebook: nbformat.NotebookNode, cell: int) -> dict[str, Any]:
    """The data of a cell's one output."""
    (only,) = notebook.cells[cell].outputs
    data: dict[str, Any] = only["data"]
    return data


def still_of(data: dict[str, Any]) -> Any:
    jpeg = base64.b64decode(data["image/jpeg"])
    assert len(jpeg) <= 100_000
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def has_square(image: Any) -> bool:
    """The square that the fake camera moves, BGR (40, 160, 220)."""
    return bool((np.abs(image.astype(int) - (40, 160, 220)).max(axis=2) < 20).sum() > 3000)


def test_a_stopped_dataflow_leaves_a_still_in_the_notebook_and_in_its_page():
    until_shown = "import time\nwhile not view.stats.frames_sent:\n    time.sleep(0.01)"
    notebook = run(SETUP + PLAY, SHOW, until_shown, "playing.set(); dataflow.stop()")

    data = output(notebook, 1)
    assert data["text/plain"] == TEXT
    assert set(data) == {"text/plain", "image/jpeg"}
    image = still_of(data)
    assert image.shape == (240, 320, 3)
    assert has_square(image)
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    assert len(re.findall(r'<img[^>]+src="data:image/jpeg;base64,', page)) == 1
    assert [cell.outputs for cell in notebook.cells if cell.source not in (SHOW,)] == [[], [], []]


def test_waiting_for_a_frame_leaves_a_still_where_nobody_looks():
    notebook = run(SETUP + PLAY, SHOW, "view.wait_for_frame(30)")

    assert has_square(still_of(output(notebook, 1)))


def test_a_cell_whose_output_no_page_shows_waits_for_its_picture():
    notebook = run(SETUP + PLAY, SHOW)

    assert has_square(still_of(output(notebook, 1)))


def test_nbconvert_keeps_pictures_lines_and_tables():
    """As `jupyter nbconvert --execute --to html` does it, which also saves the widgets' state.

    A page prefers a widget to whatever stands beside it, and has neither kernel nor network.
    """
    operator = "%%dora_operator arm --inputs goal=notebook/goal\n" + OPERATOR
    cells = ["%load_ext dora_nb", operator, "%dora status", "%dora graph", SETUP + PLAY, SHOW]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    execute = ExecutePreprocessor(enabled=True, timeout=30, kernel_name="python3")

    page, _ = HTMLExporter(preprocessors=[execute]).from_notebook_node(notebook)

    outputs = page.partition("<main")[2].partition("</main>")[0]
    assert "widget-view+json" not in outputs
    assert len(re.findall(r'<img[^>]+src="data:image/jpeg;base64,', outputs)) == 1
    assert "arm: declared" in outputs
    assert "goal ← notebook/goal (10, drop_oldest)" in outputs
    assert outputs.count("<table>") == 1
    assert 'class="dora-graph"' in outputs or "data:image/svg+xml" in outputs


def test_a_pause_keeps_the_frame_that_was_shown_and_a_close_has_no_live_view():
    notebook = run(
        SETUP + PLAY,
        SHOW,
        "view.wait_for_frame(30); view.pause(); paused = view.snapshot()",
        "dataflow.publish_image(__import__('numpy').zeros((240, 320, 3), 'uint8'))\n"
        "assert view.snapshot() == paused\n"
        "view.close(); view.close()",
        "assert [t.name for t in __import__('threading').enumerate() if 'dora-' in t.name] == []",
    )

    data = output(notebook, 1)
    assert set(data) == {"text/plain", "image/jpeg"}
    assert has_square(still_of(data))


def test_a_closed_view_is_shown_as_its_still():
    notebook = run(
        SETUP + PLAY, SHOW[:-5], "view.wait_for_frame(30); view.pause(); view.close()", "view"
    )

    data = output(notebook, 3)
    assert set(data) == {"text/plain", "image/jpeg"}
    assert has_square(still_of(data))


def test_a_cell_that_runs_again_ends_its_earlier_view():
    """nbclient runs each cell once, so the kernel is asked to by hand, twice in one."""
    notebook = run(
        SETUP,
        "made = []\n"
        "for run in ('first', 'second'):\n"
        "    get_ipython().set_parent({'header': {'msg_id': run}, 'metadata': {'cellId': 'c'},"
        " 'content': {}})\n"
        "    made.append(CameraView('camera/image', dataflow=dataflow))\n",
        "assert [view.comm is None for view in made] == [True, False]\n"
        "assert len(dataflow.listeners) == 1",
    )

    assert notebook.cells[2].execution_count == 3


def test_no_thread_of_the_view_prints():
    """A message that is not a picture, a failure, a stop: the view shows all of it, and prints nothing."""
    notebook = run(
        SETUP,
        SHOW,
        "import pyarrow, time\n"
        "def wait_until_shown(what):\n"
        "    while what not in view._last_content.get('reason', ''):\n"
        "        time.sleep(0.01)\n"
        "dataflow.publish('camera/image', pyarrow.array([1]))\n"
        "wait_until_shown('cannot show camera/image as a picture')",
        "dataflow.fail('detector', 'no such model')\nwait_until_shown('no such model')",
        "dataflow.stop()",
    )

    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1, 0, 0, 0]


def test_a_kernel_that_ends_with_a_view_ends_quietly(capfd: pytest.CaptureFixture[str]):
    run(SETUP + PLAY, SHOW, "view.wait_for_frame(30)")

    assert "Traceback" not in capfd.readouterr().err
