"""What `make` does about missing system packages: install and say which, or name them in one line."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import dora_nb
from dora_nb.system import OPENCV_LIBRARIES, SystemLibrary

SCRIPTS = Path(dora_nb.__file__).resolve().parent.parent / "scripts"


class Apt:
    """Stands in for apt-get: remembers what it was asked, and may fail."""

    def __init__(self, *, returncode: int = 0) -> None:
        self.commands: list[list[str]] = []
        self.returncode = returncode

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        return subprocess.CompletedProcess(command, self.returncode)

    @property
    def asked_to_install(self) -> list[str]:
        return [word for command in self.commands if "install" in command for word in command]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script on a machine that lacks what OpenCV needs until apt has run."""
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module("system_packages")
    monkeypatch.setattr(sys, "argv", ["system_packages.py", "demo"])
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    return module


def _machine(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    apt: Apt,
    *,
    root: bool,
    has_apt: bool = True,
) -> None:
    monkeypatch.setattr(script.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(script.shutil, "which", lambda name: name if has_apt else None)
    monkeypatch.setattr(script.subprocess, "run", apt)

    def missing_libraries() -> list[SystemLibrary]:
        installed = apt.returncode == 0 and "libgl1" in apt.asked_to_install
        return [] if installed else list(OPENCV_LIBRARIES)

    monkeypatch.setattr(script, "missing_libraries", missing_libraries)


def test_as_root_with_apt_they_are_installed_and_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apt = Apt()
    _machine(script, monkeypatch, apt, root=True)
    assert script.main() == 0
    assert capsys.readouterr().out == (
        "system packages: installing libgl1 libglib2.0-0 with apt-get\n"
    )
    assert [command[1] for command in apt.commands] == ["update", "install"]
    assert apt.asked_to_install[-2:] == ["libgl1", "libglib2.0-0"]


@pytest.mark.parametrize(("root", "has_apt"), [(False, True), (True, False)])
def test_else_one_line_names_them_and_nothing_is_tried(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: bool,
    has_apt: bool,
) -> None:
    apt = Apt()
    _machine(script, monkeypatch, apt, root=root, has_apt=has_apt)
    assert script.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "libgl1 libglib2.0-0 missing" in said
    assert apt.commands == []


def test_where_apt_fails_they_are_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _machine(script, monkeypatch, Apt(returncode=100), root=True)
    assert script.main() == 1
    assert "libgl1 libglib2.0-0 missing" in capsys.readouterr().err


def test_a_debian_python_without_venv_is_told_from_one_that_has_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert script.missing_for_venv() == []
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    assert script.missing_for_venv() == [f"python3.{sys.version_info.minor}-venv"]


def test_the_script_runs_on_the_standard_library_alone() -> None:
    """It runs before anything is installed: -S leaves site-packages out, -I the folder it is run in."""
    command = [sys.executable, "-I", "-S", SCRIPTS / "system_packages.py", "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
