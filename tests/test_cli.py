"""The command `dora-nb`, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import dora_nb
from dora_nb import cli
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.descriptor.notebook_files import read_notebook
from dora_nb.doctor import Check

from .waiting import killed_at_the_end

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tutorial, in place of the one that comes with the package."""
    root = tmp_path / "origin"
    files = {
        "notebooks/01_first.ipynb": "first",
        "notebooks/02_second.ipynb": "second",
        "samples/camera.py": "camera",
        "samples/detector/weights.bin": "weights",
        "samples/__pycache__/camera.pyc": "left behind",
        "notebooks/robot.mcap": "left behind",
        "notebooks/.ipynb_checkpoints/01_first-checkpoint.ipynb": "left behind",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(cli, "tutorial_root", lambda: root)
    monkeypatch.chdir(tmp_path)
    return root


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_tutorial_is_copied_with_its_relative_paths(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tutorial"]) == 0
    assert _tree(tmp_path / "dora-nb-tutorial") == {
        "notebooks/01_first.ipynb": "first",
        "notebooks/02_second.ipynb": "second",
        "samples/camera.py": "camera",
        "samples/detector/weights.bin": "weights",
    }
    assert capsys.readouterr().out == (
        "dora-nb-tutorial: 4 files copied\n"
        "next: jupyter lab dora-nb-tutorial/notebooks/01_first.ipynb\n"
    )


def test_the_next_command_can_be_pasted_whatever_the_folder_is_called(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tutorial", "my robots"]) == 0
    assert "jupyter lab 'my robots/notebooks/01_first.ipynb'" in capsys.readouterr().out


def test_without_jupyterlab_the_next_command_installs_it(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["tutorial", "there"]) == 0
    assert "next: pip install 'dora-nb[tutorial]' && jupyter lab there" in capsys.readouterr().out


def test_copying_again_changes_nothing_and_adds_what_is_missing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "there"
    cli.main(["tutorial", "there"])
    (folder / "mine.txt").write_text("mine")
    capsys.readouterr()
    assert cli.main(["tutorial", "there"]) == 0
    assert capsys.readouterr().out.startswith("there: all files are there\n")
    (folder / "samples/camera.py").unlink()
    assert cli.main(["tutorial", "there"]) == 0
    assert capsys.readouterr().out.startswith("there: 1 files copied\n")
    assert (folder / "mine.txt").read_text() == "mine"


def test_changed_files_are_named_and_kept(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "there"
    cli.main(["tutorial", "there"])
    (folder / "samples/camera.py").write_text("my camera")
    (folder / "notebooks/01_first.ipynb").write_text("executed")
    (folder / "notebooks/02_second.ipynb").unlink()
    capsys.readouterr()
    assert cli.main(["tutorial", "there"]) == 1
    said = capsys.readouterr().err
    assert "notebooks/01_first.ipynb, samples/camera.py; nothing was copied." in said
    assert "--force" in said
    assert (folder / "samples/camera.py").read_text() == "my camera"
    assert not (folder / "notebooks/02_second.ipynb").exists()

    assert cli.main(["tutorial", "there", "--force"]) == 0
    assert _tree(folder) == {
        name: text for name, text in _tree(root).items() if text != "left behind"
    }


# ---------------------------------------------------------------- a new project


def test_a_new_project_has_a_notebook_a_test_and_what_git_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "robots/my rover"]) == 0
    folder = tmp_path / "robots" / "my rover"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".gitignore",
        "README.md",
        "helpers.py",
        "robot.ipynb",
        "test_robot.py",
    ]
    assert (folder / "README.md").read_text().startswith("# my rover\n")
    assert capsys.readouterr().out == (
        "robots/my rover: 5 files written\n"
        "next: cd 'robots/my rover' && pytest && jupyter lab robot.ipynb\n"
    )


def _pytest_in(folder: Path, *arguments: str) -> str:
    """What pytest says there, without the plugins and settings of the machine that runs these tests."""
    environment = {
        **os.environ,
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.stdout + done.stderr


def test_pytest_passes_in_a_new_project_and_fails_once_its_finder_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["new", "rover"])
    assert "5 passed" in _pytest_in(tmp_path / "rover")
    notebook = tmp_path / "rover" / "robot.ipynb"
    text = notebook.read_text()
    assert text.count("[*box, 1.0, 0.0]") == 1
    notebook.write_text(text.replace("[*box, 1.0, 0.0]", "[0.0, *box, 1.0]"))
    assert "1 failed" in _pytest_in(tmp_path / "rover", "-k", "finder_sends")


def test_a_new_project_runs_and_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["new", "rover"])
    with dora_nb.Dataflow() as dataflow:
        FrontEnd(dataflow).declare_all(read_notebook(Path("rover/robot.ipynb")).graph)
        dataflow.start()
        (event,) = dataflow.take("finder/boxes", 1, timeout_secs=30)
        assert len(dora_nb.as_boxes(event)) == 1
    capsys.readouterr()
    assert cli.main(["export", "rover/robot.ipynb", "rover/build"]) == 0
    helpers = (tmp_path / "rover/helpers.py").read_bytes()
    assert (tmp_path / "rover/build/helpers.py").read_bytes() == helpers
    assert capsys.readouterr().err == ""


def test_a_folder_with_files_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rover").mkdir()
    assert cli.main(["new", "rover"]) == 0  # an empty one will do
    (tmp_path / "rover/robot.ipynb").write_text("mine")
    before = _tree(tmp_path / "rover")
    capsys.readouterr()
    assert cli.main(["new", "rover"]) == 1
    assert capsys.readouterr().err == (
        "dora-nb new: rover is not empty; nothing was written. Name a new or empty folder.\n"
    )
    assert _tree(tmp_path / "rover") == before


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("file", "dora-nb new: file: File exists\n"),
        ("file/rover", "dora-nb new: file/rover: Not a directory\n"),
        ("/proc/rover", "dora-nb new: /proc/rover: No such file or directory\n"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_line(
    folder: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert cli.main(["new", folder]) == 1
    assert capsys.readouterr().err == said


def test_a_notebook_that_is_not_there_is_answered_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robot.ipynb").touch()
    for words in (["run", "robt.ipynb"], ["export", "robt.ipynb", "out"]):
        assert cli.main(words) == 1
        assert capsys.readouterr().err == (
            f"dora-nb {words[0]}: robt.ipynb: No such file or directory. Did you mean 'robot.ipynb'?\n"
        )


def test_a_folder_that_may_not_be_written_to_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for an account that is not root, for which these tests may run."""

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert cli.main(["new", "rover"]) == 1
    assert capsys.readouterr().err == "dora-nb new: rover: Permission denied\n"


def test_a_file_where_the_folder_should_be_is_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").write_text("a file")
    assert cli.main(["tutorial", "there"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("dora-nb tutorial: there")
    assert said.count("\n") == 1


def test_an_interrupt_shows_no_traceback(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", interrupt)
    assert cli.main(["tutorial", "there"]) == 130
    assert capsys.readouterr().err == "dora-nb tutorial: interrupted\n"


def test_an_installation_without_the_tutorial_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "dora_nb" / "cli.py"))
    assert cli.main(["tutorial", str(tmp_path / "there")]) == 1
    assert "the tutorial is missing from this installation" in capsys.readouterr().err


def test_in_the_repository_the_tutorial_is_the_repositorys_own() -> None:
    assert cli.tutorial_root() == REPOSITORY


def test_a_mistyped_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tutoral"]) == 2
    expected = "dora-nb: there is no command 'tutoral'. Did you mean 'tutorial'?\n"
    assert capsys.readouterr().err == expected
    assert cli.main(["fly"]) == 2
    assert (
        "There are: doctor, export, info, new, recover, run, tutorial." in capsys.readouterr().err
    )


@pytest.mark.parametrize("words", [[], ["--vers"], ["tutorial", "--forc"], ["tutorial", "a", "b"]])
def test_a_wrong_command_line_shows_the_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: dora-nb")


@pytest.mark.parametrize(("result", "status"), [("note", 0), ("missing", 1)])
def test_the_doctor_fails_only_where_something_needed_is_missing(
    result: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [Check("ok", "Python", "3.11"), Check(result, "OpenCV", "not loaded")]
    monkeypatch.setattr(cli, "check_system", lambda: checks)
    assert cli.main(["doctor"]) == status
    failed = "1 check failed: install what is missing, then run dora-nb doctor again.\n"
    assert capsys.readouterr().out == (
        f"ok      Python  3.11\n{result:8}OpenCV  not loaded\n{failed if status else ''}"
    )


def test_the_installed_command_runs_and_finds_this_machine_fit() -> None:
    command = Path(sys.executable).with_name("dora-nb")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"dora-nb {dora_nb.__version__}\n"
    doctor = subprocess.run([command, "doctor"], capture_output=True, text=True, check=False)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    lines = {" ".join(line.split()[:2]) for line in doctor.stdout.splitlines()}
    assert {"ok Python", "ok shared", "ok processes", "ok OpenCV", "ok jupyterlab"} <= lines


def test_the_command_starts_without_loading_what_it_does_not_use() -> None:
    """`dora-nb --version` must not pay for Arrow, OpenCV or Jupyter."""
    code = (
        "import sys; from dora_nb import cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "print({'pyarrow', 'cv2', 'IPython', 'numpy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout.splitlines()[-1] == "set()"


# -- running and exporting -------------------------------------------------------------------------

COUNTING = """\
%%dora_operator counter --inputs tick=dora/timer/hz/100 --outputs n
from dora import DoraStatus
class Operator:
    n = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.n += 1
            print("counted", self.n)
            FAIL
            return DoraStatus.STOP if self.n == 3 else DoraStatus.CONTINUE
"""


def _notebook(folder: Path, cell: str) -> str:
    cells = [{"cell_type": "code", "source": cell}]
    (folder / "robot.ipynb").write_text(json.dumps({"cells": cells}))
    return str(folder / "robot.ipynb")


def test_a_notebook_runs_to_its_end_without_a_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", _notebook(tmp_path, COUNTING.replace("FAIL", "pass"))]) == 0
    assert capsys.readouterr().out == "".join(f"counter: counted {n}\n" for n in (1, 2, 3))


def test_a_node_that_fails_is_shown_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", _notebook(tmp_path, COUNTING.replace("FAIL", "1 / 0"))]) == 1
    printed = capsys.readouterr()
    assert '"robot.ipynb, cell 1", line 9, in on_event' in printed.err
    assert "counter failed in on_event, at INPUT 'tick': ZeroDivisionError" in printed.err
    assert "counter: counted 1\n" in printed.out
    at_start = COUNTING.replace("FAIL", "pass") + "1 / 0\n"
    assert cli.main(["run", _notebook(tmp_path, at_start)]) == 1
    assert "counter failed before its first event" in capsys.readouterr().err


def test_what_has_no_end_is_stopped_after_its_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = COUNTING.replace("FAIL", "self.n %= 3").replace("== 3", "== 9")
    assert cli.main(["run", _notebook(tmp_path, endless), "--stop-after", "3"]) == 0
    assert "counter: counted 1\n" in capsys.readouterr().out


ENDING = """\
%%dora_node arm
import atexit, os, threading
from dora import Node
node = Node()
def close():
    print("closing", flush=True)
    threading.Event().wait(EVENT)
    print("closed", flush=True)
    STATEMENT
atexit.register(close)
"""


@pytest.mark.parametrize(
    ("exit_secs", "statement", "options", "status", "said"),
    [
        ("2.5", "pass", [], 0, ""),
        ("0", "os.kill(os.getpid(), 9)", [], 1, "arm's process was killed by SIGKILL (Killed)."),
        ("None", "pass", ["--stop-after", "4"], 1, "arm had ended its own code and was still"),
    ],
    ids=["slowly", "killed", "stopped"],
)
def test_a_node_that_ends_by_itself_ends_in_its_own_time(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    exit_secs: str,
    statement: str,
    options: list[str],
    status: int,
    said: str,
) -> None:
    cell = ENDING.replace("EVENT", exit_secs).replace("STATEMENT", statement)
    assert cli.main(["run", _notebook(tmp_path, cell), *options]) == status
    printed = capsys.readouterr()
    assert printed.out.startswith("arm: closing\n")
    assert ("arm: closed\n" in printed.out) == (exit_secs != "None")
    assert said in printed.err


RESTARTED = """\
%%dora_node bad --restart-policy on-failure --restart-delay 0.2
print("tried", flush=True)
open("TRIES", "a").write("tried ")
import a_package_that_is_not_installed
"""


def test_a_node_that_fails_again_and_again_before_it_is_ready_is_reported_and_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"
    tries.touch()

    def is_over() -> bool:
        return len(tries.read_text().split()) >= 5

    staged = SimpleNamespace(monotonic=lambda: time.monotonic() + 600 * is_over())
    monkeypatch.setattr("dora_nb.dataflow.batch.time", staged)
    cell = RESTARTED.replace("TRIES", str(tries))
    assert cli.main(["run", _notebook(tmp_path, cell), "--stop-after", "600"]) == 1
    printed = capsys.readouterr()
    assert printed.out.count("bad: tried\n") > 1
    reason = "ModuleNotFoundError: No module named 'a_package_that_is_not_installed'"
    first, second, *_ = printed.err.splitlines()
    assert re.fullmatch(rf"bad failed: {reason}; starting: bad \(\d+ s\)", first)
    assert re.fullmatch(rf"bad failed \d+ times: {reason}; starting: bad \(\d+ s\)", second)
    assert f"OperatorError: bad failed: {reason}" in printed.err


def test_the_time_of_a_run_begins_with_its_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = "%%dora_node slow\nimport time\nprint('here')\nwhile True: time.sleep(1)\n"
    assert cli.main(["run", _notebook(tmp_path, endless), "--stop-after", "2"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("slow: here\n")
    assert "OperatorError: slow was not ready when the time was over. See which" in printed.err


@pytest.mark.parametrize("cell", [RESTARTED, COUNTING.replace("FAIL", "self.n = 0")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_nodes_also_while_they_start(
    tmp_path: Path, cell: str, number: signal.Signals
) -> None:
    ending = cell + "        if dora_event['type'] == 'STOP': print('asked to stop')\n"
    command = [sys.executable, "-m", "dora_nb.cli", "run"]
    command += [_notebook(tmp_path, ending if cell is not RESTARTED else cell)]
    pipe = subprocess.PIPE
    with killed_at_the_end(
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline()  # Lines come from the first moment on.
        running.send_signal(number)
        printed, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert errors.endswith("dora-nb run: interrupted\n")
    assert ("asked to stop" in printed) == (cell is not RESTARTED)


def test_a_notebook_runs_on_dora_rs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what its nodes print, and the errors of its cells; the status says whether one failed."""
    said = (
        "%%dora_node a --inputs tick=dora/timer/hz/20\nfrom dora import Node\nNode()\nprint('here')"
    )
    assert cli.main(["run", _notebook(tmp_path, said), "--engine", "dora"]) == 0
    assert "a: here\n" in capsys.readouterr().out
    failing = said + "\n1 / 0"
    assert cli.main(["run", _notebook(tmp_path, failing), "--engine", "dora"]) == 1
    told = capsys.readouterr().err
    assert 'cell 1", line 5' in told
    assert told.endswith("OperatorError: a failed: ZeroDivisionError: division by zero\n")


def test_a_node_that_only_dora_can_run_is_named_and_the_others_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    node = "from dora import Node\nfor event in Node(): print(event['type'], flush=True); break\n"
    (tmp_path / "node.py").write_text(node)
    (tmp_path / "prog").write_text(f'#!/bin/sh\nexec "{sys.executable}" node.py\n')
    (tmp_path / "prog").chmod(0o755)
    flow = tmp_path / "flow.yml"
    flow.write_text(
        "nodes:\n"
        "  - {id: a, path: node.py, inputs: {t: dora/timer/millis/20, x: b/x}}\n"
        "  - {id: b, path: prog, inputs: {t: dora/timer/millis/20}, outputs: [x]}\n"
    )
    assert cli.main(["run", str(flow)]) == 0
    printed = capfd.readouterr()
    assert printed.out == "a: INPUT\n"
    assert printed.err == (
        "b: not started, dora-rs only: 'prog' is not a Python file; a waits for it\n"
    )
    assert cli.main(["run", str(flow), "--engine", "dora"]) == 0
    printed = capfd.readouterr()
    assert "b: INPUT\n" in printed.out
    assert printed.err == ""


def test_a_node_that_is_not_valid_python_fails_and_the_others_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "node.py").write_text("from dora import Node\nNode(); print('ran')\n")
    (tmp_path / "bad.py").write_text("match = = 1\n")
    flow = tmp_path / "flow.yml"
    flow.write_text("nodes: [{id: a, path: node.py}, {id: bad, path: bad.py}]\n")
    assert cli.main(["run", str(flow)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "a: ran\n"
    version = "{}.{}".format(*sys.version_info)
    why = f"not valid in Python {version}: SyntaxError: invalid syntax ({tmp_path}/bad.py, line 1)"
    assert printed.err.splitlines() == [
        f"bad: not started, {why}",
        f'File "{tmp_path}/bad.py", line 1',
        "    match = = 1",
        "            ^",
        f"OperatorError: bad failed: {why}",
    ]


def test_what_a_build_has_installed_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = f"#!{sys.executable}\nfrom dora import Node\nNode()\nprint('here')\n"
    (tmp_path / "later").write_text(script)
    flow = tmp_path / "flow.yml"
    build = "sh -c 'mkdir -p bin && mv later bin/echo-node'"
    flow.write_text(f'nodes: [{{id: a, path: bin/echo-node, build: "{build}"}}]\n')
    assert cli.main(["run", str(flow), "--build"]) == 0
    printed = capfd.readouterr()
    assert printed.out.endswith("a: here\n")
    assert "dora-rs only" not in printed.err


def test_a_cycle_that_can_stand_still_is_said_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wired = COUNTING.replace("hz/100", "hz/100 back=counter/n --queue back=5:backpressure")
    assert cli.main(["run", _notebook(tmp_path, wired.replace("FAIL", "pass"))]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("counter: declared; counter → counter stands still once")
    assert printed.out.endswith("counter: counted 3\n")


def test_an_export_is_read_and_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = _notebook(tmp_path, COUNTING.replace("FAIL", "pass"))
    assert cli.main(["export", notebook, str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path / 'out'}: dataflow.yml, counter_operator.py, requirements.txt\n"
        f"next: dora run {tmp_path / 'out' / 'dataflow.yml'}\n"
    )
    assert cli.main(["run", str(tmp_path / "out" / "dataflow.yml")]) == 0
    assert capsys.readouterr().out.count("counter: counted") == 3


def test_variables_of_the_command_line_reach_every_node(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They precede those of the dataflow, but not those of a node, as with `dora run --env`."""
    (tmp_path / "node.py").write_text(
        "import os\nfrom dora import Node\nNode()\n"
        "print(*map(os.environ.get, ('OF_FLOW', 'OF_NODE', 'OF_LINE')))\n"
    )
    flow = tmp_path / "flow.yml"
    flow.write_text(
        "env: {OF_FLOW: flow}\nnodes:\n"
        "  - {id: a, path: node.py, env: {OF_NODE: node}, build: 'sh -c \"echo $OF_FLOW $OF_LINE\"'}\n"
    )
    given = ["--env", "OF_FLOW=line", "--env", "OF_NODE=line", "--env", "OF_LINE=a=$b c"]
    assert cli.main(["run", str(flow), "--build", *given]) == 0
    printed = capfd.readouterr().out
    assert printed.splitlines()[1:] == ["flow", "a: line node a=$b c"]
    cell = f"%%dora_node b --env OF_NODE=node\n{(tmp_path / 'node.py').read_text()}"
    assert cli.main(["run", _notebook(tmp_path, cell), *given]) == 0
    assert capfd.readouterr().out == "b: line node a=$b c\n"
    for wrong in ("OF_FLOW", "1A=x", "=x"):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["run", str(flow), "--env", wrong])
        assert f"expected KEY=VALUE, such as MODEL=yolov5n, got '{wrong}'" in capfd.readouterr().err


def test_builds_and_lines_for_a_shell_are_run_only_where_the_user_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flow = tmp_path / "flow.yml"
    flow.write_text("nodes:\n  - {id: a, path: shell, args: echo hi, build: touch built, rev: x}\n")
    assert cli.main(["run", str(flow)]) == 1
    assert "flow.yml, line 2" in capfd.readouterr().err
    assert cli.main(["run", str(flow), "--allow-shell-nodes"]) == 0
    printed = capfd.readouterr()
    assert printed.out == "a: hi\n"
    assert "a: not built (--build runs it): touch built" in printed.err
    assert "flow.yml, line 2: the embedded engine ignores 'rev'." in printed.err
    assert not (tmp_path / "built").exists()
    assert cli.main(["run", str(flow), "--allow-shell-nodes", "--build"]) == 0
    assert (tmp_path / "built").exists()
    flow.write_text("nodes:\n  - {id: a, path: shell, args: echo hi, build: 'false'}\n")
    assert cli.main(["run", str(flow), "--allow-shell-nodes", "--build"]) == 1
    assert "the build of a ended with status 1" in capfd.readouterr().err


def test_builds_run_with_the_nodes_variables_and_this_python(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flow = tmp_path / "flow.yml"
    build = "sh -c 'echo $WHAT in $(pwd)'\\npip --version\\nnoprogram x"
    entry = f'{{id: a, path: shell, args: echo hi, env: {{WHAT: built}}, build: "{build}"}}'
    flow.write_text(f"nodes: [{entry}]\n")
    assert cli.main(["run", str(flow), "--allow-shell-nodes", "--build"]) == 1
    printed = capfd.readouterr()
    assert f"\nbuilt in {tmp_path}\n" in printed.out
    assert f"from {Path(sys.executable).parent.parent}" in printed.out
    assert "a cannot run 'noprogram x': " in printed.err


def test_an_old_file_is_exported_as_a_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("from dora import Node\nNode()\n")
    old = tmp_path / "old.yml"
    old.write_text("nodes: [{id: a, custom: {source: a.py}}]")
    assert cli.main(["export", str(old), str(tmp_path / "out")]) == 0
    assert "'custom' is a key of dora 0.x" in capsys.readouterr().err
    assert "path: a_node.py" in (tmp_path / "out" / "dataflow.yml").read_text()


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", str(tmp_path / "no.yml")]) == 1
    assert capsys.readouterr().err.endswith("no.yml'.\n")
    with pytest.raises(SystemExit):
        cli.main(["run", "x.yml", "--stop-after", "-1"])
