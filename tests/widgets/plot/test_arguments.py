"""What `PlotView` is given: which topic is drawn in which pane, and what is refused in one line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dora_nb.errors import DeclarationError
from dora_nb.widgets.plot.arguments import check_panes, check_seconds, check_y


@pytest.mark.parametrize(
    ("topics", "panes", "expected"),
    [
        (["a/b", "c/d"], None, [["a/b", "c/d"]]),
        (["a/b", "c/d"], "each", [["a/b"], ["c/d"]]),
        (["a/b", "c/d", "e/f"], [["c/d"], ["a/b", "e/f"]], [["c/d"], ["a/b", "e/f"]]),
        ([], [("a/b",), ("c/d",)], [["a/b"], ["c/d"]]),
    ],
)
def test_topics_are_laid_out_in_panes(topics: Any, panes: Any, expected: Any) -> None:
    assert check_panes(topics, panes) == expected


@pytest.mark.parametrize(
    ("topics", "panes", "message"),
    [
        ([], None, "PlotView needs at least one topic; pass one, such as PlotView('imu/accel')."),
        ([3], None, "a topic must be a text such as 'imu/accel', got 3."),
        (
            [["a/b", "c/d"]],
            None,
            (
                "a topic must be a text such as 'imu/accel', got ['a/b', 'c/d']; "
                "pass topics one by one: PlotView('imu/accel', 'arm/angle')."
            ),
        ),
        (["a/b", "a/b"], None, "'a/b' is named twice."),
        (
            [f"a/{number}" for number in range(17)],
            None,
            "a plot shows at most 16 topics, got 17; make several plots.",
        ),
        (
            [f"a/{number}" for number in range(9)],
            "each",
            "a plot has at most 8 panes, got 9; put several topics into one.",
        ),
        (
            ["a/b"],
            "all",
            (
                "panes must be 'each' or lists of topics, got 'all'; "
                "for example panes=[['imu/accel'], ['imu/gyro', 'arm/angle']]."
            ),
        ),
        (
            ["a/b"],
            [["a/b"], []],
            (
                "panes must be 'each' or lists of topics, got [['a/b'], []]; "
                "for example panes=[['imu/accel'], ['imu/gyro', 'arm/angle']]."
            ),
        ),
        (
            ["a/b"],
            [["a/b", "c/d"]],
            "'c/d' is in panes, but not among the topics; name it there too, or pass only panes.",
        ),
        (["a/b", "c/d"], [["a/b"]], "'c/d' is in none of the panes; add it to one."),
        ([], [[4]], "a topic must be a text such as 'imu/accel', got 4."),
    ],
)
def test_what_cannot_be_laid_out_is_refused(topics: Any, panes: Any, message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        check_panes(topics, panes)
    assert str(caught.value) == message


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "30", None, 10**400, 0.01])
def test_seconds_that_are_no_length_of_time_are_refused(seconds: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        check_seconds(seconds)
    assert str(caught.value) == f"seconds must be between 0.1 and 86,400, got {seconds!r}."


@pytest.mark.parametrize(
    "y", [(1, 1), (2, 1), (1,), 3, "ab", (0, math.inf), (math.nan, 1), (False, True), (0, 10**400)]
)
def test_a_range_that_is_none_is_refused(y: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        check_y(y)
    assert str(caught.value) == (
        f"y must be None or (lowest, highest), got {y!r}; for example y=(-1, 1)."
    )


def test_a_range_may_be_a_list() -> None:
    assert check_y([-1, 2.5]) == (-1.0, 2.5)
    assert check_y(None) is None
