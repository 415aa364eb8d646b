"""Films notebooks/05_drive_a_rover.ipynb in JupyterLab: the rover finds a ball, is steered, and is edited.

    .venv/bin/python scripts/moving_picture.py

Writes docs/pictures/rover.webp, which README.md shows; `make picture` calls it. Film it on an idle machine, and
look at it. The soak test tests/browser/test_moving_picture.py films it too.
"""

from __future__ import annotations

import io
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, ViewportSize, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "browser"))

from jupyterlab_server import (  # type: ignore[attr-defined]  # noqa: E402 - not the package of that name
    CHROMIUM_SWITCHES,
    Notebook,
    chromium_path,
    running_lab,
)

PICTURE = REPOSITORY / "docs" / "pictures" / "rover.webp"
TUTORIAL = REPOSITORY / "notebooks" / "05_drive_a_rover.ipynb"
NOTEBOOK_NAME = "drive_a_rover.ipynb"
SHOWN: FloatRect = {"x": 33, "y": 88, "width": 800, "height": 640}
"""The notebook, without the menus and bars around it."""
PAGE_SIZE: ViewportSize = {"width": 866, "height": 752}
FRAME_SECS = 0.125
MAX_FRAME_SECS = 0.3
"""A picture that took longer to take, on a busy machine, is not shown for longer."""
LAST_FRAME_MS = 1_500
TIMEOUT_MS = 60_000
MOST_BYTES = 2_000_000
QUALITIES = (75, 60, 45, 30)
"""Of the WebP: the first that is small enough."""

VIEW = """\
from dora_nb import CameraView, Joystick
from ipywidgets import HBox, Layout

view = CameraView("rover/image", boxes="detector/box", labels=["ball"])
stick = Joystick("notebook/stick")
view.layout, stick.layout = Layout(width="460px"), Layout(width="220px")
HBox([view, stick])"""
_WIDTH = """\
from dora_nb import get_dataflow
def ball_width():
    box = get_dataflow().take("detector/box", 1)[0]["value"].to_pylist()
    return box[2] - box[0] if box else 0
"""
AT_THE_BALL = f"{_WIDTH}while ball_width() < 230: pass"
BALL_IS_SMALLER = f"{_WIDTH}while ball_width() > 190: pass"
PUSHING = f"{_WIDTH}while ball_width() < 300: pass"
TO_THE_START = "import pyarrow as pa\nget_dataflow().send('notebook/reset', pa.array([True]))"

_OVERLAY = """() => {
    const caption = document.createElement('div');
    caption.id = 'film-caption';
    caption.style.cssText = `position: fixed; right: 53px; bottom: 44px; z-index: 99999; padding: 8px 16px;
        border-radius: 8px; background: #1f2937; color: white; font: 600 18px sans-serif`;
    const pointer = document.createElement('div');
    pointer.style.cssText = `position: fixed; z-index: 99999; width: 18px; height: 18px; margin: -9px;
        border-radius: 50%; background: #f59e0bb0; border: 2px solid #92400e; pointer-events: none; left: -50px`;
    document.body.append(caption, pointer);
    addEventListener('pointermove', ({ clientX, clientY }) => {
        pointer.style.left = `${clientX}px`; pointer.style.top = `${clientY}px`; }, true);
}"""
"""What a screenshot lacks: the pointer of the mouse, and a line that says what happens."""
_START_CODE = """code => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    window.filmedScene = 'running';
    kernel.requestExecute({ code, store_history: false }).done.then(
        ({ content }) => { window.filmedScene = content.status; });
}"""


class Film:
    """Pictures of a page, each with the time when it was taken."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.frames: list[Image.Image] = []
        self.times: list[float] = []

    def caption(self, text: str) -> None:
        print(text, flush=True)
        self._page.evaluate(
            "text => { document.getElementById('film-caption').textContent = text; }", text
        )

    def shoot(self, count: int = 1) -> None:
        """Takes pictures, at most one each FRAME_SECS."""
        for _ in range(count):
            if self.times:
                left = self.times[-1] + FRAME_SECS - time.monotonic()
                self._page.wait_for_timeout(max(left, 0) * 1000)
            self.times.append(time.monotonic())
            png = self._page.screenshot(caret="initial", clip=SHOWN)
            self.frames.append(Image.open(io.BytesIO(png)).convert("RGB"))

    def shoot_until(self, code: str) -> None:
        """Takes pictures while the code, beside the cells, runs in the kernel."""
        self._page.evaluate(_START_CODE, code)
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while (state := self._page.evaluate("() => window.filmedScene")) == "running":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the rover did not do what the film waits for: {code}")
            self.shoot()
        if state != "ok":
            raise RuntimeError(f"the kernel could not run: {code}")

    def encoded(self) -> bytes:
        """The animated WebP, below MOST_BYTES; it repeats for ever."""
        gaps = [later - earlier for earlier, later in itertools.pairwise(self.times)]
        millis = [*(round(1000 * min(gap, MAX_FRAME_SECS)) for gap in gaps), LAST_FRAME_MS]
        for quality in QUALITIES:
            data = io.BytesIO()
            first, *others = self.frames
            first.save(
                data,
                "WEBP",
                save_all=True,
                append_images=others,
                duration=millis,
                loop=0,
                quality=quality,
                method=4,
            )
            if data.tell() < MOST_BYTES:
                return data.getvalue()
        raise RuntimeError(f"{len(self.frames)} pictures do not fit into {MOST_BYTES} bytes")


def notebook_cells() -> list[str]:
    """The tutorial's cells, with the view above the controller, so that one page shows both."""
    tutorial = nbformat.read(TUTORIAL, as_version=4)
    cells = [cell.source for cell in tutorial.cells if cell.cell_type == "code"]

    def declaring(name: str) -> Any:
        return next(cell for cell in cells if f"%dora_operator {name} " in cell.splitlines()[0])

    names = ("rover", "detector", "controller")
    rover, detector, controller = (declaring(name) for name in names)
    return ["%load_ext dora_nb", rover, detector, VIEW, controller, "%dora start"]


VIEW_CELL, CONTROLLER_CELL = 3, 4


def write_notebook(folder: Path) -> None:
    """Writes the notebook into a folder that has the samples beside it."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in notebook_cells()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    document = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(document, folder / NOTEBOOK_NAME)


def film(notebook: Notebook, page: Page) -> Film:
    """Films the notebook, once it is open. Raises RuntimeError if the rover does not do what is shown."""
    page.set_viewport_size(PAGE_SIZE)
    notebook.run_all()
    notebook.wait_for_cells()
    page.evaluate(_OVERLAY)
    view = page.locator(".jp-Notebook .jp-Cell").nth(VIEW_CELL).locator(".jp-Cell-outputWrapper")
    view.evaluate("element => element.scrollIntoView({ block: 'start' })")
    # A view that is out of sight draws nothing, so it is scrolled to first.
    page.wait_for_selector(".dora-view[data-seq]")
    taken = Film(page)

    taken.caption("It finds the ball and drives to it")
    notebook.run_code(f"{_WIDTH}{TO_THE_START}")
    taken.shoot_until(AT_THE_BALL)
    taken.shoot(4)

    taken.caption("Steer it with the joystick")
    middle = _middle_of(page.locator(".dora-joystick-pad"))
    page.mouse.move(*middle)
    taken.shoot(2)
    page.mouse.down()
    for step in range(1, 7):
        page.mouse.move(middle[0] + step, middle[1] + 8 * step)
        taken.shoot()
    taken.shoot_until(BALL_IS_SMALLER)
    page.mouse.up()
    taken.caption("Let go: it finds the ball again")
    taken.shoot_until(AT_THE_BALL)

    taken.caption("Edit its code while it drives")
    number = (
        page.locator(".jp-Notebook .jp-Cell").nth(CONTROLLER_CELL).get_by_text("240", exact=True)
    )
    page.mouse.move(*_middle_of(number))
    taken.shoot(3)
    number.dblclick()
    taken.shoot(2)
    page.mouse.move(*middle)  # off the number that is typed
    for digit in "1000":
        page.keyboard.type(digit)
        taken.shoot()
    taken.caption("Run the cell: now it pushes the ball")
    page.keyboard.press("Control+Enter")
    taken.shoot_until(PUSHING)
    taken.shoot(16)
    return taken


def _middle_of(element: Locator) -> tuple[float, float]:
    box = element.first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def main() -> None:
    """Films it in a JupyterLab and a Chromium of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home, notebooks = Path(folder, "home"), Path(folder, "notebooks")
        home.mkdir()
        notebooks.mkdir()
        Path(folder, "samples").symlink_to(REPOSITORY / "samples")
        write_notebook(notebooks)
        with running_lab(home, notebooks) as lab, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=chromium_path(), args=CHROMIUM_SWITCHES
            )
            page = chromium.new_page()
            page.set_default_timeout(TIMEOUT_MS)
            notebook = Notebook(lab, page, NOTEBOOK_NAME)
            notebook.open()
            try:
                taken = film(notebook, page)
            except Exception:
                (REPOSITORY / "build").mkdir(exist_ok=True)
                page.screenshot(path=REPOSITORY / "build" / "moving_picture.png")
                raise
            data = taken.encoded()
            PICTURE.write_bytes(data)
            print(f"{PICTURE.name}: {len(taken.frames)} pictures, {len(data) / 1e3:.0f} kB")
            chromium.close()
            lab.end_kernels()


if __name__ == "__main__":
    main()
