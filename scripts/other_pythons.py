"""Runs the tests that need neither torch nor a browser on another Python; `make pythons` calls it.

    python scripts/other_pythons.py [PYTHON ...]

Without arguments: on the newest one that is installed, on the PATH or by pyenv. Each gets an
environment of its own under build/, with the versions of constraints.txt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMISED = ("3.14", "3.13", "3.12")
PACKAGES = (
    *("hypothesis", "jupyterlab", "matplotlib", "nbclient", "nbconvert", "pillow", "pytest"),
)
"""What these tests need beside some extras: the extra `dev` would bring torch."""
TESTS = (
    *("cells", "child", "dataflow", "descriptor", "engines", "graph", "magics", "protocol"),
    *("transport", "widgets", "data", "test_cli.py", "test_doctor.py", "test_errors.py"),
    *("test_imports.py", "test_system.py", "test_testing.py"),
)
NEEDS_TORCH = "data/test_convert.py"
"""Left out, as are single tests with torch in their names."""


def main(pythons: list[str]) -> int:
    """Returns 1 if the tests failed on one of them, else 0."""
    pythons = pythons or installed()[:1]
    if not pythons:
        print(f"Python {', '.join(PROMISED)}: none of them is installed, so nothing was run")
        return 0
    failed = [python for python in pythons if not _passes(python)]
    for python in pythons:
        print(f"{python}: {'failed' if python in failed else 'passed'}")
    return 1 if failed else 0


def installed() -> list[str]:
    """Returns the promised Pythons of this machine other than the oldest, the newest first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = []
    for version in PROMISED:
        name = f"python{version}"
        candidates = [shutil.which(name), *sorted(map(str, pyenv.glob(f"{version}.*/bin/{name}")))]
        # pyenv puts a program of each name on the PATH, which runs only if that version is selected.
        found += [python for python in candidates if python and _runs(python)][:1]
    return found


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


def _passes(python: str) -> bool:
    folder = ROOT / "build" / Path(python).name
    print(f"\n== {python}", flush=True)
    run = folder / "bin" / "python"
    pip: list[str | Path] = [run, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    without = f"--ignore={ROOT / 'tests' / NEEDS_TORCH}"
    tests = [ROOT / "tests" / name for name in TESTS]
    commands: tuple[list[str | Path], ...] = (
        [python, "-m", "venv", folder],
        # The build backend first, since pip would take its newest release, not the pinned one.
        [*pip, "hatchling"],
        [*pip, "--no-build-isolation", "-e", f"{ROOT}[dora,foxglove,pandas,ros]", *PACKAGES],
        [run, "-m", "pytest", "-q", "-k", "not torch", without, *tests],
    )
    return all(
        subprocess.run(command, cwd=ROOT, check=False).returncode == 0 for command in commands
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
