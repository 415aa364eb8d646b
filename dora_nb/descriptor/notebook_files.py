"""Reads what the cells of a notebook's file declare, without executing any of them."""

from __future__ import annotations

import io
import json
import re
import symtable
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dora_nb.cells.declare import MAGICS, misplaced_magic, read_declaration, split_cell
from dora_nb.cells.dora_line import parse_dora_line
from dora_nb.cells.header import Header, split_header
from dora_nb.errors import DescriptorError, DoraNbError, GraphError, Location
from dora_nb.files import MAX_NOTEBOOK_BYTES, read_regular_text
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec, SourceCode

from ._read import MAX_NODES, Allowed, Imported, read_dataflow

_LINE_MAGIC = re.compile(r"\s*(%%?(?:dora_operator|dora_node))(?=\s|$)")
_IMPORT = re.compile(r"\s*(%dora)\s+import\s")
_MAY_RAISE = "raises-exception"
"""The tag that nbclient, nbconvert and nbval use (https://nbclient.readthedocs.io/en/stable/client.html)."""
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
_IPYTHON = re.compile(r"\s*[%!?]")


def read_notebook(path: Path, *, allowed: Allowed | None = None) -> Imported:
    """Returns the dataflow that running all cells from top to bottom would declare.

    The later of two declarations of one name wins. Paths are relative to the notebook's folder. Files
    that ``%dora import`` names are read too; its options and `allowed` say what they may contain.

    Raises DescriptorError if the file is not a notebook or declares nothing. A mistake in a cell raises
    the error of its magic, with the cell's number among the code cells (from 1) and the line. A cell
    with the tag ``raises-exception``, at which a run would not stop, is skipped with a note instead.
    """
    reader = _Reader(path, allowed or Allowed())
    for number, (source, may_raise) in enumerate(_code_cells(path), start=1):
        cell = f"{path.name}, cell {number}"
        if may_raise:
            reader.try_cell(source, cell)
        else:
            reader.read_cell(source, cell)
    if not reader.found:
        raise DescriptorError(f"{path} declares no operators or nodes.")
    graph = Graph(other_keys=reader.other_keys)
    for header, spec in reader.found.values():
        try:
            graph = graph.with_node(spec)
        except GraphError as error:
            raise header.placed(error) from None
    return Imported(graph, tuple(reader.notes), tuple(reader.builds))


def _code_cells(path: Path) -> list[tuple[str, bool]]:
    """Returns the text of each code cell, and whether the cell is meant to raise."""
    text = ""
    try:
        text = read_regular_text(path, max_bytes=MAX_NOTEBOOK_BYTES)
        notebook = json.loads(text)
    except json.JSONDecodeError as error:
        raise _no_notebook(path, f"{error.msg}", line=error.lineno) from None
    except ValueError as error:
        raise _no_notebook(path, f"{error}") from None
    except RecursionError:
        raise _no_notebook(path, "it is nested too deeply", line=_deep_line(text)) from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise _no_notebook(path, "it has no list of 'cells'")
    try:
        return [_code_cell(at, cell) for at, cell in enumerate(cells, start=1) if _is_code(cell)]
    except _BadCellError as error:
        raise _no_notebook(path, error.why, line=_line_of_cell(text, error.number)) from None


class _BadCellError(Exception):
    def __init__(self, number: int, why: str) -> None:
        super().__init__(number, why)
        self.number = number
        self.why = f"its cell {number}, counted with the text cells, {why}"


def _is_code(cell: object) -> bool:
    return not isinstance(cell, dict) or cell.get("cell_type") == "code"


def _code_cell(number: int, cell: Any) -> tuple[str, bool]:
    """Returns the text of a code cell, and whether it is meant to raise. `number` counts all cells."""
    if not isinstance(cell, dict):
        raise _BadCellError(number, "is not a mapping")
    lines = cell.get("source")  # one text, or a list of lines (nbformat 4)
    lines = [lines] if isinstance(lines, str) else lines
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise _BadCellError(number, "has no 'source' of text")
    metadata = cell.get("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("tags", []), list):
        raise _BadCellError(number, "has a 'metadata' that is not a mapping with a list 'tags'")
    source = "".join(lines)
    if _HALF_A_CHARACTER.search(source):
        raise _BadCellError(number, "has half of a surrogate pair")
    return source, _MAY_RAISE in metadata.get("tags", [])


def _no_notebook(path: Path, why: str, *, line: int | None = None) -> DescriptorError:
    return DescriptorError(
        f"{path} is not a notebook: {why}.",
        hint="Expected the JSON of an .ipynb file, version 4.",
        location=Location(str(path), line),
    )


def _brackets(text: str) -> Iterator[tuple[int, int, str]]:
    """Yields the place and the depth of each bracket of JSON, and each key or text as ``"``."""
    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        yield found.start(), depth, found[0]


def _deep_line(text: str) -> int:
    """Returns the line on which JSON is nested more than 200 deep."""
    places = (start for start, depth, _ in _brackets(text) if depth > 200)
    return text.count("\n", 0, next(places, 0)) + 1


def _line_of_cell(text: str, number: int) -> int | None:
    """Returns the line on which that cell begins; None if an entry before it is not a mapping."""
    is_in_cells, seen = False, 0
    for start, depth, token in _brackets(text):
        if depth == 1 and token.startswith('"'):
            is_in_cells = token == '"cells"'
        seen += is_in_cells and depth == 3 and token == "{"
        if seen == number:
            return text.count("\n", 0, start) + 1
    return None


@dataclass
class _Reader:
    """Collects the declarations of the cells, from top to bottom."""

    path: Path
    allowed: Allowed
    found: dict[str, tuple[Header, NodeSpec]] = field(default_factory=dict)
    other_keys: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    builds: list[Any] = field(default_factory=list)
    declarations: int = 0
    names: set[str] = field(default_factory=set)
    """The names that the cells so far define in the notebook. Operators cannot see them."""

    @property
    def folder(self) -> Path:
        return self.path.resolve().parent

    def try_cell(self, source: str, cell: str) -> None:
        """Reads a cell that is meant to raise: on a mistake, nothing it declares is kept."""
        before = dict(self.found)
        try:
            self.read_cell(source, cell)
            Graph().with_nodes(spec for _, spec in self.found.values())
        except DoraNbError as error:
            self.found = before
            self.notes.append(f"{cell} is skipped, as it is tagged {_MAY_RAISE}: {error}")

    def read_cell(self, source: str, cell: str) -> None:
        """Adds the declarations of one cell."""
        lines = source.split("\n")
        first = next((at for at, line in enumerate(lines) if line.strip()), 0)
        declaring = split_cell(source, cell)
        if declaring is not None:
            self._count_declaration(cell, first + 1)
            if declaring.header.first_line != first + 1:
                raise misplaced_magic(declaring.header)
            self._declare(declaring.header, declaring.magic, declaring.body)
            return
        if lines[first].startswith("%%"):
            return
        for at, line in enumerate(lines):
            magic = _LINE_MAGIC.match(line) or _IMPORT.match(line)
            if magic is not None:
                self._count_declaration(cell, at + 1)
            if magic is not None and not _goes_on(lines[:at]):
                header_lines, _ = split_header(line, "\n".join(lines[at + 1 :]))
                self._read_line(_header(header_lines, magic, cell, at), magic)
        self.names |= _defined_in(lines)

    def _count_declaration(self, cell: str, line: int) -> None:
        self.declarations += 1
        if self.declarations > MAX_NODES:
            raise DescriptorError(
                f"a notebook may declare {MAX_NODES} nodes at most.", location=Location(cell, line)
            )

    def _read_line(self, header: Header, magic: re.Match[str]) -> None:
        if header.magic.startswith("%%"):
            raise misplaced_magic(header)
        if header.magic[1:] in MAGICS:
            self._declare(header, header.magic[1:], None)
        else:
            self._import(header)

    def _declare(self, header: Header, magic: str, code: SourceCode | None) -> None:
        declared = read_declaration(
            MAGICS[magic],
            header,
            header.words(),
            code,
            folder=self.folder,
            notebook_names=self.names,
        )
        self.found[declared.spec.name] = (header, declared.spec)

    def _import(self, header: Header) -> None:
        asked = parse_dora_line(header, header.words())
        assert asked.name is not None  # the grammar requires it
        allowed = Allowed(
            shell=asked.allow_shell or self.allowed.shell,
            urls=asked.allow_urls or self.allowed.urls,
        )
        try:
            imported = read_dataflow(self.folder / asked.name.text, allowed=allowed)
        except DoraNbError as error:
            raise header.placed(error, asked.name) from None
        self.found |= {spec.name: (header, spec) for spec in imported.graph}
        self.other_keys |= imported.graph.other_keys
        self.notes += imported.notes
        self.builds += imported.builds


def _header(lines: list[str], found: re.Match[str], cell: str, above: int) -> Header:
    return Header(lines, magic=found[1], name_end=found.end(1), file=cell, first_line=above + 1)


def _as_python(lines: list[str]) -> str:
    """Returns the lines as text, with `pass` in place of magics, shell lines and help."""
    return "\n".join(
        f"{line[: len(line) - len(line.lstrip())]}pass" if _IPYTHON.match(line) else line
        for line in lines
    )


def _goes_on(above: list[str]) -> bool:
    """Returns whether a string or bracket that those lines opened is still open below them."""
    try:
        _exhaust(tokenize.generate_tokens(io.StringIO(_as_python(above)).readline))
    except tokenize.TokenError as error:
        # The texts of Python up to 3.11 ("multi-line") and from 3.12 on ("triple-quoted").
        return any(word in str(error.args[0]) for word in ("multi-line", "triple-quoted"))
    except SyntaxError:
        return False
    return False


def _exhaust(tokens: Iterator[tokenize.TokenInfo]) -> None:
    for _ in tokens:
        pass


def _defined_in(lines: list[str]) -> set[str]:
    """Returns the names that a cell binds; none if its text is not Python."""
    try:
        table = symtable.symtable(_as_python(lines), "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    symbols = table.get_symbols()
    return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
