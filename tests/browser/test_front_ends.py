"""All widgets on one page of each front end: they draw, and a control moves a value into an operator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from front_ends import ROOTS, jupyter_cells, marimo_notebook, running_marimo
from jupyterlab_server import Lab, Notebook
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect

from .test_controls_in_lab import BUSY, Heard

pytestmark = pytest.mark.soak
TIMEOUT_MS = 120_000
"""marimo's editor alone takes 20 s until all cells have run, on a machine that is not busy."""
VIEWPORT = {"width": 1000, "height": 4000}
WAITS = "it waits while a cell runs"


class Notebook7(Notebook):
    view = "notebooks"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab in which an error of a widget's code fails the test. Front ends have errors of their own."""
    page = browser.new_page(viewport=VIEWPORT)
    page.set_default_timeout(TIMEOUT_MS)
    errors: list[str] = []

    def on_error(error: Error) -> None:
        if "blob:" in (error.stack or "") or "dora" in str(error):
            errors.append(error.stack or str(error))

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and "anywidget" in message.text:
            errors.append(message.text)

    page.on("pageerror", on_error)
    page.on("console", on_console)
    yield page
    page.close()
    assert not errors


@pytest.fixture
def heard(lab: Lab) -> Heard:
    return Heard(lab.folder)


@pytest.fixture
def notebook_name(lab: Lab) -> Iterator[str]:
    """A notebook with all widgets, in the server's folder."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in jupyter_cells()]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    document = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(document, lab.folder / "everything.ipynb")
    yield "everything.ipynb"
    lab.end_kernels()


def check_all_draw(page: Page) -> None:
    for root in ROOTS:
        widget = page.locator(root)
        expect(widget).to_have_count(1)
        expect(widget).to_be_visible()
        # Another widget's CSS could cut it off.
        cut_px = widget.evaluate("root => root.scrollHeight - root.getBoundingClientRect().height")
        assert cut_px < 2, (root, cut_px)
    expect(page.locator(".dora-view")).to_have_attribute("data-state", "running")
    expect(page.locator(".dora-plot")).to_have_attribute("data-state", "running")
    expect(page.locator(".dora-flow-head")).to_have_text("running: 1 node")
    expect(page.locator(".dora-slider .dora-control-text")).to_contain_text("read by arm")
    # The pixel in the middle of the camera's picture is that of the operator.
    colour = "canvas => [...canvas.getContext('2d').getImageData(40, 30, 1, 1).data]"
    red, green, blue, _ = page.locator(".dora-view canvas").first.evaluate(colour)
    assert (abs(red - 200), abs(green - 30), abs(blue - 30)) < (12, 12, 12)


def check_slider_reaches_operator(page: Page, heard: Heard, value: int) -> None:
    page.locator(".dora-slider input").press("ArrowRight")
    heard.wait_for(f"speed [{value}]")
    expect(page.locator(".dora-slider .dora-control-value")).to_have_text(str(value))
    expect(page.locator(".dora-log-text").last).to_have_text(f"heard [{value}]")


@pytest.mark.parametrize("kind", [Notebook, Notebook7], ids=["JupyterLab", "Notebook 7"])
def test_in_jupyter(
    kind: type[Notebook], lab: Lab, page: Page, notebook_name: str, heard: Heard
) -> None:
    notebook = kind(lab, page, notebook_name)
    notebook.open()
    notebook.run_all()
    page.wait_for_selector(".dora-slider")
    check_all_draw(page)
    check_slider_reaches_operator(page, heard, 1)
    # A subshell takes the page's messages while a cell runs.
    page.evaluate(
        """code => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
            .requestExecute({ code }); }""",
        f"print('busy', flush=True); {BUSY}",
    )
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'busy'"
    )
    check_slider_reaches_operator(page, heard, 2)
    expect(page.locator(".dora-estop-warning")).to_be_empty()


def test_in_voila(lab: Lab, page: Page, notebook_name: str, heard: Heard) -> None:
    page.goto(f"{lab.url}/voila/render/{notebook_name}?token={lab.token}")
    page.wait_for_selector(".dora-slider")
    check_all_draw(page)
    check_slider_reaches_operator(page, heard, 1)
    expect(page.locator(".dora-line-state")).to_have_text("running")


@pytest.mark.parametrize("mode", ["edit", "run"])
def test_in_marimo(mode: str, page: Page, tmp_path: Path) -> None:
    notebook = tmp_path / "everything.py"
    notebook.write_text(marimo_notebook())
    heard = Heard(tmp_path)
    with running_marimo(tmp_path / "home", notebook, mode) as url:
        page.goto(url)
        page.wait_for_selector(".dora-plot-message")
        expect(page.locator(".dora-plot-message")).to_contain_text("start it with dataflow.start()")
        page.wait_for_selector(".dora-estop")
        shown: list[Any] = page.locator(", ".join(ROOTS)).all_inner_texts()
        assert not [text for text in shown if re.search(r"%\w", text)]  # as in %dora
        # Its kernel has one thread for cells and widgets, which each control says before it is used.
        expect(page.locator(".dora-estop-warning")).to_contain_text("lacks subshells")
        page.get_by_role("button", name="Begin").click()
        check_all_draw(page)
        check_slider_reaches_operator(page, heard, 1)
        expect(page.locator(".dora-slider .dora-control-text")).to_contain_text(WAITS)
