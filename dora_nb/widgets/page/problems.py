"""What went wrong with widgets, kept for the next cell to print: a thread must not print."""

from __future__ import annotations

import threading

MAX_PROBLEMS = 20
"""More are left out until a cell has printed these: a widget that fails may do so 30 times a second."""


class Problems:
    """Texts, each kept once, until they are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: list[str] = []

    def note(self, text: str) -> None:
        """Keeps a text. Any thread; returns at once."""
        with self._lock:
            if text not in self._texts and len(self._texts) < MAX_PROBLEMS:
                self._texts.append(text)

    def take(self) -> list[str]:
        """Returns the texts since the last call."""
        with self._lock:
            texts, self._texts = self._texts, []
        return texts


PROBLEMS = Problems()
"""Of all widgets; the magics print them."""
