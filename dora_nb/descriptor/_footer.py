"""The footer of an operator's file: it makes dora-rs accept what dora_nb accepts.

dora-rs fails an operator whose `on_event` returns None, and refuses numpy arrays and dicts
(``binaries/runtime-python/src/runner.rs``). The footer is plain Python at the end of the file, so
every line above keeps its number; two marks enclose it, by which `without_footer` finds it. It
replaces the class's `on_event` and not the name `Operator`, since the class may use that name.
"""

from __future__ import annotations

import ast
import re

from dora_nb.cells.check import on_event_of
from dora_nb.graph.nodes import SourceCode

from ._needs import imported_modules

_BEGIN = "# --- dora_nb: here on_event may return None, and send_output takes numpy arrays ---"
_END = "# --- dora_nb: end ---"
FOOTER = f"""

{_BEGIN}
def _for_dora_rs(on_event):
    import dora, numpy, pyarrow
    def on_event_for_dora_rs(self, dora_event, send_output):
        def send(output, data, metadata=None):
            if isinstance(data, numpy.ndarray):
                plain = data if numpy.ma.isMaskedArray(data) else numpy.asarray(data)
                metadata = dict(metadata or (), shape=list(data.shape)) if data.ndim > 1 else metadata
                data = pyarrow.array(plain.ravel())
            elif isinstance(data, dict):
                data = pyarrow.array([data])
            return send_output(output, data, metadata)
        status = on_event.__get__(self, type(self))(dora_event, send)
        return dora.DoraStatus.CONTINUE if status is None else status
    return on_event_for_dora_rs
Operator.on_event = _for_dora_rs(
    next(vars(c)["on_event"] for c in Operator.__mro__ if "on_event" in vars(c)))
{_END}
"""
_MARKED = re.compile(rf"\n?\n?{re.escape(_BEGIN)}\n.*?{re.escape(_END)}\n", re.DOTALL)


def without_footer(text: str) -> str:
    """Returns the text without the footer, if it has one."""
    return _MARKED.sub("", text)


def needs_footer(code: SourceCode) -> bool:
    """Returns whether the operator may return None or send a numpy array; True if the text does not tell."""
    function = on_event_of(code)
    if function is None:
        return True
    arrow = _ArrowNames(ast.parse(code.text), function)
    return not (_always_returns_a_status(function) and arrow.all_sends_are_arrow())


def takes_footer(code: SourceCode) -> bool:
    """Returns whether `Operator` has an `on_event` to wrap: not if it is a function."""
    return not any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "Operator"
        for node in ast.parse(code.text).body
    )


def stops_all(code: SourceCode) -> bool:
    """Returns whether the text names `STOP_ALL`."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == "STOP_ALL"
        for node in ast.walk(ast.parse(code.text))
    )


def may_send_numpy(code: SourceCode) -> bool:
    """Returns whether a script sends outputs and imports numpy, but not pyarrow."""
    tree = ast.parse(code.text)
    sends = any(
        isinstance(node, ast.Attribute) and node.attr == "send_output" for node in ast.walk(tree)
    )
    modules = {name.partition(".")[0] for name in imported_modules(code.text)}
    return sends and "numpy" in modules and "pyarrow" not in modules


# --- None ------------------------------------------------------------------------------------


def _always_returns_a_status(function: ast.FunctionDef) -> bool:
    returns = [node for node in _own_nodes(function) if isinstance(node, ast.Return)]
    return _ends(function.body) and all(_is_status(node.value) for node in returns)


def _is_status(value: ast.expr | None) -> bool:
    if isinstance(value, ast.IfExp):
        return _is_status(value.body) and _is_status(value.orelse)
    return isinstance(value, ast.Attribute) and value.attr in ("CONTINUE", "STOP", "STOP_ALL")


def _ends(body: list[ast.stmt]) -> bool:
    """Returns whether running these statements certainly ends in a return or a raise."""
    last = body[-1] if body else None
    if isinstance(last, ast.If):
        return _ends(last.body) and _ends(last.orelse)
    if isinstance(last, ast.Try):
        whole = [*last.body, *last.orelse]
        handled = all(_ends(handler.body) for handler in last.handlers)
        return _ends(last.finalbody) or (_ends(whole) and handled)
    return isinstance(last, (ast.Return, ast.Raise))


def _own_nodes(function: ast.FunctionDef) -> list[ast.AST]:
    """Returns the syntax nodes of a function without those of functions inside it."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))
    return found


# --- numpy -----------------------------------------------------------------------------------


class _ArrowNames:
    """Tells which expressions of `on_event` are certainly values that dora-rs can send."""

    def __init__(self, tree: ast.Module, function: ast.FunctionDef) -> None:
        self._function = function
        self._pyarrow = {
            alias.asname or alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name.partition(".")[0] == "pyarrow"
        }
        arguments = function.args.posonlyargs + function.args.args
        self._send = arguments[-1].arg if arguments else ""

    def all_sends_are_arrow(self) -> bool:
        """Returns whether `send_output` is only called, and only with Arrow arrays or bytes."""
        nodes = list(ast.walk(self._function))
        calls = [
            node
            for node in nodes
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == self._send
        ]
        mentions = sum(isinstance(node, ast.Name) and node.id == self._send for node in nodes)
        return mentions == len(calls) and all(self._sends_arrow(call) for call in calls)

    def _sends_arrow(self, call: ast.Call) -> bool:
        named = [keyword.value for keyword in call.keywords if keyword.arg == "data"]
        data = call.args[1] if len(call.args) > 1 else next(iter(named), None)
        return data is not None and self._is_arrow(data)

    def _is_arrow(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Constant):
            return isinstance(value.value, bytes)
        if isinstance(value, ast.Subscript):  # An event's value.
            return isinstance(value.slice, ast.Constant) and value.slice.value == "value"
        if isinstance(value, ast.Call):
            return self._makes_arrow(value.func)
        return isinstance(value, ast.Name) and self._is_arrow_variable(value.id)

    def _makes_arrow(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Attribute) and function.attr == "tobytes":
            return True
        root = function
        while isinstance(root, ast.Attribute):
            root = root.value
        is_name = isinstance(root, ast.Name)
        return is_name and root.id in {*self._pyarrow, "bytes"}  # type: ignore[attr-defined]

    def _is_arrow_variable(self, name: str) -> bool:
        """Returns whether every binding of the name in the function assigns such a value."""
        bound = [
            node
            for node in ast.walk(self._function)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
        ]
        values = [
            node.value
            for node in ast.walk(self._function)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ]
        return (
            bool(values)
            and len(values) == len(bound)
            and all(
                isinstance(value, ast.Call) and self._makes_arrow(value.func) for value in values
            )
        )
