"""dora's own `Node` in a notebook's kernel: its errors in one line, with the way out.

The kernel is not a node of a dataflow. As in any other Python process, ``dora.Node("NAME")`` may join a
dataflow of dora-rs there, and then everything is dora's. Where it cannot, its error is a page of Rust.
"""

from __future__ import annotations

import sys
from typing import Any

from . import _patches, dora_api, node
from .one_line import shown_in_one_line

HINT = f"dora.Node is for a process of its own. {node.IN_A_NOTEBOOK}."
"""What to say where a cell has only imported it."""
_OUTSIDE_ERRORS = ("Could not initiate node from", "Could not setup node from node id")


class _NodeType(type):
    """The type of what stands in for dora's class, and looks like it."""

    real: Any

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)


class RealNode:
    """Explains the errors of `dora.Node` between `explain` and `end`."""

    def __init__(self) -> None:
        self.has_joined = False
        """Whether a `Node` was made in this process: then the user knows what it is for."""
        self._hook = _patches.AfterImport({})
        self._changed: list[tuple[Any, Any]] = []
        """Modules, each with its own `Node`."""

    def explain(self) -> None:
        """Explains from now on, also where `dora` was imported before."""
        self.end()
        self._hook = _patches.AfterImport({"dora": self._explain_in})
        sys.meta_path.insert(0, self._hook)
        if "dora" in sys.modules:
            self._explain_in(sys.modules["dora"])

    def end(self) -> None:
        """Gives `dora` its own `Node` back."""
        if self._hook in sys.meta_path:
            sys.meta_path.remove(self._hook)
        for module, real in self._changed:
            module.Node = real
        self._changed.clear()

    def _explain_in(self, module: Any) -> None:
        real = getattr(module, "Node", None)
        if real is None or module.__file__ == dora_api.__file__:
            return

        def make(cls: type, *args: Any, **kwargs: Any) -> Any:
            del cls
            try:
                made = real(*args, **kwargs)
            except RuntimeError as error:
                text = str(error)
                if not text.startswith(_OUTSIDE_ERRORS):
                    raise
                raise shown_in_one_line(RuntimeError(_explained(text, args, kwargs))) from None
            self.has_joined = True
            return made

        members = {"__new__": make, "__doc__": real.__doc__, "__module__": "dora"}
        module.Node = _NodeType("Node", (), members)
        module.Node.real = real
        self._changed.append((module, real))


def is_node(value: object) -> bool:
    """Returns whether that is the class `Node` of `dora`: dora's own, or the one that is served in its place."""
    served = sys.modules.get("dora")
    if getattr(served, "__file__", None) == dora_api.__file__:
        return value is getattr(served, "Node", None)
    return isinstance(value, _NodeType)


def _explained(text: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    name = kwargs.get("node_id", args[0] if args else None)
    if name is None:
        return node.OUTSIDE
    why = "no running dataflow of dora-rs has a dynamic node of that name"
    if "Could not connect to the daemon" in text:
        why = "no daemon of dora-rs answers on this machine"
    return f"dora.Node('{name}') cannot join: {why}. {node.IN_A_NOTEBOOK}"


REAL_NODE = RealNode()
