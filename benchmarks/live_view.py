"""Measures the delay and the rate of the live view in JupyterLab, by the pixels of the canvas.

    .venv/bin/python benchmarks/live_view.py [--seconds 60] [--json FILE]

A camera sends 640x480 pictures at 30 Hz, each with the time of sending in its pixels. A page of
Chromium reads them from the canvas in every animation frame: a new stamp means that a picture was
drawn, and the difference to the page's clock is its age (both are the machine's wall clock). Three
situations:

=========  =====================================================================================
idle       camera and view; the kernel has nothing to do
cell       the same, while a cell sleeps, as long as it is measured
detector   the tutorial's detector beside it (one torch thread, ``--queue image=1``), boxes drawn
=========  =====================================================================================

It prints a table; nothing here passes or fails. The figures hold for one machine and one run.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tests" / "browser"), str(REPOSITORY / "benchmarks")]

from jupyterlab_server import (  # noqa: E402 - the path above
    CHROMIUM_SWITCHES,
    Lab,
    Notebook,
    chromium_path,
    running_lab,
)
from stamped_camera import BITS, CELL_WIDTH, ROW_HEIGHT, WIDTH  # noqa: E402

CAMERA = "%dora_operator camera {camera} --inputs tick=dora/timer/hz/30 --outputs image"
VIEW = "from dora_nb import CameraView\nview = CameraView('camera/image'{boxes})\nview"
SETTLE_SECS = 3

SAMPLER = """
([bits, cellWidth, rowHeight, width, millis]) => new Promise((done) => {
  const seen = [];
  let last = -1;
  const begin = performance.now();
  const read = () => {
    const canvas = document.querySelector('.dora-view canvas');
    if (canvas && canvas.width) {
      const scale = canvas.width / width;
      const row = canvas.getContext('2d').getImageData(0, Math.round(rowHeight * scale / 2), canvas.width, 1).data;
      const light = (cell) => row[4 * Math.round((cell + 0.5) * cellWidth * scale)] > 127;
      let stamp = 0;
      for (let bit = 0; bit < bits; bit++) {
        if (light(2 * bit) === light(2 * bit + 1)) { stamp = -1; break; }
        stamp += light(2 * bit) ? 2 ** bit : 0;
      }
      if (stamp >= 0 && stamp !== last) {
        last = stamp;
        const now = (performance.timeOrigin + performance.now()) % 2 ** bits;
        seen.push([performance.now() - begin, (now - stamp + 2 ** bits) % 2 ** bits]);
      }
    }
    if (performance.now() - begin < millis) requestAnimationFrame(read); else done(seen);
  };
  requestAnimationFrame(read);
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each situation (default 60)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, notebooks = Path(folder, "home"), Path(folder, "notebooks")
        home.mkdir()
        notebooks.mkdir()
        Path(folder, "samples").symlink_to(REPOSITORY / "samples")
        with running_lab(home, notebooks) as lab, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=chromium_path(), args=CHROMIUM_SWITCHES
            )
            page = chromium.new_page(viewport={"width": 1000, "height": 900})
            figures = measure_all(lab, page, arguments.seconds)
            chromium.close()
            lab.end_kernels()
    print(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def measure_all(lab: Lab, page: Page, seconds: float) -> dict[str, dict[str, float]]:
    notebook = open_notebook(lab, page, "idle.ipynb", detector=False)
    figures = {"idle": summary(sample(page, seconds))}
    notebook.run_cell(len(notebook_cells(detector=False)) - 1)
    figures["cell"] = summary(sample(page, seconds))
    notebook.interrupt()
    lab.end_kernels()
    open_notebook(lab, page, "detector.ipynb", detector=True)
    figures["detector"] = summary(sample(page, seconds))
    return figures


def open_notebook(lab: Lab, page: Page, name: str, *, detector: bool) -> Notebook:
    """A notebook whose view is live and has been for a while; its last cell sleeps, if it is run."""
    cells = notebook_cells(detector=detector)
    document = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(document, lab.folder / name)
    notebook = Notebook(lab, page, name)
    notebook.open()
    for index in range(len(cells) - 1):
        notebook.run_cell(index)
        notebook.wait_for_cells()
    # A view that is not on the screen is not drawn.
    page.wait_for_selector(".dora-view", state="attached")
    page.evaluate("() => document.querySelector('.dora-view').scrollIntoView({ block: 'end' })")
    page.wait_for_selector(".dora-view[data-seq]")
    sample(page, SETTLE_SECS)
    return notebook


def notebook_cells(*, detector: bool) -> list[str]:
    camera = CAMERA.format(camera=REPOSITORY / "benchmarks" / "stamped_camera.py")
    cells = ["%load_ext dora_nb", camera]
    if detector:
        cells.append(tutorial_detector())
    boxes = ", boxes='detector/bbox'" if detector else ""
    return [*cells, "%dora start", VIEW.format(boxes=boxes), "import time; time.sleep(3600)"]


def tutorial_detector() -> str:
    tutorial = nbformat.read(REPOSITORY / "notebooks" / "01_first_dataflow.ipynb", as_version=4)
    (cell,) = [
        cell.source
        for cell in tutorial.cells
        if cell.source.startswith("%%dora_operator detector") and "torch.hub.load" in cell.source
    ]
    return cell


def sample(page: Page, seconds: float) -> list[tuple[float, float]]:
    """For each picture that was drawn: when (ms), and how old it was then (ms)."""
    arguments = [BITS, CELL_WIDTH, ROW_HEIGHT, WIDTH, seconds * 1000]
    page.set_default_timeout((seconds + 30) * 1000)
    seen: list[tuple[float, float]] = page.evaluate(SAMPLER, arguments)
    return seen


def summary(seen: list[tuple[float, float]]) -> dict[str, float]:
    times = [when for when, _ in seen]
    third = times[-1] / 3
    parts = {
        "": [age for _, age in seen],
        "first third ": [age for when, age in seen if when <= third],
        "last third ": [age for when, age in seen if when > 2 * third],
    }
    figures = {"fps": (len(seen) - 1) / (times[-1] - times[0]) * 1000}
    for part, ages in parts.items():
        figures[f"{part}age p50"] = statistics.median(ages)
        figures[f"{part}age p95"] = statistics.quantiles(ages, n=20)[-1]
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(figures.values())))
    lines = [f"| ages in ms | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for situation, values in figures.items():
        row = " | ".join(f"{values[column]:.0f}" for column in columns)
        lines.append(f"| {situation} | {row} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
