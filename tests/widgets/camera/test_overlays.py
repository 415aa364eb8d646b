"""Points, masks and tracks on the way to the page and into the still."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from dora_nb.data.boxes import Boxes
from dora_nb.data.masks import Mask
from dora_nb.data.points import Points
from dora_nb.data.tracks import Tracks
from dora_nb.errors import DeclarationError, TopicTimeoutError
from dora_nb.widgets.camera import CameraView
from dora_nb.widgets.camera._drawn import (
    MAX_MASK_LABELS,
    MAX_RUNS,
    Drawer,
    drawn_mask,
    drawn_paths,
    drawn_points,
)
from dora_nb.widgets.camera._overlays import Assembly, Kind, Overlay
from dora_nb.widgets.camera._paths import MAX_PATHS, MAX_PLACES, PathHistory

GREY = np.full((48, 64, 3), 90, np.uint8)
STAMP = datetime(2026, 11, 30, 12, tzinfo=UTC)
NO_BOXES = Boxes(np.empty((0, 6), np.float32), ())
Make = Callable[..., tuple[CameraView, Any]]


@pytest.fixture
def seen(dataflow: Any) -> Any:
    """The dataflow with a node for each overlay."""
    for name in ("pose", "seg", "tracker"):
        dataflow.declare(name, outputs=("out",))
    return dataflow


def overlay(kind: Kind, stamp: int | None, *, readable: bool = True, at: float = 0.0) -> Overlay:
    return Overlay(kind, NO_BOXES if readable else None, stamp, at)


# ----- which belong together


def test_the_overlays_of_one_stamp_are_complete_once_all_have_come():
    assembly = Assembly(["boxes", "mask"])

    assert assembly.add(overlay("boxes", 1000)) is None
    assert assembly.add(overlay("boxes", 2000)) is None
    complete = assembly.add(overlay("mask", 2001))

    assert complete is not None
    assert {kind: each.stamp_micros for kind, each in complete.by_kind.items()} == {
        "boxes": 2000,
        "mask": 2001,
    }
    assert assembly.unmatched == 1  # the boxes before, which can no longer be complete
    assert assembly.add(overlay("mask", 1000)) is None


def test_one_that_cannot_be_read_does_not_hold_the_others_up():
    assembly = Assembly(["boxes", "mask"])
    assembly.add(overlay("mask", 500))
    assembly.add(overlay("boxes", 1000))

    complete = assembly.add(overlay("mask", 1000, readable=False))

    assert complete is not None
    assert complete.of("mask") is None
    assert complete.of("boxes") is not None
    newest = assembly.newest
    assert newest is not None
    assert newest.by_kind["mask"].stamp_micros == 500  # the last that can be drawn


def test_stamps_that_stay_incomplete_are_bounded_and_counted():
    assembly = Assembly(["boxes", "mask"])
    for number in range(100):
        assembly.add(overlay("boxes", number * 1000))
    assembly.add(overlay("mask", None))

    assert assembly.unmatched == 100 - Assembly.MAX_INCOMPLETE + 1
    assert assembly.came == {"boxes", "mask"}


def test_overlays_of_an_earlier_run_are_forgotten():
    assembly = Assembly(["boxes", "mask"])
    assembly.add(overlay("boxes", 1000, at=1.0))
    assembly.forget(before_secs=5.0)

    assert assembly.newest is None
    assert assembly.add(overlay("mask", 1000, at=6.0)) is None


# ----- paths


def tracks(*rows: tuple[int, float, float]) -> Tracks:
    values = np.array(rows, np.float32).reshape(-1, 3)
    return Tracks(values[:, 0].astype(np.int64), values[:, 1:], ("",) * len(rows))


def test_a_path_has_the_places_of_the_last_seconds():
    history = PathHistory(secs=3)
    for second in range(6):
        paths = history.add(tracks((7, second, 0)), float(second))

    assert [path.places for path in paths.paths] == [((2, 0), (3, 0), (4, 0), (5, 0))]


def test_an_object_that_is_gone_keeps_its_path_for_a_while():
    history = PathHistory(secs=3)
    history.add(tracks((7, 1, 1), (8, 2, 2)), 0.0)

    assert [path.number for path in history.add(tracks((8, 3, 3)), 2.0).paths] == [7, 8]
    assert [path.number for path in history.add(tracks((8, 3, 3)), 3.5).paths] == [8]


def test_paths_are_bounded_in_number_and_length():
    history = PathHistory(secs=60)
    for step in range(2 * MAX_PLACES):
        paths = history.add(tracks((1, step, 0)), step / 1000)
    assert len(paths.paths[0].places) == MAX_PLACES

    paths = history.add(tracks(*((number, 0, 0) for number in range(3, 1000))), 1.0)

    assert len(paths.paths) == MAX_PATHS
    assert paths.paths[-1].number == 999


def test_a_clock_that_jumps_back_begins_new_paths():
    history = PathHistory(secs=3)
    history.add(tracks((7, 1, 1)), 100.0)

    assert history.add(tracks((7, 2, 2)), 5.0).paths[0].places == ((2, 2),)


# ----- reduced for the page


def pixels(numbers: npt.NDArray[Any], names: object = None) -> Mask:
    return Mask(numbers, numbers.shape[1], numbers.shape[0], names)


def test_a_mask_becomes_runs_with_a_legend_by_area():
    numbers = np.array([[0, 0, 5, 5], [5, 5, 5, -1], [9, 0, 0, 0]])

    drawn = drawn_mask(pixels(numbers, {5: "cup"}))

    places = np.repeat(drawn.places, drawn.lengths).reshape(3, 4)
    assert places.tolist() == [[0, 0, 1, 1], [1, 1, 1, 0], [2, 0, 0, 0]]
    assert [(label, share) for label, _, share in drawn.legend] == [("cup", 5 / 12), ("9", 1 / 12)]


def test_a_mask_of_noise_is_reduced_until_it_is_small():
    noise = np.random.default_rng(0).integers(1, 200, (480, 640)).astype(np.uint8)

    drawn = drawn_mask(pixels(noise))

    assert len(drawn.lengths) <= MAX_RUNS
    assert (drawn.width, drawn.height) == (160, 120)
    assert drawn.lengths.sum() == 160 * 120


def test_many_labels_share_the_last_entry():
    numbers = np.arange(1, 1001).reshape(1, 1000)

    drawn = drawn_mask(pixels(numbers))

    assert len(drawn.legend) == MAX_MASK_LABELS + 1
    assert drawn.legend[-1][0] == f"{1000 - MAX_MASK_LABELS} more"
    assert drawn.places.max() == MAX_MASK_LABELS + 1


def test_points_get_the_lines_of_each_object_and_those_not_found_are_left_out():
    values = np.array([(x, 5, 1) for x in range(5)] + [(9, 9, 0)], np.float32)

    drawn = drawn_points(Points(values, 3, [(0, 2), (1, 7)]))

    assert drawn.lines == [0, 2, 3, 5]
    assert len(drawn.colours) == 2
    assert np.isnan(drawn.values[5, 0])  # a score of 0


def test_paths_go_one_after_another():
    history = PathHistory(secs=3)
    history.add(tracks((7, 1, 2), (8, 3, 4)), 0.0)

    drawn = drawn_paths(history.add(tracks((7, 5, 6)), 1.0))

    assert [(row[0], row[3]) for row in drawn.paths] == [(8, 1), (7, 2)]
    assert drawn.places.tolist() == [[3, 4], [1, 2], [5, 6]]


def test_an_overlay_that_is_drawn_again_is_not_reduced_again():
    assembly = Assembly(["mask"])
    mask = Overlay("mask", pixels(np.ones((2, 2), int)), 1, 0.0)
    drawer = Drawer()

    first = drawer.drawn(assembly.add(mask))

    assert drawer.drawn(assembly.newest).mask is first.mask


# ----- the view


def test_all_overlays_go_with_the_frame(seen: Any, make_view: Make):
    view, page = make_view(
        points="pose/out",
        skeleton=[(0, 1)],
        mask="seg/out",
        tracks="tracker/out",
        labels=["", "cup"],
    )
    seen.publish("pose/out", pa.array([1.0, 2, 30, 40]), {"shape": [2, 2]})
    seen.publish("seg/out", pa.array([0, 1, 1, 0]), {"width": 2, "height": 2})
    seen.publish("tracker/out", pa.array([7.0, 10, 20]), {"shape": [1, 3]})
    seen.publish_image(GREY)

    frame = page.wait_for_frame(1)
    buffers = next(data for content, data in page.received if content.get("seq") == 1)

    assert frame["boxes"] is None
    assert frame["points"]["lines"] == [0, 1]
    values = np.frombuffer(buffers[frame["points"]["buffer"]], "<f4").reshape(-1, 3)
    assert values[:, :2].tolist() == [[1, 2], [30, 40]]
    assert [entry[0] for entry in frame["mask"]["legend"]] == ["cup"]
    assert frame["mask"]["lag"] is not None
    runs = buffers[frame["mask"]["buffer"]]
    assert np.frombuffer(runs[:12], "<u4").tolist() == [1, 2, 1]
    assert list(runs[12:]) == [0, 1, 0]
    assert frame["tracks"]["paths"][0][0] == 7
    assert np.frombuffer(buffers[frame["tracks"]["buffer"]], "<f4").tolist() == [10, 20]
    assert view.stats.overlays_received == 3


def test_each_frame_is_shown_with_all_its_own_overlays(seen: Any, make_view: Make):
    _, page = make_view(boxes="detector/bbox", mask="seg/out", sync=True)
    for number in range(3):
        stamp = STAMP + timedelta(milliseconds=33 * number)
        seen.publish_image(GREY, timestamp=stamp)
        seen.publish_boxes([[1, 2, 30, 40, 0.9, 0]], timestamp=stamp)
        if number == 1:
            seen.publish("seg/out", pa.array([1, 1]), {"width": 2, "height": 1, "timestamp": stamp})

    frame = page.wait_for_frame(1)

    assert frame["t"] == (STAMP + timedelta(milliseconds=33)).timestamp() * 1000
    assert (frame["lag"], frame["mask"]["lag"]) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "topic", "value", "text"),
    [
        ("points", "pose/out", pa.array([float("nan")] * 4), "cannot read pose/out as points: "),
        ("mask", "seg/out", pa.array([1, 2, 3]), "cannot read seg/out as a mask: "),
        ("tracks", "tracker/out", pa.array(["text"]), "cannot read tracker/out as tracks: "),
    ],
)
@pytest.mark.parametrize("sync", [True, False])
def test_a_bad_overlay_is_a_clear_state_and_the_rest_goes_on(
    seen: Any, make_view: Make, kind: str, topic: str, value: Any, text: str, sync: bool
):
    view, page = make_view(boxes="detector/bbox", sync=sync, **{kind: topic})
    seen.publish(topic, value, {"timestamp": STAMP})
    seen.publish_boxes([[1, 2, 30, 40, 0.9, 0]], timestamp=STAMP)
    seen.publish_image(GREY, timestamp=STAMP)

    frame = page.wait_for_frame(1)
    told = page.wait_for("status", state="error")[-1]

    assert told["reason"].startswith(text)
    assert len(frame["boxes"]) == 1
    assert kind not in frame
    assert view.stats.overlays_broken == 1


def test_single_bad_points_are_counted_and_the_others_shown(seen: Any, make_view: Make):
    view, page = make_view(points="pose/out")
    seen.publish("pose/out", pa.array([1.0, 2, float("inf"), 4]), {"shape": [2, 2]})
    seen.publish_image(GREY)

    page.wait_for_frame(1)
    page.wait_for("status", bad_marks=1)

    assert view.stats.bad_marks == 1


def test_a_view_waits_for_each_of_its_overlays_and_names_the_one_that_lacks(
    seen: Any, make_view: Make
):
    view, page = make_view(boxes="detector/bbox", mask="seg/out")
    seen.publish_boxes([[1, 2, 30, 40, 0.9, 0]])
    seen.publish_image(GREY)
    page.wait_for_frame(1)

    page.wait_for("status", reason="no mask of seg/out yet")
    with pytest.raises(TopicTimeoutError, match="got no mask to show from 'seg/out'"):
        view.wait_for_frame(0.05)


def test_the_snapshot_has_what_is_shown(seen: Any, make_view: Make):
    view, page = make_view(points="pose/out", mask="seg/out", tracks="tracker/out")
    seen.publish("pose/out", pa.array([32.0, 6, 0.5]), {"shape": [1, 3]})
    seen.publish("seg/out", pa.array([0, 2]), {"width": 2, "height": 1})
    for x in (4.0, 24.0):
        seen.publish("tracker/out", pa.array([1.0, x, 40]), {"shape": [1, 3]})
    seen.publish_image(GREY)
    page.wait_for_frame(1)
    view.wait_for_frame(5)

    def changed(y: int, x: int) -> bool:
        data = view.snapshot()
        assert data is not None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return bool(np.abs(image[y, x].astype(int) - 90).max() > 30)

    places = {"show_points": (6, 32), "show_mask": (24, 55), "show_tracks": (40, 14)}
    assert [changed(*place) for place in places.values()] == [True, True, True]
    assert not changed(30, 20)
    view.min_score = 0.6  # hides the point
    for name in ("show_mask", "show_tracks"):
        setattr(view, name, False)
    assert [changed(*place) for place in places.values()] == [False, False, False]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"points": 7}, "points must be a topic"),
        ({"mask": "camera/image"}, "topic and mask are both 'camera/image'"),
        ({"points": "pose/out", "skeleton": [0, 1]}, "skeleton must be pairs"),
        ({"points": "pose/out", "skeleton": [(0, -1)]}, "skeleton must be pairs"),
        ({"tracks": "tracker/out", "track_secs": 0}, "track_secs must be > 0 and <= 60, got 0"),
        ({"tracks": "tracker/out", "track_secs": float("nan")}, "track_secs must be > 0"),
    ],
)
def test_overlays_that_mean_nothing_are_refused(seen: Any, options: dict[str, Any], text: str):
    with pytest.raises(DeclarationError, match=text):
        CameraView("camera/image", dataflow=seen, **options)

    assert not seen.listeners
