"""The same widgets in each front end, and servers of those that JupyterLab's server does not bring."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from jupyterlab_server import TIMEOUT_SECS, end_server, free_port, wait_until_up

ARM = """\
import numpy as np
import pyarrow as pa

class Operator:
    def __init__(self):
        self.heard = open("heard.txt", "a")

    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            return
        if dora_event["id"] == "speed":
            why = dora_event["metadata"].get("neutral", "")
            print("speed", dora_event["value"].to_pylist(), why, file=self.heard, flush=True)
            print("heard", dora_event["value"].to_pylist(), flush=True)
        else:
            send_output("angle", pa.array([1.0]), {})
            image = np.full((60, 80, 3), (200, 30, 30), np.uint8)
            shape = {"width": 80, "height": 60, "encoding": "rgb8"}
            send_output("image", pa.array(image.ravel()), shape)
"""
WIDGETS = (
    'CameraView("arm/image"{})',
    'PlotView("arm/angle", seconds=5{})',
    "FlowView({})",
    "LogView({})",
    'Slider("notebook/speed", 0, 10, step=1{})',
    'Toggle("notebook/on"{})',
    'Button("notebook/go"{})',
    'Select("notebook/mode", ["a", "b"]{})',
    'Text("notebook/say"{})',
    'Joystick("notebook/stick"{})',
    'Keys("notebook/keys", {{"w": [1.0, 0.0]}}{})',
    'Gamepad("notebook/pad"{})',
    'EStop("notebook/stop"{})',
)
"""All of them; in the braces, more arguments."""
ROOTS = (
    *(".dora-view", ".dora-plot", ".dora-flow", ".dora-log", ".dora-slider", ".dora-toggle"),
    *(".dora-control.dora-button", ".dora-select", ".dora-text", ".dora-joystick", ".dora-keys"),
    *(".dora-gamepad", ".dora-estop"),
)
"""Where each of them draws."""


_SHOW = """\
from dora_nb import *
from IPython.display import display
from ipywidgets import IntSlider
display(
    {widgets},
)
number = IntSlider(description="number")
publish(number, "notebook/number")
number"""


def jupyter_cells() -> list[str]:
    """The cells of a notebook: magics, and the widgets all below one cell."""
    header = "%%dora_operator arm --inputs speed=notebook/speed tick=dora/timer/hz/5 --outputs angle image"
    shown = ",\n    ".join(each.format("") for each in WIDGETS)
    return [
        "%load_ext dora_nb",
        f"{header}\n{ARM}",
        _SHOW.format(widgets=shown),
        "%dora start",
    ]


def marimo_notebook() -> str:
    """The file of a marimo notebook: a `Dataflow` made in Python, and each widget below a cell of its own."""
    cells = [
        ("", "import dora_nb\nimport marimo as mo", "dora_nb, mo"),
        ("dora_nb", f'dataflow = dora_nb.Dataflow()\narm = """\n{ARM}"""\n{_ADD_ARM}', "dataflow"),
        *(("dora_nb, dataflow", f"dora_nb.{_with_dataflow(each)}", "") for each in WIDGETS),
        ("mo", 'begin = mo.ui.run_button(label="Begin")\nbegin', "begin"),
        ("mo, begin, dataflow", "mo.stop(not begin.value)\ndataflow.start()", ""),
    ]
    parts = ["import marimo\n\napp = marimo.App()\n"]
    of_arm = set(ARM.splitlines())
    for takes, body, gives in cells:
        # The operator's text is not indented, as it is no part of the function's code.
        lines = [line if line in of_arm else f"    {line}" for line in body.splitlines()]
        returned = f"({gives},)" if gives else ""
        parts.append(
            "\n".join(["\n@app.cell", f"def _({takes}):", *lines, f"    return {returned}\n"])
        )
    return "".join(parts)


_ADD_ARM = """\
dataflow.add_operator(
    "arm",
    arm,
    inputs={"speed": "notebook/speed", "tick": "dora/timer/hz/5"},
    outputs=["angle", "image"],
)"""


def _with_dataflow(widget: str) -> str:
    separator = "" if "({}" in widget else ", "
    return widget.format(f"{separator}dataflow=dataflow")


@contextlib.contextmanager
def running_marimo(home: Path, notebook: Path, mode: str) -> Iterator[str]:
    """A server of marimo for one notebook, which runs in its folder; its address. `mode`: ``edit`` or ``run``."""
    settings = home / "config" / "marimo"
    settings.mkdir(parents=True)
    # An editor runs nothing by itself unless it is told to.
    (settings / "marimo.toml").write_text("[runtime]\nauto_instantiate = true\n")
    port = free_port()
    log = home / "marimo.log"
    options = ["--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)]
    options += ["--skip-update-check"] if mode == "edit" else []
    folders = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_STATE_HOME": home / "state"}
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "marimo", "-y", mode, *options, notebook.name],
            cwd=notebook.parent,
            env=os.environ | {name: str(folder) for name, folder in folders.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(lambda: _ask(f"{url}/health"), server, log, name="marimo")
            yield url
        finally:
            end_server(server, name="marimo")


def _ask(url: str) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECS):
        pass
