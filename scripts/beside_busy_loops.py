"""Runs tests again and again on a machine that is kept busy, and counts the runs that failed.

    .venv/bin/python scripts/beside_busy_loops.py --runs 30 -- tests/engine/test_hand_over.py -k killed

What stands behind ``--`` is given to pytest. Races that a quiet machine never shows come out here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

BUSY_LOOP = [
    sys.executable,
    "-c",
    # Ends with this program, however that ends.
    "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass",
    str(os.getpid()),
]
FAILED_STATUS = 1


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """That many processes that compute without a pause, until the block ends."""
    loops = [subprocess.Popen(BUSY_LOOP) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run_once(pytest_arguments: list[str]) -> tuple[bool, str]:
    """Whether pytest passed, and all that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *pytest_arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout


def main() -> int:
    """0 if every run passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--loops", type=int, default=4, help="how many busy loops (4)")
    parser.add_argument("pytest_arguments", nargs="+", metavar="-- PYTEST_ARGUMENTS")
    chosen = parser.parse_args()
    failures = 0
    with busy_loops(chosen.loops):
        for number in range(1, chosen.runs + 1):
            begin_secs = time.monotonic()
            passed, printed = run_once(chosen.pytest_arguments)
            took = f"{time.monotonic() - begin_secs:.0f} s"
            failures += not passed
            if not passed:
                print(printed)
            print(f"run {number}: {'passed' if passed else 'FAILED'} in {took}", flush=True)
    print(f"{failures} of {chosen.runs} runs failed beside {chosen.loops} busy loops")
    return FAILED_STATUS if failures else 0


if __name__ == "__main__":
    sys.exit(main())
