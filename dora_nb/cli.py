"""The command ``dora-nb``: what works without a notebook.

Exit status: 0 success, 1 failure (one line on stderr says why), 2 wrong command line, 130 interrupted.
"""

from __future__ import annotations

import argparse
import filecmp
import functools
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .doctor import check_system, report
from .errors import DoraNbError, EngineError, did_you_mean
from .files import hint_at_missing

if TYPE_CHECKING:
    from .descriptor import Build
    from .graph.graph import Graph

TUTORIAL_FOLDERS = ("notebooks", "samples")
"""Copied side by side, so that ``../samples`` resolves from a notebook as in the repository."""
DEFAULT_TUTORIAL_DIR = Path("dora-nb-tutorial")
PROJECT_FILES = ("robot.ipynb", "helpers.py", "test_robot.py", "README.md", "gitignore")
"""What `dora-nb new` writes; ``gitignore`` gets its dot there, since here git would obey it."""
COMMANDS = ("doctor", "export", "info", "new", "recover", "run", "tutorial")


class CommandError(DoraNbError):
    """The command failed; only the message is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. A mistake of the user shows no traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        wrong = _unknown_command(words[0])
        if wrong is not None:
            print(f"dora-nb: {wrong}", file=sys.stderr)
            return 2
    arguments = _parser().parse_args(words)
    try:
        return _ACTIONS[arguments.command](arguments)
    except DoraNbError as error:
        place = error.location.render() if error.location else []
        print("\n".join([*place, f"dora-nb {arguments.command}: {error}"]), file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = None
        reads = arguments.command in ("run", "export")
        if reads and isinstance(error, FileNotFoundError) and error.filename:
            hint = hint_at_missing(Path(os.fsdecode(error.filename)))
        why = error.strerror if hint is None else f"{error.strerror}. {hint}"
        print(f"dora-nb {arguments.command}: {where}{why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"dora-nb {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _unknown_command(word: str) -> str | None:
    if word in COMMANDS:
        return None
    near = did_you_mean(word, COMMANDS)
    return f"there is no command '{word}'. " + (near or f"There are: {', '.join(COMMANDS)}.")


_Add = Callable[..., argparse.ArgumentParser]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dora-nb", description="Prototype robots in a notebook.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"dora-nb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = functools.partial(commands.add_parser, allow_abbrev=False)
    _add_starters(add)
    _add_runners(add)
    _add_recordings(add)
    return parser


def _add_starters(add: _Add) -> None:
    tutorial = add(
        "tutorial",
        help="copy the tutorial's notebooks and samples into a folder",
        description="Copy the tutorial's notebooks and samples into a folder, to be run and edited "
        "there. Files that you changed are kept unless you say --force.",
    )
    tutorial.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=DEFAULT_TUTORIAL_DIR,
        metavar="DIR",
        help="the folder (default: ./%(default)s)",
    )
    tutorial.add_argument("--force", action="store_true", help="overwrite files that differ")
    new = add(
        "new",
        help="start a project: a notebook with two operators, and a test",
        description="Write a project into a new folder: a notebook with two operators and a view, functions that "
        "the cells share, a test that gives an operator prepared messages, a README and a .gitignore.",
    )
    new.add_argument("folder", type=Path, metavar="DIR", help="the folder; new, or empty")
    add(
        "doctor",
        help="check what dora_nb needs from this machine",
        description="Check what dora_nb needs from this machine, and show what is missing. "
        "Exit status 1 if something is missing.",
    )


def _add_runners(add: _Add) -> None:
    run = add(
        "run",
        help="run a dataflow.yml, or what a notebook declares",
        description="Run a dataflow until every node has ended, and print what the nodes print. The cells "
        "of a notebook are not executed; only its declarations are read. Exit status 1 if a node fails.",
    )
    run.add_argument("file", type=Path, metavar="FILE", help="a dataflow.yml, or an .ipynb")
    run.add_argument("--stop-after", type=_seconds, metavar="SECONDS", help="stop after this time")
    run.add_argument(
        "--build", action="store_true", help="run the build commands of the file first"
    )
    run.add_argument(
        "--engine",
        choices=("embedded", "dora"),
        default="embedded",
        help="what runs it (%(default)s)",
    )
    run.add_argument(
        "--env",
        action="append",
        type=_variable,
        default=[],
        metavar="KEY=VALUE",
        help="set an environment variable for every node that does not set it itself (repeatable)",
    )
    _add_allowances(run)
    export = add(
        "export",
        help="write what a notebook declares as files for dora-rs",
        description="Read the declarations of a notebook, without executing any cell, and write a "
        "dataflow.yml, a file for each node and requirements.txt. Also accepts a dataflow.yml, including "
        "one of dora 0.x.",
    )
    export.add_argument("file", type=Path, metavar="FILE", help="an .ipynb, or a dataflow.yml")
    export.add_argument("folder", type=Path, metavar="DIR", help="where the files go")
    export.set_defaults(build=False, env=[])
    _add_allowances(export)


def _add_recordings(add: _Add) -> None:
    info = add(
        "info",
        help="show what a recording contains",
        description="Show the topics of a recording with their types, counts, rates and gaps, what is damaged "
        "or missing, and the cells that are attached. Opens MCAP files of any program, and ROS 2 bags.",
    )
    info.add_argument("file", type=Path, metavar="FILE", help="an .mcap, or the folder of a bag")
    recover = add(
        "recover",
        help="write what can be read of a damaged recording as a whole file",
        description="Write every message that can be read of a recording that was cut or damaged into a new "
        "file. The old file stays as it is.",
    )
    recover.add_argument("file", type=Path, metavar="FILE", help="the recording")
    recover.add_argument(
        "out",
        nargs="?",
        type=Path,
        metavar="OUT",
        help="the new file (default: FILE-recovered.mcap, beside FILE)",
    )


def _add_allowances(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-shell-nodes",
        action="store_true",
        help="accept nodes that are a shell command, which may do anything",
    )
    parser.add_argument(
        "--allow-url-sources", action="store_true", help="accept code from the network"
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError
    return seconds


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, such as MODEL=yolov5n, got '{text}'")
    return key, value


def _run(arguments: argparse.Namespace) -> int:
    from .dataflow.batch import run_to_the_end
    from .dataflow.dataflow import Dataflow
    from .dataflow.front_end import FrontEnd
    from .dataflow.results import cycle_warning, left_out

    dataflow = Dataflow()
    for declared in FrontEnd(dataflow).declare_all(_read(arguments)):
        if declared.blocking_cycle:
            warning = cycle_warning(declared.blocking_cycle)
            print(f"{declared.name}: declared; {warning}", file=sys.stderr)
    for each in left_out(dataflow.graph, arguments.engine):
        print(each, file=sys.stderr)
    # The default action would end this process without a stop of the nodes.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = run_to_the_end(
            dataflow,
            engine=arguments.engine,
            stop_after_secs=arguments.stop_after,
            say=_print_line,
            progress=lambda text: print(text, file=sys.stderr, flush=True),
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    for error in failed:
        print("\n".join(error.render()), file=sys.stderr)
    return 1 if failed else 0


def _print_line(line: str) -> None:
    print(line, flush=True)


def _read(arguments: argparse.Namespace) -> Graph:
    """The graph in the file of the command line; runs the builds of a ``dataflow.yml`` if asked to."""
    from .descriptor import Allowed, read_dataflow
    from .descriptor.notebook_files import read_notebook

    path: Path = arguments.file
    env = dict(arguments.env)
    allowed = Allowed(shell=arguments.allow_shell_nodes, urls=arguments.allow_url_sources)
    if path.suffix == ".ipynb":
        imported = read_notebook(path, allowed=allowed)
        graph = imported.graph
        for spec in graph:
            graph = graph.replacing(replace(spec, env=tuple({**env, **dict(spec.env)}.items())))
    else:
        imported = read_dataflow(path, allowed=allowed, env=env)
        if arguments.build and imported.builds:
            _run_builds(imported.builds)
            # Once more, since a build may install the programs of its nodes.
            imported = read_dataflow(path, allowed=allowed, env=env)
        graph = imported.graph
    for note in imported.notes:
        print(note, file=sys.stderr)
    if not arguments.build:
        for build in imported.builds:
            for command in build.commands:
                print(f"{build.node}: not built (--build runs it): {command}", file=sys.stderr)
    elif path.suffix == ".ipynb":
        _run_builds(imported.builds)
    return graph


def _run_builds(builds: Sequence[Build]) -> None:
    for build in builds:
        for command in build.commands:
            _run_build(build, command)


def _run_build(build: Build, command: str) -> None:
    print(f"{build.node}: {command}", flush=True)
    try:
        program, *words = shlex.split(command)
        # The nodes run on this Python, so pip must install for it.
        words = ["-m", "pip", *words] if program in ("pip", "pip3") else words
        program = sys.executable if program in ("pip", "pip3") else program
        environment = {**os.environ, **dict(build.env)}
        ran = subprocess.run([program, *words], cwd=build.working_dir, env=environment, check=False)
    except (ValueError, OSError) as error:
        raise CommandError(f"the build of {build.node} cannot run '{command}': {error}.") from None
    if ran.returncode:
        status = f"status {ran.returncode}"
        raise CommandError(f"the build of {build.node} ended with {status}: {command}.")


def _export(arguments: argparse.Namespace) -> int:
    from .descriptor import write_dataflow

    exported = write_dataflow(_read(arguments), arguments.folder)
    for note in exported.notes:
        print(note, file=sys.stderr)
    print(f"{arguments.folder}: {', '.join(exported.files)}")
    print(f"next: dora run {shlex.quote(str(exported.path))}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from .recording.info import describe

    print(describe(arguments.file))
    return 0


def _recover(arguments: argparse.Namespace) -> int:
    from .recording.recover import recover

    recovered = recover(arguments.file, arguments.out)
    for note in recovered.notes:
        print(f"{arguments.file}: {note}", file=sys.stderr)
    seconds = f"{recovered.duration_secs:.1f} s"
    print(f"{recovered.path}: {recovered.num_messages:,} messages, {seconds}")
    return 0


def _doctor(_arguments: argparse.Namespace) -> int:
    checks = check_system()
    print(report(checks, command="dora-nb doctor"))
    return 1 if any(check.result == "missing" for check in checks) else 0


def _tutorial(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    copied = copy_tutorial(tutorial_root(), folder, force=arguments.force)
    print(f"{folder}: {copied} files copied" if copied else f"{folder}: all files are there")
    print(f"next: {_next_command(folder)}")
    return 0


def _next_command(folder: Path) -> str:
    """The command that opens the first notebook."""
    first = min((folder / "notebooks").glob("*.ipynb"), default=folder / "notebooks")
    return f"{_jupyter()}{shlex.quote(str(first))}"


def _jupyter() -> str:
    """The command before the name of a notebook; installs JupyterLab if it is missing."""
    missing = importlib.util.find_spec("jupyterlab") is None
    return ("pip install 'dora-nb[tutorial]' && " if missing else "") + "jupyter lab "


def tutorial_root() -> Path:
    """The folder that contains the tutorial: in an installed wheel, or in the repository."""
    return _root_of("tutorial", in_wheel="tutorial", in_repository=".", needed=TUTORIAL_FOLDERS)


def project_root() -> Path:
    """The folder with the files of a new project: in an installed wheel, or in the repository."""
    return _root_of(
        "new project", in_wheel="project", in_repository="project", needed=PROJECT_FILES
    )


def _root_of(what: str, *, in_wheel: str, in_repository: str, needed: Iterable[str]) -> Path:
    package = Path(__file__).resolve().parent
    roots = [package / in_wheel]
    if (package.parent / "pyproject.toml").is_file():
        roots.append(package.parent / in_repository)
    for root in roots:
        if all((root / name).exists() for name in needed):
            return root
    raise EngineError(
        f"the {what} is missing from this installation;", hint="reinstall dora-nb from a wheel."
    )


def _new(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    write_project(project_root(), folder)
    print(f"{folder}: {len(PROJECT_FILES)} files written")
    install = "" if importlib.util.find_spec("pytest") else "pip install pytest && "
    print(f"next: cd {shlex.quote(str(folder))} && {install}pytest && {_jupyter()}robot.ipynb")
    return 0


def write_project(root: Path, folder: Path) -> None:
    """Writes the files of a new project. Raises CommandError if the folder has files; and OSError."""
    if folder.is_dir() and any(folder.iterdir()):
        raise CommandError(
            f"{folder} is not empty; nothing was written.", hint="Name a new or empty folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    title = folder.resolve().name
    for name in PROJECT_FILES:
        text = (root / name).read_text(encoding="utf-8")
        if name == "README.md":
            text = text.replace("NAME", title, 1)
        (folder / name.replace("gitignore", ".gitignore")).write_text(text, encoding="utf-8")


def tutorial_files(root: Path) -> Iterator[Path]:
    """Every file of the tutorial, relative to `root`, without files that running it has created."""
    for folder in TUTORIAL_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            relative = path.relative_to(root)
            left_behind = relative.suffix == ".mcap" or any(
                part == "__pycache__" or part.startswith(".") for part in relative.parts
            )
            if path.is_file() and not left_behind:
                yield relative


def copy_tutorial(root: Path, folder: Path, *, force: bool) -> int:
    """Copies the files that are not there yet; returns how many.

    Raises CommandError, with nothing copied, if files in `folder` differ and `force` is false.
    """
    files = list(tutorial_files(root))
    new = [file for file in files if not (folder / file).exists()]
    changed = [
        file
        for file in files
        if (folder / file).exists() and not _same_file(root / file, folder / file)
    ]
    if changed and not force:
        names = ", ".join(map(str, changed))
        raise CommandError(
            f"{folder} has other versions of {names}; nothing was copied.",
            hint="Choose another folder, or overwrite them with --force.",
        )
    for file in [*new, *changed]:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, target)
    return len(new) + len(changed)


def _same_file(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "doctor": _doctor,
    "export": _export,
    "info": _info,
    "new": _new,
    "recover": _recover,
    "run": _run,
    "tutorial": _tutorial,
}


if __name__ == "__main__":
    sys.exit(main())
