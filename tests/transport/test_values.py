"""What arrives is what was sent: every Arrow type, numpy, and what is refused in words."""

from __future__ import annotations

import datetime
import decimal
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transport_rig import LARGE, VGA, Rig

from dora_nb.errors import DoraNbError
from dora_nb.transport import InvalidDataError, as_received

_FLAT_TYPES = [
    pa.uint8(), pa.int8(), pa.uint16(), pa.int16(), pa.uint32(), pa.int32(), pa.uint64(), pa.int64(),
    pa.float16(), pa.float32(), pa.float64(),
]  # fmt: skip

FLAT = {str(kind): pa.array(np.arange(50).astype(kind.to_pandas_dtype())) for kind in _FLAT_TYPES}

OTHERS = {
    "null": pa.nulls(3),
    "no values at all": pa.array([]),
    "bool": pa.array([True, False, None]),
    "strings": pa.array(["a", "ü", "", None, "日本"]),
    "large strings": pa.array(["a", None], pa.large_string()),
    "string views": pa.array(["a", "a longer one than twelve bytes"], pa.string_view()),
    "binary": pa.array([b"\0\xff", None]),
    "large binary": pa.array([b"x" * 5000], pa.large_binary()),
    "fixed binary": pa.array([b"abcd", b"efgh"], pa.binary(4)),
    "decimal": pa.array([decimal.Decimal("1.50"), None]),
    "date": pa.array([0, 1], pa.date32()),
    "time": pa.array([0, 1], pa.time64("us")),
    "timestamp": pa.array([0, None], pa.timestamp("ns", "UTC")),
    "duration": pa.array([1, 2], pa.duration("ms")),
    "list": pa.array([[1, 2], [], None, [3]]),
    "large list": pa.array([[1.5], None], pa.large_list(pa.float32())),
    "nested list": pa.array([[[1], [2, 3]], [[]], None]),
    "fixed size list": pa.array([[1, 2], [3, 4]], pa.list_(pa.int16(), 2)),
    "struct": pa.array([{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None]),
    "struct of lists": pa.array([{"bbox": [1.0, 2.0], "labels": ["cup"]}]),
    "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["a", "b", "a", None]).dictionary_encode(),
    "run ends": pa.RunEndEncodedArray.from_arrays([2, 5], ["x", "y"]),
    "sparse union": pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]
    ),
    "flat with nulls": pa.array([1, None, 3]),
    "floats with NaN": pa.array([1.0, float("inf"), -0.0]),
    "large floats with nulls": pa.array([1.0, None] * 5000),
}


def _round_trip(rig: Rig, data: object) -> pa.Array[Any]:
    link = rig.connect()
    rig.output.publish(data, None)
    return link.take().value


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("repeat", [1, 2000], ids=["inline", "in a slot"])
def test_flat_arrays_arrive_as_they_are(rig: Rig, name: str, repeat: int) -> None:
    sent = pa.concat_arrays([FLAT[name]] * repeat)
    received = _round_trip(rig, sent)
    assert received.type == sent.type
    assert received.equals(sent)
    received.validate(full=True)


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_type_arrives_as_it_is(rig: Rig, name: str) -> None:
    received = _round_trip(rig, OTHERS[name])
    received.validate(full=True)
    assert received.type == OTHERS[name].type
    assert received.equals(OTHERS[name])


@pytest.mark.parametrize("name", [*FLAT, *OTHERS])
def test_a_slice_arrives_as_the_slice(rig: Rig, name: str) -> None:
    whole = {**FLAT, **OTHERS}[name]
    sent = whole.slice(1, max(0, len(whole) - 2))
    received = _round_trip(rig, sent)
    assert received.equals(sent)


@pytest.mark.parametrize("kind", _FLAT_TYPES, ids=str)
def test_an_empty_array_keeps_its_type(rig: Rig, kind: pa.DataType) -> None:
    received = _round_trip(rig, pa.array([], kind))
    assert (len(received), received.type) == (0, kind)


def test_a_slice_sends_no_more_than_itself(rig: Rig) -> None:
    link = rig.connect()
    rig.output.publish(pa.array(np.zeros(VGA, np.uint8)).slice(VGA - 10), None)
    assert link.take().value.buffers()[1].size == 10
    assert rig.slots() == []


def test_a_valid_array_with_a_bitmap_of_no_nulls_stays_flat(rig: Rig) -> None:
    sent = pa.array([1, None, 3]).slice(2)
    received = _round_trip(rig, sent)
    assert received.equals(sent)
    assert received.to_numpy(zero_copy_only=True).tolist() == [3]


def test_a_record_batch_arrives_as_a_struct_array(rig: Rig) -> None:
    batch = pa.record_batch({"x": [1, 2], "y": ["a", None]})
    received = _round_trip(rig, batch)
    assert isinstance(received, pa.StructArray)
    assert received.to_pylist() == batch.to_pylist()


def test_an_extension_arrives_as_its_storage(rig: Rig) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    )
    received = _round_trip(rig, tensors)
    assert received.type == pa.list_(pa.float32(), 12)
    assert received.equals(tensors.storage)


def test_an_extension_over_flat_numbers_is_not_copied_on_arrival(rig: Rig) -> None:
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array(np.ones(LARGE, np.int8)))
    received = _round_trip(rig, flags)
    assert received.type == pa.int8()
    assert received.buffers()[1].address == _address_of_first_slot(rig)


def test_bytes_arrive_as_uint8(rig: Rig) -> None:
    received = _round_trip(rig, b"\1\2\3")
    assert received.type == pa.uint8()
    assert received.to_pylist() == [1, 2, 3]


# -- without copies ----------------------------------------------------------------------------------


def _address_of_first_slot(rig: Rig) -> int:
    (column,) = rig.links[0].reader._columns.values()
    return column.arena.address + rig.slots()[0].offset


def test_a_large_array_lies_in_shared_memory(rig: Rig) -> None:
    received = _round_trip(rig, pa.array(np.arange(LARGE, dtype=np.float64)))
    values = received.to_numpy(zero_copy_only=True)
    assert values.ctypes.data == _address_of_first_slot(rig)


@pytest.mark.parametrize("size", [8, LARGE], ids=["inline", "in a slot"])
def test_what_arrives_is_read_only(rig: Rig, size: int) -> None:
    values = _round_trip(rig, pa.array(np.zeros(size // 8))).to_numpy()
    assert not values.flags.writeable
    assert not values.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_a_copy_made_for_a_reader_that_holds_too_much_is_read_only_too(rig: Rig) -> None:
    link = rig.connect(queue_size=50)
    held = []
    for number in range(20):
        rig.send(number, LARGE)
        held.append(link.take().value.to_numpy())
    assert link.reader.copied > 0
    assert not any(values.flags.writeable for values in held)
    with pytest.raises(ValueError, match="WRITEABLE"):
        held[-1].flags.writeable = True


@pytest.mark.parametrize("blob_size", [0, 1, 7, 500])
def test_inline_payloads_are_aligned_for_every_type(rig: Rig, blob_size: int) -> None:
    link = rig.connect()
    rig.output.publish(pa.array([1.5, 2.5]), {"text": "x" * blob_size})
    assert link.take().value.buffers()[1].address % 16 == 0


def test_slots_are_aligned_to_pages(rig: Rig) -> None:
    link = rig.connect()
    for size in (LARGE, LARGE + 8, 5 * LARGE):
        rig.send(1, size)
        assert link.take().value.buffers()[1].address % 4096 == 0


def test_the_sender_may_change_its_array_afterwards(rig: Rig) -> None:
    link = rig.connect()
    for size in (8, LARGE):
        mine = np.zeros(size, np.uint8)
        rig.output.publish(mine, None)
        mine[:] = 9
        assert link.take().value.to_numpy().max() == 0


# -- numpy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.arange(6, dtype=np.int16).reshape(2, 3), pa.array(range(6), pa.int16())),
        (np.arange(6)[::2], pa.array([0, 2, 4])),
        (np.arange(6).reshape(2, 3).T, pa.array([0, 3, 1, 4, 2, 5])),
        (np.asfortranarray(np.arange(6).reshape(2, 3)), pa.array(range(6))),
        (np.zeros((2, 2, 3), np.uint8)[:, :, ::-1], pa.array([0] * 12, pa.uint8())),
        (np.array(7.5), pa.array([7.5])),
        (np.array([]), pa.array([], pa.float64())),
        (np.array([True, False]), pa.array([True, False])),
        (np.array(["a", "bc"]), pa.array(["a", "bc"])),
        (np.array([b"a"]), pa.array([b"a"])),
        (np.array(["2020-01-01"], "M8[s]"), pa.array([1577836800], pa.timestamp("s"))),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), pa.array([1, None, 3])),
        (np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]), pa.array([1, None, 3, 4])),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_numpy_is_taken_and_flattened_in_c_order(
    rig: Rig, data: np.ndarray[Any, Any], expected: pa.Array[Any]
) -> None:
    received = _round_trip(rig, data)
    assert received.type == expected.type
    assert received.equals(expected)


@pytest.mark.parametrize(
    ("data", "metadata", "expected"),
    [
        (np.zeros((2, 3)), None, {"shape": [2, 3]}),
        (np.zeros((4, 6, 3), np.uint8)[::2, ::2], {"a": 1}, {"a": 1, "shape": [2, 3, 3]}),
        (np.zeros((2, 3)), {"shape": [4, 6], "width": 6}, {"shape": [2, 3], "width": 6}),
        (np.ma.zeros((0, 4)), {}, {"shape": [0, 4]}),
        (np.zeros(6), {"shape": [2, 3]}, {"shape": [2, 3]}),
        (np.array(1.0), None, {}),
        (pa.array([1.0]), {"shape": [1]}, {"shape": [1]}),
    ],
)
def test_a_numpy_array_of_two_dimensions_or_more_is_sent_with_its_shape(
    rig: Rig, data: Any, metadata: Any, expected: dict[str, Any]
) -> None:
    link = rig.connect()
    given = None if metadata is None else dict(metadata)
    rig.output.publish(data, metadata)

    received = link.take().metadata

    del received["timestamp"]
    assert received == expected
    assert metadata == given  # the caller's own dict stays as it was
    assert as_received(data, metadata, warn=print).metadata.keys() == {*expected, "timestamp"}


def test_a_numpy_image_is_copied_once_only(rig: Rig) -> None:
    image = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    received = _round_trip(rig, image)
    assert (received.to_numpy().reshape(480, 640, 3) == image).all()
    assert received.buffers()[1].address == _address_of_first_slot(rig)


# -- refused -----------------------------------------------------------------------------------------


class _NotOurs:
    pass


@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        (pa.table({"x": [1]}), "table.combine_chunks().to_batches()[0]"),
        (pa.chunked_array([[1], [2]]), "x.combine_chunks()"),
        (pa.scalar(1), "pa.array([x.as_py()])"),
        (np.array([{}]), "np.asarray(x, dtype=np.float32)"),
        (np.array([1j]), "numpy's complex128"),
        (np.array([1], ">i4"), "numpy's >i4"),
        (np.zeros(2, [("a", "i4")]), "numpy's [('a', '<i4')]"),
        ([1, 2], "a list is sent as pa.array(x)"),
        (5, "an int is sent as pa.array(x), or pa.array([x]) for a single value"),
        (np.float64(5), "pa.array([x]) for a single value"),
        ("text", "pa.array([text])"),
        (None, "pa.array([])"),
        (bytearray(b"x"), "bytes(x) instead of a bytearray"),
        (memoryview(b"x"), "bytes(x) instead of a memoryview"),
        (_NotOurs(), "a _NotOurs is sent as pa.array(x)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_sent_names_the_conversion(rig: Rig, data: object, way_out: str) -> None:
    link = rig.connect()
    with pytest.raises(InvalidDataError) as caught:
        rig.output.publish(data, None)
    assert way_out in str(caught.value)
    assert str(caught.value).startswith("invalid `data` type, must be `bytes` or an arrow array")
    assert link.edge.counts().sent == 0


def _sent_as_advised(rig: Rig, data: object) -> pa.Array[Any]:
    """Sends `data` by the one line that the error names."""
    with pytest.raises(InvalidDataError) as caught:
        rig.output.publish(data, None)
    advice = re.search(r" is sent as (.+?\))(?:, |$)", str(caught.value))
    assert advice is not None
    return _round_trip(rig, eval(advice[1], {"pa": pa, "np": np, "x": data}))  # noqa: S307


@pytest.mark.parametrize(
    "data",
    [
        {"a": [1, 2], "b": {"c": 1.5}},
        {"a": np.arange(3), "b": "x"},
        {"a": None, "b": []},
    ],
)
def test_the_advice_for_a_dict_keeps_its_values(rig: Rig, data: dict[str, Any]) -> None:
    received = _sent_as_advised(rig, data).to_pylist()

    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in data.items()
    }
    assert received == [plain]


def test_the_advice_for_a_dict_with_other_keys_keeps_its_values(rig: Rig) -> None:
    assert _sent_as_advised(rig, {1: 2, "a": 3}).to_pylist() == [{"1": 2, "a": 3}]


def test_the_advice_for_pandas_keeps_its_values(rig: Rig) -> None:
    import pandas as pd

    table = pd.DataFrame({"x": [1.5, float("nan")], "label": ["cup", None]})

    rows = _sent_as_advised(rig, table).to_pylist()
    assert rows == [{"x": 1.5, "label": "cup"}, {"x": None, "label": None}]
    assert _sent_as_advised(rig, table["label"]).to_pylist() == ["cup", None]
    assert _sent_as_advised(rig, pd.Series([1, 2])).to_pylist() == [1, 2]
    assert _sent_as_advised(rig, pd.Index([1, 2])).to_pylist() == [1, 2]


def test_the_advice_for_a_pil_image_keeps_its_pixels_and_shape(rig: Rig) -> None:
    from PIL import Image

    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)

    received = _sent_as_advised(rig, Image.fromarray(pixels))

    np.testing.assert_array_equal(received.to_numpy().reshape(2, 3, 3), pixels)


def test_the_advice_for_a_torch_tensor_keeps_its_values(rig: Rig) -> None:
    import torch

    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3)
    parameter = torch.nn.Parameter(torch.zeros(3))

    assert _sent_as_advised(rig, tensor).to_pylist() == [0, 1, 2, 3, 4, 5]
    assert _sent_as_advised(rig, parameter).to_pylist() == [0, 0, 0]
    assert _sent_as_advised(rig, tensor.bfloat16()).to_pylist() == [0, 1, 2, 3, 4, 5]


def test_a_dict_of_single_values_is_a_struct_array_of_length_1(rig: Rig) -> None:
    row = {"x": 1.5, "n": 2, "ok": True, "mode": "idle", "raw": b"a", "none": None}
    stamp = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)

    received = _round_trip(rig, {**row, "np": np.float32(2.5), "stamp": stamp})

    assert isinstance(received, pa.StructArray)
    assert received.to_pylist() == [{**row, "np": 2.5, "stamp": stamp}]


@pytest.mark.parametrize("data", [{}, {"a": 2**70}, {"a": 1j}, {"a": "\ud800"}])
def test_a_dict_that_arrow_cannot_hold_is_refused(rig: Rig, data: dict[str, Any]) -> None:
    with pytest.raises(InvalidDataError):
        rig.output.publish(data, None)


def test_a_tensor_on_a_device_is_moved_first(rig: Rig) -> None:
    class Tensor:
        device = "cuda:0"

    Tensor.__module__ = "torch"
    with pytest.raises(
        InvalidDataError, match=r"on cuda:0 is sent as x\.detach\(\)\.cpu\(\)\.numpy\(\)"
    ):
        rig.output.publish(Tensor(), None)


def test_the_refusal_is_doras_and_ours() -> None:
    """dora raises RuntimeError; a wrong type is a TypeError; a cell shows neither with our frames."""
    assert issubclass(InvalidDataError, RuntimeError | TypeError)
    assert issubclass(InvalidDataError, DoraNbError)


def test_a_message_beyond_the_address_space_of_an_output_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dora_nb.transport._publisher.DATA_SIZE", LARGE)
    link = rig.connect()
    with pytest.raises(InvalidDataError, match="at most 100,000"):
        rig.send(1, LARGE + 8)
    rig.send(2, LARGE)
    assert link.take_number() == 2
