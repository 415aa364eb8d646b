"""Messages with pictures and boxes, and any array at all, for the tests of what reads them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st

GREY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
COLOUR = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
DEPTH = np.linspace(0.5, 4.0, 6 * 8, dtype=np.float32).reshape(6, 8)
MILLIMETRES = np.arange(300, 300 + 6 * 8, dtype=np.uint16).reshape(6, 8)
BOXES = np.array([[10, 20, 30, 40, 0.9, 2], [1, 2, 3, 4, 0.25, 0]], np.float32)


def message(value: object, **metadata: Any) -> dict[str, Any]:
    return {"type": "INPUT", "id": "image", "value": value, "metadata": metadata}


def sized(array: npt.NDArray[Any], encoding: str) -> dict[str, Any]:
    height, width = array.shape[:2]
    return message(pa.array(array.ravel()), width=width, height=height, encoding=encoding)


def photo(width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """A picture that JPEG keeps well."""
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    return np.dstack([np.tile(ramp, (height, 1)), np.full((height, width), 90, np.uint8)] * 2)[
        :, :, :3
    ].copy()


def encoded(array: npt.NDArray[Any], suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, array)
    assert done
    return data.tobytes()


def file_message(data: bytes, encoding: str) -> dict[str, Any]:
    return message(pa.array(np.frombuffer(data, np.uint8)), encoding=encoding)


ARRAYS: st.SearchStrategy[pa.Array[Any]] = st.one_of(
    st.lists(st.integers(0, 255) | st.none(), max_size=60).map(lambda v: pa.array(v, pa.uint8())),
    st.lists(st.floats(width=32) | st.none(), max_size=30).map(lambda v: pa.array(v, pa.float32())),
    st.lists(st.lists(st.floats() | st.none(), max_size=7) | st.none(), max_size=4).map(pa.array),
    st.lists(st.text(max_size=3) | st.none(), max_size=4).map(pa.array),
    st.lists(st.booleans(), max_size=4).map(pa.array),
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "bbox": st.none() | st.lists(st.none() | st.floats(0, 9), max_size=8),
                "conf": st.none() | st.lists(st.none() | st.floats(0, 1), max_size=2),
                "labels": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=2),
            },
        )
        | st.none(),
        max_size=2,
    ).map(pa.array),
)
METADATA = st.dictionaries(
    st.sampled_from(["width", "height", "encoding", "format", "names", "primitive", "shape"]),
    st.one_of(
        st.none(),
        st.integers(-2, 9),
        st.floats(),
        st.sampled_from(["bgr8", "mono8", "32FC1", "jpeg", "png", "xywh", "xyxy", "boxes2d", ""]),
        st.sampled_from(["depth", "image", "Z16", "nv12", "yuyv", "bayer_rggb8", "webp", "tiff"]),
        st.lists(st.text(max_size=2), max_size=2),
        st.lists(st.integers(-1, 9), max_size=3),
        st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    ),
)
