"""When a message is drawn: the time at which it was sent, on an axis that never goes back.

A view shows several topics up to "now", so a topic whose clock is wrong must not vanish from it, and a
recording that starts again must not draw over what it drew before. The axis is therefore the receiver's
clock, and a stamp is used as it is only if it fits:

===============================================  =====================================================
the stamp                                        drawn at
===============================================  =====================================================
is missing                                       the time of receipt
lies in the `window_secs` before the receipt     the stamp
is ahead of the receipt by over `AHEAD_SECS`,    the time of receipt; stamps that follow keep their
or older than the window, or goes back by        distance to this one, so the shape is true; the line
more than `REORDER_SECS`                         has a gap there, and the jump is counted
goes back by less                                the time of the point before it
===============================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dora_nb.events import stamp_micros

AHEAD_SECS = 1.0
REORDER_SECS = 0.05
"""Senders on one machine may overtake each other by less than that."""


def stamp_secs(metadata: Mapping[str, Any]) -> float | None:
    """Returns a message's ``timestamp`` in seconds since 1970; None without a usable one."""
    micros = stamp_micros(metadata)
    return None if micros is None else micros / 1e6


class Placed(NamedTuple):
    """Where a message stands on the axis."""

    secs: float
    """Since 1970, by the receiver's clock; never less than before."""
    jumped: bool
    """Whether the sender's clock jumped, so that the line must not be joined to the point before."""


class StampAxis:
    """Places the messages of one topic.

    `window_secs` is how much a view shows. Messages must be placed in the order in which they came.

    Example::

        >>> axis = StampAxis(window_secs=30)
        >>> axis.place(1000.0, received_secs=1000.01).secs
        1000.0
        >>> axis.place(7.0, received_secs=1000.02)  # a recording that starts again
        Placed(secs=1000.02, jumped=True)
        >>> axis.place(7.5, received_secs=1000.53).secs  # half a second later
        1000.52
    """

    def __init__(self, *, window_secs: float) -> None:
        self.jumps = 0
        self._window_secs = window_secs
        self._offset_secs = 0.0
        """What is added to a stamp."""
        self._newest_secs: float | None = None

    def place(self, stamp: float | None, *, received_secs: float) -> Placed:
        """Returns when a message is drawn.

        Both times are in seconds since 1970. `received_secs` should come from a clock that is not set back;
        if it is, time stands still until the clock has caught up.
        """
        newest_secs = self._newest_secs
        jumped = False
        if stamp is None:
            secs = received_secs
        else:
            secs = stamp + self._offset_secs
            if self._offset_secs and self._fits(stamp, received_secs, at_least=newest_secs):
                # The clock is right again, or the kernel was only busy for longer than the window.
                self._offset_secs, secs = 0.0, stamp
            reordered_secs = None if newest_secs is None else newest_secs - REORDER_SECS
            if not self._fits(secs, received_secs, at_least=reordered_secs):
                jumped = newest_secs is not None
                self._offset_secs, secs = received_secs - stamp, received_secs
        if newest_secs is not None and secs < newest_secs:
            secs = newest_secs
        self.jumps += jumped
        self._newest_secs = secs
        return Placed(secs, jumped)

    def _fits(self, secs: float, received_secs: float, *, at_least: float | None) -> bool:
        in_window = received_secs - self._window_secs <= secs <= received_secs + AHEAD_SECS
        return in_window and (at_least is None or secs >= at_least)
