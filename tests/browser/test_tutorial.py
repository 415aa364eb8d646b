"""The notebooks as a person sees them: in JupyterLab, with the real engine, live."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyterlab_server import Lab, Notebook
from playwright.sync_api import Page, expect

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL = REPOSITORY / "notebooks" / "01_first_dataflow.ipynb"
STEERING = REPOSITORY / "notebooks" / "03_see_and_steer.ipynb"
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
def open_tutorial(lab: Lab, page: Page) -> Iterator[Callable[[Path], Notebook]]:
    """Opens a copy of a notebook, beside a copy of the samples, as `dora-nb tutorial` lays them out."""

    def open_it(path: Path) -> Notebook:
        samples = lab.folder.parent / "samples"
        if not samples.exists():
            samples.symlink_to(REPOSITORY / "samples")
        shutil.copy(path, lab.folder)
        notebook = Notebook(lab, page, path.name)
        page.set_viewport_size({"width": 1050, "height": 1280})
        notebook.open()
        return notebook

    yield open_it
    lab.end_kernels()


def test_boxes_are_live_under_the_cell(
    open_tutorial: Callable[[Path], Notebook], page: Page
) -> None:
    tutorial = open_tutorial(TUTORIAL)
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


GREEN = """() => {
    const canvas = document.querySelector('.dora-view .dora-picture');
    const { width, height } = canvas;
    if (!width || !height) return null;
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    const found = [];
    for (let at = 0; at < data.length; at += 4) {
        const [red, green, blue] = data.slice(at, at + 3);
        if (green > red + 90 && green > blue + 50) found.push(at / 4);
    }
    if (found.length < 50) return null;
    const { left, top } = canvas.getBoundingClientRect();
    const scale = canvas.getBoundingClientRect().width / width;
    const mean = (place) => found.reduce((sum, at) => sum + place(at), 0) / found.length;
    return [left + scale * mean((at) => at % width), top + scale * mean((at) => Math.floor(at / width))];
}"""
"""Where on the page the middle of the green cube is; null before it is drawn."""


LOGS = "for line in get_dataflow().logs('finder'): print(line.text)"


@pytest.mark.soak
def test_the_robot_is_steered_by_click_slider_and_key(
    open_tutorial: Callable[[Path], Notebook], page: Page
) -> None:
    notebook = open_tutorial(STEERING)
    notebook.run_all()
    notebook.wait_for_cells()

    def wait_for(code: str, condition: Callable[[str], bool]) -> None:
        """Until what that code prints in the kernel is so."""
        while not condition(notebook.run_code(code).strip()):
            page.wait_for_timeout(50)

    def newest(topic: str) -> str:
        return f"print(get_dataflow().take({topic!r}, 1)[0]['value'].to_pylist())"

    expect(page.locator(".dora-plot")).to_have_attribute("data-state", "running")
    view = page.locator(".dora-view")
    view.scroll_into_view_if_needed()
    expect(view).to_have_attribute("data-state", "running")
    # The cube moves: on a busy machine a click may come too late, and is made again.
    found: tuple[int, ...] = (0, 0, 0)
    while found[1] <= max(found[0], found[2]):
        num_clicks = len(re.findall("looking", notebook.run_code(LOGS)))
        page.mouse.click(*page.wait_for_function(GREEN).json_value())
        wait_for(LOGS, lambda text, before=num_clicks: text.count("looking") > before)
        last = notebook.run_code(LOGS).splitlines()[-1]
        found = tuple(int(part) for part in re.findall(r"\d+", last))
    wait_for(newest("finder/pixels"), lambda text: text != "[0]")

    page.get_by_label("notebook/tolerance").press("Home")
    wait_for(newest("finder/pixels"), lambda text: text == "[0]")
    page.get_by_label("notebook/tolerance").press("End")
    wait_for(newest("wheels/drive"), lambda text: text.startswith("[0.5, "))

    page.keyboard.press("F8")
    wait_for(newest("wheels/drive"), lambda text: text == "[0.0, 0.0]")
    page.get_by_role("button", name="Release").click()
    wait_for(newest("wheels/drive"), lambda text: text.startswith("[0.5, "))
