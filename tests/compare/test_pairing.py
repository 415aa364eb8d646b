"""Messages are paired by what caused them, then by output, then by order."""

from __future__ import annotations

from dora_nb.compare.pairing import STOP, Cause, Pair, Sent, pair

FIRST, SECOND = Cause("camera/image", 0), Cause("camera/image", 1)


def places(pairs: list[Pair]) -> list[tuple[str, int | None, int | None]]:
    return [(each.output, each.before, each.after) for each in pairs]


def test_messages_of_one_event_are_paired_by_output_and_order() -> None:
    before = [Sent(FIRST, 0, "boxes"), Sent(FIRST, 0, "count"), Sent(FIRST, 0, "boxes")]
    after = [Sent(FIRST, 0, "count"), Sent(FIRST, 0, "boxes"), Sent(FIRST, 0, "boxes")]
    assert places(pair(before, after)) == [("boxes", 0, 1), ("count", 1, 0), ("boxes", 2, 2)]


def test_a_message_too_few_does_not_shift_those_of_later_events() -> None:
    before = [Sent(FIRST, 0, "boxes"), Sent(SECOND, 1, "boxes")]
    after = [Sent(SECOND, 1, "boxes")]
    assert places(pair(before, after)) == [("boxes", 0, None), ("boxes", 1, 0)]


def test_a_message_more_is_gained() -> None:
    before = [Sent(FIRST, 0, "boxes")]
    after = [Sent(FIRST, 0, "boxes"), Sent(FIRST, 0, "boxes"), Sent(STOP, 2, "boxes")]
    assert places(pair(before, after)) == [("boxes", 0, 0), ("boxes", None, 1), ("boxes", None, 2)]


def test_pairs_come_in_the_order_of_the_events() -> None:
    before = [Sent(SECOND, 1, "boxes"), Sent(STOP, 2, "boxes")]
    after = [Sent(FIRST, 0, "count"), Sent(SECOND, 1, "boxes")]
    found = pair(before, after)
    assert [each.at for each in found] == [0, 1, 2]
    assert pair([], []) == []
