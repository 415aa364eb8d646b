"""TimeMatch finds what belongs together, keeps a bounded number of messages, and counts the rest."""

from __future__ import annotations

import doctest
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import matching
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matching import TimeMatch

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
INPUTS = ("image", "depth", "boxes")


def message(name: str, micros: int, value: Any = None) -> dict[str, Any]:
    stamp = BEGIN + timedelta(microseconds=micros)
    return {"type": "INPUT", "id": name, "value": value, "metadata": {"timestamp": stamp}}


def micros_of(event: Any) -> int:
    return (event["metadata"]["timestamp"] - BEGIN) // timedelta(microseconds=1)


def stamps(found: Any) -> dict[str, int] | None:
    return None if found is None else {name: micros_of(event) for name, event in found.items()}


# ---------------------------------------------------------------- single cases


def test_a_set_is_complete_with_the_last_of_its_messages() -> None:
    match = TimeMatch(INPUTS, tolerance_secs=0.02)
    image, depth, boxes = message("image", 0), message("depth", 5000), message("boxes", 0)
    assert match.add(image) is None
    assert match.add(depth) is None
    found = match.add(boxes)
    assert found is not None
    assert list(found) == list(INPUTS)
    assert (found["image"], found["depth"], found["boxes"]) == (image, depth, boxes)
    assert match.waiting == dict.fromkeys(INPUTS, 0)
    assert match.matched == 1


def test_a_slow_input_finds_the_messages_that_belong_to_it() -> None:
    """A detector that takes 100 ms, and looks at every third picture."""
    match = TimeMatch(["image", "boxes"], tolerance_secs=0.0)
    found = []
    for number in range(12):
        match.add(message("image", number * 33_333))
        if number >= 3 and number % 3 == 0:
            found.append(stamps(match.add(message("boxes", (number - 3) * 33_333))))
    assert found == [{"image": at, "boxes": at} for at in (0, 99_999, 199_998)]
    assert match.unmatched == {"image": 4, "boxes": 0}


@pytest.mark.parametrize(("apart", "matches"), [(20_000, True), (20_001, False)])
@pytest.mark.parametrize("first", ["image", "depth"])
def test_messages_match_up_to_the_tolerance_itself(apart: int, matches: bool, first: str) -> None:
    match = TimeMatch(["image", "depth"], tolerance_secs=0.02)
    second = "depth" if first == "image" else "image"
    for begin in (0, 123_456_789_012):
        match.add(message(first, begin))
        found = match.add(message(second, begin + apart))
        assert (found is not None) is matches


def test_the_tolerance_is_between_the_earliest_and_the_latest() -> None:
    match = TimeMatch(INPUTS, tolerance_secs=0.02)
    match.add(message("image", 0))
    match.add(message("boxes", 30_000))
    assert match.add(message("depth", 15_000)) is None
    assert match.add(message("image", 20_000)) is not None


def test_of_several_sets_the_closest_is_returned() -> None:
    match = TimeMatch(INPUTS, tolerance_secs=0.1)
    for micros in (0, 40_000, 90_000):
        match.add(message("image", micros))
    for micros in (38_000, 95_000):
        match.add(message("boxes", micros))
    assert stamps(match.add(message("depth", 50_000))) == {
        "image": 40_000,
        "depth": 50_000,
        "boxes": 38_000,
    }
    # What is older than the set waits no longer; what is newer does.
    assert match.unmatched == {"image": 1, "depth": 0, "boxes": 0}
    assert match.waiting == {"image": 1, "depth": 0, "boxes": 1}


def test_of_equally_close_sets_that_with_the_messages_nearest_to_the_last_one_is_returned() -> None:
    match = TimeMatch(INPUTS, tolerance_secs=0.02)
    for name, micros in (("depth", 0), ("image", 10_000), ("image", 15_000)):
        match.add(message(name, micros))
    assert stamps(match.add(message("boxes", 20_000))) == {
        "image": 15_000,
        "depth": 0,
        "boxes": 20_000,
    }


def test_a_full_queue_loses_its_first_message_and_counts_it() -> None:
    match = TimeMatch(["image", "depth"], tolerance_secs=0.001, queue_size=3)
    for number in range(5):
        match.add(message("image", number * 100_000))
    assert match.waiting["image"] == 3
    assert match.unmatched == {"image": 2, "depth": 0}
    assert match.add(message("depth", 100_000)) is None
    assert match.add(message("depth", 200_000)) is not None


def test_after_the_clock_is_set_back_messages_match_again() -> None:
    """As when recorded messages are played a second time."""
    match = TimeMatch(["image", "depth"], tolerance_secs=0.001, queue_size=3)
    for _ in range(3):
        match.add(message("image", 9_000_000))
    for number in range(4):
        match.add(message("image", number * 100_000))
        assert match.add(message("depth", number * 100_000)) is not None


def test_stamps_of_several_time_zones_are_compared_as_moments() -> None:
    match = TimeMatch(["image", "depth"], tolerance_secs=0.0)
    image, depth = message("image", 0), message("depth", 0)
    stamp = image["metadata"]["timestamp"].astimezone(timezone(timedelta(hours=5)))
    image["metadata"]["timestamp"] = stamp
    match.add(image)
    assert match.add(depth) is not None


def test_other_events_are_ignored() -> None:
    match = TimeMatch(["image", "depth"], tolerance_secs=0.02)
    for event in ({"type": "STOP"}, {"type": "INPUT_CLOSED", "id": "image"}, {"type": "RELOAD"}):
        assert match.add(event) is None
    assert match.waiting == {"image": 0, "depth": 0}


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("inputs", ["image", ["image"], [], ["image", "image"]])
def test_inputs_that_cannot_be_matched_are_refused(inputs: Any) -> None:
    with pytest.raises(ValueError, match="needs the names of two or more different inputs, got"):
        TimeMatch(inputs, tolerance_secs=0.02)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_that_is_no_time_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance_secs must be a number >= 0, got"):
        TimeMatch(["image", "depth"], tolerance_secs=tolerance)


def test_a_queue_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="queue_size must be >= 1, got 0"):
        TimeMatch(["image", "depth"], tolerance_secs=0.02, queue_size=0)


def test_a_message_of_another_input_is_refused_by_name() -> None:
    match = TimeMatch(["image", "depth"], tolerance_secs=0.02)
    with pytest.raises(ValueError, match="has the inputs image, depth, got a message of 'imgae'"):
        match.add(message("imgae", 0))


@pytest.mark.parametrize(
    "metadata", [None, {}, {"timestamp": 17}, {"timestamp": BEGIN.replace(tzinfo=None)}]
)
def test_a_message_without_a_stamp_is_refused_by_name(metadata: Any) -> None:
    match = TimeMatch(["image", "depth"], tolerance_secs=0.02)
    with pytest.raises(ValueError, match="cannot match a message of 'image': the 'timestamp'"):
        match.add({"type": "INPUT", "id": "image", "value": None, "metadata": metadata})


# ---------------------------------------------------------------- any messages


streams = st.lists(st.tuples(st.sampled_from(INPUTS), st.integers(0, 300)), max_size=60)


@settings(deadline=None)
@given(stream=streams, tolerance=st.integers(0, 60), queue_size=st.integers(1, 5))
def test_whatever_comes_sets_are_close_queues_are_short_and_every_message_is_counted(
    stream: list[tuple[str, int]], tolerance: int, queue_size: int
) -> None:
    match = TimeMatch(INPUTS, tolerance_secs=tolerance / 1e6, queue_size=queue_size)
    added: Counter[str] = Counter()
    used: set[int] = set()
    events = [message(name, micros) for name, micros in stream]
    for event in events:
        found = match.add(event)
        added[event["id"]] += 1
        if found is not None:
            assert list(found) == list(INPUTS)
            assert {each["id"] for each in found.values()} == set(INPUTS)
            assert found[event["id"]] is event
            times = [micros_of(each) for each in found.values()]
            assert max(times) - min(times) <= tolerance
            ids = {id(each) for each in found.values()}
            assert not ids & used
            used |= ids
        assert max(match.waiting.values()) <= queue_size
        for name in INPUTS:
            fate = match.matched + match.unmatched[name] + match.waiting[name]
            assert fate == added[name]


@settings(deadline=None)
@given(stream=streams, tolerance=st.integers(0, 60))
def test_the_set_is_the_closest_of_all_that_the_message_completes(
    stream: list[tuple[str, int]], tolerance: int
) -> None:
    """Compared with a search through all combinations of what waits."""
    match = TimeMatch(INPUTS, tolerance_secs=tolerance / 1e6, queue_size=len(stream) + 1)
    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in INPUTS}
    for name, micros in stream:
        event = message(name, micros)
        choices = [[event] if each == name else waiting[each] for each in INPUTS]
        spreads = [
            max(times) - min(times)
            for times in (
                [micros_of(each) for each in chosen] for chosen in itertools.product(*choices)
            )
        ]
        closest = min(spreads, default=None)
        found = match.add(event)
        if closest is None or closest > tolerance:
            assert found is None
            waiting[name].append(event)
            continue
        assert found is not None
        times = [micros_of(each) for each in found.values()]
        assert max(times) - min(times) == closest
        for each in INPUTS:
            waiting[each] = [
                kept
                for kept in waiting[each]
                if kept is not found[each] and micros_of(kept) >= micros_of(found[each])
            ]


def test_the_example_in_the_file_is_true() -> None:
    results = doctest.testmod(matching)
    assert results.attempted > 0
    assert results.failed == 0
