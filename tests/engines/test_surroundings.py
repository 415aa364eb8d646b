"""What an operator finds when it begins: its folder, its name, its environment, and no more imports
than it needs."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import OperatorError

from .conftest import TIMEOUT_SECS, CellDataflow

ONCE = {"tick": "dora/timer/secs/3600"}
ANSWERING = """
import json
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", json.dumps(ANSWER).encode())
"""


def answers(dataflow: CellDataflow, imports: str, answer: str, **options: Any) -> Any:
    """What an operator finds: the value of an expression in its `on_event`."""
    body = f"{imports}\n{ANSWERING.replace('ANSWER', answer)}"
    name = options.pop("name", "op")
    dataflow.cell(name, body, inputs=ONCE, outputs=("out",), **options)
    with dataflow.subscribe(f"{name}/out") as found:
        dataflow.start()
        value = found.next(TIMEOUT_SECS)["value"]
    return json.loads(bytes(value.to_pylist()))


def test_its_surroundings(dataflow: CellDataflow, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("word = 'found'")
    found = answers(
        dataflow,
        "import os, sys, beside\n",
        "{'cwd': os.getcwd(), 'path': sys.path[0], 'here': [p for p in sys.path if 'dora_nb' in p],"
        " 'beside': beside.word, 'name': __name__, 'argv': sys.argv, 'utf8': sys.flags.utf8_mode,"
        " 'registered': sys.modules[__name__].Operator is Operator,"
        " 'stdin': sys.stdin.read(), 'mine': os.environ['MINE'], 'home': os.environ['OURS'],"
        " 'unbuffered': os.environ['PYTHONUNBUFFERED'], 'session': os.getsid(0) == os.getpid(),"
        " 'errors': sys.stdout.errors, 'write_through': sys.stdout.write_through,"
        " 'stdout': sys.stdout is sys.__stdout__, 'backend': os.environ.get('MPLBACKEND'),"
        " 'version': __import__('dora').__version__}",
        working_dir=tmp_path,
        env={"MINE": "1", "OURS": "overridden"},
    )
    assert found == {
        "cwd": str(tmp_path),
        "path": str(tmp_path),
        "here": [],
        "beside": "found",
        "name": "op",
        "argv": ["op"],
        "utf8": 1,
        "registered": True,
        "stdin": "",
        "mine": "1",
        "home": "overridden",
        "unbuffered": "1",
        "session": True,
        "errors": "surrogateescape",
        "write_through": True,
        "stdout": True,
        "backend": None,
        "version": "1.1.0",
    }


@pytest.fixture(autouse=True)
def _kernels_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "the kernel's")
    monkeypatch.delenv("MPLBACKEND", raising=False)


def test_the_kernels_environment_is_taken_at_each_start(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ipykernel's backend for matplotlib, which draws into cells, is not among it."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    answer = "[os.environ['OURS'], os.environ['MPLBACKEND']]"
    assert answers(dataflow, "import os", answer) == ["the kernel's", "agg"]
    monkeypatch.setenv("OURS", "newer")
    with dataflow.subscribe("op/out") as found:
        dataflow.restart("op")
        value = found.next(TIMEOUT_SECS)["value"]
    assert json.loads(bytes(value.to_pylist())) == ["newer", "agg"]


def test_a_file_finds_its_folder(dataflow: CellDataflow, tmp_path: Path) -> None:
    """dora puts it at the end of `sys.path`; the notebook's folder stays the first."""
    path = tmp_path / "files" / "op.py"
    path.parent.mkdir()
    (path.parent / "beside_it.py").write_text("word = 'found'")
    found = answers(
        dataflow,
        "import sys, beside_it",
        "[beside_it.word, sys.path[0], sys.path[-1], __file__, sys.argv]",
        path=path,
        working_dir=tmp_path,
    )
    assert found == ["found", str(tmp_path), str(path.parent), str(path), [str(path)]]


def test_what_a_real_process_has_imported(dataflow: CellDataflow) -> None:
    """The budget of a start. torch and OpenCV are the operator's own choice."""
    found = set(answers(dataflow, "import sys", "sorted(sys.modules)"))
    for heavy in ("IPython", "ipykernel", "ipywidgets", "anywidget", "cv2", "torch", "pandas"):
        assert heavy not in found
    # What only a mistake, a failure or a script needs: half a megabyte of each operator.
    for rarely_needed in ("logging", "dataclasses", "difflib", "fractions"):
        assert rarely_needed not in found
    ours = {name for name in found if name.partition(".")[0] == "dora_nb"}
    for not_its in ("dataflow", "engines", "magics", "widgets", "images", "operators", "graph"):
        assert f"dora_nb.{not_its}" not in ours
    assert not ours & {"dora_nb.transport.edge", "dora_nb.child._script", "dora_nb.child._logging"}
    assert "dora_nb.transport" in ours


@pytest.mark.parametrize("name", ["json", "torch", "cv2", "dora_nb"])
def test_its_name_hides_no_module(dataflow: CellDataflow, name: str) -> None:
    found = answers(
        dataflow, "import importlib.util, json", "[__name__, json.loads('1')]", name=name
    )
    assert found == [name, 1]


def test_a_module_of_the_same_name_beside_the_notebook_can_be_imported(
    dataflow: CellDataflow, tmp_path: Path
) -> None:
    (tmp_path / "camera.py").write_text("word = 'from the file'")
    found = answers(dataflow, "import camera", "camera.word", name="camera", working_dir=tmp_path)
    assert found == "from the file"


def test_its_own_file_may_have_its_name(dataflow: CellDataflow, tmp_path: Path) -> None:
    path = tmp_path / "camera.py"
    path.write_text("")
    answer = "__import__('sys').modules['camera'].Operator is Operator"
    assert answers(dataflow, "", answer, name="camera", path=path, working_dir=tmp_path) is True


def test_its_classes_can_be_pickled(dataflow: CellDataflow) -> None:
    imports = "import pickle\nclass Box:\n    pass"
    found = answers(dataflow, imports, "type(pickle.loads(pickle.dumps(Box()))).__module__")
    assert found == "op"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_of_processes_runs_its_functions(dataflow: CellDataflow, method: str) -> None:
    imports = (
        "import multiprocessing\nfrom dora import DoraStatus\n"
        "def double(x):\n    return 2 * x, __name__\n"
        "def pool():\n"
        f"    with multiprocessing.get_context('{method}').Pool(1) as pool:\n"
        "        return pool.map(double, [1, 2])\n"
    )
    assert answers(dataflow, imports, "pool()") == [[2, "op"], [4, "op"]]


def test_a_pool_in_an_operator_named_after_a_module_leaves_that_module_alone(
    dataflow: CellDataflow,
) -> None:
    imports = (
        "import concurrent.futures, json, multiprocessing\n"
        "def pool():\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:\n"
        "        return pool.submit(json.loads, '[1]').result()\n"
    )
    assert answers(dataflow, imports, "pool()", name="json") == [1]


def test_programs_that_it_starts_get_none_of_it(dataflow: CellDataflow) -> None:
    """Only its three streams: no descriptor of ours is inherited."""
    imports = (
        "import subprocess, sys\nprogram = 'import os; print(os.listdir(\"/proc/self/fd\"))'\n"
    )
    answer = "subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, close_fds=False).stdout"
    found = answers(dataflow, imports, answer)
    assert len(json.loads(found.replace("'", '"'))) == 4  # and the listing itself


def test_the_events_are_doras(dataflow: CellDataflow) -> None:
    """Plain dicts, with the keys that each type has; a value is a `pyarrow.Array`."""
    dataflow.cell(
        "source",
        "import pyarrow as pa\nfrom dora import DoraStatus\nclass Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        send_output('out', b'ab', {'n': 1})\n        return DoraStatus.STOP\n",
        inputs=ONCE,
        outputs=("out",),
    )
    body = """
import base64, pickle
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["id"] == "in" or dora_event["type"] == "STOP":
            print(base64.b64encode(pickle.dumps(dora_event)).decode())
            send_output("out", b"")
"""
    inputs = {"in": "source/out", "tick": "dora/timer/hz/100"}
    dataflow.cell("op", body, inputs=inputs, outputs=("out",))
    with dataflow.subscribe("op/out") as told:
        dataflow.start()
        for _ in range(2):
            told.next(TIMEOUT_SECS)
    dataflow.stop()
    message, closed, stop = (
        pickle.loads(base64.b64decode(line)) for line in dataflow.said_by("op")
    )
    value, metadata = message.pop("value"), message.pop("metadata")
    assert message == {"type": "INPUT", "kind": "dora", "id": "in"}
    assert (str(value.type), value.to_pylist()) == ("uint8", [97, 98])
    assert metadata.pop("timestamp").utcoffset().total_seconds() == 0
    assert metadata == {"n": 1}
    assert closed == {"type": "INPUT_CLOSED", "kind": "dora", "id": "in"}
    assert stop == {"type": "STOP", "kind": "dora", "id": "MANUAL"}


def test_it_is_let_go_of_before_its_process_ends(dataflow: CellDataflow) -> None:
    body = (
        "class Operator:\n    def on_event(self, e, s): pass\n"
        "    def __del__(self): print('closed the port')\n"
    )
    dataflow.cell("op", body)
    dataflow.start()
    dataflow.stop()
    assert dataflow.said_by("op") == ["closed the port"]


def test_another_interpreter_needs_no_dora_nb(dataflow: CellDataflow, tmp_path: Path) -> None:
    """It is loaded from where this one's lies, and nothing else of this environment is."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexport OTHER=yes\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    found = answers(dataflow, "import os", "os.environ['OTHER']", python=str(program))
    assert found == "yes"


def test_a_name_with_a_dot_or_a_dash(dataflow: CellDataflow) -> None:
    assert answers(dataflow, "", "__name__", name="front-camera.left") == "front-camera.left"


def test_an_operator_error_of_a_body_that_is_no_python(dataflow: CellDataflow) -> None:
    dataflow.cell("op", "def on_event(:\n")
    with pytest.raises(
        OperatorError, match=r"SyntaxError: invalid syntax \(Cell In\[5\], line 2\)"
    ):
        dataflow.start()
