"""Measures the way from `pip install` to live boxes: a wheel, an empty environment, and three cells.

    .venv/bin/python scripts/first_minute.py [--index-url URL]

The clock starts when pip does, and stops when Chromium shows the first picture with a box on it. The wheel of dora_nb
is built before, and pip's cache is warm if an earlier run filled it: the first run of all is not the figure.
`--index-url` is where pip takes torch from, before the rest, as `make demo TORCH_INDEX=URL` does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "browser"))

from jupyterlab_server import (  # type: ignore[attr-defined]  # noqa: E402 - not the package of that name
    CHROMIUM_SWITCHES,
    Notebook,
    chromium_path,
    running_lab,
)

CONSTRAINTS = REPOSITORY / "constraints.txt"
NOTEBOOK_NAME = "first_minute.ipynb"
TIMEOUT_MS = 120_000
TUTORIAL = REPOSITORY / "notebooks" / "01_first_dataflow.ipynb"
CAMERA = """\
%load_ext dora_nb
%dora_operator camera ../samples/camera.py --inputs tick=dora/timer/hz/30 --outputs image --env CAMERA_SOURCE=scene"""
VIEW = """\
from dora_nb import CameraView

%dora start
CameraView("camera/image", boxes="detector/bbox")"""
BOX_IS_SHOWN = """() => {
    const canvas = document.querySelector('.dora-view[data-seq] .dora-overlay');
    if (!canvas?.width || !canvas?.height) return false;
    return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
}"""


def three_cells() -> list[str]:
    """The camera, the detector of the first notebook, and the view."""
    tutorial = nbformat.read(TUTORIAL, as_version=4)
    detectors = (cell.source for cell in tutorial.cells if "%dora_operator detector" in cell.source)
    return [CAMERA, next(detectors), VIEW]


class Clock:
    """How long each part took."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.parts[name] = time.monotonic() - begin

    def table(self) -> str:
        """The parts and their sum, as a table in Markdown."""
        rows = [*self.parts.items(), ("all", sum(self.parts.values()))]
        lines = [f"| {name} | {secs:.1f} s |" for name, secs in rows]
        return "\n".join(["| part | time |", "| --- | --- |", *lines])


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this tree with the installed build backend."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(REPOSITORY)], check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(python: Path, wheel: Path, index_url: str) -> None:
    """Installs the wheel with what the tutorial needs, and torch from its own index first if there is one."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["-c", str(CONSTRAINTS)]
    if index_url:
        subprocess.run([*pip, "--index-url", index_url, "--no-deps", "torch"], check=True)
    subprocess.run([*pip, f"dora-nb[tutorial] @ {wheel.as_uri()}"], check=True)


def main() -> None:
    """Prints the time of each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--index-url", default="", help="where pip takes torch from")
    index_url = parser.parse_args().index_url
    # What runs in the new environment must not see this tree.
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), Clock()
        wheel = build_wheel(folder / "dist")
        python = folder / "environment" / "bin" / "python"
        venv.create(folder / "environment", with_pip=True)
        with clock.part("`pip install`"):
            install(python, wheel, index_url)
        home, tutorial = folder / "home", folder / "tutorial"
        home.mkdir()
        with clock.part("`dora-nb tutorial`"):
            command = [str(python.parent / "dora-nb"), "tutorial", str(tutorial)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        cells = [nbformat.v4.new_code_cell(cell) for cell in three_cells()]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        document = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
        nbformat.write(document, tutorial / "notebooks" / NOTEBOOK_NAME)
        with contextlib.ExitStack() as stack:
            playwright = stack.enter_context(sync_playwright())
            chromium = playwright.chromium.launch(
                executable_path=chromium_path(), args=CHROMIUM_SWITCHES
            )
            # All three cells fit on it: JupyterLab draws no output that is out of sight.
            page = chromium.new_page(viewport={"width": 1050, "height": 2000})
            page.set_default_timeout(TIMEOUT_MS)
            with clock.part("JupyterLab starts"):
                lab = stack.enter_context(
                    running_lab(home, tutorial / "notebooks", python=str(python))
                )
            notebook = Notebook(lab, page, NOTEBOOK_NAME)
            with clock.part("the notebook opens, with a kernel"):
                notebook.open()
            with clock.part("three cells, to the first box"):
                notebook.run_all()
                page.wait_for_function(BOX_IS_SHOWN)
            chromium.close()
            lab.end_kernels()
    print(clock.table())
    load = os.getloadavg()[0]
    about = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"\nMeasured on {datetime.now(UTC):%Y-%m-%d}: {about}; load {load:.1f} at the end.")


if __name__ == "__main__":
    main()
