"""Sources: dora's grammar of timers."""

from __future__ import annotations

import pytest

from dora_nb.graph.sources import parse_interval_secs


@pytest.mark.parametrize(
    ("unit", "number", "secs"),
    [
        ("secs", "2", 2.0),
        ("millis", "100", 0.1),
        ("micros", "250", 0.00025),
        ("nanos", "1000000", 0.001),
        ("hz", "30", 1 / 30),
        ("hz", "0.5", 2.0),
    ],
)
def test_each_unit_of_dora_is_understood(unit: str, number: str, secs: float) -> None:
    assert parse_interval_secs(unit, number) == pytest.approx(secs)


@pytest.mark.parametrize(
    ("unit", "number", "error"),
    [
        ("herz", "30", "unknown timer unit 'herz', expected one of secs"),
        ("millis", "0", "above 0, got '0'"),
        ("millis", "-5", "above 0, got '-5'"),
        ("millis", "1.5", "a whole number, got '1.5': use micros/1500"),
        ("secs", "0.5", "a whole number, got '0.5': use millis/500"),
        ("millis", "ten", "a whole number, got 'ten'"),
        ("hz", "nan", "above 0, got 'nan'"),
        ("hz", "inf", "above 0, got 'inf'"),
        ("hz", "", "a number, got ''"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_timer(unit: str, number: str, error: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_interval_secs(unit, number)
    assert error in str(raised.value)


@pytest.mark.parametrize("number", ["0.5", "-0.5", "1/0", "1e-999999999"])
def test_no_other_unit_is_proposed_if_the_number_is_whole_in_none(number: str) -> None:
    unit = "nanos" if number == "0.5" else "secs"
    with pytest.raises(ValueError, match=f"a whole number, got '{number}'$"):
        parse_interval_secs(unit, number)
