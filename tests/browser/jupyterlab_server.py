"""A JupyterLab on loopback, and notebooks in a page of it; used by tests and benchmarks.

The server has folders of its own and a token. `running_lab` ends it and its kernels, and says so
where one of them does not end. What is needed and is not installed is an error that names its package.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page

START_SECS = 60
TIMEOUT_SECS = 45
"""Reached only where something hangs."""
_SWITCHES = ("no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-sync")
_QUIET = ("disable-background-networking", "disable-component-update", "disable-quic")
CHROMIUM_SWITCHES = [f"--{switch}" for switch in (*_SWITCHES, *_QUIET)]


def chromium_path() -> str:
    """Where the system's Chromium is."""
    path = shutil.which("chromium")
    if path is None:
        raise RuntimeError("this needs Chromium: apt-get install chromium")
    return path


# ----- the server


@dataclass(frozen=True)
class Lab:
    """A running server."""

    url: str
    token: str
    folder: Path
    """Where its notebooks are, and what they can import."""

    def request(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECS) as response:
            body = response.read()
        return json.loads(body) if body else None

    def end_kernels(self) -> None:
        for session in self.request("/api/sessions"):
            self.request(f"/api/sessions/{session['id']}", "DELETE")
        for kernel in self.request("/api/kernels"):  # those of Voila have no session
            self.request(f"/api/kernels/{kernel['id']}", "DELETE")


@contextlib.contextmanager
def running_lab(home: Path, folder: Path, *, python: str = sys.executable) -> Iterator[Lab]:
    """A JupyterLab that serves `folder` and keeps all else in `home`; `python` is the Python that has it."""
    lab = Lab(f"http://127.0.0.1:{free_port()}", secrets.token_hex(8), folder)
    log = home / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            _lab_command(lab, python),
            env=_lab_environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_up(lambda: lab.request("/api/status"), server, log, name="JupyterLab")
            yield lab
        finally:
            end_server(server, name="JupyterLab")


def free_port() -> int:
    """A port of loopback that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _lab_command(lab: Lab, python: str) -> list[str]:
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": lab.url.rpartition(":")[2],
        "ServerApp.port_retries": "0",
        "ServerApp.root_dir": str(lab.folder),
        "ServerApp.terminals_enabled": "False",
        "IdentityProvider.token": lab.token,
        "LabApp.expose_app_in_browser": "True",
        "JupyterNotebookApp.expose_app_in_browser": "True",
        "LabApp.news_url": "None",
    }
    return [
        *(python, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def _lab_environment(home: Path) -> dict[str, str]:
    """Nothing of the user's is read or written, and nothing is fetched."""
    settings = home / "settings"
    plugin = settings / "@jupyterlab" / "apputils-extension"
    plugin.mkdir(parents=True)
    no_news = json.dumps({"fetchNews": "false", "checkForUpdates": False})
    (plugin / "notification.jupyterlab-settings").write_text(no_news)
    folders = {
        "HOME": home,
        "IPYTHONDIR": home / "ipython",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": settings,
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    return os.environ | {name: str(folder) for name, folder in folders.items()}


def wait_until_up(
    ask: Callable[[], object], server: subprocess.Popen[bytes], log: Path, *, name: str
) -> None:
    """Asks a server until it answers. RuntimeError, with its log, where it ends or takes too long."""
    deadline = time.monotonic() + START_SECS
    while True:
        try:
            ask()
            return
        except (urllib.error.URLError, OSError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{log.read_text()}") from None
            time.sleep(0.05)  # a server says by nothing but an answer that it is up


def end_server(server: subprocess.Popen[bytes], *, name: str) -> None:
    """Ends it and what it has started, its kernels. What does not end is killed, and is a failure."""
    if server.poll() is not None:
        return  # it did not start, which is an error already
    started = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(TIMEOUT_SECS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    _, left = psutil.wait_procs(started, timeout=TIMEOUT_SECS)
    for process in left:
        process.kill()
    assert not left, f"left behind by {name}: {left}"


# ----- notebooks in it

_KERNEL_IS_IDLE = """() => window.jupyterapp?.shell?.currentWidget
    ?.sessionContext?.session?.kernel?.status === 'idle'"""
_PROMPTS = (
    "() => [...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')].map(e => e.textContent)"
)


class Notebook:
    """A notebook that is open in a page."""

    view = "doc/tree"
    """Where the server shows a notebook alone in JupyterLab."""

    def __init__(self, lab: Lab, page: Page, name: str) -> None:
        self.lab = lab
        self.page = page
        self.path = lab.folder / name

    def open(self, theme: str | None = None) -> None:
        """Opens it, or opens it again as a reload does: what was not saved is lost, the kernel stays."""
        self.page.goto(f"{self.lab.url}/{self.view}/{self.path.name}?token={self.lab.token}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(_KERNEL_IS_IDLE)
        if theme is not None:
            self.command("apputils:change-theme", theme=theme)
            self.page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")

    def command(self, name: str, **arguments: object) -> None:
        """Starts a command of JupyterLab's; its end is for the caller to see."""
        self.page.evaluate(
            "([name, args]) => { window.jupyterapp.commands.execute(name, args); }",
            [name, arguments],
        )

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def run_cell(self, index: int) -> None:
        """Runs one cell, and does not wait."""
        self.page.evaluate(
            """index => { const { content } = window.jupyterapp.shell.currentWidget;
                content.activeCellIndex = index; content.deselectAll(); content.mode = 'command'; }""",
            index,
        )
        self.command("notebook:run-cell")

    def run_code(self, code: str) -> str:
        """Runs code beside the cells, where a test needs to look into the kernel; what it printed."""
        printed: str = self.page.evaluate(
            """async code => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({ code, store_history: false });
                let text = '';
                future.onIOPub = ({ content }) => {
                    text += content.text ?? (content.traceback ?? []).join('\\n');
                };
                await future.done;
                return text;
            }""",
            code,
        )
        return printed

    def prompts(self) -> list[str]:
        """``[3]:`` for a cell that has run, ``[*]:`` for one that runs or waits for its turn."""
        found: list[str] = self.page.evaluate(_PROMPTS)
        return found

    def wait_for_cells(self) -> None:
        """Until no cell runs. The kernel's own status does not tell: widgets' messages change it too."""
        self.page.wait_for_function(f"() => !({_PROMPTS})().includes('[*]:')")

    def wait_for_running(self, index: int) -> None:
        """Until that cell runs, or waits for its turn."""
        self.page.wait_for_function(f"index => ({_PROMPTS})()[index] === '[*]:'", arg=index)

    def interrupt(self) -> None:
        """Ends what a cell is doing, and waits for it."""
        self.command("notebook:interrupt-kernel")
        self.wait_for_cells()

    def save(self) -> dict[str, Any]:
        """Saves it; the file as it is then."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
        content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return content
