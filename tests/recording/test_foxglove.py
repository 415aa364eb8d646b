"""Twin channels for Foxglove, decoded with Foxglove's own packages."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import cv2
import mcap.reader
import numpy as np
import pyarrow as pa
import pytest
from mcap_protobuf.decoder import DecoderFactory

import dora_nb
from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter

from .recordings import BEGIN, record

PIXELS = np.full((48, 64, 3), (10, 120, 240), np.uint8)
PICTURE = (
    "camera/image",
    pa.array(PIXELS.ravel()),
    {"width": 64, "height": 48, "encoding": "bgr8", "frame_id": "front"},
)
BOXES = (
    "detector/boxes",
    pa.array([{"bbox": [1.0, 2.0, 3.0, 4.0], "conf": [0.5], "labels": ["cat"]}]),
    {"format": "xyxy"},
)


def twins(path: Path) -> list[tuple[Any, Any, Any, Any]]:
    """Schema, channel, message and decoded message of each twin, as Foxglove reads them."""
    with path.open("rb") as file:
        reader = mcap.reader.make_reader(
            file, validate_crcs=True, decoder_factories=[DecoderFactory()]
        )
        found = list(reader.iter_messages())
        decoded = {
            (message.channel_id, message.sequence): content
            for _, channel, message, content in reader.iter_decoded_messages(
                topics=[
                    channel.topic
                    for _, channel, _ in found
                    if channel.message_encoding == "protobuf"
                ]
                or ["none"]
            )
        }
    return [
        (schema, channel, message, decoded.get((message.channel_id, message.sequence)))
        for schema, channel, message in found
        if channel.topic.startswith("/")
    ]


@pytest.mark.parametrize("images", ["raw", "jpeg"])
def test_a_picture_is_a_compressed_image(tmp_path: Path, images: str) -> None:
    path = record(tmp_path / "run.mcap", [PICTURE], images=images, foxglove=True)
    ((schema, channel, message, image),) = twins(path)
    assert schema.name == "foxglove.CompressedImage"
    assert channel.topic == "/camera/image"
    assert channel.metadata == {"dora_nb.twin_of": "camera/image"}
    assert (message.log_time, message.publish_time) == (BEGIN, BEGIN)
    assert (image.format, image.frame_id) == ("jpeg", "front")
    assert image.timestamp.ToNanoseconds() == BEGIN
    decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - PIXELS).max() < 5


def test_a_compressed_picture_is_passed_on(tmp_path: Path) -> None:
    png = cv2.imencode(".png", PIXELS)[1].ravel()
    sent = ("camera/image", pa.array(png), {"encoding": "png"})
    ((_, _, _, image),) = twins(record(tmp_path / "run.mcap", [sent], foxglove=True))
    assert image.format == "png"
    assert image.data == png.tobytes()


def test_boxes_are_annotations_with_labels(tmp_path: Path) -> None:
    none = (BOXES[0], BOXES[1].slice(0, 0), BOXES[2])
    found = twins(record(tmp_path / "run.mcap", [BOXES, none], foxglove=True))
    (schema, channel, _, boxes), (_, _, _, empty) = found
    assert schema.name == "foxglove.ImageAnnotations"
    assert channel.topic == "/detector/boxes"
    (line,) = boxes.points
    assert line.type == line.LINE_LOOP
    assert [(point.x, point.y) for point in line.points] == [(1, 2), (3, 2), (3, 4), (1, 4)]
    assert [text.text for text in boxes.texts] == ["cat 0.50"]
    assert len(empty.points) == 0


def test_a_line_of_a_log_is_a_log(tmp_path: Path) -> None:
    entry = {"level": "error", "message": "it fell", "node_id": "robot", "file": "a.py", "line": 7}
    sent = ("dora/logs", pa.array([json.dumps(entry)]), {})
    ((schema, _, _, log),) = twins(record(tmp_path / "run.mcap", [sent], foxglove=True))
    assert schema.name == "foxglove.Log"
    assert (log.level, log.message, log.name) == (log.ERROR, "it fell", "robot")
    assert (log.file, log.line) == ("a.py", 7)


def test_a_line_that_was_printed_is_information(tmp_path: Path) -> None:
    sent = ("dora/logs", pa.array([json.dumps({"level": "stdout", "message": "hello"})]), {})
    ((_, _, _, log),) = twins(record(tmp_path / "run.mcap", [sent], foxglove=True))
    assert (log.level, log.message) == (log.INFO, "hello")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (pa.array([1.5]), {"value": 1.5}),
        (pa.array([True]), {"value": True}),
        (pa.array([3, 4], pa.int8()), {"values": [3, 4]}),
        (pa.array([float("nan"), 1.0]), {"values": [None, 1.0]}),
        (pa.array(["forward"]), {"value": "forward"}),
        (pa.array([{"x": 1, "pose": {"y": [2.0]}}]), {"x": 1, "pose": {"y": [2.0]}}),
    ],
    ids=str,
)
def test_values_are_json_with_a_schema(
    tmp_path: Path, value: pa.Array[Any], content: dict[str, Any]
) -> None:
    path = record(tmp_path / "run.mcap", [("robot/state", value, {})] * 2, foxglove=True)
    found = twins(path)
    assert len({channel.id for _, channel, _, _ in found}) == 1
    schema, channel, message, _ = found[0]
    assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json")
    assert json.loads(message.data) == content
    assert json.loads(schema.data)["properties"].keys() == content.keys()


def test_a_recording_with_twins_is_the_same_recording(tmp_path: Path) -> None:
    sent = [PICTURE, BOXES, ("imu/accel", pa.array([1.0, 2.0, 3.0]), {})]
    with_twins = dora_nb.Recording(record(tmp_path / "a.mcap", sent, foxglove=True))
    without = dora_nb.Recording(record(tmp_path / "b.mcap", sent))
    assert with_twins.topics == without.topics
    assert list(with_twins.messages()) == list(without.messages())
    assert with_twins.duration_secs == without.duration_secs


def test_what_foxglove_cannot_show_has_no_twin(tmp_path: Path) -> None:
    sent = [
        ("a", pa.array([b"bytes"]), {}),
        ("b", pa.array([1, 2], pa.uint8()), {}),
        ("c", pa.array([], pa.float32()), {}),
        ("d", pa.array(range(5000)), {}),
        ("dora/logs", pa.array(["no JSON"]), {}),
        ("e", pa.array([[1, 2]]), {}),
        ("f", pa.array([1.0] * 5), {"primitive": "boxes2d"}),
    ]
    assert twins(record(tmp_path / "run.mcap", sent, foxglove=True)) == []


def test_without_foxgloves_package_no_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name.startswith("foxglove_schemas_protobuf"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(RecordingError, match=r"dora-nb\[foxglove\]") as caught:
        RecordingWriter(tmp_path / "run.mcap", foxglove=True)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
