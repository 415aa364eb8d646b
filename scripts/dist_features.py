"""What each extra is for, tried in an environment that has it or lacks it; `scripts/check_dist.py` calls it there.

    python -I scripts/dist_features.py works|missing EXTRA TUTORIAL

TUTORIAL is a folder that `dora-nb tutorial` has made. `works` fails with a traceback. `missing` prints what a
user reads in an environment without the extra.
"""

from __future__ import annotations

import importlib
import os
import pty
import subprocess
import sys
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import dora_nb
from dora_nb.errors import DoraNbError
from dora_nb.testing import run_operator

PATIENCE_SECS = 60.0
"""Only reached when a check fails."""
COUNTER = """
import pyarrow as pa

class Operator:
    def __init__(self):
        self.count = 0

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.count += 1
            send_output("number", pa.array([self.count]))
"""
CONFIGURATION = """
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
"""
PAGE = """# A page

```{eval-rst}
.. autofunction:: dora_nb.as_boxes
```
"""
METADATA_OF_A_BAG = "rosbag2_bagfile_information:\n  version: 9\n"


# ---------------------------------------------------------------- without any extra


def base_works(_tutorial: Path) -> None:
    """Imports everything, loads the extension, and runs an operator in a process of its own."""
    place = Path(dora_nb.__file__)
    assert "site-packages" in place.parts, f"dora_nb comes from {place}"
    for name in dora_nb.__all__:
        getattr(dora_nb, name)
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "dora_nb")
    assert "dora" in shell.magics_manager.magics["line"]
    numbers_come("embedded")


def numbers_come(engine: str) -> None:
    """Runs a dataflow of one operator, and reads what it sends."""
    flow = dora_nb.Dataflow()
    flow.add_operator("counter", COUNTER, inputs={"tick": "dora/timer/hz/50"}, outputs=["number"])
    flow.start(engine)
    try:
        first, second = flow.take("counter/number", 2, timeout_secs=PATIENCE_SECS)
    finally:
        flow.stop()
    assert second["value"][0].as_py() > first["value"][0].as_py()


# ---------------------------------------------------------------- the extras


def event_of_numbers() -> Any:
    return {
        "type": "INPUT",
        "kind": "dora",
        "id": "angles",
        "value": pa.array([1.0, 2.0]),
        "metadata": {},
    }


def dora_works(_tutorial: Path) -> None:
    numbers_come("dora")


def foxglove_works(tutorial: Path) -> None:
    record_for_foxglove(tutorial)
    from mcap.reader import make_reader

    with (tutorial / "run.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    kinds = {each.name for each in summary.schemas.values()}
    assert any(kind.startswith("foxglove.") for kind in kinds), kinds


def record_for_foxglove(tutorial: Path) -> None:
    from dora_nb.recording.writer import RecordingWriter

    about = {"width": 4, "height": 2, "encoding": "bgr8"}
    with RecordingWriter(tutorial / "run.mcap", foxglove=True) as writer:
        image = pa.array(np.zeros(24, np.uint8))
        writer.write("camera/image", image, about, publish_nanos=1, log_nanos=1)


def pandas_works(_tutorial: Path) -> None:
    assert [*dora_nb.as_pandas(event_of_numbers())] == [1.0, 2.0]


def ros_works(tutorial: Path) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    text = store.types["std_msgs/msg/String"](data="hello")
    with Writer(tutorial / "bag", version=9) as writer:
        connection = writer.add_connection("/talk", "std_msgs/msg/String", typestore=store)
        writer.write(connection, 1, store.serialize_cdr(text, "std_msgs/msg/String"))
    (event,) = dora_nb.Recording(tutorial / "bag").take("/talk", 1)
    assert event["value"].to_pylist() == ["hello"]


def ros_missing(tutorial: Path) -> None:
    bag = tutorial / "bag"
    bag.mkdir()
    (bag / "metadata.yaml").write_text(METADATA_OF_A_BAG)
    dora_nb.Recording(bag)


def serial_works(tutorial: Path) -> None:
    board, port = pty.openpty()
    tty.setraw(port)
    flow = dora_nb.Dataflow()
    flow.add_operator(
        "board",
        tutorial / "samples" / "serial_port.py",
        inputs={"tick": "dora/timer/hz/50"},
        outputs=["line"],
        env={"SERIAL_PORT": os.ttyname(port)},
    )
    flow.start()
    try:
        with flow.subscribe("board/line") as lines:
            os.write(board, b"12 volts\n")
            event = lines.next(timeout_secs=PATIENCE_SECS)
    finally:
        flow.stop()
    assert event["value"].to_pylist() == ["12 volts"]


def serial_missing(tutorial: Path) -> None:
    run_operator(tutorial / "samples" / "serial_port.py", [])


def sim_works(tutorial: Path) -> None:
    os.environ.update(SIM_STEP="lockstep", SIM_WIDTH="160", SIM_HEIGHT="120")
    commands = [("wheels", pa.array([0.4, 0.4]))] * 5
    sent = run_operator(tutorial / "samples" / "rover.py", commands)
    start, *_, end = [event["value"][0].as_py()["x"] for event in sent["pose"]]
    assert end > start
    assert dora_nb.as_image(sent["image"][-1]).std() > 0


def sim_missing(tutorial: Path) -> None:
    run_operator(tutorial / "samples" / "rover.py", [])


def torch_works(tutorial: Path) -> None:
    assert dora_nb.as_torch(event_of_numbers()).tolist() == [1.0, 2.0]
    import torch

    sys.path.insert(0, str(tutorial / "samples"))
    frame = importlib.import_module("scene").MovingScene().frame(0)
    folder = str(tutorial / "samples" / "tiny_detector")
    detector = torch.hub.load(folder, "tiny_detector", source="local")  # type: ignore[no-untyped-call]
    found = detector(frame[:, :, ::-1])
    assert len(found.xyxy[0]) > 0


def tutorial_works(tutorial: Path) -> None:
    """Executes the first notebook as `jupyter nbconvert` does; a cell that fails ends it."""
    subprocess.run(
        [sys.executable, "-m", "jupyter", "lab", "--version"], check=True, stdout=subprocess.DEVNULL
    )
    notebook = min((tutorial / "notebooks").glob("*.ipynb"))
    convert = [sys.executable, "-m", "jupyter", "nbconvert", "--execute", "--to", "notebook"]
    subprocess.run([*convert, "--output", "executed", notebook], check=True)


def tutorial_missing(tutorial: Path) -> None:
    command = Path(sys.executable).with_name("dora-nb")
    subprocess.run([command, "tutorial", tutorial], check=True, stdout=subprocess.PIPE)
    said = subprocess.run([command, "tutorial", tutorial], check=True, capture_output=True)
    raise DoraNbError(said.stdout.decode().splitlines()[-1])


def docs_works(tutorial: Path) -> None:
    source, built = tutorial / "page", tutorial / "built"
    source.mkdir()
    (source / "conf.py").write_text(CONFIGURATION)
    (source / "index.md").write_text(PAGE)
    words = ["-m", "sphinx", "--fail-on-warning", "--quiet", "-b", "html"]
    subprocess.run([sys.executable, *words, source, built], check=True)
    assert "as_boxes" in (built / "index.html").read_text()


WORKS: dict[str, Callable[[Path], None]] = {
    "": base_works,
    "docs": docs_works,
    "dora": dora_works,
    "foxglove": foxglove_works,
    "pandas": pandas_works,
    "ros": ros_works,
    "serial": serial_works,
    "sim": sim_works,
    "torch": torch_works,
    "tutorial": tutorial_works,
}
MISSING: dict[str, Callable[[Path], object]] = {
    "dora": dora_works,
    "foxglove": record_for_foxglove,
    "pandas": pandas_works,
    "ros": ros_missing,
    "serial": serial_missing,
    "sim": sim_missing,
    "torch": lambda _: dora_nb.as_torch(event_of_numbers()),
    "tutorial": tutorial_missing,
}
"""Of each extra for users, how its absence is noticed."""


def main(mode: str, extra: str, tutorial: Path) -> int:
    """Returns 1, after a line that says so, if something works that must not."""
    if mode == "works":
        WORKS[extra](tutorial)
        return 0
    try:
        MISSING[extra](tutorial)
    except (DoraNbError, ImportError) as error:
        print(error)
        return 0
    print(f"what needs {extra} works without it")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
