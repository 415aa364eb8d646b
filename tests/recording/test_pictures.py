"""Pictures as JPEG files: read as arrays of the original length, type, channels and metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import mcap.reader
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import dora_nb
from dora_nb.recording import RecordingWriter
from dora_nb.recording.pictures import EncodedPicture, encode_picture

from .recordings import BEGIN, record

WIDTH, HEIGHT = 64, 48
NOISE = np.random.default_rng(1).integers(0, 255, 640 * 480 * 3, np.uint8)


def picture(channels: int) -> npt.NDArray[np.uint8]:
    """Smooth, and unlike in each channel."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [rows * 4, columns * 3, rows + columns, rows * 0 + 200]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def size(encoding: str | None = None) -> dict[str, Any]:
    return {"width": WIDTH, "height": HEIGHT} | ({"encoding": encoding} if encoding else {})


@pytest.mark.parametrize(
    ("channels", "metadata"),
    [
        (3, size("bgr8")),
        (3, size("rgb8")),
        (3, size("BGR")),
        (3, size()),
        (3, {"shape": [HEIGHT, WIDTH, 3]}),
        (3, {"shape": [1, HEIGHT, WIDTH, 3]}),
        (1, size("mono8")),
        (1, {"shape": [HEIGHT, WIDTH], "encoding": "mono8", **size()}),
    ],
    ids=str,
)
def test_a_picture_comes_back_with_its_length_and_channels(
    tmp_path: Path, channels: int, metadata: dict[str, Any]
) -> None:
    sent = pa.array(picture(channels).ravel())
    path = record(tmp_path / "a.mcap", [("camera/image", sent, metadata)], images="jpeg")
    rec = dora_nb.Recording(path)
    (message,) = rec.messages()
    assert message.value.type == sent.type
    assert len(message.value) == len(sent)
    assert {**message.metadata, "timestamp": None} == {**metadata, "timestamp": None}
    difference = np.abs(message.value.to_numpy().astype(int) - sent.to_numpy().astype(int))
    assert difference.mean() < 2  # channels that are exchanged differ by more than 30
    assert "as JPEG" in rec["camera/image"].type
    assert rec["camera/image"].type.startswith(("bgr8", "rgb8", "mono8"))
    image = dora_nb.as_image(message.as_event(), size=(WIDTH, HEIGHT))
    assert image.shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("value", "metadata"),
    [
        (np.arange(WIDTH * HEIGHT, dtype=np.uint16), size("mono16")),
        (np.arange(WIDTH * HEIGHT, dtype=np.uint16), size("16UC1")),
        (np.arange(WIDTH * HEIGHT * 2, dtype=np.uint8), size("16UC1")),
        (np.arange(WIDTH * HEIGHT, dtype=np.float32), size("32FC1")),
        (picture(4), size("bgra8")),
        (picture(4), {"shape": [HEIGHT, WIDTH, 4]}),
        (picture(2), size("yuyv")),
        (picture(1), size("bayer_rggb8")),
        (picture(1), {"shape": [HEIGHT, WIDTH]}),  # may be a map, whose values mean something
        (NOISE[: WIDTH * HEIGHT], {"shape": [HEIGHT, WIDTH, 1]}),
        (NOISE, {}),  # the length alone is not enough
        (picture(3), {**size(), "width": WIDTH - 1}),
        (picture(3), {**size(), "encoding": "unheard of"}),
        (np.arange(5, dtype=np.uint8), {}),
        (cv2.imencode(".png", picture(3))[1], size("png")),
    ],
    ids=lambda each: None if isinstance(each, np.ndarray) else str(each),
)
def test_all_else_comes_back_equal(
    tmp_path: Path, value: npt.NDArray[Any], metadata: dict[str, Any]
) -> None:
    sent = pa.array(value.ravel())
    path = record(tmp_path / "a.mcap", [("camera/depth", sent, metadata)], images="jpeg")
    (message,) = dora_nb.Recording(path).messages()
    assert message.value.equals(sent)


def test_pictures_are_raw_unless_asked_for(tmp_path: Path) -> None:
    sent = pa.array(picture(3).ravel())
    (message,) = dora_nb.Recording(record(tmp_path / "a", [("a", sent, size())])).messages()
    assert message.value.equals(sent)


def test_pictures_of_any_size_share_a_channel_which_says_what_they_are(tmp_path: Path) -> None:
    crops = [picture(3)[:height, : height + 3] for height in range(8, 40)]
    sent = [
        ("a", pa.array(crop.ravel()), {"width": crop.shape[1], "height": crop.shape[0]})
        for crop in crops
    ]
    path = record(tmp_path / "a.mcap", sent, images="jpeg")
    assert [len(each.value) for each in dora_nb.Recording(path).messages()] == [
        crop.size for crop in crops
    ]
    with path.open("rb") as file:
        found = list(mcap.reader.make_reader(file).iter_messages())
    (channel,) = {channel.id: channel for _, channel, _ in found}.values()
    assert channel.metadata == {"dora_nb.picture": "jpeg", "dora_nb.encoding": "bgr8"}
    schema, _, message = found[0]
    assert schema is not None
    batch = pa.ipc.open_stream(pa.py_buffer(schema.data + message.data)).read_next_batch()
    file_in_message = batch.column("value").to_numpy()
    assert cv2.imdecode(file_in_message, cv2.IMREAD_COLOR).shape == crops[0].shape


def test_a_picture_that_was_encoded_before_is_written_as_it_is(tmp_path: Path) -> None:
    """The flight recorder has its pictures as JPEG files in memory."""
    sent = pa.array(picture(3).ravel())
    encoded = encode_picture(sent, size("rgb8"), quality=50)
    assert encoded is not None
    path = tmp_path / "a.mcap"
    with RecordingWriter(path) as writer:
        writer.write("a", encoded, size("rgb8"), publish_nanos=BEGIN, log_nanos=BEGIN)
    with path.open("rb") as file:
        ((_, _, raw),) = mcap.reader.make_reader(file).iter_messages()
    assert encoded.data in raw.data
    (message,) = dora_nb.Recording(path).messages()
    assert len(message.value) == len(sent)


def test_quality_decides_the_size() -> None:
    noise = pa.array(NOISE[: HEIGHT * WIDTH * 3])
    sizes = [
        encode_picture(noise, size(), quality).nbytes  # type: ignore[union-attr]
        for quality in (20, 60, 95)
    ]
    assert sizes == sorted(set(sizes))


def test_a_damaged_picture_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with RecordingWriter(path) as writer:
        good = encode_picture(pa.array(picture(3).ravel()), size())
        assert good is not None
        for each in (good, EncodedPicture(b"no picture", "bgr8"), good):
            writer.write("a", each, size(), publish_nanos=BEGIN, log_nanos=BEGIN)
    rec = dora_nb.Recording(path)
    assert len(list(rec.messages())) == 2
    assert rec.notes == ("1 of 3 messages of a cannot be decoded",)
