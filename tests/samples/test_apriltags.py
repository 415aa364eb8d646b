"""Tags that OpenCV draws, seen from known places through noise, are found where they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dora_nb.data.boxes import read_boxes
from dora_nb.events import Event
from dora_nb.testing import run_operator

SIZE_METRES = 0.1
WIDTH, HEIGHT, FOCAL_PX = 640, 480, 600.0
FACING = (np.pi, 0.0, 0.0)
"""The turn of a tag that looks straight into the camera, upright."""
MARKER_PIXELS = 400

Image = NDArray[np.uint8]


@pytest.fixture
def tags(load_sample: Callable[[str], ModuleType]) -> ModuleType:
    return load_sample("apriltags")


@pytest.fixture
def sent(
    tags: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, list[Event]]]:
    """What the operator sends on a picture."""

    def run(image: Image, encoding: str = "bgr8", **settings: object) -> dict[str, list[Event]]:
        given = {"focal_px": FOCAL_PX, **settings}
        for name, value in given.items():
            monkeypatch.setenv(f"TAG_{name.upper()}", str(value))
        height, width = image.shape[:2]
        about = {"width": width, "height": height, "encoding": encoding, "frame": 5}
        return run_operator(tags.Operator, [("image", pa.array(image.ravel()), about)])

    return run


def empty_picture() -> Image:
    """A grey wall that becomes lighter to the right."""
    ramp = np.linspace(90, 200, WIDTH).astype(np.uint8)
    return np.repeat(np.tile(ramp, (HEIGHT, 1))[:, :, None], 3, axis=2)


def true_matrix() -> NDArray[np.float64]:
    return np.array(
        [[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2], [0, 0, 1]], np.float64
    )


def turned(x_degrees: float = 0.0, y_degrees: float = 0.0, z_degrees: float = 0.0) -> Any:
    """The turn of a tag that faced the camera and was then turned about the camera's axes."""
    rotation, _ = cv2.Rodrigues(np.array(FACING))
    for axis, degrees in enumerate((x_degrees, y_degrees, z_degrees)):
        about = np.zeros(3)
        about[axis] = np.radians(degrees)
        rotation = cv2.Rodrigues(about)[0] @ rotation
    return cv2.Rodrigues(rotation)[0].ravel()


def with_tag(
    image: Image,
    number: int,
    place: tuple[float, float, float],
    turn: Any = FACING,
    family: int = cv2.aruco.DICT_APRILTAG_36h11,
) -> Image:
    """The picture with a tag on white card, as a camera sees it there."""
    dictionary = cv2.aruco.getPredefinedDictionary(family)
    marker = cv2.aruco.generateImageMarker(dictionary, number, MARKER_PIXELS)
    card = np.pad(marker, MARKER_PIXELS // 6, constant_values=255)
    half = SIZE_METRES / 2
    square = np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])
    seen, _ = cv2.projectPoints(square, np.array(turn), np.array(place), true_matrix(), None)
    # The middle of the first pixel is (0, 0), so the marker's edge is half a pixel before it.
    start, end = MARKER_PIXELS // 6 - 0.5, MARKER_PIXELS // 6 + MARKER_PIXELS - 0.5
    drawn = np.array([[start, start], [end, start], [end, end], [start, end]], np.float32)
    homography = cv2.getPerspectiveTransform(drawn, seen.reshape(4, 2).astype(np.float32))
    size = (image.shape[1], image.shape[0])
    flat = cv2.warpPerspective(card, homography, size, flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.full_like(card, 255), homography, size, flags=cv2.INTER_AREA)
    mixed = np.where(cover[:, :, None] > 127, flat[:, :, None], image)
    return cv2.GaussianBlur(mixed, (3, 3), 0)


def noisy(image: Image, deviation: float = 8.0) -> Image:
    noise = np.random.default_rng(3).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def one_pose(messages: dict[str, list[Event]]) -> dict[str, float]:
    (pose,) = messages["poses"][0]["value"].to_pylist()
    return pose


def degrees_between(quaternion: list[float], turn: Any) -> float:
    """The angle between a rotation that was sent and the true one."""
    x, y, z, w = quaternion
    found = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    true, _ = cv2.Rodrigues(np.array(turn))
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(found @ true.T)[0])))


PLACES = {
    "in the middle": ((0.0, 0.0, 0.5), turned()),
    "in a corner": ((-0.12, 0.08, 0.4), turned()),
    "on its side": ((0.05, 0.0, 0.5), turned(z_degrees=90)),
    "upside down": ((0.0, 0.0, 0.5), turned(z_degrees=180)),
    "on its other side": ((0.0, 0.03, 0.5), turned(z_degrees=-90)),
    "upside down, askew": ((0.05, -0.03, 0.5), turned(z_degrees=160)),
    "from the side": ((0.0, 0.02, 0.45), turned(y_degrees=45)),
    "from above": ((0.03, 0.0, 0.4), turned(x_degrees=-40, z_degrees=20)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("spoilt", [False, True], ids=["clean", "noisy"])
def test_a_tag_is_found_with_its_pose(
    place: str, spoilt: bool, sent: Callable[..., dict[str, list[Event]]]
) -> None:
    where, turn = PLACES[place]
    image = with_tag(empty_picture(), 17, where, turn)
    messages = sent(noisy(image) if spoilt else image)
    assert messages["ids"][0]["value"].to_pylist() == [17]
    pose = one_pose(messages)
    assert pose["id"] == 17
    assert [pose[axis] for axis in "xyz"] == pytest.approx(where, abs=0.002)
    quaternion = [pose[name] for name in ("qx", "qy", "qz", "qw")]
    assert degrees_between(quaternion, turn) < 2.0
    assert 0 <= pose["error_px"] < 1.0


@pytest.mark.parametrize("turn", [np.zeros(3), *np.random.default_rng(1).normal(0, 2, (40, 3))])
def test_a_quaternion_is_the_rotation_that_it_was_made_of(turn: Any, tags: ModuleType) -> None:
    quaternion = tags.quaternion_of(cv2.Rodrigues(turn)[0])
    assert degrees_between(quaternion, turn) < 1e-5
    assert quaternion[3] >= 0


def test_all_tags_of_a_picture_are_sent_in_one_order(
    sent: Callable[..., dict[str, list[Event]]],
) -> None:
    image = with_tag(empty_picture(), 30, (-0.1, 0.0, 0.5))
    image = with_tag(image, 4, (0.1, 0.05, 0.5))
    messages = sent(image)
    assert messages["ids"][0]["value"].to_pylist() == [4, 30]
    assert [pose["id"] for pose in messages["poses"][0]["value"].to_pylist()] == [4, 30]
    read = read_boxes(messages["boxes"][0])
    assert read.labels == ("tag 4", "tag 30")
    assert read.tracks is not None
    assert read.tracks.tolist() == [4, 30]
    side = FOCAL_PX * SIZE_METRES / 0.5 / 2
    for box, x, y in zip(read.values, (0.1, -0.1), (0.05, 0.0), strict=True):
        cx, cy = (WIDTH - 1) / 2 + FOCAL_PX * x / 0.5, (HEIGHT - 1) / 2 + FOCAL_PX * y / 0.5
        expected = [cx - side, cy - side, cx + side, cy + side, 1.0]
        assert box[:5] == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize(
    "image", [empty_picture(), noisy(empty_picture(), 60.0), np.zeros((HEIGHT, WIDTH, 3), np.uint8)]
)
def test_without_a_tag_there_are_messages_without_tags(
    image: Image, sent: Callable[..., dict[str, list[Event]]]
) -> None:
    messages = sent(image)
    assert messages["ids"][0]["value"].to_pylist() == []
    assert messages["poses"][0]["value"].to_pylist() == []
    assert len(read_boxes(messages["boxes"][0])) == 0
    assert {name: len(events) for name, events in messages.items()} == {
        "boxes": 1,
        "ids": 1,
        "poses": 1,
    }


def test_what_is_known_of_the_picture_goes_along(
    sent: Callable[..., dict[str, list[Event]]],
) -> None:
    messages = sent(with_tag(empty_picture(), 1, (0, 0, 0.5)))
    (boxes,), (ids,), (poses,) = messages["boxes"], messages["ids"], messages["poses"]
    assert boxes["metadata"]["frame"] == ids["metadata"]["frame"] == poses["metadata"]["frame"] == 5
    assert boxes["metadata"]["primitive"] == "boxes2d"
    assert {"encoding", "width", "height"} & {*ids["metadata"], *poses["metadata"]} == set()


@pytest.mark.parametrize("encoding", ["rgb8", "bgra8", "rgba8", "mono8", "jpeg", "PNG"])
def test_pictures_of_any_encoding_are_read(
    encoding: str, tags: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = with_tag(empty_picture(), 9, (0, 0, 0.5))
    sent_as = {
        "rgb8": image[:, :, ::-1],
        "bgra8": cv2.cvtColor(image, cv2.COLOR_BGR2BGRA),
        "rgba8": cv2.cvtColor(image, cv2.COLOR_BGR2RGBA),
        "mono8": cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
    }
    if encoding in sent_as:
        data = sent_as[encoding].ravel()
    else:
        data = cv2.imencode(f".{encoding.lower()}", image)[1].ravel()
    about = {"width": WIDTH, "height": HEIGHT, "encoding": encoding}
    messages = run_operator(tags.Operator, [("image", pa.array(data), about)])
    assert messages["ids"][0]["value"].to_pylist() == [9]


@pytest.mark.parametrize(
    ("family", "number"),
    [("tag16h5", cv2.aruco.DICT_APRILTAG_16h5), ("4x4_50", cv2.aruco.DICT_4X4_50)],
)
def test_other_families(
    family: str, number: int, sent: Callable[..., dict[str, list[Event]]]
) -> None:
    image = with_tag(empty_picture(), 3, (0, 0, 0.5), family=number)
    assert sent(image, family=family)["ids"][0]["value"].to_pylist() == [3]
    assert sent(image, family="36h11")["ids"][0]["value"].to_pylist() == []


def test_the_size_of_the_tag_and_the_focal_length_scale_the_pose(
    sent: Callable[..., dict[str, list[Event]]], capsys: pytest.CaptureFixture[str]
) -> None:
    image = with_tag(empty_picture(), 3, (0, 0, 0.5))
    assert one_pose(sent(image, size_m=0.2))["z"] == pytest.approx(1.0, abs=0.01)
    assert one_pose(sent(image, focal_px=300, size_m=0.1))["z"] == pytest.approx(0.25, abs=0.005)
    shifted = f"{FOCAL_PX},{FOCAL_PX},{(WIDTH - 1) / 2 - 60},{(HEIGHT - 1) / 2}"
    pose = one_pose(sent(image, focal_px=shifted))
    assert pose["x"] == pytest.approx(60 / FOCAL_PX * 0.5, abs=0.005)
    assert capsys.readouterr().out == ""
    # 60 degrees on 640 pixels are a focal length of 554.
    assert one_pose(sent(image, focal_px=""))["z"] == pytest.approx(0.5 * 554.26 / 600, abs=0.01)
    assert "set TAG_FOCAL_PX for exact ones" in capsys.readouterr().out


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"family": "37h11"},
            "TAG_FAMILY=37h11 is not known; known families: 16h5, 25h9, 36h10, 36h11, 4x4",
        ),
        (
            {"size_m": "small"},
            "TAG_SIZE_M must be 1 positive number(s), separated by commas, got 'small'",
        ),
        ({"size_m": "-0.1"}, "TAG_SIZE_M must be 1 positive"),
        ({"size_m": "nan"}, "TAG_SIZE_M must be 1 positive"),
        (
            {"focal_px": "600,600"},
            "TAG_FOCAL_PX must be 1 or 4 positive number(s), separated by commas",
        ),
    ],
)
def test_a_setting_that_is_wrong_is_refused_by_name(
    settings: dict[str, str], said: str, sent: Callable[..., dict[str, list[Event]]]
) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        sent(empty_picture(), **settings)


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        (
            np.zeros(12, np.uint8),
            {},
            "the metadata says 640x480 bgr8, but the message has 12 values of",
        ),
        (np.zeros(921600, np.float32), {}, "but the message has 921600 values of float"),
        (
            np.zeros(4, np.uint8),
            {"encoding": "yuv422"},
            "mono8, bgra8, rgba8, jpeg, jpg, png, webp, got 'yuv",
        ),
        (
            np.zeros(4, np.uint8),
            {"encoding": "jpeg"},
            "the picture is not a jpeg that OpenCV can read",
        ),
    ],
)
def test_a_message_that_is_not_a_picture_is_refused(
    data: Any, changes: dict[str, str], said: str, tags: ModuleType
) -> None:
    about = {"width": WIDTH, "height": HEIGHT, "encoding": "bgr8", **changes}
    with pytest.raises(ValueError, match=re.escape(said)):
        run_operator(tags.Operator, [("image", pa.array(data), about)])
