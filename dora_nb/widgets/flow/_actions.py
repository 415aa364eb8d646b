"""Restarts and stops nodes for a page, each on a thread of its own: both block until processes have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from dora_nb.errors import DoraNbError

from ..page.problems import PROBLEMS

Action = Literal["restart", "stop"]
ACTIONS: tuple[Action, ...] = ("restart", "stop")


class NodeActions:
    """At most one action for each node at a time; the text of each says how far it is."""

    def __init__(self, dataflow: Any, on_change: Callable[[], None]) -> None:
        # Not the widget: a thread that waits for a process must not keep it alive.
        self._dataflow = dataflow
        self._on_change = on_change
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._texts: dict[str, tuple[str, bool]] = {}

    @property
    def possible(self) -> bool:
        """Whether the dataflow can be steered: one that is only watched cannot."""
        return all(callable(getattr(self._dataflow, each, None)) for each in ACTIONS)

    def begin(self, action: Action, node: str) -> None:
        """Starts the action, unless one of the node is under way. Returns at once."""
        with self._lock:
            if node in self._busy or not self.possible:
                return
            self._busy.add(node)
            self._texts[node] = ("restarting …" if action == "restart" else "stopping …", False)
        threading.Thread(
            target=self._run, args=(action, node), name=f"dora-flow-{action}", daemon=True
        ).start()

    def is_busy(self, node: str) -> bool:
        with self._lock:
            return node in self._busy

    def text(self, node: str) -> tuple[str, bool]:
        """Returns what became of the node's last action, and whether it failed."""
        with self._lock:
            return self._texts.get(node, ("", False))

    def _run(self, action: Action, node: str) -> None:
        try:
            text, failed = self._done(action, node), False
        except DoraNbError as error:
            text, failed = str(error), True
        except Exception as error:  # this thread must not print
            PROBLEMS.note(f"the graph could not {action} {node}: {error!r}")
            text, failed = f"could not {action} {node}: {error}", True
        with self._lock:
            self._busy.discard(node)
            self._texts[node] = (text, failed)
        self._on_change()

    def _done(self, action: Action, node: str) -> str:
        if action == "stop":
            stopped = self._dataflow.stop(node)
            return "was stopped already" if stopped.already_stopped else "stopped"

        def progress(text: str) -> None:
            with self._lock:
                self._texts[node] = (text, False)
            self._on_change()

        declared = self._dataflow.restart(node, progress=progress)
        return f"restarted: generation {declared.generation}"
