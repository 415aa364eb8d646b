"""Which boxes are drawn on which frame."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.boxes import Boxes
from dora_nb.events import stamp_micros
from dora_nb.widgets.camera._matching import (
    SAME_STAMP_MICROS,
    Frame,
    NewestPairing,
    Pair,
    SamePairing,
    SwitchablePairing,
    lag_micros,
)
from dora_nb.widgets.camera._overlays import Overlay, Overlays

NO_BOXES = Boxes(np.empty((0, 6), np.float32), ())


def frame(stamp: int | None, num_bytes: int = 1) -> Frame:
    return Frame({}, stamp, 0.0, num_bytes)


def boxes(stamp: int | None) -> Overlays:
    return Overlays(stamp, 0.0, {"boxes": Overlay("boxes", NO_BOXES, stamp, 0.0)})


def add(pairing: SwitchablePairing, overlays: Overlays) -> bool:
    return pairing.add_overlays(overlays, overlays)


def stamps(pair: Pair | None) -> tuple[int | None, int | None] | None:
    if pair is None:
        return None
    return pair.frame.stamp_micros, None if pair.overlays is None else pair.overlays.stamp_micros


# ----- the newest of each


def test_the_newest_frame_comes_with_the_newest_boxes_and_only_once():
    pairing = NewestPairing()
    pairing.add_frame(frame(1000))
    pairing.add_overlays(boxes(400))
    pairing.add_overlays(boxes(500))

    assert stamps(pairing.take()) == (1000, 500)
    assert pairing.take() is None


def test_a_frame_that_gives_way_is_told():
    pairing = NewestPairing()

    assert pairing.add_frame(frame(1)) is False
    assert pairing.add_frame(frame(2)) is True
    assert stamps(pairing.take()) == (2, None)


def test_boxes_of_a_run_that_is_over_are_not_drawn_on_the_next():
    pairing = NewestPairing()
    pairing.add_overlays(boxes(1))
    pairing.forget_overlays(before_secs=0.0)
    pairing.add_frame(frame(2))
    assert stamps(pairing.take()) == (2, 1)  # they came since

    pairing.forget_overlays(before_secs=1.0)
    pairing.add_frame(frame(3))

    assert stamps(pairing.take()) == (3, None)


def test_stamps_that_jump_back_do_not_stop_the_picture():
    """A video begins again, a clock is set: the order of arrival counts."""
    pairing = NewestPairing()
    pairing.add_frame(frame(9_000_000))
    pairing.take()
    pairing.add_frame(frame(5))

    assert stamps(pairing.take()) == (5, None)


# ----- the very same


def test_boxes_bring_out_the_frame_that_they_were_computed_on():
    pairing = SamePairing()
    for stamp in (1000, 2000, 3000):
        pairing.add_frame(frame(stamp))
    assert pairing.take() is None

    pairing.add_overlays(boxes(2000 + SAME_STAMP_MICROS))

    assert stamps(pairing.take()) == (2000, 2050)
    assert pairing.frames_unmatched == 1  # the first, which must not come after the second
    assert pairing.frames_kept == 1


@pytest.mark.parametrize("off", [-SAME_STAMP_MICROS - 1, SAME_STAMP_MICROS + 1])
def test_another_stamp_is_another_frame(off: int):
    pairing = SamePairing()
    pairing.add_frame(frame(2000))
    pairing.add_frame(frame(9000))
    pairing.add_overlays(boxes(2000 + off))

    assert pairing.take() is None
    assert pairing.overlays_unmatched == 1


def test_boxes_that_overtake_their_frame_wait_for_it():
    """Two edges end in the kernel, and nothing orders them."""
    pairing = SamePairing()
    pairing.add_overlays(boxes(1000))
    pairing.add_frame(frame(1000))

    assert stamps(pairing.take()) == (1000, 1000)


def test_boxes_that_wait_are_few_and_those_that_give_up_are_counted():
    pairing = SamePairing()
    for stamp in range(100):
        pairing.add_overlays(boxes(stamp * 1000))

    assert pairing.overlays_unmatched == 100 - SamePairing.MAX_EARLY


def test_boxes_that_wait_stay_when_an_older_frame_finds_its_own():
    pairing = SamePairing()
    pairing.add_frame(frame(1000))
    pairing.add_overlays(boxes(2000))
    pairing.add_overlays(boxes(1000))
    assert stamps(pairing.take()) == (1000, 1000)

    pairing.add_frame(frame(2000))

    assert stamps(pairing.take()) == (2000, 2000)
    assert pairing.overlays_unmatched == 0


def test_a_message_without_a_stamp_matches_nothing():
    pairing = SamePairing()
    pairing.add_frame(frame(None))
    pairing.add_overlays(boxes(None))

    assert pairing.take() is None
    assert pairing.overlays_unmatched == 1


def test_frames_that_wait_are_bounded_in_number():
    pairing = SamePairing(max_frames=4)
    for stamp in range(10):
        pairing.add_frame(frame(stamp * 1000))

    assert (pairing.frames_kept, pairing.frames_unmatched) == (4, 6)


def test_frames_that_wait_are_bounded_in_bytes_but_for_one():
    pairing = SamePairing(max_bytes=100)
    for stamp in range(3):
        pairing.add_frame(frame(stamp * 1000, num_bytes=40))
    assert pairing.frames_kept == 2

    pairing.add_frame(frame(9000, num_bytes=1000))

    assert (pairing.frames_kept, pairing.frames_unmatched) == (1, 3)


@given(
    st.lists(
        st.tuples(st.sampled_from(["frame", "boxes", "take"]), st.integers(0, 12)), max_size=60
    )
)
def test_no_frame_comes_twice_or_after_a_newer_one_and_none_is_lost_uncounted(
    steps: list[tuple[str, int]],
):
    pairing = SamePairing(max_frames=4)
    arrived: list[Frame] = []
    taken: list[Frame] = []
    replaced = boxes_in = matched = 0
    for what, number in steps:
        if what == "frame":
            arrived.append(frame(len(arrived) * 1000))
            replaced += pairing.add_frame(arrived[-1])
        elif what == "boxes":
            boxes_in += 1
            replaced += pairing.add_overlays(boxes(number * 1000))
        else:
            pair = pairing.take()
            if pair is not None:
                taken.append(pair.frame)
                matched += 1

    places = [next(i for i, each in enumerate(arrived) if each is one) for one in taken]
    assert places == sorted(set(places))
    waiting = pairing.waiting is not None
    assert len(arrived) == (
        len(taken) + replaced + pairing.frames_unmatched + pairing.frames_kept + waiting
    )
    early = len(pairing._early)
    assert boxes_in == matched + replaced + pairing.overlays_unmatched + early + waiting


# ----- from one way to the other


def test_a_change_to_own_boxes_never_shows_a_frame_that_was_shown_or_is_older():
    pairing = SwitchablePairing(own_boxes=False)
    pairing.add_frame(frame(1000))
    assert pairing.switch(own_boxes=True)  # the frame that waited is dropped
    pairing.add_frame(frame(2000))
    assert pairing.take() is None
    add(pairing, boxes(1000))
    assert pairing.take() is None
    add(pairing, boxes(2000))

    assert stamps(pairing.take()) == (2000, 2000)


def test_a_change_to_the_newest_offers_the_newest_frame_at_once():
    pairing = SwitchablePairing(own_boxes=True)
    for stamp in (1000, 2000, 3000):
        pairing.add_frame(frame(stamp))
    add(pairing, boxes(1000))

    assert pairing.switch(own_boxes=False)  # the pair of the first frame is dropped

    assert stamps(pairing.take()) == (3000, 1000)
    assert pairing.frames_unmatched == 1
    assert not pairing.switch(own_boxes=False)


def test_a_pair_that_waits_is_offered_after_a_change_if_it_is_the_newest():
    pairing = SwitchablePairing(own_boxes=True)
    pairing.add_frame(frame(1000))
    add(pairing, boxes(1000))

    assert not pairing.switch(own_boxes=False)

    assert stamps(pairing.take()) == (1000, 1000)


def test_boxes_that_never_match_count_from_the_change_on():
    pairing = SwitchablePairing(own_boxes=True)
    pairing.add_frame(frame(5000))
    add(pairing, boxes(1000))
    assert pairing.never_matched == 1
    pairing.switch(own_boxes=False)
    add(pairing, boxes(2000))
    assert pairing.never_matched == 0

    pairing.switch(own_boxes=True)
    pairing.add_frame(frame(6000))
    add(pairing, boxes(1000))
    add(pairing, boxes(2000))
    assert pairing.never_matched == 2
    add(pairing, boxes(6000))
    assert pairing.never_matched == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["frame", "boxes", "take", "switch"]), st.integers(0, 12)),
        max_size=60,
    )
)
def test_no_frame_is_lost_uncounted_or_comes_after_a_newer_one_though_the_way_changes(
    steps: list[tuple[str, int]],
):
    pairing = SwitchablePairing(own_boxes=False)
    arrived: list[Frame] = []
    taken: list[Frame] = []
    dropped = 0
    for what, number in steps:
        if what == "frame":
            arrived.append(frame(len(arrived) * 1000))
            dropped += pairing.add_frame(arrived[-1])
        elif what == "boxes":
            dropped += add(pairing, boxes(number * 1000))
        elif what == "switch":
            dropped += pairing.switch(own_boxes=not pairing.own_boxes)
        elif (pair := pairing.take()) is not None:
            taken.append(pair.frame)
            if pairing.own_boxes:
                shown, own = stamps(pair) or (0, 1)
                assert shown == own

    places = [next(i for i, each in enumerate(arrived) if each is one) for one in taken]
    assert places == sorted(set(places))
    waiting = pairing.waiting is not None
    kept = pairing._same.frames_kept
    assert len(arrived) == len(taken) + dropped + pairing.frames_unmatched + kept + waiting


# ----- stamps


def test_a_stamp_is_microseconds_since_the_epoch():
    assert stamp_micros({"timestamp": datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)}) == 1_000_005


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"timestamp": 12.5}, {"timestamp": datetime(2026, 1, 1)}],  # noqa: DTZ001 - the point
)
def test_what_is_no_moment_in_time_is_no_stamp(metadata: dict[str, object] | None):
    assert stamp_micros(metadata) is None


def test_the_lag_of_boxes_is_read_from_the_stamps():
    assert lag_micros(90_000, 5_000) == 85_000
    assert lag_micros(1_000, 1_001) == 0  # rounded on the way
    assert lag_micros(None, 1) is None
    assert lag_micros(1, None) is None
