"""The first notebook as a person sees it: in JupyterLab, with the real engine, live."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyterlab_server import Lab, Notebook
from playwright.sync_api import Page

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL = REPOSITORY / "notebooks" / "01_first_dataflow.ipynb"
PICTURE = REPOSITORY / "build" / "first_dataflow.png"
"""The README's picture, docs/first_dataflow.png, is a copy of this one."""
CELLS_TO_THE_VIEW = 12

COLOURS_OF_BOXES = """() => {
    const canvas = document.querySelector('.dora-view .dora-overlay');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Map();
    for (let at = 0; at < data.length; at += 4) {
        if (!data[at + 3]) continue;
        const colour = data[at] << 16 | data[at + 1] << 8 | data[at + 2];
        colours.set(colour, (colours.get(colour) ?? 0) + 1);
    }
    return [...colours.values()].filter((count) => count > 400).length;
}"""
"""How many colours fill more than 400 pixels of the canvas that lies over the picture: one for each kind of thing
that has a box."""


@pytest.fixture
def tutorial(lab: Lab, page: Page) -> Iterator[Notebook]:
    """A copy of the notebook, beside a copy of the samples, as `dora-nb tutorial` lays them out."""
    samples = lab.folder.parent / "samples"
    if not samples.exists():
        samples.symlink_to(REPOSITORY / "samples")
    shutil.copy(TUTORIAL, lab.folder)
    notebook = Notebook(lab, page, TUTORIAL.name)
    page.set_viewport_size({"width": 1050, "height": 1280})
    notebook.open()
    yield notebook
    lab.end_kernels()


def test_boxes_are_live_under_the_cell(tutorial: Notebook, page: Page) -> None:
    tutorial.command("notebook:clear-all-cell-outputs")
    for index in range(CELLS_TO_THE_VIEW):
        tutorial.run_cell(index)
        tutorial.wait_for_cells()
    page.wait_for_selector(".dora-view[data-seq]")
    page.wait_for_function(f"() => ({COLOURS_OF_BOXES})() >= 4")
    first = int(page.get_attribute(".dora-view", "data-seq") or 0)
    page.wait_for_function(
        f"() => +document.querySelector('.dora-view').dataset.seq > {first + 20}"
    )

    # For the README: the end of the detector's cell, its live line, and the view below.
    page.evaluate("() => document.querySelector('.dora-view').scrollIntoView({ block: 'end' })")
    page.wait_for_function(f"() => ({COLOURS_OF_BOXES})() >= 4")
    PICTURE.parent.mkdir(exist_ok=True)
    page.screenshot(path=PICTURE)
