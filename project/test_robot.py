"""Tests of the cells, without processes: `pytest` runs them.

`run_operator` gives an operator prepared messages, and returns what it sends.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import HEIGHT, WIDTH, ball_position, draw_ball, find_ball

from dora_nb import as_boxes, as_image
from dora_nb.testing import run_operator

NOTEBOOK = Path(__file__).with_name("robot.ipynb")
ABOUT = {"width": WIDTH, "height": HEIGHT, "encoding": "bgr8"}


def cell(operator: str) -> str:
    """The cell of the notebook that declares an operator."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(each["source"]) for each in cells if each["cell_type"] == "code"]
    found = [text for text in texts if text.startswith(f"%%dora_operator {operator} ")]
    assert len(found) == 1, f"{NOTEBOOK.name} has {len(found)} cells that declare {operator!r}"
    return found[0]


@pytest.mark.parametrize("place", [(100, 80), (25, 30), (290, 200)])
def test_the_ball_is_found_where_it_is(place: tuple[int, int]) -> None:
    x, y = place
    assert find_ball(draw_ball(x, y)) == pytest.approx([x - 20, y - 20, x + 21, y + 21])


def test_the_finder_sends_a_box_around_the_ball() -> None:
    images = [draw_ball(100, 80), np.zeros((HEIGHT, WIDTH, 3), np.uint8)]
    events = [("image", pa.array(image.ravel()), ABOUT) for image in images]
    found, nothing = run_operator(cell("finder"), events)["boxes"]
    assert as_boxes(found)[:, :4].tolist() == [[80, 60, 121, 101]]
    assert len(as_boxes(nothing)) == 0


def test_the_camera_shows_the_ball_at_each_tick() -> None:
    ticks = [("tick", pa.nulls(0))] * 3
    pictures = run_operator(cell("camera"), ticks)["image"]
    assert len(pictures) == 3
    for frame, picture in enumerate(pictures):
        assert np.array_equal(as_image(picture), draw_ball(*ball_position(frame)))
