"""The cells and commands on the pages of the guide run, and print what the pages say.

Every page of docs/ is run, without exception. ```` ```python ```` is a cell and ```` ```sh ```` are commands. What
follows is what they print: ```` ```text ```` line by line, where `...` stands for any lines between, and
```` ```output ```` line by line but for the numbers, names of cells and widths of columns. The cells of a page run one after
the other, in a folder beside the samples. `NOT_RUN` lists what is not run, and why.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import select
import subprocess
import sys
import textwrap
import threading
import tty
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import dora_nb

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
PAGES = [path.stem for path in sorted((REPOSITORY / "docs").glob("*.md"))]
OTHER_PAGES = ["ARCHITECTURE", "SECURITY"]
"""
Pages of the site that are files of the repository. CONTRIBUTING is not among them: its commands are for a checkout;
they install packages, or are what `make test` and CI run.
"""
TWO_MACHINES = "scripts/two_machines.py runs it with two networks (a soak test)"
NOT_RUN = {
    "python3 -m venv": "an installation",
    ". robots/bin/activate": "an installation",
    "pip install": "an installation",
    "jupyter lab": "a server for a person; the tests of the browser start one",
    "dora up": TWO_MACHINES,
    "dora start": TWO_MACHINES,
    "dora coordinator": TWO_MACHINES,
    "dora daemon": TWO_MACHINES,
    "%dora attach": TWO_MACHINES,
    "python samples/webcam_modes.py": "needs a webcam; tests/samples/test_webcam_modes.py has stand-ins",
    "make": "runs these tests, or measures for minutes",
    ".venv/bin/": "is part of `make test`, or measures for minutes",
}
"""By how a command begins: why no test of this file runs it."""
SLOW = {
    "to_the_robot": "starts dora-rs",
    "your_own_detector": "loads torch; tests/samples/test_own_detector_page.py runs each cell with stand-ins",
}
"""Pages whose cells are run by `make soak`, and why."""
STAND_INS = {"/dev/ttyACM0": "serial_port"}
"""What the machine of a test does not have: the fixture that gives the path of something that takes its place."""
ARM = """\
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("angle", dora_event["value"])
"""
"""The file of which docs/views.md says that it has an operator."""
FORGET_THE_PAGE_BEFORE = """\
import os
import dora_nb
import ipywidgets
ipywidgets.Widget.close_all()
dataflow = dora_nb.get_dataflow()
dataflow.keep(None)
dataflow.stop()
for name in [each.name for each in dataflow.status()]:
    dataflow.remove(name)
for name in ("MUJOCO_GL", "SIM_IMAGE", "SIM_STEP"):
    os.environ.pop(name, None)
os.chdir("{page}")
%reset -f
"""
TIMEOUT_SECS = 60
"""Only reached by what hangs."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    printed: str | None = None
    kind: str = "text"
    """Of what is printed: `text` or `output`."""


def blocks_of(name: str) -> list[Block]:
    """The fenced blocks of a page in order, each with the output that follows it."""
    folder = REPOSITORY if name in OTHER_PAGES else REPOSITORY / "docs"
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    found: list[Block] = []
    fences = re.findall(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    assert len(fences) * 2 == len(re.findall(r"^ *```", text, re.MULTILINE))
    for _, language, body in fences:
        block = Block(language, textwrap.dedent(body))
        if language in ("text", "output"):
            found[-1] = replace(found[-1], printed=block.text, kind=language)
        else:
            found.append(block)
    return found


def is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN))


def shape(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"(?<![\w/.-])\d[\d,.:-]*(e-?\d+)?(?= |\]|\)|,|;|:|x|$)", "1", line)
    line = re.sub(r"\b([kMG]?B|[mµ]?s)\b", "unit", re.sub(r"In\[\d+\]", "In[1]", line))
    line = re.sub(r" +1 \(longest 1 unit\)$", "", line.replace("messages", "message"))
    return " ".join(line.split())


def check_printed(block: Block, printed: str) -> None:
    read = shape if block.kind == "output" else str
    lines = map(read, printed.splitlines())
    expected = (block.printed or "").splitlines()
    missing = [line for line in expected if line != "..." and read(line) not in lines]
    assert missing == [], printed


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """pyzmq's context and its descriptors live as long as this process."""
    return ("processes", "shared memory")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder beside the samples for the notebook of each page, as in what `dora-nb tutorial` copies."""
    made = tmp_path_factory.mktemp("guide")
    (made / "samples").symlink_to(REPOSITORY / "samples")
    for page in ("README", *PAGES):
        (made / page).mkdir()
    (made / "views" / "arm.py").write_text(ARM)
    record_a_run(made / "gallery" / "run.mcap")
    return made


def record_a_run(file: Path) -> None:
    """A recording with the topics of the gallery's."""
    code = """
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            send_output(event["id"], event["value"], event["metadata"])
"""
    size = {"width": 4, "height": 2, "encoding": "bgr8"}
    with dora_nb.Dataflow() as dataflow:
        for topic in ("camera/image", "finder/box", "wheels/drive"):
            name, output = topic.split("/")
            dataflow.add_operator(
                name, code, inputs={output: f"notebook/{output}"}, outputs=[output]
            )
        dataflow.start()
        with dataflow.record(file):
            dataflow.send("notebook/image", np.zeros(24, np.uint8), size)
            dataflow.send("notebook/box", np.array([0, 0, 1, 1, 0.9, 0], np.float32), size)
            dataflow.send("notebook/drive", [0.5, 0.5])
            for topic in ("camera/image", "finder/box", "wheels/drive"):
                dataflow.latest(topic)


@pytest.fixture(scope="module")
def serial_port() -> Iterator[str]:
    """A serial port whose device says a distance again and again."""
    device, port = os.openpty()
    tty.setraw(
        port
    )  # also keeps the port open: else the device sees its end whenever a reader goes
    ended = threading.Event()

    def say() -> None:
        while not ended.wait(0.05):
            _, writable, _ = select.select([], [device], [], 0)
            if writable:
                os.write(device, b"distance 0.82\n")

    thread = threading.Thread(target=say)
    thread.start()
    yield os.ttyname(port)
    ended.set()
    thread.join()
    os.close(device)
    os.close(port)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[NotebookClient]:
    """One kernel for all pages: to start one takes longer than most pages."""
    notebook = nbformat.v4.new_notebook()
    resources = {"metadata": {"path": str(folder)}}
    made = NotebookClient(
        notebook,
        timeout=TIMEOUT_SECS,
        kernel_name="python3",
        store_widget_state=False,
        resources=resources,
    )
    with made.setup_kernel():
        yield made


def run_cell(client: NotebookClient, source: str) -> str:
    """What a cell prints; the end of its error, if it raises."""
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(cell)  # earlier ones stay: their outputs are still updated
    with contextlib.suppress(CellExecutionError):
        client.execute_cell(cell, len(client.nb.cells) - 1)
    parts: list[str] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append("\n".join(["ERROR", *output.traceback]))
        else:
            parts.append(output.data.get("text/plain", ""))
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(parts))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.soak if name in SLOW else ())
        for name in ("../README", *PAGES)
    ],
)
def test_the_cells_of_a_page_run_and_print_what_it_says(
    name: str, client: NotebookClient, folder: Path, request: pytest.FixtureRequest
) -> None:
    blocks = [block for block in blocks_of(name) if block.language == "python"]
    if blocks:
        run_cell(client, FORGET_THE_PAGE_BEFORE.replace("{page}", str(folder / Path(name).name)))
    for block in blocks:
        source = "\n".join(filter(is_run, block.text.splitlines()))
        for missing, fixture in STAND_INS.items():
            if missing in source:
                source = source.replace(missing, request.getfixturevalue(fixture))
        printed = run_cell(client, source)
        may_raise = "Error: " in (block.printed or "")
        assert may_raise or "ERROR" not in printed.splitlines(), printed
        check_printed(block, printed)
    if blocks:
        run_cell(client, "import dora_nb\ndora_nb.get_dataflow().stop()")


@pytest.mark.soak  # They make projects and test them, which tests/test_cli.py does too.
@pytest.mark.parametrize("name", [*PAGES, *OTHER_PAGES])
def test_the_commands_of_a_page_run(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples").symlink_to(REPOSITORY / "samples")
    (tmp_path / "run.mcap").symlink_to(folder / "gallery" / "run.mcap")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for block in blocks_of(name):
        if block.language == "sh":
            lines = "\n".join(filter(is_run, block.text.splitlines()))
            done = subprocess.run(
                ["bash", "-c", f"set -e\n{lines}"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECS,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            check_printed(block, done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_each_block_of_a_page_is_of_a_kind_that_is_tested(name: str) -> None:
    """YAML is part of a dataflow.yml; `{eval-rst}` is the reference, which tests/test_public_api.py tests."""
    for block in blocks_of(name):
        assert block.language in ("python", "sh", "yaml", "{eval-rst}"), block
        assert block.language != "yaml" or yaml.safe_load(block.text)
        assert block.language != "{eval-rst}" or name == "api"


def test_what_is_not_run_is_on_a_page() -> None:
    blocks = [block for name in [*PAGES, *OTHER_PAGES] for block in blocks_of(name)]
    lines = [line for block in blocks for line in block.text.splitlines()]
    left = {begin for begin in NOT_RUN if not any(line.startswith(begin) for line in lines)}
    assert left == set()


def test_each_message_of_the_troubleshooting_page_is_one_of_ours_or_of_python() -> None:
    """The first column quotes a part of the message that names nothing of the user's."""
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `(.+?)`", text, re.MULTILINE)
    folders = ("dora_nb", "samples")
    sources = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    assert len(quoted) > 8
    assert [each for each in quoted if each not in code and not hasattr(builtins, each)] == []
