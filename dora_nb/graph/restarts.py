"""Restart policies: whether and when a node that has ended is started again. Pure.

The names and the arithmetic are dora's (``docs/fault-tolerance.md`` of dora 1.1): the delay doubles with
each restart, up to 2**16 times the first; the count begins anew when `restart_window` has passed since the
first restart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Policy = Literal["never", "on-failure", "always"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
KEYS = ("restart_policy", "max_restarts", "restart_delay", "max_restart_delay", "restart_window")
"""The keys of a ``dataflow.yml``. A cell's options have ``-`` for ``_``."""
_MAX_DOUBLINGS = 16
MAX_SECS = 1e9
"""The longest delay or interval (31 years): the system's waits take no numbers of any size."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The restart policy that a node declares."""

    policy: Policy = "never"
    max_restarts: int = 0
    """0 means without limit."""
    restart_delay_secs: float = 0.0
    max_restart_delay_secs: float = math.inf
    restart_window_secs: float = math.inf


@dataclass(frozen=True, slots=True)
class Restarts:
    """The restarts of one node so far, in the current window."""

    count: int = 0
    first_secs: float | None = None


def read_policy(keys: Mapping[str, Any]) -> RestartPolicy:
    """Returns the policy that dora's keys describe. Raises ValueError, with the key, for a bad value."""
    policy = keys.get("restart_policy", "never")
    if policy not in POLICIES:
        raise ValueError(f"restart_policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    count = keys.get("max_restarts", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"max_restarts must be a whole number >= 0, got {count!r}")
    return RestartPolicy(
        policy,
        count,
        _secs(keys, "restart_delay", 0.0),
        _secs(keys, "max_restart_delay", math.inf),
        _secs(keys, "restart_window", math.inf),
    )


def next_restart(
    policy: RestartPolicy, restarts: Restarts, *, failed: bool, now_secs: float
) -> tuple[Restarts, float | None]:
    """Returns the new count, and the seconds to wait before the next start; None for no restart.

    `now_secs` is monotonic.
    """
    if policy.policy == "never" or (policy.policy == "on-failure" and not failed):
        return restarts, None
    first_secs = restarts.first_secs
    if first_secs is None or now_secs - first_secs > policy.restart_window_secs:
        restarts = Restarts(0, now_secs)
    if policy.max_restarts and restarts.count >= policy.max_restarts:
        return restarts, None
    delay_secs = policy.restart_delay_secs * 2 ** min(restarts.count, _MAX_DOUBLINGS)
    counted = Restarts(restarts.count + 1, restarts.first_secs)
    return counted, min(delay_secs, policy.max_restart_delay_secs, MAX_SECS)


def _secs(keys: Mapping[str, Any], key: str, default: float) -> float:
    value = keys.get(key, default)
    if value is None:
        return default
    is_number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not is_number or not value >= 0:  # `not >=`, so that nan is refused too
        raise ValueError(f"{key} must be a number of seconds >= 0, got {value!r}")
    if MAX_SECS < value < math.inf:
        shown = f"{value:g}" if isinstance(value, float) else "a greater number"
        raise ValueError(f"{key} must be at most {MAX_SECS:.0e} seconds, got {shown}")
    return float(value)
