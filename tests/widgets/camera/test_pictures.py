"""Pictures for the browser, and stills."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from dora_nb.data.boxes import Boxes
from dora_nb.widgets.camera._drawn import Drawn
from dora_nb.widgets.camera._pictures import (
    LIVE_MAX_WIDTH,
    MAX_DRAWN_BOXES,
    Picture,
    drawn_boxes,
    picture_of,
    shown_pixels,
)
from dora_nb.widgets.camera._still import STILL_MAX_BYTES, STILL_MAX_WIDTH, still_jpeg, tag_text


def message(array: npt.NDArray[Any], encoding: str) -> dict[str, Any]:
    height, width = array.shape[:2]
    metadata = {"width": width, "height": height, "encoding": encoding}
    return {"id": "image", "value": pa.array(array.ravel()), "metadata": metadata}


def file_message(array: npt.NDArray[Any], encoding: str) -> dict[str, Any]:
    data = cv2.imencode(f".{encoding}", array)[1].ravel()
    return {"id": "image", "value": pa.array(data), "metadata": {"encoding": encoding}}


def decoded(data: bytes) -> npt.NDArray[Any]:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def boxes(*rows: tuple[float, ...], labels: tuple[str, ...] | None = None) -> Boxes:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(values, labels or tuple(str(int(row[5])) for row in rows))


BLUE = np.full((48, 64, 3), (200, 30, 10), np.uint8)


@pytest.mark.parametrize(("encoding", "shown"), [("bgr8", (200, 30, 10)), ("rgb8", (10, 30, 200))])
def test_colours_come_out_as_they_were_meant(encoding: str, shown: tuple[int, ...]):
    image = decoded(picture_of(message(BLUE, encoding)).data)

    assert np.abs(image[20, 20].astype(int) - shown).max() < 8


@pytest.mark.parametrize(
    ("encoding", "shown"), [("bgra8", (200, 30, 10)), ("rgba8", (10, 30, 200))]
)
def test_alpha_is_dropped(encoding: str, shown: tuple[int, ...]):
    with_alpha = np.dstack([BLUE, np.zeros((48, 64), np.uint8)])

    image = decoded(picture_of(message(with_alpha, encoding)).data)

    assert image.shape == (48, 64, 3)
    assert np.abs(image[20, 20].astype(int) - shown).max() < 8


def test_yuv_is_shown():
    yuyv = np.full((48, 64, 2), 128, np.uint8)

    image = decoded(picture_of(message(yuyv, "yuyv")).data)

    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - 130).max() < 8


@pytest.mark.parametrize(
    ("encoding", "mime"), [("webp", "webp"), ("tiff", "jpeg"), ("bmp", "jpeg")]
)
def test_files_that_browsers_do_not_show_become_jpeg(encoding: str, mime: str):
    assert picture_of(file_message(BLUE, encoding)).mime == f"image/{mime}"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_the_range_of_depth_is_noted(dtype: type):
    depth = np.full((48, 64), 200, dtype)
    depth[:, 32:] = 100
    depth[0, 0] = 0  # no measurement
    event = message(depth, "")
    event["metadata"] = {"width": 64, "height": 48, "primitive": "depth"}

    picture = picture_of(event)

    assert picture.notes[0] == "depth 100 (dark) to 200 (bright)"
    image = decoded(picture.data).astype(int)
    assert (image[24, 10], image[24, 50]) == (pytest.approx(255, abs=3), pytest.approx(30, abs=3))


@pytest.mark.parametrize("metadata", [{}, {"width": 64, "height": 48, "encoding": "bgr8"}])
@pytest.mark.parametrize(
    ("array", "note"), [(BLUE[:, :, 0], "guessed: mono8"), (BLUE[::2, ::2], "guessed: bgr8")]
)
def test_a_numpy_picture_is_shown_in_its_own_size(
    array: npt.NDArray[Any], note: str, metadata: dict[str, Any]
):
    metadata = {**metadata, "shape": list(array.shape)}
    event = {"id": "image", "value": pa.array(array.ravel()), "metadata": metadata}

    picture = picture_of(event)

    image = decoded(picture.data)
    assert image.shape == array.shape
    assert (picture.height, picture.width) == array.shape[:2]
    assert np.abs(image.astype(int) - array).max() < 8
    assert picture.notes == (() if "encoding" in metadata and array.ndim == 3 else (note,))


def test_what_is_guessed_is_noted():
    event = {"id": "image", "value": pa.array(np.zeros(640 * 480 * 3, np.uint8)), "metadata": {}}

    assert picture_of(event).notes == ("guessed: bgr8, 640 x 480",)
    assert picture_of(message(BLUE, "bgr8")).notes == ()


def test_grey_stays_grey():
    assert decoded(picture_of(message(BLUE[:, :, 0].copy(), "mono8")).data).shape == (48, 64)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depth_is_scaled_from_its_nearest_to_its_farthest(dtype: type):
    depth = np.tile(np.linspace(500, 4000, 64), (48, 1)).astype(dtype)
    depth[:8, :8] = 0
    encoding = "mono16" if dtype is np.uint16 else "32FC1"

    image = decoded(picture_of(message(depth, encoding)).data).astype(int)

    assert image[4, 4] < 8  # no measurement
    assert 20 < image[24, 2] < 45
    assert image[24, 61] > 240
    assert (np.diff(image[24, ::8]) > 0).all()


def test_a_few_wild_values_do_not_make_the_rest_of_the_depth_grey():
    depth = np.tile(np.linspace(1.0, 2.0, 64, dtype=np.float32), (48, 1))
    depth[0, 0], depth[0, 1], depth[0, 2] = 1e30, np.inf, np.nan

    image = shown_pixels(depth)

    assert int(image[24, 60]) - int(image[24, 3]) > 180
    assert image[0, 1] == image[0, 2] == 0


def test_depth_without_any_measurement_is_black():
    assert shown_pixels(np.zeros((4, 4), np.float32)).max() == 0


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_files_are_passed_on_untouched(encoding: str):
    event = file_message(BLUE, encoding)

    picture = picture_of(event)

    assert picture.data == event["value"].to_numpy().tobytes()
    assert picture.mime == f"image/{encoding}"


def test_deep_png_is_made_visible():
    """A browser would show the high byte: 3 m in millimetres is a dark grey of 11."""
    depth = np.tile(np.linspace(500, 4000, 64), (48, 1)).astype(np.uint16)

    picture = picture_of(file_message(depth, "png"))

    assert picture.mime == "image/jpeg"
    assert decoded(picture.data).max() > 240


def test_what_is_too_wide_is_made_smaller():
    picture = picture_of(message(np.zeros((90, 2 * LIVE_MAX_WIDTH, 3), np.uint8), "bgr8"))

    assert decoded(picture.data).shape[:2] == (45, LIVE_MAX_WIDTH)
    assert (picture.width, picture.height) == (2 * LIVE_MAX_WIDTH, 90)


# ----- boxes


def test_the_highest_scores_are_drawn_last():
    drawn = drawn_boxes(boxes((0, 0, 1, 1, 0.9, 1), (0, 0, 1, 1, 0.3, 2)))

    assert [box[4] for box in drawn] == [0.3, 0.9]


def test_an_unknown_score_is_none():
    drawn = drawn_boxes(boxes((0, 0, 1, 1, np.nan, 1), (0, 0, 1, 1, 0.3, 2)))

    assert {box[5]: box[4] for box in drawn} == {"1": None, "2": 0.3}


def test_no_more_boxes_are_drawn_than_anybody_reads():
    rows = [(0.0, 0.0, 1.0, 1.0, score / 2000, 0.0) for score in range(2000)]

    drawn = drawn_boxes(boxes(*rows))

    assert len(drawn) == MAX_DRAWN_BOXES
    assert min(box[4] for box in drawn) == 0.5


def test_a_tag_is_short_text():
    assert tag_text("robot", 0.876) == "robot 0.88"
    assert tag_text("", 0.5) == "0.50"
    assert len(tag_text("long " * 100, 0.5)) == 45
    assert tag_text("robot", None) == "robot"
    assert tag_text("", None) == ""


# ----- stills


def still(array: npt.NDArray[np.uint8], drawn: list[Any]) -> npt.NDArray[Any]:
    picture = picture_of(message(array, "bgr8" if array.ndim == 3 else "mono8"))
    data = still_jpeg(picture, Drawn([(*box, 0) for box in drawn]))
    assert len(data) <= STILL_MAX_BYTES
    return decoded(data)


def test_a_still_has_boxes_where_they_belong():
    black = np.zeros((960, 1280, 3), np.uint8)

    image = still(black, [(200, 300, 800, 700, 0.9, "robot", "#ff0000")])

    assert image.shape == (480, STILL_MAX_WIDTH, 3)
    for place in [(250, 100), (250, 400), (350, 250)]:  # left, right and bottom edge
        assert image[place][2] > 150
    assert image[250, 250].max() < 20  # its inside


def test_a_still_tags_a_box_only_with_what_is_known_of_it():
    image = still(np.zeros((48, 64), np.uint8), [(10, 25, 50, 40, None, "", "#0000ff")])

    assert image[30, 10, 0] > 120
    assert image[16, 14].max() < 40  # where a tag would be


def test_a_grey_still_has_boxes_in_colour():
    image = still(np.zeros((48, 64), np.uint8), [(10, 20, 50, 40, 0.9, "", "#0000ff")])

    assert image[30, 10, 0] > 120
    assert image[30, 10, 2] < 90


def test_a_still_is_small_even_of_noise():
    noise = np.random.default_rng(0).integers(0, 255, (1440, 2560, 3)).astype(np.uint8)

    assert still(noise, []).shape[1] == STILL_MAX_WIDTH


def test_a_still_of_a_tall_picture_is_small_too():
    noise = np.random.default_rng(0).integers(0, 255, (6000, 600, 3)).astype(np.uint8)

    still(noise, [])


@pytest.mark.parametrize(
    "box",
    [
        (-500.0, -500, 5000, 5000),
        (10.0, 10, 10, 10),
        (1e30, 1e30, 2e30, 2e30),
        (60.0, 0, 64, 5),
        (0.0, 47, 64, 48),
    ],
)
@pytest.mark.parametrize("label", ["", "Bär κόσμε 日本", "x" * 500, "<b>bold</b>", "a\nb\0c"])
def test_a_still_takes_any_box(box: tuple[float, ...], label: str):
    still(BLUE, [(*box, 0.5, label, "#ff6b6b")])


def test_a_still_of_a_file_is_measured_by_the_file():
    picture = Picture(
        cv2.imencode(".png", np.zeros((600, 1280, 3), np.uint8))[1].tobytes(), "", 0, 0
    )

    image = decoded(still_jpeg(picture, Drawn([(200, 300, 800, 500, 0.9, "", "#00ff00", 0)])))

    assert image.shape == (300, 640, 3)
    assert image[200, 100, 1] > 150
