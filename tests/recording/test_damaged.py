"""Files that were cut at any byte or damaged at any byte: all whole chunks are read, and the rest is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import mcap.reader
import pyarrow as pa
import pytest

import dora_nb
from dora_nb import cli
from dora_nb.errors import RecordingError
from dora_nb.recording import RecordingWriter
from dora_nb.recording.chunked_file import MAGIC
from dora_nb.recording.reader import RecordingFile
from dora_nb.recording.recover import recover

from ..waiting import killed_at_the_end
from .recordings import BEGIN, SECOND

NUM_CHUNKS = 4
CHUNK_MESSAGES = 3


def written(path: Path, *, close: bool = True) -> Path:
    """Four chunks of three messages on two topics, with attachments between them."""
    writer = RecordingWriter(path)
    writer.attach("dataflow.yml", b"nodes: []", media_type="text/yaml", time_nanos=BEGIN)
    for at in range(NUM_CHUNKS * CHUNK_MESSAGES):
        nanos = BEGIN + (at // CHUNK_MESSAGES) * SECOND + at % CHUNK_MESSAGES
        writer.write(
            "ab"[at % 2],
            pa.array([at], pa.int8()) if at < 6 else pa.array([float(at)]),
            {"n": at},
            publish_nanos=nanos,
            log_nanos=nanos,
        )
        if at % CHUNK_MESSAGES == CHUNK_MESSAGES - 1:
            writer.flush_if_due(nanos + SECOND)
            writer.attach(f"cells/a/{at}.py", b"x", media_type="text/x-python", time_nanos=nanos)
    if close:
        writer.close(counts={"a": {"received": 6, "lost": 0}})
    else:
        writer._file.abandon()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("whole") / "run.mcap").read_bytes()


@pytest.fixture(scope="module")
def chunk_ends(whole: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    path = tmp_path_factory.mktemp("ends") / "run.mcap"
    path.write_bytes(whole)
    return [block.offset + block.length for block in RecordingFile(path).index.blocks]


def some_bytes(content: bytes) -> list[int]:
    """Each boundary of records and the bytes beside it, and every 31st byte."""
    near = {at + by for at in boundaries(content) for by in (-1, 0, 1)}
    return sorted((near | {*range(0, len(content), 31)}) & {*range(len(MAGIC), len(content))})


def boundaries(content: bytes) -> Iterator[int]:
    at = len(MAGIC)
    while at < len(content) - len(MAGIC):
        yield at
        at += 9 + int.from_bytes(content[at + 1 : at + 9], "little")


def values(path: Path) -> list[int]:
    return [int(each.value[0].as_py()) for each in dora_nb.Recording(path).messages()]


def every_message_of(chunks: Iterable[int]) -> list[int]:
    return [chunk * CHUNK_MESSAGES + at for chunk in chunks for at in range(CHUNK_MESSAGES)]


def test_a_file_cut_anywhere_gives_all_whole_chunks(
    tmp_path: Path, whole: bytes, chunk_ends: list[int]
) -> None:
    assert len(chunk_ends) == NUM_CHUNKS
    assert len(list(boundaries(whole))) > 30
    check_cuts(tmp_path / "run.mcap", whole, chunk_ends, some_bytes(whole))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(4))
def test_a_file_cut_at_any_byte_gives_all_whole_chunks(
    tmp_path: Path, whole: bytes, chunk_ends: list[int], first: int
) -> None:
    every_fourth = range(len(MAGIC) + first, len(whole), 4)
    check_cuts(tmp_path / "run.mcap", whole, chunk_ends, every_fourth)


def check_cuts(path: Path, whole: bytes, chunk_ends: list[int], sizes: Iterable[int]) -> None:
    for size in sizes:
        path.write_bytes(whole[:size])
        num_whole = sum(end <= size for end in chunk_ends)
        assert values(path) == every_message_of(range(num_whole)), size
        rec = dora_nb.Recording(path)
        assert rec.notes[0].startswith("cut after "), size
        assert "killed" in repr(rec), size
        assert sum(len(rec[topic].times) for topic in rec.topics) == num_whole * CHUNK_MESSAGES


def test_a_file_damaged_anywhere_loses_one_chunk_at_most(
    tmp_path: Path, whole: bytes, chunk_ends: list[int]
) -> None:
    check_damage(tmp_path / "run.mcap", whole, chunk_ends, some_bytes(whole))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(4))
def test_a_file_damaged_at_any_byte_loses_one_chunk_at_most(
    tmp_path: Path, whole: bytes, chunk_ends: list[int], first: int
) -> None:
    every_fourth = range(len(MAGIC) + first, len(whole), 4)
    check_damage(tmp_path / "run.mcap", whole, chunk_ends, every_fourth)


def check_damage(path: Path, whole: bytes, chunk_ends: list[int], places: Iterable[int]) -> None:
    everything = every_message_of(range(NUM_CHUNKS))
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        found = values(path)
        rec = dora_nb.Recording(path)
        list(rec.messages())
        if found == everything:
            continue
        (chunk,) = [place for place, end in enumerate(chunk_ends) if at < end][:1]
        assert found == every_message_of(each for each in range(NUM_CHUNKS) if each != chunk), at
        assert rec.notes == ("1 chunk is left out: damaged",), at


def test_an_unfinished_file_damaged_anywhere_never_raises(tmp_path: Path) -> None:
    unfinished = written(tmp_path / "open.mcap", close=False).read_bytes()
    check_unfinished(tmp_path / "run.mcap", unfinished, some_bytes(unfinished))


@pytest.mark.soak
def test_an_unfinished_file_damaged_at_any_byte_never_raises(tmp_path: Path) -> None:
    unfinished = written(tmp_path / "open.mcap", close=False).read_bytes()
    check_unfinished(tmp_path / "run.mcap", unfinished, range(len(MAGIC), len(unfinished)))


def check_unfinished(path: Path, unfinished: bytes, places: Iterable[int]) -> None:
    for at in places:
        path.write_bytes(unfinished[:at] + bytes([unfinished[at] ^ 0xFF]) + unfinished[at + 1 :])
        rec = dora_nb.Recording(path)
        assert set(values(path)) <= set(range(NUM_CHUNKS * CHUNK_MESSAGES))
        assert "cut after" in repr(rec)


def test_the_zeros_that_a_power_cut_leaves_are_said(tmp_path: Path) -> None:
    path = written(tmp_path / "run.mcap", close=False)
    with path.open("ab") as file:
        file.write(bytes(5000))
    rec = dora_nb.Recording(path)
    assert len(list(rec.messages())) == NUM_CHUNKS * CHUNK_MESSAGES
    assert rec.notes == (
        "cut after 3.0 s, 5,000 bytes behind cannot be read: it was killed, or is still being written",
    )


WRITE_UNTIL_KILLED = """
import itertools, sys, time
from pathlib import Path
import pyarrow as pa
from dora_nb.recording import RecordingWriter
writer = RecordingWriter(Path(sys.argv[1]))
begin = time.time_ns()
for at in itertools.count():
    now = begin + at * 1_000_000  # a message each millisecond
    writer.write("a", pa.array([at]), {}, publish_nanos=now, log_nanos=now)
    print(at, flush=True)
"""


def test_a_killed_writer_has_lost_less_than_a_second(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with killed_at_the_end(
        subprocess.Popen(
            [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 2_000:
                break
        process.kill()
        last = int([line, *process.stdout][-1])
    found = values(path)
    assert found == list(range(len(found)))
    assert last - len(found) < 1_000
    assert len(dora_nb.Recording(path)["a"]) == len(found)


def test_recover_writes_a_whole_file(tmp_path: Path, whole: bytes, chunk_ends: list[int]) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(whole[: chunk_ends[2] + 5])
    assert recover(path).path == tmp_path / "run-recovered.mcap"
    assert {each.name for each in tmp_path.iterdir()} == {"run.mcap", "run-recovered.mcap"}
    rec = dora_nb.Recording(tmp_path / "run-recovered.mcap")
    assert rec.notes == ()
    assert [int(each.value[0].as_py()) for each in rec.messages()] == list(range(9))
    assert [each.metadata["n"] for each in rec.messages()] == list(range(9))
    assert [cell.generation for cell in rec.cells()] == [2, 5]
    assert rec.dataflow_yml == "nodes: []"
    with rec.path.open("rb") as file:  # another reader is content too
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        assert len(list(reader.iter_messages())) == 9
        assert next(each.name for each in reader.iter_attachments()) == "dataflow.yml"
        assert [each.name for each in reader.iter_metadata()] == ["dora_nb"]


def test_recover_leaves_damaged_chunks_out(
    tmp_path: Path,
    whole: bytes,
    chunk_ends: list[int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    at = chunk_ends[1] - 3
    Path("run.mcap").write_bytes(whole[:at] + b"???" + whole[at + 3 :])
    assert cli.main(["recover", "run.mcap", "good.mcap"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "good.mcap: 9 messages, 3.0 s\n"
    assert shown.err == "run.mcap: 1 chunk is left out: damaged\n"
    assert values(Path("good.mcap")) == [0, 1, 2, 6, 7, 8, 9, 10, 11]
    assert cli.main(["recover", "run.mcap", "good.mcap"]) == 1
    assert "good.mcap already exists" in capsys.readouterr().err


def test_a_file_that_cannot_be_recovered_leaves_nothing(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(whole)
    with pytest.raises(RecordingError, match=r"cannot write .*No such file"):
        recover(path, tmp_path / "missing" / "out.mcap")
    with pytest.raises(RecordingError, match=r"a recording is an MCAP file, and .mp4 is another"):
        recover(path, tmp_path / "out.mp4")
    assert [each.name for each in tmp_path.iterdir()] == ["run.mcap"]


def test_times_that_go_backwards_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    seconds = [10, 11, 12, 3, 4, 5, 13, 1]
    with RecordingWriter(path) as writer:
        for second in seconds:
            nanos = BEGIN + second * SECOND
            writer.write("a", pa.array([second]), {}, publish_nanos=nanos, log_nanos=nanos)
    rec = dora_nb.Recording(path)
    assert values(path) == sorted(seconds)
    assert rec.start_nanos == BEGIN + SECOND
    assert rec.duration_secs == 12
    assert [event["value"][0].as_py() for event in rec.events("a", start=3, stop=11)] == [
        4,
        5,
        10,
        11,
    ]
    assert list(rec["a"].times) == [0, 2, 3, 4, 9, 10, 11, 12]
