"""The simulated rover drives, collides and senses as its model says, and in lockstep always in the same way."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from dora_nb.data.boxes import read_boxes
from dora_nb.data.images import as_image
from dora_nb.events import Event
from dora_nb.testing import run_operator

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
TICK = ("tick", pa.array([], pa.null()))
RESET = ("reset", pa.array([True]))
WIDTH, HEIGHT = 320, 240
FOCAL_PX = WIDTH / 2 / math.tan(math.radians(30))
CAMERA_HEIGHT_M, CAMERA_PITCH = 0.295, math.atan2(0.12, 0.993)
START_X = -1.2
EAST_WALL_X, NORTH_WALL_Y = 3.0, 2.5

Sent = dict[str, list[Event]]


def wheels(left: float, right: float, times: int = 1) -> list[tuple[str, pa.Array]]:
    return [("wheels", pa.array([left, right]))] * times


@pytest.fixture
def rover(load_sample: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    return load_sample("rover")


@pytest.fixture
def sent(rover: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sent]:
    """What the operator sends in lockstep; without pictures unless they are asked for."""

    def run(*events: Any, **settings: object) -> Sent:
        defaults = {"step": "lockstep", "image": "no", "width": WIDTH, "height": HEIGHT}
        for name, value in {**defaults, **settings}.items():
            monkeypatch.setenv(f"SIM_{name.upper()}", str(value))
        listed = [
            each for event in events for each in (event if isinstance(event, list) else [event])
        ]
        return run_operator(rover.Operator, listed)

    return run


def structs(events: list[Event]) -> list[dict[str, float]]:
    return [event["value"][0].as_py() for event in events]


def ranges(event: Event) -> NDArray[np.float32]:
    return event["value"].to_numpy()


def sim_secs(events: list[Event]) -> list[float]:
    return [event["metadata"]["sim_secs"] for event in events]


# ---------------------------------------------------------------- driving


def test_wheels_drive_it_ahead_and_turn_it_left(sent: Callable[..., Sent]) -> None:
    poses = structs(sent(wheels(0.4, 0.4, 40), wheels(0.1, 0.3, 20))["pose"])
    ahead, turned = poses[40], poses[60]
    assert poses[0] == {"x": START_X, "y": 0, "heading": 0, "speed": 0, "turn": 0}
    assert ahead["x"] - START_X == pytest.approx(0.4 * 2, abs=0.05)
    assert (ahead["y"], ahead["heading"]) == pytest.approx((0, 0), abs=0.01)
    assert ahead["speed"] == pytest.approx(0.4, abs=0.02)
    assert turned["turn"] == pytest.approx((0.3 - 0.1) / 0.23, rel=0.1)  # 23 cm from wheel to wheel
    assert turned["heading"] > 0.6


def test_faster_than_its_wheels_can_turn_is_as_fast_as_they_can(sent: Callable[..., Sent]) -> None:
    pose = structs(sent(wheels(9, 9, 20))["pose"])[-1]
    assert pose["speed"] == pytest.approx(1, abs=0.03)


def test_a_wall_stops_it(sent: Callable[..., Sent]) -> None:
    messages = sent(wheels(0.5, 0.5, 25), step_secs=0.5, deadman_secs=0)
    pose = structs(messages["pose"])[-1]
    assert abs(pose["speed"]) < 0.05
    assert 2.7 < pose["x"] < EAST_WALL_X
    assert ranges(messages["scan"][-1]).min() < 0.2


def test_it_pushes_the_ball(rover: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = rover.Rover(rover.load_model(""))
    place = simulated.model.body("ball").id
    simulated.data.qpos[
        simulated.model.joint(simulated.model.body_jntadr[place]).qposadr[0] + 1
    ] = 0
    simulated.drive(0.6, 0.6)
    simulated.advance(2400)
    assert simulated.data.xpos[place][0] > 1.3


def test_without_commands_it_stops(sent: Callable[..., Sent], rover: ModuleType) -> None:
    operator_step = 0.5
    driven = structs(sent(wheels(0.5, 0.5, 3), step_secs=operator_step)["pose"])
    assert driven[-1]["speed"] > 0.4
    once = structs(sent(wheels(0.5, 0.5), step_secs=2.0)["pose"])
    assert abs(once[-1]["speed"]) < 0.01
    assert once[-1]["x"] - START_X == pytest.approx(0.5, abs=0.1)
    never = structs(sent(wheels(0.5, 0.5), step_secs=2.0, deadman_secs=0)["pose"])
    assert never[-1]["speed"] > 0.4


def test_reset_puts_everything_back_and_time_goes_on(sent: Callable[..., Sent]) -> None:
    messages = sent(wheels(0.5, 0.5, 4), RESET, wheels(0.5, 0.5))
    poses = structs(messages["pose"])
    assert poses[5] == poses[0]
    assert poses[6] == poses[1]
    assert sim_secs(messages["pose"]) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0, 0.05])
    stamps = [event["metadata"]["timestamp"] for event in messages["pose"]]
    assert stamps[0] == datetime(2000, 1, 1, tzinfo=UTC)
    assert stamps[-1] - stamps[0] == timedelta(seconds=0.25)


# ---------------------------------------------------------------- sensors


def test_the_scan_sees_the_walls_and_what_stands_before_them(sent: Callable[..., Sent]) -> None:
    message = sent(TICK)["scan"][0]
    seen, about = ranges(message), message["metadata"]
    assert seen.dtype == np.float32
    quarter = len(seen) // 4
    ahead, left, back, right = seen[[0, quarter, 2 * quarter, 3 * quarter]]
    assert (ahead, left, back, right) == pytest.approx((4.2, 2.5, 1.8, 2.5), abs=0.001)
    # The can is at (0.35, 0.3), and 0.075 m thick.
    angle, distance = math.atan2(0.3, 0.35 - START_X), math.hypot(0.3, 0.35 - START_X)
    index = round((angle - about["angle_min"]) / about["angle_increment"])
    assert seen[index] == pytest.approx(distance - 0.075, abs=0.01)


def test_the_scan_turns_with_the_rover(sent: Callable[..., Sent]) -> None:
    messages = sent(wheels(-0.2, 0.2, 18))  # about a quarter turn
    heading = structs(messages["pose"])[-1]["heading"]
    assert heading > 1.3
    seen = ranges(messages["scan"][-1])
    to_north = round((math.pi / 2 - heading) / (2 * math.pi) * len(seen)) % len(seen)
    assert seen[to_north] == pytest.approx(NORTH_WALL_Y, abs=0.05)


def test_the_imu_feels_gravity_the_start_and_turns(sent: Callable[..., Sent]) -> None:
    messages = sent(wheels(0, 0, 4), wheels(0.5, 0.5, 12), wheels(-0.3, 0.3, 12))
    imu, poses = structs(messages["imu"]), structs(messages["pose"])
    at_rest, starting, turning = imu[4], imu[5], imu[-1]
    assert at_rest["az"] == pytest.approx(9.81, abs=0.02)
    assert [at_rest[name] for name in ("ax", "ay", "wx", "wy", "wz")] == pytest.approx(
        [0] * 5, abs=0.05
    )
    assert starting["ax"] > 2
    assert turning["wz"] == pytest.approx(poses[-1]["turn"], abs=0.05)
    assert turning["wz"] > 2


def projected(point: tuple[float, float, float]) -> tuple[float, float, float]:
    """Column and row, in pixels, and depth, in metres, of a point of the room in the first picture."""
    east, north, up = point[0] - START_X + 0.06, point[1], point[2] - CAMERA_HEIGHT_M
    depth = east * math.cos(CAMERA_PITCH) - up * math.sin(CAMERA_PITCH)
    down = -up * math.cos(CAMERA_PITCH) - east * math.sin(CAMERA_PITCH)
    return (
        WIDTH / 2 - FOCAL_PX * north / depth,
        HEIGHT / 2 + FOCAL_PX * down / depth,
        depth,
    )


def test_boxes_are_where_the_things_are_on_the_picture(sent: Callable[..., Sent]) -> None:
    messages = sent(TICK, image="yes")
    picture, boxes = as_image(messages["image"][0]), read_boxes(messages["boxes"][0])
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert sorted(boxes.labels) == ["ball", "can", "cone", "cube", "cube", "tag 0"]
    found = dict(zip(boxes.labels, boxes.values.tolist(), strict=True))
    column, row, depth = projected((0.9, -0.35, 0.13))
    radius = FOCAL_PX * 0.13 / depth
    assert found["ball"][:4] == pytest.approx(
        [column - radius, row - radius, column + radius, row + radius], abs=2.5
    )
    left, top, _ = projected((2.994, 0.35 + 0.15, 0.42 + 0.15))
    right, bottom, _ = projected((2.994, 0.35 - 0.15, 0.42 - 0.15))
    assert found["tag 0"][:4] == pytest.approx([left, top, right, bottom], abs=2.5)
    blue, green, red = picture[round(row), round(column)].tolist()
    assert red > 180 > 130 > green > blue  # it is orange
    assert (
        messages["boxes"][0]["metadata"]["timestamp"]
        == messages["image"][0]["metadata"]["timestamp"]
    )


def test_what_is_hidden_has_no_box(rover: ModuleType) -> None:
    model = rover.load_model("")
    simulated = rover.Rover(model)
    camera = rover.Camera(model, "rover", (WIDTH, HEIGHT))
    ball = model.joint(model.body_jntadr[model.body("ball").id]).qposadr[0]
    cube = model.joint(model.body_jntadr[model.body("cube-blue").id]).qposadr[0]
    simulated.data.qpos[ball : ball + 2] = (2.6, 0.0)
    simulated.data.qpos[cube : cube + 3] = (1.0, 0.0, 0.17)
    simulated.advance(1)
    _, boxes = camera.draw(simulated.data)
    camera.close()
    assert "ball" not in boxes["labels"]
    assert "cube" in boxes["labels"]


def test_a_thing_that_touches_the_rover_is_drawn_whole(rover: ModuleType) -> None:
    model = rover.load_model("")
    simulated = rover.Rover(model)
    camera = rover.Camera(model, "rover", (WIDTH, HEIGHT))
    place = model.joint(model.body_jntadr[model.body("ball").id]).qposadr[0]
    simulated.data.qpos[place : place + 2] = (START_X + 0.25, 0.0)
    simulated.advance(1)
    picture, _ = camera.draw(simulated.data)
    camera.close()
    column, row, _ = projected((START_X + 0.25, 0.0, 0.13))
    for higher in (0, 20, 40, 60):
        blue, green, red = picture[min(round(row), HEIGHT - 1) - higher, round(column)].tolist()
        assert red > 150 > green > blue  # it is orange


def test_apriltags_finds_the_tag_where_it_hangs(
    sent: Callable[..., Sent],
    load_sample: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = sent(TICK, image="yes", width=640, height=480)["image"][0]
    assert picture["metadata"]["focal_px"] == pytest.approx(2 * FOCAL_PX, rel=0.001)
    monkeypatch.setenv("TAG_SIZE_M", str(sys.modules["rover_world"].TAG_SIZE_M))
    monkeypatch.setenv("TAG_FOCAL_PX", str(picture["metadata"]["focal_px"]))
    found = run_operator(load_sample("apriltags").Operator, [picture])
    (pose,) = found["poses"][0]["value"].to_pylist()
    assert pose["id"] == 0
    _, _, depth = projected((2.994, 0.35, 0.42))
    assert pose["z"] == pytest.approx(depth, rel=0.03)
    assert pose["x"] == pytest.approx(-0.35, abs=0.03)


def test_the_room_can_be_seen_from_above(sent: Callable[..., Sent]) -> None:
    boxes = read_boxes(sent(TICK, image="yes", camera="room")["boxes"][0])
    assert {"ball", "can", "cone", "cube"} <= set(boxes.labels)


# ---------------------------------------------------------------- noise and delay


def test_noise_is_as_large_as_asked_for_and_depends_on_the_seed(sent: Callable[..., Sent]) -> None:
    ideal = sent(TICK, image="yes")
    noisy = sent(TICK, image="yes", noise=2)
    other = sent(TICK, image="yes", noise=2, seed=1)
    errors = as_image(noisy["image"][0]).astype(int) - as_image(ideal["image"][0])
    assert errors.std() == pytest.approx(10, rel=0.15)
    assert abs(errors.mean()) < 0.5
    assert (ranges(noisy["scan"][0]) - ranges(ideal["scan"][0])).std() == pytest.approx(
        0.024, rel=0.2
    )
    assert structs(noisy["imu"]) != structs(ideal["imu"])
    assert structs(noisy["pose"]) == structs(ideal["pose"])  # the truth
    for output in ("image", "scan", "imu"):
        assert not noisy[output][0]["value"].equals(other[output][0]["value"])


def test_noise_and_delay_change_while_it_runs(sent: Callable[..., Sent]) -> None:
    with pytest.warns(
        UserWarning, match=r"^noise must be one number from 0 to 100, got \['much'\]"
    ):
        messages = sent(
            wheels(0, 0, 2),
            ("noise", pa.array([1.0])),
            ("noise", pa.array(["much"])),
            wheels(0, 0),
            ("delay", pa.array([0.1])),
            wheels(0, 0, 3),
        )
    scans = messages["scan"]
    assert ranges(scans[1]) == pytest.approx(ranges(scans[2]), abs=0.002)
    assert np.abs(ranges(scans[3]) - ranges(scans[2])).max() > 0.01
    # Each command is answered, at first with what was sent before; two messages are still on their way.
    assert sim_secs(scans) == pytest.approx([0, 0.05, 0.1, 0.15, 0.15, 0.15, 0.2])


def test_a_delay_from_the_start_shows_the_rover_as_it_stood_there(
    sent: Callable[..., Sent],
) -> None:
    messages = sent(TICK, wheels(0.5, 0.5, 4), RESET, wheels(0.5, 0.5), delay_secs=0.1)
    assert sim_secs(messages["pose"]) == pytest.approx([0, 0, 0, 0.05, 0.1, 0, 0])


# ---------------------------------------------------------------- time


def test_lockstep_sends_identical_messages_in_every_run(sent: Callable[..., Sent]) -> None:
    def run() -> str:
        messages = sent(
            TICK,
            wheels(0.6, 0.5, 5),
            TICK,
            RESET,
            wheels(0.2, 0.6, 3),
            image="yes",
            noise=1,
            seed=7,
        )
        assert {output: len(events) for output, events in messages.items()} == dict.fromkeys(
            ("boxes", "image", "imu", "pose", "scan"), 10
        )
        digest = hashlib.sha256()
        for output, events in sorted(messages.items()):
            for event in events:
                digest.update(output.encode() + str(event["metadata"]).encode())
                batch = pa.RecordBatch.from_arrays([event["value"]], [output])
                digest.update(batch.serialize().to_pybytes())
        return digest.hexdigest()

    assert run() == run()


def test_in_real_time_each_tick_goes_on_to_the_present(
    rover: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIM_IMAGE", "no")
    operator = rover.Operator()
    now = 100.0
    operator._clock = lambda: now
    came: list[tuple[str, Any, dict[str, Any]]] = []

    def at(secs: float, name: str, value: pa.Array) -> None:
        nonlocal now
        now = 100 + secs
        operator.on_event(
            {"type": "INPUT", "id": name, "value": value}, lambda *message: came.append(message)
        )

    at(0, *TICK)
    at(0.05, *TICK)
    at(0.23, "wheels", pa.array([0.5, 0.5]))
    at(0.25, *TICK)
    at(0.35, *TICK)
    at(60, *TICK)  # after a pause, such as a sleeping computer
    poses = [
        (about["sim_secs"], value[0].as_py()["x"]) for name, value, about in came if name == "pose"
    ]
    assert [secs for secs, _ in poses] == pytest.approx([0, 0.05, 0.25, 0.35, 0.6], abs=0.003)
    assert poses[1][1] == pytest.approx(START_X, abs=0.001)
    # It drives since the command came, not since the tick before it.
    assert START_X < poses[2][1] < START_X + 0.5 * 0.02
    assert poses[3][1] > START_X + 0.03


def test_a_controller_that_sees_boxes_alone_drives_to_the_ball(
    rover: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STEP": "lockstep", "STEP_SECS": 0.2, "WIDTH": 160, "HEIGHT": 120}.items():
        monkeypatch.setenv(f"SIM_{name}", str(value))
    operator = rover.Operator()
    newest: dict[str, Event] = {}

    def keep(output: str, value: pa.Array, about: dict[str, Any]) -> None:
        newest[output] = {"type": "INPUT", "id": output, "value": value, "metadata": about}

    operator.on_event({"type": "INPUT", "id": "tick", "value": TICK[1]}, keep)
    for _ in range(60):
        boxes = read_boxes(newest["boxes"])
        balls = [
            box for box, label in zip(boxes.values, boxes.labels, strict=True) if label == "ball"
        ]
        if not balls:
            command = [-0.1, 0.1]
        else:
            x1, _, x2, _ = balls[0][:4]
            turn = 0.25 * (1 - (x1 + x2) / 160)
            command = [0.35 - turn, 0.35 + turn]
        operator.on_event({"type": "INPUT", "id": "wheels", "value": pa.array(command)}, keep)
        ball = operator._rover.data.body("ball").xpos
        pose = newest["pose"]["value"][0].as_py()
        if math.hypot(ball[0] - pose["x"], ball[1] - pose["y"]) < 0.3:
            break
    else:
        pytest.fail(f"the rover is at {pose}, the ball at {ball}")
    operator.on_event({"type": "STOP"}, keep)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "command", [[1.0], [1.0, 2.0, 3.0], [math.nan, 0.1], ["left", "right"], [None, 1.0], []]
)
def test_a_wrong_command_stops_the_rover_and_says_so(
    sent: Callable[..., Sent], command: list[Any]
) -> None:
    with pytest.warns(
        UserWarning,
        match="^wheels must be two numbers, left and right in m/s, got .*: the rover stops$",
    ):
        messages = sent(wheels(0.5, 0.5, 10), ("wheels", pa.array(command)), wheels(0, 0, 10))
    assert abs(structs(messages["pose"])[-1]["speed"]) < 0.01


def test_an_input_with_another_name_is_an_error(sent: Callable[..., Sent]) -> None:
    with pytest.raises(
        ValueError, match=r"^rover\.py has the inputs tick, wheels, .* got 'weels'$"
    ):
        sent(("weels", pa.array([1.0, 1.0])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": "fast"}, "SIM_STEP must be realtime or lockstep, got 'fast'"),
        ({"step_secs": "0"}, "SIM_STEP_SECS must be a number from 0.001 to 10, got '0'"),
        ({"noise": "nan"}, "SIM_NOISE must be a number from 0 to 100, got 'nan'"),
        ({"noise": "loud"}, "SIM_NOISE must be a number from 0 to 100, got 'loud'"),
        ({"delay_secs": "-1"}, "SIM_DELAY_SECS must be a number from 0 to 10, got '-1'"),
        ({"seed": "1.5"}, "SIM_SEED must be a whole number from 0 to 4294967295, got '1.5'"),
        ({"width": "7"}, "SIM_WIDTH must be a whole number from 32 to 4096, got '7'"),
        ({"image": "perhaps"}, "SIM_IMAGE must be yes or no, got 'perhaps'"),
        (
            {"image": "yes", "camera": "roof"},
            "SIM_CAMERA=roof is not in the model; it has room, rover",
        ),
    ],
)
def test_a_wrong_setting_says_what_it_may_be(
    sent: Callable[..., Sent], settings: dict[str, str], message: str
) -> None:
    with pytest.raises((ValueError, RuntimeError)) as raised:
        sent(TICK, **settings)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            '<geom type="sphere" size="0.13"',
            '<geom type="spere" size="0.13"',
            "invalid keyword: 'spere' (in <geom>)",
        ),
        ('mesh="cone" mass', 'mesh="come" mass', "mesh 'come' not found in geom 21"),
        (
            "</worldbody>",
            "</worldbodi>",
            "the XML is broken: <worldbody> and its end do not match",
        ),
    ],
)
def test_a_mistake_in_a_model_is_named_with_its_line(
    sent: Callable[..., Sent],
    rover: ModuleType,
    tmp_path: Path,
    right: str,
    wrong: str,
    message: str,
) -> None:
    file = tmp_path / "my_room.xml"
    file.write_text(rover.WORLD_XML.replace(right, wrong, 1))
    line = rover.WORLD_XML[: rover.WORLD_XML.index(right)].count("\n") + 1
    if "XML" in message:  # the parser names the line where the element begins
        line = rover.WORLD_XML[: rover.WORLD_XML.index("<worldbody>")].count("\n") + 1
    with pytest.raises(RuntimeError) as raised:
        sent(TICK, model=file)
    assert str(raised.value) == f"{file}, line {line}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", " is empty; python samples/rover_world.py > my_room.xml writes one to start with"),
        (
            b"<mujoco>\n<!-- Raum f\xfcr zwei -->",
            ", line 2: this is not UTF-8; save the file as UTF-8",
        ),
        (
            b'<mujoco>\n<asset>\n<mesh name="m" file="gone.stl"/></asset></mujoco>',
            ", line 3: Error opening file 'gone.stl'",
        ),
    ],
)
def test_a_mistake_of_which_mujoco_names_no_line_has_its_line(
    text: bytes, message: str, sent: Callable[..., Sent], tmp_path: Path
) -> None:
    file = tmp_path / "my_room.xml"
    file.write_bytes(text)
    with pytest.raises(RuntimeError) as raised:
        sent(TICK, model=file)
    assert str(raised.value) == f"{file}{message}"


def test_a_model_without_a_part_that_is_needed_says_which(
    sent: Callable[..., Sent], rover: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "my_room.xml"
    file.write_text(rover.WORLD_XML.replace('site name="scanner"', 'site name="laser"'))
    with pytest.raises(RuntimeError) as raised:
        sent(TICK, model=file)
    expected = f"{file} has no site scanner: the head of rover_world.py lists what a model needs"
    assert str(raised.value) == expected


def test_a_model_that_is_not_there_says_how_to_begin_one(sent: Callable[..., Sent]) -> None:
    with pytest.raises(
        RuntimeError,
        match=r"^SIM_MODEL: there is no file nowhere.xml \(in .*my_room.xml writes one",
    ):
        sent(TICK, model="nowhere.xml")


def test_the_model_can_be_written_to_a_file_and_used(
    sent: Callable[..., Sent], tmp_path: Path
) -> None:
    written = subprocess.run(
        [sys.executable, SAMPLES / "rover_world.py"], capture_output=True, text=True, check=True
    ).stdout
    file = tmp_path / "my_room.xml"
    file.write_text(written.replace('pos="-1.2 0 0.06"', 'pos="-2 0 0.06"'))
    assert structs(sent(TICK, model=file)["pose"])[0]["x"] == -2


def test_without_mujoco_it_says_what_to_install(
    load_sample: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ImportError, match=r'^rover.py needs MuJoCo: pip install "dora-nb\[sim\]"$'):
        load_sample("rover")


@pytest.mark.parametrize("broken", [{"PYOPENGL_PLATFORM": "glx"}, {"MUJOCO_EGL_DEVICE_ID": "99"}])
def test_without_egl_it_says_what_to_install_and_drives_without_pictures(
    broken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library refuses at the import, and a driver when it is opened."""
    for name, value in broken.items():
        monkeypatch.setenv(name, value)
    code = (
        "import sys; from dora_nb.child import dora_api; sys.modules['dora'] = dora_api\n"
        f"sys.path.insert(0, {str(SAMPLES)!r})\n"
        "try:\n    import rover\n    rover.Operator()\n    print('drives')\n"
        "except (ImportError, RuntimeError) as error:\n    print(error)"
    )

    def said(**settings: str) -> str:
        with monkeypatch.context() as patch:
            patch.setenv("MUJOCO_GL", "egl")
            for name, value in settings.items():
                patch.setenv(name, value)
            return subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout

    message = said()
    assert message.count("\n") == 1
    assert "draw, since" in message
    assert (
        "sudo apt install libegl1 libgl1 libgl1-mesa-dri, or drive without pictures: --env SIM_IMAGE=no"
        in message
    )
    assert "or draw otherwise: --env MUJOCO_GL=osmesa (sudo apt install libosmesa6)" in message
    assert said(SIM_IMAGE="no") == "drives\n"


@pytest.mark.parametrize(
    ("way", "error", "message"),
    [
        (
            "osmesa",
            AttributeError("'NoneType' object has no attribute 'glGetError'"),
            (
                "cannot draw, since MUJOCO_GL=osmesa does not work here (its library was not found): "
                "sudo apt install libosmesa6, or drive without pictures: --env SIM_IMAGE=no, "
                "or draw otherwise: --env MUJOCO_GL=egl (sudo apt install libegl1 libgl1 libgl1-mesa-dri)"
            ),
        ),
        (
            "GLFW",
            RuntimeError("gladLoadGL error"),
            (
                "cannot draw, since MUJOCO_GL=glfw does not work here (gladLoadGL error): it needs a display, "
                "or drive without pictures: --env SIM_IMAGE=no, "
                "or draw otherwise: --env MUJOCO_GL=egl (sudo apt install libegl1 libgl1 libgl1-mesa-dri)"
            ),
        ),
        (
            "vulkan",
            RuntimeError("invalid value"),
            (
                "cannot draw with MUJOCO_GL=vulkan: set it to egl, osmesa, glfw, "
                "or drive without pictures: --env SIM_IMAGE=no"
            ),
        ),
    ],
)
def test_each_way_to_draw_says_what_it_needs(
    way: str, error: Exception, message: str, rover: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", way)
    assert rover.why_it_cannot_draw(error) == message
