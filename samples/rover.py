"""A simulated rover as a dora operator: it drives through a room with coloured things and AprilTags.

    %dora_operator rover ../samples/rover.py --inputs tick=dora/timer/hz/20 wheels=controller/wheels --outputs image boxes pose scan imu --queue tick=1

It needs MuJoCo: ``pip install "dora-nb[sim]"``. The pictures are drawn without a display, and without a GPU too.
The room is the text of rover_world.py, which `%dora export` copies along.

Inputs:

tick      time for new messages: the simulation goes on to the present, and sends all outputs
wheels    two numbers, the speed of the left and the right wheel in m/s, from -1 to 1
reset     any message: everything is where it was at the start
noise, delay   a number: SIM_NOISE and SIM_DELAY_SECS from then on, as from a slider

Outputs; all carry as ``timestamp`` when they were measured, and ``sim_secs``, the simulated time since the start:

image     a flat UInt8 array with ``width``, ``height``, ``encoding`` "bgr8", and ``focal_px`` for apriltags.py
boxes     the struct array of boxes.py: what is visible of the things on that picture, without a mistake
pose      a struct, the truth: ``x``, ``y`` in metres from the middle of the room, ``heading`` in radians, left turns
          are positive; ``speed`` in m/s, ``turn`` in rad/s
scan      float32: the distance in metres to what is around, to the left from straight ahead, so a quarter of the
          array is left of the rover; inf beyond ``range_max``. ``angle_min`` and ``angle_increment`` are in radians
imu       a struct: the acceleration ``ax``, ``ay``, ``az`` in m/s², with that of gravity as a real sensor has it,
          and the rotation ``wx``, ``wy``, ``wz`` in rad/s; x forward, y left, z up; the mean since the last message

Settings, from the environment (``--env SIM_STEP=lockstep``):

SIM_STEP            ``realtime`` (default), or ``lockstep``: each message on ``wheels`` simulates SIM_STEP_SECS, then
                    all outputs are sent. The first input of any kind sends what the sensors see at the start, and
                    so does ``reset``. With a delay, what was sent last is sent again until something newer is due.
                    ``timestamp`` counts the simulated time from 2000 on, so two runs send identical messages
SIM_STEP_SECS       by default 0.05
SIM_SEED            of the noise, a whole number, by default 0
SIM_NOISE           0 (default): ideal sensors; 1: like those of a small robot; 3: worse
SIM_DELAY_SECS      how much later the messages of all sensors are sent, by default 0
SIM_DEADMAN_SECS    without a message on ``wheels`` for that long the rover stops; by default 1, 0 never stops it
SIM_WIDTH, SIM_HEIGHT   of the picture, by default 640 and 480
SIM_CAMERA          ``rover`` (default), ``room`` for a view from above, or another one of the model
SIM_IMAGE           ``yes`` (default); ``no``: no ``image`` and no ``boxes``, and no OpenGL is needed
SIM_MODEL           the path of a model of your own; rover_world.py says what it must have
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from dora import DoraStatus
from numpy.typing import NDArray

# The folder of this file is not on `sys.path` everywhere. It goes first, so that no other module
# named `boxes` is found.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from boxes import boxes_from
from rover_world import WORLD_XML, paint_textures


class MissingPackageError(ImportError):
    """A package, or a library of the system, has to be installed."""

    __tracebackhide__ = True  # dora_nb shows its text alone


WAYS_TO_DRAW = {
    "egl": "sudo apt install libegl1 libgl1 libgl1-mesa-dri",
    "osmesa": "sudo apt install libosmesa6",
    "glfw": "it needs a display",
}
"""The values of MUJOCO_GL, and what each needs."""


def why_it_cannot_draw(error: Exception) -> str:
    """The end of a sentence, with the ways out."""
    way = os.environ["MUJOCO_GL"].strip().lower()
    without = "or drive without pictures: --env SIM_IMAGE=no"
    if way not in WAYS_TO_DRAW:
        return f"cannot draw with MUJOCO_GL={way}: set it to {', '.join(WAYS_TO_DRAW)}, {without}"
    # PyOpenGL goes on without a library that it has not found, and then trips over None.
    reason = "its library was not found" if isinstance(error, AttributeError) else str(error)
    other = "osmesa" if way == "egl" else "egl"
    return (
        f"cannot draw, since MUJOCO_GL={way} does not work here ({reason}): {WAYS_TO_DRAW[way]}, {without}, "
        f"or draw otherwise: --env MUJOCO_GL={other} ({WAYS_TO_DRAW[other]})"
    )


# MuJoCo chooses how to draw while it is imported. EGL needs no display.
if os.environ.get("SIM_IMAGE", "").strip().lower() == "no":
    os.environ["MUJOCO_GL"] = "disabled"
elif not os.environ.get("MUJOCO_GL", "").strip():
    os.environ["MUJOCO_GL"] = "egl"
try:
    import mujoco
except ModuleNotFoundError as error:
    if error.name != "mujoco":
        raise
    raise MissingPackageError('rover.py needs MuJoCo: pip install "dora-nb[sim]"') from None
except Exception as error:  # without a library PyOpenGL raises whatever its first use of it raises
    raise MissingPackageError(f"rover.py {why_it_cannot_draw(error)}") from None

LOCKSTEP_START = datetime(2000, 1, 1, tzinfo=UTC)
MAX_CATCH_UP_SECS = 0.25
"""In real time, how much is simulated at once; after a longer pause the rest is left out."""
MAX_SPEED = 1.0
NUM_RANGES = 180
RANGE_MIN, RANGE_MAX = 0.05, 8.0
SEGMENTS_SCALE = 2
"""Boxes are found on a picture that is smaller by this factor: a quarter of the work, and one pixel less exact."""
SCANNED_GROUPS = np.array([1, 1, 0, 1, 0, 1], np.uint8)
"""All but the groups 2 and 4, which the rover is in: its scanner stands above it."""
IMAGE_SIGMA, RANGE_SIGMA, ACCELERATION_SIGMA, ROTATION_SIGMA = 5.0, 0.012, 0.06, 0.008
"""Of the noise with SIM_NOISE=1: of 255, metres, m/s², rad/s."""
ACCELERATION_BIAS, ROTATION_BIAS = 0.08, 0.01
SHADOW_LAYERS = 5
YES_OR_NO = {"yes": True, "no": False, "": True}

Image = NDArray[np.uint8]
Numbers = NDArray[np.float64]
SendOutput = Callable[..., None]


class RoverError(RuntimeError):
    """The simulation cannot run."""

    __tracebackhide__ = True  # dora_nb shows its text alone


class SettingError(ValueError):
    """A setting has a value that it cannot have."""

    __tracebackhide__ = True  # dora_nb shows its text alone


# ---------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    lockstep: bool
    step_secs: float
    seed: int
    noise: float
    delay_secs: float
    deadman_secs: float
    size: tuple[int, int]
    camera: str
    image: bool
    model: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        def text(name: str, default: str) -> str:
            return environment.get(name, "").strip() or default

        def number(name: str, default: str, low: float, high: float) -> float:
            return number_within(name, text(name, default), low, high)

        def whole(name: str, default: str, low: int, high: int) -> int:
            given = text(name, default)
            if not given.isdecimal() or not low <= int(given) <= high:
                raise SettingError(
                    f"{name} must be a whole number from {low} to {high}, got {given!r}"
                )
            return int(given)

        step, image = text("SIM_STEP", "realtime"), text("SIM_IMAGE", "yes").lower()
        if step not in ("realtime", "lockstep"):
            raise SettingError(f"SIM_STEP must be realtime or lockstep, got {step!r}")
        if image not in YES_OR_NO:
            raise SettingError(f"SIM_IMAGE must be yes or no, got {image!r}")
        return cls(
            lockstep=step == "lockstep",
            step_secs=number("SIM_STEP_SECS", "0.05", 0.001, 10),
            seed=whole("SIM_SEED", "0", 0, 2**32 - 1),
            noise=number("SIM_NOISE", "0", 0, 100),
            delay_secs=number("SIM_DELAY_SECS", "0", 0, 10),
            deadman_secs=number("SIM_DEADMAN_SECS", "1", 0, 3600),
            size=(whole("SIM_WIDTH", "640", 32, 4096), whole("SIM_HEIGHT", "480", 32, 4096)),
            camera=text("SIM_CAMERA", "rover"),
            image=YES_OR_NO[image],
            model=text("SIM_MODEL", ""),
        )


def number_within(name: str, given: Any, low: float, high: float) -> float:
    """The number that a setting or a message gives. Raises SettingError if it is not within the limits."""
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise SettingError(f"{name} must be a number from {low:g} to {high:g}, got {given!r}")
    return number


# ---------------------------------------------------------------- the model


def load_model(path: str) -> Any:
    """The MuJoCo model of a file, or the room of rover_world.py without a path; its textures are painted.

    Raises RoverError, in one line, with the line of the file where MuJoCo names one.
    """
    name = path or "rover_world.py"
    if path and not Path(path).is_file():
        raise RoverError(
            f"SIM_MODEL: there is no file {path} (in {Path.cwd()}); "
            "python samples/rover_world.py > my_room.xml writes one to start with"
        )
    text = _text_of(path) if path else WORLD_XML
    try:
        if path:
            model = mujoco.MjModel.from_xml_path(path)
        else:
            model = mujoco.MjModel.from_xml_string(WORLD_XML)
    except ValueError as error:
        raise RoverError(model_error(name, str(error), text)) from None
    missing = [each for each in ("body rover", *_REQUIRED) if not _has(model, *each.split(" "))]
    if missing:
        raise RoverError(
            f"{name} has no {', no '.join(missing)}: the head of rover_world.py lists what a model needs"
        )
    paint_textures(model)
    return model


_REQUIRED = (
    "actuator left",
    "actuator right",
    "site scanner",
    "sensor acceleration",
    "sensor rotation",
)


def _has(model: Any, kind: str, name: str) -> bool:
    try:
        getattr(model, kind)(name)
    except KeyError:
        return False
    return True


def _text_of(path: str) -> str:
    """The text of a model. MuJoCo takes any bytes, and trips over them later, without a line."""
    data = Path(path).read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RoverError(
            f"{path}, line {line}: this is not UTF-8; save the file as UTF-8"
        ) from None


def model_error(name: str, text: str, model: str) -> str:
    """What MuJoCo says of a model in one line that begins with the file and the line.

    Where it names no line, but something that stands in one line of the model alone, that is the one.
    """
    if "XML_ERROR" in text:
        line = re.search(r"Line number=(\d+)", text)
        element = re.search(r"XMLElement name=(\S+)", text)
        what = "the XML is broken"
        if "MISMATCHED" in text and element:
            what = f"the XML is broken: <{element[1]}> and its end do not match"
        return f"{name}, line {line[1]}: {what}" if line else f"{name}: {what}"
    if "empty file" in text:
        return (
            f"{name} is empty; python samples/rover_world.py > my_room.xml writes one to start with"
        )
    line = re.search(r"line (\d+)", text)
    number = int(line[1]) if line else _only_line_with(re.findall(r"'([^']+)'", text), model)
    element = re.search(r"Element '([^']+)'", text)
    what = re.sub(r"^(XML )?Error: ", "", text.strip()).split("\n")[0]
    where = f"{name}, line {number}" if number else name
    return f"{where}: {what}" + (f" (in <{element[1]}>)" if element else "")


def _only_line_with(names: list[str], model: str) -> int:
    """The line of a model that has one of these values, if it is one line; else 0."""
    for name in names:
        found = [number for number, line in enumerate(model.splitlines(), 1) if f'"{name}"' in line]
        if len(found) == 1:
            return found[0]
    return 0


class Thing(NamedTuple):
    body: int
    label: str
    geoms: list[int]
    radius: float
    """Of its shadow, in metres; 0 if it has none."""


def things_of(model: Any) -> list[Thing]:
    """The named bodies of a model but the rover: what boxes are drawn around."""
    rover = model.body("rover").id
    things = []
    for number in range(1, model.nbody):
        name = model.body(number).name
        if not name or int(model.body_rootid[number]) == rover:
            continue
        first, count = int(model.body_geomadr[number]), int(model.body_geomnum[number])
        geoms = list(range(first, first + count))
        moves = int(model.body_dofnum[number]) > 0
        # The half side of the upright box around each geom; of a cube it is less than the radius of its sphere.
        radius = max((float(model.geom_aabb[geom][3:5].max()) for geom in geoms), default=0.0)
        things.append(Thing(number, name.split("-")[0], geoms, radius if moves else 0.0))
    return things


# ---------------------------------------------------------------- pictures


class Camera:
    """Draws what a camera of the model sees, and where the things are on it."""

    def __init__(self, model: Any, name: str, size: tuple[int, int]) -> None:
        self._model = model
        self._width, self._height = size
        self._things = things_of(model)
        names = [model.camera(number).name for number in range(model.ncam)]
        if name not in names:
            raise RoverError(f"SIM_CAMERA={name} is not in the model; it has {', '.join(names)}")
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = names.index(name)
        view = math.radians(float(model.cam_fovy[names.index(name)]))
        self.focal_px = self._height / 2 / math.tan(view / 2)
        model.vis.global_.offwidth, model.vis.global_.offheight = size
        self._thing_of_geom = np.full(model.ngeom, -1, np.int32)
        for index, thing in enumerate(self._things):
            self._thing_of_geom[thing.geoms] = index
        self._open()
        self._scene = mujoco.MjvScene(model, 1000)
        self._options = mujoco.MjvOption()
        flags = self._scene.flags
        # They take most of the time without a GPU. `_add_shadows` is a cheap substitute.
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def _open(self) -> None:
        try:
            self._gl = mujoco.GLContext(self._width, self._height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(
                self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value
            )
        except Exception as error:  # PyOpenGL, MuJoCo and the driver each raise errors of their own
            raise RoverError(why_it_cannot_draw(error)) from None
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def draw(self, data: Any) -> tuple[Image, dict[str, list[Any]]]:
        """The picture, ``(height, width, 3)`` BGR uint8, and the boxes as `boxes_from` takes them."""
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._options,
            None,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        # First, since there are no shadows in it.
        boxes = self._boxes()
        self._add_shadows(data)
        rgb = self._render(self._width, self._height)
        # OpenGL's first row is the lowest.
        return cv2.cvtColor(cv2.flip(rgb, 0), cv2.COLOR_RGB2BGR), boxes

    def close(self) -> None:
        self._context.free()
        self._gl.free()

    def _render(self, width: int, height: int) -> Image:
        pixels = np.empty((height, width, 3), np.uint8)
        area = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(area, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, area, self._context)
        return pixels

    def _boxes(self) -> dict[str, list[Any]]:
        flags = self._scene.flags
        colours = mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR
        for flag in colours:
            flags[flag] = 1
        coarse = self._render(
            -(-self._width // SEGMENTS_SCALE), -(-self._height // SEGMENTS_SCALE)
        )[::-1]
        for flag in colours:
            flags[flag] = 0
        # The colour is the number of a geom in the scene plus 1, which says which geom of the model it is.
        in_scene = coarse.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        thing_in_scene = np.full(self._scene.maxgeom + 1, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                thing_in_scene[geom.segid + 1] = self._thing_of_geom[geom.objid]
        seen = thing_in_scene[in_scene]
        found: dict[str, list[Any]] = {"boxes": [], "scores": [], "labels": [], "track_ids": []}
        for index in np.unique(seen[seen >= 0]).tolist():
            mask = seen == index
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            limits = [self._width, self._height] * 2
            found["boxes"].append(
                [
                    float(min(SEGMENTS_SCALE * edge, limit))
                    for edge, limit in zip(box, limits, strict=True)
                ]
            )
            found["scores"].append(1.0)
            found["labels"].append(self._things[index].label)
            found["track_ids"].append(index)
        return found

    def _add_shadows(self, data: Any) -> None:
        """A soft dark spot below each thing that moves, and below the rover."""
        spots = [(thing.body, thing.radius) for thing in self._things if thing.radius]
        for body, radius in (*spots, (self._model.body("rover").id, 0.13)):
            x, y, z = data.xpos[body]
            for layer in range(SHADOW_LAYERS):
                if self._scene.ngeom >= self._scene.maxgeom:
                    return
                spread = radius * (0.75 + 0.16 * layer)
                # Each layer is above the one before: two at the same height would flicker.
                place = np.array([x, y, 0.0006 * (layer + 1)])
                mujoco.mjv_initGeom(
                    self._scene.geoms[self._scene.ngeom],
                    mujoco.mjtGeom.mjGEOM_ELLIPSOID.value,
                    np.array([spread, spread, 0.0002]),
                    place,
                    np.eye(3).ravel(),
                    np.array(
                        [0.10, 0.07, 0.04, 0.13 * math.exp(-max(z - 0.2, 0.0) / 0.3)], np.float32
                    ),
                )
                self._scene.ngeom += 1


# ---------------------------------------------------------------- the simulation


class Rover:
    """The simulated rover and its ideal sensors. `steps` counts on over resets."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.step_secs = float(model.opt.timestep)
        self.steps = 0
        self._body = model.body("rover").id
        self._site = model.site("scanner").id
        self._wheels = [model.actuator(name).id for name in ("left", "right")]
        angles = np.arange(NUM_RANGES) * 2 * np.pi / NUM_RANGES
        self._directions = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
        # Its signature grew by the normals after MuJoCo 3.3.
        self._more = {"normal": None} if "normal" in (mujoco.mj_multiRay.__doc__ or "") else {}
        self.reset()

    def reset(self) -> None:
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        self.imu_mean = self._imu()

    def drive(self, left: float, right: float) -> None:
        """Sets the speed of the wheels' rims in m/s."""
        self.data.ctrl[self._wheels] = np.clip([left, right], -MAX_SPEED, MAX_SPEED)

    def advance(self, num_steps: int) -> None:
        if num_steps < 1:
            return
        total = np.zeros(6)
        for _ in range(num_steps):
            mujoco.mj_step(self.model, self.data)
            total += self._imu()
        self.steps += num_steps
        self.imu_mean = total / num_steps
        # A step ends with the new positions; what is computed from them is still that of the old ones.
        mujoco.mj_forward(self.model, self.data)

    def pose(self) -> dict[str, float]:
        turned = self.data.xmat[self._body].reshape(3, 3)
        velocity = np.zeros(6)  # rotation, then movement, in the rover's own axes
        mujoco.mj_objectVelocity(
            self.model, self.data, mujoco.mjtObj.mjOBJ_XBODY.value, self._body, velocity, 1
        )
        x, y, _ = self.data.xpos[self._body]
        return {
            "x": float(x),
            "y": float(y),
            "heading": math.atan2(turned[1, 0], turned[0, 0]),
            "speed": float(velocity[3]),
            "turn": float(velocity[2]),
        }

    def scan(self) -> Numbers:
        """NUM_RANGES distances in metres, inf where there is nothing."""
        turned = self.data.site_xmat[self._site].reshape(3, 3)
        found = np.empty(NUM_RANGES, np.int32)
        distances = np.empty(NUM_RANGES)
        mujoco.mj_multiRay(
            m=self.model,
            d=self.data,
            pnt=self.data.site_xpos[self._site],
            vec=(self._directions @ turned.T).ravel(),
            geomgroup=SCANNED_GROUPS,
            flg_static=True,
            bodyexclude=-1,
            geomid=found,
            dist=distances,
            nray=NUM_RANGES,
            cutoff=RANGE_MAX,
            **self._more,
        )
        distances[(found < 0) | (distances > RANGE_MAX)] = np.inf
        return np.maximum(distances, RANGE_MIN)

    def _imu(self) -> Numbers:
        return np.concatenate(
            [self.data.sensor("acceleration").data, self.data.sensor("rotation").data]
        )


class Noise:
    """Makes the sensors' numbers worse, the same way each time for one seed."""

    def __init__(self, seed: int, scale: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._bias = self._rng.normal(0, 1, 6)
        self.scale = scale
        self._brighter = self._darker = np.empty(0, np.uint8)
        self._made_for = (0.0, (0, 0, 0))

    def image(self, image: Image) -> Image:
        if not self.scale:
            return image
        if self._made_for != (self.scale, image.shape):
            # New numbers for each picture would take longer than the picture: each begins elsewhere in the same ones.
            noise = self._rng.normal(0, IMAGE_SIGMA * self.scale, 2 * image.size).round()
            self._brighter = noise.clip(0, 255).astype(np.uint8)
            self._darker = (-noise).clip(0, 255).astype(np.uint8)
            self._made_for = (self.scale, image.shape)
        start = int(self._rng.integers(image.size))
        piece = slice(start, start + image.size)
        brighter = cv2.add(image, self._brighter[piece].reshape(image.shape))
        return cv2.subtract(brighter, self._darker[piece].reshape(image.shape))

    def scan(self, ranges: Numbers) -> Numbers:
        if not self.scale:
            return ranges
        noisy = ranges + self._rng.normal(0, RANGE_SIGMA * self.scale, len(ranges))
        return np.maximum(noisy, RANGE_MIN)

    def imu(self, numbers: Numbers) -> Numbers:
        if not self.scale:
            return numbers
        sigmas = np.repeat([ACCELERATION_SIGMA, ROTATION_SIGMA], 3)
        biases = np.repeat([ACCELERATION_BIAS, ROTATION_BIAS], 3) * self._bias
        return numbers + self.scale * (biases + sigmas * self._rng.normal(0, 1, 6))


# ---------------------------------------------------------------- the operator


Message = tuple[str, pa.Array, dict[str, Any]]


class Operator:
    """The rover in its room; see the head of the file."""

    _clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        # Other operators need the other cores.
        cv2.setNumThreads(1)
        self._settings = settings = Settings.from_environment(os.environ)
        model = load_model(settings.model)
        self._rover = Rover(model)
        self._camera = Camera(model, settings.camera, settings.size) if settings.image else None
        self._noise = Noise(settings.seed, settings.noise)
        self._delay_secs = settings.delay_secs
        self._waiting: deque[tuple[int, list[Message]]] = deque()
        """What was measured and is not sent yet, with the step from which on it is sent."""
        self._newest_sent: list[Message] | None = None
        self._command_step: int | None = None
        self._lockstep_begun = False
        self._seen_secs: float | None = None

    def on_event(self, dora_event: dict[str, Any], send_output: SendOutput) -> DoraStatus:
        if dora_event["type"] == "STOP" and self._camera is not None:
            self._camera.close()
            self._camera = None
        if dora_event["type"] != "INPUT":
            return DoraStatus.CONTINUE
        name, value = dora_event["id"], dora_event["value"]
        if self._settings.lockstep:
            self._take_in_lockstep(name, value, send_output)
        else:
            # What came before a command is simulated without it.
            self._catch_up()
            self._take(name, value)
            if name == "tick":
                self._measure(datetime.now(UTC))
                self._send_due(send_output)
        return DoraStatus.CONTINUE

    # ------------------------------------------------ time

    def _take_in_lockstep(self, name: str, value: Any, send_output: SendOutput) -> None:
        is_begin = not self._lockstep_begun or name == "reset"
        self._lockstep_begun = True
        if name != "wheels":
            self._take(name, value)
        if is_begin:
            self._newest_sent = None
            self._measure(self._simulated_moment())
            self._send_one(send_output)
        if name == "wheels":
            self._take(name, value)
            self._advance(max(1, round(self._settings.step_secs / self._rover.step_secs)))
            self._measure(self._simulated_moment())
            self._send_one(send_output)

    def _simulated_moment(self) -> datetime:
        return LOCKSTEP_START + timedelta(seconds=self._rover.steps * self._rover.step_secs)

    def _catch_up(self) -> None:
        now = self._clock()
        if self._seen_secs is None:
            self._seen_secs = now
        behind = now - self._seen_secs
        if behind > MAX_CATCH_UP_SECS:
            self._seen_secs = now - MAX_CATCH_UP_SECS
            behind = MAX_CATCH_UP_SECS
        steps = int(behind / self._rover.step_secs)
        # The rest of a step is left for the next time, so that no time is lost.
        self._seen_secs += steps * self._rover.step_secs
        self._advance(steps)

    def _advance(self, steps: int) -> None:
        limit = self._settings.deadman_secs
        if limit and self._command_step is not None:
            left = self._command_step + round(limit / self._rover.step_secs) - self._rover.steps
            if left <= steps:
                self._rover.advance(max(left, 0))
                steps -= max(left, 0)
                self._rover.drive(0, 0)
                self._command_step = None
        self._rover.advance(steps)

    # ------------------------------------------------ inputs

    def _take(self, name: str, value: Any) -> None:
        if name == "wheels":
            self._drive(value)
        elif name == "reset":
            self._rover.reset()
            self._waiting.clear()
            self._command_step = None
        elif name == "noise":
            self._noise.scale = self._number("noise", value, 100, self._noise.scale)
        elif name == "delay":
            self._delay_secs = self._number("delay", value, 10, self._delay_secs)
        elif name != "tick":
            raise ValueError(
                f"rover.py has the inputs tick, wheels, reset, noise and delay, got '{name}'"
            )

    def _drive(self, value: Any) -> None:
        try:
            left, right = (float(number) for number in value.to_pylist())
            is_good = math.isfinite(left) and math.isfinite(right)
        except (AttributeError, TypeError, ValueError):
            is_good = False
        if not is_good:
            left = right = 0.0
            _warn(
                f"wheels must be two numbers, left and right in m/s, got {_shown(value)}: the rover stops"
            )
        self._rover.drive(left, right)
        self._command_step = self._rover.steps

    def _number(self, name: str, value: Any, high: float, old: float) -> float:
        try:
            (number,) = value.to_pylist()
            return number_within(name, number, 0, high)
        except (AttributeError, TypeError, ValueError):
            _warn(
                f"{name} must be one number from 0 to {high:g}, got {_shown(value)}: it stays {old:g}"
            )
            return old

    # ------------------------------------------------ outputs

    def _measure(self, moment: datetime) -> None:
        rover, noise = self._rover, self._noise
        about = {"timestamp": moment, "sim_secs": round(float(rover.data.time), 6)}
        messages: list[Message] = [("pose", _struct(rover.pose()), about)]
        if self._camera is not None:
            image, found = self._camera.draw(rover.data)
            width, height = self._settings.size
            about_image = {
                **about,
                "width": width,
                "height": height,
                "encoding": "bgr8",
                "focal_px": self._camera.focal_px,
            }
            boxes, about_boxes = boxes_from(found)
            messages.append(("image", pa.array(noise.image(image).ravel()), about_image))
            messages.append(("boxes", boxes, {**about_image, **about_boxes}))
        about_scan = {
            **about,
            "angle_min": 0.0,
            "angle_increment": 2 * math.pi / NUM_RANGES,
            "range_min": RANGE_MIN,
            "range_max": RANGE_MAX,
        }
        ranges = noise.scan(rover.scan()).astype(np.float32)
        messages.append(("scan", pa.array(ranges), about_scan))
        numbers = noise.imu(rover.imu_mean).tolist()
        named = dict(zip(("ax", "ay", "az", "wx", "wy", "wz"), numbers, strict=True))
        messages.append(("imu", _struct(named), about))
        due = rover.steps + round(self._delay_secs / rover.step_secs)
        # A delay that was made shorter lets nothing overtake.
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, messages))

    def _send_due(self, send_output: SendOutput) -> None:
        for messages in self._take_due():
            _send(messages, send_output)

    def _send_one(self, send_output: SendOutput) -> None:
        """In lockstep each command is answered once, however long the delay is, or both would wait for ever.

        While nothing is due, that is what was sent last. Before it began, the rover stood there too.
        """
        due = self._take_due()
        if due:
            self._newest_sent = due[-1]
        elif self._newest_sent is None:
            self._newest_sent = self._waiting.popleft()[1]
        _send(self._newest_sent, send_output)

    def _take_due(self) -> list[list[Message]]:
        due = []
        while self._waiting and self._waiting[0][0] <= self._rover.steps:
            due.append(self._waiting.popleft()[1])
        return due


def _send(messages: list[Message], send_output: SendOutput) -> None:
    for output, value, about in messages:
        send_output(output, value, about)


def _struct(numbers: Mapping[str, float]) -> pa.StructArray:
    columns = [pa.array([number], pa.float64()) for number in numbers.values()]
    return pa.StructArray.from_arrays(columns, list(numbers))


def _shown(value: Any) -> str:
    text = str(value.to_pylist()) if isinstance(value, pa.Array) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _warn(text: str) -> None:
    """dora_nb turns the operator's line amber and shows this there; elsewhere it is a line on stderr."""
    warnings.warn(text, stacklevel=1000)
