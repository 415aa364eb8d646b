"""Timers: what ``dora/timer/...`` means, and when the next tick is due. Pure: nobody here looks at a clock.

The grammar is dora's (``libraries/message/src/config.rs``): a unit and a positive number; only hertz
may have a fraction. The first tick comes at once; a tick that was missed is not made up for but
counted (``binaries/daemon/src/running_dataflow.rs``, tokio's `MissedTickBehavior::Skip`).
"""

from __future__ import annotations

import math
import re

_SECS_PER_UNIT = {"secs": 1.0, "millis": 1e-3, "micros": 1e-6, "nanos": 1e-9}
_NANOS_PER_UNIT = {"secs": 10**9, "millis": 10**6, "micros": 10**3, "nanos": 1}
UNITS = (*_SECS_PER_UNIT, "hz")


def parse_interval_secs(unit: str, number: str) -> float:
    """The seconds between two ticks of ``dora/timer/{unit}/{number}``.

    Raises ValueError with a sentence that names what is wrong.
    """
    if unit not in UNITS:
        raise ValueError(f"'{unit}' is no unit of a timer; there are {', '.join(UNITS)}")
    try:
        value = float(number) if unit == "hz" else float(int(number))
    except ValueError:
        kind = "a number" if unit == "hz" else "a whole number"
        instead = _in_smaller_unit(unit, number)
        raise ValueError(f"a timer in {unit} takes {kind}, not '{number}'{instead}") from None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"a timer in {unit} takes a number above zero, not '{number}'")
    return 1.0 / value if unit == "hz" else value * _SECS_PER_UNIT[unit]


def _in_smaller_unit(unit: str, number: str) -> str:
    """``: that is millis/500`` for the fraction of a unit, if another has it whole."""
    # Not every number: an exponent could ask for more digits than there is memory.
    if unit == "hz" or not re.fullmatch(r"[0-9]{0,15}\.[0-9]{1,15}", number):
        return ""
    from fractions import Fraction  # Here, since an operator is told intervals and parses none.

    nanos = Fraction(number) * _NANOS_PER_UNIT[unit]
    for smaller, per_unit in _NANOS_PER_UNIT.items():
        if nanos > 0 and nanos % per_unit == 0:
            return f": that is {smaller}/{nanos // per_unit}"
    return ""


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
