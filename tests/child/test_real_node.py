"""dora's own `Node` in a kernel, with a stand-in for dora-rs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from dora_nb.child.real_node import RealNode, is_node


class Node:
    """Joins nothing, and fails as asked."""

    def __init__(self, node_id: str | None = None, daemon_port: int | None = None) -> None:
        if node_id in ("joins", None):
            return
        raise RuntimeError(
            f"Could not setup node from node id. {node_id}\n\nStack backtrace:"
            if daemon_port is None
            else "Could not clean up\nStack"
        )

    def next(self) -> str:
        return "an event"


@pytest.fixture
def dora(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("dora")
    module.__file__ = "/site-packages/dora/__init__.py"
    module.Node = Node  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dora", module)
    return module


@pytest.fixture
def real(dora: ModuleType) -> Iterator[RealNode]:
    real = RealNode()
    real.explain()
    yield real
    real.end()


def test_a_node_that_joins_is_doras_own(real: RealNode, dora: ModuleType) -> None:
    assert is_node(dora.Node)
    assert not is_node(Node)
    assert not real.has_joined
    made = dora.Node("joins")
    assert type(made) is Node
    assert isinstance(made, dora.Node)
    assert dora.Node.next(made) == "an event"
    assert (dora.Node.__name__, dora.Node.__doc__) == ("Node", Node.__doc__)
    assert real.has_joined


def test_only_errors_about_joining_are_explained(real: RealNode, dora: ModuleType) -> None:
    with pytest.raises(
        RuntimeError, match=r"no running dataflow of dora-rs has a dynamic node of that"
    ):
        dora.Node("x")
    with pytest.raises(RuntimeError, match=r"no daemon of dora-rs answers"):
        dora.Node(node_id="Could not connect to the daemon")
    with pytest.raises(RuntimeError, match=r"^Could not clean up"):
        dora.Node("x", 1)


def test_in_the_end_dora_has_its_own_class(real: RealNode, dora: ModuleType) -> None:
    real.explain()
    real.end()
    assert dora.Node is Node
    real.explain()
    assert dora.Node is not Node
