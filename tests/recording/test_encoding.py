"""Any Arrow array and any metadata come back equal, and a reader of Arrow alone finds them too."""

from __future__ import annotations

import io
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mcap.reader
import mcap.writer
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dora_nb
from dora_nb.recording.arrow_encoding import UndecodableError, decode_message, encode_message
from dora_nb.recording.message import timestamp_of
from dora_nb.recording.writer import MOST_TYPES

from .recordings import BEGIN, METADATA, messages, record, same, same_metadata


@given(value=messages(), metadata=METADATA, nanos=st.integers(0, 2**62))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_array_and_any_metadata_come_back_equal(
    value: pa.Array[Any], metadata: dict[str, Any], nanos: int
) -> None:
    check_round_trip(value, metadata, nanos)


@pytest.mark.soak
@given(value=messages(), metadata=METADATA, nanos=st.integers(0, 2**62))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_hundreds_of_arrays_and_metadata_come_back_equal(
    value: pa.Array[Any], metadata: dict[str, Any], nanos: int
) -> None:
    check_round_trip(value, metadata, nanos)


def check_round_trip(value: pa.Array[Any], metadata: dict[str, Any], nanos: int) -> None:
    schema, data = encode_message(value, metadata, nanos)
    found, found_metadata = decode_message(schema, memoryview(data), nanos)
    found.validate(full=True)
    assert same(found, value)
    assert same_metadata(found_metadata, {"timestamp": timestamp_of(nanos)} | metadata)


@given(sent=st.lists(st.tuples(st.sampled_from("ab"), messages(), METADATA), max_size=8))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_messages_come_back_from_a_file(
    sent: list[tuple[str, pa.Array[Any], dict[str, Any]]],
) -> None:
    """A topic may change its type with each message."""
    with tempfile.TemporaryDirectory() as folder:
        rec = dora_nb.Recording(record(Path(folder) / "run.mcap", sent))
        found = list(rec.messages())
    assert [each.topic for each in found] == [topic for topic, _, _ in sent]
    for message, (_, value, metadata) in zip(found, sent, strict=True):
        assert same(message.value, value)
        assert same_metadata({**message.metadata, "timestamp": 0}, {**metadata, "timestamp": 0})


def test_an_extension_array_is_recorded_as_it_travels(tmp_path: Path) -> None:
    storage = pa.array([b"0123456789abcdef"], pa.binary(16))
    array = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    (message,) = dora_nb.Recording(record(tmp_path / "a.mcap", [("a", array, {})])).messages()
    assert message.value.equals(storage)


def test_a_forwarded_timestamp_is_kept(tmp_path: Path) -> None:
    forwarded = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    path = record(tmp_path / "a.mcap", [("a", pa.array([1]), {"timestamp": forwarded})])
    (message,) = dora_nb.Recording(path).messages()
    assert message.metadata == {"timestamp": forwarded}
    assert message.publish_nanos == BEGIN


def test_a_topic_of_countless_types_needs_a_bounded_number_of_channels(tmp_path: Path) -> None:
    kinds = [pa.binary(width) for width in range(1, MOST_TYPES + 50)]
    values = [pa.array([b"x" * kind.byte_width], kind) for kind in kinds]
    path = record(
        tmp_path / "a.mcap", [("a", value, {"at": at}) for at, value in enumerate(values)]
    )
    found = list(dora_nb.Recording(path).messages())
    assert all(each.value.equals(value) for each, value in zip(found, values, strict=True))
    assert [each.metadata["at"] for each in found] == list(range(len(values)))
    with path.open("rb") as file:
        summary = mcap.reader.make_reader(file).get_summary()
    assert summary is not None
    assert len(summary.channels) == MOST_TYPES + 1


def test_a_type_that_was_seen_before_keeps_its_channel(tmp_path: Path) -> None:
    values = [pa.array([1]), pa.array(["x"]), pa.array([2]), pa.array(["y"])]
    path = record(tmp_path / "a.mcap", [("a", value, {}) for value in values])
    rec = dora_nb.Recording(path)
    assert [each.value.to_pylist() for each in rec.messages("a")] == [[1], ["x"], [2], ["y"]]
    assert [each.sequence for each in rec.messages("a")] == [0, 1, 2, 3]
    assert rec["a"].type == "int64 | string"
    with path.open("rb") as file:
        summary = mcap.reader.make_reader(file).get_summary()
    assert summary is not None
    assert len(summary.channels) == 2


@pytest.mark.parametrize(
    "value",
    [
        pa.array([1.5, None]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([{"x": [1, 2], "y": None}]),
    ],
    ids=["numbers", "dictionary", "struct"],
)
def test_a_reader_of_mcap_and_arrow_alone_finds_the_values(
    tmp_path: Path, value: pa.Array[Any]
) -> None:
    """What docs/recording.md says: the schema record and the message, one after the other, are a stream."""
    path = record(tmp_path / "a.mcap", [("a/b", value, {"width": 640, "scale": float("nan")})])
    with path.open("rb") as file:
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        ((schema, channel, message),) = list(reader.iter_messages())
    assert schema is not None
    assert (channel.topic, channel.message_encoding, schema.encoding) == ("a/b", "arrow", "arrow")
    assert (message.log_time, message.publish_time, message.sequence) == (BEGIN, BEGIN, 0)
    assert pa.ipc.read_schema(pa.py_buffer(schema.data)).names == ["value"]
    stream = pa.ipc.open_stream(pa.py_buffer(schema.data + message.data))
    batch, custom = stream.read_next_batch_with_custom_metadata()
    assert batch.column("value").equals(value)
    assert {key: json.loads(text) for key, text in custom.items()} == {
        b"width": 640,
        b"scale": {"float": "nan"},
    }


def test_a_streaming_reader_finds_schemas_before_messages(tmp_path: Path) -> None:
    sent = [("a", pa.array([at]), {}) for at in range(3)] + [("b", pa.array(["x"]), {})]
    path = record(tmp_path / "a.mcap", sent)
    reader = mcap.reader.NonSeekingReader(io.BytesIO(path.read_bytes()), validate_crcs=True)
    assert [channel.topic for _, channel, _ in reader.iter_messages()] == ["a", "a", "a", "b"]


def test_arrow_ipc_without_schemas_is_read(tmp_path: Path) -> None:
    """As `dora export` writes it: each message is a whole stream."""
    values = [pa.array([1, 2], pa.uint8()), pa.array(["x"]).dictionary_encode()]
    path = tmp_path / "dora.mcap"
    with path.open("wb") as file:
        writer = mcap.writer.Writer(file)
        writer.start()
        channel = writer.register_channel("camera/image", "arrow-ipc", 0)
        for at, value in enumerate(values):
            sink = pa.BufferOutputStream()
            batch = pa.RecordBatch.from_arrays([value], ["data"])
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            data = sink.getvalue().to_pybytes()
            writer.add_message(channel, BEGIN + at, data, BEGIN + at, at + 1)
        writer.finish()
    rec = dora_nb.Recording(path)
    assert [each.value for each in rec.messages("camera/image")] == values
    assert rec.notes == ()


def test_metadata_of_another_program_that_is_not_json_is_text() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1])], ["x"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(
            batch, custom_metadata={b"unit": b"m/s", b"n": b"12", b"o": b'{"a":1}', b"bad": b"\xff"}
        )
    _, metadata = decode_message(b"", sink.getvalue().to_pybytes(), BEGIN)
    del metadata["timestamp"]
    assert metadata == {"unit": "m/s", "n": 12, "o": '{"a":1}', "bad": "�"}


def test_several_columns_of_another_program_are_a_struct() -> None:
    batch = pa.RecordBatch.from_pydict({"x": [1, 2], "y": ["a", "b"]})
    value, _ = decode_message(
        batch.schema.serialize().to_pybytes(), batch.serialize().to_pybytes(), BEGIN
    )
    assert value.to_pylist() == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]


def test_a_schema_of_a_wider_type_is_not_believed() -> None:
    """Reading would look beyond the end of the buffer."""
    schema, _ = encode_message(pa.array([1] * 100, pa.int64()), {}, BEGIN)
    _, data = encode_message(pa.array([1] * 100, pa.int8()), {}, BEGIN)
    with pytest.raises(UndecodableError):
        decode_message(schema, memoryview(data), BEGIN)


def test_metadata_that_cannot_travel_is_refused() -> None:
    with pytest.raises(TypeError, match="type ndarray"):
        encode_message(pa.array([1]), {"a": np.zeros(2)}, BEGIN)
