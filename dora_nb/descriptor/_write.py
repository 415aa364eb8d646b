"""Writes the files of a dataflow into a folder."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from dora_nb.errors import DescriptorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec

from ._needs import Needs, needs_of
from ._render import DATAFLOW_FILE, MARK, Rendered, Surroundings, render


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `notes` say what dora-rs will do differently, one line for each node concerned."""

    path: Path
    """The ``dataflow.yml``."""
    files: tuple[str, ...]
    """All files that were written, the ``dataflow.yml`` included, relative to the folder."""
    notes: tuple[str, ...]


def write_dataflow(graph: Graph, folder: Path) -> Exported:
    """Writes a folder that ``dora run`` runs, and creates it if needed.

    It gets a ``dataflow.yml``, a file for each node with code, the modules beside the notebook that they
    import, and a ``requirements.txt``. Raises DescriptorError before anything is written if the folder
    holds a different file that dora_nb did not write, or a symbolic link in place of a file or folder that is
    written; and OSError.
    """
    rendered = render(graph, _surroundings(folder))
    contents = _contents(rendered)
    _refuse_links(folder, contents)
    _refuse_to_overwrite(folder, contents)
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
    for name, path in rendered.copies.items():
        shutil.copymode(path, folder / name)
    return Exported(folder / DATAFLOW_FILE, tuple(contents), rendered.notes)


def dataflow_text(graph: Graph) -> str:
    """Returns the text of the ``dataflow.yml`` alone."""
    return render(graph, Surroundings()).files[DATAFLOW_FILE]


def _contents(rendered: Rendered) -> dict[str, bytes]:
    written = {name: text.encode() for name, text in rendered.files.items()}
    return written | {name: path.read_bytes() for name, path in rendered.copies.items()}


def _refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raises DescriptorError if a link would lead a file out of the folder. The folder itself may be one."""
    places = [PurePath(name) for name in names]
    written = {folder / each for place in places for each in (place, *place.parents)}
    links = sorted(path for path in written - {folder} if path.is_symlink())
    if links:
        shown = ", ".join(str(path.relative_to(folder)) for path in links)
        raise DescriptorError(
            f"{folder} has symbolic links where files would be written ({shown}); nothing was written.",
            hint="Remove them, or choose another folder.",
        )


def _write(path: Path, content: bytes) -> None:
    # O_NOFOLLOW: a link may have come since the check. O_NONBLOCK: or else a named pipe would block.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)


def _refuse_to_overwrite(folder: Path, contents: Mapping[str, bytes]) -> None:
    descriptor = folder / DATAFLOW_FILE
    if descriptor.is_file() and descriptor.read_bytes().startswith(MARK.encode()):
        return
    others = [
        name
        for name, content in contents.items()
        if (folder / name).exists()
        and not ((folder / name).is_file() and (folder / name).read_bytes() == content)
    ]
    if others:
        raise DescriptorError(
            f"{folder} has a {', '.join(others)} that dora_nb did not write; nothing was written.",
            hint="Choose another folder.",
        )


# --- the machine --------------------------------------------------------------------------------


def _surroundings(folder: Path) -> Surroundings:
    packages = importlib.metadata.packages_distributions()

    def requirement_of(module: str) -> str | None:
        names = sorted(packages.get(module, ()))
        return _requirement(names[0]) if names else None

    def look_for_needs(spec: NodeSpec) -> Needs:
        return needs_of(spec, requirement_of=requirement_of)

    return Surroundings(
        is_taken=lambda spec, stem: is_importable(stem, but_from=folder, own_file=spec.code.path),
        needs_of=look_for_needs,
        # `normpath`, since the folder may not exist yet: the system could not resolve its "..".
        has=lambda path: Path(os.path.normpath(folder / path)).exists(),
    )


def _requirement(distribution: str) -> str:
    """Returns the installed release, without the suffix of a local build, such as ``+cpu``."""
    version = importlib.metadata.version(distribution).partition("+")[0]
    return f"{re.sub(r'[-_.]+', '-', distribution).lower()}=={version}"


def is_importable(module: str, *, but_from: Path, own_file: str | None) -> bool:
    """Returns whether this interpreter finds a module of that name outside of the folder `but_from`,
    other than the node's own file."""
    places = [entry for entry in sys.path if Path(entry).resolve() != but_from.resolve()]
    finders = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
    if any(finder.find_spec(module) is not None for finder in finders):
        return True
    found = importlib.machinery.PathFinder.find_spec(module, places)
    if found is None:
        return False
    return own_file is None or found.origin is None or Path(found.origin) != Path(own_file)
