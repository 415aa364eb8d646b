"""What the `path` of a node runs: a Python file, a console script, or a program that only dora-rs can run.

A console script of a Python package (``dora-echo``) is a text file whose first line names its Python. The
embedded engine runs it as a script of that Python. ``uv run`` and ``conda run`` are asked for their Python.

Reading a file runs no program that may have come with it: an environment in the folder of the dataflow, or
above it, is only looked at.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dora_nb.files import MAX_SOURCE_BYTES, read_regular_file

_PYTHON = re.compile(r"(?:.*/)?python(?:3(?:\.\d+)?)?")
_EXEC_LINE = re.compile(r"""'''exec' (?P<python>"[^"]+"|\S+) "\$0" "\$@\"""")
"""The second line of a console script whose Python has a long path, or one with blanks; its first line then
names a shell."""
_OLDEST_PYTHON = (3, 11)
_NEEDED = ("msgspec", "numpy", "pyarrow")
"""The packages that the program of a node's process loads; it checks both again (`child/program.py`)."""
_WHERE = "import sys; print(sys.executable)"
_WHAT = f"""
import importlib.util, json, sys
missing = [name for name in {_NEEDED!r} if importlib.util.find_spec(name) is None]
print(json.dumps([sys.version_info[:2], missing]))
"""
_ANSWER_SECS = 20.0
_UV_FLAGS = {"--active", "--frozen", "--locked", "--no-sync", "--offline", "--quiet", "-q"}
_UV_OPTIONS = {"--extra", "--group", "--package"}
_CONDA_FLAGS = {"--no-capture-output", "--live-stream", "--quiet", "-q"}
_CONDA_OPTIONS = {"--name", "-n", "--prefix", "-p"}
_CONDA_PREFIX = re.compile(r"(?:--prefix|-p)(?:=(.*))?")


@dataclass(frozen=True, slots=True)
class Program:
    """A Python file or module, and how to run it."""

    file: Path | None
    """None for a `module`."""
    args: tuple[str, ...]
    python: str | None = None
    """None for the Python of the kernel."""
    module: str | None = None
    as_written: bool = True
    """Whether dora-rs gets the `path` and the `args` of the file unchanged."""
    is_script: bool = False
    """Whether it is the script of a package, which names its main function and nothing else."""


class OnlyDoraError(Exception):
    """The embedded engine cannot run this; the text is the reason, a clause."""


class Programs:
    """Looks for the programs that a dataflow's nodes run. Asks each other Python once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = environ.get("PATH", os.defpath)
        self._answers: dict[tuple[str, ...], str] = {}

    def look_up(self, path: str, args: tuple[str, ...], folder: Path) -> Program:
        """Returns what runs for that `path` and these `args`. Raises OnlyDoraError.

        `folder` is where relative paths begin. Like dora it looks there first, then among the programs; those
        beside this Python come before those on PATH.
        """
        if path.endswith(".py"):
            return Program(folder / path, args, as_written=False)
        if _PYTHON.fullmatch(path) and args:
            python = path if "/" not in path else str(folder / path)
            if args[0].endswith(".py"):
                return Program(folder / args[0], args[1:], python, as_written=False)
            return self._words_of_python(args, folder, python)
        if path in ("uv", "conda") and args[:1] == ("run",):
            return self._run_by_manager(path, args[1:], folder)
        found = self._found(path, folder)
        if found is None:
            raise OnlyDoraError(self._why_not_found(path))
        python_of_script = self._python_of_script(found, path)
        if _same_environment(python_of_script):
            return Program(found, args, is_script=True)
        # A program in the dataflow's own folder is not the user's choice as one on PATH is: reading the file
        # must not run whatever its first line names.
        if found.parent != folder and "/" not in path:
            self._check(python_of_script)
        return Program(found, args, python_of_script, is_script=True)

    def _words_of_python(
        self, words: Sequence[str], folder: Path, python: str | None, *, as_written: bool = True
    ) -> Program:
        """Returns what ``python WORDS`` runs: a file, or ``-m MODULE``."""
        rest = list(words)
        while rest and rest[0] in ("-u", "-B"):
            del rest[0]
        if rest and rest[0].endswith(".py"):
            return Program(folder / rest[0], tuple(rest[1:]), python, as_written=as_written)
        if len(rest) >= 2 and rest[0] == "-m" and re.fullmatch(r"[\w.]+", rest[1]):
            return Program(None, tuple(rest[2:]), python, module=rest[1], as_written=as_written)
        raise OnlyDoraError(f"'python {shlex.join(words)}' names no Python file and no module")

    def _run_by_manager(self, manager: str, words: tuple[str, ...], folder: Path) -> Program:
        """Returns what ``uv run WORDS`` or ``conda run WORDS`` runs."""
        shown = f"{manager} run {shlex.join(words)}"
        is_uv = manager == "uv"
        options, rest = _split_options(
            words, _UV_FLAGS if is_uv else _CONDA_FLAGS, _UV_OPTIONS if is_uv else _CONDA_OPTIONS
        )
        if not rest or rest[0].startswith("-"):
            raise OnlyDoraError(f"'{shown}' has an option that only {manager} understands")
        program = self._found(manager, folder)
        if program is None:
            raise OnlyDoraError(f"{manager} is not on PATH")
        environment = _uv_environment(rest[0], folder) if is_uv else _conda_prefix(options, folder)
        if environment is not None:
            python = _python_in(environment)
        else:
            quietly = ("--no-sync", "--offline") if is_uv else ()
            python = self._ask((str(program), "run", *quietly, *options, "python"), folder, shown)
            if not _same_environment(python):
                self._check(python)
        if rest[0].endswith(".py"):
            found = Program(folder / rest[0], rest[1:], python)
        elif _PYTHON.fullmatch(rest[0]):
            found = self._words_of_python(rest[1:], folder, python)
        else:
            script = Path(python).parent / rest[0]
            self._python_of_script(script, rest[0])
            found = Program(script, rest[1:], python, is_script=True)
        if not _same_environment(python):
            return found
        return Program(found.file, found.args, None, found.module, is_script=found.is_script)

    def _found(self, path: str, folder: Path) -> Path | None:
        if (folder / path).is_file():
            return folder / path
        if "/" in path:
            return None
        beside = Path(sys.executable).parent
        found = shutil.which(path, path=os.pathsep.join([str(beside), self._path]))
        return None if found is None else Path(found)

    def _why_not_found(self, path: str) -> str:
        if "/" in path:
            return f"'{path}' is not a Python file"
        return f"no program '{path}' is on PATH or beside this Python; is its package installed?"

    def _python_of_script(self, file: Path, shown: str) -> str:
        """Returns the Python that the first line of a script names. Raises OnlyDoraError."""
        try:
            text = read_regular_file(file, max_bytes=MAX_SOURCE_BYTES).decode()
        except FileNotFoundError:
            raise OnlyDoraError(f"there is no program '{shown}' beside its Python") from None
        except (OSError, UnicodeDecodeError):
            text = ""
        if not text.startswith("#!"):
            raise OnlyDoraError(f"'{shown}' is not a Python file")
        first, _, rest = text.partition("\n")
        if (long := _EXEC_LINE.match(rest)) is not None:
            return long["python"].strip('"')
        words = first.removeprefix("#!").split()
        if words and Path(words[0]).name == "env":
            words = [word for word in words[1:] if word != "-S" and "=" not in word]
            found = shutil.which(words[0], path=self._path) if words else None
            words = [] if found is None else [found]
        if not words or not _PYTHON.fullmatch(words[0]):
            raise OnlyDoraError(f"'{shown}' is not a Python file")
        return words[0]

    def _ask(self, command: tuple[str, ...], folder: Path | None, shown: str) -> str:
        """Returns the `sys.executable` of the Python that a command runs. Raises OnlyDoraError."""
        python = self._answer_of(command, _WHERE, folder)
        if not Path(python).is_absolute():
            raise OnlyDoraError(f"'{shown}' does not name a Python that runs here")
        return python

    def _check(self, python: str) -> None:
        """Raises OnlyDoraError if a node cannot run in that Python."""
        try:
            version, missing = json.loads(self._answer_of((python,), _WHAT, None))
        except ValueError:
            raise OnlyDoraError(f"'{python}' does not name a Python that runs here") from None
        _check_fits(python, tuple(version), missing)

    def _answer_of(self, command: tuple[str, ...], code: str, folder: Path | None) -> str:
        """Returns the last line that the code prints in that Python; empty if it cannot run."""
        key = (*command, code)
        if key not in self._answers:
            try:
                answer = subprocess.run(
                    [*command, "-c", code],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_ANSWER_SECS,
                    check=True,
                )
                self._answers[key] = answer.stdout.decode().strip().rpartition("\n")[2]
            except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
                self._answers[key] = ""
        return self._answers[key]


def _check_fits(python: str, version: tuple[int, ...], missing: Sequence[str]) -> None:
    if version < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        raise OnlyDoraError(
            f"{python} is Python {version[0]}.{version[1]}, and nodes need {oldest} here"
        )
    if missing:
        raise OnlyDoraError(f"{python} lacks {', '.join(missing)}, which nodes need here")


def _split_options(
    words: tuple[str, ...], flags: set[str], options: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Splits words into known options, each with its value, and the rest."""
    at = 0
    while at < len(words):
        name = words[at].partition("=")[0]
        if words[at] in flags or (name in options and name != words[at]):
            at += 1
        elif name in options:
            at += 2
        else:
            break
    return words[:at], words[at:]


def _uv_environment(target: str, folder: Path) -> Path | None:
    """Returns the environment that uv finds in the folder or above it; None if there is none.

    Raises OnlyDoraError where uv would have to make one: reading a file makes none.
    """
    if target.endswith(".py"):
        try:
            text = read_regular_file(folder / target, max_bytes=MAX_SOURCE_BYTES)
        except OSError:
            text = b""
        if re.search(rb"^# /// script\s*$", text, re.MULTILINE):
            raise OnlyDoraError(
                f"'{target}' lists its own requirements, for which uv makes a Python"
            )
    for each in (folder, *folder.parents):
        if (each / ".venv").exists():
            return each / ".venv"
        if _is_project(each):
            raise OnlyDoraError(f"its environment does not exist yet; run uv sync in {each}")
    return None


def _conda_prefix(options: Sequence[str], folder: Path) -> Path | None:
    """Returns the folder of an environment that is given by its path; None if it is given by its name."""
    for option, value in zip(options, [*options[1:], ""], strict=True):
        if match := _CONDA_PREFIX.fullmatch(option):
            return folder / Path(value if match[1] is None else match[1]).expanduser()
    return None


def _python_in(environment: Path) -> str:
    """Returns the Python of an environment whose files show that a node can run in it. Runs nothing.

    Packages that it takes from elsewhere are taken to be there.
    """
    python = environment / "bin" / "python"
    if not python.is_file():
        raise OnlyDoraError(f"there is no Python in {environment}")
    for site in environment.glob("lib/python3.*/site-packages"):
        version = tuple(map(int, site.parent.name.removeprefix("python").split(".")))
        missing = [name for name in _NEEDED if not any(site.glob(f"{name}*"))]
        _check_fits(str(python), version, [] if _has_other_places(environment, site) else missing)
    return str(python)


def _has_other_places(environment: Path, site: Path) -> bool:
    """Returns whether the environment takes packages from other folders too."""
    try:
        settings = read_regular_file(environment / "pyvenv.cfg", max_bytes=MAX_SOURCE_BYTES)
        if re.search(rb"include-system-site-packages\s*=\s*true", settings):
            return True
        paths = [read_regular_file(each, max_bytes=MAX_SOURCE_BYTES) for each in site.glob("*.pth")]
    except OSError:
        return True
    lines = [line for text in paths for line in text.splitlines()]
    return any(line.strip() and not line.startswith((b"import", b"#")) for line in lines)


def _is_project(folder: Path) -> bool:
    try:
        text = read_regular_file(folder / "pyproject.toml", max_bytes=MAX_SOURCE_BYTES)
        return "project" in tomllib.loads(text.decode())
    except (OSError, ValueError):
        return False


def _same_environment(python: str) -> bool:
    """Returns whether that is this interpreter, under any of its names."""
    # The folder, not the file: an interpreter of a venv is a link to one that other venvs share.
    return Path(python).parent.resolve() == Path(sys.executable).parent.resolve()
