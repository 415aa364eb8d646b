"""When a node that has ended is started again: dora's restart policies. Pure.

The names and the arithmetic are dora's (``docs/fault-tolerance.md`` of dora 1.1): the delay doubles with
each restart, 2**16 times at most; the count begins anew when `restart_window` has passed since the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Policy = Literal["never", "on-failure", "always"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
KEYS = ("restart_policy", "max_restarts", "restart_delay", "max_restart_delay", "restart_window")
"""In a ``dataflow.yml``; as options of a cell with ``-`` for ``_``."""
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What a node's declaration says of it."""

    policy: Policy = "never"
    max_restarts: int = 0
    """0 for as often as it takes."""
    restart_delay_secs: float = 0.0
    max_restart_delay_secs: float = math.inf
    restart_window_secs: float = math.inf


@dataclass(frozen=True, slots=True)
class Restarts:
    """The restarts of one node so far, in the current window."""

    count: int = 0
    first_secs: float | None = None


def read_policy(keys: Mapping[str, Any]) -> RestartPolicy:
    """The policy that dora's keys describe. ValueError, with the key, where a value is impossible."""
    policy = keys.get("restart_policy", "never")
    if policy not in POLICIES:
        raise ValueError(f"restart_policy is one of {', '.join(POLICIES)}, not {policy!r}")
    count = keys.get("max_restarts", 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"max_restarts is a whole number, 0 or more, not {count!r}")
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
    """How long to wait before the next start; None where there is none. `now_secs` is monotonic."""
    if policy.policy == "never" or (policy.policy == "on-failure" and not failed):
        return restarts, None
    first_secs = restarts.first_secs
    if first_secs is None or now_secs - first_secs > policy.restart_window_secs:
        restarts = Restarts(0, now_secs)
    if policy.max_restarts and restarts.count >= policy.max_restarts:
        return restarts, None
    delay_secs = policy.restart_delay_secs * 2 ** min(restarts.count, _MOST_DOUBLINGS)
    counted = Restarts(restarts.count + 1, restarts.first_secs)
    return counted, min(delay_secs, policy.max_restart_delay_secs)


def _secs(keys: Mapping[str, Any], key: str, default: float) -> float:
    value = keys.get(key, default)
    if value is None:
        return default
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not number or not value >= 0:
        raise ValueError(f"{key} is seconds, 0 or more, not {value!r}")
    return float(value)
