"""A camera as a dora operator: a webcam, a video file, or the rendered scene.

    %dora_operator camera ../samples/camera.py --inputs tick=dora/timer/hz/30 --outputs image

On each tick it sends ``image``: a flat UInt8 array with ``width``, ``height`` and ``encoding`` "bgr8".
Pictures of the rendered scene also carry ``scene_seed`` and ``frame``, and what is on them is known:
``MovingScene(scene_seed, (width, height)).boxes(frame)`` of scene.py. Pictures of a webcam carry as
``timestamp`` when they were taken; each is sent once, so a slow webcam sets the pace, not the tick.

Settings, from the environment (``--env CAMERA_SOURCE=scene``):

CAMERA_SOURCE                 ``auto`` (default): a webcam if one answers, else the rendered scene;
                              ``scene``; ``webcam``, ``0`` or ``/dev/video0``; the path of a video
CAMERA_WIDTH, CAMERA_HEIGHT   the size of the pictures in pixels, by default 640 and 480; pictures of
                              a webcam or a video are scaled to cover it, and cut

With ``auto`` there are always pictures: if no webcam answers, or it stops later, the rendered scene takes
its place, and a warning gives the reason. A source that was asked for by name must work: if it does not
answer, or stops later, the operator fails with the reason. To try a source again, restart the operator.
"""

import contextlib
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa
from dora import DoraStatus
from numpy.typing import NDArray

# The folder of this file is not on `sys.path` everywhere. It goes first, so that no other module
# named `scene` is found.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from scene import MovingScene

DEVICES = Path("/dev")
PROCESSES = Path("/proc")
ANSWER_SECS = 4.0
"""How long a webcam or a file may take to its first picture. A good webcam needs one or two."""
STALL_SECS = 3.0
"""How long it may then be silent. A webcam in the dark still gives several pictures a second."""
CLOSE_SECS = 0.8
"""At STOP, for the device to be released. The engine ends a process that takes two seconds."""
MISSES_IN_A_ROW = 20
"""A webcam may drop a picture now and then; this many mean that it is gone."""
PAUSE_AFTER_MISS_SECS = 0.02

Image = NDArray[np.uint8]
Size = tuple[int, int]


class CameraError(RuntimeError):
    """The source that was asked for by name has no pictures."""


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Settings:
    source: str
    size: Size

    @property
    def may_fall_back(self) -> bool:
        """Whether the rendered scene may take the place of a source that has no pictures."""
        return self.source == "auto"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        return cls(
            environment.get("CAMERA_SOURCE", "").strip() or "auto",
            (_pixels(environment, "CAMERA_WIDTH", 640), _pixels(environment, "CAMERA_HEIGHT", 480)),
        )


def _pixels(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 32 <= int(text) <= 8192:
        raise ValueError(f"{name} must be a number of pixels from 32 to 8192, got {text!r}")
    return int(text)


def devices_of(source: str, found: list[str]) -> list[str] | None:
    """The devices to try for a setting, in order; None if it names a file."""
    if source in ("auto", "webcam"):
        return found
    if source.isdecimal():
        return [str(DEVICES / f"video{source}")]
    if source.startswith("/dev/"):
        return [source]
    return None


def webcams() -> list[str]:
    """The video devices of this machine, by number."""
    paths = [str(path) for path in DEVICES.glob("video*") if path.name[5:].isdecimal()]
    return sorted(paths, key=number_of)


def number_of(device: str) -> int:
    """OpenCV's number of the device; links as in /dev/v4l/by-id are followed.

    Raises ValueError if it is not a video device.
    """
    digits = re.search(r"/video(\d+)$", str(Path(device).resolve()))
    if digits is None:
        raise ValueError("this is not a video device; their names are /dev/video0 and so on")
    return int(digits[1])


# ---------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Shot:
    """One picture and what is known about it."""

    image: Image
    details: dict[str, Any]


class Source(Protocol):
    failure: str | None
    """Why no more pictures will come; None as long as some may."""

    def take(self) -> Shot | None:
        """The next picture if there is one. Never blocks."""

    def notes(self) -> list[str]:
        """New lines for the user, each of them once."""

    def close(self, wait_secs: float = 0.0) -> None:
        """Releases the device or file; waits at most that long until it is released."""


class SceneSource:
    """The rendered scene: each picture is the next one, however often the tick comes."""

    failure: str | None = None

    def __init__(self, size: Size) -> None:
        self._scene = MovingScene(size=size)
        self._index = 0

    def take(self) -> Shot:
        truth = {"scene_seed": self._scene.seed, "frame": self._index}
        shot = Shot(self._scene.frame(self._index), truth)
        self._index += 1
        return shot

    def notes(self) -> list[str]:
        return []

    def close(self, wait_secs: float = 0.0) -> None:
        pass


class CaptureSource:
    """A webcam or a video file, opened and read in a thread of its own.

    OpenCV can block in opening, reading and releasing for as long as a driver likes, and cannot be
    interrupted. So only that thread calls it. If a call does not return, the thread is left behind (it
    is a daemon), and releases the device if the call ever returns.
    """

    def __init__(self, target: str, size: Size) -> None:
        self.target = target
        self.failure: str | None = None
        self.native_size: Size | None = None
        self._size = size
        self._shot: Shot | None = None
        self._answered = False
        self._notes: list[str] = []
        self._noted: set[str] = set()
        self._last_shot_secs = time.monotonic()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {target}", daemon=True)
        self._thread.start()

    def wait_for_answer(self, limit_secs: float) -> bool:
        """Waits for the first picture; sets `failure` if none comes in time. Returns whether one came."""
        with self._changed:
            self._changed.wait_for(lambda: self._answered or self.failure, limit_secs)
            if not self._answered and self.failure is None:
                self.failure = f"{self.target} does not answer{_held_by(self.target)}"
            return self.failure is None

    def take(self) -> Shot | None:
        with self._changed:
            shot, self._shot = self._shot, None
            self._changed.notify_all()
            now_secs = time.monotonic()
            if shot is not None:
                self._last_shot_secs = now_secs
            elif self.failure is None and now_secs - self._last_shot_secs > STALL_SECS:
                self.failure = f"{self.target} has shown nothing for {STALL_SECS:g} s"
            return shot

    def notes(self) -> list[str]:
        with self._changed:
            notes, self._notes = self._notes, []
            return notes

    def close(self, wait_secs: float = 0.0) -> None:
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(wait_secs)

    # The rest runs in the thread.

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self._fail(f"{self.target}: {error}")

    def _read(self) -> None:
        raise NotImplementedError

    def _fail(self, why: str) -> None:
        with self._changed:
            self.failure = self.failure or why
            self._changed.notify_all()

    def _note(self, line: str) -> None:
        with self._changed:
            if line not in self._noted:
                self._noted.add(line)
                self._notes.append(line)

    def _offer(self, image: Image, details: dict[str, Any]) -> None:
        shot = Shot(fit(image, self._size), details)
        with self._changed:
            self.native_size = (image.shape[1], image.shape[0])
            self._shot = shot
            self._answered = True
            self._changed.notify_all()


class Webcam(CaptureSource):
    """Keeps the newest picture only: what was not taken is replaced."""

    def _read(self) -> None:
        capture = cv2.VideoCapture(number_of(self.target), cv2.CAP_V4L2)
        try:
            if not capture.isOpened():
                self._fail(f"{self.target} does not open{_held_by(self.target)}")
                return
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
            self._read_while_there(capture)
        finally:
            capture.release()

    def _read_while_there(self, capture: cv2.VideoCapture) -> None:
        misses = 0
        while not self._closing.is_set():
            read, image = capture.read()
            if read and image is not None and image.size:
                misses = 0
                self._offer(image, {"timestamp": datetime.now(UTC)})
                continue
            misses += 1
            if misses == MISSES_IN_A_ROW or not Path(self.target).exists():
                self._fail(self._why_nothing_comes())
                return
            self._closing.wait(PAUSE_AFTER_MISS_SECS)

    def _why_nothing_comes(self) -> str:
        if not Path(self.target).exists():
            return f"{self.target} is gone (was it unplugged?)"
        if not self._answered:
            return f"{self.target} opens but shows nothing{_held_by(self.target)}"
        return f"{self.target} has stopped in the middle{_held_by(self.target)}"


class Film(CaptureSource):
    """A video file: every picture in its order, one for each tick, from the beginning at the end."""

    def _read(self) -> None:
        name = Path(self.target).name
        while not self._closing.is_set():
            shown, promised = self._play()
            if self._closing.is_set():
                return
            if not shown:
                readable = "is not a video that OpenCV can read"
                self._fail(f"{name} {readable if Path(self.target).exists() else 'is gone'}")
            elif shown < promised:
                self._note(f"{name} ends after {shown} of {promised} pictures (damaged?); again")

    def _play(self) -> tuple[int, int]:
        """Shows the file once; returns how many pictures it had, and how many its header promised."""
        capture = cv2.VideoCapture(self.target)
        try:
            promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            shown = 0
            while not self._closing.is_set() and self.failure is None:
                read, image = capture.read()
                if not read or image is None or not image.size:
                    break
                self._offer(image, {})
                shown += 1
                with self._changed:
                    self._changed.wait_for(lambda: self._shot is None or self._closing.is_set())
            return shown, promised
        finally:
            capture.release()


def fit(image: Image, size: Size) -> Image:
    """Any uint8 picture as ``(height, width, 3)`` BGR: scaled to cover the size, its middle kept."""
    if image.dtype != np.uint8:
        raise ValueError(f"pictures must be uint8, got {image.dtype}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    width, height = size
    scale = max(width / image.shape[1], height / image.shape[0])
    if scale != 1.0:
        covering = (
            max(width, round(image.shape[1] * scale)),
            max(height, round(image.shape[0] * scale)),
        )
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, covering, interpolation=how)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


# ---------------------------------------------------------------- other users of the device


def holders_of(device: str) -> list[str]:
    """The other processes that have the device open, as far as this account may see them."""
    wanted = str(Path(device).resolve())
    pids = sorted(int(process.name) for process in PROCESSES.glob("[0-9]*"))
    others = [pid for pid in pids if pid != os.getpid() and wanted in _open_files(pid)]
    return [f"{_name_of(pid)} (process {pid})" for pid in others]


def _open_files(pid: int) -> set[str]:
    """The files that a process has open; empty if it has ended, or belongs to another user."""
    files = set()
    with contextlib.suppress(OSError):
        for entry in (PROCESSES / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                files.add(str(entry.readlink()))
    return files


def _name_of(pid: int) -> str:
    try:
        return (PROCESSES / str(pid) / "comm").read_text().strip()
    except OSError:
        return "a process that has just ended"


def _held_by(device: str) -> str:
    """The likely reason why a device does not work, to be appended to a sentence; may be empty."""
    if not Path(device).exists():
        return ""
    if not os.access(device, os.R_OK | os.W_OK):
        return ": this account may not use it (members of the group 'video' usually may)"
    holders = holders_of(device)
    return f": it is held by {' and '.join(holders[:3])}" if holders else ""


# ---------------------------------------------------------------- choosing


def open_source(settings: Settings) -> tuple[Source, str]:
    """A source that has pictures, and a line that describes it. Warns of a fallback.

    Blocks for at most `ANSWER_SECS`, whatever a driver does. Raises CameraError where the source was asked
    for by name and has none.
    """
    width, height = settings.size
    if settings.source == "scene":
        return SceneSource(settings.size), f"rendered scene, {width}x{height}"
    devices = devices_of(settings.source, webcams())
    if devices is None:
        source, why = _open_film(settings)
    else:
        source, why = _open_webcam(devices, settings)
    if source is None:
        return fall_back(settings, why), f"rendered scene, {width}x{height}, since {why}"
    kind = "webcam" if devices is not None else "video"
    line = f"{kind} {source.target}, {width}x{height}"
    if source.native_size not in (None, settings.size):
        line += " (from {}x{})".format(*source.native_size)
    return source, line


def fall_back(settings: Settings, why: str) -> SceneSource:
    """The rendered scene, with a warning that says why; CameraError where it was not allowed."""
    if not settings.may_fall_back:
        raise CameraError(
            f"CAMERA_SOURCE={settings.source} has no pictures: {why}. "
            "With CAMERA_SOURCE=auto the rendered scene would take its place."
        )
    # dora_nb turns the operator's line amber and shows this there; elsewhere it is a line on stderr.
    warnings.warn(f"{why}: the rendered scene takes its place", stacklevel=2)
    return SceneSource(settings.size)


def _open_webcam(devices: list[str], settings: Settings) -> tuple[CaptureSource | None, str]:
    """The first device that answers; else None and the reasons."""
    if not devices:
        return None, "no webcam was found"
    deadline_secs = time.monotonic() + ANSWER_SECS
    reasons = []
    for device in devices:
        if not Path(device).exists():
            found = ", ".join(webcams()) or "none"
            reasons.append(f"{device} does not exist (webcams found: {found})")
            continue
        webcam = Webcam(device, settings.size)
        if webcam.wait_for_answer(max(0.0, deadline_secs - time.monotonic())):
            return webcam, ""
        reasons.append(webcam.failure or "")
        webcam.close()
    return None, "; ".join(reasons)


def _open_film(settings: Settings) -> tuple[CaptureSource | None, str]:
    path = Path(settings.source).expanduser()
    if not path.exists():
        return None, f"there is no file {path}"
    film = Film(str(path), settings.size)
    if film.wait_for_answer(ANSWER_SECS):
        return film, ""
    film.close()
    return None, film.failure or ""


# ---------------------------------------------------------------- the operator


class Operator:
    """Sends a picture as ``image`` on each of its inputs, which are ticks; see the head of the file."""

    def __init__(self) -> None:
        # A detector may need the other cores; drawing the scene takes 3 ms on one.
        cv2.setNumThreads(1)
        self._settings = Settings.from_environment(os.environ)
        self._source, line = open_source(self._settings)
        _say(line)

    def on_event(self, dora_event: dict[str, Any], send_output: Callable[..., None]) -> DoraStatus:
        if dora_event["type"] == "INPUT":
            self._send_picture(send_output)
        elif dora_event["type"] == "STOP":
            self._source.close(CLOSE_SECS)
        return DoraStatus.CONTINUE

    def _send_picture(self, send_output: Callable[..., None]) -> None:
        shot = self._source.take()
        for note in self._source.notes():
            _say(note)
        if shot is None and self._source.failure is not None:
            why = self._source.failure
            self._source.close()
            self._source = fall_back(self._settings, why)
            _say(f"{why}; the rendered scene takes its place")
            shot = self._source.take()
        if shot is not None:
            width, height = self._settings.size
            metadata = {"width": width, "height": height, "encoding": "bgr8", **shot.details}
            send_output("image", pa.array(shot.image.ravel()), metadata)


def _say(line: str) -> None:
    print(f"camera: {line}", flush=True)
