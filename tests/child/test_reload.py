"""New source for a living object, applied in this process: all of it, or nothing."""

from __future__ import annotations

import ast
import linecache
import traceback
from types import ModuleType
from typing import Any

import pytest

from dora_nb.cells import edits
from dora_nb.child._reload import (
    CannotReloadError,
    all_or_nothing,
    apply_in_place,
    apply_reload,
    renumber,
)
from dora_nb.child.user_code import execute
from dora_nb.graph.nodes import SourceCode

FILE = "Cell In[1]"
SOURCE = """
LIMIT = 1

def helper():
    return LIMIT

class Operator:
    made = object()
    def __init__(self):
        self.count = 0
    def on_event(self, dora_event, send_output):
        self.count += 1
        return helper()
"""


def living(source: str = SOURCE) -> tuple[ModuleType, Any]:
    module = ModuleType("op")
    execute(source, FILE, module)
    return module, module.__dict__["Operator"]()


def edit(module: ModuleType, instance: Any, old: str, new: str) -> None:
    """As the process does it after the kernel has compared both."""
    plan = edits.plan_edit(SourceCode(old, FILE), SourceCode(new, FILE))
    assert isinstance(plan, edits.InPlace), plan
    with all_or_nothing(module, instance, FILE):
        apply_in_place(
            module,
            instance,
            new,
            FILE,
            execute=plan.execute,
            forget=plan.forget,
            keep_attributes=plan.keep_attributes,
        )


def test_the_object_lives_on_under_the_new_class() -> None:
    module, instance = living()
    made = type(instance).made
    instance.on_event({}, None)
    edit(module, instance, SOURCE, SOURCE.replace("LIMIT = 1", "LIMIT = 2"))
    assert instance.on_event({}, None) == 2
    edit(module, instance, SOURCE, SOURCE.replace("self.count += 1", "self.count += 10"))
    instance.on_event({}, None)
    assert instance.count == 12
    assert type(instance) is module.__dict__["Operator"]
    assert type(instance).made is made
    assert not [name for name in module.__dict__ if "kept" in name]


def test_what_is_no_longer_in_the_text_is_forgotten() -> None:
    module, instance = living(SOURCE + "EXTRA = 5\n")
    edit(module, instance, SOURCE + "EXTRA = 5\n", SOURCE)
    assert "EXTRA" not in module.__dict__


@pytest.mark.parametrize("error", ["1 / 0", "raise KeyboardInterrupt", "import no_such_module"])
def test_an_error_puts_everything_back(error: str) -> None:
    module, instance = living()
    names, lines, its_class = dict(module.__dict__), linecache.cache[FILE], type(instance)
    new = f"{SOURCE.replace('self.count += 1', 'self.count += 2')}\nNEW = 1\n{error}\n"
    everything = range(len(ast.parse(new).body))
    with pytest.raises(BaseException), all_or_nothing(module, instance, FILE):  # noqa: B017, PT011
        apply_in_place(
            module, instance, new, FILE, execute=everything, forget=["helper"], keep_attributes=[]
        )
    assert module.__dict__ == names
    assert linecache.cache[FILE] == lines
    assert type(instance) is its_class
    instance.on_event({}, None)
    assert instance.count == 1


def test_an_error_after_the_object_changed_its_class_puts_that_back_too() -> None:
    module, instance = living()
    its_class = type(instance)
    new = SOURCE.replace("self.count += 1", "self.count += 2")

    def fail_late() -> None:
        with all_or_nothing(module, instance, FILE):
            apply_in_place(
                module, instance, new, FILE, execute=[2], forget=[], keep_attributes=["made"]
            )
            assert type(instance) is not its_class
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_late()
    assert type(instance) is its_class
    instance.on_event({}, None)
    assert instance.count == 1


def test_what_python_cannot_make_of_an_object_is_refused() -> None:
    slots = "class Operator:\n    __slots__ = ('a',)\n    def on_event(self, e, s): pass\n"
    module, instance = living(slots)
    with (
        pytest.raises(CannotReloadError, match=r"Python says: .*layout"),
        all_or_nothing(module, instance, FILE),
    ):
        apply_in_place(
            module,
            instance,
            slots.replace("'a'", "'b'"),
            FILE,
            execute=[0],
            forget=[],
            keep_attributes=[],
        )
    assert type(instance) is module.__dict__["Operator"]


def test_a_class_that_was_replaced_or_emptied_meanwhile_is_refused() -> None:
    module, instance = living()
    del type(instance).made
    arguments: dict[str, Any] = {"execute": [2], "forget": []}
    with pytest.raises(CannotReloadError, match=r"Operator\.made was deleted"):
        apply_in_place(module, instance, SOURCE, FILE, keep_attributes=["made"], **arguments)
    module.__dict__["Operator"] = type("Operator", (), {})
    with pytest.raises(CannotReloadError, match="was replaced while it ran"):
        apply_in_place(module, instance, SOURCE, FILE, keep_attributes=[], **arguments)


def test_doras_way_runs_everything_again_and_old_attributes_win() -> None:
    module, instance = living()
    instance.count = 7
    renewed = apply_reload(
        module, instance, SOURCE.replace("self.count = 0", "self.count = self.new = 1"), FILE
    )
    assert renewed is not instance
    assert (renewed.count, renewed.new) == (7, 1)


def test_unchanged_functions_name_the_lines_of_the_new_text() -> None:
    failing = SOURCE.replace("return LIMIT", "return 1 / 0")
    module, instance = living(failing)
    new = f"# one line more\n{failing}"
    renumber(module, new, FILE)
    with pytest.raises(ZeroDivisionError) as raised:
        instance.on_event({}, None)
    frames = traceback.extract_tb(raised.value.__traceback__)[-2:]
    at = [
        1 + new.splitlines().index(line) for line in ("        return helper()", "    return 1 / 0")
    ]
    assert [frame.lineno for frame in frames] == at


def test_a_function_that_differs_keeps_its_lines() -> None:
    module, _ = living()
    before = module.__dict__["helper"].__code__
    renumber(module, "\n\n" + SOURCE.replace("return LIMIT", "return LIMIT + 1"), FILE)
    assert module.__dict__["helper"].__code__ is before
