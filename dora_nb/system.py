"""What dora_nb needs from the operating system, and which package provides what is missing.

Python packages cannot declare shared libraries of the system, so a missing one shows up as an
ImportError that names a file. This module knows the package of that file. It uses the standard library
only, because scripts run it before anything is installed.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .errors import EngineError


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
class Process:
    """A process, by its number and the name of its program."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid})"


def webcam_name(device: Path, *, classes: Path = Path("/sys/class/video4linux")) -> str | None:
    """Returns what the webcam calls itself (``HD Pro Webcam C920``), or None if the system has no name."""
    try:
        return (classes / device.name / "name").read_text(errors="replace").strip() or None
    except OSError:
        return None


def webcams(dev: Path = Path("/dev")) -> list[Path]:
    """Returns the video devices of this machine; one webcam often has two."""
    return sorted(dev.glob("video[0-9]*"), key=lambda path: (len(path.name), path.name))


def holders(device: Path, *, proc: Path = Path("/proc")) -> list[Process]:
    """Returns the processes that have the device open, as far as this user may see them."""
    target = os.path.realpath(device)
    return [
        Process(int(process.name), command_of(process))
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


def command_of(process: Path) -> str:
    """Returns the name of the program that runs in a process, from its folder in ``/proc``."""
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process that has ended"
