"""`dora_nb.Node`: a dynamic node in a Python process of the user's own."""

from __future__ import annotations

import atexit
import weakref
from types import TracebackType
from typing import Self

from .child import joined, node


class Node(node.Node):
    """Joins the dataflow of a notebook as a node that is declared there as dynamic.

    From a Python process of the same user on the same machine: ``dora_nb.Node("plotter")``. It returns
    when messages move. Then it is dora's `Node`, which it has all the methods of. The node leaves with
    `close`, at the end of a ``with``, when the object is dropped, or with its process; another may join
    after it. When the kernel is gone its stream has ended, and the process goes on.

    `kernel_process_id` chooses where several kernels declare a node of that name. RuntimeError, with the
    candidates, where there is none, more than one, or somebody has joined already.
    """

    def __init__(self, node_id: str, *, kernel_process_id: int | None = None) -> None:
        host = joined.join(node_id, kernel_process_id=kernel_process_id)
        self._host = host
        self._leave = weakref.finalize(self, host.leave)
        self._leave.atexit = False
        # Before threads that are no daemons are waited for, and before modules go.
        atexit.register(self._leave)
        host.join()

    def close(self) -> None:
        """Leaves the dataflow."""
        atexit.unregister(self._leave)
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
