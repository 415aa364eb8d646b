"""`as_image` and `image_form`: every form of a picture that is read, and the errors for the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings

from dora_nb.data import picture_files
from dora_nb.data.boxes import as_boxes
from dora_nb.data.convert import as_torch
from dora_nb.data.images import as_image, could_be_image, image_form
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


COLOURED = np.full((6, 8, 3), (200, 60, 30), np.uint8)
"""One colour, which YUV and Bayer keep: blue first."""


def yuv(array: npt.NDArray[Any]) -> tuple[int, int, int]:
    """The range of video (BT.601), as in files and cameras."""
    planes = cv2.cvtColor(array, cv2.COLOR_BGR2YUV_I420)
    return planes[0, 0], planes[array.shape[0], 0], planes[-1, -1]


def packed(array: npt.NDArray[Any], order: str) -> npt.NDArray[Any]:
    """YUV 4:2:2 of a picture of one colour: two bytes for each pixel."""
    y, u, v = yuv(array)
    pair = [{"y": y, "u": u, "v": v}[letter] for letter in order]
    return np.tile(np.array(pair, np.uint8), array.shape[0] * array.shape[1] // 2)


def planar(array: npt.NDArray[Any], *, interleaved: bool) -> npt.NDArray[Any]:
    y, u, v = yuv(array)
    num_pixels = array.shape[0] * array.shape[1]
    rest = [u, v] * (num_pixels // 4)
    return np.array([y] * num_pixels + (rest if interleaved else sorted(rest, key=[u, v].index)))


def bayer(array: npt.NDArray[Any], pattern: str) -> npt.NDArray[Any]:
    blue, green, red = array[0, 0]
    cell = np.array([{"r": red, "g": green, "b": blue}[letter] for letter in pattern], np.uint8)
    return np.tile(cell.reshape(2, 2), (array.shape[0] // 2, array.shape[1] // 2)).ravel()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("yuyv", packed(COLOURED, "yuyv")),
        ("yuv422_yuy2", packed(COLOURED, "yuyv")),
        ("uyvy", packed(COLOURED, "uyvy")),
        ("yuv422", packed(COLOURED, "uyvy")),
        ("NV12", planar(COLOURED, interleaved=True)),
        ("i420", planar(COLOURED, interleaved=False)),
        ("yuv420", planar(COLOURED, interleaved=False)),
        *(
            (f"bayer_{pattern}8", bayer(COLOURED, pattern))
            for pattern in ("rggb", "bggr", "gbrg", "grbg")
        ),
    ],
)
def test_yuv_and_bayer_become_bgr(encoding: str, data: npt.NDArray[Any]):
    image = as_image(message(pa.array(data), width=8, height=6, encoding=encoding))

    assert image.dtype == np.uint8
    assert image.shape == (6, 8, 3)
    assert np.abs(image.astype(int) - COLOURED).max() < 12


@pytest.mark.parametrize(
    ("encoding", "array"),
    [
        ("8UC1", GREY),
        ("8UC3", COLOUR),
        ("8UC4", np.dstack([COLOUR, GREY])),
        ("bgra8", np.dstack([COLOUR, GREY])),
        ("rgba8", np.dstack([COLOUR, GREY])),
        ("16UC1", MILLIMETRES),
        ("Z16", MILLIMETRES),
        ("z16", MILLIMETRES),
        ("64FC1", DEPTH.astype(np.float64)),
    ],
)
def test_names_of_opencv_and_ros_are_known(encoding: str, array: npt.NDArray[Any]):
    image = as_image(sized(array, encoding))

    assert image.dtype == array.dtype
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize("encoding", ["webp", "avif", "bmp", "tiff", "gif", "jp2", "ppm", "ras"])
def test_every_file_that_opencv_decodes_is_a_picture(encoding: str):
    event = file_message(encoded(photo(66, 48), f".{encoding}"), encoding)

    form = image_form(event)
    image = as_image(event)

    assert (form.width, form.height) == (66, 48)
    assert image.shape == (48, 66, 3)
    smooth = [cv2.blur(each, (8, 8)).astype(int) for each in (image, photo(66, 48))]
    assert np.abs(smooth[0] - smooth[1]).mean() < 8  # a GIF mixes its colours from few


def test_a_radiance_file_is_a_picture():
    event = file_message(encoded(photo().astype(np.float32) / 255, ".hdr"), "hdr")

    assert as_image(event).shape == (48, 64, 3)


@pytest.mark.parametrize("array", [MILLIMETRES, DEPTH])
def test_a_tiff_of_depth_keeps_its_values(array: npt.NDArray[Any]):
    np.testing.assert_array_equal(as_image(file_message(encoded(array, ".tiff"), "tiff")), array)


@pytest.mark.parametrize("encoding", ["webp", "avif", "bmp", "tiff", "jp2"])
def test_the_start_of_a_file_is_an_error(encoding: str):
    data = encoded(photo(), f".{encoding}")

    for length in (4, 14, 20, len(data) // 3):
        with pytest.raises(MessageError):
            as_image(file_message(data[:length], encoding))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, float])
def test_depth_needs_no_encoding(dtype: type):
    depth = MILLIMETRES.astype(dtype)
    event = message(pa.array(depth.ravel()), width=8, height=6, primitive="depth")

    form = image_form(event)

    assert form.is_depth
    assert form.guessed == (("mono8",) if dtype is np.uint8 else ())
    np.testing.assert_array_equal(as_image(event), depth)


def test_depth_is_believed_before_a_forwarded_encoding():
    event = message(pa.array(DEPTH.ravel()), width=8, height=6, encoding="bgr8", primitive="depth")

    np.testing.assert_array_equal(as_image(event), DEPTH)


def test_what_is_guessed_is_told():
    raw = message(pa.array(np.zeros(640 * 480 * 3, np.uint8)))

    assert image_form(raw).guessed == ("bgr8", "640 x 480")
    assert image_form(raw, size=(640, 480)).guessed == ("bgr8",)
    assert image_form(raw, encoding="rgb8").guessed == ("640 x 480",)
    assert image_form(sized(COLOUR, "bgr8")).guessed == ()


CAMERA = {"width": 16, "height": 12, "encoding": "bgr8", "primitive": "image"}
"""What a camera sends, and an operator forwards with a picture of its own."""


@pytest.mark.parametrize("metadata", [{}, CAMERA, {"encoding": "jpeg"}, {"width": 5}])
@pytest.mark.parametrize(
    ("array", "encoding"),
    [
        (GREY, "mono8"),
        (GREY[:, :, None], "mono8"),
        (np.dstack([COLOUR, GREY]), "bgra8"),
        (MILLIMETRES, "mono16"),
    ],
)
def test_a_numpy_picture_is_read_by_its_shape(
    array: npt.NDArray[Any], encoding: str, metadata: dict[str, Any]
):
    event = message(pa.array(array.ravel()), **metadata, shape=list(array.shape))

    form = image_form(event)

    assert (form.width, form.height, form.encoding) == (8, 6, encoding)
    assert form.guessed == (encoding,)
    np.testing.assert_array_equal(as_image(event), array.squeeze())


@pytest.mark.parametrize(
    ("metadata", "encoding", "guessed"),
    [
        ({}, "bgr8", ("bgr8",)),
        (CAMERA, "bgr8", ()),
        ({**CAMERA, "encoding": "rgb8"}, "rgb8", ()),
        ({**CAMERA, "encoding": "mono8"}, "bgr8", ("bgr8",)),
        ({"encoding": "rgb8"}, "rgb8", ()),
    ],
)
def test_the_encoding_of_the_camera_is_kept_if_it_fits_the_shape(
    metadata: dict[str, Any], encoding: str, guessed: tuple[str, ...]
):
    event = message(pa.array(COLOUR.ravel()), **metadata, shape=[6, 8, 3])

    form = image_form(event)

    assert (form.encoding, form.guessed) == (encoding, guessed)
    np.testing.assert_array_equal(as_image(event), COLOUR)


def test_a_turned_picture_is_shown_turned():
    turned = np.rot90(COLOUR)
    event = message(
        pa.array(turned.ravel()), width=8, height=6, encoding="bgr8", shape=list(turned.shape)
    )

    np.testing.assert_array_equal(as_image(event), turned)


@pytest.mark.parametrize("metadata", [{}, {"width": 8, "height": 6}])
@pytest.mark.parametrize(
    ("encoding", "data", "shape"),
    [
        ("nv12", planar(COLOURED, interleaved=True), [9, 8]),
        ("yuyv", packed(COLOURED, "yuyv"), [6, 16]),
        ("yuyv", packed(COLOURED, "yuyv"), [6, 8, 2]),
    ],
)
def test_the_shape_of_yuv_is_that_of_its_memory(
    encoding: str, data: npt.NDArray[Any], shape: list[int], metadata: dict[str, Any]
):
    event = message(pa.array(data), encoding=encoding, shape=shape, **metadata)

    assert as_image(event).shape == (6, 8, 3)


def test_depth_with_the_metadata_of_a_camera_is_a_picture():
    event = message(pa.array(DEPTH.ravel()), **CAMERA, shape=[6, 8])

    assert image_form(event).guessed == ("32FC1",)
    np.testing.assert_array_equal(as_image(event), DEPTH)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (GREY, [6, 9]),
        (GREY, [48]),
        (GREY, ["6", 8]),
        (GREY, "6 x 8"),
        (GREY, [6, -8]),
        (GREY, [2, 3, 8]),
        (BOXES.astype(np.int64), [2, 6]),
    ],
)
def test_a_shape_that_is_not_that_of_a_picture_is_not_used(array: npt.NDArray[Any], shape: object):
    with pytest.raises(MessageError):
        as_image(message(pa.array(array.ravel()), shape=shape))


@pytest.mark.parametrize(
    ("array", "metadata"),
    [
        (DEPTH, {}),
        (DEPTH.astype(float), {"width": 8, "height": 6}),
        (DEPTH, {"shape": [6, 8]}),
        (DEPTH, {"width": 8, "height": 6, "encoding": "mono8"}),
        (COLOUR / 255, {"width": 8, "height": 6, "encoding": "bgr8"}),
    ],
)
def test_floats_are_never_advised_to_be_cut_to_integers(
    array: npt.NDArray[Any], metadata: dict[str, Any]
):
    with pytest.raises(MessageError, match=r"If it is depth.*convertScaleAbs") as raised:
        as_image(message(pa.array(array.ravel()), **metadata))

    assert "uint8" not in str(raised.value)


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
        (message(pa.array(GREY.ravel()), encoding="xyz"), "Known encodings: bgr8, rgb8"),
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


@pytest.mark.parametrize("value", [0.5, 7, True])
@pytest.mark.parametrize("metadata", [{}, {"width": 640, "height": 480, "encoding": "bgr8"}])
def test_a_single_value_is_told_from_a_picture(value: float, metadata: dict[str, Any]):
    """Also with the metadata of the picture that it was made from."""
    event = message(pa.array([value]), **metadata)
    with pytest.raises(MessageError, match="it is a single value; got 1 value of ") as raised:
        as_image(event)
    assert str(raised.value).endswith(
        "Name the topic of a picture; a cell shows a value by latest(TOPIC)['value'][0]."
    )
    assert not could_be_image(event)


def test_a_picture_of_one_pixel_is_one():
    pixel = pa.array(np.array([7], np.uint8))
    for event in (sized(np.array([[7]], np.uint8), "mono8"), message(pixel, shape=[1, 1])):
        assert as_image(event).tolist() == [[7]]
    assert as_image(message(pixel), (1, 1), "mono8").tolist() == [[7]]


def test_what_is_not_an_event_is_refused_in_words():
    for function, name in ((as_image, "as_image"), (as_boxes, "as_boxes"), (as_torch, "as_torch")):
        with pytest.raises(MessageError, match=f"^{name} needs an event, got a float: latest, "):
            function(0.5)
        with pytest.raises(MessageError, match=rf"take returns a list: {name}\(events\[0\]\)"):
            function([message(COLOUR)])


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
@settings(max_examples=300)
def test_any_message_is_a_picture_or_raises_message_error(
    value: pa.Array[Any], metadata: dict[str, Any]
):
    with contextlib.suppress(MessageError):
        as_image(message(value, **metadata))
