"""Recordings of real dataflows: what is in the file, also after a kill of whatever takes part."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dora_nb import Recording
from dora_nb.child.tap import Tapped
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.engines.embedded import Session
from dora_nb.engines.embedded._recorder_node import QUEUE_SIZE
from dora_nb.engines.recorder_sinks import new_recorder
from dora_nb.engines.recorder_words import RecorderState, RecordTo, decode_state
from dora_nb.errors import DataflowStateError, GraphError, RecordingError
from dora_nb.graph.sources import TopicSource
from dora_nb.recording import RecordingWriter
from dora_nb.status import NodeStatus, State

from ..waiting import wait_until
from .conftest import CellDataflow, Kernel

COUNTER = """
import pyarrow as pa

class Operator:
    number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("count", pa.array([self.number]))
        elif dora_event["type"] == "STOP":
            send_output("count", pa.array([-self.number]))
"""
TICKS = {"tick": "dora/timer/millis/2"}
BURSTS = """
import pyarrow as pa

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            for number in range(dora_event["value"][0].as_py()):
                send_output("number", pa.array([number]))
            print("sent", flush=True)
"""

READER = """
from dora import Node

for event in Node():
    if event["type"] == "INPUT":
        print("heard", flush=True)
"""


@pytest.fixture
def run_mcap(tmp_path: Path) -> Path:
    return tmp_path / "run.mcap"


def recorder_of(dataflow: Dataflow) -> NodeStatus:
    """The state of the process that records."""
    (status,) = dataflow.service_status()
    return status


def kill_recorder(dataflow: Dataflow, signal_number: int) -> None:
    process_id = recorder_of(dataflow).process_id
    assert process_id is not None
    os.kill(process_id, signal_number)


def values(recording: Recording, topic: str) -> list[Any]:
    return [each.value[0].as_py() for each in recording.messages(topic)]


def readable(path: Path) -> list[int]:
    """What a file holds now of the counter; nothing while it has not begun."""
    try:
        return values(Recording(path), "first/count")
    except RecordingError:
        return []


def test_all_is_recorded_from_the_first_message_to_the_last(
    dataflow: CellDataflow, run_mcap: Path
) -> None:
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    recorder = dataflow.record(run_mcap)
    assert recorder.status().state == "waiting"
    assert not run_mcap.exists()
    dataflow.start()
    wait_until(lambda: recorder.status().messages > 3, otherwise=recorder.status)
    dataflow.cell("second", COUNTER + "\nprint('hello')", inputs=TICKS, outputs=("count",))
    edited = COUNTER + "\n# edited"
    dataflow.cell("first", edited, inputs=TICKS, outputs=("count",))
    session = dataflow._run.session
    assert session is not None
    session.send(TopicSource("notebook", "unread"), pa.array(["heard"]), {"mine": 7})
    slider = dataflow.controls.add("notebook/speed", value=0.5)
    slider.set(1.5)
    session.set_param("first", "gain", "3")
    session.delete_param("first", "gain")
    seen = ("second/count", "notebook/unread", "notebook/speed", "dora/params", "dora/logs")
    wait_until(
        lambda: set(seen) <= {each.topic for each in recorder.status().topics},
        otherwise=recorder.status,
    )
    assert recorder_of(dataflow).generation == 1
    assert recorder.status().state == "recording"
    dataflow.stop()
    status = recorder.status()
    assert (status.state, status.lost, status.error) == ("ended", 0, None)
    assert dataflow.service_status() == []

    recording = Recording(run_mcap)
    assert recording.notes == ()
    for topic in ("first/count", "second/count"):
        counted = values(recording, topic)
        assert counted == [*range(1, len(counted)), -(len(counted) - 1)]
        assert recording.counts[topic] == {"received": len(counted), "lost": 0}
    assert status.messages == sum(len(recording[topic]) for topic in recording.topics)
    (unread,) = recording.messages("notebook/unread")
    assert (unread.value.to_pylist(), unread.metadata["mine"]) == (["heard"], 7)
    assert values(recording, "notebook/speed")[-1] == 1.5
    changes = [
        (each.value.to_pylist(), each.metadata["deleted"])
        for each in recording.messages("dora/params")
    ]
    assert changes == [(["3"], False), ([None], True)]
    assert any('"hello"' in line for line in values(recording, "dora/logs"))
    for message in recording.messages():
        assert message.publish_nanos <= message.log_nanos
    cells = {(each.node, each.generation): each.text for each in recording.cells()}
    assert set(cells) == {("first", 1), ("first", 2), ("second", 1)}
    assert cells["first", 2].startswith("%%dora_operator first --inputs tick=dora/timer/millis/2")
    assert cells["first", 2].endswith("# edited")
    (edit,) = recording.edits()
    assert (edit["node"], edit["generation"], edit["way"]) == ("first", 2, "in_place")
    assert "id: first" in str(recording.dataflow_yml)


def test_some_topics_and_a_stop_of_the_recording_alone(
    dataflow: CellDataflow, run_mcap: Path
) -> None:
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    dataflow.cell("second", COUNTER, inputs=TICKS, outputs=("count",))
    dataflow.start()
    with dataflow.record(run_mcap, ["second/count"]) as recorder:
        wait_until(lambda: recorder.status().messages > 10, otherwise=recorder.status)
        with pytest.raises(DataflowStateError, match=r"run.mcap is being recorded already"):
            dataflow.record(run_mcap, overwrite=True)
    assert dataflow.running
    assert dataflow.status("second").outputs == ()
    recording = Recording(run_mcap)
    assert recording.topics == ("second/count",)
    counted = values(recording, "second/count")
    assert counted == list(range(counted[0], counted[0] + len(counted)))
    with pytest.raises(RecordingError, match=r"run.mcap already exists"):
        dataflow.record(run_mcap)
    again = dataflow.record(run_mcap, overwrite=True)
    wait_until(lambda: again.status().messages > 10, otherwise=again.status)
    dataflow.stop()
    # A recording belongs to one run.
    dataflow.start()
    assert dataflow.service_status() == []
    assert {"first/count", "second/count"} <= set(Recording(run_mcap).topics)


def test_a_recorder_that_is_held_up_loses_nothing(dataflow: CellDataflow, run_mcap: Path) -> None:
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    dataflow.start()
    recorder = dataflow.record(run_mcap)
    wait_until(lambda: recorder.status().messages > 3, otherwise=recorder.status)
    kill_recorder(dataflow, signal.SIGSTOP)
    sent = dataflow.status("first").outputs[0].sent
    wait_until(lambda: dataflow.status("first").outputs[0].sent > sent + 100)
    # With what waits of a node that is gone, and of an output that is.
    dataflow.remove("first")
    kill_recorder(dataflow, signal.SIGCONT)
    status = recorder.stop()
    assert status.lost == 0
    counted = values(Recording(run_mcap), "first/count")
    assert len(counted) > 100
    assert counted[:-1] == list(range(counted[0], counted[0] + len(counted) - 1))
    assert counted[-1] == -counted[-2]


def test_what_it_cannot_take_is_counted(dataflow: CellDataflow, run_mcap: Path) -> None:
    dataflow.cell("bursts", BURSTS, inputs={"go": "notebook/go"}, outputs=("number",))
    dataflow.start()
    recorder = dataflow.record(run_mcap, ["bursts/number"])
    kill_recorder(dataflow, signal.SIGSTOP)
    number = QUEUE_SIZE + 1000
    # The node goes on: nothing of a recording holds it up.
    dataflow.send("notebook/go", number)
    wait_until(lambda: dataflow.said_by("bursts") == ["sent"])
    kill_recorder(dataflow, signal.SIGCONT)
    status = recorder.stop()
    (topic,) = status.topics
    assert topic.lost == status.lost == 1000
    assert topic.received == QUEUE_SIZE
    recording = Recording(run_mcap)
    assert recording.counts["bursts/number"] == {"received": QUEUE_SIZE, "lost": 1000}
    assert values(recording, "bursts/number")[-1] == number - 1


def test_a_disk_that_is_full_ends_the_recording_alone(
    dataflow: CellDataflow, run_mcap: Path
) -> None:
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    dataflow.start()
    recorder = dataflow.record(run_mcap)
    wait_until(lambda: bool(readable(run_mcap)))
    process_id = recorder_of(dataflow).process_id
    assert process_id is not None
    room = run_mcap.stat().st_size + 5000
    resource.prlimit(process_id, resource.RLIMIT_FSIZE, (room, room))
    wait_until(lambda: recorder.status().state == "failed", otherwise=recorder.status)
    assert recorder.status().error == (
        f"the recording ended, since {run_mcap} cannot be written: File too large."
    )
    assert not recorder.active
    failed = recorder_of(dataflow)
    assert failed.state is State.FAILED
    assert str(failed.error).startswith("the recording ended, since")
    (unseen,) = dataflow.front_end.unseen_failures()
    assert (unseen.node, unseen.message) == ("recorder", recorder.status().error)
    assert dataflow.front_end.unseen_failures() == []
    wait_until(lambda: recorder_of(dataflow).process_id is None)
    before = dataflow.status("first").events
    wait_until(lambda: dataflow.status("first").events > before)
    assert dataflow.status("first").state is State.RUNNING
    counted = readable(run_mcap)
    assert counted == list(range(counted[0], counted[0] + len(counted)))


def test_a_recorder_that_is_killed_leaves_a_readable_file(
    dataflow: CellDataflow, run_mcap: Path, tmp_path: Path
) -> None:
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    dataflow.start()
    recorder = dataflow.record(run_mcap)
    wait_until(lambda: len(readable(run_mcap)) > 10)
    kill_recorder(dataflow, signal.SIGKILL)
    wait_until(lambda: not recorder.active)
    assert recorder.status().state == "failed"
    assert (
        recorder.status().error == "the recorder ended: its process was killed by SIGKILL (Killed)."
    )
    # It had counted more than it had written.
    assert recorder.status().lost is None
    assert (recorder.stop().state, recorder.stop().lost) == ("failed", None)
    counted = readable(run_mcap)
    assert counted == list(range(counted[0], counted[0] + len(counted)))
    # The user's nodes notice nothing, and another recording begins.
    assert dataflow.status("first").generation == 1
    again = dataflow.record(tmp_path / "again.mcap")
    wait_until(lambda: again.status().messages > 10, otherwise=again.status)
    assert again.stop().error is None
    assert Recording(tmp_path / "again.mcap").notes == ()


RECORDS = """
recorder = dataflow.record({path!r})
while recorder.status().messages < 10:
    time.sleep(0.01)
print("recording", flush=True)
input()
"""


@pytest.fixture
def recording_kernel(start_kernel: Callable[..., Kernel], run_mcap: Path) -> Kernel:
    """A kernel that records into `run_mcap`."""
    first = {"source": COUNTER, "inputs": TICKS, "outputs": ["count"]}
    kernel = start_kernel({"first": first}, RECORDS.format(path=str(run_mcap)))
    assert kernel.line() == "recording"
    return kernel


def test_a_stopped_kernel_loses_nothing(recording_kernel: Kernel, run_mcap: Path) -> None:
    os.kill(recording_kernel.process.pid, signal.SIGSTOP)
    before = len(readable(run_mcap))
    wait_until(lambda: len(readable(run_mcap)) > before + 500)
    os.kill(recording_kernel.process.pid, signal.SIGCONT)
    recording_kernel.go_on()
    recording_kernel.process.wait()
    recording = Recording(run_mcap)
    assert recording.counts["first/count"]["lost"] == 0
    counted = values(recording, "first/count")
    assert counted[:-1] == list(range(counted[0], counted[0] + len(counted) - 1))


@pytest.mark.parametrize(
    "kill", [0, *(pytest.param(number, marks=pytest.mark.soak) for number in range(1, 10))]
)
def test_a_killed_kernel_leaves_a_whole_file(
    recording_kernel: Kernel, run_mcap: Path, kill: int
) -> None:
    os.kill(recording_kernel.process.pid, signal.SIGKILL)
    recording_kernel.process.wait()

    def is_whole() -> bool:
        return Recording(run_mcap).counts.get("first/count") is not None

    wait_until(is_whole)
    recording = Recording(run_mcap)
    assert recording.notes == ()
    counted = values(recording, "first/count")
    assert recording.counts["first/count"] == {"received": len(counted), "lost": 0}
    # And what the operator sends at its STOP, if it is not later than half a second.
    numbers = [each for each in counted if each > 0]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert counted[len(numbers) :] in ([], [-numbers[-1]])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["there.mcap"], r"there.mcap already exists. Choose another name"),
        (["."], r"cannot write \.: it is a folder. Give a file's name."),
        (
            ["none/run.mcap"],
            r"cannot write none/run.mcap: the folder .*none does not exist. Make it first.",
        ),
        (
            ["run.csv"],
            r"cannot write run.csv: a recording is an MCAP file, and .csv is another type",
        ),
        (["/proc/run.mcap"], r"cannot write /proc/run.mcap: No such file or directory."),
        (
            ["run.mcap", ["first/cuont"]],
            r"there is no topic 'first/cuont'. Did you mean 'first/count'",
        ),
        (
            ["run.mcap", ["dora/parms"]],
            r"'dora/parms' cannot be recorded. Did you mean 'dora/params'",
        ),
        (["run.mcap", "first/count"], r"topics must be a list of topics, got a text"),
        (["run.mcap", None, "jpg"], r"images must be raw or jpeg, got 'jpg'. Did you mean 'jpeg'"),
        (["run.mcap", None, "jpeg", 0], r"quality must be a whole number from 1 to 100, got 0"),
    ],
)
def test_bad_input_of_record(
    dataflow: CellDataflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[Any],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mcap").touch()
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    names = dict(zip(("images", "quality"), arguments[2:], strict=False))
    with pytest.raises((RecordingError, GraphError), match=error) as raised:
        dataflow.record(*arguments[:2], **names)
    assert "\n" not in str(raised.value)
    assert [each.name for each in tmp_path.iterdir()] == ["there.mcap"]
    assert dataflow.recorder is None


def test_on_dora_rs_taps_record(dataflow: CellDataflow, run_mcap: Path, tmp_path: Path) -> None:
    ticks = {"tick": "dora/timer/millis/20"}
    dataflow.cell("first", COUNTER, inputs=ticks, outputs=("count",))
    dataflow.cell("reader", READER, inputs={"go": "notebook/go"}, kind="script")
    recorder = dataflow.record(run_mcap)
    dataflow.start("dora")
    wait_until(lambda: recorder.status().messages > 10, otherwise=recorder.status)
    dataflow.send("notebook/go", "now")
    dataflow.params("reader")["gain"] = 3
    topics = {"first/count", "notebook/go", "dora/params", "dora/logs"}
    wait_until(
        lambda: topics <= {each.topic for each in recorder.status().topics},
        otherwise=recorder.status,
    )
    (status,) = dataflow.service_status()
    assert (status.name, status.state) == ("recorder", State.RUNNING)
    assert recorder.status().lost is None
    dataflow.stop()
    assert recorder.status().state == "ended"
    recording = Recording(run_mcap)
    assert any("losses are unknown" in note for note in recording.notes)
    assert recording.counts["first/count"]["lost"] is None
    # In order; what dora-rs drops on a busy machine is missing.
    counted = [number for number in values(recording, "first/count") if number > 0]
    assert counted == sorted(set(counted))
    assert values(recording, "notebook/go") == ["now"]
    assert values(recording, "dora/params") == ["3"]
    # By taps it is known only when a message came.
    for message in recording.messages("first/count"):
        assert message.publish_nanos == message.log_nanos
    assert any('"heard"' in line for line in values(recording, "dora/logs"))
    assert {each.node for each in recording.cells()} == {"first", "reader"}


@pytest.mark.parametrize("stops_the_dataflow", [False, True])
def test_lines_that_the_kernel_gave_up_count_as_lost(
    dataflow: CellDataflow, run_mcap: Path, *, stops_the_dataflow: bool
) -> None:
    dataflow.cell("first", COUNTER + "\nprint('hello')", inputs=TICKS, outputs=("count",))
    recorder = dataflow.record(run_mcap)
    dataflow.start()
    wait_until(lambda: recorder.status().messages > 3, otherwise=recorder.status)
    session = dataflow._run.session
    assert isinstance(session, Session)
    # As in a flood of lines that the kernel has no time for.
    publisher = session._publishers["dora"]
    (output,) = [name for name in publisher._outputs.by_name if name.startswith("logs for")]
    publisher.given_up[output] += 5
    if stops_the_dataflow:
        dataflow.stop()
    recorder.stop()
    assert Recording(run_mcap).counts["dora/logs"]["lost"] == 5
    assert recorder.status().lost == 5


def test_a_path_that_is_not_utf8(dataflow: CellDataflow, tmp_path: Path) -> None:
    """As in a folder whose name an older system has written."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    dataflow.cell("first", COUNTER, inputs=TICKS, outputs=("count",))
    dataflow.keep(30)
    dataflow.start()
    with dataflow.record(folder / "run.mcap") as recorder:
        wait_until(lambda: recorder.status().messages > 3, otherwise=recorder.status)
    assert recorder.status().error is None
    dataflow.save(folder / "last.mcap")
    dataflow.stop()
    assert len(values(Recording(folder / "last.mcap"), "first/count")) > 3
    played = dataflow.replay(folder / "run.mcap", speed="max")
    dataflow.start()
    wait_until(lambda: played.state == "ended", otherwise=lambda: played)
    assert (played.sent, played.error) == (recorder.status().messages, "")


class LoadedLate:
    """The node and the tap of a recorder that two messages waited for; a third comes when it is there."""

    kernel_gone = False

    def __init__(self, stamps: list[int]) -> None:
        self.begin = [Tapped("a/x", pa.array([n]), {}, stamp) for n, stamp in enumerate(stamps)]
        self.rest = [Tapped("a/x", pa.array([2]), {}, 0)]

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        if self.begin:
            return {"type": "OTHER"}
        self.rest = [each._replace(stamp_nanos=time.time_ns()) for each in self.rest]
        return None

    def take(self) -> list[Tapped]:
        given = self.begin or self.rest
        if self.begin:
            self.begin = []
        else:
            self.rest = []
        return given

    def send_output(self, output_id: str, data: Any) -> None: ...

    def lost(self) -> dict[str, int]:
        return {}

    def mark(self) -> dict[int, int]:
        return {}

    def has_passed(self, mark: dict[int, int]) -> bool:
        return not self.rest


def test_messages_that_waited_while_it_was_loaded_came_when_they_were_sent(run_mcap: Path) -> None:
    stamps = [time.time_ns() - 3_000_000_000, time.time_ns() - 1_000_000_000]
    loaded: Any = LoadedLate(stamps)
    new_recorder(RecordTo(str(run_mcap))).run(loaded, loaded)
    *waited, late = Recording(run_mcap).messages("a/x")
    assert [each.log_nanos for each in waited] == stamps == [each.publish_nanos for each in waited]
    assert late.log_nanos > late.publish_nanos


def test_what_waited_while_it_was_loaded_counts_for_the_time_in_which_it_was_sent(
    run_mcap: Path,
) -> None:
    """Half a second of loading must not read as a burst, nor as a recording that began later."""
    begin_nanos = time.time_ns() - 10_000_000_000
    loaded: Any = LoadedLate([begin_nanos + at * 100_000_000 for at in range(100)])
    said: list[RecorderState] = []
    loaded.send_output = lambda _, data: said.append(decode_state(data))
    new_recorder(RecordTo(str(run_mcap))).run(loaded, loaded)
    last = said[-1]
    assert last.secs >= Recording(run_mcap).duration_secs - 1e-3 > 9.8
    assert 0 < last.topics["a/x"].rate_hz < 11


FINISHES = COUNTER.replace(
    "elif",
    "    return __import__('dora').DoraStatus.STOP if self.number == 20 else None\n        elif",
)


def test_a_recording_after_the_nodes_have_ended_waits_for_the_next_start(
    dataflow: CellDataflow, run_mcap: Path
) -> None:
    dataflow.cell("first", FINISHES, inputs=TICKS, outputs=("count",))
    dataflow.start()
    dataflow.until_state("first", State.FINISHED)
    recorder = dataflow.record(run_mcap)
    assert recorder.status().state == "waiting"
    assert dataflow.service_status() == []
    dataflow.start()
    dataflow.until_state("first", State.FINISHED)
    # It goes on, since a cell may start a node again, until the run is closed.
    wait_until(lambda: recorder.status().messages == 20, otherwise=recorder.status)
    dataflow.start()
    assert recorder.status().state == "ended"
    assert dataflow.service_status() == []
    assert values(Recording(run_mcap), "first/count") == list(range(1, 21))


def test_a_replay_is_recorded_too(dataflow: CellDataflow, run_mcap: Path, tmp_path: Path) -> None:
    played = tmp_path / "played.mcap"
    with RecordingWriter(played) as writer:
        for number, topic in enumerate(["lidar/points", "camera/image", "lidar/points"]):
            nanos = 10**18 + number
            writer.write(topic, pa.array([number]), {}, publish_nanos=nanos, log_nanos=nanos)
    # The camera is declared, and replaced; the lidar exists only in the replay.
    dataflow.cell("camera", COUNTER.replace('"count"', '"image"'), outputs=("image",))
    recorder = dataflow.record(run_mcap)
    with dataflow.replay(played):
        wait_until(lambda: recorder.status().messages >= 3, otherwise=recorder.status)
    dataflow.stop()
    recording = Recording(run_mcap)
    assert values(recording, "lidar/points") == [0, 2]
    assert values(recording, "camera/image") == [1]
