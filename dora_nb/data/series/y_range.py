"""The range of a plot's vertical axis, from what is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from .reduction import MAXIMUM, MINIMUM, Columns

_PADDING = 0.05
_SMALLEST = 1e-300
"""Smaller values are drawn as zero."""
_LARGEST = sys.float_info.max


def y_range(shown: Iterable[Columns]) -> tuple[float, float] | None:
    """Returns the lowest and the highest value of the axis, with some room around what is shown.

    A constant c gets c - |c| / 10 to c + |c| / 10, and zero gets -1 to 1. Returns None if nothing is shown.

    Example::

        >>> y_range([series.live()])
        (-0.4, 10.3)
    """
    lows, highs = [], []
    for columns in shown:
        # Only finite values get into columns, and NaN stands for none.
        if not np.isnan(columns.values[MINIMUM]).all():
            lows.append(float(np.nanmin(columns.values[MINIMUM])))
            highs.append(float(np.nanmax(columns.values[MAXIMUM])))
    return padded(min(lows), max(highs)) if lows else None


def padded(low: float, high: float) -> tuple[float, float]:
    """Returns a range with some room around both values, of which `low` is not above `high`."""
    # Divided first: the difference of two large values is infinite.
    half = high / 2 - low / 2
    size = max(abs(low), abs(high))
    # Values that differ by rounding alone are drawn as the constant that they are meant to be.
    if half <= size * 1e-12 or size < _SMALLEST:
        room = size / 10 if size >= _SMALLEST else 1.0
    else:
        room = half * (2 * _PADDING)
    return max(low - room, -_LARGEST), min(high + room, _LARGEST)
