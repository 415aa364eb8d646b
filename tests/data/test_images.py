"""Pictures and boxes from messages: every form that is read, and what is said of the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dora_nb.data import picture_files
from dora_nb.data.box_arrays import MAX_BOXES
from dora_nb.data.boxes import as_boxes, read_boxes
from dora_nb.data.images import as_image, image_form
from dora_nb.errors import MessageError

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


# ----- pictures


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
    ("event", "said"),
    [
        (message(None), "no Arrow array; it is of type NoneType. Send pa.array"),
        (message(COLOUR), "no Arrow array; it is of type ndarray"),
        (message(pa.array([], pa.uint8())), "it is empty"),
        (message(pa.array([1, None], pa.uint8())), "1 of its values are null"),
        (message(pa.array(["a picture"])), "its values are no numbers"),
        (
            message(pa.array(np.zeros(10, np.uint8))),
            "640 x 480 in bgr8 takes 921600 bytes; it is 10",
        ),
        (message(pa.array(np.zeros(1280 * 720 * 3, np.uint8))), r"say size=\(1280, 720\)"),
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
            "'brg8' is not known.*Did you mean 'rgb8'",
        ),
        (message(pa.array(GREY.ravel()), encoding="yuyv"), "Known are bgr8, rgb8"),
        (message(pa.array(GREY.ravel()), encoding=7), "encoding 7 is not known"),
        (
            sized(GREY.astype(np.int64), "mono8"),
            r"mono8 does not travel as int64.*astype\('uint8'\)",
        ),
        (sized(DEPTH.astype(np.float64), "32FC1"), "32FC1 does not travel as double"),
        (message(pa.array([1.0, 2.0]), encoding="jpeg"), "jpeg does not travel as double"),
        (file_message(b"GIF89a" * 9, "jpeg"), "does not start as a JPEG does"),
        (file_message(encoded(photo(), ".png"), "jpeg"), "It starts as encoding='png' does"),
        (file_message(encoded(photo(), ".jpg")[:-40], "jpeg"), "JPEG is cut off"),
        (file_message(encoded(photo(), ".jpg")[:20], "jpeg"), "JPEG is cut off"),
        (file_message(encoded(photo(), ".png")[:-40], "png"), "PNG is cut off"),
        (
            message(pa.array(np.frombuffer(encoded(photo(), ".jpg"), np.uint8))),
            "say encoding='jpeg'",
        ),
        (message(pa.array(BOXES.ravel().view(np.uint8))), "looks like boxes"),
        (message(pa.array([{"bbox": [1.0, 2, 3, 4], "conf": [0.5]}])), "looks like boxes"),
    ],
)
def test_what_is_no_picture_is_named_with_the_likely_fix(event: dict[str, Any], said: str):
    with pytest.raises(MessageError, match=said) as raised:
        as_image(event)

    assert str(raised.value).startswith("'image' is no image")


def test_a_file_that_claims_to_be_huge_is_not_decoded():
    data = bytearray(encoded(photo(), ".png"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2

    with pytest.raises(MessageError, match="claims to have 60000 x 60000 pixels"):
        as_image(file_message(bytes(data), "png"))


def test_a_file_with_a_whole_frame_and_a_broken_inside_is_named():
    data = bytearray(encoded(photo(), ".png"))
    data[41:60] = bytes(19)

    with pytest.raises(MessageError, match="OpenCV cannot decode it"):
        as_image(file_message(bytes(data), "png"))


# ----- boxes


def hub(labels: object = ("robot", "cup"), **metadata: Any) -> dict[str, Any]:
    """Boxes as dora-hub's detectors send them."""
    columns = {"bbox": BOXES[:, :4].ravel(), "conf": BOXES[:, 4]}
    if labels is not None:
        columns["labels"] = list(labels)  # type: ignore[call-overload]
    return message(pa.array([columns]), **metadata)


@pytest.mark.parametrize(
    "value",
    [
        pa.array(BOXES.ravel()),
        pa.array(BOXES.ravel().astype(np.float64)),
        pa.array(BOXES.ravel().view(np.uint8)),
        pa.array(BOXES.tolist()),
        pa.array(np.concatenate([np.zeros(6, np.float32), BOXES.ravel()])).slice(6),
    ],
    ids=["floats", "doubles", "bytes", "lists", "slice"],
)
def test_n_times_six_numbers_are_boxes(value: pa.Array[Any]):
    boxes = as_boxes(message(value))

    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, BOXES)
    assert boxes.flags.writeable  # the caller's own


def test_boxes_of_dora_hub_are_read_with_their_names():
    boxes = read_boxes(hub(format="xyxy"))

    np.testing.assert_array_equal(boxes.values[:, :5], BOXES[:, :5])
    assert boxes.labels == ("robot", "cup")
    assert boxes.values[:, 5].tolist() == [1, 0]  # places among the sorted names


def test_xywh_is_the_centre_and_the_size():
    assert as_boxes(hub(format="xywh"))[0, :4].tolist() == [-5, 0, 25, 40]


def test_numbers_as_labels_are_classes():
    boxes = read_boxes(hub(labels=[3, 0]), labels=["person", "dog"])

    assert boxes.values[:, 5].tolist() == [3, 0]
    assert boxes.labels == ("3", "person")


@pytest.mark.parametrize(
    "value",
    [
        pa.array([]),
        pa.array([], pa.uint8()),
        pa.array([], pa.float32()),
        pa.array([{"bbox": [], "conf": [], "labels": []}]),
        pa.array([], hub()["value"].type),
    ],
    ids=["null", "bytes", "floats", "hub", "no hub"],
)
def test_no_detection_is_no_error(value: pa.Array[Any]):
    assert as_boxes(message(value)).shape == (0, 6)


def test_classes_are_named_by_the_reader_then_the_message_then_their_number():
    event = message(pa.array(BOXES.ravel()), names=["cup", "cone", "robot"])

    assert read_boxes(event).labels == ("robot", "cup")
    assert read_boxes(event, {2: "charger"}).labels == ("charger", "0")
    assert read_boxes(message(pa.array(BOXES.ravel()))).labels == ("2", "0")


def test_a_name_that_is_missing_shows_as_a_question():
    assert read_boxes(hub(labels=["robot", None])).labels == ("robot", "?")


CAMERA_IMAGE = pa.array(np.zeros(640 * 480 * 3, np.uint8))
SMALL_IMAGE = np.random.default_rng(0).integers(0, 255, 320 * 240 * 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (message(CAMERA_IMAGE), "38400 of them, and 10000 is the most.*looks like an image"),
        (message(pa.array(SMALL_IMAGE), width=320, height=240), "looks like an image"),
        (message(pa.array(SMALL_IMAGE)), "looks like an image"),
        (file_message(encoded(photo(), ".jpg") + bytes(24), "jpeg"), "looks like an image"),
        (message(pa.array(BOXES.ravel()[:-1])), "11 values are no multiple of 6"),
        (message(pa.array(BOXES.ravel().view(np.uint8)[:-1])), "47 bytes are no multiple of 24"),
        (message(pa.array(np.full(6, np.nan, np.float32))), "not finite"),
        (message(pa.array(np.full(6, 1e300))), "not finite"),
        (message(pa.array(BOXES[:, [2, 3, 0, 1, 4, 5]].ravel())), "end before they start"),
        (message(pa.array(np.zeros(6 * (MAX_BOXES + 1), np.float32))), "10001 of them"),
        (message(pa.array([1, 2, 3, 4, 5, 6])), "neither floats nor bytes"),
        (message(pa.array([[1.0, 2.0]])), "not of 6 values"),
        (message(pa.array([[1.0, 2, 3, 4, None, 6]])), "null"),
        (message(pa.array(["a box"])), "neither floats nor bytes"),
        (message(pa.nulls(6)), "null|neither"),
        (message("boxes"), "no Arrow array"),
        (message(pa.array([{"box": [1.0]}])), "its struct has box and no 'bbox'"),
        (message(pa.array([{"bbox": [1.0], "conf": [0.5]}])), "do not fit"),
        (message(pa.array([{"bbox": [1.0, 2, 3, None], "conf": [0.5]}])), "nulls"),
        (message(pa.array([{"bbox": ["a"] * 4, "conf": [0.5]}])), "'bbox' are string"),
        (message(pa.array([{"bbox": None, "conf": [0.5]}], hub(None)["value"].type)), "is null"),
        (hub(labels=["robot"]), "1 labels do not fit 2 boxes"),
        (hub(format="cxcywh"), "'cxcywh' is not known"),
    ],
)
def test_what_are_no_boxes_is_named_with_what_it_looks_like(event: dict[str, Any], said: str):
    with pytest.raises(MessageError, match=said) as raised:
        as_boxes(event)

    assert str(raised.value).startswith("'image' has no boxes")


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
    st.sampled_from(["width", "height", "encoding", "format", "names"]),
    st.one_of(
        st.none(),
        st.integers(-2, 9),
        st.floats(),
        st.sampled_from(["bgr8", "mono8", "32FC1", "jpeg", "png", "xywh", "xyxy", ""]),
        st.lists(st.text(max_size=2), max_size=2),
        st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    ),
)


@pytest.mark.parametrize("read", [as_image, as_boxes])
@given(value=ARRAYS, metadata=METADATA)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_read_or_refused_in_words(
    read: Callable[[Any], Any], value: pa.Array[Any], metadata: dict[str, Any]
):
    """The tap reads boxes in a thread that must not fall over."""
    with contextlib.suppress(MessageError):
        read(message(value, **metadata))


@given(boxes=st.lists(st.tuples(*[st.floats(0, 1e4, width=32)] * 6), max_size=20))
def test_the_three_forms_say_the_same(boxes: list[tuple[float, ...]]):
    values = np.array(boxes, np.float32).reshape(-1, 6)
    values[:, 2:4] += values[:, :2]
    columns = {"bbox": values[:, :4].ravel(), "conf": values[:, 4], "labels": values[:, 5]}
    forms = [pa.array(values.ravel()), pa.array(values.ravel().view(np.uint8)), pa.array([columns])]

    for form in forms:
        np.testing.assert_array_equal(as_boxes(message(form)), values)
