"""Runs the tutorial on two simulated machines: the camera on one, the detector on the other.

    sudo .venv/bin/python scripts/two_machines.py

The machines are two network namespaces with a virtual cable between them (ip-netns(8)). Each has a
daemon of dora's, the first also a coordinator. The notebook is exported, the two lines that say where a
node runs are added, and dora starts it. A kernel on the first machine then attaches and reads pictures
and boxes: the pictures come from the camera on the same machine, the boxes over the cable.
docs/scale-out.md describes the same for real machines. Prints what was read, and exits with status 1 if
it is not what was expected.

Needs root, and the program `ip` (iproute2). Leaves nothing behind.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbclient import NotebookClient

from dora_nb.descriptor import write_dataflow
from dora_nb.descriptor.notebook_files import read_notebook
from dora_nb.engines.dora import remove_orphaned_segments

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = REPOSITORY / "notebooks" / "01_first_dataflow.ipynb"
BIN = Path(sys.executable).parent
NAMES = ("alpha", "beta")
ADDRESSES = {"alpha": "10.211.77.1", "beta": "10.211.77.2"}
PLACES = {"camera": "alpha", "detector": "beta"}
UP_SECS = 20.0
WATCH = """
import json
from dora_nb import as_boxes, as_image, get_dataflow

dataflow = get_dataflow()
with dataflow.subscribe("camera/image", queue_size=300) as images, dataflow.subscribe("detector/bbox", queue_size=300) as boxes:
    images.next(30), boxes.next(30)
    seen = [images.next(10) for _ in range(60)]
    found = [boxes.next(10) for _ in range(20)]
stamps = {each["metadata"]["timestamp"] for each in seen}
print(json.dumps({
    "interfaces": __import__("os").listdir("/sys/class/net"),
    "states": {each.name: each.state.value for each in dataflow.status()},
    "pictures": len(seen),
    "shape": as_image(seen[0]).shape,
    "boxes": [len(as_boxes(each)) for each in found],
    "boxes of these pictures": sum(each["metadata"]["timestamp"] in stamps for each in found),
}))
"""


def main() -> int:
    """Builds both machines, runs the dataflow on them, and removes them."""
    with contextlib.ExitStack() as stack:
        stack.callback(remove_orphaned_segments)  # zenoh leaves them after a kill
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="two-machines-")))
        for name in NAMES:
            stack.enter_context(network(name))
        plug_in_the_cable()
        for name in NAMES:
            take_the_files_to(folder / name)
        daemons = [stack.enter_context(program("alpha", folder / "alpha", *coordinator()))]
        wait_for(lambda: dora("list"), "the coordinator")
        for name in NAMES:
            words = ["daemon", f"--machine-id={name}", f"--coordinator-addr={ADDRESSES['alpha']}"]
            daemons.append(stack.enter_context(program(name, folder / name, *words)))
        start = ["start", str(folder / "alpha" / "flow" / "dataflow.yml"), "--detach", "--name=two"]
        wait_for(lambda: dora(*start), "the dataflow")
        stack.callback(dora, "stop", "two", "--grace-duration=1s")
        report = watched(folder / "alpha")
    print(json.dumps(report, indent=2))
    return 0 if is_as_expected(report) else 1


def is_as_expected(report: dict[str, Any]) -> bool:
    """Returns whether the kernel was on the first machine, and read the outputs of both."""
    return (
        sorted(report["interfaces"]) == ["cable", "lo"]
        and set(report["states"].values()) == {"running"}
        and report["shape"] == [480, 640, 3]
        and sum(report["boxes"]) >= 5 * len(report["boxes"])
        and report["boxes of these pictures"] > 0
    )


# --- the machines -----------------------------------------------------------------------------


@contextlib.contextmanager
def network(name: str) -> Iterator[None]:
    """A machine's network: a namespace with a loopback interface."""
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "del", name)


def plug_in_the_cable() -> None:
    """An interface on each machine, the two ends of one link."""
    one, other = NAMES
    ip(
        "link",
        "add",
        "cable",
        "netns",
        one,
        "type",
        "veth",
        "peer",
        "name",
        "cable",
        "netns",
        other,
    )
    for name in NAMES:
        ip("-n", name, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "cable")
        ip("-n", name, "link", "set", "cable", "up")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def on(name: str) -> list[str]:
    """The words before a command that is run on that machine."""
    return ["ip", "netns", "exec", name]


@contextlib.contextmanager
def program(name: str, folder: Path, *words: str) -> Iterator[None]:
    """One of dora's programs on that machine, in a session of its own, which ends with it."""
    with (folder / f"{words[0]}.log").open("w") as log:
        running = subprocess.Popen(
            [*on(name), str(BIN / "dora"), *words],
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def coordinator() -> list[str]:
    return ["coordinator", f"--interface={ADDRESSES['alpha']}", "--store=memory"]


def environment() -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "RUST_BACKTRACE": "0"}


def dora(*words: str) -> bool:
    """Whether ``dora WORDS``, run on the first machine, succeeds."""
    command = [*on("alpha"), str(BIN / "dora"), *words, f"--coordinator-addr={ADDRESSES['alpha']}"]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    return ran.returncode == 0


def wait_for(come_true: Any, what: str) -> None:
    deadline_secs = time.monotonic() + UP_SECS
    while not come_true():
        if time.monotonic() > deadline_secs:
            raise TimeoutError(f"{what} did not come up")
        time.sleep(0.2)


# --- the dataflow -----------------------------------------------------------------------------


def take_the_files_to(machine: Path) -> None:
    """What a person copies to each machine: the export, with the places of its nodes, and the samples."""
    flow = machine / "flow"
    path = write_dataflow(read_notebook(NOTEBOOK).graph, flow).path
    shutil.copytree(REPOSITORY / "samples", machine / "samples")
    document = yaml.safe_load(path.read_text())
    for node in document["nodes"]:
        place = PLACES[node["id"]]
        there = machine.parent / place / "flow"
        node["deploy"] = {"machine": place, "working_dir": str(there)}
    document["nodes"].append(
        {
            # The notebook hears a node of another machine through this one: docs/scale-out.md
            "id": "notebook-subscriber-detector",
            "path": "dynamic",
            "inputs": {"bbox": "detector/bbox"},
            "deploy": {"machine": "alpha", "working_dir": str(machine.parent / "alpha" / "flow")},
        }
    )
    path.write_text(yaml.safe_dump(document, sort_keys=False))


# --- the notebook -----------------------------------------------------------------------------


def watched(folder: Path) -> dict[str, Any]:
    """What a notebook on the first machine sees; its kernel and its client both run there."""
    cells = [
        "%load_ext dora_nb",
        f"%dora attach two --coordinator {ADDRESSES['alpha']}:6013",
        WATCH,
        "%dora detach",
    ]
    (folder / "watch.ipynb").write_text(notebook_of(cells))
    command = [*on("alpha"), sys.executable, __file__, "--execute", str(folder / "watch.ipynb")]
    subprocess.run(command, env=environment(), check=True)
    executed = json.loads((folder / "watch.ipynb").read_text())["cells"]
    texts = [
        "".join(text for output in cell["outputs"] for text in output.get("text", ""))
        for cell in executed
    ]
    sys.stdout.write(
        "".join(
            f"In: {cell}\n{text}" for cell, text in zip(cells, texts, strict=True) if cell != WATCH
        )
    )
    report: dict[str, Any] = json.loads(texts[2])
    return report


def notebook_of(cells: list[str]) -> str:
    """The text of an .ipynb file, nbformat 4."""
    empty: dict[str, Any] = {"execution_count": None, "metadata": {}, "outputs": []}
    return json.dumps(
        {
            "cells": [{"cell_type": "code", "source": cell, **empty} for cell in cells],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
    )


def execute(path: Path) -> None:
    """Runs a notebook's cells in a kernel, here."""
    notebook = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120).execute(cwd=str(path.parent))
    path.write_text(nbformat.writes(notebook))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--execute"]:
        execute(Path(sys.argv[2]))
    else:
        sys.exit(main())
