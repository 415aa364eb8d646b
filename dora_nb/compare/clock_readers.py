"""Calls in the code of a node that do not follow the recorded clock. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dora_nb.graph.nodes import SourceCode

_READERS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.localtime", "time.gmtime",
    "time.ctime", "time.strftime", "time.asctime", "Timestamp.now", "Timestamp.utcnow", "cv2.getTickCount",
    "asyncio.sleep", "asyncio.wait_for", "threading.Timer",
}  # fmt: skip
"""The last two words of the calls; those of `time` only without the time as an argument."""
_WITHOUT_TIME = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}


def clock_readers(code: SourceCode) -> list[str]:
    """Returns the calls that read the real clock: ``datetime.now() in line 7``, the first of each."""
    try:
        tree = ast.parse(code.text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found: dict[str, int] = {}
    for name, line in _calls(tree):
        found.setdefault(name, line + code.first_line - 1)
    return [f"{name}() in line {line}" for name, line in found.items()]


def _calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = node.func.value, node.func.attr
        word = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if f"{word}.{name}" in _READERS and len(node.args) <= _WITHOUT_TIME.get(
            name, len(node.args)
        ):
            yield f"{word}.{name}", node.lineno
