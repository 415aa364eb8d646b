"""The room and the rover of rover.py: a MuJoCo model (MJCF) as text, and its textures, made by code.

    python samples/rover_world.py > my_room.xml

writes the model to a file, as a start for one of your own (``--env SIM_MODEL=my_room.xml``). The model is text in
a module and not a file, since `%dora export` copies the modules that an operator imports.

What rover.py looks for in a model:

body ``rover``                the robot; its x axis points forward, its geoms are in group 2, or 4 if they are not shown
actuators ``left``, ``right`` they take the speed of a wheel's rim in m/s
site ``scanner``              where the range scanner is; its x axis is the direction of angle 0
sensors ``acceleration``, ``rotation``   an accelerometer and a gyro
camera ``rover``              and any other that SIM_CAMERA names
bodies with other names       things; a name up to its first "-" is the label of a box: "cube-red" is a cube
textures ``tag 7``            get AprilTag 7 of the family 36h11, with a white margin
textures ``planks``, ``plaster``   get a wooden floor and a plastered wall
"""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TAG_SIZE_M = 0.24
"""The side of the black square of the tags in the room: TAG_SIZE_M of apriltags.py."""

Image = NDArray[np.uint8]

WORLD_XML = """\
<mujoco model="rover">
  <option timestep="0.0025" integrator="implicitfast"/>
  <size memory="8M"/>
  <visual>
    <global offwidth="1920" offheight="1440"/>
    <quality offsamples="0"/>
    <map znear="0.004" zfar="40"/>
    <headlight ambient="0.42 0.42 0.44" diffuse="0.22 0.22 0.22" specular="0 0 0"/>
  </visual>

  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.42 0.66 0.92" rgb2="0.93 0.96 0.98"
             width="128" height="768"/>
    <texture name="planks" type="2d" builtin="flat" width="512" height="512"/>
    <texture name="plaster" type="2d" builtin="flat" width="256" height="256"/>
    <texture name="tag 0" type="2d" builtin="flat" width="250" height="250"/>
    <texture name="tag 1" type="2d" builtin="flat" width="250" height="250"/>
    <texture name="tag 2" type="2d" builtin="flat" width="250" height="250"/>
    <texture name="tag 3" type="2d" builtin="flat" width="250" height="250"/>
    <material name="floor" texture="planks" texrepeat="4 3.3" specular="0.05"/>
    <material name="wall" texture="plaster" texrepeat="3 1" specular="0" emission="0.18"/>
    <material name="skirting" rgba="0.30 0.36 0.44 1" specular="0.1"/>
    <material name="tag 0" texture="tag 0" specular="0" emission="0.25"/>
    <material name="tag 1" texture="tag 1" specular="0" emission="0.25"/>
    <material name="tag 2" texture="tag 2" specular="0" emission="0.25"/>
    <material name="tag 3" texture="tag 3" specular="0" emission="0.25"/>
    <material name="paint" specular="0.35" shininess="0.5" emission="0.12"/>
    <mesh name="cone" vertex="0.016 0 0.30  0.0113 0.0113 0.30  0 0.016 0.30  -0.0113 0.0113 0.30
                              -0.016 0 0.30  -0.0113 -0.0113 0.30  0 -0.016 0.30  0.0113 -0.0113 0.30
                              0.095 0 0  0.0878 0.0364 0  0.0672 0.0672 0  0.0364 0.0878 0  0 0.095 0
                              -0.0364 0.0878 0  -0.0672 0.0672 0  -0.0878 0.0364 0  -0.095 0 0
                              -0.0878 -0.0364 0  -0.0672 -0.0672 0  -0.0364 -0.0878 0  0 -0.095 0
                              0.0364 -0.0878 0  0.0672 -0.0672 0  0.0878 -0.0364 0"/>
  </asset>

  <default>
    <!-- A sphere touches the floor in one point. The edge of a cylinder would shake the rover. -->
    <default class="wheel">
      <joint type="hinge" axis="0 1 0" damping="0.002" armature="0.002"/>
      <geom type="sphere" size="0.06" mass="0.2" friction="1.2 0.005 0.0001" group="4"/>
    </default>
    <default class="look">
      <geom contype="0" conaffinity="0" mass="0" group="2"/>
    </default>
    <default class="wall">
      <geom type="box" material="wall" friction="0.3"/>
    </default>
    <default class="skirting">
      <geom type="box" material="skirting" contype="0" conaffinity="0"/>
    </default>
    <default class="tag">
      <geom type="plane" size="0.15 0.15 0.1" contype="0" conaffinity="0" group="1"/>
    </default>
  </default>

  <worldbody>
    <light directional="true" dir="-0.35 0.45 -1" diffuse="0.55 0.53 0.49" specular="0.3 0.3 0.3"/>
    <light directional="true" dir="0.7 -0.3 -0.6" diffuse="0.16 0.17 0.20" specular="0 0 0"/>

    <!-- The room: 6 m from west to east, 5 m from south to north. -->
    <geom name="floor" type="plane" size="3.05 2.55 0.1" material="floor" friction="1 0.005 0.0001"/>
    <geom name="east" class="wall" size="0.05 2.5 0.45" pos="3.05 0 0.45"/>
    <geom name="west" class="wall" size="0.05 2.5 0.45" pos="-3.05 0 0.45"/>
    <geom name="north" class="wall" size="3.1 0.05 0.45" pos="0 2.55 0.45"/>
    <geom name="south" class="wall" size="3.1 0.05 0.45" pos="0 -2.55 0.45"/>
    <geom class="skirting" size="0.01 2.5 0.045" pos="3.0 0 0.045"/>
    <geom class="skirting" size="0.01 2.5 0.045" pos="-3.0 0 0.045"/>
    <geom class="skirting" size="3.0 0.01 0.045" pos="0 2.5 0.045"/>
    <geom class="skirting" size="3.0 0.01 0.045" pos="0 -2.5 0.045"/>
    <geom class="skirting" size="0.065 2.6 0.015" pos="3.05 0 0.915"/>
    <geom class="skirting" size="0.065 2.6 0.015" pos="-3.05 0 0.915"/>
    <geom class="skirting" size="3.0 0.065 0.015" pos="0 2.55 0.915"/>
    <geom class="skirting" size="3.0 0.065 0.015" pos="0 -2.55 0.915"/>

    <body name="tag 0" pos="2.994 0.35 0.42">
      <geom class="tag" material="tag 0" xyaxes="0 -1 0 0 0 1"/>
    </body>
    <body name="tag 1" pos="-0.6 2.494 0.42">
      <geom class="tag" material="tag 1" xyaxes="1 0 0 0 0 1"/>
    </body>
    <body name="tag 2" pos="-2.994 0 0.42">
      <geom class="tag" material="tag 2" xyaxes="0 1 0 0 0 1"/>
    </body>
    <body name="tag 3" pos="0.6 -2.494 0.42">
      <geom class="tag" material="tag 3" xyaxes="-1 0 0 0 0 1"/>
    </body>

    <!-- Things that can be pushed. -->
    <body name="ball" pos="0.9 -0.35 0.13">
      <freejoint/>
      <geom type="sphere" size="0.13" mass="0.15" material="paint" rgba="0.95 0.42 0.08 1" condim="6"
            friction="0.8 0.01 0.004"/>
    </body>
    <body name="cube-red" pos="1.5 0.75 0.14">
      <freejoint/>
      <geom type="box" size="0.14 0.14 0.14" mass="0.5" material="paint" rgba="0.83 0.15 0.17 1"
            euler="0 0 25"/>
    </body>
    <body name="cube-blue" pos="2.25 -0.95 0.17">
      <freejoint/>
      <geom type="box" size="0.17 0.17 0.17" mass="0.8" material="paint" rgba="0.14 0.38 0.80 1"
            euler="0 0 -20"/>
    </body>
    <body name="can" pos="0.35 0.3 0.13">
      <freejoint/>
      <geom type="cylinder" size="0.075 0.13" mass="0.3" material="paint" rgba="0.16 0.62 0.36 1"/>
    </body>
    <body name="cone-north" pos="2.3 1.6 0.001">
      <freejoint/>
      <geom type="mesh" mesh="cone" mass="0.3" material="paint" rgba="0.98 0.76 0.10 1"/>
    </body>
    <body name="cone-south" pos="-0.6 -1.6 0.001">
      <freejoint/>
      <geom type="mesh" mesh="cone" mass="0.3" material="paint" rgba="0.98 0.76 0.10 1"/>
    </body>
    <body name="cube-violet" pos="-1.7 1.3 0.15">
      <freejoint/>
      <geom type="box" size="0.15 0.15 0.15" mass="0.5" material="paint" rgba="0.50 0.27 0.68 1"
            euler="0 0 40"/>
    </body>

    <!-- x forward, y left, z up; the middle of the axle is above the origin. -->
    <body name="rover" pos="-1.2 0 0.06">
      <freejoint/>
      <geom name="chassis" type="box" size="0.14 0.09 0.03" pos="-0.03 0 0.015" mass="2.2" friction="0.3"
            rgba="0.90 0.91 0.93 1" group="2"/>
      <geom name="caster" type="sphere" size="0.025" pos="-0.13 0 -0.035" mass="0.1" condim="1" priority="1"
            rgba="0.3 0.3 0.32 1" group="2"/>
      <geom class="look" type="box" size="0.10 0.07 0.004" pos="-0.04 0 0.049" rgba="0.20 0.55 0.75 1"/>
      <geom class="look" type="cylinder" size="0.04 0.022" pos="0 0 0.07" rgba="0.15 0.15 0.17 1"/>
      <geom class="look" type="box" size="0.008 0.008 0.09" pos="-0.09 0 0.13" rgba="0.35 0.36 0.40 1"/>
      <geom class="look" type="box" size="0.02 0.035 0.02" pos="-0.085 0 0.235" rgba="0.15 0.15 0.17 1"/>
      <site name="scanner" pos="0 0 0.07" size="0.01" group="5"/>
      <site name="imu" pos="0 0 0.015" size="0.01" group="5"/>
      <camera name="rover" pos="-0.06 0 0.235" xyaxes="0 -1 0 0.12 0 0.993" fovy="46.826"/>
      <body name="wheel left" pos="0 0.115 0">
        <joint name="left" class="wheel"/>
        <geom class="wheel"/>
        <geom class="look" type="cylinder" size="0.06 0.018" zaxis="0 1 0" rgba="0.12 0.12 0.13 1"/>
      </body>
      <body name="wheel right" pos="0 -0.115 0">
        <joint name="right" class="wheel"/>
        <geom class="wheel"/>
        <geom class="look" type="cylinder" size="0.06 0.018" zaxis="0 1 0" rgba="0.12 0.12 0.13 1"/>
      </body>
    </body>

    <camera name="room" pos="-3.9 -2.7 2.9" xyaxes="0.57 -0.82 0 0.43 0.30 0.85" fovy="52"/>
  </worldbody>

  <!-- With the wheel's radius as gear, a command is the speed of its rim in m/s. -->
  <actuator>
    <velocity name="left" joint="left" gear="0.06" kv="120" forcerange="-12 12" ctrlrange="-1 1"/>
    <velocity name="right" joint="right" gear="0.06" kv="120" forcerange="-12 12" ctrlrange="-1 1"/>
  </actuator>

  <sensor>
    <accelerometer name="acceleration" site="imu"/>
    <gyro name="rotation" site="imu"/>
  </sensor>
</mujoco>
"""


def paint_textures(model: Any) -> None:
    """Draws tags, floor and walls on the textures of a MuJoCo model that have their names, before it is rendered."""
    for number in range(model.ntex):
        texture = model.texture(number)
        height, width = int(model.tex_height[number]), int(model.tex_width[number])
        picture = picture_of(texture.name, width, height)
        if picture is not None:
            channels, start = int(model.tex_nchannel[number]), int(model.tex_adr[number])
            size = height * width * channels
            model.tex_data[start : start + size] = picture[:, :, :channels].ravel()


def picture_of(name: str, width: int, height: int) -> Image | None:
    """The texture of this name, ``(height, width, 3)`` RGB uint8; None for one that is not made here."""
    if name.startswith("tag ") and name[4:].isdecimal():
        return tag_picture(int(name[4:]), width, height)
    if name == "planks":
        return planks_picture(width, height)
    if name == "plaster":
        return plaster_picture(width, height)
    return None


def tag_picture(number: int, width: int, height: int) -> Image:
    """AprilTag `number`: its black square takes 0.8 of the side, the rest is a white margin."""
    family = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_APRILTAG_36h11)
    # A cell of the tag is a whole number of pixels, so all cells are drawn alike.
    cells = cv2.aruco.generateImageMarker(family, number, 8)
    card = np.full((10, 10), 255, np.uint8)
    card[1:9, 1:9] = cells
    # Not quite black and white, as print is.
    card = np.where(card > 127, 245, 18).astype(np.uint8)
    grown = cv2.resize(card, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(grown[:, :, None], 3, axis=2)


def planks_picture(width: int, height: int, num_planks: int = 6) -> Image:
    """Light wooden planks from left to right; it continues at its edges."""
    rng = np.random.default_rng(4)
    picture = np.empty((height, width, 3), np.float32)
    edges = np.linspace(0, height, num_planks + 1).astype(int)
    for top, bottom in itertools.pairwise(edges):
        for left, right, tone in _boards(rng, width):
            grain = cv2.GaussianBlur(
                rng.normal(0, 1, (bottom - top, width)).astype(np.float32), (0, 0), 24, sigmaY=0.8
            )
            shade = tone + 26 * grain[:, :, None]
            board = np.array([196, 164, 124], np.float32) + shade * np.array([1.0, 0.95, 0.85])
            board[:2] *= 0.80  # the gap to the next plank
            columns = np.arange(left, right) % width
            picture[top:bottom, columns] = board[:, columns]
            picture[top:bottom, left % width] *= 0.85
    return picture.clip(0, 255).astype(np.uint8)


def _boards(rng: np.random.Generator, width: int) -> list[tuple[int, int, float]]:
    """Two boards, one behind the other: first column, column after the last, and how light it is."""
    start = int(rng.integers(width))
    middle = start + width // 2 + int(rng.integers(-width // 8, width // 8))
    return [(start, middle, rng.normal(0, 7)), (middle, start + width, rng.normal(0, 7))]


def plaster_picture(width: int, height: int) -> Image:
    """A wall, a little uneven."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 1, (height, width)).astype(np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT)
    coarse = cv2.GaussianBlur(noise, (0, 0), 12, borderType=cv2.BORDER_REFLECT)
    light = 7 * fine + 45 * coarse
    colour = np.array([226, 222, 212], np.float32)
    return (colour + light[:, :, None]).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    print(WORLD_XML, end="")
