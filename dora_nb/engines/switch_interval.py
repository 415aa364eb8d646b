"""Python's switch interval, lent to threads that must get their turn while a cell computes.

A cell that computes gives the interpreter up after that interval, by default 5 ms. A thread of the kernel asks
for it several times for each message that it handles. The interval is the user's, and is restored.
"""

from __future__ import annotations

import sys
import threading

SWITCH_SECS = 5e-4


class _SwitchInterval:
    def __init__(self) -> None:
        # Reentrant: a control that the garbage collector ends meanwhile, on this thread, gives back its share.
        self._lock = threading.RLock()
        self._borrowers = 0
        self._own_secs: float | None = None
        """The user's interval while it is shortened."""

    def shorten(self) -> None:
        """Call when one more thread, or one more control of a page, needs short turns. Any thread."""
        with self._lock:
            self._borrowers += 1
            if self._borrowers > 0 and self._own_secs is None:
                self._own_secs = sys.getswitchinterval()
                sys.setswitchinterval(min(self._own_secs, SWITCH_SECS))

    def restore(self) -> None:
        """Call when one less does; the last one gives the user's interval back. Any thread."""
        with self._lock:
            self._borrowers -= 1
            if self._borrowers or self._own_secs is None:
                return
            own_secs, self._own_secs = self._own_secs, None
            # Only if it is still ours: the user's code may have set it since.
            if abs(sys.getswitchinterval() - SWITCH_SECS) < 1e-6:
                sys.setswitchinterval(own_secs)


SWITCH_INTERVAL = _SwitchInterval()
"""That of this interpreter."""
