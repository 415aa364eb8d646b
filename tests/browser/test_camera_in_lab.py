"""The camera view in JupyterLab, on a dataflow without processes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Page, expect

OpenNotebook = Callable[..., Any]

SETUP = """\
from fake_dataflow import FakeDataflow
from dora_nb import CameraView
dataflow = FakeDataflow()
playing = dataflow.play_on()
"""
SHOW = "view = CameraView('camera/image', boxes='detector/bbox', dataflow=dataflow)\nview"
BUSY = "import time; time.sleep(600)"
SEQ = "+document.querySelector('.dora-view').dataset.seq"


def wait_for_frames(page: Page, count: int = 10) -> None:
    """Until so many more have been drawn."""
    page.wait_for_selector(".dora-view[data-seq]")
    first = page.evaluate(f"() => {SEQ}")
    page.wait_for_function(f"last => {SEQ} >= last", arg=first + count)


def canvas(page: Page, name: str, *, drawn: bool = True) -> npt.NDArray[np.uint8]:
    """The pixels of one of the view's canvases, H x W x 4, red first, once it has any (or none).

    JupyterLab makes an output anew when a still is put into it, so it may be gone for a moment.
    """
    url = page.wait_for_function(
        """([name, drawn]) => {
            const canvas = document.querySelector(`.dora-view[data-seq] .dora-${name}`);
            const { width, height } = canvas ?? {};
            if (!width || !height) return null;
            const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
            return data.some(Boolean) === drawn ? canvas.toDataURL('image/png') : null; }""",
        arg=[name, drawn],
    ).json_value()
    data = base64.b64decode(url.partition(",")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image.shape[2] == 3:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    return image[:, :, [2, 1, 0, 3]]


def square_of(image: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square that the fake camera moves, RGB (220, 160, 40)."""
    near = np.abs(image[:, :, :3].astype(int) - (220, 160, 40)).max(axis=2) < 40
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    assert len(rows) > 40
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def box_of(overlay: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """The same of the box: where whole rows and columns of it are drawn."""
    drawn = overlay[:, :, 3] > 128
    columns, rows = np.flatnonzero(drawn.sum(axis=0) > 60), np.flatnonzero(drawn.sum(axis=1) > 60)
    return columns[0] + 1, rows[rows > 78][0] + 1, columns[-1], rows[-1]


def test_boxes_are_live_while_a_cell_runs(open_notebook: OpenNotebook, page: Page):
    notebook = open_notebook("live.ipynb", [SETUP, SHOW, BUSY])
    notebook.run_all()
    notebook.wait_for_running(2)

    wait_for_frames(page, 40)

    # The boxes come at once, so the view waits for them, and each lies on its own frame.
    expect(page.get_by_role("button", name="Sync", pressed=True)).to_be_visible()
    page.click(".dora-pause")
    expect(page.locator(".dora-state")).to_have_text("paused")  # the kernel heard it, busy as it is
    square, box = square_of(canvas(page, "picture")), box_of(canvas(page, "overlay"))
    assert np.abs(np.subtract(square, box)).max() <= 2
    # The still has left the button in focus. It may be put into the output once more just now, so the
    # keys go to the button by name.
    pause = page.locator(".dora-pause")
    expect(pause).to_be_focused()
    pause.press("b")
    expect(page.get_by_role("button", name="Boxes", pressed=False)).to_be_visible()
    canvas(page, "overlay", drawn=False)
    assert len(notebook.prompts()) == 3  # "b" has not made a cell
    pause.press("s")
    expect(page.get_by_role("button", name="Sync", pressed=False)).to_be_visible()
    expect(pause).to_be_focused()
    pause.press("Space")
    wait_for_frames(page)
    assert notebook.prompts()[2] == "[*]:"
    notebook.interrupt()
    printed = notebook.run_code(
        "print(view.stats.frames_blind, view.show_boxes, view.sync, view.stats.frames_drawn)"
    )
    blind, show_boxes, sync, drawn = printed.split()
    assert (blind, show_boxes, sync) == ("0", "False", "False")  # answers came all the time
    assert int(drawn) > 40


@pytest.mark.soak
def test_a_page_loaded_again_shows_the_picture_at_which_it_was_paused(
    open_notebook: OpenNotebook, page: Page
):
    notebook = open_notebook("reload.ipynb", [SETUP, SHOW])
    notebook.run_all()
    wait_for_frames(page)
    page.click(".dora-pause")
    expect(page.locator(".dora-state")).to_have_text("paused")
    before = canvas(page, "picture")
    notebook.save()

    notebook.open()

    page.wait_for_selector(".dora-view[data-seq]")
    np.testing.assert_array_equal(canvas(page, "picture"), before)
    expect(page.locator(".dora-state")).to_have_text("paused")
    page.click(".dora-pause")
    wait_for_frames(page)


@pytest.mark.soak
def test_a_cell_that_runs_again_ends_its_earlier_view(open_notebook: OpenNotebook, page: Page):
    keep = "view = CameraView('camera/image', boxes='detector/bbox', dataflow=dataflow)\n"
    keep += "kept = [*globals().get('kept', []), view]\nview"
    notebook = open_notebook("again.ipynb", [SETUP, keep])
    notebook.run_all()
    wait_for_frames(page)

    notebook.run_cell(1)
    notebook.wait_for_cells()

    wait_for_frames(page)
    assert page.locator(".dora-view").count() == 1
    state = (
        "import threading\n"
        "print([each.comm is None for each in kept], len(dataflow.listeners),"
        " [each.name for each in threading.enumerate() if 'dora-' in each.name])"
    )
    assert notebook.run_code(state) == "[True, False] 2 ['dora-view camera/image']\n"


def test_a_still_is_saved_and_a_kernel_that_is_gone_is_seen(
    open_notebook: OpenNotebook, page: Page
):
    notebook = open_notebook("still.ipynb", [SETUP, SHOW, "dataflow.stop()"])
    notebook.run_cell(0)
    notebook.run_cell(1)
    wait_for_frames(page)
    notebook.run_cell(2)
    expect(page.locator(".dora-state")).to_have_text("stopped")
    notebook.wait_for_cells()

    (output,) = notebook.save()["cells"][1]["outputs"]

    assert "".join(output["data"]["text/plain"]).startswith("CameraView('camera/image'")
    still = base64.b64decode(output["data"]["image/jpeg"])
    assert len(still) <= 100_000
    image = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_COLOR)
    square_of(image[:, :, ::-1])
    assert page.locator(".dora-view").count() == 1  # still live: a start would show it again
    page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    expect(page.locator(".dora-state")).to_have_text("lost")
    expect(page.locator(".dora-reason")).to_contain_text("run the cell again")
    square_of(canvas(page, "picture"))
