"""One line where a cell imports dora's `Node` into the kernel, which is not a node of a dataflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell


class NodeHint:
    """Called after each cell. Says it once, and not below an error, which says it too."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._was_said = False

    def __call__(self, result: ExecutionResult) -> None:
        if self._was_said or "dora" not in sys.modules:
            return
        from dora_nb.child import real_node

        names = self._shell.user_ns.values()
        if not any(isinstance(value, type) and real_node.is_node(value) for value in list(names)):
            return
        self._was_said = True
        if result.success and not real_node.REAL_NODE.has_joined:
            sys.stdout.flush()
            sys.stderr.write(f"{real_node.HINT}\n")
