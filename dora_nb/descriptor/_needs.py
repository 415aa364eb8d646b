"""What a node's file needs beside itself: modules of its own folder, packages, other files.

Read from the text, without running it. So what is found is what is written out: a name given to
`importlib` or put together at run time is not seen.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dora_nb.graph.nodes import NodeSpec

_MOST_PATH_CHARACTERS = 250


def imported_modules(text: str) -> list[str]:
    """The full names of modules that the text imports, each once, in order."""
    names: dict[str, None] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module] = None
    return list(names)


def relative_paths(text: str) -> list[str]:
    """The strings in the text that look like a path that begins at the working directory."""
    return list(
        dict.fromkeys(
            node.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _looks_like_a_path(node.value)
        )
    )


def _looks_like_a_path(text: str) -> bool:
    return (
        0 < len(text) <= _MOST_PATH_CHARACTERS
        and not text.startswith(("/", "~"))
        and "\0" not in text
        and "\n" not in text
        and "://" not in text
        and ("/" in text or Path(text).suffix not in ("", "."))
    )


@dataclass
class Needs:
    """What one node needs. `copies` are files by their place in the export."""

    copies: dict[str, Path] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    """Requirements, as pip takes them."""
    unknown: list[str] = field(default_factory=list)
    """Modules that neither its folder nor any installed package has."""
    paths: list[str] = field(default_factory=list)
    """Relative paths that are there now."""


def needs_of(spec: NodeSpec, *, requirement_of: Callable[[str], str | None]) -> Needs:
    """Looks around the node's folders; `requirement_of` names the installed package of a module."""
    found = Needs()
    folder = Path(spec.working_dir)
    texts = [spec.code.text]
    found.paths = _paths_that_are_there(spec, folder)
    places = [folder] if spec.code.path is None else [folder, Path(spec.code.path).parent]
    on_own_path = [folder / path for path in found.paths if (folder / path).is_dir()]
    seen: set[str] = set()
    while texts:
        for module in imported_modules(texts.pop()):
            name = module.partition(".")[0]
            if name in seen or name in sys.stdlib_module_names or name == "dora":
                continue
            seen.add(name)
            local = dict(_local_files(name, places))
            if local:
                found.copies |= local
                texts += [_text_of(path) for path in local.values() if path.suffix == ".py"]
            elif (requirement := requirement_of(name)) is not None:
                found.packages.add(requirement)
            elif not any(dict(_local_files(name, [place])) for place in on_own_path):
                found.unknown.append(name)
    return found


def _paths_that_are_there(spec: NodeSpec, folder: Path) -> list[str]:
    """Named in the code, in a variable or in an argument."""
    given = [value for _, value in spec.env] + list(spec.args)
    named = [*relative_paths(spec.code.text), *filter(_looks_like_a_path, given)]
    return [path for path in dict.fromkeys(named) if (folder / path).exists()]


def _local_files(name: str, places: list[Path]) -> Iterator[tuple[str, Path]]:
    """The files of a module or package in the first of these folders that has it."""
    for place in places:
        module, package = place / f"{name}.py", place / name
        if (package / "__init__.py").is_file():
            for path in sorted(package.rglob("*")):
                parts = path.relative_to(place).parts
                if path.is_file() and not any(
                    part == "__pycache__" or part.startswith(".") for part in parts
                ):
                    yield "/".join(parts), path
            return
        if module.is_file():
            yield module.name, module
            return


def _text_of(path: Path) -> str:
    """The text of a module; nothing where Python could not read it either."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return ""
    return text
