"""The process that publishes the controls, as a node of the session: a script of our own.

It reads the kernel's words, an input for each control, and has an output for each. Inputs that read
``notebook/NAME`` of a control are wired to it instead of to the kernel (`_wiring`). It is not declared by the
user: neither the status nor an export shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.graph.sources import CONTROLS

from ..control_words import word_inputs

_SCRIPT = Path(__file__).parents[1] / "controls_script.py"
_NO_MODULES = "/proc"
"""A folder that cannot contain a dora.py."""
_RESTARTS = {"restart_policy": "on-failure", "restart_delay": 0.05, "max_restart_delay": 2.0}


def controls_node(names: Iterable[str]) -> NodeSpec:
    """Returns the node that publishes these controls."""
    names = tuple(names)
    return NodeSpec(
        name=CONTROLS,
        code=SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name),
        inputs=word_inputs(names),
        outputs=names,
        kind="script",
        working_dir=_NO_MODULES,
        # Without it nothing would send neutral. A new process gets every newest word at its start.
        other_keys=_RESTARTS,
    )
