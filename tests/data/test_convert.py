"""Messages as tensors and tables."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from dora_nb import as_pandas, as_torch
from dora_nb.errors import MessageError

WHEN = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)


def event(value: pa.Array[Any], **metadata: Any) -> dict[str, Any]:
    about = {"timestamp": WHEN, **metadata}
    return {
        "type": "INPUT",
        "kind": "dora",
        "id": "camera/image",
        "value": value,
        "metadata": about,
    }


@pytest.mark.parametrize(
    ("encoding", "dtype", "shape"),
    [
        ("bgr8", np.uint8, (4, 6, 3)),
        ("mono8", np.uint8, (4, 6)),
        ("mono16", np.uint16, (4, 6)),
        ("32FC1", np.float32, (4, 6)),
    ],
)
def test_a_picture_is_a_tensor_on_its_own_memory(
    encoding: str, dtype: type, shape: tuple[int, ...]
) -> None:
    picture = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    value = pa.array(picture.ravel().view(np.uint8))
    tensor = as_torch(event(value, width=6, height=4, encoding=encoding))
    assert tuple(tensor.shape) == shape
    assert (tensor.numpy() == picture).all()
    assert tensor.data_ptr() == value.buffers()[1].address


def test_numbers_are_a_flat_tensor_also_of_a_slice() -> None:
    value = pa.array(np.arange(10, dtype=np.float32))[3:]
    tensor = as_torch(event(value))
    assert tensor.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert tensor.data_ptr() == value.buffers()[1].address + 12
    assert as_torch(event(pa.array([True, False]))).tolist() == [True, False]
    _, png = cv2.imencode(".png", np.full((4, 6, 3), 7, np.uint8))
    decoded = as_torch(event(pa.array(png.ravel()), width=6, height=4, encoding="png"))
    assert (tuple(decoded.shape), int(decoded[0, 0, 0])) == ((4, 6, 3), 7)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (pa.array(["a"]), "cannot convert camera/image to a tensor: it holds string."),
        (pa.array([{"a": 1}]), "it holds struct<a: int64>"),
        (pa.array([1, None]), "1 of its values are null. Fill or drop them"),
    ],
)
def test_an_array_that_cannot_be_a_tensor(value: pa.Array[Any], error: str) -> None:
    with pytest.raises(MessageError) as raised:
        as_torch(event(value))
    assert error in str(raised.value)


def test_a_struct_is_a_table_and_numbers_are_a_series() -> None:
    boxes = pa.array([{"conf": 0.5, "label": "cup"}, {"conf": 0.75, "label": "cat"}])
    table = as_pandas(event(boxes, primitive="boxes2d"))
    assert table.to_dict("list") == {"conf": [0.5, 0.75], "label": ["cup", "cat"]}
    assert table.attrs == {"timestamp": WHEN, "primitive": "boxes2d"}
    series = as_pandas(event(pa.array([1, 2])))
    assert (series.name, series.tolist()) == ("camera/image", [1, 2])
    words = as_pandas(event(pa.array(["a", "b", "a"]).dictionary_encode()))
    assert words.cat.categories.tolist() == ["a", "b"]


def test_several_messages_are_one_table_under_their_times() -> None:
    later = WHEN + datetime.timedelta(seconds=1)
    messages = [event(pa.array([1, 2])), event(pa.array([3]), timestamp=later)]
    table = as_pandas(messages)
    assert table["value"].tolist() == [1, 2, 3]
    assert [when.to_pydatetime() for when in table.index] == [WHEN, WHEN, later]
    structs = as_pandas([event(pa.array([{"x": 1}])), event(pa.array([{"x": 2}]))])
    assert structs["x"].tolist() == [1, 2]
    with pytest.raises(MessageError, match="needs at least one message; got an empty list"):
        as_pandas([])
    with pytest.raises(MessageError, match="needs messages of one type; got int64, string"):
        as_pandas([event(pa.array([1])), event(pa.array(["a"]))])


@pytest.mark.parametrize(("package", "function"), [("torch", as_torch), ("pandas", as_pandas)])
def test_an_error_says_which_library_is_missing(
    monkeypatch: pytest.MonkeyPatch, package: str, function: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MessageError, match=rf"as_{package} needs .*%pip install 'dora-nb\[{package}\]'"
    ):
        function(event(pa.array([1])))


WRITES: dict[str, Callable[[torch.Tensor], object]] = {
    "an operator": lambda t: t.__iadd__(1),
    "an item": lambda t: t.__setitem__(0, 7),
    "a method": lambda t: t.zero_(),
    "a function": torch.relu_,
    "a flag": lambda t: torch.nn.functional.relu(t, inplace=True),
    "out": lambda t: torch.add(torch.zeros(8), 1, out=t),
    "one of two": lambda t: torch.max(torch.ones(8, 1), 1, out=(t, torch.zeros(8).long())),
    "a view": lambda t: t[2:].mul_(2),
    "a part": lambda t: t.split(4)[1].fill_(1),
    "without its history": lambda t: t.detach().add_(1),
    "its data": lambda t: t.data.add_(1),
    "numpy": lambda t: t.numpy().__setitem__(0, 1),
    "an array": lambda t: np.asarray(t).__setitem__(0, 1),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_tensor_on_the_memory_of_a_message_is_not_written(name: str) -> None:
    value = pa.array(np.arange(8, dtype=np.float32))
    with pytest.raises(ValueError, match=r"clone\(\) the tensor first|read-only"):
        WRITES[name](as_torch(event(value)))
    assert value.to_pylist() == list(range(8))


def test_what_is_computed_from_it_is_an_ordinary_tensor() -> None:
    tensor = as_torch(event(pa.array(np.arange(8, dtype=np.float32))))
    for computed in (tensor.clone(), tensor + 1, tensor.double(), torch.cat([tensor, tensor])):
        assert type(computed) is torch.Tensor
        computed.add_(1)
    into = torch.zeros(8)
    into.copy_(tensor)
    assert into.tolist() == tensor.tolist() == list(range(8))
    assert torch.nn.Linear(8, 2)(tensor).shape == (2,)


def test_numbers_with_the_metadata_of_a_camera_are_not_a_picture() -> None:
    depths = event(pa.array([0.5, 1.5], pa.float32()), width=640, height=480, encoding="bgr8")
    assert as_torch(depths).tolist() == [0.5, 1.5]


def test_a_table_may_be_written() -> None:
    value = pa.array([1, 2, 3])
    table = as_pandas(event(value))
    table.iloc[0] = 9
    assert value.to_pylist() == [1, 2, 3]
