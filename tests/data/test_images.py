"""`as_image` and `image_form`: every form of a picture that is read, and the errors for the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings

from dora_nb.data import picture_files
from dora_nb.data.images import as_image, image_form
from dora_nb.errors import MessageError

from .data_messages import (
    ARRAYS,
    BOXES,
    COLOUR,
    DEPTH,
    GREY,
    METADATA,
    MILLIMETRES,
    encoded,
    file_message,
    message,
    photo,
    sized,
)


@pytest.mark.parametrize(
    ("array", "encoding"),
    [
        (COLOUR, "bgr8"),
        (COLOUR, "rgb8"),
        (GREY, "mono8"),
        (MILLIMETRES, "mono16"),
        (DEPTH, "32FC1"),
    ],
)
def test_a_raw_picture_keeps_its_values_and_its_order(array: npt.NDArray[Any], encoding: str):
    image = as_image(sized(array, encoding))

    assert image.dtype == array.dtype
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize(("array", "encoding"), [(MILLIMETRES, "mono16"), (DEPTH, "32FC1")])
def test_depth_may_travel_as_bytes(array: npt.NDArray[Any], encoding: str):
    event = message(pa.array(array.ravel().view(np.uint8)), width=8, height=6, encoding=encoding)

    np.testing.assert_array_equal(as_image(event), array)


def test_a_raw_picture_is_a_view_of_the_message_that_cannot_be_written():
    event = sized(COLOUR, "bgr8")

    image = as_image(event)

    assert np.shares_memory(image, event["value"].to_numpy())
    assert not image.flags.writeable


def test_a_slice_of_an_array_is_a_picture_too():
    padded = pa.array(np.concatenate([np.zeros(5, np.uint8), GREY.ravel()]))

    image = as_image(message(padded.slice(5), width=8, height=6, encoding="mono8"))

    np.testing.assert_array_equal(image, GREY)


def test_without_metadata_the_usual_camera_is_assumed():
    assert as_image(message(pa.array(np.zeros(640 * 480 * 3, np.uint8)))).shape == (480, 640, 3)


def test_without_metadata_the_reader_may_say_what_it_is():
    event = message(pa.array(GREY.ravel()))

    np.testing.assert_array_equal(as_image(event, size=(8, 6), encoding="mono8"), GREY)


def test_metadata_is_believed_before_the_reader():
    event = sized(GREY, "mono8")

    assert as_image(event, size=(1, 1), encoding="bgr8").shape == (6, 8)


@pytest.mark.parametrize("word", ["JPEG", "jpg", "mjpeg"])
def test_encodings_are_known_under_their_usual_names(word: str):
    assert image_form(file_message(encoded(photo(), ".jpg"), word)).encoding == "jpeg"


@pytest.mark.parametrize("number", [np.int64(8), 8.0, np.float32(8)])
def test_a_size_may_be_any_kind_of_whole_number(number: object):
    event = message(pa.array(GREY.ravel()), width=number, height=6, encoding="mono8")

    assert image_form(event).width == 8


def test_a_jpeg_is_decoded_blue_first():
    image = as_image(file_message(encoded(photo(), ".jpg"), "jpeg"))

    assert image.shape == (48, 64, 3)
    assert np.abs(image.astype(int) - photo()).mean() < 3


def test_a_png_is_decoded_exactly():
    np.testing.assert_array_equal(as_image(file_message(encoded(photo(), ".png"), "png")), photo())


def test_a_deep_png_keeps_its_depth():
    image = as_image(file_message(encoded(MILLIMETRES, ".png"), "png"))

    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, MILLIMETRES)


def test_a_grey_jpeg_stays_grey():
    assert as_image(file_message(encoded(photo()[:, :, 0], ".jpg"), "jpeg")).shape == (48, 64)


def test_the_size_of_a_file_is_what_its_header_says():
    data = encoded(photo(33, 21), ".jpg")
    event = message(pa.array(np.frombuffer(data, np.uint8)), encoding="jpeg", width=9, height=9)

    assert (image_form(event).width, image_form(event).height) == (33, 21)


def test_an_embedded_preview_does_not_pass_for_the_end_of_a_jpeg():
    """Cameras put a small JPEG, with an end of its own, into a segment at the start."""
    whole, preview = encoded(photo(), ".jpg"), encoded(photo(8, 6), ".jpg")
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    data = whole[:2] + segment + whole[2:]

    assert picture_files.picture_size(data, "jpeg") == (64, 48)
    with pytest.raises(picture_files.DamagedPictureError, match="cut off"):
        picture_files.picture_size(data[:-200], "jpeg")


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (message(None), "not an Arrow array; got NoneType. Send pa.array"),
        (message(COLOUR), "not an Arrow array; got ndarray"),
        (message(pa.array([], pa.uint8())), "it is empty"),
        (message(pa.array([1, None], pa.uint8())), "1 of its values are null"),
        (message(pa.array(["a picture"])), "its values are not numbers"),
        (
            message(pa.array(np.zeros(10, np.uint8))),
            "640 x 480 in bgr8 takes 921600 bytes; got 10",
        ),
        (message(pa.array(np.zeros(1280 * 720 * 3, np.uint8))), r"pass size=\(1280, 720\)"),
        (message(pa.array(np.zeros(640 * 480 * 4, np.uint8))), "drop|four channels"),
        (message(pa.array(np.zeros(640 * 480, np.uint8))), "It fits encoding='mono8'"),
        (message(pa.array(GREY.ravel()), width=8), "its metadata has no height"),
        (message(pa.array(GREY.ravel()), width=-8, height=6), "its width is -8"),
        (message(pa.array(GREY.ravel()), width=0, height=6), "its width is 0"),
        (message(pa.array(GREY.ravel()), width="8", height=6), "its width is '8'"),
        (message(pa.array(GREY.ravel()), width=8.5, height=6), "its width is 8.5"),
        (message(pa.array(GREY.ravel()), width=True, height=6), "its width is True"),
        (message(pa.array(GREY.ravel()), width=float("nan"), height=6), "its width is nan"),
        (message(pa.array(GREY.ravel()), width=10**30, height=10**30), "takes 3" + "0" * 60),
        (
            message(pa.array(GREY.ravel()), encoding="brg8"),
            "unknown encoding 'brg8'.*Did you mean 'rgb8'",
        ),
        (message(pa.array(GREY.ravel()), encoding="yuyv"), "Known encodings: bgr8, rgb8"),
        (message(pa.array(GREY.ravel()), encoding=7), "unknown encoding 7"),
        (
            sized(GREY.astype(np.int64), "mono8"),
            r"mono8 cannot be sent as int64.*astype\('uint8'\)",
        ),
        (sized(DEPTH.astype(np.float64), "32FC1"), "32FC1 cannot be sent as double"),
        (message(pa.array([1.0, 2.0]), encoding="jpeg"), "jpeg cannot be sent as double"),
        (file_message(b"GIF89a" * 9, "jpeg"), "does not start like a JPEG file"),
        (
            file_message(encoded(photo(), ".png"), "jpeg"),
            "It starts like a PNG file: set encoding='png'",
        ),
        (file_message(encoded(photo(), ".jpg")[:-40], "jpeg"), "JPEG is cut off"),
        (file_message(encoded(photo(), ".jpg")[:20], "jpeg"), "JPEG is cut off"),
        (file_message(encoded(photo(), ".png")[:-40], "png"), "PNG is cut off"),
        (
            message(pa.array(np.frombuffer(encoded(photo(), ".jpg"), np.uint8))),
            "set encoding='jpeg'",
        ),
        (message(pa.array(BOXES.ravel().view(np.uint8))), "looks like boxes"),
        (message(pa.array([{"bbox": [1.0, 2, 3, 4], "conf": [0.5]}])), "looks like boxes"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_picture_and_the_likely_fix(
    event: dict[str, Any], error: str
):
    with pytest.raises(MessageError, match=error) as raised:
        as_image(event)

    assert str(raised.value).startswith("cannot show image as a picture: ")


def test_a_file_that_claims_to_be_huge_is_not_decoded():
    data = bytearray(encoded(photo(), ".png"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2

    with pytest.raises(MessageError, match="claims 60000 x 60000 pixels"):
        as_image(file_message(bytes(data), "png"))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_file_with_too_few_bytes_for_its_pixels_is_not_decoded(
    suffix: str, monkeypatch: pytest.MonkeyPatch
):
    """A few hundred bytes would take 300 MB and a second to decode."""
    data = bytearray(encoded(photo(), suffix)[:])
    picture_format = "jpeg" if suffix == ".jpg" else "png"
    side = 9_999
    if suffix == ".jpg":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = side.to_bytes(2, "big") * 2
    else:
        data[16:24] = side.to_bytes(4, "big") * 2
    monkeypatch.setattr(picture_files, "import_cv2", None)

    with pytest.raises(MessageError, match=r"claims 9999 x 9999 pixels, too many for \d+ bytes"):
        as_image(file_message(bytes(data), picture_format))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_large_picture_of_one_colour_is_decoded(suffix: str):
    data = encoded(np.zeros((3000, 3000), np.uint8), suffix)

    assert as_image(file_message(data, "jpeg" if suffix == ".jpg" else "png")).shape == (3000, 3000)


def test_a_file_with_a_whole_frame_and_a_broken_inside_is_named():
    data = bytearray(encoded(photo(), ".png"))
    data[41:60] = bytes(19)

    with pytest.raises(MessageError, match="OpenCV cannot decode it"):
        as_image(file_message(bytes(data), "png"))


@given(value=ARRAYS, metadata=METADATA)
@settings(max_examples=300, deadline=None)
def test_any_message_is_a_picture_or_raises_message_error(
    value: pa.Array[Any], metadata: dict[str, Any]
):
    with contextlib.suppress(MessageError):
        as_image(message(value, **metadata))
