"""Fixtures for tests in a real browser: Chromium, a JupyterLab on loopback, and notebooks in it.

`lab` is a JupyterLab server with folders of its own and a token; it and its kernels are gone after the
session. `notebook` writes cells to a file, opens it in a page and is a `Notebook`, which runs cells
and waits. `page` is a tab of Chromium; an error in a page's script fails the test. Tests without JupyterLab
share one tab; a test that changes it for good (a clock of its own, an init script) takes `fresh_page`.
What a test needs and is not installed is an error that names its package, never a skip.
"""

from __future__ import annotations

import contextlib
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from camera_page import CameraPage
from jupyterlab_server import CHROMIUM_SWITCHES, Lab, Notebook, chromium_path, running_lab
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from dora_nb.widgets.camera import CameraView

TIMEOUT_MS = 30_000
"""Only reached by what hangs; this machine may be busy."""
expect.set_options(timeout=TIMEOUT_MS)
FAKE_DATAFLOW = Path(__file__).parents[1] / "widgets" / "fake_dataflow.py"


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """Nothing of ours runs in this process, and a browser and its driver start what they like.

    What matters is that JupyterLab and its kernels end: `lab` sees to that itself.
    """
    return ()


# ----- Chromium


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """The system's Chromium: Playwright's own build would have to be downloaded."""
    return {"executable_path": chromium_path(), "headless": True, "args": CHROMIUM_SWITCHES}


@pytest.fixture(scope="session")
def browser_context_args() -> dict[str, Any]:
    return {"viewport": {"width": 1000, "height": 900}, "service_workers": "block"}


@pytest.fixture(scope="session")
def shared_tabs() -> list[Page]:
    """The one tab for all tests that load a page of their own, if there is one just now.

    A new tab takes longer than most of those tests. It ends with the browser.
    """
    return []


@pytest.fixture
def page(
    request: pytest.FixtureRequest,
    browser: Browser,
    browser_context_args: dict[str, Any],
    shared_tabs: list[Page],
) -> Iterator[Page]:
    """The shared tab as if it were new; a test in JupyterLab or with `fresh_page` has a tab of its own."""
    if not _OWN_TAB.isdisjoint(request.fixturenames):
        # Such a test may kill the processes of all tabs.
        while shared_tabs:
            shared_tabs.pop().close()
        with _errors_seen(request.getfixturevalue("page")) as page:
            yield page
        return
    if not shared_tabs:
        shared_tabs.append(browser.new_page(**browser_context_args))
    (tab,) = shared_tabs
    if tab.viewport_size != browser_context_args["viewport"]:
        tab.set_viewport_size(browser_context_args["viewport"])
    with _errors_seen(tab):
        yield tab
    assert not tab.evaluate("() => '__pwClock' in window"), "this test needs `fresh_page`"
    for button in ("left", "right"):
        tab.mouse.up(button=button)


@pytest.fixture
def fresh_page(page: Page) -> Page:
    """A tab that no other test uses."""
    return page


_OWN_TAB = {"lab", "fresh_page"}


@contextlib.contextmanager
def _errors_seen(page: Page) -> Iterator[Page]:
    """The tab with patience, and with the errors of its scripts as failures."""
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    def note_of_anywidget(message: ConsoleMessage) -> None:
        errors.extend(_anywidget_errors(message))

    page.on("pageerror", note)
    page.on("console", note_of_anywidget)
    page.set_default_timeout(TIMEOUT_MS)
    yield page
    page.remove_listener("pageerror", note)
    page.remove_listener("console", note_of_anywidget)
    assert not errors


def _anywidget_errors(message: ConsoleMessage) -> list[str]:
    """anywidget catches what a widget throws, and only writes it to the console."""
    return [message.text] if message.type == "error" and "anywidget" in message.text else []


# ----- JupyterLab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab for all tests, on a free port of loopback."""
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copy(FAKE_DATAFLOW, folder / "fake_dataflow.py")
    with running_lab(tmp_path_factory.mktemp("lab-home"), folder) as lab:
        yield lab
        lab.end_kernels()


@pytest.fixture
def open_notebook(lab: Lab, page: Page) -> Iterator[Callable[..., Notebook]]:
    """``open_notebook("name.ipynb", [cells])`` writes a notebook and opens it; its kernel ends after."""

    def open_it(name: str, cells: list[str], theme: str | None = None) -> Notebook:
        document = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(document, lab.folder / name)
        notebook = Notebook(lab, page, name)
        notebook.open(theme)
        return notebook

    yield open_it
    lab.end_kernels()


# ----- a page without Jupyter

STATIC_PAGE = Path(__file__).parent / "static"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """A test's output is no place for requests."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serves tests/browser/static together with the code that a page loads; its address."""
    folder = tmp_path_factory.mktemp("site")
    for source in STATIC_PAGE.iterdir():
        shutil.copy(source, folder / source.name)
    traits = CameraView.class_traits()
    for name, text in (("camera.js", traits["_esm"]), ("camera.css", traits["_css"])):
        (folder / name).write_text(text.default_value)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, name="site")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ----- camera.js on a page of its own


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all these tests, since a new one takes longer than most of them."""
    tab = browser.new_page(viewport={"width": 1000, "height": 900})
    yield tab
    tab.close()


@pytest.fixture
def empty_page(tab: Page, site: str) -> Iterator[Page]:
    """The page loaded anew, before the widget starts; errors of its scripts are failures."""
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    tab.on("pageerror", note)
    tab.goto(f"{site}/camera.html")
    tab.wait_for_function("() => window.ready")
    yield tab
    tab.remove_listener("pageerror", note)
    assert not errors


@pytest.fixture
def camera(empty_page: Page) -> CameraPage:
    empty_page.evaluate("() => start()")
    return CameraPage(empty_page)
