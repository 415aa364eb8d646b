"""A rendered table with robots on it: a substitute for a camera, and training data for a detector.

The same code draws both, so a detector that was trained on one works on the other::

    random_scene(rng, size)         a still, always a different one: for training and evaluation
    MovingScene(seed, size)         a film: frame(index) and boxes(index), for any index, in any order

Both return the true boxes: an ``(N, 5)`` float32 array of ``x1, y1, x2, y2, class``. Edges enclose the
drawn object (without its shadow), in pixels, clipped to the picture; the class is an index into
`CLASS_NAMES`. Pictures are ``(height, width, 3)`` uint8 in BGR, as in OpenCV. Sizes are ``(width,
height)`` in pixels; objects grow with the shorter side.

Needs only numpy and OpenCV. No call has an effect on a later one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = ("robot", "ball", "cube", "cone", "cup", "charger")
DEFAULT_SIZE = (640, 480)
DEFAULT_SEED = 5
"""Of the moving scene that the camera shows; chosen for its looks."""

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]
Colour = tuple[int, int, int]
"""Blue, green, red."""

_SHORT_SIDE = 480
"""Lengths in this file are in pixels of a picture whose shorter side is this; see `_scale_of`."""
_MIN_SIDE = 32
_TYPICAL_COLOURS: tuple[Colour, ...] = (
    (70, 66, 62),
    (40, 110, 230),
    (60, 170, 60),
    (30, 80, 235),
    (220, 200, 190),
    (180, 60, 170),
)


# ---------------------------------------------------------------- objects


@dataclass(frozen=True, slots=True)
class Thing:
    """One object on the table: everything that its picture depends on."""

    kind: int
    """Index into `CLASS_NAMES`."""
    x: float
    y: float
    """The middle, in pixels."""
    size: float
    """About the longer side of its box, in pixels."""
    angle: float
    """Where it heads, in radians; cones, cups and balls are seen from the side and do not turn."""
    colour: Colour
    accent: Colour
    """The colour of a screen, a stripe, a symbol."""


class _Sprite:
    """A drawing board for one object: points are in units of half its size, around its middle.

    The board has four channels and starts fully transparent. OpenCV's anti-aliasing blends all four
    alike, so what comes out is premultiplied: colour times coverage, and coverage.
    """

    _FRACTION_BITS = 4

    def __init__(self, thing: Thing) -> None:
        margin = math.ceil(thing.size * 0.75) + 2
        self.left = math.floor(thing.x) - margin
        self.top = math.floor(thing.y) - margin
        self.pixels: Image = np.zeros((2 * margin, 2 * margin, 4), np.uint8)
        self._middle = np.array([thing.x - self.left, thing.y - self.top])
        self._half = thing.size / 2
        turn = thing.angle
        self._turn = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])

    def polygon(
        self, points: Sequence[Sequence[float]], colour: Colour, *, turned: bool = False
    ) -> None:
        board = self._place(points, turned)
        cv2.fillPoly(self.pixels, [board], (*colour, 255), cv2.LINE_AA, shift=self._FRACTION_BITS)

    def ellipse(
        self,
        middle: Sequence[float],
        axes: Sequence[float],
        colour: Colour,
        *,
        turned: bool = False,
        thickness: float = 0.0,
        arc_degrees: tuple[int, int] = (0, 360),
    ) -> None:
        """Filled, unless a thickness of the line is given."""
        (place,) = self._place([middle], turned)
        fixed = self._half * (1 << self._FRACTION_BITS)
        cv2.ellipse(
            self.pixels,
            (int(place[0]), int(place[1])),
            (round(axes[0] * fixed), round(axes[1] * fixed)),
            0,
            *arc_degrees,
            (*colour, 255),
            max(1, round(thickness * self._half)) if thickness else -1,
            cv2.LINE_AA,
            self._FRACTION_BITS,
        )

    def _place(self, points: Sequence[Sequence[float]], turned: bool) -> NDArray[np.int32]:
        units = np.asarray(points, np.float64)
        if turned:
            units = units @ self._turn
        pixels = units * self._half + self._middle
        return np.rint(pixels * (1 << self._FRACTION_BITS)).astype(np.int32)


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def _draw_robot(sprite: _Sprite, thing: Thing) -> None:
    """From above: a body on four wheels, a screen on its back and a lamp where it heads."""
    for x in (-0.5, 0.5):
        for y in (-0.68, 0.68):
            wheel = _rectangle(x - 0.24, y - 0.14, x + 0.24, y + 0.14)
            sprite.polygon(wheel, (18, 18, 18), turned=True)
    sprite.polygon(_rectangle(-0.85, -0.58, 0.7, 0.58), thing.colour, turned=True)
    nose = [[0.7, -0.58], [0.92, -0.3], [0.92, 0.3], [0.7, 0.58]]
    sprite.polygon(nose, _shade(thing.colour, 1.35), turned=True)
    sprite.polygon(_rectangle(-0.6, -0.36, 0.15, 0.36), thing.accent, turned=True)
    sprite.ellipse([0.52, 0.0], [0.19, 0.19], (60, 225, 250), turned=True)
    sprite.ellipse([0.52, 0.0], [0.09, 0.09], (20, 60, 70), turned=True)


def _draw_ball(sprite: _Sprite, thing: Thing) -> None:
    sprite.ellipse([0, 0], [0.92, 0.92], _shade(thing.colour, 0.8))
    sprite.ellipse([-0.06, -0.08], [0.8, 0.78], thing.colour)
    sprite.ellipse([-0.3, -0.34], [0.22, 0.18], (245, 245, 245))


def _draw_cube(sprite: _Sprite, thing: Thing) -> None:
    """Two of its faces: the upper one, turned, over a darker one that it shades."""
    lower = np.array(_rectangle(-0.62, -0.62, 0.62, 0.62)) @ sprite._turn
    upper = lower + [0.08, -0.22]
    sprite.polygon(lower.tolist(), _shade(thing.colour, 0.5))
    for near, far in ((0, 1), (1, 2), (2, 3), (3, 0)):
        side = [lower[near], lower[far], upper[far], upper[near]]
        sprite.polygon([point.tolist() for point in side], _shade(thing.colour, 0.5))
    sprite.polygon(upper.tolist(), thing.colour)


def _draw_cone(sprite: _Sprite, thing: Thing) -> None:
    sprite.polygon(_rectangle(-0.82, 0.74, 0.82, 0.95), _shade(thing.colour, 0.7))
    sprite.polygon([[-0.6, 0.8], [0.6, 0.8], [0.1, -0.95], [-0.1, -0.95]], thing.colour)
    stripe = [[-0.44, 0.3], [0.44, 0.3], [0.29, -0.25], [-0.29, -0.25]]
    sprite.polygon(stripe, (235, 235, 235))


def _draw_cup(sprite: _Sprite, thing: Thing) -> None:
    sprite.ellipse([0.5, 0.05], [0.34, 0.4], thing.colour, thickness=0.15, arc_degrees=(-90, 90))
    sprite.polygon([[-0.7, -0.72], [0.55, -0.72], [0.45, 0.85], [-0.6, 0.85]], thing.colour)
    sprite.ellipse([-0.075, -0.72], [0.625, 0.2], _shade(thing.colour, 0.8))
    sprite.ellipse([-0.075, -0.7], [0.52, 0.14], (38, 52, 78))


def _draw_charger(sprite: _Sprite, thing: Thing) -> None:
    """A charging pad with a bolt of lightning."""
    sprite.polygon(_rectangle(-0.92, -0.55, 0.92, 0.55), _shade(thing.colour, 0.7), turned=True)
    sprite.polygon(_rectangle(-0.8, -0.43, 0.8, 0.43), thing.colour, turned=True)
    upper = [[-0.12, 0.04], [0.2, -0.36], [0.12, 0.04]]
    lower = [[0.14, -0.04], [-0.2, 0.36], [-0.12, -0.04]]
    for half in (upper, lower):
        sprite.polygon(half, thing.accent, turned=True)


_DRAW: tuple[Callable[[_Sprite, Thing], None], ...] = (
    _draw_robot,
    _draw_ball,
    _draw_cube,
    _draw_cone,
    _draw_cup,
    _draw_charger,
)


def _shade(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255, int(channel * factor)) for channel in colour)
    return blue, green, red


def _vary(rng: np.random.Generator, colour: Sequence[float], spread: int) -> Colour:
    varied = np.clip(np.asarray(colour) + rng.integers(-spread, spread + 1, 3), 0, 255)
    blue, green, red = (int(channel) for channel in varied)
    return blue, green, red


def random_thing(rng: np.random.Generator, kind: int, *, x: float, y: float, size: float) -> Thing:
    """An object of a kind with its own colours, heading anywhere."""
    accent = (190, 150, 40) if CLASS_NAMES[kind] == "robot" else (60, 240, 255)
    return Thing(
        kind,
        x,
        y,
        size,
        angle=rng.uniform(0, 2 * math.pi),
        colour=_vary(rng, _TYPICAL_COLOURS[kind], 35),
        accent=_vary(rng, accent, 25),
    )


# ---------------------------------------------------------------- putting a picture together


def _visible(sprite: _Sprite, image: Image) -> tuple[slice, slice, slice, slice] | None:
    """Rows and columns of the image and of the sprite where both are; None where nowhere."""
    height, width = image.shape[:2]
    rows, columns = sprite.pixels.shape[:2]
    top, bottom = max(0, sprite.top), min(height, sprite.top + rows)
    left, right = max(0, sprite.left), min(width, sprite.left + columns)
    if top >= bottom or left >= right:
        return None
    return (
        slice(top, bottom),
        slice(left, right),
        slice(top - sprite.top, bottom - sprite.top),
        slice(left - sprite.left, right - sprite.left),
    )


def _put_on_table(image: Image, thing: Thing) -> tuple[float, float, float, float] | None:
    """Draws the object and its shadow into the image; the edges of what can be seen of it."""
    sprite = _Sprite(thing)
    _DRAW[thing.kind](sprite, thing)
    places = _visible(sprite, image)
    if places is None:
        return None
    rows, columns, sprite_rows, sprite_columns = places
    under = image[rows, columns]
    _cast_shadow(under, sprite.pixels[:, :, 3], sprite_rows, sprite_columns, thing.size)
    over = sprite.pixels[sprite_rows, sprite_columns]
    alpha = over[:, :, 3]
    through = cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2BGR)
    behind = cv2.multiply(under, through, scale=1 / 255)
    image[rows, columns] = cv2.add(behind, cv2.cvtColor(over, cv2.COLOR_BGRA2BGR))
    seen = np.ascontiguousarray(alpha) >= 128
    filled_rows, filled_columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not filled_rows.size:
        return None
    return (
        float(columns.start + filled_columns[0]),
        float(rows.start + filled_rows[0]),
        float(columns.start + filled_columns[-1] + 1),
        float(rows.start + filled_rows[-1] + 1),
    )


def _cast_shadow(
    under: Image, alpha: Image, sprite_rows: slice, sprite_columns: slice, size: float
) -> None:
    """Darkens the table to the lower right, softly: a quarter of the light is gone in the middle."""
    fall = size * 0.07
    shift = np.array([[1, 0, fall], [0, 1, fall]], np.float32)
    moved = cv2.warpAffine(alpha, shift, alpha.shape[::-1])
    blur = max(3, int(size * 0.12) | 1)
    soft = cv2.blur(moved, (blur, blur))[sprite_rows, sprite_columns]
    light = cv2.convertScaleAbs(soft, alpha=-0.27, beta=255)
    under[:] = cv2.multiply(under, cv2.cvtColor(light, cv2.COLOR_GRAY2BGR), scale=1 / 255)


def _scale_of(size: tuple[int, int]) -> float:
    if min(size) < _MIN_SIDE:
        raise ValueError(f"a scene must have at least {_MIN_SIDE}x{_MIN_SIDE} pixels, got {size}")
    return min(size) / _SHORT_SIDE


def random_table(
    rng: np.random.Generator, size: tuple[int, int], *, wooden: bool | None = None
) -> Image:
    """A table without objects: a colour, light from a side, grain, seams and litter.

    By default, two in five are of wood and the others of any colour.
    """
    width, height = size
    scale = _scale_of(size)
    if wooden is None:
        wooden = bool(rng.random() < 0.4)
    base = _vary(rng, (110, 155, 190), 18) if wooden else _vary(rng, (142, 142, 142), 72)
    slopes = rng.uniform(-40, 40, 2)
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32) * slopes[0]
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32) * slopes[1]
    light = _grain(rng, size, scale)
    light += across
    light += down[:, None]
    image = cv2.add(cv2.merge([light] * 3), tuple(map(float, base)), dtype=cv2.CV_8U)
    _draw_seams(image, rng, base, scale)
    _draw_litter(image, rng, base, scale)
    return image


def _grain(rng: np.random.Generator, size: tuple[int, int], scale: float) -> NDArray[np.float32]:
    width, height = size
    strength = rng.uniform(0, 16)
    cell_x, cell_y = rng.uniform(6, 60) * scale, rng.uniform(4, 24) * scale
    coarse = rng.normal(
        0, strength, (math.ceil(height / cell_y) + 1, math.ceil(width / cell_x) + 1)
    )
    return cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)


def _draw_seams(image: Image, rng: np.random.Generator, base: Colour, scale: float) -> None:
    height, width = image.shape[:2]
    for _ in range(rng.integers(0, 7)):
        (x1, x2), (y1, y2) = rng.integers(0, width, 2), rng.integers(0, height, 2)
        if rng.random() < 0.5:
            y2 = y1
        colour = _vary(rng, np.asarray(base) * 0.72, 18)
        thickness = max(1, round(rng.uniform(1, 4) * scale))
        cv2.line(image, (int(x1), int(y1)), (int(x2), int(y2)), colour, thickness, cv2.LINE_AA)


def _draw_litter(image: Image, rng: np.random.Generator, base: Colour, scale: float) -> None:
    """What lies on tables and is none of the classes: stains, paper, coins, flat blocks."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(0, 6)):
        middle = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        turn = float(rng.uniform(0, 180))
        what = rng.choice(["stain", "paper", "coin", "block"], p=[0.4, 0.25, 0.15, 0.2])
        if what == "stain":
            sides = rng.uniform((12, 12), (160, 90)) * scale
            colour = _vary(rng, np.asarray(base) * 0.85, 18)
        elif what == "paper":
            sides = rng.uniform(50, 210, 2) * scale
            colour = _vary(rng, (225, 228, 230), 20)
        elif what == "coin":
            sides = np.repeat(rng.uniform(14, 60), 2) * scale
            colour = _vary(rng, (110, 150, 165), 45)
        else:
            sides = rng.uniform(16, 90, 2) * scale
            colour = _vary(rng, (128, 128, 128), 110)
        if what in ("stain", "coin"):
            axes = (math.ceil(sides[0] / 2), math.ceil(sides[1] / 2))
            cv2.ellipse(image, middle, axes, turn, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((middle, (float(sides[0]), float(sides[1])), turn))
            cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], colour, cv2.LINE_AA)


def _draw_things(image: Image, things: Sequence[Thing]) -> Boxes:
    boxes = [(*edges, thing.kind) for thing in things if (edges := _put_on_table(image, thing))]
    return np.array(boxes, np.float32).reshape(-1, 5)


# ---------------------------------------------------------------- stills


_THING_SIZES = (24.0, 140.0)
_MAX_OVERLAP = 0.25
"""The part of the smaller of two objects that the other may cover."""


def random_scene(
    rng: np.random.Generator, size: tuple[int, int] = DEFAULT_SIZE
) -> tuple[Image, Boxes]:
    """A table with up to nine objects, some of them cut by the edge or touching each other.

    Light, blur and sensor noise vary from scene to scene. The same state of `rng` gives the same
    scene. Returns the picture and its boxes, as described at the head of this file.
    """
    image = random_table(rng, size)
    boxes = _draw_things(image, _scatter(rng, size))
    # An empty table may be dark, down to black: a detector that sees nothing should find nothing.
    return _through_camera(rng, image, least_light=0.5 if len(boxes) else 0.0), boxes


def _scatter(rng: np.random.Generator, size: tuple[int, int]) -> list[Thing]:
    width, height = size
    scale = _scale_of(size)
    things: list[Thing] = []
    for _ in range(rng.integers(0, 10)):
        for _attempt in range(8):
            # Uniform in the logarithm: as many small ones as large ones.
            span = math.exp(rng.uniform(*np.log(_THING_SIZES))) * scale
            inset = span * 0.3
            x, y = rng.uniform(inset, width - inset), rng.uniform(inset, height - inset)
            if all(_overlap(x, y, span, other) < _MAX_OVERLAP for other in things):
                kind = int(rng.integers(len(CLASS_NAMES)))
                things.append(random_thing(rng, kind, x=x, y=y, size=span))
                break
    return things


def _overlap(x: float, y: float, size: float, other: Thing) -> float:
    """How much two squares cover each other, as a part of the smaller one."""
    reach = (size + other.size) / 2
    across = min(reach - abs(x - other.x), size, other.size)
    down = min(reach - abs(y - other.y), size, other.size)
    return max(0.0, across) * max(0.0, down) / min(size, other.size) ** 2


def _through_camera(rng: np.random.Generator, image: Image, *, least_light: float) -> Image:
    """Exposure, sometimes a lens out of focus, and the noise of a sensor."""
    exposed = cv2.convertScaleAbs(
        image, alpha=rng.uniform(least_light, 1.25), beta=rng.uniform(0, 25)
    )
    if rng.random() < 0.35:
        exposed = cv2.GaussianBlur(exposed, (0, 0), rng.uniform(0.4, 1.6))
    brighter, darker = _noise(rng, exposed.shape[1::-1], strength=rng.uniform(0, 9))
    return cv2.subtract(cv2.add(exposed, brighter), darker)


def _noise(
    rng: np.random.Generator, size: tuple[int, int], *, strength: float
) -> tuple[Image, Image]:
    """Gaussian noise as what it adds and what it takes away: two fast saturating uint8 operations.

    Only a quarter of it is drawn, and repeated four times: drawing is slow, and the repetition invisible.
    """
    width, height = size
    quarter = rng.standard_normal((height + 1 >> 1, width + 1 >> 1, 3), np.float32)
    quarter *= np.float32(strength)
    # Conversion to uint8 rounds and saturates: what is negative becomes 0.
    parts = (cv2.add(quarter, 0, dtype=cv2.CV_8U), cv2.subtract(0, quarter, dtype=cv2.CV_8U))
    brighter, darker = (np.tile(part, (2, 2, 1))[:height, :width] for part in parts)
    return brighter, darker


# ---------------------------------------------------------------- the film


@dataclass(frozen=True, slots=True)
class _Lane:
    """An ellipse around the middle of the table, on which objects keep their distance.

    `radii` are parts of the picture's width and height; `turns_per_frame` is negative for one
    direction. The lanes are further apart than the largest object, so nothing hides anything.
    """

    radii: tuple[float, float]
    phase: float
    turns_per_frame: float

    def angle(self, index: int) -> float:
        return 2 * math.pi * (self.phase + self.turns_per_frame * index)


@dataclass(frozen=True, slots=True)
class _Traveller:
    thing: Thing
    lane: _Lane
    place: float
    """Where in the lane, as a part of a turn."""
    sway: float
    sway_phase: float
    spin_per_frame: float


class MovingScene:
    """Nine objects, each class at least once, that go round on a table without end.

    `frame(index)` and `boxes(index)` are functions of seed, size and index alone: any index from 0
    on, in any order, in any process. At 30 frames a second an outer lap takes about 20 s.
    """

    _OUTER, _INNER = 6, 3
    _NOISE_SLACK = 61

    def __init__(self, seed: int = DEFAULT_SEED, size: tuple[int, int] = DEFAULT_SIZE) -> None:
        rng = np.random.default_rng([seed, 0x5CE4E])
        self.seed = seed
        self.size = size
        self._scale = _scale_of(size)
        self._table = random_table(rng, size, wooden=True)
        self._travellers = self._populate(rng)
        # Noise is the slowest part of a picture to make: one field is made here, and every frame
        # looks at another part of it.
        slack = self._NOISE_SLACK
        field = (size[0] + slack, size[1] + slack)
        self._noise = _noise(rng, field, strength=rng.uniform(1.0, 3.0))

    def frame(self, index: int) -> Image:
        """The picture: a new array that the caller may keep and change."""
        image = self._table.copy()
        _draw_things(image, self._things(index))
        width, height = self.size
        left, top = (index * 23) % self._NOISE_SLACK, (index * 37) % self._NOISE_SLACK
        brighter, darker = (field[top : top + height, left : left + width] for field in self._noise)
        cv2.add(image, brighter, image)
        return cv2.subtract(image, darker, image)

    def boxes(self, index: int) -> Boxes:
        """The truth about `frame(index)`, as described at the head of this file."""
        return _draw_things(np.empty_like(self._table), self._things(index))

    def _populate(self, rng: np.random.Generator) -> list[_Traveller]:
        robot = CLASS_NAMES.index("robot")
        extra = rng.integers(0, len(CLASS_NAMES), self._OUTER + self._INNER - len(CLASS_NAMES) - 1)
        kinds = rng.permutation([*range(len(CLASS_NAMES)), robot, *extra])
        direction = 1 if rng.random() < 0.5 else -1
        outer = _Lane((0.39, 0.365), rng.random(), direction / rng.uniform(540, 660))
        inner = _Lane((0.165, 0.125), rng.random(), -direction / rng.uniform(400, 500))
        travellers = []
        for number, kind in enumerate(kinds):
            lane = outer if number < self._OUTER else inner
            seats = self._OUTER if number < self._OUTER else self._INNER
            size = rng.uniform(54, 88 if lane is outer else 76) * self._scale
            travellers.append(
                _Traveller(
                    random_thing(rng, int(kind), x=0, y=0, size=size),
                    lane,
                    place=number % self._OUTER / seats,
                    sway=rng.uniform(2, 6) * self._scale,
                    sway_phase=rng.uniform(0, 2 * math.pi),
                    spin_per_frame=rng.uniform(-0.02, 0.02),
                )
            )
        return travellers

    def _things(self, index: int) -> list[Thing]:
        if index < 0:
            raise ValueError(f"the index of a frame must be >= 0, got {index}")
        return [self._at(traveller, index) for traveller in self._travellers]

    def _at(self, traveller: _Traveller, index: int) -> Thing:
        width, height = self.size
        lane = traveller.lane
        angle = lane.angle(index) + 2 * math.pi * traveller.place
        radius_x, radius_y = lane.radii[0] * width, lane.radii[1] * height
        sway = traveller.sway * math.sin(0.05 * index + traveller.sway_phase)
        heading = math.copysign(1, lane.turns_per_frame)
        if CLASS_NAMES[traveller.thing.kind] == "robot":
            turn = math.atan2(
                heading * radius_y * math.cos(angle), -heading * radius_x * math.sin(angle)
            )
        else:
            turn = traveller.thing.angle + traveller.spin_per_frame * index
        return replace(
            traveller.thing,
            x=width / 2 + (radius_x + sway) * math.cos(angle),
            y=height / 2 + (radius_y + sway) * math.sin(angle),
            angle=turn,
        )
