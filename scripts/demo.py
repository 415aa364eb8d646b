"""Run the first notebook without a screen, and check that it does what it promises. See `make demo`.

::

    cells up to the one tagged `demo-measure`     executed unchanged
    measure()                                     in the same kernel, beside the running dataflow
    the other cells                               executed; the end of the kernel stops the dataflow
    build/demo/01_first_dataflow.html             the notebook with its outputs; opens offline
    build/demo/camera.png                         one picture with the boxes found on it

The detections are compared with the scene: the picture comes with the number of its frame, and
`samples/scene.py` knows where the objects of that frame are. Exit status 1 if no detection lies on
one of them, or if the notebook fails or shows no picture.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import nbformat
import numpy as np
from demo_report import Boxes, Measurement, check_detections, report
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from offline_page import offline_page, pictures, remote_references

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLES = REPOSITORY / "samples"
NOTEBOOK = REPOSITORY / "notebooks" / "01_first_dataflow.ipynb"
BUILD = REPOSITORY / "build" / "demo"
MEASURE_TAG = "demo-measure"
IMAGE_TOPIC, BOXES_TOPIC = "camera/image", "detector/bbox"
CELL_TIMEOUT_SECS = 60
MEASURE_TIMEOUT_SECS = 60
BOX_COLOUR = (0, 220, 255)
"""Blue, green, red."""


class DemoError(Exception):
    """The demonstration failed; the message says why."""


def main() -> int:
    # Not a webcam: only the objects of the rendered scene are known.
    os.environ["CAMERA_SOURCE"] = "scene"
    BUILD.mkdir(parents=True, exist_ok=True)
    page_path, picture_path = BUILD / f"{NOTEBOOK.stem}.html", BUILD / "camera.png"
    for path in (page_path, picture_path):
        path.unlink(missing_ok=True)
    try:
        notebook, measured = asyncio.run(run(NOTEBOOK))
        page = checked_page(offline_page(notebook, title=NOTEBOOK.stem))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    page_path.write_text(page, encoding="utf-8")
    picture_path.write_bytes(picture_with_boxes(measured))
    print(report(measured))
    good, sentence = check_detections(measured.frame, measured.boxes, truth_of(measured))
    print(f"\n{sentence}\n")
    for path in (page_path, picture_path):
        print(path.relative_to(REPOSITORY))
    if not good:
        print("demo: the picture shows no detection on an object", file=sys.stderr)
    return 0 if good else 1


async def run(path: Path) -> tuple[nbformat.NotebookNode, Measurement]:
    """Execute the notebook, measuring after the cell that is tagged for it."""
    notebook = nbformat.read(path, as_version=4)
    tagged = measured_cell(notebook)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECS,
        # With the widgets' state the page would show widgets, which load code from a CDN.
        store_widget_state=False,
        kernel_name="python3",
        # ipykernel 7.4 warns about its own sockets on the loopback interface, in the outputs.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    answer: dict[str, Any] = {}
    try:
        async with client.async_setup_kernel():
            for number, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, number)
                if number == tagged:
                    answer = await _measure(client)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise DemoError(f"{path.name} stopped: {error}") from error
    picture_png = base64.b64decode(answer.pop("picture_png"))
    return notebook, Measurement.from_json(answer, picture_png)


def measured_cell(notebook: nbformat.NotebookNode) -> int:
    """The number of the one cell after which the dataflow runs and can be measured."""
    tagged = [
        number
        for number, cell in enumerate(notebook.cells)
        if MEASURE_TAG in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise DemoError(f"the notebook needs one cell tagged {MEASURE_TAG}, and has {len(tagged)}")
    return tagged[0]


async def _measure(client: NotebookClient) -> dict[str, Any]:
    """Call `demo_measure.measure` in the notebook's kernel."""
    module = str(Path(__file__).with_name("demo_measure.py"))
    expression = (
        f"__import__('runpy').run_path({module!r})['measure']({IMAGE_TOPIC!r}, {BOXES_TOPIC!r})"
    )
    # `Any`, since nbclient makes an asynchronous client and declares the blocking one.
    kernel: Any = client.kc
    reply = await kernel.execute(
        "",
        silent=True,
        user_expressions={"measured": expression},
        reply=True,
        timeout=MEASURE_TIMEOUT_SECS,
    )
    result = reply["content"]["user_expressions"]["measured"]
    if result["status"] != "ok":
        raise DemoError(f"measuring failed: {result['ename']}: {result['evalue']}")
    answer: dict[str, Any] = json.loads(ast.literal_eval(result["data"]["text/plain"]))
    return answer


def checked_page(page: str) -> str:
    """Return the page. Raise DemoError unless it opens offline and shows a picture."""
    remote = remote_references(page)
    if remote:
        raise DemoError(f"the page would load {', '.join(remote)} from the network")
    if not any(kind in ("image/jpeg", "image/png") for kind in pictures(page)):
        raise DemoError("the page shows no picture")
    return page


def truth_of(measured: Measurement) -> Boxes:
    """Return the true boxes of that frame's objects."""
    height, width = _decoded(measured.picture_png).shape[:2]
    boxes: Boxes = _scene().MovingScene(size=(width, height)).boxes(measured.frame)
    return boxes


def picture_with_boxes(measured: Measurement) -> bytes:
    """Return the picture as a PNG file, with a frame, a name and a confidence for every box."""
    picture = _decoded(measured.picture_png)
    names = _scene().CLASS_NAMES
    for x1, y1, x2, y2, confidence, kind in measured.boxes.tolist():
        cv2.rectangle(picture, (round(x1), round(y1)), (round(x2), round(y2)), BOX_COLOUR, 2)
        place = (round(x1), max(round(y1) - 5, 12))
        text = f"{names[int(kind)]} {confidence:.2f}"
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, BOX_COLOUR, 1)
    return cv2.imencode(".png", picture)[1].tobytes()


def _decoded(png: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, "it was encoded as PNG in the kernel"
    return picture


def _scene() -> ModuleType:
    """Import the rendered scene of samples/, which is not a package."""
    if str(SAMPLES) not in sys.path:
        sys.path.append(str(SAMPLES))
    return importlib.import_module("scene")


if __name__ == "__main__":
    sys.exit(main())
