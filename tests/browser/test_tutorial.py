"""The notebooks as a person sees them: in JupyterLab, with the real engine, live."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyterlab_server import Lab, Notebook
from playwright.sync_api import Page, expect

from ..waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL = REPOSITORY / "notebooks" / "01_first_dataflow.ipynb"
STEERING = REPOSITORY / "notebooks" / "03_see_and_steer.ipynb"
DRIVING = REPOSITORY / "notebooks" / "05_drive_a_rover.ipynb"
PICTURE = REPOSITORY / "build" / "first_dataflow.png"
"""The guide's first picture, docs/first_dataflow.png, is a copy of this one."""
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

    # For the guide: the end of the detector's cell, its live line, and the view below.
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


SHOW_CELL = """async text => {
    const { content } = window.jupyterapp.shell.currentWidget;
    const index = content.widgets.findIndex(({ model }) => model.sharedModel.source.includes(text));
    await content.scrollToItem(index, 'start');
    return index;
}"""
"""Brings the first cell with that text onto the screen; its number."""
CHANGE_CELL = """([index, old, text]) => {
    const { sharedModel } = window.jupyterapp.shell.currentWidget.content.widgets[index].model;
    sharedModel.setSource(sharedModel.source.replace(old, text));
}"""


@pytest.mark.soak
def test_the_rover_is_steered_stopped_and_taught_while_it_drives(
    open_tutorial: Callable[[Path], Notebook], page: Page
) -> None:
    notebook = open_tutorial(DRIVING)
    page.set_viewport_size({"width": 1050, "height": 1800})
    notebook.run_all()
    notebook.wait_for_cells()

    def wait_for(expression: str) -> None:
        """Until a new message fulfils it: `wheels` is what was sent to them, `pose` what the simulator says."""
        code = (
            "take = lambda topic: get_dataflow().take(topic, 1)[0]['value'].to_pylist()\n"
            f"wheels, (pose,) = take('controller/wheels'), take('rover/pose')\nprint({expression})"
        )
        wait_until(
            lambda: notebook.run_code(code).strip() == "True",
            otherwise=lambda: f"never {expression}: {notebook.run_code('print(wheels, pose)')}",
        )

    page.evaluate(SHOW_CELL, "CameraView(")
    expect(page.locator(".dora-view")).to_have_attribute("data-state", "running")
    page.get_by_label("notebook/reset").click()
    stick = page.get_by_label("notebook/stick")
    stick.focus()
    page.keyboard.down("ArrowLeft")
    wait_for("wheels == [-0.2, 0.2] and pose['turn'] > 1")
    page.keyboard.up("ArrowLeft")
    wait_for("wheels != [-0.2, 0.2]")

    # The stop wins over a stick that is held, and holds until it is released.
    page.keyboard.down("ArrowUp")
    wait_for("wheels == [0.5, 0.5]")
    page.keyboard.press("F8")
    wait_for("wheels == [0.0, 0.0] and abs(pose['speed']) < 0.02")
    page.keyboard.up("ArrowUp")
    wait_for("wheels == [0.0, 0.0] and abs(pose['speed']) < 0.02")
    page.get_by_role("button", name="Release").click()
    wait_for("wheels != [0.0, 0.0]")

    # Back where it sees the ball, it drives forwards, and with the new code backwards.
    page.get_by_label("notebook/reset").click()
    wait_for("pose['speed'] > 0.2")
    cell = page.evaluate(SHOW_CELL, "NEAR = 1000")
    page.evaluate(CHANGE_CELL, [cell, "SPEED = 0.4", "SPEED = -0.4"])
    notebook.run_cell(cell)
    notebook.wait_for_cells()
    wait_for("pose['speed'] < -0.2")
    line = page.locator(".jp-Cell", has_text="SPEED = -0.4").locator(".dora-line")
    expect(line).to_contain_text("in place, state kept")
