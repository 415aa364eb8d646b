"""`dora_nb.Node`: a dynamic node in a Python process that the user starts."""

from __future__ import annotations

import atexit
import weakref
from typing import Self

from .child import joined, node


class Node(node.Node):
    """Joins the dataflow of a notebook as a node that is declared there as dynamic.

    Works in a Python process of the same user on the same machine. Blocks until messages move; then it has
    all the methods of dora's `Node`. The node leaves with `close`, at the end of a ``with``, when the object
    is dropped, or with its process; then another process may join. When the kernel ends, the stream of
    events ends, and the process goes on.

    `kernel_process_id` chooses one of several kernels that declare a node of that name. Raises RuntimeError,
    with the candidates, where no kernel or more than one declares it, or where another process has joined.

    Example::

        >>> with dora_nb.Node("plotter") as node:
        ...     for event in node:
        ...         print(event["type"], event["id"])
    """

    def __init__(self, node_id: str, *, kernel_process_id: int | None = None) -> None:
        host = joined.join(node_id, kernel_process_id=kernel_process_id)
        self._host = host
        self._leave = weakref.finalize(self, host.leave)
        self._leave.atexit = False
        # Runs before the interpreter joins non-daemon threads and clears the modules.
        atexit.register(self._leave)
        host.join()

    def close(self) -> None:
        """Leaves the dataflow; its readers get INPUT_CLOSED. May be called twice.

        Example::

            >>> node.close()
        """
        atexit.unregister(self._leave)
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
