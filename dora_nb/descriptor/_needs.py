"""Finds what a node's file needs beside itself: modules of its own folder, packages, other files.

The text is read, not run, so a module name that is given to `importlib` or built at run time is not found.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dora_nb.graph.nodes import NodeSpec

_MAX_PATH_CHARACTERS = 250


def imported_modules(text: str) -> list[str]:
    """Returns the full names of the modules that the text imports, each once, in order."""
    names: dict[str, None] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module] = None
    return list(names)


def relative_paths(text: str) -> list[str]:
    """Returns the strings in the text that look like a path relative to the working directory."""
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
        0 < len(text) <= _MAX_PATH_CHARACTERS
        and not text.startswith(("/", "~"))
        and "\0" not in text
        and "\n" not in text
        and "://" not in text
        and ("/" in text or Path(text).suffix not in ("", "."))
    )


@dataclass
class Needs:
    """What one node needs. `copies` maps a place in the export to the file to copy there."""

    copies: dict[str, Path] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    """Requirements, as pip takes them."""
    unknown: list[str] = field(default_factory=list)
    """Modules that neither its folder nor an installed package provides."""
    paths: list[str] = field(default_factory=list)
    """Relative paths that exist now."""


def needs_of(spec: NodeSpec, *, requirement_of: Callable[[str], str | None]) -> Needs:
    """Looks in the node's folders, then at installed packages, then in folders that the code names.

    `requirement_of` returns the installed package of a module. A folder that the code names, as in
    ``sys.path.insert(0, "../samples")``, counts only as a place of modules once one was found in it: then its
    modules are copied, and the folder itself is not needed where the node runs.
    """
    found = Needs()
    folder = Path(spec.working_dir)
    texts = [_parsable(spec.code.text)]
    found.paths = _existing_paths(spec, folder)
    places = [folder] if spec.code.path is None else [folder, Path(spec.code.path).parent]
    on_own_path = [folder / path for path in found.paths if (folder / path).is_dir()]
    copied_from: set[Path] = set()
    seen: set[str] = set()
    while texts:
        for module in imported_modules(texts.pop()):
            name = module.partition(".")[0]
            if name in seen or name in sys.stdlib_module_names or name == "dora":
                continue
            seen.add(name)
            local = dict(_local_files(name, places))
            if not local and (requirement := requirement_of(name)) is not None:
                found.packages.add(requirement)
                continue
            for place in on_own_path:
                if not local:
                    local = dict(_local_files(name, [place]))
                    copied_from |= {place} if local else set()
            if not local:
                found.unknown.append(name)
            found.copies |= local
            texts += [_text_of(path) for path in local.values() if path.suffix == ".py"]
    found.paths = [path for path in found.paths if folder / path not in copied_from]
    return found


def _existing_paths(spec: NodeSpec, folder: Path) -> list[str]:
    """Returns the relative paths in the code, the variables and the arguments that exist."""
    given = [value for _, value in spec.env] + list(spec.args)
    named = [*relative_paths(_parsable(spec.code.text)), *filter(_looks_like_a_path, given)]
    return [path for path in dict.fromkeys(named) if (folder / path).exists()]


def _local_files(name: str, places: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yields the files of a module or package from the first of these folders that has it."""
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
    """Returns the text of a module; empty if Python could not parse it."""
    return _parsable(path.read_text(encoding="utf-8", errors="replace"))


def _parsable(text: str) -> str:
    """Returns the text; empty if Python cannot parse it."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return text
