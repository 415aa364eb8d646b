"""From the lines of a cell to the declaration of a node, for the magics and for notebooks read as files."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dora_nb.errors import GrammarError, nearest
from dora_nb.files import MAX_SOURCE_BYTES, read_regular_file
from dora_nb.graph.nodes import DYNAMIC, NodeKind, NodeSpec, SourceCode

from .check import check_node_source, check_operator_source
from .header import Header, Word, split_header
from .node_line import NodeLine, parse_node_line


class SourceCheck(Protocol):
    """Checks the source of one kind of node before any of it runs."""

    def __call__(self, code: SourceCode, *, notebook_names: Collection[str] = ()) -> None: ...


@dataclass(frozen=True, slots=True)
class DeclaringMagic:
    """What differs between ``%%dora_operator`` and ``%%dora_node``."""

    word: str
    """``operator`` or ``node``, as in the magic's name."""
    kind: NodeKind
    check_source: SourceCheck


MAGICS = {
    "dora_operator": DeclaringMagic(
        "operator", "operator", partial(check_operator_source, in_cell=True)
    ),
    "dora_node": DeclaringMagic("node", "script", partial(check_node_source, in_cell=True)),
}


_CELL_MAGIC = re.compile(r"%%(dora_operator|dora_node)(?=\s|$)")


@dataclass(frozen=True, slots=True)
class DeclaringCell:
    """The text of a cell that declares a node."""

    magic: str
    """``dora_operator`` or ``dora_node``."""
    header: Header
    body: SourceCode


def split_cell(source: str, file: str) -> DeclaringCell | None:
    """Splits a cell that begins with a declaring magic; None for any other. `file` is the cell's name.

    Empty lines and comments may stand above the magic; a notebook accepts empty lines alone there, see
    `misplaced_magic`.
    """
    lines = source.split("\n")
    first = next((at for at, line in enumerate(lines) if not _is_blank(line)), 0)
    found = _CELL_MAGIC.match(lines[first])
    if found is None:
        return None
    header_lines, body = split_header(lines[first], "\n".join(lines[first + 1 :]))
    header = Header(
        header_lines, magic=found[0], name_end=found.end(), file=file, first_line=first + 1
    )
    code = SourceCode(body, file, first + len(header_lines) + 1)
    return DeclaringCell(found[1], header, code)


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def misplaced_magic(header: Header) -> GrammarError:
    """The error of a declaring magic that is not the first line of its cell."""
    return header.error(
        f"{header.magic} must be the first line of its cell:",
        hint="move what is above it to below this line, or into a cell of its own.",
        at=header.start,
    )


@dataclass(frozen=True, slots=True)
class DeclaredNode:
    """A declaration, and the line that it comes from."""

    spec: NodeSpec
    line: NodeLine


def read_declaration(
    magic: DeclaringMagic,
    header: Header,
    words: Sequence[Word],
    body: SourceCode | None,
    *,
    folder: Path,
    notebook_names: Collection[str] = (),
) -> DeclaredNode:
    """Returns the node that a magic's line and the cell below it declare; `body` is None for a line magic.

    `folder` is the node's working directory, to which paths are relative. Raises GrammarError, SourceError
    or GraphError with the place.
    """
    line = parse_node_line(header, words, what=magic.word, from_file=body is None)
    code, kind = body, magic.kind
    if code is None:
        assert line.file is not None  # the parser requires it
        if kind == "script" and line.file.text == DYNAMIC:
            code, kind = SourceCode("", header.file), "dynamic"
        else:
            code = read_source_file(header, line.file, folder)
    if kind != "dynamic":
        magic.check_source(code, notebook_names=notebook_names)
    spec = NodeSpec(
        name=line.name,
        code=code,
        inputs=line.inputs,
        outputs=line.outputs,
        env=line.env,
        python=line.python,
        working_dir=str(folder),
        kind=kind,
        args=line.args,
        exclusive=line.exclusive,
        on_edit=line.on_edit,
        other_keys=dict(line.restarts),
    )
    return DeclaredNode(spec, line)


def read_source_file(header: Header, word: Word, folder: Path) -> SourceCode:
    """Returns the code in the file that `word` names, relative to `folder`."""
    path = folder / Path(word.text).expanduser()
    try:
        content = read_regular_file(path, max_bytes=MAX_SOURCE_BYTES)
        # Honours a coding line, as Python does.
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except FileNotFoundError:
        raise _no_file(header, word, folder) from None
    except IsADirectoryError:
        raise header.error(
            f"'{word.text}' is a folder;", hint="give a file in it.", at=word
        ) from None
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise header.error(f"'{word.text}' cannot be read: {reason}.", at=word) from None
    return SourceCode(text, word.text, path=str(path.resolve()))


def _no_file(header: Header, word: Word, base: Path) -> GrammarError:
    """Suggests the file whose name is most like the missing one, in the nearest folder that exists."""
    path = Path(word.text).expanduser()
    folder, name = path.parent, path.name
    while not (base / folder).is_dir() and folder != folder.parent:
        folder, name = folder.parent, folder.name
    try:
        there = sorted(each.name for each in (base / folder).iterdir())
    except OSError:  # not readable: then there is no suggestion
        there = []
    near = nearest(name, there)
    if near is not None:
        hint = f"Did you mean '{folder / near}'?"
    else:
        hint = f"Paths are relative to the kernel's working directory, {base.name}/."
    return header.error(f"there is no file '{word.text}'.", hint=hint, at=word)
