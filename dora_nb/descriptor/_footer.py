"""What an operator's file needs so that dora-rs runs it as it ran here.

dora ends an operator whose `on_event` returns None, and refuses numpy arrays; here both are taken.
A marked footer of plain Python makes up for that, and an import takes it off again.
"""

from __future__ import annotations

import ast

_BEGIN = "# --- what dora_nb takes and dora does not; `%dora import` takes these lines off again"
_FOOTER = f"""{_BEGIN}
import numpy as _numpy
import pyarrow as _pyarrow
from dora import DoraStatus as _DoraStatus


def _as_dora_has_it(on_event):
    def on_event_of_dora(self, dora_event, send_output):
        def send(output, data, metadata=None):
            if isinstance(data, _numpy.ndarray):
                data = _pyarrow.array(data.ravel())
            send_output(output, data, metadata)

        status = on_event(self, dora_event, send)
        return _DoraStatus.CONTINUE if status is None else status

    return on_event_of_dora


Operator.on_event = _as_dora_has_it(Operator.on_event)
"""


def with_footer(source: str) -> str:
    """The source of an operator as dora-rs is to run it; unchanged where nothing is missing."""
    body = source if source.endswith("\n") else source + "\n"
    return f"{body}\n\n{_FOOTER}" if needs_footer(source) else body


def without_footer(source: str) -> str:
    """The source without its footer, if it has one."""
    body, found, _ = source.partition("\n\n" + _BEGIN)
    return body if found else source


def needs_footer(source: str) -> bool:
    """Whether `on_event` may return None, or numpy arrays may be sent: unless the text rules it out."""
    tree = ast.parse(source)
    methods = [
        node
        for cls in ast.walk(tree)
        if isinstance(cls, ast.ClassDef) and cls.name == "Operator"
        for node in cls.body
        if isinstance(node, ast.FunctionDef) and node.name == "on_event"
    ]
    if len(methods) != 1 or not _always_returns(methods[0].body):
        return True
    returns = [node for node in ast.walk(methods[0]) if isinstance(node, ast.Return)]
    return any(_is_none(node.value) for node in returns) or _may_make_numpy(tree)


def uses_stop_all(source: str) -> bool:
    """Whether the text names STOP_ALL, which dora-rs does not implement."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == "STOP_ALL"
        for node in ast.walk(ast.parse(source))
    )


def _always_returns(body: list[ast.stmt]) -> bool:
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _always_returns(last.body) and _always_returns(last.orelse)
    return isinstance(last, ast.Return | ast.Raise)


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _may_make_numpy(tree: ast.Module) -> bool:
    """Whether anything but the standard library and Arrow is around that could hold an array."""
    imported = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    to_numpy = any(isinstance(n, ast.Attribute) and n.attr == "to_numpy" for n in ast.walk(tree))
    return to_numpy or bool(imported & {"numpy", "cv2", "torch", "scipy", "pandas"})
