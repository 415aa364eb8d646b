"""Runs examples of dora's own repository, unmodified, with `dora-nb run`.

    python scripts/dora_examples.py PATH [NAME ...]

PATH is a checkout of https://github.com/dora-rs/dora, of the release that `dora.__version__` names.
These are its Python examples that need neither camera, GPU nor network. Each is stopped after a
while, since most would go on for ever. One passes where no node failed and it printed what says that
it went well; where it has no such words, anything. Exit status 1 unless all have passed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

STOP_AFTER_SECS = 8
HUNG_AFTER_SECS = 60
SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Example:
    """A dataflow in the folder ``examples``; `prints` is a pattern of what it prints on success."""

    folder: str
    file: str = "dataflow.yml"
    prints: str = "."

    @property
    def name(self) -> str:
        stem = Path(self.file).stem
        return self.folder if stem == "dataflow" else f"{self.folder}/{stem}"


EXAMPLES = (
    Example("python-echo", prints=r"\[PASS\] #1 (?s:.*)Total PASS: [1-9]"),
    Example("python-dataflow"),
    Example("python-async", "dataflow.yaml"),
    Example("python-recv-async", prints="SUCCESS - received and echoed 10 messages"),
    Example("python-concurrent-rw"),
    Example("python-drain", "dataflow.yaml"),
    Example("python-log", "dataflow.yaml"),
    Example("python-logging"),
    Example("python-multiple-arrays"),
    Example("python-zero-copy-send"),
    Example("python-zero-copy-send", "contract_dataflow.yml", prints="11/11 contract cases passed"),
    Example("streaming-example"),
    Example("typed-dataflow"),
    Example("module-dataflow"),
    Example("log-aggregator"),
)


def run(example: Example, checkout: Path) -> tuple[str, str]:
    """Returns ``passed`` or why it did not pass, and all that was printed."""
    path = checkout / "examples" / example.folder / example.file
    if not path.is_file():
        return "is not in this checkout", ""
    words = ["run", str(path), "--stop-after", str(STOP_AFTER_SECS)]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "dora_nb.cli", *words],
            cwd=path.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HUNG_AFTER_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {HUNG_AFTER_SECS} s", ""
    return outcome_of(example, ran.returncode, ran.stdout), ran.stdout


def outcome_of(example: Example, status: int, printed: str) -> str:
    """Returns ``passed``, or why a run with that exit status and output did not pass."""
    if status:
        return f"ended with status {status}"
    if failed := re.search(r"^.*(?:\[FAIL\]|\bERROR\b).*$", printed, re.MULTILINE):
        return f"printed {failed[0]!r}"
    return "passed" if re.search(example.prints, printed) else f"never printed {example.prints!r}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Run examples of dora's own repository with dora-nb.", allow_abbrev=False
    )
    parser.add_argument("checkout", type=Path, metavar="PATH", help="a checkout of dora-rs/dora")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(each.name for each in EXAMPLES)}"
    )
    arguments = parser.parse_args(argv)
    known = {each.name: each for each in EXAMPLES}
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"unknown example: {', '.join(unknown)}")
    chosen = [known[name] for name in arguments.names] or list(EXAMPLES)
    passed = 0
    for example in chosen:
        begin_secs = time.monotonic()
        outcome, printed = run(example, arguments.checkout.resolve())
        print(f"{example.name:40}{time.monotonic() - begin_secs:6.1f} s  {outcome}", flush=True)
        passed += outcome == "passed"
        if outcome != "passed":
            print("".join(f"    {line}\n" for line in printed.splitlines()[-SHOWN_LINES:]), end="")
    print(f"{passed} of {len(chosen)} passed")
    return 0 if passed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
