"""A disk that is full, and a file that cannot be written: one line, and what was written before is readable."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import dora_nb
from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter
from dora_nb.recording.recover import recover

from .recordings import BEGIN, SECOND

WRITE_TO_THE_LIMIT = """
import json, resource, sys
from pathlib import Path
import pyarrow as pa
from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
writer = RecordingWriter(Path(sys.argv[1]))
errors = []
for at in range(1000):
    nanos = 1_700_000_000_000_000_000 + at * 10**9
    try:
        writer.write("a", pa.array([at] * 50), {}, publish_nanos=nanos, log_nanos=nanos)
    except RecordingError as error:
        errors.append(str(error))
        if len(errors) == 2:
            break
writer.close(counts={})
print(json.dumps({"errors": errors, "size": writer.size_bytes}))
"""


def test_a_file_that_has_reached_its_limit_is_whole(tmp_path: Path) -> None:
    """The system writes a part of the last chunk, as it does on a disk that is full."""
    path = tmp_path / "run.mcap"
    done = subprocess.run(
        [sys.executable, "-c", WRITE_TO_THE_LIMIT, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    first, second = json.loads(done.stdout)["errors"]
    assert first == (
        f"the recording ended, since {path} cannot be written: File too large. "
        "What was recorded before can be read."
    )
    assert second == f"the recording {path} has ended."
    rec = dora_nb.Recording(path)
    found = [each.value[0].as_py() for each in rec.messages()]
    assert found == list(range(len(found)))
    assert len(found) > 100
    assert rec["a"].count == len(found)
    assert path.stat().st_size <= 100_000


class FullDisk:
    """Stands in for `os.writev`, on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.writev

    def __call__(self, file: int, views: Sequence[Any]) -> int:
        data = b"".join(views)[: self.room]
        if not data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return self.write(file, [data])


def record_until_full(path: Path) -> tuple[int, RecordingError | None]:
    """Writes twelve messages, each in a chunk of its own; returns how many fitted, and the error."""
    num_written = 0
    try:
        writer = RecordingWriter(path)
        for at in range(12):
            nanos = BEGIN + at * SECOND
            writer.write(f"topic{at % 3}", pa.array([at]), {}, publish_nanos=nanos, log_nanos=nanos)
            writer.flush_if_due(nanos + SECOND)
            num_written += 1
        writer.close()
    except RecordingError as error:
        return num_written, error
    return num_written, None


def test_wherever_the_disk_is_full_whole_chunks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.mcap"
    for room in range(60, 7000, 60):
        path.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", FullDisk(room))
            num_written, error = record_until_full(path)
        if error is None:
            break
        assert str(error) == (
            f"the recording ended, since {path} cannot be written: No space left on device. "
            "What was recorded before can be read."
        )
        if num_written:
            rec = dora_nb.Recording(path)
            assert [each.value[0].as_py() for each in rec.messages()] == list(range(num_written))
            assert "behind" not in repr(rec), "a part of a record is left in the file"
    assert room > 4000
    assert num_written == 12


def test_a_summary_that_fits_ends_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.mcap"
    writer = RecordingWriter(path)
    writer.write("a", pa.array([1]), {}, publish_nanos=BEGIN, log_nanos=BEGIN)
    writer.flush_if_due(BEGIN + SECOND)
    disk = FullDisk(room=2_000)
    monkeypatch.setattr(os, "writev", disk)
    monkeypatch.setattr(os, "ftruncate", giving_room_back(disk))
    large = pa.array([int.from_bytes(os.urandom(8)) for _ in range(100_000)], pa.uint64())
    with pytest.raises(RecordingError, match="No space left"):
        writer.write("b", large, {}, publish_nanos=BEGIN, log_nanos=BEGIN)
    assert [each.value.to_pylist() for each in dora_nb.Recording(path).messages()] == [[1]]
    assert dora_nb.Recording(path).notes == ()


def test_a_recovery_without_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.mcap"
    assert record_until_full(path) == (12, None)
    monkeypatch.setattr(os, "writev", FullDisk(room=1000))
    with pytest.raises(RecordingError) as caught:
        recover(path)
    out = tmp_path / "run-recovered.mcap"
    assert caught.value.message == f"{out} cannot be written: No space left on device."
    assert [each.name for each in tmp_path.iterdir()] == ["run.mcap"]


def giving_room_back(disk: FullDisk) -> Any:
    cut = os.ftruncate

    def ftruncate(file: int, size: int) -> None:
        disk.room += os.fstat(file).st_size - size
        cut(file, size)

    return ftruncate


def test_a_device_that_is_full_is_one_line() -> None:
    with pytest.raises(RecordingError, match="/dev/full cannot be written: No space left"):
        RecordingWriter(Path("/dev/full"), overwrite=True)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing/run.mcap", "No such file"),
        ("folder", "Is a directory"),
        ("pipe", "No such device"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, name: str, problem: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordingError, match=f"cannot write .*: {problem}") as caught:
        RecordingWriter(tmp_path / name, overwrite=True)
    assert "\n" not in str(caught.value)


def test_overwriting_leaves_the_old_file_to_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    for value in (1, 2):
        with RecordingWriter(path, overwrite=True) as writer:
            writer.write("a", pa.array([value]), {}, publish_nanos=BEGIN, log_nanos=BEGIN)
        if value == 1:
            old = dora_nb.Recording(path)
    assert [each.value[0].as_py() for each in old.messages()] == [1]
    assert [each.value[0].as_py() for each in dora_nb.Recording(path).messages()] == [2]
