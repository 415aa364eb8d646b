"""The sources that an input can read: a topic, a timer, or the log of the nodes. Also checks names. Pure.

The grammar of timers is dora's (``libraries/message/src/config.rs``): a unit and a positive number; only
hertz may have a fraction.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dora_nb.errors import GraphError, did_you_mean

from .restarts import MAX_SECS

NOTEBOOK = "notebook"
"""The pseudo-node of the kernel: it reads all subscriptions, and its outputs are what the notebook sends."""
LOGS = "dora"
"""The pseudo-node whose outputs are what the nodes print and log."""
LOGS_TOPIC = f"{LOGS}/logs"
PARAMS_TOPIC = f"{LOGS}/params"
"""Changes of parameters, which only recordings read."""
WORDS = "the notebook's words"
"""The pseudo-node whose outputs are what the kernel tells `CONTROLS`."""
RESERVED_NAMES = (LOGS, NOTEBOOK, WORDS)
"""The pseudo-nodes that the kernel publishes as."""
CONTROLS = "the notebook's controls"
"""The node that publishes the controls (sliders, joysticks). No user's node can have a name with blanks."""
RECORDER = "the notebook's recorder"
"""The node that writes a recording."""
KEEPER = "the notebook's flight recorder"
"""The node that keeps the last seconds in its memory."""
PLAYER = "the notebook's player"
"""The node that publishes what it replays."""
SERVICES = {
    CONTROLS: "controls",
    RECORDER: "recorder",
    KEEPER: "flight recorder",
    PLAYER: "player",
}
"""The kit's own nodes, see `services`, and their names as the user sees them."""
LOG_LEVELS = ("error", "warn", "info", "debug", "trace", "stdout")
"""The most severe first. A source with a level gives that level and those before it, as dora does."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_PORT_NAME = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")

_SECS_PER_UNIT = {"secs": 1.0, "millis": 1e-3, "micros": 1e-6, "nanos": 1e-9}
_NANOS_PER_UNIT = {"secs": 10**9, "millis": 10**6, "micros": 10**3, "nanos": 1}
UNITS = (*_SECS_PER_UNIT, "hz")
_MAX_DIGITS = 300
"""More digits than that do not fit in a float."""


def check_name(name: str, *, what: str) -> str:
    """Returns the name. Raises GraphError for a name that dora refuses (``libraries/message/src/id.rs``)
    or that is reserved; `what` is what it names, with an article."""
    if not _NAME.fullmatch(name):
        raise GraphError(
            f"'{name}' cannot be the name of {what}:",
            hint="use letters, digits, '_', '-' and '.', but do not begin with '.'.",
        )
    if name in RESERVED_NAMES:
        raise GraphError(
            f"'{name}' is reserved and cannot be the name of {what};", hint="choose another."
        )
    return name


def check_port_name(name: str, *, what: str) -> str:
    """Returns the name of an input or an output. Raises GraphError for a name that dora refuses."""
    if _PORT_NAME.fullmatch(name):
        return name
    if not name.strip("/") or name.strip("/") != name or "//" in name:
        hint = "a name may have parts, as in left/image, but no part may be empty."
    elif any(char.isspace() for char in name):
        hint = "it has a blank; use letters, digits, '_', '-', '.' and '/'."
    else:
        hint = "use letters, digits, '_', '-', '.' and '/'."
    raise GraphError(f"'{name}' cannot be the name of {what}:", hint=hint)


@dataclass(frozen=True, slots=True)
class TopicSource:
    """An output of another node, ``node/output``."""

    node: str
    output: str

    def __str__(self) -> str:
        return f"{self.node}/{self.output}"


@dataclass(frozen=True, slots=True)
class TimerSource:
    """A timer in the reader's own loop, ``dora/timer/hz/30``."""

    interval_secs: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class LogSource(TopicSource):
    """What nodes print and log, ``dora/logs[/LEVEL[/NODE]]``, except for the reader's own lines."""

    level: str = LOG_LEVELS[-1]
    of: str | None = None
    """The only node whose lines are read; None for all nodes."""

    def wants(self, level: str, node: str) -> bool:
        """Returns whether this source includes a line of that level from that node."""
        severe_enough = LOG_LEVELS.index(level) <= LOG_LEVELS.index(self.level)
        return severe_enough and self.of in (None, node)


Source = TopicSource | TimerSource


def parse_source(text: str) -> Source:
    """Returns the source that ``node/output``, ``dora/timer/UNIT/N`` or ``dora/logs/...`` names.

    The node's name ends at the first slash; the output's name may have more of them. Raises GraphError
    with a hint.
    """
    parts = text.split("/")
    if parts[0] == "dora":
        return _parse_dora_source(text, parts)
    node, slash, output = text.partition("/")
    if not slash:
        raise GraphError(
            f"the source '{text}' lacks an output;", hint=f"write it as {text or 'node'}/OUTPUT."
        )
    if not node or not output:
        raise GraphError(f"invalid source '{text}': expected NODE/OUTPUT.")
    if node != NOTEBOOK:
        check_name(node, what="a node")
    return TopicSource(node, check_port_name(output, what="an output"))


def _parse_dora_source(text: str, parts: list[str]) -> Source:
    if len(parts) == 4 and parts[1] == "timer":
        try:
            return TimerSource(parse_interval_secs(parts[2], parts[3]), text)
        except ValueError as error:
            near = did_you_mean(parts[2], UNITS) if parts[2] not in UNITS else None
            raise GraphError(f"in '{text}': {error}.", hint=near) from None
    if len(parts) in (2, 3, 4) and parts[1] == "logs":
        return _log_source(text, *parts[2:])
    raise GraphError(
        f"invalid source '{text}': expected dora/timer/UNIT/N, such as dora/timer/hz/30, or dora/logs."
    )


def _log_source(text: str, level: str = LOG_LEVELS[-1], of: str | None = None) -> LogSource:
    if level not in LOG_LEVELS:
        hint = did_you_mean(level, LOG_LEVELS) or f"There are: {', '.join(LOG_LEVELS)}."
        raise GraphError(f"in '{text}': unknown log level '{level}'.", hint=hint)
    if of is not None:
        check_name(of, what="a node")
    return LogSource(LOGS, text.partition("/")[2], level, of)


def parse_interval_secs(unit: str, number: str) -> float:
    """Returns the seconds between two ticks of ``dora/timer/{unit}/{number}``.

    Raises ValueError with a clause that says what is wrong.
    """
    if unit not in UNITS:
        raise ValueError(f"unknown timer unit '{unit}', expected one of {', '.join(UNITS)}")
    try:
        value = float(number) if unit == "hz" else float(int(number[:_MAX_DIGITS]))
    except ValueError:
        kind = "a number" if unit == "hz" else "a whole number"
        instead = _in_smaller_unit(unit, number)
        raise ValueError(f"a timer in {unit} needs {kind}, got '{number}'{instead}") from None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"a timer in {unit} needs a number above 0, got '{number}'")
    secs = 1.0 / value if unit == "hz" else value * _SECS_PER_UNIT[unit]
    # A hair more than 1e-9 is taken off: 1.0 * 1e-9 may be rounded.
    if not 0.999e-9 <= secs <= MAX_SECS or len(number) > _MAX_DIGITS:
        shown = number if len(number) <= 20 else f"a number of {len(number)} characters"
        raise ValueError(f"a timer needs an interval from 1 ns to {MAX_SECS:.0e} s, got {shown}")
    return secs


def _in_smaller_unit(unit: str, number: str) -> str:
    """Returns ``: use millis/500`` for the fraction of a unit that is whole in a smaller one, else ``""``."""
    # The pattern limits the digits: an exponent could ask for more of them than there is memory.
    if unit == "hz" or not re.fullmatch(r"[0-9]{0,15}\.[0-9]{1,15}", number):
        return ""
    from fractions import (
        Fraction,
    )  # Here, since operator processes import this module and never parse.

    nanos = Fraction(number) * _NANOS_PER_UNIT[unit]
    for smaller, per_unit in _NANOS_PER_UNIT.items():
        if nanos > 0 and nanos % per_unit == 0:
            return f": use {smaller}/{nanos // per_unit}"
    return ""
