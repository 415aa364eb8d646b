"""What dora_nb needs from the operating system, and which package provides what is missing.

Python packages cannot declare shared libraries of the system, so a missing one shows up as an
ImportError that names a file. This module knows the package of that file. It uses the standard library
only, because scripts run it before anything is installed.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import mmap
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from .errors import EngineError

OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class SystemLibrary:
    """A shared library, and the package of Debian and Ubuntu that provides it."""

    soname: str
    package: str


OPENCV_LIBRARIES = (
    SystemLibrary("libGL.so.1", "libgl1"),
    # Ubuntu 24.04 and Debian 13 call it libglib2.0-0t64, and apt accepts the old name as well.
    SystemLibrary("libgthread-2.0.so.0", "libglib2.0-0"),
)
"""Libraries that the opencv-python wheel needs but does not contain (``ldd cv2.abi3.so``)."""

_NOT_FOUND = re.compile(r"(?P<soname>lib[^\s:]+\.so[\d.]*): cannot open shared object file")


def missing_libraries(
    libraries: tuple[SystemLibrary, ...] = OPENCV_LIBRARIES,
    *,
    load: Callable[[str], object] = ctypes.CDLL,
) -> list[SystemLibrary]:
    """Returns the libraries that the dynamic loader does not find."""
    return [library for library in libraries if not _loads(library.soname, load)]


def _loads(soname: str, load: Callable[[str], object]) -> bool:
    try:
        load(soname)
    except OSError:
        return False
    return True


def hint_for_import_error(error: ImportError) -> str | None:
    """Returns the way out if an import failed because a system library is missing, else None.

    Also for errors from an operator's process, where the user's code did the import.
    """
    found = _NOT_FOUND.search(str(error))
    if found is None:
        return None
    packages = {library.soname: library.package for library in OPENCV_LIBRARIES}
    package = packages.get(found["soname"])
    if package is None:
        return f"Install the system package that provides {found['soname']}."
    return install_hint([package])


def install_hint(packages: list[str]) -> str:
    """Returns one sentence that says how to install system packages."""
    names = " ".join(packages)
    return f"Install {names} (Debian, Ubuntu: apt-get install {names})."


def import_cv2(
    *,
    load_module: Callable[[str], ModuleType] = importlib.import_module,
    load_library: Callable[[str], object] = ctypes.CDLL,
) -> ModuleType:
    """Returns OpenCV's module; EngineError names what is missing and its package.

    A failed import leaves nothing behind, so the same process can try again once the package is installed.
    """
    path_before = list(sys.path)
    try:
        return load_module("cv2")
    except ModuleNotFoundError as error:
        raise EngineError(
            f"OpenCV is not installed ({error}).", hint="pip install opencv-python"
        ) from error
    except ImportError as error:
        # cv2/__init__.py cleans up only after a success; what a failure leaves makes every further
        # import raise "recursion is detected" (opencv, modules/python/package/cv2/__init__.py).
        vars(sys).pop("OpenCV_LOADER", None)
        sys.path[:] = path_before
        missing = [library.package for library in missing_libraries(load=load_library)]
        hint = install_hint(missing) if missing else hint_for_import_error(error)
        raise EngineError(f"OpenCV cannot be loaded: {error}.", hint=hint) from error


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a device open."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid})"


def webcams(dev: Path = Path("/dev")) -> list[Path]:
    """Returns the video devices of this machine; one webcam often has two."""
    return sorted(dev.glob("video[0-9]*"), key=lambda path: (len(path.name), path.name))


def holders(device: Path, *, proc: Path = Path("/proc")) -> list[Holder]:
    """Returns the processes that have the device open, as far as this user may see them."""
    target = os.path.realpath(device)
    return [
        Holder(int(process.name), _command_of(process))
        for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name))
        if target in _open_files(process)
    ]


def _open_files(process: Path) -> Iterator[str]:
    try:
        links = list((process / "fd").iterdir())
    except OSError:  # it has ended, or is another user's
        return
    for link in links:
        try:
            yield str(link.readlink())
        except OSError:  # it was closed meanwhile
            continue


def _command_of(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process that has ended"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `dora-nb doctor`: ``missing`` is needed but not there, ``note`` is good to know."""

    result: Literal["ok", "missing", "note"]
    subject: str
    text: str


def check_system() -> list[Check]:
    """Runs all checks, each by trying the real thing. Takes as long as importing OpenCV."""
    return [
        _check_python(),
        _check_shared_memory(),
        _check_processes(),
        _check_opencv(),
        _check_package("jupyterlab", extra="tutorial", purpose="to open notebooks"),
        _check_package("torch", extra="torch", purpose="to run the tutorial's detector"),
        *_check_webcams(),
    ]


def report(checks: Sequence[Check], *, command: str) -> str:
    """The checks as text, a line each; `command` is how to run them again once one has failed."""
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


def _check_opencv() -> Check:
    try:
        cv2 = import_cv2()
    except EngineError as error:
        return Check("missing", "OpenCV", str(error))
    return Check("ok", "OpenCV", str(cv2.__version__))


def _check_package(name: str, *, extra: str, purpose: str) -> Check:
    try:
        return Check("ok", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        text = f"not installed; {purpose}: pip install 'dora-nb[{extra}]'"
        return Check("note", name, text)


def _check_webcams() -> list[Check]:
    devices = webcams()
    if not devices:
        return [Check("note", "webcam", "none; the tutorial's camera renders a scene instead")]
    return [_check_webcam(device) for device in devices]


def _check_webcam(device: Path) -> Check:
    busy = holders(device)
    if busy:
        names = ", ".join(map(str, busy))
        return Check("note", "webcam", f"{device} is open in {names}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Check(
            "note", "webcam", f"this user may not open {device} (is it in the group video?)"
        )
    return Check("ok", "webcam", f"{device} is free")
