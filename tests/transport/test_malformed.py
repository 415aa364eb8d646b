"""What no publisher sends ends in a clear error that names what is wrong, and harms nothing else."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_rig import LARGE, Link, Rig, rig_with

from dora_nb.errors import EngineError
from dora_nb.transport import _words
from dora_nb.transport._arena import DATA_SIZE, MAX_SLOTS
from dora_nb.transport._values import IPC, IPC_BATCH
from dora_nb.transport._wire import (
    DATAGRAM_LIMIT,
    HEADER_SIZE,
    INLINE,
    MARK,
    METADATA_LIMIT,
    SLOT,
    SLOT_WITH_METADATA,
    pack_header,
    unpack_header,
)
from dora_nb.transport.edge import EdgeCounts

UINT8, INT16 = 0, 3
STAMP = time.time_ns()


def _inline(
    *, kind: int = INLINE, type_code: int = UINT8, payload: bytes = b"", metadata: bytes = b""
) -> bytes:
    header = pack_header(kind, type_code, 0, len(metadata), 1, STAMP, len(payload), 0, 0)
    return header + payload + metadata


def _in_slot(
    *,
    kind: int = SLOT,
    slot: int = 0,
    size: int = LARGE,
    offset: int = 0,
    metadata_size: int = 0,
    type_code: int = UINT8,
) -> bytes:
    return pack_header(kind, type_code, slot, metadata_size, 1, STAMP, size, offset, 1)


HEADERLESS = {
    "one byte": (b"x", "it has 1 bytes, less than the 48 of a header"),
    "a header cut short": (_inline()[:-1], "it has 47 bytes"),
    "a number of the future": (
        struct.pack("<BBHIQQQQQ", 0, 0, 0, 0, 10**6, STAMP, 0, 0, 0),
        "the number 1000000, which was not sent yet",
    ),
}
BODIES = {
    "payload cut short": (_inline(payload=b"12345678")[:-1], "it has 55 bytes and says 56"),
    "payload too long": (_inline(payload=b"12345678") + b"9", "it has 57 bytes and says 56"),
    "unknown kind": (_inline(kind=77), "kind 77"),
    "unknown type": (_inline(type_code=100), "cannot be an array of type 100"),
    "half a number": (
        _inline(type_code=INT16, payload=b"123"),
        "3 bytes cannot be an array of type 3",
    ),
    "no IPC stream": (_inline(type_code=IPC, payload=b"rubbish!" * 4), "ArrowInvalid"),
    "an empty IPC stream": (_inline(type_code=IPC), "Error|ArrowInvalid"),
    "IPC without a batch": (
        _inline(type_code=IPC, payload=pa.schema([("value", pa.int8())]).serialize().to_pybytes()),
        "StopIteration",
    ),
    "metadata is no msgpack": (_inline(metadata=b"\xc1"), "DecodeError"),
    "metadata is no dict": (_inline(metadata=b"\x93\1\2\3"), "ValidationError"),
    "a key that is no string": (
        _inline(metadata=msgspec.msgpack.encode({1: 2})),
        "ValidationError",
    ),
    "a slot beyond the table": (_in_slot(slot=MAX_SLOTS), "it lies in slot 256"),
    "memory beyond the file": (_in_slot(offset=DATA_SIZE - 10), "it lies in slot 0 and ends at"),
    "memory beyond 64 bits": (_in_slot(offset=2**64 - 10), "and ends at"),
    "endless metadata": (
        _in_slot(kind=SLOT_WITH_METADATA, metadata_size=METADATA_LIMIT + 1),
        "and ends at",
    ),
    "half a number in a slot": (
        _in_slot(type_code=INT16, size=LARGE - 1),
        "cannot be an array of type 3",
    ),
    "no batch": (_inline(type_code=IPC_BATCH, payload=b"rubbish!" * 4), "Error|ArrowInvalid"),
    "an empty batch": (_inline(type_code=IPC_BATCH), "error"),
    "a batch with a schema of a negative size": (
        _inline(type_code=IPC_BATCH, payload=b"\xff" * 64),
        "Error|ArrowInvalid",
    ),
    "a schema without its batch": (
        _inline(
            type_code=IPC_BATCH,
            payload=pa.schema([("value", pa.int8())]).serialize().to_pybytes(),
        ),
        "Error|ArrowInvalid",
    ),
    "rubbish in a slot": (_in_slot(type_code=IPC), "ArrowInvalid|OSError"),
    "metadata missing": (_in_slot(metadata_size=5), "it has 48 bytes and says 53"),
}


@pytest.mark.parametrize("name", [*HEADERLESS, *BODIES])
def test_malformed_messages_are_named_and_passed(rig: Rig, name: str) -> None:
    datagram, words = {**HEADERLESS, **BODIES}[name]
    link = rig.connect()
    link.edge.tx.send(datagram)
    with pytest.raises(EngineError, match=f"a message on an edge is malformed: .*({words})"):
        link.reader.take()
    assert link.reader.take() is None
    rig.send(0)  # The message that has the number of the malformed one lies in no slot.
    rig.send_all(range(1, 3), LARGE)
    assert link.take_all() == [0, 1, 2]
    assert rig.leased() == 0, "its slot was not given back"
    counts = link.edge.counts()
    assert (counts.sent, counts.received) == (3, 3)


@pytest.mark.parametrize("name", BODIES)
def test_a_message_that_arrives_unreadable_is_counted_as_dropped(rig: Rig, name: str) -> None:
    """It was sent, and has a number: overwritten by something on the way."""
    link = rig.connect()
    rig.send(1)
    sent = link.edge.rx.recv(DATAGRAM_LIMIT)
    assert unpack_header(sent).sequence == 1
    link.edge.tx.send(BODIES[name][0])
    with pytest.raises(EngineError):
        link.reader.take()
    assert link.edge.counts() == EdgeCounts(sent=1, received=0, dropped=1, queued=0)


@pytest.mark.parametrize("name", [*HEADERLESS, *BODIES])
def test_a_publisher_drops_malformed_messages_like_others(rig: Rig, name: str) -> None:
    link = rig.connect(queue_size=3)
    link.edge.tx.send({**HEADERLESS, **BODIES}[name][0])
    rig.send_all(range(10))
    assert link.take_all() == [7, 8, 9]
    rig.output.detach(link.out)


@pytest.mark.parametrize("name", HEADERLESS)
def test_the_engine_settles_around_malformed_messages(rig: Rig, name: str) -> None:
    link = rig.connect()
    rig.send_all(range(2))
    link.take()
    link.take()
    link.edge.tx.send(HEADERLESS[name][0])
    rig.send(2)
    words = link.edge._words.view
    words[_words.TAKING] += 1  # Both were killed as they were about to take one.
    words[_words.EVICTING] += 1
    link.edge.settle_reader()
    link.edge.settle_publisher()
    assert link.edge.counts() == EdgeCounts(sent=3, received=2, dropped=0, queued=1)


def test_what_has_no_header_is_looked_at_first(rig: Rig) -> None:
    """Or it would stand in line for ever, and a reader of several inputs fail at each look."""
    link = rig.connect()
    link.edge.tx.send(b"x")
    assert link.reader.next_stamp_nanos() == 0
    with pytest.raises(EngineError):
        link.reader.take()
    rig.send(1)
    assert abs((link.reader.next_stamp_nanos() or 0) - time.time_ns()) < 60e9


def test_an_empty_datagram_is_nothing(rig: Rig) -> None:
    link = rig.connect()
    link.edge.tx.send(b"")
    assert link.reader.next_stamp_nanos() is None
    assert link.reader.take() is None


@settings(max_examples=150)
@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_at_all_do_harm(rubbish: bytes) -> None:
    with rig_with() as rig:
        _passes(rig.connect(), rubbish, lambda link: rig.send(5))


@settings(max_examples=200)
@given(
    bits=st.lists(st.integers(0, HEADER_SIZE * 8 - 1), min_size=1, max_size=3),
    size=st.sampled_from([8, LARGE]),
)
def test_no_flipped_bits_of_a_header_do_harm(bits: list[int], size: int) -> None:
    """What still makes sense may arrive; anything else is an error, and no crash."""
    with rig_with() as rig:
        link = rig.connect()
        rig.send(1, size)
        datagram = bytearray(link.edge.rx.recv(DATAGRAM_LIMIT))
        for bit in bits:
            datagram[bit // 8] ^= 1 << bit % 8
        unpacked = unpack_header(bytes(datagram))
        if unpacked.kind in (SLOT, SLOT_WITH_METADATA) and unpacked.arena != 1:
            return  # The reader would ask its engine for that arena.
        _passes(link, bytes(datagram), lambda link: rig.send(5))


def _passes(link: Link, datagram: bytes, send: Callable[[Link], None]) -> None:
    link.edge.tx.send(datagram)
    try:
        message = link.reader.take()
    except EngineError as error:
        assert "malformed" in str(error)  # noqa: PT017 - it may as well be readable
        message = None
    if message is not None:
        message.value.validate()
        assert "timestamp" in message.metadata
        del message
    send(link)
    assert link.take_all()[-1] == 5


def _mark(number: int) -> bytes:
    return pack_header(MARK, 0, 0, 0, number, STAMP, 0, 0, 0)


@pytest.mark.parametrize("by", ["reader", "publisher"])
def test_a_mark_behind_its_message_means_nothing(rig: Rig, by: str) -> None:
    """It stands for one message: what came before it is not counted twice."""
    link = rig.connect()
    rig.send(1)
    link.edge.tx.send(_mark(1))
    if by == "reader":
        assert link.take_number() == 1
        assert link.reader.take() is None
        assert link.edge.counts() == EdgeCounts(sent=1, received=1, dropped=0, queued=0)
    else:
        rig.output.detach(link.out)
        assert link.edge.counts() == EdgeCounts(sent=1, received=0, dropped=1, queued=0)


@pytest.mark.parametrize("by", ["reader", "publisher"])
def test_a_mark_without_its_message_counts_for_it(rig: Rig, by: str) -> None:
    link = rig.connect()
    rig.send(1)
    link.edge.rx.recv(DATAGRAM_LIMIT)
    link.edge.tx.send(_mark(1))
    assert link.edge.counts().queued == 1
    if by == "reader":
        assert link.reader.take() is None
    else:
        rig.output.detach(link.out)
    assert link.edge.counts() == EdgeCounts(sent=1, received=0, dropped=1, queued=0)
