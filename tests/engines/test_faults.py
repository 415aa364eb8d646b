"""When the system refuses, or dora_nb itself is wrong: the user is told, and nothing hangs or leaks."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dora_nb.engines.embedded import (
    _launch,
    _session,
    _spawner,
    _supervisor,
    _wiring,
)
from dora_nb.engines.embedded._process import ControlSocket, Stream
from dora_nb.engines.embedded._supervisor import Supervisor
from dora_nb.engines.os_errors import engine_error
from dora_nb.engines.worker import Worker
from dora_nb.errors import DoraNbError, EngineError, OperatorError
from dora_nb.protocol import control, counters
from dora_nb.status import State
from dora_nb.transport import Input

from ..waiting import wait_until
from ..wording import in_words
from .conftest import TIMEOUT_SECS, CellDataflow

TICK = {"tick": "dora/timer/hz/200"}
SENDING = (
    "class Operator:\n    def on_event(self, dora_event, send_output): send_output('out', b'')\n"
)

PRINTING = (
    "class Operator:\n    def on_event(self, dora_event, send_output):\n"
    "        send_output('out', b'')\n        print('line')\n"
)


def is_broken(*_args: Any, **_kwargs: Any) -> Any:
    raise KeyError("a fault of ours")


def declare_two(dataflow: CellDataflow) -> None:
    dataflow.cell("op", SENDING, inputs=TICK, outputs=("out",))
    dataflow.cell("other", SENDING, inputs={"in": "op/out"}, outputs=("out",))


BREAKABLE = [
    (_wiring.Wiring, "attach_process"),
    (_wiring.Wiring, "reconcile"),
    (_session.Session, "begin"),
    (_spawner.Spawner, "_start"),
    (_spawner, "environment_of"),
    (_supervisor.Supervisor, "_read_control"),
]


@pytest.mark.parametrize(("owner", "name"), BREAKABLE, ids=str)
def test_a_fault_of_ours_at_the_start_is_the_operators_failure(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    declare_two(dataflow)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, is_broken)
        with pytest.raises(
            OperatorError, match="dora_nb failed to supervise op: KeyError"
        ) as caught:
            dataflow.start()
    assert caught.value.hint is not None
    assert "This is a bug in dora_nb: please report it." in caught.value.hint
    assert "in is_broken" in "\n".join(caught.value.traceback_lines)
    assert in_words(dataflow.start()) == "started: op, other"
    assert dataflow.take("other/out", 2)


@pytest.mark.parametrize("name", ["_read_control", "_read_stream", "_handle_ready", "_handle"])
def test_a_fault_of_ours_while_it_runs_is_the_operators_failure(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its process is ended, its reader gets INPUT_CLOSED, and it can be started again."""
    dataflow.cell("op", PRINTING, inputs=TICK, outputs=("out",))
    dataflow.cell("reader", SENDING, inputs={"in": "op/out"}, outputs=("out",))
    dataflow.cell("other", SENDING, inputs=TICK, outputs=("out",))
    dataflow.start()
    original = getattr(_supervisor.Supervisor, name)

    def broken_for_op(self: _supervisor.Supervisor, *args: Any) -> Any:
        return is_broken() if self.name == "op" else original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_supervisor.Supervisor, name, broken_for_op)
        if name in ("_read_control", "_handle"):
            with pytest.raises(OperatorError, match="failed to supervise op"):
                dataflow.restart("op")
        assert "KeyError: 'a fault of ours'" in dataflow.failure_of("op").message
    dataflow.until_state("reader", State.FINISHED)
    assert dataflow.take("other/out", 2)
    dataflow.restart("op")
    assert dataflow.take("reader/out", 2)


def test_a_fault_of_ours_in_the_operators_process_is_reported(dataflow: CellDataflow) -> None:
    dataflow.cell("op", SENDING, inputs=TICK, outputs=("out",))
    dataflow.start()
    session = dataflow._run.session
    assert session is not None
    session._tell("op", control.RemoveReader(999), [])
    error = dataflow.failure_of("op")
    assert error.message == "dora_nb failed in the node's process: KeyError: 999"
    assert error.hint == "This is a fault in dora_nb: please report it."
    assert any("_remove_reader" in line for line in error.traceback_lines)


def test_junk_on_the_control_socket_is_the_operators_failure(dataflow: CellDataflow) -> None:
    body = (
        "import os, stat, time\nclass Operator:\n    def on_event(self, dora_event, send_output):\n"
        "        for fd in range(3, 64):\n"
        "            try:\n"
        "                if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b'junk')\n"
        "            except OSError: pass\n"
        "        time.sleep(1000)\n"
    )
    dataflow.cell("op", body, inputs=TICK)
    dataflow.start()
    assert "dora_nb failed to supervise op: " in dataflow.failure_of("op").message


def test_a_watcher_that_fails_disturbs_nobody(dataflow: CellDataflow) -> None:
    declare_two(dataflow)
    unwatch = dataflow.on_change(is_broken)
    try:
        with contextlib.suppress(KeyError):  # On this thread it is the caller's to see.
            dataflow.start()
        assert dataflow.take("other/out", 2)
    finally:
        unwatch()
    # Noted by the thread that supervises it, right after what was to be told.
    wait_until(lambda: "KeyError: 'a fault of ours'" in dataflow.said_by("op", "engine"))


def test_a_subscription_that_fails_is_said_once_and_disturbs_nobody(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_two(dataflow)
    dataflow.subscribe("op/out", is_broken)
    dataflow.start()
    assert len(dataflow.take("op/out", 5)) == 5
    wait_until(lambda: "KeyError: 'a fault of ours'" in dataflow.said_by("op", "engine"))
    said = dataflow.said_by("op", "engine")
    assert said[0] == "the notebook's subscription to op/out failed (reported once):"
    assert said.count("KeyError: 'a fault of ours'") == 1


def test_a_subscription_that_cannot_be_read_is_left_alone(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscriber's thread goes on for all others."""
    declare_two(dataflow)
    dataflow.start()
    reported = threading.Event()

    said: list[tuple[str, str]] = []

    def report(name: str, text: str) -> None:
        said.append((name, text))
        reported.set()

    session = dataflow._run.session
    assert session is not None
    with monkeypatch.context() as patch, dataflow.subscribe("op/out"):
        patch.setattr(session._subscriber, "_report", report)
        patch.setattr(Input, "take", is_broken)
        assert reported.wait(TIMEOUT_SECS)
    assert len(said) == 1
    assert said[0][0] == "op"
    assert "KeyError: 'a fault of ours'" in said[0][1]
    assert dataflow.take("other/out", 2)


# -- descriptors ------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_files_limited_to(most: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def first_free_descriptors(count: int) -> int:
    """The limit that leaves this process that many descriptors."""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(count + 1)]
    for descriptor in opened:
        os.close(descriptor)
    return opened[-1]


def test_starting_with_too_few_descriptors_says_so_and_leaves_nothing(
    dataflow: CellDataflow,
) -> None:
    """Whichever of the many that a start needs is the first that cannot be had."""
    declare_two(dataflow)
    failed = 0
    for available in range(1, 60, 3):
        with open_files_limited_to(first_free_descriptors(available)):
            try:
                dataflow.start()
            except DoraNbError as error:
                failed += 1
                said = str(error)
            else:
                break
        assert "ulimit -n" in said, said
        dataflow.stop()
        assert operators_of_this_process() == 0
    assert failed >= 5
    assert in_words(dataflow.stop()) == "stopped"


def operators_of_this_process() -> int:
    children = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # A thread that ended meanwhile.
            children += (task / "children").read_text().split()
    return sum(b"child/program.py" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children)


def test_reading_with_too_few_descriptors_says_so_and_disturbs_nobody(
    dataflow: CellDataflow,
) -> None:
    declare_two(dataflow)
    dataflow.start()
    dataflow.latest("other/out")
    said = []
    for available in range(12):
        with open_files_limited_to(first_free_descriptors(available)):
            try:
                dataflow.latest("op/out")
            except EngineError as error:
                said.append(str(error))
    assert 1 <= len(said) < 12
    assert all("ulimit -n" in each for each in said), said
    assert {each.state for each in dataflow.status()} == {State.RUNNING}
    assert dataflow.latest("op/out")


def test_editing_with_too_few_descriptors_says_so_and_can_be_done_again(
    dataflow: CellDataflow,
) -> None:
    declare_two(dataflow)
    dataflow.start()
    said = []
    for available in range(0, 24, 2):
        edited = SENDING + f"# {available}"
        with open_files_limited_to(first_free_descriptors(available)):
            try:
                dataflow.cell("op", edited, inputs=TICK, outputs=("out",))
            except OperatorError as error:
                said.append(str(error))
    assert len(said) >= 3
    assert all("ulimit -n" in each for each in said), said
    dataflow.cell("op", SENDING + "# again", inputs=TICK, outputs=("out",))
    assert dataflow.take("op/out", 2)


def test_an_operator_that_is_out_of_descriptors_says_so(dataflow: CellDataflow) -> None:
    """New edges cannot reach it any more."""
    body = (
        "import os\nkept = []\nclass Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        try:\n"
        "            while True: kept.append(os.open('/dev/null', os.O_RDONLY))\n"
        "        except OSError: send_output('out', b'')\n"
    )
    with open_files_limited_to(first_free_descriptors(60)):
        dataflow.cell("op", body, inputs=TICK, outputs=("out",))
        with dataflow.subscribe("op/out") as messages_of_op:
            dataflow.start()
            messages_of_op.next(TIMEOUT_SECS)
        dataflow.subscribe("op/out", lambda event: None)
        error = dataflow.failure_of("op")
    assert "too many files open" in error.message
    assert "ulimit -n" in str(error.hint)


def test_a_process_that_was_started_in_vain_is_ended(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is there, and then what it takes to look after it cannot be had."""
    started: list[subprocess.Popen[bytes]] = []

    def refuse(popen: subprocess.Popen[bytes], *_args: object) -> None:
        started.append(popen)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(_launch, "OperatorProcess", refuse)
    dataflow.cell("op", SENDING)
    with pytest.raises(
        OperatorError,
        match=r"op cannot be started: all [0-9]+ file descriptors of the kernel process are in use",
    ):
        dataflow.start()
    assert started[0].returncode == -signal.SIGKILL


def test_a_forked_process_lets_go_of_what_belongs_to_the_kernel() -> None:
    """From the moment that it is made, not only once an operator has it."""
    program = """
import os, sys
from dora_nb.engines.embedded._process import ControlSocket
control = ControlSocket()
inherited = control.socket.fileno(), control.other_end.fileno()
pid = os.fork()
if pid == 0:
    for descriptor in inherited:
        try:
            os.fstat(descriptor)
            os._exit(1)
        except OSError:
            pass
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_endless_output_is_not_read_to_its_end() -> None:
    stream = Stream("stdout", os.open("/dev/zero", os.O_RDONLY))
    try:
        (line,) = stream.read_last()
    finally:
        os.close(stream.descriptor)
    assert "more characters" in line


# -- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (
            OSError(errno.EMFILE, "x"),
            "file descriptors of the kernel process are in use",
            "ulimit -n",
        ),
        (OSError(errno.ENFILE, "x"), "the system is out of file descriptors", "Close"),
        (OSError(errno.EAGAIN, "x"), "the limit of processes and threads is reached", "ulimit -u"),
        (OSError(errno.ENOMEM, "x"), "the system is out of memory", "Stop operators"),
        (
            RuntimeError("can't start new thread"),
            "the limit of processes and threads is reached",
            "ulimit -u",
        ),
        (OSError(errno.EIO, "Input/output error"), "it failed: Input/output error.", None),
        (RuntimeError("something else"), "it failed: something else.", None),
    ],
)
def test_what_ran_out_is_named(error: OSError, said: str, hint: str | None) -> None:
    made = engine_error("it failed", error)
    assert said in made.message
    assert (made.hint is None) == (hint is None)
    assert hint is None or hint in str(made.hint)


def test_a_message_that_cannot_be_sent_now_is_kept_in_its_place() -> None:
    """A later one that could be sent goes behind it; its descriptors are kept too."""
    control_socket = ControlSocket()
    pipe = os.pipe()
    try:
        sent = 0
        while not control_socket.tell(control.RemoveReader(sent), []):
            sent += 1
        assert control_socket.tell(control.AddOutput("out", 7), [pipe[0]])
        for number in range(sent):
            assert control.receive_in_process(control_socket.other_end) == (
                control.RemoveReader(number),
                [],
            )
        assert control_socket.tell(
            control.Go(), []
        )  # There is room for it, and others are before it.
        control_socket.flush()
        assert not control_socket.pending
        received = [control.receive_in_process(control_socket.other_end) for _ in range(3)]
        (first, none), (second, (descriptor,)), (third, _) = (
            each or (None, []) for each in received
        )
        assert (first, none) == (control.RemoveReader(sent), [])
        assert second == control.AddOutput("out", 7)
        assert third == control.Go()
        assert os.path.sameopenfile(descriptor, pipe[0])
        os.close(descriptor)
    finally:
        control_socket.close()
        for end in pipe:
            os.close(end)


def test_what_a_process_was_told_after_its_begin_is_counted() -> None:
    """What waits in the kernel counts as well: the process waits a moment for it before it reads on."""
    control_socket = ControlSocket()
    page = counters.new_counters_page()
    counters_page = control_socket.counters = counters.OperatorCounters(page)
    try:
        control_socket.tell(control.Adopt({}, "/"), [])
        assert counters_page.words[counters.CONTROL_SENT] == 0
        told = 1
        while not control_socket.tell(control.RemoveReader(told), []):
            assert counters_page.words[counters.CONTROL_SENT] == told
            told += 1
        assert counters_page.words[counters.CONTROL_SENT] == told
        assert control_socket.pending
        control_socket.flush()
        assert counters_page.words[counters.CONTROL_SENT] == told
    finally:
        control_socket.close()
        counters_page.close()
        os.close(page)


def test_the_last_words_of_a_process_are_read_though_it_had_not_read_all() -> None:
    """On a busy machine a process that failed in `__init__` has ended before the kernel looks."""
    control_socket = ControlSocket()
    try:
        assert control_socket.other_end is not None
        control_socket.tell(control.Go(), [])  # It is never read.
        control_socket.other_end.send(control.encode(control.Warned("first")))
        control_socket.other_end.send(control.encode(control.Failed("why", [])))
        control_socket.other_end.close()
        said = [control.receive_in_kernel(control_socket.socket) for _ in range(3)]
        assert said == [control.Warned("first"), control.Failed("why", []), None]
    finally:
        control_socket.close()


def test_too_many_descriptors_on_their_way_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """unix(7): ETOOMANYREFS. Being writable does not help then, so it is tried again after a time."""
    control_socket = ControlSocket()
    try:
        with monkeypatch.context() as patch:

            def refuse(*_args: object) -> int:
                raise OSError(errno.ETOOMANYREFS, "too many references")

            patch.setattr("socket.send_fds", refuse)
            assert control_socket.tell(control.Go(), [])
            assert control_socket.congested
        control_socket.flush()
        assert not control_socket.congested
        assert control.receive_in_process(control_socket.other_end) == (control.Go(), [])
    finally:
        control_socket.close()


def test_a_worker_does_everything_in_order_and_refuses_when_it_is_closed() -> None:
    worker = Worker("dora-test")
    worker.start()
    done: list[int] = []
    for number in range(3):
        worker.post(lambda number=number: done.append(number))
    with pytest.raises(KeyError):
        worker.call(is_broken)
    assert worker.call(lambda: done.append(3))
    worker.close()
    assert worker.post(lambda: done.append(4)).result(TIMEOUT_SECS) is False
    assert done == [0, 1, 2, 3]


def test_a_worker_finishes_what_nobody_waits_for_any_more() -> None:
    worker = Worker("dora-test")
    worker.start()
    go_on, done = threading.Event(), threading.Event()
    asked = worker.post(lambda: (go_on.wait(TIMEOUT_SECS), done.set()))
    with pytest.raises(TimeoutError):
        asked.result(timeout=0)
    go_on.set()
    assert done.wait(TIMEOUT_SECS)
    worker.close()


def test_what_was_printed_before_a_failure_stands_before_it(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the supervisor's poll came before the line, and it reads the failure in the same round."""
    original = Supervisor._wait

    def sees_no_output(self: Supervisor, watched: list[Any]) -> dict[int, int]:
        streams = {each.descriptor for process in watched for each in process.streams}
        ready = original(self, watched)
        return {descriptor: ready[descriptor] for descriptor in ready if descriptor not in streams}

    monkeypatch.setattr(Supervisor, "_wait", sees_no_output)
    dataflow.cell("op", "print('the camera is dark')\nraise OSError('no camera')")
    with pytest.raises(OperatorError):
        dataflow.start()
    lines = [(line.stream, line.text) for line in dataflow.logs("op")]
    assert lines[0] == ("stdout", "the camera is dark")
    assert ("engine", "OSError: no camera") in lines[1:]
