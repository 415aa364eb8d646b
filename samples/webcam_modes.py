"""The sizes and rates that webcams offer, as the kernel's Video4Linux2 lists them.

    python webcam_modes.py
    /dev/video0 (HD Pro Webcam C920): MJPG 640x480 at 30, 24, 15; 1920x1080 at 30 | YUYV 640x480 at 30

Needs only the standard library. It opens a device for a moment and reads no pictures, so it also works while
another program uses the webcam.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Requests and structs of linux/videodev2.h: _IOWR('V', NUMBER, SIZE).
QUERY_CAPABILITIES = 0x80685600
LIST_FORMATS = 0xC0405602
LIST_SIZES = 0xC02C564A
LIST_INTERVALS = 0xC034564B
DEVICES = Path("/dev")
VIDEO_CAPTURE = 1
DISCRETE = 1
MAX_ENTRIES = 200
"""A driver that never says that a list has ended must not keep us here."""


@dataclass(frozen=True)
class Mode:
    """A size that a webcam offers in one pixel format."""

    format: str
    """``MJPG`` (compressed, and often the only one that is quick at large sizes), ``YUYV`` and so on."""
    width: int
    height: int
    rates: tuple[float, ...]
    """Pictures per second, the highest first; empty if the driver does not say."""

    def __str__(self) -> str:
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        return f"{self.width}x{self.height}" + (f" at {rates}" if rates else "")


def modes_of(device: str) -> list[Mode]:
    """What a device offers, in the order of its driver; empty if it is not a webcam, or does not say.

    Blocks for as long as the driver needs to open the device.
    """
    try:
        opened = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return [
            Mode(_fourcc(pixels), width, height, tuple(_rates(opened, pixels, width, height)))
            for pixels in _formats(opened)
            for width, height in _sizes(opened, pixels)
        ]
    finally:
        os.close(opened)


def name_of(device: str) -> str:
    """What the webcam calls itself; empty if it has no name."""
    try:
        opened = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        answer = _ask(opened, QUERY_CAPABILITIES, bytes(104))
    finally:
        os.close(opened)
    return "" if answer is None else answer[16:48].split(b"\0")[0].decode(errors="replace")


def modes_text(modes: list[Mode]) -> str:
    """The modes in one line, by format."""
    by_format: dict[str, list[Mode]] = {}
    for mode in modes:
        by_format.setdefault(mode.format, []).append(mode)
    return " | ".join(f"{form} {'; '.join(map(str, each))}" for form, each in by_format.items())


def _formats(opened: int) -> Iterator[int]:
    for index in range(MAX_ENTRIES):
        answer = _ask(
            opened, LIST_FORMATS, struct.pack("=II", index, VIDEO_CAPTURE).ljust(64, b"\0")
        )
        if answer is None:
            return
        yield struct.unpack_from("=I", answer, 44)[0]


def _sizes(opened: int, pixels: int) -> Iterator[tuple[int, int]]:
    for index in range(MAX_ENTRIES):
        answer = _ask(opened, LIST_SIZES, struct.pack("=II", index, pixels).ljust(44, b"\0"))
        if answer is None:
            return
        kind, *numbers = struct.unpack_from("=I6I", answer, 8)
        if kind == DISCRETE:
            yield numbers[0], numbers[1]
        else:  # any size from the smallest to the largest
            smallest_width, largest_width, _, smallest_height, largest_height, _ = numbers
            yield from ((smallest_width, smallest_height), (largest_width, largest_height))
            return


def _rates(opened: int, pixels: int, width: int, height: int) -> list[float]:
    rates = set()
    for index in range(MAX_ENTRIES):
        asked = struct.pack("=IIII", index, pixels, width, height).ljust(52, b"\0")
        answer = _ask(opened, LIST_INTERVALS, asked)
        if answer is None:
            break
        kind, *numbers = struct.unpack_from("=I6I", answer, 16)
        # A period is a fraction of seconds. If any period is possible, the shortest and the longest are given.
        periods = [numbers[:2]] if kind == DISCRETE else [numbers[:2], numbers[2:4]]
        rates |= {round(below / above, 2) for above, below in periods if above}
        if kind != DISCRETE:
            break
    return sorted(rates, reverse=True)


def _ask(opened: int, request: int, question: bytes) -> bytes | None:
    """The answer of the driver; None if there is none, as at the end of a list."""
    try:
        return fcntl.ioctl(opened, request, question)
    except OSError:
        return None


def _fourcc(pixels: int) -> str:
    return pixels.to_bytes(4, "little").decode("ascii", errors="replace").strip()


def main() -> int:
    devices = [path for path in DEVICES.glob("video*") if path.name[5:].isdecimal()]
    listed = 0
    for device in sorted(devices, key=lambda path: int(path.name[5:])):
        modes = modes_of(str(device))
        if modes:
            listed += 1
            print(f"{device} ({name_of(str(device))}): {modes_text(modes)}")
    if not listed:
        print("no webcam was found", file=sys.stderr)
    return 0 if listed else 1


if __name__ == "__main__":
    sys.exit(main())
