"""What users hold on to: the names of the package, and how they are called."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dora_nb

NAMES = [
    "CameraView",
    "Dataflow",
    "DoraNbError",
    "Node",
    "Subscription",
    "__version__",
    "as_boxes",
    "as_image",
    "as_pandas",
    "as_torch",
    "get_dataflow",
]

SIGNATURES = {
    "CameraView": "topic, boxes=None, *, labels=None, dataflow=None, size=None, encoding=None,"
    " sync=False, max_fps=30",
    "Dataflow.start": "self, engine='embedded', *, progress=None",
    "Dataflow.attach": "self, name=None, *, coordinator='127.0.0.1:6013', daemon_port=53291",
    "Dataflow.detach": "self",
    "Dataflow.send": "self, topic, data, metadata=None",
    "Node": "node_id, *, kernel_process_id=None",
    "Dataflow.stop": "self, *, grace_secs=2.0",
    "Dataflow.retry": "self, name, *, progress=None",
    "Dataflow.debug": "self, name, *, next_event=False, timeout_secs=10.0",
    "Dataflow.replay": "self, events, *, topic=None, speed=1.0",
    "as_torch": "event",
    "as_pandas": "event",
    "Dataflow.restart": "self, name, *, generation=None, progress=None",
    "Dataflow.remove": "self, name",
    "Dataflow.status": "self, name=None",
    "Dataflow.logs": "self, name=None",
    "Dataflow.draw": "self",
    "Dataflow.params": "self, name",
    "Dataflow.on_change": "self, callback",
    "Dataflow.wait": "self, timeout_secs=None",
    "Dataflow.latest": "self, topic, timeout_secs=10.0",
    "Dataflow.take": "self, topic, count, timeout_secs=10.0",
    "Dataflow.subscribe": "self, topic, callback=None, *, queue_size=None, replay_last=False",
    "get_dataflow": "",
}
"""Names, order, defaults; a promise. What comes after the last of them may grow by keywords."""


def _called(path: str) -> Callable[..., Any]:
    found: Any = dora_nb
    for name in path.split("."):
        found = getattr(found, name)
    called: Callable[..., Any] = found
    return called


def _parameters(called: Callable[..., Any]) -> str:
    """The signature without annotations, as it is written in a call's documentation."""
    signature = inspect.signature(called)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return text.removeprefix("(").removesuffix(")")


def test_the_public_names_are_these_and_no_others() -> None:
    assert dora_nb.__all__ == NAMES
    assert set(NAMES) <= set(dir(dora_nb))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(dora_nb, name)
    if name != "__version__":
        assert found.__name__ == name
        assert inspect.getdoc(found)


@pytest.mark.parametrize("path", SIGNATURES)
def test_calls_keep_their_parameters(path: str) -> None:
    assert _parameters(_called(path)) == SIGNATURES[path]


def test_a_dataflow_and_a_subscription_are_context_managers() -> None:
    for cls in (dora_nb.Dataflow, dora_nb.Subscription):
        assert callable(getattr(cls, "__enter__", None))
        assert callable(getattr(cls, "__exit__", None))
    assert callable(getattr(dora_nb.Subscription, "__iter__", None))


def test_every_public_method_is_documented() -> None:
    undocumented = [
        f"{cls.__name__}.{name}"
        for cls in (dora_nb.CameraView, dora_nb.Dataflow, dora_nb.Subscription)
        for name, member in vars(cls).items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
        if not inspect.getdoc(member)
    ]
    assert undocumented == []


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    """`__getattr__` loads the names late; the imports for type checkers must not drift from it."""
    tree = ast.parse(Path(dora_nb.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: f".{statement.module}"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.level == 1
        for alias in statement.names
    }
    assert seen == dora_nb._HOMES
    assert {*seen, "__version__"} == set(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dora_nb' has no attribute 'CamraView'"):
        dora_nb.CamraView  # noqa: B018


def test_the_version_is_one_that_packaging_tools_order() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+|\.dev\d+)?", dora_nb.__version__)
