"""The rendered scene keeps two promises: it is the same each time, and its boxes are true."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scene

SIZES = [(640, 480), (480, 640), (320, 240), (33, 47)]


@pytest.mark.parametrize("size", SIZES)
def test_a_scene_is_a_bgr_picture_with_boxes_inside_it(size: tuple[int, int]) -> None:
    for seed in range(10):
        image, boxes = scene.random_scene(np.random.default_rng(seed), size)
        assert image.shape == (size[1], size[0], 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(boxes), 5)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:4] <= size).all()
        assert (boxes[:, 2:4] > boxes[:, :2]).all()
        assert set(boxes[:, 4]) <= set(range(len(scene.CLASS_NAMES)))


def test_the_same_generator_makes_the_same_scene_and_another_makes_another() -> None:
    image, boxes = scene.random_scene(np.random.default_rng(5))
    again, boxes_again = scene.random_scene(np.random.default_rng(5))
    other, _ = scene.random_scene(np.random.default_rng(6))
    assert np.array_equal(image, again)
    assert np.array_equal(boxes, boxes_again)
    assert not np.array_equal(image, other)


def test_scenes_differ_in_number_and_kind_of_objects() -> None:
    all_boxes = [scene.random_scene(np.random.default_rng(seed))[1] for seed in range(60)]
    assert {len(boxes) for boxes in all_boxes} == set(range(10))
    assert set(np.concatenate(all_boxes)[:, 4]) == set(range(len(scene.CLASS_NAMES)))


@pytest.mark.parametrize("kind", range(len(scene.CLASS_NAMES)), ids=scene.CLASS_NAMES)
def test_a_box_is_the_edge_of_what_was_drawn(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shadow, whatever differs from an empty table lies in the box and touches its sides."""
    monkeypatch.setattr(scene, "_cast_shadow", lambda *_: None)
    rng = np.random.default_rng(kind)
    for size in (20.0, 70.0, 130.0):
        table = np.full((240, 320, 3), 128, np.uint8)
        thing = scene.random_thing(rng, kind, x=160.3, y=119.6, size=size)
        ((x1, y1, x2, y2, found_kind),) = scene._draw_things(table, [thing])
        rows, columns = np.nonzero((table != 128).any(axis=2))
        drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        # Of a faint pixel, as at the tip of a corner, a box may say that it is table.
        assert np.abs(drawn - [x1, y1, x2, y2]).max() <= 2
        assert found_kind == kind
        assert 0.55 * size < max(x2 - x1, y2 - y1) < 1.3 * size


def test_a_shadow_darkens_the_table_and_belongs_to_no_box() -> None:
    table = np.full((240, 320, 3), 128, np.uint8)
    ball = scene.CLASS_NAMES.index("ball")
    thing = scene.random_thing(np.random.default_rng(0), ball, x=160, y=120, size=80)
    ((_, _, x2, y2, _),) = scene._draw_things(table, [thing])
    beside = table[int(y2) + 1 : int(y2) + 3, 150:190]
    assert (beside <= 128).all()
    assert (beside < 126).any()
    assert x2 < 210


def test_an_object_cut_by_the_edge_has_the_box_of_what_is_left_and_one_outside_has_none() -> None:
    table = np.full((100, 100, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    cut = scene.random_thing(rng, 1, x=0, y=50, size=40)
    outside = scene.random_thing(rng, 1, x=500, y=50, size=40)
    ((x1, _, x2, _, _),) = scene._draw_things(table, [cut, outside])
    assert x1 == 0
    assert 17 <= x2 <= 20


def test_noise_brightens_as_much_as_it_darkens() -> None:
    brighter, darker = scene._noise(np.random.default_rng(0), (333, 201), strength=4.0)
    for part in (brighter, darker):
        assert part.shape == (201, 333, 3)
        # Half of a normal distribution: sigma / sqrt(2 pi), in each channel.
        assert part.reshape(-1, 3).mean(axis=0) == pytest.approx(4 / np.sqrt(2 * np.pi), abs=0.06)
    assert not (brighter & darker).any()


# ---------------------------------------------------------------- the film


def test_a_frame_depends_on_seed_size_and_index_alone() -> None:
    film, other_film = scene.MovingScene(3), scene.MovingScene(3)
    forwards = {index: film.frame(index) for index in (0, 1, 900)}
    for index in (900, 1, 0):
        other_film.boxes(index)
        assert np.array_equal(other_film.frame(index), forwards[index])
        assert np.array_equal(other_film.boxes(index), film.boxes(index))
    assert not np.array_equal(scene.MovingScene(4).frame(0), forwards[0])


def test_a_frame_belongs_to_its_caller() -> None:
    film = scene.MovingScene(0)
    first = film.frame(7)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(film.frame(7), kept)


@pytest.mark.parametrize(
    ("seed", "size"),
    [(scene.DEFAULT_SEED, (640, 480)), (0, (640, 480)), (1, (640, 480)), (2, (320, 200))],
)
def test_everything_in_the_film_moves_smoothly_stays_on_the_table_and_hides_nothing(
    seed: int, size: tuple[int, int]
) -> None:
    film = scene.MovingScene(seed, size)
    previous = film.boxes(0)
    assert set(previous[:, 4]) == set(range(len(scene.CLASS_NAMES)))
    for index in range(1, 90):
        boxes = film.boxes(index)
        assert np.array_equal(boxes[:, 4], previous[:, 4])
        moved = np.abs((boxes[:, :4] - previous[:, :4]).reshape(-1, 2, 2).mean(axis=1))
        assert moved.max() < 6
        previous = boxes
    travelled = np.abs(film.boxes(0) - previous)[:, :4].max(axis=1)
    assert (travelled > 10).all()
    for index in range(0, 1400, 25):
        boxes = film.boxes(index)
        assert len(boxes) == 9
        assert (boxes[:, :2] > 0).all()
        assert (boxes[:, 2:4] < size).all()
        for a, b in itertools.combinations(boxes, 2):
            common = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
            assert not (common > 4).all(), (index, a, b)


def test_robots_drive_where_their_lamp_is() -> None:
    """The lamp is the only bright yellow of a robot: it lies ahead of the middle of the box."""
    film = scene.MovingScene(0)
    for index in range(0, 600, 100):
        image, boxes, later = film.frame(index), film.boxes(index), film.boxes(index + 5)
        for box, next_box in zip(boxes, later, strict=True):
            if scene.CLASS_NAMES[int(box[4])] != "robot":
                continue
            x1, y1, x2, y2 = box[:4].astype(int)
            blue, green, red = np.moveaxis(image[y1:y2, x1:x2].astype(int), 2, 0)
            rows, columns = np.nonzero((red > 200) & (green > 170) & (blue < 130))
            lamp = np.array([columns.mean(), rows.mean()]) - [(x2 - x1) / 2, (y2 - y1) / 2]
            way = (next_box[:4] - box[:4]).reshape(2, 2).mean(axis=0)
            assert lamp @ way > 0.7 * np.linalg.norm(lamp) * np.linalg.norm(way)


def test_what_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(ValueError, match="32x32"):
        scene.MovingScene(0, (640, 16))
    with pytest.raises(ValueError, match="32x32"):
        scene.random_scene(np.random.default_rng(0), (0, 480))
    with pytest.raises(ValueError, match="must be >= 0"):
        scene.MovingScene(0).frame(-1)
