"""Two versions of a node on one recording, each in a real process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

import dora_nb
from dora_nb import Dataflow
from dora_nb.compare import AS_RECORDED, Comparison
from dora_nb.engines.embedded import _trial
from dora_nb.errors import GraphError, RecordingError, SourceError

from ..waiting import killed_at_the_end, wait_until
from .recordings import START_NANOS, make_recording

STICK = [(0.1 * at, "notebook/stick", [float(at)]) for at in range(1, 11)]
"""Ten messages in a second."""
LINE = "%%dora_operator wheels --inputs stick=notebook/stick --outputs wheels\n"
WHEELS = """import pyarrow as pa

class Operator:
    def __init__(self):
        self.number = 0

    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            self.number += 1
            x = event["value"][0].as_py()
            send_output("wheels", pa.array([x, 2 * x]), {"number": self.number})
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The file alone: a `Recording` keeps it open."""
    make_recording(tmp_path / "run.mcap", STICK, cells={("wheels", 3): LINE + WHEELS})
    return tmp_path / "run.mcap"


def dataflow_with(code: str, *, inputs: dict[str, str] | None = None) -> Dataflow:
    dataflow = Dataflow()
    wired = {"stick": "notebook/stick"} if inputs is None else inputs
    dataflow.add_operator("wheels", code, inputs=wired, outputs=["wheels"])
    return dataflow


def has_ended(process_id: int) -> bool:
    """Whether there is no such process, or one that nothing has waited for yet."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def compared(run: Path, after: str, before: str = WHEELS, **more: float) -> Comparison:
    return dataflow_with(WHEELS).compare("wheels", run, before=before, after=after, **more)


# -- what is found ---------------------------------------------------------------------------------


def test_the_recorded_source_is_compared_with_what_is_declared_now(run: Path) -> None:
    dataflow = dataflow_with(WHEELS.replace("2 * x", "2 * x + (x > 5) * 0.25"))
    comparison = dataflow.compare("wheels", run)
    wheels = comparison["wheels"]
    assert (len(wheels), wheels.count("equal"), wheels.count("different")) == (10, 5, 5)
    assert (wheels.equal, wheels.max_error, comparison.equal) == (False, 0.25, False)
    first = comparison.first_difference
    assert first is not None
    assert first.cause == ("notebook/stick", 5)
    assert first.before is not None
    assert first.after is not None
    assert first.before["value"].to_pylist() == [6.0, 12.0]
    assert first.after["value"].to_pylist() == [6.0, 12.25]
    # Counted from the first message of the recording.
    assert f"{first!r}" == "<wheels at 0.50 s: differ by up to 0.25 (item 1: 12 became 12.25)>"
    assert comparison.before.name == "generation 3 of run.mcap"
    assert comparison.before.p50_secs is not None
    assert comparison.after.p95_secs is not None
    assert comparison.notes == (AS_RECORDED,)
    text = str(comparison)
    assert text.startswith(
        "wheels: generation 3 of run.mcap → now (<source of wheels>), on 10 recorded inputs\n"
    )
    assert "first difference: wheels at 0.50 s (notebook/stick, message 5): differ by" in text
    assert "wheels  numbers        10      5          5       0     0       0.25" in text
    assert AS_RECORDED in text
    table = comparison.table()
    assert table["outcome"].to_pylist() == ["equal"] * 5 + ["different"] * 5
    with pytest.raises(GraphError, match=r"no output 'wheel'\. Did you mean 'wheels'"):
        comparison["wheel"]


def test_versions_that_send_the_same_are_equal(run: Path) -> None:
    comparison = compared(run, WHEELS.replace("2 * x", "x + x"))
    assert comparison.equal
    assert comparison["wheels"].max_error == 0.0
    assert comparison.differences == ()


def test_each_version_starts_anew_and_gets_all_inputs_in_order(run: Path) -> None:
    comparison = compared(run, WHEELS.replace("self.number += 1", "self.number += 2"))
    numbers = [each.after["metadata"]["number"] for each in comparison["wheels"]]  # type: ignore[index]
    assert numbers == list(range(2, 21, 2))
    assert comparison["wheels"].max_error == 0.0  # Metadata differs, and no value.
    assert not comparison.equal


def test_messages_are_gained_and_lost_by_their_cause(run: Path) -> None:
    rare = WHEELS.replace(
        'if event["type"] == "INPUT":',
        'if event["type"] == "INPUT" and event["value"][0].as_py() != 4:',
    )
    comparison = compared(run, rare)
    assert (comparison["wheels"].count("lost"), comparison["wheels"].count("gained")) == (1, 0)
    assert comparison["wheels"].max_error == float("inf")
    assert comparison.first_difference is not None
    assert comparison.first_difference.cause.number == 3
    at_stop = WHEELS + "        else:\n            send_output('wheels', pa.array([0.0]))\n"
    gained = compared(run, at_stop)["wheels"].first_difference
    assert gained is not None
    assert (gained.outcome, gained.cause.source) == ("gained", "STOP")


def test_a_script_is_compared_as_an_operator_is(tmp_path: Path) -> None:
    run = tmp_path / "run.mcap"
    make_recording(run, [*STICK, (0.5, "dora/params", ["{}"])])
    script = """
import time
import pyarrow as pa
from dora import Node

node = Node()
node.log_info("ready")
sample = node.send_output_raw("wheels", 4)
with sample as buffer:
    buffer[:] = b"1234"
for event in node:
    if event["type"] == "INPUT":
        if event["value"][0].as_py() < 10:  # The end comes with the last one.
            assert node.try_recv() is None
            early = node.next(timeout=0.01)
            assert early["type"] == "ERROR"
        node.send_output("wheels", pa.array([time.time()]))
"""
    dataflow = Dataflow()
    dataflow.add_node("arm", script, inputs={"in": "notebook/stick"}, outputs=["wheels"])
    comparison = dataflow.compare("arm", run, before=script)
    assert comparison.after.error is None, comparison
    assert comparison.equal
    assert len(comparison["wheels"]) == 11
    assert comparison["wheels"][0].cause.source == ""
    # 10 ms of waiting, and the millisecond of `try_recv`.
    time = comparison["wheels"][1].after["value"][0].as_py()  # type: ignore[index]
    assert time == pytest.approx(START_NANOS / 1e9 + 0.1 + 0.011, abs=1e-4)
    assert comparison.after.printed[-1] == "ready"
    assert comparison.notes == (AS_RECORDED, "the recorded changes of parameters are left out")


def test_ticks_and_time_follow_the_recording(run: Path, tmp_path: Path) -> None:
    code = """import asyncio, datetime, threading, time
from time import sleep
import pyarrow as pa

class Operator:
    def __init__(self):
        self.begin = time.time()
        self.wall = datetime.datetime.now()
        self.beats = 0
        threading.Thread(target=self.beat, daemon=True).start()

    def beat(self):
        while True:
            sleep(0.25)
            self.beats += 1

    def on_event(self, event, send_output):
        if event["type"] != "INPUT":
            return
        at = event["metadata"]["timestamp"].timestamp() if event["id"] == "tick" else 0.0
        before = time.monotonic()
        sleep(0.001)
        until = time.perf_counter() + 0.0001
        while time.perf_counter() < until:
            pass
        loop = asyncio.new_event_loop()  # Python's own code keeps the real clock.
        assert abs(loop.time() - time.clock_gettime(time.CLOCK_MONOTONIC)) < 60
        loop.close()
        send_output(event["id"], pa.array([time.time() - self.begin, at, time.monotonic() - before]))
"""
    dataflow = Dataflow()
    inputs = {"tick": "dora/timer/millis/200", "stick": "notebook/stick"}
    dataflow.add_operator("clock", code, inputs=inputs, outputs=["tick", "stick"])
    comparison = dataflow.compare("clock", run, before=code)
    assert comparison.after.error is None, comparison
    ticks = [each.after["value"].to_pylist() for each in comparison["tick"]]  # type: ignore[index]
    # 0.9 s of recording: its clock begins with the first message.
    start_secs = START_NANOS / 1e9 + 0.1
    assert [at for _, at, _ in ticks] == pytest.approx([start_secs + 0.2 * n for n in range(5)])
    assert [passed for passed, _, _ in ticks] == pytest.approx(
        [0.2 * n for n in range(5)], abs=0.01
    )
    assert len(comparison["stick"]) == 10
    # Ticks are merged with the messages.
    outputs = [each.output for each in comparison.messages]
    assert outputs[:4] == ["tick", "stick", "stick", "tick"]
    assert comparison.equal, comparison
    waited = ticks[0][2]
    assert waited == pytest.approx(0.0011, abs=1e-4)
    bypass = "datetime.now() in line 8 does not follow the recorded clock"
    assert any(bypass in note for note in comparison.notes)


def test_interpreter_environment_and_folder_are_those_of_the_declaration(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = WHEELS.replace(
        "[x, 2 * x]", "[os.environ.get('GAIN', '?'), os.getcwd(), sys.executable]"
    ).replace("import pyarrow", "import os, sys\nimport pyarrow")
    folder = tmp_path / "robot"
    folder.mkdir()
    monkeypatch.chdir(folder)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    dataflow = Dataflow()
    dataflow.add_operator(
        "wheels", code, inputs={"stick": "notebook/stick"}, outputs=["wheels"],
        env={"GAIN": "3"}, python=str(python),
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    recorded = LINE.replace("--outputs", "--env GAIN=2 --outputs") + code
    first = dataflow.compare("wheels", run, before=recorded)["wheels"][0]
    assert first.before is not None
    assert first.after is not None
    assert first.before["value"].to_pylist()[:2] == ["2", str(folder)]
    assert first.after["value"].to_pylist()[:2] == ["3", str(folder)]


# -- versions that fail ----------------------------------------------------------------------------


def test_a_version_that_raises_says_where_and_loses_the_rest(run: Path) -> None:
    comparison = compared(run, WHEELS.replace("2 * x", "1 / (x - 4)"))
    after = comparison.after
    assert after.error is not None
    assert "ZeroDivisionError" in after.error.message
    assert (after.failed_at_secs, after.failed_on) == (
        pytest.approx(0.3),
        "'stick' (notebook/stick)",
    )
    assert after.events == 4
    assert comparison["wheels"].count("lost") == 7
    assert not comparison["wheels"].equal
    assert comparison["wheels"].max_error == float("inf")
    assert comparison.before.error is None
    assert "failed at 0.30 s, on 'stick' (notebook/stick): wheels failed in on_event" in str(
        comparison
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            (
                "self.number = 0",
                "raise OSError('no camera')",
                "before its first event: OSError: no",
            ),
            ("self.number += 1", "import sys; sys.exit(3)", "it called sys.exit(3)"),
        ),
        (
            ("self.number += 1", "return 'no'", "on_event returned 'no'"),
            ("self.number += 1", "import os; os._exit(3)", "exited with status 3 without an error"),
        ),
        (
            ("self.number += 1", "import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
            (
                "self.number += 1",
                "import os; os.closerange(3, 100)",
                "closed descriptors that are not",
            ),
        ),
    ],
)
def test_versions_that_end_badly_are_one_clear_result(
    run: Path, before: tuple[str, str, str], after: tuple[str, str, str]
) -> None:
    codes = [WHEELS.replace(old, new) for old, new, _ in (before, after)]
    comparison = compared(run, codes[1], codes[0])
    for version, (change, _, words) in zip(
        (comparison.before, comparison.after), (before, after), strict=True
    ):
        assert version.error is not None
        assert words in version.error.message
        assert (version.failed_at_secs is None) == (change == "self.number = 0")
    assert not comparison.equal
    assert not comparison[
        "wheels"
    ].equal  # Although none of its messages differ where both sent none.
    assert comparison["wheels"].max_error == float("inf")


def test_a_version_that_hangs_is_ended_and_says_in_which_line(run: Path) -> None:
    hanging = WHEELS.replace("self.number += 1", "while self.number == 0: pass")
    comparison = compared(run, hanging, timeout_secs=2)
    error = comparison.after.error
    assert error is not None
    assert error.message == "wheels hangs: it has taken no further event in time"
    assert "while self.number == 0: pass" in "\n".join(error.traceback_lines)
    assert comparison.after.failed_on == "'stick' (notebook/stick)"


def test_progress_says_which_version_runs_and_where(run: Path) -> None:
    """Each version waits in the middle until a line about it was shown, so no line depends on a clock."""
    shown = {
        text: run.with_name(f"shown_{number}")
        for number, text in enumerate(("starting the given code", "the given code, at", "now ("))
    }
    starting, first, second = shown.values()

    def waiting(until_shown: Path) -> str:
        return f"import os\n{WHEELS}".replace(
            "self.number += 1",
            "self.number += 1\n"
            f"            while self.number == 4 and not os.path.exists({str(until_shown)!r}): pass",
        )

    before = waiting(first).replace(
        "self.number = 0",
        f"self.number = 0\n        while not os.path.exists({str(starting)!r}): pass",
    )
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        for part, path in shown.items():
            if part in text:
                path.touch()

    comparison = dataflow_with(waiting(second)).compare(
        "wheels", run, before=before, progress=progress
    )
    assert comparison.equal
    about = [re.sub(r"at 0\.\d of 0\.9 s$", "at SECS", text) for text in said]
    assert list(dict.fromkeys(about)) == [
        "wheels: starting the given code",
        "wheels: the given code, at SECS",
        "wheels: now (<source of wheels>), at SECS",
    ], said
    # Lines of one version are never between those of the other, and their time goes on.
    assert said == sorted(said, key=lambda text: ("now (" in text, ", at" in text, text))


def test_recorded_code_of_a_file_finds_what_lies_beside_it(tmp_path: Path) -> None:
    """A recording has the text of the file, as a cell."""
    file = tmp_path / "wheels.py"
    file.write_text(WHEELS + "\nfolder = __file__.rpartition('/')[0]\n")
    broken = WHEELS.replace("self.number += 1", "nowhere")
    cells = {("wheels", 1): LINE + file.read_text(), ("wheels", 2): LINE + broken}
    make_recording(tmp_path / "run.mcap", STICK, cells=cells)
    dataflow = Dataflow()
    wired = {"stick": "notebook/stick"}
    dataflow.add_operator("wheels", file, inputs=wired, outputs=["wheels"])
    assert dataflow.compare("wheels", tmp_path / "run.mcap", before=1).equal
    assert dataflow.compare("wheels", tmp_path / "run.mcap", before=file.read_text()).equal
    error = dataflow.compare("wheels", tmp_path / "run.mcap", before=2).before.error
    assert error is not None
    assert error.place == f"{file}, line 9"


def test_an_interrupt_ends_both_versions(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "hangs"
    hanging = WHEELS.replace(
        "self.number += 1", f"open({str(mark)!r}, 'w').close()\n            while True: pass"
    )

    def interrupt() -> None:
        wait_until(mark.exists)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        compared(run, hanging)
    thread.join()  # That no process is left is what the leak check of each test looks at.


def test_a_flood_of_text_and_forks_leave_no_process_and_keep_the_result(
    run: Path, tmp_path: Path
) -> None:
    children = tmp_path / "children"
    code = WHEELS.replace(
        "self.number += 1",
        f"""self.number += 1
            for _ in range(2000):
                print("x" * 100)
            import os, subprocess
            if self.number == 1:
                child = subprocess.Popen(["sleep", "600"], start_new_session=True)
                if os.fork() == 0:
                    send_output("wheels", pa.array([0.0]))
                    return
                open({str(children)!r}, "w").write(str(child.pid))""",
    )
    comparison = compared(run, code)
    assert comparison.after.error is None, comparison
    assert comparison.equal
    assert comparison.after.printed[-1] == "x" * 100
    assert has_ended(int(children.read_text()))


def test_a_flood_of_messages_is_ended(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trial, "MOST_OUTPUT_BYTES", 10_000_000)
    flood = WHEELS.replace(
        "self.number += 1", "while True: send_output('wheels', bytes(1_000_000))"
    )
    comparison = compared(run, flood)
    error = comparison.after.error
    assert error is not None
    assert error.message == "wheels sent more than 0.01 GB on trial"
    assert comparison["wheels"].count("gained") > 5


def test_versions_end_with_their_kernel(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "runs"
    hanging = WHEELS.replace(
        "self.number += 1",
        f"import os; open({str(mark)!r}, 'w').write(str(os.getpid()))\n            while True: pass",
    )
    program = (
        "import dora_nb; dataflow = dora_nb.Dataflow(); "
        f"dataflow.compare('wheels', {str(run)!r}, after={hanging!r})"
    )
    with killed_at_the_end(subprocess.Popen([sys.executable, "-c", program])):
        wait_until(lambda: mark.exists() and bool(mark.read_text()))
    wait_until(lambda: has_ended(int(mark.read_text())))


def test_a_version_that_stops_early_loses_the_rest(run: Path) -> None:
    code = WHEELS.replace("import pyarrow", "from dora import DoraStatus\nimport pyarrow")
    code += "            if self.number == 2:\n                return DoraStatus.STOP\n"
    comparison = compared(run, code)
    assert comparison.after.error is None
    assert comparison.after.events == 2
    assert comparison["wheels"].count("lost") == 8


# -- what can be given -----------------------------------------------------------------------------


def test_generations_texts_and_files_can_be_given(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "wheels.py"
    file.write_text(WHEELS)
    dataflow = dataflow_with(WHEELS)
    by_number = dataflow.compare("wheels", run, before=3, after=file)
    assert by_number.equal
    assert (by_number.before.name, by_number.after.name) == ("generation 3 of run.mcap", str(file))
    # A node that is not declared has the wiring of the recorded cell.
    assert Dataflow().compare("wheels", run, after=WHEELS).equal


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, GraphError, r"there is no node 'wheel'|wheel"),
        ({"name": "wheels", "before": 9}, GraphError, "no generation 9, .*There are: 3"),
        ({"name": "wheels", "before": "x = 1"}, SourceError, "class Operator"),
        ({"name": "wheels", "before": int}, GraphError, "got a class: another process runs it"),
        ({"name": "wheels", "timeout_secs": 0}, GraphError, "timeout_secs must be > 0, got 0"),
        ({"name": "other"}, RecordingError, "run.mcap has no source of 'other'"),
        (
            {"name": "blind", "before": WHEELS},
            RecordingError,
            "reads camera/image. It has: notebook/stick",
        ),
        ({"name": "alone", "before": WHEELS}, RecordingError, "alone has no inputs"),
        ({"name": "joins", "before": WHEELS}, GraphError, "joins is a dynamic node"),
        ({"name": "wheels", "recording": "no.mcap"}, RecordingError, "no.mcap"),
        ({"name": "wheels", "recording": 5}, GraphError, "got int"),
    ],
)
def test_wrong_arguments_are_one_line_each(
    run: Path, arguments: dict[str, object], error: type[Exception], text: str
) -> None:
    dataflow = dataflow_with(WHEELS)
    for name, inputs in (
        ("other", {"x": "notebook/stick"}),
        ("blind", {"x": "camera/image"}),
        ("alone", {}),
    ):
        dataflow.add_operator(name, WHEELS, inputs=inputs, outputs=["wheels"])
    dataflow.add_node("joins", path="dynamic")
    given = {"name": "wheel", "recording": run, **arguments}
    with pytest.raises(error, match=text) as raised:
        dataflow.compare(**given)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_an_input_without_messages_is_noted(run: Path) -> None:
    inputs = {"stick": "notebook/stick", "image": "camera/image"}
    comparison = dataflow_with(WHEELS, inputs=inputs).compare("wheels", run)
    assert comparison.notes == (AS_RECORDED, "run.mcap has no messages of camera/image")
    assert comparison.equal


def test_pictures_that_are_sent_come_back_as_they_were(tmp_path: Path) -> None:
    metadata = {"width": 4, "height": 2, "encoding": "mono8"}
    image = pa.array(range(8), pa.uint8())
    run = make_recording(tmp_path / "run.mcap", [(0, "camera/image", (image, metadata))])
    code = """import numpy as np
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            picture = dora_nb_picture = event["value"].to_numpy().reshape(2, 4)
            assert not picture.flags.writeable
            send_output("wheels", picture + GAIN, event["metadata"])
"""
    dataflow = dataflow_with(code.replace("GAIN", "np.uint8(5)"), inputs={"image": "camera/image"})
    comparison = dataflow.compare("wheels", run, before=code.replace("GAIN", "np.uint8(0)"))
    (pair,) = comparison["wheels"]
    assert pair.difference is not None, comparison
    assert (pair.kind, pair.max_error) == ("picture", 5.0)
    assert pair.before is not None
    assert dora_nb.as_image(pair.before).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
