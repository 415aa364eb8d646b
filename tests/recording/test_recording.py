"""What a recording shows: its table, gaps, times, Arrow tables; and how much of the file it reads for that."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import dora_nb
from dora_nb import cli
from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter

from .recordings import BEGIN, SECOND, record


def regular(path: Path) -> Path:
    """10 s of a camera at 10 Hz with a silence of 2 s, commands at 5 Hz, and two lines of a log."""
    with RecordingWriter(path, images="jpeg") as writer:
        for tick in range(100):
            nanos = BEGIN + tick * SECOND // 10
            if not 40 <= tick < 60:
                image = pa.array(np.full(48 * 64 * 3, tick, np.uint8))
                metadata = {"width": 64, "height": 48, "encoding": "bgr8"}
                writer.write("camera/image", image, metadata, publish_nanos=nanos, log_nanos=nanos)
            if tick % 2 == 0:
                writer.write(
                    "robot/command",
                    pa.array([{"left": tick * 0.5, "right": 1}]),
                    {"frame": tick},
                    publish_nanos=nanos,
                    log_nanos=nanos,
                )
            if tick in (1, 70):
                writer.write("dora/logs", pa.array(["x"]), {}, publish_nanos=nanos, log_nanos=nanos)
        for node, generation in (("robot", 1), ("robot", 2), ("camera", 1)):
            cell = f"# {node} {generation}".encode()
            writer.attach(
                f"cells/{node}/{generation}.py",
                cell,
                media_type="text/x-python",
                time_nanos=BEGIN + generation * SECOND,
            )
        writer.attach(
            "edits/robot/2.json",
            b'{"node": "robot", "generation": 2, "time_nanos": 5, "way": "in place"}',
            media_type="application/json",
            time_nanos=BEGIN,
        )
        writer.attach("dataflow.yml", b"nodes: []", media_type="text/yaml", time_nanos=BEGIN)
        writer.close(
            counts={
                "camera/image": {"received": 80, "lost": 20},
                "robot/command": {"received": 50, "lost": None},
            }
        )
    return path


def test_the_table_shows_topics_types_counts_rates_and_gaps(tmp_path: Path) -> None:
    rec = dora_nb.Recording(regular(tmp_path / "run.mcap"))
    head, *lines = repr(rec).splitlines()
    assert head.startswith("run.mcap: 9.9 s from 2023-11-14 22:13:20 UTC, 3 topics, ")
    assert lines == [
        "topic          type                                count      rate  gaps",
        "camera/image   bgr8 as JPEG                           80   7.98 Hz  1 (longest 2.1 s)",
        "dora/logs      string                                  2  0.145 Hz",
        "robot/command  struct<left: double, right: int64>     50      5 Hz",
        "camera/image: 20 messages were lost while recording",
    ]


def test_gaps_are_silences_of_a_topic_with_a_rhythm(tmp_path: Path) -> None:
    rec = dora_nb.Recording(regular(tmp_path / "run.mcap"))
    ((start, duration),) = rec["camera/image"].gaps
    assert (start, duration) == (pytest.approx(3.9), pytest.approx(2.1))
    assert rec["robot/command"].gaps == rec["dora/logs"].gaps == ()
    assert rec["camera/image"].rate_hz == pytest.approx(79 / 9.9)
    assert rec["dora/logs"].rate_hz == pytest.approx(1 / 6.9)


def test_bursts_have_no_gaps(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with RecordingWriter(path) as writer:
        for burst in range(5):
            for at in range(4):
                nanos = BEGIN + burst * SECOND + at * 1000
                writer.write("a", pa.array([at]), {}, publish_nanos=nanos, log_nanos=nanos)
    assert dora_nb.Recording(path)["a"].gaps == ()


def test_what_was_attached_is_read(tmp_path: Path) -> None:
    rec = dora_nb.Recording(regular(tmp_path / "run.mcap"))
    assert [(cell.node, cell.generation, cell.text) for cell in rec.cells()] == [
        ("robot", 1, "# robot 1"),
        ("robot", 2, "# robot 2"),
        ("camera", 1, "# camera 1"),
    ]
    newest, first = rec.cell("robot"), rec.cell("robot", 1)
    assert newest is not None
    assert first is not None
    assert (newest.generation, first.generation) == (2, 1)
    assert newest.time_nanos == BEGIN + 2 * SECOND
    assert rec.cell("robot", 3) is rec.cell("arm") is None
    assert [edit["way"] for edit in rec.edits()] == ["in place"]
    assert rec.dataflow_yml == "nodes: []"
    assert rec.counts["robot/command"] == {"received": 50, "lost": None}
    assert rec.other_attachments() == ("dataflow.yml", "counts.json")


def test_the_command_shows_the_table_and_what_is_attached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = regular(tmp_path / "run.mcap")
    assert cli.main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(repr(dora_nb.Recording(path)))
    assert shown.splitlines()[-3:] == [
        "cells (generations): robot (1, 2), camera (1)",
        "edits: 1",
        "attached: dataflow.yml, counts.json",
    ]


def test_single_elements_are_a_flat_table(tmp_path: Path) -> None:
    table = dora_nb.Recording(regular(tmp_path / "run.mcap")).table("robot/command")
    assert table.column_names == ["publish_time", "log_time", "left", "right", "metadata"]
    assert table.num_rows == 50
    assert table["left"].to_pylist()[:3] == [0, 1, 2]
    assert table["metadata"][1].as_py() == '{"frame": 2}'
    assert table["log_time"].cast(pa.int64())[1].as_py() == BEGIN + SECOND // 5
    numbers = [("a", pa.array([at * 0.5]), {}) for at in range(3)]
    table = dora_nb.Recording(record(tmp_path / "b.mcap", numbers)).table("a")
    assert table["value"].to_pylist() == [0, 0.5, 1]


def test_arrays_are_a_list_for_each_message(tmp_path: Path) -> None:
    sent = [("a", pa.array([1.0] * length, pa.float64()), {}) for length in (2, 0, 3)]
    table = dora_nb.Recording(record(tmp_path / "a.mcap", sent)).table("a")
    assert table["value"].to_pylist() == [[1, 1], [], [1, 1, 1]]


def test_a_table_of_several_types_is_one_line(tmp_path: Path) -> None:
    sent: list[tuple[str, Any, dict[str, Any]]] = [
        ("a", pa.array([1]), {}),
        ("a", pa.array(["x"]), {}),
    ]
    rec = dora_nb.Recording(record(tmp_path / "a.mcap", sent))
    with pytest.raises(RecordingError, match=r"several types \(int64, string\)"):
        rec.table("a")


def test_events_are_what_the_views_and_converters_take(tmp_path: Path) -> None:
    rec = dora_nb.Recording(regular(tmp_path / "run.mcap"))
    (event,) = rec.take("camera/image", 1, start=1.0)
    assert dora_nb.as_image(event).shape == (48, 64, 3)
    assert abs(int(dora_nb.as_image(event).mean()) - 10) < 3
    table = dora_nb.as_pandas(rec.take("robot/command", 5))
    assert list(table["left"]) == [0, 1, 2, 3, 4]
    boxes = [("d/b", pa.array([{"bbox": [1.0, 2, 3, 4], "conf": [0.5], "labels": ["cat"]}]), {})]
    (event,) = dora_nb.Recording(record(tmp_path / "b.mcap", boxes)).take("d/b", 1)
    assert dora_nb.as_boxes(event)[0, :5].tolist() == [1, 2, 3, 4, 0.5]


def test_the_newest_event_at_a_time_is_found(tmp_path: Path) -> None:
    rec = dora_nb.Recording(regular(tmp_path / "run.mcap"))
    found = [rec["robot/command"].at(seconds) for seconds in (0, 0.19, 0.2, 5.05, 99)]
    assert [event["metadata"]["frame"] for event in found if event] == [0, 0, 2, 50, 98]


class CountedReads:
    """Counts the bytes that are read of files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_bytes = 0
        self._read = os.pread
        monkeypatch.setattr(os, "pread", self._counted)

    def _counted(self, file: int, length: int, offset: int) -> bytes:
        data = self._read(file, length, offset)
        self.num_bytes += len(data)
        return data


def test_opening_and_seeking_read_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.mcap"
    noise = pa.array(np.random.default_rng(1).integers(0, 255, 100_000, np.uint8))
    with RecordingWriter(path) as writer:
        for at in range(300):
            nanos = BEGIN + at * SECOND // 10
            writer.write("a", noise, {}, publish_nanos=nanos, log_nanos=nanos)
    size = path.stat().st_size
    assert size > 30_000_000
    reads = CountedReads(monkeypatch)
    rec = dora_nb.Recording(path)
    assert reads.num_bytes < 50_000
    assert len(rec["a"].times) == 300
    repr(rec)
    assert reads.num_bytes < 100_000
    assert len(rec.take("a", 1, start=25.0)) == 1
    assert rec["a"].at(12.3) is not None
    assert reads.num_bytes < 2_000_000
    iterator = rec.messages()
    for _ in range(10):
        next(iterator)
    assert reads.num_bytes < 4_000_000, "messages are read when they are asked for"


def test_a_cut_file_is_opened_without_reading_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.mcap"
    noise = pa.array(np.random.default_rng(1).integers(0, 255, 100_000, np.uint8))
    with RecordingWriter(path) as writer:
        for at in range(300):
            nanos = BEGIN + at * SECOND // 10
            writer.write("a", noise, {}, publish_nanos=nanos, log_nanos=nanos)
    os.truncate(path, path.stat().st_size // 2)
    reads = CountedReads(monkeypatch)
    rec = dora_nb.Recording(path)
    assert 100 < rec["a"].count < 200
    assert reads.num_bytes < 1_500_000


def test_several_threads_read_one_recording(tmp_path: Path) -> None:
    rec = dora_nb.Recording(regular(tmp_path / "run.mcap"))
    expected = list(rec.messages())
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(list(rec.messages()) == expected))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
