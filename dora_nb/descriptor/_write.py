"""The files of a dataflow in a folder."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import DescriptorError
from ..graph import Graph
from ._render import DATAFLOW_FILE, MARK, render


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_dataflow` has done. `path` is the ``dataflow.yml``, `files` are all, it included."""

    path: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def write_dataflow(graph: Graph, folder: Path) -> Written:
    """Writes what ``dora run`` runs: a ``dataflow.yml`` and a file for each node with code.

    The folder is made if need be. Raises DescriptorError, with nothing written, where a file is
    there that differs and that dora_nb did not write, and OSError.
    """
    rendered = render(graph, is_taken=lambda stem: is_importable(stem, but_from=folder))
    targets = {folder / name: text for name, text in rendered.files.items()}
    _refuse_to_overwrite(folder, targets)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in targets.items():
        path.write_text(text, encoding="utf-8")
    return Written(folder / DATAFLOW_FILE, tuple(targets), rendered.notes)


def _refuse_to_overwrite(folder: Path, targets: dict[Path, str]) -> None:
    descriptor = folder / DATAFLOW_FILE
    if descriptor.is_file() and descriptor.read_text("utf-8", "replace").startswith(MARK):
        return
    others = [
        path.name
        for path, text in targets.items()
        if path.exists() and not (path.is_file() and path.read_bytes() == text.encode())
    ]
    if others:
        raise DescriptorError(
            f"{folder} has a {', '.join(others)} that dora_nb did not write; nothing was written.",
            hint="Choose another folder.",
        )


def is_importable(module: str, *, but_from: Path) -> bool:
    """Whether this interpreter finds a module of that name anywhere but in that folder."""
    if module in sys.modules:
        return True
    places = [entry for entry in sys.path if Path(entry).resolve() != but_from.resolve()]
    finders = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
    if any(finder.find_spec(module) is not None for finder in finders):
        return True
    return importlib.machinery.PathFinder.find_spec(module, places) is not None
