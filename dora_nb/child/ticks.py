"""When the next tick of a timer is due. Pure: the caller reads the clock.

The first tick comes at once. Ticks that were missed are skipped and counted, as in dora
(``binaries/daemon/src/running_dataflow.rs``, tokio's `MissedTickBehavior::Skip`).
"""

from __future__ import annotations


class Ticks:
    """The ticks of one timer, on whatever clock the caller reads (monotonic seconds)."""

    def __init__(self, interval_secs: float, *, start_secs: float) -> None:
        self.interval_secs = interval_secs
        self.due_secs = start_secs
        self.missed = 0

    def take(self, now_secs: float) -> bool:
        """Whether a tick is due; if so it is taken, and those that passed unseen are counted."""
        late_secs = now_secs - self.due_secs
        if late_secs < 0:
            return False
        skipped = int(late_secs / self.interval_secs)
        self.missed += skipped
        self.due_secs += (skipped + 1) * self.interval_secs
        return True
