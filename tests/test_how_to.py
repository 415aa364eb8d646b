"""Texts name an act in the words of the front end: a magic where magics are loaded, otherwise Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import dora_nb
from dora_nb.how_to import Act, how_to

PACKAGE = Path(dora_nb.__file__).parent
DETAILS = {
    "name": "arm",
    "generation": 2,
    "input": "image",
    "size": 1,
    "topic": "notebook/x",
    "to": "notebook/y",
    "secs": 30.0,
}

SPEAK_OF_MAGICS = (
    "magics",
    "cells",  # what may stand in a line of a magic
    "descriptor",  # notebooks as files
    "how_to.py",
    "dataflow/front_end.py",  # what only magics call
    "widgets/status_view.py",  # the output of one
)
WITH_BOTH_WORDS = {
    "child/joined.py": "%dora_node",  # says both: it runs in another process than the notebook
    "child/node.py": "%%dora_node",  # a `Node()` in a cell of IPython
    "dataflow/current_run.py": "%dora detach",  # only `%dora attach` leads there
}
MAGIC = re.compile(r"%?%dora\w*( \w+)?")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    yield shell
    InteractiveShell.clear_instance()


def test_an_act_is_named_in_python_until_the_magics_are_loaded(shell: InteractiveShell) -> None:
    assert how_to("start") == "dataflow.start()"
    shell.run_line_magic("load_ext", "dora_nb")
    assert how_to("start") == "%dora start"
    assert how_to("limit a queue", input="image", size=1) == "--queue image=1"
    shell.run_line_magic("unload_ext", "dora_nb")
    assert how_to("restart", name="arm") == "dataflow.restart('arm')"


@pytest.mark.parametrize("act", get_args(Act))
def test_every_act_has_words_that_can_be_typed(act: Act) -> None:
    words = how_to(act, **DETAILS)
    assert "%" not in words
    if words.startswith("dataflow."):
        call = ast.parse(words, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Attribute)
        method = getattr(dora_nb.Dataflow, call.func.attr)
        known = method.__code__.co_varnames[: method.__code__.co_argcount + 8]
        assert {each.arg for each in call.keywords} <= set(known)


def test_no_other_text_names_a_magic() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}:{line}": magic
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(SPEAK_OF_MAGICS)
        for line, magic in _magics_in_texts(path)
        if WITH_BOTH_WORDS.get(str(path.relative_to(PACKAGE))) != magic
    }
    assert found == {}


def _magics_in_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Those in strings that are not documentation."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            for found in MAGIC.finditer(node.value):
                whole = found[0]
                yield (
                    node.lineno,
                    whole if whole.count(" ") and "dora " in whole else whole.split()[0],
                )
