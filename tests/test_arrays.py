"""Messages as tensors and tables."""

from __future__ import annotations

import datetime
import sys
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

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
    ("value", "said"),
    [
        (pa.array(["a"]), "'camera/image' is no tensor: it holds string."),
        (pa.array([{"a": 1}]), "it holds struct<a: int64>"),
        (pa.array([1, None]), "1 of its values are missing. Fill or drop them"),
    ],
)
def test_what_has_no_tensor(value: pa.Array[Any], said: str) -> None:
    with pytest.raises(MessageError) as raised:
        as_torch(event(value))
    assert said in str(raised.value)


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
    with pytest.raises(MessageError, match="of no message"):
        as_pandas([])
    with pytest.raises(MessageError, match="hold int64, string, which is no one table"):
        as_pandas([event(pa.array([1])), event(pa.array(["a"]))])


@pytest.mark.parametrize(("package", "function"), [("torch", as_torch), ("pandas", as_pandas)])
def test_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, package: str, function: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MessageError, match=f"%pip install {package}"):
        function(event(pa.array([1])))
