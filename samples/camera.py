"""A camera as a dora operator: a webcam, a network camera, a video, a folder of pictures, or the rendered scene.

    %dora_operator camera ../samples/camera.py --inputs tick=dora/timer/hz/30 --outputs image

On each tick it sends ``image``: a flat UInt8 array with ``width``, ``height`` and ``encoding`` "bgr8".
Pictures of the rendered scene also carry ``scene_seed`` and ``frame``, and what is on them is known:
``MovingScene(scene_seed, (width, height)).boxes(frame)`` of scene.py. Pictures of a webcam or a network camera
carry as ``timestamp`` when they were taken; each is sent once, so a slow webcam sets the pace, not the tick.
Pictures of a folder carry the name of their ``file``.

Settings, from the environment (``--env CAMERA_SOURCE=scene``):

CAMERA_SOURCE                 ``auto`` (default): a webcam if one answers, else the rendered scene;
                              ``scene``; ``webcam``, ``0`` or ``/dev/video0``; the path of a video or of a
                              folder of pictures; ``rtsp://USER:PASSWORD@HOST/PATH`` or ``http://HOST/PATH``
CAMERA_WIDTH, CAMERA_HEIGHT   the size of the pictures in pixels, by default 640 and 480; pictures of
                              any other size are scaled to cover it, and cut. The log lists what a webcam offers
CAMERA_RECONNECT              ``yes`` (default): a webcam or network camera that stops is waited for, and comes
                              back when it is plugged in again; ``no``: the operator fails
CAMERA_REPEAT                 ``yes`` (default): a video or folder begins again at its end; ``no``: the operator
                              ends there

With ``auto`` there are always pictures: if no webcam answers, or it stops later, the rendered scene takes
its place, and a warning gives the reason. A source that was asked for by name must work when the operator
starts, or it fails with the reason. If a video, or a folder, is damaged or gone later, the operator fails too.
"""

import contextlib
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import SplitResult, urlsplit

# Before OpenCV is imported: FFmpeg would fill the log with a line for each damaged picture, and the line below the
# cell shows the newest one. What matters is said here.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
import pyarrow as pa
from dora import DoraStatus
from numpy.typing import NDArray

# The folder of this file is not on `sys.path` everywhere. It goes first, so that no other module
# named `scene` or `webcam_modes` is found.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from scene import MovingScene
from webcam_modes import modes_of, modes_text

DEVICES = Path("/dev")
PROCESSES = Path("/proc")
ANSWER_SECS = 4.0
"""How long a webcam or a file may take to its first picture. A good webcam needs one or two."""
STREAM_ANSWER_SECS = 10.0
"""The same for a network camera, which may have to wait for the next complete picture."""
STALL_SECS = 3.0
"""How long it may then be silent. A webcam in the dark still gives several pictures a second."""
CLOSE_SECS = 0.8
"""At STOP, for the device to be released. The engine ends a process that takes two seconds."""
MISSES_IN_A_ROW = 20
"""A webcam may drop a picture now and then; this many mean that it is gone."""
PAUSE_AFTER_MISS_SECS = 0.02
RETRY_SECS = 1.0
"""Between two attempts to open a webcam or stream that has stopped."""
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "tcp": None}
"""Schemes of network cameras that use TCP, with their usual ports."""
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
YES_OR_NO = {"yes": True, "no": False, "": True}

Image = NDArray[np.uint8]
Size = tuple[int, int]


class CameraError(RuntimeError):
    """The source that was asked for by name has no pictures."""

    __tracebackhide__ = True  # dora_nb shows its text alone


class SettingError(ValueError):
    """A setting has a value that it cannot have."""

    __tracebackhide__ = True  # dora_nb shows its text alone


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Settings:
    source: str
    size: Size
    reconnect: bool = True
    repeat: bool = True

    @property
    def may_fall_back(self) -> bool:
        """Whether the rendered scene may take the place of a source that has no pictures."""
        return self.source == "auto"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        return cls(
            environment.get("CAMERA_SOURCE", "").strip() or "auto",
            (_pixels(environment, "CAMERA_WIDTH", 640), _pixels(environment, "CAMERA_HEIGHT", 480)),
            reconnect=_yes_or_no(environment, "CAMERA_RECONNECT"),
            repeat=_yes_or_no(environment, "CAMERA_REPEAT"),
        )


def _yes_or_no(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip().lower()
    if text not in YES_OR_NO:
        raise SettingError(f"{name} must be yes or no, got {text!r}")
    return YES_OR_NO[text]


def _pixels(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 32 <= int(text) <= 8192:
        raise SettingError(f"{name} must be a number of pixels from 32 to 8192, got {text!r}")
    return int(text)


def devices_of(source: str, found: list[str]) -> list[str] | None:
    """The devices to try for a setting, in order; None if it names a file or a stream."""
    if source in ("auto", "webcam"):
        return found
    if source.isdecimal():
        return [str(DEVICES / f"video{source}")]
    if source.startswith("/dev/"):
        return [source]
    return None


def is_stream(source: str) -> bool:
    return "://" in source


def shown_source(source: str) -> str:
    """The source as it may be printed: the password of a network camera is hidden."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", source)


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
    ended: bool
    """Whether it has shown all pictures that it has."""

    def take(self) -> Shot | None:
        """The next picture if there is one. Never blocks."""

    def notes(self) -> list[str]:
        """New lines for the user, each of them once."""

    def close(self, wait_secs: float = 0.0) -> None:
        """Releases the device or file; waits at most that long until it is released."""


class SceneSource:
    """The rendered scene: each picture is the next one, however often the tick comes."""

    failure: str | None = None
    ended = False

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


class NoPictures:
    """In the place of a source that is waited for."""

    failure: str | None = None
    ended = False

    def take(self) -> None:
        return None

    def notes(self) -> list[str]:
        return []

    def close(self, wait_secs: float = 0.0) -> None:
        pass


class CaptureSource:
    """A webcam, a stream, a video file or a folder, opened and read in a thread of its own.

    OpenCV can block in opening, reading and releasing for as long as a driver likes, and cannot be
    interrupted. So only that thread calls it. If a call does not return, the thread is left behind (it
    is a daemon), and releases the device if the call ever returns.
    """

    kind: ClassVar[str]
    """What it is called in a line for the user."""

    def __init__(self, target: str, size: Size, *, repeat: bool = True) -> None:
        self.target = target
        self.shown = shown_source(target)
        self.failure: str | None = None
        self.ended = False
        self.native_size: Size | None = None
        self._size = size
        self._repeat = repeat
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
                self.failure = self._why_no_answer()
            return self.failure is None

    @property
    def answered(self) -> bool:
        """Whether there was a picture."""
        with self._changed:
            return self._answered

    @property
    def is_busy(self) -> bool:
        """Whether its thread still runs, maybe in a call that does not return."""
        return self._thread.is_alive()

    def give_up(self) -> None:
        """As `wait_for_answer` whose time is over."""
        self.wait_for_answer(0.0)

    def take(self) -> Shot | None:
        with self._changed:
            shot, self._shot = self._shot, None
            self._changed.notify_all()
            now_secs = time.monotonic()
            if shot is not None:
                self._last_shot_secs = now_secs
            elif self.failure is None and now_secs - self._last_shot_secs > STALL_SECS:
                self.failure = f"{self.shown} has shown nothing for {STALL_SECS:g} s"
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
            self._fail(f"{self.shown}: {str(error).replace(self.target, self.shown)}")

    def _why_no_answer(self) -> str:
        return f"{self.target} does not answer{_held_by(self.target)}"

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


class LiveSource(CaptureSource):
    """Keeps the newest picture only: what was not taken is replaced."""

    def _open(self) -> cv2.VideoCapture | None:
        """Opens the source; None after `_fail`."""
        raise NotImplementedError

    def _is_there(self) -> bool:
        raise NotImplementedError

    def _why_nothing_comes(self) -> str:
        raise NotImplementedError

    def _read(self) -> None:
        capture = self._open()
        if capture is None:
            return
        try:
            if not capture.isOpened():
                self._fail(self._why_it_does_not_open())
                return
            self._prepare(capture)
            self._read_while_there(capture)
        finally:
            capture.release()

    def _why_it_does_not_open(self) -> str:
        raise NotImplementedError

    def _prepare(self, capture: cv2.VideoCapture) -> None:
        pass

    def _read_while_there(self, capture: cv2.VideoCapture) -> None:
        misses = 0
        while not self._closing.is_set():
            read, image = capture.read()
            if read and image is not None and image.size:
                misses = 0
                self._offer(image, {"timestamp": datetime.now(UTC)})
                continue
            misses += 1
            if misses == MISSES_IN_A_ROW or not self._is_there():
                self._fail(self._why_nothing_comes())
                return
            self._closing.wait(PAUSE_AFTER_MISS_SECS)


class Webcam(LiveSource):
    kind = "webcam"

    def _open(self) -> cv2.VideoCapture:
        number = number_of(self.target)
        modes = modes_of(self.target)
        if modes:
            self._note(f"{self.target} offers {modes_text(modes)}")
        return cv2.VideoCapture(number, cv2.CAP_V4L2)

    def _prepare(self, capture: cv2.VideoCapture) -> None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])

    def _is_there(self) -> bool:
        return Path(self.target).exists()

    def _why_it_does_not_open(self) -> str:
        return f"{self.target} does not open{_held_by(self.target)}"

    def _why_nothing_comes(self) -> str:
        if not self._is_there():
            return f"{self.target} is gone (was it unplugged?)"
        if not self._answered:
            return f"{self.target} opens but shows nothing{_held_by(self.target)}"
        return f"{self.target} has stopped in the middle{_held_by(self.target)}"


class Stream(LiveSource):
    """A network camera, read by FFmpeg inside OpenCV."""

    kind = "stream"
    _connects = False
    """Whether the host has accepted a connection."""

    def _open(self) -> cv2.VideoCapture | None:
        problem = why_unreachable(urlsplit(self.target))
        if problem is not None:
            self._fail(f"{self.shown}: {problem}")
            return None
        self._connects = True
        # A second more than we wait, so that a silent server is always described by `_why_no_answer`.
        limits = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * (STREAM_ANSWER_SECS + 1))),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * (STREAM_ANSWER_SECS + 1))),
        ]
        return cv2.VideoCapture(self.target, cv2.CAP_FFMPEG, limits)

    def _is_there(self) -> bool:
        return True

    def _why_no_answer(self) -> str:
        if not self._connects:
            return (
                f"{self.shown} cannot be reached: check its address, and whether this machine is "
                "in the same network"
            )
        return (
            f"{self.shown} accepts connections but sends no picture: check the path in the address, "
            "and whether the camera serves others already; restarting it often helps"
        )

    def _why_it_does_not_open(self) -> str:
        return (
            f"{self.shown} answers but shows no pictures: check the path, and the user and password, "
            "in the address"
        )

    def _why_nothing_comes(self) -> str:
        if not self._answered:
            return self._why_it_does_not_open()
        return f"{self.shown} has stopped in the middle"


def why_unreachable(address: SplitResult) -> str | None:
    """Why no connection to a network camera can be made; None if one can, or nothing can be said."""
    if address.scheme.lower() not in PORTS:
        return None
    try:
        port = address.port or PORTS[address.scheme.lower()]
    except ValueError:
        return "the port in the address is not a number from 0 to 65535"
    if not address.hostname or port is None:
        return "the address has no host or port; it looks like rtsp://192.168.1.20:554/stream"
    try:
        socket.create_connection((address.hostname, port), timeout=STREAM_ANSWER_SECS).close()
    except ConnectionRefusedError:
        return f"{address.hostname} is there but serves nothing on port {port}: is the camera's server on?"
    except socket.gaierror:
        return (
            f"no machine named {address.hostname} is known here: check the name, or use its number"
        )
    except OSError as error:
        return f"{address.hostname} cannot be reached ({error.strerror or error}): is it on, and in this network?"
    return None


class Reel(CaptureSource):
    """Pictures in their order, one for each tick; at the end it begins again, or has ended."""

    def _show(self, image: Image, details: dict[str, Any]) -> None:
        """Offers a picture, and waits until it was taken."""
        self._offer(image, details)
        with self._changed:
            self._changed.wait_for(lambda: self._shot is None or self._closing.is_set())

    def _end(self, count: int) -> None:
        with self._changed:
            self._note(f"{Path(self.target).name} has ended after {count} pictures")
            self.ended = True
            self._changed.notify_all()


class Film(Reel):
    """A video file."""

    kind = "video"

    def _read(self) -> None:
        name = Path(self.target).name
        while not self._closing.is_set():
            shown, promised = self._play()
            if self._closing.is_set():
                return
            if not shown:
                self._fail(f"{name} {self._why_unreadable()}")
                return
            if shown < promised:
                again = "; again" if self._repeat else ""
                self._note(f"{name} ends after {shown} of {promised} pictures (damaged?){again}")
            if self.failure is None and not self._repeat:
                self._end(shown)
                return

    def _why_unreadable(self) -> str:
        try:
            size_bytes = Path(self.target).stat().st_size
        except OSError:
            return "is gone"
        if not size_bytes:
            return "is empty"
        return (
            "is not a video that OpenCV can read: was it copied or recorded to its end? "
            "ffmpeg -i OLD new.mp4 converts other formats"
        )

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
                self._show(image, {})
                shown += 1
            return shown, promised
        finally:
            capture.release()


class Folder(Reel):
    """The pictures of a folder by name, with numbers in their order; new ones are found in the next round."""

    kind = "folder"

    def _read(self) -> None:
        while not self._closing.is_set() and self.failure is None:
            shown = sum(self._show_file(path) for path in pictures_in(Path(self.target)))
            if self._closing.is_set():
                return
            if not shown:
                self._fail(self._why_there_are_none())
            elif not self._repeat:
                self._end(shown)
                return

    def _show_file(self, path: Path) -> bool:
        if self._closing.is_set():
            return False
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            self._note(f"{path.name} is not a picture that OpenCV can read: skipped")
            return False
        self._show(image, {"file": path.name})
        return True

    def _why_there_are_none(self) -> str:
        folder = Path(self.target)
        if not folder.is_dir():
            return f"the folder {folder} is gone"
        if pictures_in(folder):
            return f"OpenCV can read no picture in the folder {folder}"
        return f"the folder {folder} has no pictures ({', '.join(PICTURE_ENDINGS)})"


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, so that 9.png comes before 10.png."""
    found = [path for path in folder.glob("*") if path.suffix.lower() in PICTURE_ENDINGS]
    return sorted(found, key=lambda path: (_runs_of(path.stem), path.name))


def _runs_of(name: str) -> list[tuple[str, int]]:
    """Each run of other characters with the number behind it, to be compared as such."""
    runs = re.findall(r"(\D*)(\d*)", name)
    return [(text, int(digits or -1)) for text, digits in runs]


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

    Blocks for at most `ANSWER_SECS`, or `STREAM_ANSWER_SECS`, whatever a driver does. Raises CameraError where
    the source was asked for by name and has none.
    """
    width, height = settings.size
    if settings.source == "scene":
        return SceneSource(settings.size), f"rendered scene, {width}x{height}"
    devices = devices_of(settings.source, webcams())
    if is_stream(settings.source):
        source, why = _open_if_it_answers(Stream(settings.source, settings.size))
    elif devices is not None:
        source, why = _open_webcam(devices, settings)
    else:
        source, why = _open_path(settings)
    if source is None:
        return fall_back(settings, why), f"rendered scene, {width}x{height}, since {why}"
    line = f"{source.kind} {source.shown}, {width}x{height}"
    if source.native_size not in (None, settings.size):
        line += " (from {}x{})".format(*source.native_size)
    return source, line


def fall_back(settings: Settings, why: str) -> SceneSource:
    """The rendered scene, with a warning that says why; CameraError where it was not allowed."""
    if not settings.may_fall_back:
        raise CameraError(
            f"CAMERA_SOURCE={shown_source(settings.source)} has no pictures: {why}{'' if why.endswith('?') else '.'} "
            "With CAMERA_SOURCE=auto the rendered scene would take its place."
        )
    _warn(fall_back_text(why))
    return SceneSource(settings.size)


def fall_back_text(why: str) -> str:
    return f"{why}: the rendered scene takes its place"


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


def _open_path(settings: Settings) -> tuple[CaptureSource | None, str]:
    path = Path(settings.source).expanduser()
    if not path.exists():
        if path.suffix or path.parent.name:
            return None, f"there is no file {path}"
        return None, f"{path} is neither a file nor auto, webcam or scene"
    kind = Folder if path.is_dir() else Film
    return _open_if_it_answers(kind(str(path), settings.size, repeat=settings.repeat))


def _open_if_it_answers(source: CaptureSource) -> tuple[CaptureSource | None, str]:
    if source.wait_for_answer(answer_secs_of(source)):
        return source, ""
    source.close()
    return None, source.failure or ""


def answer_secs_of(source: CaptureSource) -> float:
    return STREAM_ANSWER_SECS if isinstance(source, Stream) else ANSWER_SECS


class Comeback:
    """Tries to open a webcam or stream that has stopped, until it shows pictures again. Never blocks."""

    def __init__(self, lost: LiveSource, settings: Settings) -> None:
        self._settings = settings
        self._lost = lost
        self._attempt: LiveSource | None = None
        self._closed: LiveSource = lost
        """The one before. It may hang in its driver, so nothing is opened before it has ended."""
        self._count = 0
        self._next_secs = time.monotonic() + RETRY_SECS
        self._reason = ""
        self._notes: list[str] = []

    def poll(self) -> LiveSource | None:
        """The source, once it has a picture."""
        now_secs = time.monotonic()
        if self._attempt is None:
            if now_secs >= self._next_secs and not self._closed.is_busy:
                self._next_secs = now_secs + RETRY_SECS
                self._attempt = self._open()
                self._give_up_secs = now_secs + answer_secs_of(self._lost)
            return None
        if now_secs >= self._give_up_secs:
            self._attempt.give_up()
        if self._attempt.failure is not None:
            self._say_once(self._attempt.failure)
            self._closed, self._attempt = self._attempt, None
            self._closed.close()
            return None
        return self._attempt if self._attempt.answered else None

    def notes(self) -> list[str]:
        notes, self._notes = self._notes, []
        return notes

    def close(self, wait_secs: float = 0.0) -> None:
        if self._attempt is not None:
            self._attempt.close(wait_secs)

    def _open(self) -> LiveSource | None:
        if isinstance(self._lost, Stream):
            return Stream(self._lost.target, self._settings.size)
        # When it is plugged in again a webcam may have another number.
        devices = devices_of(self._settings.source, webcams()) or []
        there = [device for device in devices if Path(device).exists()]
        if not there:
            return None
        self._count += 1
        return Webcam(there[self._count % len(there)], self._settings.size)

    def _say_once(self, reason: str) -> None:
        """A new reason is news for the user; the same one each second is not."""
        if reason not in (self._reason, self._lost.failure):
            self._notes.append(f"still waiting: {reason}")
        self._reason = reason


# ---------------------------------------------------------------- the operator


class Operator:
    """Sends a picture as ``image`` on each of its inputs, which are ticks; see the head of the file."""

    def __init__(self) -> None:
        # A detector may need the other cores; drawing the scene takes 3 ms on one.
        cv2.setNumThreads(1)
        self._settings = Settings.from_environment(os.environ)
        self._comeback: Comeback | None = None
        self._warned_of = ""
        """What was warned of when a source stopped; empty when it is back."""
        self._source, line = open_source(self._settings)
        # The last line is the one that is shown below the cell.
        self._say_notes()
        _say(line)

    def on_event(self, dora_event: dict[str, Any], send_output: Callable[..., None]) -> DoraStatus:
        if dora_event["type"] == "INPUT":
            self._look_for_lost_source()
            self._send_picture(send_output)
            if self._source.ended:
                self._say_notes()
                return DoraStatus.STOP
        elif dora_event["type"] == "STOP":
            self._source.close(CLOSE_SECS)
            if self._comeback is not None:
                self._comeback.close(CLOSE_SECS)
        return DoraStatus.CONTINUE

    def _send_picture(self, send_output: Callable[..., None]) -> None:
        shot = self._source.take()
        self._say_notes()
        if shot is None and self._source.failure is not None:
            self._replace_source(self._source.failure)
            shot = self._source.take()
        if shot is not None:
            width, height = self._settings.size
            metadata = {"width": width, "height": height, "encoding": "bgr8", **shot.details}
            send_output("image", pa.array(shot.image.ravel()), metadata)

    def _say_notes(self) -> None:
        for note in self._source.notes():
            _say(note)

    def _replace_source(self, why: str) -> None:
        """Something else takes the place of a source that has failed; CameraError if nothing may."""
        failed = self._source
        failed.close()
        may_come_back = self._settings.reconnect and isinstance(failed, LiveSource)
        if may_come_back and not self._settings.may_fall_back:
            way_out = (
                "check its power and network" if isinstance(failed, Stream) else "plug it in again"
            )
            self._warned_of = f"{why}: waiting until it is back; {way_out}"
            _warn(self._warned_of)
            self._source = NoPictures()
            _say(f"{why}; waiting until it is back")
        else:
            self._source = fall_back(self._settings, why)
            self._warned_of = fall_back_text(why)
            _say(f"{why}; the rendered scene takes its place")
        if may_come_back:
            self._comeback = Comeback(failed, self._settings)

    def _look_for_lost_source(self) -> None:
        if self._comeback is None:
            return
        found = self._comeback.poll()
        for note in self._comeback.notes():
            _say(note)
        if found is not None:
            self._source.close()
            self._source, self._comeback = found, None
            width, height = self._settings.size
            found.notes()  # what it offers was said before
            _withdraw(self._warned_of)
            _say(f"{found.kind} {found.shown} is back, {width}x{height}")


def _say(line: str) -> None:
    print(f"camera: {line}", flush=True)


def _warn(text: str) -> None:
    """dora_nb turns the operator's line amber and shows this there; elsewhere it is a line on stderr."""
    # A level beyond the stack. With a level on it, Python prints a line of this file below the warning, which
    # would then be the last line that the operator has printed.
    warnings.warn(text, stacklevel=1000)


def _withdraw(text: str) -> None:
    """What was warned of is over: dora_nb's line is no longer amber; elsewhere nothing happens."""
    withdraw = getattr(warnings.warn, "withdraw", None)
    if withdraw is not None:
        withdraw(text)
