"""The program `dora`: where it is, and calls of it, one for each operation.

A call takes 20 to 200 ms (measured with 1.1.0), so there is no need to speak dora's own protocols.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dora_nb.errors import EngineError

CALL_TIMEOUT_SECS = 30.0
_INSTALL = "%pip install 'dora-nb[dora]'"
_INSTALL_ONE_RELEASE = '%pip install -U "dora-rs>=1.1,<2" "dora-rs-cli>=1.1,<2"'
"""The extra alone would be satisfied by what is installed."""
_NOT_FOR_USERS = re.compile(r"^\s*(Location:|Stack backtrace:|Backtrace omitted)")


def find_program() -> str:
    """Returns the path of `dora`, preferring the kernel's own environment.

    Raises EngineError if dora-rs is not installed or its two packages are of different releases.
    """
    beside = Path(sys.executable).with_name("dora")
    program = str(beside) if beside.is_file() else shutil.which("dora")
    versions = {name: _version(name) for name in ("dora-rs", "dora-rs-cli")}
    if program is None or versions["dora-rs"] is None:
        raise EngineError("dora-rs is not installed here.", hint=f"Install it: {_INSTALL}.")
    series = {version.rpartition(".")[0] for version in versions.values() if version is not None}
    if len(series) > 1:
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        raise EngineError(
            f"the installed versions do not match: {found}.",
            hint=f"Install one release: {_INSTALL_ONE_RELEASE}.",
        )
    return program


def dora_version() -> str:
    """Returns the version of the installed dora-rs and the path of its program, which is run once.

    Raises EngineError if dora-rs is not installed, does not fit itself or does not run.
    """
    program = find_program()
    try:
        ran = subprocess.run(
            [program, "--version"],
            env=plain_environment(os.environ),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CALL_TIMEOUT_SECS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(
            f"{program} does not run: {error}", hint=f"Install it: {_INSTALL}."
        ) from None
    return f"{ran.stdout.strip().removeprefix('dora-cli ')}, {program}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Coordinator:
    """The address of a coordinator."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Dora:
    """Calls of `dora` for one coordinator. Thread-safe; a call blocks until the program has ended."""

    def __init__(
        self, program: str, coordinator: Coordinator, environment: Mapping[str, str] | None = None
    ) -> None:
        self.program = program
        self.coordinator = coordinator
        self.environment = plain_environment(environment or os.environ)

    def command(self, *words: str) -> list[str]:
        """Returns the whole command line of ``dora WORDS``; words after ``--`` are not options."""
        where = self.coordinator
        place = words.index("--") if "--" in words else len(words)
        there = [f"--coordinator-addr={where.host}", f"--coordinator-port={where.port}"]
        return [self.program, *words[:place], *there, *words[place:]]

    def call(self, *words: str, what: str, stdin: str = "") -> str:
        """Returns the output of ``dora WORDS``. Raises EngineError if it fails; `what` begins its message.

        The program can read `stdin` from ``/dev/stdin``.
        """
        try:
            done = subprocess.run(
                self.command(*words),
                env=self.environment,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CALL_TIMEOUT_SECS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(
                f"{what}: `dora {words[0]}` did not answer within {CALL_TIMEOUT_SECS:g} s.",
                hint=f"Check that the coordinator at {self.coordinator} is running.",
            ) from None
        if done.returncode:
            raise EngineError(f"{what}: {error_summary(done.stderr) or f'dora {words[0]} failed'}.")
        return done.stdout

    def query(self, *words: str, what: str) -> list[Any]:
        """Returns the JSON documents that ``dora WORDS`` prints. Raises as `call`."""
        place = words.index("--") if "--" in words else len(words)
        answer = self.call(*words[:place], "--format=json", *words[place:], what=what)
        try:
            return _documents(answer)
        except ValueError:
            shown = " ".join(answer.split())[:100]
            raise EngineError(
                f"{what}: expected JSON from `dora {words[0]}`, got '{shown}'."
            ) from None


def _documents(text: str) -> list[Any]:
    decoder = json.JSONDecoder()
    found = []
    rest = text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].strip()
    return found


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without the colours that Jupyter forces on a kernel's programs, and without
    backtraces of Rust."""
    forced = ("FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR")
    kept = {key: value for key, value in environment.items() if key not in forced}
    return {**kept, "NO_COLOR": "1", "RUST_BACKTRACE": "0"}


def error_summary(output: str) -> str:
    """Returns an error of dora in one line, without its place in the Rust source. Pure."""
    lines: list[str] = []
    skipping = False
    for line in without_colours(output).splitlines():
        if _NOT_FOR_USERS.match(line):
            skipping = True
        elif not line.strip():
            skipping = False
        elif not skipping and line.strip() not in ("[ERROR]", "Caused by:"):
            lines.append(line.strip())
    return "; ".join(dict.fromkeys(lines)).rstrip(".;:")


def without_colours(text: str) -> str:
    """Returns the text without the escape sequences of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
