"""AprilTags as a dora operator: which tags are on a picture, where, and where they are in space.

    %dora_operator tags ../samples/apriltags.py --inputs image=camera/image --outputs boxes ids poses --queue image=1

It needs no weights: OpenCV finds the tags. For each picture it sends, also if there is no tag on it:

boxes    the struct array of boxes.py, one box for each tag, labelled "tag 7", with the id as the track
ids      the ids, int64, in the order of the boxes
poses    a struct for each tag: its ``id``; ``x``, ``y``, ``z``, the middle of the tag in metres from the camera
         (x right, y down, z forward); ``qx``, ``qy``, ``qz``, ``qw``, the rotation from the tag's axes (x right,
         y up, z out of the tag, as it is printed) to the camera's; and ``error_px``, how far the corners are
         from where this pose puts them, in pixels

The metadata of the picture goes along, with its timestamp, so a reader can match the three.

Settings, from the environment (``--env TAG_SIZE_M=0.08``):

TAG_FAMILY     ``36h11`` (default), ``36h10``, ``25h9``, ``16h5``, or one of ArUco such as ``4x4_50``
TAG_SIZE_M     the side of the black square in metres, by default 0.1; it scales the poses
TAG_FOCAL_PX   the focal length of the camera in pixels: ``600``, or ``fx,fy,cx,cy`` of a calibration. Without
               it the camera is taken to see 60 degrees from left to right, and distances are rough
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from dora import DoraStatus
from numpy.typing import NDArray

# The folder of this file is not on `sys.path` everywhere. It goes first, so that no other module
# named `boxes` is found.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from boxes import boxes_from

DEFAULT_VIEW_DEGREES = 60.0
QUARTER_TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
POSE_FIELDS = ("x", "y", "z", "qx", "qy", "qz", "qw", "error_px")
CHANNELS = {"bgr8": 3, "rgb8": 3, "mono8": 1, "bgra8": 4, "rgba8": 4}
TO_GREY = {
    "bgr8": cv2.COLOR_BGR2GRAY,
    "rgb8": cv2.COLOR_RGB2GRAY,
    "bgra8": cv2.COLOR_BGRA2GRAY,
    "rgba8": cv2.COLOR_RGBA2GRAY,
}
COMPRESSED = ("jpeg", "jpg", "png", "webp")

Image = NDArray[np.uint8]
Points = NDArray[np.float64]


# ---------------------------------------------------------------- settings


class SettingError(ValueError):
    """A setting has a value that it cannot have."""

    __tracebackhide__ = True  # dora_nb shows its text alone


@dataclass(frozen=True)
class Settings:
    dictionary: int
    """OpenCV's number of the family."""
    size_metres: float
    focal_px: tuple[float, ...]
    """One number, four (fx, fy, cx, cy), or none."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        family = environment.get("TAG_FAMILY", "").strip() or "36h11"
        (size,) = _numbers(environment, "TAG_SIZE_M", "0.1", (1,))
        return cls(family_of(family), size, _numbers(environment, "TAG_FOCAL_PX", "", (0, 1, 4)))


def families() -> dict[str, int]:
    """OpenCV's dictionaries by short name: ``36h11`` for AprilTags, ``4x4_50`` for ArUco."""
    found = {}
    for name in dir(cv2.aruco):
        if name.startswith("DICT_"):
            short = name.removeprefix("DICT_").removeprefix("APRILTAG_").lower()
            found[short] = int(getattr(cv2.aruco, name))
    return found


def family_of(name: str) -> int:
    known = families()
    short = name.lower().removeprefix("tag").removeprefix("dict_").removeprefix("apriltag_")
    if short not in known:
        raise SettingError(
            f"TAG_FAMILY={name} is not known; known families: {', '.join(sorted(known))}"
        )
    return known[short]


def _numbers(
    environment: Mapping[str, str], name: str, default: str, counts: tuple[int, ...]
) -> tuple[float, ...]:
    text = environment.get(name, "").strip() or default
    try:
        numbers = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        numbers = (math.nan,)
    if len(numbers) not in counts or not all(0 < number < math.inf for number in numbers):
        wanted = " or ".join(str(count) for count in counts if count)
        raise SettingError(
            f"{name} must be {wanted} positive number(s), separated by commas, got {text!r}"
        )
    return numbers


# ---------------------------------------------------------------- finding tags


@dataclass(frozen=True)
class Tag:
    id: int
    corners: Points
    """(4, 2): x and y in pixels of top left, top right, bottom right, bottom left, as the tag is printed."""

    @property
    def box(self) -> list[float]:
        """x1, y1, x2, y2 of the upright box around the tag."""
        return [*self.corners.min(axis=0).tolist(), *self.corners.max(axis=0).tolist()]


class Finder:
    """Finds the tags of one family on grey pictures."""

    def __init__(self, dictionary: int) -> None:
        parameters = cv2.aruco.DetectorParameters()
        # Without it corners are whole pixels, and distances are wrong by three times as much.
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        family = cv2.aruco.getPredefinedDictionary(dictionary)
        self._detector = cv2.aruco.ArucoDetector(family, parameters)

    def find(self, grey: Image) -> list[Tag]:
        """The tags on a ``(height, width)`` uint8 picture, by id."""
        corners, ids, _ = self._detector.detectMarkers(grey)
        if ids is None:
            return []
        found = [
            Tag(int(number), np.asarray(each, np.float64).reshape(4, 2))
            for number, each in zip(ids.ravel(), corners, strict=True)
        ]
        return sorted(found, key=lambda tag: (tag.id, tag.box))


def camera_matrix(width: int, height: int, focal_px: tuple[float, ...]) -> Points:
    """The (3, 3) matrix of a camera without distortion."""
    if len(focal_px) == 4:
        fx, fy, cx, cy = focal_px
    else:
        half_view = math.radians(DEFAULT_VIEW_DEGREES) / 2
        fx = fy = focal_px[0] if focal_px else width / 2 / math.tan(half_view)
        # The middle of the first pixel is (0, 0) in OpenCV.
        cx, cy = (width - 1) / 2, (height - 1) / 2
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def pose_of(corners: Points, size_metres: float, matrix: Points) -> dict[str, float]:
    """The pose of a tag, as in `POSE_FIELDS`; NaN if the corners are not those of a square."""
    # OpenCV's solver returns wrong turns near 180 degrees. So it gets the corners from the one that is at the
    # top left of the picture on, in axes with y down, as for a tag that is turned by 45 degrees at most.
    quarters = _quarter_turns(corners)
    bottom_left_first = np.roll(corners, -quarters, axis=0)[[3, 2, 1, 0]]
    half = size_metres / 2
    square = np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])
    # Four corners of a square allow two poses; they come with the better one first.
    _, turns, moves, errors = cv2.solvePnPGeneric(
        square, bottom_left_first, matrix, None, flags=cv2.SOLVEPNP_IPPE_SQUARE
    )
    if not turns:
        return dict.fromkeys(POSE_FIELDS, math.nan)
    rotation = cv2.Rodrigues(turns[0])[0] @ np.linalg.matrix_power(QUARTER_TURN, quarters)
    rotation = rotation @ np.diag([1.0, -1.0, -1.0])  # y up, z out of the tag
    numbers = [*np.ravel(moves[0]), *quaternion_of(rotation), float(np.ravel(errors)[0])]
    return dict(zip(POSE_FIELDS, map(float, numbers), strict=True))


def _quarter_turns(corners: Points) -> int:
    """The corner from which on the upper edge runs to the right, within 45 degrees."""
    edges = np.roll(corners, -1, axis=0) - corners
    return int(np.argmax(edges[:, 0] / np.linalg.norm(edges, axis=1)))


def quaternion_of(rotation: Points) -> list[float]:
    """x, y, z, w of a (3, 3) rotation matrix, with w >= 0."""
    # By the largest of the four, since the others are divided by it.
    trace = np.trace(rotation)
    squares = np.array([*(1 + 2 * np.diag(rotation) - trace), 1 + trace]) / 4
    largest = int(np.argmax(squares))
    products = np.empty((4, 4))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        k = 3 - i - j
        sign = 1 if (j - i) % 3 == 1 else -1
        products[i, j] = products[j, i] = (rotation[i, j] + rotation[j, i]) / 4
        products[k, 3] = products[3, k] = sign * (rotation[j, i] - rotation[i, j]) / 4
    np.fill_diagonal(products, squares)
    quaternion = products[largest] / math.sqrt(squares[largest])
    return (quaternion if quaternion[3] >= 0 else -quaternion).tolist()


# ---------------------------------------------------------------- pictures


def grey_of(value: pa.Array, metadata: Mapping[str, Any]) -> Image:
    """A picture of a message as ``(height, width)`` uint8. Raises ValueError if it is not a picture."""
    encoding = str(metadata.get("encoding", "")).lower()
    if encoding in COMPRESSED:
        grey = cv2.imdecode(value.to_numpy(), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise ValueError(f"the picture is not a {encoding} that OpenCV can read")
        return grey
    if encoding not in CHANNELS:
        known = ", ".join([*CHANNELS, *COMPRESSED])
        raise ValueError(f"apriltags reads pictures with the encoding {known}, got {encoding!r}")
    shape = (int(metadata["height"]), int(metadata["width"]), CHANNELS[encoding])
    if value.type != pa.uint8() or len(value) != math.prod(shape):
        raise ValueError(
            f"the metadata says {shape[1]}x{shape[0]} {encoding}, "
            f"but the message has {len(value)} values of {value.type}"
        )
    image = value.to_numpy().reshape(shape)
    return image[:, :, 0] if encoding == "mono8" else cv2.cvtColor(image, TO_GREY[encoding])


# ---------------------------------------------------------------- the operator


class Operator:
    """Finds the tags on each picture; see the head of the file."""

    def __init__(self) -> None:
        # Other operators need the other cores.
        cv2.setNumThreads(1)
        self._settings = Settings.from_environment(os.environ)
        self._finder = Finder(self._settings.dictionary)
        if not self._settings.focal_px:
            print(
                f"apriltags: a camera that sees {DEFAULT_VIEW_DEGREES:g} degrees is assumed, so distances "
                "are rough; set TAG_FOCAL_PX for exact ones",
                flush=True,
            )

    def on_event(self, dora_event: dict[str, Any], send_output: Callable[..., None]) -> DoraStatus:
        if dora_event["type"] == "INPUT":
            metadata = dora_event["metadata"]
            self._send_tags(grey_of(dora_event["value"], metadata), metadata, send_output)
        return DoraStatus.CONTINUE

    def _send_tags(
        self, grey: Image, metadata: dict[str, Any], send_output: Callable[..., None]
    ) -> None:
        tags = self._finder.find(grey)
        matrix = camera_matrix(grey.shape[1], grey.shape[0], self._settings.focal_px)
        poses = [pose_of(tag.corners, self._settings.size_metres, matrix) for tag in tags]
        boxes, about_boxes = boxes_from(
            {
                "boxes": [tag.box for tag in tags],
                "scores": [1.0] * len(tags),
                "labels": [f"tag {tag.id}" for tag in tags],
                "track_ids": [tag.id for tag in tags],
            }
        )
        send_output("boxes", boxes, {**metadata, **about_boxes})
        # With these keys they would look like pictures.
        about = {
            key: value
            for key, value in metadata.items()
            if key not in ("encoding", "width", "height")
        }
        ids = pa.array([tag.id for tag in tags], pa.int64())
        send_output("ids", ids, about)
        columns = [pa.array([pose[name] for pose in poses], pa.float64()) for name in POSE_FIELDS]
        send_output(
            "poses", pa.StructArray.from_arrays([ids, *columns], ["id", *POSE_FIELDS]), about
        )
