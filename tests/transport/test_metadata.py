"""dora's rules for metadata, value by value, and what a receiver finds."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from transport_rig import LARGE, Rig, number_of, numbered

from dora_nb.errors import DoraNbError
from dora_nb.transport import MetadataError
from dora_nb.transport._metadata import encode_metadata

CET = datetime.timezone(datetime.timedelta(hours=1))
NOON = datetime.datetime(2024, 5, 1, 12, 0, 0, 123456, datetime.UTC)


class Colour(enum.StrEnum):
    RED = "red"


class Encoding(str, enum.Enum):  # noqa: UP042 - its str() is "Encoding.JPEG"
    JPEG = "jpeg"


class Level(enum.IntEnum):
    LOW = 3


def _round_trip(rig: Rig, metadata: Any) -> dict[str, Any]:
    """What a receiver finds beside the timestamp."""
    link = rig.connect()
    rig.output.publish(b"x", metadata)
    received = link.take().metadata
    assert received.pop("timestamp").tzinfo is datetime.UTC
    return received


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (True, True),
        (False, False),
        (7, 7),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (1.5, 1.5),
        (float("inf"), float("inf")),
        ("", ""),
        ("ü 日本", "ü 日本"),
        (np.float64(0.25), 0.25),
        (Colour.RED, "red"),
        (Encoding.JPEG, "jpeg"),
        (Level.LOW, 3),
        (np.str_("text"), "text"),
        ([], []),
        ((), []),
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        ([1.5, 2], [1.5, 2.0]),
        ([np.float64(1.5)], [1.5]),
        (["a", "b"], ["a", "b"]),
        ([Colour.RED, "blue"], ["red", "blue"]),
        (NOON, NOON),
        (datetime.datetime(2024, 5, 1, 13, 0, 0, 123456, CET), NOON),
        (pd.Timestamp(NOON), NOON),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_travels_as_it_is(rig: Rig, sent: object, received: object) -> None:
    (value,) = _round_trip(rig, {"key": sent}).values()
    assert value == received
    assert type(value) is type(received)
    assert rig.warnings == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"nested": 1},
        [[1], [2]],
        [None],
        [True],
        (True, False),
        [{}],
        np.int64(5),
        np.bool_(True),
        [np.int64(5)],
        np.array([1, 2]),
        b"bytes",
        datetime.datetime(2024, 5, 1, 12),  # noqa: DTZ001 - naive is the point
        datetime.date(2024, 5, 1),
        {1, 2},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_anything_else_becomes_its_str_with_a_warning(rig: Rig, value: object) -> None:
    assert _round_trip(rig, {"key": value}) == {"key": str(value)}
    (warning,) = rig.warnings
    assert f"'key' is of type {type(value).__name__}," in warning


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"key": 2**63}, "'key' is too large: an int has 64 bits"),
        ({"key": -(2**63) - 1}, "'key' is too large"),
        ({"key": [1, 2**63]}, "'key' is too large"),
        ({"key": [1, "a"]}, "'key' mixes types in one list; its first element is of type int"),
        ({"key": [1, 2.5]}, "'key' mixes types"),
        ({"key": [1, True]}, "'key' mixes types"),
        ({"key": [1.5, True]}, "'key' mixes types"),
        ({"key": [1.5, None]}, "'key' mixes types"),
        ({"key": ["a", 1]}, "first element is of type str"),
        ({"key": [1.5, 10**400]}, "'key' is too large for a float"),
        ({1: "a"}, "keys must be strings, and 1 is of type int"),
        ({Colour.RED: "a"}, "keys must be strings"),
        ({"key": "x" * (1 << 24)}, "the limit is 16,777,216. Send large data as the value"),
        ({"key": "\ud800"}, "is not valid text"),
        ({"\ud800": 1}, "is not valid text"),
        ([("key", 1)], "must be a dict, not list"),
        ("width=640", "must be a dict, not str"),
        (np.array([]), "must be a dict, not ndarray"),
        (0, "must be a dict, not int"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_travel_is_refused_in_words(rig: Rig, metadata: Any, words: str) -> None:
    link = rig.connect()
    with pytest.raises(MetadataError) as caught:
        rig.output.publish(b"x", metadata)
    assert words in str(caught.value)
    assert link.edge.counts().sent == 0


def test_the_refusal_is_doras_and_ours() -> None:
    assert issubclass(MetadataError, RuntimeError | TypeError)
    assert issubclass(MetadataError, DoraNbError)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_metadata_is_a_timestamp_and_nothing_else(rig: Rig, nothing: Any) -> None:
    assert _round_trip(rig, nothing) == {}


def test_the_timestamp_is_the_wall_clock_at_the_send(rig: Rig) -> None:
    link = rig.connect()
    before = datetime.datetime.now(datetime.UTC)
    rig.output.publish(b"x", None)
    after = datetime.datetime.now(datetime.UTC)
    rounding = datetime.timedelta(microseconds=1)
    assert before - rounding <= link.take().metadata["timestamp"] <= after + rounding


def test_a_forwarded_timestamp_overrides_the_new_one(rig: Rig) -> None:
    link = rig.connect()
    rig.output.publish(b"x", {"timestamp": NOON, "n": 1})
    assert link.take().metadata == {"timestamp": NOON, "n": 1}


def test_metadata_forwarded_over_many_hops_stays_the_same(rig: Rig) -> None:
    link = rig.connect()
    rig.output.publish(b"x", {"width": 640, "encoding": "bgr8", "roi": [0, 1]})
    first = link.take().metadata
    metadata = first
    for _ in range(20):
        rig.output.publish(b"x", metadata)
        metadata = link.take().metadata
    assert metadata == first


def test_keys_keep_their_order(rig: Rig) -> None:
    keys = list("zyxabc")
    assert list(_round_trip(rig, dict.fromkeys(keys, 1))) == keys


def test_the_senders_dict_is_not_touched(rig: Rig) -> None:
    metadata = {"a": (1, 2), "b": None}
    rig.output.publish(b"x", metadata)
    assert metadata == {"a": (1, 2), "b": None}


@pytest.mark.parametrize("size", [8, 4000, LARGE], ids=["small", "nearly too large", "in a slot"])
@pytest.mark.parametrize("text_size", [0, 90, 4090, 8100, 8200, 200_000])
def test_payload_and_metadata_of_any_size_travel_together(
    rig: Rig, size: int, text_size: int
) -> None:
    link = rig.connect()
    metadata = {"text": "x" * text_size, "n": 5}
    rig.output.publish(numbered(77, size), metadata)
    message = link.take()
    assert number_of(message) == 77
    assert len(message.value) == size // 8
    del message.metadata["timestamp"]
    assert message.metadata == metadata


def test_large_metadata_of_an_empty_payload_travels(rig: Rig) -> None:
    for text_size in (5000, 200_000):
        link = rig.connect()
        rig.output.publish(b"", {"text": "x" * text_size})
        message = link.take()
        assert (len(message.value), len(message.metadata["text"])) == (0, text_size)


def test_large_metadata_lies_in_the_slot(rig: Rig) -> None:
    """A datagram of 200 KB would not fit into a stock socket's buffer beside anything else."""
    link = rig.connect()
    rig.output.publish(b"x", {"text": "x" * 200_000})
    assert [slot.capacity for slot in rig.slots()] == [1 << 18]
    assert len(link.edge.rx.recv(1 << 20)) < 8192


@pytest.mark.parametrize("bits", [1, 7, 8, 15, 16, 31, 32, 53, 62])
def test_numbers_of_every_width_keep_their_value(rig: Rig, bits: int) -> None:
    edges = {"low": -(2**bits), "below": 2**bits - 1, "at": 2**bits}
    assert _round_trip(rig, edges) == edges


def test_the_bytes_are_plain_msgpack() -> None:
    blob = encode_metadata({"a": 1, "b": [1.5], "c": True}, pytest.fail)
    assert msgspec.msgpack.decode(blob) == {"a": 1, "b": [1.5], "c": True}
