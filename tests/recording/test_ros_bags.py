"""ROS 2 bags, written by `rosbags`: in our forms, also as a bare MCAP file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

import dora_nb
from dora_nb.errors import RecordingError

from .recordings import BEGIN, SECOND

STORE = get_typestore(Stores.ROS2_HUMBLE)
VISION = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": (
        "std_msgs/Header header\nvision_msgs/Detection2D[] detections"
    ),
    "robot_msgs/msg/Wheels": (
        "std_msgs/Header header\nfloat32 left\nfloat32[] currents\nint32 mode\nstring name\n"
        "geometry_msgs/Point[2] feet"
    ),
}
for _name, _text in VISION.items():
    STORE.register(get_types_from_msg(_text, _name))
STAMP = 1_650_000_000


def ros(name: str, /, **fields: Any) -> Any:
    return STORE.types[name](**fields)


def header() -> Any:
    stamp = ros("builtin_interfaces/msg/Time", sec=STAMP, nanosec=5_000)
    return ros("std_msgs/msg/Header", stamp=stamp, frame_id="front")


def vector(x: float, y: float, z: float) -> Any:
    return ros("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8)
DEPTH = np.arange(24, dtype=np.uint16) * 1000


def image(encoding: str, data: np.ndarray, step: int, *, is_bigendian: int = 0) -> Any:
    return ros(
        "sensor_msgs/msg/Image",
        header=header(),
        height=4,
        width=6,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=step,
        data=data,
    )


def padded(pixels: np.ndarray) -> np.ndarray:
    rows = pixels.reshape(4, -1)
    return np.hstack([rows, np.full((4, 2), 255, np.uint8)]).ravel()


def detections() -> Any:
    found = []
    for at in range(2):
        position = ros("vision_msgs/msg/Point2D", x=10.0 + at, y=20.0)
        centre = ros("vision_msgs/msg/Pose2D", position=position, theta=0.0)
        box = ros("vision_msgs/msg/BoundingBox2D", center=centre, size_x=4.0, size_y=6.0)
        hypothesis = ros(
            "vision_msgs/msg/ObjectHypothesis", class_id=f"cat{at}", score=0.5 + at / 4
        )
        result = ros("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis)
        found.append(
            ros(
                "vision_msgs/msg/Detection2D",
                header=header(),
                results=[result],
                bbox=box,
                id="",
            )
        )
    return ros("vision_msgs/msg/Detection2DArray", header=header(), detections=found)


def cloud() -> Any:
    layout = np.dtype(
        {
            "names": ["x", "y", "z", "intensity"],
            "formats": ["<f4", "<f4", "<f4", "<u2"],
            "offsets": [0, 4, 8, 16],
            "itemsize": 20,
        }
    )
    points = np.zeros(3, layout)
    points["x"], points["intensity"] = [1, 2, 3], [7, 8, 9]
    fields = [
        ros("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=kind, count=1)
        for name, offset, kind in (("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 16, 4))
    ]
    return ros(
        "sensor_msgs/msg/PointCloud2",
        header=header(),
        height=1,
        width=3,
        fields=fields,
        is_bigendian=False,
        point_step=20,
        row_step=60,
        data=np.frombuffer(points.tobytes(), np.uint8),
        is_dense=True,
    )


def quaternion() -> Any:
    return ros("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)


def point(x: float) -> Any:
    return ros("geometry_msgs/msg/Point", x=x, y=0.0, z=0.0)


def messages() -> dict[str, Any]:
    twist = ros("geometry_msgs/msg/Twist", linear=vector(1, 2, 3), angular=vector(0, 0, 0.5))
    pose = ros("geometry_msgs/msg/Pose", position=point(4), orientation=quaternion())
    return {
        "/camera/image": image("bgr8", PIXELS, 18),
        "/camera/padded": image("rgb8", padded(PIXELS), 20),
        "/camera/depth": image("16UC1", DEPTH.view(np.uint8), 12),
        "/camera/big_endian": image("mono16", DEPTH.byteswap().view(np.uint8), 12, is_bigendian=1),
        "/camera/compressed": ros(
            "sensor_msgs/msg/CompressedImage",
            header=header(),
            format="rgb8; jpeg compressed bgr8",
            data=np.frombuffer(b"\xff\xd8\xff\xe0 and so on", np.uint8),
        ),
        "/detections": detections(),
        "/lidar": cloud(),
        "/imu": ros(
            "sensor_msgs/msg/Imu",
            header=header(),
            orientation=quaternion(),
            orientation_covariance=np.zeros(9),
            angular_velocity=vector(0, 0, 1),
            angular_velocity_covariance=np.zeros(9),
            linear_acceleration=vector(0, 0, 9.81),
            linear_acceleration_covariance=np.zeros(9),
        ),
        "/cmd_vel": twist,
        "/cmd_vel_stamped": ros("geometry_msgs/msg/TwistStamped", header=header(), twist=twist),
        "/pose": ros("geometry_msgs/msg/PoseStamped", header=header(), pose=pose),
        "/battery": ros("std_msgs/msg/Float64", data=12.5),
        "/word": ros("std_msgs/msg/String", data="hello"),
        "/ok": ros("std_msgs/msg/Bool", data=True),
        "/wheels": ros(
            "robot_msgs/msg/Wheels",
            header=header(),
            left=1.5,
            currents=np.array([1, 2], np.float32),
            mode=-3,
            name="front",
            feet=[point(1), point(2)],
        ),
        "/empty": ros("std_msgs/msg/Empty", structure_needs_at_least_one_member=0),
    }


@pytest.fixture(scope="module", params=["sqlite3", "mcap", "bare mcap"])
def bag(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bag") / "bag"
    plugin = StoragePlugin.SQLITE3 if request.param == "sqlite3" else StoragePlugin.MCAP
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        for at, (topic, message) in enumerate(messages().items()):
            name = message.__msgtype__
            connection = writer.add_connection(topic, name, typestore=STORE)
            for again in range(3):
                data = STORE.serialize_cdr(message, name)
                writer.write(connection, BEGIN + at + again * SECOND, data)
    if request.param == "bare mcap":
        yield next(folder.glob("*.mcap"))
    else:
        yield folder


def test_a_bag_is_opened_with_its_topics(bag: Path) -> None:
    rec = dora_nb.Recording(bag)
    assert rec.topics == tuple(sorted(messages()))
    assert rec.notes == ()
    assert rec.start_nanos == BEGIN
    assert rec.duration_secs == pytest.approx(2, abs=1e-6)
    assert rec["/imu"].count == 3
    assert list(np.round(rec["/imu"].times, 3)) == [0, 1, 2]
    assert "sensor_msgs/msg/Imu" in repr(rec)
    assert [len(list(rec.messages("/imu", start=start))) for start in (0.5, 1.5)] == [2, 1]
    second = rec["/imu"].at(1.5)
    assert second is not None
    assert second["id"] == "/imu"
    assert len(list(rec.events())) == 3 * len(messages())


def first(bag: Path, topic: str) -> tuple[Any, dict[str, Any]]:
    (event,) = dora_nb.Recording(bag).take(topic, 1)
    return event["value"], event["metadata"]


def test_pictures_are_pictures(bag: Path) -> None:
    for topic, pixels, encoding in (
        ("/camera/image", PIXELS, "bgr8"),
        ("/camera/padded", PIXELS, "rgb8"),
        ("/camera/depth", DEPTH, "16UC1"),
        ("/camera/big_endian", DEPTH, "mono16"),
    ):
        value, metadata = first(bag, topic)
        assert value.to_numpy().tolist() == pixels.tolist(), topic
        assert value.to_numpy().dtype == pixels.dtype
        assert metadata["timestamp"].timestamp() == pytest.approx(STAMP + 5e-6)
        del metadata["timestamp"]
        assert metadata == {"width": 6, "height": 4, "encoding": encoding, "frame_id": "front"}
        (event,) = dora_nb.Recording(bag).take(topic, 1)
        assert dora_nb.as_image(event).shape[:2] == (4, 6)
    value, metadata = first(bag, "/camera/compressed")
    assert value.to_numpy().tobytes() == b"\xff\xd8\xff\xe0 and so on"
    assert metadata["encoding"] == "jpeg"


def test_detections_are_boxes(bag: Path) -> None:
    (event,) = dora_nb.Recording(bag).take("/detections", 1)
    boxes = dora_nb.as_boxes(event)
    assert boxes[:, :5].tolist() == [[8, 17, 12, 23, 0.5], [9, 17, 13, 23, 0.75]]
    assert event["value"][0]["labels"].as_py() == ["cat0", "cat1"]


def test_points_are_a_struct_each(bag: Path) -> None:
    value, _ = first(bag, "/lidar")
    assert value.to_pylist() == [
        {"x": float(at), "y": 0.0, "z": 0.0, "intensity": at + 6} for at in (1, 2, 3)
    ]
    assert [str(field.type) for field in value.type] == ["float", "float", "float", "uint16"]


def test_motion_is_a_struct(bag: Path) -> None:
    value, metadata = first(bag, "/imu")
    row = value[0].as_py()
    assert row["linear_acceleration"] == {"x": 0.0, "y": 0.0, "z": 9.81}
    assert "header" not in row
    assert metadata["frame_id"] == "front"
    for topic in ("/cmd_vel", "/cmd_vel_stamped"):
        assert first(bag, topic)[0].to_pylist() == [
            {"linear": {"x": 1, "y": 2, "z": 3}, "angular": {"x": 0, "y": 0, "z": 0.5}}
        ]
    assert first(bag, "/pose")[0].to_pylist() == [
        {"position": {"x": 4, "y": 0, "z": 0}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    ]


def test_scalars_are_values(bag: Path) -> None:
    assert first(bag, "/battery")[0].to_pylist() == [12.5]
    assert first(bag, "/word")[0].to_pylist() == ["hello"]
    assert first(bag, "/ok")[0].to_pylist() == [True]
    assert first(bag, "/empty")[0].to_pylist() == [{}]


def test_any_other_message_is_a_struct_of_its_types(bag: Path) -> None:
    value, _ = first(bag, "/wheels")
    assert value.to_pylist() == [
        {
            "left": 1.5,
            "currents": [1, 2],
            "mode": -3,
            "name": "front",
            "feet": [{"x": 1, "y": 0, "z": 0}, {"x": 2, "y": 0, "z": 0}],
        }
    ]
    assert [str(value.type.field(name).type) for name in ("left", "mode")] == ["float", "int32"]
    assert str(value.type.field("currents").type) == "list<item: float>"


def test_a_bag_without_rosbags_says_the_command(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name.startswith("rosbags"):
            raise ModuleNotFoundError("No module named 'rosbags'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    if bag.is_dir():
        with pytest.raises(RecordingError, match=r"need the package rosbags.*dora-nb\[ros\]"):
            dora_nb.Recording(bag)
        return
    rec = dora_nb.Recording(bag)  # shows what it holds
    assert rec["/imu"].type == "sensor_msgs/msg/Imu (cdr)"
    with pytest.raises(RecordingError, match=r"cannot read /imu of .*dora-nb\[ros\]") as caught:
        rec.take("/imu", 1)
    assert "\n" not in str(caught.value)


def test_a_damaged_bag_is_one_line(tmp_path: Path) -> None:
    for content in ("", "]", "rosbag2_bagfile_information: 3"):
        (tmp_path / "metadata.yaml").write_text(content)
        with pytest.raises(RecordingError, match="cannot open the bag") as caught:
            dora_nb.Recording(tmp_path)
        assert "\n" not in str(caught.value)
