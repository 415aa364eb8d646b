"""Install with apt, or name, the system packages that a `make` target needs.

It runs before anything is installed, so it needs only the standard library. If nothing is missing it
prints nothing. As root with apt it prints and installs the missing packages; otherwise it prints their
names, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dora_nb.system import SystemLibrary, missing_libraries

ROVER_LIBRARIES = (SystemLibrary("libEGL.so.1", "libegl1"),)
"""What samples/rover.py draws with; libgl1, which OpenCV needs, brings the driver."""


def missing_for_venv() -> list[str]:
    """Debian has a separate package for what `python -m venv` needs, one for each Python."""
    if importlib.util.find_spec("ensurepip") is not None:
        return []
    return [f"python{sys.version_info.major}.{sys.version_info.minor}-venv"]


def missing_for_opencv() -> list[str]:
    return [library.package for library in missing_libraries()]


def missing_for_rover() -> list[str]:
    return [library.package for library in missing_libraries(ROVER_LIBRARIES)]


def missing_for_browser_tests() -> list[str]:
    return [] if shutil.which("chromium") else ["chromium"]


def missing_for_two_machines() -> list[str]:
    return [] if shutil.which("ip") else ["iproute2"]


PURPOSES: dict[str, tuple[Callable[[], list[str]], ...]] = {
    "venv": (missing_for_venv,),
    "demo": (missing_for_venv, missing_for_opencv),
    "test": (
        missing_for_venv,
        missing_for_opencv,
        missing_for_rover,
        missing_for_browser_tests,
        missing_for_two_machines,
    ),
}


def missing_packages(purpose: str) -> list[str]:
    return [package for missing in PURPOSES[purpose] for package in missing()]


def install(packages: list[str]) -> bool:
    """Install with apt; return whether that worked."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    )
    return all(
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
        == 0
        for command in commands
    )


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("purpose", choices=sorted(PURPOSES))
    purpose = parser.parse_args().purpose
    packages = missing_packages(purpose)
    if packages and can_install():
        print(f"system packages: installing {' '.join(packages)} with apt-get", flush=True)
        if install(packages):
            packages = missing_packages(purpose)
    if packages:
        names = " ".join(packages)
        print(
            f"system packages: {names} missing; install them (Debian, Ubuntu: "
            f"sudo apt-get install {names}) and run make again.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
