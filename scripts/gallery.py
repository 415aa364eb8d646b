"""Takes the pictures of docs/gallery.md: each widget in JupyterLab, in the light and in the dark theme.

    .venv/bin/python scripts/gallery.py [NAME ...]

The robot is that of notebooks/03_see_and_steer.ipynb, with an arm that reads the other controls. Pictures go to
docs/pictures. Take them anew when a widget looks different; a test sees to it that no widget is missing.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import Locator, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "browser"))

from jupyterlab_server import (  # type: ignore[attr-defined]  # noqa: E402 - not the package of that name
    CHROMIUM_SWITCHES,
    Notebook,
    chromium_path,
    running_lab,
)

PICTURES = REPOSITORY / "docs" / "pictures"
TUTORIAL = REPOSITORY / "notebooks" / "03_see_and_steer.ipynb"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
HEIGHT = 1000
MARGIN = 8
TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Shot:
    """A cell, and where its widget draws."""

    cell: str
    root: str
    page_width: int = 800
    scale: float = 1.0
    """Of the picture that is saved: a photograph takes many more bytes than lines and text."""
    settled: str = ""
    """JavaScript: whether the widget shows what its picture is meant to show. `root` is its element."""
    before: str = ""
    """JavaScript, a function of its element: what a person does before."""


GALLERY = {
    "CameraView": Shot(
        'CameraView("camera/image", boxes="finder/box", labels=["found"], events="notebook/picked")',
        ".dora-view",
        scale=0.7,
        settled="root.dataset.seq > 30",
    ),
    "PlotView": Shot(
        'PlotView("finder/pixels", "wheels/drive", panes="each", seconds=10)',
        ".dora-plot",
        settled="performance.now() > 15_000",
    ),
    "FlowView": Shot(
        "FlowView()", ".dora-flow", page_width=1200, settled="root.textContent.includes('/s')"
    ),
    "LogView": Shot(
        "LogView()", ".dora-log", settled="root.textContent.includes('the light is on')"
    ),
    "RecordingView": Shot(
        'RecordingView("run.mcap", ["camera/image", "finder/box", "wheels/drive"])',
        ".dora-rec",
        scale=0.8,
        settled="root.dataset.state === 'paused'",
        before="root => { const slider = root.querySelector('.dora-rec-slider'); slider.focus();"
        " slider.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', shiftKey: true, bubbles: true, composed: true }));"
        " slider.blur(); }",
    ),
    "Slider": Shot('Slider("notebook/tolerance", 0, 300, 60, step=5)', ".dora-slider"),
    "Toggle": Shot('Toggle("notebook/light", value=True)', ".dora-toggle"),
    "Button": Shot('Button("notebook/grasp", "Grasp")', ".dora-control.dora-button"),
    "Select": Shot('Select("notebook/gait", ["walk", "trot", "stand"])', ".dora-select"),
    "Text": Shot('Text("notebook/say")', ".dora-text"),
    "Joystick": Shot('Joystick("notebook/drive")', ".dora-joystick"),
    "Keys": Shot(
        'Keys("notebook/turn", {"w": [1.0, 0.0], "a": [0.0, 1.0], "s": [-1.0, 0.0], "d": [0.0, -1.0]})',
        ".dora-keys",
    ),
    "Gamepad": Shot('Gamepad("notebook/pad")', ".dora-gamepad"),
    "EStop": Shot('EStop("notebook/stop")', ".dora-estop"),
    "publish": Shot(
        "from ipywidgets import FloatSlider\n\n"
        'gain = FloatSlider(description="gain", value=1.0, max=4.0)\n'
        'publish(gain, "notebook/gain")\n'
        "gain",
        ".widget-slider",
    ),
}
"""By name of a widget, in the order of the page."""

_ARM_READS = ("light", "grasp", "gait", "say", "drive", "turn", "pad", "gain")
_ARM = f"""\
%%dora_operator arm --inputs {" ".join(f"{name}=notebook/{name}" for name in _ARM_READS)}
import logging


class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT" and dora_event["id"] == "light":
            print("the light is", "on" if dora_event["value"][0].as_py() else "off")
            logging.warning("the battery is at 20 percent")
"""
_RECORD = """\
import time

%dora record run.mcap
time.sleep(6)
%dora record stop"""


def notebook_cells() -> list[str]:
    """The robot, a cell for each widget, and the start."""
    tutorial = nbformat.read(TUTORIAL, as_version=4)
    robot = [cell.source for cell in tutorial.cells if "%dora_operator" in cell.source]
    shown = [f"from dora_nb import {name}\n{shot.cell}" for name, shot in GALLERY.items()]
    return ["%load_ext dora_nb", *robot, _ARM, "%dora start", _RECORD, *shown]


def take(widget: Locator, scale: float) -> bytes:
    """The PNG of a widget with a margin, with 256 colours."""
    picture = Image.open(io.BytesIO(widget.screenshot())).convert("RGB")
    if scale != 1.0:
        width, height = picture.size
        size = round(width * scale), round(height * scale)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    ground = picture.crop((picture.width - 1, 0, picture.width, 1)).resize(
        (picture.width + 2 * MARGIN, picture.height + 2 * MARGIN)
    )
    ground.paste(picture, (MARGIN, MARGIN))
    # An octree keeps the colours of small things, such as a cube, which a median cut mixes up.
    picture = ground.quantize(256, Image.Quantize.FASTOCTREE)
    small = io.BytesIO()
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> None:
    """Shows all widgets, and writes two pictures of each that is named, or of all."""
    names = sys.argv[1:] or [*GALLERY]
    unknown = [name for name in names if name not in GALLERY]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}. There are: {', '.join(GALLERY)}")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home, notebooks = Path(folder, "home"), Path(folder, "notebooks")
        home.mkdir()
        notebooks.mkdir()
        Path(folder, "samples").symlink_to(REPOSITORY / "samples")
        cells = [nbformat.v4.new_code_cell(cell) for cell in notebook_cells()]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebooks / "gallery.ipynb"
        )
        with running_lab(home, notebooks) as lab, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=chromium_path(), args=CHROMIUM_SWITCHES
            )
            page = chromium.new_page()
            page.set_default_timeout(TIMEOUT_MS)
            notebook = Notebook(lab, page, "gallery.ipynb")
            notebook.open()
            notebook.run_all()
            notebook.wait_for_cells()
            for theme, called in THEMES.items():
                notebook.command("apputils:change-theme", theme=called)
                page.wait_for_selector(f"body[data-jp-theme-name='{called}']", state="attached")
                for name in names:
                    shot = GALLERY[name]
                    widget = page.locator(shot.root).last
                    page.set_viewport_size({"width": shot.page_width, "height": HEIGHT})
                    widget.evaluate("root => root.scrollIntoView({ block: 'center' })")
                    if shot.before:
                        widget.evaluate(shot.before)
                    if shot.settled:
                        page.wait_for_function(
                            f"root => {shot.settled}", arg=widget.element_handle()
                        )
                    page.wait_for_timeout(500)  # live lines are drawn twice a second
                    png = take(widget, shot.scale)
                    (PICTURES / f"{name}_{theme}.png").write_bytes(png)
                    print(f"{name}_{theme}.png: {len(png) / 1e3:.0f} kB")
            chromium.close()
            lab.end_kernels()


if __name__ == "__main__":
    main()
