"""``%dora record``, ``keep`` and ``save`` in a real shell, on one dataflow that runs for all of these tests."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mcap.reader
import pytest

from dora_nb import Dataflow, Recording
from dora_nb.cells.record_line import duration_secs
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.errors import RecordingError
from dora_nb.magics._record import record_text, size_text
from dora_nb.status import RecordedTopicStatus, RecorderStatus

from ..engines.conftest import CellDataflow
from ..waiting import wait_until

TICKER = """
import pyarrow as pa
class Operator:
    number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("count", pa.array([self.number]))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[CellDataflow]:
    with CellDataflow() as made:
        made.cell("ticker", TICKER, inputs={"tick": "dora/timer/millis/5"}, outputs=("count",))
        made.start()
        # The kernel's threads that a recorder needs begin here: each test must leave what it has found.
        made.keep(1)
        made.keep(None)
        yield made


@pytest.fixture
def dataflow(
    running: CellDataflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CellDataflow:
    """In place of the fake one of these folder's other tests."""
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(running))
    monkeypatch.chdir(tmp_path)
    running._run.recorder = None
    return running


@pytest.fixture
def in_words(notebook: Any) -> Callable[[str], str]:
    """Runs a line; returns what it says, with N for each number that differs from run to run."""

    def run(line: str) -> str:
        ran = notebook.run(line)
        assert ran.error is None, ran
        assert ran.stderr == ""
        sized = re.sub(r"\b[\d.]+ [KM]?B\b", "N B", ran.stdout)
        return re.sub(r"(?<![\w.])[\d.,]+(?= (?:s|messages|Hz)\b)|(?<=  )[\d,]+(?=  )", "N", sized)

    return run


def test_a_recording_from_its_begin_to_its_end(
    dataflow: CellDataflow, in_words: Callable[[str], str]
) -> None:
    assert in_words("%dora record") == (
        "nothing is being recorded; %dora record FILE.mcap begins a recording\n"
    )
    assert in_words("%dora record run.mcap ticker/count dora/logs") == (
        "run.mcap: records ticker/count, dora/logs until %dora record stop\n"
    )
    recorder = dataflow.recorder
    assert recorder is not None
    wait_until(lambda: recorder.status().messages > 5)
    (said, topic) = in_words("%dora record").splitlines()
    assert said == "recording run.mcap: N s, N messages, N B, none lost"
    assert re.fullmatch(r"  ticker/count +N +N Hz", topic), topic
    status = in_words("%dora status")
    del status
    assert "recorder (dora_nb) [running, 2 topics]" in str(dataflow.draw())
    said = in_words("%dora record stop")
    assert said.startswith("recorded run.mcap: N s, N messages, N B, none lost\n  ticker/count")
    assert "recorder" not in str(dataflow.draw())
    assert len(Recording("run.mcap")["ticker/count"]) == recorder.status().messages
    assert in_words("%dora record stop").startswith("recorded run.mcap")
    assert in_words("%dora record run.mcap --overwrite --images jpeg --quality 70") == (
        "run.mcap: records all topics until %dora record stop\n"
    )
    in_words("%dora record stop")


def test_the_stop_of_the_dataflow_says_what_it_has_recorded(
    in_words: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with CellDataflow() as dataflow:
        monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(dataflow))
        dataflow.cell("ticker", TICKER, inputs={"tick": "dora/timer/millis/5"}, outputs=("count",))
        dataflow.start()
        in_words("%dora record run.mcap")
        wait_until(lambda: dataflow.recorder.status().messages > 5)  # type: ignore[union-attr]
        stopped, recorded = in_words("%dora stop").splitlines()
        assert stopped == "stopped"
        assert recorded == "recorded run.mcap: N s, N messages, N B, none lost"
        assert in_words("%dora stop").count("\n") == 1


def test_a_misspelt_stop_is_not_a_file(dataflow: CellDataflow, notebook: Any) -> None:
    ran = notebook.run("%dora record stpo")
    assert str(ran.error).startswith("'stpo' looks like a misspelt 'stop': write stop, or 'stpo'")
    assert dataflow.recorder is None
    assert not Path("stpo").exists()


def test_a_recording_that_never_began(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Dataflow()
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(waiting))
    notebook.run("%dora record run.mcap")
    assert str(notebook.run("%dora record b.mcap").error).startswith("run.mcap is")
    assert notebook.run("%dora record stop").stdout == (
        "run.mcap: nothing was recorded, since the dataflow did not run\n"
    )
    assert not Path("run.mcap").exists()


def test_a_recording_for_foxglove(
    dataflow: CellDataflow, in_words: Callable[[str], str], notebook: Any
) -> None:
    in_words("%dora record run.mcap ticker/count --foxglove")
    recorder = dataflow.recorder
    assert recorder is not None
    wait_until(lambda: recorder.status().messages > 5)
    in_words("%dora record stop")
    with Path("run.mcap").open("rb") as file:
        found = list(mcap.reader.make_reader(file).iter_messages(topics=["/ticker/count"]))
    assert len(found) == len(Recording("run.mcap")["ticker/count"]) > 5
    assert json.loads(found[0][2].data).keys() == {"value"}


def test_foxglove_without_its_package_is_one_line(
    dataflow: CellDataflow, notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name.startswith("foxglove_schemas_protobuf"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    ran = notebook.run("%dora record run.mcap --foxglove")
    assert isinstance(ran.error, RecordingError)
    assert "%pip install 'dora-nb[foxglove]'" in str(ran.error)
    assert not Path("run.mcap").exists()
    assert dataflow.recorder is None


def test_the_table_of_states_has_the_recorder(dataflow: CellDataflow, notebook: Any) -> None:
    notebook.run("%dora record run.mcap")
    (table,) = notebook.run("%dora status").displayed
    text = table["text/plain"]
    assert re.search(r"recorder \(dora_nb\) +running +[12] +3 topics", text), text
    notebook.run("%dora record stop")


def test_the_last_seconds(dataflow: CellDataflow, in_words: Callable[[str], str]) -> None:
    assert in_words("%dora keep") == "nothing is kept; %dora keep 30s keeps the last 30 seconds\n"
    assert in_words("%dora keep off") == "nothing was kept\n"
    assert in_words("%dora keep 30s --limit 100MB") == (
        "keeps the last N s of all topics, N B at most; %dora save FILE.mcap saves them\n"
    )
    kept = dataflow.kept
    assert kept is not None
    assert (kept.secs, kept.limit_bytes) == (30, 10**8)
    wait_until(lambda: any(each.received > 5 for each in dataflow.kept.topics))  # type: ignore[union-attr]
    (said, *topics) = in_words("%dora keep").splitlines()
    assert said == "keeps the last N s: N s, N B of N B"
    assert topics[0].startswith("  ticker/count")
    assert in_words("%dora save last.mcap") == ("saved last.mcap: the last N s, N messages, N B\n")
    assert "ticker/count" in Recording("last.mcap").topics
    assert in_words("%dora keep off") == "nothing is kept any more\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "record there.mcap",
            "there.mcap already exists. Choose another name, or write over it with --overwrite.",
        ),
        (
            "record run.mp4 --overwrite",
            "cannot write run.mp4: a recording is an MCAP file, and .mp4 is another type. Name it run.mcap.",
        ),
        ("record .", "cannot write .: it is a folder. Give a file's name."),
        (
            "record run.mcap ticker/cuont",
            "there is no topic 'ticker/cuont'. Did you mean 'ticker/count'?",
        ),
        ("record run.mcap --images jpg", "invalid --images 'jpg'. Did you mean 'jpeg'?"),
        ("record run.mcap --quality 101", "--quality must be at most 100, got 101."),
        (
            "record stop run.mcap",
            "'run.mcap' is unexpected. Usage: %dora record [FILE.mcap [TOPIC ...] | stop] [--images FORM] [--quality Q] [--foxglove] [--overwrite].",
        ),
        ("record stop", "nothing is being recorded: %dora record FILE.mcap begins a recording."),
        ("keep soon", "'soon' is not a duration: write it as 30s, or 2min; TOPICs follow it."),
        ("keep 2h", "'2h' is not a duration: write it as 30s, or 2min; TOPICs follow it."),
        ("keep 30s ticker/cuont", "there is no topic 'ticker/cuont'. Did you mean 'ticker/count'?"),
        (
            "keep 30s --limit lots",
            "--limit must be a size from 1MB to 1TB, got 'lots'. Write it as 500MB, or 2GB.",
        ),
        (
            "keep 30s --limit 10KB",
            "--limit must be a size from 1MB to 1TB, got '10KB'. Write it as 500MB, or 2GB.",
        ),
        (
            "keep 5min ticker/count --limit 0",
            "--limit must be a size from 1MB to 1TB, got '0'. Write it as 500MB, or 2GB.",
        ),
        ("save", "the FILE.mcap is missing: %dora save FILE.mcap [--overwrite]."),
        (
            "save a.mcap b.mcap",
            "'b.mcap' is unexpected. Usage: %dora save FILE.mcap [--overwrite].",
        ),
        (
            "save last.mcap",
            "nothing is kept that could be saved: %dora keep 30s keeps the last 30 seconds.",
        ),
    ],
)
def test_bad_lines(dataflow: CellDataflow, notebook: Any, line: str, error: str) -> None:
    Path("there.mcap").touch()
    shown = notebook.refused(f"%dora {line}").splitlines()
    assert shown[-1].partition(": ")[2] == error
    assert "Traceback" not in "".join(shown)
    assert list(Path().glob("*.mcap")) == [Path("there.mcap")]


@pytest.mark.parametrize(
    ("text", "secs"),
    [
        ("30s", 30),
        ("30", 30),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("2min", 120),
        ("0s", None),
        ("-3s", None),
        ("s", None),
    ],
)
def test_durations(text: str, secs: float | None) -> None:
    assert duration_secs(text) == secs


def test_losses_are_said(tmp_path: Path) -> None:
    topics = (
        RecordedTopicStatus("camera/image", 1234, 5, 29.97),
        RecordedTopicStatus("arm/angle", 7, 0, 1000.0),
    )
    status = RecorderStatus(tmp_path / "run.mcap", "failed", 12.34, 45_600_000, topics, "it broke.")
    assert record_text(status).splitlines() == [
        "it broke.",
        f"recorded {tmp_path / 'run.mcap'}: 12.3 s, 1,241 messages, 45.6 MB, 5 lost",
        "  camera/image      1,234      30 Hz  5 lost",
        "  arm/angle             7   1,000 Hz",
    ]
    unknown = RecorderStatus(
        Path("run.mcap"), "recording", topics=(RecordedTopicStatus("a/b", 1, None, 1.0),)
    )
    assert "losses unknown" in record_text(unknown)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (12_345_678, "12.3 MB"),
        (999_960, "1 MB"),
        (5 * 10**12, "5e+03 GB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size_text(number) == text
