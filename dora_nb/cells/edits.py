"""Decides whether a running operator can take an edit in place, and keep its state. Pure.

Both sources are compared as syntax trees, one top-level statement after the other, and the class
`Operator` member by member. The running module can take what changed if

* each changed statement is an import, a `def`, the class `Operator` or an assignment of a literal;
* `__init__` and all that it reads (functions that it calls, members that it reaches through `self`, names
  that those read) did not change: then `__init__` would make the same object again;
* no statement that is not executed again has used something that changed.

Otherwise only a new process does what the cell says. In doubt the answer is `Fresh`: "state kept" must be
true.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dora_nb.graph.nodes import OnEdit, SourceCode

_OPERATOR = "Operator"
_MAKERS = ("__init__", "__new__", "__init_subclass__", "__setattr__", "__getattr__")
"""What Python calls by itself while an object is made, and where its attributes are read."""
_LOOKS_UP_NAMES = frozenset(
    {"exec", "eval", "globals", "locals", "vars", "__import__", "__dict__", "setattr", "delattr"}
)
"""Code that uses one of these may read or bind any name."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMING = (*_FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
"""Syntax that binds the name in its `name` field."""
_MOST_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class InPlace:
    """The running module takes the new source, and executes only the statements that changed."""

    execute: tuple[int, ...]
    """Which top-level statements of the new source."""
    forget: tuple[str, ...]
    """The names of the module that the new source does not bind any more."""
    keep_attributes: tuple[str, ...]
    """The attributes of class `Operator` whose statements did not change: they keep their objects."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """The edit needs a new process; `reason` is the end of a sentence."""

    reason: str


def plan_edit(old: SourceCode, new: SourceCode, *, on_edit: OnEdit = "auto") -> InPlace | Fresh:
    """Returns how a module that runs the old source can become the new one."""
    if on_edit == "restart":
        return Fresh("--on-edit restart")
    try:
        before, after = ast.parse(old.text), ast.parse(new.text)
    except (SyntaxError, ValueError, RecursionError):
        return Fresh("its code changed")
    try:
        return _Edit(before, after).plan()
    except _NeedsAProcessError as refusal:
        return Fresh(str(refusal))


class _NeedsAProcessError(Exception):
    """A new process is needed; the text is a `Fresh.reason`."""


@dataclass
class _Reads:
    """What some code reads: names of the module, and attributes of any object."""

    names: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)

    def add(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            if isinstance(node, ast.Name):
                self.names.add(node.id)
            elif isinstance(node, ast.Attribute):
                self.attributes.add(node.attr)
            elif isinstance(node, ast.Call):
                self._add_getattr(node)

    def _add_getattr(self, call: ast.Call) -> None:
        if not (isinstance(call.func, ast.Name) and call.func.id in ("getattr", "hasattr")):
            return
        name = call.args[1] if len(call.args) > 1 else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            self.attributes.add(name.value)
        else:
            self.names.add("__dict__")  # It may read any attribute.


class _Edit:
    """Two syntax trees of one module, and the differences."""

    def __init__(self, before: ast.Module, after: ast.Module) -> None:
        self._before, self._after = before.body, after.body
        self._taken_out, self._put_in = _differences(self._before, self._after)
        self._execute = set(self._put_in)
        self._changed = {
            name for statement in self._changed_statements() for name in _bound_by(statement)
        }
        self._keep: list[str] = []

    def plan(self) -> InPlace:
        for statement in self._changed_statements():
            _check_can_change(statement)
        members = self._changed_members()
        self._check_what_was_made()
        self._check_init(members)
        bound = {name for statement in self._after for name in _bound_by(statement)}
        gone = {name for at in self._taken_out for name in _bound_by(self._before[at])}
        return InPlace(
            tuple(sorted(self._execute)), tuple(sorted(gone - bound)), tuple(sorted(self._keep))
        )

    def _changed_statements(self) -> Iterator[ast.stmt]:
        yield from (self._before[at] for at in self._taken_out)
        yield from (self._after[at] for at in self._put_in)

    # -- the class Operator ----------------------------------------------------------------------

    def _changed_members(self) -> set[str]:
        """The members of `Operator` that changed; empty if its text is the same."""
        old, new = _class_in(self._before), _class_in(self._after)
        if old is None or new is None:
            raise _NeedsAProcessError("class Operator was replaced")
        if ast.dump(old) == ast.dump(new):
            return set()
        if old.decorator_list or new.decorator_list or old.keywords or new.keywords:
            raise _NeedsAProcessError("class Operator changed, and has a decorator or a metaclass")
        if _dumps(old.bases) != _dumps(new.bases):
            raise _NeedsAProcessError("the bases of class Operator changed")
        taken_out, put_in = _differences(old.body, new.body)
        changed = [old.body[at] for at in taken_out] + [new.body[at] for at in put_in]
        names = {name for statement in changed for name in _bound_by(statement)}
        for name in _MAKERS:
            if name in names:
                raise _NeedsAProcessError(f"{name} changed")
        for statement in changed:
            _check_can_change(statement, inside="class Operator: ")
        if "__slots__" in names:
            raise _NeedsAProcessError("__slots__ changed")
        self._keep_attributes(new, set(put_in), names)
        return names

    def _keep_attributes(self, new: ast.ClassDef, put_in: set[int], changed: set[str]) -> None:
        """The class body is executed again, except statements that made an object and did not change."""
        for at, statement in enumerate(new.body):
            if at in put_in or isinstance(statement, _FUNCTIONS) or _does_nothing(statement):
                continue
            if not _is_plain_assignment(statement) and not isinstance(statement, ast.ClassDef):
                raise _NeedsAProcessError(f"class Operator runs {_shown(statement)}")
            reads = self._reached(_when_defined(statement), members=new)
            if found := sorted(reads.names & (self._changed | changed)):
                names = ", ".join(_bound_by(statement))
                raise _NeedsAProcessError(f"Operator.{names} reads {found[0]}, which changed")
            self._keep += _bound_by(statement)

    # -- what was made before --------------------------------------------------------------------

    def _check_what_was_made(self) -> None:
        """Finds unchanged statements that have used something that changed.

        A function is defined again; anything else needs a new process.
        """
        again = True
        while again:
            again = False
            for at, statement in enumerate(self._after):
                if at in self._execute:
                    continue
                reads = self._reached(_when_defined(statement), members=None)
                found = sorted(reads.names & self._changed)
                if not found:
                    continue
                if not isinstance(statement, _FUNCTIONS):
                    raise _NeedsAProcessError(
                        f"{_shown(statement)} reads {found[0]}, which changed"
                    )
                self._execute.add(at)
                self._changed.add(statement.name)
                again = True

    def _check_init(self, members: set[str]) -> None:
        operator = _class_in(self._after)
        assert operator is not None
        makers = [
            statement
            for statement in operator.body
            if isinstance(statement, _FUNCTIONS) and statement.name in _MAKERS
        ]
        roots = [node for maker in makers for node in ast.walk(maker)]
        roots += [node for base in operator.bases for node in ast.walk(base)]
        reads = self._reached(roots, members=operator)
        if unknown := sorted((reads.names | reads.attributes) & _LOOKS_UP_NAMES):
            anything = "getattr" if unknown[0] == "__dict__" else unknown[0]
            if self._changed or members:
                raise _NeedsAProcessError(f"__init__ uses {anything}, so it may read anything")
        own = {*(maker.name for maker in makers)}
        found = sorted((reads.names & self._changed) - {_OPERATOR}) or sorted(
            (reads.attributes & members) - own
        )
        if found:
            raise _NeedsAProcessError(f"__init__ reads {found[0]}, which changed")

    def _reached(self, roots: Iterable[ast.AST], *, members: ast.ClassDef | None) -> _Reads:
        """What some code reads, together with what the functions, classes and members read that it uses."""
        reads = _Reads()
        reads.add(roots)
        by_name = {
            name: statement
            for statement in self._after
            if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)) and statement is not members
            for name in _bound_by(statement)
        }
        by_attribute = {
            name: statement
            for statement in (members.body if members is not None else ())
            for name in _bound_by(statement)
        }
        followed: set[ast.stmt] = set()
        while True:
            more: list[ast.stmt] = [by_name[name] for name in reads.names & by_name.keys()]
            read = reads.attributes | reads.names  # In the class's body a member is a name.
            more += [by_attribute[name] for name in read & by_attribute.keys()]
            more = [statement for statement in more if statement not in followed]
            if not more:
                return reads
            for statement in more:
                followed.add(statement)
                reads.add(ast.walk(statement))


def _differences(old: Sequence[ast.stmt], new: Sequence[ast.stmt]) -> tuple[list[int], list[int]]:
    """The indexes of the removed statements in `old`, and of the added ones in `new`; a moved one is both."""
    matcher = difflib.SequenceMatcher(None, _dumps(old), _dumps(new), autojunk=False)
    taken_out: list[int] = []
    put_in: list[int] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag != "equal":
            taken_out += range(old_from, old_to)
            put_in += range(new_from, new_to)
    return taken_out, put_in


def _dumps(nodes: Iterable[ast.AST]) -> list[str]:
    return [ast.dump(node) for node in nodes]


def _class_in(body: Sequence[ast.stmt]) -> ast.ClassDef | None:
    """The class statement that binds `Operator`, if no other statement binds that name."""
    binding = [statement for statement in body if _OPERATOR in _bound_by(statement)]
    found = binding[0] if len(binding) == 1 else None
    return found if isinstance(found, ast.ClassDef) else None


def _check_can_change(statement: ast.stmt, *, inside: str = "") -> None:
    """Raises if executing this statement alone in the running module is not enough."""
    if isinstance(statement, ast.ImportFrom):
        if statement.module == "__future__":
            raise _NeedsAProcessError("a __future__ import changed")
        if any(alias.name == "*" for alias in statement.names):
            raise _NeedsAProcessError("an import of * changed")
        return
    if isinstance(statement, (ast.Import, *_FUNCTIONS)) or _does_nothing(statement):
        return
    if isinstance(statement, ast.ClassDef):
        if statement.name == _OPERATOR and not inside:
            return
        raise _NeedsAProcessError(f"class {statement.name} changed")
    if _is_plain_assignment(statement) and _is_literal(statement):
        return
    raise _NeedsAProcessError(f"{inside}{_shown(statement)} changed")


def _does_nothing(statement: ast.stmt) -> bool:
    """A docstring, `pass`, or a bare annotation."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.AnnAssign) and statement.value is None
    )


def _is_plain_assignment(statement: ast.stmt) -> bool:
    """Whether the statement only binds names."""
    if isinstance(statement, ast.Assign):
        targets: Sequence[ast.expr] = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    else:
        return False
    return all(_is_name_or_names(target) for target in targets)


def _is_name_or_names(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(_is_name_or_names(each) for each in target.elts)
    return isinstance(target, ast.Name)


def _is_literal(statement: ast.stmt) -> bool:
    assert isinstance(statement, (ast.Assign, ast.AnnAssign))
    assert statement.value is not None
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _bound_by(statement: ast.stmt) -> list[str]:
    """The names that a statement binds in its own scope, as far as its text shows."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return [statement.name]
    names: list[str] = []
    for node in _same_scope(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.append(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, _NAMING) and node.name:
            names.append(node.name)
    return list(dict.fromkeys(names))


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all nodes below it, without the contents of inner scopes."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield child
        else:
            yield from _same_scope(child)


def _when_defined(statement: ast.stmt) -> Iterator[ast.AST]:
    """What is evaluated when the statement is executed: for a function, all but its body."""
    if isinstance(statement, _FUNCTIONS):
        parts: list[ast.AST] = [*statement.decorator_list, *statement.args.defaults]
        parts += [default for default in statement.args.kw_defaults if default is not None]
        parts += [arg.annotation for arg in _arguments(statement) if arg.annotation is not None]
        parts += [] if statement.returns is None else [statement.returns]
        for part in parts:
            yield from ast.walk(part)
    elif isinstance(statement, ast.ClassDef):
        for part in [*statement.decorator_list, *statement.bases, *statement.keywords]:
            yield from ast.walk(part)
        for member in statement.body:
            yield from _when_defined(member)
    else:
        for node in ast.walk(statement):
            if not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
                yield node


def _arguments(function: _Function) -> list[ast.arg]:
    named = function.args
    rest = [each for each in (named.vararg, named.kwarg) if each is not None]
    return [*named.posonlyargs, *named.args, *named.kwonlyargs, *rest]


def _shown(statement: ast.stmt) -> str:
    """A few words by which a user finds the statement."""
    if isinstance(statement, ast.ClassDef):
        return f"class {statement.name}"
    names = _bound_by(statement)
    if names and isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return ", ".join(names)
    text = ast.unparse(statement).splitlines()[0]
    return f"`{text[:_MOST_SHOWN_CHARS]}{'…' if len(text) > _MOST_SHOWN_CHARS else ''}`"
