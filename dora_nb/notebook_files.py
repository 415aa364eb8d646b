"""What the cells of a notebook's file declare, read without executing any of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .declarations import MAGICS, DeclaredNode, read_declaration
from .errors import DescriptorError, GraphError
from .grammar.header import Header, split_header
from .graph import Graph, SourceCode

_CELL_MAGIC = re.compile(r"%%(dora_operator|dora_node)(?=\s|$)")
_LINE_MAGIC = re.compile(r"\s*%(dora_operator|dora_node)(?=\s|$)")


def read_notebook(path: Path) -> Graph:
    """The dataflow that running all cells from top to bottom would declare.

    Of two declarations of one name the later counts. Paths begin at the notebook's folder. Raises
    DescriptorError where the file is no notebook or declares nothing, and for a mistake in a cell what
    its magic would raise, with the cell's number among the code cells (from 1) and the line.
    """
    found: dict[str, tuple[Header, DeclaredNode]] = {}
    for number, source in enumerate(_code_cells(path), start=1):
        for header, declared in _declarations(source, f"{path.name}, cell {number}", path):
            found[declared.spec.name] = (header, declared)
    if not found:
        raise DescriptorError(f"{path} declares no operator and no node.")
    graph = Graph()
    for header, declared in found.values():
        try:
            graph = graph.with_node(declared.spec)
        except GraphError as error:
            raise header.placed(error) from None
    return graph


def _code_cells(path: Path) -> list[str]:
    try:
        cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
        # A cell's source is one text or a list of lines (nbformat 4).
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise DescriptorError(
            f"{path} is no notebook: {type(error).__name__}: {error}.",
            hint="It is to be the JSON of an .ipynb file, version 4.",
        ) from None


def _declarations(source: str, cell: str, path: Path) -> Iterator[tuple[Header, DeclaredNode]]:
    folder = path.resolve().parent
    lines = source.split("\n")
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    found = _CELL_MAGIC.match(lines[first])
    if found is not None:
        header_lines, body = split_header(lines[first], "\n".join(lines[first + 1 :]))
        header = _header(header_lines, found, cell, first)
        code = SourceCode(body, cell, first + len(header_lines) + 1)
        yield (
            header,
            read_declaration(MAGICS[found[1]], header, header.words(), code, folder=folder),
        )
        return
    for at, line in enumerate(lines):
        found = _LINE_MAGIC.match(line)
        if found is not None:
            header_lines, _ = split_header(line, "\n".join(lines[at + 1 :]))
            header = _header(header_lines, found, cell, at)
            yield (
                header,
                read_declaration(MAGICS[found[1]], header, header.words(), None, folder=folder),
            )


def _header(lines: list[str], found: re.Match[str], cell: str, above: int) -> Header:
    magic = found[0].strip()
    return Header(lines, magic=magic, name_end=found.end(), file=cell, first_line=above + 1)
