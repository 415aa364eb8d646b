"""``%dora`` in a real shell."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dora_nb
from dora_nb import doctor
from dora_nb.cells.options import SUB_COMMANDS
from dora_nb.doctor import Check
from dora_nb.errors import DataflowStateError, OperatorError
from dora_nb.status import LogLine, State

BODY = "\nclass Operator:\n    def on_event(self, dora_event, send_output): pass\n"


@pytest.fixture
def two(notebook: Any) -> Any:
    """A notebook with a camera and a detector declared."""
    notebook.run("%%dora_operator camera --inputs tick=dora/timer/hz/30 --outputs image" + BODY)
    notebook.run("%%dora_operator detector --inputs image=camera/image --outputs bbox" + BODY)
    return notebook


def test_starting_and_stopping_say_one_stable_line_each(two: Any) -> None:
    assert two.run("%dora start").stdout == "started: camera, detector\n"
    assert two.run("%dora start").stdout == "already running\n"
    assert two.run("%dora stop").stdout == "stopped\n"
    assert two.run("%dora stop --grace 0.5").stdout == "already stopped\n"
    assert two.dataflow.calls[-1] == ("stop", 0.5)
    assert two.dataflow.calls[-2] == ("stop", 2.0)


def test_one_operator_is_stopped_and_named(two: Any) -> None:
    two.run("%dora start")
    assert two.run("%dora stop camera").stdout == "camera: stopped\n"
    assert two.run("%dora stop --grace 0.5 camera").stdout == "camera: stopped\n"
    assert two.dataflow.calls[-2:] == [("stop", "camera", 2.0), ("stop", "camera", 0.5)]
    two.run("%dora stop")
    assert two.run("%dora stop camera").stdout == "camera: already stopped\n"


def test_attaching_passes_on_what_was_given(notebook: Any) -> None:
    assert notebook.run("%dora attach arm").stdout == "watching arm: camera\n"
    notebook.run("%dora attach --coordinator robot:6013 --daemon-port 1")
    assert notebook.dataflow.calls == [
        ("attach", "arm", {}),
        ("attach", None, {"coordinator": "robot:6013", "daemon_port": 1}),
    ]
    assert notebook.run("%dora detach").stdout == "detached\n"


def test_nothing_to_start_is_an_error_with_its_place(notebook: Any) -> None:
    ran = notebook.run("x = 1\n%dora start")
    assert isinstance(ran.error, DataflowStateError)
    assert ran.stdout == (
        "Cell In[1], line 2\n    %dora start\n"
        "DataflowStateError: there is nothing to start: declare an operator.\n"
    )


def test_a_failing_start_shows_the_operators_lines(two: Any) -> None:
    def fail(progress: Callable[[str], None]) -> None:
        progress("starting: detector (2 s)")
        raise OperatorError("it broke", node="detector", traceback_lines=["Cell In[2], line 4"])

    two.dataflow.while_starting = fail
    ran = two.run("%dora start")
    assert isinstance(ran.error, OperatorError)
    assert ran.stdout == "Cell In[2], line 4\nOperatorError: it broke\n"


def test_an_interrupted_start_is_one_line(two: Any) -> None:
    def interrupt(progress: Callable[[str], None]) -> None:
        raise KeyboardInterrupt

    two.dataflow.while_starting = interrupt
    ran = two.run("%dora start")
    assert isinstance(ran.error, KeyboardInterrupt)
    assert ran.stdout == (
        "KeyboardInterrupt: the start was interrupted, and what it had started is stopped.\n"
    )


def test_progress_leaves_no_text(two: Any) -> None:
    shown: list[str] = []

    def wait(progress: Callable[[str], None]) -> None:
        for seconds in (2, 3):
            progress(f"starting: detector ({seconds} s)")
            shown.append("again")

    two.dataflow.while_starting = wait
    ran = two.run("print('before')\n%dora start")
    assert shown == ["again", "again"]
    assert ran.stdout == "before\nstarted: camera, detector\n"
    assert ran.texts == []


@pytest.mark.parametrize("command", ["restart", "remove", "logs", "stop", "status --stacks"])
def test_an_unknown_name_gets_the_near_one(two: Any, command: str) -> None:
    assert two.refused(f"%dora {command} detectr") == (
        f"Cell In[3], line 1\n    %dora {command} detectr\n    {' ' * len(f'%dora {command} ')}^\n"
        "GraphError: no operator 'detectr' is declared. Did you mean 'detector'?"
    )


def test_restart_and_remove(two: Any) -> None:
    assert two.run("%dora restart camera").stdout == (
        "camera: generation 2, restarted, state not kept\n"
    )
    assert two.run("%dora remove camera").stdout == "camera: removed\n"
    assert list(two.dataflow.graph.nodes) == ["detector"]


def test_the_line_that_is_meant_is_found_among_equal_ones(two: Any) -> None:
    shown = two.refused("\n\nif True:\n    %dora stop\n%dora stop  # a\ny = %dora remove xy")
    assert shown.split("\n")[-4:-1] == [
        "Cell In[3], line 6",
        "    y = %dora remove xy",
        "                     ^",
    ]
    shown = two.refused("%dora stop\n%dora \\\n   remove xy\n")
    assert "Cell In[4], line 3\n    remove xy\n           ^\n" in shown
    shown = two.refused("for i in range(2):\n    if i:\n        %dora remove xy\n%dora remove xy")
    assert shown.startswith("Cell In[5], line 3\n    %dora remove xy\n                 ^\n")
    shown = two.refused("if False:\n    %dora remove xy\n%dora remove xy")
    assert shown.startswith("Cell In[6], line 3\n")


def test_a_line_that_is_made_by_a_program_is_shown_as_it_is(two: Any) -> None:
    shown = two.refused("get_ipython().run_line_magic('dora', 'remove xy')")
    assert shown.startswith("Cell In[3]\n    %dora remove xy\n                 ^\nGraphError")


# --- status -----------------------------------------------------------------------------------


def test_status_is_one_stable_table_as_text_and_html(two: Any) -> None:
    two.run("%%dora_operator arm --inputs plan=planner/path --queue plan=1:backpressure" + BODY)
    two.dataflow.set_status("camera", state=State.RUNNING, generation=1, events=123)
    error = OperatorError("it <broke>", node="detector")
    two.dataflow.set_status("detector", state=State.FAILED, generation=2, error=error)
    two.dataflow.set_status("arm", state=State.WAITING, waiting_for=("planner",))
    ran = two.run("%dora status")
    assert (
        ran.texts
        == [
            (
                "operator  state                  generation  inputs                                   outputs\n"
                "camera    running                1           tick ← dora/timer/hz/30                  image\n"
                "detector  failed                 2           image ← camera/image (10, drop_oldest)   bbox\n"
                "arm       waiting (for planner)              plan ← planner/path (1, backpressure)\n"
                "detector: it <broke>"
            )
        ]
        or ran.texts[0]
    )
    page = ran.displayed[0]["text/html"]
    assert "it &lt;broke&gt;" in page
    assert "123" not in page + ran.texts[0]
    assert "application/vnd.jupyter.widget-view+json" in ran.displayed[0]


def test_stacks_are_shown_in_place_of_the_table(two: Any) -> None:
    ran = two.run("%dora status --stacks camera")
    assert ran.stdout == "camera: generation 1, process 7\n"
    assert ran.displayed == []


def test_status_of_nothing_is_said_in_words(notebook: Any) -> None:
    assert notebook.run("%dora status").texts == ["no operator is declared"]


# --- doctor -----------------------------------------------------------------------------------


def test_the_doctor_checks_as_the_command_does_and_does_not_raise(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [Check("ok", "Python", "3.11"), Check("missing", "OpenCV", "Install libgl1.")]
    monkeypatch.setattr(doctor, "check_system", lambda: checks)
    ran = notebook.run("%dora doctor")
    assert ran.error is None
    assert ran.stdout == (
        f"dora_nb {dora_nb.__version__} on this machine:\n"
        "ok      Python  3.11\n"
        "missing OpenCV  Install libgl1.\n"
        "1 check failed: install what is missing, then run %dora doctor again.\n"
    )
    monkeypatch.setattr(doctor, "check_system", lambda: checks[:1])
    assert notebook.run("%dora doctor").stdout.endswith(":\nok      Python  3.11\n")


# --- logs, graph ------------------------------------------------------------------------------


def lines_of(*texts: str, node: str = "camera", stream: str = "stdout") -> list[LogLine]:
    return [LogLine(node, stream, text, 0.0) for text in texts]


def test_logs_of_all_name_their_operator_and_those_of_one_do_not(two: Any) -> None:
    two.dataflow.lines = [
        *lines_of("one", "two"),
        *lines_of("oh", node="detector", stream="stderr"),
        *lines_of("stopped by SIGKILL", node="detector", stream="engine"),
    ]
    assert two.run("%dora logs").texts == [
        "camera: one\ncamera: two\ndetector: oh\ndetector: [dora_nb] stopped by SIGKILL"
    ]
    assert two.run("%dora logs camera").texts == ["one\ntwo"]


def test_logs_are_the_last_lines_and_say_what_was_cut(two: Any) -> None:
    two.dataflow.lines = lines_of(*map(str, range(60)))
    text = two.run("%dora logs").texts[0].split("\n")
    assert text[0] == "(10 older lines: %dora logs --lines 60)"
    assert text[1:] == [f"camera: {n}" for n in range(10, 60)]
    assert (
        two.run("%dora logs camera --lines 59")
        .texts[0]
        .startswith("(1 older line: %dora logs camera --lines 60)\n1\n")
    )
    assert two.run("%dora logs --lines 60").texts[0].startswith("camera: 0\n")


def test_no_logs_are_said_in_words(two: Any) -> None:
    assert two.run("%dora logs").texts == ["nothing was printed yet"]
    assert two.run("%dora logs camera").texts == ["camera has printed nothing yet"]


def test_graph_shows_the_picture(two: Any) -> None:
    ran = two.run("%dora graph")
    assert set(ran.displayed[0]) == {"image/svg+xml", "text/plain"}
    assert ran.texts[0].startswith("camera [declared]\n  tick ← dora/timer/hz/30\n")


# --- help, failures ---------------------------------------------------------------------------


def test_help_fits_into_a_cell(notebook: Any) -> None:
    """A longer line would be broken in JupyterLab, and its columns lost."""
    for line in (
        "%dora --help",
        "%%dora_operator --help",
        "%%dora_node --help",
        "%dora topic --help",
    ):
        assert [each for each in notebook.run(line).stdout.splitlines() if len(each) > 104] == []


def test_help_names_every_sub_command_and_does_nothing(notebook: Any) -> None:
    shown = notebook.run("%dora --help").stdout
    assert all(command.usage.partition(" [--")[0] in shown for command in SUB_COMMANDS)
    assert notebook.run("%dora").stdout == shown
    for command in SUB_COMMANDS:
        text = notebook.run(f"%dora {command.name} --help").stdout
        assert text.startswith(command.usage + "\n")
        assert text == notebook.run(f"%dora {command.name} -h").stdout
        for action in command.actions:
            assert f"  {action.usage}" in text
            shown_for_one = notebook.run(f"%dora {action.name} --help").stdout
            assert shown_for_one.startswith(action.usage + "\n")
    assert notebook.dataflow.calls == []
    assert "has no sub-command 'strat'" in notebook.refused("%dora strat --help")
    assert "has no action 'ehco'" in notebook.refused("%dora topic ehco --help")


@pytest.mark.parametrize("command", [c.name for c in SUB_COMMANDS if c.argument != "NAME"])
def test_each_names_failures_that_nobody_saw_once(two: Any, command: str) -> None:
    two.dataflow.failures = [OperatorError("it broke", node="camera")]
    assert two.run(f"%dora {command}").stderr == "Cell In[1]: camera failed: it broke\n"
    assert two.run(f"%dora {command}").stderr == ""


def test_run_all_twice_in_one_kernel_is_clean(notebook: Any) -> None:
    cells = [
        "%load_ext dora_nb",
        "%%dora_operator camera --outputs image" + BODY,
        "%dora start",
        "%dora status",
        "%dora graph",
        "%dora stop",
    ]
    for _, cell in itertools.product(range(2), cells):
        assert notebook.run(cell).error is None


# --- dataflow.yml ------------------------------------------------------------------------------


def test_an_export_names_its_files_and_an_import_declares_them(
    two: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    declared = list(two.dataflow.graph.nodes)
    printed = two.run("%dora export out").stdout
    assert printed.startswith("exported: dataflow.yml, ")
    assert printed.endswith("run it with dora-rs: dora run out/dataflow.yml\n")
    for name in declared:
        two.run(f"%dora remove {name}")
    assert two.run("%dora import out/dataflow.yml").stdout == f"imported: {', '.join(declared)}\n"
    assert list(two.dataflow.graph.nodes) == declared
    again = two.run("%dora import out/dataflow.yml").stdout.splitlines()
    assert again[1:] == [f"{name}: unchanged" for name in declared]


def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    two: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"there is no file 'no.yml'. Relative paths begin at {tmp_path}." in two.refused(
        "%dora import no.yml"
    )
    (tmp_path / "flow.yml").write_text("nodes:\n  - {id: a, path: shell, args: ls}\n")
    shown = two.refused("%dora import flow.yml")
    assert shown.startswith("flow.yml, line 2\n    - {id: a, path: shell, args: ls}\n")
    printed = two.run("%dora import flow.yml --allow-shell-nodes").stdout
    assert printed == "imported: a\n"
    assert "'--allow-shell-nodes' takes no value" in two.refused(
        "%dora import flow.yml --allow-shell-nodes=yes"
    )
    assert "the FILE.yml is missing" in two.refused("%dora import")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in two.refused("%dora export file")


FLOW = """\
nodes:
  - {id: eye, operator: {python: eye.py, outputs: [image]}, cpu_affinity: [1], restart_policy: always, build: make}
  - {id: log, path: log.py, inputs: {image: eye/image}, args: -v}
  - {id: hand, path: dynamic}
"""


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataflow.yml in the kernel's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eye.py").write_text(BODY[1:])
    (tmp_path / "log.py").write_text("from dora import Node\nNode()  # ``` in text\n")
    (tmp_path / "flow.yml").write_text(FLOW)


def test_an_import_says_what_it_does_not_do(notebook: Any, flow: None) -> None:
    assert notebook.run("%dora import flow.yml").stdout == (
        "imported: eye, log, hand\n"
        "flow.yml, line 2: the embedded engine ignores 'cpu_affinity'.\n"
        "eye: not built; its build command is: make\n"
    )


def test_imported_nodes_are_shown_as_cells(notebook: Any, flow: None) -> None:
    ran = notebook.run("%dora import flow.yml --cells")
    assert ran.texts == [
        "%%dora_operator eye --outputs image --restart-policy always\n" + BODY.strip(),
        "%%dora_node log --inputs image=eye/image --args '-v'\nfrom dora import Node\nNode()  # ``` in text",
    ]
    assert ran.displayed[0]["text/markdown"] == f"```python\n{ran.texts[0]}\n```"
    assert ran.displayed[1]["text/markdown"] == f"````python\n{ran.texts[1]}\n````"
    assert "eye: a cell has no option for 'cpu_affinity', 'build'.\n" in ran.stdout


def test_one_imported_node_goes_into_a_new_cell(
    notebook: Any, flow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(notebook.shell, "set_next_input", made.append)
    assert notebook.run("%dora import flow.yml --cell log").error is None
    assert [cell.partition("\n")[0] for cell in made] == [
        "%%dora_node log --inputs image=eye/image --args '-v'"
    ]
    assert notebook.run(made[0]).texts == ["log: declared"]
    shown = notebook.refused("%dora import flow.yml --cell lug")
    assert "Did you mean 'log'?" in shown
    assert shown.splitlines()[2].index("^") == len("    %dora import flow.yml --cell ")
    assert "hand has no code for a cell." in notebook.refused("%dora import flow.yml --cell hand")


def test_one_node_goes_into_a_cell_whatever_the_others_are(
    notebook: Any, flow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(notebook.shell, "set_next_input", made.append)
    (tmp_path / "bad.py").write_text("match = = 1\n")
    more = "  - {id: lidar, path: build/lidar}\n  - {id: bad, path: bad.py}\n"
    (tmp_path / "flow.yml").write_text(FLOW + more)
    printed = notebook.run("%dora import flow.yml --cell log").stdout
    assert printed.startswith("imported: eye, log, hand, lidar, bad\n")
    assert [cell.partition(" ")[0] for cell in made] == ["%%dora_node"]
    why = "dora-rs only: 'build/lidar' is not a Python file."
    shown = notebook.refused("%dora import flow.yml --cell lidar")
    assert shown.endswith(f"GraphError: lidar has no code for a cell: {why}")
