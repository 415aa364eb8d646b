"""The checks of `dora-nb doctor` and `%dora doctor`: what this machine has, lacks and still holds.

Each check tries the real thing where it can. A check that cannot be made is a line too, never an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import mmap
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import __version__
from .errors import EngineError
from .leftovers import COOKIE
from .system import Process, command_of, holders, import_cv2, webcam_name, webcams

OLDEST_PYTHON = (3, 11)

FEW_OPEN_FILES = 512
"""A node takes about six descriptors of the kernel: with fewer than this, some dozens of nodes are too many."""
FEW_PROCESSES = 256
MOST_LEFTOVERS = 5
"""So many are named."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `dora-nb doctor`: ``missing`` is needed but not there, ``note`` is good to know."""

    result: Literal["ok", "missing", "note"]
    subject: str
    text: str


def check_system() -> list[Check]:
    """Runs all checks. Blocks about as long as importing OpenCV takes."""
    return [
        _check_python(),
        Check("ok", "dora_nb", __version__),
        _check_shared_memory(),
        _check_processes(),
        _check_limits(),
        _check_opencv(),
        *_check_versions(("numpy", "pyarrow", "ipywidgets")),
        _check_subshells(),
        _check_package("jupyterlab", extra="tutorial", purpose="to open notebooks"),
        _check_package("torch", extra="torch", purpose="to run the tutorial's detector"),
        _check_dora(),
        _check_leftovers(),
        *_check_webcams(),
    ]


def report(checks: Sequence[Check], *, command: str) -> str:
    """Returns the checks as text, a line each; `command` is how to run them again once one has failed."""
    width = max(len(check.subject) for check in checks)
    lines = [f"{check.result:8}{check.subject:{width}}  {check.text}" for check in checks]
    failed = sum(check.result == "missing" for check in checks)
    if failed:
        what = "1 check" if failed == 1 else f"{failed} checks"
        lines.append(f"{what} failed: install what is missing, then run {command} again.")
    return "\n".join(lines)


def _check_python() -> Check:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Check("missing", "Python", f"{version}; {oldest} or newer is needed")
    if sys.platform != "linux":
        return Check("missing", "Python", f"{version} on {sys.platform}; only Linux is supported")
    return Check("ok", "Python", f"{version}, {sys.executable}")


def _check_shared_memory() -> Check:
    """Messages travel in anonymous memory whose descriptor is handed from process to process."""
    try:
        descriptor = os.memfd_create("dora-doctor")
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            with mmap.mmap(descriptor, mmap.PAGESIZE) as memory:
                memory[0] = 1
        finally:
            os.close(descriptor)
    except (AttributeError, OSError) as error:
        return Check("missing", "shared memory", f"memfd_create does not work here: {error}")
    return Check("ok", "shared memory", "anonymous memory can be made and mapped")


def _check_processes() -> Check:
    """The engine waits for its children on process descriptors."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Check("missing", "processes", f"pidfd_open does not work here: {error}")
    return Check("ok", "processes", "children can be waited for by descriptor")


def _check_limits() -> Check:
    """What this shell lets one user or process have; a container often allows little."""
    open_files, most_open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    text = f"{_count(open_files)} open files per process, {_count(processes)} processes per user"
    if 0 <= open_files < FEW_OPEN_FILES:
        return Check("note", "limits", f"{text}; raise them: ulimit -n {most_open_files}")
    if 0 <= processes < FEW_PROCESSES:
        return Check("note", "limits", f"{text}; raise them: ulimit -u {FEW_PROCESSES}")
    return Check("ok", "limits", text)


def _count(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _check_opencv() -> Check:
    try:
        cv2 = import_cv2()
    except EngineError as error:
        return Check("missing", "OpenCV", str(error))
    return Check("ok", "OpenCV", str(cv2.__version__))


def _check_versions(packages: Sequence[str]) -> list[Check]:
    return [
        Check("missing", package, f"not installed: pip install {package}")
        if (version := _version(package)) is None
        else Check("ok", package, version)
        for package in packages
    ]


def _check_subshells() -> Check:
    """With subshells (ipykernel 7, JupyterLab 4.4), a page's buttons work while a cell runs."""
    version = _version("ipykernel")
    if version is None:
        return Check("missing", "ipykernel", "not installed: pip install ipykernel")
    if importlib.util.find_spec("ipykernel.subshell") is None:
        text = f"{version}, without subshells: buttons wait for the running cell. pip install 'ipykernel>=7'"
        return Check("note", "ipykernel", text)
    return Check("ok", "ipykernel", f"{version}, with subshells: buttons work while a cell runs")


def _check_package(name: str, *, extra: str, purpose: str) -> Check:
    version = _version(name)
    if version is None:
        text = f"not installed; {purpose}: pip install 'dora-nb[{extra}]'"
        return Check("note", name, text)
    return Check("ok", name, version)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_dora() -> Check:
    """For `--engine dora`. A version that the program itself cannot tell would not run either."""
    from .engines.dora import dora_version

    try:
        return Check("ok", "dora-rs", dora_version())
    except EngineError as error:
        return Check("note", "dora-rs", f"for --engine dora: {error}")


def _check_leftovers(proc: Path = Path("/proc"), temporary: Path | None = None) -> Check:
    """What kernels that have ended have left: processes, and folders of dora-rs. Only this user's."""
    processes = _abandoned_processes(proc)
    folders = _abandoned_folders(proc, temporary or Path(tempfile.gettempdir()))
    found = [
        *(f"{each} runs on without its kernel; end it: kill {each.pid}" for each in processes),
        *(f"no process runs in {each}; remove it: rm -r {each}" for each in folders),
    ]
    if not found:
        return Check("ok", "leftovers", "none")
    more = [f"and {len(found) - MOST_LEFTOVERS} more"] if len(found) > MOST_LEFTOVERS else []
    return Check("note", "leftovers", "; ".join([*found[:MOST_LEFTOVERS], *more]))


def _abandoned_processes(proc: Path) -> list[Process]:
    """Returns the processes of operators whose kernel, or whose daemon of dora-rs, has ended.

    All that an operator starts has its cookie. Its own process is the child of the kernel, so where none of those
    with a cookie has a parent outside, but for the system's first process, the kernel is gone.
    """
    by_cookie: dict[bytes, dict[int, int]] = {}
    for process in proc.glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            parent = int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it has ended, or is another user's
            continue
        for variable in variables:
            if variable.startswith(f"{COOKIE}=".encode()):
                by_cookie.setdefault(variable, {})[int(process.name)] = parent
    abandoned = [
        process_id
        for parents in by_cookie.values()
        if all(parent == 1 or parent in parents for parent in parents.values())
        for process_id in parents
    ]
    return [
        Process(process_id, command_of(proc / str(process_id))) for process_id in sorted(abandoned)
    ]


def _abandoned_folders(proc: Path, temporary: Path) -> list[Path]:
    """Returns the folders of dora-rs's programs in which no process runs any more."""
    from .engines.dora import FOLDER_PREFIX

    folders = [
        each
        for each in sorted(temporary.glob(f"{FOLDER_PREFIX}*"))
        if each.is_dir() and each.stat().st_uid == os.geteuid()
    ]
    if not folders:
        return []
    used = {link for process in proc.glob("[0-9]*") if (link := _read_link(process / "cwd"))}
    return [
        folder
        for folder in folders
        if not any(path == str(folder) or path.startswith(f"{folder}/") for path in used)
    ]


def _read_link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:  # it has ended, or is another user's
        return None


def _check_webcams() -> list[Check]:
    devices = webcams()
    if not devices:
        return [Check("note", "webcam", "none; the tutorial's camera renders a scene instead")]
    return [_check_webcam(device) for device in devices]


def _check_webcam(device: Path) -> Check:
    name = webcam_name(device)
    shown = f"{device} ({name})" if name else str(device)
    busy = holders(device)
    if busy:
        return Check("note", "webcam", f"{shown} is open in {', '.join(map(str, busy))}")
    if not os.access(device, os.R_OK | os.W_OK):
        text = f"this user may not open {shown} (is it in the group video?)"
        return Check("note", "webcam", text)
    return Check("ok", "webcam", f"{shown} is free")
