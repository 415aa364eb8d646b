"""What the cells share: plain functions, which a test can call. `%dora export` copies this file along."""

from __future__ import annotations

import math

import numpy as np

WIDTH, HEIGHT = 320, 240
BALL = (40, 110, 230)
"""Blue, green, red."""
TABLE = (80, 90, 70)


def ball_position(frame: int) -> tuple[float, float]:
    """Where the middle of the ball is on a frame, in pixels: it goes round in a circle."""
    angle = frame / 20
    return WIDTH / 2 + 100 * math.cos(angle), HEIGHT / 2 + 70 * math.sin(angle)


def draw_ball(x: float, y: float, radius: float = 20.0) -> np.ndarray:
    """A picture of the ball on a table: (HEIGHT, WIDTH, 3) uint8, blue first."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), TABLE, np.uint8)
    image[np.hypot(columns - x, rows - y) <= radius] = BALL
    return image


def find_ball(image: np.ndarray) -> list[float] | None:
    """The box around the ball: x1, y1, x2, y2 in pixels; None if it is not on the picture."""
    distance = np.abs(image.astype(np.int16) - BALL).sum(axis=2)
    rows, columns = np.nonzero(distance < 60)
    if len(rows) == 0:
        return None
    corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return [float(corner) for corner in corners]
