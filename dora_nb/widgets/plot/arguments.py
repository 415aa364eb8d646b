"""Checks the arguments of `PlotView`, before anything is subscribed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dora_nb.errors import DeclarationError

MAX_TOPICS = 16
MAX_PANES = 8
MIN_SECONDS = 0.1
MAX_SECONDS = 86_400.0


def check_panes(topics: Sequence[object], panes: object) -> list[list[str]]:
    """Returns the topics of each pane. Raises DeclarationError for what cannot be laid out.

    Example::

        >>> check_panes(["imu/accel", "arm/angle"], "each")
        [['imu/accel'], ['arm/angle']]
    """
    for topic in topics:
        _check_topic(topic)
    named = [topic for topic in topics if isinstance(topic, str)]
    if panes is None:
        laid_out = [named]
    elif panes == "each":
        laid_out = [[topic] for topic in named]
    else:
        laid_out = _listed(panes, named)
    in_panes = [topic for pane in laid_out for topic in pane]
    if not in_panes:
        raise DeclarationError(
            "PlotView needs at least one topic;", hint="pass one, such as PlotView('imu/accel')."
        )
    for topic in in_panes:
        if in_panes.count(topic) > 1:
            raise DeclarationError(f"'{topic}' is named twice.")
    if len(in_panes) > MAX_TOPICS:
        raise DeclarationError(
            f"a plot shows at most {MAX_TOPICS} topics, got {len(in_panes)};",
            hint="make several plots.",
        )
    if len(laid_out) > MAX_PANES:
        raise DeclarationError(
            f"a plot has at most {MAX_PANES} panes, got {len(laid_out)};",
            hint="put several topics into one.",
        )
    return laid_out


def _check_topic(topic: object) -> None:
    if isinstance(topic, list | tuple):
        raise DeclarationError(
            f"a topic must be a text such as 'imu/accel', got {topic!r};",
            hint="pass topics one by one: PlotView('imu/accel', 'arm/angle').",
        )
    if not isinstance(topic, str):
        raise DeclarationError(f"a topic must be a text such as 'imu/accel', got {topic!r}.")


def _listed(panes: object, named: list[str]) -> list[list[str]]:
    if (
        not isinstance(panes, list | tuple)
        or not panes
        or not all(isinstance(pane, list | tuple) and pane for pane in panes)
    ):
        raise DeclarationError(
            f"panes must be 'each' or lists of topics, got {panes!r};",
            hint="for example panes=[['imu/accel'], ['imu/gyro', 'arm/angle']].",
        )
    laid_out = [list(pane) for pane in panes]
    for topic in (topic for pane in laid_out for topic in pane):
        _check_topic(topic)
        if named and topic not in named:
            raise DeclarationError(
                f"'{topic}' is in panes, but not among the topics;",
                hint="name it there too, or pass only panes.",
            )
    for topic in named:
        if not any(topic in pane for pane in laid_out):
            raise DeclarationError(f"'{topic}' is in none of the panes;", hint="add it to one.")
    return laid_out


def check_seconds(seconds: object) -> float:
    """Returns how many seconds the plot shows. Raises DeclarationError for what is not a length of time."""
    if not _is_number(seconds) or not MIN_SECONDS <= seconds <= MAX_SECONDS:  # type: ignore[operator]
        raise DeclarationError(
            f"seconds must be between {MIN_SECONDS:g} and {MAX_SECONDS:,.0f}, got {seconds!r}."
        )
    return float(seconds)  # type: ignore[arg-type]


def check_y(y: object) -> tuple[float, float] | None:
    """Returns the fixed range of the vertical axis; None for an automatic one. Raises DeclarationError."""
    if y is None:
        return None
    if isinstance(y, list | tuple) and len(y) == 2 and all(map(_is_number, y)) and y[0] < y[1]:
        return float(y[0]), float(y[1])
    raise DeclarationError(
        f"y must be None or (lowest, highest), got {y!r};", hint="for example y=(-1, 1)."
    )


def _is_number(value: object) -> bool:
    # Beyond 1e308 an int has no float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e308 and math.isfinite(value)
