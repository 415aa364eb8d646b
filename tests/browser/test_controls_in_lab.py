"""Controls in JupyterLab: what a person does on the page reaches an operator, also while a cell runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect

from ..waiting import wait_until

OpenNotebook = Callable[..., Any]

ARM = """\
%%dora_operator arm --inputs speed=notebook/speed stick=notebook/stick stop=notebook/stop picked=notebook/picked --outputs image
import numpy as np

class Operator:
    def __init__(self):
        self.heard = open("heard.txt", "a")

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            why = dora_event["metadata"].get("neutral", "")
            print(dora_event["id"], dora_event["value"].to_pylist(), why, file=self.heard, flush=True)
        if dora_event["id"] == "speed":
            size = {"width": 64, "height": 48, "encoding": "mono8"}
            send_output("image", np.full(64 * 48, 90, np.uint8), size)
"""
CONTROLS = """\
from dora_nb import Joystick, Slider
from IPython.display import display
display(Slider("notebook/speed", 0, 10, step=1), Joystick("notebook/stick"))
"""
PICTURE = """\
from dora_nb import CameraView
CameraView("arm/image", events="notebook/picked")
"""
BUSY = "import time; time.sleep(600)"


class Heard:
    """What the operator has received."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "heard.txt"
        self._path.unlink(missing_ok=True)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def picked(self) -> tuple[float, float] | None:
        """Where the last click was."""
        found = [
            re.match(r"picked \[\{'kind': 'click', 'x1': ([\d.]+), 'y1': ([\d.]+),", line)
            for line in self.lines()
        ]
        return next(((float(each[1]), float(each[2])) for each in reversed(found) if each), None)

    def wait_for(self, *lines: str, among: int | None = None) -> None:
        """Waits until those lines have come, in this order; `among`: only look at lines after so many."""

        def came() -> bool:
            rest = iter([line.strip() for line in self.lines()[among or 0 :]])
            return all(line in rest for line in lines)

        wait_until(came, otherwise=lambda: self.lines()[-20:])


@pytest.fixture
def heard(lab: Any) -> Heard:
    return Heard(lab.folder)


def test_slider_and_joystick_drive_an_operator_while_a_cell_runs(
    open_notebook: OpenNotebook, page: Page, heard: Heard
) -> None:
    page.set_viewport_size({"width": 1000, "height": 1800})
    notebook = open_notebook(
        "controls.ipynb", ["%load_ext dora_nb", ARM, CONTROLS, "%dora start", PICTURE, BUSY]
    )
    notebook.run_all()
    notebook.wait_for_running(5)
    expect(page.locator(".dora-slider .dora-control-text")).to_have_text("read by arm")
    heard.wait_for("speed [0]", "stick [0.0, 0.0] idle")

    page.get_by_label("notebook/speed").press("ArrowRight")
    heard.wait_for("speed [1]")
    expect(page.locator(".dora-slider .dora-control-value")).to_have_text("1")
    pad = page.get_by_label("notebook/stick")
    pad.focus()
    page.keyboard.down("ArrowUp")
    heard.wait_for("stick [0.0, 1.0]", "stick [0.0, 1.0]", "stick [0.0, 1.0]")  # at its rate
    page.keyboard.up("ArrowUp")
    heard.wait_for("stick [0.0, 1.0]", "stick [0.0, 0.0] released")
    page.locator(".dora-view[data-seq] .dora-picture").click(position={"x": 10, "y": 12})
    wait_until(lambda: heard.picked() is not None, otherwise=lambda: heard.lines()[-20:])
    assert heard.picked() == pytest.approx((10, 12), abs=1)
    assert len(notebook.prompts()) == 6  # no key has reached the notebook
    assert notebook.prompts()[5] == "[*]:"

    # The tab's process is killed while the joystick is held: no page can say anything any more.
    box = pad.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] / 2)
    heard.wait_for("stick [0.0, 0.0] released", "stick [1.0, 0.0]")
    known = len(heard.lines())
    for renderer in renderers():
        renderer.kill()
    heard.wait_for("stick [0.0, 0.0] silent", among=known)


@pytest.mark.soak
def test_slider_and_joystick_drive_an_operator_on_dora_rs(
    open_notebook: OpenNotebook, page: Page, heard: Heard
) -> None:
    page.set_viewport_size({"width": 1000, "height": 1800})
    notebook = open_notebook(
        "controls_on_dora.ipynb",
        ["%load_ext dora_nb", ARM, CONTROLS, "%dora start --engine dora", BUSY],
    )
    notebook.run_all()
    notebook.wait_for_running(4)
    expect(page.locator(".dora-slider .dora-control-text")).to_have_text("read by arm")
    heard.wait_for("speed [0]")

    page.get_by_label("notebook/speed").press("ArrowRight")
    heard.wait_for("speed [1]")
    expect(page.locator(".dora-slider .dora-control-value")).to_have_text("1")
    pad = page.get_by_label("notebook/stick")
    pad.focus()
    page.keyboard.down("ArrowUp")
    heard.wait_for("stick [0.0, 1.0]", "stick [0.0, 1.0]", "stick [0.0, 1.0]")  # at its rate
    page.keyboard.up("ArrowUp")
    heard.wait_for("stick [0.0, 1.0]", "stick [0.0, 0.0] released")

    # Held again, and its tab is killed.
    known = len(heard.lines())
    page.keyboard.down("ArrowUp")
    heard.wait_for("stick [0.0, 1.0]", among=known)
    for renderer in renderers():
        renderer.kill()
    heard.wait_for("stick [0.0, 1.0]", "stick [0.0, 0.0] silent", among=known)


STOPS = """\
from dora_nb import EStop
from IPython.display import display
display(EStop("notebook/stop"), EStop(key="F9"))
"""


@pytest.mark.soak
def test_an_estop_works_while_a_cell_runs(
    open_notebook: OpenNotebook, page: Page, heard: Heard
) -> None:
    page.set_viewport_size({"width": 1000, "height": 1800})
    notebook = open_notebook(
        "estop.ipynb",
        ["%load_ext dora_nb", ARM, STOPS, "%dora start", BUSY],
        theme="JupyterLab Dark",
    )
    notebook.run_all()
    notebook.wait_for_running(4)
    heard.wait_for("stop [False]")
    latching, stopping = page.locator(".dora-estop").all()
    expect(latching.locator(".dora-control-text")).to_have_text("read by arm")
    # The first words of the page may have come before its subshell: it asks until it is sure.
    for button in (latching, stopping):
        expect(button.locator(".dora-estop-warning")).to_be_hidden()

    page.keyboard.press("F8")
    heard.wait_for("stop [False]", "stop [True]")
    expect(latching.get_by_role("alert").first).to_have_text("pressed: True is sent")
    latching.get_by_role("button", name="Release").click()
    heard.wait_for("stop [True]", "stop [False]")

    page.keyboard.press("F9")
    expect(stopping.get_by_role("alert").first).to_have_text("the dataflow was stopped")
    expect(page.locator(".dora-line-state")).to_have_text("stopped")
    assert notebook.prompts()[4] == "[*]:"
    notebook.interrupt()
    assert notebook.run_code("import dora_nb; print(dora_nb.get_dataflow().running)") == "False\n"


def renderers() -> list[psutil.Process]:
    """The processes of this test's Chromium that run pages."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "--type=renderer" in process.cmdline()
    ]
