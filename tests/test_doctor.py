"""The checks of `dora-nb doctor`, each on a machine that has what it looks for, and on one that lacks it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dora_nb import __version__, doctor
from dora_nb.doctor import Check


def _only(subject: str) -> Check:
    (check,) = [check for check in doctor.check_system() if check.subject == subject]
    return check


def test_checks_try_things_for_real() -> None:
    found = {check.subject: check for check in doctor.check_system()}
    assert {"Python", "shared memory", "processes", "limits", "OpenCV", "dora-rs"} <= found.keys()
    assert all(check.result != "missing" for check in found.values())
    assert found["dora_nb"].text == __version__
    assert found["pyarrow"].text == importlib.metadata.version("pyarrow")


def test_a_machine_without_anonymous_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    check = _only("shared memory")
    assert check.result == "missing"
    assert "memfd_create does not work here: [Errno 38] Function not implemented" in check.text


@pytest.mark.parametrize(
    ("open_files", "processes", "expected"),
    [
        (
            1024,
            -1,
            Check("ok", "limits", "1024 open files per process, unlimited processes per user"),
        ),
        (
            256,
            4000,
            Check(
                "note",
                "limits",
                "256 open files per process, 4000 processes per user; raise them: ulimit -n 4096",
            ),
        ),
        (
            1024,
            100,
            Check(
                "note",
                "limits",
                "1024 open files per process, 100 processes per user; raise them: ulimit -u 256",
            ),
        ),
    ],
)
def test_low_limits_are_named_with_the_command_that_raises_them(
    open_files: int, processes: int, expected: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {resource.RLIMIT_NOFILE: (open_files, 4096), resource.RLIMIT_NPROC: (processes, -1)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert _only("limits") == expected


def test_a_package_that_is_needed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    assert _only("pyarrow") == Check("missing", "pyarrow", "not installed: pip install pyarrow")
    assert _only("ipykernel").result == "missing"
    assert _only("torch").result == "note"


def test_an_older_kernel_has_no_subshells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _only("ipykernel").text.endswith("with subshells: buttons work while a cell runs")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "ipykernel.subshell" else find_spec(name, *rest),
    )
    check = _only("ipykernel")
    assert check.result == "note"
    assert "without subshells: buttons wait for the running cell" in check.text


def test_the_version_of_dora_is_that_of_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = _only("dora-rs")
    assert check.result == "ok"
    assert check.text.startswith(importlib.metadata.version("dora-rs-cli") + ", ")
    broken = tmp_path / "dora"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    check = _only("dora-rs")
    assert check.result == "note"
    assert f"for --engine dora: {broken} does not run" in check.text


def test_a_webcam_is_named_with_the_process_that_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(doctor, "webcams", lambda: [device])
    monkeypatch.setattr(doctor, "webcam_name", lambda device: "C920")
    assert _only("webcam") == Check("ok", "webcam", f"{device} (C920) is free")
    with device.open():
        check = _only("webcam")
    assert check.result == "note"
    assert check.text.startswith(f"{device} (C920) is open in ")
    assert f"(process {os.getpid()})" in check.text


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A /proc with a kernel (10), its operator (11), and what that has started in a session of its own (12)."""
    for process, parent, cookie in ((10, 1, None), (11, 10, "one"), (12, 1, "one")):
        _add_process(tmp_path, process, parent, cookie)
    return tmp_path


def _add_process(proc: Path, process: int, parent: int, cookie: str | None) -> None:
    folder = proc / str(process)
    folder.mkdir()
    marked = "" if cookie is None else f"DORA_NB_COOKIE={cookie}\0"
    (folder / "environ").write_text(f"HOME=/root\0{marked}")
    (folder / "stat").write_text(f"{process} (a ) program) S {parent} 1")
    (folder / "comm").write_text("sleep\n")


def test_processes_that_have_lost_their_kernel_are_named(machine: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert doctor._check_leftovers(machine, temporary) == Check("ok", "leftovers", "none")
    _add_process(machine, 20, 1, "two")
    _add_process(machine, 21, 20, "two")
    assert doctor._check_leftovers(machine, temporary) == Check(
        "note",
        "leftovers",
        "sleep (process 20) runs on without its kernel; end it: kill 20; "
        "sleep (process 21) runs on without its kernel; end it: kill 21",
    )
    for process in range(30, 40):
        _add_process(machine, process, 1, f"of {process}")
    assert doctor._check_leftovers(machine, temporary).text.endswith("; and 7 more")


def test_folders_of_dora_in_which_nothing_runs_are_named(machine: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    folder = temporary / "dora-nb-abc"
    folder.mkdir(parents=True)
    (machine / "10" / "cwd").symlink_to(folder / "coordinator")
    assert doctor._check_leftovers(machine, temporary) == Check("ok", "leftovers", "none")
    (machine / "10" / "cwd").unlink()
    check = doctor._check_leftovers(machine, temporary)
    assert check.text == f"no process runs in {folder}; remove it: rm -r {folder}"


def test_a_real_process_that_has_lost_its_parents_is_found() -> None:
    """What starts it ends at once, so that the system's first process becomes its parent."""
    program = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], stdout=-3).pid)"
    started = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "DORA_NB_COOKIE": "of a test"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    process = int(started.stdout)
    try:
        assert f"sleep (process {process}) runs on without its kernel" in _only("leftovers").text
    finally:
        os.kill(process, signal.SIGKILL)
