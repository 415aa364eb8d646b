"""The text for the value of a pixel."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from dora_nb.widgets.camera._pixels import PixelReader, number_text


def message(array: npt.NDArray[Any], encoding: str) -> dict[str, Any]:
    metadata = {"width": array.shape[1], "height": array.shape[0], "encoding": encoding}
    return {"id": "image", "value": pa.array(array.ravel()), "metadata": metadata}


def test_the_pixel_is_the_one_at_x_and_y():
    image = np.zeros((3, 5, 3), np.uint8)
    image[2, 4] = (1, 2, 3)
    reader = PixelReader(None, None)

    assert reader.text(message(image, "bgr8"), 4, 2) == "R 3 G 2 B 1"
    assert reader.text(message(image, "bgr8"), 2, 2) == "R 0 G 0 B 0"
    for place in ((5, 0), (0, 3), (-1, 0), (0, -1)):
        assert reader.text(message(image, "bgr8"), *place) is None


def test_alpha_is_told():
    image = np.full((2, 2, 4), (1, 2, 3, 200), np.uint8)

    assert PixelReader(None, None).text(message(image, "bgra8"), 0, 0) == "R 3 G 2 B 1 A 200"
    assert PixelReader(None, None).text(message(image, "rgba8"), 0, 0) == "R 1 G 2 B 3 A 200"


def test_a_compressed_picture_is_decoded_once_for_many_questions(monkeypatch: pytest.MonkeyPatch):
    data = cv2.imencode(".png", np.full((4, 4), 40_000, np.uint16))[1].ravel()
    event = {"id": "image", "value": pa.array(data), "metadata": {"encoding": "png"}}
    reader = PixelReader(None, None)
    assert reader.text(event, 1, 1) == "40000"
    monkeypatch.setattr(cv2, "imdecode", None)

    assert reader.text(event, 2, 1) == "40000"


def test_the_readers_size_and_encoding_are_used():
    event = {"id": "image", "value": pa.array(np.arange(6, dtype=np.uint8)), "metadata": {}}

    assert PixelReader((3, 2), "mono8").text(event, 0, 1) == "3"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.uint8(7), "7"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (np.int16(-5), "-5"),
        (np.float16(0.5), "0.5"),
        (np.float32(0.1), "0.1"),
        (np.float32(1234.5678), "1234.57"),
        (np.float64(1 / 3), "0.3333333333"),
        (np.float64(np.inf), "inf"),
    ],
)
def test_a_number_is_as_long_as_its_type_is_exact(value: Any, text: str):
    assert number_text(value) == text
