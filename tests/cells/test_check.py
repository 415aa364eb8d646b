"""What is refused before an operator runs, and what is not.

The names are held against Python itself: a body that is refused for a name must really fail with a
NameError for it, and one that is not must not.
"""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.cells.check import check_node_source, check_operator_source
from dora_nb.errors import SourceError
from dora_nb.graph.nodes import SourceCode

GOOD = """
class Operator:
    def on_event(self, dora_event, send_output):
        pass
"""


def code(text: str, *, path: str | None = None) -> SourceCode:
    return SourceCode(text, path or "Cell In[5]", first_line=1 if path else 2, path=path)


def refusal(
    text: str, names: object = (), check: Callable[..., None] = check_operator_source
) -> str:
    """What the cell shows."""
    with pytest.raises(SourceError) as caught:
        check(code(text), notebook_names=names)
    return "\n".join(caught.value.render())


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Cell In[5], line 2\nSourceError: the body is empty: write `class Operator:`"),
        (" \n\n", "the body is empty:"),
        ("# later\n", "the body has only comments:"),
        ("#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n", "the body has only comments:"),
        (
            "x = 1\ny = (1 +\n",
            "Cell In[5], line 3\n    y = (1 +\n        ^\nSourceError: SyntaxError: '(' was",
        ),
        (
            "x = 1\n  y = 2\n",
            "SyntaxError: unexpected indent",
        ),
        ("print 'a'\n", "Missing parentheses in call to 'print'. Did you mean print(...)?"),
        (
            "return 1\n",
            "line 2\n    return 1\n    ^\nSourceError: SyntaxError: 'return'",
        ),
        ("é = 'ü' +* 1\n", "    é = 'ü' +* 1\n             ^\nSourceError: SyntaxError: invalid"),
        ("x = 'a\0b'\n", "SyntaxError: source code string cannot contain null bytes"),
        ("x = '\ud800'\n", "this is not"),
        ("x = " + "(" * 300 + ")" * 300 + "\n", "too many nested parentheses"),
        ("x = " + "-" * 100_000 + "1\n", "nested too deeply"),
    ],
)
def test_text_that_is_no_python(text: str, expected: str) -> None:
    assert expected in refusal(text)


@pytest.mark.parametrize(
    ("line", "caret", "way_out"),
    [
        ("!pip install torch", 0, "run shell commands in a cell of their own, or with subprocess."),
        ('    !echo "don\'t"', 0, "run shell commands"),
        ("files = !ls", 8, "run shell commands"),
        ("%time x = 1", 0, "run the magic in a cell of its own."),
        ("t = %timeit -o f()", 4, "run the magic"),
        ("%%time", 0, "a cell has one cell magic, in its first line; take this line out."),
        ("?torch", 0, "ask for help in a cell of its own."),
        ("torch.nn??", 8, "ask for help"),
    ],
)
def test_ipython_syntax_is_named_with_the_way_out(line: str, caret: int, way_out: str) -> None:
    indent = "def f():\n" if line.startswith(" ") else "import torch\n"
    shown = refusal(indent + line + "\n" + GOOD)
    assert shown.startswith(
        f"Cell In[5], line 3\n    {line.strip()}\n    {' ' * caret}^\n"
        "SourceError: this line is IPython's, and the body of an operator is plain Python: "
        + way_out
    )


def test_a_syntax_error_beside_percent_signs_and_bangs_stays_a_syntax_error() -> None:
    assert "SyntaxError: invalid syntax" in refusal("a = 1\nb = a != != 2\n")
    assert "SyntaxError: " in refusal("x = ('%s'\n     % y z)\n")


def test_ipython_syntax_inside_a_string_is_no_mistake() -> None:
    check_operator_source(code('"""\n!pip\n%time\nwhat?\n"""' + GOOD))


def test_shebang_coding_line_form_feed_and_warnings_are_fine() -> None:
    text = "#!/usr/bin/env python3\n# -*- coding: latin-1 -*-\n\x0c\nx = '\\d' is 1\n" + GOOD
    check_operator_source(code(text))
    check_operator_source(code(text.replace("\n", "\r\n")))


def test_lines_are_those_of_the_editor_also_below_a_form_feed() -> None:
    assert refusal("x = 1\n\x0c\ny = = 2\n").startswith("Cell In[5], line 4\n    y = = 2\n")
    with pytest.raises(SourceError) as caught:
        check_operator_source(code("x = = 1", path="camera.py"))
    assert str(caught.value.location) == "camera.py, line 1"


# --- the class -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n", "line 2\n    x = 1\n    ^\nSourceError: there is no class `Operator`: write"),
        (
            GOOD.replace("Operator", "operator"),
            (
                "line 3\n    class operator:\n          ^\nSourceError: there is no class `Operator`: "
                "did you mean 'operator'? Rename it to `Operator`."
            ),
        ),
        ("class Operators:\n    pass\n", "did you mean 'Operators'"),
        (GOOD.replace("Operator", "Detector"), "did you mean 'Detector'"),
        ("def operator():\n    pass\n", "did you mean 'operator'"),
        (
            "def on_event(a, b):\n    pass\n",
            "`on_event` must be a method of that class; write `class Op",
        ),
        ("def f():\n    class Operator: pass\n", "there is no class `Operator`"),
        ("import operator\n", "there is no class `Operator`"),
        (
            GOOD + GOOD,
            (
                "line 7\n    class Operator:\n          ^\nSourceError: this defines the class `Operator` "
                "twice"
            ),
        ),
        (
            "class Operator:\n    def __init__(self):\n        pass\n",
            (
                "line 2\n    class Operator:\n          ^\nSourceError: the class `Operator` has no "
                "`on_event`: write `def on_event(self, dora_event, send_output):` in it."
            ),
        ),
        (
            "class Operator:\n    def on_Event(self, a, b): pass\n",
            "did you mean 'on_Event'? Rename it to `on_event`.",
        ),
        ("class Operator:\n    def on_events(self, a, b): pass\n", "did you mean 'on_events'"),
        ("class Base: pass\nclass Operator(Base): pass\n", "has no `on_event`"),
        ("class Operator(object): pass\n", "has no `on_event`"),
        (
            "class Operator:\n    def on_event(self, event): pass\n",
            (
                "line 3\n    def on_event(self, event): pass\n        ^\nSourceError: `on_event(self, event)`"
                " cannot be called with an event and send_output; write"
            ),
        ),
        ("class Operator:\n    def on_event(dora_event, send_output): pass\n", "cannot be called"),
        ("class Operator:\n    def on_event(self, a, b, c): pass\n", "cannot be called"),
        ("class Operator:\n    def on_event(self, a, b, *, c): pass\n", "cannot be called"),
        ("class Operator:\n    def on_event(self, a, *, b): pass\n", "cannot be called"),
        ("class Operator:\n    def on_event(self, **kw): pass\n", "cannot be called"),
        (
            "class Operator:\n    @staticmethod\n    def on_event(self, a, b): pass\n",
            "cannot be call",
        ),
        ("class B:\n    def on_event(self): pass\nclass Operator(B): pass\n", "cannot be called"),
        (
            "class Operator:\n    async def on_event(self, a, b): pass\n",
            (
                "line 3\n    async def on_event(self, a, b): pass\n              ^\nSourceError: `on_event` "
                "cannot be `async def`"
            ),
        ),
        ("class Operator:\n    def on_event(self, a, b):\n        yield 1\n", "has a `yield`"),
        (
            GOOD + "    def __init__(self, model):\n        pass\n",
            (
                "`__init__(self, model)` cannot be called as `Operator()`, but that is how an operator is "
                "created; give every argument but self a default"
            ),
        ),
        (GOOD + "    def __init__(self, *, model): pass\n", "cannot be called as `Operator()`"),
        (GOOD + "    def __init__(): pass\n", "write `def __init__(self):`"),
        (GOOD + "    async def __init__(self): pass\n", "`__init__` cannot be `async def`"),
    ],
)
def test_classes_that_are_certainly_wrong(text: str, expected: str) -> None:
    assert expected in refusal(text)


ON_EVENT = "    def on_event(self, dora_event, send_output): pass\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "class Operator:\n    def on_event(self, *args): pass\n",
        "class Operator:\n    def on_event(self, event, send, extra=1, *, flag=True): pass\n",
        "class Operator:\n    def on_event(self, event, /, send, **kw): pass\n",
        "class Operator:\n    @staticmethod\n    def on_event(event, send): pass\n",
        "class Operator:\n    @classmethod\n    def on_event(cls, event, send): pass\n",
        "class Operator:\n    on_event = lambda self, event, send: None\n",
        "def wrap(f): return lambda s, e, o: f(s)\nclass Operator:\n    @wrap\n    def on_event(self): pass\n",
        "class Operator:\n    def on_event(self, a, b):\n        return (lambda: (yield))\n",
        "class Operator:\n    if True:\n        def on_event(self): pass\n    def on_event(s, a, b): pass\n",
        "class Operator:\n    def __getattr__(self, name): return lambda *a: None\n",
        "class Operator:\n    def __init__(self): self.on_event = print\n",
        "class Operator: pass\nOperator.on_event = lambda *a: None\n",
        "class Operator: pass\nsetattr(Operator, 'on_event', lambda *a: None)\n",
        "class Base:\n" + ON_EVENT + "class Operator(Base): pass\n",
        "class A:\n    def on_event(self): pass\nclass B(A): pass\nclass C(A):\n"
        + ON_EVENT
        + "class Operator(B, C): pass\n",
        "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass Operator(Generic[T]): pass\n",
        "import threading\nclass Operator(threading.Thread): pass\n",
        "from collections import Counter as Operator\n",
        "from os.path import *\n",
        "exec('class Operator: pass')\n",
        "globals()['Operator'] = type('Operator', (), {})\n",
        "import sys\nsetattr(sys.modules[__name__], 'Operator', object)\n",
        "def __getattr__(name): return object\n",
        "def make():\n    global Operator\n    class Operator: pass\nmake()\n",
        "Operator = type('Operator', (), {})\n",
        "if True:\n    class Operator:\n        def on_event(self): pass\n",
        "try:\n    import nothing_like_it\n    class Operator: pass\nexcept ImportError:\n    class Operator: pass\n",
        "class Operator: pass\nBase = Operator\nclass Operator(Base):\n" + ON_EVENT,
        "class Operator:\n" + ON_EVENT + "class Operator(Operator): pass\n",
        "from dataclasses import dataclass\n@dataclass\nclass Operator:\n    model: str = 'n'\n"
        + ON_EVENT,
        "class Meta(type): pass\nclass Operator(metaclass=Meta): pass\n",
        "class Operator:\n"
        + ON_EVENT
        + "    def __init__(self, model='n', *rest, size=3, **kw): pass\n",
        "class Operator(Operator2 := object):\n" + ON_EVENT,
    ],
)
def test_classes_that_only_running_them_can_judge(text: str) -> None:
    compile(text, "cell", "exec", dont_inherit=True)
    check_operator_source(code(text))


def test_a_node_script_is_told_its_magic() -> None:
    script = "from dora import Node\n\nnode = Node()\nfor event in node:\n    print(event)\n"
    shown = refusal(script)
    assert shown.startswith(
        "Cell In[5], line 4\n    node = Node()\n           ^\nSourceError: this is a "
    )
    assert "declare it with dataflow.add_node()" in shown
    assert "node's script" in refusal("import dora as d\ndef main():\n    d.Node('x')\nmain()\n")
    check_node_source(code(script))


def test_an_operator_is_no_node_script() -> None:
    assert "declare it with dataflow.add_operator()" in refusal(GOOD, check=check_node_source)
    assert "the body is empty" in refusal("", check=check_node_source)
    assert "'cfg' is defined in the notebook" in refusal("print(cfg)", {"cfg"}, check_node_source)
    both = "from dora import Node\n" + GOOD + "Node()\n"
    check_node_source(code(both))
    check_operator_source(code(both))


# --- names -----------------------------------------------------------------------------------

READS_X = [
    "x",
    "def f(): return x\nf()",
    "def f(a=x): pass",
    "def f(a: x): pass",
    "def f() -> x: pass",
    "y: x = 1",
    "@x\ndef f(): pass",
    "class A(x): pass",
    "class A:\n    y = x",
    "class A:\n    x = 1\n    def f(self): return x\nA().f()",
    "class A:\n    x = [1]\n    y = [x for i in x]",
    "[i for i in x]",
    "[x for i in [1]]",
    "[i for i in [1] if x]",
    "{i: x for i in [1]}",
    "next(x for i in [1])",
    "[x for x in x]",
    "(lambda: x)()",
    "f'{x!r:>{3}}'",
    "def f():\n    def g():\n        return x\n    return g()\nf()",
    "def f():\n    class B:\n        z = x\nf()",
    "def f():\n    global x\n    return x\nf()",
    "x.y = 1",
    "x[0] = 1",
    "x()",
    "print(1, *x)",
    "match 1:\n    case x.y: pass",
    "match 1:\n    case x(): pass",
    "with x: pass",
    "for i in x: pass",
    "try:\n    1 / 0\nexcept x: pass",
    "try:\n    x\nfinally: pass",
    "def f(): return [x for y in [1] for z in [2]]\nf()",
    "if (y := x): pass",
    "async def f(): return x\nimport asyncio\nasyncio.run(f())",
    "é = 1; x",
    "raise x",
    "assert x",
    "x += 1" if False else "y = 0\ny += x",
]
"""Each reads the global x and nothing in it binds x."""

BINDS_X = [
    "x = 1\nx",
    "def f(): return x\nx = 1\nf()",
    "import os as x\nx",
    "from os import path as x\nx",
    "import x.y" if False else "import os.path\nos",
    "def x(): pass\nx",
    "class x: pass\nx",
    "for x in [1]: pass\nx",
    "with open('/dev/null') as x: pass\nx",
    "(x := 1)\nx",
    "[x := i for i in [1]]\nx",
    "[x for x in [1]]",
    "{x for x in [1]}",
    "lambda x: x",
    "def f(x): return x",
    "def f(*x, **y): return x, y",
    "def f():\n    x = 1\n    return (lambda: x)()",
    "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n    g()\n    return x\nf()",
    "def f():\n    global x\n    x = 1\nf()\nx",
    "class A:\n    x = 1\n    y = x",
    "class A:\n    global x\n    x = 1\nx",
    "try:\n    1 / 0\nexcept Exception as x:\n    x",
    "match [1]:\n    case [x]: x",
    "match {'a': 1}:\n    case {'a': 1, **x}: x",
    "match [1, 2]:\n    case [1, *x]: x",
    "match 1:\n    case int() as x: x",
    "x: int = 1\nx",
    "x = y = 1\nx",
    "[x, *y] = 1, 2\nx",
    "from __future__ import annotations\ndef f(a: x) -> x: pass\ny: x = 1",
    "def f():\n    y: x = 1\nf()",
    "def f():\n    return 1\n    x\nf()",
    "if 0:\n    x",
    "try:\n    x\nexcept NameError:\n    pass",
    "try:\n    x\nexcept (ImportError, NameError):\n    pass",
    "from os.path import *\njoin",
    "exec('x = 1')\nx",
    "globals()['x'] = 1\nx",
    "vars()['x'] = 1\nx",
    "'x'",
    "y = dict(x=1)",
    "import types\ny = types.SimpleNamespace(x=1)\ny.x",
    "def f():\n    return __name__, __debug__\nf()",
]
"""None of these needs a global x that it does not bind itself."""


def missing_name(text: str) -> str | None:
    """The global whose lack ends the program, by running it."""
    try:
        exec(compile(text, "cell", "exec", dont_inherit=True), {"__name__": "cell"})  # noqa: S102
    except NameError as error:
        return error.name
    except Exception:
        return None
    return None


def refused_name(text: str, names: object) -> str | None:
    try:
        check_operator_source(code(text + "\n" + GOOD), notebook_names=names)  # type: ignore[arg-type]
    except SourceError as error:
        return error.message.split("'")[1]
    return None


@pytest.mark.parametrize("text", READS_X)
def test_a_name_that_only_the_notebook_has_is_refused(text: str) -> None:
    assert missing_name(text) == "x"
    assert refused_name(text, {"x"}) == "x"


@pytest.mark.parametrize("text", BINDS_X)
def test_a_name_that_the_body_has_itself_is_not(text: str) -> None:
    assert missing_name(text) is None
    assert refused_name(text, {"x", "y", "__name__", "__debug__"}) is None


def test_a_name_that_nobody_has_is_left_to_run_time() -> None:
    assert refused_name("x", {"y"}) is None


def test_builtins_are_everywhere_but_ipythons_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_name("print(len([]), __file__)", {"print", "len", "__file__"}) is None
    monkeypatch.setattr(builtins, "display", print, raising=False)
    assert refused_name("display(1)", {"display"}) == "display"


def test_the_first_use_is_pointed_at() -> None:
    text = "class Operator:\n    def on_event(self, dora_event, send_output):\n"
    text += "        ü = 'é', [cfg], SIZE\n        return cfg\n"
    assert refusal(text, {"SIZE", "cfg", "unused"}) == (
        "Cell In[5], line 4\n"
        "    ü = 'é', [cfg], SIZE\n"
        "              ^\n"
        "SourceError: 'cfg', 'SIZE' are defined in the notebook but not in this cell, and an operator "
        "runs in an interpreter of its own. Put them into the cell, or into a module beside the "
        "notebook (%%writefile helpers.py)."
    )


def test_a_missing_import_is_spelt_out() -> None:
    np, os_path = types.ModuleType("numpy"), types.ModuleType("posixpath")
    names = {"np": np, "posixpath": os_path, "SIZE": 3}
    assert refusal("np.zeros(posixpath)" + GOOD, names).endswith(
        "Put `import numpy as np; import posixpath` into the cell."
    )
    assert refusal("np.zeros(SIZE)" + GOOD, names).endswith("(%%writefile helpers.py).")


def test_in_a_file_the_way_out_is_the_file() -> None:
    with pytest.raises(SourceError) as caught:
        check_operator_source(code("print(x)\n" + GOOD, path="camera.py"), notebook_names={"x"})
    assert "not in this file" in str(caught.value)
    assert str(caught.value).endswith("Put it into the file.")


NAMES = st.sampled_from(["a", "b", "c"])
STATEMENTS = st.recursive(
    st.one_of(
        st.builds("{} = 1".format, NAMES),
        st.builds("{}".format, NAMES),
        st.builds("print({}, end='')".format, NAMES),
        st.builds("({} := 2)".format, NAMES),
        st.builds("[{1} for {0} in [1]]".format, NAMES, NAMES),
        st.builds("import os as {}".format, NAMES),
        st.builds("{}: int = {}".format, NAMES, NAMES),
    ),
    lambda inner: st.one_of(
        st.builds(
            _block := lambda head, body: head + "\n" + _indented(body), st.just("if True:"), inner
        ),
        st.builds(_block, st.builds("def {}({}=0):".format, st.just("f"), NAMES), inner).map(
            lambda text: text + "\nf()"
        ),
        st.builds(_block, st.just("class K:"), inner),
        st.builds(_block, st.builds("for {} in [1]:".format, NAMES), inner),
        st.builds("{}\n{}".format, inner, inner),
    ),
    max_leaves=6,
)


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


@given(text=STATEMENTS)
def test_nothing_is_refused_that_would_run(text: str) -> None:
    """Whatever is refused for a name fails with a NameError when it runs without the notebook."""
    try:
        compile(text, "cell", "exec", dont_inherit=True)
    except SyntaxError:  # `global` rules and walrus targets: not what is asked here
        return
    refused = refused_name(text, {"a", "b", "c"})
    if refused is not None:
        with pytest.raises(NameError):
            exec(compile(text, "cell", "exec", dont_inherit=True), {})  # noqa: S102


@given(text=st.text(max_size=60))
def test_any_text_at_all_gets_an_answer(text: str) -> None:
    with pytest.raises(SourceError):
        check_operator_source(code(text + "\nx = = 1"))
