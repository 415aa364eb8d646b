"""dora's restart policies, on a clock of the test's."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dora_nb.graph.restarts import RestartPolicy, Restarts, next_restart, read_policy


def delays(policy: RestartPolicy, *ends: tuple[float, bool]) -> list[float | None]:
    """The delay after each of these ends: when it was, and whether it was a failure."""
    restarts, found = Restarts(), []
    for now_secs, failed in ends:
        restarts, delay_secs = next_restart(policy, restarts, failed=failed, now_secs=now_secs)
        found.append(delay_secs)
    return found


@pytest.mark.parametrize(
    ("policy", "after_a_failure", "after_an_end"),
    [("never", None, None), ("on-failure", 0.0, None), ("always", 0.0, 0.0)],
)
def test_what_each_policy_lets_follow(
    policy: Any, after_a_failure: float | None, after_an_end: float | None
) -> None:
    made = RestartPolicy(policy)
    assert delays(made, (0, True)) == [after_a_failure]
    assert delays(made, (0, False)) == [after_an_end]


def test_the_delay_doubles_up_to_its_bound() -> None:
    """The example in dora's own documentation."""
    policy = RestartPolicy("always", restart_delay_secs=1.0, max_restart_delay_secs=10.0)
    assert delays(policy, *[(0, True)] * 6) == [1, 2, 4, 8, 10, 10]
    unbounded = RestartPolicy("always", restart_delay_secs=1.0)
    assert delays(unbounded, *[(0, True)] * 20)[-1] == 2**16


def test_so_many_times_and_no_more() -> None:
    policy = RestartPolicy("on-failure", max_restarts=2)
    assert delays(policy, *[(0, True)] * 4) == [0, 0, None, None]


def test_the_count_begins_anew_after_the_window() -> None:
    policy = RestartPolicy(
        "always", max_restarts=2, restart_delay_secs=1.0, restart_window_secs=100.0
    )
    ends = [(0, True), (50, True), (100, True), (101, True), (150, True), (202, True)]
    assert delays(policy, *ends) == [1, 2, None, 1, 2, 1]


def test_the_keys_of_a_descriptor() -> None:
    assert read_policy({}) == RestartPolicy()
    assert read_policy(
        {
            "restart_policy": "on-failure",
            "max_restarts": 3,
            "restart_delay": 1,
            "max_restart_delay": None,
            "restart_window": 2.5,
        }
    ) == RestartPolicy("on-failure", 3, 1.0, math.inf, 2.5)


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (
            {"restart_policy": "sometimes"},
            "restart_policy must be one of never, on-failure, always",
        ),
        ({"max_restarts": -1}, "max_restarts must be a whole number >= 0, got "),
        ({"max_restarts": True}, "max_restarts must be a whole number >= 0, got "),
        ({"restart_delay": "1"}, "restart_delay must be a number of seconds >= 0, got "),
        ({"restart_window": -0.5}, "restart_window must be a number of seconds >= 0, got "),
        (
            {"max_restart_delay": math.nan},
            "max_restart_delay must be a number of seconds >= 0, got ",
        ),
    ],
)
def test_impossible_values_are_named(keys: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_policy(keys)
