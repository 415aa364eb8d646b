"""Points, tracks and label images: the arrays that can be read, and what is said of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.data.masks import MAX_KEPT_WIDTH, read_mask
from dora_nb.data.points import MAX_POINTS, read_points
from dora_nb.data.tracks import read_tracks
from dora_nb.errors import MessageError

NAN = float("nan")


def message(value: object, **metadata: Any) -> dict[str, Any]:
    return {"id": "pose/points", "value": value, "metadata": metadata}


def flat(*numbers: float) -> pa.Array[Any]:
    return pa.array(numbers, pa.float32())


# ----- points


@pytest.mark.parametrize(
    "event",
    [
        message(flat(10, 20, 30, 40), shape=[2, 2]),
        message(flat(10, 20, 30, 40)),
        message(pa.array([[10, 20], [30, 40]])),
        message(pa.array([[10.0, 20.0], [30.0, 40.0]], pa.list_(pa.float64(), 2))),
        message(pa.array([{"x": 10, "y": 20}, {"x": 30, "y": 40}])),
        message(pa.array([10, 20, 30, 40])),
    ],
)
def test_points_without_scores(event: dict[str, Any]):
    points = read_points(event)

    assert points.values[:, :2].tolist() == [[10, 20], [30, 40]]
    assert np.isnan(points.values[:, 2]).all()
    assert (len(points), points.num_bad) == (2, 0)


@pytest.mark.parametrize(
    "event",
    [
        message(flat(10, 20, 0.5, 30, 40, 1.0), shape=[2, 3]),
        message(flat(10, 20, 0.5, 30, 40, 1.0)),
        message(pa.array([[10, 20, 0.5], [30, 40, 1.0]])),
        message(pa.array([{"x": 10, "y": 20, "score": 0.5}, {"x": 30, "y": 40, "score": 1.0}])),
    ],
)
def test_points_with_scores(event: dict[str, Any]):
    assert read_points(event).values.tolist() == [[10, 20, 0.5], [30, 40, 1.0]]


def test_points_of_several_objects_have_the_skeleton_of_each():
    values = np.arange(12, dtype=np.float32)

    points = read_points(message(pa.array(values), shape=[2, 3, 2], skeleton=[0, 1, 1, 2]))

    assert (len(points), points.per_object) == (6, 3)
    assert list(points.skeleton) == [(0, 1), (1, 2)]


def test_the_skeleton_of_the_message_counts_more_than_the_argument():
    event = message(flat(1, 2, 3, 4), shape=[2, 2])

    assert list(read_points(event, [(0, 1)]).skeleton) == [(0, 1)]
    event["metadata"]["skeleton"] = [1, 0]
    assert list(read_points(event, [(0, 1)]).skeleton) == [(1, 0)]


def test_a_point_that_cannot_be_drawn_keeps_the_places_of_the_others():
    points = read_points(message(flat(10, 20, NAN, 1, 30, 40), shape=[3, 2]))

    assert np.isnan(points.values[1, :2]).all()
    assert points.values[2, :2].tolist() == [30, 40]
    assert points.num_bad == 1
    assert len(read_points(message(pa.array([], pa.float32())))) == 0


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (message("points"), "not an Arrow array"),
        (message(pa.array(["a", "b"])), "its values are string, not numbers"),
        (message(flat(1, 2, 30, 4, 5, 60, 7)), "7 values are not N x 2, nor N x 3"),
        (message(flat(*range(8)), shape=[2, 4]), r"its shape \[2, 4\] is not N x 2 or N x 3"),
        (message(flat(NAN, NAN)), "null or not finite"),
        (message(pa.array([[1], [2]])), "its lists do not have 2 or 3 values each"),
        (message(pa.array([{"u": 1}])), r"its struct has no field 'x' \(fields: u\)"),
        (message(flat(1, 2), skeleton=[0]), "its skeleton is not a flat list of pairs"),
        (message(flat(1, 2), skeleton="01"), "its skeleton is not a flat list of pairs"),
        (message(pa.array(np.zeros(2 * MAX_POINTS + 2))), "more than the limit of 10000"),
    ],
)
def test_what_is_not_points_is_named(event: dict[str, Any], problem: str):
    with pytest.raises(MessageError, match=problem) as caught:
        read_points(event)

    assert str(caught.value).startswith("cannot read pose/points as points: ")


# ----- tracks


@pytest.mark.parametrize(
    "event",
    [
        message(flat(7, 10, 20, 9, 30, 40), shape=[2, 3]),
        message(flat(7, 10, 20, 9, 30, 40)),
        message(pa.array([[7, 10, 20], [9, 30, 40]])),
        message(pa.array([{"id": 7, "x": 10, "y": 20}, {"id": 9, "x": 30, "y": 40}])),
        message(flat(0, 10, 20, 30, 0.5, 1, 7, 20, 30, 40, 50, 0.5, 1, 9), shape=[2, 7]),
    ],
)
def test_tracks_are_places_with_numbers(event: dict[str, Any]):
    tracks = read_tracks(event)

    assert tracks.ids.tolist() == [7, 9]
    assert tracks.places.tolist() == [[10, 20], [30, 40]]


def test_boxes_with_a_track_stand_for_their_centres_and_have_labels():
    value = pa.array(
        [{"bbox": [0.0, 0.0, 20.0, 40.0], "conf": [0.5], "labels": ["cup"], "track_id": [7]}]
    )

    tracks = read_tracks(message(value))

    assert (tracks.ids.tolist(), tracks.places.tolist()) == ([7], [[10, 20]])
    assert tracks.labels == ("cup",)


def test_an_object_without_a_place_or_a_number_is_left_out():
    tracks = read_tracks(message(flat(7, 10, 20, NAN, 1, 2, -1, 1, 2, 8, NAN, 2), shape=[4, 3]))

    assert (tracks.ids.tolist(), tracks.num_bad) == ([7], 3)
    assert len(read_tracks(message(pa.array([], pa.float32())))) == 0


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (message(7), "not an Arrow array"),
        (message(pa.array(["a"])), "not numbers"),
        (message(flat(0, 10, 20, 30, 0.5, 1), shape=[1, 6]), "its boxes have no track ids"),
        (message(flat(0.5, 10, 20), shape=[1, 3]), "its ids are not whole numbers"),
        (message(pa.array([{"x": 1, "y": 2}])), "its struct has no field 'track_id'"),
    ],
)
def test_what_is_not_tracks_is_named(event: dict[str, Any], problem: str):
    with pytest.raises(MessageError, match=problem) as caught:
        read_tracks(event)

    assert str(caught.value).startswith("cannot read pose/points as tracks: ")


# ----- masks

LABELS = np.array([[0, 1, 1], [2, 2, 0]])


@pytest.mark.parametrize(
    "event",
    [
        message(pa.array(LABELS.ravel().astype(np.uint8)), width=3, height=2),
        message(pa.array(LABELS.ravel().astype(np.int32)), shape=[2, 3]),
        message(pa.array(LABELS.ravel().astype(np.int64)), shape=[1, 2, 3]),
        message(pa.array(LABELS.tolist())),
    ],
)
def test_a_mask_is_whole_numbers_in_rows(event: dict[str, Any]):
    mask = read_mask(event, ["", "cup"])

    assert mask.numbers.tolist() == LABELS.tolist()
    assert (mask.width, mask.height) == (3, 2)
    assert (mask.label(1), mask.label(2)) == ("cup", "2")


def test_truth_values_are_a_mask_of_one_class():
    mask = read_mask(message(pa.array([True, False, False, True]), width=2, height=2))

    assert mask.numbers.tolist() == [[1, 0], [0, 1]]


def test_a_wide_mask_is_kept_smaller():
    wide = np.zeros((20, 2 * MAX_KEPT_WIDTH), np.uint8)
    wide[:, MAX_KEPT_WIDTH:] = 3

    mask = read_mask(message(pa.array(wide.ravel()), shape=[20, 2 * MAX_KEPT_WIDTH]))

    assert mask.numbers.shape == (10, MAX_KEPT_WIDTH)
    assert (mask.numbers[:, MAX_KEPT_WIDTH // 2 :] == 3).all()
    assert (mask.width, mask.height) == (2 * MAX_KEPT_WIDTH, 20)


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (message(None), "not an Arrow array"),
        (message(pa.array(["a"]), width=1, height=1), "its values are string, not whole numbers"),
        (message(flat(1, NAN), width=2, height=1), "its values are float, not whole numbers"),
        (message(pa.array([1, 2])), "its size is not known"),
        (message(pa.array([1, 2]), width=3, height=2), "3 x 2 takes 6 values and it has 2"),
        (message(pa.array([1, None]), width=2, height=1), "1 of its values are null"),
        (message(pa.array([[1, 2], [3]])), "its rows do not have the same length"),
    ],
)
def test_what_is_not_a_mask_is_named(event: dict[str, Any], problem: str):
    with pytest.raises(MessageError, match=problem) as caught:
        read_mask(event)

    assert str(caught.value).startswith("cannot read pose/points as a mask: ")
