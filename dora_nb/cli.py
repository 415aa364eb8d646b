"""The command ``dora-nb``: what can be done without a notebook.

Exit status: 0 done, 1 it could not be done (one line on stderr says why), 2 the command line is
wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import __version__
from .errors import DoraNbError, EngineError, did_you_mean
from .system import check_system

TUTORIAL_FOLDERS = ("notebooks", "samples")
"""They stay side by side, so that ``../samples`` resolves from a notebook as in the repository."""
DEFAULT_TUTORIAL_DIR = Path("dora-nb-tutorial")
NOT_BUILT_YET = {
    "run": "use %dora start in a notebook",
    "export": "declare the operators in a notebook",
}
"""Commands that the design names and that do not exist yet, each with what to do instead."""


class CommandError(DoraNbError):
    """The command cannot do what it was asked; the message is all that is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Shows no traceback for a mistake of the user's."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        wrong = _unknown_command(words[0])
        if wrong is not None:
            print(f"dora-nb: {wrong}", file=sys.stderr)
            return 2
    arguments = _parser().parse_args(words)
    try:
        return _doctor() if arguments.command == "doctor" else _tutorial(arguments)
    except DoraNbError as error:
        print(f"dora-nb {arguments.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"dora-nb {arguments.command}: {where}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"dora-nb {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _unknown_command(word: str) -> str | None:
    if word in NOT_BUILT_YET:
        return f"'{word}' is not built yet; {NOT_BUILT_YET[word]}."
    commands = ("doctor", "tutorial")
    if word in commands:
        return None
    near = did_you_mean(word, (*commands, *NOT_BUILT_YET))
    return f"there is no command '{word}'. " + (near or f"There are: {', '.join(commands)}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dora-nb", description="Prototype robots in a notebook.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"dora-nb {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    tutorial = commands.add_parser(
        "tutorial",
        help="copy the tutorial's notebooks and samples into a folder",
        description="Copy the tutorial's notebooks and samples into a folder, to be run and edited "
        "there. Files that you changed are kept unless you say --force.",
        allow_abbrev=False,
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
    commands.add_parser(
        "doctor",
        help="say what this machine lacks",
        description="Try what dora_nb needs from this machine, and say what is missing. "
        "Exit status 1 if something is.",
        allow_abbrev=False,
    )
    return parser


def _doctor() -> int:
    checks = check_system()
    width = max(len(check.subject) for check in checks)
    for check in checks:
        print(f"{check.result:8}{check.subject:{width}}  {check.text}")
    return 1 if any(check.result == "missing" for check in checks) else 0


def _tutorial(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    copied = copy_tutorial(tutorial_root(), folder, force=arguments.force)
    print(f"{folder}: {copied} files copied" if copied else f"{folder}: all files are there")
    print(f"next: {_next_command(folder)}")
    return 0


def _next_command(folder: Path) -> str:
    """What to type to open the first notebook."""
    first = min((folder / "notebooks").glob("*.ipynb"), default=folder / "notebooks")
    install = ""
    if importlib.util.find_spec("jupyterlab") is None:
        install = "pip install 'dora-nb[tutorial]' && "
    return f"{install}jupyter lab {shlex.quote(str(first))}"


def tutorial_root() -> Path:
    """The folder that holds the tutorial's: in an installed wheel, or the repository itself."""
    package = Path(__file__).resolve().parent
    roots = [package / "tutorial"]
    if (package.parent / "pyproject.toml").is_file():
        roots.append(package.parent)
    for root in roots:
        if all((root / folder).is_dir() for folder in TUTORIAL_FOLDERS):
            return root
    raise EngineError(
        "the tutorial is missing from this installation;", hint="reinstall dora-nb from a wheel."
    )


def tutorial_files(root: Path) -> Iterator[Path]:
    """Every file of the tutorial, relative to `root`; nothing that running it leaves behind."""
    for folder in TUTORIAL_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            relative = path.relative_to(root)
            left_behind = any(
                part == "__pycache__" or part.startswith(".") for part in relative.parts
            )
            if path.is_file() and not left_behind:
                yield relative


def copy_tutorial(root: Path, folder: Path, *, force: bool) -> int:
    """Copy what is not there yet and return how many files that were.

    Raises CommandError, with nothing copied, where files in `folder` differ and `force` is false.
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


if __name__ == "__main__":
    sys.exit(main())
