"""Files that are not recordings, and MCAP files of other programs: one line each, and what can be read is read."""

from __future__ import annotations

import importlib
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import mcap.writer
import numpy as np
import pyarrow as pa
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.Log_pb2 import Log
from foxglove_schemas_protobuf.RawImage_pb2 import RawImage
from mcap_protobuf.schema import register_schema

import dora_nb
from dora_nb import cli
from dora_nb.errors import RecordingError
from dora_nb.recording.chunked_file import MAGIC

from .recordings import BEGIN, SECOND, record


def refused(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        dora_nb.Recording(path)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(path.parent), ".")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "./file is not a recording: it is empty."),
        (
            b"import numpy\n",
            "./file is not a recording: it does not begin like an MCAP file.",
        ),
        (
            MAGIC[:5],
            (
                "./file is not a recording: it does not begin like an MCAP file. "
                "It is cut off within its first bytes."
            ),
        ),
        (
            b"SQLite format 3\0...",
            (
                "./file is not a recording: it does not begin like an MCAP file. "
                "A ROS 2 bag is opened by its folder, which has a metadata.yaml."
            ),
        ),
        (
            b"#ROSBAG V2.0\n",
            (
                "./file is not a recording: it does not begin like an MCAP file. "
                "It is a ROS 1 bag: convert it with rosbags-convert."
            ),
        ),
    ],
    ids=["empty", "text", "cut", "sqlite", "ROS 1"],
)
def test_a_file_that_is_no_recording_is_one_line(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert refused(tmp_path / "file") == text


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "folder") == (
        "cannot open ./folder: it is a folder, and not a ROS 2 bag (it has no metadata.yaml)."
    )
    (tmp_path / "folder/run_0.mcap").touch()
    assert refused(tmp_path / "folder").endswith("Try the file in it: ./folder/run_0.mcap.")
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == "cannot open ./pipe: it is not a regular file."


def test_a_file_that_is_not_there_is_one_line_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(Path("drive.mcap")) == (
        f"there is no file drive.mcap. Relative paths begin at {tmp_path}."
    )
    assert refused(tmp_path / "drive.mcap") == "there is no file ./drive.mcap."
    Path("run.mcap").touch()
    assert refused(Path("rum.mcap")) == "there is no file rum.mcap. Did you mean 'run.mcap'?"


def test_the_folder_of_a_bag_is_not_recovered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bag").mkdir()
    for name in ("metadata.yaml", "bag_0.mcap"):
        (Path("bag") / name).touch()
    assert cli.main(["recover", "bag"]) == 1
    assert capsys.readouterr().err == (
        "dora-nb recover: cannot open bag: it is the folder of a ROS 2 bag. "
        "Try the file in it: bag/bag_0.mcap.\n"
    )


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    record(tmp_path / "run.mcap", [("a", pa.array([1]), {})])
    assert dora_nb.Recording("~/run.mcap").topics == ("a",)


def test_the_command_says_the_same_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("info", "recover"):
        assert cli.main([command, "run.mcap"]) == 1
        assert capsys.readouterr().err == (
            f"dora-nb {command}: there is no file run.mcap. Relative paths begin at {tmp_path}.\n"
        )


def test_a_header_alone_is_an_empty_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(MAGIC)
    rec = dora_nb.Recording(path)
    assert list(rec.messages()) == []
    assert "0 topics" in repr(rec)
    with pytest.raises(RecordingError, match=r"has no topic 'a'. It has no messages at all."):
        rec.take("a", 1)


def test_times_beyond_the_file_are_one_line(tmp_path: Path) -> None:
    path = record(tmp_path / "run.mcap", [("a", pa.array([at]), {}) for at in range(3)])
    rec = dora_nb.Recording(path)
    for call in (rec.messages, rec.events):
        with pytest.raises(RecordingError, match=r"run.mcap ends after 0.0 s; got start=99"):
            call("a", start=99)
    with pytest.raises(RecordingError, match="start must be a number of seconds, got nan"):
        rec.take("a", 1, start=float("nan"))
    assert len(list(rec.messages(start=-5, stop=1e9))) == 3
    assert rec["a"].at(-1) is None
    assert rec["a"].at(99)["value"].to_pylist() == [2]  # type: ignore[index]


# ----- other programs


class Foreign:
    """Writes an MCAP file as another program would."""

    def __init__(self, **options: Any) -> None:
        self.file = io.BytesIO()
        self.writer = mcap.writer.Writer(self.file, **options)
        self.writer.start()
        self.at = 0

    def add(
        self, topic: str, encoding: str, schema: tuple[str, str, bytes] | int, data: bytes
    ) -> None:
        schema_id = schema if isinstance(schema, int) else self.writer.register_schema(*schema)
        channel = self.writer.register_channel(topic, encoding, schema_id)
        for _ in range(2):
            nanos = BEGIN + self.at * SECOND
            self.writer.add_message(channel, nanos, data, nanos, self.at)
            self.at += 1

    def write_to(self, path: Path) -> Path:
        self.writer.finish()
        path.write_bytes(self.file.getvalue())
        return path


def everything() -> Foreign:
    foreign = Foreign()
    foreign.add("/json", "json", 0, json.dumps({"x": 1.5, "tags": ["a"]}).encode())
    log = register_schema(foreign.writer, Log)
    message = Log(level=Log.Level.ERROR, message="it fell", line=7)
    message.timestamp.FromNanoseconds(BEGIN)
    foreign.add("/log", "protobuf", log, message.SerializeToString())
    image = register_schema(foreign.writer, CompressedImage)
    picture = CompressedImage(format="jpeg", data=b"\xff\xd8\xff..", frame_id="front")
    picture.timestamp.FromNanoseconds(BEGIN)
    foreign.add("/image", "protobuf", image, picture.SerializeToString())
    raw = register_schema(foreign.writer, RawImage)
    pixels = bytes(range(18))
    picture = RawImage(width=3, height=2, encoding="rgb8", step=9, data=pixels)
    foreign.add("/raw", "protobuf", raw, picture.SerializeToString())
    foreign.add("/strange", "cbor", 0, b"\xa0")
    foreign.add("/ros1", "ros1", ("std_msgs/String", "ros1msg", b"string data"), b"")
    foreign.add("/untold", "cdr", 0, b"\0\1\0\0")
    return foreign


def test_another_programs_file_shows_what_it_holds(tmp_path: Path) -> None:
    rec = dora_nb.Recording(everything().write_to(tmp_path / "theirs.mcap"))
    assert [rec[topic].type for topic in rec.topics] == [
        "foxglove.CompressedImage (protobuf)",
        "json",
        "foxglove.Log (protobuf)",
        "foxglove.RawImage (protobuf)",
        "std_msgs/String (ros1)",
        "cbor",
        "cdr",
    ]
    assert rec.notes == (
        "/ros1: its messages are encoded as 'ros1', which is not known.",
        "/strange: its messages are encoded as 'cbor', which is not known.",
        "/untold: the file does not have the definition of its messages.",
    )
    with pytest.raises(RecordingError, match=r"cannot read /strange of theirs\.mcap: its messages"):
        rec.take("/strange", 1)


def test_another_programs_messages_are_read_where_they_can_be(tmp_path: Path) -> None:
    rec = dora_nb.Recording(everything().write_to(tmp_path / "theirs.mcap"))
    topics = [message.topic for message in rec.messages()]
    assert topics == ["/json"] * 2 + ["/log"] * 2 + ["/image"] * 2 + ["/raw"] * 2
    assert rec.take("/json", 1)[0]["value"].to_pylist() == [{"x": 1.5, "tags": ["a"]}]
    (row,) = rec.take("/log", 1)[0]["value"].to_pylist()
    assert (row["message"], row["level"], row["line"]) == ("it fell", 4, 7)
    assert row["timestamp"] == {"seconds": BEGIN // SECOND, "nanos": 0}
    (event,) = rec.take("/image", 1)
    assert event["value"].to_numpy().tobytes() == b"\xff\xd8\xff.."
    assert event["metadata"]["encoding"] == "jpeg"
    assert event["metadata"]["frame_id"] == "front"
    image = dora_nb.as_image(rec.take("/raw", 1)[0])
    assert image.tolist() == np.arange(18).reshape(2, 3, 3).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"use_chunking": False},
        {"use_chunking": False, "use_statistics": False},
        {"compression": mcap.writer.CompressionType.ZSTD},
        {"compression": mcap.writer.CompressionType.NONE},
        {"index_types": mcap.writer.IndexType.NONE},
        {"index_types": mcap.writer.IndexType.CHUNK},
        {"repeat_channels": False, "repeat_schemas": False},
        {"use_statistics": False, "use_summary_offsets": False},
        {"enable_crcs": False},
        {"chunk_size": 10},
    ],
    ids=str,
)
def test_files_of_any_layout_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    foreign = Foreign(**options)
    for at in range(5):
        foreign.add(f"/topic{at}", "json", 0, json.dumps([at]).encode())
    rec = dora_nb.Recording(foreign.write_to(tmp_path / "theirs.mcap"))
    assert [message.value.to_pylist() for message in rec.messages()] == [
        [at] for at in range(5) for _ in range(2)
    ]
    assert rec.notes == ()
    assert [rec[topic].count for topic in rec.topics] == [2] * 5
    assert list(rec["/topic1"].times) == [2, 3]
    whole = rec.path.read_bytes()
    for size in range(len(MAGIC), len(whole), 37):  # and cut files of any layout
        rec.path.write_bytes(whole[:size])
        cut = dora_nb.Recording(rec.path)
        found = [message.value.to_pylist()[0] for message in cut.messages()]
        assert found == sorted(found)
        assert sum(cut[topic].count for topic in cut.topics) == len(found)
        repr(cut)


def renamed_compression(content: bytes) -> bytes:
    """Every chunk, and every index of one, says that it is compressed by `brx`."""
    name = struct.pack("<I", 3)
    return content.replace(name + b"lz4", name + b"brx")


def test_an_unknown_compression_is_one_line(tmp_path: Path) -> None:
    path = record(tmp_path / "run.mcap", [("a", pa.array([1]), {})])
    path.write_bytes(renamed_compression(path.read_bytes()))
    assert refused(path) == (
        "run.mcap cannot be read: it is compressed with 'brx'; lz4 and zstd can be read."
    )


def test_chunks_of_an_unknown_compression_are_left_out(tmp_path: Path) -> None:
    foreign = Foreign(compression=mcap.writer.CompressionType.LZ4, chunk_size=10)
    for at in range(3):
        foreign.add(f"/topic{at}", "json", 0, json.dumps([at]).encode())
    path = foreign.write_to(tmp_path / "theirs.mcap")
    content = path.read_bytes()
    first = content.index(b"lz4")
    path.write_bytes(content[:first] + b"brx" + content[first + 3 :])
    rec = dora_nb.Recording(path)
    assert len(list(rec.messages())) == 5
    assert rec.notes == ("1 chunk is left out: the compression 'brx' is not known",)


def test_protobuf_without_its_package_says_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = everything().write_to(tmp_path / "theirs.mcap")
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name.startswith("google"):
            raise ModuleNotFoundError("No module named 'google'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    rec = dora_nb.Recording(path)
    with pytest.raises(RecordingError, match=r"messages in protobuf need .*dora-nb\[foxglove\]"):
        rec.take("/log", 1)
    assert len(list(rec.messages())) == 2  # what can be read


def test_definitions_and_messages_that_are_damaged_are_said(tmp_path: Path) -> None:
    foreign = Foreign()
    foreign.add("/a", "protobuf", ("foxglove.Log", "protobuf", b"\xff\xff"), b"")
    foreign.add("/b", "cdr", ("std_msgs/msg/Mine", "ros2msg", b"%%%"), b"\0\1\0\0")
    foreign.add(
        "/c", "cdr", ("std_msgs/msg/String", "ros2msg", b"string data"), b"\0\1\0\0\xff\xff"
    )
    foreign.add("/d", "json", 0, b"{")
    foreign.add("/e", "json", 0, b'[1, "a"]')
    log = register_schema(foreign.writer, Log)
    foreign.add("/f", "protobuf", log, b"\xff\xff\xff")
    foreign.add("/g", "arrow", 0, b"")
    foreign.add("/h", "arrow-ipc", 0, b"\xff\xff\xff\xff\x10\0\0\0")
    rec = dora_nb.Recording(foreign.write_to(tmp_path / "theirs.mcap"))
    assert list(rec.messages()) == []
    notes = "\n".join(rec.notes)
    for topic in "cdefh":
        assert f"2 of 2 messages of /{topic} cannot be decoded" in notes
    for topic in "abg":
        assert f"/{topic}: " in notes
    repr(rec)
