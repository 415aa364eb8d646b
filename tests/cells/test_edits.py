"""Which edits a living operator takes, and which need a new process."""

from __future__ import annotations

import ast

import pytest

from dora_nb.cells.edits import Fresh, InPlace, plan_edit
from dora_nb.graph.nodes import SourceCode

BEFORE = '''"""A detector."""
import numpy as np
from math import sqrt

THRESHOLD = 0.5
SIZE = (640, 480)
PATH = "weights"
ZEROS = np.zeros(3)

def load(path):
    return opened(path)

def opened(path):
    return open(path)

def helper(x):
    return x + 1

def sized(x, size=SIZE):
    return x

class Box:
    pass

class Operator:
    """Finds things."""
    seen = {}
    made = np.ones(3)
    step = 1
    start: int = 0

    class Inner:
        pass

    def __init__(self):
        self.model = load(PATH)
        self.count = self.first()

    def first(self):
        return self.start

    def on_event(self, dora_event, send_output):
        self.count += self.step
        return helper(self.count) > THRESHOLD
'''
KEPT = ("Inner", "made", "seen", "start", "step")


def planned(*changes: tuple[str, str], before: str = BEFORE) -> InPlace | Fresh:
    after = before
    for old, new in changes:
        assert old in after, old
        after = after.replace(old, new)
    return plan_edit(SourceCode(before, "Cell In[1]"), SourceCode(after, "Cell In[2]"))


def executed(edit: InPlace, after: str) -> list[str]:
    """The first lines of the statements that are executed."""
    return [ast.unparse(ast.parse(after).body[at]).splitlines()[0] for at in edit.execute]


@pytest.mark.parametrize(
    ("old", "new", "executes", "forgets"),
    [
        ("self.count += self.step", "self.count += 2", ["class Operator:"], ()),
        ("return x + 1", "return x + 2", ["def helper(x):"], ()),
        ("import sqrt", "import floor", ["from math import floor"], ("sqrt",)),
        ("THRESHOLD = 0.5", "THRESHOLD = 0.7", ["THRESHOLD = 0.7"], ()),
        ("THRESHOLD = 0.5", "THRESHOLD = 0.5\nMORE = [1, -2]", ["MORE = [1, -2]"], ()),
        ("step = 1", "step = 3", ["class Operator:"], ()),
        ("    step = 1\n", "    step = 1\n    more = None\n", ["class Operator:"], ()),
        (
            "    def on_event",
            "    def more(self): pass\n\n    def on_event",
            ["class Operator:"],
            (),
        ),
        ("def sized(x, size=SIZE):\n    return x\n", "", [], ("sized",)),
        ("THRESHOLD = 0.5\n", "THRESHOLD = 0.5  # of certainty\n\n", [], ()),
        ("A detector", "The detector", ["'The detector.'"], ()),
        # What a default was made from is made again.
        (
            "SIZE = (640, 480)",
            "SIZE = (320, 240)",
            ["SIZE = (320, 240)", "def sized(x, size=SIZE):"],
            (),
        ),
        # A move is harmless where each line that moved may run again.
        (
            "import numpy as np\nfrom math import sqrt\n",
            "from math import sqrt\nimport numpy as np\n",
            ["from math import sqrt"],
            (),
        ),
    ],
)
def test_the_living_operator_takes_it(
    old: str, new: str, executes: list[str], forgets: tuple[str, ...]
) -> None:
    edit = planned((old, new))
    assert isinstance(edit, InPlace), edit
    assert executed(edit, BEFORE.replace(old, new)) == executes
    assert edit.forget == forgets
    kept = {"step"} if "step = 3" in new else set()
    of_the_class = tuple(name for name in KEPT if name not in kept)
    assert edit.keep_attributes == (of_the_class if executes == ["class Operator:"] else ())


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("self.model = load(PATH)", "self.model = None", "__init__ changed"),
        ("def __init__(self):", "def __init__(self, x=1):", "__init__ changed"),
        ('PATH = "weights"', 'PATH = "others"', "__init__ reads PATH, which changed"),
        ("return opened(path)", "return opened(path, 1)", "__init__ reads load, which changed"),
        ("return open(path)", "return open(path, 'rb')", "__init__ reads opened, which changed"),
        ("return self.start", "return self.start + 1", "__init__ reads first, which changed"),
        ("start: int = 0", "start: int = 5", "__init__ reads start, which changed"),
        ("ZEROS = np.zeros(3)", "ZEROS = np.zeros(4)", "ZEROS changed"),
        ("ZEROS = np.zeros(3)\n", "", "ZEROS changed"),
        ("import numpy as np", "import numpy.ma as np", "ZEROS reads np, which changed"),
        ("class Box:\n    pass", "class Box:\n    x = 1", "class Box changed"),
        (
            "    class Inner:\n        pass",
            "    class Inner:\n        x = 1",
            "class Inner changed",
        ),
        ("made = np.ones(3)", "made = np.ones(4)", "class Operator: made changed"),
        ("class Operator:", "class Operator(Box):", "the bases of class Operator changed"),
        ("from math import sqrt", "from math import *", "an import of * changed"),
        (
            "import numpy",
            "from __future__ import annotations\nimport numpy",
            "a __future__ import changed",
        ),
        ("THRESHOLD = 0.5", "THRESHOLD = 0.5\nprint(1)", "`print(1)` changed"),
        ("THRESHOLD = 0.5", "THRESHOLD += 0.5", "THRESHOLD changed"),
        ("class Operator:", "class Operators:", "class Operators changed"),
        ("    step = 1", "    __slots__ = ('a',)\n    step = 1", "__slots__ changed"),
    ],
)
def test_a_new_process_takes_it(old: str, new: str, reason: str) -> None:
    assert planned((old, new)) == Fresh(reason)


@pytest.mark.parametrize("way", ["getattr(self, PATH)", "vars(self)", "globals()", "eval('1')"])
def test_an_init_that_may_read_anything_needs_a_new_process(way: str) -> None:
    before = BEFORE.replace("self.model = load(PATH)", f"self.model = {way}")
    changed = planned(("return x + 1", "return x + 2"), before=before)
    assert isinstance(changed, Fresh)
    assert changed.reason.startswith("__init__ uses ")
    assert changed.reason.endswith(", so it may read anything")
    # But for what changes nothing.
    assert planned(("THRESHOLD = 0.5", "THRESHOLD =  0.5"), before=before) == InPlace((), (), ())


def test_a_callback_that_init_gave_away_is_the_old_one() -> None:
    before = BEFORE.replace("self.model = load(PATH)", "self.call = self.on_event")
    changed = planned(("return helper(self.count)", "return helper(2)"), before=before)
    assert changed == Fresh("__init__ reads on_event, which changed")


def test_what_was_made_with_a_function_that_changed() -> None:
    before = BEFORE.replace("ZEROS = np.zeros(3)", "").replace(
        "class Box:", "TABLE = sized(helper(1))\n\nclass Box:"
    )
    assert planned(("return x + 1", "return x + 2"), before=before) == Fresh(
        "TABLE reads helper, which changed"
    )


def test_a_class_that_is_decorated_or_runs_code_is_not_made_twice() -> None:
    change = ("return helper(self.count)", "return helper(2)")
    decorated = BEFORE.replace("class Operator:", "@Box\nclass Operator:")
    assert planned(change, before=decorated) == Fresh(
        "class Operator changed, and has a decorator or a metaclass"
    )
    running = BEFORE.replace("    step = 1\n", "    step = 1\n    print(step)\n")
    assert planned(change, before=running) == Fresh("class Operator runs `print(step)`")


def test_what_is_asked_for_and_what_is_no_python() -> None:
    code = SourceCode(BEFORE, "Cell In[1]")
    assert plan_edit(code, code, on_edit="restart") == Fresh("--on-edit restart")
    assert plan_edit(code, code) == InPlace((), (), ())
    assert plan_edit(code, SourceCode("def (", "Cell In[2]")) == Fresh("its code changed")
