"""The check that runs after every test finds each kind of thing that a test can leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

LEAKING_TESTS = '''
import mmap, os, pathlib, subprocess, threading
import pytest

KEPT = []
GO = threading.Event()
PIPE = int(os.environ["LIFELINE"])

@pytest.fixture(scope="session")
def server():
    """Lives as long as the session: no test leaves it behind."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process

@pytest.fixture
def forgetful():
    yield
    KEPT.append(os.pipe())

@pytest.fixture
def tidy():
    ends = os.pipe()
    yield
    for end in ends:
        os.close(end)

def test_daemon_of_ours():
    threading.Thread(target=GO.wait, name="dora-left", daemon=True).start()

def test_daemon_of_others():
    threading.Thread(target=GO.wait, name="library", daemon=True).start()

def test_thread():
    thread = threading.Thread(target=GO.wait, name="plain")
    threading._register_atexit(GO.set)
    thread.start()

def test_child():
    KEPT.append(subprocess.Popen(["cat"], stdin=PIPE))

def test_zombie():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    KEPT.append(process)

def test_orphan():
    subprocess.run(["sh", "-c", "exec 3<&0; cat <&3 &"], stdin=PIPE, check=True)

def test_descriptors():
    KEPT.append(os.pipe())

def test_shared_memory():
    pathlib.Path("/dev/shm", os.environ["SHM_NAME"]).touch()

def test_names_of_another_program():
    os.write(int(os.environ["ASK"]), b"!")
    assert os.read(int(os.environ["ANSWER"]), 1)

def test_mapping():
    descriptor = os.memfd_create("dora-kept")
    os.ftruncate(descriptor, 4096)
    KEPT.append(mmap.mmap(descriptor, 4096))
    os.close(descriptor)

def test_fixture_that_forgets(forgetful):
    pass

def test_session_fixture(server, tidy):
    assert server.poll() is None

def test_failing():
    KEPT.append(os.pipe())
    assert False, "the only failure to be seen"
'''


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints for the tests above, under this folder's conftest."""
    folder = tmp_path_factory.mktemp("leaking")
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_leaking.py").write_text(LEAKING_TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nleak_settle_secs = 0.1\n")
    shm_name = f"leak-check-{os.getpid()}"
    others = [Path("/dev/shm", f"other-{os.getpid()}-{number}") for number in range(2)]
    others[0].touch()
    asked, ask = os.pipe()
    answered, answer = os.pipe()

    def be_another_program() -> None:
        os.read(asked, 1)
        others[0].unlink()
        others[1].touch()
        os.write(answer, b"!")

    another_program = threading.Thread(target=be_another_program)
    another_program.start()
    # What outlives its test reads from this pipe: it ends when the write end is closed here.
    lifeline, write_end = os.pipe()
    try:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rA", folder]
        finished = subprocess.run(
            command,
            env={
                **os.environ,
                "LIFELINE": str(lifeline),
                "SHM_NAME": shm_name,
                "ASK": str(ask),
                "ANSWER": str(answered),
            },
            pass_fds=[lifeline, ask, answered],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    finally:
        os.write(ask, b"!")  # So that it ends, whether that test has run or not.
        another_program.join()
        for descriptor in (write_end, lifeline, asked, ask, answered, answer):
            os.close(descriptor)
        for left in (Path("/dev/shm", shm_name), *others):
            left.unlink(missing_ok=True)
    return finished.stdout


@pytest.mark.parametrize(
    ("test", "line"),
    [
        ("daemon_of_ours", "  thread dora-left"),
        ("thread", "  thread plain"),
        ("child", ": cat"),
        ("zombie", ": a zombie"),
        ("orphan", ": cat"),
        ("descriptors", "  2 descriptors: pipe"),
        ("shared_memory", "  /dev/shm/leak-check-"),
        ("mapping", "  1 mapping of memfd:dora-kept"),
        ("fixture_that_forgets", "  2 descriptors: pipe"),
    ],
)
def test_what_a_test_leaves_behind_fails_it_and_is_named(report: str, test: str, line: str) -> None:
    heading = f"_ ERROR at teardown of test_{test} _"
    assert heading in report
    section = report.split(heading, 1)[1].split("\n_", 1)[0]
    assert "left behind by this test:\n" in section
    assert line in section


@pytest.mark.parametrize(
    "test", ["daemon_of_others", "session_fixture", "names_of_another_program"]
)
def test_what_is_not_the_tests_own_is_no_leak(report: str, test: str) -> None:
    assert f"test_leaking.py::test_{test} PASSED" in report
    assert f"ERROR at teardown of test_{test} " not in report


def test_a_failing_test_shows_its_failure_alone(report: str) -> None:
    assert "the only failure to be seen" in report
    assert "ERROR at teardown of test_failing" not in report
