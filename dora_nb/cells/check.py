"""Checks an operator's source before any of it runs.

Only what is certainly wrong is refused; what depends on what the code does is left to run time. The
checks use two representations, both CPython's own::

    text ─► syntax tree ─► the class `Operator` and its two methods
                └─► bytecode ─► the globals that are read, and those that anything in the text binds

The bytecode decides about names, because the compiler has resolved the scopes there: class
bodies, comprehensions, `global`, walrus, `except … as`, `match`, annotations that are never
evaluated, branches that can never run.
"""

from __future__ import annotations

import ast
import builtins
import dis
import re
import types
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from dora_nb.errors import Location, SourceError, nearest
from dora_nb.graph.nodes import SourceCode
from dora_nb.how_to import how_to

_SKELETON = "write `class Operator:` with `def on_event(self, dora_event, send_output):` in it."
_SCRIPT_SKELETON = "write `node = Node()` (from dora import Node), and loop over its events."

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def check_operator_source(
    code: SourceCode, *, notebook_names: Collection[str] = (), in_cell: bool = False
) -> None:
    """Refuses source that cannot run as an operator, before any of it runs.

    `notebook_names` are the names that the notebook defines; a body that reads one of them and does
    not define it is refused, since an operator sees nothing of the notebook. Where it is a mapping
    of names to values, the message can say which import is missing. With `in_cell`, the code is a
    cell below a declaring magic, and a hint names the other magic. Raises SourceError with the
    line, as the editor numbers it, and the column.
    """
    source = _parse(code)
    _check_operator_class(source, instead="%%dora_node" if in_cell else how_to("add a node"))
    _check_names(source, notebook_names, runner="an operator")


def check_node_source(
    code: SourceCode, *, notebook_names: Collection[str] = (), in_cell: bool = False
) -> None:
    """Does the same for a script that makes a `Node()`: any script is accepted, but not an operator."""
    source = _parse(code, skeleton=_SCRIPT_SKELETON)
    operator = _last_class(source, "Operator")
    if operator is not None and _node_call(source.tree) is None:
        raise source.error(
            "this is an operator (it has a class `Operator`), not a node's script:",
            hint=f"declare it with {'%%dora_operator' if in_cell else how_to('add an operator')}.",
            node=operator,
            word="Operator",
        )
    _check_names(source, notebook_names, runner="a node")


def compile_error(code: SourceCode) -> SourceError | None:
    """Returns why this Python cannot compile the text, with the line; None if it can."""
    try:
        _compile(code)
    except SourceError as error:
        return error
    return None


def on_event_of(code: SourceCode) -> ast.FunctionDef | None:
    """Returns the `def on_event` that an operator certainly has; None if the text does not decide it.

    Raises SourceError if the text is not Python.
    """
    source = _parse(code)
    operator = _last_class(source, "Operator")
    if operator is None or _set_elsewhere(source, "on_event"):
        return None
    found = _find_method(source, operator, "on_event")
    return found if isinstance(found, ast.FunctionDef) and not found.decorator_list else None


# --- the text, its tree and its names -------------------------------------------------------


@dataclass
class _Source:
    """The text of an operator, its syntax tree and its names; lines are numbered as in the editor."""

    code: SourceCode
    lines: list[str]
    tree: ast.Module = field(init=False)
    names: _Globals = field(init=False)

    def location(self, line: int, column: int | None = None) -> Location:
        """A place by its line (from 1) and the character in it (from 0)."""
        line = min(max(line, self.code.first_line), len(self.lines))
        text = self.lines[line - 1]
        return Location(self.code.file, line, column, text if text.strip() else None)

    def error(
        self, message: str, *, hint: str, node: ast.expr | ast.stmt, word: str | None = None
    ) -> SourceError:
        """An error at that node, or at the first `word` on the node's line."""
        line = self.lines[node.lineno - 1]
        column = _character_column(line, node.col_offset)
        if word is not None and (found := re.search(rf"\b{re.escape(word)}\b", line[column:])):
            column += found.start()
        return SourceError(message, hint=hint, location=self.location(node.lineno, column))


def _split_lines(text: str) -> list[str]:
    """The lines as Python counts them; `str.splitlines` would also split at form feeds."""
    return re.split(r"\r\n|\r|\n", text)


def _character_column(line: str, byte_column: int) -> int:
    return len(line.encode("utf-8", "surrogatepass")[:byte_column].decode("utf-8", "ignore"))


def _parse(code: SourceCode, *, skeleton: str = _SKELETON) -> _Source:
    source, compiled = _compile(code)
    if not source.tree.body:
        what = "has only comments" if code.text.strip() else "is empty"
        raise SourceError(f"the body {what}:", hint=skeleton, location=source.location(1))
    source.names = _read_globals(compiled)
    return source


def _compile(code: SourceCode) -> tuple[_Source, types.CodeType]:
    # With as many empty lines above it as the editor has, Python's own messages, which name other
    # lines too, are right.
    text = "\n" * (code.first_line - 1) + code.text
    source = _Source(code, _split_lines(text))
    try:
        with warnings.catch_warnings():
            # The child's compiler says the same warnings; here they would come twice.
            warnings.simplefilter("ignore")
            source.tree = ast.parse(text)
            compiled = compile(source.tree, code.file, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _syntax_error(source, error) from None
    except (RecursionError, MemoryError):
        raise SourceError(
            "this is nested too deeply for Python's compiler;",
            hint="break the expression into several.",
            location=source.location(1),
        ) from None
    except ValueError as error:
        raise SourceError(
            f"this is not Python text: {error};",
            hint="take the character out.",
            location=source.location(1),
        ) from None
    return source, compiled


def _syntax_error(source: _Source, error: SyntaxError) -> SourceError:
    line = min(max(error.lineno or 1, source.code.first_line), len(source.lines))
    foreign = _ipython_syntax(source.lines[line - 1])
    if foreign is not None:
        column, hint = foreign
        return SourceError(
            "this line is IPython's, and the body of an operator is plain Python:",
            hint=hint,
            location=source.location(line, column),
        )
    column_or_none = error.offset - 1 if error.offset and error.lineno == line else None
    return SourceError(f"SyntaxError: {error.msg}", location=source.location(line, column_or_none))


_IPYTHON_SYNTAX = (
    (
        re.compile(r"^\s*(%%)\w"),
        "a cell has one cell magic, in its first line; take this line out.",
    ),
    (
        re.compile(r"^\s*(!)|=\s*(!)[^=]"),
        "run shell commands in a cell of their own, or with subprocess.",
    ),
    (re.compile(r"^\s*(%)\w|=\s*(%)\w"), "run the magic in a cell of its own."),
    (
        re.compile(r"^\s*(\?)|^\s*[\w.]+(\?)\??\s*(?:#.*)?$"),
        "ask for help in a cell of its own.",
    ),
)


def _ipython_syntax(line: str) -> tuple[int, str] | None:
    """The column and the way out if a line that is not Python is IPython's."""
    for pattern, hint in _IPYTHON_SYNTAX:
        if found := pattern.search(line):
            return found.start(found.lastindex or 0), hint
    return None


# --- names ----------------------------------------------------------------------------------

_READS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
_UNSEEN_BINDERS = ("exec", "globals")
"""Reading one of these may bind any name, as a star import does."""
_BUILTINS = frozenset(dir(builtins)) - {"display", "get_ipython", "__IPYTHON__"}
"""What every interpreter has: IPython adds three of its own to those of the kernel."""


@dataclass
class _Globals:
    """What a module reads from its globals and what it binds there, in any of its functions."""

    stores: Counter[str] = field(default_factory=Counter)
    reads: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """For each name the first line and byte column of a read."""
    star_import: bool = False

    @property
    def certain(self) -> bool:
        """Whether `stores` is all that will ever be bound."""
        return not self.star_import and not any(name in self.reads for name in _UNSEEN_BINDERS)


def _read_globals(module: types.CodeType) -> _Globals:
    found = _Globals()
    _collect_globals(module, found, is_module=True)
    return found


def _collect_globals(code: types.CodeType, found: _Globals, *, is_module: bool) -> None:
    # A class body runs with LOAD_NAME too, but its STORE_NAME binds in the class. Where it binds
    # a name at all, only running it tells whether a read comes before. LOAD_GLOBAL in a class body is
    # a comprehension that Python 3.12 and later inline: it does not see the names of the class.
    own: set[str] = set()
    if not is_module:
        own = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}
    for step in dis.get_instructions(code):
        if step.opname == "STORE_GLOBAL" or (is_module and step.opname == "STORE_NAME"):
            found.stores[step.argval] += 1
        elif step.opname in _READS and (step.opname == "LOAD_GLOBAL" or step.argval not in own):
            _note_read(found, step)
        elif _is_star_import(step):
            found.star_import = True
    for constant in code.co_consts:
        # From 3.14 on, a function of this name evaluates the annotations when they are first read.
        if isinstance(constant, types.CodeType) and constant.co_name != "__annotate__":
            _collect_globals(constant, found, is_module=False)


def _note_read(found: _Globals, step: dis.Instruction) -> None:
    positions = step.positions
    if positions is None or positions.lineno is None:
        return
    place = (positions.lineno, positions.col_offset)
    earlier = found.reads.get(step.argval)
    if earlier is None or (place[0], place[1] or 0) < (earlier[0], earlier[1] or 0):
        found.reads[step.argval] = place


def _is_star_import(step: dis.Instruction) -> bool:
    return step.opname == "IMPORT_STAR" or (
        step.opname == "CALL_INTRINSIC_1" and "IMPORT_STAR" in step.argrepr
    )


def _check_names(source: _Source, notebook_names: Collection[str], *, runner: str) -> None:
    if not source.names.certain or _calls_for_own_namespace(source.tree):
        return
    guarded = list(_lines_guarded_by_name_error(source.tree))
    missing = {
        name: place
        for name, place in source.names.reads.items()
        if name in notebook_names
        and name not in source.names.stores
        and name not in _BUILTINS
        and not (name.startswith("__") and name.endswith("__"))
        and not any(place[0] in lines for lines in guarded)
    }
    if not missing:
        return
    names = sorted(missing, key=lambda name: (missing[name][0], missing[name][1] or 0))
    line, byte_column = missing[names[0]]
    column = None if byte_column is None else _character_column(source.lines[line - 1], byte_column)
    message, hint = _missing_names_text(
        names, notebook_names, in_file=source.code.path is not None, runner=runner
    )
    raise SourceError(message, hint=hint, location=source.location(line, column))


def _missing_names_text(
    names: Sequence[str], notebook_names: Collection[str], *, in_file: bool, runner: str
) -> tuple[str, str]:
    here = "file" if in_file else "cell"
    quoted = ", ".join(f"'{name}'" for name in names)
    is_defined = "is defined" if len(names) == 1 else "are defined"
    message = (
        f"{quoted} {is_defined} in the notebook but not in this {here}, "
        f"and {runner} runs in an interpreter of its own."
    )
    imports = [_import_of(name, notebook_names) for name in names]
    if all(imports):
        return message, f"Put `{'; '.join(filter(None, imports))}` into the {here}."
    it = "it" if len(names) == 1 else "them"
    module = "" if in_file else ", or into a module beside the notebook (%%writefile helpers.py)"
    return message, f"Put {it} into the {here}{module}."


def _import_of(name: str, notebook_names: Collection[str]) -> str | None:
    """The import that gives this name, where the notebook's value for it is a module."""
    value = notebook_names.get(name) if isinstance(notebook_names, Mapping) else None
    if not isinstance(value, types.ModuleType):
        return None
    module = value.__name__
    return f"import {module}" if module == name else f"import {module} as {name}"


def _calls_for_own_namespace(tree: ast.Module) -> bool:
    """Whether `vars()` or `locals()` is called without an argument: at module level, its globals."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("vars", "locals")
        and not node.args
        for node in ast.walk(tree)
    )


def _lines_guarded_by_name_error(tree: ast.Module) -> Iterator[range]:
    """The lines of `try` bodies whose author expects that a name may be missing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_catches_name_error(h) for h in node.handlers):
            last = node.body[-1]
            yield range(node.body[0].lineno, (last.end_lineno or last.lineno) + 1)


def _catches_name_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return False
    return any(isinstance(n, ast.Name) and n.id == "NameError" for n in ast.walk(handler.type))


# --- the class Operator ---------------------------------------------------------------------


def _node_call(tree: ast.Module) -> ast.Call | None:
    """The first call that makes a dora `Node`."""
    callables = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "dora":
            callables |= {a.asname or a.name for a in node.names if a.name == "Node"}
        elif isinstance(node, ast.Import):
            callables |= {f"{a.asname or a.name}.Node" for a in node.names if a.name == "dora"}
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in callables
    ]
    return min(calls, key=lambda call: (call.lineno, call.col_offset), default=None)


def _check_operator_class(source: _Source, *, instead: str) -> None:
    names = source.names
    if "Operator" not in names.stores:
        may_come_about = {"__getattr__", "setattr"} & {*names.stores, *names.reads}
        # Bound in the text but not in the bytecode: it follows a `raise`, whose error is the better message.
        if (
            names.certain
            and not may_come_about
            and "Operator" not in _bound_names(source.tree.body)
        ):
            raise _no_operator(source, instead)
        return
    classes = [
        node
        for node in source.tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Operator"
    ]
    if len(classes) > 1 and not _used_before(source.tree, classes[0], classes[1]):
        raise source.error(
            "this defines the class `Operator` twice, and the second would silently replace the first:",
            hint="declare one operator per cell, and move the other into a cell of its own.",
            node=classes[1],
            word="Operator",
        )
    operator = _last_class(source, "Operator")
    if operator is not None:
        _check_on_event(source, operator)
        _check_init(source, operator)


def _used_before(tree: ast.Module, first: ast.ClassDef, second: ast.ClassDef) -> bool:
    """Whether anything has used the first of two classes before the second takes its name."""
    between = tree.body[tree.body.index(first) + 1 : tree.body.index(second)]
    parts = [*between, *second.bases, *second.decorator_list, *second.keywords]
    return bool(first.decorator_list) or any(
        isinstance(node, ast.Name) and node.id == "Operator"
        for part in parts
        for node in ast.walk(part)
    )


def _last_class(source: _Source, name: str) -> ast.ClassDef | None:
    """The class of that name, if a single statement at the top of the module binds it."""
    found = [n for n in source.tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    return found[0] if len(found) == 1 and source.names.stores[name] == 1 else None


def _no_operator(source: _Source, instead: str) -> SourceError:
    call = _node_call(source.tree)
    if call is not None:
        return source.error(
            "this is a node's script (it makes a `Node()`), not an operator:",
            hint=f"declare it with {instead}.",
            node=call,
        )
    message = "there is no class `Operator`:"
    top = source.tree.body
    named = {node.name: node for node in top if isinstance(node, (ast.ClassDef, *_FUNCTIONS))}
    able = [
        node
        for node in named.values()
        if isinstance(node, ast.ClassDef) and "on_event" in _bound_names(node.body)
    ]
    near = able[0] if len(able) == 1 else _node_like("operator", named)
    if near is not None:
        hint = f"did you mean '{near.name}'? Rename it to `Operator`."
        return source.error(message, hint=hint, node=near, word=near.name)
    if "on_event" in named:
        hint = "`on_event` must be a method of that class; " + _SKELETON
        return source.error(message, hint=hint, node=named["on_event"], word="on_event")
    return source.error(message, hint=_SKELETON, node=top[0])


_Named = TypeVar("_Named")


def _node_like(word: str, named: Mapping[str, _Named]) -> _Named | None:
    """The entry whose name is most like `word`, ignoring case."""
    lower = {name.lower(): node for name, node in named.items()}
    near = nearest(word, lower)
    return None if near is None else lower[near]


# --- its methods ----------------------------------------------------------------------------

_Found: TypeAlias = _Function | Literal["absent", "unknown"]


def _find_method(
    source: _Source, cls: ast.ClassDef, name: str, seen: tuple[str, ...] = ()
) -> _Found:
    """The `def` that an instance of this class certainly has under that name.

    ``absent`` if it certainly has none; ``unknown`` if decorators, metaclasses, imported bases
    or assignments make it impossible to tell.
    """
    if cls.decorator_list or cls.keywords or cls.name in seen:
        return "unknown"
    direct = [node for node in cls.body if isinstance(node, _FUNCTIONS) and node.name == name]
    bound = _bound_names(cls.body)
    if direct and bound[name] == len(direct):
        return direct[-1]
    if bound[name] or "__getattr__" in bound or "__getattribute__" in bound:
        return "unknown"
    inherited = [_find_in_base(source, base, name, (*seen, cls.name)) for base in cls.bases]
    distinct = [found for found in dict.fromkeys(inherited) if found != "absent"]
    if not distinct:
        return "absent"
    return distinct[0] if len(distinct) == 1 else "unknown"


def _find_in_base(source: _Source, base: ast.expr, name: str, seen: tuple[str, ...]) -> _Found:
    if not isinstance(base, ast.Name):
        return "unknown"
    if base.id == "object" and "object" not in source.names.stores:
        return "absent"
    cls = _last_class(source, base.id)
    return "unknown" if cls is None else _find_method(source, cls, name, seen)


def _bound_names(body: Sequence[ast.stmt]) -> Counter[str]:
    """How often each name is bound in this block, not counting the scopes inside it."""
    bound: Counter[str] = Counter()
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)):
            bound[node.name] += 1
        elif isinstance(node, ast.alias):
            bound[(node.asname or node.name).partition(".")[0]] += 1
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] += 1
        else:
            todo.extend(ast.iter_child_nodes(node))
    return bound


def _set_elsewhere(source: _Source, name: str) -> bool:
    """Whether anything may set that attribute from outside the class body."""
    return any(
        (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == name)
        or (isinstance(node, ast.Constant) and node.value == name)
        for node in ast.walk(source.tree)
    )


def _check_on_event(source: _Source, operator: ast.ClassDef) -> None:
    found = _find_method(source, operator, "on_event")
    if found == "unknown" or _set_elsewhere(source, "on_event"):
        return
    if found == "absent":
        raise _no_on_event(source, operator)
    if isinstance(found, ast.AsyncFunctionDef):
        raise source.error(
            "`on_event` cannot be `async def`: its caller needs the status, not a coroutine;",
            hint="make it a plain `def`, and run coroutines in it with asyncio.run().",
            node=found,
            word="on_event",
        )
    own = _implicit_arguments(found)
    if own is None:
        return
    if not _accepts(found.args, own + 2):
        raise source.error(
            f"`on_event({ast.unparse(found.args)})` cannot be called with an event and send_output;",
            hint="write `def on_event(self, dora_event, send_output):`.",
            node=found,
            word="on_event",
        )
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _own_nodes(found)):
        raise source.error(
            "`on_event` has a `yield`, so calling it would run nothing;",
            hint="send with send_output() and return a DoraStatus.",
            node=found,
            word="on_event",
        )


def _no_on_event(source: _Source, operator: ast.ClassDef) -> SourceError:
    message = "the class `Operator` has no `on_event`:"
    methods = {node.name: node for node in operator.body if isinstance(node, _FUNCTIONS)}
    near = _node_like("on_event", methods)
    if near is not None:
        hint = f"did you mean '{near.name}'? Rename it to `on_event`."
        return source.error(message, hint=hint, node=near, word=near.name)
    return source.error(
        message,
        hint="write `def on_event(self, dora_event, send_output):` in it.",
        node=operator,
        word="Operator",
    )


def _check_init(source: _Source, operator: ast.ClassDef) -> None:
    found = _find_method(source, operator, "__init__")
    if found in ("absent", "unknown") or _set_elsewhere(source, "__init__"):
        return
    assert not isinstance(found, str)
    if isinstance(found, ast.AsyncFunctionDef):
        raise source.error(
            "`__init__` cannot be `async def`;",
            hint="make it a plain `def`, and run coroutines in it with asyncio.run().",
            node=found,
            word="__init__",
        )
    own = _implicit_arguments(found)
    if own and not ast.unparse(found.args):
        raise source.error(
            "`__init__()` takes no arguments, but Python passes one:",
            hint="write `def __init__(self):`.",
            node=found,
            word="__init__",
        )
    if own is not None and not _accepts(found.args, own):
        raise source.error(
            f"`__init__({ast.unparse(found.args)})` cannot be called as `Operator()`, but that is how "
            "an operator is created;",
            hint="give every argument but self a default, or read it from os.environ and set it "
            "with --env KEY=VALUE.",
            node=found,
            word="__init__",
        )


def _implicit_arguments(function: ast.FunctionDef) -> int | None:
    """How many arguments Python adds when the method is called; None where decorators hide it."""
    decorators = [ast.unparse(node) for node in function.decorator_list]
    if not decorators or decorators == ["classmethod"]:
        return 1
    return 0 if decorators == ["staticmethod"] else None


def _accepts(args: ast.arguments, count: int) -> bool:
    """Whether a call with that many positional arguments, and nothing else, fits the signature."""
    positional = len(args.posonlyargs) + len(args.args)
    if any(default is None for default in args.kw_defaults):
        return False
    if positional - len(args.defaults) > count:
        return False
    return positional >= count or args.vararg is not None


def _own_nodes(function: _Function) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of functions inside it."""
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))
