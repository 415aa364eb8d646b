"""Measures views and controls in JupyterLab: frames per second, ages, CPU, and a joystick's way to an operator.

    .venv/bin/python -m benchmarks.views [--runs 3] [--seconds 10] [--only plot six slow joystick]
    .venv/bin/python -m benchmarks.views --soak 30

========  ======================================================================================
plot      PlotView of four series at 1 kHz, as a list of four and as four topics: frames drawn per
          second, and the CPU that the kernel takes for it, in % of a core
six       three cameras (640x480, 30 Hz) and three plots on one page: the frames of each per second
slow      a camera in a browser that is slowed down 8 times: the age of what is drawn
joystick  from the page's pointer event to the operator's on_event, while the kernel rests, and
          while a cell runs Python
========  ======================================================================================

Each figure is the median of the runs, each in a new kernel. With ``--soak`` the six views and a joystick run for so
many minutes instead; age, the kernel's memory and the browser's heap are taken after the first minute and at
the end. All processes share the machine's clock. Nothing here passes or fails: the goals are in
docs/performance.md.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tests" / "browser"), str(REPOSITORY / "benchmarks")]

from jupyterlab_server import (  # noqa: E402 - the path above
    CHROMIUM_SWITCHES,
    Lab,
    Notebook,
    chromium_path,
    running_lab,
)
from live_view import sample  # noqa: E402

SETTLE_SECS = 5
SLOWED = 8
NUM_MOVES = 60
MOVE_SECS = 0.4
STARTING_SECS = 60
IMU = """\
%%dora_operator imu --inputs tick=dora/timer/millis/1 --outputs accel a b c d
import math
import pyarrow as pa

class Operator:
    number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            values = [math.sin(self.number / 200 + phase) for phase in range(4)]
            {send}
"""
AS_LIST = 'send_output("accel", pa.array(values))'
AS_TOPICS = "for name, value in zip('abcd', values): send_output(name, pa.array([value]))"
CAMERA = (
    f"%dora_operator camera {REPOSITORY / 'benchmarks' / 'stamped_camera.py'} "
    "--inputs tick=dora/timer/hz/30 --outputs image"
)
ARM = """\
%%dora_operator arm --inputs stick=notebook/stick --queue stick=1000
import time

class Operator:
    def __init__(self):
        self.file = open("seen.txt", "w", buffering=1)
    def on_event(self, dora_event, send_output):
        now_secs = time.time()
        if dora_event["type"] == "INPUT":
            print(now_secs, *dora_event["value"].to_pylist(), file=self.file)
"""
JOYSTICK = 'from dora_nb import Joystick\nJoystick("notebook/stick")'
LOOP = "while True:\n    sum(range(10_000))"
SIX = """\
from dora_nb import CameraView, PlotView
from IPython.display import display
for _ in range(3):
    display(CameraView("camera/image"), PlotView("imu/accel", seconds=10))"""

COUNT_FRAMES = """
([views, millis]) => new Promise((done) => {
  // A frame counts once for each view that has cleared or drawn one of its canvases in it.
  const counts = new Map([...document.querySelectorAll(views)].map((view) => [view, 0]));
  const drawn = new Set();
  const { prototype } = CanvasRenderingContext2D;
  const originals = Object.fromEntries(["clearRect", "drawImage"].map((name) => [name, prototype[name]]));
  for (const [name, original] of Object.entries(originals))
    prototype[name] = function (...all) {
      const view = this.canvas.closest?.(views);
      if (view) drawn.add(view);
      return original.apply(this, all);
    };
  const begin = performance.now();
  const frame = () => {
    for (const view of drawn) counts.set(view, (counts.get(view) ?? 0) + 1);
    drawn.clear();
    if (performance.now() - begin < millis) return requestAnimationFrame(frame);
    Object.assign(prototype, originals);
    const secs = (performance.now() - begin) / 1000;
    done([...counts.values()].map((count) => count / secs));
  };
  requestAnimationFrame(frame);
})
"""
NOTE_MOVES = """() => {
    window.moves = [];
    window.addEventListener('pointermove', (event) => {
        moves.push((performance.timeOrigin + event.timeStamp) / 1000);
    }, { capture: true });
}"""

Figures = dict[str, float]


class Bench:
    """A server and a browser; each measurement has a new page and a new kernel."""

    def __init__(self, lab: Lab, browser: Browser, seconds: float) -> None:
        self.lab = lab
        self.browser = browser
        self.seconds = seconds

    @contextmanager
    def notebook(self, *cells: str, height: int = 1000) -> Iterator[Notebook]:
        """A notebook whose cells have run, but for the last one."""
        page = self.browser.new_page(viewport={"width": 1000, "height": height})
        page.set_default_timeout((self.seconds + STARTING_SECS) * 1000)
        document = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in ["%load_ext dora_nb", *cells]],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(document, self.lab.folder / "bench.ipynb")
        notebook = Notebook(self.lab, page, "bench.ipynb")
        notebook.open()
        for index in range(len(cells)):
            notebook.run_cell(index)
            notebook.wait_for_cells()
        yield notebook
        page.close()
        self.lab.end_kernels()

    def plot(self) -> Figures:
        """Four series at 1 kHz."""
        figures = {}
        for name, send, topics in (
            ("a list of four", AS_LIST, '"imu/accel"'),
            ("four topics", AS_TOPICS, '"imu/a", "imu/b", "imu/c", "imu/d"'),
        ):
            view = f"from dora_nb import PlotView\nPlotView({topics}, seconds=10)"
            with self.notebook(IMU.format(send=send), "%dora start", view, "") as notebook:
                shown(notebook.page, ".dora-plot")
                begin_cpu, begin = cpu_secs(notebook), time.monotonic()
                (fps,) = frames(notebook.page, self.seconds)
                used = (cpu_secs(notebook) - begin_cpu) / (time.monotonic() - begin)
                figures[f"plot, {name}: frames/s"] = fps
                figures[f"plot, {name}: kernel, % of a core"] = 100 * used
        return figures

    def six(self) -> Figures:
        """Six views at once."""
        cells = (CAMERA, IMU.format(send=AS_LIST), "%dora start", SIX, "")
        with self.notebook(*cells, height=4000) as notebook:
            shown(notebook.page, ".dora-plot")
            shown(notebook.page, ".dora-view")
            fps = frames(notebook.page, self.seconds)
            used = {f"six views, view {at + 1}: frames/s": each for at, each in enumerate(fps)}
            return used | {"six views, the slowest: frames/s": min(fps)}

    def slow(self) -> Figures:
        """A camera in a slow browser."""
        view = 'from dora_nb import CameraView\nCameraView("camera/image")'
        with self.notebook(CAMERA, "%dora start", view, "") as notebook:
            shown(notebook.page, ".dora-view")
            devtools(notebook.page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
            sample(notebook.page, SETTLE_SECS)
            ages = [age for _, age in sample(notebook.page, self.seconds)]
            return {
                f"browser slowed {SLOWED}x: age p50, ms": statistics.median(ages),
                f"browser slowed {SLOWED}x: age p95, ms": p95(ages),
                f"browser slowed {SLOWED}x: frames/s": len(ages) / self.seconds,
            }

    def joystick(self) -> Figures:
        """From the page to an operator."""
        figures = {}
        with self.notebook(ARM, "%dora start", JOYSTICK, LOOP) as notebook:
            for name in ("idle", "busy cell"):
                if name == "busy cell":
                    notebook.run_cell(4)
                    notebook.wait_for_running(4)
                millis = moved(notebook)
                figures[f"joystick, {name}: p50, ms"] = statistics.median(millis)
                figures[f"joystick, {name}: p95, ms"] = p95(millis)
                figures[f"joystick, {name}: moves that arrived of {NUM_MOVES}"] = len(millis)
            notebook.interrupt()
        return figures

    def soak(self, minutes: float) -> Iterator[tuple[str, Figures]]:
        """The same figures after the first minute and at the end."""
        cells = (CAMERA, IMU.format(send=AS_LIST), ARM, "%dora start", f"{SIX}\n{JOYSTICK}", "")
        with self.notebook(*cells, height=4000) as notebook:
            begin = time.monotonic()
            for name, after_secs in (("begin", 60.0), ("end", 60 * minutes)):
                while time.monotonic() - begin < after_secs:
                    moved(notebook, count=20)
                yield name, self.state(notebook)

    def state(self, notebook: Notebook) -> Figures:
        """What must not grow."""
        ages = [age for _, age in sample(notebook.page, self.seconds)]
        tools = devtools(notebook.page)
        tools.send("HeapProfiler.collectGarbage")
        tools.send("Performance.enable")
        metrics = tools.send("Performance.getMetrics")["metrics"]
        heap = next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize")
        resident = notebook.run_code(
            "print(next(line.split()[1] for line in open('/proc/self/status') if 'VmRSS' in line))"
        )
        return {
            "age p95, ms": p95(ages),
            "kernel, MiB resident": int(resident) / 1024,
            "browser's heap, MiB": heap / 2**20,
        }


def shown(page: Page, view: str) -> None:
    """Waits until such a view runs, is on the screen and has settled."""
    page.wait_for_selector(f"{view}[data-state='running']", state="attached")
    page.evaluate("view => document.querySelector(view).scrollIntoView({ block: 'center' })", view)
    page.wait_for_timeout(SETTLE_SECS * 1000)


def frames(page: Page, seconds: float) -> list[float]:
    """How often per second each view was drawn."""
    counts: list[float] = page.evaluate(COUNT_FRAMES, [".dora-view, .dora-plot", seconds * 1000])
    return counts


def cpu_secs(notebook: Notebook) -> float:
    """What the kernel has used so far."""
    return float(notebook.run_code("import time; print(time.process_time())"))


def devtools(page: Page) -> CDPSession:
    """The page's side of Chromium's DevTools."""
    return page.context.new_cdp_session(page)


def moved(notebook: Notebook, count: int = NUM_MOVES) -> list[float]:
    """Moves the joystick so many times; how long each value took to the operator, in ms.

    The values of a joystick are repeated while it is held, so a move's value is the first new one after it.
    """
    page = notebook.page
    page.evaluate(NOTE_MOVES)
    pad = page.locator(".dora-joystick-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    middle, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle, top)
    page.mouse.down()
    page.evaluate("() => { moves.length = 0; }")
    for number in range(count):
        across = (-1) ** number * (0.1 + 0.3 * number / count) * box["width"] / 2
        page.mouse.move(middle + across, top)
        page.wait_for_timeout(MOVE_SECS * 1000)
    moves: list[float] = page.evaluate("() => moves")
    page.mouse.up()
    lines = (notebook.lab.folder / "seen.txt").read_text().splitlines()
    seen = [tuple(map(float, line.split())) for line in lines]
    arrivals = [after[0] for before, after in pairwise(seen) if before[1:] != after[1:]]
    taken = []
    for at, end in zip(moves, [*moves[1:], moves[-1] + MOVE_SECS], strict=True):
        first = next((arrived for arrived in arrivals if at <= arrived < end), None)
        if first is not None:
            taken.append((first - at) * 1e3)
    return taken


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("plot", "six", "slow", "joystick")
    parser.add_argument("--runs", type=int, default=3, help="of each (default 3)")
    parser.add_argument("--seconds", type=float, default=10, help="of each run (default 10)")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only that, for so long")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, notebooks = Path(folder, "home"), Path(folder, "notebooks")
        home.mkdir()
        notebooks.mkdir()
        with running_lab(home, notebooks) as lab, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=chromium_path(), args=CHROMIUM_SWITCHES
            )
            bench = Bench(lab, chromium, arguments.seconds)
            if arguments.soak:
                for name, figures in bench.soak(arguments.soak):
                    report(name, [figures])
            else:
                for name in arguments.only:
                    measure: Callable[[], Figures] = getattr(bench, name)
                    report(name, [measure() for _ in range(arguments.runs)])
            chromium.close()


def report(name: str, runs: list[Figures]) -> None:
    """Prints the median of each figure, and all of them."""
    print(name)
    for figure in runs[0]:
        values = [each[figure] for each in runs]
        of = f"   ({', '.join(f'{each:.1f}' for each in values)})" if len(values) > 1 else ""
        print(f"  {figure:45}{statistics.median(values):8.1f}{of}", flush=True)


if __name__ == "__main__":
    main()
