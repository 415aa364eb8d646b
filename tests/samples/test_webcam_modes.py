"""What a driver answers becomes a list of sizes and rates; the driver here is a fake one."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import webcam_modes
from webcam_modes import Mode, modes_of, modes_text, name_of

FORMATS = [b"MJPG", b"YUYV"]
SIZES = {b"MJPG": [(640, 480), (1920, 1080)], b"YUYV": [(640, 480)]}
PERIODS = {
    (b"MJPG", 640, 480): [(1, 30), (1, 15), (1001, 30000)],
    (b"MJPG", 1920, 1080): [(1, 30)],
    (b"YUYV", 640, 480): [],
}
CAPTURE, DISCRETE, STEPWISE = 1, 1, 3

Driver = Callable[[int, int, bytes], bytes]


def entry(values: list, index: int) -> object:
    if index >= len(values):
        raise OSError(errno.EINVAL, "the end of the list")
    return values[index]


def answer(_: int, request: int, question: bytes) -> bytes:
    """As the kernel answers: the question, with the rest filled in."""
    size = request >> 16 & 0x3FFF
    assert len(question) == size
    reply = bytearray(question)
    if request == webcam_modes.QUERY_CAPABILITIES:
        reply[16:32] = b"HD Pro Webcam".ljust(16, b"\0")
        return bytes(reply)
    index, second = struct.unpack_from("=II", question)
    if request == webcam_modes.LIST_FORMATS:
        assert second == CAPTURE
        reply[44:48] = entry(FORMATS, index)
        return bytes(reply)
    form = second.to_bytes(4, "little")
    if request == webcam_modes.LIST_SIZES:
        struct.pack_into("=III", reply, 8, DISCRETE, *entry(SIZES[form], index))
        return bytes(reply)
    assert request == webcam_modes.LIST_INTERVALS
    place = (form, *struct.unpack_from("=II", question, 8))
    struct.pack_into("=III", reply, 16, DISCRETE, *entry(PERIODS[place], index))
    return bytes(reply)


def stepwise(descriptor: int, request: int, question: bytes) -> bytes:
    """A driver that scales to any size, at any rate."""
    reply = bytearray(question)
    if request == webcam_modes.LIST_SIZES:
        struct.pack_into("=7I", reply, 8, STEPWISE, 160, 1280, 2, 120, 720, 2)
    elif request == webcam_modes.LIST_INTERVALS:
        struct.pack_into("=7I", reply, 16, STEPWISE, 1, 60, 1, 5, 1, 60)
    else:
        return answer(descriptor, request, question)
    return bytes(reply)


def endless(descriptor: int, request: int, question: bytes) -> bytes:
    """A driver whose lists never end."""
    reply = bytearray(answer(descriptor, request, bytes(4) + question[4:]))
    reply[:4] = question[:4]
    return bytes(reply)


@pytest.fixture
def device(tmp_path: Path) -> str:
    path = tmp_path / "video0"
    path.touch()
    return str(path)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], None]:
    return lambda driver: monkeypatch.setattr(webcam_modes.fcntl, "ioctl", driver)


def test_the_sizes_and_rates_of_each_format(device: str, use: Callable[[Driver], None]) -> None:
    use(answer)
    modes = modes_of(device)
    assert modes == [
        Mode("MJPG", 640, 480, (30.0, 29.97, 15.0)),
        Mode("MJPG", 1920, 1080, (30.0,)),
        Mode("YUYV", 640, 480, ()),
    ]
    assert modes_text(modes) == "MJPG 640x480 at 30, 29.97, 15; 1920x1080 at 30 | YUYV 640x480"
    assert name_of(device) == "HD Pro Webcam"


def test_a_webcam_of_any_size_gives_its_smallest_and_largest(
    device: str, use: Callable[[Driver], None]
) -> None:
    use(stepwise)
    assert modes_text(modes_of(device)) == (
        "MJPG 160x120 at 60, 5; 1280x720 at 60, 5 | YUYV 160x120 at 60, 5; 1280x720 at 60, 5"
    )


def test_a_driver_whose_lists_never_end_holds_nothing_up(
    device: str, use: Callable[[Driver], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webcam_modes, "MAX_ENTRIES", 3)
    use(endless)
    assert modes_of(device) == [Mode("MJPG", 640, 480, (30.0,))] * 9


def test_what_is_not_a_webcam_offers_nothing(device: str) -> None:
    for path in (device, "/dev/null", "/dev/no/such/device"):
        assert modes_of(path) == []
        assert name_of(path) == ""


def test_the_command_lists_each_webcam(
    device: str,
    use: Callable[[Driver], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(device).parent
    for name in ("video10", "video2", "videos"):
        (folder / name).touch()
    monkeypatch.setattr(webcam_modes, "DEVICES", folder)
    assert webcam_modes.main() == 1
    assert capsys.readouterr() == ("", "no webcam was found\n")
    use(answer)
    assert webcam_modes.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (HD Pro Webcam): ")[0] for line in lines] == [
        str(folder / name) for name in ("video0", "video2", "video10")
    ]
    assert lines[0].endswith(": MJPG 640x480 at 30, 29.97, 15; 1920x1080 at 30 | YUYV 640x480")
