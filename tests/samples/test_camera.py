"""The camera has pictures or fails with the reason, always says which, and never waits for a driver.

The drivers here are fakes that do what real ones do: refuse, hang, stop. What hangs is let go at the
end of its test, and no outcome depends on how long something takes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import http.server
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import scene
from numpy.typing import NDArray

from dora_nb.child.dora_api import DoraStatus

from .conftest import SAMPLES

PATIENCE_SECS = 10.0
"""Only reached when a test fails."""
TICK = {"type": "INPUT", "kind": "dora", "id": "tick", "value": None, "metadata": {}}
STOP = {"type": "STOP", "kind": "dora", "id": "MANUAL"}

Image = NDArray[np.uint8]


class Outputs:
    """Stands in for send_output, and gives back what was sent as pictures."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.metadata: list[dict[str, Any]] = []

    def __call__(self, output: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        assert output == "image"
        assert metadata is not None
        assert str(data.type) == "uint8"
        assert metadata["encoding"] == "bgr8"
        image = data.to_numpy().reshape(metadata["height"], metadata["width"], 3)
        self.images.append(image)
        self.metadata.append(metadata)


class Driver:
    """What is behind the fake `cv2.VideoCapture`: a test says what opening and reading do."""

    def __init__(self) -> None:
        self.opens = True
        self.opening: Callable[[], object] = lambda: None
        self.reading: Callable[[], Image | None] = lambda: grey(100)
        self.released = threading.Event()
        self.opened: list[tuple[Any, ...]] = []

    def capture(self, *arguments: Any) -> FakeCapture:
        self.opened.append(arguments)
        self.opening()
        return FakeCapture(self)


class FakeCapture:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def isOpened(self) -> bool:  # noqa: N802
        return self._driver.opens

    def set(self, *_: float) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, Image | None]:
        image = self._driver.reading()
        return image is not None, image

    def release(self) -> None:
        self._driver.released.set()


def one_then_wait_for(
    gate: threading.Event, reading: Callable[[], Image | None]
) -> Callable[[], Image | None]:
    """The first picture at once, all others once the gate is open: until then the camera starts."""
    first = iter([True])

    def read() -> Image | None:
        if next(first, False) is False:
            gate.wait()
        return reading()

    return read


def grey(level: int, size: tuple[int, int] = (640, 480)) -> Image:
    return np.full((size[1], size[0], 3), level, np.uint8)


@pytest.fixture
def driver(camera: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A machine with one webcam, /dev/video0."""
    (camera.DEVICES / "video0").touch()
    driver = Driver()
    monkeypatch.setattr(camera.cv2, "VideoCapture", driver.capture)
    return driver


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Where a driver hangs; opened at the end, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def start(
    camera: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[Any, Outputs]]]:
    """Makes an operator with settings from the environment, and stops it at the end."""
    operators = []

    def start(**environment: object) -> tuple[Any, Outputs]:
        for name, value in environment.items():
            monkeypatch.setenv(f"CAMERA_{name.upper()}", str(value))
        operators.append(camera.Operator())
        return operators[-1], Outputs()

    yield start
    for operator in operators:
        assert operator.on_event(STOP, Outputs()) is DoraStatus.CONTINUE


def tick(operator: Any, outputs: Outputs, count: int) -> None:
    for _ in range(count):
        assert operator.on_event(TICK, outputs) is DoraStatus.CONTINUE


def tick_while(goes_on: Callable[[], bool], operator: Any, outputs: Outputs) -> None:
    deadline = datetime.now(UTC).timestamp() + PATIENCE_SECS
    while goes_on():
        assert datetime.now(UTC).timestamp() < deadline, "it goes on for ever"
        tick(operator, outputs, 1)


def tick_until(operator: Any, outputs: Outputs, count: int) -> None:
    """Ticks until so many pictures are there; a reading thread may need several ticks for one."""
    deadline = datetime.now(UTC).timestamp() + PATIENCE_SECS
    while len(outputs.images) < count:
        assert datetime.now(UTC).timestamp() < deadline, f"only {len(outputs.images)} pictures came"
        assert operator.on_event(TICK, outputs) is DoraStatus.CONTINUE


def wait_for_end(operator: Any) -> None:
    """Until the reading thread has ended by itself."""
    operator._source._thread.join(PATIENCE_SECS)
    assert not operator._source._thread.is_alive()


def fallback(why: str) -> pytest.WarningsRecorder:
    """What warns that the rendered scene takes the place of a source."""
    return pytest.warns(UserWarning, match=f"{re.escape(why)}: the rendered scene takes its place$")


def refused(camera: ModuleType, source: object, why: str) -> pytest.RaisesExc[Exception]:
    """The error where a source that was asked for by name has no pictures."""
    text = (
        f"CAMERA_SOURCE={source} has no pictures: {why}{'' if why.endswith('?') else '.'} "
        "With CAMERA_SOURCE=auto the rendered scene would take its place."
    )
    return pytest.raises(camera.CameraError, match=f"^{re.escape(text)}$")


Start = Callable[..., tuple[Any, Outputs]]
Printed = pytest.CaptureFixture[str]


# ---------------------------------------------------------------- the rendered scene


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"source": "scene"}, ""),
        ({}, ", since no webcam was found"),
        ({"source": "auto"}, ", since no webcam was found"),
    ],
)
def test_without_a_webcam_there_is_the_scene_with_its_truth(
    settings: dict[str, str], why: str, start: Start, capsys: Printed
) -> None:
    with fallback("no webcam was found") if why else contextlib.nullcontext():
        operator, outputs = start(**settings)
    assert capsys.readouterr().out == f"camera: rendered scene, 640x480{why}\n"
    for _ in range(3):
        operator.on_event(TICK, outputs)
    for index, (image, metadata) in enumerate(zip(outputs.images, outputs.metadata, strict=True)):
        seed = metadata.pop("scene_seed")
        assert metadata == {"width": 640, "height": 480, "encoding": "bgr8", "frame": index}
        assert np.array_equal(image, scene.MovingScene(seed).frame(index))
    assert len(outputs.images) == 3
    assert capsys.readouterr().out == ""


def test_a_source_that_is_asked_for_by_name_and_is_missing_is_an_error(
    start: Start, camera: ModuleType
) -> None:
    for source, why in (
        ("webcam", "no webcam was found"),
        ("no/such.mp4", "there is no file no/such.mp4"),
        ("sceen", "sceen is neither a file nor auto, webcam or scene"),
        (0, f"{camera.DEVICES}/video0 does not exist (webcams found: none)"),
        ("/dev/no/camera", "/dev/no/camera does not exist (webcams found: none)"),
    ):
        with refused(camera, source, why):
            start(source=source)


def test_an_explicit_device_that_is_missing_is_named_with_those_that_exist(
    start: Start, driver: Driver, camera: ModuleType
) -> None:
    found, missing = camera.DEVICES / "video0", camera.DEVICES / "video7"
    with refused(camera, 7, f"{missing} does not exist (webcams found: {found})"):
        start(source=7)
    assert not driver.opened


def test_the_size_is_set_by_the_environment(start: Start, capsys: Printed) -> None:
    operator, outputs = start(source="scene", width=320, height=200)
    operator.on_event(TICK, outputs)
    assert outputs.images[0].shape == (200, 320, 3)
    assert "scene, 320x200" in capsys.readouterr().out


@pytest.mark.parametrize("width", ["0", "-640", "wide", "640.0", "1000000"])
def test_a_width_that_is_none_is_refused_by_name(width: str, start: Start) -> None:
    with pytest.raises(ValueError, match=r"CAMERA_WIDTH must be a number of pixels .* got '"):
        start(source="scene", width=width)


def test_other_events_send_nothing(start: Start) -> None:
    operator, outputs = start(source="scene")
    for event in ({"type": "RELOAD"}, {"type": "INPUT_CLOSED", "id": "tick"}, STOP):
        assert operator.on_event(event, outputs) is DoraStatus.CONTINUE
    assert not outputs.images


@pytest.mark.parametrize(
    ("source", "devices"),
    [
        ("auto", ["/dev/video0", "/dev/video2"]),
        ("webcam", ["/dev/video0", "/dev/video2"]),
        ("/dev/v4l/by-id/usb-cam", ["/dev/v4l/by-id/usb-cam"]),
        ("clip.mp4", None),
        ("folder/video0", None),
    ],
)
def test_a_setting_names_devices_or_a_file(
    source: str, devices: list[str] | None, camera: ModuleType
) -> None:
    assert camera.devices_of(source, ["/dev/video0", "/dev/video2"]) == devices


def test_webcams_are_ordered_by_number(camera: ModuleType) -> None:
    for name in ("video10", "video2", "video0", "video", "videos"):
        (camera.DEVICES / name).touch()
    assert [Path(device).name for device in camera.webcams()] == ["video0", "video2", "video10"]


# ---------------------------------------------------------------- a webcam


def test_the_newest_picture_of_a_webcam_is_sent_once(
    start: Start, driver: Driver, camera: ModuleType, capsys: Printed
) -> None:
    pictures: queue.Queue[Image] = queue.Queue()
    asked = threading.Semaphore(0)  # when the next one is asked for, the one before is on offer

    def read() -> Image:
        asked.release()
        return pictures.get(timeout=PATIENCE_SECS)

    def show(level: int) -> None:
        pictures.put(grey(level))
        assert asked.acquire(timeout=PATIENCE_SECS)

    driver.reading = read
    before = datetime.now(UTC)
    pictures.put(grey(10))
    operator, outputs = start()
    assert capsys.readouterr().out == f"camera: webcam {camera.DEVICES / 'video0'}, 640x480\n"
    assert driver.opened == [(0, cv2.CAP_V4L2)]
    for _ in range(2):  # the one that is on offer, and the next
        assert asked.acquire(timeout=PATIENCE_SECS)
    show(20)
    for _ in range(3):
        operator.on_event(TICK, outputs)
    show(30)
    show(40)
    for _ in range(3):
        operator.on_event(TICK, outputs)
    assert [image[0, 0, 0] for image in outputs.images] == [20, 40]
    moments = [metadata["timestamp"] for metadata in outputs.metadata]
    assert before < moments[0] < moments[1] <= datetime.now(UTC)
    assert outputs.metadata[0].keys() == {"width", "height", "encoding", "timestamp"}
    driver.reading = lambda: grey(50)
    pictures.put(grey(50))


def test_a_webcam_of_another_size_is_scaled_and_cut_and_the_line_says_so(
    start: Start, driver: Driver, capsys: Printed
) -> None:
    driver.reading = lambda: grey(50, (1280, 720))
    operator, outputs = start()
    assert "640x480 (from 1280x720)\n" in capsys.readouterr().out
    tick_until(operator, outputs, 1)
    assert outputs.images[0].shape == (480, 640, 3)


def test_stop_releases_the_webcam(start: Start, driver: Driver) -> None:
    operator, outputs = start()
    operator.on_event(STOP, outputs)
    assert driver.released.is_set()
    assert not operator._source._thread.is_alive()


@pytest.mark.parametrize("source", ["auto", "webcam", "0"])
def test_a_webcam_that_hangs_when_it_is_opened_holds_nothing_up(
    source: str,
    start: Start,
    driver: Driver,
    camera: ModuleType,
    gate: threading.Event,
    capsys: Printed,
) -> None:
    camera.ANSWER_SECS = 0.05
    driver.opening = gate.wait
    why = f"{camera.DEVICES}/video0 does not answer"
    if source == "auto":
        with fallback(why):
            operator, outputs = start()
        line = f"camera: rendered scene, 640x480, since {why}\n"
        assert capsys.readouterr().out == line
        operator.on_event(TICK, outputs)
        assert outputs.metadata[0]["frame"] == 0
    else:
        with refused(camera, source, why):
            start(source=source)
    gate.set()
    assert driver.released.wait(PATIENCE_SECS)  # when it opens at last, nobody keeps it


def test_a_webcam_that_hangs_before_its_first_picture_holds_nothing_up(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event, capsys: Printed
) -> None:
    camera.ANSWER_SECS = 0.05
    driver.reading = lambda: grey(1) if gate.wait() else None
    with fallback(f"{camera.DEVICES}/video0 does not answer"):
        start()
    assert "does not answer" in capsys.readouterr().out
    gate.set()
    assert driver.released.wait(PATIENCE_SECS)


def test_the_next_webcam_is_tried_when_the_first_does_not_open(
    start: Start,
    driver: Driver,
    camera: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    (camera.DEVICES / "video1").touch()
    refusing = Driver()
    refusing.opens = False
    monkeypatch.setattr(
        camera.cv2,
        "VideoCapture",
        lambda number, api: (driver if number == 1 else refusing).capture(number, api),
    )
    start()
    assert f"camera: webcam {camera.DEVICES / 'video1'}, 640x480\n" == capsys.readouterr().out
    assert refusing.released.wait(PATIENCE_SECS)


@pytest.fixture
def holder(camera: ModuleType) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has /dev/video0 open."""
    code = "import sys; held = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    device = camera.DEVICES / "video0"
    device.touch()
    with subprocess.Popen(
        [sys.executable, "-c", code, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.mark.parametrize("reads", [True, False])
def test_a_busy_webcam_is_named_with_the_process_that_holds_it(
    reads: bool,
    start: Start,
    driver: Driver,
    holder: subprocess.Popen[bytes],
    camera: ModuleType,
    capsys: Printed,
) -> None:
    """Drivers differ in when they say that they are busy: at opening, or at the first picture."""
    driver.opens = not reads
    driver.reading = lambda: None
    name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
    held = f": it is held by {name} (process {holder.pid})"
    with fallback(held):
        start()
    line = capsys.readouterr().out
    assert line.startswith("camera: rendered scene, 640x480, since ")
    assert line.endswith(f"{held}\n")
    how = "does not open" if reads else "opens but shows nothing"
    with refused(camera, "webcam", f"{camera.DEVICES}/video0 {how}{held}"):
        start(source="webcam")
    assert driver.released.wait(PATIENCE_SECS)


def test_a_device_is_found_open_through_a_link_and_never_in_this_process(
    holder: subprocess.Popen[bytes], camera: ModuleType
) -> None:
    link = camera.DEVICES / "by-id"
    link.symlink_to(camera.DEVICES / "video0")
    with link.open():
        (found,) = camera.holders_of(str(link))
    assert found.endswith(f"(process {holder.pid})")
    assert camera.number_of(str(link)) == 0


def test_a_device_that_may_not_be_used_is_said_to_be_that(
    start: Start,
    driver: Driver,
    camera: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    driver.opens = False
    monkeypatch.setattr(camera.os, "access", lambda *_: False)
    with fallback("this account may not use it (members of the group 'video' usually may)"):
        start()
    assert "does not open: this account may not use it (members of the group 'video'" in (
        capsys.readouterr().out
    )


def test_a_path_in_dev_that_is_no_video_device_is_said_to_be_none(
    start: Start, camera: ModuleType
) -> None:
    names = "their names are /dev/video0 and so on"
    with refused(camera, "/dev/null", f"/dev/null: this is not a video device; {names}"):
        start(source="/dev/null")


# ---------------------------------------------------------------- a webcam that stops


def test_a_webcam_that_is_unplugged_is_said_and_the_scene_goes_on(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event, capsys: Printed
) -> None:
    device = camera.DEVICES / "video0"
    pictures = iter([grey(10), grey(20)])

    def read() -> Image | None:
        image = next(pictures, None)
        if image is None:
            device.unlink(missing_ok=True)
        return image

    driver.reading = one_then_wait_for(gate, read)
    operator, outputs = start()
    gate.set()
    wait_for_end(operator)
    capsys.readouterr()
    with fallback(f"{device} is gone (was it unplugged?)"):
        for _ in range(4):
            operator.on_event(TICK, outputs)
    # What was read before is still sent.
    assert outputs.images[0][0, 0, 0] == 20
    assert [metadata.get("frame") for metadata in outputs.metadata] == [None, 0, 1, 2]
    assert capsys.readouterr().out == (
        f"camera: {device} is gone (was it unplugged?); the rendered scene takes its place\n"
    )
    assert driver.released.is_set()


def test_a_webcam_that_was_asked_for_and_is_unplugged_ends_the_operator(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event
) -> None:
    device = camera.DEVICES / "video0"
    pictures = iter([grey(10)])

    def read() -> Image | None:
        image = next(pictures, None)
        if image is None:
            device.unlink(missing_ok=True)
        return image

    driver.reading = one_then_wait_for(gate, read)
    operator, outputs = start(source="webcam", reconnect="no")
    gate.set()
    wait_for_end(operator)
    operator.on_event(TICK, outputs)
    assert len(outputs.images) == 1  # What was read before is still sent.
    with refused(camera, "webcam", f"{device} is gone (was it unplugged?)"):
        operator.on_event(TICK, outputs)
    assert driver.released.is_set()


def test_a_webcam_that_misses_a_few_pictures_is_kept_and_one_that_gives_up_is_not(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event, capsys: Printed
) -> None:
    camera.PAUSE_AFTER_MISS_SECS = 0.0
    few = [None] * (camera.MISSES_IN_A_ROW - 1)
    pictures = iter([grey(10), *few, grey(20), *few, grey(30)])
    driver.reading = one_then_wait_for(gate, lambda: next(pictures, None))
    operator, outputs = start()
    gate.set()
    wait_for_end(operator)
    capsys.readouterr()
    with fallback("video0 has stopped in the middle"):
        tick_until(operator, outputs, 2)
    assert outputs.images[0][0, 0, 0] == 30
    assert outputs.metadata[1]["frame"] == 0
    assert (
        "video0 has stopped in the middle; the rendered scene takes its place"
        in capsys.readouterr().out
    )


def test_a_webcam_that_hangs_in_the_middle_freezes_nothing(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event, capsys: Printed
) -> None:
    camera.STALL_SECS = 0.0
    first = iter([grey(10)])
    driver.reading = lambda: next(first, None) if not gate.is_set() else None
    hanging = driver.reading

    def read() -> Image | None:
        image = hanging()
        if image is None:
            gate.wait()
        return image

    driver.reading = read
    operator, outputs = start()
    with fallback("has shown nothing for 0 s"):
        tick_until(operator, outputs, 3)
    assert outputs.images[0][0, 0, 0] == 10
    assert [metadata.get("frame") for metadata in outputs.metadata] == [None, 0, 1]
    assert (
        "has shown nothing for 0 s; the rendered scene takes its place" in capsys.readouterr().out
    )
    gate.set()
    assert driver.released.wait(PATIENCE_SECS)


def test_an_error_inside_opencv_is_said_and_freezes_nothing(
    start: Start, driver: Driver, capsys: Printed
) -> None:
    def read() -> Image:
        raise cv2.error("the codec has lost its head")

    driver.reading = read
    with fallback("video0: the codec has lost its head"):
        start()
    assert "video0: the codec has lost its head" in capsys.readouterr().out
    assert driver.released.wait(PATIENCE_SECS)


# ---------------------------------------------------------------- a webcam that comes back


def unplugged(device: Path) -> Callable[[], Image | None]:
    """Two pictures, and then the device is gone."""
    pictures = iter([grey(10), grey(20)])

    def read() -> Image | None:
        image = next(pictures, None)
        if image is None:
            device.unlink(missing_ok=True)
        return image

    return read


@pytest.mark.parametrize("number", [0, 1], ids=["same number", "next number"])
@pytest.mark.parametrize("source", ["auto", "webcam"])
def test_a_webcam_that_is_plugged_in_again_comes_back_and_the_line_says_so(
    source: str,
    number: int,
    start: Start,
    driver: Driver,
    camera: ModuleType,
    gate: threading.Event,
    withdrawn: list[str],
    capsys: Printed,
) -> None:
    camera.RETRY_SECS = 0.0
    device, again = camera.DEVICES / "video0", camera.DEVICES / f"video{number}"
    driver.reading = one_then_wait_for(gate, unplugged(device))
    operator, outputs = start(source=source)
    gate.set()
    wait_for_end(operator)
    capsys.readouterr()
    instead = "the rendered scene takes its place"
    if source == "webcam":
        instead = "waiting until it is back"
    with pytest.warns(UserWarning, match=f"was it unplugged.*: {instead}") as warned:
        tick(operator, outputs, 4)
    assert withdrawn == []
    assert outputs.images[0][0, 0, 0] == 20
    assert [each.get("frame") for each in outputs.metadata[1:]] == (
        [0, 1, 2] if source == "auto" else []
    )
    why = f"{device} is gone (was it unplugged?)"
    assert capsys.readouterr().out == f"camera: {why}; {instead}\n"

    driver.reading = lambda: grey(77)
    again.touch()
    tick_while(lambda: outputs.images[-1][0, 0, 0] != 77, operator, outputs)
    assert capsys.readouterr().out == f"camera: webcam {again} is back, 640x480\n"
    assert withdrawn == [str(each.message) for each in warned]
    assert driver.opened[-1] == (number, cv2.CAP_V4L2)
    assert "timestamp" in outputs.metadata[-1]
    operator.on_event(STOP, outputs)
    assert not operator._source._thread.is_alive()


def still_missing(outputs: Outputs, level: int) -> bool:
    return outputs.images[-1][0, 0, 0] != level or "timestamp" not in outputs.metadata[-1]


def test_a_warning_prints_one_line_so_that_the_last_line_below_the_cell_is_never_code(
    start: Start, driver: Driver
) -> None:
    driver.opens = False
    with pytest.warns(UserWarning, match="does not open") as warned:
        start()
    (warning,) = warned
    shown = warnings.formatwarning(
        warning.message, warning.category, warning.filename, warning.lineno
    )
    assert len(shown.splitlines()) == 1


def test_a_webcam_may_go_and_come_back_many_times(
    start: Start, driver: Driver, camera: ModuleType, capsys: Printed
) -> None:
    camera.RETRY_SECS = 0.0
    device = camera.DEVICES / "video0"
    operator, outputs = start()
    for level in (50, 60, 70):
        driver.reading = unplugged(device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tick_while(lambda: "takes its place" not in capsys.readouterr().out, operator, outputs)
        driver.reading = functools.partial(grey, level)
        device.touch()
        tick_while(functools.partial(still_missing, outputs, level), operator, outputs)


def test_while_a_webcam_is_waited_for_each_new_reason_is_said_once(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event, capsys: Printed
) -> None:
    camera.RETRY_SECS = 0.0
    device = camera.DEVICES / "video0"
    driver.reading = one_then_wait_for(gate, unplugged(device))
    operator, outputs = start()
    gate.set()
    wait_for_end(operator)
    with fallback("was it unplugged?)"):
        for _ in range(2):
            operator.on_event(TICK, outputs)
    capsys.readouterr()
    driver.opens = False
    device.touch()
    opened = len(driver.opened)
    tick_while(lambda: len(driver.opened) < opened + 4, operator, outputs)
    said = f"camera: still waiting: {device} does not open\n"
    assert capsys.readouterr().out == said
    driver.opens = True
    driver.reading = lambda: grey(77)
    tick_while(lambda: outputs.images[-1][0, 0, 0] != 77, operator, outputs)
    assert capsys.readouterr().out == f"camera: webcam {device} is back, 640x480\n"


def test_a_webcam_that_hangs_when_it_comes_back_is_opened_only_once_more(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event, capsys: Printed
) -> None:
    """Each attempt that hangs keeps a thread; so there is no other one until it has returned."""
    camera.RETRY_SECS = 0.0
    device = camera.DEVICES / "video0"
    operator, outputs = start()
    driver.reading = unplugged(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tick_while(lambda: "takes its place" not in capsys.readouterr().out, operator, outputs)
    hangs = threading.Event()

    def hang() -> None:
        hangs.set()
        gate.wait()

    driver.opening = hang
    driver.opened.clear()
    camera.ANSWER_SECS = 0.0
    device.touch()
    tick_while(lambda: "does not answer" not in capsys.readouterr().out, operator, outputs)
    assert hangs.wait(PATIENCE_SECS)
    for _ in range(20):
        operator.on_event(TICK, outputs)
    assert len(driver.opened) == 1
    camera.ANSWER_SECS = PATIENCE_SECS
    driver.reading = lambda: grey(77)
    driver.opening = lambda: None
    gate.set()
    tick_while(lambda: outputs.images[-1][0, 0, 0] != 77, operator, outputs)


def test_a_stop_while_a_webcam_is_opened_again_releases_it(
    start: Start, driver: Driver, camera: ModuleType, capsys: Printed
) -> None:
    camera.RETRY_SECS = 0.0
    device = camera.DEVICES / "video0"
    operator, outputs = start()
    driver.reading = unplugged(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tick_while(lambda: "takes its place" not in capsys.readouterr().out, operator, outputs)
    asked = threading.Event()

    def read() -> Image | None:
        asked.set()
        return None

    camera.MISSES_IN_A_ROW = 10**9
    driver.reading = read
    driver.released.clear()
    device.touch()
    tick_while(lambda: not asked.is_set(), operator, outputs)
    operator.on_event(STOP, outputs)
    assert driver.released.wait(PATIENCE_SECS)


@pytest.mark.parametrize("name", ["RECONNECT", "REPEAT"])
def test_a_switch_that_is_neither_yes_nor_no_is_refused(name: str, start: Start) -> None:
    with pytest.raises(ValueError, match=f"CAMERA_{name} must be yes or no, got 'maybe'"):
        start(source="scene", **{name: "maybe"})


def test_what_a_webcam_offers_is_said_before_the_line_that_is_shown_below_the_cell(
    start: Start, driver: Driver, camera: ModuleType, capsys: Printed
) -> None:
    mode = camera.modes_text.__globals__["Mode"]
    camera.modes_of = lambda device: [mode("MJPG", 640, 480, (30.0, 15.0))]
    start()
    device = camera.DEVICES / "video0"
    assert capsys.readouterr().out == (
        f"camera: {device} offers MJPG 640x480 at 30, 15\ncamera: webcam {device}, 640x480\n"
    )


# ---------------------------------------------------------------- a video file


LEVELS = [20, 60, 100, 140, 180, 220]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A video of six grey pictures, each brighter than the one before."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    assert writer.isOpened()
    for level in LEVELS:
        writer.write(grey(level, (64, 48)))
    writer.release()
    return path


def levels_of(outputs: Outputs) -> list[int]:
    """To the nearest level that was written: the codec changes a little."""
    seen = [float(image.mean()) for image in outputs.images]
    return [min(LEVELS, key=lambda level: abs(level - value)) for value in seen]


def test_a_video_shows_every_picture_in_order_and_begins_again_at_the_end(
    film: Path, start: Start, capsys: Printed
) -> None:
    operator, outputs = start(source=film, width=64, height=48)
    tick_until(operator, outputs, 15)
    assert levels_of(outputs) == [*LEVELS, *LEVELS, *LEVELS[:3]]
    assert outputs.metadata[0] == {"width": 64, "height": 48, "encoding": "bgr8"}
    assert capsys.readouterr().out == f"camera: video {film}, 64x48\n"
    operator.on_event(STOP, outputs)
    assert not operator._source._thread.is_alive()


def test_a_video_in_the_home_folder_is_found(
    film: Path, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("HOME", str(film.parent))
    start(source="~/film.avi")
    assert f"camera: video {film}, 640x480 (from 64x48)\n" == capsys.readouterr().out


def test_a_video_that_ends_too_early_is_said_once_and_begins_again(
    film: Path, start: Start, capsys: Printed, monkeypatch: pytest.MonkeyPatch, camera: ModuleType
) -> None:
    class Promising:
        """Not a subclass: OpenCV's types crash the interpreter when they are inherited from."""

        def __init__(self, path: str) -> None:
            self._capture = open_video(path)
            self.read, self.release = self._capture.read, self._capture.release

        def get(self, _: int) -> float:
            return 100.0

    open_video = cv2.VideoCapture
    monkeypatch.setattr(camera.cv2, "VideoCapture", Promising)
    operator, outputs = start(source=film, width=64, height=48)
    tick_until(operator, outputs, 20)
    printed = capsys.readouterr().out
    assert printed.count("film.avi ends after 6 of 100 pictures (damaged?); again\n") == 1
    assert levels_of(outputs)[:12] == [*LEVELS, *LEVELS]


def test_a_broken_video_is_an_error(tmp_path: Path, start: Start, camera: ModuleType) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"this is no video at all" * 100)
    way_out = "was it copied or recorded to its end? ffmpeg -i OLD new.mp4 converts other formats"
    with refused(camera, path, f"broken.mp4 is not a video that OpenCV can read: {way_out}"):
        start(source=path)
    path.write_bytes(b"")
    with refused(camera, path, "broken.mp4 is empty"):
        start(source=path)


def test_what_reads_a_broken_video_ends_with_it(tmp_path: Path, camera: ModuleType) -> None:
    """In OpenCV's code a thread cannot be ended: the process would abort instead of ending."""
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    source = camera.Film(str(path), (64, 48))
    assert not source.wait_for_answer(PATIENCE_SECS)
    source._thread.join(PATIENCE_SECS)
    assert not source.is_busy


def test_a_video_that_is_deleted_while_it_runs_ends_the_operator(
    film: Path, start: Start, camera: ModuleType
) -> None:
    operator, outputs = start(source=film)
    film.unlink()
    with refused(camera, film, "film.avi is gone"):
        tick_until(operator, outputs, len(LEVELS) + 1)
    assert levels_of(outputs) == LEVELS


def test_a_video_that_is_shown_once_ends_the_operator_with_its_last_picture(
    film: Path, start: Start, capsys: Printed
) -> None:
    operator, outputs = start(source=film, width=64, height=48, repeat="no")
    status = DoraStatus.CONTINUE
    while status is DoraStatus.CONTINUE:
        status = operator.on_event(TICK, outputs)
    assert status is DoraStatus.STOP
    assert levels_of(outputs) == LEVELS
    assert capsys.readouterr().out == (
        f"camera: video {film}, 64x48\ncamera: film.avi has ended after 6 pictures\n"
    )


def test_a_file_that_hangs_when_it_is_opened_holds_nothing_up(
    tmp_path: Path, start: Start, driver: Driver, camera: ModuleType, gate: threading.Event
) -> None:
    camera.ANSWER_SECS = 0.05
    driver.opening = gate.wait
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with refused(camera, path, f"{path} does not answer"):
        start(source=path)


# ---------------------------------------------------------------- a folder of pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures whose order by number is not their order by text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for level, name in zip(
        LEVELS, ["1.png", "a2.PNG", "a9.jpg", "a10.png", "b.bmp", "b1.ppm"], strict=True
    ):
        _, data = cv2.imencode(f".{name.split('.')[1].lower()}", grey(level, (64, 48)))
        (folder / name).write_bytes(data.tobytes())
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_folder_shows_its_pictures_in_the_order_of_their_numbers_and_begins_again(
    folder: Path, start: Start, capsys: Printed
) -> None:
    operator, outputs = start(source=folder, width=64, height=48)
    tick_until(operator, outputs, 8)
    assert levels_of(outputs) == [*LEVELS, *LEVELS[:2]]
    names = ["1.png", "a2.PNG", "a9.jpg", "a10.png", "b.bmp", "b1.ppm", "1.png", "a2.PNG"]
    assert [metadata["file"] for metadata in outputs.metadata] == names
    assert capsys.readouterr().out == f"camera: folder {folder}, 64x48\n"


def test_a_folder_that_is_shown_once_ends_the_operator(
    folder: Path, start: Start, capsys: Printed
) -> None:
    operator, outputs = start(source=folder, width=64, height=48, repeat="no")
    status = DoraStatus.CONTINUE
    while status is DoraStatus.CONTINUE:
        status = operator.on_event(TICK, outputs)
    assert levels_of(outputs) == LEVELS
    assert capsys.readouterr().out.endswith("camera: pictures has ended after 6 pictures\n")


def test_a_file_of_a_folder_that_is_not_a_picture_is_skipped_and_said_once(
    folder: Path, start: Start, capsys: Printed
) -> None:
    (folder / "a9.jpg").write_text("not a picture")
    operator, outputs = start(source=folder, width=64, height=48)
    tick_until(operator, outputs, 10)
    left = [*LEVELS[:2], *LEVELS[3:]]
    assert levels_of(outputs) == [*left, *left]
    printed = capsys.readouterr().out
    assert printed.count("a9.jpg is not a picture that OpenCV can read: skipped") == 1


def test_a_folder_without_pictures_is_an_error(
    tmp_path: Path, start: Start, camera: ModuleType
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    endings = ", ".join(camera.PICTURE_ENDINGS)
    with refused(camera, empty, f"the folder {empty} has no pictures ({endings})"):
        start(source=empty)
    (empty / "broken.png").write_text("not a picture")
    with refused(camera, empty, f"OpenCV can read no picture in the folder {empty}"):
        start(source=empty)


def test_a_folder_that_is_deleted_while_it_runs_ends_the_operator(
    folder: Path, start: Start, camera: ModuleType
) -> None:
    operator, outputs = start(source=folder, width=64, height=48)
    shutil.rmtree(folder)
    with refused(camera, folder, f"the folder {folder} is gone"):
        tick_until(operator, outputs, len(LEVELS) + 1)


# ---------------------------------------------------------------- a network camera


class StreamServer:
    """Serves JPEGs as network cameras and telephones do, until it is told to stop."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/video":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                _, jpeg = cv2.imencode(".jpg", grey(99, (320, 240)))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                with contextlib.suppress(OSError):
                    while not outer.stopped.wait(0.02):  # its rate: 50 a second
                        self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[StreamServer]:
    server = StreamServer()
    yield server
    server.close()


def test_a_network_camera_that_stops_is_waited_for_and_comes_back(
    server: StreamServer, start: Start, camera: ModuleType, capsys: Printed
) -> None:
    camera.RETRY_SECS = camera.PAUSE_AFTER_MISS_SECS = 0.0
    url = f"http://127.0.0.1:{server.port}/video"
    operator, outputs = start(source=url)
    assert capsys.readouterr().out == f"camera: stream {url}, 640x480 (from 320x240)\n"
    tick_until(operator, outputs, 2)
    assert abs(float(outputs.images[0].mean()) - 99) < 2
    assert outputs.metadata[0].keys() == {"width", "height", "encoding", "timestamp"}
    server.stopped.set()
    with pytest.warns(UserWarning, match="waiting until it is back; check its power and network"):
        tick_while(lambda: not isinstance(operator._source, camera.NoPictures), operator, outputs)
    assert capsys.readouterr().out.startswith(
        f"camera: {url} has stopped in the middle; waiting until it is back\n"
    )
    server.stopped.clear()
    tick_until(operator, outputs, len(outputs.images) + 1)
    assert capsys.readouterr().out.endswith(f"camera: stream {url} is back, 640x480\n")


def test_a_network_camera_that_may_not_come_back_ends_the_operator(
    server: StreamServer, start: Start, camera: ModuleType
) -> None:
    url = f"http://127.0.0.1:{server.port}/video"
    operator, outputs = start(source=url, reconnect="no")
    server.stopped.set()
    with refused(camera, url, f"{url} has stopped in the middle"):
        while True:
            operator.on_event(TICK, outputs)


def test_a_path_that_the_camera_does_not_serve_is_an_error_without_the_password(
    server: StreamServer, start: Start, camera: ModuleType
) -> None:
    url = f"http://me:se@cret@127.0.0.1:{server.port}/audio"
    shown = f"http://me:***@127.0.0.1:{server.port}/audio"
    why = f"{shown} answers but shows no pictures: check the path, and the user and password, in the address"
    with refused(camera, shown, why):
        start(source=url)


def test_a_silent_rtsp_server_is_said_to_be_one(camera: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECS)
        url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/stream"
        stream = camera.Stream(url, (640, 480))
        connections = [server.accept()[0], server.accept()[0]]  # ours to look, and FFmpeg's
        assert connections[1].recv(7) == b"OPTIONS"
        stream.give_up()
        assert stream.failure == (
            f"{url} accepts connections but sends no picture: check the path in the address, "
            "and whether the camera serves others already; restarting it often helps"
        )
        stream.close()
        for connection in connections:
            connection.close()
    stream._thread.join(PATIENCE_SECS)
    assert not stream._thread.is_alive()


def test_a_silent_rtsp_server_holds_nothing_up(
    start: Start, driver: Driver, camera: ModuleType, gate: threading.Event
) -> None:
    camera.STREAM_ANSWER_SECS = 0.05
    driver.opening = gate.wait
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(
            camera.CameraError, match=r"^CAMERA_SOURCE=rtsp://127\.0\.0\.1:.* has no pictures"
        ),
    ):
        start(source=f"rtsp://127.0.0.1:{server.getsockname()[1]}/stream")


def test_an_address_that_nothing_answers_at_is_said_with_the_reason(
    start: Start, camera: ModuleType
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for url, why in (
            (
                f"rtsp://127.0.0.1:{port}/stream",
                f"127.0.0.1 is there but serves nothing on port {port}: is the camera's server on?",
            ),
            (
                "rtsp://camera.invalid/stream",
                "no machine named camera.invalid is known here: check the name, or use its number",
            ),
            (
                "rtsp://127.0.0.1:high/stream",
                "the port in the address is not a number from 0 to 65535",
            ),
            (
                "rtsp:///stream",
                "the address has no host or port; it looks like rtsp://192.168.1.20:554/stream",
            ),
        ):
            with refused(camera, url, f"{url}: {why}"):
                start(source=url)


def test_a_network_that_does_not_lead_to_the_camera_is_said_with_the_reason(
    start: Start, camera: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(camera.socket, "create_connection", unreachable)
    url = "rtsp://192.0.2.1/stream"
    why = "192.0.2.1 cannot be reached (No route to host): is it on, and in this network?"
    with refused(camera, url, f"{url}: {why}"):
        start(source=url)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://me:secret@host/path", "rtsp://me:***@host/path"),
        ("rtsp://me:se@cret@host:554/a@b", "rtsp://me:***@host:554/a@b"),
        ("rtsp://host:554/path", "rtsp://host:554/path"),
        ("rtsp://me@host/path", "rtsp://me@host/path"),
        ("/dev/video0", "/dev/video0"),
        ("clip@home:1.mp4", "clip@home:1.mp4"),
    ],
)
def test_passwords_are_not_shown(source: str, shown: str, camera: ModuleType) -> None:
    assert camera.shown_source(source) == shown


def test_an_error_of_opencv_does_not_show_the_password(
    start: Start, driver: Driver, camera: ModuleType
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}/stream"

        def read() -> Image:
            raise cv2.error(f"cannot decode rtsp://me:secret@{place}")

        driver.reading = read
        shown = f"rtsp://me:***@{place}"
        with refused(camera, shown, f"{shown}: cannot decode {shown}"):
            start(source=f"rtsp://me:secret@{place}")


# ---------------------------------------------------------------- pictures of any kind


def test_any_picture_covers_the_size_that_was_asked_for(camera: ModuleType) -> None:
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, 150:250] = 200  # the middle square
    fitted = camera.fit(wide, (64, 64))
    assert fitted.shape == (64, 64, 3)
    assert (fitted == 200).all()
    for image in (wide[:, :, 0], wide[:, :, :1], np.zeros((100, 400, 4), np.uint8)):
        fitted = camera.fit(image, (30, 77))
        assert fitted.shape == (77, 30, 3)
        assert fitted.flags.c_contiguous
    with pytest.raises(ValueError, match="float32"):
        camera.fit(wide.astype(np.float32), (64, 64))


def test_the_scene_beside_the_file_is_meant_whatever_else_is_called_scene(tmp_path: Path) -> None:
    """As dora-rs loads it: the folder of the file is the last one on the path."""
    (tmp_path / "scene.py").write_text("raise SystemExit('the wrong scene')")
    (tmp_path / "dora.py").write_text("class DoraStatus: CONTINUE = 0")
    code = "import sys; sys.path.append(sys.argv[1]); import camera; camera.Operator()"
    environment = {**os.environ, "CAMERA_SOURCE": "scene"}
    done = subprocess.run(
        [sys.executable, "-c", code, SAMPLES],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "camera: rendered scene, 640x480\n"), done.stderr
