"""New source for a living operator: within `all_or_nothing` it takes effect as a whole, or not at all.

`apply_in_place` executes what `dora_nb.cells.edits` has found changed; `apply_reload` is dora's own rule
(``binaries/runtime/src/operator/python.rs``): the module and `__init__` run again, and the attributes of
the old object win.
"""

from __future__ import annotations

import ast
import linecache
import types
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .user_code import compile_source, execute, remember_source

_KEPT = "__dora_kept__"
"""The module's name, while the class is executed anew, for the attributes that live on."""


class CannotReloadError(Exception):
    """Python cannot make the living object one of the new class; the text is the end of a sentence."""


def apply_in_place(
    module: ModuleType,
    instance: Any,
    source: str,
    file: str,
    *,
    execute: Collection[int],
    forget: Collection[str],
    keep_attributes: Collection[str],
) -> None:
    """Executes those top-level statements of the source in the living module; the object gets its new class.

    For the three collections see `dora_nb.cells.edits.InPlace`; `source` is numbered as in
    `user_code.execute`. Raises CannotReloadError, or whatever the statements raise.
    """
    chosen = _chosen(ast.parse(source, file), execute, keep_attributes)
    names, old_class = module.__dict__, type(instance)
    if names.get("Operator") is not old_class:
        raise CannotReloadError("class Operator was replaced while it ran")
    if missing := [name for name in keep_attributes if name not in old_class.__dict__]:
        raise CannotReloadError(f"Operator.{missing[0]} was deleted while it ran")
    remember_source(source, file)
    names[_KEPT] = {name: old_class.__dict__[name] for name in keep_attributes}
    try:
        exec(compile(chosen, file, "exec", dont_inherit=True), names)
    finally:
        names.pop(_KEPT, None)
    for name in forget:
        names.pop(name, None)
    new_class = names.get("Operator")
    if isinstance(new_class, type) and new_class is not old_class:
        try:
            instance.__class__ = new_class
        except TypeError as error:
            raise CannotReloadError(f"Python says: {error}") from None


def apply_reload(module: ModuleType, instance: Any, source: str, file: str) -> Any:
    """Runs the whole module and `Operator()` again, and puts the old attributes over the new.

    Returns the new object. Raises what either raises.
    """
    execute(source, file, module)
    renewed = module.__dict__["Operator"]()
    renewed.__dict__.update(instance.__dict__)
    return renewed


@contextmanager
def all_or_nothing(module: ModuleType, instance: Any, file: str) -> Iterator[None]:
    """On an exception: puts the module's names, the object's class and the lines of tracebacks back."""
    names, lines, its_class = dict(module.__dict__), linecache.cache.get(file), type(instance)
    try:
        yield
    except BaseException:
        module.__dict__.clear()
        module.__dict__.update(names)
        if type(instance) is not its_class:
            instance.__class__ = its_class
        if lines is None:
            linecache.cache.pop(file, None)
        else:
            linecache.cache[file] = lines
        raise


def _chosen(tree: ast.Module, execute: Collection[int], keep: Collection[str]) -> ast.Module:
    """The module with these statements alone; what made the kept attributes only names them."""
    body = [
        statement
        for at, statement in enumerate(tree.body)
        if at in execute
        or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__")
    ]
    for statement in body:
        if isinstance(statement, ast.ClassDef) and statement.name == "Operator":
            statement.body = [_kept(member, set(keep)) for member in statement.body]
    return ast.fix_missing_locations(ast.Module(body, type_ignores=[]))


def _kept(member: ast.stmt, keep: Collection[str]) -> ast.stmt:
    names: list[str] = []
    if isinstance(member, ast.ClassDef):
        names = [member.name]
    elif isinstance(member, (ast.Assign, ast.AnnAssign)):
        names = [
            node.id
            for node in ast.walk(member)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        ]
    if not names or not set(names) <= set(keep):
        return member
    assignments = "; ".join(f"{name} = {_KEPT}[{name!r}]" for name in names)
    named = ast.parse(f"if True: {assignments}").body[0]
    return ast.copy_location(named, member)


# -- the lines of what did not change --------------------------------------------------------------


def renumber(module: ModuleType, source: str, file: str) -> None:
    """Functions whose code is the same get it from the new text, so that tracebacks show its lines.

    Only where that is certain: the name leads to one function in the text, and its code differs in
    nothing but places.
    """
    by_name: dict[str, CodeType | None] = {}
    for code in _codes_in(compile_source(source, file)):
        by_name[code.co_qualname] = None if code.co_qualname in by_name else code
    for function in _functions_of(module):
        new = by_name.get(function.__code__.co_qualname)
        if new is not None and new is not function.__code__ and _same(function.__code__, new):
            function.__code__ = new


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


def _functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions that the module's own names, and the members of its own classes, lead to."""
    seen: set[int] = set()
    left = list(module.__dict__.values())
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (staticmethod, classmethod)):
            left.append(value.__func__)
        elif isinstance(value, property):
            left += [each for each in (value.fget, value.fset, value.fdel) if each is not None]
        elif isinstance(value, type) and value.__module__ == module.__name__:
            left += list(vars(value).values())
        elif isinstance(value, types.FunctionType):
            left.append(getattr(value, "__wrapped__", None))
            if value.__globals__ is module.__dict__:
                yield value


def _same(old: CodeType, new: CodeType) -> bool:
    """Whether both do the same; nested functions included."""
    if len(old.co_consts) != len(new.co_consts):
        return False
    return (
        old.co_code == new.co_code
        and old.co_names == new.co_names
        and old.co_varnames == new.co_varnames
        and old.co_freevars == new.co_freevars
        and old.co_cellvars == new.co_cellvars
        and old.co_flags == new.co_flags
        and all(map(_same_constant, old.co_consts, new.co_consts))
    )


def _same_constant(old: object, new: object) -> bool:
    if isinstance(old, CodeType) and isinstance(new, CodeType):
        return _same(old, new)
    return type(old) is type(new) and repr(old) == repr(new)
