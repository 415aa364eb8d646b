"""The same cells on dora-rs: the real one, started and stopped as `%dora start --engine dora` does."""

from __future__ import annotations

import http.client
import importlib.metadata
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from dora_nb.engines.dora import _cluster, _log_lines, _program
from dora_nb.engines.dora import _session as _dora_session
from dora_nb.engines.embedded import _session
from dora_nb.errors import DataflowStateError, EngineError, OperatorError
from dora_nb.status import State

from ..waiting import wait_until
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow, Fifo, Kernel

TICK = {"tick": "dora/timer/millis/20"}
CAMERA = """
import numpy as np

class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("image", np.full(4, self.number), {"number": self.number})
"""
DETACHED = "subprocess.Popen(['sleep', '995'], pass_fds=[self.pipe], start_new_session=True)"
"""What an operator does to start a process that is not in its session."""
READER = """
import os
from dora import Node

node = Node()
for event in node:
    if event["type"] != "INPUT":
        print(event["type"], event.get("id"), event.get("value"), flush=True)
"""


@pytest.fixture
def two(dataflow: CellDataflow) -> CellDataflow:
    """A camera, and a script that reads from it."""
    dataflow.cell("camera", CAMERA, inputs=TICK, outputs=("image",))
    dataflow.cell("reader", READER, inputs={"image": "camera/image"}, kind="script", number=6)
    return dataflow


def state_of(dataflow: CellDataflow, name: str) -> State:
    return dataflow.status(name).state


def test_from_the_start_to_the_stop(two: CellDataflow) -> None:
    assert in_words(two.start("dora")) == "started on dora-rs: camera, reader"
    assert in_words(two.start("dora")) == "already running"
    assert {state_of(two, name) for name in two.graph.nodes} == {State.RUNNING}
    first, second = two.take("camera/image", 2)
    assert first["value"].to_pylist() == [first["metadata"]["number"]] * 4
    assert first["metadata"]["timestamp"] < second["metadata"]["timestamp"]
    assert two.latest("camera/image")["metadata"]["number"] >= second["metadata"]["number"]
    assert in_words(two.stop()) == "stopped"
    assert {state_of(two, name) for name in two.graph.nodes} == {State.STOPPED}
    assert two.said_by("reader") == ["STOP MANUAL None"]
    assert in_words(two.stop()) == "already stopped"
    assert in_words(two.start()) == "started: camera, reader"


def test_an_output_that_is_not_declared_is_amber_here_too(dataflow: CellDataflow) -> None:
    """dora says so in the logs alone: in those of an operator in another way than in those of a script."""
    operator = CAMERA.replace('"image"', '"imge"')
    script = "from dora import Node\nnode = Node()\nfor _ in node:\n    node.send_output('imge', b''); print('sent', flush=True)\n"
    dataflow.cell("camera", operator, inputs=TICK, outputs=("image",))
    dataflow.cell("script", script, inputs=TICK, outputs=("image",), kind="script", number=6)
    dataflow.start("dora")
    for name in ("camera", "script"):
        dataflow.until(lambda name=name: dataflow.status(name).is_amber, f"{name} in amber")  # type: ignore[misc]
        (warning,) = dataflow.status(name).warnings
        assert warning == (
            f"output '{name}/imge' is ignored, as it is not declared (declared: image); "
            "did you mean 'image'?"
        )
    wait_until(lambda: dataflow.status("script").last_line == "sent")


def test_a_thread_that_an_exception_ends_is_amber_here_too(dataflow: CellDataflow) -> None:
    thread = "threading.Thread(target=capture).start()"
    operator = CAMERA.replace("self.number = 0", f"self.number = 0; {thread}")
    capture = "import threading\ndef capture(): raise ValueError('unplugged')\n"
    script = f"{capture}from dora import Node\nnode = Node()\n{thread}\nfor _ in node: pass\n"
    dataflow.cell("camera", capture + operator, inputs=TICK, outputs=("image",))
    dataflow.cell("script", script, inputs=TICK, kind="script", number=6)
    dataflow.start("dora")
    for name, number in (("camera", 5), ("script", 6)):
        dataflow.until(lambda name=name: dataflow.status(name).is_amber, f"{name} in amber")  # type: ignore[misc]
        assert dataflow.status(name).warnings == (
            f"a thread of {name} ended: ValueError: unplugged (Cell In[{number}], line 3)",
        )


def test_colours_that_jupyter_forces_change_nothing(
    two: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    two.start("dora")
    two.stop()
    assert two.said_by("reader") == ["STOP MANUAL None"]


def test_subscriptions_go_on_from_one_engine_to_the_other(two: CellDataflow) -> None:
    with two.subscribe("camera/image") as subscription:
        for engine in ("dora", "embedded", "dora"):
            two.start(engine)
            assert subscription.next(20.0)["metadata"]["number"] > 0
            two.stop()


def test_a_node_finds_what_it_finds_in_the_embedded_engine(
    dataflow: CellDataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "helpers.py").write_text("WORD = 'helped'\n")
    monkeypatch.setenv("OF_THE_KERNEL", "kernel's")
    body = """
    import os, sys
    import helpers
    from dora import Node

    node = Node()
    print(helpers.WORD, os.getcwd(), sys.argv[1:], os.environ["OWN"], os.environ["OF_THE_KERNEL"])
    print(sys.flags.utf8_mode, file=sys.stderr)
    for event in node: pass
    """
    dataflow.cell(
        "node", body, kind="script", inputs=TICK, env={"OWN": "own"}, args=("a b", "c"),
        working_dir=tmp_path,
    )  # fmt: skip
    seen = []
    for engine in ("embedded", "dora"):
        dataflow.start(engine)
        dataflow.until_state("node", State.RUNNING)
        dataflow.stop()
        seen.append(dataflow.said_by("node"))
    assert seen[0] == seen[1] == [f"helped {tmp_path} ['a b', 'c'] own kernel's"]


def test_a_failure_names_the_lines_of_the_cell(two: CellDataflow) -> None:
    body = CAMERA.replace("self.number += 1", "self.number += 1 if self.number < 5 else '1'")
    two.cell("camera", body, inputs=TICK, outputs=("image",))
    two.start("dora")
    error = two.failure_of("camera")
    assert error.message.startswith("camera failed: TypeError: unsupported operand")
    assert error.place == "Cell In[5], line 9"
    assert len([line for line in error.traceback_lines if ", line " in line]) == 1
    assert "self.number < 5" in "\n".join(error.traceback_lines)
    two.until_state("reader", State.FINISHED)
    # The daemon may say that it has ended before it has written what it printed.
    wait_until(lambda: len(two.said_by("reader")) >= 2, otherwise=lambda: two.logs("reader"))
    assert two.said_by("reader") == ["INPUT_CLOSED image None", "STOP ALL_INPUTS_CLOSED None"]
    assert two.wait(TIMEOUT_SECS)
    assert two.front_end.unseen_failures() == [error]


def test_what_fails_before_it_is_ready_fails_the_start(two: CellDataflow) -> None:
    two.cell("reader", "import no_such_module", inputs={"image": "camera/image"}, kind="script")
    with pytest.raises(OperatorError, match=r"no_such_module.*Nothing runs now") as failure:
        two.start("dora")
    assert (failure.value.node, failure.value.place) == ("reader", "Cell In[5], line 2")
    assert "because reader failed" in str(two.status("camera").error)
    assert not two.running
    assert (
        in_words(two.cell("reader", READER, inputs={"image": "camera/image"}, kind="script"))
        == "reader: declared"
    )
    assert two.status("reader").error is None
    assert state_of(two, "reader") is State.DECLARED
    assert in_words(two.start("dora")).startswith("started on dora-rs")


def test_once_it_has_ended_everything_can_be_changed(two: CellDataflow) -> None:
    two.cell("camera", "from dora import Node\nNode()", outputs=("image",), kind="script")
    two.start("dora")
    assert two.wait(TIMEOUT_SECS)
    assert state_of(two, "reader") is State.FINISHED
    assert in_words(two.remove("reader")) == "reader: removed"
    assert state_of(two, "camera") is State.FINISHED
    assert two.said_by("camera") == []
    assert in_words(two.start()) == "started: camera"


def test_a_signal_and_an_exit_status_are_named(dataflow: CellDataflow) -> None:
    dies = READER.partition("    if event")[0] + "    os.kill(os.getpid(), 11)\n"
    dataflow.cell("killed", dies, inputs=TICK, kind="script")
    dataflow.cell(
        "exits", dies.replace("kill(os.getpid(), 11)", "_exit(3)"), inputs=TICK, kind="script"
    )
    dataflow.start("dora")
    assert dataflow.failure_of("killed").message == "killed's process was killed by SIGSEGV."
    assert dataflow.failure_of("exits").message == "exits's process exited with status 3."


def test_nothing_is_changed_while_it_runs(two: CellDataflow) -> None:
    two.start("dora")
    unchanged = two.cell("camera", CAMERA, inputs=TICK, outputs=("image",), number=9)
    assert in_words(unchanged) == "camera: unchanged"
    before = two.graph
    for edit in (
        lambda: two.cell("camera", CAMERA + "\n1", inputs=TICK, outputs=("image",)),
        lambda: two.remove("reader"),
        lambda: two.restart("reader"),
        lambda: two.stop("reader"),
    ):
        with pytest.raises(
            DataflowStateError, match=r"runs on dora-rs.*run dataflow\.stop\(\), change it"
        ):
            edit()
    assert two.graph is before
    two.stop()
    assert in_words(two.remove("reader")) == "reader: removed"


def test_parameters_reach_a_node(two: CellDataflow) -> None:
    two.start("dora")
    params = two.params("reader")
    assert params == {}
    params["gain"] = 0.5
    params["-k"] = ["--v", None]
    assert params == {"gain": 0.5, "-k": ["--v", None]}
    del params["gain"]
    two.stop()
    assert two.said_by("reader")[:3] == [
        "PARAM_UPDATE gain 0.5",
        "PARAM_UPDATE -k ['--v', None]",
        "PARAM_DELETED gain None",
    ]


def test_two_notebooks_never_meet(two: CellDataflow) -> None:
    with CellDataflow() as other:
        other.cell("camera", CAMERA, inputs=TICK, outputs=("image",))
        for each in (two, other):
            each.start("dora")
        assert other.latest("camera/image")["value"] is not None
        other.stop()
        assert state_of(two, "camera") is State.RUNNING
        two.take("camera/image", 3)


def test_what_differs_on_dora_is_said_at_the_start(dataflow: CellDataflow) -> None:
    dataflow.cell(
        "a",
        "class Operator:\n    def on_event(self, e, s):\n        from dora import DoraStatus\n"
        "        return DoraStatus.STOP_ALL if e['type'] == 'OTHER' else None\n",
        inputs=TICK | {"own": "a/out"},
        outputs=("out",),
        queues={"own": (5, "backpressure")},
    )
    said = in_words(dataflow.start("dora")).splitlines()
    assert said[0] == "started on dora-rs: a"
    assert len(said) == 2
    assert "backpressure at own" in said[1]
    assert "STOP_ALL is an error on dora-rs" in said[1]


@pytest.mark.parametrize("role", ["daemon", "coordinator"])
def test_a_program_of_dora_that_is_killed_takes_nothing_else_along(
    two: CellDataflow, role: str
) -> None:
    two.start("dora")
    two.latest("camera/image")
    os.kill(session_of(two, role), signal.SIGKILL)
    assert (
        str(two.failure_of("camera"))
        == f"camera ended: dora's {role} ended unexpectedly (SIGKILL)."
    )
    assert not two.running
    assert in_words(two.stop()) == "already stopped"
    assert in_words(two.start()) == "started: camera, reader"


def test_a_tap_that_is_killed_joins_again(two: CellDataflow) -> None:
    two.start("dora")
    with two.subscribe("camera/image") as subscription:
        seen = subscription.next(20.0)["metadata"]["number"]
        os.kill(subscriber_of("camera"), signal.SIGKILL)
        two.until(lambda: "SIGKILL" in "".join(two.said_by("camera", "engine")), "the tap's end")
        subscription._events.clear()
        assert subscription.next(20.0)["metadata"]["number"] > seen
    assert state_of(two, "camera") is State.RUNNING


def test_another_output_of_a_node_that_is_read_already(dataflow: CellDataflow) -> None:
    body = CAMERA.rstrip() + "\n            send_output('more', dora_event['value'])\n"
    dataflow.cell("camera", body, inputs=TICK, outputs=("image", "more"))
    dataflow.start("dora")
    with dataflow.subscribe("camera/image") as subscription:
        subscription.next(20.0)
        assert len(dataflow.take("camera/more", 2)) == 2
        subscription._events.clear()
        subscription.next(20.0)


def test_a_killed_kernel_takes_dora_along(
    start_kernel: Callable[..., Kernel], make_fifo: Callable[[str], Fifo]
) -> None:
    """Each node gets its STOP; neither processes nor files nor shared memory are left."""
    source = (
        "import os, subprocess\nclass Operator:\n"
        "    def __init__(self):\n        self.pipe = os.open(os.environ['PIPE'], os.O_WRONLY)\n"
        f"        {DETACHED}\n"
        "    def on_event(self, e, send_output):\n"
        "        os.write(self.pipe, (e['type'] + '\\n').encode())\n        return None\n"
    )
    stuck = source.replace("        return None", "        while True: pass")
    fifos = {name: make_fifo(name) for name in ("listens", "stuck")}
    operators = {
        name: {"source": code, "inputs": TICK, "env": {"PIPE": str(fifos[name].path)}}
        for name, code in (("listens", source), ("stuck", stuck))
    }
    program = """
    print(dataflow._run.session._cluster.folder, flush=True)
    input()
    """
    kernel = start_kernel(operators, program, "dora")
    folder = Path(kernel.line())
    assert folder.is_dir()
    for fifo in fifos.values():
        fifo.wait_for("INPUT")
    kernel.process.kill()
    assert fifos["listens"].wait_for_end().split()[-1] == "STOP"
    assert "STOP" not in fifos["stuck"].wait_for_end()
    kernel.process.wait()
    wait_until_gone(folder)


def test_a_stop_ends_what_a_node_has_started_in_a_session_of_its_own(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo]
) -> None:
    fifo = make_fifo("node")
    body = "import os, subprocess" + CAMERA.replace(
        "self.number = 0",
        f"self.number, self.pipe = 0, os.open(os.environ['PIPE'], os.O_WRONLY)\n        {DETACHED}",
    )
    dataflow.cell("camera", body, inputs=TICK, outputs=("image",), env={"PIPE": str(fifo.path)})
    dataflow.start("dora")
    dataflow.take("camera/image", 1)
    dataflow.stop()
    fifo.wait_for_end()


def answer_to_upgrade(port: int, path: str, token: str | None = None) -> int:
    """The HTTP status with which the coordinator answers to a client that wants its WebSocket."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version": "13",
    }
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECS)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_another_user_of_this_machine_is_refused_by_the_coordinator(
    two: CellDataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clients may run any command as the user of the notebook, so they need a token."""
    kept = tmp_path / ".config" / "dora" / ".dora-token"
    kept.parent.mkdir(parents=True)
    kept.write_text("of another coordinator")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("DORA_AUTH_TOKEN", "of another coordinator")
    two.start("dora")
    cluster = two._run.session._cluster  # type: ignore[union-attr]
    port, folder = cluster.dora.coordinator.port, cluster.folder

    for path in ("/api/control", "/api/daemon"):
        assert answer_to_upgrade(port, path) == 401
        assert answer_to_upgrade(port, path, "of another coordinator") == 401
    token = cluster.dora.environment["DORA_AUTH_TOKEN"]
    assert answer_to_upgrade(port, "/api/control", token) == 101
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / ".dora-token").stat().st_mode) == 0o600
    assert kept.read_text() == "of another coordinator"


def test_a_start_that_is_stopped_while_it_comes_up(two: CellDataflow, tmp_path: Path) -> None:
    slow = "import os, time\nopen(os.environ['PIPE'], 'w').close()\ntime.sleep(1000)"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    two.cell("slow", slow, kind="script", env={"PIPE": str(pipe)})
    starting = threading.Thread(target=two.start, args=["dora"])
    starting.start()
    pipe.open().close()  # it is on its way through its first lines
    assert in_words(two.stop(grace_secs=0.1)) == "stopped"
    starting.join()
    assert not two.running


@pytest.mark.parametrize(
    ("last_line", "state"), [("", State.FINISHED), ("1 / 0", State.FAILED)], ids=["ends", "fails"]
)
def test_a_dataflow_that_ends_before_its_log_can_be_read(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch, last_line: str, state: State
) -> None:
    """`dora start --attach` shows what was logged since it was attached, which may be nothing."""
    script = f"from dora import Node\nNode()\nprint('done', flush=True)\n{last_line}\n"
    dataflow.cell("short", script, kind="script", number=6)
    monkeypatch.setattr(_log_lines, "read_attached", lambda _line: None)
    with pytest.raises(OperatorError, match="ZeroDivisionError") if last_line else nullcontext():
        dataflow.start("dora")
    dataflow.wait()
    assert state_of(dataflow, "short") is state
    assert "done" in dataflow.said_by("short")


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (_cluster, "find_program"),
        (_cluster.Cluster, "_start_coordinator"),
        (_cluster.Cluster, "_start_daemon"),
        (_dora_session, "write_files"),
        (_dora_session._Watch, "start"),
        (_dora_session._Watch, "_read_line"),
    ],
)
def test_an_interrupted_start_leaves_nothing(
    two: CellDataflow, monkeypatch: pytest.MonkeyPatch, where: object, what: str
) -> None:
    """Whatever is being done just then is done to its end, and then undone."""
    original = getattr(where, what)
    interrupted = threading.Event()

    def interrupt(*words: object, **options: object) -> object:
        if not interrupted.is_set():
            interrupted.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return original(*words, **options)

    monkeypatch.setattr(where, what, interrupt)
    with pytest.raises(KeyboardInterrupt):
        two.start("dora")
    assert not two.running
    assert in_words(two.start()) == "started: camera, reader"


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({}, "dora-rs is not installed here. Install it: %pip install 'dora-nb[dora]'."),
        (
            {"dora-rs-cli": "1.1.0"},
            "dora-rs is not installed here. Install it: %pip install 'dora-nb[dora]'.",
        ),
        (
            {"dora-rs": "1.1.0", "dora-rs-cli": "1.0.3"},
            "the installed versions do not match: dora-rs 1.1.0, dora-rs-cli 1.0.3. Install one release: %pip install -U",
        ),
    ],
)
def test_without_dora_rs_one_line_says_how_to_get_it(
    two: CellDataflow, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], said: str
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    if not versions:
        monkeypatch.setattr(_program.sys, "executable", "/nowhere/python")
        monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(EngineError) as error:
        two.start("dora")
    assert str(error.value).startswith(said)
    assert len(error.value.render()) == 1


def test_a_dynamic_node_holds_no_start_up(two: CellDataflow) -> None:
    """It is joined as dora has it; the start says how."""
    two.add_node("plotter", path="dynamic", inputs={"image": "camera/image"}, outputs=["out"])
    port = in_words(two.start("dora")).rpartition("daemon_port=")[2].rstrip(").")
    assert two.status("plotter").state_text() == "waiting (for a process to join)"
    joins = (
        f"import dora\nnode = dora.Node('plotter', daemon_port={port})\n"
        "for event in node:\n    if event['type'] == 'INPUT': break\nprint(event['id'])"
    )
    joined = subprocess.run(
        [sys.executable, "-c", joins], capture_output=True, text=True, timeout=30, check=False
    )
    # dora's own warnings, in JSON, come to its stdout too: it is slow to start, and its queue full by then.
    printed = [line for line in joined.stdout.splitlines() if not line.startswith('{"timestamp"')]
    assert printed == ["image"], joined.stdout + joined.stderr
    two.take("camera/image", 2)


def test_the_notebook_sends(dataflow: CellDataflow) -> None:
    echo = CAMERA.replace("np.full(4, self.number)", 'dora_event["value"]')
    dataflow.cell("echo", echo, inputs={"in": "notebook/command"}, outputs=("image",))
    dataflow.start("dora")
    with dataflow.subscribe("echo/image") as echoed:
        for number in range(3):
            dataflow.send("notebook/command", [number], {"more": "x"})
            assert echoed.next(20.0)["value"].to_pylist() == [number]
        os.kill(children("feeder")[0], signal.SIGKILL)
        wait_until(lambda: not children("feeder"))
        dataflow.send("notebook/command", [7])
        assert echoed.next(20.0)["value"].to_pylist() == [7]
    dataflow.stop()


# --- what is there ----------------------------------------------------------------------------


def session_of(dataflow: CellDataflow, role: str) -> int:
    """The process of one of dora's programs that a dataflow has started."""
    program = dataflow._run.session._cluster._programs[role]  # type: ignore[union-attr]
    session_id: int = program.session_id
    return session_id


def children(name: str) -> list[int]:
    """The processes of the embedded engine that run a node of that name: taps, and the feeder."""
    sessions = [each for each in _session._live_sessions if name in each.generations()]
    return [
        supervisor._process.process_id
        for session in sessions
        for supervisor in session._supervisors.values()
        if supervisor.name == name and supervisor._process is not None
    ]


def subscriber_of(node: str) -> int:
    """The process of a tap."""
    (process_id,) = children(node)
    return process_id


def wait_until_gone(folder: Path) -> None:
    """Waits for the last act of the program that tidies up after a kernel."""
    wait_until(lambda: not folder.exists())
