"""Spare interpreters: used where that comes to the same, and gone when nobody needs them."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dora_nb.engines.embedded import SPARES, _spares
from dora_nb.leftovers import COOKIE

from ..waiting import wait_until
from .conftest import TIMEOUT_SECS, CellDataflow, Kernel, reapers

ONCE = {"tick": "dora/timer/secs/3600"}
IDLE = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
SURROUNDINGS = """
import json, os, resource, signal, sys, time
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            told = {
                "pid": os.getpid(), "cwd": os.getcwd(), "argv": sys.argv, "path": sys.path,
                "environment": dict(os.environ), "in C": os.popen("echo $MINE $TZ").read(),
                "flags": list(sys.flags), "zone": time.tzname, "umask": os.umask(0o77),
                "group": os.getpgid(0) == os.getpid(), "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
                "signals": [str(signal.getsignal(each)) for each in (1, 2, 13, 15)],
                "nice": os.nice(0), "modules": sorted(sys.modules), "encoding": sys.stdout.encoding,
                "cpus": sorted(os.sched_getaffinity(0)),
            }
            send_output("told", json.dumps(told).encode())
"""
STUCK = """
import ctypes, os
class Operator:
    def on_event(self, dora_event, send_output):
        with open(os.environ["CONTROL_SENT"], "w") as told:
            told.write(str(os.getpid()))
        ctypes.PyDLL(None).usleep(600_000_000)  # with the GIL
"""


@pytest.fixture
def spares(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two spares may be kept, and what is wanted of them is there at once."""
    monkeypatch.setenv("DORA_NB_SPARES", "2")
    monkeypatch.setattr(_spares, "_QUIET_SECS", 0.0)
    SPARES.allow()
    yield
    SPARES.close()
    monkeypatch.setenv("DORA_NB_SPARES", "0")
    SPARES.allow()


def told_by(dataflow: CellDataflow, **options: Any) -> dict[str, Any]:
    """What the operator finds, once it was started."""
    dataflow.cell("op", SURROUNDINGS, inputs=ONCE, outputs=("told",), **options)
    dataflow.start()
    value = dataflow.latest("op/told", TIMEOUT_SECS)["value"]
    told: dict[str, Any] = json.loads(bytes(value.to_pylist()))
    del told["environment"]["DORA_NB_OPERATOR_MODULE"]  # It names the process.
    # It marks the process: what it forks keeps the environment of its start, what it starts gets this one.
    mark = f"{COOKIE}={told['environment'].pop(COOKIE)}"
    assert mark.encode() in Path(f"/proc/{told['pid']}/environ").read_bytes().split(b"\0")
    return told


def waiting(number: int = 1) -> list[int]:
    """The processes that wait, once there are so many with their imports done."""
    SPARES.expect(number)
    assert SPARES.wait_warm(number, TIMEOUT_SECS)
    return SPARES.process_ids()


def has_ended(process_id: int) -> bool:
    """Whether that process is no more; waits for it."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(TIMEOUT_SECS * 1e3))
    finally:
        os.close(descriptor)


def test_none_is_kept_where_nobody_asked(dataflow: CellDataflow) -> None:
    dataflow.cell("op", IDLE, inputs=ONCE)
    dataflow.start()
    assert SPARES.process_ids() == []
    dataflow.stop()
    assert reapers() == []


def test_an_operator_on_a_spare_finds_what_it_would_have_found(
    spares: None, dataflow: CellDataflow, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"working_dir": tmp_path, "env": {"MINE": "mine", "SPACES": " a b "}}
    SPARES.close()
    own = told_by(dataflow, **options)
    dataflow.stop()
    spare_ids = waiting()
    told = told_by(dataflow, **options)
    assert told.pop("pid") in spare_ids
    assert own.pop("pid") not in spare_ids
    # A spare has imported some that operators often import.
    assert set(own.pop("modules")) <= set(told.pop("modules"))
    assert told == own


def test_a_stop_and_a_start_go_on_with_the_pool(spares: None, dataflow: CellDataflow) -> None:
    spare_ids = waiting()
    assert told_by(dataflow)["pid"] in spare_ids
    dataflow.stop()
    spare_ids = waiting()
    assert told_by(dataflow)["pid"] in spare_ids


def test_a_running_dataflow_has_one_for_the_next_operator(
    spares: None, dataflow: CellDataflow
) -> None:
    dataflow.cell("first", IDLE, inputs=ONCE)
    dataflow.start()
    assert SPARES.wait_warm(1, TIMEOUT_SECS)
    spare_ids = SPARES.process_ids()
    assert told_by(dataflow)["pid"] in spare_ids


def test_a_session_takes_the_warden_that_waits_and_leaves_another(
    spares: None, dataflow: CellDataflow
) -> None:
    waiting()
    (first,) = reapers()
    dataflow.cell("op", IDLE, inputs=ONCE)
    dataflow.start()
    assert reapers() == [first]
    dataflow.stop()
    assert has_ended(first)
    waiting()
    (second,) = reapers()
    SPARES.close()
    assert has_ended(second)


def test_a_warden_that_was_killed_as_it_waited_is_replaced(
    spares: None, dataflow: CellDataflow
) -> None:
    waiting()
    (killed,) = reapers()
    descriptor = os.pidfd_open(killed)
    os.kill(killed, signal.SIGKILL)
    select.select([descriptor], [], [], TIMEOUT_SECS)
    os.close(descriptor)
    dataflow.cell("op", IDLE, inputs=ONCE)
    dataflow.start()
    (replaced,) = reapers()
    assert replaced != killed


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"OMP_NUM_THREADS": "1"}},
        {"env": {"PYTHONHASHSEED": "1"}},
        {"python": sys.executable},
    ],
    ids=["a variable of a library", "a variable of Python", "an interpreter"],
)
def test_what_is_read_at_import_is_not_changed_behind_it(
    spares: None, dataflow: CellDataflow, options: dict[str, Any]
) -> None:
    spare_ids = waiting()
    assert told_by(dataflow, **options)["pid"] not in spare_ids


def test_what_was_installed_since_is_found(
    spares: None, dataflow: CellDataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_spares, "_package_folders", lambda: [str(tmp_path)])
    spare_ids = waiting()
    os.utime(tmp_path, (1, 1))
    assert told_by(dataflow)["pid"] not in spare_ids
    assert all(has_ended(spare_id) for spare_id in spare_ids)


def test_a_module_that_came_since_is_found(
    spares: None, dataflow: CellDataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that was there, and in one that was not."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{old}{os.pathsep}{new}")
    (spare_id,) = waiting()
    new.mkdir()
    (old / "first_helper.py").write_text("words = 'first'")
    (new / "second_helper.py").write_text("words = 'second'")
    source = "import os, first_helper, second_helper\nprint(os.getpid())\n" + IDLE
    dataflow.cell("op", source, inputs=ONCE)
    dataflow.start()
    wait_until(lambda: bool(dataflow.said_by("op")))
    assert dataflow.said_by("op") == [str(spare_id)]


def test_a_spare_that_was_killed_is_not_used(spares: None, dataflow: CellDataflow) -> None:
    (spare_id,) = waiting()
    os.kill(spare_id, signal.SIGKILL)
    descriptor = SPARES._waiting[0].process.exit_descriptor
    select.select([descriptor], [], [], TIMEOUT_SECS)
    assert told_by(dataflow)["pid"] != spare_id


def test_a_folder_that_is_gone_is_the_same_error(
    spares: None, dataflow: CellDataflow, tmp_path: Path
) -> None:
    waiting()
    gone = tmp_path / "gone"
    with pytest.raises(Exception, match="does not exist or cannot be entered"):
        told_by(dataflow, working_dir=gone)


def test_none_outlives_a_stop_for_long(
    spares: None, dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataflow.cell("op", IDLE, inputs=ONCE)
    dataflow.start()
    assert SPARES.wait_warm(1, TIMEOUT_SECS)
    (spare_id,) = SPARES.process_ids()
    thread = SPARES._thread
    monkeypatch.setattr(_spares, "KEEP_SECS", 0.0)
    dataflow.stop()
    assert has_ended(spare_id)
    assert thread is not None
    thread.join(TIMEOUT_SECS)
    assert not thread.is_alive()
    assert reapers() == []


def test_a_fork_of_the_kernel_has_none(spares: None) -> None:
    waiting()
    process_id = os.fork()
    if not process_id:
        os._exit(len(SPARES.process_ids()))
    assert os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == 0
    assert len(SPARES.process_ids()) == 1


def test_nothing_outlives_a_killed_kernel(
    start_kernel: Callable[..., Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a spare that waits, nor an operator on one that is stuck with the GIL."""
    monkeypatch.setenv("DORA_NB_SPARES", "1")
    told = tmp_path / "told"
    os.mkfifo(told)
    kernel = start_kernel(
        {"idle": {"source": IDLE, "inputs": ONCE}},
        f"""
        from dora_nb.engines.embedded import SPARES
        assert SPARES.wait_warm(1, {TIMEOUT_SECS})
        print(SPARES.process_ids(), flush=True)
        env = {{"CONTROL_SENT": {str(told)!r}}}
        dataflow.add_operator("stuck", {STUCK!r}, inputs={ONCE!r}, env=env)
        assert SPARES.wait_warm(1, {TIMEOUT_SECS})
        print(SPARES.process_ids(), flush=True)
        input()
        """,
    )
    (first,) = json.loads(kernel.line())
    assert int(told.read_text()) == first
    (second,) = json.loads(kernel.line())
    kernel.process.kill()
    assert has_ended(first)
    assert has_ended(second)


def test_a_killed_kernel_that_had_started_nothing_leaves_nothing(
    start_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DORA_NB_SPARES", "1")
    kernel = start_kernel(
        {"idle": {"source": IDLE, "inputs": ONCE}},
        f"""
        from dora_nb.engines.embedded import SPARES
        dataflow.stop()
        assert SPARES.wait_warm(1, {TIMEOUT_SECS})
        print(SPARES.process_ids(), flush=True)
        input()
        """,
    )
    (spare,) = json.loads(kernel.line())
    # Until it has executed its program, the command line of a child is the kernel's.
    wait_until(lambda: len(reapers(kernel.process.pid)) == 1)
    (reaper,) = reapers(kernel.process.pid)
    kernel.process.kill()
    assert has_ended(spare)
    assert has_ended(reaper)
