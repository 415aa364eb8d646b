"""Room in an output's memory that is written in place: sent without a copy, never lost."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from transport_rig import LARGE, Patient, Rig, rig_with

from dora_nb.transport import InvalidDataError, MetadataError
from dora_nb.transport._arena import MIN_SLOTS
from dora_nb.transport._wire import INLINE_LIMIT


@pytest.mark.parametrize("size", [0, INLINE_LIMIT, INLINE_LIMIT + 1, LARGE])
def test_what_was_written_arrives(rig: Rig, size: int) -> None:
    link = rig.connect()
    reservation = rig.output.reserve(size)
    with reservation.view() as view:
        view[:] = bytes([7]) * size
    reservation.publish({"n": 1})
    message = link.take()
    assert message.value.to_numpy().tobytes() == bytes([7]) * size
    assert message.metadata["n"] == 1


def test_a_large_one_is_read_where_it_was_written(rig: Rig) -> None:
    link = rig.connect()
    reservation = rig.output.reserve(LARGE)
    reservation.publish(None)
    slot = reservation.slot
    assert slot is not None
    value = link.take().value
    assert value.buffers()[1].address % 4096 == slot.offset % 4096
    assert [each for each in rig.slots() if each.leases] == [slot]


def test_a_slot_that_is_written_is_nobody_elses(rig: Rig) -> None:
    """However many messages go before it is sent."""
    link = rig.connect(queue_size=3)
    reservation = rig.output.reserve(LARGE)
    with reservation.view() as view:
        view[:] = bytes([9]) * LARGE
        rig.send_all(range(50), LARGE)
        assert bytes(view) == bytes([9]) * LARGE
    reservation.publish(None)
    assert link.take_all()[-1] == int.from_bytes(bytes([9]) * 8, "little")


def test_what_is_dropped_or_cancelled_gives_its_room_back(rig: Rig) -> None:
    rig.connect(queue_size=1)
    for _ in range(5 * MIN_SLOTS):
        rig.output.reserve(LARGE)  # Forgotten at once.
        rig.output.reserve(LARGE).cancel()
    gc.collect()
    assert len(rig.slots()) <= 2
    assert not any(slot.leases for slot in rig.slots())


def test_metadata_too_large_to_lie_beside_it_takes_a_copy_and_leaves_nothing(rig: Rig) -> None:
    link = rig.connect()
    for number in range(10):
        reservation = rig.output.reserve(LARGE)
        with reservation.view() as view:
            view[:] = bytes([number]) * LARGE
        reservation.publish({"n": number, "large": "x" * 200_000})
        del reservation
        message = link.take()
        assert (message.metadata["n"], message.value[5].as_py()) == (number, number)
        del message
    assert len(rig.slots()) <= 4


def test_it_is_not_sent_while_a_thread_can_write_into_it(rig: Rig) -> None:
    link = rig.connect()
    reservation = rig.output.reserve(LARGE)
    views = [reservation.view(), reservation.view()]
    array = np.frombuffer(views[0], np.uint8)
    with pytest.raises(RuntimeError, match=r"Cannot send: 2 buffer view\(s\) are still open"):
        reservation.publish(None)
    views[1].release()
    del views
    with pytest.raises(RuntimeError, match=r"Cannot send: 1 buffer"):
        reservation.publish(None)
    del array
    reservation.publish(None)
    assert len(link.take().value) == LARGE


def test_sizes_and_metadata_that_cannot_be_are_refused_and_nothing_is_held(rig: Rig) -> None:
    rig.connect()
    for size in (-1, 1 << 40):
        with pytest.raises(InvalidDataError):
            rig.output.reserve(size)
    reservation = rig.output.reserve(LARGE)
    with pytest.raises(MetadataError):
        reservation.publish({1: 2})
    del reservation
    assert not any(slot.leases for slot in rig.slots())


def test_threads_reserve_beside_each_other() -> None:
    # On a busy machine a thread's turn at the output may last, and the others wait for it.
    with rig_with(Patient()) as rig:
        link = rig.connect(queue_size=200)

        def send(number: int) -> None:
            for _ in range(20):
                reservation = rig.output.reserve(LARGE)
                with reservation.view() as view:
                    view[:] = bytes([number]) * LARGE
                reservation.publish({"n": number})

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(80):
            message = link.take()
            assert set(message.value.to_numpy()) == {message.metadata["n"]}
