"""What is written comes back equal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

import dora_nb
from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND


def test_messages_come_back_in_the_order_of_their_receipt(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with RecordingWriter(path) as writer:
        for at in range(200):
            writer.write(
                "imu/accel" if at % 2 else "camera/image",
                pa.array([at, at + 1], pa.int16()),
                {"frame": at, "name": "é", "scale": 1.0, "ok": True, "bounds": [1.5, float("inf")]},
                publish_nanos=BEGIN + at * SECOND // 100 - 5,
                log_nanos=BEGIN + at * SECOND // 100,
            )
        writer.attach("cells/a/2.py", b"y", media_type="text/x-python", time_nanos=BEGIN)
        writer.attach("cells/a/1.py", b"x", media_type="text/x-python", time_nanos=BEGIN)
    rec = dora_nb.Recording(path)
    assert rec.topics == ("camera/image", "imu/accel")
    assert rec.start_nanos == BEGIN
    assert rec.duration_secs == 1.99
    assert rec.notes == ()
    messages = list(rec.messages())
    assert [each.value[0].as_py() for each in messages] == list(range(200))
    third = messages[3]
    assert (third.topic, third.sequence) == ("imu/accel", 1)
    assert third.value.equals(pa.array([3, 4], pa.int16()))
    assert third.log_nanos - third.publish_nanos == 5
    assert third.metadata == {
        "timestamp": datetime.fromtimestamp(third.publish_nanos / 1e9, UTC),
        "frame": 3,
        "name": "é",
        "scale": 1.0,
        "ok": True,
        "bounds": [1.5, float("inf")],
    }
    assert [type(third.metadata[key]) for key in ("frame", "scale", "ok")] == [int, float, bool]
    part = rec.take("imu/accel", 3, start=1.0)
    assert [event["value"][0].as_py() for event in part] == [101, 103, 105]
    assert part[0]["type"], part[0]["id"] == ("INPUT", "imu/accel")
    assert len(rec["imu/accel"]) == len(list(rec["imu/accel"])) == 100
    assert len(list(rec.messages(start=0.5, stop=0.75))) == 25
    newest = rec.cell("a")
    assert newest is not None
    assert newest.text == "y"


def test_a_file_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    writer = RecordingWriter(path)
    for at in range(10):
        writer.write(
            "a/b", pa.array([at]), {}, publish_nanos=BEGIN, log_nanos=BEGIN + at * SECOND // 10
        )
    assert [each.value[0].as_py() for each in dora_nb.Recording(path).messages()] == list(range(6))
    writer.flush_if_due(BEGIN + 2 * SECOND)
    rec = dora_nb.Recording(path)
    assert len(rec["a/b"]) == 10
    assert rec.notes == ("cut after 0.9 s: it was killed, or is still being written",)
    writer.close(counts={"a/b": {"received": 10, "lost": 0}})
    rec = dora_nb.Recording(path)
    assert rec.notes == ()
    assert rec.counts == {"a/b": {"received": 10, "lost": 0}}


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_text("precious")
    with pytest.raises(RecordingError, match="already exists"):
        RecordingWriter(path)
    assert path.read_text() == "precious"
    RecordingWriter(path, overwrite=True).close()
    assert dora_nb.Recording(path).topics == ()


def test_an_unknown_topic_gets_the_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with RecordingWriter(path) as writer:
        writer.write("cam/image", pa.array([1]), {}, publish_nanos=BEGIN, log_nanos=BEGIN)
    with pytest.raises(RecordingError, match="Did you mean 'cam/image'"):
        dora_nb.Recording(path)["cam/imgae"]


def test_a_clock_that_was_set_back_keeps_no_chunk_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with RecordingWriter(path) as writer:
        writer.write("a", pa.array([1]), {}, publish_nanos=BEGIN, log_nanos=BEGIN)
        writer.flush_if_due(BEGIN - 3600 * SECOND)
        assert len(list(dora_nb.Recording(path).messages())) == 1
