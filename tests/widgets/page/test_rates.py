"""Rates from counts, of the last seconds."""

from __future__ import annotations

from dora_nb.widgets.page.rates import RateMeter


def test_a_rate_is_of_the_last_seconds_and_begins_anew_with_a_run() -> None:
    meter = RateMeter()
    assert meter.rate(1000, 0.0) is None
    assert meter.rate(1010, 0.5) == 20.0
    for step in range(1, 20):
        rate = meter.rate(1010 + step * 5, 0.5 + step * 0.5)
    assert rate == 10.0
    assert meter.rate(3, 10.5) is None
    assert meter.rate(203, 11.0) == 400
